package analysis

import (
	"errors"
	"math"
)

// Errors of production do not come one by one: users retry, pods have bad
// minutes, pods differ. How much that overstates the evidence is learned from
// stable itself: each of its pods in turn plays the canary against the others,
// by the very bets that judge the canary. Were the errors independent, the
// largest stake of N such trials would be about N; what it exceeds that by is
// the scale that evidence is divided by.
//
// It is learned online, at rest and during the rollout, always from what came
// before the tick that it is used on, and it never falls during a rollout.

const (
	// So many pods play the canary at the same time, the first few of them for
	// ten minutes, as short rollouts last, the others for an hour.
	maxTrials   = 8
	shortTrials = 4
	shortTrial  = 600
	longTrial   = 3600

	// streakBlock is the length in seconds of what is told apart as good or bad
	// of one pod, to learn how long its bad times last.
	streakBlock = 20

	// slackNats is what the largest stake may have beyond the logarithm of
	// the number of trials before it counts as overstated.
	slackNats = 2.0
	// safety factors on what was measured beyond one.
	safetyFast = 1.4
	safetySlow = 3.5
	// waitedOut is what is left of the excess where bad times are known to pass
	// and are waited out.
	waitedOut = 0.5
	// freshScale is the scale while nothing is known.
	freshScale = 2.0
	// knownPodSeconds of stable's pods against each other is when the scale
	// rests on them alone.
	knownPodSeconds = 3600.0
	// maxCluster bounds what one look's failures teach a single pod.
	maxCluster = 10.0
	// spreadMemory is the time constant of what tells pods apart, seconds.
	spreadMemory = 3600.0
	// gateSpreads is by how many times the spread between stable's pods the
	// canary must differ.
	gateSpreads  = 4.0
	spreadErrors = 1.4
	// lonePrior is by what factor one pod may be unlike another where there was
	// never a second one to compare with.
	lonePrior = 1.2
)

// recent holds decayed sums of both arms: what the gate looks at.
type recent struct {
	CN float64 `json:"cn,omitempty"`
	CE float64 `json:"ce,omitempty"`
	SN float64 `json:"sn,omitempty"`
	SE float64 `json:"se,omitempty"`
	CL float64 `json:"cl,omitempty"` // requests with a latency
	CK float64 `json:"ck,omitempty"` // of them beyond the gate's bound
	SL float64 `json:"sl,omitempty"`
	SK float64 `json:"sk,omitempty"`
}

func (r *recent) check() error {
	for _, x := range [...]float64{r.CN, r.CE, r.SN, r.SE, r.CL, r.CK, r.SL, r.SK} {
		if !sane(x) {
			return errors.New("a recent sum is out of range")
		}
	}
	return nil
}

func (r *recent) add(o *recent) {
	r.CN += o.CN
	r.CE += o.CE
	r.SN += o.SN
	r.SE += o.SE
	r.CL += o.CL
	r.CK += o.CK
	r.SL += o.SL
	r.SK += o.SK
}

func (r *recent) decay(keep float64) {
	r.CN *= keep
	r.CE *= keep
	r.SN *= keep
	r.SE *= keep
	r.CL *= keep
	r.CK *= keep
	r.SL *= keep
	r.SK *= keep
}

// trial is one pod of stable that plays the canary.
type trial struct {
	Pod   string  `json:"pod,omitempty"`
	T     float64 `json:"t,omitempty"`
	Fast  mixture `json:"fast"`
	Slow  mixture `json:"slow"`
	Block block   `json:"block"`
	Lat   mixture `json:"lat"`
	R     recent  `json:"r"`
}

// stakes are what trials of one length came to.
type stakes struct {
	Done float64 `json:"done,omitempty"` // trials that ran to their end
	// The largest logarithms of a stake while the gate was open.
	Fast float64 `json:"fast,omitempty"`
	Slow float64 `json:"slow,omitempty"`
	Lat  float64 `json:"lat,omitempty"`
}

