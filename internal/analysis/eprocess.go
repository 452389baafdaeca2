package analysis

import (
	"errors"
	"math"
)

// An e-process is a bet against "the canary is not worse". Each tick multiplies
// the stake by a number whose mean is at most one if that is true, whatever the
// rate of the moment; so the stake exceeds 1/alpha with probability at most
// alpha, looked at as often as one likes (Ville). Everything here is in natural
// logarithms.

// never stands for the logarithm of nothing; it is finite, so that JSON has it.
const never = -1e6

// maxLog bounds what is remembered of one alternative.
const maxLog = 1e6

// maxAlts is the largest number of alternatives that one mixture holds.
const maxAlts = 11

// The prior over the onset of a regression: mass for "from the first request",
// mass that steps draw on - each the same part of what is left, and what they
// leave flows evenly over onsetLong seconds - and mass that flows in time, so
// slowly that it never runs out: of it, one part in 1+ln(1+t/onsetScale) is
// left after t seconds.
const (
	onsetStart = 0.65
	onsetSteps = 0.30
	onsetTime  = 0.05
	stepPart   = 0.3
	onsetScale = 600
	onsetLong  = 30 * 3600
)

// mixture is an e-process over alternatives and over the unknown onset. A[k] is
// the logarithm of the sum over onsets so far, each with its mass, of what
// alternative k has won since.
type mixture struct {
	A     [maxAlts]float64 `json:"a"`
	Begun bool             `json:"b,omitempty"`
	T     float64          `json:"t,omitempty"` // seconds since it began
	Pool  float64          `json:"p,omitempty"` // of the steps' mass
}

func newMixture() mixture {
	m := mixture{Pool: onsetSteps}
	for k := range m.A {
		m.A[k] = never
	}
	return m
}

func (m *mixture) check() error {
	for _, a := range m.A {
		if !(math.Abs(a) <= maxLog) {
			return errors.New("evidence is out of range")
		}
	}
	if !sane(m.T) || !(m.Pool >= 0 && m.Pool <= onsetSteps) {
		return errors.New("onset mass is out of range")
	}
	return nil
}

// left is the prior mass of "it begins later than now, or never".
func (m *mixture) left() float64 {
	if !m.Begun {
		return 1
	}
	return m.Pool + onsetTime/(1+math.Log1p(m.T/onsetScale))
}

// spend takes the mass of "it begins in this tick" of dt seconds.
func (m *mixture) spend(dt float64, newStep bool) float64 {
	before := m.left()
	if !m.Begun {
		m.Begun = true
		return before - m.left()
	}
	if rest := onsetLong - m.T; rest > dt {
		m.Pool *= 1 - dt/rest
	} else {
		m.Pool = 0
	}
	m.T += dt
	if newStep {
		m.Pool *= 1 - stepPart
	}
	return before - m.left()
}

// add bets one tick: l holds the logarithm of what each alternative wins, cap
// bounds it from above, which can only lower the stake.
func (m *mixture) add(l []float64, pi, cap float64) {
	lp := never
	if pi > 0 {
		lp = math.Log(pi)
	}
	for k, x := range l {
		a := math.Min(x, cap) + logAdd(m.A[k], lp)
		m.A[k] = math.Min(math.Max(a, never), maxLog)
	}
}

// log is the logarithm of the stake; w are the logarithms of the weights.
func (m *mixture) log(w []float64) float64 {
	s := math.Log(m.left())
	for k, lw := range w {
		s = logAdd(s, lw+m.A[k])
	}
	return s
}

// temper divides what has been won by f >= 1: evidence that turned out to be
// overstated. It lowers the stake, never raises it.
func (m *mixture) temper(f float64) {
	for k, a := range m.A {
		if a > 0 {
			m.A[k] = a / f
		}
	}
}

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if b-a < -40 {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

func logWeights(w ...float64) []float64 {
	sum := 0.0
	for _, x := range w {
		sum += x
	}
	out := make([]float64, len(w))
	for i, x := range w {
		out[i] = math.Log(x / sum)
	}
	return out
}

// Alternatives for the share of failures: the canary's is so many times
// stable's (given how many failed in both, the number on the canary is
// binomial, and the unknown moving rate is gone), or it is a share of its own
// (which also uses the requests that went well).
var (
	riskGrid  = [...]float64{1.5, 2.2, 4, 8, 20, 100}
	riskLog   = logsOf(riskGrid[:])
	shareGrid = [...]float64{0.1, 0.7}
	errorW    = logWeights(0.17, 0.18, 0.17, 0.15, 0.12, 0.07, 0.06, 0.08)
	slowW     = logWeights(0.2, 0.2, 0.2, 0.15, 0.15, 0.1)
)

const (
	nRisk  = len(riskGrid)
	nError = nRisk + len(shareGrid)
)

func logsOf(x []float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = math.Log(x[i])
	}
	return out
}

