package trial

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// tape is what a metrics server remembers of the pods: increases of counters
// from look to look, for some time back. A restarted counter has increased by
// what it shows; a new series' first sample is no increase.
type tape struct {
	keep  time.Duration
	ticks []tick
	last  map[string]analysis.Pod // as last scraped
	at    map[string]time.Time
}

// tick is one scrape.
type tick struct {
	at             time.Time
	stable, canary sums
	pods           []podSums // the canary's, by name
}

type podSums struct {
	name string
	sums
	known bool // not the series' first sample: it increased by something
}

// sums are increases of the counters.
type sums struct {
	n, e float64
	le   []float64
	h    []float64 // cumulative over le, as Prometheus has it
}

func newTape(keep time.Duration) *tape {
	return &tape{keep: keep, last: map[string]analysis.Pod{}, at: map[string]time.Time{}}
}

func (t *tape) record(v View) {
	k := tick{at: v.Now}
	for _, p := range v.Stable {
		if d, ok := t.increase(p, v.Now); ok {
			k.stable.add(d)
		}
	}
	for _, p := range v.Canary {
		d, ok := t.increase(p, v.Now)
		if ok {
			k.canary.add(d)
		}
		k.pods = append(k.pods, podSums{p.Name, d, ok})
	}
	slices.SortFunc(k.pods, func(a, b podSums) int { return cmp.Compare(a.name, b.name) })
	old := 0
	for old < len(t.ticks) && v.Now.Sub(t.ticks[old].at) > t.keep {
		old++
	}
	t.ticks = append(t.ticks[old:], k)
}

func (t *tape) increase(p analysis.Pod, now time.Time) (sums, bool) {
	before, known := t.last[p.Name]
	t.last[p.Name], t.at[p.Name] = p, now
	if !known {
		return sums{}, false
	}
	restarted := p.Requests < before.Requests
	from := func(now, before float64) float64 {
		if restarted || now < before {
			return now
		}
		return now - before
	}
	d := sums{n: from(p.Requests, before.Requests), e: from(p.Errors, before.Errors)}
	if p.Has&analysis.HasLatency != 0 {
		d.le = p.Latency.LE
		d.h = make([]float64, len(d.le))
		for i, c := range p.Latency.Count {
			b := 0.0
			if i < len(before.Latency.Count) {
				b = before.Latency.Count[i]
			}
			d.h[i] = from(c, b)
		}
	}
	return d, true
}

func (s *sums) add(o sums) {
	s.n += o.n
	s.e += o.e
	if o.h == nil {
		return
	}
	if s.h == nil {
		s.le, s.h = o.le, make([]float64, len(o.h))
	}
	for i := range min(len(s.h), len(o.h)) {
		s.h[i] += o.h[i]
	}
}

// arm names one of the two versions.
type arm uint8

const (
	canaryArm arm = iota
	stableArm
)

// series is one that a query answers with.
type series struct {
	sums
	failing, answering bool // whether a series of failed, and of good answers, was ever scraped
}

// window sums what came in the last d, one series for the arm, or one for each
// of the canary's pods in the order of their names. d = 0: between the last two
// scrapes only.
func (t *tape) window(a arm, d time.Duration, perPod bool) []series {
	if len(t.ticks) == 0 {
		return nil
	}
	now := t.ticks[len(t.ticks)-1].at
	var all series
	byPod := map[string]*series{}
	var names []string
	seen := false
	for i := len(t.ticks) - 1; i >= 0; i-- {
		k := &t.ticks[i]
		if d == 0 && i < len(t.ticks)-1 || d > 0 && now.Sub(k.at) >= d {
			break
		}
		if a == stableArm {
			all.add(k.stable)
			seen = true
			continue
		}
		for j := range k.pods {
			p := &k.pods[j]
			if !p.known {
				continue // a rate needs two samples
			}
			seen = true
			s := byPod[p.name]
			if s == nil {
				s = &series{}
				byPod[p.name] = s
				names = append(names, p.name)
			}
			s.add(p.sums)
		}
	}
	if !seen {
		return nil
	}
	if a == stableArm {
		all.failing, all.answering = true, true
		return []series{all}
	}
	slices.Sort(names)
	var out []series
	for _, n := range names {
		s := byPod[n]
		last := t.last[n]
		s.failing = last.Errors > 0 || s.e > 0
		s.answering = last.Requests > last.Errors || s.n > s.e
		all.add(s.sums)
		all.failing, all.answering = all.failing || s.failing, all.answering || s.answering
		out = append(out, *s)
	}
	if perPod {
		return out
	}
	return []series{all}
}

// quantileMs is what histogram_quantile makes of the sums, in milliseconds.
func (s *sums) quantileMs(q float64) float64 {
	if s.h == nil || s.n <= 0 {
		return math.NaN()
	}
	rank := q * s.n
	before, from := 0.0, 0.0
	for i, c := range s.h {
		if c >= rank {
			if c == before {
				return s.le[i]
			}
			return from + (s.le[i]-from)*(rank-before)/(c-before)
		}
		before, from = c, s.le[i]
	}
	return s.le[len(s.le)-1]
}
