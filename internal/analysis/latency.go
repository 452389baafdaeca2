package analysis

import (
	"math"
	"slices"
)

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
	// Shares of each bucket that lie beyond the gate's and the margin's bound,
	// and the share of stable that does.
	gateW, marginW hist
	margin         float64
	named          float64 // stable's named quantile, ms
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
	m.named = histQuantile(&m.Used, layout, tot, named)
	beyond(&m.gateW, layout, m.named*(1+gatePart*r.WorseBy))
	beyond(&m.marginW, layout, m.named*(1+r.WorseBy))
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

// beyond writes the share of each bucket above x, evenly spread in its bucket.
// The overflow has no upper bound: all of it counts as beyond its lower one.
func beyond(w *hist, layout []float64, x float64) {
	lo := 0.0
	for i, hi := range layout {
		switch {
		case x <= lo:
			w[i] = 1
		case x >= hi:
			w[i] = 0
		default:
			w[i] = (hi - x) / (hi - lo)
		}
		lo = hi
	}
	w[len(layout)] = 1
}

// histQuantile interpolates evenly within a bucket; in the overflow it gives
// the last bound, which is all that is known.
func histQuantile(h *hist, layout []float64, n, q float64) float64 {
	at, cum, lo := q*n, 0.0, 0.0
	for i, hi := range layout {
		if h[i] > 0 && cum+h[i] >= at {
			return lo + (hi-lo)*(at-cum)/h[i]
		}
		cum += h[i]
		lo = hi
	}
	return lo
}

func normalQuantile(p float64) float64 {
	return math.Sqrt2 * math.Erfinv(2*math.Min(math.Max(p, 1e-9), 1-1e-9)-1)
}

// isTail reports whether alternative k looks at the tail alone.
func isTail(k int) bool { return k >= len(shiftGrid) }

func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	if n == 0 {
		return 0
	}
	return (x[(n-1)/2] + x[n/2]) / 2
}
