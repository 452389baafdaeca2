package analysis

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 1, "seed of the random tests")

func rng(t *testing.T) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: go test ./internal/analysis -run %s -seed=%d", t.Name(), *seed)
		}
	})
	return rand.New(rand.NewPCG(*seed, 7))
}

// better is the bet under trial; the tests also run with broken ones.
type errorBet func(dst []float64, cn, ce, sn, se, base float64)

func honestBet(dst []float64, cn, ce, sn, se, base float64) {
	errorBets(dst[:nError], cn, ce, sn, se, base, 1)
}

// brokenBets are formulas that are easily written by mistake. Each must be
// caught by the test of the mean.
var brokenBets = map[string]errorBet{
	"the canary's share of requests left out": func(dst []float64, cn, ce, sn, se, base float64) {
		for k := range riskGrid {
			dst[k] = ce*riskLog[k] - (ce+se)*math.Log((riskGrid[k]+1)/2)
		}
	},
	"stable's errors left out": func(dst []float64, cn, ce, sn, se, base float64) {
		for k, r := range riskGrid {
			dst[k] = ce * (riskLog[k] - math.Log((r*cn+sn)/(cn+sn)))
		}
	},
	"a known base rate instead of the common one": func(dst []float64, cn, ce, sn, se, base float64) {
		for k, a := range shareGrid {
			dst[k] = ce*math.Log(a/base) + (cn-ce)*math.Log((1-a)/(1-base))
		}
	},
	"a cap from below": func(dst []float64, cn, ce, sn, se, base float64) {
		honestBet(dst, cn, ce, sn, se, base)
		for k := range dst[:nError] {
			dst[k] = math.Max(dst[k], -0.01)
		}
	},
}

func logFactorial(n int) float64 { x, _ := math.Lgamma(float64(n) + 1); return x }

func binomialLog(n, k int, p float64) float64 {
	x := logFactorial(n) - logFactorial(k) - logFactorial(n-k)
	if k > 0 {
		x += float64(k) * math.Log(p)
	}
	if k < n {
		x += float64(n-k) * math.Log1p(-p)
	}
	return x
}

// largestMean enumerates all outcomes of a tick with cn and sn requests that
// fail with pc and ps, and gives the largest mean of any alternative.
func largestMean(bet errorBet, cn, sn int, pc, ps, base float64) float64 {
	var dst, mean [maxAlts]float64
	for a := 0; a <= cn; a++ {
		la := binomialLog(cn, a, pc)
		for b := 0; b <= sn; b++ {
			clear(dst[:])
			bet(dst[:], float64(cn), float64(a), float64(sn), float64(b), base)
			lw := la + binomialLog(sn, b, ps)
			for k := range nError {
				mean[k] += math.Exp(lw + dst[k])
			}
		}
	}
	top := 0.0
	for _, m := range mean[:nError] {
		top = math.Max(top, m)
	}
	return top
}

// TestErrorBetsAreFair: the mean of every tick's bet is at most one when the
// canary is not worse - exactly, over all outcomes of small ticks.
func TestErrorBetsAreFair(t *testing.T) {
	worst := func(bet errorBet) float64 {
		top := 0.0
		for _, n := range [][2]int{{1, 1}, {1, 19}, {5, 40}, {12, 12}, {30, 3}} {
			for _, p := range []float64{0.001, 0.02, 0.3, 0.9} {
				for _, less := range []float64{1, 0.5} {
					for _, base := range []float64{0.0001, 0.02, 0.6} {
						top = math.Max(top, largestMean(bet, n[0], n[1], p*less, p, base))
					}
				}
			}
		}
		return top
	}
	if m := worst(honestBet); m > 1+1e-9 {
		t.Errorf("largest mean %v", m)
	}
	for name, bet := range brokenBets {
		if m := worst(bet); m <= 1+1e-9 {
			t.Errorf("broken by %s, and the largest mean is %v: the test would not notice", name, m)
		}
	}
}

// Poisson counts on both arms: given their sum the canary's are exactly
// binomial, so the relative bets are worth exactly one.
func TestErrorBetsUnderPoisson(t *testing.T) {
	for _, n := range [][2]float64{{5, 95}, {50, 50}} {
		for _, p := range []float64{0.01, 0.1} {
			var mean [nRisk]float64
			var dst [maxAlts]float64
			for a := range 80 {
				for b := range 80 {
					lw := -(n[0]+n[1])*p + float64(a)*math.Log(n[0]*p) + float64(b)*math.Log(n[1]*p) - logFactorial(a) - logFactorial(b)
					riskBets(dst[:], n[0], float64(a), n[1], float64(b))
					for k := range nRisk {
						mean[k] += math.Exp(lw + dst[k])
					}
				}
			}
			for k, m := range mean {
				if m > 1+1e-6 || m < 0.9 && riskGrid[k] < 5 {
					t.Errorf("n %v, p %v, risk %v: mean %v", n, p, riskGrid[k], m)
				}
			}
		}
	}
}

