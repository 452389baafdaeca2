package controller

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric/prometheus"
)

// Options of a Controller. The zero value watches all namespaces, leads without
// asking, and serves neither metrics nor health.
type Options struct {
	Version string
	Logger  *slog.Logger

	// Namespaces that are watched; empty: all of them.
	Namespaces []string

	// MetricsAddr is where /metrics is served; HealthAddr where /healthz and
	// /readyz are. Empty: nowhere.
	MetricsAddr, HealthAddr string

	// LeaderElect: of several replicas one works. LeaseNamespace holds the lease.
	LeaderElect    bool
	LeaseNamespace string

	// Workers is how many rollouts may be passed over at once. 16.
	Workers int
	// QPS bounds our requests a second, Burst a moment's. 200 and 400: a start
	// with many Rollouts must not keep a write that lowers exposure waiting; the
	// API server's own fairness comes on top.
	QPS   float32
	Burst int

	// Settle stands in for the settle time of every route; 0: the documents'.
	Settle time.Duration

	// Scrape are address ranges in which pods may be asked for figures although
	// no pod is usually there (a cluster on one machine).
	Scrape []netip.Prefix

	// Prometheus is asked for figures and for the documents' own queries; nil:
	// there is none.
	Prometheus *prometheus.Config

	// RecordDir, where given, gets an observation record of every rollout.
	RecordDir string
	// RecordBytes bounds one of them. 16 MiB.
	RecordBytes int64

	// Engine tunes the passes; Policy is the controller's own business.
	Engine engine.Options
}

func (o *Options) complete() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = 16
	}
	if o.QPS == 0 {
		o.QPS = 200
	}
	if o.Burst == 0 {
		o.Burst = 400
	}
	if o.RecordBytes == 0 {
		o.RecordBytes = 16 << 20
	}
	var errs []error
	for _, n := range o.Namespaces {
		for _, problem := range validation.IsDNS1123Label(n) {
			errs = append(errs, fmt.Errorf("namespace %q: %s", n, problem))
		}
	}
	if o.LeaderElect && o.LeaseNamespace == "" {
		errs = append(errs, errors.New("leader election needs a namespace for its lease: --lease-namespace, or POD_NAMESPACE in the environment"))
	}
	if o.Prometheus != nil {
		if err := o.Prometheus.Check(); err != nil {
			errs = append(errs, fmt.Errorf("prometheus: %w", err))
		}
	}
	if o.Settle < 0 {
		errs = append(errs, fmt.Errorf("settle %s: a time of at least 0 is meant", o.Settle))
	}
	return errors.Join(errs...)
}
