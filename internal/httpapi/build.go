package httpapi

import (
	"fmt"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Pass is what one pass knows about its rollout.
type Pass struct {
	Ref      Ref
	Spec     rollout.Spec
	State    rollout.State // as it stands after the pass: Decision.Next where that was saved
	Seen     rollout.Observation
	Decision rollout.Decision
	Time     time.Time
}

// BuildView says what one pass looks like to people. It is pure.
func BuildView(p Pass) RolloutView {
	st, seen := p.State, p.Seen
	v := RolloutView{
		Namespace: p.Ref.Namespace, Name: p.Ref.Name, Time: p.Time,
		Phase: phaseOf(st), Message: p.Decision.Status.Message,
		Steps: len(st.Plan), StepsList: stepViews(st),
		Stable: version(p, st.Stable), Canary: version(p, st.Canary),
		Previous:  st.Previous.Revision.Label(),
		WeightSet: st.Granted, WeightSeen: seenShare(st, seen.Route), Live: !st.LiveAt.IsZero(),
		Verdict: seen.Report.Verdict, Sentence: seen.Report.Sentence, Figures: seen.Report.Figures,
		Evidence: EvidenceView{Rollback: seen.Report.Rollback, Advance: seen.Report.Advance},
		Exposed:  st.Exposed, Harmed: st.Harmed,
		Waiting: p.Decision.Status.Waiting, Until: instant(p.Decision.Status.Until),
		Paused: p.Decision.Status.Paused, Stalled: stalled(p),
		Started: instant(st.Started), Findings: seen.Findings,
		Decisions: st.Decisions, History: st.History, Condemned: st.FailedRevisions(),
		N: st.N,
	}
	if underWay(st) && st.Phase != rollout.Preparing && len(st.Plan) > 0 {
		v.Step = min(st.Step+1, len(st.Plan))
	}
	if len(v.StepsList) == 0 { // at rest: the steps that a release would take
		v.Steps = len(p.Spec.Steps)
		v.StepsList = ahead(p.Spec.Steps)
	}
	if v.Message == "" {
		v.Message = restMessage(v, st)
	}
	v.Drift = driftOf(p)
	v.Worst = worst(v)
	v.Offers = OffersOf(v)
	v.Conditions = conditions(p, v)
	v.Exit = exitCode(v, st)
	return v
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

func stalled(p Pass) string {
	if s := p.Decision.Status.Stalled; s != "" {
		return s
	}
	return p.State.Stalled
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func stepViews(st rollout.State) []StepView {
	if !underWay(st) {
		return nil
	}
	out := ahead(st.Plan)
	for i := range out {
		for _, a := range st.Approvals {
			if out[i].Kind == rollout.StepApproval && a.Step == st.Plan[i].ID && a.Revision == st.Canary.Revision {
				out[i].Approved = a.By
			}
		}
		switch {
		case st.Phase == rollout.Baking || i < st.Step:
			out[i].State = "done"
		case i == st.Step && st.Phase != rollout.Preparing && st.Phase != rollout.RollingBack:
			out[i].State = "current"
		}
	}
	return out
}

func ahead(steps []rollout.Step) []StepView {
	out := make([]StepView, 0, len(steps))
	for _, s := range steps {
		out = append(out, StepView{Kind: s.Kind, Text: StepText(s), Weight: s.Weight, State: "ahead", By: s.By})
	}
	return out
}

// flipsCount is for how long a foreign write counts towards a fight.
const flipsCount = 10 * time.Minute

// driftOf is nil where nobody else touched the route lately.
func driftOf(p Pass) *DriftView {
	d := p.State.Drift
	n := 0
	for _, at := range d.Flips {
		if p.Time.Sub(at) < flipsCount {
			n++
		}
	}
	if n == 0 && !d.Foreign && d.Lowered < 2 {
		return nil
	}
	v := &DriftView{Manager: d.Manager, Foreign: d.Foreign, Flips: n, Remedy: p.Spec.IgnoreRule}
	if d.Foreign {
		v.Split = d.Seen
	}
	v.Fighting = n >= 3 || d.Lowered >= 2
	return v
}

// StepText is a step as people say it.
func StepText(s rollout.Step) string {
	var text string
	switch s.Kind {
	case rollout.StepWeight:
		text = s.Weight.String()
	case rollout.StepMatch:
		text = "only requests with " + matchText(s.Match)
	case rollout.StepApproval:
		text = "approval"
		if len(s.By) > 0 {
			text += fmt.Sprintf(" by %s", joinOr(s.By))
		}
		if s.Until > 0 {
			text += ", within " + Short(s.Until)
		}
		return text
	case rollout.StepPause:
		if s.Hold == 0 {
			return "pause until a person resumes"
		}
		return "pause " + Short(s.Hold)
	case rollout.StepTest:
		return "test " + s.Test
	default:
		text = string(s.Kind)
	}
	if s.Hold > 0 {
		text += ", hold " + Short(s.Hold)
	}
	return text
}

func matchText(m *rollout.Match) string {
	if m == nil {
		return "nothing"
	}
	var parts []string
	for _, k := range sortedKeys(m.Header) {
		parts = append(parts, fmt.Sprintf("header %s: %s", k, m.Header[k]))
	}
	for _, k := range sortedKeys(m.Cookie) {
		parts = append(parts, fmt.Sprintf("cookie %s=%s", k, m.Cookie[k]))
	}
	if m.Path != "" {
		parts = append(parts, "path "+m.Path)
	}
	return joinWith(parts, " and ")
}

// version is nil for the empty object.
func version(p Pass, o rollout.Object) *VersionView {
	if o.Revision == "" {
		return nil
	}
	v := &VersionView{Revision: o.Revision, Version: o.Revision.Label(), Name: o.Name}
	if r := p.Seen.Route; r.Known == rollout.Present {
		v.Weight = r.Weights[o.Revision]
		if r.Measured {
			n := r.Requests[o.Revision]
			v.Requests = &n
		}
	}
	for _, w := range p.Seen.Workloads.Items {
		if w.Revision != o.Revision {
			continue
		}
		v.Replicas, v.Why = w.Replicas, w.Why
		if w.ReadyKnown && p.Seen.Workloads.Known == rollout.Present {
			ready := w.Ready
			v.Ready = &ready
		}
	}
	return v
}

// seenShare is the canary's share of the requests since its split was written.
func seenShare(st rollout.State, r rollout.Route) *float64 {
	if r.Known != rollout.Present || !r.Measured || !underWay(st) || st.Asked.IsZero() {
		return nil
	}
	canary := r.Requests[st.Canary.Revision] - st.Share.Canary
	stable := r.Requests[st.Stable.Revision] - st.Share.Stable
	if canary < 0 || stable < 0 || canary+stable == 0 {
		return nil // nothing was counted, or the counters began again
	}
	share := canary / (canary + stable)
	return &share
}

// lastEnd is the outcome that what stands now comes from.
func lastEnd(st rollout.State) (rollout.Outcome, bool) {
	for _, o := range slices.Backward(st.History) {
		if o.Result != rollout.Abandoned { // it left everything as it was
			return o, true
		}
	}
	return rollout.Outcome{}, false
}

// takenBack is the revision that is asked for and was taken back: its object is
// there still, and so its mark is.
func takenBack(st rollout.State) (rollout.Outcome, bool) {
	o, ok := lastEnd(st)
	if !ok || o.Result != rollout.RolledBack && o.Result != rollout.Aborted && o.Result != rollout.Undone {
		return o, false
	}
	for _, m := range st.Marks {
		if m.Kind == rollout.Condemned && m.Revision == left(o) {
			return o, true
		}
	}
	return o, false
}

// left is the revision that an outcome took traffic from.
func left(o rollout.Outcome) rollout.Revision {
	if o.Result == rollout.Undone {
		return o.From
	}
	return o.Revision
}

func restMessage(v RolloutView, st rollout.State) string {
	switch o, back := takenBack(st); {
	case v.Stable == nil:
		return "No version is known to be the stable one yet."
	case back:
		return fmt.Sprintf("%s was taken back; %s has all the traffic. Next: a new revision, or `serin retry %s`.", left(o).Label(), v.Stable.Version, v.Name)
	}
	return fmt.Sprintf("%s is stable and has all the traffic.", v.Stable.Version)
}

func conditions(p Pass, v RolloutView) []ConditionView {
	return []ConditionView{
		ready(p, v), available(p, v), reconciling(p, v), stalledCondition(p, v), analysisPassing(p, v),
	}
}

// ready is True only at rest with the wanted revision stable.
func ready(p Pass, v RolloutView) ConditionView {
	c := ConditionView{Type: "Ready", Status: "False", Message: v.Message}
	o, back := takenBack(p.State)
	switch {
	case v.Stable == nil:
		c.Reason = "NotAdopted"
	case underWay(p.State):
		c.Reason = string(p.State.Phase)
	case back:
		c.Reason, c.Message = resultReason(o.Result), o.Why
	case v.Stalled != "":
		c.Reason, c.Message = "Stalled", v.Stalled
	default:
		c.Status, c.Reason = "True", "Stable"
	}
	return c
}

func resultReason(r rollout.Result) string {
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
func available(p Pass, v RolloutView) ConditionView {
	c := ConditionView{Type: "Available", Status: "Unknown", Reason: "ReadinessUnknown"}
	known := 0
	arms := 0
	for _, a := range []*VersionView{v.Stable, v.Canary} {
		if a == nil || a.Weight == 0 && p.Seen.Route.Known == rollout.Present && len(p.Seen.Route.Weights) > 0 {
			continue
		}
		arms++
		if a.Ready == nil {
			continue
		}
		known++
		if *a.Ready > 0 {
			return ConditionView{Type: "Available", Status: "True", Reason: "Serving", Message: fmt.Sprintf("%d of %d replicas of %s are ready", *a.Ready, a.Replicas, a.Version)}
		}
		c.Message = fmt.Sprintf("no replica of %s is ready", a.Version)
		if a.Why != "" {
			c.Message += ": " + a.Why
		}
	}
	if arms > 0 && known == arms {
		c.Status, c.Reason = "False", "NoReplicaReady"
	}
	return c
}

func reconciling(p Pass, v RolloutView) ConditionView {
	c := ConditionView{Type: "Reconciling", Status: "False", Reason: "AtRest"}
	if underWay(p.State) || len(p.State.Leaving) > 0 {
		c.Status, c.Reason, c.Message = "True", string(v.Phase), v.Message
	}
	return c
}

func stalledCondition(p Pass, v RolloutView) ConditionView {
	c := ConditionView{Type: "Stalled", Status: "False", Reason: "NobodyNeeded"}
	o, back := takenBack(p.State)
	switch {
	case v.Stalled != "":
		c.Status, c.Reason, c.Message = "True", "PersonNeeded", v.Stalled
	case back && !underWay(p.State):
		c.Status, c.Reason, c.Message = "True", resultReason(o.Result), o.Why
	}
	return c
}

func analysisPassing(p Pass, v RolloutView) ConditionView {
	c := ConditionView{Type: "AnalysisPassing", Status: "Unknown", Reason: v.Verdict.String(), Message: v.Sentence}
	switch {
	case p.Spec.Analysis.None:
		c.Reason, c.Message = "NotAsked", "the document asks for no analysis"
	case !underWay(p.State):
		c.Reason, c.Message = "AtRest", ""
	case v.Verdict == analysis.Pass:
		c.Status = "True"
	case v.Verdict == analysis.Fail:
		c.Status = "False"
	}
	return c
}

// exitCode is what verbs that look at a rollout exit with. While it is under
// way that is ExitTimeout, "not at an end", or ExitApproval, "waits for you".
func exitCode(v RolloutView, st rollout.State) int {
	_, back := takenBack(st)
	switch {
	case v.Waiting == rollout.WaitApproval:
		return ExitApproval
	case underWay(st) && v.Stalled != "" && st.Phase != rollout.RollingBack:
		return ExitError
	case underWay(st):
		return ExitTimeout
	case back:
		return ExitRolledBack
	case v.Stable == nil || v.Stalled != "":
		return ExitError
	}
	return ExitPromoted
}
