package analysis

import "math"

// compare scores one tick of both versions. Its order matters in one way only:
// every bet is laid with what was known before the tick.
func (j *Judge) compare(l *Look, now int64) {
	e := j.s.Evidence
	dt := maxTick.Seconds()
	if j.s.Scored != 0 {
		dt = float64(now-j.s.Scored) / 1e9
	}
	keep := math.Exp(-dt / recentTau)
	gap := dt > 2*maxTick.Seconds()
	dt = math.Min(dt, maxTick.Seconds())
	if e.Scale == (scales{}) {
		j.rescale(l)
	}
	c, s := &j.tick[canaryArm], &j.tick[stableArm]
	grown := *c // the histogram of pods that are warm
	for i := range grown.Hist {
		grown.Hist[i] = math.Max(0, c.Hist[i]-c.Young[i])
		e.RecentC[i] = e.RecentC[i]*keep + c.Hist[i]
		e.RecentS[i] = e.RecentS[i]*keep + s.Hist[i]
	}
	j.recall(l, &grown, s, keep, dt)
	j.gauges(l, c, s, dt)
	if e.Failed {
		return
	}
	newStep := l.Weight != e.Weight
	e.Weight = math.Min(math.Max(l.Weight, 0), 1)
	t := tickBets{dt: dt, newStep: newStep, cap: capPart * (j.threshold() + capSlack) * math.Min(1, dt/capSeconds)}
	if j.noControl {
		j.alone(&t, &grown, now)
	} else {
		j.together(&t, &grown, s)
	}
	if !gap {
		e.RateN, e.RateT = e.RateN*keep+c.N+s.N, e.RateT*keep+dt
	}
	if l.Live && j.s.LiveSince != 0 && j.s.LiveSince < now {
		j.prove(l, c, s, gap)
	}
	if s.NL > 0 && e.Model.n > 0 {
		k, n := weighted(&s.Hist, &e.Model.marginW)
		e.MarginK, e.MarginN = e.MarginK*keep+k, e.MarginN*keep+n
		k, n = weighted(&s.Hist, &e.Model.marginW)
		long := math.Exp(-dt / longMemory)
		e.LongK, e.LongL = e.LongK*long+k, e.LongL*long+n
	}
	j.decide(&t, &grown, now)
}

// tickBets are the bets of one tick, tempered by the scales in force.
type tickBets struct {
	dt      float64
	newStep bool
	cap     float64
	errors  [maxAlts]float64
	latency [maxAlts]float64
	nE, nL  int // how many of them were laid
}

// recall follows the recent sums that the gate looks at.
func (j *Judge) recall(l *Look, c, s *delta, keep, dt float64) {
	e := j.s.Evidence
	e.R.decay(keep)
	// The split may have changed within the tick: the larger share is no surplus.
	// Nor is anything one before the split was seen in force.
	due := c.NE
	if l.Live && l.Weight > 0 {
		due = math.Min(math.Max(l.Weight, e.Weight), 1) * (c.NE + s.NE)
	}
	e.Due = e.Due*keep + due
	// Now follows the last seconds, or the last requests where they are few.
	e.Now.decay(math.Exp(-dt / math.Min(math.Max(nowRequests*recentTau/math.Max(e.R.CN, 1), nowSeconds), recentTau)))
	var x recent
	x.CN, x.CE, x.SN, x.SE = c.NE, c.E, s.NE, s.E
	if c.NL+s.NL > 0 && e.Model.n > 0 {
		x.CK, x.CL = weighted(&c.Hist, &e.Model.marginW)
		x.SK, x.SL = weighted(&s.Hist, &e.Model.marginW)
	}
	e.R.add(&x)
	e.Now.add(&x)
}

