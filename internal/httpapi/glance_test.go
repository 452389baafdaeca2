package httpapi

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// somePass draws what a pass may have seen, foreign versions included.
func somePass(t *rapid.T) Pass {
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	st := progressing(rapid.IntRange(0, 2).Draw(t, "step"))
	switch rapid.IntRange(0, 3).Draw(t, "state") {
	case 0:
		st = atRest(rollout.RolledBack, maybe("condemned"))
	case 1:
		st = rollout.State{}
	}
	p := Pass{Ref: Ref{Namespace: "prod", Name: "shop"}, Spec: rollout.Spec{Steps: steps}, State: st, Time: t0.Add(time.Minute)}
	p.Decision.Status = rollout.Status{Message: "Step 1 of 3.", Waiting: rollout.WaitHold}
	if maybe("until") {
		p.Decision.Status.Until = t0.Add(time.Hour)
	}
	if maybe("stalled") {
		p.Decision.Status.Stalled = "a person is needed"
	}
	if maybe("workloads") {
		p.Seen.Workloads = workloads(rapid.IntRange(0, 3).Draw(t, "ready1"), rapid.IntRange(0, 2).Draw(t, "ready2"))
		p.Seen.Workloads.Items = append(p.Seen.Workloads.Items, rollout.Workload{Revision: "v0@00", Name: "app-v0", Replicas: 1})
	}
	p.Seen.Route.Known = rollout.Known(rapid.IntRange(0, 2).Draw(t, "known"))
	if maybe("weights") {
		p.Seen.Route.Weights = map[rollout.Revision]rollout.Weight{"v0@00": 1000}
		for _, r := range []rollout.Revision{v1, v2} {
			if maybe("weight " + string(r)) {
				p.Seen.Route.Weights[r] = rollout.Weight(rapid.IntRange(0, 9000).Draw(t, "w"))
			}
		}
	}
	if p.Seen.Route.Measured = maybe("measured"); p.Seen.Route.Measured {
		p.Seen.Route.Requests = map[rollout.Revision]float64{v1: rapid.Float64Range(0, 1e6).Draw(t, "n1"), v2: rapid.Float64Range(0, 1e6).Draw(t, "n2"), "v0@00": 3}
	}
	if maybe("note") {
		p.Seen.Route.Note = &rollout.Note{N: 3, Stable: v1}
	}
	p.Seen.Report = analysis.Report{
		Verdict: analysis.Verdict(rapid.IntRange(0, 3).Draw(t, "verdict")), Sentence: "Errors 1 % against 0 %.", Advance: 0.4,
		Figures: []analysis.Figure{{Metric: "errorRate", Unit: "share", Canary: 0.01, CanaryN: 100, StableN: 900, Window: time.Minute, State: "ok"}},
	}
	if maybe("finding") {
		p.Seen.Findings = []rollout.Finding{{Level: rollout.Warn, What: "one ConfigMap for both", Remedy: "two"}}
	}
	return p
}

// What is kept beside a state shows the same as the pass did, through JSON.
func TestGlanceShowsWhatThePassShowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := somePass(t)
		b, err := json.Marshal(GlanceOf(p))
		if err != nil {
			t.Fatal(err)
		}
		var g Glance
		if err := json.Unmarshal(b, &g); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(BuildView(p), BuildView(g.Pass(p.Ref, p.Spec, p.State))); d != "" {
			t.Fatalf("(-pass +glance):\n%s", d)
		}
	})
}

// Everything at its bound, a glance leaves an object's status most of its room.
func TestGlanceIsBounded(t *testing.T) {
	long := strings.Repeat("größe ", 10_000)
	p := Pass{State: progressing(0), Time: t0}
	p.Decision.Status = rollout.Status{Message: long, Stalled: long, Paused: long}
	p.Seen.Report.Sentence = long
	for range 100 {
		p.Seen.Findings = append(p.Seen.Findings, rollout.Finding{Level: rollout.Warn, What: long, Remedy: long})
		p.Seen.Workloads.Items = append(p.Seen.Workloads.Items, rollout.Workload{Revision: rollout.NewRevision("v9", "x"), Why: long})
	}
	p.Seen.Workloads.Items = append(p.Seen.Workloads.Items, rollout.Workload{Revision: v2, Why: long})
	for range 14 {
		p.Seen.Report.Figures = append(p.Seen.Report.Figures, analysis.Figure{Metric: strings.Repeat("m", 63), Unit: "share", Canary: 1. / 3, Stable: 1. / 3, State: "firing"})
	}
	g := GlanceOf(p)
	b, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 48<<10 {
		t.Errorf("%d bytes, want at most 48 KiB", len(b))
	}
	if len(g.Workloads) != 1 || len(g.Findings) != maxFindings {
		t.Errorf("%d workloads and %d findings", len(g.Workloads), len(g.Findings))
	}
	if !utf8.ValidString(g.Status.Message) || len(g.Status.Message) > maxSaid || !strings.HasSuffix(g.Status.Message, "…") {
		t.Errorf("a sentence of %d bytes was cut wrongly", len(g.Status.Message))
	}
}

func TestExitOf(t *testing.T) {
	for r, want := range map[rollout.Result]int{
		rollout.Promoted: 0, rollout.Reverted: 0, rollout.Undone: 0,
		rollout.RolledBack: 2, rollout.Aborted: 2, rollout.Withdrawn: 2, rollout.Abandoned: 2,
		rollout.Superseded: 1,
	} {
		if got := ExitOf(r); got != want {
			t.Errorf("%s: %d, want %d", r, got, want)
		}
	}
	well := BuildView(Pass{State: atRest(rollout.Withdrawn, false)})
	if well.Exit != ExitPromoted || ExitAtEnd(well) != ExitRolledBack {
		t.Errorf("after a withdrawn canary things stand well (%d), and whoever followed it is told that it went back (%d)", well.Exit, ExitAtEnd(well))
	}
	undone := rollout.State{
		Phase: rollout.Idle, Stable: rollout.Object{Revision: v1}, Marks: []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}},
		History: []rollout.Outcome{{Revision: v1, From: v2, Result: rollout.Undone}},
	}
	if v := BuildView(Pass{State: undone}); ExitAtEnd(v) != ExitRolledBack {
		t.Errorf("an undo ends with what was asked for condemned: %d", ExitAtEnd(v))
	}
}
