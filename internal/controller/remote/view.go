package remote

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/store/status"
)

// View is the view that the controller had when it wrote the object's status.
// What the status does not hold is not known, and shown so.
func View(doc *v1alpha1.Rollout) httpapi.RolloutView {
	ref := httpapi.Ref{Namespace: doc.Namespace, Name: doc.Name}
	st := doc.Status
	state, taken, err := status.StateOf(st)
	if err != nil {
		return unreadable(ref, st, err)
	}
	if !taken && st.Message == "" && len(st.Conditions) == 0 {
		return unseen(ref, doc)
	}
	// The state is as it was saved; what people read is written more often.
	state.Exposed, state.Harmed = float64(st.Exposed), float64(st.Harmed)
	spec, _, _ := engine.SpecOf(doc) // one that is wrong has no steps to show; the conditions say what is wrong
	v := httpapi.BuildView(httpapi.Pass{
		Ref: ref, Spec: spec, State: state, Time: lastPass(doc, state), Decision: rollout.Decision{Status: said(st)}, Seen: seen(st, state.FailedRevisions()...),
	})
	if len(st.Conditions) > 0 {
		v.Conditions = conditions(st)
	}
	if c := condition(st, v1alpha1.ConditionStalled); c != nil && c.Reason == v1alpha1.ReasonInvalid {
		v.Message, v.Stalled, v.Exit = st.Message, c.Message, httpapi.ExitError
	}
	return v
}

// unseen: no controller has said anything about the object.
func unseen(ref httpapi.Ref, doc *v1alpha1.Rollout) httpapi.RolloutView {
	v := httpapi.BuildView(httpapi.Pass{Ref: ref, Time: doc.CreationTimestamp.Time})
	v.Message = "No controller has looked at it yet. Is `serin controller` running, and may it see this namespace?"
	return v
}

// unreadable: what is damaged, or what a later Serin wrote. What people read is
// in the status's plain fields all the same. The controller says itself where it
// is no wiser.
func unreadable(ref httpapi.Ref, st v1alpha1.RolloutStatus, err error) httpapi.RolloutView {
	v := httpapi.BuildView(httpapi.Pass{Ref: ref, Decision: rollout.Decision{Status: said(st)}, Seen: seen(st)})
	v.Phase = rollout.Phase(cmp.Or(string(st.Phase), string(rollout.Idle)))
	v.WeightSet = rollout.Weight(st.Weight.Set)
	v.Stable, v.Canary = arm(st.Stable), arm(st.Canary)
	v.Conditions, v.Offers, v.Exit = conditions(st), nil, httpapi.ExitError
	if httpapi.Unreadable(v) {
		v.Stalled, v.Message = st.Message, st.Message
		v.Verdict, v.Sentence, v.Figures, v.Waiting, v.Until = analysis.Unavailable, "", nil, "", nil // of before
		return v
	}
	v.Findings = append(v.Findings, rollout.Finding{Level: rollout.Warn, What: "The state of this rollout cannot be read by this program: " + err.Error(), Remedy: "use the Serin that the controller is"})
	return v
}

func conditions(st v1alpha1.RolloutStatus) (out []httpapi.ConditionView) {
	for _, c := range st.Conditions {
		out = append(out, httpapi.ConditionView{Type: c.Type, Status: string(c.Status), Reason: c.Reason, Message: c.Message})
	}
	return out
}

func arm(x *v1alpha1.Version) *httpapi.VersionView {
	if x == nil {
		return nil
	}
	v := &httpapi.VersionView{Revision: rollout.Revision(x.Revision), Version: x.Label, Name: x.Workload, Replicas: int(x.Replicas), Why: x.Why}
	if x.Ready != nil {
		n := int(*x.Ready)
		v.Ready = &n
	}
	if x.Weight != nil {
		v.Weight = rollout.Weight(*x.Weight)
	}
	return v
}

// said is the pass in words.
func said(st v1alpha1.RolloutStatus) rollout.Status {
	s := rollout.Status{Message: st.Message, Waiting: rollout.WaitFor(st.Waiting), Until: instant(st.Until)}
	if c := condition(st, v1alpha1.ConditionStalled); c != nil && c.Reason == "PersonNeeded" {
		s.Stalled = c.Message
	}
	var pauses []string
	for _, p := range st.Paused {
		switch text := cmp.Or(p.By, p.Kind); {
		case p.Kind == "document":
			pauses = append(pauses, "`suspend: true` in the document")
		case p.Why != "":
			pauses = append(pauses, text+" ("+p.Why+")")
		default:
			pauses = append(pauses, text)
		}
	}
	slices.Sort(pauses)
	s.Paused = strings.Join(pauses, "; ")
	return s
}

