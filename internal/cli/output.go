package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// format is the -o flag of verbs that read.
type format struct {
	chosen string
	known  []string
}

func (f *format) String() string { return f.chosen }
func (f *format) Type() string   { return "format" }
func (f *format) Set(s string) error {
	if !slices.Contains(f.known, s) {
		return fmt.Errorf("want %s", orList(f.known))
	}
	f.chosen = s
	return nil
}

func orList(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}

// json: a machine reads it, as JSON or as YAML.
func (f format) json() bool { return f.chosen == "json" || f.chosen == "yaml" }

func (f format) wide() bool { return f.chosen == "wide" }

// print writes v as a machine reads it, lengths of time in seconds.
func (f format) print(w io.Writer, v any) error {
	v = inSeconds(v)
	if f.chosen != "yaml" {
		return printJSON(w, v)
	}
	b, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// outputFlag adds -o. more are words beside text, json and yaml.
func outputFlag(c *cobra.Command, f *format, more ...string) {
	*f = format{"text", append([]string{"text", "json", "yaml"}, more...)}
	c.Flags().VarP(f, "output", "o", orList(f.known))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(f.known, cobra.ShellCompDirectiveNoFileComp))
}

// lineFlag adds -o to verbs that write one line for each thing they see.
func lineFlag(c *cobra.Command, f *format) {
	*f = format{"text", []string{"text", "json"}}
	c.Flags().VarP(f, "output", "o", "text or json, one object a line")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(f.known, cobra.ShellCompDirectiveNoFileComp))
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

func count(n float64) string { return httpapi.Count(n) }

func percent(share float64) string { return httpapi.Percent(share) }

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

func underWay(v httpapi.RolloutView) bool { return httpapi.UnderWay(v) }

// figureLines are comparisons as aligned lines.
func figureLines(fs []analysis.Figure) []string {
	if len(fs) == 0 {
		return nil
	}
	var rows [][]string
	for _, f := range fs {
		rows = append(rows, figure(f))
	}
	var b strings.Builder
	if table(&b, rows) != nil {
		return nil // a builder takes everything
	}
	var out []string
	for l := range strings.Lines(b.String()) {
		out = append(out, strings.TrimRight(l, " \n"))
	}
	return out
}

// figure is one comparison in columns.
func figure(f analysis.Figure) []string {
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
	none := f.State == "noData" || counted && f.CanaryN == 0
	of := func(x, n float64) string {
		switch {
		case counted && n == 0:
			return "-"
		case f.Unit == "share":
			return fmt.Sprintf("%s of %s = %s", count(x*n), count(n), val(x))
		case n > 0:
			return fmt.Sprintf("%s (of %s)", val(x), count(n))
		}
		return val(x)
	}
	difference, limit, window, state := "", "", "", f.State
	if !none && !(counted && f.StableN == 0) {
		difference = "difference " + signed(f.Canary-f.Stable, f.Unit, val)
		if f.Low != 0 || f.High != 0 {
			difference += fmt.Sprintf(" (95 %%: %s to %s)", signed(f.Low, f.Unit, val), signed(f.High, f.Unit, val))
		}
	}
	if f.Limit != 0 {
		limit = "limit " + val(f.Limit)
	}
	if f.Window > 0 {
		window = "in " + httpapi.Short(f.Window)
	}
	if none {
		state = "NO DATA"
	}
	return []string{f.Metric, "canary " + of(f.Canary, f.CanaryN), "stable " + of(f.Stable, f.StableN), difference, limit, window, state}
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
