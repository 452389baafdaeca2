package sim

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// A mutant is a mistake that somebody could make, put around the real policy
// or the real ports: no line of the product is changed.
type mutant struct {
	name    string
	mistake string
	policy  engine.Policy
	ports   func(engine.Ports) engine.Ports
}

// before changes what the policy is given.
func before(f func(st *rollout.State, obs *rollout.Observation)) engine.Policy {
	return func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
		f(&st, &obs)
		return rollout.Decide(spec, st, obs, now)
	}
}

// after changes what it answers.
func after(f func(was rollout.State, d *rollout.Decision)) engine.Policy {
	return func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
		d := rollout.Decide(spec, st, obs, now)
		f(st, &d)
		return d
	}
}

var mutants = []mutant{
	{"forget-condemned", "the list of condemned revisions is forgotten when a rollout ends", after(func(was rollout.State, d *rollout.Decision) {
		if d.Next.Phase == rollout.Idle {
			d.Next.Marks = slices.DeleteFunc(slices.Clone(d.Next.Marks), func(m rollout.Mark) bool { return m.Kind == rollout.Condemned })
		}
	}), nil},
	{"raise-before-capacity", "every replica that is asked for counts as ready", before(func(_ *rollout.State, obs *rollout.Observation) {
		obs.Workloads.Items = slices.Clone(obs.Workloads.Items)
		for i := range obs.Workloads.Items {
			x := &obs.Workloads.Items[i]
			x.Ready, x.ReadyKnown = x.Replicas, true
		}
	}), nil},
	{"unknown-is-ready", "readiness that is not known counts as ready", before(func(_ *rollout.State, obs *rollout.Observation) {
		obs.Workloads.Items = slices.Clone(obs.Workloads.Items)
		for i := range obs.Workloads.Items {
			if x := &obs.Workloads.Items[i]; !x.ReadyKnown {
				x.Ready, x.ReadyKnown = x.Replicas, true
			}
		}
	}), nil},
	{"retire-before-gone", "a version at weight 0 counts as gone at once", before(func(st *rollout.State, _ *rollout.Observation) {
		st.Leaving, st.Retiring = slices.Clone(st.Leaving), slices.Clone(st.Retiring)
		for _, ls := range [][]rollout.Leaving{st.Leaving, st.Retiring} {
			for i := range ls {
				ls[i].Gone = true
			}
		}
	}), nil},
	{"old-counts", "a count of requests that was not renewed counts as no new requests", before(func(_ *rollout.State, obs *rollout.Observation) {
		obs.Route.Counted = nil
	}), nil},
	{"skip-leaving", "a newer canary does not wait until the old one has left", before(func(st *rollout.State, _ *rollout.Observation) { st.Leaving = nil }), nil},
	{"number-twice", "a decision is given the number of the one before", after(func(was rollout.State, d *rollout.Decision) {
		if len(d.Events) == 0 || was.N == 0 {
			return
		}
		d.Events, d.Next.Decisions = slices.Clone(d.Events), slices.Clone(d.Next.Decisions)
		for i := range d.Events {
			d.Events[i].N--
		}
		for i := range d.Next.Decisions {
			if d.Next.Decisions[i].N > was.N {
				d.Next.Decisions[i].N--
			}
		}
		d.Next.N--
		if d.Next.TrafficN > was.N {
			d.Next.TrafficN--
		}
		if d.Traffic != nil && d.Traffic.N > was.N {
			t := *d.Traffic
			t.N--
			d.Traffic = &t
		}
	}), nil},
	{"apply-before-save", "a state is saved at the end of the pass and not before its effects", nil, func(p engine.Ports) engine.Ports {
		s := &lazyStore{Store: p.Store}
		p.Store, p.Notifier = s, flush{p.Notifier, s}
		return p
	}},
	{"last-writer-wins", "a state is saved over one that somebody else has saved meanwhile", nil, func(p engine.Ports) engine.Ports {
		p.Store = blindStore{p.Store}
		return p
	}},
	{"fail-twice", "one Fail alone does not take the canary back", before(func(st *rollout.State, obs *rollout.Observation) {
		if obs.Report.Verdict == analysis.Fail && (obs.Report.Exposed > 30 || st.Phase == rollout.Baking) {
			obs.Report.Verdict = analysis.Undecided
		}
	}), nil},
	{"no-data-is-fine", "no data at the deadline counts as calm", before(func(st *rollout.State, obs *rollout.Observation) {
		if obs.Report.Verdict == analysis.Unavailable {
			obs.Report.Verdict, obs.Report.Calm, obs.Report.CanaryRequests = analysis.Undecided, true, 1
			obs.Report.Scored = st.LiveFor
		}
	}), nil},
	{"pause-is-forgotten", "a pause by a person is lost when the process looks again", before(func(st *rollout.State, _ *rollout.Observation) { st.Pauses = nil }), nil},
	{"back-to-nobody", "a stable version without ready replicas gets the traffic back", after(func(was rollout.State, d *rollout.Decision) {
		if st := &d.Next; st.Phase == rollout.RollingBack && st.Granted > 0 {
			st.Granted = 0
		}
		if d.Next.Stable.Revision != "" && d.Next.Phase == rollout.RollingBack {
			d.Traffic = &rollout.Traffic{N: d.Next.TrafficN, Stable: d.Next.Stable.Revision, Canary: d.Next.Canary.Revision}
		}
	}), nil},
	{"back-is-lazy", "the way back to 0 is decided and, every other time, not written", after(func(was rollout.State, d *rollout.Decision) {
		if d.Next.Phase == rollout.RollingBack && d.Traffic != nil && d.Next.Granted == 0 && was.Phase == rollout.RollingBack && d.Next.N%2 == 0 {
			d.Traffic = nil
		}
		if d.Next.Phase == rollout.RollingBack && was.Phase != rollout.RollingBack && d.Next.N%2 == 0 {
			d.Traffic = nil
		}
	}), nil},
	{"retiring-is-forgotten", "what is owed an end never gets it", after(func(_ rollout.State, d *rollout.Decision) {
		d.Scale = slices.DeleteFunc(slices.Clone(d.Scale), func(s rollout.Scale) bool { return s.Zero || s.Delete })
	}), nil},
	{"live-at-once", "a split counts as seen in force as soon as it is decided", before(func(st *rollout.State, obs *rollout.Observation) {
		if st.LiveAt.IsZero() && st.Granted > 0 && obs.Route.Known == rollout.Present {
			n := rollout.Traffic{N: st.TrafficN, Stable: st.Stable.Revision, Canary: st.Canary.Revision, Weight: st.Granted}
			note := n.Note()
			obs.Route.Weights, obs.Route.Note = n.Weights(), &note
			st.LiveAt, st.Confirmed = st.LastPass, st.Granted
		}
	}), nil},
	{"obey-any-hand", "whoever raises the weight by hand is obeyed", before(func(st *rollout.State, obs *rollout.Observation) {
		if w := obs.Route.Weights[st.Canary.Revision]; st.Canary.Revision != "" && w > st.Granted && obs.Route.Manager != "serin" {
			st.Granted = w
		}
	}), nil},
}

