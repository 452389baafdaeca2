package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/tui"
)

// watch: on a terminal a screen, elsewhere decisions and changes as lines.
func (a *app) watch() *cobra.Command {
	var out format
	var once, follow, lines bool
	c := &cobra.Command{
		Use:   "watch [NAME]",
		Short: "A rollout as it happens, on one screen, until it ends",
		Long: `On a terminal: one screen that shows what is judged, how sure that is, what it cost
and what is waited for, with keys to act. Elsewhere, and with --lines: the latest
decisions, then each new one and each change of what is waited for, as plain lines.

Ends when the rollout does; at rest it tells how the last one ended. With --follow
it goes on with the next one. Exit codes: 0 promoted, 1 a person is needed,
2 rolled back, 3 left before the end, 4 left while it waits for approval.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), args, func(t target) error {
				if once {
					v, err := t.view(cmd.Context())
					if err != nil {
						return err
					}
					if err := (&follower{w: a.Stdout, json: out.json()}).see(v); err != nil {
						return err
					}
					return exit(v.Exit)
				}
				in, screen, ok := a.terminal()
				if !ok || lines || out.json() {
					return a.watchLines(cmd.Context(), t, out.json(), follow)
				}
				v, err := t.view(cmd.Context())
				if err != nil {
					return err
				}
				if !underWay(v) && !follow {
					return a.watchLines(cmd.Context(), t, false, false)
				}
				v, ended, err := tui.Run(cmd.Context(), tui.Options{
					Host: t.Host, Ref: t.ref, User: a.User(), Follow: follow, In: in, Out: screen, Env: a.Env, Now: a.Now, NewID: newID,
				})
				switch {
				case err != nil:
					return err
				case ended:
					fmt.Fprintln(a.Stdout, oneLine(lastOutcome(v)))
					return exit(httpapi.ExitAtEnd(v))
				}
				fmt.Fprintln(a.Stdout, oneLine(v.Message))
				return exit(v.Exit)
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print what there is and end")
	c.Flags().BoolVar(&follow, "follow", false, "go on with the next rollout")
	c.Flags().BoolVar(&lines, "lines", false, "plain lines, on a terminal too")
	lineFlag(c, &out)
	return c
}

// terminal gives the terminal that the program was started on, if it is one
// that a screen can be drawn on.
func (a *app) terminal() (in, out *os.File, ok bool) {
	in, okIn := a.Stdin.(*os.File)
	out, okOut := a.Stdout.(*os.File)
	if !okIn || !okOut || a.Env("TERM") == "dumb" {
		return nil, nil, false
	}
	return in, out, term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

func (a *app) watchLines(ctx context.Context, t target, asJSON, follow bool) error {
	if _, err := t.view(ctx); err != nil { // a name that nobody has is not waited for
		return err
	}
	f := &follower{w: a.Stdout, json: asJSON}
	begun, ended := false, false
	err := t.Watch(ctx, t.ref, func(u httpapi.Update) error {
		if u.View == nil {
			return fmt.Errorf("rollout %s is gone", t.ref)
		}
		v := *u.View
		if err := f.see(v); err != nil {
			return err
		}
		begun = begun || underWay(v)
		if follow || underWay(v) || v.Exit == httpapi.ExitTimeout {
			return nil
		}
		ended = true
		if !begun && !asJSON {
			fmt.Fprintln(a.Stdout, oneLine(lastOutcome(v)))
		}
		return io.EOF
	})
	switch {
	case errors.Is(err, context.Canceled) && !f.any:
		return exit(httpapi.ExitTimeout)
	case errors.Is(err, context.Canceled): // Ctrl-C is how a person ends it
		return exit(f.last.Exit)
	case err != nil:
		return err
	case ended:
		return exit(httpapi.ExitAtEnd(f.last))
	}
	return exit(f.last.Exit)
}

// lastOutcome says how the newest rollout ended, for who came after it.
func lastOutcome(v httpapi.RolloutView) string {
	if len(v.History) == 0 {
		return "No rollout is under way, and none has ended yet. Next: `serin watch --follow` waits for one."
	}
	o := v.History[len(v.History)-1]
	return fmt.Sprintf("No rollout is under way. The last one: %s -> %s %s at %s after %s; %s. %s Next: `serin watch --follow` waits for another.",
		o.From.Label(), o.Revision.Label(), resultWord(o.Result), clock(o.Ended), httpapi.Short(o.Ended.Sub(o.Started)), cost(o.Exposed, o.Harmed), o.Why)
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
		b, err := json.Marshal(inSeconds(v))
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
