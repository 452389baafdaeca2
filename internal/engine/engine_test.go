package engine_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// good is a story in which v2 gets half of the traffic and stays there for long.
var good = story{name: "half", steps: "[{weight: 50%, hold: 10m}, {weight: 100%, hold: 1s}]"}

// until passes until the condition holds, at most so long by the world's clock.
func (r *run) until(most time.Duration, what string, holds func(engine.Result) bool) engine.Result {
	r.t.Helper()
	end := r.world.Clock.Now().Add(most)
	for {
		res, _ := r.engine.Pass(context.Background())
		if holds(res) {
			return res
		}
		if !r.world.Clock.Now().Before(end) {
			r.t.Fatalf("after %v still not so: %s (%s, %s)", most, what, res.State.Phase, res.Decision.Status.Message)
		}
		next := res.Wake
		if latest := r.world.Clock.Now().Add(time.Second); next.IsZero() || next.After(latest) || !next.After(r.world.Clock.Now()) {
			next = latest
		}
		r.world.Clock.Set(next)
	}
}

// atHalf is a world in which v2 has half of the traffic, seen in force.
func atHalf(t *testing.T, change ...func(*enginetest.Version)) *run {
	t.Helper()
	r := newRun(t, good)
	r.until(time.Second, "v1 is adopted", func(res engine.Result) bool { return res.State.Stable.Revision == v1 })
	deploy(v2, change...)(r.world)
	r.until(time.Minute, "v2 has half, seen live", func(res engine.Result) bool { return res.State.Confirmed == 5000 })
	return r
}

// calls are the operations of a world from now on.
func calls(w *enginetest.World, strike func(op string) enginetest.Strike) *[]string {
	var ops []string
	w.Faults.Strike = func(_ int, op string) enginetest.Strike {
		ops = append(ops, op)
		if strike == nil {
			return enginetest.None
		}
		return strike(op)
	}
	return &ops
}

func writesOf(ops []string) (writes []string) {
	for _, op := range ops {
		if enginetest.Write(op) {
			writes = append(writes, op)
		}
	}
	return writes
}

func TestOrderOfEffects(t *testing.T) {
	t.Run("Down", func(t *testing.T) {
		r := atHalf(t)
		r.world.Workloads.Change(v1, func(v *enginetest.Version) { v.Replicas = 2 }) // so that capacity is given too
		say(rollout.Command{ID: "1", Verb: rollout.VerbAbort, By: "alice"})(r.world)
		ops := calls(r.world, nil)
		res, err := r.engine.Pass(t.Context())
		if err != nil || res.State.Granted != 0 {
			t.Fatalf("granted %v, error %v", res.State.Granted, err)
		}
		want := []string{"store.save", "router.apply", "workloads.apply", "inbox.done", "notifier.tell"}
		if got := writesOf(*ops); !slices.Equal(got, want) {
			t.Errorf("the way down writes %v, want %v: saved first, then traffic before all else", got, want)
		}
	})
	t.Run("Up", func(t *testing.T) {
		r := newRun(t, good)
		r.until(time.Second, "v1 is adopted", func(res engine.Result) bool { return res.State.Stable.Revision == v1 })
		deploy(v2)(r.world)
		var order []string
		r.until(time.Minute, "v2 gets half", func(res engine.Result) bool {
			if len(res.Wrote.Scale) > 0 {
				order = append(order, "scale")
			}
			if res.Wrote.Traffic {
				order = append(order, fmt.Sprintf("traffic %v", res.Decision.Traffic.Weight))
			}
			return res.State.Granted == 5000
		})
		i, j := slices.Index(order, "scale"), slices.Index(order, "traffic 50 %")
		if i < 0 || j < 0 || i > j {
			t.Errorf("written in the order %v, want capacity before weight", order)
		}
	})
	t.Run("TakingIsLast", func(t *testing.T) {
		r := newRun(t, story{steps: "[{weight: 100%, hold: 1s}]"})
		r.until(time.Second, "v1 is adopted", func(res engine.Result) bool { return res.State.Stable.Revision == v1 })
		deploy(v2)(r.world)
		r.until(time.Minute, "v2 is promoted", func(res engine.Result) bool { return res.State.Stable.Revision == v2 })
		// The route cannot be written from now on: nothing is taken away.
		r.world.Router.Hand("nobody", map[rollout.Revision]rollout.Weight{v1: 1, v2: 9999})
		calls(r.world, func(op string) enginetest.Strike {
			if op == "router.apply" {
				return enginetest.ErrorBefore
			}
			return enginetest.None
		})
		for range 30 {
			_, _ = r.engine.Pass(t.Context())
			r.world.Clock.Advance(time.Second)
		}
		if n := r.world.Workloads.Ready(v1); n == 0 {
			t.Error("v1 was scaled away although the split could not be written")
		}
	})
}

