package analysis

import (
	"cmp"
	"math"
	"time"
)

const (
	stableArm = 0
	canaryArm = 1
)

// maxTick is the longest time that one look may add to what counts as scored:
// time without observation is no evidence of anything.
const maxTick = time.Minute

type ruleKind uint8

const (
	ruleErrors ruleKind = iota
	ruleLatency
	ruleCPU
	ruleMemory
	ruleCustom
)

// rule is one declared metric as the limits see it; lo and hi are nil where
// the document sets none.
type rule struct {
	kind   ruleKind
	name   string
	lo, hi *float64
	hold   time.Duration
}

// Judge judges one rollout after another of one workload. It is not safe for
// use by several goroutines at once.
type Judge struct {
	cfg   Config
	rules []rule
	s     state
	pods  map[podKey]*pod

	slowBound float64 // the latency limit in milliseconds; 0 = none
	shareHi   float64

	// Of the look in hand.
	arms      [2]delta
	seenPods  [2][]*pod
	tick      [2]delta // what was scored: with what earlier looks left over
	scored    bool
	stale     bool // the look is not later than the one before
	noControl bool // no stable arm has traffic, and none should
	fault     fault
	last      answered
}

// New gives a judge that knows nothing yet. A zero StaleAfter is a minute.
func New(cfg Config) *Judge {
	if cfg.StaleAfter <= 0 {
		cfg.StaleAfter = time.Minute
	}
	if !(cfg.FalseRollback > 0 && cfg.FalseRollback < 1) {
		cfg.FalseRollback = 0.01
	}
	j := &Judge{cfg: cfg, pods: map[podKey]*pod{}}
	j.s.Version = stateVersion
	j.s.Evidence = newEvidence()
	add := func(k ruleKind, name string, lo, hi *float64, hold time.Duration) {
		j.rules = append(j.rules, rule{k, name, lo, hi, hold})
		j.s.Limits = append(j.s.Limits, limit{Rule: name})
	}
	if r := cfg.ErrorRate; r != nil {
		add(ruleErrors, "errorRate", nil, r.Max, r.For)
	}
	if r := cfg.Latency; r != nil {
		var hi *float64
		if r.Max > 0 {
			j.slowBound = float64(r.Max) / float64(time.Millisecond)
			j.shareHi = 1 - r.Quantile
			hi = &j.shareHi
		}
		add(ruleLatency, "latency", nil, hi, r.For)
	}
	if r := cfg.CPU; r != nil {
		add(ruleCPU, "cpu", nil, r.Max, r.For)
	}
	if r := cfg.Memory; r != nil {
		add(ruleMemory, "memory", nil, r.Max, r.For)
	}
	for _, r := range cfg.Custom {
		add(ruleCustom, r.Name, r.Min, r.Max, r.For)
	}
	j.refresh()
	return j
}

// Look takes what was seen at one instant and answers it, in numbers: the
// sentence and the figures are added by Explain. It allocates nothing once the
// pods and the metrics are known.
func (j *Judge) Look(l Look) Report {
	j.observe(&l)
	return j.report(&l)
}

// Explain adds the sentence and the figures to r, the answer of the last Look.
// They are words for people: nothing is decided by them, and they are made only
// where somebody wants them.
func (j *Judge) Explain(r *Report) {
	a := &j.last
	if !a.given {
		return
	}
	if a.canary == "" {
		r.Sentence = "No release on trial: " + j.restWords() + "."
		return
	}
	if j.cfg.None {
		r.Sentence = "Not judged, as the document asks: " + cmp.Or(j.cfg.NoneReason, "no reason given") + "."
		return
	}
	r.Figures = j.figures(a.now)
	r.Sentence = j.sentence(a.now, &a.finding, r)
}

// answered is what the last look came to: what Explain puts into words. It is
// not remembered over a restart.
type answered struct {
	given   bool
	canary  string
	now     int64
	finding finding
}

