package remote

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
	"github.com/serin-dev/serin/internal/store/status"
)

const (
	v1 rollout.Revision = "v1@aa"
	v2 rollout.Revision = "v2@bb"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 123, time.UTC)

const document = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app, namespace: shop}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic:
  - istio: {virtualService: my-app-vs, destinationRule: my-app-dest}
  strategy: {canary: {steps: [{weight: 5%, hold: 5m}, {approval: {by: [alice]}}, {weight: 100%}]}}
`

func parse(t testing.TB) *v1alpha1.Rollout {
	t.Helper()
	docs, problems := v1alpha1.Parse([]byte(document))
	if problems != nil || len(docs) != 1 {
		t.Fatal(problems)
	}
	return docs[0].Rollout
}

// written is the object as the controller's store leaves it after a pass.
func written(t testing.TB, p httpapi.Pass) *v1alpha1.Rollout {
	t.Helper()
	doc := parse(t)
	doc.Status = status.Readable(status.Pass{Spec: p.Spec, State: p.State, Seen: p.Seen, Decision: p.Decision, Time: p.Time}, v1alpha1.RolloutStatus{})
	p.State.LastPass = p.Time
	raw, err := json.Marshal(p.State)
	if err != nil {
		t.Fatal(err)
	}
	doc.Status.State, doc.Status.Copy = &runtime.RawExtension{Raw: raw}, "1-abc"
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var out v1alpha1.Rollout
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func progressing(spec rollout.Spec) rollout.State {
	return rollout.State{
		Schema: rollout.SchemaVersion, Phase: rollout.Progressing, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, Canary: rollout.Object{Revision: v2, Name: "app-v2"},
		Plan: spec.Steps, Entered: true, Granted: 500, N: 4, Started: noon, Asked: noon, LiveAt: noon, Exposed: 61, Harmed: 1.5,
		Decisions: []rollout.Event{{N: 4, At: noon, By: "rule", What: rollout.EvStepStarted, From: "0 %", To: "5 %", Why: "ready.", Rev: v2}},
	}
}

func somePass(t *rapid.T, spec rollout.Spec) httpapi.Pass {
	maybe := func(name string) bool { return rapid.Bool().Draw(t, name) }
	st := progressing(spec)
	switch rapid.IntRange(0, 3).Draw(t, "state") {
	case 0:
		st = rollout.State{Schema: rollout.SchemaVersion, Phase: rollout.Idle, Stable: rollout.Object{Revision: v1, Name: "app-v1"}, N: 9,
			History: []rollout.Outcome{{Revision: v2, From: v1, Result: rollout.RolledBack, Why: "5 of 50 failed.", By: "rule", Started: noon, Ended: noon.Add(time.Minute), Exposed: 50, Harmed: 4.75}}}
		if maybe("condemned") {
			st.Marks = []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}}
		}
	case 1:
		st.Pauses = []rollout.Pause{{Kind: rollout.PausePerson, By: "alice", Why: "lunch", At: noon}, {Kind: rollout.PausePolicy, By: "rule"}}
	}
	p := httpapi.Pass{Ref: httpapi.Ref{Namespace: "shop", Name: "my-app"}, Spec: spec, State: st, Time: noon.Add(time.Minute)}
	p.Decision.Status = rollout.Status{Message: "Step 1 of 3.", Waiting: rollout.WaitFor(rapid.SampledFrom([]string{"", "hold", "approval", "data"}).Draw(t, "waiting"))}
	if len(st.Pauses) > 0 {
		p.Decision.Status.Paused = "alice (lunch); rule"
	}
	if maybe("until") {
		p.Decision.Status.Until = noon.Add(time.Hour)
	}
	if maybe("stalled") {
		p.Decision.Status.Stalled = "a person is needed"
	}
	p.Seen.Workloads.Known = rollout.Present
	for _, o := range []rollout.Object{st.Stable, st.Canary} {
		if o.Revision != "" {
			w := rollout.Workload{Revision: o.Revision, Name: o.Name, Replicas: rapid.IntRange(0, 9).Draw(t, "replicas"), ReadyKnown: maybe("ready known"), Why: rapid.SampledFrom([]string{"", "ImagePullBackOff"}).Draw(t, "why")}
			if w.ReadyKnown {
				w.Ready = rapid.IntRange(0, 9).Draw(t, "ready")
			}
			p.Seen.Workloads.Items = append(p.Seen.Workloads.Items, w)
		}
	}
	if len(st.Marks) > 0 && maybe("asked for still") {
		p.Seen.Workloads.Items = append(p.Seen.Workloads.Items, rollout.Workload{Revision: v2, Name: "app-v2"})
	}
	if maybe("route") {
		n := rollout.Weight(rapid.IntRange(1, 9999).Draw(t, "weight"))
		p.Seen.Route = rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: rollout.Whole - n, v2: n}}
		if p.Seen.Route.Measured = maybe("measured"); p.Seen.Route.Measured {
			p.Seen.Route.Requests = map[rollout.Revision]float64{v1: float64(rapid.IntRange(0, 1e6).Draw(t, "n1")), v2: float64(rapid.IntRange(0, 1e6).Draw(t, "n2"))}
		}
	}
	p.Seen.Report = analysis.Report{
		Verdict: analysis.Verdict(rapid.IntRange(0, 3).Draw(t, "verdict")), Sentence: "Errors 1 % against 0 %.",
		Advance: float64(rapid.IntRange(0, 100).Draw(t, "advance")) / 100, Rollback: 0.25,
		Figures: []analysis.Figure{{Metric: "errorRate", Unit: "share", Canary: 0.01, CanaryN: 100, StableN: 900, High: 0.04, Window: time.Minute, State: "ok"}},
	}
	if maybe("finding") {
		p.Seen.Findings = []rollout.Finding{{Level: rollout.Warn, What: "one ConfigMap for both", Remedy: "two"}}
	}
	return p
}

// What a person sees of a cluster is what the controller saw in its pass.
func TestViewIsTheControllers(t *testing.T) {
	spec, _, err := engine.SpecOf(parse(t))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := somePass(rt, spec)
		want, got := httpapi.BuildView(p), View(written(t, p))
		// The cluster's conditions are the status's: some are there only while they are true.
		opts := cmp.Options{cmpopts.IgnoreFields(httpapi.RolloutView{}, "Conditions"), cmpopts.EquateApproxTime(0),
			cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9*math.Max(1, math.Abs(a)) })}
		if d := cmp.Diff(want, got, opts); d != "" {
			rt.Fatalf("(-controller +here):\n%s", d)
		}
		for _, c := range want.Conditions {
			for _, h := range got.Conditions {
				if c.Type == "Ready" && h.Type == "Ready" && c.Status != h.Status {
					rt.Fatalf("Ready is %s there and %s here", c.Status, h.Status)
				}
			}
		}
	})
}

// The state is saved every half a minute, and what people read more often: they
// are shown the cost that belongs to the sentence beside it.
func TestViewOfTheCostNow(t *testing.T) {
	spec, _, err := engine.SpecOf(parse(t))
	if err != nil {
		t.Fatal(err)
	}
	doc := written(t, httpapi.Pass{Spec: spec, State: progressing(spec), Time: noon})
	doc.Status.Exposed, doc.Status.Harmed = 499, 7
	if v := View(doc); v.Exposed != 499 || v.Harmed != 7 {
		t.Errorf("the cost is shown as %v and %v, the status says 499 and 7", v.Exposed, v.Harmed)
	}
}

func TestViewOfWhatIsNotSaidYet(t *testing.T) {
	v := View(parse(t))
	if v.Exit != httpapi.ExitError || !strings.Contains(v.Message, "No controller has looked at it yet") {
		t.Errorf("exit %d, %q", v.Exit, v.Message)
	}
}

// A state of a later Serin is not guessed at; what people read is shown.
func TestViewOfALaterState(t *testing.T) {
	spec, _, _ := engine.SpecOf(parse(t))
	doc := written(t, httpapi.Pass{Spec: spec, State: progressing(spec), Time: noon, Decision: rollout.Decision{Status: rollout.Status{Message: "Step 1."}}})
	doc.Status.State.Raw = []byte(strings.Replace(string(doc.Status.State.Raw), `"schema":1`, `"schema":99`, 1))
	v := View(doc)
	if v.Exit != httpapi.ExitError || v.Message != "Step 1." || v.Phase != rollout.Progressing || v.Canary == nil || v.Canary.Version != "v2" || len(v.Offers) != 0 {
		t.Errorf("%+v", v)
	}
	if len(v.Findings) != 1 || !strings.Contains(v.Findings[0].What, "schema 99") {
		t.Errorf("findings %v", v.Findings)
	}
}

// Where the controller cannot read the state either, its word is what people see.
func TestViewOfADamagedState(t *testing.T) {
	spec, _, _ := engine.SpecOf(parse(t))
	doc := written(t, httpapi.Pass{Spec: spec, State: progressing(spec), Time: noon, Decision: rollout.Decision{Status: rollout.Status{Message: "Step 1.", Waiting: rollout.WaitHold}}})
	doc.Status.State.Raw = []byte(`{"n":"four"}`)
	doc.Status.Message = "Nothing is judged: the state is damaged. `kubectl patch` helps."
	doc.Status.Conditions = []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionFalse, Reason: standing.StateUnreadable, Message: doc.Status.Message},
		{Type: "Stalled", Status: metav1.ConditionTrue, Reason: standing.StateUnreadable, Message: doc.Status.Message},
	}
	v := View(doc)
	if v.Exit != httpapi.ExitError || v.Message != doc.Status.Message || v.Stalled != v.Message || !httpapi.Unreadable(v) || v.Waiting != "" || len(v.Offers) != 0 {
		t.Errorf("%+v", v)
	}
	if v.WeightSet != 500 || v.Canary == nil {
		t.Errorf("what was known last is not shown: %v, %v", v.WeightSet, v.Canary)
	}
}

func TestViewOfADocumentThatCannotBeFollowed(t *testing.T) {
	spec, _, _ := engine.SpecOf(parse(t))
	doc := written(t, httpapi.Pass{Spec: spec, State: rollout.State{Schema: 1, Phase: rollout.Idle, Stable: rollout.Object{Revision: v1}}, Time: noon})
	doc.Status.Message = "The document cannot be followed: spec.traffic: is empty"
	doc.Status.Conditions = []metav1.Condition{{Type: "Stalled", Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInvalid, Message: doc.Status.Message}}
	if v := View(doc); v.Exit != httpapi.ExitError || v.Message != doc.Status.Message || v.Stalled == "" {
		t.Errorf("exit %d, %q, stalled %q", v.Exit, v.Message, v.Stalled)
	}
}

// The time shown is that of the last word, whichever wrote it.
func TestViewTime(t *testing.T) {
	spec, _, _ := engine.SpecOf(parse(t))
	doc := written(t, httpapi.Pass{Spec: spec, State: progressing(spec), Time: noon})
	if v := View(doc); !v.Time.Equal(noon) {
		t.Errorf("%s, want the state's", v.Time)
	}
	later := metav1.NewTime(noon.Add(20 * time.Second))
	doc.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Time: &metav1.Time{Time: noon.Add(time.Hour)}}, {Manager: "serin", Subresource: "status", Time: &later}}
	if v := View(doc); !v.Time.Equal(later.Time) {
		t.Errorf("%s, want %s", v.Time, later)
	}
}
