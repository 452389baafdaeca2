package analysis

import (
	"errors"
	"math"
)

const (
	// recentTau is the time constant of what counts as recent, seconds.
	recentTau = 165.0
	// gatePart of worseBy is the least effect, less one standard error, that
	// counts as worse once stable's own pods are known; gateBlind before.
	gatePart  = 0.5
	gateBlind = 0.9
	// So many times stable's share is the least effect where there was never
	// a second pod to tell how unlike they are, and so much less of it is with
	// each further one: few pods may be alike by chance, and a canary's single
	// pod need not be like them. Two pods that differ by 30 % of their rate
	// differ by that much less than once in a hundred times.
	gateLone = 2.1
	gateEach = 0.4
	// surplusFrom times the requests that its weight explains are no surplus;
	// surplusTimes is how much more often the others may fail.
	surplusFrom  = 1.25
	surplusTimes = 6.0
	// leastEffect is the smallest difference of shares that ever counts.
	leastEffect = 0.0003

	// capPart of the threshold is the most that one look may add, and
	// capSeconds how much time a look must cover for that: at least two looks
	// and some seconds stand behind every rollback.
	capPart    = 0.6
	capSlack   = 2.5
	capSeconds = 2.5

	weightErrors  = 0.6
	weightLatency = 0.4

	// beta is the error level of "not worse by the margin".
	beta      = 0.05
	proofMin  = -3.0
	harmLimit = 5.0 // requests a step may harm before the next look, where traffic is low
	mostSlack = 0.3 // and the widest margin that gives
	calmNats  = 0.7 // evidence below this speaks against nobody

	// maxDelay is how long evidence must last, in seconds, where stable's pods
	// have not shown whether they have bad minutes of their own; sureFor pod
	// seconds of watching them do away with it.
	maxDelay   = 360.0
	leastDelay = 60.0
	// A stable that failed less than this of so many requests is quiet.
	quietRequests = 3000.0
	quietShare    = 0.0002
	// pastMost is how many requests before the first look count at most.
	pastMost  = 20000.0
	mostDelay = 600.0 // whatever stable's pods do
	sureFor   = 12000.0
	// aloneDelay is the same where no stable arm has traffic: what hits
	// everybody looks there like the canary's doing.
	aloneDelay = 300.0
	aloneQuick = 75.0
	// warmDelay is the same for latency while the canary's pods are new.
	warmDelay = 60.0
	// drastic failure needs no more than this.
	drasticShare = 0.5
	quickDelay   = 10.0
	confirmNats  = 3.0 // ln 20
	sureMost     = 6.0 // so that what ends is soon seen to have ended
	nowSeconds   = 12.0
	nowRequests  = 60.0
	dismissNats  = -2.0
	doubtNats    = -4.0
	dismissAfter = 900.0

	// warmUp is the age in seconds from which a canary's pod is judged by its
	// latency, counted from its first request.
	warmUp = 120.0

	longMemory = 1200.0 // of stable's rate that the bake is judged by, seconds
	yearSecs   = 3.15e7
)

const (
	byErrors  = "errorRate"
	byLatency = "latency"
)

