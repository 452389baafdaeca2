package trial

import (
	"math"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// What the judge needs beyond the bound, in nats: not knowing the size and the
// onset of what it looks for, sharing its error among metrics, and the step by
// which the last error overshoots. Measured; see docs/SIMULATE.md.
const judgeCost = 3.4

// detectionQuantile: "caught" means in nine runs of ten.
const detectionQuantile = 1.2816

// The judge's proof that nothing is worse: its level, and the margin that it
// widens where traffic is low (requests a step may harm before the next look).
const (
	proofNats  = 2.9957 // ln 20
	harmLimit  = 5.0
	mostMargin = 0.3
	gatePart   = 0.6
	gateMemory = 165.0 // seconds
	leastShare = 0.0003
)

// Bound is the least mean time in which any test with this probability of a
// false rollback can tell a canary that fails the share bad from a stable that
// fails base, at a constant weight (Wald). It is the largest duration where it
// cannot be told at all.
func Bound(alpha, weight, rps, base, bad float64) time.Duration {
	return seconds(math.Log(1/alpha) / information(weight*rps, (1-weight)*rps, bad, base))
}

// boundSlow is the same for a canary that is slower.
func boundSlow(alpha, weight, rps float64, h *shape) time.Duration {
	return seconds(math.Log(1/alpha) / h.information(weight*rps, (1-weight)*rps))
}

func seconds(x float64) time.Duration {
	if !(x < 1e9) {
		return math.MaxInt64
	}
	return time.Duration(x * float64(time.Second))
}

// needed is the mean information that catches in nine runs of ten: a sum of
// independent looks with mean x has a variance of about 2x.
func needed(alpha float64) float64 {
	need := math.Log(1/alpha) + judgeCost
	root := (detectionQuantile*math.Sqrt2 + math.Sqrt(2*detectionQuantile*detectionQuantile+4*need)) / 2
	return root * root
}

// CatchTime is in what time a canary that fails the share bad is taken back in
// nine runs of ten, at a constant weight.
func CatchTime(cfg analysis.Config, weight, rps, base, bad float64) time.Duration {
	if cfg.None || cfg.ErrorRate == nil || cfg.ErrorRate.WorseBy <= 0 || weight <= 0 || weight >= 1 {
		return math.MaxInt64
	}
	return seconds(needed(cfg.FalseRollback) / information(weight*rps, (1-weight)*rps, bad, base))
}

// SmallestError is the smallest share of failures that is taken back within d in
// nine runs of ten, at a constant weight; ok is false if not even a canary that
// fails everything is.
func SmallestError(cfg analysis.Config, weight, rps, base float64, d time.Duration) (share float64, ok bool) {
	fits := func(p float64) bool {
		if CatchTime(cfg, weight, rps, base, p) > d {
			return false
		}
		n := weight * rps * math.Min(d.Seconds(), gateMemory)
		return n > 0 && p-base-math.Sqrt(p/n) >= math.Max(leastShare, gatePart*cfg.ErrorRate.WorseBy)
	}
	if !fits(1) {
		return 0, false
	}
	low, high := base, 1.0
	for range 50 {
		if mid := (low + high) / 2; fits(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, true
}

// AdvanceTime is about how long a healthy canary takes to show at a step that
// it is not worse, and what that waits for: "requests", "errors" or "latency";
// "" where nothing is judged. next is the next step's weight, 0 for none.
// Latency is taken to be log-normal with sigma 0.6, as web services' often is.
func AdvanceTime(cfg analysis.Config, weight, next, rps, base float64) (time.Duration, string) {
	if cfg.None || weight <= 0 || rps <= 0 {
		return 0, ""
	}
	share := weight
	if weight < 1 {
		share = math.Min(weight, 1-weight)
	}
	longest, why := cfg.MinRequests/(rps*share), "requests"
	slack := math.Min(mostMargin, harmLimit/(math.Max(next, weight)*math.Max(rps, 0.1)*60))
	proof := func(p0, p1 float64) float64 {
		p0 = math.Max(p0, 1e-6)
		p1 = math.Max(p1, p0*1.01)
		nats := p0*math.Log(p0/p1) + (1-p0)*math.Log((1-p0)/(1-p1))
		return proofNats / (nats * rps * weight)
	}
	if r := cfg.ErrorRate; cfg.Compare && r != nil && r.WorseBy > 0 {
		if t := proof(base, math.Min(0.99, base+math.Max(r.WorseBy, slack))); t > longest {
			longest, why = t, "errors"
		}
	}
	if r := cfg.Latency; cfg.Compare && r != nil && r.WorseBy > 0 {
		z := math.Sqrt2 * math.Erfinv(2*r.Quantile-1)
		p0 := math.Erfc((z+math.Log(1+r.WorseBy)/0.6)/math.Sqrt2) / 2
		if t := proof(p0, math.Max(math.Max(1-r.Quantile, 1.5*p0), p0+slack)); t > longest {
			longest, why = t, "latency"
		}
	}
	return seconds(longest), why
}

// StepPower is what one weight step can tell.
type StepPower struct {
	Step   int     `json:"step"` // index in the plan
	Weight float64 `json:"weight"`
	// Smallest is the smallest share of failures caught within the time that
	// was asked about, in nine runs of ten; nil = none is.
	Smallest *float64 `json:"smallest,omitempty"`
	// Advance is about how long a healthy canary stays: the step's hold, or
	// longer for the evidence; at most the deadline where the document then
	// goes on. Evidence is the latter alone, and By what it waits for.
	Advance  time.Duration `json:"advance"`
	Evidence time.Duration `json:"evidence"`
	By       string        `json:"by,omitempty"`
}

// Power says for each weight step of the plan what its settings can tell at
// this traffic and share of failures. It is pure arithmetic.
func Power(spec rollout.Spec, cfg analysis.Config, rps, base float64, within time.Duration) []StepPower {
	var out []StepPower
	for i, s := range spec.Steps {
		if s.Kind != rollout.StepWeight {
			continue
		}
		w := s.Weight
		if w == rollout.Whole {
			w -= spec.Promotion.Control
		}
		next := 0.0
		for _, n := range spec.Steps[i+1:] {
			if n.Kind == rollout.StepWeight && n.Weight > s.Weight {
				next = float64(n.Weight) / float64(rollout.Whole)
				break
			}
		}
		p := StepPower{Step: i, Weight: float64(w) / float64(rollout.Whole)}
		if x, ok := SmallestError(cfg, p.Weight, rps, base, within); ok {
			p.Smallest = &x
		}
		p.Evidence, p.By = AdvanceTime(cfg, p.Weight, next, rps, base)
		hold := s.Hold
		if s.Weight == rollout.Whole {
			hold = max(hold, spec.Promotion.Bake)
		}
		p.Advance = max(hold, p.Evidence)
		if d := max(spec.Analysis.Deadline, hold); spec.Analysis.OnUndecided == rollout.ActAdvance {
			p.Advance = min(p.Advance, d)
		}
		out = append(out, p)
	}
	return out
}
