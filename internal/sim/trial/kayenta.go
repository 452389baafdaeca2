package trial

import (
	"math"
	"slices"
	"time"
)

// Kayenta follows the NetflixACAJudge: one point a minute for each metric and
// version, judged on everything since the canary came, at a fixed weight. A
// metric is High where the lower end of the 98 % interval of the shift between
// the two (Mann-Whitney) lies above a quarter of the shift itself, and the means
// rose by at least the allowed ratio. One High metric takes the canary back.
type Kayenta struct {
	Weight   float64
	Interval time.Duration // between judgements
	Lifetime time.Duration
	Increase float64 // allowed ratio of the means; 1 by default
	Latency  bool
}

// DefaultKayenta judges every five minutes for an hour at 5 %.
func DefaultKayenta(latency bool) *Kayenta {
	return &Kayenta{Weight: 0.05, Interval: 5 * time.Minute, Lifetime: time.Hour, Increase: 1, Latency: latency}
}

// Maker makes it for runs.
func (k *Kayenta) Maker() Maker {
	return Maker{Name: "Kayenta", New: func(int) Policy {
		return &kayenta{Kayenta: k, tape: newTape(time.Minute), due: k.Interval, point: time.Minute}
	}}
}

type kayenta struct {
	*Kayenta
	tape       *tape
	point, due time.Duration
	metrics    [3]struct{ control, experiment []float64 }
}

var kayentaMetrics = [...]string{"error rate", "p50 latency", "p99 latency"}

func (k *kayenta) Look(v View) Move {
	if v.Elapsed < 0 {
		return Move{}
	}
	k.tape.record(v)
	if v.Elapsed < k.point {
		return Move{Weight: k.Weight}
	}
	k.point += time.Minute
	for side, a := range [...]arm{stableArm, canaryArm} {
		for _, s := range k.tape.window(a, time.Minute, false) {
			values := [...]float64{s.e / s.n, math.NaN(), math.NaN()}
			if k.Latency {
				values[1], values[2] = s.quantileMs(0.5), s.quantileMs(0.99)
			}
			for i, x := range values {
				if math.IsNaN(x) {
					continue // removed, by default
				}
				if m := &k.metrics[i]; side == 0 {
					m.control = append(m.control, x)
				} else {
					m.experiment = append(m.experiment, x)
				}
			}
		}
	}
	if v.Elapsed < k.due {
		return Move{Weight: k.Weight}
	}
	k.due += k.Interval
	for i := range k.metrics {
		if m := &k.metrics[i]; classify(m.control, m.experiment, k.Increase) == high {
			return Move{Back: true, Why: kayentaMetrics[i] + " is High"}
		}
	}
	if v.Elapsed >= k.Lifetime {
		return Move{Weight: 1, Promoted: true, Done: true, Why: "promoted"}
	}
	return Move{Weight: k.Weight}
}

type class uint8

const (
	pass class = iota
	high
	noData
)

const (
	kayentaZ         = 2.326347874 // two-sided 98 %
	kayentaTolerance = 0.25
)

// classify is the judge's word on one metric that should not increase.
func classify(control, experiment []float64, increase float64) class {
	if len(control) == 0 || len(experiment) == 0 {
		return noData
	}
	a, b := slices.Clone(control), slices.Clone(experiment)
	slices.Sort(a)
	slices.Sort(b)
	if slices.Equal(a, b) || a[0] == b[len(b)-1] && a[len(a)-1] == b[0] {
		return pass
	}
	if a[0] == a[len(a)-1] && b[0] == b[len(b)-1] {
		// Two different constants: the noise that is added to them is a
		// hundred-thousandth of the value and separates them whatever it is,
		// if there are enough points to say so.
		for i := range a {
			a[i] *= 1 + 1e-5*float64(i)/float64(len(a))
		}
		for i := range b {
			b[i] *= 1 + 1e-5*float64(i)/float64(len(b))
		}
	}
	lower, estimate := shift(b, a)
	x, y := mean(a), mean(b)
	if x == 0 || y == 0 {
		return passIfNotHigh(lower, estimate, true) // the ratio of means is NaN: not asked
	}
	return passIfNotHigh(lower, estimate, y/x >= increase)
}

func passIfNotHigh(lower, estimate float64, effect bool) class {
	if lower > kayentaTolerance*math.Abs(estimate) && effect {
		return high
	}
	return pass
}

func mean(xs []float64) float64 {
	s := 0.0
	for _, x := range xs {
		s += x
	}
	return s / float64(len(xs))
}

// shift gives the lower end of the interval of the shift x - y, and the
// estimate, both as roots of the standardised rank sum over the shift.
func shift(x, y []float64) (lower, estimate float64) {
	from, to := x[0]-y[len(y)-1], x[len(x)-1]-y[0]
	return root(x, y, kayentaZ, from, to), root(x, y, 0, from, to)
}

// root finds where the falling rankZ crosses z; the nearer end of the interval
// where it does not.
func root(x, y []float64, z, from, to float64) float64 {
	width := to - from
	if rankZ(x, y, from) <= z {
		return from
	}
	if rankZ(x, y, to) >= z {
		return to
	}
	for range 60 {
		mid := (from + to) / 2
		if rankZ(x, y, mid) > z {
			from = mid
		} else {
			to = mid
		}
	}
	mid := (from + to) / 2
	if math.Abs(mid) < 1e-9*width {
		return 0 // tied values cross at 0 exactly
	}
	return mid
}

// rankZ is the standardised rank sum of x shifted down by mu among y, with
// average ranks for ties and a continuity correction.
func rankZ(x, y []float64, mu float64) float64 {
	n, m := len(x), len(y)
	ranks, ties := 0.0, 0.0
	// Both are sorted: merge them, runs of equal values at a time.
	for i, j := 0, 0; i < n || j < m; {
		v := math.Inf(1)
		if i < n {
			v = x[i] - mu
		}
		if j < m {
			v = math.Min(v, y[j])
		}
		first, i0, j0 := i+j, i, j
		for i < n && x[i]-mu == v {
			i++
		}
		for j < m && y[j] == v {
			j++
		}
		t := float64(i - i0 + j - j0)
		ranks += float64(i-i0) * (float64(first) + (t+1)/2)
		ties += t*t*t - t
	}
	fn, fm := float64(n), float64(m)
	d := ranks - fn*(fn+1)/2 - fn*fm/2
	switch {
	case d > 0:
		d -= 0.5
	case d < 0:
		d += 0.5
	}
	sigma := math.Sqrt(fn * fm / 12 * (fn + fm + 1 - ties/((fn+fm)*(fn+fm-1))))
	if sigma == 0 {
		return 0
	}
	return d / sigma
}