// evidence is what the comparison remembers. It spans the rollout, except for
// the proof, which belongs to the step.
type evidence struct {
	Cal   calibration  `json:"cal"`
	Model latencyModel `json:"model"`
	Scale scales       `json:"scale"`

	Fast  mixture `json:"fast"`
	Slow  mixture `json:"slow"`
	Block block   `json:"block"`
	Lat   mixture `json:"lat"`
	Good  mixture `json:"good"` // the other way round: stable is worse
	R     recent  `json:"r"`
	Now   recent  `json:"now"` // the same over the last seconds
	// Due is how many of R's requests on the canary its weight explains.
	Due float64 `json:"due,omitempty"`
	// RecentC and RecentS are decayed histograms, for the figures.
	RecentC hist `json:"rc"`
	RecentS hist `json:"rs"`
	// M holds decayed counts of stable beyond the margin's latency bound.
	MarginK float64 `json:"mk,omitempty"`
	MarginN float64 `json:"mn,omitempty"`

	BaseN float64 `json:"bn,omitempty"` // stable, decayed by recentTau
	BaseE float64 `json:"be,omitempty"`
	LongN float64 `json:"ln,omitempty"` // and by longMemory
	LongE float64 `json:"le,omitempty"`
	LongK float64 `json:"lk,omitempty"` // beyond the gate's latency bound
	LongL float64 `json:"ll,omitempty"`
	// Past is what stable's pods had counted when they were first seen, in at
	// most so many requests as pastMost: what they were like before anybody looked.
	PastN float64 `json:"qn,omitempty"`
	PastE float64 `json:"qe,omitempty"`
	RateN float64 `json:"rn,omitempty"` // requests of both versions, decayed by recentTau
	RateT float64 `json:"rt,omitempty"` // in so many seconds, decayed likewise

	ProofErrors  float64 `json:"pe,omitempty"`
	ProofLatency float64 `json:"pl,omitempty"`

	Weight float64 `json:"weight,omitempty"` // at the last tick
	Bursty bool    `json:"bursty,omitempty"` // chosen before the rollout
	Delay  float64 `json:"delay,omitempty"`  // likewise

	Alarm [2]float64 `json:"alarm"` // without control: log of the detector

	// A suspicion that has to last: since when, by what, how long, and the
	// bets on what came after.
	Since    int64            `json:"since,omitempty"`
	Suspect  string           `json:"suspect,omitempty"`
	Wait     float64          `json:"wait,omitempty"`
	Sure     [maxAlts]float64 `json:"sure"`
	SureFrom int64            `json:"sureFrom,omitempty"`
	Size     float64          `json:"size,omitempty"`  // the share that raised it
	Doubt    float64          `json:"doubt,omitempty"` // log odds of half of that against stable's own share

	Failed bool   `json:"failed,omitempty"` // latched for this revision
	Rule   string `json:"rule,omitempty"`
	At     int64  `json:"failedAt,omitempty"`

	CPU gauge `json:"cpu"`
	Mem gauge `json:"mem"`
	OOM int   `json:"oom,omitempty"` // looks in which most canary pods were killed for memory

	Starts starts `json:"starts,omitzero"`
	Ending bool   `json:"ending,omitempty"` // the canary's pods keep ending
}

func newEvidence() *evidence {
	e := &evidence{}
	e.fresh()
	for i := range e.Cal.Trials {
		t := &e.Cal.Trials[i]
		t.Fast, t.Slow, t.Lat = newMixture(), newMixture(), newMixture()
	}
	return e
}

// fresh makes everything that belongs to one revision new.
func (e *evidence) fresh() {
	*e = evidence{Cal: e.Cal, Model: e.Model, BaseN: e.BaseN, BaseE: e.BaseE, LongN: e.LongN, LongE: e.LongE,
		LongK: e.LongK, LongL: e.LongL, PastN: e.PastN, PastE: e.PastE, RateN: e.RateN, RateT: e.RateT, MarginK: e.MarginK, MarginN: e.MarginN}
	e.Fast, e.Slow, e.Lat, e.Good = newMixture(), newMixture(), newMixture(), newMixture()
}

// restart begins with another revision on trial. Another stable's pods teach
// from nothing, but what the old ones taught about bursts is kept: it is the
// same service.
func (e *evidence) restart(otherStable bool) {
	e.fresh()
	if !otherStable {
		return
	}
	old := e.Cal
	e.Cal = newEvidence().Cal
	e.Cal.Short, e.Cal.Long, e.Cal.Longest, e.Cal.Streaks = old.Short, old.Long, old.Longest, old.Streaks
	e.Cal.PodSeconds = old.PodSeconds / 2
	e.BaseN, e.BaseE, e.LongN, e.LongE, e.LongK, e.LongL, e.MarginK, e.MarginN = 0, 0, 0, 0, 0, 0, 0, 0
	e.PastN, e.PastE = 0, 0
	e.Model = latencyModel{}
}