// blindStore saves whatever has been stored since.
type blindStore struct{ engine.Store }

func (s blindStore) Save(ctx context.Context, saved engine.Saved) (string, error) {
	v, err := s.Store.Save(ctx, saved)
	if errors.Is(err, engine.ErrConflict) {
		if now, lerr := s.Load(ctx); lerr == nil {
			saved.Version = now.Version
			return s.Store.Save(ctx, saved)
		}
	}
	return v, err
}

// lazyStore says that it has saved, and does it later.
type lazyStore struct {
	engine.Store
	pending *engine.Saved
	version string // of what is truly stored
	given   int
}

func (s *lazyStore) Load(ctx context.Context) (engine.Saved, error) {
	saved, err := s.Store.Load(ctx)
	if err == nil {
		s.pending, s.version = nil, saved.Version
	}
	return saved, err
}

func (s *lazyStore) Save(ctx context.Context, saved engine.Saved) (string, error) {
	s.flush(ctx)
	s.pending = &saved
	s.given++
	return fmt.Sprintf("later-%d", s.given), nil
}

func (s *lazyStore) flush(ctx context.Context) {
	if s.pending == nil {
		return
	}
	saved := *s.pending
	saved.Version = s.version
	if v, err := s.Store.Save(ctx, saved); err == nil {
		s.pending, s.version = nil, v
	}
}

// flush saves before people are told, which is the end of a pass.
type flush struct {
	engine.Notifier
	store *lazyStore
}

func (f flush) Tell(ctx context.Context, es []rollout.Event) error {
	f.store.flush(ctx)
	return f.Notifier.Tell(ctx, es)
}

func (m mutant) options() Options { return Options{Policy: m.policy, Ports: m.ports, Name: m.name} }

// TestMutants: every mistake is caught within so many worlds as TestWorlds
// runs, or TestWorlds would prove nothing about it.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			const most = 5000
			var next atomic.Int64
			var mu sync.Mutex
			var first *Failure
			var all sync.WaitGroup
			for range runtime.GOMAXPROCS(0) {
				all.Go(func() {
					for {
						seed := next.Add(1)
						mu.Lock()
						enough := first != nil && first.Seed < uint64(seed)
						mu.Unlock()
						if seed > most || enough {
							return
						}
						if f := New(uint64(seed), m.options()).Run(); f != nil {
							mu.Lock()
							if first == nil || f.Seed < first.Seed {
								first = f
							}
							mu.Unlock()
						}
					}
				})
			}
			all.Wait()
			if first == nil {
				t.Fatalf("%s: not caught in %d worlds", m.mistake, most)
			}
			t.Logf("%s: caught by world %d, %v", m.mistake, first.Seed, first)
		})
	}
}