// together bets on a tick that both versions have traffic in.
func (j *Judge) together(t *tickBets, c, s *delta) {
	e := j.s.Evidence
	byErr, byLat := j.compares()
	if byErr && c.NE > 0 && s.NE > 0 {
		rho := math.Max(e.Cal.tolerance(c.Pods), 1+e.favour())
		errorBets(t.errors[:nError], c.NE, c.E, s.NE, s.E, e.rate(), rho)
		t.nE = nError
		for k := range nError {
			t.errors[k] /= e.Scale.Fast
		}
		e.Fast.add(t.errors[:nError], e.Fast.spend(t.dt, t.newStep), t.cap)
		var l [maxAlts]float64
		if e.Block.add(c.NE, c.E, s.NE, s.E, t.dt) {
			e.Block.bets(l[:nRisk], rho)
			for k := range nRisk {
				l[k] /= e.Scale.Slow
			}
			e.Slow.add(l[:nRisk], e.Slow.spend(blockSeconds, false), t.cap)
		}
		riskBets(l[:nRisk], rho*s.NE, s.E, c.NE, c.E)
		for k := range nRisk {
			l[k] /= e.Scale.Fast
		}
		e.Good.add(l[:nRisk], e.Good.spend(t.dt, false), t.cap)
	}
	if byLat && c.NL > 0 && s.NL > 0 && e.Model.n > 0 {
		e.Model.bets(t.latency[:nLatency], &c.Hist, &s.Hist)
		t.nL = nLatency
		for k := range nLatency {
			t.latency[k] /= e.Scale.Lat
		}
		e.Lat.add(t.latency[:nLatency], e.Lat.spend(t.dt, t.newStep), t.cap)
	}
}

// aloneTimes are the alternatives of a canary that is judged by itself: so many
// times the reference share.
var (
	aloneTimes = [...]float64{1.5, 2, 4, 10}
	aloneW     = logWeights(1, 1, 1, 1)
)

// aloneBets writes the bets of one tick against "the share is at most ref".
func aloneBets(dst []float64, n, k, ref float64) {
	ref = math.Min(math.Max(ref, 1e-6), 0.6)
	for i, x := range aloneTimes {
		a := math.Min(ref*x, 0.95)
		dst[i] = k*math.Log(a/ref) + (n-k)*math.Log((1-a)/(1-ref))
	}
}

// alone judges a canary that has no stable beside it against stable's last
// shares: detectors that raise a false alarm once a year, each over an onset at
// any tick.
func (j *Judge) alone(t *tickBets, c *delta, now int64) {
	e := j.s.Evidence
	byErr, byLat := j.compares()
	detect := func(i int, bets []float64, n, k, ref, scale float64) {
		aloneBets(bets, n, k, ref)
		mix := math.Inf(-1)
		for a, w := range aloneW {
			bets[a] /= scale
			mix = logAdd(mix, w+bets[a])
		}
		x := math.Min(mix, 2*t.cap) + logAdd(0, e.Alarm[i])
		e.Alarm[i] = math.Min(math.Max(x, never), maxLog)
	}
	if byErr && c.NE > 0 {
		if ref, ok := j.errorRef(); ok {
			detect(0, t.errors[:len(aloneTimes)], c.NE, c.E, ref, math.Max(freshScale, e.Scale.Fast))
			t.nE = len(aloneTimes)
		}
	}
	if byLat && c.NL > 0 && e.Model.n > 0 && e.LongL > 0 {
		k, n := weighted(&c.Hist, &e.Model.marginW)
		detect(1, t.latency[:len(aloneTimes)], n, k, j.slowBar(e.LongK/e.LongL), math.Max(freshScale, e.Scale.Lat))
		t.nL = len(aloneTimes)
	}
}

// errorRef is the share of failures that a canary without control may have:
// well above what stable had, and beyond what chance may have hidden of it.
func (j *Judge) errorRef() (float64, bool) {
	e := j.s.Evidence
	if e.LongN <= 0 || j.cfg.ErrorRate == nil {
		return 0, false
	}
	p := e.LongE / e.LongN
	up := (e.LongE + 2*math.Sqrt(e.LongE+1)) / e.LongN
	return math.Max(math.Max(2*p, p+j.cfg.ErrorRate.WorseBy), up), true
}

