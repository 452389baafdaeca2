package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/golden"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

const (
	v1 rollout.Revision = "v1@aaaa"
	v2 rollout.Revision = "v2@bbbb"
	v3 rollout.Revision = "v3@cccc"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }

var steps = []rollout.Step{
	{Kind: rollout.StepWeight, Weight: 500, Hold: 5 * time.Minute},
	{Kind: rollout.StepApproval, By: []string{"alice", "bob"}},
	{Kind: rollout.StepWeight, Weight: rollout.Whole, Hold: time.Minute},
}

func arms(ready1, ready2 int) rollout.Workloads {
	return rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{
		{Revision: v1, Name: "app-v1", Replicas: 3, Ready: ready1, ReadyKnown: true},
		{Revision: v2, Name: "app-v2", Replicas: 2, Ready: ready2, ReadyKnown: true},
		{Revision: v3, Name: "app-v3", Replicas: 1, Ready: 0, ReadyKnown: true, Why: "exited with 1 after 3 ms: \x1b[31mno such file\x1b[0m"},
	}}
}

var figures = []analysis.Figure{
	{Metric: "errorRate", Unit: "share", Canary: 38. / 1204, CanaryN: 1204, Stable: 31. / 10911, StableN: 10911, Low: 0.02, High: 0.04, Limit: 0.01, Window: 41 * time.Second, State: "firing"},
	{Metric: "latency", Unit: "ms", Canary: 12.4, CanaryN: 1204, Stable: 11.9, StableN: 10911, State: "ok"},
	{Metric: "memory", Unit: "bytes", Canary: 81 << 20, Stable: 79 << 20, State: "ok"},
	{Metric: "checkout", Canary: 98.7, Stable: 99.1, Limit: 98, State: "ok"},
}

func view(st rollout.State, obs rollout.Observation, s rollout.Status) httpapi.RolloutView {
	return httpapi.BuildView(httpapi.Pass{
		Ref: httpapi.Ref{Name: "checkout"}, Spec: rollout.Spec{Steps: steps}, State: st, Seen: obs,
		Decision: rollout.Decision{Status: s}, Time: at(100),
	})
}

func split(canary rollout.Revision, w rollout.Weight) rollout.Route {
	return rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole - w, canary: w}}
}