// What could not be read is Unknown, and raises nothing.
func TestFailedReadsAreUnknown(t *testing.T) {
	for op, unknown := range map[string]func(rollout.Observation) bool{
		"workloads.observe": func(o rollout.Observation) bool {
			return o.Workloads.Known == rollout.Unknown && o.Workloads.Items == nil
		},
		"router.observe": func(o rollout.Observation) bool {
			return o.Route.Known == rollout.Unknown && o.Route.Weights == nil && !o.Route.Measured
		},
		"windows.closed":  func(o rollout.Observation) bool { return len(o.Windows) == 1 && o.Windows[0].Opens.IsZero() },
		"preflight.check": func(o rollout.Observation) bool { return len(o.Findings) == 1 && o.Findings[0].Level == rollout.Wait },
		"samples.look":    func(o rollout.Observation) bool { return o.Report.Verdict == analysis.Unavailable },
		"inbox.pending":   func(o rollout.Observation) bool { return o.Commands == nil },
		"tests.answers":   func(o rollout.Observation) bool { return o.Tests == nil },
	} {
		t.Run(op, func(t *testing.T) {
			r := newRun(t, good)
			r.until(time.Second, "v1 is adopted", func(res engine.Result) bool { return res.State.Stable.Revision == v1 })
			deploy(v2)(r.world)
			if op != "preflight.check" {
				r.until(time.Minute, "v2 has something", func(res engine.Result) bool { return res.State.Confirmed > 0 })
			}
			failed := 0
			calls(r.world, func(now string) enginetest.Strike {
				if now == op {
					failed++
					return enginetest.Timeout
				}
				return enginetest.None
			})
			granted, _ := r.world.Router.Split()
			for i := range 120 {
				r.world.Clock.Advance(time.Second)
				res, err := r.engine.Pass(t.Context())
				// The judge forgives some seconds without data before it says so.
				patient := op == "samples.look" && i < 90
				if failed > 0 && !patient && !unknown(res.Seen) {
					t.Fatalf("look %d: %s failed, and seen is %+v", i, op, res.Seen)
				}
				if failed > 0 && !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("look %d: %s failed, and the error is %v", i, op, err)
				}
				if now, _ := r.world.Router.Split(); now[v2] > granted[v2] {
					t.Fatalf("look %d: %s fails, and v2 was raised from %v to %v", i, op, granted[v2], now[v2])
				}
				if failed > 0 && res.Wake.After(res.At.Add(30*time.Second)) {
					t.Fatalf("look %d: the next try is at +%v", i, res.Wake.Sub(res.At))
				}
			}
			if failed == 0 {
				t.Fatalf("%s was never called", op)
			}
		})
	}
}

