package tui

import (
	"math"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

const (
	v1 rollout.Revision = "v1.42.0@6f1c2a9b"
	v2 rollout.Revision = "v1.43.0@9f3c1d2e"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }

var plan = []rollout.Step{
	{Kind: rollout.StepWeight, Weight: 500, Hold: 5 * time.Minute},
	{Kind: rollout.StepWeight, Weight: 2500, Hold: 5 * time.Minute},
	{Kind: rollout.StepApproval, By: []string{"alice", "bob"}},
	{Kind: rollout.StepWeight, Weight: 5000},
	{Kind: rollout.StepWeight, Weight: rollout.Whole, Hold: 10 * time.Minute},
}

// situation is a pass, and what the screen was told besides.
type situation struct {
	pass httpapi.Pass
	set  func(*Model)
	past int // looks before this one, for the trails
}

func (s situation) model() Model {
	m := Model{Now: s.pass.Time.Add(200 * time.Millisecond)}
	v := httpapi.BuildView(s.pass)
	for i := s.past; i >= 0; i-- {
		old := v
		old.Time = v.Time.Add(-time.Duration(i) * time.Second)
		old.Figures = nil
		for _, f := range v.Figures { // a trail that ends where the figure is
			wave := 1 + 0.4*math.Sin(float64(i)/3)*math.Min(1, float64(i)/10)
			f.Canary, f.Stable = f.Canary*wave, f.Stable*(2-wave)
			if i > 12 && i < 16 {
				f.State = "noData"
			}
			old.Figures = append(old.Figures, f)
		}
		m.Trail.Add(old)
	}
	m.View = &v
	if s.set != nil {
		s.set(&m)
	}
	return m
}

func figures(canaryErrors, slow float64, state string) []analysis.Figure {
	return []analysis.Figure{
		{Metric: "errorRate", Unit: "share", Canary: canaryErrors, CanaryN: 12480, Stable: 0.0029, StableN: 112300, Low: canaryErrors - 0.0029 - 0.0015, High: canaryErrors - 0.0029 + 0.0019, Limit: 0.01, Window: 5 * time.Minute, State: state},
		{Metric: "latency", Unit: "ms", Canary: 184.2 * slow, CanaryN: 12480, Stable: 181.1, StableN: 112300, Low: -4, High: 11, Limit: 500, State: "ok"},
		{Metric: "cpu", Unit: "cores", Canary: 0.213, Stable: 0.207, State: "ok"},
		{Metric: "memory", Unit: "bytes", Canary: 81 << 20, Stable: 79 << 20, State: "ok"},
	}
}

func base() httpapi.Pass {
	st := rollout.State{
		Phase: rollout.Progressing, N: 4, Stable: rollout.Object{Revision: v1, Name: "checkout-v1-42"}, Canary: rollout.Object{Revision: v2, Name: "checkout-v1-43"},
		Plan: plan, Step: 1, Entered: true, Granted: 2500, Asked: at(10), LiveAt: at(310), Started: at(1), Exposed: 12480, Harmed: 3.4,
		Decisions: []rollout.Event{
			{N: 1, At: at(0), By: "rule", What: rollout.EvAdopted, To: "v1.42.0", Why: "v1.42.0 is the stable version: the route sends everything to it."},
			{N: 2, At: at(1), By: "git", What: rollout.EvRolloutStarted, To: "v1.43.0", Why: "v1.43.0 is new: a rollout from v1.42.0 starts.", Rev: v2},
			{N: 3, At: at(10), By: "rule", What: rollout.EvStepStarted, From: "0 %", To: "5 %", Why: "1 of 1 needed replicas are ready.", Rev: v2},
			{N: 4, At: at(310), By: "rule", What: rollout.EvStepStarted, From: "5 %", To: "25 %", Why: "held for 5m0s, evidence complete: errors 0.30 % against 0.29 %.", Rev: v2},
		},
	}
	p := httpapi.Pass{Ref: httpapi.Ref{Namespace: "prod", Name: "checkout"}, Spec: rollout.Spec{Steps: plan}, State: st, Time: at(400)}
	p.Seen.Workloads = rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{
		{Revision: v1, Name: "checkout-v1-42", Replicas: 9, Ready: 9, ReadyKnown: true},
		{Revision: v2, Name: "checkout-v1-43", Replicas: 3, Ready: 3, ReadyKnown: true},
	}}
	p.Seen.Route = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: 7500, v2: 2500}, Measured: true, Requests: map[rollout.Revision]float64{v1: 7518, v2: 2482}}
	p.Seen.Report = analysis.Report{Verdict: analysis.Undecided, Advance: 0.71, Rollback: 0.04, Figures: figures(0.0031, 1.02, "ok"),
		Sentence: "Errors 0.31 % (39 of 12,480) against 0.29 % (326 of 112,300) on stable, limit 1 %: within it, with 71 % of the evidence that takes."}
	p.Decision.Status = rollout.Status{Message: "Step 2 of 5: 25 % to v1.43.0, held for 3m30s more.", Waiting: rollout.WaitHold, Until: at(610)}
	return p
}

