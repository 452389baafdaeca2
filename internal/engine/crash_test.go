package engine_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

// strikesFor are the faults that may befall an operation. A read that fails and
// one that takes too long are the same to the engine; a write may also be
// applied and deny it.
func strikesFor(op string) []enginetest.Strike {
	if enginetest.Write(op) {
		return enginetest.Strikes
	}
	return []enginetest.Strike{enginetest.CrashBefore, enginetest.ErrorBefore}
}

// call is one call of a port in the fault-free telling.
type call struct {
	op   string
	pass int // in which it was made
}

// sameCrash says whether a crash before call n leaves the same behind as one
// that is told already: nothing was written between the two, and what an engine
// remembers dies with it.
func sameCrash(calls []call, n int) bool {
	return n > 0 && calls[n-1].pass == calls[n].pass // then before the pass's first call, or after its last write
}

// thinned is how many faulty tellings there are for one under the race detector:
// calls come one after the other here, so it has nothing to find and makes each
// take six times as long. `make test` tells all of them without it.
const thinned = 8

// TestCrashAtEveryStep tells every story once for every call of a port that
// the fault-free telling makes and every fault that may befall that call:
// crashed before, crashed after, failed, failed though applied, conflict,
// timeout, forbidden. What must hold, holds after every pass, and it ends as
// if nothing had happened.
//
//	go test ./internal/engine -run 'TestCrashAtEveryStep/STORY'
//	SERIN_STRIKE='good/17/crash after' go test ./internal/engine -run TestCrashAtEveryStep   # one of them, with its trace
func TestCrashAtEveryStep(t *testing.T) {
	only := strings.Split(os.Getenv("SERIN_STRIKE"), "/")
	covered := map[rollout.Phase]bool{}
	for _, s := range stories {
		if len(only) == 3 && only[0] != s.name {
			continue
		}
		calm := newRun(t, s)
		var calls []call
		calm.world.Faults.Strike = func(_ int, op string) enginetest.Strike {
			calls = append(calls, call{op, calm.passes})
			return enginetest.None
		}
		calmly := &watch{run: calm}
		calm.each = func(engine.Result, error) { calmly.check() }
		calm.tell(s)
		for _, b := range calmly.broken {
			t.Errorf("%s: without any fault: %s", s.name, b)
		}
		if got := calm.ending(); got != s.end {
			t.Fatalf("%s: without any fault it ended as\n%s\nwant\n%s", s.name, got, s.end)
		}
		for p := range calm.phases {
			covered[p] = true
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			told, there := 0, 0
			for n, c := range calls {
				for _, strike := range strikesFor(c.op) {
					if len(only) == 3 && (only[1] != fmt.Sprint(n) || only[2] != strike.String()) {
						continue
					}
					if len(only) != 3 {
						if strike == enginetest.CrashBefore && sameCrash(calls, n) {
							continue
						}
						if there++; raced && there%thinned != 1 {
							continue
						}
					}
					told++
					tellStruck(t, s, n, c.op, strike, calm.world.Router.Writes(), len(only) == 3)
				}
			}
			t.Logf("%d passes, %d calls, %d of %d faulty tellings", calm.passes, len(calls), told, there)
		})
	}
	if len(only) == 3 {
		return
	}
	for _, p := range []rollout.Phase{rollout.Idle, rollout.Preparing, rollout.Progressing, rollout.Promoting, rollout.Baking, rollout.RollingBack} {
		if !covered[p] {
			t.Errorf("no story passes through %s: its steps were not struck", p)
		}
	}
}