// prove adds to the evidence that the canary is not worse by the margin: the
// test of "worse by at least delta" with stable's recent share in place of the
// true one. It is approximate, and may be: the bound on false rollbacks does
// not rest on it.
func (j *Judge) prove(l *Look, c, s *delta, gap bool) {
	e := j.s.Evidence
	byErr, byLat := j.compares()
	slack := 0.0
	if w := math.Max(l.NextWeight, l.Weight); w > 0 {
		// With little traffic a larger difference cannot harm many before the
		// next look.
		slack = math.Min(mostSlack, harmLimit/(w*math.Max(ratio(e.RateN, e.RateT), 0.1)*60))
	}
	add := func(sum *float64, n, k, p0, p1, scale float64) {
		p0 = math.Min(math.Max(p0, 1e-6), 0.98)
		p1 = math.Min(math.Max(p1, p0*1.01), 0.99)
		x := (k*math.Log(p0/p1) + (n-k)*math.Log((1-p0)/(1-p1))) / math.Sqrt(scale)
		if gap && x > 0 {
			return // time without observation shows nothing good
		}
		*sum = math.Min(math.Max(*sum+x, proofMin), 2*math.Log(1/beta))
	}
	if byErr && c.NE > 0 {
		p0 := e.rate()
		if j.noControl {
			p0 = (e.LongE + 0.0005) / (e.LongN + 0.5)
		}
		add(&e.ProofErrors, c.NE, c.E, p0, p0+math.Max(j.cfg.ErrorRate.WorseBy, slack), e.Scale.Fast)
	}
	if byLat && c.NL > 0 && e.Model.n > 0 {
		k, n := weighted(&c.Hist, &e.Model.marginW)
		p0 := (e.MarginK + e.Model.margin*20) / (e.MarginN + 20)
		if j.noControl {
			p0 = e.Model.margin
		}
		p1 := math.Max(math.Max(1-j.cfg.Latency.Quantile, 1.5*p0), p0+slack)
		add(&e.ProofLatency, n, k, p0, p1, e.Scale.Lat)
	}
}

// stakes gives the logarithms of the evidence against the canary: of errors, of
// latency, and of both together.
func (j *Judge) stakes() (byErr, byLat, both float64) {
	e := j.s.Evidence
	err, lat := j.compares()
	byErr, byLat, both = never, never, never
	fast, slow := 0.95, 0.05
	if e.Bursty {
		fast, slow = 0.5, 0.5
	}
	if err {
		byErr = logAdd(math.Log(fast)+e.Fast.log(errorW), math.Log(slow)+e.Slow.log(slowW))
	}
	if lat {
		byLat = e.Lat.log(latencyW)
	}
	switch {
	case err && lat:
		both = logAdd(math.Log(weightErrors)+byErr, math.Log(weightLatency)+byLat)
	case err:
		both = byErr
	case lat:
		both = byLat
	}
	return byErr, byLat, both
}

// suspicion is what speaks against the canary now.
type suspicion struct {
	rule string  // "" = nothing
	log  float64 // of the evidence
	need float64 // that it needs
	open bool    // the difference is one that counts
}

func (j *Judge) suspicion(dt float64) suspicion {
	e := j.s.Evidence
	if j.noControl {
		need := math.Log(yearSecs / math.Max(dt, 1))
		s := suspicion{rule: byErrors, log: e.Alarm[0], need: need}
		s.open = j.openAlone(byErrors, &e.R)
		if e.Alarm[1]-need > s.log-need && (!s.open || s.log < need) {
			s = suspicion{rule: byLatency, log: e.Alarm[1], need: need}
			s.open = j.openAlone(byLatency, &e.R)
		}
		return s
	}
	byErr, byLat, both := j.stakes()
	s := suspicion{rule: byErrors, log: both, need: j.threshold()}
	if byLat > byErr {
		s.rule = byLatency
		s.open = j.gateLatency(&e.R)
	} else {
		s.open = j.gateErrors(&e.R, e.unlike())
	}
	return s
}

