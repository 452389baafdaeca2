package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version: of this program.
func (a *app) version() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use:   "version",
		Short: "The version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if out.json() {
				return out.print(a.Stdout, map[string]string{"version": a.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			fmt.Fprintf(a.Stdout, "serin %s (%s, %s/%s)\n", a.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
	outputFlag(c, &out)
	return c
}
