package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

func parse(t *testing.T, doc string) *v1alpha1.Rollout {
	t.Helper()
	var r v1alpha1.Rollout
	if err := yaml.UnmarshalStrict([]byte(doc), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

const smallest = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest}}]
`

func ptr[T any](v T) *T { return &v }

// The smallest document, with what the design chooses for everything else.
func TestSpecOfTheSmallestDocument(t *testing.T) {
	doc := parse(t, smallest)
	before := doc.DeepCopy()
	spec, cfg, err := engine.SpecOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, doc); diff != "" {
		t.Errorf("the document was changed:\n%s", diff)
	}
	for i := range spec.Steps {
		if len(spec.Steps[i].ID) != 8 {
			t.Errorf("step %d has the ID %q", i+1, spec.Steps[i].ID)
		}
		spec.Steps[i].ID = ""
	}
	var steps []rollout.Step
	for _, w := range []rollout.Weight{500, 2500, 5000, 7500, 10000} {
		steps = append(steps, rollout.Step{Kind: rollout.StepWeight, Weight: w, Hold: time.Minute})
	}
	steps[len(steps)-1].Hold = 0 // what is watched there is the bake
	want := rollout.Spec{
		Steps:          steps,
		Revert:         rollout.RevertFast,
		Capacity:       rollout.Capacity{HPA: rollout.HoldMinimum, Deadline: 10 * time.Minute},
		Analysis:       rollout.Policy{Deadline: 30 * time.Minute, OnUndecided: rollout.ActAdvance, OnUnavailable: rollout.ActPause},
		Promotion:      rollout.Promotion{Bake: 10 * time.Minute, Retire: rollout.ScaleToZero},
		RollbackRetire: rollout.ScaleToZero,
		Drift:          rollout.Obey,
		Settle:         10 * time.Second,
		Quiet:          5 * time.Second,
		DrainTimeout:   time.Minute,
		IgnoreRule:     "ignoreDifferences:\n- {group: networking.istio.io, kind: VirtualService, name: my-app-vs, jqPathExpressions: ['.spec.http[]?.route', '.spec.tcp[]?.route', '.spec.tls[]?.route', '.spec.http[]? | select((.name // \"\") | startswith(\"serin-match/\"))']}\n- {group: networking.istio.io, kind: DestinationRule, name: my-app-dest, jqPathExpressions: ['.spec.subsets[]? | select(.name | startswith(\"serin-\"))']}\n",
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("the spec (-want +got):\n%s", diff)
	}
	wantCfg := analysis.Config{
		ErrorRate:   &analysis.RateRule{WorseBy: 0.005},
		Latency:     &analysis.LatencyRule{Quantile: 0.99, WorseBy: 0.2},
		MinRequests: 200, FalseRollback: 0.01, StaleAfter: time.Minute, Compare: true,
	}
	if diff := cmp.Diff(wantCfg, cfg); diff != "" {
		t.Errorf("the judge's configuration (-want +got):\n%s", diff)
	}
	var rule any
	if err := yaml.Unmarshal([]byte(spec.IgnoreRule), &rule); err != nil {
		t.Errorf("the rule to paste is not YAML: %v", err)
	}
}

// Where each version has a Service of its own, a tool is to ignore the route
// alone: there is no rule, and no object without a name.
func TestIgnoreRuleByService(t *testing.T) {
	spec, _, err := engine.SpecOf(parse(t, strings.Replace(smallest, ", destinationRule: my-app-dest", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	var rule struct {
		IgnoreDifferences []struct{ Kind, Name string }
	}
	if err := yaml.Unmarshal([]byte(spec.IgnoreRule), &rule); err != nil {
		t.Fatal(err)
	}
	if len(rule.IgnoreDifferences) != 1 || rule.IgnoreDifferences[0].Name != "my-app-vs" {
		t.Errorf("%s", spec.IgnoreRule)
	}
}

// Everything that a document can say arrives, with its unit.
func TestSpecOfAFullDocument(t *testing.T) {
	spec, cfg, err := engine.SpecOf(parse(t, `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  suspend: true
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic:
  - {istio: {virtualService: a, destinationRule: a, settle: 2s}}
  - {istio: {virtualService: b, destinationRule: b, settle: 7s}}
  capacity: {headroom: 25%, hpa: Ignore, deadline: 3m}
  strategy:
    canary:
      revert: Canary
      steps:
      - {test: {webhook: {url: "http://example.test/smoke"}}}
      - {match: {header: {x-canary: "1"}, cookie: {beta: "yes"}, path: /new}, hold: 5m}
      - {weight: 0.5%, hold: 30s}
      - {approval: {by: [alice, "group:sre"], until: 2h}}
      - {pause: {for: 90s}}
      - {pause: {}}
      - {weight: 100%, hold: 4m}
  analysis:
    errorRate: {worseBy: 0.25pp, max: 1%, for: 5m}
    latency: {quantile: 99.9, worseBy: 30%, max: 500ms, for: 4m}
    cpu: {worseBy: 40%, max: 500m, for: 3m}
    memory: {worseBy: 10%, max: 300Mi, for: 2m}
    metrics: [{name: score, prometheus: {query: 'x{version="{{version}}"}'}, min: 1.5, max: 9, for: 1m}]
    minRequests: 7
    deadline: 20m
    onUndecided: RollBack
    onUnavailable: RollBack
    falseRollback: 2%
  promotion: {bake: 1h, retire: Delete, retireAfter: 24h, control: 5%}
  rollback: {retire: Keep}
  drift: Restore
