package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// dashboard: where a browser finds it. A daemon has its own; a cluster's is
// served from here, with the rights of the kubeconfig's user.
func (a *app) dashboard() *cobra.Command {
	var listen string
	var look, open bool
	c := &cobra.Command{
		Use:   "dashboard",
		Short: "The dashboard's address; for a cluster, the dashboard itself",
		Long: `Prints the address of the daemon's dashboard, with the key that lets you in.

For a cluster it serves the dashboard on this machine until Ctrl-C: it sees what
you may see and does what you may do, with your kubeconfig. How releases went is
kept from when it began.

With --look the address is one for people who may look and send nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer h.Close()
			show := func(full, guests string) {
				url := full
				if look {
					url = guests
				}
				fmt.Fprintln(a.Stdout, url)
				if open {
					if err := openBrowser(url); err != nil {
						fmt.Fprintf(a.Stderr, "serin: no browser could be started: %v\n", err)
					}
				}
			}
			if d, ok := h.(*httpapi.Client); ok {
				i, err := d.Info(cmd.Context())
				if err != nil {
					return err
				}
				if i.Dashboard != "" {
					show(i.Dashboard, i.DashboardLook)
					return nil
				}
				fmt.Fprintln(a.Stderr, "serin: the daemon has no dashboard of its own (--dashboard off): it is served from here until Ctrl-C")
			}
			return a.serveDashboard(cmd.Context(), h, listen, show)
		},
	}
	c.Flags().StringVar(&listen, "listen", dashboardAddress, "address on loopback to serve a cluster's dashboard at; with port 0 any free one")
	c.Flags().BoolVar(&look, "look", false, "the address for people who may only look")
	c.Flags().BoolVar(&open, "open", false, "open it in a browser")
	c.Flags().BoolVarP(&a.cluster.All, "all-namespaces", "A", false, "in a cluster: of every namespace")
	return c
}

// serveDashboard shows what a host has until ctx ends.
func (a *app) serveDashboard(ctx context.Context, h Host, listen string, show func(full, look string)) error {
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--listen %s: want an address of loopback like %s: who reaches it acts with your rights", listen, dashboardAddress)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listening for browsers: %w; choose another address with --listen, for example --listen 127.0.0.1:0", err)
	}
	defer l.Close()
	keys := httpapi.NewKeys(a.User())
	if w, ok := h.(interface {
		Who(context.Context) (string, error)
	}); ok {
		if keys.User, err = w.Who(ctx); err != nil {
			return fmt.Errorf("asking who you are: %w", err)
		}
	}
	relay := httpapi.NewRelay(h, httpapi.Info{Version: a.Version})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		said := ""
		relay.Follow(ctx, func(err error) {
			if s := oneLine(err.Error()); s != said { // once, not every two seconds
				said = s
				fmt.Fprintf(a.Stderr, "serin: %s\n", s)
			}
		})
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	root := "http://" + l.Addr().String() + "/?token="
	show(root+keys.Full, root+keys.Look)
	err = httpapi.NewServer(relay).ServeWeb(ctx, l, httpapi.WebOptions{Authorizer: rights{keys, h}, Port: port})
	cancel()
	<-followed
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// rights are the keys', cut to what the host's user may do there.
type rights struct {
	httpapi.Keys
	host Host
}

// May implements httpapi.Authorizer.
func (r rights) May(ctx context.Context, v httpapi.Viewer, ref httpapi.Ref) ([]verb, error) {
	all, err := r.Keys.May(ctx, v, ref)
	if asks, ok := r.host.(interface {
		May(context.Context, httpapi.Ref) ([]verb, error)
	}); ok && err == nil && len(all) > 0 {
		return asks.May(ctx, ref)
	}
	return all, err
}

func openBrowser(url string) error {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	return exec.Command(name, args...).Start()
}
