package worlds

import (
	"fmt"
	"math"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// Scenario says what a service is like. The zero value of a part means that the
// world is not like that.
type Scenario struct {
	Name    string        `json:"name"`
	RPS     float64       `json:"rps"`
	Pods    int           `json:"pods,omitempty"`    // of stable; 0 = as many as RPS suggests
	History time.Duration `json:"history,omitempty"` // stable alone before the rollout
	Every   time.Duration `json:"every,omitempty"`   // between looks; 0 = 5 s

	Base float64 `json:"base,omitempty"` // share of failures on stable
	Bad  float64 `json:"bad,omitempty"`  // and on a canary that is wrong; 0 = Base

	OnsetWeight float64       `json:"onsetWeight,omitempty"` // wrong only from this weight on
	OnsetAfter  time.Duration `json:"onsetAfter,omitempty"`  // and only after the canary's start
	Ramp        time.Duration `json:"ramp,omitempty"`        // growing for so long

	OutageAt    time.Duration `json:"outageAt,omitempty"` // shared by both versions, after the start
	OutageFor   time.Duration `json:"outageFor,omitempty"`
	OutageShare float64       `json:"outageShare,omitempty"`

	Weather   string        `json:"weather,omitempty"` // one of the Weather constants
	BurstTime time.Duration `json:"burstTime,omitempty"`
	Diurnal   bool          `json:"diurnal,omitempty"`
	Unlike    float64       `json:"unlike,omitempty"` // pods' error rates differ by a log-normal factor

	Latency     bool          `json:"latency,omitempty"`  // histograms are measured
	Slower      float64       `json:"slower,omitempty"`   // the wrong canary's times are multiplied by it
	Quantile    float64       `json:"quantile,omitempty"` // that the document names; 0 = 0.99
	Tail        float64       `json:"tail,omitempty"`     // share of its requests that take 20 times as long
	LatNoise    float64       `json:"latNoise,omitempty"`
	LatUnlike   float64       `json:"latUnlike,omitempty"`
	ColdFor     time.Duration `json:"coldFor,omitempty"` // a new pod is slow for so long
	ColdBy      float64       `json:"coldBy,omitempty"`
	LostScrapes float64       `json:"lostScrapes,omitempty"` // share of pod readings missing
	Skew        bool          `json:"skew,omitempty"`        // the canary is shown one look late
	Resets      float64       `json:"resets,omitempty"`      // restarts per pod and hour
	Sticky      bool          `json:"sticky,omitempty"`      // one heavy client that fails more, on one pod for minutes
}

// Kinds of weather.
const (
	BetaBinomial = "betaBinomial" // the rate of each pod and look is itself drawn
	RetryStorms  = "retryStorms"  // failures come in clusters of five
	PodBursts    = "podBursts"    // a pod fails twenty times as much, 2 % of the time
	SharedBursts = "sharedBursts" // all pods do, together
	HeavyBursts  = "heavyBursts"  // pod bursts whose length has a heavy tail
)

// Healthy reports whether the canary answers as stable does.
func (s *Scenario) Healthy() bool {
	return s.Bad <= s.Base && s.Slower <= 1 && s.Tail == 0
}

func (s *Scenario) every() time.Duration {
	if s.Every <= 0 {
		return 5 * time.Second
	}
	return s.Every
}

func (s *Scenario) pods() int {
	switch {
	case s.Pods > 0:
		return s.Pods
	case s.RPS < 5:
		return 3
	case s.RPS < 50:
		return 4
	case s.RPS < 500:
		return 10
	}
	return 20
}

// bounds are the histogram's, in milliseconds; above the last is the overflow.
var bounds = []float64{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}

const (
	burstPart  = 0.02
	burstTimes = 20.0
	medianMs   = 60.0
	sigma      = 0.6
)

type replica struct {
	pod, shown analysis.Pod
	before     analysis.Pod // the reading of one look ago, where looks are late
	born       float64
	factor     float64 // of errors
	shift      float64 // of log latency
	badFor     float64 // seconds left of a bad minute
	lost       bool
}

// World is one run of a scenario.
type World struct {
	S      Scenario
	d      dice
	t      float64 // seconds since the canary's start; negative in the history
	start  time.Time
	stable []replica
	canary []replica
	shared float64
	phase  float64
	heavy  int // index of the pod that the heavy client sticks to, stable first
	heavyT float64
	serial int

	// The truth, summed since the canary's start.
	Exposed, Harmed float64
	// OnsetAt is when the canary was first wrong, in seconds; -1 = not yet.
	OnsetAt float64
	// Info is the information spent since, in nats.
	Info float64
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// New gives the scenario's world with this seed, at the start of its history.
func New(s Scenario, seed uint64) *World {
	w := &World{S: s, d: newDice(seed), OnsetAt: -1, t: -s.History.Seconds()}
	w.start = epoch.Add(s.History)
	w.phase = w.d.Float64() * 2 * math.Pi
	for range s.pods() {
		r := w.newReplica("v1")
		r.born = w.t - 3600*4
		r.pod.Started = w.at(r.born)
		w.stable = append(w.stable, r)
	}
	return w
}

func (w *World) at(t float64) time.Time { return w.start.Add(time.Duration(t * float64(time.Second))) }

// Now is the world's time.
func (w *World) Now() time.Time { return w.at(w.t) }

// Elapsed is the time since the canary's start, negative in the history.
func (w *World) Elapsed() time.Duration { return time.Duration(w.t * float64(time.Second)) }

func (w *World) newReplica(rev string) replica {
	w.serial++
	r := replica{born: w.t, factor: 1}
	r.pod = analysis.Pod{Name: fmt.Sprintf("%s-%d", rev, w.serial), Started: w.at(w.t), MemoryBytes: 8e7,
		Has: analysis.HasRequests | analysis.HasErrors | analysis.HasCPU | analysis.HasMemory | analysis.HasRestarts}
	if w.S.Latency {
		r.pod.Has |= analysis.HasLatency
		r.pod.Latency = analysis.Histogram{LE: bounds, Count: make([]float64, len(bounds))}
	}
	if u := w.S.Unlike; u > 0 {
		r.factor = math.Exp(u*w.d.NormFloat64() - u*u/2)
	}
	r.shift = w.S.LatUnlike * w.d.NormFloat64()
	return r
}

// Advance lets one look's time pass with this share of requests on the canary.
func (w *World) Advance(weight float64) {
	dt := w.S.every().Seconds()
	if weight > 0 && w.t < 0 {
		weight = 0
	}
	if weight > 0 {
		for len(w.canary) < max(1, int(math.Ceil(weight*float64(w.S.pods())-1e-9))) {
			w.canary = append(w.canary, w.newReplica("v2"))
		}
	}
	w.bursts(dt)
	s := &w.S
	rps, base := s.RPS, s.Base
	if s.Diurnal {
		x := math.Sin(2*math.Pi*w.t/7200 + w.phase)
		rps *= 1 + 0.5*x
		base *= math.Exp(0.55 * x)
	}
	if w.shared > 0 {
		base = math.Min(1, base*burstTimes)
	}
	if s.OutageFor > 0 && w.t >= s.OutageAt.Seconds() && w.t < (s.OutageAt+s.OutageFor).Seconds() {
		base = math.Max(base, s.OutageShare)
	}
	bad, slower, tail := base, 1.0, 0.0
	if weight+1e-9 >= s.OnsetWeight && w.t >= s.OnsetAfter.Seconds() && weight > 0 && !s.Healthy() {
		part := 1.0
		if s.Ramp > 0 {
			part = math.Min(1, (w.t-s.OnsetAfter.Seconds())/s.Ramp.Seconds())
		}
		if s.Bad > s.Base {
			bad = 1 - (1-base)*(1-part*(s.Bad-s.Base)/(1-s.Base))
		}
		if s.Slower > 1 {
			slower = math.Pow(s.Slower, part)
		}
		tail = part * s.Tail
		if w.OnsetAt < 0 {
			w.OnsetAt = w.t
		}
	} else if s.Bad > 0 && s.Bad < s.Base {
		bad = math.Min(base, s.Bad) // an improvement
	}
	load := func(arm []replica, share, p, slower, tail float64, first int) (n float64) {
		if len(arm) == 0 {
			return 0
		}
		for i := range arm {
			k := rps * dt * share / float64(len(arm))
			n += w.serve(&arm[i], k, p, slower, tail, first+i)
		}
		return n
	}
	w.stick(weight, dt)
	sn := load(w.stable, 1-weight, base, 1, 0, 0)
	cn := 0.0
	if weight > 0 {
		cn = load(w.canary, weight, bad, slower, tail, len(w.stable))
	}
	w.Exposed += cn
	if w.OnsetAt >= 0 {
		w.Harmed += cn * (math.Max(0, bad-base) + tail)
		w.Info += information(cn, sn, bad, base)
	}
	w.t += dt
	for i := range w.stable {
		w.show(&w.stable[i], false)
	}
	for i := range w.canary {
		w.show(&w.canary[i], s.Skew)
	}
}

// serve lets a pod answer about load requests.
func (w *World) serve(r *replica, load, p, slower, tail float64, index int) float64 {
	s := &w.S
	dt := s.every().Seconds()
	if s.Resets > 0 && w.d.Float64() < s.Resets*dt/3600 {
		r.pod.Requests, r.pod.Errors, r.pod.CPUSeconds = 0, 0, 0
		clear(r.pod.Latency.Count)
		r.pod.Started = w.at(w.t)
		r.pod.Restarts++
	}
	p = math.Min(1, p*r.factor)
	if r.badFor > 0 {
		p = math.Min(1, p*burstTimes)
	}
	n := w.d.poisson(load)
	var e float64
	switch {
	case s.Weather == BetaBinomial && p > 0 && p < 1:
		const k = 1/0.02 - 1
		e = w.d.binomial(n, w.d.beta(p*k, (1-p)*k))
	case s.Weather == RetryStorms && p < 0.5:
		for range int(w.d.poisson(load * p / 5)) {
			e += w.d.geometric(5)
		}
		n = w.d.poisson(load*(1-p)) + e
	default:
		e = w.d.binomial(n, p)
	}
	if s.Sticky && w.heavy == index {
		extra := w.d.poisson(0.1 * s.RPS * dt)
		n += extra
		e += w.d.binomial(extra, math.Min(1, 5*p))
	}
	r.pod.Requests += n
	r.pod.Errors += e
	r.pod.CPUSeconds += n * 0.002 * (0.95 + 0.1*w.d.Float64())
	if s.Latency {
		w.time(r, n, slower, tail)
	}
	return n
}

// time spreads n requests over the pod's histogram.
func (w *World) time(r *replica, n, slower, tail float64) {
	s := &w.S
	m := math.Log(medianMs) + math.Log(slower) + r.shift + s.LatNoise*w.d.NormFloat64()
	if s.ColdBy > 1 && w.t-r.born < s.ColdFor.Seconds() {
		m += math.Log(s.ColdBy)
	}
	slow := w.d.binomial(n, tail)
	put := func(n, m float64) {
		left, before, sum := n, 0.0, 0.0
		for i, b := range bounds {
			f := 0.5 * math.Erfc(-(math.Log(b)-m)/(sigma*math.Sqrt2))
			if left > 0 && before < 1-1e-12 {
				x := w.d.binomial(left, math.Min(1, (f-before)/(1-before)))
				left -= x
				sum += x
			}
			before = f
			r.pod.Latency.Count[i] += sum
		}
	}
	put(n-slow, m)
	if slow > 0 {
		put(slow, m+math.Log(20))
	}
}

func (w *World) bursts(dt float64) {
	dwell := 60.0
	if w.S.BurstTime > 0 {
		dwell = w.S.BurstTime.Seconds()
	}
	begin := 1 - math.Exp(-dt*burstPart/(1-burstPart)/dwell)
	length := func() float64 { return dwell * w.d.ExpFloat64() }
	switch w.S.Weather {
	case HeavyBursts:
		length = func() float64 { // Pareto with index 1.5 and mean dwell
			return dwell / 3 * math.Pow(1-w.d.Float64(), -1/1.5)
		}
		fallthrough
	case PodBursts:
		for _, arm := range [2][]replica{w.stable, w.canary} {
			for i := range arm {
				arm[i].badFor -= dt
				if arm[i].badFor <= 0 && w.d.Float64() < begin {
					arm[i].badFor = length()
				}
			}
		}
	case SharedBursts:
		w.shared -= dt
		if w.shared <= 0 && w.d.Float64() < begin {
			w.shared = length()
		}
	}
}

// stick moves the heavy client to another pod every ten minutes or so.
func (w *World) stick(weight, dt float64) {
	if !w.S.Sticky {
		return
	}
	w.heavyT -= dt
	if w.heavyT > 0 {
		return
	}
	w.heavyT = 600 * w.d.ExpFloat64()
	w.heavy = w.d.IntN(len(w.stable))
	if len(w.canary) > 0 && w.d.Float64() < weight {
		w.heavy = len(w.stable) + w.d.IntN(len(w.canary))
	}
}

// show takes the reading that a scraper gets of the pod: this look's, or for a
// late one the look's before.
func (w *World) show(r *replica, late bool) {
	now := r.pod
	now.Latency.Count = append([]float64(nil), r.pod.Latency.Count...)
	if late {
		now, r.before = r.before, now
	}
	r.shown = now
	r.lost = now.Name == "" || w.S.LostScrapes > 0 && w.d.Float64() < w.S.LostScrapes
}

// Stable and Canary give the pods as they are seen.
func (w *World) Stable() []analysis.Pod { return seen(w.stable) }

// Canary is Stable for the release on trial.
func (w *World) Canary() []analysis.Pod { return seen(w.canary) }

func seen(arm []replica) []analysis.Pod {
	out := make([]analysis.Pod, 0, len(arm))
	for i := range arm {
		if !arm[i].lost {
			out = append(out, arm[i].shown)
		}
	}
	return out
}

func divergence(p, q float64) float64 {
	x := 0.0
	if p > 0 {
		x += p * math.Log(p/q)
	}
	if p < 1 {
		x += (1 - p) * math.Log((1-p)/(1-q))
	}
	return x
}

// information is what a tick tells about "the canary's share is pc and not
// ps", where ps is not known: the least over the common rate.
func information(cn, sn, pc, ps float64) float64 {
	if cn <= 0 || sn <= 0 || pc <= ps {
		return 0
	}
	p := (cn*pc + sn*ps) / (cn + sn)
	return cn*divergence(pc, p) + sn*divergence(ps, p)
}

// Bound is the least mean time in which any test with this false-rollback
// probability can tell the scenario's canary from stable at a constant weight
// (Wald), for regressions of the error rate.
func (s *Scenario) Bound(weight, alpha float64) time.Duration {
	i := information(weight*s.RPS, (1-weight)*s.RPS, math.Max(s.Bad, s.Base), s.Base)
	if i <= 0 {
		return math.MaxInt64
	}
	return time.Duration(math.Min(math.Log(1/alpha)/i, 1e9) * float64(time.Second))
}