`))
	if err != nil {
		t.Fatal(err)
	}
	test := spec.Steps[0].Test
	for i := range spec.Steps {
		spec.Steps[i].ID = ""
	}
	spec.IgnoreRule = ""
	want := rollout.Spec{
		Suspend: true,
		Steps: []rollout.Step{
			{Kind: rollout.StepTest, Test: test},
			{Kind: rollout.StepMatch, Match: &rollout.Match{Header: map[string]string{"x-canary": "1"}, Cookie: map[string]string{"beta": "yes"}, Path: "/new"}, Hold: 5 * time.Minute},
			{Kind: rollout.StepWeight, Weight: 50, Hold: 30 * time.Second},
			{Kind: rollout.StepApproval, By: []string{"alice", "group:sre"}, Until: 2 * time.Hour},
			{Kind: rollout.StepPause, Hold: 90 * time.Second},
			{Kind: rollout.StepPause},
			{Kind: rollout.StepWeight, Weight: 10000, Hold: 4 * time.Minute},
		},
		Revert:         rollout.RevertCanary,
		Capacity:       rollout.Capacity{Headroom: 2500, HPA: rollout.IgnoreHPA, Deadline: 3 * time.Minute},
		Analysis:       rollout.Policy{Deadline: 20 * time.Minute, OnUndecided: rollout.ActRollBack, OnUnavailable: rollout.ActRollBack},
		Promotion:      rollout.Promotion{Bake: time.Hour, Retire: rollout.Delete, RetireAfter: 24 * time.Hour, Control: 500},
		RollbackRetire: rollout.Keep,
		Drift:          rollout.Restore,
		Settle:         7 * time.Second,
		Quiet:          5 * time.Second,
		DrainTimeout:   time.Minute,
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("the spec (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(test, "webhook-") {
		t.Errorf("the test is called %q", test)
	}
	wantCfg := analysis.Config{
		ErrorRate:   &analysis.RateRule{WorseBy: 0.0025, Max: ptr(0.01), For: 5 * time.Minute},
		Latency:     &analysis.LatencyRule{Quantile: 0.999, WorseBy: 0.3, Max: 500 * time.Millisecond, For: 4 * time.Minute},
		CPU:         &analysis.GaugeRule{WorseBy: 0.4, Max: ptr(0.5), For: 3 * time.Minute},
		Memory:      &analysis.GaugeRule{WorseBy: 0.1, Max: ptr(300.0 * (1 << 20)), For: 2 * time.Minute},
		Custom:      []analysis.CustomRule{{Name: "score", Min: ptr(1.5), Max: ptr(9.0), For: time.Minute}},
		MinRequests: 7, FalseRollback: 0.02, StaleAfter: time.Minute, Compare: true,
	}
	if diff := cmp.Diff(wantCfg, cfg, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 })); diff != "" {
		t.Errorf("the judge's configuration (-want +got):\n%s", diff)
	}
}

// Blue/green is its steps before, and one switch.
func TestSpecOfBlueGreen(t *testing.T) {
	spec, _, err := engine.SpecOf(parse(t, smallest+`
  strategy:
    blueGreen:
      revert: Canary
      test: {job: {cronJob: smoke}}
      preview: {header: {x-preview: "1"}}
      hold: 2m
      approval: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []rollout.StepKind
	for _, s := range spec.Steps {
		kinds = append(kinds, s.Kind)
	}
	want := []rollout.StepKind{rollout.StepTest, rollout.StepMatch, rollout.StepApproval, rollout.StepWeight}
	if !cmp.Equal(kinds, want) || spec.Steps[3].Weight != rollout.Whole || spec.Steps[1].Hold != 2*time.Minute || !spec.BlueGreen || spec.Revert != rollout.RevertCanary {
		t.Errorf("the plan is %+v (blue/green %v, revert %s)", spec.Steps, spec.BlueGreen, spec.Revert)
	}
}

