package gateway

import (
	"flag"
	"math"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var seed = flag.Uint64("seed", 1, "seed of the splits under test")

// deal counts how n requests are dealt out.
func deal(s *splitter, n, dests int) []int {
	got := make([]int, dests)
	for range n {
		got[s.pick()]++
	}
	return got
}

func TestSplitIsExactInEveryAlignedBlock(t *testing.T) {
	for canary := 10; canary <= 9990; canary += 10 { // 0.1 % to 99.9 %
		s := newSplitter([]int{FullWeight - canary, canary}, *seed, uint64(canary))
		for block := range 5 {
			if got := deal(s, 1000, 2)[1]; got != canary/10 {
				t.Fatalf("weight %d/10000, block %d: %d of 1000 requests, want %d\nreplay: go test ./internal/gateway -run %s -seed=%d",
					canary, block, got, canary/10, t.Name(), *seed)
			}
		}
	}
}

func TestSplitOfWholePerCentsIsExactInHundreds(t *testing.T) {
	for canary := 1; canary <= 99; canary++ {
		s := newSplitter([]int{FullWeight - 100*canary, 100 * canary}, *seed, uint64(canary))
		for block := range 50 {
			if got := deal(s, 100, 2)[1]; got != canary {
				t.Fatalf("%d %%, block %d: %d of 100", canary, block, got)
			}
		}
	}
}

// A page's client asks for the same URLs in the same order: none of them may
// always, or never, meet the canary.
func TestSplitIsEvenAtEveryPlaceOfAClientsRound(t *testing.T) {
	const requests = 100_000
	for sd := *seed; sd < *seed+50; sd++ {
		s := newSplitter([]int{9500, 500}, sd, 1)
		var at [20]int
		for i := range requests {
			if s.pick() == 1 {
				at[i%20]++
			}
		}
		for p, n := range at {
			if share := 100 * float64(n) / (requests / 20); math.Abs(share-5) > 1 {
				t.Fatalf("place %d saw %.2f %% canary, want 5 +/- 1\nreplay: go test ./internal/gateway -run %s -seed=%d", p, share, t.Name(), sd)
			}
		}
	}
}

// The same for rounds of other lengths: the worst place of all is within what
// independent draws would give (5 standard errors over 58 lengths).
func TestSplitHasNoRhythm(t *testing.T) {
	const requests = 100_000
	for round := 2; round < 60; round++ {
		s := newSplitter([]int{9500, 500}, *seed, uint64(round))
		at := make([]int, round)
		for i := range requests {
			if s.pick() == 1 {
				at[i%round]++
			}
		}
		n := float64(requests) / float64(round)
		for p, k := range at {
			if z := (float64(k) - 0.05*n) / math.Sqrt(n*0.05*0.95); math.Abs(z) > 5 {
				t.Errorf("round of %d, place %d: %d canary of %.0f requests, %.1f standard errors off (seed %d)", round, p, k, n, z, *seed)
			}
		}
	}
}

func TestSplitOrdersDifferFromBlockToBlock(t *testing.T) {
	s := newSplitter([]int{9500, 500}, *seed, 1)
	seen := map[string]bool{}
	for range 40 {
		b := make([]byte, 100)
		for i := range b {
			b[i] = '0' + byte(s.pick())
		}
		seen[string(b)] = true
	}
	if len(seen) < 38 {
		t.Errorf("40 blocks have only %d different orders", len(seen))
	}
}

func TestSplitIsReplayableBySeed(t *testing.T) {
	a, b := newSplitter([]int{9500, 500}, 7, 1), newSplitter([]int{9500, 500}, 7, 1)
	other := newSplitter([]int{9500, 500}, 8, 1)
	same := true
	for range 10_000 {
		x := a.pick()
		if x != b.pick() {
			t.Fatal("equal seeds gave different orders")
		}
		same = same && x == other.pick()
	}
	if same {
		t.Error("different seeds gave one order")
	}
}

func TestSplitIsExactUnderConcurrency(t *testing.T) {
	s := newSplitter([]int{7000, 2000, 1000}, *seed, 1)
	const workers, each = 8, 25_000
	var mu sync.Mutex
	var got [3]int
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			n := deal(s, each, 3)
			mu.Lock()
			defer mu.Unlock()
			for i := range n {
				got[i] += n[i]
			}
		}()
	}
	wg.Wait()
	if want := [3]int{140_000, 40_000, 20_000}; got != want {
		t.Errorf("dealt %v, want %v", got, want)
	}
}

func TestSplitIsExactForAnyWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]int{1, 10, 100}).Draw(t, "unit")
		left := FullWeight / unit
		var weights []int
		for left > 0 && len(weights) < 7 {
			w := rapid.IntRange(0, left).Draw(t, "weight")
			weights, left = append(weights, w*unit), left-w
		}
		weights = append(weights, left*unit)
		s := newSplitter(weights, rapid.Uint64().Draw(t, "seed"), 0)
		got := deal(s, 2*FullWeight, len(weights))
		for i := range weights {
			if got[i] != 2*weights[i] {
				t.Fatalf("weights %v dealt as %v in two blocks of 10000", weights, got)
			}
		}
	})
}

func TestClipGivesTheShareOfTheMissingInProportion(t *testing.T) {
	for name, c := range map[string]struct {
		weights []int
		have    []bool
		want    []int
	}{
		"all there: as set":            {[]int{9500, 500}, []bool{true, true}, []int{9500, 500}},
		"canary missing: all stable":   {[]int{9500, 500}, []bool{true, false}, []int{10000, 0}},
		"stable missing: all canary":   {[]int{9500, 500}, []bool{false, true}, []int{0, 10000}},
		"three, one missing":           {[]int{5000, 3000, 2000}, []bool{true, false, true}, []int{7143, 0, 2857}},
		"only one without weight left": {[]int{10000, 0}, []bool{false, true}, nil},
		"nothing left":                 {[]int{5000, 5000}, []bool{false, false}, nil},
	} {
		got := clip(c.weights, func(i int) bool { return c.have[i] })
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	s := newSplitter([]int{9500, 500}, 1, 1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.pick()
		}
	})
}
