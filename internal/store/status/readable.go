package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
)

// Pass is what one pass knows about its rollout.
type Pass struct {
	Generation int64 // of the document
	Spec       rollout.Spec
	State      rollout.State // as it stands after the pass
	Seen       rollout.Observation
	Decision   rollout.Decision
	Time       time.Time
	Trouble    standing.Trouble // of the passes; none: the zero Trouble
}

// Readable is the part of a status that people read, from one pass. It is pure.
// last is the status before it: a condition that did not change keeps the time
// of its last transition. Decisions, History and N are the copy's; they are
// put in when it is.
func Readable(p Pass, last v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
	st, report := p.State, p.Seen.Report
	now := standing.Of(p.Spec, st, p.Seen, p.Decision.Status, "retry").With(p.Trouble, p.Time)
	routed := p.Seen.Route.Known == rollout.Present
	out := v1alpha1.RolloutStatus{
		ObservedGeneration: p.Generation,
		Phase:              v1alpha1.Phase(clip(string(now.Phase), v1alpha1.MaxWord)),
		Stable:             version(now.Stable, routed),
		Canary:             version(now.Canary, routed),
		Previous:           clip(string(st.Previous.Revision), v1alpha1.MaxRevision),
		Weight:             v1alpha1.WeightStatus{Set: share(st.Granted)},
		Verdict:            v1alpha1.Verdict(report.Verdict.String()),
		Evidence: &v1alpha1.Evidence{
			Rollback: fraction(report.Rollback), Advance: fraction(report.Advance),
			Sentence: clip(report.Sentence, v1alpha1.MaxSentence), Figures: figuresOf(report.Figures),
		},
		Waiting: clip(string(p.Decision.Status.Waiting), v1alpha1.MaxWord),
		Until:   instant(p.Decision.Status.Until),
		Started: instant(st.Started),
		Exposed: number(st.Exposed), Harmed: number(st.Harmed),
		Message: clip(now.Message, v1alpha1.MaxSentence),
	}
	if now.WeightSeen != nil {
		out.Weight.Seen = new(fraction(*now.WeightSeen))
	}
	if of := len(st.Plan); now.UnderWay && of > 0 {
		out.Step = &v1alpha1.StepStatus{Number: int64(now.Step), Of: int64(of), Text: fmt.Sprintf("%d/%d", now.Step, of), LiveAt: instant(st.LiveAt)}
	}
	out.Paused = pauses(p)
	for _, f := range p.Seen.Findings[:min(len(p.Seen.Findings), v1alpha1.MaxFindings)] {
		out.Findings = append(out.Findings, v1alpha1.Finding{
			Level: clip(string(f.Level), v1alpha1.MaxWord), What: clip(f.What, v1alpha1.MaxSentence), Remedy: clip(f.Remedy, v1alpha1.MaxSentence),
		})
	}
	out.Conditions = dated(conditions(now.Conditions), last.Conditions, p.Generation, p.Time)
	return out
}

func share(w rollout.Weight) v1alpha1.Percent {
	return v1alpha1.Percent(min(max(w, 0), rollout.Whole))
}

func fraction(f float64) v1alpha1.Percent {
	return share(rollout.Weight(math.Round(float64(number(f)) * float64(rollout.Whole))))
}

// version is nil for nil. Its weight is not known while the route is not.
func version(v *standing.Version, routed bool) *v1alpha1.Version {
	if v == nil {
		return nil
	}
	out := &v1alpha1.Version{
		Revision: clip(string(v.Revision), v1alpha1.MaxRevision), Label: clip(v.Version, v1alpha1.MaxRevision),
		Workload: clip(v.Name, v1alpha1.MaxName), Replicas: int64(v.Replicas), Why: clip(v.Why, v1alpha1.MaxSentence),
	}
	if v.Ready != nil {
		out.Ready = new(int64(*v.Ready))
	}
	if routed {
		out.Weight = new(share(v.Weight))
	}
	if v.Requests != nil {
		out.Requests = new(number(*v.Requests))
	}
	return out
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

// conditions are those that are shown. Reconciling and Stalled are there only
// while they are true, and never both: what needs a person goes on by nobody's
// waiting.
func conditions(c standing.Conditions) []metav1.Condition {
	shown := []standing.Condition{c.Ready, c.Available, c.AnalysisPassing}
	switch {
	case c.Stalled.Status == standing.True:
		shown = append(shown, c.Stalled)
	case c.Reconciling.Status == standing.True:
		shown = append(shown, c.Reconciling)
	}
	var out []metav1.Condition
	for _, c := range shown {
		out = append(out, metav1.Condition{Type: c.Type, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message})
	}
	return out
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

// unreadable is what people read where the copy cannot be: it is all that is
// said, whatever the pass before it saw.
func unreadable(problem error, last []metav1.Condition, generation int64, now time.Time) (message string, all []metav1.Condition) {
	s := standing.Unreadable("Nothing is judged, moved or taken back: " + problem.Error())
	return clip(s.Message, v1alpha1.MaxSentence), dated(conditions(s.Conditions), last, generation, now)
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
