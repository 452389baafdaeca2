package enginetest_test

import (
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	v1 = rollout.Revision("v1@1111")
	v2 = rollout.Revision("v2@2222")
)

func TestStore(t *testing.T) {
	enginetest.TestStore(t, func(*testing.T) enginetest.StoreFixture {
		s := &enginetest.Store{}
		return enginetest.StoreFixture{Store: s, Reopen: func() engine.Store { return s }}
	})
}

func TestWorkloads(t *testing.T) {
	enginetest.TestWorkloads(t, func(*testing.T) enginetest.WorkloadsFixture {
		c := enginetest.NewClock(start)
		w := &enginetest.Workloads{Clock: c}
		return enginetest.WorkloadsFixture{
			Workloads: w,
			Add: func(label string, replicas int) rollout.Revision {
				r := rollout.NewRevision(label, "1")
				w.Add(enginetest.Version{Workload: rollout.Workload{Revision: r, Replicas: replicas}, StartsIn: 3 * time.Second})
				return r
			},
			Step:   func() { c.Advance(time.Second) },
			Writes: w.Writes,
		}
	})
}

func TestRouter(t *testing.T) {
	for name, receipt := range map[string]bool{"WithReceipt": true, "WithoutReceipt": false} {
		t.Run(name, func(t *testing.T) {
			enginetest.TestRouter(t, func(*testing.T) enginetest.RouterFixture {
				c := enginetest.NewClock(start)
				r := enginetest.NewRouter(c, 100, map[rollout.Revision]rollout.Weight{v1: rollout.Whole})
				r.Receipt, r.Lag = receipt, 2*time.Second
				return enginetest.RouterFixture{
					Router: r, Stable: v1, Canary: v2,
					Step:   func() { c.Advance(time.Second) },
					Hand:   func(w map[rollout.Revision]rollout.Weight) { r.Hand("alice", w) },
					Remove: r.Remove,
					Writes: r.Writes,
				}
			})
		})
	}
}

func TestSamples(t *testing.T) {
	enginetest.TestSamples(t, func(*testing.T) enginetest.SamplesFixture {
		w := enginetest.NewWorld(start, v1, 100)
		w.Workloads.Add(enginetest.Version{Workload: rollout.Workload{Revision: v2, Replicas: 2}})
		w.Router.Hand("alice", map[rollout.Revision]rollout.Weight{v1: 9000, v2: 1000})
		return enginetest.SamplesFixture{
			Samples: w.Samples, Stable: v1, Canary: v2,
			Step: func() { w.Clock.Advance(time.Second) },
		}
	})
}

func TestInbox(t *testing.T) {
	enginetest.TestInbox(t, func(*testing.T) enginetest.InboxFixture {
		i := &enginetest.Inbox{}
		return enginetest.InboxFixture{Inbox: i, Send: i.Send}
	})
}

func TestTests(t *testing.T) {
	enginetest.TestTests(t, func(*testing.T) (engine.Tests, string, func()) {
		ended := false
		runs := &enginetest.Tests{Result: func(string) *rollout.TestAnswer {
			if !ended {
				return nil
			}
			return &rollout.TestAnswer{Passed: true}
		}}
		return runs, "smoke", func() { ended = true }
	})
}

// Requests are served by the split in force, before and after a write's lag.
func TestRouterCountsBySplitInForce(t *testing.T) {
	c := enginetest.NewClock(start)
	r := enginetest.NewRouter(c, 100, map[rollout.Revision]rollout.Weight{v1: rollout.Whole})
	r.Lag = 4 * time.Second
	c.Advance(10 * time.Second)
	r.Hand("alice", map[rollout.Revision]rollout.Weight{v2: rollout.Whole})
	c.Advance(10 * time.Second)
	if got := r.Requests(v1); got != 1400 {
		t.Errorf("v1 answered %v requests, want 1400: ten seconds, and four of lag", got)
	}
	if got := r.Requests(v2); got != 600 {
		t.Errorf("v2 answered %v requests, want 600", got)
	}
}

// A replica's counters never fall when others join it.
func TestSamplesNeverFall(t *testing.T) {
	w := enginetest.NewWorld(start, v1, 100)
	before := map[string]float64{}
	for i := range 20 {
		if i == 7 {
			w.Workloads.Change(v1, func(v *enginetest.Version) { v.Replicas = 5 })
		}
		w.Clock.Advance(time.Second)
		got, err := w.Samples.Look(t.Context(), v1, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got.Stable {
			if p.Requests < before[p.Name] {
				t.Fatalf("%s fell from %v to %v", p.Name, before[p.Name], p.Requests)
			}
			before[p.Name] = p.Requests
		}
	}
}
