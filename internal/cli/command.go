package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// act describes a verb that sends a command.
type act struct {
	verb        rollout.Verb
	short, long string
	// about is the revision that the command is meant for, of what its author
	// sees now; nil: none is named.
	about func(httpapi.RolloutView) rollout.Revision
	flags func(*cobra.Command, *rollout.Command)
}

// command makes the verb. Each carries an id, so that sending it twice does it
// once; its author; and what that author saw, so that it is refused where that
// is no longer so.
func (a *app) command(x act) *cobra.Command {
	var out format
	var cmd rollout.Command
	c := &cobra.Command{
		Use:               string(x.verb) + " [NAME]",
		Short:             x.short,
		Long:              x.long,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cc *cobra.Command, args []string) error {
			return a.with(cc.Context(), args, func(t target) error {
				v, err := t.view(cc.Context())
				if err != nil {
					return err
				}
				cmd.ID, cmd.Verb, cmd.By, cmd.N = newID(x.verb), x.verb, a.User(), v.N
				if cmd.Revision == "" && x.about != nil {
					cmd.Revision = x.about(v)
				}
				answer, err := send(cc.Context(), t, cmd)
				if err != nil {
					return err
				}
				switch {
				case out.json():
					if err := out.print(a.Stdout, answer); err != nil {
						return err
					}
				case answer.Refused:
					return errors.New(oneLine(answer.Message))
				default:
					fmt.Fprintln(a.Stdout, oneLine(answer.Message))
				}
				if answer.Refused {
					return exit(httpapi.ExitError)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&cmd.Reason, "reason", "", "why; recorded with your name")
	if x.flags != nil {
		x.flags(c, &cmd)
	}
	outputFlag(c, &out)
	return c
}

// send repeats a command whose answer was lost on its way: by its id it is
// done once.
func send(ctx context.Context, t target, cmd rollout.Command) (httpapi.Answer, error) {
	for try := 1; ; try++ {
		a, err := t.Command(ctx, t.ref, cmd)
		var told *httpapi.StatusError
		var absent *httpapi.NotRunning
		if err == nil || errors.As(err, &told) || errors.As(err, &absent) || ctx.Err() != nil || try == 3 {
			return a, err
		}
	}
}

// newID is one that no other command has; in a cluster it is an object's name.
func newID(v rollout.Verb) string { return string(v) + "-" + strings.ToLower(rand.Text()) }

func ofCanary(v httpapi.RolloutView) rollout.Revision {
	if v.Canary == nil {
		return ""
	}
	return v.Canary.Revision
}

func ofStable(v httpapi.RolloutView) rollout.Revision {
	if v.Stable == nil {
		return ""
	}
	return v.Stable.Revision
}