// A full disk stops what raises, not the way to 0: the rollback is in force,
// the note carries who is condemned, and the decision is stored when it can be.
func TestFullDiskDoesNotKeepABadVersion(t *testing.T) {
	r := atHalf(t)
	full := true
	calls(r.world, func(op string) enginetest.Strike {
		if op == "store.save" && full {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	r.world.Workloads.Change(v2, failing(0.3))
	res := r.until(time.Minute, "v2 has nothing in the route", func(engine.Result) bool {
		written, _ := r.world.Router.Split()
		return written[v2] == 0
	})
	if got := r.stored().State; got.Phase != rollout.Progressing {
		t.Fatalf("stored is %s: the disk was not full", got.Phase)
	}
	route, err := r.world.Router.Observe(t.Context())
	if err != nil || route.Note == nil || !slices.Contains(route.Note.Condemned, v2) {
		t.Errorf("the route's note %+v does not carry the condemned revision", route.Note)
	}
	if r.world.Workloads.Ready(v2) == 0 || len(res.Wrote.Scale) > 0 {
		t.Error("capacity was taken away although the decision is not stored")
	}
	full = false
	r.until(time.Minute, "the rollback is stored", func(engine.Result) bool {
		s := r.stored().State
		return len(s.History) == 1 && s.History[0].Result == rollout.RolledBack
	})

	t.Run("AfterACrash", func(t *testing.T) {
		r := atHalf(t)
		calls(r.world, func(op string) enginetest.Strike {
			if op == "store.save" {
				return enginetest.ErrorBefore
			}
			return enginetest.None
		})
		r.world.Workloads.Change(v2, failing(0.3))
		r.until(time.Minute, "v2 has nothing in the route", func(engine.Result) bool {
			written, _ := r.world.Router.Split()
			return written[v2] == 0
		})
		r.world.Faults.Strike = nil
		r.world.Workloads.Change(v2, failing(0)) // nothing reminds of the failure but the note
		r.restart()
		for range 120 {
			_, _ = r.engine.Pass(t.Context())
			if written, _ := r.world.Router.Split(); written[v2] > 0 {
				t.Fatal("v2 got traffic again")
			}
			r.world.Clock.Advance(time.Second)
		}
		if got := r.stored().State.FailedRevisions(); !slices.Contains(got, v2) {
			t.Errorf("condemned are %v: the note was not heeded", got)
		}
	})
}

// A disk that stays full while something is taken back is tried again in peace:
// at once would be for ever, and takes the machine's processor from its users.
func TestAFullDiskIsNotTriedWithoutPause(t *testing.T) {
	r := atHalf(t)
	r.world.Router.Receipt = true
	calls(r.world, func(op string) enginetest.Strike {
		if op == "store.save" {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	say(rollout.Command{ID: "1", Verb: rollout.VerbAbort, By: "alice"})(r.world)
	passes, end := 0, r.world.Clock.Now().Add(time.Minute)
	for r.world.Clock.Now().Before(end) && passes < 1000 {
		res, _ := r.engine.Pass(t.Context())
		passes++
		if wait := res.Wake.Sub(r.world.Clock.Now()); wait > 0 {
			r.world.Clock.Advance(wait)
		}
	}
	if passes > 150 {
		t.Errorf("%d passes in a minute", passes)
	}
	if written, _ := r.world.Router.Split(); written[v2] != 0 {
		t.Errorf("the route sends %v", written)
	}
}

func TestRaisingWaitsForTheDisk(t *testing.T) {
	r := newRun(t, good)
	r.until(time.Second, "v1 is adopted", func(res engine.Result) bool { return res.State.Stable.Revision == v1 })
	deploy(v2)(r.world)
	calls(r.world, func(op string) enginetest.Strike {
		if op == "store.save" {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	before := r.world.Router.Writes()
	for range 60 {
		res, err := r.engine.Pass(t.Context())
		if res.Decision.Save == rollout.SaveMust && err == nil {
			t.Fatal("the save failed and nobody says so")
		}
		r.world.Clock.Advance(time.Second)
	}
	if n := r.world.Router.Writes() - before; n > 0 || r.world.Workloads.Writes() > 0 {
		t.Errorf("%d splits and %d scales were written for decisions that are not stored", n, r.world.Workloads.Writes())
	}
	if res, _ := r.engine.Pass(t.Context()); !strings.Contains(res.Seen.SaveError, "saving the state") {
		t.Errorf("what people see does not say that saving fails: %q", res.Seen.SaveError)
	}
}

// Two engines over one world: what the slower one decided it does not do.
func TestTwoEnginesDoNotBothAct(t *testing.T) {
	r := atHalf(t)
	other, err := engine.New(r.spec, r.cfg, r.world.Ports(), engine.Options{Now: r.world.Clock.Now, InOrder: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	say(rollout.Command{ID: "1", Verb: rollout.VerbAbort, By: "alice"})(r.world)
	if _, err := r.engine.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	say(rollout.Command{ID: "2", Verb: rollout.VerbPromote, By: "bob", Full: true})(r.world)
	r.world.Clock.Advance(time.Second)
	ops := calls(r.world, nil)
	res, err := other.Pass(t.Context())
	if !errors.Is(err, engine.ErrConflict) || res.Taken {
		t.Errorf("the other engine went on: error %v, taken %v", err, res.Taken)
	}
	if got := writesOf(*ops); !slices.Equal(got, []string{"store.save"}) {
		t.Errorf("after the conflict it wrote %v", got)
	}
	if res, err := other.Pass(t.Context()); err != nil || res.Loaded == nil || res.State.Phase != rollout.RollingBack {
		t.Errorf("then: loaded %v, %s, error %v; want it to go on from the abort", res.Loaded != nil, res.State.Phase, err)
	}
}

// The same input twice: nothing is written, at rest and at a step.
func TestNothingNewIsNothingWritten(t *testing.T) {
	r := newRun(t, story{steps: "[{weight: 100%, hold: 1s}]"})
	s := story{horizon: 2 * time.Minute, scenes: []scene{{time.Second, deploy(v2)}}}
	r.tell(s)
	if got := r.stored().State; got.Phase != rollout.Idle || got.Stable.Revision != v2 {
		t.Fatalf("not at rest: %s", r.ending())
	}
	ops := calls(r.world, nil)
	for range 100 {
		res, err := r.engine.Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !res.Wake.IsZero() {
			t.Fatalf("at rest it wants to wake at %v", res.Wake)
		}
		r.world.Clock.Advance(time.Minute)
	}
	if got := writesOf(*ops); len(got) > 0 {
		t.Errorf("at rest it wrote %v", got)
	}

	t.Run("AtAStep", func(t *testing.T) {
		r := atHalf(t)
		ops := calls(r.world, nil)
		for range 25 { // less than the interval at which clocks are saved
			if _, err := r.engine.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.world.Clock.Advance(time.Second)
		}
		if got := writesOf(*ops); len(got) > 0 {
			t.Errorf("in a hold it wrote %v", got)
		}
		saves := 0
		for range 300 {
			if _, err := r.engine.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.world.Clock.Advance(time.Second)
		}
		for _, op := range writesOf(*ops) {
			if op != "store.save" {
				t.Errorf("in a hold it wrote %s", op)
			}
			saves++
		}
		if saves < 10 || saves > 11 {
			t.Errorf("%d saves in 325 s, want one in 30 s", saves)
		}
	})
	t.Run("AfterARestart", func(t *testing.T) {
		r := atHalf(t)
		before := r.world.Router.Writes()
		r.restart()
		if _, err := r.engine.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.world.Router.Writes() - before; n > 0 || r.world.Workloads.Writes() > 1 {
			t.Errorf("a restart changed the split %d times", n)
		}
	})
}

// A decision that breaks an invariant raises nothing, is not stored, and the
// pass says which.
func TestViolationIsRefused(t *testing.T) {
	r := atHalf(t)
	before := r.stored().State
	r.engine.DecideWith(func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
		d := rollout.Decide(spec, st, obs, now)
		d.Next.Granted = rollout.Whole // nobody decided that
		d.Traffic.Weight = rollout.Whole
		d.Save = rollout.SaveMust
		d.Scale = append(d.Scale, rollout.Scale{Revision: v1, Name: "my-app-v1", Zero: true})
		return d
	})
	ops := calls(r.world, nil)
	res, err := r.engine.Pass(t.Context())
	var violation *rollout.Violation
	if !errors.As(err, &violation) || violation.Invariant != "I8" || res.Taken {
		t.Fatalf("error %v, taken %v; want I8 to be named", err, res.Taken)
	}
	if got := writesOf(*ops); len(got) > 0 {
		t.Errorf("it wrote %v all the same", got)
	}
	if now := r.stored().State; !reflect.DeepEqual(now, before) {
		t.Error("the decision was stored")
	}
	if k := engine.KindOf(err); k != engine.Stall {
		t.Errorf("a violation calls for %v, want stall", k)
	}
	r.engine.DecideWith(rollout.Decide)
	if res, err := r.engine.Pass(t.Context()); err != nil || !strings.Contains(res.Seen.ApplyError, "I8") || res.State.Granted != 5000 {
		t.Errorf("then: granted %v, error %v, shown %q; want it to go on as before, and to say what was refused", res.State.Granted, err, res.Seen.ApplyError)
	}

	t.Run("LoweringIsNot", func(t *testing.T) {
		r := atHalf(t)
		r.engine.DecideWith(func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
			d := rollout.Decide(spec, st, obs, now)
			d.Traffic.Weight = 0
			d.Traffic.N = d.Next.N + 5 // I15
			return d
		})
		_, err := r.engine.Pass(t.Context())
		written, _ := r.world.Router.Split()
		if !errors.As(err, &violation) || written[v2] != 0 {
			t.Errorf("v2 has %v, error %v; want 0 and the invariant named", written[v2], err)
		}
	})
}

// Everything that was decided is told, in order, although the process crashed
// and the other side was away; and nobody waits for it.
func TestEverybodyIsTold(t *testing.T) {
	r := newRun(t, story{steps: "[{weight: 100%, hold: 1s}]"})
	away := true
	calls(r.world, func(op string) enginetest.Strike {
		if op == "notifier.tell" && away {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	r.tell(story{horizon: 30 * time.Second, scenes: []scene{{time.Second, deploy(v2)}}})
	state := r.stored().State
	if state.Stable.Revision != v2 || len(r.world.Notifier.Told()) > 0 {
		t.Fatalf("stable is %s, %d were told", state.Stable.Revision, len(r.world.Notifier.Told()))
	}
	away = false
	r.restart()
	res, err := r.engine.Pass(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for _, e := range r.world.Notifier.Told() {
		numbers = append(numbers, e.N)
	}
	if len(numbers) != state.N || !slices.IsSorted(numbers) {
		t.Errorf("told %v, decided 1 to %d", numbers, state.N)
	}
	// That they were told is stored in time, and then there is rest.
	for range 3 {
		if !res.Wake.IsZero() {
			r.world.Clock.Set(res.Wake)
		}
		if res, err = r.engine.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.stored().Told; got != state.N || !res.Wake.IsZero() {
		t.Errorf("stored as told is %d, want %d; wakes at %v", got, state.N, res.Wake)
	}
	r.restart()
	if _, err := r.engine.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(r.world.Notifier.Told()); n != len(numbers) {
		t.Errorf("after another restart %d were told again", n-len(numbers))
	}
}

// A command is obeyed once and taken off the list after its decision is stored.
func TestCommandsAreDoneWhenStored(t *testing.T) {
	r := atHalf(t)
	say(rollout.Command{ID: "1", Verb: rollout.VerbPause, By: "alice"})(r.world)
	failSave, failDone := true, true
	calls(r.world, func(op string) enginetest.Strike {
		if op == "store.save" && failSave || op == "inbox.done" && failDone {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	pending := func() int {
		list, err := r.world.Inbox.Pending(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	_, _ = r.engine.Pass(t.Context())
	if pending() != 1 {
		t.Error("the command is gone, and its decision is not stored")
	}
	failSave = false
	_, _ = r.engine.Pass(t.Context())
	_, _ = r.engine.Pass(t.Context())
	failDone = false
	_, _ = r.engine.Pass(t.Context())
	if pending() != 0 {
		t.Error("the command was not taken off the list")
	}
	paused := 0
	for _, d := range r.stored().State.Decisions {
		if d.What == rollout.EvPaused {
			paused++
		}
	}
	if paused != 1 {
		t.Errorf("paused %d times by one command", paused)
	}
}

// A bad version is caught across restarts: what the judge had seen is stored.
func TestEvidenceOutlivesRestarts(t *testing.T) {
	r := atHalf(t)
	r.world.Workloads.Change(v2, failing(0.3))
	r.until(10*time.Second, "v2 is taken back", func(res engine.Result) bool {
		return res.State.Phase == rollout.RollingBack || res.State.Phase == rollout.Idle
	})
	calm := r.world.Clock.Now()

	r = atHalf(t)
	began := r.world.Clock.Now()
	r.world.Workloads.Change(v2, failing(0.3))
	r.world.Store.Faults = r.world.Faults
	for i := 0; ; i++ {
		// Evidence every second, and a crash every second: SaveEvery is short.
		e, err := engine.New(r.spec, r.cfg, r.world.Ports(), engine.Options{Now: r.world.Clock.Now, InOrder: true, SaveEvery: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		res, err := e.Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.State.Phase == rollout.RollingBack {
			break
		}
		if i > 30 {
			t.Fatalf("not caught in %v, without crashes it was at +%v", r.world.Clock.Now().Sub(began), calm.Sub(start))
		}
		r.world.Clock.Advance(time.Second)
	}
}

// A store that cannot be understood stops everything, and says why.
func TestNothingIsDoneOnAStateThatCannotBeRead(t *testing.T) {
	r := newRun(t, good)
	ops := calls(r.world, func(op string) enginetest.Strike {
		if op == "store.load" {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	res, err := r.engine.Pass(t.Context())
	if err == nil || res.Decided || !res.Wake.After(res.At) || !slices.Equal(*ops, []string{"store.load"}) {
		t.Errorf("error %v, decided %v, wake %v, calls %v", err, res.Decided, res.Wake, *ops)
	}
}

func TestKindOf(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want engine.Kind
	}{
		"None":               {nil, engine.Ignore},
		"Plain":              {errors.New("connection reset"), engine.Retry},
		"Conflict":           {fmt.Errorf("patching: %w", engine.ErrConflict), engine.Retry},
		"Timeout":            {fmt.Errorf("reading: %w", context.DeadlineExceeded), engine.Retry},
		"Gone":               {fmt.Errorf("scaling: %w", engine.ErrNotFound), engine.Ignore},
		"Forbidden":          {fmt.Errorf("patching: %w", engine.ErrForbidden), engine.Stall},
		"Refused":            {engine.ErrRefused, engine.Stall},
		"Violation":          {fmt.Errorf("x: %w", &rollout.Violation{Invariant: "I2"}), engine.Stall},
		"Throttled":          {&engine.ThrottledError{After: time.Second, Err: errors.New("429")}, engine.Retry},
		"TheWorstOfSeveral":  {errors.Join(engine.ErrConflict, fmt.Errorf("a: %w", engine.ErrForbidden), nil), engine.Stall},
		"GoneAndPlain":       {errors.Join(engine.ErrNotFound, errors.New("x")), engine.Retry},
		"WrappedSeveral":     {fmt.Errorf("pass: %w", errors.Join(engine.ErrNotFound, engine.ErrForbidden)), engine.Stall},
		"WrappedGoneAndMore": {fmt.Errorf("pass: %w", errors.Join(engine.ErrNotFound, errors.New("x"))), engine.Retry},
	} {
		if got := engine.KindOf(c.err); got != c.want {
			t.Errorf("%s: %v calls for %v, want %v", name, c.err, got, c.want)
		}
	}
}

// Errors are tried again soon, then less often; a way down at least every
// second; what the other side asks for is kept to.
func TestBackOff(t *testing.T) {
	r := newRun(t, good)
	calls(r.world, func(op string) enginetest.Strike {
		if op == "router.observe" {
			return enginetest.ErrorBefore
		}
		return enginetest.None
	})
	var waits []time.Duration
	for range 12 {
		res, _ := r.engine.Pass(t.Context())
		waits = append(waits, res.Wake.Sub(res.At))
		r.world.Clock.Set(res.Wake)
	}
	if !slices.IsSorted(waits) || waits[0] > 200*time.Millisecond || waits[11] != 30*time.Second {
		t.Errorf("it waits %v", waits)
	}

	r = atHalf(t)
	say(rollout.Command{ID: "1", Verb: rollout.VerbAbort, By: "alice"})(r.world)
	calls(r.world, func(op string) enginetest.Strike {
		if op == "router.apply" {
			return enginetest.NotPermitted
		}
		return enginetest.None
	})
	for i := range 20 {
		res, err := r.engine.Pass(t.Context())
		if err == nil || res.Wake.Sub(res.At) > time.Second {
			t.Fatalf("try %d: error %v, the next one in %v", i, err, res.Wake.Sub(res.At))
		}
		r.world.Clock.Set(res.Wake)
	}
}

// slow is a source of figures that answers only when it must.
type slow struct{}

func (slow) Look(ctx context.Context, _, _ rollout.Revision) (engine.Sampled, error) {
	<-ctx.Done()
	return engine.Sampled{}, ctx.Err()
}

// A dead source of figures delays the way to 0 by two seconds at most, and the
// reads do not wait for each other.
func TestADeadSourceDoesNotDelayTheWayDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec, cfg := specFor(t, good.steps)
		world := enginetest.NewWorld(time.Now(), v1, 100)
		ports := world.Ports()
		ports.Samples = slow{}
		pass := func(e *engine.Engine) engine.Result {
			world.Clock.Set(time.Now())
			res, _ := e.Pass(t.Context())
			return res
		}
		e, err := engine.New(spec, cfg, ports, engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		pass(e)
		deploy(v2)(world)
		for range 60 {
			if res := pass(e); res.State.Confirmed == 5000 {
				break
			}
			time.Sleep(time.Second)
		}
		say(rollout.Command{ID: "1", Verb: rollout.VerbAbort, By: "alice"})(world)
		began := time.Now()
		res := pass(e)
		if took := time.Since(began); took > 2*time.Second || res.State.Granted != 0 {
			t.Errorf("the abort took %v, and v2 has %v", took, res.State.Granted)
		}
		if written, _ := world.Router.Split(); written[v2] != 0 {
			t.Errorf("v2 has %v in the route", written[v2])
		}
	})
}

func TestAnEngineNeedsItsPorts(t *testing.T) {
	world := enginetest.NewWorld(start, v1, 1)
	for _, missing := range []string{"store", "workloads", "router"} {
		p := engine.Ports{Store: world.Store, Workloads: world.Workloads, Router: world.Router}
		switch missing {
		case "store":
			p.Store = nil
		case "workloads":
			p.Workloads = nil
		case "router":
			p.Router = nil
		}
		if _, err := engine.New(rollout.Spec{}, analysis.Config{}, p, engine.Options{}); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without a %s: %v", missing, err)
		}
	}
}

// With nothing but the three ports that are needed, a rollout goes its way.
func TestTheOptionalIsOptional(t *testing.T) {
	spec, _ := specFor(t, "[{weight: 100%, hold: 1s}]")
	spec.Analysis.None = true
	cfg := analysis.Config{None: true, NoneReason: "nothing is measured here"}
	world := enginetest.NewWorld(start, v1, 100)
	e, err := engine.New(spec, cfg, engine.Ports{Store: world.Store, Workloads: world.Workloads, Router: world.Router}, engine.Options{Now: world.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		if i == 1 {
			deploy(v2)(world)
		}
		res, err := e.Pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.State.Stable.Revision == v2 && res.State.Phase == rollout.Idle {
			return
		}
		world.Clock.Advance(time.Second)
	}
	t.Errorf("not promoted: %+v", must(world.Store.Load(t.Context())).State.Phase)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// mistaken is a router with a mistake in it.
type mistaken struct{ engine.Router }

func (mistaken) Observe(context.Context) (rollout.Route, error) { panic("index out of range") }

// A panic in a port is one of the pass, where the host can keep it to one
// rollout: in a goroutine of the pass it would be the end of all of them.
func TestAPortsPanicIsThePasss(t *testing.T) {
	spec, cfg := specFor(t, good.steps)
	world := enginetest.NewWorld(start, v1, 100)
	ports := world.Ports()
	ports.Router = mistaken{ports.Router}
	e, err := engine.New(spec, cfg, ports, engine.Options{Now: world.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		p, ok := recover().(*engine.PortPanic)
		if !ok || p.What() != "reading the route: index out of range" || !strings.Contains(p.String(), "mistaken") {
			t.Errorf("the pass gave %v", p)
		}
	}()
	_, _ = e.Pass(t.Context())
	t.Error("the pass went on")
}

// An edited document counts at once, and the evidence goes on.
func TestRespec(t *testing.T) {
	r := atHalf(t)
	before := must(r.engine.Evidence())
	spec, cfg := specFor(t, "[{weight: 50%, hold: 10m}, {weight: 60%, hold: 1s}, {weight: 100%, hold: 1s}]")
	cfg.ErrorRate.For = time.Second
	if err := r.engine.Respec(spec, cfg); err != nil {
		t.Fatal(err)
	}
	if after := must(r.engine.Evidence()); len(after) < len(before)/2 {
		t.Errorf("%d bytes of evidence became %d", len(before), len(after))
	}
	res := r.until(5*time.Second, "the edited steps are in force", func(res engine.Result) bool { return len(res.State.Plan) == 3 })
	if res.State.Granted != 5000 {
		t.Errorf("the edit moved the weight to %v", res.State.Granted)
	}
}

func BenchmarkPassAtAStep(b *testing.B) {
	spec, cfg := specFor(b, good.steps)
	world := enginetest.NewWorld(start, v1, 100)
	e, err := engine.New(spec, cfg, world.Ports(), engine.Options{Now: world.Clock.Now, InOrder: true})
	if err != nil {
		b.Fatal(err)
	}
	deploy(v2)(world)
	for range 30 {
		_, _ = e.Pass(b.Context())
		world.Clock.Advance(time.Second)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Pass(b.Context()); err != nil {
			b.Fatal(err)
		}
		world.Clock.Advance(time.Second)
	}
}