// With tolerated unlikeness rho, a canary that fails rho times as often as
// stable still gains nothing.
func TestErrorBetsWithTolerance(t *testing.T) {
	const rho = 1.6
	mean := func(rate float64) float64 {
		return largestMean(func(dst []float64, cn, ce, sn, se, base float64) {
			errorBets(dst[:nError], cn, ce, sn, se, base, rho)
		}, 10, 60, rate, 0.02, 0.02)
	}
	if m := mean(0.02 * rho); m > 1+1e-3 {
		t.Errorf("at rho times stable's rate: %v", m)
	}
	if m := mean(0.02 * rho * 3); m < 1.05 {
		t.Errorf("three times beyond it the bet wins nothing: %v", m)
	}
}

// The clipped block is never worth more than the block as it was.
func TestClippedBlocksWinLess(t *testing.T) {
	r := rng(t)
	var clipped, plain [maxAlts]float64
	for range 2000 {
		b := block{CN: float64(1 + r.IntN(300)), SN: float64(1 + r.IntN(3000))}
		b.CE, b.SE = float64(r.IntN(int(b.CN)+1)), float64(r.IntN(int(b.SN)/20+1))
		riskBets(plain[:], b.CN, b.CE, b.SN, b.SE)
		b.bets(clipped[:], 1)
		for k := range nRisk {
			if clipped[k] > plain[k]+1e-9 {
				t.Fatalf("clipped %v, plain %v", clipped[k], plain[k])
			}
		}
	}
}

// TestLatencyBetsAreFair: the mean is at most one for common distributions that
// are unlike the one learned, and for a faster canary; by enumeration of small
// ticks. A tilt that does not rise is caught.
func TestLatencyBetsAreFair(t *testing.T) {
	layout := []float64{10, 100, 1000}
	rule := &LatencyRule{Quantile: 0.9, WorseBy: 0.2}
	var m latencyModel
	m.Used = hist{40, 300, 50, 8}
	m.Total = 398
	m.tables(layout, rule)
	worst := func(m *latencyModel, c, s [4]float64) float64 {
		var mean [maxAlts]float64
		var dst [maxAlts]float64
		var walk func(h *hist, left, bucket int, lw float64, p [4]float64, then func(lw float64))
		walk = func(h *hist, left, bucket int, lw float64, p [4]float64, then func(lw float64)) {
			if bucket == 3 {
				h[3] = float64(left)
				if left > 0 {
					lw += float64(left)*math.Log(p[3]) - logFactorial(left)
				}
				then(lw)
				return
			}
			for k := 0; k <= left; k++ {
				h[bucket] = float64(k)
				x := lw - logFactorial(k)
				if k > 0 {
					x += float64(k) * math.Log(p[bucket])
				}
				walk(h, left-k, bucket+1, x, p, then)
			}
		}
		var ch, sh hist
		walk(&ch, 3, 0, logFactorial(3), c, func(lc float64) {
			walk(&sh, 7, 0, logFactorial(7), s, func(ls float64) {
				m.bets(dst[:nLatency], &ch, &sh)
				for k := range nLatency {
					mean[k] += math.Exp(lc + ls + dst[k])
				}
			})
		})
		top := 0.0
		for _, x := range mean[:nLatency] {
			top = math.Max(top, x)
		}
		return top
	}
	for _, p := range [][4]float64{{0.1, 0.75, 0.13, 0.02}, {0.25, 0.25, 0.25, 0.25}, {0.01, 0.01, 0.9, 0.08}, {0.97, 0.01, 0.01, 0.01}} {
		if x := worst(&m, p, p); x > 1+1e-9 {
			t.Errorf("common distribution %v: mean %v", p, x)
		}
		faster := [4]float64{p[0] + p[3]/2, p[1], p[2], p[3] / 2}
		if x := worst(&m, faster, p); x > 1+1e-9 {
			t.Errorf("faster than %v: mean %v", p, x)
		}
		slower := [4]float64{p[0] / 4, p[1] / 4, p[2] / 4, p[3] + (p[0]+p[1]+p[2])*3/4}
		if x := worst(&m, slower, p); x <= 1 {
			t.Errorf("slower than %v: mean %v, no power", p, x)
		}
	}
	broken := m
	broken.logF[2][3] += 0.5 // the tilt no longer adds up to one
	if x := worst(&broken, [4]float64{0.1, 0.75, 0.13, 0.02}, [4]float64{0.1, 0.75, 0.13, 0.02}); x <= 1 {
		t.Errorf("a broken tilt has mean %v: the test would not notice", x)
	}
}