// observe scores the look.
func (j *Judge) observe(l *Look) {
	now := nanos(l.Time)
	j.fault = fault{}
	j.scored = false
	j.stale = j.s.Last != 0 && now <= j.s.Last || now == 0
	j.turn(l)
	if j.stale {
		return
	}
	j.step(l)
	j.ingest(stableArm, l.Stable, l.StablePods, now)
	j.ingest(canaryArm, l.Canary, l.CanaryPods, now)
	if j.arms[stableArm].N > 0 {
		j.s.StableN = now
	}
	j.noControl = l.Canary != "" && (l.Weight >= 1-1e-9 || l.Baking && now-j.s.StableN > int64(j.cfg.StaleAfter))
	j.pair(l)
	if l.Canary != "" {
		j.count(l, now)
		j.limits(l, j.scored, now)
		if j.scored {
			j.compare(l, now)
		}
	}
	j.calibrate(l, now)
	if j.scored {
		j.s.Scored = now
	}
	j.s.Last = now
	j.forget(now)
}

// turn starts from nothing when another revision is on trial, or another one
// is stable: evidence never mixes revisions. What the pods counted stays: it is
// theirs.
func (j *Judge) turn(l *Look) {
	if l.Canary == j.s.Canary && l.Stable == j.s.Stable && l.Tries == j.s.Tries {
		return
	}
	other := l.Stable != j.s.Stable
	s := &j.s
	s.Canary, s.Stable, s.Tries = l.Canary, l.Stable, l.Tries
	s.Began, s.Exposed, s.Harmed = 0, 0, 0
	s.Step, s.LiveSince, s.StepSums, s.ScoredNs = 0, 0, sums{}, 0
	s.Pending = [2]delta{}
	s.Shown, s.SlowShown = window{}, window{}
	for i := range s.Limits {
		s.Limits[i] = limit{Rule: s.Limits[i].Rule}
	}
	s.Evidence.restart(other)
	j.refresh()
}

// step notes a step that begins, and a split that is seen in force.
func (j *Judge) step(l *Look) {
	s := &j.s
	if l.Step != s.Step {
		s.Step, s.LiveSince, s.StepSums, s.ScoredNs = l.Step, 0, sums{}, 0
		s.Evidence.newStep()
	}
	if l.Live && s.LiveSince == 0 {
		s.LiveSince = nanos(l.Time)
	}
}

// pair decides whether this look is scored: both arms must have reported in it.
// What only one arm reported waits in Pending for the next look that has both,
// so that no tick compares different times.
func (j *Judge) pair(l *Look) {
	s := &j.s
	stable := j.arms[stableArm].Has&HasRequests != 0
	canary := j.arms[canaryArm].Has&HasRequests != 0
	switch {
	case l.Canary == "":
		j.scored = stable
	case j.noControl:
		j.scored = canary
		j.arms[stableArm], s.Pending[stableArm] = delta{}, delta{}
	default:
		j.scored = stable && canary
	}
	for a := range s.Pending {
		s.Pending[a].add(&j.arms[a])
	}
	if !j.scored {
		return
	}
	j.tick = s.Pending
	s.Pending = [2]delta{}
}

// count adds what the figures and the sums are made of.
func (j *Judge) count(l *Look, now int64) {
	s := &j.s
	s.Exposed += j.arms[canaryArm].N
	if s.Began == 0 && j.arms[canaryArm].N > 0 {
		s.Began = now
	}
	if !j.scored {
		return
	}
	c, t := &j.tick[canaryArm], &j.tick[stableArm]
	if c.NE > 0 {
		base, known := ratio(t.E, t.NE), t.NE > 0
		if !known {
			base, known = s.Evidence.base()
		}
		if known {
			s.Harmed += c.E - c.NE*base
		}
	}
	s.Shown.add(now, shownSpan, count{c.NE, c.E, t.NE, t.E})
	s.SlowShown.add(now, shownSpan, count{c.SlowN, c.Slow, t.SlowN, t.Slow})
	if s.LiveSince == 0 || s.LiveSince >= now || !l.Live {
		return
	}
	s.StepSums.CanaryN += c.N
	s.StepSums.StableN += t.N
	from := max(s.Scored, s.LiveSince)
	s.ScoredNs += min(now-from, int64(maxTick))
}

// finite replaces what JSON cannot carry.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