// openAlone is the gate of a canary that has no stable beside it.
func (j *Judge) openAlone(rule string, r *recent) bool {
	e := j.s.Evidence
	if rule == byLatency {
		b := ratio(r.CK, r.CL)
		return e.LongL > 0 && r.CL > 0 && j.cfg.Latency != nil && b-math.Sqrt(b/r.CL) >= j.slowBar(e.LongK/e.LongL)
	}
	ref, ok := j.errorRef()
	a := ratio(r.CE, r.CN)
	return ok && r.CN > 0 && a-math.Sqrt(a/r.CN) >= ref
}

// still reports whether the suspect is worse in these very seconds.
func (j *Judge) still() bool {
	e := j.s.Evidence
	switch {
	case j.noControl:
		return j.openAlone(e.Suspect, &e.Now)
	case e.Suspect == byLatency:
		return j.gateLatency(&e.Now)
	}
	return j.gateErrors(&e.Now, e.unlike())
}

// decide turns evidence into a Fail, at once or when it has lasted.
func (j *Judge) decide(t *tickBets, c *delta, now int64) {
	e := j.s.Evidence
	if !j.cfg.Compare {
		return
	}
	if e.OOM >= 2 {
		e.Failed, e.Rule, e.At = true, "memory", now
		return
	}
	s := j.suspicion(t.dt)
	hit := s.log >= s.need && s.open
	if e.Since == 0 {
		if !hit {
			return
		}
		e.Wait = j.delay(s.rule, now)
		if e.Wait <= 0 {
			e.Failed, e.Rule, e.At = true, s.rule, now
			return
		}
		e.Since, e.Suspect, e.SureFrom, e.Doubt = now, s.rule, 0, 0
		e.Size = 0
		clear(e.Sure[:])
		return
	}
	// A drastic failure need not wait as long as it seemed at first.
	e.Wait = math.Min(e.Wait, j.delay(e.Suspect, now))
	age := float64(now-e.Since) / 1e9
	// The first half is left to pass; what comes after it must speak the same
	// way. If it does not, that was a bad minute.
	if age <= e.Wait/2 {
		share := ratio(e.R.CE, e.R.CN)
		if e.Suspect == byLatency {
			share = ratio(e.R.CK, e.R.CL)
		}
		e.Size = math.Min(math.Max(e.Size, share), 1)
		return
	}
	if e.SureFrom == 0 {
		e.SureFrom = now
	}
	bets, w := t.errors[:t.nE], errorW
	if e.Suspect == byLatency {
		bets, w = t.latency[:t.nL], latencyW
	}
	if j.noControl {
		w = aloneW
	}
	sum := never
	for k := range bets {
		e.Sure[k] = math.Min(math.Max(e.Sure[k]+math.Min(bets[k], t.cap), never), sureMost)
	}
	for k := range w {
		sum = logAdd(sum, w[k]+e.Sure[k])
	}
	wait := j.wait()
	switch {
	case age > wait && sum >= confirmNats && hit && j.still():
		e.Failed, e.Rule, e.At = true, e.Suspect, now
	case sum <= dismissNats, j.doubt(c) <= doubtNats, age > wait+dismissAfter:
		e.dismiss()
	}
}

// wait is for how many seconds the suspicion in hand must last: longer while it
// is one pod's.
func (j *Judge) wait() float64 {
	e := j.s.Evidence
	if j.lonePod() {
		return loneTimes * e.Wait
	}
	return e.Wait
}

// doubt weighs a tick for "it was a bad time and is over" against "half of
// what raised the suspicion is still there". It can only keep a rollback from
// happening.
func (j *Judge) doubt(c *delta) float64 {
	e := j.s.Evidence
	n, k, p0 := c.NE, c.E, e.rate()
	switch {
	case e.Suspect == byLatency:
		k, n = weighted(&c.Hist, &e.Model.marginW)
		p0 = ratio(e.LongK, e.LongL)
	case j.noControl:
		p0, _ = e.base()
	}
	p0 = math.Min(math.Max(p0, 1e-4), 0.5)
	p1 := math.Min(math.Max(e.Size/2, 1.5*p0), 0.9)
	x := k*math.Log(p1/p0) + (n-k)*math.Log((1-p1)/(1-p0))
	e.Doubt = math.Max(math.Min(e.Doubt+x, -doubtNats), -maxLog)
	return e.Doubt
}

