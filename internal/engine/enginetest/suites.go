package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// patience bounds the wait for what a real adapter does in its own time.
const patience = 30 * time.Second

// eventually steps the world until the condition holds.
func eventually(t *testing.T, step func(), what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
		step()
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// mustRefuseDone checks that a call ends when its context has ended.
func mustRefuseDone(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	if err := call(canceled()); !errors.Is(err, context.Canceled) {
		t.Errorf("%s with a context that is done: error %v, want it to be context.Canceled", what, err)
	}
}

// StoreFixture is a fresh, empty store.
type StoreFixture struct {
	Store engine.Store
	// Reopen gives another store over the same copy, as after a restart.
	Reopen func() engine.Store
}

// TestStore checks the promises of engine.Store.
func TestStore(t *testing.T, fresh func(t *testing.T) StoreFixture) {
	ctx := context.Background()
	full := func() engine.Saved {
		return engine.Saved{State: FullState(), Evidence: []byte(`{"e":1}`), Told: 7}
	}
	mustSave := func(t *testing.T, s engine.Store, v engine.Saved) string {
		t.Helper()
		version, err := s.Save(ctx, v)
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	mustLoad := func(t *testing.T, s engine.Store) engine.Saved {
		t.Helper()
		v, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}

	t.Run("NothingStoredIsZero", func(t *testing.T) {
		got := mustLoad(t, fresh(t).Store)
		if !reflect.DeepEqual(got, engine.Saved{}) {
			t.Errorf("loaded %+v, want nothing", got)
		}
	})
	t.Run("EveryFieldComesBack", func(t *testing.T) {
		f := fresh(t)
		want := full()
		want.Version = mustSave(t, f.Store, want)
		if want.Version == "" {
			t.Error("the version of something stored must not be empty")
		}
		for name, s := range map[string]engine.Store{"the same store": f.Store, "a reopened one": f.Reopen()} {
			got := mustLoad(t, s)
			if a, b := asJSON(t, got.State), asJSON(t, want.State); a != b {
				t.Errorf("%s: state\n%s\nwant\n%s", name, a, b)
			}
			if !bytes.Equal(got.Evidence, want.Evidence) || got.Told != want.Told || got.Version != want.Version {
				t.Errorf("%s: evidence %q, told %d, version %q; want %q, %d, %q", name, got.Evidence, got.Told, got.Version, want.Evidence, want.Told, want.Version)
			}
		}
	})
	t.Run("StaleVersionIsAConflictAndChangesNothing", func(t *testing.T) {
		f := fresh(t)
		first := full()
		first.Version = mustSave(t, f.Store, first)
		second := first
		second.State.N = 100
		second.Version = mustSave(t, f.Store, second)
		for _, version := range []string{"", first.Version} {
			stale := first
			stale.Version, stale.State.N = version, 200
			if _, err := f.Store.Save(ctx, stale); !errors.Is(err, engine.ErrConflict) {
				t.Errorf("saving on version %q: error %v, want a conflict", version, err)
			}
		}
		if got := mustLoad(t, f.Store); got.State.N != 100 || got.Version != second.Version {
			t.Errorf("stored is N=%d at version %q, want N=100 at %q", got.State.N, got.Version, second.Version)
		}
	})
	t.Run("OneOfManyWritersWins", func(t *testing.T) {
		f := fresh(t)
		base := full()
		base.Version = mustSave(t, f.Store, base)
		const writers = 8
		var all sync.WaitGroup
		won := make(chan int, writers)
		for i := range writers {
			s := f.Store
			if i%2 == 1 {
				s = f.Reopen()
			}
			mine := base
			mine.State.N = 1000 + i
			all.Go(func() {
				switch _, err := s.Save(ctx, mine); {
				case err == nil:
					won <- mine.State.N
				case !errors.Is(err, engine.ErrConflict):
					t.Errorf("the error of a loser is %v, want a conflict", err)
				}
			})
		}
		all.Wait()
		close(won)
		var winners []int
		for n := range won {
			winners = append(winners, n)
		}
		if got := mustLoad(t, f.Store); len(winners) != 1 || got.State.N != winners[0] {
			t.Errorf("winners %v, stored N=%d; want one, and that", winners, got.State.N)
		}
	})
	t.Run("WhatWasGivenMayChangeAfterwards", func(t *testing.T) {
		f := fresh(t)
		s := full()
		mustSave(t, f.Store, s)
		s.Evidence[0] = 'X'
		s.State.Decisions[0].Why = "changed"
		if got := mustLoad(t, f.Store); got.Evidence[0] == 'X' || got.State.Decisions[0].Why == "changed" {
			t.Error("the store keeps a reference to what it was given")
		}
	})
	t.Run("MuchEvidence", func(t *testing.T) {
		f := fresh(t)
		s := full()
		s.Evidence = append(append([]byte{'"'}, bytes.Repeat([]byte("e"), 64<<10)...), '"')
		mustSave(t, f.Store, s)
		if got := mustLoad(t, f.Reopen()); !bytes.Equal(got.Evidence, s.Evidence) {
			t.Errorf("%d bytes of evidence came back as %d", len(s.Evidence), len(got.Evidence))
		}
	})
	t.Run("ContextDone", func(t *testing.T) {
		f := fresh(t)
		mustRefuseDone(t, "Save", func(ctx context.Context) error { _, err := f.Store.Save(ctx, full()); return err })
		mustRefuseDone(t, "Load", func(ctx context.Context) error { _, err := f.Store.Load(ctx); return err })
		if got := mustLoad(t, f.Store); got.Version != "" {
			t.Error("a Save that was refused has stored something")
		}
	})
}

// WorkloadsFixture is a place with no versions.
type WorkloadsFixture struct {
	Workloads engine.Workloads
	// Add makes a version with so many replicas, and says what it is.
	Add func(label string, replicas int) rollout.Revision
	// Step lets time pass: moves a virtual clock, or waits a little.
	Step func()
	// Writes counts real changes, where they can be counted; else nil.
	Writes func() int
	// NoMarks: this host has no objects to mark.
	NoMarks bool
}

// TestWorkloads checks the promises of engine.Workloads.
func TestWorkloads(t *testing.T, fresh func(t *testing.T) WorkloadsFixture) {
	ctx := context.Background()
	look := func(t *testing.T, f WorkloadsFixture, r rollout.Revision) (rollout.Workload, bool) {
		t.Helper()
		seen, err := f.Workloads.Observe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range seen.Items {
			if w.Revision == r {
				return w, true
			}
		}
		return rollout.Workload{}, false
	}
	apply := func(t *testing.T, f WorkloadsFixture, want ...rollout.Scale) {
		t.Helper()
		if err := f.Workloads.Apply(ctx, want); err != nil {
			t.Fatal(err)
		}
	}
	until := func(t *testing.T, f WorkloadsFixture, r rollout.Revision, what string, holds func(rollout.Workload) bool) {
		t.Helper()
		eventually(t, f.Step, what, func() bool { w, there := look(t, f, r); return there && holds(w) })
	}
	ready := func(n int) func(rollout.Workload) bool {
		return func(w rollout.Workload) bool { return w.Replicas == n && w.ReadyKnown && w.Ready == n }
	}

	t.Run("NoneIsAbsentNotUnknown", func(t *testing.T) {
		seen, err := fresh(t).Workloads.Observe(ctx)
		if err != nil || seen.Known != rollout.Absent || len(seen.Items) != 0 {
			t.Errorf("seen %+v, error %v; want Absent", seen, err)
		}
	})
	t.Run("EveryVersionIsListed", func(t *testing.T) {
		f := fresh(t)
		v1, v2 := f.Add("v1", 2), f.Add("v2", 0)
		until(t, f, v1, "v1 has 2 ready", ready(2))
		seen, _ := f.Workloads.Observe(ctx)
		if seen.Known != rollout.Present || len(seen.Items) != 2 {
			t.Fatalf("seen %+v, want two versions", seen)
		}
		w, _ := look(t, f, v2)
		if w.Replicas != 0 || w.Ready != 0 || w.Name == "" || w.Since.IsZero() || w.Revision.Label() != "v2" {
			t.Errorf("v2 is %+v, want 0 replicas, a name, a time and its label", w)
		}
	})
	t.Run("MinIsAFloor", func(t *testing.T) {
		f := fresh(t)
		v1 := f.Add("v1", 1)
		apply(t, f, rollout.Scale{Revision: v1, Min: 3})
		until(t, f, v1, "v1 has 3 ready", ready(3))
		apply(t, f, rollout.Scale{Revision: v1, Min: 2})
		f.Step()
		if w, _ := look(t, f, v1); w.Replicas != 3 {
			t.Errorf("a floor of 2 changed 3 replicas to %d", w.Replicas)
		}
	})
	t.Run("ZeroAndBack", func(t *testing.T) {
		f := fresh(t)
		v1 := f.Add("v1", 2)
		until(t, f, v1, "v1 has 2 ready", ready(2))
		apply(t, f, rollout.Scale{Revision: v1, Zero: true})
		until(t, f, v1, "v1 has none", func(w rollout.Workload) bool { return w.Replicas == 0 && w.Ready == 0 })
		apply(t, f, rollout.Scale{Revision: v1, Min: 1})
		until(t, f, v1, "v1 has 1 ready again", ready(1))
	})
	t.Run("DeleteGoesAway", func(t *testing.T) {
		f := fresh(t)
		v1, v2 := f.Add("v1", 1), f.Add("v2", 1)
		apply(t, f, rollout.Scale{Revision: v2, Delete: true})
		eventually(t, f.Step, "v2 is gone", func() bool { _, there := look(t, f, v2); return !there })
		if _, there := look(t, f, v1); !there {
			t.Error("v1 went with it")
		}
	})
	t.Run("MarksAreSeen", func(t *testing.T) {
		f := fresh(t)
		if f.NoMarks {
			return // nothing to mark: the state alone remembers, as this host says
		}
		v2, v3 := f.Add("v2", 1), f.Add("v3", 1)
		apply(t, f, rollout.Scale{Revision: v2, Zero: true, Mark: rollout.Condemned}, rollout.Scale{Revision: v3, Zero: true, Mark: rollout.Retired})
		until(t, f, v2, "v2 is condemned", func(w rollout.Workload) bool { return w.Condemned && !w.Retired })
		until(t, f, v3, "v3 is retired", func(w rollout.Workload) bool { return w.Retired && !w.Condemned })
	})
	t.Run("TwiceWritesOnce", func(t *testing.T) {
		f := fresh(t)
		v1 := f.Add("v1", 1)
		want := rollout.Scale{Revision: v1, Min: 2}
		apply(t, f, want)
		until(t, f, v1, "v1 has 2 ready", ready(2))
		if f.Writes == nil {
			return
		}
		before := f.Writes()
		apply(t, f, want)
		if after := f.Writes(); after != before {
			t.Errorf("the same again made %d writes", after-before)
		}
	})
	t.Run("OneMissingDoesNotStopTheOthers", func(t *testing.T) {
		f := fresh(t)
		v1 := f.Add("v1", 1)
		err := f.Workloads.Apply(ctx, []rollout.Scale{{Revision: "v9@none", Min: 1}, {Revision: v1, Min: 2}})
		if !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("error %v, want it to be ErrNotFound", err)
		}
		until(t, f, v1, "v1 has 2 ready", ready(2))
	})
	t.Run("ContextDone", func(t *testing.T) {
		f := fresh(t)
		v1 := f.Add("v1", 1)
		mustRefuseDone(t, "Observe", func(ctx context.Context) error { _, err := f.Workloads.Observe(ctx); return err })
		mustRefuseDone(t, "Apply", func(ctx context.Context) error {
			return f.Workloads.Apply(ctx, []rollout.Scale{{Revision: v1, Min: 5}})
		})
		if w, _ := look(t, f, v1); w.Replicas != 1 {
			t.Errorf("an Apply that was refused left %d replicas", w.Replicas)
		}
	})
}

// RouterFixture is a route that sends everything to Stable, as a user wrote it.
type RouterFixture struct {
	Router         engine.Router
	Stable, Canary rollout.Revision
	// Step lets time pass: moves a virtual clock, or waits a little.
	Step func()
	// Hand changes the weights as another program would, leaving the note; nil
	// where nobody else can.
	Hand func(map[rollout.Revision]rollout.Weight)
	// Remove deletes the route; nil where it cannot be.
	Remove func()
	// Foreign gives what is in the route and not ours, as bytes; nil where
	// there is nothing else.
	Foreign func() []byte
	// Writes counts real changes, where they can be counted; else nil.
	Writes func() int
	// Coarsest is the smallest share that the route can express; 0 = 1/10000.
	Coarsest rollout.Weight
}

// TestRouter checks the promises of engine.Router.
func TestRouter(t *testing.T, fresh func(t *testing.T) RouterFixture) {
	ctx := context.Background()
	look := func(t *testing.T, f RouterFixture) rollout.Route {
		t.Helper()
		seen, err := f.Router.Observe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	split := func(f RouterFixture, n int, w rollout.Weight) rollout.Traffic {
		return rollout.Traffic{N: n, Stable: f.Stable, Canary: f.Canary, Weight: w}
	}
	apply := func(t *testing.T, f RouterFixture, want rollout.Traffic) {
		t.Helper()
		look(t, f)
		if err := f.Router.Apply(ctx, want); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(t *testing.T, f RouterFixture, want rollout.Traffic) {
		t.Helper()
		got := look(t, f)
		if got.Known != rollout.Present || !sameSplit(got.Weights, want.Weights()) {
			t.Errorf("the route holds %v (known %d), want %v", got.Weights, got.Known, want.Weights())
		}
		if got.Note == nil || !equalJSON(*got.Note, want.Note()) {
			t.Errorf("the note is %+v, want %+v", got.Note, want.Note())
		}
	}

	t.Run("AsTheUserWroteIt", func(t *testing.T) {
		f := fresh(t)
		got := look(t, f)
		if got.Known != rollout.Present || got.Weights[f.Stable] != rollout.Whole || got.Note != nil {
			t.Errorf("seen %+v, want everything on %s and no note", got, f.Stable)
		}
	})
	t.Run("EveryWeightComesBack", func(t *testing.T) {
		f := fresh(t)
		unit := max(f.Coarsest, 1)
		n := 0
		for _, w := range []rollout.Weight{unit, 100, 500, 3300, 5000, 9900, rollout.Whole - unit, rollout.Whole, 0} {
			n++
			want := split(f, n, w)
			apply(t, f, want)
			holds(t, f, want)
		}
	})
	t.Run("CondemnedTravelsInTheNote", func(t *testing.T) {
		f := fresh(t)
		want := split(f, 3, 0)
		want.Condemned = []rollout.Revision{f.Canary}
		apply(t, f, want)
		holds(t, f, want)
	})
	t.Run("StableAlone", func(t *testing.T) {
		f := fresh(t)
		apply(t, f, split(f, 1, 500))
		want := rollout.Traffic{N: 2, Stable: f.Stable}
		apply(t, f, want)
		holds(t, f, want)
	})
	t.Run("TheOtherBecomesStable", func(t *testing.T) {
		f := fresh(t)
		apply(t, f, split(f, 1, rollout.Whole))
		want := rollout.Traffic{N: 2, Stable: f.Canary}
		apply(t, f, want)
		holds(t, f, want)
	})
	t.Run("TwiceWritesOnce", func(t *testing.T) {
		f := fresh(t)
		want := split(f, 1, 500)
		apply(t, f, want)
		if f.Writes == nil {
			return
		}
		before := f.Writes()
		apply(t, f, want)
		if after := f.Writes(); after != before {
			t.Errorf("the same again made %d writes", after-before)
		}
	})
	t.Run("AHandLeavesTheNote", func(t *testing.T) {
		f := fresh(t)
		if f.Hand == nil {
			return // nobody else can write this route
		}
		want := split(f, 4, 5000)
		apply(t, f, want)
		f.Hand(map[rollout.Revision]rollout.Weight{f.Stable: 9000, f.Canary: 1000})
		got := look(t, f)
		if got.Weights[f.Canary] != 1000 || got.Note == nil || got.Note.N != 4 || got.Note.Weight != 5000 {
			t.Errorf("seen %+v with note %+v, want weight 1000 beside our note of 5000", got, got.Note)
		}
	})
	t.Run("ChangedSinceObservedIsAConflict", func(t *testing.T) {
		f := fresh(t)
		if f.Hand == nil {
			return
		}
		look(t, f)
		hand := map[rollout.Revision]rollout.Weight{f.Stable: 9000, f.Canary: 1000}
		f.Hand(hand)
		if err := f.Router.Apply(ctx, split(f, 1, 5000)); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("error %v, want a conflict", err)
		}
		if got := look(t, f); !sameSplit(got.Weights, hand) {
			t.Errorf("the route holds %v, want the hand's %v", got.Weights, hand)
		}
	})
	t.Run("ForeignBytesStay", func(t *testing.T) {
		f := fresh(t)
		if f.Foreign == nil {
			return // nothing else is in it
		}
		before := f.Foreign()
		for n, w := range []rollout.Weight{500, 5000, 10000, 0} {
			apply(t, f, split(f, n+1, w))
			if after := f.Foreign(); !bytes.Equal(before, after) {
				t.Fatalf("at weight %v the rest of the route changed from\n%s\nto\n%s", w, before, after)
			}
		}
	})
	t.Run("RemovedIsAbsent", func(t *testing.T) {
		f := fresh(t)
		if f.Remove == nil {
			return
		}
		f.Remove()
		if got := look(t, f); got.Known != rollout.Absent {
			t.Errorf("seen %+v, want Absent", got)
		}
	})
	t.Run("AReceiptIsTheNumberInForce", func(t *testing.T) {
		f := fresh(t)
		apply(t, f, split(f, 9, 500))
		if !look(t, f).HasReceipt {
			return // no receipt: settle time and the seen share must do
		}
		eventually(t, f.Step, "the receipt says 9", func() bool { return look(t, f).Receipt == 9 })
	})
	t.Run("ContextDone", func(t *testing.T) {
		f := fresh(t)
		look(t, f)
		mustRefuseDone(t, "Observe", func(ctx context.Context) error { _, err := f.Router.Observe(ctx); return err })
		mustRefuseDone(t, "Apply", func(ctx context.Context) error { return f.Router.Apply(ctx, split(f, 1, 5000)) })
		if got := look(t, f); got.Weights[f.Canary] != 0 {
			t.Error("an Apply that was refused has moved traffic")
		}
	})
}

// SamplesFixture is two versions with replicas and traffic on both.
type SamplesFixture struct {
	Samples        engine.Samples
	Stable, Canary rollout.Revision
	// Step lets time and some requests pass.
	Step func()
}

// newer looks until there is something newer than before.
func (f SamplesFixture) newer(t *testing.T) (got engine.Sampled) {
	t.Helper()
	eventually(t, f.Step, "there is something newer than before", func() bool {
		var err error
		got, err = f.Samples.Look(context.Background(), f.Stable, f.Canary)
		if err != nil && !errors.Is(err, engine.ErrUnchanged) {
			t.Fatal(err)
		}
		return err == nil
	})
	return got
}

// TestSamples checks the promises of engine.Samples.
func TestSamples(t *testing.T, fresh func(t *testing.T) SamplesFixture) {
	ctx := context.Background()
	t.Run("CountersRise", func(t *testing.T) {
		f := fresh(t)
		var before engine.Sampled
		eventually(t, f.Step, "both versions have counted", func() bool {
			before = f.newer(t)
			return sumRequests(before.Stable) > 0 && sumRequests(before.Canary) > 0
		})
		f.Step()
		after := f.newer(t)
		if sumRequests(after.Stable) < sumRequests(before.Stable) || sumRequests(after.Canary) < sumRequests(before.Canary) {
			t.Errorf("counters fell: from %+v to %+v", before, after)
		}
		for _, p := range append(after.Stable, after.Canary...) {
			if p.Name == "" {
				t.Error("a replica without a name")
			}
			if len(p.Latency.LE) != len(p.Latency.Count) {
				t.Errorf("%s: %d bounds, %d counts", p.Name, len(p.Latency.LE), len(p.Latency.Count))
			}
		}
	})
	t.Run("AtRestThereIsNoCanary", func(t *testing.T) {
		f := fresh(t)
		got, err := f.Samples.Look(ctx, f.Stable, "")
		if err != nil || len(got.Canary) != 0 || len(got.Stable) == 0 {
			t.Errorf("looked %+v, error %v; want stable's replicas alone", got, err)
		}
	})
	t.Run("ContextDone", func(t *testing.T) {
		f := fresh(t)
		mustRefuseDone(t, "Look", func(ctx context.Context) error { _, err := f.Samples.Look(ctx, f.Stable, f.Canary); return err })
	})
}

// InboxFixture is an empty inbox.
type InboxFixture struct {
	Inbox engine.Inbox
	Send  func(rollout.Command)
}

// TestInbox checks the promises of engine.Inbox.
func TestInbox(t *testing.T, fresh func(t *testing.T) InboxFixture) {
	ctx := context.Background()
	ids := func(t *testing.T, f InboxFixture) string {
		t.Helper()
		list, err := f.Inbox.Pending(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, c := range list {
			s = append(s, c.ID)
		}
		return fmt.Sprint(s)
	}
	t.Run("OldestFirstUntilDone", func(t *testing.T) {
		f := fresh(t)
		if got := ids(t, f); got != "[]" {
			t.Errorf("a fresh inbox holds %s", got)
		}
		for _, id := range []string{"a", "b", "c"} {
			f.Send(rollout.Command{ID: id, Verb: rollout.VerbPause, By: "alice", Reason: "lunch"})
		}
		for range 2 {
			if got := ids(t, f); got != "[a b c]" {
				t.Errorf("pending %s, want [a b c]", got)
			}
		}
		for range 2 {
			if err := f.Inbox.Done(ctx, []string{"b", "unknown"}); err != nil {
				t.Fatal(err)
			}
			if got := ids(t, f); got != "[a c]" {
				t.Errorf("pending %s, want [a c]", got)
			}
		}
	})
	t.Run("ACommandComesWhole", func(t *testing.T) {
		f := fresh(t)
		want := rollout.Command{ID: "1", Verb: rollout.VerbPromote, By: "bob", Reason: "sure", Revision: "v2", N: 4, Full: true, Override: true}
		f.Send(want)
		if list, _ := f.Inbox.Pending(ctx); len(list) != 1 || !reflect.DeepEqual(list[0], want) {
			t.Errorf("pending %+v, want %+v", list, want)
		}
	})
	t.Run("ContextDone", func(t *testing.T) {
		f := fresh(t)
		mustRefuseDone(t, "Pending", func(ctx context.Context) error { _, err := f.Inbox.Pending(ctx); return err })
	})
}

// TestTests checks the promises of engine.Tests. end lets the runs begun so far
// end well.
func TestTests(t *testing.T, fresh func(t *testing.T) (tests engine.Tests, name string, end func())) {
	ctx := context.Background()
	t.Run("OnceForEachID", func(t *testing.T) {
		tests, name, end := fresh(t)
		for range 3 {
			if err := tests.Start(ctx, rollout.TestRun{ID: "r1", Name: name, Revision: "v2@1"}); err != nil {
				t.Fatal(err)
			}
		}
		var answers []rollout.TestAnswer
		eventually(t, end, "there is an answer", func() bool {
			var err error
			if answers, err = tests.Answers(ctx); err != nil {
				t.Fatal(err)
			}
			return len(answers) > 0
		})
		if again, _ := tests.Answers(ctx); len(answers) != 1 || answers[0].ID != "r1" || !answers[0].Passed || !reflect.DeepEqual(answers, again) {
			t.Errorf("answers %+v, then %+v; want one, passed, both times", answers, again)
		}
	})
}

func sumRequests(pods []analysis.Pod) (n float64) {
	for _, p := range pods {
		n += p.Requests
	}
	return n
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FullState is a state in which every field holds something, so that a store
// that loses one is found out.
func FullState() rollout.State {
	var s rollout.State
	n := 0
	fill(reflect.ValueOf(&s).Elem(), &n)
	s.Schema = rollout.SchemaVersion
	return s
}

func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n%3 + 1))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) + 0.25)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 1, 0, 0, *n, 500, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic("no filling for " + v.Kind().String())
	}
}
