// Package standing says how a rollout stands, in the words that both read
// models use: the status of an object in a cluster, and what is served over
// HTTP. It is pure, and holds nothing that is not in one pass.
//
// A rollout is under way while a canary is on its way, in whichever direction;
// else it is at rest. At rest it stands well, or it stands taken back: what is
// still asked for was tried and is not what runs.
//
// # What must stay true
//
//   - What is not known is nil or Unknown; it is never 0 or False.
//   - Ready is True only at rest with the wanted revision stable.
//   - A message is never empty: at rest it says who has the traffic.
//
// # Example
//
//	s := standing.Of(spec, state, seen, decision.Status, "`serin retry cart`")
//	s.Message           // "v2 was taken back; v1 has all the traffic. Next: a new revision, or `serin retry cart`."
//	s.Conditions.Ready  // False, RolledBack, "5 of 50 requests failed."
package standing

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Standing is one rollout after one pass.
type Standing struct {
	Phase          rollout.Phase // never ""
	UnderWay       bool
	Step           int              // 1-based, in the state's plan; 0 while none is in force
	Stable, Canary *Version         // nil: there is none
	WeightSeen     *float64         // canary's share as counted since its split was written, 0..1; nil: not measured
	Stalled        string           // why a person is needed; "": nobody is
	TakenBack      *rollout.Outcome // whose end what stands now comes from, if it stands taken back
	Message        string           // one sentence
	Conditions     Conditions
}

// Version is one version as it was last seen.
type Version struct {
	Revision rollout.Revision
	Version  string // the label
	Name     string // the Deployment
	Replicas int
	Ready    *int // nil: not known
	Why      string
	Weight   rollout.Weight // 0, too, where the route is not known
	Requests *float64       // nil: not measured
}

// Condition is one in Kubernetes' form.
type Condition struct {
	Type    string
	Status  string // True | False | Unknown
	Reason  string
	Message string
}

// Conditions are all there are. Reconciling and Stalled may both be True: a
// person is needed in the middle.
type Conditions struct {
	Ready, Available, Reconciling, Stalled, AnalysisPassing Condition
}

// True is a condition's status; no other one is asked for by name.
const True = "True"

// Of says how a rollout stands: st as it is after the pass that saw seen and
// said what is in said. retry is how a person asks for another try.
func Of(spec rollout.Spec, st rollout.State, seen rollout.Observation, said rollout.Status, retry string) Standing {
	s := Standing{
		Phase:  cmp.Or(st.Phase, rollout.Idle),
		Stable: version(st.Stable, seen), Canary: version(st.Canary, seen),
		Stalled: cmp.Or(said.Stalled, st.Stalled), TakenBack: takenBack(spec, st, seen.Workloads), Message: said.Message,
	}
	s.UnderWay = s.Canary != nil && s.Phase != rollout.Idle
	if s.UnderWay {
		s.WeightSeen = seenShare(st, seen.Route)
		if s.Phase != rollout.Preparing {
			s.Step = min(st.Step+1, len(st.Plan))
		}
	}
	switch {
	case s.Message != "":
	case s.Stable == nil:
		s.Message = "No version is known to be the stable one yet."
	case s.TakenBack != nil:
		s.Message = fmt.Sprintf("%s was taken back; %s has all the traffic. Next: a new revision, or %s.", Left(*s.TakenBack).Label(), s.Stable.Version, retry)
	default:
		s.Message = fmt.Sprintf("%s is stable and has all the traffic.", s.Stable.Version)
	}
	s.Conditions = Conditions{
		Ready: s.ready(), Available: s.available(seen.Route), Reconciling: s.reconciling(len(st.Leaving) > 0),
		Stalled: s.stalled(), AnalysisPassing: s.analysisPassing(spec.Analysis.None, seen.Report),
	}
	return s
}

// version is nil for the empty object.
func version(o rollout.Object, seen rollout.Observation) *Version {
	if o.Revision == "" {
		return nil
	}
	v := &Version{Revision: o.Revision, Version: o.Revision.Label(), Name: o.Name}
	if r := seen.Route; r.Known == rollout.Present {
		v.Weight = r.Weights[o.Revision]
		if r.Measured {
			v.Requests = new(r.Requests[o.Revision])
		}
	}
	for _, w := range seen.Workloads.Items {
		if w.Revision != o.Revision {
			continue
		}
		v.Replicas, v.Why = w.Replicas, w.Why
		if w.ReadyKnown && seen.Workloads.Known == rollout.Present {
			v.Ready = new(w.Ready)
		}
	}
	return v
}