func (e *evidence) newStep() { e.ProofErrors, e.ProofLatency = 0, 0 }

func (e *evidence) coarsen(from, to []float64) {
	e.RecentC, e.RecentS = rebin(e.RecentC, from, to), rebin(e.RecentS, from, to)
	e.Model.coarsen(from, to)
	e.Model.At = 0 // make the tables anew
}

func (e *evidence) check() error {
	errs := []error{e.Cal.check(), e.Fast.check(), e.Slow.check(), e.Lat.check(), e.Good.check(), e.Block.check(), e.R.check(), e.Now.check(), e.CPU.check(), e.Mem.check(), e.Starts.check()}
	for _, h := range []*hist{&e.RecentC, &e.RecentS, &e.Model.Used, &e.Model.Learn} {
		for _, x := range h {
			if !sane(x) {
				errs = append(errs, errors.New("a bucket is negative or out of range"))
			}
		}
	}
	for _, x := range [...]float64{e.MarginK, e.MarginN, e.BaseN, e.BaseE, e.LongN, e.LongE, e.LongK, e.LongL, e.PastN, e.PastE, e.RateN, e.RateT, e.Due, e.Wait, e.Delay, e.Size, e.Model.Total} {
		if !sane(x) {
			errs = append(errs, errors.New("a sum is negative or out of range"))
		}
	}
	if !(e.Weight >= 0 && e.Weight <= 1) {
		errs = append(errs, errors.New("the weight is not a share"))
	}
	for _, x := range append([]float64{e.Doubt, e.ProofErrors, e.ProofLatency, e.Alarm[0], e.Alarm[1]}, e.Sure[:]...) {
		if !(math.Abs(x) <= maxLog) {
			errs = append(errs, errors.New("evidence is out of range"))
		}
	}
	if s := e.Scale; s != (scales{}) && !(s.Fast >= 1 && s.Slow >= 1 && s.Lat >= 1 && s.Fast <= maxLog && s.Slow <= maxLog && s.Lat <= maxLog) {
		errs = append(errs, errors.New("a scale is out of range"))
	}
	switch e.Suspect {
	case "", byErrors, byLatency:
	default:
		errs = append(errs, errors.New("an unknown suspect"))
	}
	return errors.Join(errs...)
}

// learnBase follows stable's share of failures.
func (e *evidence) learnBase(n, k, dt float64) {
	keep := math.Exp(-dt / recentTau)
	e.BaseN, e.BaseE = e.BaseN*keep+n, e.BaseE*keep+k
	keep = math.Exp(-dt / longMemory)
	e.LongN, e.LongE = e.LongN*keep+n, e.LongE*keep+k
}

// learnPast takes what a pod of stable had counted before it was first seen.
func (e *evidence) learnPast(n, k float64) {
	e.PastN, e.PastE = e.PastN+n, e.PastE+k
	if e.PastN > pastMost {
		e.PastN, e.PastE = pastMost, e.PastE*pastMost/e.PastN
	}
}

// rate is stable's recent share of failures, a little towards a thousandth
// where little is known.
func (e *evidence) rate() float64 { return (e.BaseE + 0.0005) / (e.BaseN + 0.5) }

// base is stable's longer share of failures, where it is known.
func (e *evidence) base() (float64, bool) {
	return ratio(e.LongE, e.LongN), e.LongN > 0
}

// young reports whether the pod is still warming up. Its age counts from its
// first request: a pod that waited without traffic is as cold as a new one.
func (p *pod) young(now int64) bool {
	from := p.First
	if from == 0 {
		from = max(p.Started, now)
	}
	return float64(now-from)/1e9 < warmUp
}

// compares says which metrics are compared.
func (j *Judge) compares() (errors, latency bool) {
	return j.cfg.Compare && j.cfg.ErrorRate != nil && j.cfg.ErrorRate.WorseBy > 0,
		j.cfg.Compare && j.cfg.Latency != nil && j.cfg.Latency.WorseBy > 0
}

