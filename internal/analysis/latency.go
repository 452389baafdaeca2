package analysis

import "math"

// Alternatives for latency, as tilts of stable's own histogram. A tilt in
// normal scores is the exact likelihood ratio of a log-normal that is shifted
// by so many standard deviations; a tail tilt multiplies the odds of the
// buckets beyond one of stable's quantiles. All rise from bucket to bucket, so
// the bet is fair for every common distribution, and loses when the canary is
// faster.
var (
	shiftGrid = [...]float64{0.08, 0.15, 0.3, 0.6, 1.2}
	// tailOdds at the ninetieth percentile, then at the named one.
	tailOdds  = [...]float64{2, 5}
	namedOdds = [...]float64{2.5, 8, 30}
	latencyW  = logWeights(1, 1, 1, 1, 1, 0.5, 0.5, 0.6, 0.5, 0.4)
)

const nLatency = len(shiftGrid) + len(tailOdds) + len(namedOdds)

// latencyModel is stable's histogram, and what follows from it. The tables are
// made again from Used when it changes; they are not remembered.
type latencyModel struct {
	Used  hist    `json:"used"`  // what the tables rest on
	Learn hist    `json:"learn"` // what will be used next
	At    int64   `json:"at,omitempty"`
	Total float64 `json:"total,omitempty"` // requests in Used

	n      int // buckets, the overflow included
	f      [nLatency][maxBounds + 1]float64
	logF   [nLatency][maxBounds + 1]float64
	tailAt [nLatency]int // tails: first bucket of the tail
	// The share of each bucket that lies beyond the named quantile stretched by
	// worseBy, and the share of stable that does.
	marginW hist
	margin  float64
	named   float64 // stable's named quantile, ms
}

// modelMemory is the time constant of stable's histogram, seconds.
const modelMemory = 3600

// learn adds what stable answered, and renews the tables when half a minute
// has passed or the histogram has grown by half: always before the next bet,
// so every bet is laid before its tick is known.
func (m *latencyModel) learn(h *hist, dt float64, now int64, layout []float64, r *LatencyRule) {
	keep := math.Exp(-dt / modelMemory)
	sum := 0.0
	for i := range layout {
		m.Learn[i] = m.Learn[i]*keep + h[i]
		sum += m.Learn[i]
	}
	last := len(layout)
	m.Learn[last] = m.Learn[last]*keep + h[last]
	sum += m.Learn[last]
	if now-m.At < 30e9 && sum < 1.5*m.Total+20 {
		return
	}
	m.At, m.Used, m.Total = now, m.Learn, sum
	m.tables(layout, r)
}

func (m *latencyModel) coarsen(from, to []float64) {
	m.Used, m.Learn = rebin(m.Used, from, to), rebin(m.Learn, from, to)
}

// tables makes everything that follows from Used.
func (m *latencyModel) tables(layout []float64, r *LatencyRule) {
	m.n = 0
	if len(layout) == 0 || r == nil || m.Total <= 0 {
		return
	}
	n := len(layout) + 1
	m.n = n
	tot := 0.0
	for i := range n {
		tot += m.Used[i]
	}
	var p, mid [maxBounds + 1]float64
	cum := 0.0
	for i := range n {
		p[i] = (m.Used[i] + 0.2) / (tot + 0.2*float64(n))
		mid[i] = cum + p[i]/2
		cum += p[i]
	}
	named := math.Min(math.Max(r.Quantile, 0.5), 0.9999)
	for k := range nLatency {
		m.tailAt[k] = -1
		sum := 0.0
		for i := range n {
			var f float64
			switch {
			case k < len(shiftGrid):
				f = math.Exp(shiftGrid[k] * normalQuantile(mid[i]))
			default:
				q, odds := 0.9, 0.0
				if t := k - len(shiftGrid); t < len(tailOdds) {
					odds = tailOdds[t]
				} else {
					q, odds = named, namedOdds[t-len(tailOdds)]
				}
				f = 1
				if mid[i] >= q {
					f = odds
					if m.tailAt[k] < 0 {
						m.tailAt[k] = i
					}
				}
			}
			m.f[k][i] = f
			sum += f * p[i]
		}
		if k >= len(shiftGrid) && m.tailAt[k] < 0 {
			// The quantile lies in the last bucket: that is the tail.
			m.tailAt[k] = n - 1
			sum += (namedOdds[0] - 1) * p[n-1]
			m.f[k][n-1] = namedOdds[0]
		}
		for i := range n {
			m.f[k][i] /= sum
			m.logF[k][i] = math.Log(m.f[k][i])
		}
	}
	shape := shapeOf(&m.Used, layout)
	m.named = shape.quantile(layout, named)
	shape.beyond(&m.marginW, layout, m.named*(1+r.WorseBy))
	m.margin = 0
	for i := range n {
		m.margin += p[i] * m.marginW[i]
	}
}