// calibration is what stable's own pods have taught.
type calibration struct {
	Trials [maxTrials]trial `json:"trials"`
	Turn   int              `json:"turn,omitempty"`
	Short  stakes           `json:"short"`
	Long   stakes           `json:"long"`
	// Clustered of so many Errors of all pods came in the same look as another,
	// beyond what their rate explains: all that a single pod can teach.
	Errors    float64 `json:"errors,omitempty"`
	Clustered float64 `json:"clustered,omitempty"`
	// Longest is for how many seconds on end one pod was worse than chance
	// and the other pods' rate allow.
	Longest float64 `json:"longest,omitempty"`
	Streaks float64 `json:"streaks,omitempty"` // how many such times there were
	// PodSeconds that stable's pods were watched against each other.
	PodSeconds float64 `json:"podSeconds,omitempty"`
	Last       int64   `json:"last,omitempty"`
	Pods       float64 `json:"pods,omitempty"` // how many there were last
	// How unlike the pods are: the gate's least effects.
	CVErrors float64 `json:"cvErrors,omitempty"`
	Level    float64 `json:"level,omitempty"` // the pods' common share of failures, decayed as what tells them apart
	CVSlow   float64 `json:"cvSlow,omitempty"`
}

func (c *calibration) check() error {
	var errs []error
	for i := range c.Trials {
		t := &c.Trials[i]
		errs = append(errs, t.Fast.check(), t.Slow.check(), t.Lat.check(), t.Block.check(), t.R.check())
		if !sane(t.T) {
			errs = append(errs, errors.New("a trial's time is out of range"))
		}
	}
	for _, x := range [...]float64{c.Errors, math.Abs(c.Clustered), c.Short.Done, c.Long.Done, c.Longest, c.Streaks, c.PodSeconds, c.Pods, c.Level, c.CVErrors, c.CVSlow} {
		if !sane(x) {
			errs = append(errs, errors.New("a sum is out of range"))
		}
	}
	for _, x := range [...]float64{c.Short.Fast, c.Short.Slow, c.Short.Lat, c.Long.Fast, c.Long.Slow, c.Long.Lat} {
		if !(math.Abs(x) <= maxLog) {
			errs = append(errs, errors.New("a stake is out of range"))
		}
	}
	if c.Turn < 0 {
		errs = append(errs, errors.New("turn is negative"))
	}
	return errors.Join(errs...)
}

// calibrate runs the trials on this look's stable pods.
func (j *Judge) calibrate(l *Look, now int64) {
	e := j.s.Evidence
	c := &e.Cal
	if j.arms[stableArm].Has&HasRequests == 0 {
		return
	}
	dt := float64(now-c.Last) / 1e9
	first := c.Last == 0
	c.Last = now
	if first {
		return
	}
	gap := dt > 2*maxTick.Seconds()
	dt = math.Min(dt, maxTick.Seconds())
	pods := j.seenPods[stableArm]
	var all delta
	k := 0
	for _, p := range pods {
		keep := math.Exp(-dt / spreadMemory)
		p.SN, p.SE, p.SL, p.SK = p.SN*keep+p.d.NE, p.SE*keep+p.d.E, p.SL*keep, p.SK*keep
		if p.d.NL > 0 {
			bad, n := weighted(&p.d.Hist, &e.Model.marginW)
			p.SL += n
			p.SK += bad
		}
		if p.SN > 0 {
			k++
		}
		all.NE += p.d.NE
		all.E += p.d.E
		if p.d.NL > 0 {
			all.NL += p.d.NL
			for i := range all.Hist {
				all.Hist[i] += p.d.Hist[i]
			}
		}
	}
	if k >= 2 && !gap {
		for _, p := range pods {
			p.streak(&all, dt, c)
		}
	}
	c.Pods = math.Max(float64(k), c.Pods*math.Exp(-dt/60))
	j.spread(pods)
	if k >= 2 && !gap {
		c.PodSeconds += dt * float64(k)
		for i := range c.Trials {
			j.try(&c.Trials[i], i, pods, &all, dt)
		}
	}
	if want := all.NE * e.rate(); !gap && e.BaseN > 0 {
		k := math.Min(all.E, want+maxCluster)
		c.Errors += k
		c.Clustered = math.Max(c.Clustered+k*k-k-want*want, 0)
	}
	if l.Canary != "" {
		j.rescale(l)
	}
	// Only now may the bets learn from this look.
	e.learnBase(all.NE, all.E, dt)
	if j.cfg.Latency != nil && all.NL > 0 {
		e.Model.learn(&all.Hist, dt, now, j.s.Layout, j.cfg.Latency)
	}
}

