package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// pause: nothing is raised until resume.
func (a *app) pause() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbPause,
		short: "Raise nothing until resume; a failure is still taken back",
	})
}
