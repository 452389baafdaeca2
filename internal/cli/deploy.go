package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// deploy: a new version from a command line, without writing YAML.
func (a *app) deploy() *cobra.Command {
	var d httpapi.Deploy
	var out format
	var count int
	var env []string
	c := &cobra.Command{
		Use:   "deploy NAME --version VERSION -- COMMAND [ARG...]",
		Short: "Start the release of a new version from a command",
		Long: `Makes a new version known, as adding its Deployment to the folder would: its
replicas are started, and it is released step by step. $PORT, and $(PORT) in the
arguments, is the port that each replica listens on.

  serin deploy my-app --version v2 -- ./my-app-v2 -listen '127.0.0.1:$(PORT)'`,
		Args: func(c *cobra.Command, args []string) error {
			switch dash := c.ArgsLenAtDash(); {
			case dash < 0:
				return fmt.Errorf("the command is missing: serin deploy NAME --version VERSION -- COMMAND")
			case dash != 1:
				return fmt.Errorf("want one NAME before --, there are %d", dash)
			case len(args) < 2:
				return fmt.Errorf("the command after -- is empty")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("replicas") {
				if count < 1 {
					return fmt.Errorf("--replicas is %d: want 1 or more", count)
				}
				d.Replicas = &count
			}
			d.Env = map[string]string{}
			for _, e := range env {
				k, v, ok := strings.Cut(e, "=")
				if !ok || k == "" {
					return fmt.Errorf("--env %q: want NAME=VALUE", e)
				}
				d.Env[k] = v
			}
			var err error
			if d.Dir, err = os.Getwd(); err != nil {
				return fmt.Errorf("finding the working directory: %w", err)
			}
			d.Command, d.By = args[1:], a.User()
			h, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer h.Close()
			cl, ok := h.(deployer)
			if !ok {
				return fmt.Errorf("in a cluster a new version is a Deployment: apply one with the label of %s (kubectl apply), and its release starts", d.Version)
			}
			done, err := cl.Deploy(cmd.Context(), httpapi.ParseRef(args[0]), d)
			if err != nil {
				return err
			}
			if out.json() {
				return out.print(a.Stdout, done)
			}
			fmt.Fprintln(a.Stdout, oneLine(done.Message))
			return nil
		},
	}
	c.Flags().StringVar(&d.Version, "version", "", "label of the new version, for example v2")
	_ = c.MarkFlagRequired("version")
	c.Flags().IntVar(&count, "replicas", 0, "number of replicas (default: as many as the stable version has)")
	c.Flags().StringArrayVar(&env, "env", nil, "NAME=VALUE for the environment; may be repeated")
	c.Flags().StringVar(&d.Reason, "reason", "", "why; recorded with your name")
	outputFlag(c, &out)
	return c
}
