package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// completion: a script for the user's shell.
func (a *app) completion(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "A completion script for your shell",
		Long: `Prints a completion script, for example:

  source <(serin completion bash)
  serin completion fish > ~/.config/fish/completions/serin.fish`,
		Args:                  cobra.ExactArgs(1),
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.Stdout)
			case "fish":
				return root.GenFishCompletion(a.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Stdout)
			}
			return fmt.Errorf("shell %q is not known: want bash, zsh, fish or powershell", args[0])
		},
	}
}
