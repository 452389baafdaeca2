package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// logs: what the replicas wrote.
func (a *app) logs() *cobra.Command {
	var out format
	var q httpapi.LogQuery
	c := &cobra.Command{
		Use:               "logs [NAME]",
		Short:             "What the replicas wrote",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Tail < 0 {
				return fmt.Errorf("--tail is %d: want a number of lines, or 0 for all that is kept", q.Tail)
			}
			return a.with(cmd.Context(), args, func(t target) error {
				cl, ok := t.Host.(logReader)
				if !ok {
					return fmt.Errorf("a cluster's logs are kubectl's: %s", kubectlLogs(cmd.Context(), t, q))
				}
				err := cl.Logs(cmd.Context(), t.ref, q, func(l httpapi.LogLine) error {
					if out.json() {
						return json.NewEncoder(a.Stdout).Encode(l)
					}
					if l.Lost > 0 {
						fmt.Fprintf(a.Stdout, "%s  (%d lines were lost here)\n", l.Replica, l.Lost)
					}
					text := oneLine(l.Text)
					if l.Cut {
						text += " ..."
					}
					_, err := fmt.Fprintf(a.Stdout, "%s  %s  %s\n", clock(l.Time), l.Replica, text)
					return err
				})
				if errors.Is(err, context.Canceled) && q.Follow {
					return nil // that is how following ends
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&q.Version, "version", "", "only this version's replicas")
	c.Flags().StringVar(&q.Replica, "replica", "", "only this replica")
	c.Flags().IntVar(&q.Tail, "tail", 0, "only the last lines of each replica (default: all that is kept)")
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with new lines")
	lineFlag(c, &out)
	return c
}

// kubectlLogs is the command that shows what is asked for.
func kubectlLogs(ctx context.Context, t target, q httpapi.LogQuery) string {
	name, namespace := "DEPLOYMENT", t.ref.Namespace
	if v, err := t.view(ctx); err == nil {
		namespace = v.Namespace
		for _, x := range []*httpapi.VersionView{v.Stable, v.Canary} { // the canary's, where there is one
			if x != nil && (q.Version == "" || q.Version == x.Version) {
				name = x.Name
			}
		}
	}
	s := "kubectl logs deployment/" + name + " --all-pods --prefix"
	if namespace != "" {
		s += " -n " + namespace
	}
	if q.Tail > 0 {
		s += fmt.Sprintf(" --tail %d", q.Tail)
	}
	if q.Follow {
		s += " -f"
	}
	return s
}