// bets writes the bets of one tick: canary's and stable's histograms.
func (m *latencyModel) bets(dst []float64, c, s *hist) {
	cn, sn := 0.0, 0.0
	for i := range m.n {
		cn += c[i]
		sn += s[i]
	}
	if !(cn > 0 && sn > 0) {
		clear(dst[:nLatency])
		return
	}
	wc, ws := cn/(cn+sn), sn/(cn+sn)
	for k := range nLatency {
		l := 0.0
		if t := m.tailAt[k]; t >= 0 {
			var cLo, cHi, sLo, sHi float64
			for i := range m.n {
				if i < t {
					cLo += c[i]
					sLo += s[i]
				} else {
					cHi += c[i]
					sHi += s[i]
				}
			}
			if t > 0 {
				l = cLo*m.logF[k][0] - (cLo+sLo)*math.Log(wc*m.f[k][0]+ws)
			}
			l += cHi*m.logF[k][t] - (cHi+sHi)*math.Log(wc*m.f[k][t]+ws)
		} else {
			for i := range m.n {
				if both := c[i] + s[i]; both > 0 {
					l += c[i]*m.logF[k][i] - both*math.Log(wc*m.f[k][i]+ws)
				}
			}
		}
		dst[k] = l
	}
}

// weighted is how many of h lie beyond the bound that w stands for.
func weighted(h, w *hist) (k, n float64) {
	for i := range h {
		k += h[i] * w[i]
		n += h[i]
	}
	return k, n
}

// Within a bucket stable's distribution is taken to be log-normal: the normal
// score of the cumulative share is a straight line in the logarithm of time
// between the bucket's two bounds. Even spread would be wrong by half a bucket
// in the tail, where buckets are wide and steep. The first bucket, which has no
// lower bound above 0, is spread evenly, and of the overflow nothing is known
// but that it lies beyond the last bound.

// shape is stable's distribution at the bounds of a layout.
type shape struct {
	cum [maxBounds + 1]float64
	n   float64
}

func shapeOf(h *hist, layout []float64) (s shape) {
	cum := 0.0
	for i := range layout {
		cum += h[i]
		s.cum[i] = cum
	}
	s.n = cum + h[len(layout)]
	return s
}

// score is the normal score at bound i.
func (s *shape) score(i int) float64 {
	return normalQuantile((s.cum[i] + 0.1) / (s.n + 0.2))
}

// below is the share of bucket i that lies below x.
func (s *shape) below(layout []float64, i int, x float64) float64 {
	hi, lo := layout[i], 0.0
	if i > 0 {
		lo = layout[i-1]
	}
	switch {
	case x <= lo:
		return 0
	case x >= hi:
		return 1
	case i == 0:
		return x / hi
	}
	zl, zh := s.score(i-1), s.score(i)
	if zh-zl < 1e-9 {
		return (x - lo) / (hi - lo)
	}
	z := zl + (zh-zl)*math.Log(x/lo)/math.Log(hi/lo)
	return (normalShare(z) - normalShare(zl)) / (normalShare(zh) - normalShare(zl))
}

// beyond writes the share of each bucket above x.
func (s *shape) beyond(w *hist, layout []float64, x float64) {
	for i := range layout {
		w[i] = 1 - s.below(layout, i, x)
	}
	w[len(layout)] = 1
}

// quantile gives the last bound where the quantile lies in the overflow.
func (s *shape) quantile(layout []float64, q float64) float64 {
	at, before := q*s.n, 0.0
	for i, hi := range layout {
		if s.cum[i] > before && s.cum[i] >= at {
			if i == 0 {
				return hi * at / s.cum[i]
			}
			lo := layout[i-1]
			zl, zh := s.score(i-1), s.score(i)
			if zh-zl < 1e-9 {
				return lo + (hi-lo)*(at-before)/(s.cum[i]-before)
			}
			z := normalQuantile(math.Max(at, before+1e-9) / s.n)
			return lo * math.Exp(math.Log(hi/lo)*math.Min(math.Max((z-zl)/(zh-zl), 0), 1))
		}
		before = s.cum[i]
	}
	if len(layout) == 0 {
		return 0
	}
	return layout[len(layout)-1]
}

func normalShare(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }

func normalQuantile(p float64) float64 {
	return math.Sqrt2 * math.Erfinv(2*math.Min(math.Max(p, 1e-9), 1-1e-9)-1)
}
