package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/manifest"
)

// UpOptions is what a daemon is told. Paths are absolute.
type UpOptions struct {
	Dir      string
	StateDir string
	Socket   string
	Listen   string // of the gateway
	Metrics  string // of /metrics

	TLSListen         string
	TLSCerts, TLSKeys []string // belong together, one by one
	ACMEDomains       []string
	ACMEEmail         string
	ACMEDirectory     string
	ACMERoot          string
	Shield            bool

	// Dashboard is where browsers find it; empty: nowhere. AnyPort: any other
	// port will do where this one is taken.
	Dashboard string
	AnyPort   bool
	Run       map[string][]string
	Verbose   bool
}

// dashboardAddress is where a browser looks first.
const dashboardAddress = "127.0.0.1:9999"

// up: the daemon of one machine.
func (a *app) up() *cobra.Command {
	o := UpOptions{}
	var run []string
	c := &cobra.Command{
		Use:   "up -f DIR",
		Short: "Run what DIR describes on this machine, with canary releases",
		Long: `Reads the Kubernetes documents of DIR (Deployment, Service, DestinationRule,
VirtualService, Rollout), runs their replicas as processes, routes requests to them
and releases new versions step by step. DIR is watched: a Deployment that is added
starts a release. How a version starts is said by its container's command, or by

  serin up -f DIR --run 'my-registry/my-app:v1=./bin/my-app -version v1'

After SIGUSR2 the program is executed again, in the same process, from the file
that it was started from: with its listeners, its users and its replicas, and
without a failed request. A program that cannot take over changes nothing.

Ends with Ctrl-C or SIGTERM and takes its processes along; the rollout goes on
where it was at the next start.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Run, err = parseRun(run); err != nil {
				return err
			}
			if o.Dir, err = folder(o.Dir); err != nil {
				return err
			}
			if o.StateDir == "" {
				o.StateDir = a.stateDir(o.Dir)
			}
			if o.StateDir, err = filepath.Abs(o.StateDir); err != nil {
				return err
			}
			if o.Socket = a.socket; o.Socket == "" {
				o.Socket = a.Env("SERIN_SOCKET")
			}
			if o.Socket == "" {
				o.Socket = a.socketPath(o.Dir, o.StateDir)
			}
			if o.Socket, err = filepath.Abs(o.Socket); err != nil {
				return err
			}
			switch o.Dashboard {
			case "auto":
				o.Dashboard, o.AnyPort = dashboardAddress, true
			case "off":
				o.Dashboard = ""
			}
			return a.Up(cmd.Context(), o)
		},
	}
	c.Flags().StringVarP(&o.Dir, "file", "f", "", "folder of documents")
	_ = c.MarkFlagRequired("file")
	c.Flags().StringArrayVar(&run, "run", nil, "IMAGE=COMMAND: how the replicas of an image start; may be repeated")
	c.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address that users' requests come to")
	c.Flags().StringVar(&o.TLSListen, "listen-tls", "", "address that users' encrypted requests come to (default 127.0.0.1:8443 where there is a certificate)")
	c.Flags().StringArrayVar(&o.TLSCerts, "tls-cert", nil, "PEM file of a certificate with its chain; read again when it changes; may be repeated")
	c.Flags().StringArrayVar(&o.TLSKeys, "tls-key", nil, "PEM file of the key of each --tls-cert, in the same order")
	c.Flags().StringArrayVar(&o.ACMEDomains, "acme-domain", nil, "host to get a certificate for by ACME, which accepts the authority's terms; may be repeated")
	c.Flags().StringVar(&o.ACMEEmail, "acme-email", "", "where the authority writes to")
	c.Flags().StringVar(&o.ACMEDirectory, "acme-directory", "", "URL of the authority (default: Let's Encrypt)")
	c.Flags().StringVar(&o.ACMERoot, "acme-root", "", "PEM file of the root that a private authority's own server is known by")
	c.Flags().BoolVar(&o.Shield, "shield", false, "repeat on the stable version what a canary fails, where that may be done; the failure counts all the same")
	c.Flags().StringVar(&o.Metrics, "metrics-listen", "127.0.0.1:0", "address of /metrics")
	c.Flags().StringVar(&o.Dashboard, "dashboard", "auto", "address of the dashboard, on loopback; auto is "+dashboardAddress+" or any free port, off is none")
	c.Flags().StringVar(&o.StateDir, "state-dir", "", "where the state is kept (default: by folder, under $XDG_STATE_HOME/serin)")
	c.Flags().BoolVarP(&o.Verbose, "verbose", "v", false, "log every pass")
	return c
}

// parseRun reads every --run; all that is wrong is said at once.
func parseRun(run []string) (map[string][]string, error) {
	out := map[string][]string{}
	var wrong []string
	for _, r := range run {
		image, command, err := manifest.ParseRun(r)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Sprintf("--run %q: %v", r, err))
		case out[image] != nil:
			wrong = append(wrong, fmt.Sprintf("--run %q: %s is given twice", r, image))
		default:
			out[image] = command
		}
	}
	if wrong != nil {
		return nil, fmt.Errorf("%s", strings.Join(wrong, "\n"))
	}
	return out, nil
}

func folder(dir string) (string, error) {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return "", fmt.Errorf("-f %s: %w", dir, err)
	case !info.IsDir():
		return "", fmt.Errorf("-f %s: is a file; want the folder that holds the documents", dir)
	}
	return filepath.Abs(dir)
}
