package sim

import (
	"flag"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/rollout"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "run this one world, and print its trace")
	mutantFlag = flag.String("mutant", "", "with -seed: run the world with this mistake (see TestMutants)")
	worldsFlag = flag.Int("worlds", 0, "how many worlds TestWorlds runs (SERIN_WORLDS in the environment says the same)")
)

func worlds(t *testing.T, standard int) int {
	n := standard
	if s := os.Getenv("SERIN_WORLDS"); s != "" {
		k, err := strconv.Atoi(s)
		if err != nil || k < 1 {
			t.Fatalf("SERIN_WORLDS=%s: want a number of worlds", s)
		}
		n = k
	}
	if *worldsFlag > 0 {
		n = *worldsFlag
	}
	return n
}

// TestWorlds runs many worlds, and one again where a seed is given.
func TestWorlds(t *testing.T) {
	if *seedFlag != 0 {
		o := Options{}
		for _, m := range mutants {
			if m.name == *mutantFlag {
				o = m.options()
			}
		}
		if o.Name != *mutantFlag {
			t.Fatalf("there is no mutant %q", *mutantFlag)
		}
		o.Trace = true
		w := New(*seedFlag, o)
		f := w.Run()
		t.Logf("world %d\n%s", *seedFlag, w.Trace())
		if f != nil {
			t.Fatal(f)
		}
		return
	}
	n := worlds(t, 5000)
	began := time.Now()
	var next, passes, struck, crashes atomic.Int64
	var mu sync.Mutex
	var failures []*Failure
	met := map[string]int{}
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for {
				seed := next.Add(1)
				if seed > int64(n) {
					return
				}
				w := New(uint64(seed), Options{})
				f := w.Run()
				passes.Add(int64(w.passes))
				struck.Add(int64(w.struck))
				crashes.Add(int64(w.crashes))
				mu.Lock()
				for k, v := range w.met {
					met[k] += v
				}
				mu.Unlock()
				if f != nil {
					mu.Lock()
					failures = append(failures, f)
					enough := len(failures) >= 200
					mu.Unlock()
					if enough {
						return
					}
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d worlds in %s: %d passes, %d faults, %d crashes", n, time.Since(began).Round(time.Millisecond), passes.Load(), struck.Load(), crashes.Load())
	if n >= 5000 {
		checkMet(t, met)
	}
	by := map[string]int{}
	for _, f := range failures {
		if by[f.Invariant]++; by[f.Invariant] <= 3 {
			t.Errorf("%v", f)
		}
	}
	if len(failures) > 0 {
		t.Fatalf("%d worlds failed: %v", len(failures), by)
	}
}

// checkMet: worlds in which something never happens prove nothing about it.
func checkMet(t *testing.T, met map[string]int) {
	var want []string
	for _, op := range []string{
		"store.load", "store.save", "workloads.observe", "workloads.apply", "router.observe", "router.apply", "samples.look", "inbox.pending",
		"inbox.done", "tests.start", "tests.answers", "windows.closed", "declared.declared", "preflight.check", "notifier.tell",
	} {
		for _, s := range strikesOf(op) {
			want = append(want, op+" "+strikeNames[s])
		}
	}
	for _, d := range deeds() {
		want = append(want, "deed "+d.name)
	}
	for from := range phases {
		if from != "" {
			want = append(want, "phase "+string(from))
		}
	}
	for _, r := range []rollout.Result{
		rollout.Promoted, rollout.RolledBack, rollout.Aborted, rollout.Superseded, rollout.Withdrawn, rollout.Undone, rollout.Reverted, rollout.Abandoned,
	} {
		want = append(want, "ended "+string(r))
	}
	for _, e := range []rollout.What{
		rollout.EvAdopted, rollout.EvRolloutStarted, rollout.EvScaleAsked, rollout.EvStepStarted, rollout.EvBakeStarted, rollout.EvPromoted,
		rollout.EvRolledBack, rollout.EvAborted, rollout.EvSuperseded, rollout.EvWithdrawn, rollout.EvTrafficBack, rollout.EvRetired,
		rollout.EvPaused, rollout.EvResumed, rollout.EvApprovalRequested, rollout.EvApproved, rollout.EvTestStarted, rollout.EvTestPassed,
		rollout.EvUndoStarted, rollout.EvUndone, rollout.EvUndoAbandoned, rollout.EvRevertStarted, rollout.EvReverted, rollout.EvRetryStarted,
		rollout.EvOverridden, rollout.EvRefused, rollout.EvDriftObeyed, rollout.EvDriftUndone, rollout.EvDriftFight, rollout.EvDriftLeft,
		rollout.EvStableChanged, rollout.EvStableLost, rollout.EvMentioned, rollout.EvStepsChanged, rollout.EvStateRebuilt,
	} {
		want = append(want, "decision "+string(e))
	}
	for _, k := range want {
		if met[k] == 0 {
			t.Errorf("never met in all worlds: %s", k)
		}
	}
	rarest := slices.SortedFunc(slices.Values(want), func(a, b string) int { return met[a] - met[b] })[:8]
	for _, k := range rarest {
		t.Logf("rare: %s, %d times", k, met[k])
	}
}

// TestOneSeedOneWorld: a seed is all there is to a world, traced or not.
func TestOneSeedOneWorld(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		a, b, c := New(seed, Options{Trace: true}), New(seed, Options{Trace: true}), New(seed, Options{})
		a.Run()
		b.Run()
		c.Run()
		if a.Trace() != b.Trace() {
			t.Fatalf("world %d is not the same twice:\n%s", seed, cmp.Diff(a.Trace(), b.Trace()))
		}
		if c.passes != a.passes || c.struck != a.struck || c.store.version != a.store.version {
			t.Fatalf("world %d is another one without its trace: %d passes, not %d", seed, c.passes, a.passes)
		}
	}
}
