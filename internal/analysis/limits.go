package analysis

import (
	"errors"
	"math"
	"time"
)

// Limits are what people say: "above 1 % for 5 minutes".
//
// A limit is broken by a look when the canary's figure is beyond it and that is
// the canary's doing: stable, where it has traffic, keeps the limit, and for
// shares the canary's is also more than twice stable's in the same window.
// Broken at every look for the rule's `for` it fires. What stable breaks too is
// nobody's fault: it holds.
//
// The figure of a share is taken over the last minute, or over the rule's own
// `for` where that is shorter: then a `for` of three seconds means three
// seconds of bad figures and not the minute's long tail of one bad second. A
// share fires only with at least ten bad requests behind it.
//
// A look without the figure neither starts nor breaks a `for`, until nothing
// has been seen for Config.StaleAfter; then it starts again from nothing.

// minBad is how many bad requests a share needs before its limit may fire.
const minBad = 10

// burstNats of evidence must stand behind the limit on errors where stable's
// pods have bad times of their own.
const burstNats = 4.0

// loneTimes is by how much a limit on errors is stretched while only one
// of several canary pods breaks it, and stable's pods have such times too; the
// others must have answered loneRest requests lately to speak for the release.
// blindTimes is by how much while stable's pods were not watched for long enough
// to know how long their bad times last, unless plainShare of the requests fail:
// that is no bad minute.
const (
	wellKnown  = 4 * 3600 // seconds of pod time
	loneTimes  = 4
	loneRest   = 50
	blindTimes = 2
	plainShare = 0.2
)

// shareWindow is the window of a share where the rule's `for` is not shorter.
const shareWindow = time.Minute

// limitState is how far a limit has got.
type limitState uint8

const (
	limitNoData limitState = iota
	limitOK
	limitOver // beyond, and not attributable
	limitBoth // both versions break it
	limitPending
	limitFiring
)

var limitWords = [...]string{"noData", "ok", "pending", "both", "pending", "firing"}

// limit is the memory of one declared metric, with or without a max or min.
type limit struct {
	Rule    string     `json:"rule"`
	State   limitState `json:"state,omitempty"`
	Since   int64      `json:"since,omitempty"`  // broken at every look since
	Data    int64      `json:"data,omitempty"`   // last time both versions gave the figure
	CanData int64      `json:"cdata,omitempty"`  // last time the canary did
	StaData int64      `json:"sdata,omitempty"`  // last time stable did
	Bad     float64    `json:"bad,omitempty"`    // bad requests while pending
	Canary  float64    `json:"canary,omitempty"` // the figures last seen
	Stable  float64    `json:"stable,omitempty"`
	Before  float64    `json:"before,omitempty"`  // stable's share, slowly decayed
	Answer  Answer     `json:"answer,omitempty"`  // custom metrics: the canary's last answer
	SAnswer Answer     `json:"sanswer,omitempty"` // and stable's
	Window  *window    `json:"window,omitempty"`
}

func (l *limit) check() error {
	if l.State > limitFiring || l.Answer > SourceFailed || l.SAnswer > SourceFailed {
		return errors.New("an unknown word")
	}
	if !sane(l.Bad) {
		return errors.New("a count is negative or out of range")
	}
	if l.Window != nil {
		return l.Window.check()
	}
	return nil
}

// reading is what a look says about one limit.
type reading struct {
	seen    bool // the canary's figure is known now
	over    bool // it is beyond the limit
	control bool // stable's figure is known and counts
	both    bool // stable is beyond the limit too
	worse   bool // the canary's figure is clearly beyond stable's
	bad     float64
	badNow  float64 // of bad, what this look added
}

