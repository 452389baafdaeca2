package engine

import (
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// script is a judge that says what it is told to, and remembers the looks.
type script struct {
	says  analysis.Report
	looks []analysis.Look
}

func (s *script) Look(l analysis.Look) analysis.Report { s.looks = append(s.looks, l); return s.says }
func (s *script) Explain(r *analysis.Report)           { r.Sentence = "as it is told." }
func (s *script) Save() ([]byte, error)                { return []byte("{}"), nil }

func scripted() (*Mind, *script) {
	s := &script{says: analysis.Report{Verdict: analysis.Pass}}
	m := NewMind(rollout.Spec{}, analysis.Config{})
	m.judge = s
	m.decide = func(_ rollout.Spec, st rollout.State, _ rollout.Observation, _ time.Time) rollout.Decision {
		return rollout.Decision{Next: st, Measure: time.Second}
	}
	return m, s
}

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func progressing() rollout.State {
	return rollout.State{
		Phase:  rollout.Progressing,
		Stable: rollout.Object{Revision: "v1@1"}, Canary: rollout.Object{Revision: "v2@2"},
		Plan: []rollout.Step{
			{Kind: rollout.StepWeight, Weight: 500}, {Kind: rollout.StepApproval}, {Kind: rollout.StepWeight, Weight: 2500}, {Kind: rollout.StepWeight, Weight: rollout.Whole},
		},
		Granted: 500, Confirmed: 500, LiveAt: t0, Entered: true,
	}
}

// A report about one step, one revision or one try says nothing about another.
func TestAReportIsAboutItsSubject(t *testing.T) {
	for name, change := range map[string]func(*rollout.State){
		"AnotherStep":    func(s *rollout.State) { s.Step = 2 },
		"AnotherCanary":  func(s *rollout.State) { s.Canary.Revision = "v3@3" },
		"AnotherStable":  func(s *rollout.State) { s.Stable.Revision = "v1@2" },
		"AnotherTry":     func(s *rollout.State) { s.Try = 1 },
		"NotLiveAnyMore": func(s *rollout.State) { s.LiveAt = time.Time{} },
		"Baking":         func(s *rollout.State) { s.Phase = rollout.Baking },
		"Undo":           func(s *rollout.State) { s.Move = rollout.MoveUndo },
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := scripted()
			st := progressing()
			if _, obs := m.Think(st, rollout.Observation{}, &Sampled{}, t0); obs.Report.Verdict != analysis.Pass || obs.Report.Sentence != "as it is told." {
				t.Fatalf("the judge's report was not handed on: %v, %q", obs.Report.Verdict, obs.Report.Sentence)
			}
			if _, obs := m.Think(st, rollout.Observation{}, nil, t0); obs.Report.Verdict != analysis.Pass {
				t.Errorf("without a look the last word does not stand: %v", obs.Report.Verdict)
			}
			if m.Due(st, t0.Add(999*time.Millisecond)) {
				t.Error("a look is due before its time")
			}
			change(&st)
			if !m.Due(st, t0) {
				t.Error("the subject is another, and no look is due")
			}
			if _, obs := m.Think(st, rollout.Observation{}, nil, t0); obs.Report.Verdict != analysis.Unavailable {
				t.Errorf("%v about something else was taken for this", obs.Report.Verdict)
			}
		})
	}
}

func TestWhenALookIsDue(t *testing.T) {
	m, _ := scripted()
	st := progressing()
	if !m.Due(st, t0) {
		t.Error("the first look is not due")
	}
	m.Think(st, rollout.Observation{}, &Sampled{}, t0)
	for at, due := range map[time.Duration]bool{500 * time.Millisecond: false, time.Second: true, time.Hour: true, -time.Second: true} {
		if got := m.Due(st, t0.Add(at)); got != due {
			t.Errorf("at %+v due is %v; a clock that went back must not stop the looks", at, got)
		}
	}
	m.decide = func(_ rollout.Spec, st rollout.State, _ rollout.Observation, _ time.Time) rollout.Decision {
		return rollout.Decision{Next: st}
	}
	m.Think(st, rollout.Observation{}, nil, t0)
	if m.Due(st, t0.Add(time.Hour)) {
		t.Error("nothing is to be measured, and a look is due")
	}
}

