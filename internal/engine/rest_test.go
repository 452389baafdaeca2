package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

type countingSamples struct{ looks int }

func (c *countingSamples) Look(context.Context, rollout.Revision, rollout.Revision) (engine.Sampled, error) {
	c.looks++
	return engine.Sampled{Stable: []analysis.Pod{{Name: "a"}}}, nil
}

type fixedWorkloads struct{ rollout.Workloads }

func (f fixedWorkloads) Observe(context.Context) (rollout.Workloads, error) { return f.Workloads, nil }
func (f fixedWorkloads) Apply(context.Context, []rollout.Scale) error       { return nil }

type memoryRouter struct{ route rollout.Route }

func (r *memoryRouter) Observe(context.Context) (rollout.Route, error) { return r.route, nil }
func (r *memoryRouter) Apply(_ context.Context, t rollout.Traffic) error {
	n := t.Note()
	r.route.Weights, r.route.Note, r.route.HasReceipt, r.route.Receipt = t.Weights(), &n, true, t.N
	return nil
}

type memoryStore struct{ s engine.Saved }

func (m *memoryStore) Load(context.Context) (engine.Saved, error) { return m.s, nil }
func (m *memoryStore) Save(_ context.Context, s engine.Saved) (string, error) {
	s.Version = "1"
	m.s = s
	return "1", nil
}

// At rest the judge looks only where the host says that samples are free, and
// nothing is written for it.
func TestLooksAtRest(t *testing.T) {
	for _, every := range []time.Duration{0, time.Second} {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		samples := &countingSamples{}
		v1 := rollout.Revision("v1@a")
		ports := engine.Ports{
			Store:     &memoryStore{},
			Workloads: fixedWorkloads{rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{{Revision: v1, Name: "v1", Replicas: 1, Ready: 1, ReadyKnown: true}}}},
			Router:    &memoryRouter{rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole}}},
			Samples:   samples,
		}
		e, err := engine.New(rollout.Spec{Steps: []rollout.Step{{Kind: rollout.StepWeight, Weight: rollout.Whole}}}, analysis.Config{None: true, NoneReason: "x"}, ports,
			engine.Options{Now: func() time.Time { return now }, InOrder: true, LookAtRest: every})
		if err != nil {
			t.Fatal(err)
		}
		var wrote, passes int
		for range 20 {
			res, err := e.Pass(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if passes++; passes > 5 && res.Wrote.Any() {
				wrote++
			}
			if passes > 5 && (every == 0) != res.Wake.IsZero() {
				t.Errorf("looking every %v: wake at %v", every, res.Wake)
			}
			now = now.Add(time.Second)
		}
		if (every == 0) != (samples.looks < 5) || wrote > 0 {
			t.Errorf("looking every %v: %d looks, %d writes at rest", every, samples.looks, wrote)
		}
	}
}

// lateSamples are filled at every third look, and come from where they say.
type lateSamples struct {
	*enginetest.Samples
	looks int
	kept  []string
	from  string
}

func (l *lateSamples) Choose(_ context.Context, _ rollout.Revision, kept string) string {
	l.kept = append(l.kept, kept)
	return l.from
}

func (l *lateSamples) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	if l.looks++; l.looks%3 != 0 {
		return engine.Sampled{}, fmt.Errorf("asking: %w", engine.ErrUnchanged)
	}
	return l.Samples.Look(ctx, stable, canary)
}

// TestNothingNewerIsNoLook: the judge is not asked, nobody is told of trouble,
// and it is looked again. The source that was chosen while preparing is handed
// back at every look.
func TestNothingNewerIsNoLook(t *testing.T) {
	spec, cfg := specFor(t, good.steps)
	world := enginetest.NewWorld(start, v1, 100)
	ports := world.Ports()
	samples := &lateSamples{Samples: world.Samples, from: "prometheus"}
	ports.Samples = samples
	e, err := engine.New(spec, cfg, ports, engine.Options{Now: world.Clock.Now, InOrder: true})
	if err != nil {
		t.Fatal(err)
	}
	pass := func() engine.Result {
		t.Helper()
		before := samples.looks
		res, err := e.Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if samples.looks > before && (res.Sampled == nil) != (samples.looks%3 != 0) {
			t.Errorf("look %d: sampled %v", samples.looks, res.Sampled)
		}
		next := world.Clock.Now().Add(time.Second)
		if !res.Wake.IsZero() && res.Wake.Before(next) {
			next = res.Wake
		}
		world.Clock.Set(next)
		return res
	}
	pass()
	deploy(v2)(world)
	for range 120 {
		res := pass()
		if res.State.Source != "" {
			samples.from = "pods" // would be chosen now; what is kept stays
		}
	}
	if last := samples.kept[len(samples.kept)-1]; last != "prometheus" || samples.kept[0] != "" || samples.looks < 30 {
		t.Errorf("%d looks; kept %q at first and %q at last", samples.looks, samples.kept[0], last)
	}
}