func tellStruck(t *testing.T, s story, at int, op string, strike enginetest.Strike, calmWrites int, loud bool) {
	r := newRun(t, s)
	w := &watch{run: r}
	struck := false
	r.world.Faults.Strike = func(n int, now string) enginetest.Strike {
		if n != at {
			return enginetest.None
		}
		if now != op {
			t.Fatalf("%s: call %d is %s, without the fault it was %s: the telling is not deterministic", s.name, n, now, op)
		}
		struck = true
		return strike
	}
	r.each = func(res engine.Result, err error) {
		if struck {
			w.check()
		} else { // so far it is the telling without a fault, which was watched
			w.before, _ = r.world.Router.Split()
		}
		if loud {
			t.Logf("+%v %s n=%d granted=%v wrote=%+v: %s (%v)", r.world.Clock.Now().Sub(start), res.State.Phase, res.State.N, res.State.Granted, res.Wrote, res.Decision.Status.Message, err)
		}
	}
	r.tell(s)
	fail := func(format string, args ...any) {
		t.Errorf("%s\nreplay: SERIN_STRIKE='%s/%d/%s' go test ./internal/engine -run TestCrashAtEveryStep -v", fmt.Sprintf(format, args...), s.name, at, strike)
	}
	if !struck {
		fail("call %d was never made", at)
	}
	for _, b := range w.broken {
		fail("%s struck with %q: %s", op, strike, b)
	}
	if got := r.ending(); got != s.end {
		fail("%s struck with %q ended as\n%s\nwant\n%s", op, strike, got, s.end)
	}
	if got := r.world.Router.Writes(); got > calmWrites+1 {
		fail("%s struck with %q: the split was changed %d times, %d without it", op, strike, got, calmWrites)
	}
	if missing := untold(r); len(missing) > 0 {
		fail("%s struck with %q: nobody was told decisions %v", op, strike, missing)
	}
}

// untold are the decisions that the notifier has not accepted.
func untold(r *run) (missing []int) {
	told := map[int]bool{}
	for _, e := range r.world.Notifier.Told() {
		told[e.N] = true
	}
	for _, d := range r.stored().State.Decisions {
		if !told[d.N] {
			missing = append(missing, d.N)
		}
	}
	return missing
}

// watch checks after every pass what must always hold, by looking at the world
// and the store and not at what the engine says.
type watch struct {
	run    *run
	before map[rollout.Revision]rollout.Weight
	ended  map[rollout.Revision]bool // condemned, and without weight since
	// unsaved are the numbers of decisions that lowered exposure although they
	// could not be saved. They are not given out again.
	unsaved map[int]bool
	broken  []string

	saved  *rollout.State // as stored after so many writes
	writes int
}

func (w *watch) check() {
	say := func(format string, args ...any) {
		w.broken = append(w.broken, fmt.Sprintf("+%v: ", w.run.world.Clock.Now().Sub(start))+fmt.Sprintf(format, args...))
	}
	world := w.run.world
	if n := world.Store.Writes(); w.saved == nil || n != w.writes {
		state := w.run.stored().State
		w.saved, w.writes = &state, n
	}
	saved := *w.saved
	written, _ := world.Router.Split()
	sum := rollout.Weight(0)
	for r, weight := range written {
		sum += weight
		if weight > 0 && world.Workloads.Ready(r) == 0 {
			say("%s has %v of the traffic and nobody to answer it", r, weight)
		}
	}
	if sum != rollout.Whole {
		say("the weights sum to %v", sum)
	}
	history := world.Router.History()
	if n := len(history); n > 0 && history[n-1].By == "serin" {
		faults := world.Router.Faults
		world.Router.Faults = nil
		route, err := world.Router.Observe(context.Background())
		world.Router.Faults = faults
		if err != nil || route.Note == nil {
			say("our own write has no note (%v)", err)
		} else if route.Note.N > saved.N {
			if w.unsaved == nil {
				w.unsaved = map[int]bool{}
			}
			w.unsaved[route.Note.N] = true
			for r, weight := range written {
				if r != saved.Stable.Revision && weight > w.before[r] {
					say("decision %d is in force and raises %s, and only %d is stored", route.Note.N, r, saved.N)
				}
			}
		}
	}
	if w.ended == nil {
		w.ended = map[rollout.Revision]bool{}
	}
	for _, r := range saved.FailedRevisions() {
		if written[r] == 0 {
			w.ended[r] = true
		} else if w.ended[r] {
			say("%s is condemned, was at 0 and has %v again", r, written[r])
		}
	}
	for i, d := range saved.Decisions {
		if i > 0 && d.N != saved.Decisions[i-1].N+1 && !w.unsaved[d.N-1] {
			say("decision %d follows %d in the store", d.N, saved.Decisions[i-1].N)
		}
	}
	w.before = written
}
