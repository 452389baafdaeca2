package analysis

import (
	"math"
	"time"
)

// shownSpan is the window of the figures that are shown to people.
const shownSpan = int64(5 * time.Minute)

// report answers the look in hand from what is remembered, in numbers. It
// changes nothing of that.
func (j *Judge) report(l *Look) Report {
	now := nanos(l.Time)
	if now == 0 {
		now = j.s.Last
	}
	s := &j.s
	r := Report{
		CanaryRequests: s.StepSums.CanaryN,
		StableRequests: s.StepSums.StableN,
		Scored:         time.Duration(s.ScoredNs),
		Exposed:        s.Exposed,
		Harmed:         math.Max(0, finite(s.Harmed)),
	}
	j.last = answered{given: true, canary: l.Canary, now: now}
	if l.Canary == "" {
		return r
	}
	if j.cfg.None {
		r.Verdict, r.Calm, r.Advance = Pass, true, 1
		return r
	}
	v := j.weigh(l, now)
	r.Verdict, r.Rule = v.verdict, v.rule
	r.BothBreak, r.Better = v.both, v.better
	r.Rollback, r.Advance = v.rollback, v.advance
	r.Calm = v.calm
	j.last.finding = v
	return r
}

// finding is the verdict and what it rests on.
type finding struct {
	verdict  Verdict
	why      reason
	rule     string
	limit    *limit // for the limit's reasons
	def      *rule
	rollback float64
	advance  float64
	calm     bool
	both     bool
	better   bool
}

// reason says which branch of weigh gave the verdict.
type reason uint8

const (
	becauseNothingAsked reason = iota
	becauseLimit
	becauseEvidence
	becauseNoCanary // the canary was not seen, or has no traffic
	becauseNoStable
	becauseNoMetric // a declared metric gave no usable number
	becauseBoth
	becausePending
	becauseNotLive
	becauseFew
	becauseProof // evidence for going on is not complete
	becauseShown
)

// weigh gives the verdict. Its cases run from what protects users to what
// makes progress.
func (j *Judge) weigh(l *Look, now int64) finding {
	f := finding{calm: true}
	var pending, both, firing, missing *limit
	var dPending, dBoth, dFiring, dMissing *rule
	for i := range j.s.Limits {
		m, d := &j.s.Limits[i], &j.rules[i]
		if !j.usable(m, now) && missing == nil {
			missing, dMissing = m, d
		}
		switch m.State {
		case limitFiring:
			if firing == nil {
				firing, dFiring = m, d
			}
			f.rollback = 1
		case limitPending, limitOver:
			if pending == nil || m.Since != 0 && (pending.Since == 0 || m.Since < pending.Since) {
				pending, dPending = m, d
			}
			if m.Since != 0 && d.hold > 0 {
				f.rollback = math.Max(f.rollback, math.Min(0.99, float64(now-m.Since)/float64(d.hold)))
			}
		case limitBoth:
			both, dBoth = m, d
		}
	}
	f.both = both != nil
	f.calm = pending == nil && both == nil && firing == nil
	asked := j.asked(l)
	j.evidenceFor(&f)
	set := func(v Verdict, w reason, m *limit, d *rule) finding {
		f.verdict, f.why, f.limit, f.def = v, w, m, d
		if d != nil {
			f.rule = d.name
		}
		if v == Unavailable {
			f.calm = false
		}
		if v != Pass {
			f.advance = math.Min(f.advance, 0.99)
		}
		return f
	}
	few := asked.canary
	if !j.noControl {
		few = math.Min(few, asked.stable)
	}
	f.advance = math.Min(f.advance, few)
	switch {
	case firing != nil:
		return set(Fail, becauseLimit, firing, dFiring)
	case j.s.Evidence.Failed:
		f = set(Fail, becauseEvidence, nil, nil)
		f.rule = j.s.Evidence.Rule
		return f
	case len(j.rules) == 0:
		f.calm = false
		return set(Unavailable, becauseNothingAsked, nil, nil)
	case !j.seenRecently(canaryArm, now):
		return set(Unavailable, becauseNoCanary, nil, nil)
	case !j.noControl && !j.seenRecently(stableArm, now):
		return set(Unavailable, becauseNoStable, nil, nil)
	case missing != nil:
		return set(Unavailable, becauseNoMetric, missing, dMissing)
	case both != nil && !f.better:
		return set(Undecided, becauseBoth, both, dBoth)
	case pending != nil:
		return set(Undecided, becausePending, pending, dPending)
	case !l.Live || j.s.LiveSince == 0:
		return set(Undecided, becauseNotLive, nil, nil)
	case j.s.StepSums.CanaryN <= 0:
		return set(Unavailable, becauseNoCanary, nil, nil)
	case !j.noControl && j.s.StepSums.StableN <= 0:
		return set(Unavailable, becauseNoStable, nil, nil)
	case few < 1:
		return set(Undecided, becauseFew, nil, nil)
	case f.advance < 1:
		return set(Undecided, becauseProof, nil, nil)
	}
	return set(Pass, becauseShown, nil, nil)
}