// What the judge is told about the step, as the state has it.
func TestLookOf(t *testing.T) {
	seen := Sampled{Stable: []analysis.Pod{{Name: "a"}}, Canary: []analysis.Pod{{Name: "b"}}, Custom: []analysis.Custom{{Name: "m"}}}
	for name, c := range map[string]struct {
		reason string
		state  func(*rollout.State)
		want   analysis.Look
	}{
		"AtAStep": {
			"the next weight step counts, not the approval between",
			func(*rollout.State) {},
			analysis.Look{Live: true, Weight: 0.05, NextWeight: 0.25},
		},
		"NotLive": {
			"the weight in force is the last one that was seen",
			func(s *rollout.State) { s.Granted, s.LiveAt, s.Step = 2500, time.Time{}, 2 },
			analysis.Look{Step: 2, Weight: 0.05, NextWeight: 1},
		},
		"WaitingToEnter": {
			"capacity is waited for: the step's own weight comes next",
			func(s *rollout.State) { s.Step, s.Entered = 3, false },
			analysis.Look{Step: 3, Live: true, Weight: 0.05, NextWeight: 1},
		},
		"PromotingBefore": {
			"before everything is granted both arms have traffic",
			func(s *rollout.State) { s.Phase, s.Step, s.Entered = rollout.Promoting, 3, false },
			analysis.Look{Step: 3, Live: true, Weight: 0.05, NextWeight: 1},
		},
		"PromotingGranted": {
			"granted and not seen yet: not baking",
			func(s *rollout.State) {
				s.Phase, s.Step, s.Granted, s.LiveAt = rollout.Promoting, 3, rollout.Whole, time.Time{}
			},
			analysis.Look{Step: 3, Weight: 0.05},
		},
		"Baking": {
			"everything, seen",
			func(s *rollout.State) {
				s.Phase, s.Step, s.Granted, s.Confirmed = rollout.Baking, 3, rollout.Whole, rollout.Whole
			},
			analysis.Look{Step: 3, Live: true, Weight: 1, Baking: true},
		},
		"BakingWithAControl": {
			"95 % is everything where 5 % stay behind",
			func(s *rollout.State) {
				s.Phase, s.Step, s.Granted, s.Confirmed = rollout.Baking, 3, 9500, 9500
			},
			analysis.Look{Step: 3, Live: true, Weight: 0.95, Baking: true},
		},
		"Tries": {
			"a retry spends less",
			func(s *rollout.State) { s.Try = 2 },
			analysis.Look{Tries: 2, Live: true, Weight: 0.05, NextWeight: 0.25},
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := progressing()
			c.state(&st)
			got := LookOf(st, seen, t0)
			if len(got.StablePods) != 1 || len(got.CanaryPods) != 1 || len(got.Custom) != 1 || got.Canary != "v2@2" || got.Stable != "v1@1" || !got.Time.Equal(t0) {
				t.Errorf("look %+v", got)
			}
			got.Time, got.Canary, got.Stable, got.StablePods, got.CanaryPods, got.Custom = time.Time{}, "", "", nil, nil, nil
			if got.Tries != c.want.Tries || got.Step != c.want.Step || got.Live != c.want.Live || got.Weight != c.want.Weight || got.NextWeight != c.want.NextWeight || got.Baking != c.want.Baking {
				t.Errorf("%s:\n%+v\nwant\n%+v", c.reason, got, c.want)
			}
		})
	}
}

// Evidence that cannot be read is no evidence, and the error says so.
func TestEvidenceThatCannotBeRead(t *testing.T) {
	m := NewMind(rollout.Spec{}, analysis.Config{})
	if err := m.Restore([]byte("rubbish")); err == nil {
		t.Error("no error")
	}
	if obs := m.judge.Look(analysis.Look{Time: t0}); obs.Verdict == analysis.Pass || obs.Verdict == analysis.Fail {
		t.Errorf("a judge who knows nothing says %v", obs.Verdict)
	}
}