// riskBets writes the logarithms of what the relative alternatives win on a
// tick with cn requests and ce failures on the canary, sn and se on stable.
//
// Given m = ce+se, ce is binomial with share cn/n if the rates are equal
// (hypergeometric for distinct requests, which is less spread). The bet is the
// ratio of two such likelihoods, convex and rising in ce: its mean is one at
// equality and less when the canary is better.
func riskBets(dst []float64, cn, ce, sn, se float64) {
	if !(cn > 0 && sn > 0) {
		clear(dst[:nRisk])
		return
	}
	n, m := cn+sn, ce+se
	for k, r := range riskGrid {
		dst[k] = ce*riskLog[k] - m*math.Log((r*cn+sn)/n)
	}
}

// shareBets does the same for the absolute alternatives; base is stable's rate
// as known before this tick. A wrong base costs power, never validity: for
// every common rate p the mean is A^cn B^sn with (cn A + sn B)/n = 1.
func shareBets(dst []float64, cn, ce, sn, se, base float64) {
	if !(cn > 0 && sn > 0) {
		clear(dst[:len(shareGrid)])
		return
	}
	n := cn + sn
	base = math.Min(math.Max(base, 1e-5), 0.9)
	for k, a := range shareGrid {
		a = math.Min(math.Max(a, 3*base), 0.99)
		pi := (cn*a + sn*base) / n
		dst[k] = ce*math.Log(a/pi) + (cn-ce)*math.Log((1-a)/(1-pi)) +
			se*math.Log(base/pi) + (sn-se)*math.Log((1-base)/(1-pi))
	}
}

// errorBets writes all nError bets of one tick against "the canary's rate is at
// most rho times stable's". A canary whose requests count rho times is the same
// bet against equality; the absolute alternatives bet on equality only.
func errorBets(dst []float64, cn, ce, sn, se, base, rho float64) {
	riskBets(dst, rho*cn, ce, sn, se)
	if rho > 1 {
		clear(dst[nRisk:])
		return
	}
	shareBets(dst[nRisk:], cn, ce, sn, se, base)
}

// Blocks of a minute whose canary failures are clipped at what stable's rate in
// the same minute makes plausible: one burst, however large, is one bad minute.
// Clipping can only lower the bet.
const (
	blockSeconds = 60
	clipTimes    = 3
	clipPlus     = 2
)

// block gathers a minute.
type block struct {
	CN float64 `json:"cn,omitempty"`
	CE float64 `json:"ce,omitempty"`
	SN float64 `json:"sn,omitempty"`
	SE float64 `json:"se,omitempty"`
	T  float64 `json:"t,omitempty"`
}

func (b *block) check() error {
	for _, x := range [...]float64{b.CN, b.CE, b.SN, b.SE, b.T} {
		if !sane(x) {
			return errors.New("a block is out of range")
		}
	}
	return nil
}

// add reports whether the minute is full.
func (b *block) add(cn, ce, sn, se, dt float64) bool {
	b.CN, b.CE, b.SN, b.SE, b.T = b.CN+cn, b.CE+ce, b.SN+sn, b.SE+se, b.T+dt
	return b.T >= blockSeconds-1e-6
}

// bets writes the block's clipped bets and starts the next block.
func (b *block) bets(dst []float64, rho float64) {
	ce := b.CE
	if b.SN > 0 {
		ce = math.Min(ce, math.Floor(clipTimes*b.CN*b.SE/b.SN+clipPlus))
	}
	riskBets(dst, rho*b.CN, ce, b.SN, b.SE)
	*b = block{}
}
