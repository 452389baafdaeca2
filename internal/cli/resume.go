package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// resume: the end of a pause.
func (a *app) resume() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbResume,
		short: "Go on after a pause",
		about: ofCanary,
	})
}