// views are one of every kind that people meet.
func views() map[string]httpapi.RolloutView {
	progressing := rollout.State{
		Phase: rollout.Progressing, N: 3, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, Canary: rollout.Object{Revision: v2, Name: "app-v2"},
		Plan: steps, Entered: true, Granted: 500, Asked: at(10), LiveAt: at(10), Started: at(1), Exposed: 60, Harmed: 0.4,
		Decisions: []rollout.Event{
			{N: 1, At: at(0), By: "rule", What: rollout.EvAdopted, To: "v1", Why: "v1 is the stable version: the route sends everything to it."},
			{N: 2, At: at(1), By: "git", What: rollout.EvRolloutStarted, To: "v2", Why: "v2 is new: a rollout from v1 starts.", Rev: v2},
			{N: 3, At: at(10), By: "rule", What: rollout.EvStepStarted, From: "0 %", To: "5 %", Why: "1 of 1 needed replicas are ready.", Rev: v2},
		},
	}
	approval := progressing
	approval.Step, approval.N = 1, 4
	approval.Decisions = append(approval.Decisions[:3:3], rollout.Event{N: 4, At: at(90), By: "rule", What: rollout.EvApprovalRequested, Why: "v2 waits for alice or bob to approve (step 2).", Rev: v2})
	paused := progressing
	paused.Pauses = []rollout.Pause{{Kind: rollout.PausePerson, By: "alice", Why: "lunch", At: at(50)}}
	back := rollout.State{
		Phase: rollout.Idle, N: 6, Stable: rollout.Object{Revision: v1, Name: "app-v1"},
		Marks:   []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}},
		Stalled: "v2 is condemned: errors 3.16 % against 0.28 %.",
		History: []rollout.Outcome{
			{Revision: v1, From: v3, Result: rollout.Promoted, Why: "the bake is over.", By: "rule", Started: at(-9000), Ended: at(-8000), Exposed: 12345.4},
			{Revision: v2, From: v1, Result: rollout.RolledBack, Why: "errors 3.16 % against 0.28 %.", By: "rule", Started: at(1), Ended: at(54), Exposed: 1204, Harmed: 34.6},
		},
		Decisions: append(progressing.Decisions[:3:3],
			rollout.Event{N: 4, At: at(51), By: "rule", What: rollout.EvRolledBack, From: "5 %", To: "0 %", Why: "Errors 3.16 % (38 of 1,204), 0.28 % (31 of 10,911) on stable, limit 1 %.", Rev: v2, Figures: figures},
			rollout.Event{N: 5, At: at(54), By: "rule", What: rollout.EvTrafficBack, From: "5 %", To: "0 %", Why: "everything goes to v1 again, seen after 3s.", Rev: v2},
			rollout.Event{N: 6, At: at(55), By: "rule", What: rollout.EvRetired, From: "v2", Why: "v2 has no traffic any more and was retired (ScaleToZero)."},
		),
	}
	promoted := back
	promoted.Stalled, promoted.Marks, promoted.Previous = "", nil, rollout.Previous{Revision: v3}
	promoted.History = back.History[:1]
	promoted.Decisions, promoted.N = progressing.Decisions[:1], 1
	never := progressing
	never.Phase, never.Canary, never.Granted, never.Asked, never.LiveAt = rollout.Preparing, rollout.Object{Revision: v3, Name: "app-v3"}, 0, time.Time{}, time.Time{}
	never.Exposed, never.Harmed = 0, 0
	look := analysis.Report{Verdict: analysis.Undecided, Sentence: "Errors 0 % (0 of 60) against 0.1 % (1 of 1,140) on stable; 43 % of the evidence that takes.", Advance: 0.43, Rollback: 0.02, Figures: figures[:2]}
	route := split(v2, 500)
	route.Measured, route.Requests = true, map[rollout.Revision]float64{v1: 1140, v2: 60}
	denied := httpapi.Pass{
		Ref: httpapi.Ref{Name: "checkout"}, Spec: rollout.Spec{Steps: steps}, State: progressing, Time: at(100), Seen: rollout.Observation{Workloads: arms(3, 2), Route: split(v2, 500)},
		Decision: rollout.Decision{Status: rollout.Status{Message: "Step 2 of 3: 25 % to v2; waiting until that is seen in force."}},
		Trouble:  httpapi.Trouble{What: "applying the split: writing VirtualService my-app-vs: not permitted", Since: at(40), Passes: 9, Person: true},
	}
	return map[string]httpapi.RolloutView{
		"trouble": httpapi.BuildView(denied),
		"damaged": httpapi.UnreadableView(httpapi.Ref{Name: "checkout"}, rollout.Spec{Steps: steps}, "Nothing of it runs and its users are not answered: the state file checkout.state is torn: it holds 203 of 9961 bytes. The copy before it is whole: `mv checkout.state.prev checkout.state` goes on from there.", at(100)),
		"progressing": view(progressing, rollout.Observation{Workloads: arms(3, 2), Route: route, Report: look},
			rollout.Status{Message: "Step 1 of 3: 5 % to v2, held for 3m30s more.", Waiting: rollout.WaitHold, Until: at(310)}),
		"approval": view(approval, rollout.Observation{Workloads: arms(3, 2), Route: split(v2, 500)},
			rollout.Status{Message: "Waiting for alice or bob to approve step 2.", Waiting: rollout.WaitApproval}),
		"paused": view(paused, rollout.Observation{Workloads: arms(3, 2), Route: split(v2, 500)},
			rollout.Status{Message: "Paused at 5 %: alice: lunch.", Waiting: rollout.WaitPerson, Paused: "alice: lunch"}),
		"pausedAtRest": view(promoted, rollout.Observation{Workloads: arms(3, 0), Route: split(v2, 0)}, rollout.Status{Paused: "alice (lunch)"}),
		"rolledback":   view(back, rollout.Observation{Workloads: arms(3, 0), Route: split(v2, 0)}, rollout.Status{}),
		"promoted":     view(promoted, rollout.Observation{Workloads: arms(3, 0), Route: split(v2, 0)}, rollout.Status{}),
		"neverready": view(never, rollout.Observation{
			Workloads: arms(3, 2), Route: split(v3, 0),
			Findings: []rollout.Finding{{Level: rollout.Warn, What: "v3 shares its ConfigMap with v1.", Remedy: "give each its own"}},
		}, rollout.Status{Message: "Waiting for capacity: 0 of 1 replicas of v3 are ready.", Waiting: rollout.WaitCapacity, Until: at(700)}),
		"unknown": view(rollout.State{}, rollout.Observation{}, rollout.Status{Stalled: "the route sends to v1 and v2: which is stable?", Message: "Stalled: the route sends to v1 and v2."}),
	}
}

func TestStatus(t *testing.T) {
	for name, v := range views() {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			printStatus(&b, v, "serin")
			golden.Same(t, "testdata/status-"+name+".golden", b.String())
		})
	}
}

func TestWhy(t *testing.T) {
	for name, v := range views() {
		t.Run(name, func(t *testing.T) {
			e, err := decisionFor(v, 0)
			if want := map[string]string{"unknown": "nothing has been decided", "damaged": "cannot be read. Nothing of it runs"}[name]; want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			printWhy(&b, v, e, "serin")
			golden.Same(t, "testdata/why-"+name+".golden", b.String())
		})
	}
}

