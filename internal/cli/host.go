package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Host is who answers the verbs: the daemon behind a socket, or a cluster's API
// server. A rollout that is not there, and whatever else is told in words, is a
// *httpapi.StatusError.
type Host interface {
	// List gives every rollout that is in view, by namespace and name.
	List(ctx context.Context) ([]httpapi.RolloutView, error)
	// Get gives one rollout.
	Get(ctx context.Context, ref httpapi.Ref) (httpapi.RolloutView, error)
	// Watch calls see with each update, beginning with what there is, until see
	// returns an error; io.EOF counts as the end.
	Watch(ctx context.Context, ref httpapi.Ref, see func(httpapi.Update) error) error
	// Command sends a command and waits for what became of it. Sending the same
	// id again does nothing twice.
	Command(ctx context.Context, ref httpapi.Ref, c rollout.Command) (httpapi.Answer, error)
	Close()
}

// deployer and logReader are what not every host can do.
type deployer interface {
	Deploy(ctx context.Context, ref httpapi.Ref, d httpapi.Deploy) (httpapi.Deployed, error)
}

type logReader interface {
	Logs(ctx context.Context, ref httpapi.Ref, q httpapi.LogQuery, emit func(httpapi.LogLine) error) error
}

// documentReader is a host that holds the documents itself.
type documentReader interface {
	Document(ctx context.Context, ref httpapi.Ref) (*v1alpha1.Rollout, httpapi.RolloutView, error)
}

// document is the Rollout that a cluster has under a name; with none, the only one.
func (a *app) document(ctx context.Context, args []string) (doc *v1alpha1.Rollout, v httpapi.RolloutView, err error) {
	err = a.with(ctx, args, func(t target) error {
		from, ok := t.Host.(documentReader)
		if !ok {
			return errors.New("a daemon's documents are in its folder: want -f DIR, or a cluster with --context, -n or --kubeconfig")
		}
		doc, v, err = from.Document(ctx, t.ref)
		return err
	})
	return doc, v, err
}

// ClusterOptions name a cluster as kubectl's flags do; empty parts are as the
// kubeconfig has them.
type ClusterOptions struct {
	Kubeconfig string
	Context    string
	Namespace  string
	All        bool // every namespace
}

// Invoked says what the program's name asks for: as kubectl-serin it is a
// plugin, which talks to clusters only; as kubectl_complete-serin it completes
// the plugin's arguments for kubectl.
func Invoked(argv0 string, args []string) (plugin bool, out []string) {
	switch strings.TrimSuffix(filepath.Base(argv0), ".exe") {
	case "kubectl-serin":
		return true, args
	case "kubectl_complete-serin":
		return true, append([]string{"__complete"}, args...)
	}
	return false, args
}

// clusterFlags are those of them that were typed.
func (a *app) clusterFlags() (given []string) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"--kubeconfig", a.cluster.Kubeconfig != ""}, {"--context", a.cluster.Context != ""},
		{"--namespace", a.cluster.Namespace != ""}, {"--all-namespaces", a.cluster.All},
	} {
		if f.set {
			given = append(given, f.name)
		}
	}
	return given
}

// connect finds who answers. A cluster where a flag names one, or as kubectl's
// plugin; else the daemon of --socket or SERIN_SOCKET; else the daemon that runs
// for this user; else, where none ever did, the cluster of the kubeconfig, and
// that is said.
func (a *app) connect(ctx context.Context) (Host, error) {
	asked := a.clusterFlags()
	switch {
	case a.socket != "" && a.Plugin:
		return nil, fmt.Errorf("--socket names a daemon, and kubectl's plugin talks to clusters: want `serin --socket %s`", a.socket)
	case a.socket != "" && asked != nil:
		return nil, fmt.Errorf("--socket names a daemon and %s a cluster: one of them is meant", strings.Join(asked, ", "))
	case a.Plugin || asked != nil:
		return a.toCluster(ctx)
	}
	c, err := a.daemon(ctx)
	if err == nil {
		return c, nil
	}
	if _, none := err.(*noDaemon); none && a.hasKubeconfig() {
		h, err := a.toCluster(ctx)
		if err != nil {
			return nil, fmt.Errorf("no daemon is running for this user, and the kubeconfig's cluster cannot be asked: %w", err)
		}
		if w, ok := h.(fmt.Stringer); ok {
			fmt.Fprintln(a.Stderr, oneLine(fmt.Sprintf("serin: no daemon runs here; asking %s", w)))
		}
		return h, nil
	}
	return nil, err
}

func (a *app) toCluster(ctx context.Context) (Host, error) {
	if a.Cluster == nil {
		return nil, fmt.Errorf("this program was built without a cluster's client")
	}
	return a.Cluster(ctx, a.cluster)
}

// hasKubeconfig: a cluster is named without a flag.
func (a *app) hasKubeconfig() bool {
	if a.Cluster == nil {
		return false
	}
	if a.Env("KUBECONFIG") != "" || a.Env("KUBERNETES_SERVICE_HOST") != "" {
		return true
	}
	home := a.Env("HOME")
	if home == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(home, ".kube", "config"))
	return err == nil
}

// noDaemon: none is running for this user, and none has left a socket.
type noDaemon struct{}

func (*noDaemon) Error() string {
	return "no daemon is running for this user: start one with `serin up -f DIR`, name its socket with --socket or SERIN_SOCKET, or name a cluster with --context, -n or --kubeconfig"
}
