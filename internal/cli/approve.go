package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// approve: answer a step that waits for a person.
func (a *app) approve() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbApprove,
		short: "Approve the step that waits for it",
		about: ofCanary,
	})
}