// seen is what the pass saw, as far as people are shown it. Of the versions that
// failed the status says no more than whether they are asked for still.
func seen(st v1alpha1.RolloutStatus, failed ...rollout.Revision) rollout.Observation {
	var o rollout.Observation
	o.Workloads.Known = rollout.Present
	for _, x := range []*v1alpha1.Version{st.Stable, st.Canary} {
		if x == nil {
			continue
		}
		rev := rollout.Revision(x.Revision)
		w := rollout.Workload{Revision: rev, Name: x.Workload, Replicas: int(x.Replicas), Why: x.Why}
		if x.Ready != nil {
			w.Ready, w.ReadyKnown = int(*x.Ready), true
		}
		o.Workloads.Items = append(o.Workloads.Items, w)
		if x.Weight != nil {
			o.Route.Known = rollout.Present
			if o.Route.Weights == nil {
				o.Route.Weights = map[rollout.Revision]rollout.Weight{}
			}
			o.Route.Weights[rev] = rollout.Weight(*x.Weight)
		}
		if x.Requests != nil {
			o.Route.Measured = true
			if o.Route.Requests == nil {
				o.Route.Requests = map[rollout.Revision]float64{}
			}
			o.Route.Requests[rev] = float64(*x.Requests)
		}
	}
	if !slices.ContainsFunc(st.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionReady && (c.Reason == v1alpha1.ReasonStable || c.Reason == v1alpha1.ReasonStalled)
	}) {
		for _, rev := range failed {
			o.Workloads.Items = append(o.Workloads.Items, rollout.Workload{Revision: rev})
		}
	}
	_ = o.Report.Verdict.UnmarshalText([]byte(st.Verdict)) // a word of a later Serin is no verdict here
	if e := st.Evidence; e != nil {
		o.Report.Sentence = e.Sentence
		o.Report.Rollback, o.Report.Advance = e.Rollback.Fraction(), e.Advance.Fraction()
		for _, f := range e.Figures {
			o.Report.Figures = append(o.Report.Figures, status.FigureOf(f))
		}
	}
	for _, f := range st.Findings {
		o.Findings = append(o.Findings, rollout.Finding{Level: rollout.Level(f.Level), What: f.What, Remedy: f.Remedy})
	}
	return o
}

// lastPass is when the status was written: by the state, or where only what
// people read was written since, by the API server's own note of that.
func lastPass(doc *v1alpha1.Rollout, st rollout.State) time.Time {
	at := st.LastPass
	for _, m := range doc.ManagedFields {
		if m.Subresource == "status" && m.Time != nil && m.Time.Sub(at) > time.Second { // it counts whole seconds
			at = m.Time.UTC()
		}
	}
	return at
}

func condition(st v1alpha1.RolloutStatus, kind string) *metav1.Condition {
	for i := range st.Conditions {
		if c := &st.Conditions[i]; c.Type == kind && c.Status == metav1.ConditionTrue {
			return c
		}
	}
	return nil
}

func instant(t *v1alpha1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

// commandOf is the object that asks for a command.
func commandOf(ref httpapi.Ref, c rollout.Command) (*v1alpha1.RolloutCommand, error) {
	if c.N < 0 {
		return nil, fmt.Errorf("decision %d: want the number of the last one that was seen, or 0", c.N)
	}
	out := &v1alpha1.RolloutCommand{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.CommandKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: c.ID},
		Spec: v1alpha1.RolloutCommandSpec{
			Rollout: ref.Name, Verb: v1alpha1.CommandVerb(c.Verb), By: c.By, Groups: c.Groups, Reason: c.Reason,
			Revision: string(c.Revision), N: int64(c.N), Full: c.Full, Override: c.Override,
		},
	}
	if c.Verb == rollout.VerbAdopt {
		out.Spec.Stable, out.Spec.Revision = string(c.Revision), ""
	}
	return out, nil
}