// spread measures how unlike stable's pods are beyond chance: the coefficient
// of variation of their rates, less spreadErrors standard errors of what chance gives.
func (j *Judge) spread(pods []*pod) {
	c := &j.s.Evidence.Cal
	cv := func(get func(*pod) (n, k float64)) float64 {
		var n, k float64
		for _, p := range pods {
			a, b := get(p)
			n, k = n+a, k+b
		}
		if k <= 0 || len(pods) < 2 {
			return 0
		}
		var over, noise, scale float64
		for _, p := range pods {
			a, b := get(p)
			want := k / n * a
			over += (b-want)*(b-want) - want
			noise += 2*want*want + want
			scale += want * want
		}
		over -= spreadErrors * math.Sqrt(noise)
		if over <= 0 || scale <= 0 {
			return 0
		}
		return math.Min(math.Sqrt(over/scale), 10)
	}
	c.CVErrors = cv(podErrors)
	var n, k float64
	for _, p := range pods {
		n, k = n+p.SN, k+p.SE
	}
	c.Level = ratio(k, n)
	c.CVSlow = cv(podSlow)
}

// streak learns how long this pod's bad times last.
func (p *pod) streak(all *delta, dt float64, c *calibration) {
	p.BT += dt
	p.BN += p.d.NE
	p.BE += p.d.E
	p.BSN += all.NE - p.d.NE
	p.BSE += all.E - p.d.E
	if p.BT < streakBlock-1e-6 {
		return
	}
	// Bad is what the others' rate in the same looks makes unlikely.
	want := math.Max(ratio(p.BSE, p.BSN), c.Level) * p.BN
	if all := c.Level * p.SN; all > 0 { // what it is like at all times is no bad time
		want *= math.Max(1, (p.SE+2)/(all+2))
	}
	sd := math.Sqrt(want * (1 + ratio(p.BN, p.BSN)))
	switch {
	case p.BSN > 0 && p.BE > want+3*sd+1:
		if p.Streak > 0 && p.Streak <= 1.5*streakBlock {
			c.Streaks++
		}
		p.Streak += p.BT
		c.Longest = math.Max(c.Longest, p.Streak)
	case p.BSN > 0 && p.BE > want+sd && p.Streak > 0:
		p.Streak += p.BT // neither good nor bad: it may go on
	default:
		p.Streak = 0
	}
	p.BT, p.BN, p.BE, p.BSN, p.BSE = 0, 0, 0, 0, 0
}

func podErrors(p *pod) (n, k float64) { return p.SN, p.SE }
func podSlow(p *pod) (n, k float64)   { return p.SL, p.SK }

// try lets one pod play the canary for one look.
func (j *Judge) try(t *trial, slot int, pods []*pod, all *delta, dt float64) {
	e := j.s.Evidence
	c := &e.Cal
	got, length := &c.Short, float64(shortTrial)
	if slot >= shortTrials {
		got, length = &c.Long, longTrial
		slot -= shortTrials
	}
	var p *pod
	if t.Pod != "" && t.T < length {
		for _, q := range pods {
			if q.Name == t.Pod {
				p = q
				break
			}
		}
	}
	if p == nil {
		if slot >= len(pods) {
			*t = trial{Fast: newMixture(), Slow: newMixture(), Lat: newMixture()}
			return
		}
		if t.Pod != "" {
			got.Done++
		}
		p = pods[c.Turn%len(pods)]
		c.Turn = (c.Turn + 1) % (1 << 20)
		*t = trial{Pod: p.Name, Fast: newMixture(), Slow: newMixture(), Lat: newMixture()}
	}
	t.T += dt
	t.R.decay(math.Exp(-dt / recentTau))
	cn, ce := p.d.NE, p.d.E
	sn, se := all.NE-cn, all.E-ce
	t.R.CN, t.R.CE, t.R.SN, t.R.SE = t.R.CN+cn, t.R.CE+ce, t.R.SN+sn, t.R.SE+se
	var l [maxAlts]float64
	if cn > 0 && sn > 0 {
		rho := c.tolerance(1)
		errorBets(l[:nError], cn, ce, sn, se, e.rate(), rho)
		t.Fast.add(l[:nError], t.Fast.spend(dt, false), math.Inf(1))
		full := t.Block.add(cn, ce, sn, se, dt)
		if full {
			t.Block.bets(l[:nRisk], rho)
			t.Slow.add(l[:nRisk], t.Slow.spend(blockSeconds, false), math.Inf(1))
		}
		if j.gateErrors(&t.R, 0) {
			got.Fast = math.Max(got.Fast, t.Fast.log(errorW))
			got.Slow = math.Max(got.Slow, t.Slow.log(slowW))
		}
	}
	if p.d.NL > 0 && all.NL > p.d.NL && e.Model.n > 0 {
		var rest hist
		for i := range e.Model.n {
			rest[i] = math.Max(0, all.Hist[i]-p.d.Hist[i])
		}
		e.Model.bets(l[:nLatency], &p.d.Hist, &rest)
		t.Lat.add(l[:nLatency], t.Lat.spend(dt, false), math.Inf(1))
		w := &e.Model.marginW
		k, n := weighted(&p.d.Hist, w)
		t.R.CK, t.R.CL = t.R.CK+k, t.R.CL+n
		k, n = weighted(&rest, w)
		t.R.SK, t.R.SL = t.R.SK+k, t.R.SL+n
		if j.gateLatency(&t.R) {
			got.Lat = math.Max(got.Lat, t.Lat.log(latencyW))
		}
	}
}

