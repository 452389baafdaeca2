package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// wait: for scripts and pipelines. Silent until the end.
func (a *app) wait() *cobra.Command {
	var out format
	var timeout time.Duration
	var revision string
	var through bool
	c := &cobra.Command{
		Use:   "wait [NAME]",
		Short: "Wait for the end of a rollout; the exit code says which",
		Long: `Waits until the rollout is at an end, and says in one line how it ended.
With --revision it waits for the end of that version's rollout, also where that
has not begun yet: right after a deploy, that is what is meant.

Exit codes: 0 promoted, 1 a person is needed or the version was replaced,
2 rolled back, 3 not at an end in time, 4 waits for approval.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			return a.with(ctx, args, func(cl *httpapi.Client, ref httpapi.Ref) error {
				var end ending
				var last httpapi.RolloutView
				err := cl.Watch(ctx, ref, func(u httpapi.Update) error {
					if u.View == nil {
						return fmt.Errorf("rollout %s is gone", ref)
					}
					last = *u.View
					if end = endOf(last, rollout.Revision(revision), through); end.over {
						return io.EOF
					}
					return nil
				})
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					end = ending{code: httpapi.ExitTimeout, text: fmt.Sprintf("not at an end after %s: %s", httpapi.Short(timeout), last.Message)}
				case err != nil:
					return err
				}
				if out.json() {
					if err := printJSON(a.Stdout, last); err != nil {
						return err
					}
				} else {
					fmt.Fprintln(a.Stdout, oneLine(end.text))
				}
				return exit(end.code)
			})
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "give up after this long, with exit code 3 (default: never)")
	c.Flags().StringVar(&revision, "revision", "", "version (v2) or revision (v2@6f1c2a9b) to wait for")
	c.Flags().BoolVar(&through, "through-approval", false, "go on waiting where an approval is waited for")
	outputFlag(c, &out)
	return c
}

// ending is whether, and how, what is waited for has ended.
type ending struct {
	over bool
	code int
	text string
}

func endOf(v httpapi.RolloutView, want rollout.Revision, through bool) ending {
	if v.Exit == httpapi.ExitApproval && !through && (want == "" || v.Canary != nil && isRevision(want, v.Canary.Revision)) {
		return ending{true, httpapi.ExitApproval, v.Message}
	}
	if want == "" {
		if v.Exit == httpapi.ExitTimeout || v.Exit == httpapi.ExitApproval {
			return ending{}
		}
		return ending{true, v.Exit, v.Message}
	}
	switch {
	case v.Canary != nil && isRevision(want, v.Canary.Revision):
		if v.Exit == httpapi.ExitError {
			return ending{true, v.Exit, v.Message}
		}
		return ending{}
	case v.Stable != nil && isRevision(want, v.Stable.Revision):
		return ending{true, httpapi.ExitPromoted, v.Message}
	}
	for _, o := range slices.Backward(v.History) {
		if !isRevision(want, o.Revision) {
			continue
		}
		text := fmt.Sprintf("%s: %s. %s", o.Revision.Label(), resultWord(o.Result), o.Why)
		if o.Result == rollout.RolledBack || o.Result == rollout.Aborted {
			return ending{true, httpapi.ExitRolledBack, text}
		}
		return ending{true, httpapi.ExitError, text}
	}
	return ending{} // it has not begun
}

// isRevision: a bare label means whatever revision has it.
func isRevision(want, have rollout.Revision) bool {
	return want == have || want.Hash() == "" && want.Label() == have.Label()
}

func resultWord(r rollout.Result) string {
	switch r {
	case rollout.RolledBack:
		return "rolled back"
	}
	return string(r)
}
