package status

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// tools is what programs make of conditions that follow kstatus: something that
// reconciles is in progress, something that is stalled has failed, Ready says
// whether the rest is well. These are their rules, in their order.
func tools(st v1alpha1.RolloutStatus, generation int64) string {
	switch {
	case st.ObservedGeneration != generation:
		return "InProgress"
	case find(st.Conditions, v1alpha1.ConditionReconciling).Status == "True":
		return "InProgress"
	case find(st.Conditions, v1alpha1.ConditionStalled).Status == "True":
		return "Failed"
	case find(st.Conditions, v1alpha1.ConditionReady).Status == "True":
		return "Current"
	}
	return "InProgress"
}

// states are what a rollout may look like, what its conditions then say
// ("Ready=False:RolledBack"), and what tools make of them.
var states = map[string]struct {
	change func(*Pass)
	want   []string
	tools  string
}{
	"at rest": {
		func(p *Pass) { atRest(p) },
		[]string{"Ready=True:Stable", "Available=True:Serving", "AnalysisPassing=Unknown:AtRest"}, "Current",
	},
	"not adopted": {
		func(p *Pass) { p.State, p.Decision.Status = rollout.State{}, rollout.Status{} },
		[]string{"Ready=False:NotAdopted", "Available=Unknown:ReadinessUnknown", "AnalysisPassing=Unknown:AtRest"}, "InProgress",
	},
	"under way": {
		func(*Pass) {},
		[]string{"Ready=False:Progressing", "Available=True:Serving", "AnalysisPassing=Unknown:Undecided", "Reconciling=True:Progressing"}, "InProgress",
	},
	"under way, a Pass": {
		func(p *Pass) { p.Seen.Report.Verdict = analysis.Pass },
		[]string{"Ready=False:Progressing", "Available=True:Serving", "AnalysisPassing=True:Pass", "Reconciling=True:Progressing"}, "InProgress",
	},
	"going back": {
		func(p *Pass) { p.State.Phase, p.Seen.Report.Verdict = rollout.RollingBack, analysis.Fail },
		[]string{"Ready=False:RollingBack", "Available=True:Serving", "AnalysisPassing=False:Fail", "Reconciling=True:RollingBack"}, "InProgress",
	},
	"a person is needed in the middle": {
		func(p *Pass) { p.Decision.Status.Stalled = "a tool keeps writing the route" },
		[]string{"Ready=False:Progressing", "Available=True:Serving", "AnalysisPassing=Unknown:Undecided", "Stalled=True:PersonNeeded"}, "Failed",
	},
	"rolled back": {
		func(p *Pass) { atRest(p); ended(p, rollout.RolledBack) },
		[]string{"Ready=False:RolledBack", "Available=True:Serving", "AnalysisPassing=Unknown:AtRest", "Stalled=True:RolledBack"}, "Failed",
	},
	"rolled back, and the condemned one is gone": {
		func(p *Pass) { atRest(p); ended(p, rollout.RolledBack); p.State.Marks = nil },
		[]string{"Ready=True:Stable", "Available=True:Serving", "AnalysisPassing=Unknown:AtRest"}, "Current",
	},
	"aborted": {
		func(p *Pass) { atRest(p); ended(p, rollout.Aborted) },
		[]string{"Ready=False:Aborted", "Available=True:Serving", "AnalysisPassing=Unknown:AtRest", "Stalled=True:Aborted"}, "Failed",
	},
	"promoted": {
		func(p *Pass) { atRest(p); ended(p, rollout.Promoted); p.State.Marks = nil },
		[]string{"Ready=True:Stable", "Available=True:Serving", "AnalysisPassing=Unknown:AtRest"}, "Current",
	},
	"nobody answers": {
		func(p *Pass) { atRest(p); p.Seen.Workloads.Items[0].Ready = 0 },
		[]string{"Ready=True:Stable", "Available=False:NoReplicaReady", "AnalysisPassing=Unknown:AtRest"}, "Current",
	},
	"nobody knows who answers": {
		func(p *Pass) { atRest(p); p.Seen.Workloads.Items[0].ReadyKnown = false },
		[]string{"Ready=True:Stable", "Available=Unknown:ReadinessUnknown", "AnalysisPassing=Unknown:AtRest"}, "Current",
	},
	"not judged": {
		func(p *Pass) { p.Spec.Analysis.None = true },
		[]string{"Ready=False:Progressing", "Available=True:Serving", "AnalysisPassing=Unknown:NotAsked", "Reconciling=True:Progressing"}, "InProgress",
	},
}