// TestOnsetMassAddsUpToOne in the long run, and never runs out.
func TestOnsetMass(t *testing.T) {
	m := newMixture()
	spent := m.spend(1, false)
	for i := range 200000 {
		pi := m.spend(1, i%50000 == 10)
		if !(pi > 0) {
			t.Fatalf("second %d: no mass left", i)
		}
		spent += pi
		if math.Abs(spent+m.left()-1) > 1e-9 {
			t.Fatalf("second %d: spent %v, left %v", i, spent, m.left())
		}
	}
	// A day later there is still so much of it for a second that the logarithm
	// costs no more than this.
	late := newMixture()
	late.spend(1, false)
	for range 24 * 3600 {
		late.spend(1, false)
	}
	if cost := -math.Log(late.spend(1, false)); cost > 13 {
		t.Errorf("an onset after a day costs %.1f nats", cost)
	}
	a, b := newMixture(), newMixture()
	a.spend(1, false)
	b.spend(1, false)
	for range 600 {
		a.spend(1, false)
	}
	for range 40 {
		b.spend(15, false)
	}
	if math.Abs(a.left()-b.left()) > 1e-9 {
		t.Errorf("the mass is spent in looks and not in time: %v, %v", a.left(), b.left())
	}
}

// TestVille: peeking after every tick, the stake of a healthy canary exceeds
// 1/alpha in at most alpha of the runs; a stake that forgets to divide the
// onset's mass does not keep that.
func TestVille(t *testing.T) {
	r := rng(t)
	const alpha, runs, ticks = 0.05, 1500, 250
	binomial := func(n int, p float64) float64 {
		k := 0
		for range n {
			if r.Float64() < p {
				k++
			}
		}
		return float64(k)
	}
	var crossed, broken int
	for range runs {
		m, x := newMixture(), newMixture()
		var l [maxAlts]float64
		hitM, hitX := false, false
		for i := range ticks {
			p := 0.03 * (1 + 0.9*math.Sin(float64(i)/40)) // a base rate that moves
			cn, sn := 5, 45
			if i > 100 { // and a weight that changes
				cn, sn = 25, 25
			}
			errorBets(l[:nError], float64(cn), binomial(cn, p), float64(sn), binomial(sn, p), 0.01, 1)
			m.add(l[:nError], m.spend(5, i == 101), math.Inf(1))
			x.add(l[:nError], 0.7, math.Inf(1))
			hitM = hitM || m.log(errorW) >= math.Log(1/alpha)
			hitX = hitX || x.log(errorW) >= math.Log(1/alpha)
		}
		if hitM {
			crossed++
		}
		if hitX {
			broken++
		}
	}
	t.Logf("crossed in %.3f of %d runs (bound %.2f); with the onset's mass spent twice in %.3f", float64(crossed)/runs, runs, alpha, float64(broken)/runs)
	if bound := alpha*runs + 3*math.Sqrt(alpha*(1-alpha)*runs); float64(crossed) > bound {
		t.Errorf("crossed %d times of %d", crossed, runs)
	}
	if float64(broken) <= alpha*runs {
		t.Errorf("a broken mixture crossed %d times of %d: the test would not notice", broken, runs)
	}
}

// TestMoreHarmIsMoreEvidence: one more failure on the canary never lowers the
// stake, one more on stable never raises that of the relative bets.
func TestMoreHarmIsMoreEvidence(t *testing.T) {
	r := rng(t)
	var a, b [maxAlts]float64
	for range 5000 {
		cn, sn := float64(1+r.IntN(500)), float64(1+r.IntN(5000))
		ce, se := float64(r.IntN(int(cn))), float64(r.IntN(int(sn)))
		base := math.Pow(10, -4*r.Float64())
		errorBets(a[:nError], cn, ce, sn, se, base, 1)
		errorBets(b[:nError], cn, ce+1, sn, se, base, 1)
		for k := range nError {
			if b[k] < a[k]-1e-9 {
				t.Fatalf("%v of %v, %v of %v: alternative %d falls from %v to %v", ce, cn, se, sn, k, a[k], b[k])
			}
		}
		errorBets(b[:nError], cn, ce, sn, se+1, base, 1)
		for k := range nRisk {
			if b[k] > a[k]+1e-9 {
				t.Fatal("one more failure on stable raises the stake")
			}
		}
	}
}

// TestMergedAndSplitTicks: where the split is constant and no cap binds, one
// long tick is worth what its parts are, onset aside.
func TestMergedAndSplitTicks(t *testing.T) {
	r := rng(t)
	var one, sum, l [maxAlts]float64
	for range 500 {
		clear(sum[:])
		var cn, ce, sn, se float64
		for range 10 {
			a, b := float64(r.IntN(3)), float64(r.IntN(5))
			errorBets(l[:nError], 50, a, 200, b, 0.01, 1)
			for k := range nError {
				sum[k] += l[k]
			}
			cn, ce, sn, se = cn+50, ce+a, sn+200, se+b
		}
		errorBets(one[:nError], cn, ce, sn, se, 0.01, 1)
		for k := range nError {
			if math.Abs(one[k]-sum[k]) > 1e-9*math.Max(1, math.Abs(one[k])) {
				t.Fatalf("alternative %d: merged %v, parts %v", k, one[k], sum[k])
			}
		}
	}
}

