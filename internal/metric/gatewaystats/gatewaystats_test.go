package gatewaystats

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const v1 = rollout.Revision("v1@a")

// world is a real gateway with one version, whose endpoints the test moves.
type world struct {
	t        *testing.T
	gw       *gateway.Gateway
	replicas []Replica
	source   *Source
	n        int64
}

func newWorld(t *testing.T) *world { return newWorldOf(t, gateway.Options{Seed: 1}) }

func newWorldOf(t *testing.T, o gateway.Options) *world {
	w := &world{t: t, gw: gateway.New(o)}
	t.Cleanup(func() { _ = w.gw.Close() })
	w.source = New(Options{
		Stats: w.gw.Stats, Service: func() string { return "my-app" },
		Versions: func() map[rollout.Revision]string { return map[rollout.Revision]string{v1: "v1"} },
		Replicas: func() map[rollout.Revision][]Replica { return map[rollout.Revision][]Replica{v1: w.replicas} },
	})
	return w
}

func (w *world) route(endpoints ...gateway.Endpoint) {
	w.t.Helper()
	w.n++
	err := w.gw.Swap(gateway.Table{Number: w.n, Services: []gateway.Service{{
		Name: "my-app", Default: true,
		Rules:    []gateway.Rule{{Split: []gateway.Destination{{Version: "v1", Weight: gateway.FullWeight}}}},
		Versions: []gateway.Version{{Name: "v1", Endpoints: endpoints}},
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// backend fails every request to /bad.
func (w *world) backend(replica string) gateway.Endpoint {
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			rw.WriteHeader(http.StatusInternalServerError)
		}
		io.WriteString(rw, "hello")
	}))
	w.t.Cleanup(s.Close)
	return gateway.Endpoint{Replica: replica, Address: strings.TrimPrefix(s.URL, "http://")}
}

func (w *world) ask(n int, path string) {
	for range n {
		w.gw.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://my-app"+path, nil))
	}
}

func (w *world) look() map[string]analysis.Pod {
	w.t.Helper()
	s, err := w.source.Look(context.Background(), v1, "")
	if err != nil {
		w.t.Fatal(err)
	}
	if s.Canary != nil {
		w.t.Errorf("a canary where there is none: %+v", s.Canary)
	}
	out := map[string]analysis.Pod{}
	for _, p := range s.Stable {
		out[p.Name] = p
	}
	return out
}

func TestEveryRequestIsCountedOnceForItsReplica(t *testing.T) {
	w := newWorld(t)
	started := time.Now()
	w.replicas = []Replica{{Name: "v1-0", Started: started, CPUSeconds: 1.5, MemoryBytes: 1 << 20, Restarts: 2}, {Name: "v1-1", Started: started}}
	w.route(w.backend("v1-0"), w.backend("v1-1"))
	if p := w.look()["v1-0"]; p.Has&analysis.HasRequests == 0 || p.Requests != 0 {
		t.Errorf("before any request: %+v; want a measured zero", p)
	}
	w.ask(30, "/")
	w.ask(10, "/bad")
	pods := w.look()
	a, b := pods["v1-0"], pods["v1-1"]
	if a.Requests+b.Requests != 40 || a.Errors+b.Errors != 10 || a.Requests == 0 || b.Requests == 0 {
		t.Errorf("counted %v and %v requests, %v and %v errors; want 40 and 10 over both", a.Requests, b.Requests, a.Errors, b.Errors)
	}
	if n := len(a.Latency.Count); n == 0 || n != len(a.Latency.LE) || a.Latency.Count[n-1] != a.Requests {
		t.Errorf("histogram %+v of %v requests", a.Latency, a.Requests)
	}
	if a.CPUSeconds != 1.5 || a.MemoryBytes != 1<<20 || a.Restarts != 2 || !a.Started.Equal(started) {
		t.Errorf("%+v", a)
	}
	if b.Has&(analysis.HasCPU|analysis.HasMemory) != 0 {
		t.Errorf("%+v: what was not measured is said to be", b)
	}
	if again := w.look()["v1-0"]; again.Requests != a.Requests {
		t.Errorf("looking twice counts twice: %v, %v", a.Requests, again.Requests)
	}
}

// TestCountersOutliveARestart: the replica's process crashes and comes back on
// another port. Nothing that it counted is lost, and nothing falls.
func TestCountersOutliveARestart(t *testing.T) {
	w := newWorld(t)
	w.replicas = []Replica{{Name: "v1-0", Started: time.Now()}}
	w.route(w.backend("v1-0"))
	w.ask(5, "/")
	w.look()
	w.ask(7, "/bad") // the last words before the crash, after the last look
	w.route()        // crashed: no endpoint
	if p := w.look()["v1-0"]; p.Requests != 12 || p.Errors != 7 {
		t.Errorf("%v requests, %v errors; want what it did before it crashed", p.Requests, p.Errors)
	}
	w.route(w.backend("v1-0"))
	w.ask(3, "/")
	if p := w.look()["v1-0"]; p.Requests != 15 || p.Errors != 7 {
		t.Errorf("%v requests, %v errors; want 15 and 7", p.Requests, p.Errors)
	}
}

func TestNotRoutedIsAnError(t *testing.T) {
	w := newWorld(t)
	w.source.o.Service = func() string { return "" }
	if _, err := w.source.Look(context.Background(), v1, ""); err == nil {
		t.Error("a look that gave nothing is no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.source.Look(ctx, v1, ""); err == nil {
		t.Error("a context that is done is no error")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	w := newWorldOf(t, gateway.Options{KeepGone: time.Nanosecond})
	for range 50 {
		w.replicas = []Replica{{Name: "r" + time.Now().Format("150405.000000000")}}
		w.route(w.backend(w.replicas[0].Name))
		w.ask(1, "/")
		w.look()
	}
	w.route()
	w.route()
	w.replicas = nil
	w.look()
	if len(w.source.sums) > 5 {
		t.Errorf("%d replicas are remembered of which nothing is left", len(w.source.sums))
	}
}

// TestANameUsedAgain: a version that is tried again has replicas of the names
// that its first try had. What those counted is not theirs.
func TestANameUsedAgain(t *testing.T) {
	w := newWorld(t)
	w.replicas = []Replica{{Name: "v1-0", Started: time.Now()}}
	w.route(w.backend("v1-0"))
	w.ask(20, "/bad")
	w.look()
	w.route()
	w.replicas = nil
	w.look()
	w.replicas = []Replica{{Name: "v1-0", Started: time.Now()}}
	if p := w.look()["v1-0"]; p.Requests != 0 || p.Errors != 0 {
		t.Errorf("it starts with %v requests and %v errors of the one before", p.Requests, p.Errors)
	}
	w.route(w.backend("v1-0"))
	w.ask(3, "/")
	if p := w.look()["v1-0"]; p.Requests != 3 || p.Errors != 0 {
		t.Errorf("%v requests, %v errors; want its own 3", p.Requests, p.Errors)
	}
}