func atRest(p *Pass) {
	p.State.Phase, p.State.Canary, p.State.Granted = rollout.Idle, rollout.Object{}, 0
	p.Seen.Route.Weights = map[rollout.Revision]rollout.Weight{"v1@1111": rollout.Whole}
	p.Decision.Status = rollout.Status{}
}

func ended(p *Pass, r rollout.Result) {
	p.State.History = []rollout.Outcome{{Revision: "v2@2222", From: "v1@1111", Result: r, Why: "more errors"}}
	p.State.Marks = []rollout.Mark{{Revision: "v2@2222", Kind: rollout.Condemned}}
}

func TestConditions(t *testing.T) {
	for name, c := range states {
		t.Run(name, func(t *testing.T) {
			p := pass()
			c.change(&p)
			st := Readable(p, v1alpha1.RolloutStatus{})
			var got []string
			for _, c := range st.Conditions {
				got = append(got, c.Type+"="+string(c.Status)+":"+c.Reason)
				if c.ObservedGeneration != 3 || !c.LastTransitionTime.Time.Equal(p.Time) {
					t.Errorf("%+v", c)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if got := tools(st, 3); got != c.tools {
				t.Errorf("tools see %s, want %s", got, c.tools)
			}
			if got := tools(st, 4); got != "InProgress" {
				t.Errorf("of an edited document tools see %s", got)
			}
			if strings.TrimSpace(st.Message) == "" {
				t.Error("no message")
			}
		})
	}
}

// A condition keeps its time until its status is another one.
func TestTransitions(t *testing.T) {
	p := pass()
	first := Readable(p, v1alpha1.RolloutStatus{})
	p.Time = p.Time.Add(time.Hour)
	p.Seen.Report.Verdict = analysis.Pass
	p.Decision.Status.Message = "another"
	second := Readable(p, first)
	for _, c := range second.Conditions {
		want := first.Conditions[0].LastTransitionTime.Time
		if c.Type == v1alpha1.ConditionAnalysisPassing {
			want = p.Time
		}
		if !c.LastTransitionTime.Time.Equal(want) {
			t.Errorf("%s: %s", c.Type, c.LastTransitionTime)
		}
	}
}

// Numbers that run are no news; everything else is.
func TestAlike(t *testing.T) {
	base := Readable(pass(), v1alpha1.RolloutStatus{})
	for name, c := range map[string]struct {
		change func(*Pass)
		alike  bool
	}{
		"nothing":             {func(*Pass) {}, true},
		"a number in words":   {func(p *Pass) { p.Decision.Status.Message = "v2 has 25 %; 0.97 of the evidence." }, true},
		"the seen share":      {func(p *Pass) { p.Seen.Route.Requests["v2@2222"] = 9999 }, true},
		"the evidence":        {func(p *Pass) { p.Seen.Report.Advance = 0.9 }, true},
		"words":               {func(p *Pass) { p.Decision.Status.Message = "v2 waits." }, false},
		"the weight":          {func(p *Pass) { p.State.Granted = 5000 }, false},
		"readiness":           {func(p *Pass) { p.Seen.Workloads.Items[1].Ready = 0 }, false},
		"why it is not ready": {func(p *Pass) { p.Seen.Workloads.Items[1].Why = "ImagePullBackOff" }, false},
		"the verdict":         {func(p *Pass) { p.Seen.Report.Verdict = analysis.Unavailable }, false},
		"a pause":             {func(p *Pass) { p.State.Pauses = []rollout.Pause{{Kind: rollout.PausePerson, By: "alice"}} }, false},
		"the document":        {func(p *Pass) { p.Generation++ }, false},
		"a finding":           {func(p *Pass) { p.Seen.Findings = []rollout.Finding{{Level: rollout.Warn, What: "x"}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := pass()
			c.change(&p)
			if got := alike(Readable(p, base), base); got != c.alike {
				t.Errorf("alike: %v", got)
			}
		})
	}
}

func TestReadableChangesNothing(t *testing.T) {
	p := pass()
	before, _ := json.Marshal(p)
	last := Readable(p, v1alpha1.RolloutStatus{})
	was := *last.DeepCopy()
	Readable(p, last)
	if after, _ := json.Marshal(p); string(before) != string(after) {
		t.Error("the pass was changed")
	}
	if diff := cmp.Diff(was, last); diff != "" {
		t.Errorf("the status before was changed: %s", diff)
	}
}
