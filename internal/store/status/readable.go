package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Pass is what one pass knows about its rollout.
type Pass struct {
	Generation int64 // of the document
	Spec       rollout.Spec
	State      rollout.State // as it stands after the pass
	Seen       rollout.Observation
	Decision   rollout.Decision
	Time       time.Time
}

// Readable is the part of a status that people read, from one pass. It is pure.
// last is the status before it: a condition that did not change keeps the time
// of its last transition. Decisions, History and N are the copy's; they are
// put in when it is.
func Readable(p Pass, last v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
	st, report := p.State, p.Seen.Report
	out := v1alpha1.RolloutStatus{
		ObservedGeneration: p.Generation,
		Phase:              v1alpha1.Phase(clip(string(phaseOf(st)), v1alpha1.MaxWord)),
		Stable:             version(p, st.Stable),
		Canary:             version(p, st.Canary),
		Previous:           clip(string(st.Previous.Revision), v1alpha1.MaxRevision),
		Weight:             v1alpha1.WeightStatus{Set: share(st.Granted), Seen: seenShare(st, p.Seen.Route)},
		Verdict:            v1alpha1.Verdict(report.Verdict.String()),
		Evidence: &v1alpha1.Evidence{
			Rollback: fraction(report.Rollback), Advance: fraction(report.Advance),
			Sentence: clip(report.Sentence, v1alpha1.MaxSentence), Figures: figuresOf(report.Figures),
		},
		Waiting: clip(string(p.Decision.Status.Waiting), v1alpha1.MaxWord),
		Until:   instant(p.Decision.Status.Until),
		Started: instant(st.Started),
		Exposed: number(st.Exposed), Harmed: number(st.Harmed),
	}
	if underWay(st) && len(st.Plan) > 0 {
		step := &v1alpha1.StepStatus{Of: int64(len(st.Plan)), LiveAt: instant(st.LiveAt)}
		if st.Phase != rollout.Preparing {
			step.Number = int64(min(st.Step+1, len(st.Plan)))
		}
		step.Text = fmt.Sprintf("%d/%d", step.Number, step.Of)
		out.Step = step
	}
	out.Paused = pauses(p)
	for _, f := range p.Seen.Findings[:min(len(p.Seen.Findings), v1alpha1.MaxFindings)] {
		out.Findings = append(out.Findings, v1alpha1.Finding{
			Level: clip(string(f.Level), v1alpha1.MaxWord), What: clip(f.What, v1alpha1.MaxSentence), Remedy: clip(f.Remedy, v1alpha1.MaxSentence),
		})
	}
	out.Message = clip(message(p), v1alpha1.MaxSentence)
	out.Conditions = conditions(p, out.Message, last.Conditions)
	return out
}

func phaseOf(st rollout.State) rollout.Phase {
	if st.Phase == "" {
		return rollout.Idle
	}
	return st.Phase
}

// underWay: a canary is on its way, in whichever direction.
func underWay(st rollout.State) bool {
	return st.Canary.Revision != "" && phaseOf(st) != rollout.Idle
}

func share(w rollout.Weight) v1alpha1.Percent {
	return v1alpha1.Percent(min(max(w, 0), rollout.Whole))
}

func fraction(f float64) v1alpha1.Percent {
	return share(rollout.Weight(math.Round(float64(number(f)) * float64(rollout.Whole))))
}

// version is nil for the empty object.
func version(p Pass, o rollout.Object) *v1alpha1.Version {
	if o.Revision == "" {
		return nil
	}
	v := &v1alpha1.Version{
		Revision: clip(string(o.Revision), v1alpha1.MaxRevision), Label: clip(o.Revision.Label(), v1alpha1.MaxRevision),
		Workload: clip(o.Name, v1alpha1.MaxName),
	}
	if r := p.Seen.Route; r.Known == rollout.Present {
		w := share(r.Weights[o.Revision])
		v.Weight = &w
		if r.Measured {
			n := number(r.Requests[o.Revision])
			v.Requests = &n
		}
	}
	for _, w := range p.Seen.Workloads.Items {
		if w.Revision != o.Revision {
			continue
		}
		v.Replicas, v.Why = int64(w.Replicas), clip(w.Why, v1alpha1.MaxSentence)
		if w.ReadyKnown && p.Seen.Workloads.Known == rollout.Present {
			ready := int64(w.Ready)
			v.Ready = &ready
		}
	}
	return v
}

