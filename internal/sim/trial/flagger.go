package trial

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Flagger follows the rules of a Canary's `analysis`: one check an interval; a
// metric beyond its range, and one without a value, is a failed check; failed
// checks are counted over the whole run and never forgotten; the count is
// looked at in the next tick, before anything is measured; a failed check holds
// the weight; at the largest weight a check that passes promotes, and nothing is
// looked at after that.
type Flagger struct {
	Interval  time.Duration
	Threshold int
	Weights   []float64 // one after the other, the last is the largest
	Metrics   []FlaggerMetric
	Skip      bool // skipAnalysis
}

// FlaggerMetric is one metric with its range, both ends included.
type FlaggerMetric struct {
	Name     string
	Min, Max *float64
	query    query
}

// Maker makes it for runs.
func (f *Flagger) Maker() Maker {
	return Maker{Name: "Flagger", New: func(int) Policy {
		keep := 10 * time.Second
		for _, m := range f.Metrics {
			keep = max(keep, m.query.window)
		}
		return &flagger{Flagger: f, tape: newTape(keep)}
	}}
}

type flagger struct {
	*Flagger
	tape   *tape
	due    time.Duration // the next tick
	phase  int           // 0 waiting for a revision, 1 progressing
	weight float64
	failed int
	why    string
}

func (f *flagger) Look(v View) Move {
	f.tape.record(v)
	if v.Elapsed < f.due {
		return f.stay()
	}
	f.due += f.Interval
	return f.tick()
}

func (f *flagger) stay() Move { return Move{Weight: f.weight, Why: f.why} }

func (f *flagger) tick() Move {
	if f.phase == 0 { // a new revision: scaled up, nothing is measured
		f.phase = 1
		return f.stay()
	}
	if f.Skip {
		return Move{Weight: 1, Promoted: true, Done: true, Why: "skipAnalysis: promoted unlooked at"}
	}
	if f.failed >= f.Threshold {
		return Move{Back: true, Why: fmt.Sprintf("%d failed checks; the last: %s", f.failed, f.why)}
	}
	if f.weight == 0 { // before the first weight no metric is looked at
		f.weight = f.Weights[0]
		return f.stay()
	}
	if why, ok := f.check(); !ok {
		f.failed++
		f.why = why
		return f.stay()
	}
	i := slices.IndexFunc(f.Weights, func(w float64) bool { return w > f.weight+1e-9 })
	if i < 0 {
		return Move{Weight: 1, Promoted: true, Done: true, Why: "promoted"}
	}
	f.weight = f.Weights[i]
	return f.stay()
}

// check measures until something fails.
func (f *flagger) check() (why string, ok bool) {
	for _, m := range f.Metrics {
		values := m.query.answer(f.tape)
		if len(values) == 0 {
			return fmt.Sprintf("no values found for %s", m.Name), false
		}
		x := values[len(values)-1] // of several series the last one counts
		switch {
		case math.IsNaN(x):
			return fmt.Sprintf("no values found for %s", m.Name), false
		case m.Min != nil && x < *m.Min:
			return fmt.Sprintf("%s %.4g < %.4g", m.Name, x, *m.Min), false
		case m.Max != nil && x > *m.Max:
			return fmt.Sprintf("%s %.4g > %.4g", m.Name, x, *m.Max), false
		}
	}
	return "", true
}