// TestTemperingNeverRaises the stake, and a cap neither.
func TestTemperingNeverRaises(t *testing.T) {
	r := rng(t)
	for range 500 {
		m := newMixture()
		capped := newMixture()
		var l [maxAlts]float64
		for range 20 {
			for k := range nError {
				l[k] = 4*r.Float64() - 2
			}
			m.add(l[:nError], m.spend(5, false), math.Inf(1))
			capped.add(l[:nError], capped.spend(5, false), 1)
		}
		if capped.log(errorW) > m.log(errorW)+1e-9 {
			t.Fatal("a cap raised the stake")
		}
		before := m.log(errorW)
		m.temper(1 + r.Float64())
		if m.log(errorW) > before+1e-9 {
			t.Fatal("tempering raised the stake")
		}
	}
}

func compared() Config {
	c := Config{ErrorRate: &RateRule{WorseBy: 0.005}, MinRequests: 200, FalseRollback: 0.01, Compare: true}
	return c
}

// rest lets stable be watched for d, three pods at n requests a look.
func (b *bench) rest(d time.Duration, n float64) {
	canary, pods := b.look.Canary, b.look.CanaryPods
	b.look.Canary, b.look.CanaryPods = "", nil
	for range int(d / (5 * time.Second)) {
		b.tick(5*time.Second, n, 0, 0, 0)
	}
	b.look.Canary, b.look.CanaryPods = canary, pods
}

func TestEvidenceTakesBack(t *testing.T) {
	b := newBench(t, compared(), 3, 1)
	b.rest(90*time.Minute, 100)
	start := b.look.Time
	for b.report.Verdict != Fail && b.look.Time.Sub(start) < time.Minute {
		b.tick(5*time.Second, 100, 0, 20, 1)
	}
	b.want(Fail, "Errors 5 %", "on stable", "95 % band", "worse by evidence", "requests harmed")
	if b.report.Rule != "errorRate" || b.report.Rollback != 1 || b.report.Calm {
		t.Errorf("%+v", b.report)
	}
	// A Fail is latched: what comes after does not undo it.
	for range 50 {
		b.tick(5*time.Second, 100, 0, 20, 0)
	}
	b.want(Fail)
	saved, err := b.j.Save()
	if err != nil {
		t.Fatal(err)
	}
	other, err := Restore(compared(), saved)
	if err != nil {
		t.Fatal(err)
	}
	b.look.Time = b.look.Time.Add(5 * time.Second)
	if r := other.Look(b.look); r.Verdict != Fail {
		t.Errorf("after a crash: %v", r.Verdict)
	}
}

// One look never decides alone, however bad.
func TestOneLookDoesNotDecide(t *testing.T) {
	b := newBench(t, compared(), 3, 1)
	b.rest(90*time.Minute, 100)
	b.tick(5*time.Second, 100, 0, 0, 0)
	b.tick(5*time.Second, 100, 0, 500, 500)
	if b.report.Verdict == Fail {
		t.Error(b.report.Sentence)
	}
	b.tick(5*time.Second, 100, 0, 500, 500)
	b.want(Fail)
}

// What nobody has watched may be a bad minute: it must last.
func TestUnknownStableMakesEvidenceWait(t *testing.T) {
	run := func(known bool, share float64) time.Duration {
		b := newBench(t, compared(), 3, 1)
		if known {
			b.rest(90*time.Minute, 100)
		}
		start := b.look.Time
		for b.report.Verdict != Fail && b.look.Time.Sub(start) < time.Hour {
			b.tick(5*time.Second, 100, 0.2, 100, 100*share)
		}
		return b.look.Time.Sub(start)
	}
	// A stable that never fails has no bad minutes: evidence counts at once.
	b := newBench(t, compared(), 3, 1)
	for range 20 {
		b.tick(time.Second, 100, 0, 20, 0)
	}
	from := b.look.Time
	for b.report.Verdict != Fail && b.look.Time.Sub(from) < time.Hour {
		b.tick(time.Second, 100, 0, 20, 1)
	}
	if d := b.look.Time.Sub(from); d > 30*time.Second {
		t.Errorf("a stable that never fails, a canary that fails 5 %%: %v", d)
	}
	known, unknown, drastic := run(true, 0.05), run(false, 0.05), run(false, 0.9)
	t.Logf("5 %%: %v where stable is known, %v where not; 90 %%: %v", known, unknown, drastic)
	if known > 15*time.Second || unknown < 2*time.Minute || unknown > 10*time.Minute || drastic > 30*time.Second {
		t.Error("out of range")
	}
}