// seenShare is the canary's share of the requests since its split was written.
func seenShare(st rollout.State, r rollout.Route) *v1alpha1.Percent {
	if r.Known != rollout.Present || !r.Measured || !underWay(st) || st.Asked.IsZero() {
		return nil
	}
	canary := r.Requests[st.Canary.Revision] - st.Share.Canary
	stable := r.Requests[st.Stable.Revision] - st.Share.Stable
	if canary < 0 || stable < 0 || canary+stable == 0 {
		return nil // nothing was counted, or the counters began again
	}
	seen := fraction(canary / (canary + stable))
	return &seen
}

func pauses(p Pass) (out []v1alpha1.PauseStatus) {
	if p.Spec.Suspend {
		out = append(out, v1alpha1.PauseStatus{Kind: "document", Why: "spec.suspend is true"})
	}
	for _, pause := range p.State.Pauses {
		out = append(out, v1alpha1.PauseStatus{
			Kind: clip(string(pause.Kind), v1alpha1.MaxWord), By: clip(pause.By, v1alpha1.MaxName),
			Why: clip(pause.Why, v1alpha1.MaxSentence), At: instant(pause.At),
		})
	}
	return newest(out, v1alpha1.MaxPaused)
}

func stalled(p Pass) string {
	if s := p.Decision.Status.Stalled; s != "" {
		return s
	}
	return p.State.Stalled
}

// takenBack is the outcome that what stands now comes from, if it took a
// revision back that is still asked for: its object is there, and its mark.
func takenBack(st rollout.State) (o rollout.Outcome, left rollout.Revision, back bool) {
	for _, o := range slices.Backward(st.History) {
		left = o.Revision
		switch o.Result {
		case rollout.Abandoned: // it left everything as it was
			continue
		case rollout.RolledBack, rollout.Aborted:
		case rollout.Undone:
			left = o.From
		default:
			return o, left, false
		}
		return o, left, slices.Contains(st.FailedRevisions(), left)
	}
	return rollout.Outcome{}, "", false
}

func message(p Pass) string {
	if m := p.Decision.Status.Message; m != "" {
		return m
	}
	stable := p.State.Stable.Revision.Label()
	switch _, left, back := takenBack(p.State); {
	case stable == "":
		return "No version is known to be the stable one yet."
	case back:
		return fmt.Sprintf("%s was taken back; %s has all the traffic. Next: a new revision, or retry.", left.Label(), stable)
	}
	return fmt.Sprintf("%s is stable and has all the traffic.", stable)
}

// conditions are those of the pass, with the time of their last transition.
// Reconciling and Stalled are there only while they are true, and never both:
// what needs a person goes on by nobody's waiting.
func conditions(p Pass, message string, last []metav1.Condition) []metav1.Condition {
	all := []metav1.Condition{ready(p, message), available(p), analysisPassing(p)}
	switch why, reason := stalledFor(p); {
	case reason != "":
		all = append(all, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: reason, Message: why})
	case underWay(p.State) || len(p.State.Leaving) > 0:
		all = append(all, metav1.Condition{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: string(phaseOf(p.State)), Message: message})
	}
	return dated(all, last, p.Generation, p.Time)
}

var reasonShape = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

// dated gives conditions their generation and times, within the API's bounds.
func dated(all, last []metav1.Condition, generation int64, now time.Time) []metav1.Condition {
	for i := range all {
		c := &all[i]
		c.ObservedGeneration = generation
		c.Message = clip(c.Message, v1alpha1.MaxSentence)
		if len(c.Reason) > v1alpha1.MaxWord || !reasonShape.MatchString(c.Reason) {
			c.Reason = "Other"
		}
		c.LastTransitionTime = metav1.NewTime(now)
		for _, l := range last {
			if l.Type == c.Type && l.Status == c.Status && !l.LastTransitionTime.IsZero() {
				c.LastTransitionTime = l.LastTransitionTime
			}
		}
	}
	return all
}

// ready is True only at rest with the wanted revision stable.
func ready(p Pass, message string) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Message: message}
	o, _, back := takenBack(p.State)
	why := stalled(p)
	switch {
	case p.State.Stable.Revision == "":
		c.Reason = v1alpha1.ReasonNotAdopted
	case underWay(p.State):
		c.Reason = string(p.State.Phase)
	case back:
		c.Reason, c.Message = resultReason(o.Result), o.Why
	case why != "":
		c.Reason, c.Message = v1alpha1.ReasonStalled, why
	default:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonStable
	}
	return c
}

func resultReason(r rollout.Result) string {
	switch r {
	case rollout.Aborted:
		return v1alpha1.ReasonAborted
	case rollout.Undone:
		return v1alpha1.ReasonUndone
	}
	return v1alpha1.ReasonRolledBack
}

