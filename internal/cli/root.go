package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// Program is what the verbs need from outside. Empty fields are filled in with
// the process's own.
type Program struct {
	Version string
	// Plugin: called as kubectl's plugin, so clusters only.
	Plugin bool

	// Up runs a daemon until ctx ends.
	Up func(ctx context.Context, o UpOptions) error
	// Demo tells the story on a daemon of its own.
	Demo func(ctx context.Context, o DemoOptions) error
	// CheckDemo recomputes a demo's sums from what it left in a folder.
	CheckDemo func(ctx context.Context, dir string, out io.Writer) error
	// Cluster makes a client for a cluster; nil: the program has none.
	Cluster func(ctx context.Context, o ClusterOptions) (Host, error)
	// SignIn asks a cluster's API server who people are and what they may.
	SignIn func(o ClusterOptions) (SignIn, error)
	// More are verbs of other packages.
	More []func() *cobra.Command

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            func(string) string
	Now            func() time.Time
	User           func() string
}

// Exit ends the program with a code. Where it has a message, that is printed.
type Exit struct {
	Code int
	Err  error
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// exit is nil for code 0.
func exit(code int) error {
	if code == httpapi.ExitPromoted {
		return nil
	}
	return &Exit{Code: code}
}

// app carries the program and the flags that all verbs share.
type app struct {
	Program
	socket  string
	cluster ClusterOptions
}

// Main runs one command line and gives the exit code.
func Main(ctx context.Context, p Program, args []string) int {
	if p.Stdin == nil {
		p.Stdin = os.Stdin
	}
	if p.Stdout == nil {
		p.Stdout = os.Stdout
	}
	if p.Stderr == nil {
		p.Stderr = os.Stderr
	}
	if p.Env == nil {
		p.Env = os.Getenv
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.User == nil {
		p.User = osUser
	}
	a := &app{Program: p}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	var e *Exit
	switch {
	case err == nil:
		return httpapi.ExitPromoted
	case errors.As(err, &e):
		if e.Err != nil {
			fmt.Fprintf(p.Stderr, "serin: %v\n", e.Err)
		}
		return e.Code
	}
	fmt.Fprintf(p.Stderr, "serin: %v\n", err)
	return httpapi.ExitError
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "serin",
		Short: "Release to a few first, watch, and go on or take it back",
		Long: `Serin gives a new version of a service to a few users first, watches it
against the version that it replaces, and goes on to everybody or takes it back
by itself.

  serin demo               the whole story in a minute and a half
  serin up -f DIR          run what DIR describes, with canary releases
  serin status             what is going on, and why

Verbs that see or act talk to the daemon that runs for this user. They talk to a
cluster with -n, --context or --kubeconfig, as kubectl's plugin (a link to this
program named kubectl-serin), and where no daemon runs but there is a kubeconfig.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "the daemon's unix socket (default: $SERIN_SOCKET, else the daemon that is found)")
	flags := root.PersistentFlags()
	flags.StringVar(&a.cluster.Kubeconfig, "kubeconfig", "", "in a cluster: file that names it (default: $KUBECONFIG, ~/.kube/config, or the pod's own)")
	flags.StringVar(&a.cluster.Context, "context", "", "in a cluster: the kubeconfig's context")
	flags.StringVarP(&a.cluster.Namespace, "namespace", "n", "", "in a cluster: the namespace (default: the context's)")
	if a.Plugin {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl serin"}
	}
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "see", Title: "See:"},
		&cobra.Group{ID: "act", Title: "Act:"},
		&cobra.Group{ID: "try", Title: "Try before trusting:"},
	)
	add := func(group string, cs ...*cobra.Command) {
		for _, c := range cs {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", a.up(), a.demo(), a.deploy())
	add("see", a.list(), a.status(), a.watch(), a.wait(), a.why(), a.history(), a.logs(), a.dashboard(), a.export())
	add("act", a.promote(), a.approve(), a.pause(), a.resume(), a.abort(), a.retry(), a.undo(), a.adopt())
	add("try", a.plan(), a.lint(), a.replay(), a.simulate())
	for _, more := range a.More {
		root.AddCommand(more())
	}
	root.AddCommand(a.version(), a.completion(root))
	return root
}

// called is how people call the program here.
func (a *app) called() string {
	if a.Plugin {
		return "kubectl serin"
	}
	return "serin"
}

func osUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