// step moves the limit by one look.
func (l *limit) step(r reading, now int64, hold, stale time.Duration, noControl bool) {
	if !r.seen {
		if now-l.CanData > int64(stale) {
			l.Since, l.Bad, l.State = 0, 0, limitNoData
		}
		return
	}
	if l.CanData != 0 && now-l.CanData > int64(stale) {
		l.Since, l.Bad = 0, 0
	}
	l.CanData = now
	switch {
	case !r.over:
		l.Since, l.Bad, l.State = 0, 0, limitOK
	case r.control && r.both:
		l.Since, l.Bad, l.State = 0, 0, limitBoth
	case !r.worse, !r.control && !noControl:
		l.Since, l.Bad, l.State = 0, 0, limitOver
	default:
		if l.Since == 0 {
			l.Since, l.Bad = now, r.bad
		} else {
			l.Bad += r.badNow
		}
		l.State = limitPending
		if now-l.Since >= int64(hold) && l.Bad >= minBad {
			l.State = limitFiring
		}
	}
}

// span is the window of a share under a rule that holds for so long.
func span(hold time.Duration) int64 {
	if hold > 0 && hold < shareWindow {
		return int64(hold)
	}
	return int64(shareWindow)
}

// share steps a limit on a share of requests. c is what this look scored,
// before is stable's share while it had traffic, and believed says that the
// evidence does not contradict the limit.
func (l *limit) share(c count, width int64, max, before float64, believed bool, hold, stale time.Duration, now int64, noControl bool) {
	if l.Window == nil {
		l.Window = new(window)
	}
	l.Window.add(now, width, c)
	t := l.Window.total()
	l.Canary, l.Stable = t.canary(), t.stable()
	control := t.StableN > 0 && !noControl
	worse := l.Canary > 2*l.Stable
	if noControl {
		// Stable is gone: what it was like still says whether the canary is
		// worse, but never excuses more than twice the limit.
		worse = l.Canary > 2*min(before, max)
	}
	l.step(reading{
		seen:    t.CanaryN > 0,
		over:    l.Canary > max,
		control: control,
		both:    l.Stable > max,
		worse:   worse && believed,
		bad:     t.CanaryK,
		badNow:  c.CanaryK,
	}, now, hold, stale, noControl)
}

// level steps a limit on a figure that is not a share.
func (l *limit) level(seen, control bool, lo, hi *float64, hold, stale time.Duration, now int64, noControl bool) {
	beyond := func(x float64) bool { return hi != nil && x > *hi || lo != nil && x < *lo }
	l.step(reading{
		seen:    seen,
		over:    beyond(l.Canary),
		control: control,
		both:    beyond(l.Stable),
		worse:   true,
		bad:     minBad, // a level has no sample to be small
	}, now, hold, stale, noControl)
}

// limits steps every declared limit with what was scored. Ticks that saw one
// arm only were not scored and come here with scored = false: to the limits
// they are missing data.
func (j *Judge) limits(l *Look, scored bool, now int64) {
	c, s := &j.tick[canaryArm], &j.tick[stableArm]
	noControl := j.noControl
	if scored && j.cfg.ErrorRate != nil {
		j.follow(now)
	}
	for i := range j.s.Limits {
		m := &j.s.Limits[i]
		d := &j.rules[i]
		switch d.kind {
		case ruleErrors:
			j.seen(m, scored, c.Has&HasErrors != 0, s.Has&HasErrors != 0, now)
			if d.hi != nil {
				t := count{}
				if scored {
					t = count{c.NE, c.E, s.NE, s.E}
				}
				j.shareOrMiss(m, d, t, scored && c.Has&HasErrors != 0, now)
			}
		case ruleLatency:
			need := HasLatency
			if d.hi != nil {
				need |= hasBound
			}
			j.seen(m, scored, c.Has&need == need, s.Has&need == need, now)
			if d.hi != nil {
				t := count{}
				if scored {
					t = count{c.SlowN, c.Slow, s.SlowN, s.Slow}
				}
				j.shareOrMiss(m, d, t, scored && c.Has&need == need, now)
			}
		case ruleCPU:
			j.seen(m, scored, c.Has&HasCPU != 0, s.Has&HasCPU != 0, now)
			if m.Window == nil {
				m.Window = new(window)
			}
			if scored {
				m.Window.add(now, span(d.hold), count{c.CPUTime, c.CPU, s.CPUTime, s.CPU})
			}
			m.Window.slide(now, span(d.hold))
			t := m.Window.total()
			if t.CanaryN > 0 {
				m.Canary, m.Stable = t.canary(), t.stable()
			}
			if d.hi != nil {
				m.level(scored && c.Has&HasCPU != 0 && t.CanaryN > 0, t.StableN > 0 && !noControl, nil, d.hi, d.hold, j.cfg.StaleAfter, now, noControl)
			}
		case ruleMemory:
			has := scored && c.MemPods > 0
			j.seen(m, scored, c.MemPods > 0, s.MemPods > 0, now)
			if has {
				m.Canary = c.MemMax
				if s.MemPods > 0 {
					m.Stable = s.MemMax
				}
			}
			if d.hi != nil {
				m.level(has, s.MemPods > 0 && !noControl, nil, d.hi, d.hold, j.cfg.StaleAfter, now, noControl)
			}
		case ruleCustom:
			j.custom(l, m, d, now)
		}
		if d.hi == nil && d.lo == nil {
			m.State = limitNoData
			if j.usable(m, now) {
				m.State = limitOK
			}
		}
	}
}

