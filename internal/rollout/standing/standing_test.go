package standing

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

const (
	v1 rollout.Revision = "v1@aa"
	v2 rollout.Revision = "v2@bb"
)

var (
	t0       = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	onStable = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole}}
	split    = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: 9500, v2: 500}}
)

func workloads(ready1, ready2 int) rollout.Workloads {
	return rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{
		{Revision: v1, Name: "app-v1", Replicas: 3, Ready: ready1, ReadyKnown: true},
		{Revision: v2, Name: "app-v2", Replicas: 2, Ready: ready2, ReadyKnown: true, Why: "it starts"},
	}}
}

// without is everybody ready but one, whose Deployment is not there.
func without(r rollout.Revision) rollout.Workloads {
	w := workloads(3, 2)
	w.Items = slices.DeleteFunc(w.Items, func(i rollout.Workload) bool { return i.Revision == r })
	return w
}

// resting is a rollout at rest after these ends, v2 condemned or not.
func resting(condemned bool, history ...rollout.Outcome) rollout.State {
	st := rollout.State{Phase: rollout.Idle, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, History: history}
	if condemned {
		st.Marks = []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}}
	}
	return st
}

func end(r rollout.Result) rollout.Outcome {
	return rollout.Outcome{Revision: v2, From: v1, Result: r, Why: "5 of 50 requests failed."}
}

func on(phase rollout.Phase) rollout.State {
	return rollout.State{
		Phase: phase, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, Canary: rollout.Object{Revision: v2, Name: "app-v2"},
		Plan:  []rollout.Step{{Kind: rollout.StepWeight, Weight: 500}, {Kind: rollout.StepWeight, Weight: rollout.Whole}},
		Asked: t0, Share: rollout.Share{Stable: 1000, Canary: 10},
	}
}

func judged(w rollout.Workloads, r rollout.Route, v analysis.Verdict) rollout.Observation {
	return rollout.Observation{Workloads: w, Route: r, Report: analysis.Report{Verdict: v, Sentence: "as the judge says"}}
}

// words are a standing's: phase, step where one is in force, then the
// conditions, Available and AnalysisPassing last.
func words(s Standing) string {
	out := []string{string(s.Phase)}
	if s.Step > 0 {
		out = append(out, "step "+string(rune('0'+s.Step)))
	}
	for _, c := range []Condition{s.Conditions.Ready, s.Conditions.Reconciling, s.Conditions.Stalled, s.Conditions.Available, s.Conditions.AnalysisPassing} {
		out = append(out, c.Type+" "+c.Status+" "+c.Reason)
	}
	return strings.Join(out, ", ")
}

const (
	serving = "Available True Serving"
	atRest  = "AnalysisPassing Unknown AtRest"
)

