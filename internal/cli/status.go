package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// status: one rollout as it stands. Its exit code says how it stands.
func (a *app) status() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use:   "status [NAME]",
		Short: "One rollout as it stands; the exit code says how",
		Long: `Shows one rollout as it stands. Exit codes: 0 promoted (at rest), 1 a person is
needed, 2 rolled back, 3 under way, 4 waits for approval.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), args, func(t target) error {
				v, err := t.view(cmd.Context())
				if err != nil {
					return err
				}
				if out.json() {
					err = out.print(a.Stdout, v)
				} else {
					printStatus(a.Stdout, v, a.called())
				}
				if err != nil {
					return err
				}
				return exit(v.Exit)
			})
		},
	}
	outputFlag(c, &out)
	return c
}

func printStatus(w io.Writer, v httpapi.RolloutView, as string) {
	head := fmt.Sprintf("%s  %s", httpapi.Ref{Namespace: v.Namespace, Name: v.Name}, v.Phase)
	if v.Step > 0 {
		head += fmt.Sprintf("  step %d of %d", v.Step, v.Steps)
	}
	if underWay(v) {
		head += "  " + weights(v)
	}
	fmt.Fprintln(w, head)
	line := func(key, format string, args ...any) {
		fmt.Fprintln(w, oneLine(fmt.Sprintf("  %-9s %s", key, fmt.Sprintf(format, args...))))
	}
	line("now", "%s", v.Message)
	arm := func(key string, x *httpapi.VersionView) {
		if x == nil {
			return
		}
		s := fmt.Sprintf("%s  %s  %s of the traffic", x.Version, replicas(x), x.Weight)
		if x.Why != "" {
			s += "  (" + x.Why + ")"
		}
		line(key, "%s", s)
	}
	arm("stable", v.Stable)
	arm("canary", v.Canary)
	if underWay(v) {
		if len(v.StepsList) > 0 {
			line("steps", "%s", stepsLine(v))
		}
		verdict := v.Verdict.String()
		if v.Sentence != "" {
			verdict += ": " + v.Sentence
		}
		line("verdict", "%s", verdict)
		line("evidence", "to go on %s, to take it back %s", percent(v.Evidence.Advance), percent(v.Evidence.Rollback))
		for _, s := range figureLines(v.Figures) {
			line("", "%s", s)
		}
		line("cost", "%s", cost(v.Exposed, v.Harmed))
	}
	if v.Paused != "" {
		line("paused", "%s", v.Paused)
	}
	if v.Waiting != "" {
		s := string(v.Waiting)
		if v.Until != nil {
			s += ", until " + clock(*v.Until) + " at the latest"
		}
		line("waits for", "%s", s)
	}
	if v.Stalled != "" && !strings.Contains(v.Message, v.Stalled) {
		line("stalled", "%s", v.Stalled)
	}
	for _, f := range v.Findings {
		if strings.Contains(v.Message, f.What) {
			continue // said already
		}
		line(strings.ToLower(string(f.Level)), "%s", remedied(f.What, f.Remedy))
	}
	for _, s := range next(v, as) {
		line("next", "%s", s)
	}
}

func stepsLine(v httpapi.RolloutView) string {
	var parts []string
	for _, s := range v.StepsList {
		text := s.Text
		switch s.State {
		case "done":
			text += " (done)"
		case "current":
			text = "> " + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " | ")
}

func cost(exposed, harmed float64) string {
	return fmt.Sprintf("%s requests exposed, about %s of them harmed", count(exposed), count(harmed))
}
