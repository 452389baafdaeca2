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

// What the conditions say is standing's to test; here, that all are shown.
func TestConditionsAreAllShown(t *testing.T) {
	v := BuildView(Pass{Ref: Ref{Name: "app"}, State: atRest(rollout.RolledBack, true), Time: t0})
	var got []string
	for _, c := range v.Conditions {
		got = append(got, c.Type+" "+c.Status+" "+c.Reason)
	}
	want := []string{"Ready False RolledBack", "Available Unknown ReadinessUnknown", "Reconciling False AtRest", "Stalled True RolledBack", "AnalysisPassing Unknown AtRest"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if want := "v2 was taken back; v1 has all the traffic. Next: a new revision, or `serin retry app`."; v.Message != want {
		t.Errorf("message %q, want %q", v.Message, want)
	}
}

func TestExit(t *testing.T) {
	taking := progressing(0)
	taking.Phase = rollout.RollingBack
	for name, c := range map[string]struct {
		reason string
		state  rollout.State
		status rollout.Status
		exit   int
	}{
		"NothingKnown":         {"before the adoption nothing is promised", rollout.State{}, rollout.Status{}, ExitError},
		"AtRest":               {"the wanted version is stable", atRest(rollout.Promoted, false), rollout.Status{}, ExitPromoted},
		"RolledBack":           {"what was wanted is not what runs", atRest(rollout.RolledBack, true), rollout.Status{}, ExitRolledBack},
		"Aborted":              {"as a rollback", atRest(rollout.Aborted, true), rollout.Status{}, ExitRolledBack},
		"RolledBackAndRemoved": {"what was taken back is no longer asked for", atRest(rollout.RolledBack, false), rollout.Status{}, ExitPromoted},
		"StalledAtRest":        {"a person is needed", atRest(rollout.Promoted, false), rollout.Status{Stalled: "a hand holds the route."}, ExitError},
		"UnderWay":             {"not at an end: neither promoted nor taken back", progressing(0), rollout.Status{}, ExitTimeout},
		"WaitsForApproval":     {"a person has to answer", progressing(1), rollout.Status{Waiting: rollout.WaitApproval}, ExitApproval},
		"StalledOnTheWay":      {"nothing goes on without a person", progressing(0), rollout.Status{Stalled: "the Service selects only v1."}, ExitError},
		"StalledOnTheWayBack":  {"it goes back all the same", taking, rollout.Status{Stalled: "the Service selects only v1."}, ExitTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			v := BuildView(Pass{State: c.state, Time: t0, Decision: rollout.Decision{Status: c.status}})
			if v.Exit != c.exit {
				t.Errorf("exit code %d, want %d: %s", v.Exit, c.exit, c.reason)
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
		61*time.Minute + 234*time.Millisecond: "1h1m", 122354577 * time.Nanosecond: "122ms", 4472343 * time.Nanosecond: "4ms",
		999600 * time.Microsecond: "1s", 500 * time.Microsecond: "500µs",
	} {
		if got := Short(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
