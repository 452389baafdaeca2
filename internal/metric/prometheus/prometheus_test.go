package prometheus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	all := map[string]*exporter{"a": newExporter(t), "b": newExporter(t), "c": newExporter(t)}
	s := run(t, job("pods", all, nil))
	enginetest.TestSamples(t, func(t *testing.T) enginetest.SamplesFixture {
		p := &pods{}
		p.add(v1_, "a", "b")
		p.add(v2_, "c")
		for _, e := range all {
			e.wait(t, 1)
		}
		src := reader(t, Config{Address: s.URL}).For("shop", p)
		return enginetest.SamplesFixture{Samples: src, Stable: v1_, Canary: v2_, Step: func() {
			for _, e := range all {
				e.count("200", 3)
			}
			for _, e := range all {
				e.wait(t, 1)
			}
		}}
	})
}

// next looks until there is something newer.
func next(t testing.TB, s engine.Samples) engine.Sampled {
	t.Helper()
	got, err := tryNext(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryNext(t testing.TB, s engine.Samples) (engine.Sampled, error) {
	t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		got, err := s.Look(context.Background(), v1_, v2_)
		if !errors.Is(err, engine.ErrUnchanged) {
			return got, err
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nothing newer for a minute")
		}
	}
}

// until looks until what is seen is as it should be.
func until(t testing.TB, s engine.Samples, what string, holds func(engine.Sampled, error) bool) {
	t.Helper()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	var got engine.Sampled
	var err error
	for deadline := time.After(time.Minute); ; {
		got, err = s.Look(context.Background(), v1_, v2_)
		if !errors.Is(err, engine.ErrUnchanged) && holds(got, err) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not so: %s; last %+v, %v", what, got, err)
		}
	}
}

func TestRealScrapes(t *testing.T) {
	t.Parallel()
	one, two, idle, other := newExporter(t), newExporter(t), newExporter(t), newExporter(t)
	node := newExporter(t)
	one.count("200", 90)
	one.count("503", 10)
	two.count("200", 40)
	other.count("200", 7777) // a pod of the same name in another namespace
	node.set(strings.Join([]string{
		`container_cpu_usage_seconds_total{namespace="shop",pod="one",container="app",image="a"} 10`,
		`container_cpu_usage_seconds_total{namespace="shop",pod="one",container="istio-proxy",image="p"} 2`,
		`container_cpu_usage_seconds_total{namespace="shop",pod="one",container="POD",image="x"} 100`,
		`container_cpu_usage_seconds_total{namespace="shop",pod="one"} 112`,
		`container_memory_working_set_bytes{namespace="shop",pod="one",container="app",image="a"} 5e7`,
		`container_memory_working_set_bytes{namespace="shop",pod="one"} 9e7`, ""}, "\n"), false)
	two.set("process_cpu_seconds_total 3\nprocess_resident_memory_bytes 4e7\n", false)
	targets := map[string]*exporter{"one": one, "two": two, "idle": idle}
	jobs := job("pods", targets, nil) +
		job("again", map[string]*exporter{"one": one}, nil) + // scraped twice, counted once
		fmt.Sprintf("- job_name: elsewhere\n  static_configs:\n  - {targets: [%q], labels: {namespace: other, pod: one}}\n", other.target()) +
		fmt.Sprintf("- job_name: cadvisor\n  honor_labels: true\n  static_configs: [{targets: [%q]}]\n", node.target())
	s := run(t, jobs)
	p := &pods{}
	p.add(v1_, "one", "idle")
	p.add(v2_, "two")
	p.list[v1_][0].Restarts = 4
	for _, e := range []*exporter{one, two, idle, node} {
		e.wait(t, 2)
	}
	r := reader(t, Config{Address: s.URL})
	src := r.For("shop", p)
	var got engine.Sampled
	until(t, src, "all three pods have figures", func(g engine.Sampled, err error) bool {
		got = g
		return err == nil && src.Last().Figures == 3 && g.Stable[0].Has&analysis.HasCPU != 0
	})
	all := analysis.HasRequests | analysis.HasErrors | analysis.HasLatency | analysis.HasCPU | analysis.HasMemory | analysis.HasRestarts
	if x := got.Stable[0]; x.Has != all || x.Name != "one@prometheus" || x.Requests != 100 || x.Errors != 10 || x.CPUSeconds != 12 || x.MemoryBytes != 5e7 || x.Restarts != 4 ||
		fmt.Sprint(x.Latency) != "{[5 50 500] [50 100 100]}" {
		t.Errorf("one: %+v", x)
	}
	if x := got.Stable[1]; x.Has&(analysis.HasRequests|analysis.HasErrors|analysis.HasLatency) == 0 || x.Requests != 0 || len(x.Latency.LE) != 3 {
		t.Errorf("the idle one answers, and has counted nothing: %+v", x)
	}
	if x := got.Canary[0]; x.Requests != 40 || x.Errors != 0 || x.CPUSeconds != 3 || x.MemoryBytes != 4e7 {
		t.Errorf("two: %+v", x)
	}
	if l := src.Last(); l.Names != "istio" || l.Interval < 100*time.Millisecond || l.Interval > 2*time.Second || len(l.Problems) != 0 {
		t.Errorf("summary: %+v", l)
	}

	// A pod whose scrape fails is left out; what Kubernetes knows of it stays.
	two.set("", true)
	until(t, src, "two is left out", func(g engine.Sampled, err error) bool {
		return err == nil && g.Canary[0].Has == analysis.HasRestarts && g.Stable[0].Requests == 100
	})
	// Well again it goes on where it was.
	two.set("", false)
	two.count("200", 1)
	until(t, src, "two is back", func(g engine.Sampled, err error) bool { return err == nil && g.Canary[0].Requests == 41 })
	// A pod that is not scraped at all, alone: nothing, in words.
	p.list[v1_], p.list[v2_] = nil, nil
	p.add(v1_, "nobody")
	until(t, src, "there is nothing", func(_ engine.Sampled, err error) bool {
		var e *Error
		return errors.As(err, &e) && (e.Fault == NoSeries || e.Fault == Stale)
	})
}

