package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	ctrl "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric/podscrape"
	"github.com/serin-dev/serin/internal/metric/prometheus"
	"github.com/serin-dev/serin/internal/rollout"
)

// Lease and its times: a leader that hangs is replaced within 6 s, and stops by
// itself after 4.
const (
	LeaseName     = "serin-controller"
	leaseDuration = 6 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = time.Second
)

// Priorities in the queue: the higher goes first.
const (
	atRest   = -100
	underWay = 0
	lowering = 100
)

// Controller is the host in a cluster.
type Controller struct {
	o       Options
	log     *slog.Logger
	config  *rest.Config
	mgr     manager.Manager
	client  client.Client // reads caches, with our own writes in them
	live    client.Reader // reads no cache
	direct  client.Client // for writes that nobody reads back
	watch   func(namespace string, selector labels.Selector, changed func()) podSource
	index   *index
	meter   *meter
	scraper *podscrape.Scraper
	prom    *prometheus.Reader // nil: no Prometheus
	rights  *rights
	runtime ctrl.Controller

	metrics net.Listener
	began   time.Time    // with the monotonic clock, which goes on while the process is stopped
	renewed atomic.Int64 // when the last renewal of the lease was asked for, since began; 0 = never

	mu    sync.Mutex
	apps  map[types.NamespacedName]*app
	queue queue
	run   context.Context // ends with Run

	decide engine.Policy              // tests: another policy than rollout.Decide
	trip   func(types.NamespacedName) // tests: called before each pass
}

// Scheme knows the kinds that are read as structs.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		v1alpha1.AddToScheme, corev1.AddToScheme, appsv1.AddToScheme, autoscalingv2.AddToScheme,
		discoveryv1.AddToScheme, eventsv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	return s
}

// New makes a controller for the cluster of config. Nothing is watched before
// Run; the addresses are listened on.
func New(config *rest.Config, o Options) (*Controller, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := &Controller{o: o, log: o.Logger, index: newIndex(), apps: map[types.NamespacedName]*app{}, run: context.Background(), decide: rollout.Decide}
	c.config = rest.CopyConfig(config)
	c.config.QPS, c.config.Burst = o.QPS, o.Burst
	if c.config.UserAgent == "" {
		c.config.UserAgent = "serin-controller/" + o.Version
	}
	// The lease is renewed by a client of its own: however busy the other one
	// is, it does not wait behind it.
	lease := rest.CopyConfig(c.config)
	lease.QPS, lease.Burst = 10, 20
	lease.UserAgent += " leader-election"
	c.began = time.Now()
	lease.Wrap(func(next http.RoundTripper) http.RoundTripper { return renewals{c, next} })

	quick := time.Second
	mgr, err := manager.New(c.config, manager.Options{
		Scheme: Scheme(),
		Logger: logr.FromSlogHandler(o.Logger.Handler()),
		Cache:  cacheOptions(o.Namespaces),
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},

		LeaderElection: o.LeaderElect, LeaderElectionConfig: lease,
		LeaderElectionID: LeaseName, LeaderElectionNamespace: o.LeaseNamespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration), RenewDeadline: new(renewDeadline), RetryPeriod: new(retryPeriod),

		Metrics:                 metricsserver.Options{BindAddress: "0"}, // served by the meter
		HealthProbeBindAddress:  o.HealthAddr,
		GracefulShutdownTimeout: &quick,
		Controller:              ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	c.mgr = mgr
	c.client, c.live, c.direct = newOwnClient(mgr.GetClient()), mgr.GetAPIReader(), mgr.GetClient()
	c.watch = func(namespace string, selector labels.Selector, changed func()) podSource {
		return &podWatch{
			config: c.config, client: mgr.GetHTTPClient(), scheme: mgr.GetScheme(), mapper: mgr.GetRESTMapper(),
			namespace: namespace, selector: selector, changed: changed,
		}
	}
	c.scraper = podscrape.New(podscrape.Options{Allow: o.Scrape, Log: c.log})
	if o.Prometheus != nil {
		asked := *o.Prometheus
		asked.Log = c.log
		if c.prom, err = prometheus.New(asked); err != nil {
			return nil, err
		}
	}
	c.rights = newRights(mgr.GetClient())
	c.meter = newMeter(c)
	if err := errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("caches", func(r *http.Request) error {
			ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
			defer cancel()
			if !mgr.GetCache().WaitForCacheSync(ctx) {
				return errors.New("the caches are not filled yet")
			}
			return nil
		}),
	); err != nil {
		return nil, err
	}
	if o.MetricsAddr != "" {
		if c.metrics, err = net.Listen("tcp", o.MetricsAddr); err != nil {
			return nil, fmt.Errorf("listening for /metrics: %w", err)
		}
	}
	return c, nil
}

