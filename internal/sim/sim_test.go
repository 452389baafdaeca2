package sim

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "run this one world, and print its trace")
	mutantFlag = flag.String("mutant", "", "with -seed: run the world with this mistake (see TestMutants)")
	update     = flag.Bool("update", false, "write the stories anew")
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
