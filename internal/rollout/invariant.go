package rollout

import (
	"fmt"

	"github.com/serin-dev/serin/internal/analysis"
)

// Violation says which invariant a decision would break.
type Violation struct {
	Invariant string // "I2"
	Why       string
}

func (v *Violation) Error() string { return v.Invariant + ": " + v.Why }

// Check asserts the invariants of one decision. The product calls it before
// every write and refuses one that breaks them; the simulation calls it in
// every step. nil means that all hold.
func Check(spec Spec, was State, obs Observation, d Decision) *Violation {
	bad := func(i, f string, a ...any) *Violation { return &Violation{i, fmt.Sprintf(f, a...)} }
	next := d.Next
	if t := d.Traffic; t != nil {
		sum := Weight(0)
		for _, w := range t.Weights() {
			if w < 0 || w > Whole {
				return bad("I1", "weight %d is not between 0 and %d", w, Whole)
			}
			sum += w
		}
		if sum != Whole {
			return bad("I1", "weights sum to %d, not %d", sum, Whole)
		}
		if t.N > next.N {
			return bad("I15", "the split refers to decision %d; the last is %d", t.N, next.N)
		}
	}
	if v := checkRise(spec, was, obs, d); v != nil {
		return v
	}
	for _, s := range d.Scale {
		if !s.Zero && !s.Delete {
			continue
		}
		if s.Revision == next.Stable.Revision || s.Revision == next.Canary.Revision {
			return bad("I5", "%s is stable or canary and would be scaled away", s.Revision)
		}
		if d.Traffic == nil || d.Traffic.Weights()[s.Revision] > 0 || obs.Route.Weights[s.Revision] > 0 {
			return bad("I3", "%s has weight, or may have, and would be scaled away", s.Revision)
		}
		gone := false
		for _, l := range next.Retiring {
			gone = gone || (l.Revision == s.Revision && l.Gone)
		}
		if !gone {
			return bad("I3", "%s was not seen gone and would be scaled away", s.Revision)
		}
	}
	if was.Stable.Revision != next.Stable.Revision && !names(d.Events, EvAdopted, EvStateRebuilt, EvPromoted, EvUndone, EvReverted, EvStableChanged) {
		return bad("I5", "stable changes from %s to %s without a decision", was.Stable.Revision, next.Stable.Revision)
	}
	n := was.N
	for i, e := range d.Events {
		if e.N != n+1 && (i > 0 || obs.Route.Note == nil || e.N != obs.Route.Note.N+1) {
			return bad("I15", "decision %d follows %d", e.N, n)
		}
		n = e.N
		if e.Why == "" || e.By == "" {
			return bad("I15", "decision %d has no reason or no author", e.N)
		}
		if e.What == EvPromoted && e.By == "rule" && !was.Closing && !spec.Analysis.None && obs.Report.Verdict != analysis.Pass {
			return bad("I10", "promoted by rule with verdict %s", obs.Report.Verdict)
		}
	}
	for _, m := range was.Marks {
		if m.Kind == Condemned && !stillMarked(next, m) && !names(d.Events, EvRetryStarted, EvUndoStarted, EvPromoted, EvStableChanged, EvAdopted, EvStateRebuilt) && len(next.Marks) < 50 {
			return bad("I17", "%s is not condemned any more", m.Revision)
		}
	}
	return nil
}

// checkRise looks at everything that gives a canary more than it had.
func checkRise(spec Spec, was State, obs Observation, d Decision) *Violation {
	bad := func(i, f string, a ...any) *Violation { return &Violation{i, fmt.Sprintf(f, a...)} }
	next := d.Next
	c := next.Canary.Revision
	if c == "" || next.Granted == 0 {
		return nil
	}
	for _, m := range next.Marks {
		if m.Revision == c && m.Kind == Condemned && (next.Phase != RollingBack || next.Granted > was.Granted) {
			return bad("I7", "%s is condemned and has weight %s", c, next.Granted)
		}
	}
	before := Weight(0)
	if was.Canary.Revision == c || (was.Canary.UID != "" && was.Canary.UID == next.Canary.UID && names(d.Events, EvStableChanged)) {
		before = was.Granted
	}
	if next.Granted <= before {
		return nil
	}
	named := false
	for _, e := range d.Events {
		named = named || e.N == next.TrafficN
	}
	if !named {
		return bad("I8", "the weight rises from %s to %s without a decision", before, next.Granted)
	}
	if names(d.Events, EvStateRebuilt) || (names(d.Events, EvUndoStarted) && next.Granted == obs.Route.Weights[c]) {
		return nil // nothing is raised: what is in force is taken over
	}
	if obs.Route.Known != Present && !next.Unjudged { // a lost stable is an outage: its end does not wait for a look
		return bad("I9", "the weight rises while the route is not known")
	}
	for _, l := range next.Leaving {
		if !next.Unjudged && l.Revision != c && l.Revision != next.Stable.Revision && !l.Gone {
			return bad("I6", "%s gets weight while %s is leaving", c, l.Revision)
		}
	}
	ready, known := 0, false
	for _, w := range obs.Workloads.Items {
		if w.Revision == c && obs.Workloads.Known == Present {
			ready, known = w.Ready, w.ReadyKnown
		}
	}
	least := need(next.R, next.Granted, spec.Capacity.Headroom)
	if next.Unjudged {
		least = 1
	}
	if !known || ready < least {
		return bad("I2", "%s gets %s with %d ready replicas (known: %v), %d are needed", c, next.Granted, ready, known, least)
	}
	if spec.Suspend && !next.Unjudged {
		return bad("I8", "the weight rises while suspended")
	}
	return nil
}

func names(es []Event, whats ...What) bool {
	for _, e := range es {
		for _, w := range whats {
			if e.What == w {
				return true
			}
		}
	}
	return false
}

// stillMarked: under its name, or under the one that the same object has now.
func stillMarked(s State, was Mark) bool {
	for _, m := range s.Marks {
		if m.Revision == was.Revision || (was.UID != "" && m.UID == was.UID && m.Kind == Condemned) {
			return true
		}
	}
	return false
}
