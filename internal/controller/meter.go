package controller

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/serin-dev/serin/internal/telemetry"
)

// meter serves /metrics: the rollouts' figures as they are in the newest
// passes, so that a series goes with its object, and what the libraries tell.
// The names are those of one machine; app is NAMESPACE/NAME.
type meter struct {
	c        *Controller
	registry *prometheus.Registry
	passTime prometheus.Histogram
	broken   *prometheus.CounterVec
}

type decisionKey struct{ what, author string }

var (
	leaderDesc   = prometheus.NewDesc("serin_leader", "1 while this process works; the others wait.", nil, nil)
	invalidDesc  = prometheus.NewDesc("serin_document_invalid", "1 while the newest document cannot be followed.", []string{"app"}, nil)
	decisionDesc = prometheus.NewDesc("serin_decisions_total", "Decisions told since the controller started.", []string{"app", "what", "author"}, nil)
	passDesc     = prometheus.NewDesc("serin_passes_total", "Passes since the controller started.", []string{"app", "result"}, nil)
	panicDesc    = prometheus.NewDesc("serin_panics_total", "Passes that ended in a mistake of Serin's own.", []string{"app"}, nil)
	lastDesc     = prometheus.NewDesc("serin_rollout_duration_seconds", "How long the last rollout took, by how it ended.", []string{"app", "outcome"}, nil)
)

func newMeter(c *Controller) *meter {
	m := &meter{
		c: c,
		passTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "serin_pass_duration_seconds", Help: "How long a pass took, from the first read to the last write.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "serin_invariant_violations_total", Help: "Decisions that were refused because they would have broken an invariant.",
		}, []string{"invariant"}),
	}
	m.registry = telemetry.NewRegistry(m, m.passTime, m.broken)
	return m
}

func (m *meter) took(d time.Duration)      { m.passTime.Observe(d.Seconds()) }
func (m *meter) violated(invariant string) { m.broken.WithLabelValues(invariant).Inc() }

// Describe sends nothing: what there is depends on the rollouts.
func (m *meter) Describe(chan<- *prometheus.Desc) {}

// Collect reads the newest passes.
func (m *meter) Collect(ch chan<- prometheus.Metric) {
	tell := telemetry.Sink(ch)
	tell.Info(m.c.o.Version)
	tell.Gauge(leaderDesc, telemetry.Truth(m.c.leads()))
	for _, a := range m.c.all() {
		app := a.key.String()
		a.mu.Lock()
		for k, n := range a.decided {
			tell.Count(decisionDesc, n, app, k.what, k.author)
		}
		for k, n := range a.passes {
			tell.Count(passDesc, n, app, k)
		}
		if a.panics > 0 {
			tell.Count(panicDesc, float64(a.panics), app)
		}
		tell.Gauge(invalidDesc, telemetry.Truth(a.invalid), app)
		a.mu.Unlock()
		v, p, ok := a.view()
		if !ok {
			continue
		}
		tell.Rollout(v, p.result.Seen.Workloads.Items)
		if n := len(v.History); n > 0 {
			last := v.History[n-1]
			tell.Gauge(lastDesc, last.Ended.Sub(last.Started).Seconds(), app, string(last.Result))
		}
	}
}

// serve answers on l until ctx ends.
func (m *meter) serve(ctx context.Context, l net.Listener) {
	if err := telemetry.Serve(ctx, l, prometheus.Gatherers{m.registry, prometheus.GathererFunc(m.libraries)}); err != nil {
		m.c.log.Error("/metrics ended", "err", err)
	}
}

// libraries are controller-runtime's and client-go's figures, without those
// that are ours already.
func (m *meter) libraries() ([]*dto.MetricFamily, error) {
	all, err := crmetrics.Registry.Gather()
	kept := all[:0]
	for _, f := range all {
		if n := f.GetName(); !strings.HasPrefix(n, "go_") && !strings.HasPrefix(n, "process_") {
			kept = append(kept, f)
		}
	}
	return kept, err
}
