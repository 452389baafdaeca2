package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// watch: decisions and changes as lines, until the rollout is at an end.
func (a *app) watch() *cobra.Command {
	var out format
	var once, forever bool
	c := &cobra.Command{
		Use:   "watch [NAME]",
		Short: "Decisions as they are made, as plain lines, until the rollout ends",
		Long: `Prints the latest decisions, then each new one and each change of what is waited
for, as plain lines. Ends when the rollout does (at rest: when the next one does)
with the exit code that status would have.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), args, func(cl *httpapi.Client, ref httpapi.Ref) error {
				f := &follower{w: a.Stdout, json: out.json()}
				begun := false
				err := cl.Watch(cmd.Context(), ref, func(u httpapi.Update) error {
					if u.View == nil {
						return fmt.Errorf("rollout %s is gone", ref)
					}
					if err := f.see(*u.View); err != nil {
						return err
					}
					begun = begun || underWay(*u.View)
					if once || begun && !underWay(*u.View) && u.View.Exit != httpapi.ExitTimeout && !forever {
						return io.EOF
					}
					return nil
				})
				if errors.Is(err, context.Canceled) {
					return exit(f.last.Exit) // Ctrl-C is how a person ends it
				}
				if err != nil {
					return err
				}
				return exit(f.last.Exit)
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print what there is and end")
	c.Flags().BoolVar(&forever, "forever", false, "go on with the next rollout")
	outputFlag(c, &out)
	return c
}

// follower prints what is new in each view.
type follower struct {
	w    io.Writer
	json bool
	any  bool
	n    int
	said string
	last httpapi.RolloutView
}

func (f *follower) see(v httpapi.RolloutView) error {
	first := !f.any
	f.any, f.last = true, v
	if f.json {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f.w, "%s\n", b)
		return err
	}
	show := v.Decisions
	if first && len(show) > 5 {
		show = show[len(show)-5:]
	}
	for _, e := range show {
		if e.N <= f.n && !first {
			continue
		}
		if _, err := fmt.Fprintln(f.w, decisionLine(e)); err != nil {
			return err
		}
	}
	f.n = max(f.n, v.N)
	// The message is told again only when what is waited for changed: figures
	// in it change with every look.
	said := fmt.Sprintf("%s %d %s %s %s %s", v.Phase, v.Step, v.Waiting, v.Verdict, v.Paused, v.Stalled)
	if said == f.said {
		return nil
	}
	f.said = said
	state := string(v.Phase)
	if underWay(v) {
		state += fmt.Sprintf(" %s, %s", stepOf(v), weights(v))
	}
	_, err := fmt.Fprintln(f.w, oneLine(fmt.Sprintf("%s       %s: %s", clock(v.Time), state, v.Message)))
	return err
}