func TestListAndHistory(t *testing.T) {
	vs := views()
	var b bytes.Buffer
	all := []httpapi.RolloutView{vs["promoted"], vs["progressing"], vs["approval"], vs["rolledback"], vs["unknown"]}
	elsewhere := vs["paused"]
	elsewhere.Namespace = "staging"
	for _, o := range []struct {
		views []httpapi.RolloutView
		listOptions
	}{{all, listOptions{now: at(100)}}, {append(all[:1:1], elsewhere), listOptions{now: at(100)}}, {append(all[:2:2], elsewhere), listOptions{namespace: true, wide: true, now: at(100)}}} {
		if err := table(&b, listRows(o.views, o.listOptions)); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
	}
	if err := printHistory(&b, vs["rolledback"]); err != nil {
		t.Fatal(err)
	}
	if err := printHistory(&b, vs["progressing"]); err != nil {
		t.Fatal(err)
	}
	golden.Same(t, "testdata/list-history.golden", b.String())
}

// Who follows sees each decision once, and a message only when what it is about
// has changed.
func TestFollower(t *testing.T) {
	vs := views()
	var b bytes.Buffer
	f := &follower{w: &b}
	again := vs["progressing"]
	again.Message = "Step 1 of 3: 5 % to v2, held for 3m29s more."
	for _, v := range []httpapi.RolloutView{vs["progressing"], again, vs["approval"], vs["approval"], vs["rolledback"]} {
		if err := f.see(v); err != nil {
			t.Fatal(err)
		}
	}
	golden.Same(t, "testdata/watch.golden", b.String())
}

func TestExpected(t *testing.T) {
	vs := views()
	superseded := vs["progressing"]
	superseded.History = []rollout.Outcome{{Revision: v3, Result: rollout.Superseded, Why: "v2 is newer."}}
	vs["superseded"] = superseded
	rest := func(outcomes ...rollout.Outcome) httpapi.RolloutView {
		v := vs["promoted"]
		v.History = outcomes
		return v
	}
	v2back := rollout.Outcome{Revision: v2, From: v1, Result: rollout.RolledBack, Why: "it failed.", Ended: at(-5000)}
	vs["longAgo"] = rest(v2back)
	vs["since"] = rest(v2back, rollout.Outcome{Revision: v1, From: v3, Result: rollout.Promoted, Ended: at(-4000)})
	vs["withdrawn"] = rest(rollout.Outcome{Revision: v2, From: v1, Result: rollout.Withdrawn, Why: "its Deployment is gone."})
	vs["undone"] = rest(v2back, rollout.Outcome{Revision: v1, From: v2, Result: rollout.Undone, Why: "alice goes back."})
	vs["abandoned"] = rest(v2back, rollout.Outcome{Revision: v3, From: v1, Result: rollout.Abandoned, Why: "v3 never got ready."})
	again := v2
	again += "-new"
	for name, c := range map[string]struct {
		view string
		expected
		over bool
		code int
	}{
		"UnderWay":                       {"progressing", expected{}, false, 0},
		"Promoted":                       {"promoted", expected{}, true, 0},
		"RolledBack":                     {"rolledback", expected{}, true, 2},
		"Approval":                       {"approval", expected{}, true, 4},
		"ThroughApproval":                {"approval", expected{through: true}, false, 0},
		"NotAdopted":                     {"unknown", expected{}, true, 1},
		"WellAfterAWithdrawal":           {"withdrawn", expected{}, true, 0},
		"FollowedToAWithdrawal":          {"withdrawn", expected{begun: true}, true, 2},
		"ThisVersionIsUnderWay":          {"progressing", expected{want: "v2"}, false, 0},
		"ThisRevisionIsUnderWay":         {"progressing", expected{want: v2}, false, 0},
		"ThisVersionIsStable":            {"promoted", expected{want: "v1"}, true, 0},
		"ThisVersionWasTakenBack":        {"rolledback", expected{want: "v2"}, true, 2},
		"ThisVersionHasNotBegun":         {"promoted", expected{want: "v9"}, false, 0},
		"AnotherRevisionOfThisLabel":     {"promoted", expected{want: "v1@other"}, false, 0},
		"ThisVersionWaitsForApproval":    {"approval", expected{want: "v2"}, true, 4},
		"AnotherVersionWaitsForApproval": {"approval", expected{want: "v9"}, false, 0},
		"ThisVersionWasReplaced":         {"superseded", expected{want: "v3"}, true, 1},
		"ThisVersionWasWithdrawn":        {"withdrawn", expected{want: "v2"}, true, 2},
		"ThisVersionWasUndone":           {"undone", expected{want: "v2"}, true, 2},
		"ThisVersionIsWhatUndoWentTo":    {"undone", expected{want: "v1"}, true, 0},
		"ThisVersionWasNotGoneBackTo":    {"abandoned", expected{want: "v3"}, true, 2},
		"AnAbandonedUndoHidesNothing":    {"abandoned", expected{want: "v2"}, true, 2},
		"TheNewestOfThisLabel":           {"longAgo", expected{want: "v2"}, true, 2},
		"AnOlderOneOfThisLabel":          {"since", expected{want: "v2"}, false, 0},
		"AnOlderOneSaidInFull":           {"since", expected{want: v2}, true, 2},
		"AnotherRevisionSaidInFull":      {"longAgo", expected{want: again}, false, 0},
		"EndedTooLongAgo":                {"longAgo", expected{want: "v2", after: at(-100)}, false, 0},
		"EndedSince":                     {"longAgo", expected{want: "v2", after: at(-9000)}, true, 2},
		"StableForTooLong":               {"promoted", expected{want: "v1", after: at(-100)}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := c.expected.see
			if got := e(vs[c.view]); got.over != c.over || got.code != c.code {
				t.Errorf("over %v with code %d, want %v with %d (%s)", got.over, got.code, c.over, c.code, got.text)
			} else if got.over && got.text == "" {
				t.Error("it ends without a word")
			}
		})
	}
}

