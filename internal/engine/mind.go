package engine

import (
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Judge looks and remembers. It is what *analysis.Judge offers.
type Judge interface {
	Look(analysis.Look) analysis.Report
	// Explain adds the words to what the last Look answered.
	Explain(*analysis.Report)
	Save() ([]byte, error)
}

// Policy is what [rollout.Decide] is.
type Policy func(rollout.Spec, rollout.State, rollout.Observation, time.Time) rollout.Decision

// Recall makes a judge that remembers what an earlier one saved; nil = nothing.
type Recall func(cfg analysis.Config, evidence []byte) (Judge, error)

// recall is the real one.
func recall(cfg analysis.Config, evidence []byte) (Judge, error) {
	if len(evidence) == 0 {
		return analysis.New(cfg), nil
	}
	return analysis.Restore(cfg, evidence)
}

// Mind is the pure middle of a pass: the judge with its last report, and
// Decide. It has no clock and does no I/O, so the replay of a record and the
// simulation run the very same one. It is not for concurrent use.
type Mind struct {
	spec  rollout.Spec
	cfg   analysis.Config
	judge Judge

	decide  Policy
	restore Recall

	report   analysis.Report
	about    subject       // what the report is about
	lookedAt time.Time     // zero = not yet
	measure  time.Duration // how often the last decision wants looks
	atRest   time.Duration // how often to look where no decision asks for it; 0 = not
	decided  bool          // measure says something
}

// subject is what a report is about. A report says nothing about another
// subject: a Pass for one step must not be taken for the next one's.
type subject struct {
	stable, canary    rollout.Revision
	try, step         int
	live, baking, off bool
}

func subjectOf(st rollout.State) subject {
	return subject{
		stable: st.Stable.Revision, canary: st.Canary.Revision,
		try: st.Try, step: st.Step,
		live: !st.LiveAt.IsZero(), baking: baking(st),
		off: st.Move != rollout.MoveCanary,
	}
}

// baking is true once the canary has everything that it will get, and was seen
// to have it. Control, where there is one, is what the plan leaves to stable.
func baking(st rollout.State) bool {
	switch st.Phase {
	case rollout.Baking:
		return true
	case rollout.Promoting:
		return st.Granted > 0 && st.Confirmed >= st.Granted && nextWeight(st) == 0
	}
	return false
}

// nextWeight is the share that the next weight step above the granted one asks
// for, which may be the step at hand where that is not granted yet; 0 if there
// is none. A last step that leaves a control to stable has none after it.
func nextWeight(st rollout.State) rollout.Weight {
	if st.Phase == rollout.Baking {
		return 0
	}
	for i := max(0, st.Step); i < len(st.Plan); i++ {
		if s := st.Plan[i]; s.Kind == rollout.StepWeight && s.Weight > st.Granted && (i > st.Step || !st.Entered) {
			return s.Weight
		}
	}
	return 0
}

// NewMind makes a mind that has seen nothing yet.
func NewMind(spec rollout.Spec, cfg analysis.Config) *Mind {
	return &Mind{spec: spec, cfg: cfg, judge: analysis.New(cfg), decide: rollout.Decide, restore: recall}
}

// Spec is the document that it decides by.
func (m *Mind) Spec() rollout.Spec { return m.spec }

// Restore gives back what Evidence gave, under the same document or an edited
// one. If the bytes cannot be understood, the judge starts from nothing, which
// never makes a canary look better, and the error says so.
func (m *Mind) Restore(evidence []byte) error {
	m.forget()
	j, err := m.restore(m.cfg, evidence)
	if err != nil {
		m.judge, _ = m.restore(m.cfg, nil) // nothing remembered cannot be misunderstood
		return err
	}
	m.judge = j
	return nil
}

// Evidence is the judge's memory, for the store.
func (m *Mind) Evidence() ([]byte, error) { return m.judge.Save() }

// Learn shows the judge what stable counted while there was no canary, and gives
// its memory then. Nothing that it knows of a canary may be worth keeping.
func (m *Mind) Learn(stable rollout.Revision, past []Moment) ([]byte, error) {
	for _, x := range past {
		m.judge.Look(analysis.Look{Time: x.At, Stable: string(stable), StablePods: x.Pods})
	}
	evidence, err := m.judge.Save()
	if err != nil {
		return nil, err
	}
	return evidence, m.Restore(evidence) // as a replay does
}

// Respec takes an edited document. The evidence goes on.
func (m *Mind) Respec(spec rollout.Spec, cfg analysis.Config) error {
	evidence, err := m.judge.Save()
	m.spec, m.cfg = spec, cfg
	if err != nil {
		evidence = nil
	}
	if rerr := m.Restore(evidence); rerr != nil {
		return rerr
	}
	return err
}

func (m *Mind) forget() { m.report, m.about, m.lookedAt = analysis.Report{}, subject{}, time.Time{} }

// Due says whether a look at the samples is due before the next Think.
func (m *Mind) Due(st rollout.State, now time.Time) bool {
	switch {
	case !m.decided:
		return true // nothing is known about how often; one look does no harm
	case m.measure <= 0:
		return false
	case m.lookedAt.IsZero(), subjectOf(st) != m.about:
		return true
	}
	return !now.Before(m.lookedAt.Add(m.measure)) || now.Before(m.lookedAt)
}

// Think judges and decides. seen is what a look gave: nil when no look was
// taken, empty (but not nil) when one was tried and gave nothing. The
// observation is returned as it was decided upon, with the judge's report.
func (m *Mind) Think(st rollout.State, obs rollout.Observation, seen *Sampled, now time.Time) (rollout.Decision, rollout.Observation) {
	about := subjectOf(st)
	switch {
	case about.off:
		m.report = analysis.Report{} // an undo or a return is not judged
	case seen != nil:
		m.report = m.judge.Look(LookOf(st, *seen, now))
		m.judge.Explain(&m.report)
		m.lookedAt = now
	case about != m.about:
		m.report = analysis.Report{}
	}
	m.about = about
	obs.Report = m.report
	d := m.decide(m.spec, st, obs, now)
	m.measure, m.decided = d.Measure, true
	if m.measure == 0 {
		m.measure = m.atRest
	}
	return d, obs
}

// LookOf says to the judge what is on trial, and shows it the samples.
func LookOf(st rollout.State, seen Sampled, now time.Time) analysis.Look {
	about := subjectOf(st)
	return analysis.Look{
		Time:       now,
		Canary:     string(about.canary),
		Stable:     string(about.stable),
		Tries:      about.try,
		Step:       about.step,
		Live:       about.live,
		Weight:     share(st.Confirmed),
		NextWeight: share(nextWeight(st)),
		Baking:     about.baking,
		StablePods: seen.Stable,
		CanaryPods: seen.Canary,
		Custom:     seen.Custom,
	}
}

func share(w rollout.Weight) float64 { return float64(w) / float64(rollout.Whole) }
