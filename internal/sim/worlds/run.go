package worlds

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// Policy is a plain list of steps: what a rollout does with verdicts, without
// hands, gates and capacity.
type Policy struct {
	Weights  []float64
	Hold     time.Duration // least time at a step
	Deadline time.Duration // then go on if calm, else stay
	Bake     time.Duration
	Control  float64       // share that stays on stable while baking
	Horizon  time.Duration // the run ends
}

// DefaultPolicy is the default of the document.
func DefaultPolicy() Policy {
	return Policy{Weights: []float64{0.05, 0.25, 0.5, 0.75, 1}, Hold: time.Minute, Deadline: 30 * time.Minute, Bake: 10 * time.Minute, Horizon: 90 * time.Minute}
}

// Document is the analysis of the founding document.
func Document() analysis.Config {
	max := 0.01
	return analysis.Config{
		ErrorRate:   &analysis.RateRule{WorseBy: 0.005, Max: &max, For: 5 * time.Minute},
		Latency:     &analysis.LatencyRule{Quantile: 0.99, WorseBy: 0.2, Max: 500 * time.Millisecond, For: 5 * time.Minute},
		MinRequests: 200, FalseRollback: 0.01, StaleAfter: time.Minute, Compare: true,
	}
}

// Result is what came of one run.
type Result struct {
	RolledBack bool
	Promoted   bool
	Rule       string
	Sentence   string
	// Took is from the canary's start to the rollback, or to 100 %; Onset from
	// when it was first wrong to the rollback.
	Took, Onset     time.Duration
	Exposed, Harmed float64
	Info            float64
}

// Run closes the loop between the scenario's world, the judge and the policy.
func Run(s Scenario, cfg analysis.Config, p Policy, seed uint64) Result {
	if !s.Latency {
		cfg.Latency = nil
	} else if s.Quantile > 0 && cfg.Latency != nil {
		r := *cfg.Latency
		r.Quantile = s.Quantile
		r.Max = 0 // the limit on the 99th percentile does not apply to it
		cfg.Latency = &r
	}
	w := New(s, seed)
	j := analysis.New(cfg)
	for w.Elapsed() < 0 {
		w.Advance(0)
		j.Look(analysis.Look{Time: w.Now(), Stable: "v1", StablePods: w.Stable()})
	}
	step, since := 0, time.Duration(0)
	baking := false
	var res Result
	weight := func() float64 {
		if baking && p.Control > 0 {
			return 1 - p.Control
		}
		x := p.Weights[step]
		if step == len(p.Weights)-1 && p.Control > 0 {
			return math.Min(x, 1-p.Control)
		}
		return x
	}
	for w.Elapsed() < p.Horizon {
		at := weight()
		w.Advance(at)
		next := 0.0
		if step+1 < len(p.Weights) {
			next = p.Weights[step+1]
		}
		r := j.Look(analysis.Look{Time: w.Now(), Stable: "v1", Canary: "v2", Step: step, Live: true, Weight: at, NextWeight: next, Baking: baking,
			StablePods: w.Stable(), CanaryPods: w.Canary()})
		if r.Verdict == analysis.Fail {
			j.Explain(&r)
			res.RolledBack, res.Took, res.Rule, res.Sentence = true, w.Elapsed(), r.Rule, r.Sentence
			res.Onset = w.Elapsed() - time.Duration(w.OnsetAt*float64(time.Second))
			break
		}
		held := w.Elapsed() - since
		shown := r.Verdict == analysis.Pass && held >= p.Hold
		late := held >= p.Deadline && r.Calm && r.Verdict != analysis.Unavailable && 2*r.Scored >= held
		switch {
		case baking && held >= p.Bake && (r.Verdict == analysis.Pass || late):
			goto done
		case baking || !shown && !late:
		case step+1 < len(p.Weights):
			step, since = step+1, w.Elapsed()
			if step == len(p.Weights)-1 {
				baking = true
				res.Promoted, res.Took = true, w.Elapsed()
			}
		}
	}
done:
	res.Exposed, res.Harmed, res.Info = w.Exposed, w.Harmed, w.Info
	if !res.RolledBack && !s.Healthy() {
		// Nobody watches any more: it goes on to the horizon.
		left := (p.Horizon - w.Elapsed()).Seconds()
		res.Harmed += left * s.RPS * (math.Max(0, s.Bad-s.Base) + s.Tail)
	}
	return res
}

// Totals is what came of many runs of one scenario.
type Totals struct {
	Runs       int
	RolledBack int
	Promoted   int
	Took       []time.Duration // of rollbacks: from the onset, or from the start where healthy
	Promotion  []time.Duration
	Harmed     float64 // mean
	Exposed    float64
	Info       float64 // mean of rollbacks, nats
	First      string  // the first rollback's sentence
	FirstSeed  uint64
	Rules      map[string]int
}

// Campaign runs the scenario with seeds seed, seed+1, ...
func Campaign(s Scenario, cfg analysis.Config, p Policy, seed uint64, runs int) Totals {
	results := make([]Result, runs)
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				results[i] = Run(s, cfg, p, seed+uint64(i))
			}
		})
	}
	for i := range runs {
		next <- i
	}
	close(next)
	wg.Wait()
	t := Totals{Runs: runs, Rules: map[string]int{}}
	for i, r := range results {
		t.Harmed += r.Harmed / float64(runs)
		t.Exposed += r.Exposed / float64(runs)
		if r.RolledBack {
			if t.RolledBack == 0 {
				t.First, t.FirstSeed = r.Sentence, seed+uint64(i)
			}
			t.RolledBack++
			how := r.Rule
			if !strings.Contains(r.Sentence, "worse by evidence") {
				how += " limit"
			}
			t.Rules[how]++
			t.Info += r.Info
			if s.Healthy() {
				t.Took = append(t.Took, r.Took)
			} else {
				t.Took = append(t.Took, r.Onset)
			}
		} else if r.Promoted {
			t.Promotion = append(t.Promotion, r.Took)
		}
		if r.Promoted {
			t.Promoted++
		}
	}
	if t.RolledBack > 0 {
		t.Info /= float64(t.RolledBack)
	}
	return t
}

// Median of durations; 0 for none.
func Median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = append([]time.Duration(nil), d...)
	for i := 1; i < len(d); i++ {
		for k := i; k > 0 && d[k] < d[k-1]; k-- {
			d[k], d[k-1] = d[k-1], d[k]
		}
	}
	return d[len(d)/2]
}