// asked is how much of the requests that the document asks for were scored.
type share struct{ canary, stable float64 }

func (j *Judge) asked(*Look) share {
	want := math.Max(1, j.cfg.MinRequests)
	return share{
		canary: math.Min(1, j.s.StepSums.CanaryN/want),
		stable: math.Min(1, j.s.StepSums.StableN/want),
	}
}

// seenRecently reports whether the arm gave requests within StaleAfter.
func (j *Judge) seenRecently(arm int, now int64) bool {
	at := j.s.Scored
	if j.s.Pending[arm].Has&HasRequests != 0 {
		at = j.s.Last
	}
	return at != 0 && now-at <= int64(j.cfg.StaleAfter)
}

// figures gives one comparison for each declared metric.
func (j *Judge) figures(now int64) []Figure {
	out := make([]Figure, 0, len(j.rules))
	for i := range j.rules {
		m, d := &j.s.Limits[i], &j.rules[i]
		f := Figure{Metric: d.name, State: limitWords[m.State], Window: j.shownFor(now)}
		if !j.usable(m, now) {
			f.State = limitWords[limitNoData]
		}
		switch {
		case d.hi != nil:
			f.Limit = *d.hi
		case d.lo != nil:
			f.Limit = *d.lo
		}
		switch d.kind {
		case ruleErrors:
			w := j.s.Shown
			w.slide(now, shownSpan)
			t := w.total()
			f.Unit = "share"
			f.Canary, f.Stable, f.CanaryN, f.StableN = t.canary(), t.stable(), t.CanaryN, t.StableN
			f.Low, f.High = band(t)
		case ruleLatency:
			j.latencyFigure(&f, m, d, now)
		case ruleCPU:
			f.Unit, f.Canary, f.Stable = "cores", m.Canary, m.Stable
			f.Window = time.Duration(span(d.hold))
		case ruleMemory:
			f.Unit, f.Canary, f.Stable = "bytes", m.Canary, m.Stable
			f.Window = 0
		case ruleCustom:
			f.Canary, f.Stable = m.Canary, m.Stable
			f.Window = 0
		}
		j.mark(&f, d)
		for _, x := range []*float64{&f.Canary, &f.Stable, &f.Low, &f.High} {
			*x = finite(*x)
		}
		out = append(out, f)
	}
	return out
}

// shownFor is how much time the shown window covers.
func (j *Judge) shownFor(now int64) time.Duration {
	if j.s.Began == 0 {
		return 0
	}
	return time.Duration(min(now-j.s.Began, shownSpan))
}

// band is a 95 % interval of the difference of two shares (Newcombe's, from
// Wilson's intervals of each): for showing only.
func band(t count) (lo, hi float64) {
	if t.CanaryN <= 0 || t.StableN <= 0 {
		return 0, 0
	}
	a, b := t.canary(), t.stable()
	al, ah := wilson(t.CanaryK, t.CanaryN)
	bl, bh := wilson(t.StableK, t.StableN)
	d := a - b
	return d - math.Hypot(a-al, bh-b), d + math.Hypot(ah-a, b-bl)
}

func wilson(k, n float64) (lo, hi float64) {
	const z = 1.959964
	p := math.Min(1, k/n)
	c := (p + z*z/(2*n)) / (1 + z*z/n)
	w := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return math.Max(0, c-w), math.Min(1, c+w)
}
