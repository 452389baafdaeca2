package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// why: one decision, with what it was made of.
func (a *app) why() *cobra.Command {
	var out format
	var n int
	c := &cobra.Command{
		Use:               "why [NAME]",
		Short:             "Why it stands as it does: the decision, its figures, what it cost, what next",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), args, func(t target) error {
				v, err := t.view(cmd.Context())
				if err != nil {
					return err
				}
				e, err := decisionFor(v, n)
				if err != nil {
					return err
				}
				if out.json() {
					return out.print(a.Stdout, e)
				}
				printWhy(a.Stdout, v, e, a.called())
				return nil
			})
		},
	}
	c.Flags().IntVar(&n, "decision", 0, "number of the decision (default: the one that explains how it stands)")
	outputFlag(c, &out)
	return c
}

// decisionFor finds a decision by its number; 0 finds the newest that says why
// things are as they are, past those that only carried it out.
func decisionFor(v httpapi.RolloutView, n int) (rollout.Event, error) {
	if httpapi.Unreadable(v) {
		return rollout.Event{}, fmt.Errorf("what was decided about %s cannot be read. %s", v.Name, v.Message)
	}
	if len(v.Decisions) == 0 {
		return rollout.Event{}, fmt.Errorf("nothing has been decided about %s yet", v.Name)
	}
	for _, e := range slices.Backward(v.Decisions) {
		if n == e.N {
			return e, nil
		}
		if n == 0 && !carriesOut(e.What) {
			return e, nil
		}
	}
	if n != 0 {
		return rollout.Event{}, fmt.Errorf("decision %d is not kept: there are %d to %d", n, v.Decisions[0].N, v.Decisions[len(v.Decisions)-1].N)
	}
	return v.Decisions[len(v.Decisions)-1], nil
}

func carriesOut(w rollout.What) bool {
	switch w {
	case rollout.EvTrafficBack, rollout.EvRetired, rollout.EvMentioned, rollout.EvRefused:
		return true
	}
	return false
}

func printWhy(w io.Writer, v httpapi.RolloutView, e rollout.Event, as string) {
	of := ""
	if e.Rev != "" {
		of = "  " + e.Rev.Label()
	}
	fmt.Fprintln(w, oneLine(fmt.Sprintf("%s%s  %s  by %s  (decision #%d%s)", words(e.What), of, e.At.Local().Format("2006-01-02 15:04:05"), e.By, e.N, sinceStep(v, e))))
	line := func(s string) { fmt.Fprintln(w, "  "+oneLine(s)) }
	switch {
	case e.From != "" && e.To != "":
		line(fmt.Sprintf("from %s to %s", e.From, e.To))
	case e.From != "":
		line("from " + e.From)
	case e.To != "":
		line("to " + e.To)
	}
	line(e.Why)
	for _, s := range figureLines(e.Figures) {
		line(s)
	}
	exposed, harmed, took := v.Exposed, v.Harmed, ""
	for _, o := range v.History { // the rollout that it belongs to may be over
		if o.Revision == e.Rev && !e.At.Before(o.Started) && !e.At.After(o.Ended) {
			exposed, harmed = o.Exposed, o.Harmed
			took = fmt.Sprintf("; %s after %s", resultWord(o.Result), httpapi.Short(o.Ended.Sub(o.Started)))
		}
	}
	if v.Canary != nil && e.Rev == v.Canary.Revision && v.Sentence != "" && e.Figures == nil {
		line(fmt.Sprintf("so far: %s: %s", v.Verdict, v.Sentence))
		for _, s := range figureLines(v.Figures) {
			line(s)
		}
	}
	if e.Rev != "" {
		line("cost: " + cost(exposed, harmed) + took)
	}
	for _, d := range v.Decisions {
		if d.What == rollout.EvTrafficBack && d.N > e.N {
			line("then: " + d.Why)
			break
		}
	}
	line("now: " + v.Message)
	for _, s := range next(v, as) {
		line("next: " + s)
	}
}

// words tells a reason's words apart: RolledBack is ROLLED BACK.
func words(w rollout.What) string {
	var b strings.Builder
	for i, r := range string(w) {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// sinceStep says how long after the step in force began it was decided.
func sinceStep(v httpapi.RolloutView, e rollout.Event) string {
	if e.What == rollout.EvStepStarted || e.Rev == "" {
		return ""
	}
	for _, d := range slices.Backward(v.Decisions) {
		if d.N < e.N && d.Rev == e.Rev && d.What == rollout.EvStepStarted {
			return fmt.Sprintf(", %s after %s began", httpapi.Short(e.At.Sub(d.At)), d.To)
		}
	}
	return ""
}
