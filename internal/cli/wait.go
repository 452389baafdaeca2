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
	var since time.Duration
	c := &cobra.Command{
		Use:   "wait [NAME]",
		Short: "Wait for the end of a rollout; the exit code says which",
		Long: `Waits until the rollout is at an end, and says in one line how it ended.
With --revision it waits for the end of that version's rollout, also where that
has not begun yet: right after a deploy, that is what is meant. A bare label (v2)
means the newest rollout, whichever revision has that label; where the same label
is released again, say the whole revision (v2@6f1c2a9b), or with --since how long
ago it can have ended at the most.

Exit codes: 0 promoted, 1 a person is needed or the version was replaced,
2 rolled back, 3 not at an end in time, or left before, 4 waits for approval.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			if since < 0 || timeout < 0 {
				return fmt.Errorf("--since and --timeout: want a length of time, such as 5m")
			}
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			err := a.with(ctx, args, func(t target) error {
				if _, err := t.view(ctx); err != nil { // a name that nobody has is not waited for
					return err
				}
				e := expected{want: rollout.Revision(revision), through: through}
				if since > 0 {
					e.after = a.Now().Add(-since)
				}
				var end ending
				var last httpapi.RolloutView
				err := t.Watch(ctx, t.ref, func(u httpapi.Update) error {
					if u.View == nil {
						return fmt.Errorf("rollout %s is gone", t.ref)
					}
					last = *u.View
					if end = e.see(last); end.over {
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
					if err := out.print(a.Stdout, last); err != nil {
						return err
					}
				} else {
					fmt.Fprintln(a.Stdout, oneLine(end.text))
				}
				return exit(end.code)
			})
			switch {
			case cmd.Context().Err() != nil: // Ctrl-C
				return &Exit{Code: httpapi.ExitTimeout, Err: errors.New("left before the end")}
			case timeout > 0 && errors.Is(err, context.DeadlineExceeded): // the host did not even answer
				return &Exit{Code: httpapi.ExitTimeout, Err: err}
			}
			return err
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "give up after this long, with exit code 3 (default: never)")
	c.Flags().StringVar(&revision, "revision", "", "version (v2) or revision (v2@6f1c2a9b) to wait for")
	c.Flags().DurationVar(&since, "since", 0, "with --revision: an end longer ago than this is another rollout's (default: the newest counts)")
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

// expected is what is waited for, and what was seen of it so far.
type expected struct {
	want    rollout.Revision // "" = whatever is there; a bare label until it was seen under way
	through bool             // go on where an approval is waited for
	after   time.Time        // an end before this is another rollout's; zero = the newest counts
	begun   bool             // a rollout was seen under way
}

func (e *expected) see(v httpapi.RolloutView) ending {
	if e.want != "" {
		return e.revision(v)
	}
	e.begun = e.begun || underWay(v)
	switch {
	case v.Exit == httpapi.ExitApproval && !e.through:
		return ending{true, httpapi.ExitApproval, v.Message}
	case v.Exit == httpapi.ExitTimeout || v.Exit == httpapi.ExitApproval:
		return ending{}
	case e.begun && !underWay(v): // it was followed: how it ended is what counts
		return ending{true, httpapi.ExitAtEnd(v), v.Message}
	}
	return ending{true, v.Exit, v.Message}
}

// revision waits for one version. A bare label becomes the revision that is
// seen under way with it, so that an older outcome cannot be taken for its own.
func (e *expected) revision(v httpapi.RolloutView) ending {
	if v.Canary != nil && isRevision(e.want, v.Canary.Revision) && v.Phase != rollout.Idle {
		e.want, e.begun = v.Canary.Revision, true
		if v.Exit == httpapi.ExitApproval && !e.through || v.Exit == httpapi.ExitError {
			return ending{true, v.Exit, v.Message}
		}
		return ending{}
	}
	newest := true
	for _, o := range slices.Backward(v.History) {
		from := o.Result == rollout.Undone && isRevision(e.want, o.From) // what an undo left
		mine := isRevision(e.want, o.Revision) || from
		switch {
		case mine && !e.begun && o.Ended.Before(e.after):
			return ending{} // that was another one
		case mine && (newest || e.want.Hash() != ""):
			code := httpapi.ExitOf(o.Result)
			if from {
				code = httpapi.ExitRolledBack
			}
			return ending{true, code, fmt.Sprintf("%s: %s. %s", e.want.Label(), resultWord(o.Result), o.Why)}
		}
		newest = newest && o.Result == rollout.Abandoned // that changed nothing
	}
	if v.Stable != nil && isRevision(e.want, v.Stable.Revision) && (e.after.IsZero() || e.begun) {
		return ending{true, httpapi.ExitPromoted, v.Message}
	}
	return ending{} // it has not begun
}

// isRevision: a bare label means whatever revision has it.
func isRevision(want, have rollout.Revision) bool {
	return want == have || want.Hash() == "" && want.Label() == have.Label()
}

func resultWord(r rollout.Result) string { return httpapi.ResultWord(r) }