// A bare label is the revision that was seen under way with it: what ended
// before under the same label is another one's.
func TestExpectedKeepsToWhatItSaw(t *testing.T) {
	vs := views()
	e := expected{want: "v2"}
	if end := e.see(vs["progressing"]); end.over || e.want != v2 {
		t.Fatalf("%+v, waiting for %s", end, e.want)
	}
	other := vs["promoted"]
	other.History = []rollout.Outcome{{Revision: v2 + "-old", Result: rollout.RolledBack}}
	if end := e.see(other); end.over {
		t.Errorf("taken for its own: %+v", end)
	}
	other.History = append(other.History, rollout.Outcome{Revision: v2, Result: rollout.Promoted}, rollout.Outcome{Revision: v3, Result: rollout.RolledBack})
	if end := e.see(other); !end.over || end.code != 0 {
		t.Errorf("its own outcome, though not the newest: %+v", end)
	}
}

func TestLastOutcome(t *testing.T) {
	vs := views()
	golden.Same(t, "testdata/watch-after.golden", lastOutcome(vs["rolledback"])+"\n"+lastOutcome(vs["progressing"])+"\n")
}

// Text from elsewhere cannot move the cursor, colour the screen or break lines.
func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\tc":               "a b c",
		"\x1b[2Jgone":           " [2Jgone",
		"bell\x07 \u009b31mred": "bell   31mred",
		"größer 5 µs ✔":         "größer 5 µs ✔",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.6: "1,234,568", -1200: "-1,200", 0.4: "0"} {
		if got := count(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	env := map[string]string{"HOME": "/home/a", "XDG_STATE_HOME": "relative/is/ignored"}
	a := &app{Program: Program{Env: func(k string) string { return env[k] }}}
	one, two := a.stateDir("/srv/shop"), a.stateDir("/srv/other/shop")
	if !strings.HasPrefix(one, "/home/a/.local/state/serin/shop-") || one == two {
		t.Errorf("%s and %s: want two states under the home folder", one, two)
	}
	if s := a.socketPath("/srv/shop", one); !strings.HasPrefix(s, "/home/a/.local/state/serin/run/shop-") || s == a.socketPath("/srv/shop", two) {
		t.Errorf("socket %s", s)
	}
	env["XDG_RUNTIME_DIR"], env["XDG_STATE_HOME"] = "/run/user/1", "/s"
	if s := a.socketPath("/srv/shop", one); !strings.HasPrefix(s, "/run/user/1/serin/") {
		t.Errorf("socket %s", s)
	}
	if s := a.stateDir("/srv/shop"); !strings.HasPrefix(s, "/s/serin/") {
		t.Errorf("state %s", s)
	}
	clear(env) // as under a timer or a service manager
	if s, d := a.socketPath("/srv/shop", "x"), a.stateDir("/srv/shop"); !filepath.IsAbs(s) || !filepath.IsAbs(d) {
		t.Errorf("without HOME: socket %s, state %s: they would be others for a verb in another folder", s, d)
	}
	long := strings.Repeat("a-very-long-folder-name", 10)
	if s := a.socketPath("/srv/"+long, "x"); len(s) > 60 {
		t.Errorf("%d bytes: a socket's path has to be short", len(s))
	}
}
