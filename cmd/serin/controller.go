package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/serin-dev/serin/internal/controller"
	"github.com/serin-dev/serin/internal/metric/prometheus"
)

// controllerVerb is the host in a cluster. It is made here, and not among the
// other verbs, because they do without the cluster's client libraries.
func controllerVerb() *cobra.Command {
	var (
		o          controller.Options
		kubeconfig string
		kubectx    string
		scrape     []string
		prom       prometheus.Config
		verbose    bool
	)
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Watch the Rollouts of a cluster and carry them out",
		Long: `Watches the Rollouts of a cluster, and the Deployments and routes that they
are about, and carries them out: it writes the split, the replicas that the
split needs, and the Rollouts' status. docs/CLUSTER.md says what it watches and
which permissions it needs.

It runs in the cluster with the rights of its service account, or outside with
--kubeconfig. Several replicas agree on one that works with --leader-elect.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			o.Logger = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			ctrllog.SetLogger(logr.FromSlogHandler(o.Logger.Handler())) // for what the libraries say on their own
			o.Version = versionOf()
			if o.LeaseNamespace == "" {
				o.LeaseNamespace = os.Getenv("POD_NAMESPACE")
			}
			if prom.Address != "" {
				o.Prometheus = &prom
			}
			for i, s := range scrape {
				p, err := netip.ParsePrefix(s)
				if err != nil {
					return fmt.Errorf("--scrape-allow %d: %q is no address range such as 10.77.0.0/16", i+1, s)
				}
				o.Scrape = append(o.Scrape, p)
			}
			config, err := clusterConfig(kubeconfig, kubectx)
			if err != nil {
				return err
			}
			c, err := controller.New(config, o)
			if err != nil {
				return err
			}
			if a := c.MetricsAddr(); a != nil {
				o.Logger.Info("metrics", "url", fmt.Sprintf("http://%s/metrics", a))
			}
			return c.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file (default: the pod's service account, else $KUBECONFIG and ~/.kube/config)")
	f.StringVar(&kubectx, "context", "", "context of the kubeconfig")
	f.StringSliceVarP(&o.Namespaces, "namespace", "n", nil, "namespace to watch; may be repeated (default: all)")
	f.StringVar(&o.MetricsAddr, "metrics-addr", "", "address of /metrics, such as :8080 (default: none)")
	f.StringVar(&o.HealthAddr, "health-addr", "", "address of /healthz and /readyz, such as :8081 (default: none)")
	f.BoolVar(&o.LeaderElect, "leader-elect", false, "of several replicas one works: lease "+controller.LeaseName)
	f.StringVar(&o.LeaseNamespace, "lease-namespace", "", "namespace of the lease (default: $POD_NAMESPACE)")
	f.IntVar(&o.Workers, "workers", 16, "rollouts that are passed over at the same time")
	f.Float32Var(&o.QPS, "kube-api-qps", 200, "requests a second to the API server at most")
	f.IntVar(&o.Burst, "kube-api-burst", 400, "requests in a moment at most")
	f.DurationVar(&o.Settle, "settle", 0, "time that a route change needs to be in force, in place of the documents' (default: as they say)")
	f.DurationVar(&o.Engine.ReadTimeout, "read-timeout", 2*time.Second, "longest wait for one read of a pass")
	f.StringVar(&o.RecordDir, "record-dir", "", "folder for observation records, which serin replay reads (default: none)")
	f.StringVar(&prom.Address, "prometheus", "", "Prometheus that is asked for figures and for the documents' queries, such as http://prometheus.monitoring:9090 (default: none)")
	f.StringVar(&prom.CAFile, "prometheus-ca", "", "PEM file of who may sign its certificate")
	f.StringVar(&prom.CertFile, "prometheus-cert", "", "PEM file of the certificate that is shown to it")
	f.StringVar(&prom.KeyFile, "prometheus-key", "", "PEM file of that certificate's key")
	f.StringVar(&prom.ServerName, "prometheus-server-name", "", "name that its certificate is checked for (default: the address's)")
	f.StringVar(&prom.BearerFile, "prometheus-token-file", "", "file with the bearer token that it is asked with; read again when it changes")
	f.StringVar(&prom.User, "prometheus-user", "", "user that it is asked as")
	f.StringVar(&prom.PasswordFile, "prometheus-password-file", "", "file with that user's password; read again when it changes")
	f.StringVar(&prom.Tenant, "prometheus-tenant", "", "tenant, sent as X-Scope-OrgID")
	f.DurationVar(&prom.Every, "prometheus-every", 0, "how often one kind of figure is asked for at most (default 5s)")
	f.StringSliceVar(&scrape, "scrape-allow", nil, "address range of pods that may be asked for figures although no pod is usually there; may be repeated")
	f.BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// clusterConfig is the service account's in a pod, else a kubeconfig's.
func clusterConfig(path, context string) (*rest.Config, error) {
	if path == "" && context == "" {
		if config, err := rest.InClusterConfig(); err == nil {
			return config, nil
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	return config, nil
}
