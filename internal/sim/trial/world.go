package trial

import (
	"math"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/sim/worlds"
)

// World is a service on trial. Time passes only by Advance.
type World interface {
	// Advance lets one look's time pass with this share of the requests on
	// the canary, 0 to 1.
	Advance(weight float64)
	// Now is the time of the last reading; Elapsed the same since the canary
	// came, negative before.
	Now() time.Time
	Elapsed() time.Duration
	// Stable and Canary are the pods as a scraper sees them.
	Stable() []analysis.Pod
	Canary() []analysis.Pod
	Truth() Truth
}

// Truth is what only the world knows, summed since the canary came.
type Truth struct {
	Exposed float64       // requests that the canary answered
	Harmed  float64       // of them: that stable would have answered well, or faster
	Info    float64       // nats that tell the canary from stable, since Onset
	Onset   time.Duration // when the canary was first worse; negative = not yet
	Wrong   bool          // it is worse, or will be
	Rate    float64       // harm a second while everything goes to it
}

// Worlds makes a world from a seed. History is the time that it shows before
// the canary comes; 0 for policies that learn nothing from it.
type Worlds interface {
	New(seed uint64, history time.Duration) World
	Every() time.Duration // between looks
	Replicas() int        // of stable
	History() time.Duration
}

// Synthetic makes the scenario's worlds.
func Synthetic(s worlds.Scenario) Worlds { return synthetic{s, slowInformation(s)} }

type synthetic struct {
	s    worlds.Scenario
	slow *shape
}

func (y synthetic) Every() time.Duration {
	if y.s.Every > 0 {
		return y.s.Every
	}
	return 5 * time.Second
}
func (y synthetic) History() time.Duration { return y.s.History }
func (y synthetic) Replicas() int {
	s := y.s
	s.History = 0
	return len(worlds.New(s, 1).Stable())
}

func (y synthetic) New(seed uint64, history time.Duration) World {
	s := y.s
	s.History = history
	return &syntheticWorld{World: worlds.New(s, seed), slow: y.slow}
}

type syntheticWorld struct {
	*worlds.World
	slow    *shape
	harmed  float64 // by being slow
	info    float64
	exposed float64
}

func (w *syntheticWorld) Advance(weight float64) {
	w.World.Advance(weight)
	cn := w.Exposed - w.exposed
	w.exposed = w.Exposed
	if w.OnsetAt >= 0 && w.slow != nil && cn > 0 {
		if w.S.Slower > 1 {
			w.harmed += cn
		}
		if weight < 1 {
			w.info += w.slow.information(cn, cn*(1-weight)/weight)
		}
	}
}

func (w *syntheticWorld) Truth() Truth {
	t := Truth{Exposed: w.Exposed, Harmed: w.Harmed + w.harmed, Info: w.Info + w.info, Wrong: !w.S.Healthy(),
		Onset: time.Duration(w.OnsetAt * float64(time.Second)), Rate: rateOfHarm(&w.S)}
	if w.OnsetAt < 0 {
		t.Onset = -1
	}
	return t
}

// rateOfHarm is how many requests a second a wrong canary harms that has them
// all.
func rateOfHarm(s *worlds.Scenario) float64 {
	switch {
	case s.Healthy():
		return 0
	case s.Slower > 1:
		return s.RPS
	}
	return s.RPS * math.Min(1, math.Max(0, s.Bad-s.Base)+s.Tail)
}

// shape is how requests fall into a histogram's buckets, of stable and of a
// wrong canary.
type shape struct{ stable, canary []float64 }

// slowInformation finds the shapes by asking worlds that are large enough to
// show no chance; nil where the scenario's canary is not slower.
func slowInformation(s worlds.Scenario) *shape {
	if !s.Latency || s.Slower <= 1 && s.Tail == 0 {
		return nil
	}
	at := func(slower, tail float64) []float64 {
		w := worlds.New(worlds.Scenario{RPS: 4e6, Pods: 1, Latency: true, Slower: slower, Tail: tail, Every: time.Second}, 1)
		w.Advance(0.5)
		pods := w.Stable()
		if slower > 1 || tail > 0 {
			pods = w.Canary()
		}
		p := pods[0]
		out := make([]float64, 0, len(p.Latency.Count)+1)
		before := 0.0
		for _, c := range append(append([]float64(nil), p.Latency.Count...), p.Requests) {
			out = append(out, (c-before)/p.Requests)
			before = c
		}
		return out
	}
	return &shape{stable: at(1, 0), canary: at(s.Slower, s.Tail)}
}

// information of cn canary and sn stable requests, in nats: what they tell of
// "not the same", whatever the common distribution is.
func (h *shape) information(cn, sn float64) float64 {
	i := 0.0
	for k, p := range h.stable {
		q := h.canary[k]
		m := (cn*q + sn*p) / (cn + sn)
		if q > 0 && m > 0 {
			i += cn * q * math.Log(q/m)
		}
		if p > 0 && m > 0 {
			i += sn * p * math.Log(p/m)
		}
	}
	return math.Max(0, i)
}

// information about two shares of failures, likewise.
func information(cn, sn, pc, ps float64) float64 {
	if cn <= 0 || sn <= 0 || pc <= ps {
		return 0
	}
	return (&shape{[]float64{ps, 1 - ps}, []float64{pc, 1 - pc}}).information(cn, sn)
}
