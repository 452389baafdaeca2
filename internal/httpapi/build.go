package httpapi

import (
	"fmt"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
)

// Pass is what one pass knows about its rollout.
type Pass struct {
	Ref      Ref
	Spec     rollout.Spec
	State    rollout.State // as it stands after the pass: Decision.Next where that was saved
	Seen     rollout.Observation
	Decision rollout.Decision
	Time     time.Time
	Trouble  Trouble // of the passes; none: the zero Trouble
}

// Trouble is what passes in a row have ended with.
type Trouble = standing.Trouble

// BuildView says what one pass looks like to people. It is pure.
func BuildView(p Pass) RolloutView {
	st, seen := p.State, p.Seen
	now := standing.Of(p.Spec, st, seen, p.Decision.Status, fmt.Sprintf("`serin retry %s`", p.Ref.Name)).With(p.Trouble, p.Time)
	v := RolloutView{
		Namespace: p.Ref.Namespace, Name: p.Ref.Name, Time: p.Time,
		Phase: now.Phase, Message: now.Message,
		Step: now.Step, Steps: len(st.Plan),
		Stable: (*VersionView)(now.Stable), Canary: (*VersionView)(now.Canary),
		Previous:  st.Previous.Revision.Label(),
		WeightSet: st.Granted, WeightSeen: now.WeightSeen, Live: !st.LiveAt.IsZero(),
		Verdict: seen.Report.Verdict, Sentence: seen.Report.Sentence, Figures: seen.Report.Figures,
		Evidence: EvidenceView{Rollback: seen.Report.Rollback, Advance: seen.Report.Advance},
		Exposed:  st.Exposed, Harmed: st.Harmed,
		Waiting: p.Decision.Status.Waiting, Until: instant(p.Decision.Status.Until),
		Paused: p.Decision.Status.Paused, Stalled: now.Stalled,
		Started: instant(st.Started), Findings: seen.Findings,
		Decisions: st.Decisions, History: st.History, Condemned: st.FailedRevisions(),
		N: st.N,
	}
	if now.UnderWay {
		v.StepsList = stepViews(st)
	}
	if len(v.StepsList) == 0 { // at rest: the steps that a release would take
		v.Steps = len(p.Spec.Steps)
		v.StepsList = ahead(p.Spec.Steps)
	}
	v.Drift = driftOf(p)
	v.Worst = worst(v)
	v.Conditions = conditionViews(now.Conditions)
	v.Exit = exitCode(now, v.Waiting)
	v.Offers = OffersOf(v)
	return v
}

func conditionViews(all standing.Conditions) (out []ConditionView) {
	for _, c := range []standing.Condition{all.Ready, all.Available, all.Reconciling, all.Stalled, all.AnalysisPassing} {
		out = append(out, ConditionView(c))
	}
	return out
}

// UnreadableView is a rollout of which nothing can be decided, because its saved
// state cannot be read: why says so, and what helps.
func UnreadableView(ref Ref, spec rollout.Spec, why string, at time.Time) RolloutView {
	now := standing.Unreadable(why)
	return RolloutView{
		Namespace: ref.Namespace, Name: ref.Name, Time: at, Phase: now.Phase, Message: now.Message, Stalled: now.Stalled,
		Steps: len(spec.Steps), StepsList: ahead(spec.Steps), Conditions: conditionViews(now.Conditions), Exit: ExitError,
	}
}

// Unreadable says whether nothing can be decided about a rollout because its
// saved state cannot be read.
func Unreadable(v RolloutView) bool {
	return slices.ContainsFunc(v.Conditions, func(c ConditionView) bool { return c.Type == "Stalled" && c.Reason == standing.StateUnreadable })
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// stepViews are the plan's steps while it is followed.
func stepViews(st rollout.State) []StepView {
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

// exitCode is what verbs that look at a rollout exit with. While it is under
// way that is ExitTimeout, "not at an end", or ExitApproval, "waits for you".
func exitCode(s standing.Standing, waiting rollout.WaitFor) int {
	switch {
	case waiting == rollout.WaitApproval:
		return ExitApproval
	case s.UnderWay && s.Stalled != "" && s.Phase != rollout.RollingBack:
		return ExitError
	case s.UnderWay:
		return ExitTimeout
	case s.TakenBack != nil:
		return ExitRolledBack
	case s.Stable == nil || s.Stalled != "":
		return ExitError
	}
	return ExitPromoted
}