// A release is wrong on all of its pods. One that fails among others that do not
// is a pod's bad time while nobody knows how long those last; as many failures
// spread over all of them are the release's.
func TestOneBadPodOfSeveral(t *testing.T) {
	run := func(baking bool, shares ...float64) time.Duration {
		b := newBench(t, compared(), 3, len(shares))
		b.look.Weight, b.look.NextWeight = 0.5, 0.75
		for range 24 {
			b.tick(5*time.Second, 100, 0.5, 100, 0.5)
		}
		if baking {
			b.look.Weight, b.look.NextWeight, b.look.Baking, b.look.StablePods = 1, 0, true, nil
		}
		start := b.look.Time
		for b.report.Verdict != Fail && b.look.Time.Sub(start) < time.Hour {
			b.look.Time = b.look.Time.Add(5 * time.Second)
			for i := range b.look.StablePods {
				b.serve(&b.look.StablePods[i], 100, 0.5, 0)
			}
			for i, x := range shares {
				b.serve(&b.look.CanaryPods[i], 100, 100*x, 0)
			}
			b.see()
			if shares[0] == 0.1 && shares[2] == 0.005 && b.look.Time.Sub(start) == 10*time.Minute && !baking {
				b.want(Undecided, "on one pod of the canary", "lasted 24 min")
			}
		}
		return b.look.Time.Sub(start)
	}
	for _, baking := range []bool{false, true} {
		one, all, two := run(baking, 0.1, 0.005, 0.005), run(baking, 0.04, 0.03, 0.04), run(baking, 0.1, 0.005, 0.06)
		t.Logf("baking alone %v: one of three pods: %v; all of them: %v; two: %v", baking, one, all, two)
		if one < 18*time.Minute || one >= time.Hour || all > 8*time.Minute || two > 8*time.Minute {
			t.Error("out of range")
		}
	}
}

// Clients that stick to the canary are no fair sample of all: where more requests
// reach it than its weight explains, a share of failures that they alone may
// make does not count, and a larger one does.
func TestClientsThatStick(t *testing.T) {
	run := func(weight, share float64) time.Duration {
		b := newBench(t, compared(), 3, 1)
		b.look.Weight, b.look.NextWeight = weight, weight
		for range 12 * 90 {
			b.look.Canary = ""
			b.tick(5*time.Second, 100, 0.2, 0, 0)
		}
		b.look.Canary = "v2"
		start := b.look.Time
		for b.report.Verdict != Fail && b.look.Time.Sub(start) < 30*time.Minute {
			b.tick(5*time.Second, 100, 0.2, 100, 100*share)
		}
		return b.look.Time.Sub(start)
	}
	fair, sticky, broken := run(0.25, 0.008), run(0.1, 0.008), run(0.1, 0.05)
	t.Logf("0.8 %% beside 0.2 %%: %v at its weight, %v at 2.5 times its weight; 5 %% there: %v", fair, sticky, broken)
	if fair > 10*time.Minute || sticky < 30*time.Minute || broken > time.Minute {
		t.Error("out of range")
	}
}

// What is counted before the split is seen in force has no weight yet.
func TestNoSurplusBeforeTheSplitIsSeen(t *testing.T) {
	b := newBench(t, compared(), 3, 1)
	b.rest(90*time.Minute, 100)
	b.look.Live, b.look.Weight = false, 0
	start := b.look.Time
	for b.report.Verdict != Fail && b.look.Time.Sub(start) < time.Minute {
		b.tick(5*time.Second, 100, 0, 20, 1)
	}
	if d := b.look.Time.Sub(start); d > 20*time.Second {
		t.Errorf("taken back after %v", d)
	}
	if x := b.j.s.Evidence.favour(); x != 0 {
		t.Errorf("favoured by %v", x)
	}
}

// Requests against the weight are said, in both directions, and fail nothing.
func TestTheShareOfRequestsIsCompared(t *testing.T) {
	for _, c := range []struct {
		weight float64
		says   string
	}{
		{0.25, ""}, {0.22, ""}, {0.3, ""},
		{0.1, "The canary got 25 % of the requests where its weight explains 10"},
		{0.5, "The canary got 25 % of the requests where its weight explains 5"},
	} {
		b := newBench(t, compared(), 3, 1)
		b.look.Weight = c.weight
		for i := range 60 {
			b.tick(5*time.Second, 100, 0.2, 100, 0.2)
			said := strings.Contains(b.report.Sentence, "where its weight explains")
			if b.report.Verdict == Fail || c.says == "" && said || i < 1 && said {
				t.Fatalf("weight %v, look %d: %s", c.weight, i, b.report.Sentence)
			}
		}
		if !strings.Contains(b.report.Sentence, c.says) {
			t.Errorf("weight %v: %s", c.weight, b.report.Sentence)
		}
		b.want(Pass)
	}
}

// Short bad times that were seen once do not make a limit on errors hastier than
// none that were seen.
func TestShortBurstsDoNotHastenALimit(t *testing.T) {
	run := func(longest float64) time.Duration {
		cfg := compared()
		cfg.ErrorRate.Max, cfg.ErrorRate.For, cfg.ErrorRate.WorseBy = ptr(0.01), 2*time.Minute, 0.5
		b := newBench(t, cfg, 3, 1)
		b.look.Weight = 0.25
		b.j.s.Evidence.Cal.Longest = longest
		start := b.look.Time
		for b.report.Verdict != Fail && b.look.Time.Sub(start) < time.Hour {
			b.tick(5*time.Second, 100, 0.2, 100, 5)
		}
		return b.look.Time.Sub(start)
	}
	if none, short := run(0), run(40); short < none || short == time.Hour {
		t.Errorf("%v where no bad time was seen, %v where one of 40 s was", none, short)
	}
}