func with(change func(*httpapi.Pass)) httpapi.Pass {
	p := base()
	change(&p)
	return p
}

func atRest(p *httpapi.Pass, outcomes ...rollout.Outcome) {
	p.State.Phase, p.State.Canary, p.State.Plan, p.State.Granted = rollout.Idle, rollout.Object{}, nil, 0
	p.State.History = outcomes
	p.Seen.Report = analysis.Report{}
	p.Seen.Route = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole}}
	p.Decision.Status = rollout.Status{}
}

// situations are one of every kind that people meet.
func situations() map[string]situation {
	return map[string]situation{
		"good": {pass: base(), past: 30},
		"bad": {pass: with(func(p *httpapi.Pass) {
			p.State.Phase, p.State.Granted, p.State.Harmed, p.State.N = rollout.RollingBack, 0, 359.6, 5
			p.Seen.Report = analysis.Report{Verdict: analysis.Fail, Advance: 0, Rollback: 1, Figures: figures(0.0317, 1.6, "firing"),
				Sentence: "Errors 3.17 % (396 of 12,480) against 0.29 % (326 of 112,300) on stable, limit 1 % broken for 41s by the canary alone."}
			p.State.Decisions = append(p.State.Decisions, rollout.Event{N: 5, At: at(398), By: "rule", What: rollout.EvRolledBack, From: "25 %", To: "0 %", Why: "Errors 3.17 % (396 of 12,480), 0.29 % on stable, limit 1 %.", Rev: v2})
			p.Decision.Status = rollout.Status{Message: "v1.43.0 is taken back: everything goes to v1.42.0 again, not yet seen in force.", Waiting: rollout.WaitTraffic}
		}), past: 30},
		"taken-back": {pass: with(func(p *httpapi.Pass) {
			atRest(p, rollout.Outcome{Revision: v1, From: "v1.41.0@1", Result: rollout.Promoted, Why: "the bake is over.", By: "rule", Started: at(-9000), Ended: at(-7000), Exposed: 123456},
				rollout.Outcome{Revision: v2, From: v1, Result: rollout.RolledBack, Why: "errors 3.17 % against 0.29 %.", By: "rule", Started: at(1), Ended: at(399), Exposed: 12480, Harmed: 359.6})
			p.State.Marks = []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}}
		})},
		"at-rest": {pass: with(func(p *httpapi.Pass) {
			atRest(p)
			p.State.Decisions = p.State.Decisions[:1]
			p.State.Previous = rollout.Previous{Revision: "v1.41.0@1"}
		})},
		"no-data": {pass: with(func(p *httpapi.Pass) {
			f := figures(0, 0, "noData")
			for i := range f {
				f[i].State, f[i].Canary, f[i].CanaryN, f[i].Low, f[i].High = "noData", 0, 0, 0, 0
			}
			p.Seen.Route.Measured = false
			p.Seen.Report = analysis.Report{Figures: f, Sentence: "No data from v1.43.0 for 2m10s: nothing can be said, and nothing goes on."}
			p.Decision.Status = rollout.Status{Message: "No usable data from v1.43.0; paused at the deadline.", Waiting: rollout.WaitData, Until: at(2000)}
		}), past: 30},
		"approval": {pass: with(func(p *httpapi.Pass) {
			p.State.Step = 2
			p.Seen.Report.Verdict, p.Seen.Report.Advance = analysis.Pass, 1
			p.Decision.Status = rollout.Status{Message: "Waiting for alice or bob to approve step 3.", Waiting: rollout.WaitApproval, Until: at(4000)}
			p.State.Decisions = append(p.State.Decisions, rollout.Event{N: 5, At: at(390), By: "rule", What: rollout.EvApprovalRequested, Why: "v1.43.0 waits for alice or bob to approve (step 3).", Rev: v2})
		}), past: 5},
		"asking": {pass: base(), past: 30, set: func(m *Model) {
			a := Actions(*m.View)
			m.Asked, m.Typed = &a[len(a)-1], "checkout page is blank in Ｆｉｒｅｆｏｘ"
		}},
		"drift": {pass: with(func(p *httpapi.Pass) {
			p.State.Granted = 1000
			p.State.Drift = rollout.DriftState{Manager: "argocd-controller", Foreign: true, Lowered: 2, Flips: []time.Time{at(200), at(300), at(390)}, Seen: "v1.42.0 100 %"}
			p.State.Pauses = []rollout.Pause{{Kind: rollout.PauseHand, By: "argocd-controller", Why: "lowered 25 % to 10 %", At: at(395)}}
			p.State.Stalled = "argocd-controller keeps writing the route: three times in ten minutes. Serin leaves it as it is."
			p.Spec.IgnoreRule = "ignoreDifferences: [{group: networking.istio.io, kind: VirtualService, jqPathExpressions: [\".spec.http[].route[].weight\"]}]"
			p.State.Decisions = append(p.State.Decisions, rollout.Event{N: 5, At: at(395), By: "rule", What: rollout.EvDriftObeyed, From: "25 %", To: "10 %", Why: "argocd-controller lowered the weight: paused there."})
			p.Decision.Status = rollout.Status{Message: "Paused at 10 %: argocd-controller (lowered 25 % to 10 %).", Waiting: rollout.WaitPerson, Paused: "argocd-controller (lowered 25 % to 10 %)", Stalled: p.State.Stalled}
		}), past: 10},
		"baking": {pass: with(func(p *httpapi.Pass) {
			p.State.Phase, p.State.Step, p.State.Granted = rollout.Baking, 4, rollout.Whole
			p.Seen.Route = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v2: rollout.Whole}, Measured: true, Requests: map[rollout.Revision]float64{v2: 90000}}
			p.Seen.Report.Verdict, p.Seen.Report.Advance = analysis.Pass, 1
			for i := range p.Seen.Report.Figures {
				p.Seen.Report.Figures[i].StableN = 0
			}
			p.Decision.Status = rollout.Status{Message: "v1.43.0 has all the traffic and is watched for 6m40s more; v1.42.0 is kept warm.", Waiting: rollout.WaitHold, Until: at(800)}
		}), past: 40},
		"preparing": {pass: with(func(p *httpapi.Pass) {
			p.State.Phase, p.State.Step, p.State.Granted, p.State.LiveAt, p.State.Asked = rollout.Preparing, 0, 0, time.Time{}, time.Time{}
			p.State.Exposed, p.State.Harmed = 0, 0
			p.Seen.Workloads.Items[1].Ready, p.Seen.Workloads.Items[1].Why = 0, "exited with 1 after 3 ms: \x1b[31mno such file: /etc/\u202egnp.exe\x1b[0m"
			p.Seen.Route = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole}}
			p.Seen.Report = analysis.Report{Sentence: "The canary has no traffic yet."}
			p.Seen.Findings = []rollout.Finding{{Level: rollout.Warn, What: "v1.43.0 shares its ConfigMap with v1.42.0", Remedy: "give each its own"}}
			p.Decision.Status = rollout.Status{Message: "Waiting for capacity: 0 of 1 replicas of v1.43.0 are ready.", Waiting: rollout.WaitCapacity, Until: at(700)}
		})},
		"unknown": {pass: httpapi.Pass{Ref: httpapi.Ref{Name: "checkout"}, Time: at(5), Decision: rollout.Decision{Status: rollout.Status{
			Stalled: "the route sends to v1 and v2: which one is stable?", Message: "Stalled: the route sends to v1 and v2."}}}},
		"long-names": {pass: with(func(p *httpapi.Pass) {
			p.Ref = httpapi.Ref{Namespace: "a-namespace-with-a-name-that-is-really-as-long-as-it-may-be-63", Name: "a-rollout-with-a-name-that-somebody-thought-would-be-helpful-to-everybody-who-reads-it"}
			for _, name := range []string{"checkout-success-of-orders-over-a-hundred", "queue-depth", "share-of-blank-pages", "cache-hits", "logins"} {
				p.Seen.Report.Figures = append(p.Seen.Report.Figures, analysis.Figure{Metric: name, Canary: 98.7, Stable: 99.1, Limit: 98, State: "ok"})
			}
			p.Seen.Report.Figures[7].State = "worse"
			p.Decision.Status.Message = "Step 2 of 5: " + string(make([]rune, 0)) + "25 % to v1.43.0, held for 3m30s more because somebody wrote a message that goes on and on, over the end of the line and then some, until nobody reads it any more, not even those who wrote it."
		}), past: 30},
		"wide": {pass: with(func(p *httpapi.Pass) {
			p.Ref = httpapi.Ref{Namespace: "生産環境", Name: "支払い"}
			p.State.Stable.Revision, p.State.Canary.Revision = "安定版@1", "候補版🐤@2"
			p.Seen.Workloads.Items[0].Revision, p.Seen.Workloads.Items[1].Revision = "安定版@1", "候補版🐤@2"
			p.Seen.Report.Figures[0].Metric = "エラー率エラー率エラー率"
			p.Seen.Report.Sentence = "エラー率は０．３１％で、安定版の０．２９％に対して許容範囲内です。証拠は必要量の七割一分に達しています。もう少しお待ちください。"
			p.Seen.Route = rollout.Route{}
			p.Decision.Status.Message = "ステップ２：候補版🐤に２５％を割り当て、あと三分半ほど様子を見ます。👩‍👩‍👧‍👦 の皆さんにもよろしくお伝えください。"
		}), past: 30},
		"evidence": {pass: base(), past: 100, set: func(m *Model) { m.Page = Evidence }},
		"replicas": {pass: base(), set: func(m *Model) { m.Page = Replicas }},
		"help":     {pass: base(), set: func(m *Model) { m.Page = Help }},
		"logs": {pass: base(), set: func(m *Model) {
			m.Page = Logs
			for i := range 60 {
				m.Lines = append(m.Lines, clock(at(i))+"  checkout-v1-43-0  GET /cart 200 \x1b[2J in 12 ms")
			}
		}},
		"refused": {pass: base(), past: 3, set: func(m *Model) {
			m.Said, m.Bad = "approve was refused: no rollout waits for an approval.", true
			m.Now = m.View.Time.Add(95 * time.Second)
		}},
		"nothing-yet": {set: func(m *Model) { m.View = nil }, pass: base()},
	}
}
