package analysis

import (
	"errors"
	"math"
)

// gauge compares a level that is not a count: CPU seconds a request, memory a
// pod. Minute blocks of both versions are set against each other; what speaks
// against the canary is the mean excess over stable's level stretched by
// worseBy, in units of what stable's own minutes vary by. A gauge alone never
// takes a release back - it has hurt nobody yet - but while it is worse nothing
// goes on.
type gauge struct {
	CX float64 `json:"cx,omitempty"` // of the minute in hand: amounts and what they are per
	CN float64 `json:"cn,omitempty"`
	SX float64 `json:"sx,omitempty"`
	SN float64 `json:"sn,omitempty"`
	T  float64 `json:"t,omitempty"`

	Sum  float64 `json:"sum,omitempty"` // of standardised excesses
	N    float64 `json:"n,omitempty"`   // blocks
	Mean float64 `json:"m,omitempty"`   // of stable's blocks
	Var  float64 `json:"v,omitempty"`
	Seen float64 `json:"k,omitempty"` // blocks in Mean and Var

	C float64 `json:"c,omitempty"` // the last full minute, for the figures
	S float64 `json:"s,omitempty"`
}

const (
	// leastSpread is the standard deviation that a minute's level is given at
	// least, as a share of it.
	leastSpread = 0.05
	// sharpest is at how many blocks the bound is tightest.
	sharpest = 10
	// gaugeNeed is the evidence from which a gauge holds: ln 100, tempered.
	gaugeNeed  = 4.6
	gaugeScale = 2.0
)

func (g *gauge) check() error {
	for _, x := range [...]float64{g.CX, g.CN, g.SX, g.SN, g.T, g.N, g.Mean, g.Var, g.Seen, g.C, g.S} {
		if !(x >= 0 && x <= 1e30) {
			return errors.New("a gauge is out of range")
		}
	}
	if !(math.Abs(g.Sum) <= maxLog) {
		return errors.New("a gauge's evidence is out of range")
	}
	return nil
}

// add takes one tick and closes the minute when it is full.
func (g *gauge) add(cx, cn, sx, sn, dt, worseBy float64) {
	g.CX, g.CN, g.SX, g.SN, g.T = g.CX+cx, g.CN+cn, g.SX+sx, g.SN+sn, g.T+dt
	if g.T < blockSeconds-1e-6 {
		return
	}
	c, s, ok := ratio(g.CX, g.CN), ratio(g.SX, g.SN), g.CN > 0 && g.SN > 0
	g.CX, g.CN, g.SX, g.SN, g.T = 0, 0, 0, 0, 0
	if !ok {
		return
	}
	g.C, g.S = c, s
	// Exponentially weighted over the last twenty minutes of stable.
	g.Seen = math.Min(g.Seen+1, 20)
	d := s - g.Mean
	g.Mean += d / g.Seen
	if g.Seen > 1 {
		g.Var += (d*d*(g.Seen-1)/g.Seen - g.Var) / g.Seen
	}
	sd := math.Max(math.Sqrt(math.Max(0, g.Var)), leastSpread*math.Max(s, g.Mean)) * math.Sqrt2
	if sd <= 0 {
		return
	}
	x := (c - s*(1+worseBy)) / sd
	g.Sum = math.Min(math.Max(g.Sum+math.Min(x, 10), -maxLog), maxLog)
	g.N++
	if g.Sum < 0 { // what was good long ago does not excuse what is bad now
		g.Sum, g.N = 0, 0
	}
}

// log is a one-sided normal mixture of the standardised excesses.
func (g *gauge) log() float64 {
	if g.N <= 0 {
		return 0
	}
	v, s := g.N+sharpest, g.Sum
	return (math.Ln2 + 0.5*math.Log(sharpest/v) + s*s/(2*v) + logPhi(s/math.Sqrt(v))) / gaugeScale
}

func (g *gauge) worse() bool { return g.log() >= gaugeNeed }

// logPhi is the logarithm of the normal distribution function.
func logPhi(x float64) float64 {
	if x < -8 {
		return -0.5*x*x - math.Log(-x) - 0.5*math.Log(2*math.Pi)
	}
	return math.Log(0.5 * math.Erfc(-x/math.Sqrt2))
}

// starts counts how often the pods of both versions were started anew, and for
// how many seconds they were watched; all of it fades alike. Like a gauge it
// takes nothing back, but while the canary's pods keep ending nothing goes on:
// what ends every half minute may answer well in between.
type starts struct {
	C  float64 `json:"c,omitempty"`
	CT float64 `json:"ct,omitempty"` // pod seconds
	S  float64 `json:"s,omitempty"`
	ST float64 `json:"st,omitempty"`
}

const (
	// startsMemory is by how many seconds the counts fade.
	startsMemory = 900.0
	// startsEach times every pod, and startsLeast times in all, is more than a
	// start that needed a second try.
	startsEach  = 2.0
	startsLeast = 3.0
	// startsTimes as often as stable's is no accident of the machine they share.
	startsTimes = 4.0
	// startsSlack is what fading may take from a count before it is looked at.
	startsSlack = 0.9
)

func (x *starts) check() error {
	for _, v := range [...]float64{x.C, x.CT, x.S, x.ST} {
		if !sane(v) {
			return errors.New("a count of starts is negative or out of range")
		}
	}
	return nil
}

func (x *starts) add(c, s *delta, dt float64) {
	keep := math.Exp(-dt / startsMemory)
	if c.Has&HasRestarts != 0 {
		x.C, x.CT = x.C*keep+c.Restart, x.CT*keep+c.Pods*dt
	}
	if s.Has&HasRestarts != 0 {
		x.S, x.ST = x.S*keep+s.Restart, x.ST*keep+s.Pods*dt
	}
}

// worse reports whether pods canary pods keep ending, and stable's do not.
func (x *starts) worse(pods float64) bool {
	return x.C >= startsSlack*math.Max(startsEach*pods, startsLeast) && x.ST > 0 &&
		x.C*x.ST > startsTimes*(x.S+0.5)*x.CT
}

// gauges follows CPU seconds a request, memory a pod, pods that were killed for
// memory, and pods that were started anew.
func (j *Judge) gauges(l *Look, c, s *delta, dt float64) {
	e := j.s.Evidence
	if !j.cfg.Compare {
		return
	}
	e.Starts.add(c, s, dt)
	e.Ending = e.Starts.worse(c.Pods)
	if j.noControl {
		return
	}
	if r := j.cfg.CPU; r != nil && r.WorseBy > 0 {
		e.CPU.add(c.CPU, c.CPUN, s.CPU, s.CPUN, dt, r.WorseBy)
	}
	if r := j.cfg.Memory; r != nil && r.WorseBy > 0 {
		e.Mem.add(c.Mem, c.MemPods, s.Mem, s.MemPods, dt, r.WorseBy)
	}
	if c.Has&HasRestarts != 0 {
		if c.OOM > 0 && c.Pods > 0 && 2*c.OOM > c.Pods && s.OOM == 0 {
			e.OOM++
		}
	}
}