func TestAMinuteThatPassesIsForgotten(t *testing.T) {
	b := newBench(t, compared(), 3, 1)
	for range 12 { // one bad minute of the canary
		b.tick(5*time.Second, 100, 0.2, 100, 10)
	}
	if b.j.s.Evidence.Since == 0 {
		t.Fatal("no suspicion: the test shows nothing")
	}
	for range 240 {
		b.tick(5*time.Second, 100, 0.2, 100, 0)
		if b.report.Verdict == Fail {
			t.Fatal(b.report.Sentence)
		}
	}
	b.want(Pass)
}

// Passing needs proof: with few requests the verdict is Undecided, and says of what.
func TestProofBeforePass(t *testing.T) {
	b := newBench(t, compared(), 3, 1)
	b.look.Weight, b.look.NextWeight = 0.25, 0.5
	passed := 0
	for i := range 60 {
		b.tick(5*time.Second, 1000, 1, 100, 0)
		if b.report.Verdict == Pass && passed == 0 {
			passed = i + 1
		}
	}
	if passed == 0 || passed < 3 {
		t.Fatalf("passed at look %d: %s", passed, b.report.Sentence)
	}
	b.want(Pass, "ruled out at the 5 % level")
	b.look.Step++
	b.tick(5*time.Second, 1000, 1, 100, 0)
	if b.report.Verdict == Pass {
		t.Error("the proof of the step before still counts")
	}
}

// A release that fixes a failing stable goes on.
func TestBetterThanAFailingStable(t *testing.T) {
	cfg := compared()
	cfg.ErrorRate.Max, cfg.ErrorRate.For = ptr(0.01), time.Minute
	b := newBench(t, cfg, 3, 1)
	for range 100 {
		b.tick(5*time.Second, 100, 20, 100, 4)
		if b.report.Verdict == Fail {
			t.Fatal(b.report.Sentence)
		}
	}
	if !b.report.Better || !b.report.BothBreak {
		t.Errorf("better %v, both %v: %s", b.report.Better, b.report.BothBreak, b.report.Sentence)
	}
	b.want(Pass)
}

// A retry of the same revision spends half of the bound, and so on.
func TestRetriesNeedMore(t *testing.T) {
	j := New(compared())
	first := j.threshold()
	j.Look(Look{Time: t0, Stable: "v1", Canary: "v2", Tries: 3})
	if d := j.threshold() - first; math.Abs(d-3*math.Ln2) > 1e-12 {
		t.Errorf("three retries need %v nats more, want %v", d, 3*math.Ln2)
	}
}

// While baking without control the frozen reference judges.
func TestBakingAlone(t *testing.T) {
	b := newBench(t, compared(), 3, 1)
	b.rest(90*time.Minute, 100)
	for range 40 {
		b.tick(5*time.Second, 100, 0, 100, 0)
	}
	b.look.Step, b.look.Weight, b.look.NextWeight, b.look.Baking = 1, 1, 0, true
	for range 4 {
		b.tick(5*time.Second, 0, 0, 400, 0)
	}
	b.want(Pass)
	from := b.look.Time
	for b.report.Verdict != Fail && b.look.Time.Sub(from) < 20*time.Minute {
		b.tick(5*time.Second, 0, 0, 400, 20)
	}
	b.want(Fail, "that stable had last")
	if d := b.look.Time.Sub(from); d < 3*time.Minute {
		t.Errorf("after %v: an outage of everybody would have looked the same", d)
	}
}

// Killed for memory on most pods, twice: at once.
func TestOOMKills(t *testing.T) {
	cfg := compared()
	cfg.Memory = &GaugeRule{WorseBy: 0.3}
	b := newBench(t, cfg, 3, 1)
	for range 2 {
		b.look.CanaryPods[0].OOMKills++
		b.tick(5*time.Second, 100, 0, 100, 0)
	}
	b.want(Fail, "killed for memory")
}

// More CPU a request holds, and never takes back by itself.
func TestCPUHolds(t *testing.T) {
	cfg := compared()
	cfg.CPU = &GaugeRule{WorseBy: 0.3}
	b := newBench(t, cfg, 3, 1)
	for range 12 * 15 {
		for i := range b.look.StablePods {
			b.look.StablePods[i].CPUSeconds += 0.2
		}
		b.look.CanaryPods[0].CPUSeconds += 0.4
		b.tick(5*time.Second, 100, 0, 100, 0)
		if b.report.Verdict == Fail {
			t.Fatal(b.report.Sentence)
		}
	}
	b.want(Undecided, "CPU a request", "takes nothing back")
	if b.report.Calm {
		t.Error("calm")
	}
}

