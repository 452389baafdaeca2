package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

// DemoOptions is what a demo is told.
type DemoOptions struct {
	Out  string // folder for what it leaves; absolute
	Rate int    // requests per second
}

// demo: the whole story, on processes of its own.
func (a *app) demo() *cobra.Command {
	var o DemoOptions
	var check string
	c := &cobra.Command{
		Use:   "demo",
		Short: "The whole story in a minute and a half: a good release, and a bad one that is taken back",
		Long: `Starts an application with three replicas, sends it steady load, releases a good
version and then a bad one, and prints every decision. At the end every request is
accounted for at both ends. The exit code says whether the story went as told.

With --check it recomputes the sums from what an earlier demo left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check != "" {
				return a.CheckDemo(cmd.Context(), check, a.Stdout)
			}
			var err error
			if o.Out, err = filepath.Abs(o.Out); err != nil {
				return err
			}
			return a.Demo(cmd.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Out, "out", "demo-out", "folder for the record and the request logs")
	c.Flags().IntVar(&o.Rate, "rate", 400, "requests per second")
	c.Flags().StringVar(&check, "check", "", "recompute the sums of the demo that left this folder")
	return c
}
