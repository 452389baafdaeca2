package httpapi

import (
	"encoding/json"
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
	t0    = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	steps = []rollout.Step{
		{Kind: rollout.StepWeight, Weight: 500, Hold: time.Minute},
		{Kind: rollout.StepApproval, By: []string{"alice", "bob"}},
		{Kind: rollout.StepWeight, Weight: rollout.Whole},
	}
)

func workloads(ready1, ready2 int) rollout.Workloads {
	return rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{
		{Revision: v1, Name: "app-v1", Replicas: 3, Ready: ready1, ReadyKnown: true},
		{Revision: v2, Name: "app-v2", Replicas: 2, Ready: ready2, ReadyKnown: true, Why: "it starts"},
	}}
}

func atRest(result rollout.Result, condemned bool) rollout.State {
	st := rollout.State{
		Phase: rollout.Idle, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, N: 9,
		History: []rollout.Outcome{{Revision: v2, From: v1, Result: result, Why: "5 of 50 requests failed.", By: "rule"}},
	}
	if condemned {
		st.Marks = []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}}
	}
	return st
}

func progressing(step int) rollout.State {
	return rollout.State{
		Phase: rollout.Progressing, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, Canary: rollout.Object{Revision: v2, Name: "app-v2"},
		Plan: steps, Step: step, Entered: true, Granted: 500, N: 4, Asked: t0, LiveAt: t0, Share: rollout.Share{Stable: 1000, Canary: 10},
	}
}

func status(c ConditionView) string { return c.Status + " " + c.Reason }