// bursts reports whether stable's pods have bad times of their own.
func (c *calibration) bursts() bool { return c.Longest > 1.5*streakBlock }

// tolerance is by what factor the canary's rate may exceed stable's because its
// pods are so few and differ as stable's own do: two of their standard
// deviations, more where those rest on few pods, less for several of the
// canary's.
func (c *calibration) tolerance(pods float64) float64 {
	if c.Pods < 1.5 {
		return lonePrior
	}
	if c.Pods < 2.5 {
		return 1
	}
	return 1 + 2*(1+3/c.Pods)*c.CVErrors/math.Sqrt(math.Max(1, pods))
}

// known is how far stable's pods have been watched: 0 nothing, 1 enough.
func (c *calibration) known(podSeconds float64) float64 {
	return math.Min(1, c.PodSeconds/podSeconds)
}

// scales are what evidence is divided by.
type scales struct {
	Fast float64 `json:"fast"`
	Slow float64 `json:"slow"`
	Lat  float64 `json:"lat"`
}

// measured gives the scales that the trials ask for, with a canary at weight w.
func (c *calibration) measured(w float64) scales {
	k := math.Max(2, c.Pods)
	// One pod of k says less by one error than a canary with a smaller share.
	f := math.Max(1, math.Log(1/math.Min(math.Max(w, 0.001), 1))/math.Log(k))
	if c.bursts() {
		f *= waitedOut
	}
	running := math.Min(k, shortTrials)
	raw := func(largest, done float64) float64 {
		return math.Max(1, largest/(math.Log(done+running)+slackNats))
	}
	one := func(short, long, f, safety float64) float64 {
		return 1 + (math.Max(raw(short, c.Short.Done), raw(long, c.Long.Done))-1)*f*safety
	}
	if c.Pods < 1.5 && c.Errors >= 5 {
		// Nothing to play the canary against: how failures come in clusters
		// tells how much less they are worth than as many single ones.
		x := math.Min(1+c.Clustered/c.Errors, maxCluster)
		return scales{math.Max(freshScale, x), math.Max(freshScale, x), freshScale}
	}
	return scales{one(c.Short.Fast, c.Long.Fast, f, safetyFast), one(c.Short.Slow, c.Long.Slow, f, safetySlow), one(c.Short.Lat, c.Long.Lat, 1, safetyFast)}
}

// rescale renews the scales in force: never down during a rollout. What was won
// by a smaller scale is lowered to the new one.
func (j *Judge) rescale(l *Look) {
	e := j.s.Evidence
	m := e.Cal.measured(l.Weight)
	fresh := e.Scale == (scales{})
	if fresh {
		floor := freshScale - (freshScale-1)*e.Cal.known(knownPodSeconds)
		e.Scale = scales{math.Max(m.Fast, floor), math.Max(m.Slow, floor), math.Max(m.Lat, floor)}
		e.Bursty = e.Scale.Fast > 1.3*floor
		if e.Delay = maxDelay * (1 - e.Cal.known(sureFor)); e.Delay < leastDelay {
			e.Delay = 0
		}
	}
	// Bad times of stable's own pods are waited out: the longest that was seen,
	// and more where few were seen.
	if c := &e.Cal; c.bursts() {
		e.Delay = math.Max(e.Delay, math.Min(c.Longest*(1+2/math.Sqrt(math.Max(1, c.Streaks)))+30, mostDelay))
	}
	if fresh {
		return
	}
	if m.Fast > e.Scale.Fast {
		e.Fast.temper(m.Fast / e.Scale.Fast)
		e.Scale.Fast = m.Fast
	}
	if m.Slow > e.Scale.Slow {
		e.Slow.temper(m.Slow / e.Scale.Slow)
		e.Scale.Slow = m.Slow
	}
	if m.Lat > e.Scale.Lat {
		e.Lat.temper(m.Lat / e.Scale.Lat)
		e.Scale.Lat = m.Lat
	}
}
