package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// meter serves /metrics: the gateway's figures, and the rollouts' as they are
// in the newest views. Label values are few: applications, phases, verdicts,
// kinds of decision and of author.
type meter struct {
	d         *Daemon
	registry  *prometheus.Registry
	mu        sync.Mutex
	decisions map[decisionKey]float64
	passes    map[passKey]float64
}

type decisionKey struct{ app, what, author string }

type passKey struct{ app, result string }

var (
	infoDesc     = prometheus.NewDesc("serin_info", "Always 1; says which serin this is.", []string{"version"}, nil)
	openDesc     = prometheus.NewDesc("serin_gateway_open", "1 once users' requests are accepted.", nil, nil)
	documentDesc = prometheus.NewDesc("serin_documents_in_force", "0 while the folder's documents are not understood and older ones are in force.", nil, nil)
	weightDesc   = prometheus.NewDesc("serin_weight_ratio", "The canary's share: set as decided, seen as counted since.", []string{"app", "kind"}, nil)
	phaseDesc    = prometheus.NewDesc("serin_phase", "1 for the phase that the rollout is in.", []string{"app", "phase"}, nil)
	verdictDesc  = prometheus.NewDesc("serin_verdict", "1 for the judge's last verdict.", []string{"app", "verdict"}, nil)
	evidenceDesc = prometheus.NewDesc("serin_evidence_ratio", "Evidence as a share of what is needed.", []string{"app", "towards"}, nil)
	exposedDesc  = prometheus.NewDesc("serin_requests_exposed", "Requests that the canary of this rollout has answered.", []string{"app"}, nil)
	harmedDesc   = prometheus.NewDesc("serin_requests_harmed", "Those of them that stable would have answered well.", []string{"app"}, nil)
	stalledDesc  = prometheus.NewDesc("serin_stalled", "1 while a person is needed.", []string{"app"}, nil)
	replicasDesc = prometheus.NewDesc("serin_replicas", "Replicas of a version.", []string{"app", "version", "kind"}, nil)
	decisionDesc = prometheus.NewDesc("serin_decisions_total", "Decisions told since the daemon started.", []string{"app", "what", "author"}, nil)
	passDesc     = prometheus.NewDesc("serin_passes_total", "Passes since the daemon started.", []string{"app", "result"}, nil)
)

var allPhases = []rollout.Phase{rollout.Idle, rollout.Preparing, rollout.Progressing, rollout.Promoting, rollout.Baking, rollout.RollingBack}

var allVerdicts = []analysis.Verdict{analysis.Unavailable, analysis.Undecided, analysis.Pass, analysis.Fail}

func newMeter(d *Daemon) *meter {
	m := &meter{d: d, registry: prometheus.NewRegistry(), decisions: map[decisionKey]float64{}, passes: map[passKey]float64{}}
	m.registry.MustRegister(d.gw.Collector(), m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// decided counts decisions, with authors as kinds: names would be unbounded.
func (m *meter) decided(app string, events []rollout.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		author := e.By
		if author != "rule" && author != "deadline" && author != "git" {
			author = "person"
		}
		m.decisions[decisionKey{app, string(e.What), author}]++
	}
}

func (m *meter) passed(app string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := passKey{app, "ok"}
	if err != nil {
		k.result = "trouble"
	}
	m.passes[k]++
}

// Describe sends nothing: what there is depends on the applications.
func (m *meter) Describe(chan<- *prometheus.Desc) {}

// Collect reads the newest views.
func (m *meter) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		if x, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...); err == nil {
			ch <- x
		}
	}
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		if x, err := prometheus.NewConstMetric(d, prometheus.CounterValue, v, labels...); err == nil {
			ch <- x
		}
	}
	gauge(infoDesc, 1, m.d.o.Version)
	gauge(openDesc, truth(m.d.isOpen()))
	m.d.mu.Lock()
	good := m.d.problem == nil
	m.d.mu.Unlock()
	gauge(documentDesc, truth(good))
	views, _ := m.d.List(context.Background())
	for _, v := range views {
		app := v.Name
		if v.Namespace != "" {
			app = v.Namespace + "/" + v.Name
		}
		gauge(weightDesc, float64(v.WeightSet)/float64(rollout.Whole), app, "set")
		if v.WeightSeen != nil {
			gauge(weightDesc, *v.WeightSeen, app, "seen")
		}
		for _, p := range allPhases {
			gauge(phaseDesc, truth(v.Phase == p), app, string(p))
		}
		for _, x := range allVerdicts {
			gauge(verdictDesc, truth(v.Verdict == x), app, x.String())
		}
		gauge(evidenceDesc, v.Evidence.Rollback, app, "rollback")
		gauge(evidenceDesc, v.Evidence.Advance, app, "advance")
		gauge(exposedDesc, v.Exposed, app)
		gauge(harmedDesc, v.Harmed, app)
		gauge(stalledDesc, truth(v.Stalled != ""), app)
		if a := m.d.app(app); a != nil {
			a.mu.Lock()
			s := a.seen
			a.mu.Unlock()
			if s == nil {
				continue
			}
			asked, ready := map[string]float64{}, map[string]float64{}
			for _, w := range s.result.Seen.Workloads.Items {
				asked[w.Revision.Label()] += float64(w.Replicas)
				ready[w.Revision.Label()] += float64(w.Ready)
			}
			for label, n := range asked {
				gauge(replicasDesc, n, app, label, "asked")
				gauge(replicasDesc, ready[label], app, label, "ready")
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.decisions {
		count(decisionDesc, n, k.app, k.what, k.author)
	}
	for k, n := range m.passes {
		count(passDesc, n, k.app, k.result)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// serve answers on l until ctx ends; nil serves nothing.
func (m *meter) serve(ctx context.Context, l net.Listener) {
	if l == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	end := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer end()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		m.d.log.Error("/metrics ended", "err", err)
	}
}
