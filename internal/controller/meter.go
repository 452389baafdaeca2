package controller

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
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
	infoDesc     = prometheus.NewDesc("serin_info", "Always 1; says which serin this is.", []string{"version"}, nil)
	leaderDesc   = prometheus.NewDesc("serin_leader", "1 while this process works; the others wait.", nil, nil)
	weightDesc   = prometheus.NewDesc("serin_weight_ratio", "The canary's share: set as decided, seen as counted since.", []string{"app", "kind"}, nil)
	phaseDesc    = prometheus.NewDesc("serin_phase", "1 for the phase that the rollout is in.", []string{"app", "phase"}, nil)
	verdictDesc  = prometheus.NewDesc("serin_verdict", "1 for the judge's last verdict.", []string{"app", "verdict"}, nil)
	evidenceDesc = prometheus.NewDesc("serin_evidence_ratio", "Evidence as a share of what is needed.", []string{"app", "towards"}, nil)
	exposedDesc  = prometheus.NewDesc("serin_requests_exposed", "Requests that the canary of this rollout has answered.", []string{"app"}, nil)
	harmedDesc   = prometheus.NewDesc("serin_requests_harmed", "Those of them that stable would have answered well.", []string{"app"}, nil)
	stalledDesc  = prometheus.NewDesc("serin_stalled", "1 while a person is needed.", []string{"app"}, nil)
	invalidDesc  = prometheus.NewDesc("serin_document_invalid", "1 while the newest document cannot be followed.", []string{"app"}, nil)
	replicasDesc = prometheus.NewDesc("serin_replicas", "Replicas of a version.", []string{"app", "version", "kind"}, nil)
	decisionDesc = prometheus.NewDesc("serin_decisions_total", "Decisions told since the controller started.", []string{"app", "what", "author"}, nil)
	passDesc     = prometheus.NewDesc("serin_passes_total", "Passes since the controller started.", []string{"app", "result"}, nil)
	panicDesc    = prometheus.NewDesc("serin_panics_total", "Passes that ended in a mistake of Serin's own.", []string{"app"}, nil)
	lastDesc     = prometheus.NewDesc("serin_rollout_duration_seconds", "How long the last rollout took, by how it ended.", []string{"app", "outcome"}, nil)
)

var allPhases = []rollout.Phase{rollout.Idle, rollout.Preparing, rollout.Progressing, rollout.Promoting, rollout.Baking, rollout.RollingBack}

var allVerdicts = []analysis.Verdict{analysis.Unavailable, analysis.Undecided, analysis.Pass, analysis.Fail}

func newMeter(c *Controller) *meter {
	m := &meter{
		c: c, registry: prometheus.NewRegistry(),
		passTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "serin_pass_duration_seconds", Help: "How long a pass took, from the first read to the last write.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		broken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "serin_invariant_violations_total", Help: "Decisions that were refused because they would have broken an invariant.",
		}, []string{"invariant"}),
	}
	m.registry.MustRegister(m, m.passTime, m.broken, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *meter) took(d time.Duration)      { m.passTime.Observe(d.Seconds()) }
func (m *meter) violated(invariant string) { m.broken.WithLabelValues(invariant).Inc() }

// Describe sends nothing: what there is depends on the rollouts.
func (m *meter) Describe(chan<- *prometheus.Desc) {}

// Collect reads the newest passes.
func (m *meter) Collect(ch chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, d *prometheus.Desc, v float64, labels ...string) {
		if x, err := prometheus.NewConstMetric(d, kind, v, labels...); err == nil {
			ch <- x
		}
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { send(prometheus.GaugeValue, d, v, labels...) }
	count := func(d *prometheus.Desc, v float64, labels ...string) { send(prometheus.CounterValue, d, v, labels...) }
	gauge(infoDesc, 1, m.c.o.Version)
	gauge(leaderDesc, truth(m.c.leads()))
	for _, a := range m.c.all() {
		app := a.key.String()
		a.mu.Lock()
		for k, n := range a.decided {
			count(decisionDesc, n, app, k.what, k.author)
		}
		for k, n := range a.passes {
			count(passDesc, n, app, k)
		}
		if a.panics > 0 {
			count(panicDesc, float64(a.panics), app)
		}
		gauge(invalidDesc, truth(a.invalid), app)
		a.mu.Unlock()
		v, p, ok := a.view()
		if !ok {
			continue
		}
		gauge(weightDesc, float64(v.WeightSet)/float64(rollout.Whole), app, "set")
		if v.WeightSeen != nil {
			gauge(weightDesc, *v.WeightSeen, app, "seen")
		}
		for _, x := range allPhases {
			gauge(phaseDesc, truth(v.Phase == x), app, string(x))
		}
		for _, x := range allVerdicts {
			gauge(verdictDesc, truth(v.Verdict == x), app, x.String())
		}
		gauge(evidenceDesc, v.Evidence.Rollback, app, "rollback")
		gauge(evidenceDesc, v.Evidence.Advance, app, "advance")
		gauge(exposedDesc, v.Exposed, app)
		gauge(harmedDesc, v.Harmed, app)
		gauge(stalledDesc, truth(v.Stalled != ""), app)
		if n := len(v.History); n > 0 {
			last := v.History[n-1]
			gauge(lastDesc, last.Ended.Sub(last.Started).Seconds(), app, string(last.Result))
		}
		asked, ready := map[string]float64{}, map[string]float64{}
		for _, w := range p.result.Seen.Workloads.Items {
			asked[w.Revision.Label()] += float64(w.Replicas)
			ready[w.Revision.Label()] += float64(w.Ready)
		}
		for label, n := range asked {
			gauge(replicasDesc, n, app, label, "asked")
			gauge(replicasDesc, ready[label], app, label, "ready")
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// serve answers on l until ctx ends.
func (m *meter) serve(ctx context.Context, l net.Listener) {
	mux := http.NewServeMux()
	all := prometheus.Gatherers{m.registry, prometheus.GathererFunc(m.libraries)}
	mux.Handle("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	end := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer end()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
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
