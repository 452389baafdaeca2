package trial

import (
	"fmt"
	"time"
)

// Argo follows the rules of Argo Rollouts: steps that set a weight, pause or
// wait for an analysis run, and a run in the background that is cancelled when
// the steps are done. A run's metric is measured at its interval, an error
// after ten seconds whatever the interval; it fails when it has failed more
// often than its limit in all, and its run with it.
type Argo struct {
	Steps      []ArgoStep
	Background []ArgoMetric
	From       int // the step from which the background run is there
}

// ArgoStep is one step; the zero value does nothing.
type ArgoStep struct {
	Weight   *float64
	Pause    time.Duration
	Analysis []ArgoMetric
}

// ArgoMetric is one metric of a template, with defaults filled in: Count 0 is
// for ever.
type ArgoMetric struct {
	Name              string
	Interval, Delay   time.Duration
	Count             int
	FailureLimit      int // -1: never
	InconclusiveLimit int
	ErrorLimit        int // consecutive
	SuccessLimit      int // consecutive; 0 = not used
	Success, Failure  *condition
	query             query
}

// argoRetry is when an error of measuring is tried again.
const argoRetry = 10 * time.Second

// Maker makes it for runs.
func (a *Argo) Maker() Maker {
	return Maker{Name: "Argo", New: func(int) Policy {
		keep := 10 * time.Second
		all := [][]ArgoMetric{a.Background}
		for _, s := range a.Steps {
			all = append(all, s.Analysis)
		}
		for _, ms := range all {
			for _, m := range ms {
				keep = max(keep, m.query.window)
			}
		}
		return &argo{Argo: a, tape: newTape(keep)}
	}}
}

type phase uint8

// In the order in which the worst of several is found.
const (
	successful phase = iota
	running
	inconclusive
	errored
	failed
)

var phaseNames = [...]string{"Successful", "Running", "Inconclusive", "Error", "Failed"}

type argo struct {
	*Argo
	tape       *tape
	step       int
	entered    bool
	since      time.Duration
	weight     float64
	background *analysisRun
	inline     *analysisRun
	stuck      string
}

func (a *argo) Look(v View) Move {
	a.tape.record(v)
	if v.Elapsed < 0 {
		return Move{}
	}
	if a.stuck != "" {
		return Move{Weight: a.weight, Stuck: true, Why: a.stuck}
	}
	if a.background == nil && len(a.Background) > 0 && a.step >= a.From {
		a.background = newAnalysisRun(a.Background, v.Elapsed)
	}
	for _, r := range []*analysisRun{a.background, a.inline} {
		if r == nil {
			continue
		}
		switch p, why := r.reconcile(a.tape, v.Elapsed); p {
		case failed, errored:
			return Move{Back: true, Why: why}
		case inconclusive:
			a.stuck = "paused for a person: " + why
			return Move{Weight: a.weight, Stuck: true, Why: a.stuck}
		}
	}
	for a.step < len(a.Steps) && a.ended(v.Elapsed) {
		a.step, a.entered, a.inline = a.step+1, false, nil
	}
	if a.step >= len(a.Steps) {
		return Move{Weight: 1, Promoted: true, Done: true, Why: "promoted"}
	}
	return Move{Weight: a.weight}
}

// ended enters the step in hand and says whether it is over.
func (a *argo) ended(now time.Duration) bool {
	s := &a.Steps[a.step]
	if !a.entered {
		a.entered, a.since = true, now
		if s.Weight != nil {
			a.weight = *s.Weight
		}
		if len(s.Analysis) > 0 {
			a.inline = newAnalysisRun(s.Analysis, now)
		}
	}
	if a.inline != nil {
		return a.inline.done
	}
	return now-a.since >= s.Pause
}

// analysisRun is one run of a template's metrics.
type analysisRun struct {
	metrics []metricRun
	done    bool
}

