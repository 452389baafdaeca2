package httpapi

import (
	"fmt"
	"math"
	"strings"

	"github.com/serin-dev/serin/internal/rollout"
)

// Count writes a number of requests: whole, with thousands told apart.
func Count(n float64) string {
	s := fmt.Sprintf("%.0f", math.Round(n))
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	if neg {
		return "-" + b.String()
	}
	return b.String()
}

// Percent writes a share: "5 %", "0.31 %", "12.5 %".
func Percent(share float64) string {
	p := share * 100
	switch {
	case p == math.Trunc(p):
		return fmt.Sprintf("%.0f %%", p)
	case math.Abs(p) < 10:
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// UnderWay: a canary is on its way, in whichever direction.
func UnderWay(v RolloutView) bool { return v.Canary != nil && v.Phase != rollout.Idle }

// ResultWord is an outcome as people say it.
func ResultWord(r rollout.Result) string {
	switch r {
	case rollout.RolledBack:
		return "rolled back"
	case rollout.Reverted:
		return "gone back to, as Git asks"
	case rollout.Undone:
		return "gone back to by undo"
	case rollout.Abandoned:
		return "not gone back to"
	}
	return string(r)
}