func (j *Judge) shareOrMiss(m *limit, d *rule, t count, has bool, now int64) {
	if !has {
		m.step(reading{}, now, d.hold, j.cfg.StaleAfter, j.noControl)
		return
	}
	hold, believed, before := d.hold, true, 0.0
	e := j.s.Evidence
	if d.kind == ruleErrors {
		before, _ = e.base()
	} else {
		before = m.Before
		if !j.noControl && t.StableN > 0 {
			m.Before = m.Before*0.99 + 0.01*t.StableK/t.StableN
		}
	}
	if bursts := e.Cal.bursts(); j.cfg.Compare && (bursts || e.Cal.PodSeconds < wellKnown) {
		// Stable's own pods have bad times that last as long as this, or nobody
		// knows: a limit for a shorter time would blame the canary for the like.
		if d.kind == ruleErrors && j.onePodOnly(*d.hi) {
			hold *= loneTimes // the longest time that was seen says little about the longest there is
		} else {
			if d.kind == ruleErrors && m.Canary <= plainShare && e.Cal.PodSeconds < wellKnown {
				hold *= blindTimes
			}
			if bursts {
				hold = max(hold, min(2*d.hold, time.Duration((1.5*e.Cal.Longest+60)*float64(time.Second))))
			}
		}
		if byErr, _, _ := j.stakes(); bursts && d.kind == ruleErrors && !j.noControl {
			believed = byErr >= burstNats
		}
	}
	m.share(t, span(d.hold), *d.hi, before, believed, hold, j.cfg.StaleAfter, now, j.noControl)
}

// follow keeps what each canary pod answered lately, over a time constant of
// the limit's own `for`.
func (j *Judge) follow(now int64) {
	over := max(j.cfg.ErrorRate.For, shareWindow)
	for _, p := range j.seenPods[canaryArm] {
		keep := 0.0
		if p.WAt != 0 && now > p.WAt {
			keep = math.Exp(-float64(now-p.WAt) / float64(over))
		}
		p.WN, p.WE, p.WAt = p.WN*keep+p.d.NE, p.WE*keep+p.d.E, now
	}
}

// onePodOnly reports whether the canary keeps the limit but for one of its
// pods: then it is that pod, and a release is wrong on all of them.
func (j *Judge) onePodOnly(max float64) bool {
	var n, k, worst, worstN, worstK float64
	for _, p := range j.seenPods[canaryArm] {
		n, k = n+p.WN, k+p.WE
		if over := p.WE - max*p.WN; over > worst {
			worst, worstN, worstK = over, p.WN, p.WE
		}
	}
	n, k = n-worstN, k-worstK
	return worst > 0 && n >= loneRest && k <= max*n
}