// TestColdStart: a canary that is slow for its first minute is not taken back,
// one that stays slow is.
func TestColdStart(t *testing.T) {
	run := func(slowFor time.Duration) (Report, time.Duration) {
		cfg := Config{Latency: &LatencyRule{Quantile: 0.9, WorseBy: 0.2}, Compare: true, FalseRollback: 0.01}
		b := newBench(t, cfg, 3, 1)
		b.rest(90*time.Minute, 100)
		start := b.look.Time
		b.look.CanaryPods[0].Started = start
		for b.look.Time.Sub(start) < 15*time.Minute && b.report.Verdict != Fail {
			b.look.Time = b.look.Time.Add(5 * time.Second)
			for i := range b.look.StablePods {
				b.serve(&b.look.StablePods[i], 100, 0, 2)
			}
			slow := 2.0
			if b.look.Time.Sub(start) <= slowFor {
				slow = 60
			}
			b.serve(&b.look.CanaryPods[0], 100, 0, slow)
			b.see()
		}
		return b.report, b.look.Time.Sub(start)
	}
	if r, _ := run(90 * time.Second); r.Verdict == Fail {
		t.Error("cold: ", r.Sentence)
	}
	r, took := run(time.Hour)
	if r.Verdict != Fail || r.Rule != "latency" {
		t.Error("slow: ", r.Verdict, r.Sentence)
	}
	t.Logf("caught after %v: %s", took, r.Sentence)
}

// busy gives a judge and a look with ten metrics in full swing.
func busy(tb testing.TB, pods int) (*Judge, *Look, func()) {
	cfg := fullConfig()
	cfg.Custom = nil
	for i := range 6 {
		cfg.Custom = append(cfg.Custom, CustomRule{Name: fmt.Sprintf("metric-%d", i), Max: ptr(5), For: time.Minute})
	}
	var t testing.T
	b := newBench(&t, cfg, pods, 3)
	b.le = []float64{5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000}
	for _, arm := range [][]Pod{b.look.StablePods, b.look.CanaryPods} {
		for i := range arm {
			arm[i].Latency = Histogram{LE: b.le, Count: make([]float64, len(b.le))}
		}
	}
	for _, c := range cfg.Custom {
		b.look.Custom = append(b.look.Custom, Custom{Name: c.Name, Stable: Reading{Answer: Number, Value: 1}, Canary: Reading{Answer: Number, Value: 1}})
	}
	r := rand.New(rand.NewPCG(1, 2))
	move := func() {
		b.look.Time = b.look.Time.Add(time.Second)
		for _, arm := range [][]Pod{b.look.StablePods, b.look.CanaryPods} {
			for i := range arm {
				p := &arm[i]
				n := float64(5 + r.IntN(10))
				p.Requests += n
				if r.IntN(10) == 0 {
					p.Errors++
				}
				p.CPUSeconds += n * 0.002
				for k := range p.Latency.Count {
					p.Latency.Count[k] += math.Round(n * float64(k) / 10)
				}
			}
		}
	}
	for range 300 {
		move()
		b.j.observe(&b.look)
	}
	return b.j, &b.look, move
}

// BenchmarkLook judges one look with ten metrics, as the engine has it done;
// explain is the sentence and the figures, for those who want them.
func BenchmarkLook(b *testing.B) {
	for _, pods := range []int{3, 20} {
		b.Run(fmt.Sprintf("look/pods=%d", pods+3), func(b *testing.B) {
			j, l, move := busy(b, pods)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				move()
				b.StartTimer()
				_ = j.Look(*l)
			}
		})
		b.Run(fmt.Sprintf("explain/pods=%d", pods+3), func(b *testing.B) {
			j, l, move := busy(b, pods)
			move()
			r := j.Look(*l)
			b.ReportAllocs()
			for b.Loop() {
				j.Explain(&r)
			}
		})
	}
}

func TestALookDoesNotAllocate(t *testing.T) {
	for _, at := range []string{"in mid-rollout", "at rest", "baking alone"} {
		j, l, move := busy(t, 20)
		switch at {
		case "at rest":
			l.Canary, l.CanaryPods = "", nil
		case "baking alone":
			l.Weight, l.NextWeight, l.Baking = 1, 0, true
			l.StablePods = nil
		}
		move()
		j.Look(*l)
		var last Report
		if n := testing.AllocsPerRun(200, func() {
			move()
			last = j.Look(*l)
		}); n > 0 {
			t.Errorf("%s: %v allocations a look", at, n)
		}
		if last.Sentence != "" || last.Figures != nil {
			t.Errorf("%s: words that nobody asked for: %+v", at, last)
		}
		if j.Explain(&last); last.Sentence == "" || at != "at rest" && len(last.Figures) != 10 {
			t.Errorf("%s: nothing explained: %+v", at, last)
		}
	}
}

// The words change nothing: a judge that is asked for them at every look and one
// that is asked once come to the same.
func TestExplainingChangesNothing(t *testing.T) {
	j, l, move := busy(t, 3)
	k, _, _ := busy(t, 3)
	for i := range 100 {
		move()
		a, b := j.Look(*l), k.Look(*l)
		j.Explain(&a)
		j.Explain(&a) // nor does asking twice
		if i == 99 {
			if k.Explain(&b); !reflect.DeepEqual(a, b) {
				t.Errorf("asked at every look:\n%+v\nasked once:\n%+v", a, b)
			}
		}
	}
	saved, err := j.Save()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := k.Save(); err != nil || !bytes.Equal(saved, other) {
		t.Error("the judges remember different things", err)
	}
}

