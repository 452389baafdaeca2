package httpapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Short writes a duration as documents do: "5m", "1h30m", "1.5s", "0s".
func Short(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Second)
	} else if d >= time.Second {
		d = d.Round(100 * time.Millisecond)
	} else if d >= time.Millisecond {
		d = d.Round(time.Millisecond)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Span writes a length of time as a line or a column has room for it: "3m20s",
// "4h", "41d".
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Hour:
		return Short(d.Truncate(time.Second))
	case d < 48*time.Hour:
		return Short(d.Truncate(time.Minute))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func joinOr(s []string) string { return joinWith(s, " or ") }

func joinWith(s []string, last string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + last + s[len(s)-1]
}
