package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// promote: end this step, or go all the way.
func (a *app) promote() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbPromote,
		short: "End this step now; --full goes to 100 %",
		long: `Ends the step in force, or with --full goes to 100 % as soon as there is capacity
for it; the new version is still watched there until its bake is over. It replaces
no approval, and never goes past a Fail without --override.`,
		about: ofCanary,
		flags: func(c *cobra.Command, cmd *rollout.Command) {
			c.Flags().BoolVar(&cmd.Full, "full", false, "all the way to 100 %")
			c.Flags().BoolVar(&cmd.Override, "override", false, "whatever the judge says, until this rollout ends")
		},
	})
}
