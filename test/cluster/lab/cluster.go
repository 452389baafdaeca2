package lab

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

//go:embed objects
var objects embed.FS

// The user that Serin's own service account is, as the cluster sees it.
const (
	SerinNamespace = "serin-system"
	SerinUser      = "system:serviceaccount:" + SerinNamespace + ":" + SerinAccount
	SerinAccount   = "serin-controller"
)

// user is a name with what the API server holds it for.
type user struct{ name, groups string }

// users are all that the cluster knows. A user's token is "tok-" and the name.
var users = []user{
	{"admin", "system:masters"}, // people at the keyboard
	{"lab", "system:masters"},   // this package
	{"kcm", "system:masters"},
	{"kwok", "system:masters"},
	{"istiod", "system:masters"},
	// People with the rights that a test gives them. Tests that count requests
	// have their own.
	{"alice", ""}, {"bob", ""}, {"ann", ""}, {"ben", ""},
	{SerinUser, "system:serviceaccounts,system:serviceaccounts:" + SerinNamespace},
}

// Options of a cluster.
type Options struct {
	NoIstio, NoPrometheus bool
	Debounce              time.Duration // istiod's, before it sends a change on; its default of 100 ms if 0
	Print                 io.Writer     // what is up, and when; nil for nobody
}

// Cluster is a cluster that runs.
type Cluster struct {
	World
	Config  *rest.Config // of the user lab, without client-side throttling
	Clients kubernetes.Interface
	Dynamic dynamic.Interface
	Pods    *Pods

	dir     string // files of this cluster, in memory
	opts    Options
	begun   time.Time
	mu      sync.Mutex // of procs
	procs   []*Process
	apiArgs []string
	api     *Process
	prom    *Process
	istiod  *Process
	apply   *applier
	audit   audit
}

// Addresses inside of the space.
const (
	APIAddress        = "127.0.0.1:6443"
	PrometheusAddress = "127.0.0.1:9090"
	IstiodAddress     = "127.0.0.1:15010"
	cadvisorAddress   = "10.77.0.2:10255"
)

// Start starts a cluster with one node. What it has started is stopped again if
// it fails.
func Start(ctx context.Context, w World, o Options) (_ *Cluster, err error) {
	c := &Cluster{World: w, dir: filepath.Join(w.Dir, "run"), opts: o, begun: time.Now()}
	defer func() {
		if err != nil {
			for _, p := range c.procs {
				if tail := p.Tail(3); tail != "" {
					err = fmt.Errorf("%w\n%s: %s", err, p.Name, tail)
				}
			}
			c.Stop()
		}
	}()
	if err := writePKI(c.dir); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if err := c.writeUsers(); err != nil {
		return nil, err
	}
	if c.Config, err = c.ConfigOf("lab"); err != nil {
		return nil, err
	}
	if c.Clients, err = kubernetes.NewForConfig(c.Config); err != nil {
		return nil, err
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return nil, err
	}
	c.apply = &applier{cluster: c}
	if _, err := c.run("etcd", nil, w.Tools.Etcd, "--data-dir", "etcd", "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380"); err != nil {
		return nil, err
	}
	if err := c.startAPI(ctx); err != nil {
		return nil, err
	}
	c.say("the API server is up")
	if err := c.furnish(ctx); err != nil {
		return nil, err
	}
	if c.Pods, err = newPods(c); err != nil {
		return nil, err
	}
	c.say("a node is ready; pods get addresses and are answered for")
	if p := c.ended(); p != nil {
		return nil, fmt.Errorf("%s ended by itself", p.Name)
	}
	var both errgroup.Group
	if !o.NoIstio {
		both.Go(func() error { return c.startIstiod(ctx) })
	}
	if !o.NoPrometheus {
		both.Go(func() error { return c.StartPrometheus(ctx) })
	}
	if err := both.Wait(); err != nil {
		return nil, err
	}
	return c, nil
}

// Stop ends all of it.
func (c *Cluster) Stop() {
	if c.Pods != nil {
		c.Pods.stop()
	}
	for _, p := range slices.Backward(c.procs) {
		p.Kill()
	}
}

// Logs is where the programs' logs are.
func (c *Cluster) Logs() string { return c.dir }