func TestConditionsAndExit(t *testing.T) {
	onStable := rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole}}
	split := rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: 9500, v2: 500}}
	for name, c := range map[string]struct {
		reason string
		state  rollout.State
		seen   rollout.Observation
		status rollout.Status
		none   bool
		want   map[string]string
		exit   int
	}{
		"NothingKnown": {
			reason: "before the adoption nothing is promised",
			want:   map[string]string{"Ready": "False NotAdopted", "Available": "Unknown ReadinessUnknown", "Reconciling": "False AtRest", "Stalled": "False NobodyNeeded", "AnalysisPassing": "Unknown AtRest"},
			exit:   ExitError,
		},
		"AtRest": {
			reason: "the wanted version is stable and nothing is under way",
			state:  atRest(rollout.Promoted, false), seen: rollout.Observation{Workloads: workloads(3, 0), Route: onStable},
			want: map[string]string{"Ready": "True Stable", "Available": "True Serving", "Reconciling": "False AtRest", "Stalled": "False NobodyNeeded", "AnalysisPassing": "Unknown AtRest"},
			exit: ExitPromoted,
		},
		"RolledBack": {
			reason: "users are served, and what was wanted is not what runs: Git tools must see it",
			state:  atRest(rollout.RolledBack, true), seen: rollout.Observation{Workloads: workloads(3, 0), Route: onStable},
			want: map[string]string{"Ready": "False RolledBack", "Available": "True Serving", "Reconciling": "False AtRest", "Stalled": "True RolledBack", "AnalysisPassing": "Unknown AtRest"},
			exit: ExitRolledBack,
		},
		"Aborted": {
			reason: "as a rollback, with its own reason",
			state:  atRest(rollout.Aborted, true), seen: rollout.Observation{Workloads: workloads(3, 0), Route: onStable},
			want: map[string]string{"Ready": "False Aborted", "Stalled": "True Aborted"},
			exit: ExitRolledBack,
		},
		"RolledBackAndRemoved": {
			reason: "the version that was taken back is no longer asked for: its mark went with it",
			state:  atRest(rollout.RolledBack, false), seen: rollout.Observation{Workloads: workloads(3, 0), Route: onStable},
			want: map[string]string{"Ready": "True Stable", "Stalled": "False NobodyNeeded"},
			exit: ExitPromoted,
		},
		"Undone": {
			reason: "the version that an undo left is condemned, and is the one that was wanted",
			state: rollout.State{
				Phase: rollout.Idle, Stable: rollout.Object{Revision: v1}, Marks: []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}},
				History: []rollout.Outcome{{Revision: v1, From: v2, Result: rollout.Undone}},
			},
			want: map[string]string{"Ready": "False Undone"},
			exit: ExitRolledBack,
		},
		"UndoThatNeverGotReady": {
			reason: "an abandoned undo changed nothing: what counts is the end before it",
			state: rollout.State{
				Phase: rollout.Idle, Stable: rollout.Object{Revision: v2},
				History: []rollout.Outcome{{Revision: v2, From: v1, Result: rollout.Promoted}, {Revision: v1, From: v2, Result: rollout.Abandoned}},
			},
			want: map[string]string{"Ready": "True Stable"},
			exit: ExitPromoted,
		},
		"UnderWay": {
			reason: "not at an end: neither promoted nor taken back",
			state:  progressing(0), seen: rollout.Observation{Workloads: workloads(3, 2), Route: split, Report: analysis.Report{Verdict: analysis.Pass}},
			want: map[string]string{"Ready": "False Progressing", "Available": "True Serving", "Reconciling": "True Progressing", "AnalysisPassing": "True Pass"},
			exit: ExitTimeout,
		},
		"Undecided": {
			reason: "data that is not enough is neither good nor bad",
			state:  progressing(0), seen: rollout.Observation{Workloads: workloads(3, 2), Route: split, Report: analysis.Report{Verdict: analysis.Undecided}},
			want: map[string]string{"AnalysisPassing": "Unknown Undecided"},
			exit: ExitTimeout,
		},
		"NotJudged": {
			reason: "a document that asks for no analysis gets no verdict",
			state:  progressing(0), none: true,
			want: map[string]string{"AnalysisPassing": "Unknown NotAsked"},
			exit: ExitTimeout,
		},
		"WaitsForApproval": {
			reason: "a person has to answer",
			state:  progressing(1), seen: rollout.Observation{Workloads: workloads(3, 2), Route: split},
			status: rollout.Status{Waiting: rollout.WaitApproval},
			want:   map[string]string{"Ready": "False Progressing", "Reconciling": "True Progressing"},
			exit:   ExitApproval,
		},
		"StalledOnTheWay": {
			reason: "nothing goes on without a person",
			state:  progressing(0), status: rollout.Status{Stalled: "the Service selects only v1."},
			want: map[string]string{"Stalled": "True PersonNeeded"},
			exit: ExitError,
		},
		"NobodyReady": {
			reason: "everybody who has traffic is known to be down",
			state:  atRest(rollout.Promoted, false), seen: rollout.Observation{Workloads: workloads(0, 2), Route: onStable},
			want: map[string]string{"Available": "False NoReplicaReady", "Ready": "True Stable"},
			exit: ExitPromoted,
		},
		"ReadinessNotKnown": {
			reason: "what is not known is not False",
			state:  atRest(rollout.Promoted, false), seen: rollout.Observation{Route: onStable},
			want: map[string]string{"Available": "Unknown ReadinessUnknown"},
			exit: ExitPromoted,
		},
		"OneArmDown": {
			reason: "the gateway sends to who is ready: users are served",
			state:  progressing(0), seen: rollout.Observation{Workloads: workloads(0, 2), Route: split},
			want: map[string]string{"Available": "True Serving"},
			exit: ExitTimeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := BuildView(Pass{
				Ref: Ref{Name: "app"}, State: c.state, Seen: c.seen, Time: t0,
				Spec: rollout.Spec{Steps: steps, Analysis: rollout.Policy{None: c.none}}, Decision: rollout.Decision{Status: c.status},
			})
			got := map[string]string{}
			for _, x := range v.Conditions {
				if _, asked := c.want[x.Type]; asked {
					got[x.Type] = status(x)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s\n%s", c.reason, d)
			}
			if v.Exit != c.exit {
				t.Errorf("exit code %d, want %d: %s", v.Exit, c.exit, c.reason)
			}
			if v.Message == "" && v.Phase == rollout.Idle {
				t.Error("no message at rest")
			}
		})
	}
}