// dismiss lowers to nothing the evidence of something that passed.
func (e *evidence) dismiss() {
	for _, m := range []*mixture{&e.Fast, &e.Slow, &e.Lat} {
		for k := range m.A {
			m.A[k] = math.Min(m.A[k], never)
		}
	}
	e.Block = block{}
	e.Alarm = [2]float64{}
	e.Since, e.Suspect, e.Wait, e.SureFrom, e.Size, e.Doubt = 0, "", 0, 0, 0, 0
	clear(e.Sure[:])
}

// delay is for how many seconds evidence must go on before it counts. Where
// stable's pods have shown what they do of themselves, it counts at once.
func (j *Judge) delay(rule string, now int64) float64 {
	e := j.s.Evidence
	d := e.Delay
	if j.noControl {
		d = math.Max(d, aloneDelay)
	}
	if rule == byLatency {
		if float64(now-j.s.Began)/1e9 < 5*warmUp {
			d = math.Max(d, warmDelay)
		}
		return d
	}
	if d == 0 || !j.noControl && e.quiet() {
		return 0
	}
	// The more requests fail, the less likely is a bad minute of one pod; and
	// alone, the more it matters whoever's doing it is.
	a, b := ratio(e.R.CE, e.R.CN), ratio(e.R.SE, e.R.SN)
	from, least := 0.1, quickDelay
	if j.noControl {
		from, least = 0.3, aloneQuick
	}
	if a > from && a > 5*b {
		part := math.Min(1, math.Log(a/from)/math.Log(drasticShare/from))
		d = math.Max(math.Min(least, d), d*(1-part))
	}
	return d
}

// quiet reports whether stable hardly ever fails: then it has no bad minutes
// that the canary's could be like.
func (e *evidence) quiet() bool {
	n, k := e.LongN+e.PastN, e.LongE+e.PastE
	return n >= quietRequests && k < 0.5+n*quietShare && !e.Cal.bursts()
}

// worse reports whether something that counts speaks against the canary.
func (j *Judge) worse() bool {
	e := j.s.Evidence
	if e.Failed || e.Since != 0 || e.CPU.worse() || e.Mem.worse() || e.Ending {
		return true
	}
	if j.noControl {
		s := j.suspicion(1)
		return s.open && s.log > s.need/2
	}
	_, _, both := j.stakes()
	return both > calmNats && (j.gateErrors(&e.R, e.unlike()) || j.gateLatency(&e.R))
}

// evidenceFor puts the comparison's share into the finding.
func (j *Judge) evidenceFor(f *finding) {
	f.advance = 1
	if !j.cfg.Compare {
		return
	}
	e := j.s.Evidence
	byErr, byLat := j.compares()
	s := j.suspicion(5)
	part := math.Min(math.Max(s.log/s.need, 0), 0.99)
	if !s.open {
		part = math.Min(part, 0.9)
	}
	if e.Failed {
		part = 1
	}
	f.rollback = math.Max(f.rollback, part)
	need := math.Log(1 / beta)
	if byErr {
		f.advance = math.Min(f.advance, math.Max(0, e.ProofErrors/need))
	}
	if byLat {
		f.advance = math.Min(f.advance, math.Max(0, e.ProofLatency/need))
	}
	if j.worse() {
		f.calm = false
		f.advance = math.Min(f.advance, 0.99)
	}
	f.better = j.better()
}

// better reports whether stable fails, and the canary significantly less.
func (j *Judge) better() bool {
	e := j.s.Evidence
	if j.noControl || j.cfg.ErrorRate == nil {
		return false
	}
	r := recent{CN: e.R.SN, CE: e.R.SE, SN: e.R.CN, SE: e.R.CE}
	return e.Good.log(slowW) >= j.threshold() && j.gateErrors(&r, 0)
}