func (c *Cluster) say(format string, args ...any) {
	if c.opts.Print != nil {
		fmt.Fprintf(c.opts.Print, "%6.1fs  %s\n", time.Since(c.begun).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (c *Cluster) run(name string, env []string, program string, args ...string) (*Process, error) {
	p, err := start(c.dir, name, env, program, args...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.procs = append(c.procs, p)
	return p, nil
}

// writeUsers writes the API server's list of tokens and a kubeconfig for each.
func (c *Cluster) writeUsers() error {
	var tokens strings.Builder
	for _, u := range users {
		fmt.Fprintf(&tokens, "tok-%s,%s,%s,%q\n", u.name, u.name, u.name, u.groups)
		if err := c.writeKubeconfig(c.Kubeconfig(u.name), u.name, "https://"+APIAddress, "default"); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(c.dir, "tokens.csv"), []byte(tokens.String()), 0o600)
}

// Kubeconfig is the file with which a user comes in.
func (c *Cluster) Kubeconfig(user string) string {
	return filepath.Join(c.dir, strings.ReplaceAll(user, ":", "-")+".kubeconfig")
}

// ConfigOf is a client's configuration for a user, without throttling of its own.
func (c *Cluster) ConfigOf(user string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig(user))
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Burst = -1, 0
	cfg.ContentType = "application/json"
	return cfg, nil
}

func (c *Cluster) writeKubeconfig(file, user, server, namespace string) error {
	ca, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
	if err != nil {
		return err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["lab"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: "tok-" + user}
	cfg.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: user, Namespace: namespace}
	cfg.CurrentContext = "lab"
	return clientcmd.WriteToFile(*cfg, file)
}

// KubeconfigOutside writes a kubeconfig for programs outside of the space, into
// the space's folder; it needs the door "api".
func (c *Cluster) KubeconfigOutside(user string) (string, error) {
	addr, err := c.Door("api", APIAddress)
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.Dir, "kubeconfig")
	return file, c.writeKubeconfig(file, user, "https://"+addr, "default")
}

// auditPolicy: who asked for what. A watch is written down when it begins,
// everything else when it is answered. What became of routes and Deployments is
// written down too, for the version that it got: the watches say in which order
// things happened, and only the server says when.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [kcm, kwok, istiod, "system:apiserver"]
- level: RequestResponse
  verbs: [create, update, patch, delete]
  resources:
  - {group: networking.istio.io, resources: [virtualservices]}
  - {group: apps, resources: [deployments]}
  omitManagedFields: true
- level: Metadata
`

func (c *Cluster) startAPI(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(c.dir, "audit.yaml"), []byte(auditPolicy), 0o644); err != nil {
		return err
	}
	c.apiArgs = []string{
		"--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--secure-port=6443", "--advertise-address=10.77.0.1",
		"--service-cluster-ip-range=" + services, "--tls-cert-file=api.crt", "--tls-private-key-file=api.key", "--client-ca-file=ca.crt",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.pub", "--service-account-signing-key-file=sa.key",
		"--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false",
		"--audit-policy-file=audit.yaml", "--audit-log-path=" + auditFile, "--audit-log-maxsize=4000",
		// Pods here have no service accounts' secrets and nodes no conditions.
		"--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
	}
	return c.StartAPI(ctx)
}

// StartAPI starts the API server (again) and waits until it is ready.
func (c *Cluster) StartAPI(ctx context.Context) error {
	p, err := c.run("kube-apiserver", nil, c.Tools.APIServer, c.apiArgs...)
	if err != nil {
		return err
	}
	c.api = p
	return c.up(ctx, p, func() error {
		_, err := c.Clients.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// StopAPI ends the API server and leaves everything else as it is.
func (c *Cluster) StopAPI() { c.api.Kill() }

// up waits until a process answers, and tells the end of its log if it ends.
func (c *Cluster) up(ctx context.Context, p *Process, ask func() error) error {
	err := Await(ctx, Patience, p.Name, func() (bool, error) {
		select {
		case <-p.Done():
			return true, nil
		default:
		}
		err := ask()
		return err == nil, err
	})
	select {
	case <-p.Done():
		return fmt.Errorf("%s ended by itself:\n%s", p.Name, p.Tail(20))
	default:
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Tail(20))
	}
	return nil
}

// furnish gives the empty cluster its controllers, a node, who names it, and
// Istio's types.
func (c *Cluster) furnish(ctx context.Context) error {
	if _, err := c.run("kube-controller-manager", nil, c.Tools.ControllerManager, "--kubeconfig="+c.Kubeconfig("kcm"), "--bind-address=127.0.0.1", "--leader-elect=false",
		"--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt", "--controllers=*,-nodelifecycle,-node-ipam-controller", "--allocate-node-cidrs=false",
		"--horizontal-pod-autoscaler-sync-period=1s", "--concurrent-deployment-syncs=10", "--concurrent-replicaset-syncs=10", "--concurrent-service-endpoint-syncs=10",
		"--kube-api-qps=500", "--kube-api-burst=1000"); err != nil {
		return err
	}
	stages, err := c.stages()
	if err != nil {
		return err
	}
	if _, err := c.run("kwok", nil, c.Tools.KWOK, "--kubeconfig="+c.Kubeconfig("kwok"), "--manage-all-nodes=true", "--cidr="+pods, "--node-ip=10.77.0.2",
		"--server-address=127.0.0.1:10247", "--config="+stages); err != nil {
		return err
	}
	crds, err := os.ReadFile(c.Tools.IstioCRDs)
	if err != nil {
		return err
	}
	if c.opts.NoIstio {
		crds = nil
	}
	for _, name := range []string{"node.yaml", "schedule.yaml"} {
		b, err := objects.ReadFile("objects/" + name)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, "", b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := c.Apply(ctx, "", crds); err != nil {
		return fmt.Errorf("the types of Istio: %w", err)
	}
	return Await(ctx, Patience, "node and default service account", func() (bool, error) {
		if ended := c.ended(); ended != nil {
			return true, nil // the next step tells why
		}
		n, err := c.Clients.CoreV1().Nodes().Get(ctx, "node-a", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		ready := false
		for _, cond := range n.Status.Conditions {
			ready = ready || cond.Type == "Ready" && cond.Status == "True"
		}
		if !ready {
			return false, errors.New("the node is not ready")
		}
		_, err = c.Clients.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
}

// ended is a component that should run and does not.
func (c *Cluster) ended() *Process {
	for _, p := range c.procs {
		select {
		case <-p.Done():
			return p
		default:
		}
	}
	return nil
}

// stages writes KWOK's stages into one file: its own for nodes, ours for pods.
func (c *Cluster) stages() (string, error) {
	node, err := os.ReadFile(c.Tools.KWOKNode)
	if err != nil {
		return "", err
	}
	pod, err := objects.ReadFile("objects/stages.yaml")
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.dir, "stages.yaml")
	return file, os.WriteFile(file, slices.Concat(node, []byte("\n---\n"), pod), 0o644)
}

func (c *Cluster) startIstiod(ctx context.Context) error {
	if err := c.Namespace(ctx, "istio-system"); err != nil {
		return err
	}
	mesh := "defaultConfig: {discoveryAddress: \"" + IstiodAddress + "\"}\ntrustDomain: cluster.local\n"
	if err := os.WriteFile(filepath.Join(c.dir, "mesh.yaml"), []byte(mesh), 0o644); err != nil {
		return err
	}
	env := []string{"POD_NAMESPACE=istio-system", "POD_NAME=istiod-0", "VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=", "ENABLE_LEADER_ELECTION=false"}
	if c.opts.Debounce > 0 {
		env = append(env, "PILOT_DEBOUNCE_AFTER="+c.opts.Debounce.String())
	}
	p, err := c.run("istiod", env, c.Tools.Istiod, "discovery", "--kubeconfig", c.Kubeconfig("istiod"), "--meshConfig", "mesh.yaml", "--networksConfig", "/dev/null",
		"--httpAddr", "127.0.0.1:8080", "--httpsAddr", "", "--grpcAddr", IstiodAddress, "--secureGRPCAddr", "", "--monitoringAddr", "127.0.0.1:15014", "--ctrlz_port", "0")
	if err != nil {
		return err
	}
	c.istiod = p
	if err := c.up(ctx, p, func() error { return answers(ctx, "http://127.0.0.1:8080/ready") }); err != nil {
		return err
	}
	c.say("istiod is ready")
	return nil
}

// StartPrometheus starts Prometheus (again) and waits until it is ready.
func (c *Cluster) StartPrometheus(ctx context.Context) error {
	cfg, err := objects.ReadFile("objects/prometheus.yaml")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, "prometheus.yaml"), cfg, 0o644); err != nil {
		return err
	}
	if c.prom, err = c.run("prometheus", nil, c.Tools.Prometheus, "--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus", "--web.listen-address="+PrometheusAddress, "--log.level=warn"); err != nil {
		return err
	}
	if err := c.up(ctx, c.prom, func() error { return answers(ctx, "http://"+PrometheusAddress+"/-/ready") }); err != nil {
		return err
	}
	c.say("Prometheus is ready")
	return nil
}

// StopPrometheus ends Prometheus; its data stay.
func (c *Cluster) StopPrometheus() { c.prom.Kill() }

// FreezePrometheus makes Prometheus take connections and answer nothing; thaw
// lets it go on.
func (c *Cluster) FreezePrometheus() (thaw func()) { return c.prom.Freeze() }

func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// Root is this module's folder.
func (c *Cluster) Root() string {
	root, err := clusterDir()
	if err != nil {
		return "test/cluster"
	}
	return root
}
