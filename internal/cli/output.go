package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// format is the -o flag of verbs that read.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }
func (f *format) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("want text or json")
	}
	*f = format(s)
	return nil
}

func (f format) json() bool { return f == "json" }

func outputFlag(c *cobra.Command, f *format) {
	*f = "text"
	c.Flags().VarP(f, "output", "o", "text or json")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table writes aligned columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		for i := range r {
			r[i] = oneLine(r[i])
		}
		if _, err := fmt.Fprintln(t, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// oneLine keeps what comes from elsewhere from moving the terminal's cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func clock(t time.Time) string { return t.Local().Format("15:04:05") }

// count writes a number of requests: whole, with thousands told apart.
func count(n float64) string {
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

func percent(share float64) string {
	p := share * 100
	switch {
	case p == math.Trunc(p):
		return fmt.Sprintf("%.0f %%", p)
	case math.Abs(p) < 10:
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

func replicas(v *httpapi.VersionView) string {
	if v.Ready == nil {
		return fmt.Sprintf("?/%d ready", v.Replicas)
	}
	return fmt.Sprintf("%d/%d ready", *v.Ready, v.Replicas)
}

func weights(v httpapi.RolloutView) string {
	s := v.WeightSet.String() + " set"
	if v.WeightSeen != nil {
		s += fmt.Sprintf(", %s seen", percent(*v.WeightSeen))
	}
	return s
}

func stepOf(v httpapi.RolloutView) string {
	if v.Step == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", v.Step, v.Steps)
}

func underWay(v httpapi.RolloutView) bool { return v.Canary != nil && v.Phase != rollout.Idle }

// figure is one comparison in one line.
func figure(f analysis.Figure) string {
	val := func(x float64) string {
		switch f.Unit {
		case "share":
			return percent(x)
		case "ms":
			return fmt.Sprintf("%.4g ms", x)
		case "cores":
			return fmt.Sprintf("%.3g cores", x)
		case "bytes":
			return fmt.Sprintf("%.1f MiB", x/(1<<20))
		}
		return fmt.Sprintf("%.4g", x)
	}
	counted := f.Unit == "share" || f.Unit == "ms" // of requests, so none is no figure
	of := func(x, n float64) string {
		if counted && n == 0 {
			return "-"
		}
		if f.Unit == "share" && n > 0 {
			return fmt.Sprintf("%s of %s = %s", count(x*n), count(n), val(x))
		}
		if n > 0 {
			return fmt.Sprintf("%s (n %s)", val(x), count(n))
		}
		return val(x)
	}
	s := fmt.Sprintf("%-12s canary %s   stable %s", f.Metric, of(f.Canary, f.CanaryN), of(f.Stable, f.StableN))
	if f.Low != 0 || f.High != 0 {
		s += fmt.Sprintf("   difference %s to %s", signed(f.Low, f.Unit, val), signed(f.High, f.Unit, val))
	}
	if f.Limit != 0 {
		s += "   limit " + val(f.Limit)
	}
	if f.Window > 0 {
		s += "   in " + httpapi.Short(f.Window)
	}
	state := f.State
	if state == "noData" || (counted && f.CanaryN == 0) {
		state = "no data"
	}
	return s + "   " + state
}

func signed(x float64, unit string, val func(float64) string) string {
	if unit == "share" {
		return fmt.Sprintf("%+.2f pp", x*100)
	}
	if x >= 0 {
		return "+" + val(x)
	}
	return val(x)
}

// decisionLine is one decision as the timeline shows it.
func decisionLine(e rollout.Event) string {
	move := ""
	switch {
	case e.From != "" && e.To != "":
		move = " " + e.From + " -> " + e.To
	case e.To != "":
		move = " -> " + e.To
	case e.From != "":
		move = " " + e.From
	}
	return oneLine(fmt.Sprintf("%s  #%-3d %-14s%s  by %s: %s", clock(e.At), e.N, e.What, move, e.By, e.Why))
}

// remedied is what is wrong, and what would be right.
func remedied(what, remedy string) string {
	if remedy == "" {
		return what
	}
	return strings.TrimRight(what, ".") + ". Remedy: " + remedy
}