type metricRun struct {
	*ArgoMetric
	due                                         time.Duration
	phase                                       phase
	count, successes, failures, undecided, errs int
	consecutiveErrors, consecutiveSuccesses     int
	measured                                    bool
	last                                        string
}

func newAnalysisRun(ms []ArgoMetric, now time.Duration) *analysisRun {
	r := &analysisRun{}
	for i := range ms {
		r.metrics = append(r.metrics, metricRun{ArgoMetric: &ms[i], due: now + ms[i].Delay, phase: running})
	}
	return r
}

// reconcile measures what is due and gives the run's verdict, running while
// there is none.
func (r *analysisRun) reconcile(t *tape, now time.Duration) (phase, string) {
	if r.done {
		return successful, ""
	}
	ended := false
	for i := range r.metrics {
		m := &r.metrics[i]
		if m.phase == running && now >= m.due {
			m.measure(t, now)
			m.assess()
		}
		ended = ended || m.phase > running
	}
	worst, why := successful, ""
	for i := range r.metrics {
		m := &r.metrics[i]
		p := m.phase
		if ended && p == running {
			p = successful // ended with the run
		}
		if p > worst || why == "" {
			worst, why = max(worst, p), fmt.Sprintf("metric %s is %s: %s", m.Name, phaseNames[p], m.last)
		}
	}
	r.done = worst != running
	return worst, why
}

func (m *metricRun) measure(t *tape, now time.Duration) {
	m.measured = true
	result := m.query.answer(t)
	p, err := m.evaluate(result)
	m.last = fmt.Sprintf("%s %.4g, %d failed of %d", "measured", result, m.failures, m.count)
	if err != nil {
		m.errs++
		m.consecutiveErrors++
		m.due = now + argoRetry
		m.last = fmt.Sprintf("%d errors on end, the last: %v", m.consecutiveErrors, err)
		return
	}
	m.count++
	m.consecutiveErrors = 0
	switch p {
	case successful:
		m.successes++
		m.consecutiveSuccesses++
	case failed:
		m.failures++
		m.consecutiveSuccesses = 0
	default:
		m.undecided++
		m.consecutiveSuccesses = 0
	}
	m.last = fmt.Sprintf("the last value %.4g, %d of %d measurements failed", result, m.failures, m.count)
	m.due = now + m.Interval
}

// evaluate is one measurement's phase. A condition that compares NaN does not
// hold: with a success condition that is a failure, with a failure condition it
// is none.
func (m *ArgoMetric) evaluate(result []float64) (phase, error) {
	ok, bad := false, false
	var err error
	if m.Success != nil {
		if ok, err = m.Success.holds(result); err != nil {
			return errored, err
		}
	}
	if m.Failure != nil {
		if bad, err = m.Failure.holds(result); err != nil {
			return errored, err
		}
	}
	switch {
	case m.Success == nil && m.Failure == nil:
		return successful, nil
	case m.Failure == nil && ok, m.Success == nil && !bad:
		return successful, nil
	case m.Failure == nil, m.Success == nil:
		return failed, nil
	case bad:
		return failed, nil
	case ok:
		return successful, nil
	}
	return inconclusive, nil
}

// assess is the metric's phase after a measurement. Of the limits a later one
// overwrites an earlier one.
func (m *metricRun) assess() {
	p := running
	if m.FailureLimit >= 0 && m.failures > m.FailureLimit {
		p = failed
	}
	if m.undecided > m.InconclusiveLimit {
		p = inconclusive
	}
	if m.consecutiveErrors > m.ErrorLimit {
		p = errored
	}
	switch {
	case p != running:
	case m.SuccessLimit > 0 && m.consecutiveSuccesses >= m.SuccessLimit:
		p = successful
	case m.Count > 0 && m.count >= m.Count && m.SuccessLimit > 0:
		p = inconclusive
		if m.FailureLimit >= 0 && m.failures > 0 {
			p = failed
		}
	case m.Count > 0 && m.count >= m.Count:
		p = successful
	}
	m.phase = p
}