func TestSeenShare(t *testing.T) {
	route := func(stable, canary float64) rollout.Route {
		return rollout.Route{Known: rollout.Present, Measured: true, Requests: map[rollout.Revision]float64{v1: stable, v2: canary}}
	}
	share := func(x float64) *float64 { return &x }
	for name, c := range map[string]struct {
		state rollout.State
		route rollout.Route
		want  *float64
	}{
		"SinceTheSplitWasWritten": {progressing(0), route(1090, 20), share(0.1)},
		"NothingYet":              {progressing(0), route(1000, 10), nil},
		"CountersBeganAgain":      {progressing(0), route(90, 10), nil},
		"NotMeasured":             {progressing(0), rollout.Route{Known: rollout.Present}, nil},
		"RouteNotKnown":           {progressing(0), rollout.Route{Measured: true}, nil},
		"AtRest":                  {atRest(rollout.Promoted, false), route(1090, 20), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, seenShare(c.state, c.route)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestStepsAsPeopleSayThem(t *testing.T) {
	for want, s := range map[string]rollout.Step{
		"5 %, hold 1m":                 {Kind: rollout.StepWeight, Weight: 500, Hold: time.Minute},
		"0.5 %":                        {Kind: rollout.StepWeight, Weight: 50},
		"approval by alice or bob":     {Kind: rollout.StepApproval, By: []string{"alice", "bob"}},
		"approval, within 1h30m":       {Kind: rollout.StepApproval, Until: 90 * time.Minute},
		"pause until a person resumes": {Kind: rollout.StepPause},
		"pause 30s":                    {Kind: rollout.StepPause, Hold: 30 * time.Second},
		"test command-1a":              {Kind: rollout.StepTest, Test: "command-1a"},
		"only requests with header x: 1, cookie c=2 and path /p, hold 5m": {
			Kind: rollout.StepMatch, Hold: 5 * time.Minute,
			Match: &rollout.Match{Header: map[string]string{"x": "1"}, Cookie: map[string]string{"c": "2"}, Path: "/p"},
		},
	} {
		if got := StepText(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStepStates(t *testing.T) {
	state := func(st rollout.State) (out []string) {
		for _, s := range BuildView(Pass{State: st, Time: t0, Spec: rollout.Spec{Steps: steps}}).StepsList {
			out = append(out, s.State)
		}
		return out
	}
	preparing, baking := progressing(0), progressing(2)
	preparing.Phase, baking.Phase = rollout.Preparing, rollout.Baking
	for name, c := range map[string]struct {
		st   rollout.State
		want []string
	}{
		"AtRest":    {atRest(rollout.Promoted, false), []string{"ahead", "ahead", "ahead"}},
		"Preparing": {preparing, []string{"ahead", "ahead", "ahead"}},
		"First":     {progressing(0), []string{"current", "ahead", "ahead"}},
		"Second":    {progressing(1), []string{"done", "current", "ahead"}},
		"Baking":    {baking, []string{"done", "done", "done"}},
	} {
		if d := cmp.Diff(c.want, state(c.st)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestViewIsJSONAndBack(t *testing.T) {
	v := BuildView(Pass{
		Ref: Ref{Name: "app"}, State: progressing(1), Time: t0, Spec: rollout.Spec{Steps: steps},
		Seen: rollout.Observation{Workloads: workloads(3, 2), Report: analysis.Report{Verdict: analysis.Fail, Sentence: "bad"}},
	})
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back RolloutView
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(v, back); d != "" {
		t.Error(d)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m",
		1500 * time.Millisecond: "1.5s", 30 * time.Millisecond: "30ms", 10 * time.Second: "10s", 20 * time.Minute: "20m",
		61*time.Minute + 234*time.Millisecond: "1h1m",
	} {
		if got := Short(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