// What stable's pods had counted before anybody looked says whether it is one
// that hardly ever fails. Then a drastic failure of the canary need not last; a
// stable that failed now and then leaves that open.
func TestThePastOfStablesPods(t *testing.T) {
	caught := func(pastErrors float64) time.Duration {
		j := New(Config{ErrorRate: &RateRule{WorseBy: 0.005}, FalseRollback: 0.01, StaleAfter: time.Minute, Compare: true})
		pod := func(name string, n, e float64) Pod {
			return Pod{Name: name, Has: HasRequests | HasErrors, Requests: n, Errors: e, Started: t0.Add(-time.Hour)}
		}
		s := []Pod{pod("a", 50000, pastErrors), pod("b", 50000, pastErrors), pod("c", 50000, pastErrors)}
		c := []Pod{pod("x", 0, 0)}
		for i := range 60 {
			r := j.Look(Look{Time: t0.Add(time.Duration(i) * time.Second), Stable: "v1", Canary: "v2", Weight: 0.05, NextWeight: 0.25, Live: true, StablePods: s, CanaryPods: c})
			if r.Verdict == Fail {
				return time.Duration(i) * time.Second
			}
			for k := range s {
				s[k].Requests += 63
			}
			c[0].Requests += 10
			c[0].Errors += 5
		}
		return time.Hour
	}
	if d := caught(1); d > 6*time.Second {
		t.Errorf("half of the canary's requests fail beside a stable that never does: taken back after %s", d)
	}
	if d := caught(500); d < 10*time.Second || d > time.Minute {
		t.Errorf("beside a stable of which one request in a hundred failed before: taken back after %s", d)
	}
}

// A version whose pods keep ending answers well in between: by its requests
// alone it would be promoted.
func TestPodsThatKeepEndingHold(t *testing.T) {
	restart := func(pods []Pod) {
		for i := range pods {
			pods[i].Restarts++
		}
	}
	run := func(stable, canary int, each func(b *bench, second int)) (*bench, int) {
		cfg := Config{ErrorRate: &RateRule{WorseBy: 0.01}, Compare: true, FalseRollback: 0.01}
		b := newBench(t, cfg, stable, canary)
		passed := 0
		for second := 1; second <= 600; second++ {
			each(b, second)
			if b.tick(time.Second, 40, 0, 40, 0); b.report.Verdict == Pass {
				passed++
			}
		}
		return b, passed
	}
	for canary := 1; canary <= 3; canary++ {
		b, passed := run(3, canary, func(b *bench, second int) {
			if second%30 == 0 {
				restart(b.look.CanaryPods)
			}
		})
		if b.want(Undecided, "were started anew", "stable's about 0 times"); b.report.Calm || passed > 120 {
			t.Errorf("%d pods that end every 30 s: calm %v, passed in %d of 600 looks", canary, b.report.Calm, passed)
		}
	}
	quiet := map[string]func(b *bench, second int){
		"TheirStartOnly": func(b *bench, second int) { // they wait for something by ending
			if second == 1 || second == 3 {
				restart(b.look.CanaryPods)
			}
		},
		"BothVersions": func(b *bench, second int) {
			if second%30 == 0 {
				restart(b.look.CanaryPods)
				restart(b.look.StablePods)
			}
		},
		"OneTime": func(b *bench, second int) {
			if second == 500 {
				restart(b.look.CanaryPods)
			}
		},
		"BackWhenItIsOver": func(b *bench, second int) {
			if second < 100 && second%30 == 0 {
				restart(b.look.CanaryPods)
			}
		},
	}
	for name, each := range quiet {
		t.Run(name, func(t *testing.T) {
			b, _ := run(3, 2, each)
			b.t = t
			b.want(Pass)
		})
	}
	// What is saved goes on: a restart of the host excuses nothing.
	b, _ := run(3, 2, func(b *bench, second int) {
		if second%30 == 0 {
			restart(b.look.CanaryPods)
		}
	})
	saved, err := b.j.Save()
	if err != nil {
		t.Fatal(err)
	}
	if b.j, err = Restore(b.j.cfg, saved); err != nil {
		t.Fatal(err)
	}
	b.tick(time.Second, 40, 0, 40, 0)
	b.want(Undecided, "were started anew")
}

// The figure that a release was taken back for says so, also where its limit was
// not broken for long enough.
func TestWhatTookItBackIsWorse(t *testing.T) {
	cfg := compared()
	cfg.ErrorRate.Max, cfg.ErrorRate.For = ptr(0.01), 20*time.Minute
	b := newBench(t, cfg, 3, 1)
	for range 300 {
		if b.tick(time.Second, 50, 0, 50, 5); b.report.Verdict == Fail {
			break
		}
	}
	b.want(Fail, "worse by evidence")
	for _, f := range b.report.Figures {
		if f.Metric == "errorRate" && f.State != "worse" {
			t.Errorf("its figure is %q", f.State)
		}
	}
}
