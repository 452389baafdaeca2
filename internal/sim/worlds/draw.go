package worlds

import (
	"math"
	"math/rand/v2"
)

// dice draws from the distributions that a world needs.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 0x5e71))} }

// poisson draws a count with mean m: exactly below 50, by a rounded normal
// above, where the two cannot be told apart by what is measured here.
func (d dice) poisson(m float64) float64 {
	switch {
	case m <= 0:
		return 0
	case m > 50:
		return math.Max(0, math.Round(m+math.Sqrt(m)*d.NormFloat64()))
	}
	limit, k, p := math.Exp(-m), 0.0, 1.0
	for {
		p *= d.Float64()
		if p <= limit {
			return k
		}
		k++
	}
}

// binomial draws successes among n; the same remark holds.
func (d dice) binomial(n, p float64) float64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - d.binomial(n, 1-p)
	case n*p > 50:
		return math.Min(n, math.Max(0, math.Round(n*p+math.Sqrt(n*p*(1-p))*d.NormFloat64())))
	case n*p < 1e-12:
		return 0
	}
	// Gaps between successes are geometric.
	lq, at, k := math.Log1p(-p), 0.0, 0.0
	for {
		at += math.Floor(math.Log(1-d.Float64())/lq) + 1
		if at > n {
			return k
		}
		k++
	}
}

// gamma draws with shape a and scale 1 (Marsaglia and Tsang).
func (d dice) gamma(a float64) float64 {
	if a < 1 {
		return d.gamma(a+1) * math.Pow(1-d.Float64(), 1/a)
	}
	c := a - 1.0/3
	for {
		x := d.NormFloat64()
		v := 1 + x/math.Sqrt(9*c)
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-d.Float64()) < 0.5*x*x+c-c*v+c*math.Log(v) {
			return c * v
		}
	}
}

func (d dice) beta(a, b float64) float64 {
	x, y := d.gamma(a), d.gamma(b)
	return x / (x + y)
}

// geometric draws from 1, 2, ... with the given mean.
func (d dice) geometric(mean float64) float64 {
	return 1 + math.Floor(d.ExpFloat64()/-math.Log(1-1/mean))
}