// threshold is ln(1/alpha) of this try.
func (j *Judge) threshold() float64 {
	return math.Log(1/j.cfg.FalseRollback) + float64(min(j.s.Tries, 50))*math.Ln2
}

// refresh makes the tables that follow from what is remembered.
func (j *Judge) refresh() {
	if j.cfg.Latency != nil {
		j.s.Evidence.Model.tables(j.s.Layout, j.cfg.Latency)
	}
}

// unlike is by how many times stable's share of failures the canary must exceed
// it because its pods need not be like stable's, or its requests: the larger of
// the two. Few pods of stable say little about how unlike pods are.
func (e *evidence) unlike() float64 {
	return math.Max(e.favour(), gateLone-gateEach*(math.Max(e.Cal.Pods, 1)-1))
}

// favour is by how many times stable's share of failures the canary may exceed
// it because its requests are not a fair sample: those beyond its weight were
// not drawn by the split. They come from clients that stick to it, and these
// may fail surplusTimes as often as others do.
func (e *evidence) favour() float64 {
	fair := surplusFrom*e.Due + 3*math.Sqrt(e.Due)
	if e.R.CN <= fair {
		return 0
	}
	return (surplusTimes - 1) * (1 - fair/e.R.CN)
}

// oddShare gives the canary's recent share of the requests and the one that its
// weight explains, and whether they differ by more than a quarter and by more
// than chance.
func (e *evidence) oddShare() (got, want float64, odd bool) {
	n := e.R.CN + e.R.SN
	if n <= 0 || e.Due <= 0 {
		return 0, 0, false
	}
	off := math.Abs(e.R.CN - e.Due)
	return e.R.CN / n, e.Due / n, off > (surplusFrom-1)*e.Due+5*math.Sqrt(e.Due)
}

// sighted reports whether stable's own pods are known well enough to tell how
// unlike they are.
func (c *calibration) sighted() bool { return c.Pods > 2.5 && c.PodSeconds >= knownPodSeconds/2 }

// gateErrors reports whether the recent difference is one that counts: beyond
// the document's worseBy as far as the samples can tell, and beyond what
// stable's own pods differ by. It can only keep a rollback from happening.
//
// more is by how many times stable's share the difference must exceed it, for
// reasons of the canary's own.
func (j *Judge) gateErrors(r *recent, more float64) bool {
	if !(r.CN > 0) || j.cfg.ErrorRate == nil {
		return false
	}
	c := &j.s.Evidence.Cal
	part := gateBlind
	if c.sighted() {
		part = gatePart
	}
	a, b := ratio(r.CE, r.CN), ratio(r.SE, r.SN)
	bar := math.Max(leastEffect, part*j.cfg.ErrorRate.WorseBy)
	level := math.Max(c.Level, j.s.Evidence.rate())
	if c.Pods > 1.5 {
		bar = math.Max(bar, gateSpreads*(1+3/c.Pods)*c.CVErrors*level)
	} else {
		bar = math.Max(bar, gateLone*level)
	}
	bar = math.Max(bar, more*level)
	return a-b-math.Sqrt(math.Max(a, b)/r.CN) >= bar
}

// slowBar is the share of requests beyond the gate's bound that counts as slow:
// what the document allows beyond its quantile, or half as much again as
// stable has where the buckets are too coarse to tell.
func (j *Judge) slowBar(stable float64) float64 {
	c := &j.s.Evidence.Cal
	bar := math.Max(1-j.cfg.Latency.Quantile, 1.5*stable)
	if c.Pods > 1.5 {
		bar = math.Max(bar, stable*(1+gateSpreads*(1+3/c.Pods)*c.CVSlow))
	}
	return bar
}

// gateLatency reports whether the canary's named quantile lies beyond stable's,
// stretched.
func (j *Judge) gateLatency(r *recent) bool {
	if !(r.CL > 0 && r.SL > 0) || j.cfg.Latency == nil {
		return false
	}
	a, b := ratio(r.CK, r.CL), ratio(r.SK, r.SL)
	return a-math.Sqrt(math.Max(a, b)/r.CL) >= j.slowBar(b)
}