func TestWords(t *testing.T) {
	for name, c := range map[string]struct {
		reason  string
		state   rollout.State
		seen    rollout.Observation
		said    rollout.Status
		none    bool
		want    string
		message string
	}{
		"NothingKnown": {
			reason:  "before the adoption nothing is promised",
			want:    "Idle, Ready False NotAdopted, Reconciling False AtRest, Stalled False NobodyNeeded, Available Unknown ReadinessUnknown, " + atRest,
			message: "No version is known to be the stable one yet.",
		},
		"AtRest": {
			reason: "the wanted version is stable and nothing is under way",
			state:  resting(false, end(rollout.Promoted)), seen: judged(workloads(3, 0), onStable, analysis.Pass),
			want:    "Idle, Ready True Stable, Reconciling False AtRest, Stalled False NobodyNeeded, " + serving + ", " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"OneDrains": {
			reason: "the wanted version is stable, and another one still answers what it has begun",
			state:  rollout.State{Stable: rollout.Object{Revision: v1}, Leaving: []rollout.Leaving{{Revision: v2}}}, seen: judged(workloads(3, 1), onStable, 0),
			want:    "Idle, Ready True Stable, Reconciling True Idle, Stalled False NobodyNeeded, " + serving + ", " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"RolledBack": {
			reason: "users are served, and what was wanted is not what runs: Git tools must see it",
			state:  resting(true, end(rollout.RolledBack)), seen: judged(workloads(3, 0), onStable, 0),
			want:    "Idle, Ready False RolledBack, Reconciling False AtRest, Stalled True RolledBack, " + serving + ", " + atRest,
			message: "v2 was taken back; v1 has all the traffic. Next: a new revision, or try again.",
		},
		"Aborted": {
			reason: "as a rollback, with its own reason",
			state:  resting(true, end(rollout.Aborted)), seen: judged(workloads(3, 0), onStable, 0),
			want:    "Idle, Ready False Aborted, Reconciling False AtRest, Stalled True Aborted, " + serving + ", " + atRest,
			message: "v2 was taken back; v1 has all the traffic. Next: a new revision, or try again.",
		},
		"RolledBackAndRemoved": {
			reason: "the version that was taken back is no longer asked for, and stays condemned",
			state:  resting(true, end(rollout.RolledBack)), seen: judged(without(v2), onStable, 0),
			want:    "Idle, Ready True Stable, Reconciling False AtRest, Stalled False NobodyNeeded, " + serving + ", " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"RolledBackAndUnknown": {
			reason: "a list that failed says nothing of what is asked for",
			state:  resting(true, end(rollout.RolledBack)), seen: judged(rollout.Workloads{}, onStable, 0),
			want:    "Idle, Ready False RolledBack, Reconciling False AtRest, Stalled True RolledBack, Available Unknown ReadinessUnknown, " + atRest,
			message: "v2 was taken back; v1 has all the traffic. Next: a new revision, or try again.",
		},
		"Undone": {
			reason: "the version that an undo left is condemned, and is the one that was wanted",
			state:  resting(true, rollout.Outcome{Revision: v1, From: v2, Result: rollout.Undone}), seen: judged(workloads(3, 0), onStable, 0),
			want:    "Idle, Ready False Undone, Reconciling False AtRest, Stalled True Undone, " + serving + ", " + atRest,
			message: "v2 was taken back; v1 has all the traffic. Next: a new revision, or try again.",
		},
		"UndoThatNeverGotReady": {
			reason: "an abandoned undo changed nothing: what counts is the end before it",
			state:  resting(true, end(rollout.RolledBack), rollout.Outcome{Revision: "v0@00", From: v1, Result: rollout.Abandoned}), seen: judged(workloads(3, 0), onStable, 0),
			want:    "Idle, Ready False RolledBack, Reconciling False AtRest, Stalled True RolledBack, " + serving + ", " + atRest,
			message: "v2 was taken back; v1 has all the traffic. Next: a new revision, or try again.",
		},
		"AnotherPromotedSince": {
			reason: "v2 is condemned, and nobody asks for it any more",
			state:  resting(true, end(rollout.RolledBack), rollout.Outcome{Revision: v1, From: "v0@00", Result: rollout.Promoted}), seen: judged(workloads(3, 0), onStable, 0),
			want:    "Idle, Ready True Stable, Reconciling False AtRest, Stalled False NobodyNeeded, " + serving + ", " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"Preparing": {
			reason: "no step is in force before its capacity is there",
			state:  on(rollout.Preparing), seen: judged(workloads(3, 0), onStable, 0), said: rollout.Status{Message: "v2 starts."},
			want:    "Preparing, Ready False Preparing, Reconciling True Preparing, Stalled False NobodyNeeded, " + serving + ", AnalysisPassing Unknown Unavailable",
			message: "v2 starts.",
		},
		"UnderWay": {
			reason: "not at an end: neither promoted nor taken back",
			state:  on(rollout.Progressing), seen: judged(workloads(3, 2), split, analysis.Pass), said: rollout.Status{Message: "v2 has 5 %."},
			want:    "Progressing, step 1, Ready False Progressing, Reconciling True Progressing, Stalled False NobodyNeeded, " + serving + ", AnalysisPassing True Pass",
			message: "v2 has 5 %.",
		},
		"Undecided": {
			reason: "data that is not enough is neither good nor bad",
			state:  on(rollout.Progressing), seen: judged(workloads(3, 2), split, analysis.Undecided), said: rollout.Status{Message: "v2 has 5 %."},
			want:    "Progressing, step 1, Ready False Progressing, Reconciling True Progressing, Stalled False NobodyNeeded, " + serving + ", AnalysisPassing Unknown Undecided",
			message: "v2 has 5 %.",
		},
		"GoingBack": {
			reason: "nothing is wrong with how it goes: the judge has spoken, and it is being done",
			state:  on(rollout.RollingBack), seen: judged(workloads(3, 2), split, analysis.Fail), said: rollout.Status{Message: "v2 leaves."},
			want:    "RollingBack, step 1, Ready False RollingBack, Reconciling True RollingBack, Stalled False NobodyNeeded, " + serving + ", AnalysisPassing False Fail",
			message: "v2 leaves.",
		},
		"NotJudged": {
			reason: "a document that asks for no analysis gets no verdict",
			state:  on(rollout.Progressing), seen: judged(workloads(3, 2), split, analysis.Fail), none: true, said: rollout.Status{Message: "v2 has 5 %."},
			want:    "Progressing, step 1, Ready False Progressing, Reconciling True Progressing, Stalled False NobodyNeeded, " + serving + ", AnalysisPassing Unknown NotAsked",
			message: "v2 has 5 %.",
		},
		"APersonInTheMiddle": {
			reason: "both are true: it is on its way, and nothing goes on without a person",
			state:  on(rollout.Progressing), seen: judged(workloads(3, 2), split, 0), said: rollout.Status{Message: "m", Stalled: "the Service selects only v1."},
			want:    "Progressing, step 1, Ready False Progressing, Reconciling True Progressing, Stalled True PersonNeeded, " + serving + ", AnalysisPassing Unknown Unavailable",
			message: "m",
		},
		"APersonAtRest": {
			reason: "what the state remembers counts where the pass itself said nothing",
			state:  rollout.State{Stable: rollout.Object{Revision: v1}, Stalled: "a hand holds the route"}, seen: judged(workloads(3, 0), onStable, 0),
			want:    "Idle, Ready False Stalled, Reconciling False AtRest, Stalled True PersonNeeded, " + serving + ", " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"NobodyReady": {
			reason: "everybody who has traffic is known to be down",
			state:  resting(false), seen: judged(workloads(0, 2), onStable, 0),
			want:    "Idle, Ready True Stable, Reconciling False AtRest, Stalled False NobodyNeeded, Available False NoReplicaReady, " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"ReadinessNotKnown": {
			reason: "what is not known is not False",
			state:  resting(false), seen: rollout.Observation{Route: onStable},
			want:    "Idle, Ready True Stable, Reconciling False AtRest, Stalled False NobodyNeeded, Available Unknown ReadinessUnknown, " + atRest,
			message: "v1 is stable and has all the traffic.",
		},
		"OneArmDown": {
			reason: "requests go to who is ready: users are served",
			state:  on(rollout.Progressing), seen: judged(workloads(0, 2), split, 0), said: rollout.Status{Message: "m"},
			want:    "Progressing, step 1, Ready False Progressing, Reconciling True Progressing, Stalled False NobodyNeeded, " + serving + ", AnalysisPassing Unknown Unavailable",
			message: "m",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := Of(rollout.Spec{Analysis: rollout.Policy{None: c.none}}, c.state, c.seen, c.said, "try again")
			if d := cmp.Diff(c.want, words(s)); d != "" {
				t.Errorf("%s\n%s", c.reason, d)
			}
			if s.Message != c.message {
				t.Errorf("message %q, want %q", s.Message, c.message)
			}
		})
	}
}

// A condition's message says why: the judge's sentence, how the attempt ended,
// what keeps a replica.
func TestMessages(t *testing.T) {
	back := Of(rollout.Spec{}, resting(true, end(rollout.RolledBack)), judged(workloads(3, 0), onStable, 0), rollout.Status{}, "retry").Conditions
	way := Of(rollout.Spec{}, on(rollout.Progressing), judged(workloads(0, 0), split, analysis.Pass), rollout.Status{Message: "v2 has 5 %."}, "retry").Conditions
	for _, c := range []struct {
		got  Condition
		want string
	}{
		{back.Ready, "5 of 50 requests failed."},
		{back.Stalled, "5 of 50 requests failed."},
		{back.Available, "3 of 3 replicas of v1 are ready"},
		{back.AnalysisPassing, ""},
		{way.Ready, "v2 has 5 %."},
		{way.Reconciling, "v2 has 5 %."},
		{way.Available, "no replica of v2 is ready: it starts"},
		{way.AnalysisPassing, "as the judge says"},
	} {
		if c.got.Message != c.want {
			t.Errorf("%s: %q, want %q", c.got.Type, c.got.Message, c.want)
		}
	}
}

func TestWeightSeen(t *testing.T) {
	route := func(stable, canary float64) rollout.Route {
		return rollout.Route{Known: rollout.Present, Measured: true, Requests: map[rollout.Revision]float64{v1: stable, v2: canary}}
	}
	unasked := on(rollout.Progressing)
	unasked.Asked = time.Time{}
	for name, c := range map[string]struct {
		state rollout.State
		route rollout.Route
		want  *float64
	}{
		"SinceTheSplitWasWritten": {on(rollout.Progressing), route(1090, 20), new(0.1)},
		"NothingYet":              {on(rollout.Progressing), route(1000, 10), nil},
		"CountersBeganAgain":      {on(rollout.Progressing), route(90, 10), nil},
		"NotMeasured":             {on(rollout.Progressing), rollout.Route{Known: rollout.Present}, nil},
		"RouteNotKnown":           {on(rollout.Progressing), rollout.Route{Measured: true}, nil},
		"NoSplitWasAskedFor":      {unasked, route(1090, 20), nil},
		"AtRest":                  {resting(false), route(1090, 20), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := Of(rollout.Spec{}, c.state, rollout.Observation{Route: c.route}, rollout.Status{}, "retry").WeightSeen
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// What was not seen of a version is not said of it.
func TestVersion(t *testing.T) {
	st := resting(false)
	seen := rollout.Observation{Workloads: workloads(2, 0), Route: onStable}
	seen.Route.Measured, seen.Route.Requests = true, map[rollout.Revision]float64{v1: 7}
	all := Version{Revision: v1, Version: "v1", Name: "app-v1", Replicas: 3, Ready: new(2), Weight: rollout.Whole, Requests: new(7.0)}
	for name, c := range map[string]struct {
		change func(*rollout.Observation)
		lacks  func(*Version)
	}{
		"Everything":       {func(*rollout.Observation) {}, func(*Version) {}},
		"NoRoute":          {func(o *rollout.Observation) { o.Route.Known = rollout.Unknown }, func(v *Version) { v.Weight, v.Requests = 0, nil }},
		"NotMeasured":      {func(o *rollout.Observation) { o.Route.Measured = false }, func(v *Version) { v.Requests = nil }},
		"ReadinessUnknown": {func(o *rollout.Observation) { o.Workloads.Items[0].ReadyKnown = false }, func(v *Version) { v.Ready = nil }},
		"OldWorkloads":     {func(o *rollout.Observation) { o.Workloads.Known = rollout.Unknown }, func(v *Version) { v.Ready = nil }},
		"NoWorkload":       {func(o *rollout.Observation) { o.Workloads = rollout.Workloads{} }, func(v *Version) { v.Replicas, v.Ready = 0, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			o, want := seen, all
			o.Workloads = workloads(2, 0)
			c.change(&o)
			c.lacks(&want)
			s := Of(rollout.Spec{}, st, o, rollout.Status{}, "retry")
			if d := cmp.Diff(&want, s.Stable); d != "" {
				t.Error(d)
			}
			if s.Canary != nil {
				t.Errorf("a canary where there is none: %+v", s.Canary)
			}
		})
	}
}
