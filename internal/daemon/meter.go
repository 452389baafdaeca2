package daemon

import (
	"context"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/telemetry"
)

// meter serves /metrics: the gateway's figures, and the rollouts' as they are
// in the newest views.
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
	openDesc     = prometheus.NewDesc("serin_gateway_open", "1 once users' requests are accepted.", nil, nil)
	documentDesc = prometheus.NewDesc("serin_documents_in_force", "0 while the folder's documents are not understood and older ones are in force.", nil, nil)
	decisionDesc = prometheus.NewDesc("serin_decisions_total", "Decisions told since the daemon started.", []string{"app", "what", "author"}, nil)
	passDesc     = prometheus.NewDesc("serin_passes_total", "Passes since the daemon started.", []string{"app", "result"}, nil)
)

func newMeter(d *Daemon) *meter {
	m := &meter{d: d, decisions: map[decisionKey]float64{}, passes: map[passKey]float64{}}
	m.registry = telemetry.NewRegistry(d.gw.Collector(), m)
	return m
}

// decided counts decisions.
func (m *meter) decided(app string, events []rollout.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		m.decisions[decisionKey{app, string(e.What), telemetry.Author(e.By)}]++
	}
}

func (m *meter) passed(app string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passes[passKey{app, telemetry.Result(err)}]++
}

// Describe sends nothing: what there is depends on the applications.
func (m *meter) Describe(chan<- *prometheus.Desc) {}

// Collect reads the newest views.
func (m *meter) Collect(ch chan<- prometheus.Metric) {
	tell := telemetry.Sink(ch)
	tell.Info(m.d.o.Version)
	tell.Gauge(openDesc, telemetry.Truth(m.d.isOpen()))
	m.d.mu.Lock()
	good := m.d.problem == nil
	m.d.mu.Unlock()
	tell.Gauge(documentDesc, telemetry.Truth(good))
	views, _ := m.d.List(context.Background())
	for _, v := range views {
		tell.Rollout(v, m.d.workloads(httpapi.Ref{Namespace: v.Namespace, Name: v.Name}))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.decisions {
		tell.Count(decisionDesc, n, k.app, k.what, k.author)
	}
	for k, n := range m.passes {
		tell.Count(passDesc, n, k.app, k.result)
	}
}

// workloads are an application's versions as the last pass saw them.
func (d *Daemon) workloads(ref httpapi.Ref) []rollout.Workload {
	a := d.app(ref.String())
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		return nil
	}
	return a.seen.result.Seen.Workloads.Items
}

// serve answers on l until ctx ends; nil serves nothing.
func (m *meter) serve(ctx context.Context, l net.Listener) {
	if l == nil {
		return
	}
	if err := telemetry.Serve(ctx, l, m.registry); err != nil {
		m.d.log.Error("/metrics ended", "err", err)
	}
}
