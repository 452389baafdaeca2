package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// history: past rollouts, or every decision that is kept.
func (a *app) history() *cobra.Command {
	var out format
	var decisions bool
	c := &cobra.Command{
		Use:               "history [NAME]",
		Short:             "Past rollouts with their outcome and cost; --decisions lists every decision kept",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), args, func(t target) error {
				v, err := t.view(cmd.Context())
				if err != nil {
					return err
				}
				switch {
				case out.json() && decisions:
					return out.print(a.Stdout, append([]rollout.Event{}, v.Decisions...)) // none is [], not null
				case out.json():
					return out.print(a.Stdout, append([]rollout.Outcome{}, v.History...))
				case decisions:
					for _, e := range v.Decisions {
						fmt.Fprintln(a.Stdout, decisionLine(e))
					}
					return nil
				}
				return printHistory(a.Stdout, v)
			})
		},
	}
	c.Flags().BoolVar(&decisions, "decisions", false, "every decision that is kept, oldest first")
	outputFlag(c, &out)
	return c
}

func printHistory(w io.Writer, v httpapi.RolloutView) error {
	if len(v.History) == 0 {
		fmt.Fprintf(w, "No rollout of %s has ended yet.\n", v.Name)
		return nil
	}
	rows := [][]string{{"ENDED", "FROM", "TO", "OUTCOME", "BY", "TOOK", "EXPOSED", "HARMED", "WHY"}}
	for _, o := range v.History {
		rows = append(rows, []string{
			o.Ended.Local().Format("2006-01-02 15:04:05"), o.From.Label(), o.Revision.Label(), resultWord(o.Result), o.By,
			httpapi.Short(o.Ended.Sub(o.Started)), count(o.Exposed), count(o.Harmed), o.Why,
		})
	}
	return table(w, rows)
}