// stalledFor gives no reason when nobody is needed.
func stalledFor(p Pass) (why, reason string) {
	if why := stalled(p); why != "" {
		return why, "PersonNeeded"
	}
	if o, _, back := takenBack(p.State); back && !underWay(p.State) {
		return o.Why, resultReason(o.Result)
	}
	return "", ""
}

// available: somebody answers. It is known to be False only when everybody who
// has traffic is known not to be ready.
func available(p Pass) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionUnknown, Reason: "ReadinessUnknown"}
	arms, known := 0, 0
	routed := p.Seen.Route.Known == rollout.Present && len(p.Seen.Route.Weights) > 0
	for _, o := range []rollout.Object{p.State.Stable, p.State.Canary} {
		v := version(p, o)
		if v == nil || routed && *v.Weight == 0 {
			continue
		}
		arms++
		if v.Ready == nil {
			continue
		}
		known++
		if *v.Ready > 0 {
			c.Status, c.Reason = metav1.ConditionTrue, "Serving"
			c.Message = fmt.Sprintf("%d of %d replicas of %s are ready", *v.Ready, v.Replicas, v.Label)
			return c
		}
		c.Message = fmt.Sprintf("no replica of %s is ready", v.Label)
		if v.Why != "" {
			c.Message += ": " + v.Why
		}
	}
	if arms > 0 && known == arms {
		c.Status, c.Reason = metav1.ConditionFalse, "NoReplicaReady"
	}
	return c
}

func analysisPassing(p Pass) metav1.Condition {
	report := p.Seen.Report
	c := metav1.Condition{Type: v1alpha1.ConditionAnalysisPassing, Status: metav1.ConditionUnknown, Reason: report.Verdict.String(), Message: report.Sentence}
	switch {
	case p.Spec.Analysis.None:
		c.Reason, c.Message = "NotAsked", "the document asks for no analysis"
	case !underWay(p.State):
		c.Reason, c.Message = "AtRest", ""
	case report.Verdict == analysis.Pass:
		c.Status = metav1.ConditionTrue
	case report.Verdict == analysis.Fail:
		c.Status = metav1.ConditionFalse
	}
	return c
}

// invalid says that the document cannot be followed. Everything else stays:
// users are served as before.
func invalid(last v1alpha1.RolloutStatus, generation int64, problem error, now time.Time) v1alpha1.RolloutStatus {
	out := *last.DeepCopy()
	text := clip("The document cannot be followed: "+problem.Error(), v1alpha1.MaxSentence)
	out.Message = text
	changed := []metav1.Condition{
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalid, Message: text},
		{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInvalid, Message: text},
	}
	out.Conditions = nil
	for _, c := range last.Conditions {
		if c.Type == v1alpha1.ConditionAvailable || c.Type == v1alpha1.ConditionAnalysisPassing {
			out.Conditions = append(out.Conditions, c)
		}
	}
	out.Conditions = append(out.Conditions, dated(changed, last.Conditions, generation, now)...)
	out.ObservedGeneration = generation
	return out
}

// same says whether people read the same in both.
func same(a, b v1alpha1.RolloutStatus) bool {
	x, errX := json.Marshal(bare(a))
	y, errY := json.Marshal(bare(b))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// alike says whether two statuses differ in nothing but numbers that run.
func alike(a, b v1alpha1.RolloutStatus) bool { return same(still(a), still(b)) }

// bare is a status without the copy, which is most of it.
func bare(st v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
	st.State, st.Told, st.Copy, st.N, st.Decisions, st.History = nil, 0, "", 0, nil, nil
	if st.Evidence != nil {
		ev := *st.Evidence
		ev.Saved, ev.Digest, ev.SavedAt = "", "", nil
		st.Evidence = &ev
	}
	return st
}

var digits = regexp.MustCompile(`[0-9]+([.:,][0-9]+)*`)

// still is a status without what runs.
func still(st v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
	st = bare(st)
	st = *st.DeepCopy()
	quiet := func(s string) string { return digits.ReplaceAllString(s, "#") }
	st.Evidence, st.Until, st.Weight.Seen, st.Exposed, st.Harmed = nil, nil, nil, 0, 0
	st.Message = quiet(st.Message)
	for i := range st.Conditions {
		c := &st.Conditions[i]
		c.Message, c.LastTransitionTime = quiet(c.Message), metav1.Time{}
	}
	for i := range st.Findings {
		st.Findings[i].What = quiet(st.Findings[i].What)
	}
	for _, v := range []*v1alpha1.Version{st.Stable, st.Canary} {
		if v == nil {
			continue
		}
		v.Requests, v.Why = nil, quiet(v.Why)
		if st.Phase == v1alpha1.PhaseIdle { // an autoscaler at work is no news of ours
			v.Replicas, v.Ready = 0, nil
		}
	}
	return st
}
