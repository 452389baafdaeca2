package httpapi

import (
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Glance is what a pass saw and said, as far as people are shown it: with the
// document and the state it gives the same [RolloutView] elsewhere, without a
// second look at anything. A host without a memory of its own (an object's
// status) keeps it beside the state, as JSON; it decides nothing. It is bounded
// by the bounds below, and by the judge's at most 14 figures.
type Glance struct {
	Time      time.Time          `json:"time"`
	Status    rollout.Status     `json:"status"`
	Report    analysis.Report    `json:"report"`
	Workloads []rollout.Workload `json:"workloads,omitempty"` // of stable and canary only
	Known     rollout.Known      `json:"known"`               // of the workloads
	Route     rollout.Route      `json:"route"`               // what it sends to the two, and what they were seen to get
	Findings  []rollout.Finding  `json:"findings,omitempty"`
}

// Bounds of a glance.
const (
	maxFindings = 16
	maxSaid     = 1024 // bytes of one sentence
)

// GlanceOf keeps of a pass what its view needs.
func GlanceOf(p Pass) Glance {
	g := Glance{
		Time: p.Time, Status: p.Decision.Status, Report: p.Seen.Report,
		Known: p.Seen.Workloads.Known, Route: routeOf(p),
	}
	g.Status.Message = cut(g.Status.Message)
	g.Status.Stalled = cut(g.Status.Stalled)
	g.Status.Paused = cut(g.Status.Paused)
	g.Report.Sentence = cut(g.Report.Sentence)
	for _, w := range p.Seen.Workloads.Items {
		if isArm(p.State, w.Revision) {
			w.Why = cut(w.Why)
			g.Workloads = append(g.Workloads, w)
		}
	}
	for _, f := range p.Seen.Findings {
		if len(g.Findings) == maxFindings {
			break
		}
		f.What, f.Remedy = cut(f.What), cut(f.Remedy)
		g.Findings = append(g.Findings, f)
	}
	return g
}

// Pass gives the pass back, as far as BuildView asks for it.
func (g Glance) Pass(ref Ref, spec rollout.Spec, st rollout.State) Pass {
	return Pass{
		Ref: ref, Spec: spec, State: st, Time: g.Time, Decision: rollout.Decision{Status: g.Status},
		Seen: rollout.Observation{
			Workloads: rollout.Workloads{Known: g.Known, Items: g.Workloads},
			Route:     g.Route, Report: g.Report, Findings: g.Findings,
		},
	}
}

func isArm(st rollout.State, r rollout.Revision) bool {
	return r != "" && (r == st.Stable.Revision || r == st.Canary.Revision)
}

// routeOf leaves out what other versions get, notes and receipts.
func routeOf(p Pass) rollout.Route {
	seen := p.Seen.Route
	r := rollout.Route{Known: seen.Known, Measured: seen.Measured}
	for _, rev := range []rollout.Revision{p.State.Stable.Revision, p.State.Canary.Revision} {
		if w, ok := seen.Weights[rev]; ok && rev != "" {
			if r.Weights == nil {
				r.Weights = map[rollout.Revision]rollout.Weight{}
			}
			r.Weights[rev] = w
		}
		if n, ok := seen.Requests[rev]; ok && rev != "" {
			if r.Requests == nil {
				r.Requests = map[rollout.Revision]float64{}
			}
			r.Requests[rev] = n
		}
	}
	if len(seen.Weights) > 0 && r.Weights == nil {
		r.Weights = map[rollout.Revision]rollout.Weight{"": 0} // it sends to others: neither has any
	}
	return r
}

// cut shortens a sentence to its bound, at a whole character.
func cut(s string) string {
	if len(s) <= maxSaid {
		return s
	}
	end := 0
	for i := range s {
		if i > maxSaid-len("…") {
			break
		}
		end = i
	}
	return s[:end] + "…"
}
