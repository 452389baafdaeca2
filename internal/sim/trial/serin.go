package trial

import (
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Serin is the product: this document's settings, decided by rollout.Decide on
// the judge's word. Replicas are ready at once, the route does what it is
// told, and who is asked says yes: approvals are given, tests pass, custom
// metrics stay within their limits. What is on trial is the judgement.
func Serin(spec rollout.Spec, cfg analysis.Config) Maker {
	return Maker{Name: "Serin", Learns: true, New: func(replicas int) Policy {
		return newSerin(spec, cfg, replicas)
	}}
}

const (
	stableRev = rollout.Revision("v1@1")
	canaryRev = rollout.Revision("v2@1")
)

type serin struct {
	spec   rollout.Spec
	mind   *engine.Mind
	st     rollout.State
	obs    rollout.Observation
	custom []analysis.Custom
	asked  map[string]bool
	n      int // commands given
}

func newSerin(spec rollout.Spec, cfg analysis.Config, replicas int) *serin {
	s := &serin{spec: spec, mind: engine.NewMind(spec, cfg), asked: map[string]bool{}}
	s.obs.Workloads = rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{version(stableRev, replicas, time.Time{})}}
	s.obs.Route = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{stableRev: rollout.Whole}}
	if spec.Settle == 0 {
		s.obs.Route.HasReceipt, s.obs.Route.InFlight = true, map[rollout.Revision]int{}
	}
	for _, r := range cfg.Custom {
		v := 0.0
		switch {
		case r.Min != nil && r.Max != nil:
			v = (*r.Min + *r.Max) / 2
		case r.Min != nil:
			v = *r.Min
		case r.Max != nil:
			v = *r.Max
		}
		right := analysis.Reading{Answer: analysis.Number, Value: v}
		s.custom = append(s.custom, analysis.Custom{Name: r.Name, Stable: right, Canary: right})
	}
	return s
}

func version(r rollout.Revision, replicas int, since time.Time) rollout.Workload {
	return rollout.Workload{Revision: r, Name: "app-" + r.Label(), UID: r.Label(), Generation: 1, Since: since,
		Replicas: replicas, Ready: replicas, ReadyKnown: true}
}

// maxPasses bounds the passes at one look: a decision opens the way to the next.
const maxPasses = 16

func (s *serin) Look(v View) Move {
	if v.Elapsed >= 0 && len(s.obs.Workloads.Items) == 1 {
		s.obs.Workloads.Items = append(s.obs.Workloads.Items, version(canaryRev, 1, v.Now))
	}
	seen := &engine.Sampled{Stable: v.Stable, Canary: v.Canary, Custom: s.custom}
	var d rollout.Decision
	for range maxPasses {
		d, _ = s.mind.Think(s.st, s.obs, seen, v.Now)
		seen = nil // one look is one look
		s.st = d.Next
		s.obs.Commands, s.obs.Tests = nil, nil
		s.apply(d)
		if d.Save != rollout.SaveMust && s.obs.Commands == nil && s.obs.Tests == nil || d.Wake.After(v.Now) {
			break
		}
	}
	return s.answer(&d)
}

// apply makes true what was decided.
func (s *serin) apply(d rollout.Decision) {
	if t := d.Traffic; t != nil && (s.obs.Route.Note == nil || s.obs.Route.Note.N != t.N) {
		note := t.Note()
		s.obs.Route.Weights, s.obs.Route.Note = t.Weights(), &note
		if s.obs.Route.HasReceipt {
			s.obs.Route.Receipt = t.N
		}
	}
	for _, want := range d.Scale {
		for i := range s.obs.Workloads.Items {
			if w := &s.obs.Workloads.Items[i]; w.Revision == want.Revision {
				w.Replicas = max(w.Replicas, want.Min)
				if want.Zero || want.Delete {
					w.Replicas = 0
				}
				w.Ready = w.Replicas
			}
		}
	}
	for _, t := range d.Tests {
		s.obs.Tests = append(s.obs.Tests, rollout.TestAnswer{ID: t.ID, Passed: true})
	}
	st := &d.Next
	command := func(verb rollout.Verb, by string) {
		key := fmt.Sprint(verb, st.Step, st.Try)
		if s.asked[key] {
			return
		}
		s.asked[key] = true
		s.n++
		s.obs.Commands = append(s.obs.Commands, rollout.Command{ID: fmt.Sprint(s.n), Verb: verb, By: by, Revision: canaryRev})
	}
	if d.Status.Waiting == rollout.WaitApproval && st.Step < len(st.Plan) {
		by := "somebody"
		if who := st.Plan[st.Step].By; len(who) > 0 {
			by = who[0]
		}
		command(rollout.VerbApprove, by)
	}
	for _, p := range st.Pauses {
		if p.Kind == rollout.PauseStep {
			command(rollout.VerbResume, "somebody")
		}
	}
}

func (s *serin) answer(d *rollout.Decision) Move {
	st := &s.st
	m := Move{Weight: float64(s.obs.Route.Weights[canaryRev]) / float64(rollout.Whole), Why: d.Status.Message}
	switch n := len(st.History); {
	case st.Phase == rollout.RollingBack:
		m.Back, m.Why = true, d.Status.Message
		if st.Ending != nil {
			m.Why = st.Ending.Why
		}
	case n > 0 && st.History[n-1].Result == rollout.Promoted:
		m.Weight, m.Promoted, m.Done = 1, true, true
	case n > 0:
		m.Back, m.Why = true, st.History[n-1].Why
	default:
		m.Promoted = st.Granted >= rollout.Whole-s.spec.Promotion.Control && !st.LiveAt.IsZero()
		m.Stuck = len(st.Pauses) > 0 || st.Stalled != "" || s.spec.Suspend
	}
	return m
}