func TestSpecOfNoAnalysis(t *testing.T) {
	spec, cfg, err := engine.SpecOf(parse(t, smallest+"  analysis: {none: {reason: \"an internal tool of three people\"}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !spec.Analysis.None || !cfg.None || cfg.NoneReason == "" || cfg.ErrorRate != nil || cfg.Latency != nil {
		t.Errorf("spec %+v, judge %+v", spec.Analysis, cfg)
	}
}

// A plan ends with everything, whatever the document's last step is.
func TestSpecEndsWithTheWhole(t *testing.T) {
	spec, _, err := engine.SpecOf(parse(t, smallest+"  strategy: {canary: {steps: [{weight: 10%}]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(spec.Steps); n != 2 || spec.Steps[n-1].Weight != rollout.Whole {
		t.Errorf("the plan is %+v", spec.Steps)
	}
}

func TestSpecOfAWrongDocument(t *testing.T) {
	_, _, err := engine.SpecOf(parse(t, smallest+`
  strategy: {canary: {steps: [{weight: 50%}, {weight: 10%}]}}
  promotion: {control: 80%}
`))
	if err == nil {
		t.Fatal("no error")
	}
	for _, place := range []string{"spec.strategy.canary.steps[1].weight", "spec.promotion.control"} {
		if !strings.Contains(err.Error(), place) {
			t.Errorf("the error does not name %s: %v", place, err)
		}
	}
}

// A step is known by what it says: an approval survives an edit elsewhere, and
// not an edit of the step itself.
func TestStepIDs(t *testing.T) {
	ids := func(steps string) (out []string) {
		spec, _, err := engine.SpecOf(parse(t, smallest+"  strategy: {canary: {steps: "+steps+"}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spec.Steps {
			out = append(out, s.ID)
		}
		return out
	}
	a := ids("[{weight: 10%}, {approval: {}}, {weight: 100%}]")
	b := ids("[{weight: 5%}, {weight: 10%}, {approval: {}}, {weight: 100%}]")
	c := ids("[{weight: 10%, hold: 1m}, {approval: {by: [alice]}}, {weight: 100%}]")
	if a[0] != b[1] || a[1] != b[2] || a[2] != b[3] {
		t.Errorf("the same steps at other places: %v and %v", a, b)
	}
	if a[0] != c[0] {
		t.Error("a default that was written out makes another step")
	}
	if a[1] == c[1] {
		t.Error("another approval is the same step")
	}
}

// The host that runs tests finds them by the name that is in the plan.
func TestTestsOf(t *testing.T) {
	doc := parse(t, smallest+`
  strategy: {canary: {steps: [{test: {command: [./smoke, -v]}}, {weight: 10%}, {test: {webhook: {url: "http://example.test"}, timeout: 3s}}]}}
`)
	spec, _, err := engine.SpecOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	tests := engine.TestsOf(doc)
	first, ok1 := tests[spec.Steps[0].Test]
	second, ok2 := tests[spec.Steps[2].Test]
	if len(tests) != 2 || !ok1 || !ok2 || first.Command[0] != "./smoke" || second.Timeout.Duration != 3*time.Second || first.Timeout.Duration != 10*time.Minute {
		t.Errorf("tests %+v", tests)
	}
}