// seenShare is the canary's share of the requests since its split was written.
func seenShare(st rollout.State, r rollout.Route) *float64 {
	if r.Known != rollout.Present || !r.Measured || st.Asked.IsZero() {
		return nil
	}
	canary := r.Requests[st.Canary.Revision] - st.Share.Canary
	stable := r.Requests[st.Stable.Revision] - st.Share.Stable
	if canary < 0 || stable < 0 || canary+stable == 0 {
		return nil // nothing was counted, or the counters began again
	}
	return new(canary / (canary + stable))
}

// takenBack is the outcome that what stands now comes from, if it took a
// revision back that is still asked for: its object is there, and so is its
// mark. What is not known to be gone is there; so is what Serin deleted itself.
func takenBack(spec rollout.Spec, st rollout.State, there rollout.Workloads) *rollout.Outcome {
	for _, o := range slices.Backward(st.History) {
		switch o.Result {
		case rollout.Abandoned: // it left everything as it was
			continue
		case rollout.RolledBack, rollout.Aborted, rollout.Undone:
			gone := there.Known == rollout.Present && spec.RollbackRetire != rollout.Delete &&
				!slices.ContainsFunc(there.Items, func(w rollout.Workload) bool { return w.Revision == Left(o) })
			if !gone && slices.Contains(st.FailedRevisions(), Left(o)) {
				return &o
			}
		}
		return nil
	}
	return nil
}

// Left is the revision that an outcome took traffic from.
func Left(o rollout.Outcome) rollout.Revision {
	if o.Result == rollout.Undone {
		return o.From
	}
	return o.Revision
}

func (s Standing) ready() Condition {
	c := Condition{Type: "Ready", Status: "False", Message: s.Message}
	switch {
	case s.Stable == nil:
		c.Reason = "NotAdopted"
	case s.UnderWay:
		c.Reason = string(s.Phase)
	case s.TakenBack != nil:
		c.Reason, c.Message = reasonOf(s.TakenBack.Result), s.TakenBack.Why
	case s.Stalled != "":
		c.Reason, c.Message = "Stalled", s.Stalled
	default:
		c.Status, c.Reason = True, "Stable"
	}
	return c
}

// reasonOf is an end that took something back, as a reason.
func reasonOf(r rollout.Result) string {
	switch r {
	case rollout.Aborted:
		return "Aborted"
	case rollout.Undone:
		return "Undone"
	}
	return "RolledBack"
}

// available: somebody answers. It is known to be False only when everybody who
// has traffic is known not to be ready.
func (s Standing) available(r rollout.Route) Condition {
	c := Condition{Type: "Available", Status: "Unknown", Reason: "ReadinessUnknown"}
	routed := r.Known == rollout.Present && len(r.Weights) > 0
	arms, known := 0, 0
	for _, v := range []*Version{s.Stable, s.Canary} {
		if v == nil || routed && v.Weight == 0 {
			continue
		}
		arms++
		if v.Ready == nil {
			continue
		}
		known++
		if *v.Ready > 0 {
			c.Status, c.Reason = True, "Serving"
			c.Message = fmt.Sprintf("%d of %d replicas of %s are ready", *v.Ready, v.Replicas, v.Version)
			return c
		}
		c.Message = fmt.Sprintf("no replica of %s is ready", v.Version)
		if v.Why != "" {
			c.Message += ": " + v.Why
		}
	}
	if arms > 0 && known == arms {
		c.Status, c.Reason = "False", "NoReplicaReady"
	}
	return c
}

// reconciling: something is left to do, if only the draining of what leaves.
func (s Standing) reconciling(leaving bool) Condition {
	if s.UnderWay || leaving {
		return Condition{Type: "Reconciling", Status: True, Reason: string(s.Phase), Message: s.Message}
	}
	return Condition{Type: "Reconciling", Status: "False", Reason: "AtRest"}
}

// stalled: nobody's waiting makes it go on.
func (s Standing) stalled() Condition {
	c := Condition{Type: "Stalled", Status: True}
	switch {
	case s.Stalled != "":
		c.Reason, c.Message = "PersonNeeded", s.Stalled
	case s.TakenBack != nil && !s.UnderWay:
		c.Reason, c.Message = reasonOf(s.TakenBack.Result), s.TakenBack.Why
	default:
		c.Status, c.Reason = "False", "NobodyNeeded"
	}
	return c
}

// analysisPassing is Unknown while there is no verdict.
func (s Standing) analysisPassing(none bool, r analysis.Report) Condition {
	c := Condition{Type: "AnalysisPassing", Status: "Unknown", Reason: r.Verdict.String(), Message: r.Sentence}
	switch {
	case none:
		c.Reason, c.Message = "NotAsked", "the document asks for no analysis"
	case !s.UnderWay:
		c.Reason, c.Message = "AtRest", ""
	case r.Verdict == analysis.Pass:
		c.Status = True
	case r.Verdict == analysis.Fail:
		c.Status = "False"
	}
	return c
}
