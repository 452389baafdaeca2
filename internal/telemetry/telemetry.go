// Package telemetry writes what both hosts tell Prometheus of a rollout, under the
// same names and labels, and serves it.
//
// A host is a [prometheus.Collector] that reads its newest views whenever it is
// asked: nothing is remembered here, so a rollout's series go with it. What
// only one host knows (its gateway, its lease) are series of its own, and so
// are the counters, which begin with the host's process.
//
// Label values are few, by construction: rollouts, phases, verdicts, versions
// that are there, kinds of decision and of author ([Author]); never a name that
// a person chose for themselves.
//
//	func (m *myHost) Collect(ch chan<- prometheus.Metric) {
//		tell := telemetry.Sink(ch)
//		tell.Info(version)
//		for _, v := range m.views() {
//			tell.Rollout(v, m.workloads(v))
//		}
//	}
package telemetry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

var (
	infoDesc     = prometheus.NewDesc("serin_info", "Always 1; says which serin this is.", []string{"version"}, nil)
	weightDesc   = prometheus.NewDesc("serin_weight_ratio", "The canary's share: set as decided, seen as counted since.", []string{"app", "kind"}, nil)
	phaseDesc    = prometheus.NewDesc("serin_phase", "1 for the phase that the rollout is in.", []string{"app", "phase"}, nil)
	verdictDesc  = prometheus.NewDesc("serin_verdict", "1 for the judge's last verdict.", []string{"app", "verdict"}, nil)
	evidenceDesc = prometheus.NewDesc("serin_evidence_ratio", "Evidence as a share of what is needed.", []string{"app", "towards"}, nil)
	exposedDesc  = prometheus.NewDesc("serin_requests_exposed", "Requests that the canary of this rollout has answered.", []string{"app"}, nil)
	harmedDesc   = prometheus.NewDesc("serin_requests_harmed", "Those of them that stable would have answered well.", []string{"app"}, nil)
	stalledDesc  = prometheus.NewDesc("serin_stalled", "1 while a person is needed.", []string{"app"}, nil)
	replicasDesc = prometheus.NewDesc("serin_replicas", "Replicas of a version.", []string{"app", "version", "kind"}, nil)
)

var (
	phases   = []rollout.Phase{rollout.Idle, rollout.Preparing, rollout.Progressing, rollout.Promoting, rollout.Baking, rollout.RollingBack}
	verdicts = []analysis.Verdict{analysis.Unavailable, analysis.Undecided, analysis.Pass, analysis.Fail}
)

// Sink takes series, one value each. One whose labels Prometheus refuses is
// left out, and the others are told.
type Sink chan<- prometheus.Metric

// Gauge tells a value that goes up and down.
func (s Sink) Gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.send(prometheus.GaugeValue, d, v, labels)
}

// Count tells a value that only goes up.
func (s Sink) Count(d *prometheus.Desc, v float64, labels ...string) {
	s.send(prometheus.CounterValue, d, v, labels)
}

func (s Sink) send(kind prometheus.ValueType, d *prometheus.Desc, v float64, labels []string) {
	if x, err := prometheus.NewConstMetric(d, kind, v, labels...); err == nil {
		s <- x
	}
}

// Info tells which serin this is.
func (s Sink) Info(version string) { s.Gauge(infoDesc, 1, version) }

// Rollout tells how a rollout stands; of one whose saved state cannot be read
// nothing but that it needs a person. workloads are the versions as they were
// last seen.
func (s Sink) Rollout(v httpapi.RolloutView, workloads []rollout.Workload) {
	app := httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String()
	if httpapi.Unreadable(v) {
		s.Gauge(stalledDesc, 1, app) // the rest is not known
		return
	}
	s.Gauge(weightDesc, float64(v.WeightSet)/float64(rollout.Whole), app, "set")
	if v.WeightSeen != nil {
		s.Gauge(weightDesc, *v.WeightSeen, app, "seen")
	}
	for _, p := range phases {
		s.Gauge(phaseDesc, Truth(v.Phase == p), app, string(p))
	}
	for _, x := range verdicts {
		s.Gauge(verdictDesc, Truth(v.Verdict == x), app, x.String())
	}
	s.Gauge(evidenceDesc, v.Evidence.Rollback, app, "rollback")
	s.Gauge(evidenceDesc, v.Evidence.Advance, app, "advance")
	s.Gauge(exposedDesc, v.Exposed, app)
	s.Gauge(harmedDesc, v.Harmed, app)
	s.Gauge(stalledDesc, Truth(v.Stalled != ""), app)
	asked, ready := map[string]float64{}, map[string]float64{}
	for _, w := range workloads { // two revisions may have one label
		asked[w.Revision.Label()] += float64(w.Replicas)
		ready[w.Revision.Label()] += float64(w.Ready)
	}
	for label, n := range asked {
		s.Gauge(replicasDesc, n, app, label, "asked")
		s.Gauge(replicasDesc, ready[label], app, label, "ready")
	}
}

// Truth is 1 for true, and 0.
func Truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Author is who made a decision, as a label: a person's name would be one of
// many.
func Author(by string) string {
	switch by {
	case "rule", "deadline", "git":
		return by
	}
	return "person"
}

// Result is how a pass ended, as a label.
func Result(err error) string {
	if err != nil {
		return "trouble"
	}
	return "ok"
}

// NewRegistry holds a host's collectors, and what the Go runtime and the
// operating system tell of the process.
func NewRegistry(host ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(host...)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Serve answers GET /metrics on l until ctx ends, which is no error.
func Serve(ctx context.Context, l net.Listener, from prometheus.Gatherer) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	end := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer end()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
