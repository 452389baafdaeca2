package cli

import (
	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/rollout"
)

// undo: back to the version before.
func (a *app) undo() *cobra.Command {
	return a.command(act{
		verb:  rollout.VerbUndo,
		short: "Go back to the stable version before this one",
		long: `Goes back to the stable version before this one: it is started, and once it can
carry everything it gets everything, in one switch. In the middle of a rollout
that is called abort.`,
		about: ofStable,
	})
}