// TestTheJudgeSeesABadCanary: through a real Prometheus, judged by the real
// judge.
func TestTheJudgeSeesABadCanary(t *testing.T) {
	t.Parallel()
	good, bad := newExporter(t), newExporter(t)
	s := run(t, job("pods", map[string]*exporter{"good": good, "bad": bad}, nil))
	p := &pods{}
	p.add(v1_, "good")
	p.add(v2_, "bad")
	good.wait(t, 2)
	bad.wait(t, 2)
	src := reader(t, Config{Address: s.URL}).For("shop", p)
	judge := analysis.New(analysis.Config{Compare: true, ErrorRate: &analysis.RateRule{WorseBy: 0.005}, MinRequests: 200, FalseRollback: 0.01})
	now := time.Now()
	for i := range 40 {
		good.count("200", 190)
		bad.count("200", 5)
		bad.count("503", 5)
		got := next(t, src)
		now = now.Add(time.Second)
		r := judge.Look(analysis.Look{Time: now, Stable: string(v1_), Canary: string(v2_), Live: true, Weight: 0.05, NextWeight: 0.25, StablePods: got.Stable, CanaryPods: got.Canary})
		if r.Verdict == analysis.Fail {
			t.Logf("after %d scrapes", i)
			return
		}
	}
	t.Error("half of the canary's answers are failures, and nobody noticed for 40 scrapes")
}

// TestRealFaults: a Prometheus that hangs, goes on, and ends.
func TestRealFaults(t *testing.T) {
	t.Parallel()
	e := newExporter(t)
	e.count("200", 5)
	s := run(t, job("pods", map[string]*exporter{"a": e}, nil))
	p := &pods{}
	p.add(v1_, "a")
	e.wait(t, 2)
	r := reader(t, Config{Address: s.URL, Timeout: 500 * time.Millisecond})
	src := r.For("shop", p)
	next(t, src)
	is := func(f Fault) func(engine.Sampled, error) bool {
		return func(_ engine.Sampled, err error) bool {
			var e *Error
			return errors.As(err, &e) && e.Fault == f && engine.KindOf(err) == engine.Retry
		}
	}
	s.Freeze(true)
	until(t, src, "it is slow", is(Slow))
	// While it is down it is not asked at every look.
	before := r.Asked()
	for range 20 {
		if _, err := src.Look(context.Background(), v1_, ""); err == nil {
			t.Error("a look gave something")
		}
	}
	if n := r.Asked() - before; n > 1 {
		t.Errorf("asked %d times for 20 looks", n)
	}
	s.Freeze(false)
	e.count("200", 1)
	until(t, src, "it goes on", func(g engine.Sampled, err error) bool { return err == nil && g.Stable[0].Requests == 6 })
	s.Stop()
	until(t, src, "it is gone", is(Unreachable))
}

// TestHistory: what a real one has scraped calibrates a judge that has seen
// nothing itself.
func TestHistory(t *testing.T) {
	t.Parallel()
	a, b := newExporter(t), newExporter(t)
	s := run(t, job("pods", map[string]*exporter{"a": a, "b": b}, nil))
	for range 6 {
		a.count("200", 20)
		b.count("200", 20)
		a.wait(t, 1)
		b.wait(t, 1)
	}
	p := &pods{}
	p.add(v1_, "a", "b")
	src := reader(t, Config{Address: s.URL}).For("shop", p)
	moments, err := src.History(context.Background(), v1_)
	if err != nil || len(moments) < 4 {
		t.Fatalf("%d moments, %v", len(moments), err)
	}
	judge := analysis.New(analysis.Config{Compare: true, ErrorRate: &analysis.RateRule{WorseBy: 0.005}, FalseRollback: 0.01})
	before := map[string]float64{}
	both := 0
	for i, m := range moments {
		if i > 0 && !m.At.After(moments[i-1].At) {
			t.Errorf("moment %d is not after the one before", i)
		}
		for _, x := range m.Pods {
			if x.Requests < before[x.Name] || x.Has&analysis.HasErrors == 0 {
				t.Errorf("moment %d: %+v", i, x)
			}
			before[x.Name] = x.Requests
		}
		if len(m.Pods) == 2 {
			both++
		}
		judge.Look(analysis.Look{Time: m.At, Stable: string(v1_), StablePods: m.Pods})
	}
	if before["a@prometheus"] < 80 || before["b@prometheus"] < 80 || both < len(moments)/2 {
		t.Errorf("at the end %v; %d of %d moments have both", before, both, len(moments))
	}
	if got, err := src.History(context.Background(), "v9@9"); err != nil || got != nil {
		t.Errorf("no pods: %v, %v", got, err)
	}
}
