package analysis

import (
	"errors"
	"math"
	"time"
)

// recentTau is the time constant of what counts as recent, in seconds.
const recentTau = 165

// evidence is what the comparison remembers.
type evidence struct {
	RecentC hist `json:"rc"` // latency, decayed
	RecentS hist `json:"rs"`
}

func newEvidence() *evidence { return &evidence{} }

func (e *evidence) check() error {
	for i := range e.RecentC {
		if !sane(e.RecentC[i]) || !sane(e.RecentS[i]) {
			return errors.New("a bucket is negative or out of range")
		}
	}
	return nil
}

func (e *evidence) restart(otherStable bool) { *e = evidence{} }
func (e *evidence) newStep()                 {}
func (e *evidence) base() (float64, bool)    { return 0, false }
func (e *evidence) coarsen(from, to []float64) {
	e.RecentC = rebin(e.RecentC, from, to)
	e.RecentS = rebin(e.RecentS, from, to)
}

// comparison is what the comparison found in the look in hand.
type comparison struct {
	fail bool
	rule string
}

func (j *Judge) refresh()       {}
func (j *Judge) rest(now int64) {}

func (j *Judge) compare(l *Look, now int64) {
	e := j.s.Evidence
	keep := 1.0
	if j.s.Scored != 0 {
		keep = math.Exp(-float64(now-j.s.Scored) / 1e9 / recentTau)
	}
	for i := range e.RecentC {
		e.RecentC[i] = e.RecentC[i]*keep + j.tick[canaryArm].Hist[i]
		e.RecentS[i] = e.RecentS[i]*keep + j.tick[stableArm].Hist[i]
	}
}

func (j *Judge) young(p *pod, now int64) bool { return false }

func (j *Judge) evidenceFor(f *finding)     { f.advance = 1 }
func (j *Judge) restWords(now int64) string { return "watching stable" }

func (j *Judge) evidenceWords(now int64, r *Report) string { return "" }
func (j *Judge) proofWords(f *finding) string              { return "" }
func (j *Judge) shownWords(f *finding) string {
	return "every limit is kept and enough requests were seen"
}
func (j *Judge) mark(f *Figure, d *rule) {}

// quantile interpolates within a bucket; in the overflow it gives the last
// bound, which is all that is known. It is for showing.
func (j *Judge) quantile(h *hist, q float64) (ms, n float64) {
	le := j.s.Layout
	for i := 0; i <= len(le); i++ {
		n += h[i]
	}
	if n <= 0 || len(le) == 0 {
		return 0, 0
	}
	at, cum := q*n, 0.0
	for i := range le {
		if cum+h[i] >= at && h[i] > 0 {
			lo := 0.0
			if i > 0 {
				lo = le[i-1]
			}
			return lo + (le[i]-lo)*(at-cum)/h[i], n
		}
		cum += h[i]
	}
	return le[len(le)-1], n
}

func (j *Judge) latencyFigure(f *Figure, m *limit, d *rule, now int64) {
	f.Unit = "ms"
	q := j.cfg.Latency.Quantile
	f.Canary, f.CanaryN = j.quantile(&j.s.Evidence.RecentC, q)
	f.Stable, f.StableN = j.quantile(&j.s.Evidence.RecentS, q)
	f.CanaryN, f.StableN = math.Round(f.CanaryN), math.Round(f.StableN)
	f.Limit = j.slowBound
	f.Window = min(j.shownFor(now), 3*recentTau*time.Second)
}

func (j *Judge) latencyWords(now int64) string {
	q := j.cfg.Latency.Quantile
	c, cn := j.quantile(&j.s.Evidence.RecentC, q)
	s, sn := j.quantile(&j.s.Evidence.RecentS, q)
	w := "p" + trim(short(q*100)) + " latency " + millis(c)
	if cn <= 0 {
		return "no latency seen yet"
	}
	if sn > 0 {
		w += " against " + millis(s)
	}
	return w
}