// lonePod reports whether it is one of several canary pods that speaks against
// the release, and the others speak for it: what they fail more than stable is
// not what counts as worse, and clearly less than half of what that one does.
func (j *Judge) lonePod() bool {
	e := j.s.Evidence
	if e.Suspect != byErrors || len(j.seenPods[canaryArm]) < 2 {
		return false
	}
	b := ratio(e.R.SE, e.R.SN)
	if j.noControl {
		b, _ = e.base()
	}
	rest := recent{SN: e.R.SN, SE: e.R.SE}
	var worst, worstN, worstE float64
	for _, p := range j.seenPods[canaryArm] {
		rest.CN, rest.CE = rest.CN+p.WN, rest.CE+p.WE
		if over := p.WE - b*p.WN; over > worst {
			worst, worstN, worstE = over, p.WN, p.WE
		}
	}
	rest.CN, rest.CE = math.Max(0, rest.CN-worstN), math.Max(0, rest.CE-worstE)
	if worst <= 0 || rest.CN < loneRest {
		return false
	}
	if j.noControl && j.openAlone(byErrors, &rest) || !j.noControl && j.gateErrors(&rest, e.unlike()) {
		return false
	}
	a := ratio(rest.CE, rest.CN)
	return a-b+2*math.Sqrt(math.Max(a, b)/rest.CN) < (ratio(worstE, worstN)-b)/2
}

// usable reports whether the metric gave numbers within Config.StaleAfter.
func (j *Judge) usable(m *limit, now int64) bool {
	return m.Data != 0 && now-m.Data <= int64(j.cfg.StaleAfter) && (m.Answer == NoAnswer || m.Answer == Number)
}

// seen notes that the versions gave this metric at all, broken or not.
func (j *Judge) seen(m *limit, scored, canary, stable bool, now int64) {
	if !scored {
		return
	}
	if stable {
		m.StaData = now
	}
	if canary && (stable || j.noControl) {
		m.Data = now
	}
}

// custom takes the answers to a custom metric. An answer that is not a number
// is its own answer: it makes the metric unusable at once, and is missing data
// to the limit. Where the source gives one number for the canary and is not
// asked about stable, that number stands alone.
func (j *Judge) custom(l *Look, m *limit, d *rule, now int64) {
	var c, s Reading
	for i := range l.Custom {
		if l.Custom[i].Name == m.Rule {
			c, s = l.Custom[i].Canary, l.Custom[i].Stable
			break
		}
	}
	c.Answer, s.Answer = honest(c), honest(s)
	if s.Answer != NoAnswer {
		m.SAnswer = s.Answer
		if s.Answer == Number {
			m.Stable, m.StaData = s.Value, now
		}
	}
	if c.Answer != NoAnswer {
		m.Answer = c.Answer
		if c.Answer == Number {
			m.Canary = c.Value
		}
	}
	stale := int64(j.cfg.StaleAfter)
	recent := m.StaData != 0 && now-m.StaData <= stale && m.SAnswer == Number
	// stable was asked and gave no number: nobody can say whose doing it is.
	blind := m.SAnswer != Number && m.SAnswer != NoAnswer && !j.noControl
	if c.Answer == Number && !blind {
		m.Data = now
	}
	alone := j.noControl || m.SAnswer == NoAnswer
	m.level(c.Answer == Number, recent && !j.noControl, d.lo, d.hi, d.hold, j.cfg.StaleAfter, now, alone)
}

// honest tells a number from what only looks like one.
func honest(r Reading) Answer {
	switch {
	case r.Answer > SourceFailed:
		return SourceFailed
	case r.Answer == Number && (math.IsNaN(r.Value) || math.IsInf(r.Value, 0)):
		return NotANumber
	}
	return r.Answer
}
