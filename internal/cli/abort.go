package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// abort: take the canary back now.
func (a *app) abort() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbAbort,
		short: "Take the new version back now; it gets no traffic again without retry",
		about: ofCanary,
	})
}
