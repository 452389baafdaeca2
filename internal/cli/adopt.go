package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// adopt: say which version is stable where the route does not.
func (a *app) adopt() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbAdopt,
		short: "Say which version is the stable one, where the route does not",
		flags: func(c *cobra.Command, cmd *rollout.Command) {
			c.Flags().StringVar((*string)(&cmd.Revision), "stable", "", "the version that is to be stable, for example v1")
			_ = c.MarkFlagRequired("stable")
		},
	})
}