// MetricsAddr is where /metrics is answered; nil if nowhere.
func (c *Controller) MetricsAddr() net.Addr {
	if c.metrics == nil {
		return nil
	}
	return c.metrics.Addr()
}

// Run works until ctx ends (nil) or the lease is lost (an error: the process
// has to end at once then). When ctx ends it saves the evidence of what is under
// way first, if it leads.
func (c *Controller) Run(ctx context.Context) error {
	// What works goes on until the evidence is saved.
	asked := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(asked))
	defer cancel()
	c.run = ctx
	runtime, err := ctrl.New("rollout", c.mgr, ctrl.Options{
		Reconciler:              c,
		MaxConcurrentReconciles: c.o.Workers,
		RecoverPanic:            new(true),
		EnableWarmup:            new(true),
	})
	if err != nil {
		return fmt.Errorf("making the controller: %w", err)
	}
	c.runtime = runtime
	sources, missing, err := c.sources()
	if err != nil {
		return err
	}
	sources = append(sources, source.Func(func(_ context.Context, q queue) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.queue = q
		return nil
	}))
	for _, s := range sources {
		if err := runtime.Watch(s); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		select {
		case <-asked.Done():
			c.farewell(ctx)
			cancel()
		case <-ctx.Done():
		}
	})
	if len(missing) > 0 {
		all.Go(func() { c.await(ctx, missing) })
	}
	if c.metrics != nil {
		all.Go(func() { c.meter.serve(ctx, c.metrics) })
	}
	c.log.Info("serin controller starts", "version", c.o.Version, "namespaces", c.o.Namespaces)
	err = c.mgr.Start(ctx)
	cancel()
	all.Wait()
	c.mu.Lock()
	apps := c.apps
	c.apps = map[types.NamespacedName]*app{}
	c.mu.Unlock()
	for _, a := range apps {
		a.close()
	}
	c.scraper.Close()
	if c.prom != nil {
		c.prom.Close()
	}
	if err != nil {
		return fmt.Errorf("the controller ended: %w", err)
	}
	return nil
}

// await adds the watches of kinds that the cluster gets later. It is the one
// thing that asks again and again, and only where something is missing.
func (c *Controller) await(ctx context.Context, missing []schema.GroupVersionKind) {
	c.log.Warn("the cluster does not know a kind that routes are made of; waiting for it", "kinds", fmt.Sprint(missing))
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	watched := map[schema.GroupVersionKind]bool{}
	for len(watched) < len(missing) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, k := range missing {
			there, err := c.has(k)
			if watched[k] || err != nil || !there {
				continue
			}
			if err := c.watchLater(k); err != nil {
				c.log.Warn("watching", "kind", k.Kind, "err", err)
				continue
			}
			watched[k] = true
		}
	}
}

// leads says whether this process is the one that works.
func (c *Controller) leads() bool {
	if c.mgr == nil {
		return false
	}
	select {
	case <-c.mgr.Elected():
		return true
	default:
		return false
	}
}

// app is the Rollout's memory; nil where there is none.
func (c *Controller) app(key types.NamespacedName) *app {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apps[key]
}

func (c *Controller) all() []*app {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*app, 0, len(c.apps))
	for _, a := range c.apps {
		out = append(out, a)
	}
	return out
}

// urgency is the priority of a Rollout's next pass: what may have to be taken
// back goes before what goes on, and that before what rests. Before the first
// pass it is as given.
func (c *Controller) urgency(key types.NamespacedName, otherwise int) int {
	if a := c.app(key); a != nil {
		return a.urgency(otherwise)
	}
	return otherwise
}

// urgencyIn is the same by the phase that a status tells.
func urgencyIn(p v1alpha1.Phase) int {
	switch p {
	case v1alpha1.PhaseRollingBack:
		return lowering
	case v1alpha1.PhaseIdle, "":
		return atRest
	}
	return underWay
}
