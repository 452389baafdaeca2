package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// retry: a condemned revision once more.
func (a *app) retry() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbRetry,
		short: "Try the version that was taken back once more",
		flags: func(c *cobra.Command, cmd *rollout.Command) {
			c.Flags().StringVar((*string)(&cmd.Revision), "revision", "", "version it is meant for (default: the newest that was taken back)")
		},
	})
}
