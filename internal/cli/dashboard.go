package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
)

// dashboard: where a browser finds it. A daemon has its own; a cluster's is
// served from here, with the rights of the kubeconfig's user.
func (a *app) dashboard() *cobra.Command {
	var o dashboardOptions
	var look, open bool
	c := &cobra.Command{
		Use:   "dashboard",
		Short: "The dashboard's address; for a cluster, the dashboard itself",
		Long: `Prints the address of the daemon's dashboard, with the key that lets you in.

For a cluster it serves the dashboard on this machine until Ctrl-C: it sees what
you may see and does what you may do, with your kubeconfig. How releases went is
kept from when it began.

With --look the address is one for people who may look and send nothing.

With --sign-in it is for many: each signs in with a bearer token of the cluster
and sees and does what the API server says they may. Its own account needs to
list rollouts and to ask reviews (system:auth-delegator), and may write nothing.
Beyond loopback that takes --tls-cert, --tls-key and --host.`,
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
				if o.signIn {
					return errors.New("--sign-in is for a cluster, whose API server knows people: name it with --context or --kubeconfig")
				}
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
			return a.serveDashboard(cmd.Context(), h, o, show)
		},
	}
	c.Flags().StringVar(&o.listen, "listen", dashboardAddress, "address to serve a cluster's dashboard at; with port 0 any free one")
	c.Flags().BoolVar(&o.signIn, "sign-in", false, "in a cluster: everybody signs in with a bearer token, and has their own rights")
	c.Flags().StringVar(&o.cert, "tls-cert", "", "certificate to serve with, as a file")
	c.Flags().StringVar(&o.key, "tls-key", "", "its key")
	c.Flags().StringArrayVar(&o.hosts, "host", nil, "name that browsers reach it by, besides loopback's; may be repeated")
	c.Flags().BoolVar(&look, "look", false, "the address for people who may only look")
	c.Flags().BoolVar(&open, "open", false, "open it in a browser")
	c.Flags().BoolVarP(&a.cluster.All, "all-namespaces", "A", false, "in a cluster: of every namespace")
	return c
}

// dashboardOptions say how a dashboard is served from here.
type dashboardOptions struct {
	listen    string
	signIn    bool
	cert, key string
	hosts     []string
}

func (o dashboardOptions) check() error {
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return fmt.Errorf("--listen %s: want an address like %s", o.listen, dashboardAddress)
	}
	ip := net.ParseIP(host)
	loopback := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case (o.cert == "") != (o.key == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case loopback:
		return nil
	case !o.signIn:
		return fmt.Errorf("--listen %s: want an address of loopback like %s, because who reaches it acts with your rights; with --sign-in everybody has their own", o.listen, dashboardAddress)
	case o.cert == "":
		return fmt.Errorf("--listen %s: tokens are sent there, so it wants --tls-cert and --tls-key", o.listen)
	case len(o.hosts) == 0:
		return fmt.Errorf("--listen %s: want the names that browsers reach it by, with --host", o.listen)
	}
	return nil
}

func (o dashboardOptions) open() (net.Listener, error) {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return nil, fmt.Errorf("listening for browsers: %w; choose another address with --listen, for example --listen 127.0.0.1:0", err)
	}
	if o.cert == "" {
		return l, nil
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("reading --tls-cert and --tls-key: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

// SignIn lets people of a cluster in, each with their own rights.
type SignIn interface {
	httpapi.Authorizer
	// Host gives h with commands that are sent in their viewer's own name.
	Host(h httpapi.Host) httpapi.Host
	Close()
}

// serveDashboard shows what a host has until ctx ends.
func (a *app) serveDashboard(ctx context.Context, h Host, o dashboardOptions, show func(full, look string)) error {
	if err := o.check(); err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // it has time rather than memory
	}
	relay := httpapi.NewRelay(h, httpapi.Info{Version: a.Version})
	var host httpapi.Host = relay
	web := httpapi.WebOptions{Hosts: o.hosts, Secure: o.cert != ""}
	keys := httpapi.NewKeys(a.User())
	if o.signIn {
		if a.SignIn == nil {
			return errors.New("this program was built without a cluster's client")
		}
		guard, err := a.SignIn(a.cluster)
		if err != nil {
			return err
		}
		defer guard.Close()
		web.Authorizer, host = guard, guard.Host(relay)
	} else {
		if w, ok := h.(interface {
			Who(context.Context) (string, error)
		}); ok {
			var err error
			if keys.User, err = w.Who(ctx); err != nil {
				return err
			}
		}
		web.Authorizer, web.Link = rights{keys, h}, true
	}
	l, err := o.open()
	if err != nil {
		return err
	}
	defer l.Close()
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
	_, web.Port, _ = net.SplitHostPort(l.Addr().String())
	root := "http://" + l.Addr().String() + "/"
	if o.cert != "" {
		root = "https://" + net.JoinHostPort(append(o.hosts, "localhost")[0], web.Port) + "/"
	}
	if o.signIn {
		show(root, root)
	} else {
		show(root+"?token="+keys.Full, root+"?token="+keys.Look)
	}
	err = httpapi.NewServer(host).ServeWeb(ctx, l, web)
	cancel()
	<-followed
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
