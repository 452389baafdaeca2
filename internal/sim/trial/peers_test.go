package trial

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// scripted is a world that does what it is told: at each look, for each of the
// canary's pods, how many requests came and how many of them failed.
type scripted struct {
	t      time.Duration
	pods   int
	serve  func(t time.Duration, pod int) (n, e float64)
	canary []analysis.Pod
}

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *scripted) New(uint64, time.Duration) World { c := *w; c.canary = nil; return &c }
func (w *scripted) Every() time.Duration            { return 5 * time.Second }
func (w *scripted) Replicas() int                   { return 1 }
func (w *scripted) History() time.Duration          { return 0 }
func (w *scripted) Now() time.Time                  { return began.Add(w.t) }
func (w *scripted) Elapsed() time.Duration          { return w.t }
func (w *scripted) Stable() []analysis.Pod          { return nil }
func (w *scripted) Canary() []analysis.Pod          { return append([]analysis.Pod(nil), w.canary...) }
func (w *scripted) Truth() Truth                    { return Truth{Onset: -1} }

func (w *scripted) Advance(weight float64) {
	for i := 0; weight > 0 && i < max(1, w.pods); i++ {
		if len(w.canary) == i {
			w.canary = append(w.canary, analysis.Pod{Name: fmt.Sprint("pod-", i), Has: analysis.HasRequests | analysis.HasErrors})
		}
		n, e := w.serve(w.t, i)
		w.canary[i].Requests += n
		w.canary[i].Errors += e
	}
	w.t += 5 * time.Second
}

// always answers n requests a look, of which e fail in the minutes that bad
// names; the look at minute m ends minute m.
func always(n float64, bad func(minute int) float64) func(time.Duration, int) (float64, float64) {
	return func(t time.Duration, _ int) (float64, float64) { return n, n * bad(int(t/time.Minute)+1) }
}

func from(first int) func(int) float64 {
	return func(m int) float64 {
		if m >= first {
			return 0.5
		}
		return 0
	}
}

func never(int) float64 { return 0 }

func flaggerOf(t *testing.T, analysisText, more string) Maker {
	t.Helper()
	c, problems := Compare([]byte("apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: x}\nspec:\n  analysis: "+analysisText+"\n"+more), nil, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c.Maker
}

const rateMetric = `metrics: [{name: request-success-rate, thresholdRange: {min: 99}, interval: 1m}]`

func play(t *testing.T, w *scripted, m Maker) Result {
	t.Helper()
	return Run(Case{Worlds: w, Policy: m, Horizon: time.Hour}, 1)
}

func TestFlagger(t *testing.T) {
	plain := flaggerOf(t, "{interval: 1m, threshold: 5, stepWeight: 10, maxWeight: 50, "+rateMetric+"}", "")
	for name, c := range map[string]struct {
		reason string
		maker  Maker
		world  *scripted
		back   bool
		at     time.Duration
	}{
		"Happy": {"one tick to scale up, one to the first weight, then five checks, the last one at 50 %",
			plain, &scripted{serve: always(100, never)}, false, 6 * time.Minute},
		"LookedAtInTheNextTick": {"five checks fail from minute 2 on; the sixth tick sees that they did",
			plain, &scripted{serve: always(100, from(1))}, true, 7 * time.Minute},
		"NeverForgotten": {"every other minute is bad, five in all and no two in a row",
			flaggerOf(t, "{interval: 1m, threshold: 5, stepWeight: 5, maxWeight: 100, "+rateMetric+"}", ""),
			&scripted{serve: always(100, func(m int) float64 { return 0.5 * float64(m%2) })}, true, 12 * time.Minute},
		"SilenceIsFailure": {"no request, no value: every check fails",
			plain, &scripted{serve: always(0, never)}, true, 7 * time.Minute},
		"PromotedUnlookedAt": {"wrong from the minute after the last check",
			plain, &scripted{serve: always(100, from(7))}, false, 6 * time.Minute},
		"NoMetrics": {"nothing is looked at",
			flaggerOf(t, "{interval: 1m, threshold: 1, stepWeight: 50, maxWeight: 50}", ""),
			&scripted{serve: always(100, from(1))}, false, 2 * time.Minute},
		"Weights": {"its own list: the first weight, two checks",
			flaggerOf(t, "{interval: 1m, threshold: 1, stepWeights: [1, 80], "+rateMetric+"}", ""),
			&scripted{serve: always(100, never)}, false, 3 * time.Minute},
		"AtLeastTenSeconds": {"an interval of 1s is ten",
			flaggerOf(t, "{interval: 1s, threshold: 1, stepWeight: 50, maxWeight: 50, "+rateMetric+"}", ""),
			&scripted{serve: always(100, never)}, false, 20 * time.Second},
		"DefaultThresholdIsOne": {"one failed check, seen in the tick after it",
			flaggerOf(t, "{stepWeight: 10, maxWeight: 50, "+rateMetric+"}", ""),
			&scripted{serve: always(100, from(1))}, true, 3 * time.Minute},
		"SkipAnalysis": {"promoted in the tick after the scaling",
			flaggerOf(t, "{stepWeight: 10, "+rateMetric+"}\n  skipAnalysis: true", ""),
			&scripted{serve: always(100, from(1))}, false, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := play(t, c.world, c.maker)
			if r.Back != c.back || !r.Back && !r.Promoted || r.Took != c.at+lookOffset(r) {
				t.Errorf("%s: back %v after %v (%s), want %v after %v", c.reason, r.Back, r.Took, r.Why, c.back, c.at)
			}
		})
	}
}

// lookOffset: the first look at a world ends its first five seconds, and a tick
// of an interval is seen by the look that ends with it.
func lookOffset(r Result) time.Duration { return r.Took % time.Minute % (10 * time.Second) }

func TestFlaggerLastSeriesWins(t *testing.T) {
	template := `---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: by-pod}
spec:
  provider: {type: prometheus}
  query: sum by (pod) (rate(http_requests_total{app="{{ target }}",status!~"5.*"}[{{ interval }}])) / sum by (pod) (rate(http_requests_total{app="{{ target }}"}[{{ interval }}])) * 100
`
	m := flaggerOf(t, "{interval: 1m, threshold: 1, stepWeight: 50, maxWeight: 50, metrics: [{name: ok, interval: 1m, templateRef: {name: by-pod}, thresholdRange: {min: 99}}]}", template)
	for bad, back := range map[int]bool{0: false, 1: true} {
		w := &scripted{pods: 2, serve: func(_ time.Duration, pod int) (float64, float64) {
			if pod == bad {
				return 100, 50
			}
			return 100, 0
		}}
		if r := play(t, w, m); r.Back != back {
			t.Errorf("pod %d of 2 fails half: taken back is %v, want %v (%s)", bad, r.Back, back, r.Why)
		}
	}
}

func argoOf(t *testing.T, metric, more string) Maker {
	t.Helper()
	hold := []rollout.Step{{Kind: rollout.StepWeight, Weight: 500, Hold: 10 * time.Minute}, {Kind: rollout.StepWeight, Weight: rollout.Whole}}
	c, problems := Compare([]byte("apiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {name: x}\nspec:\n  metrics:\n  - "+metric+"\n"+more), hold, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c.Maker
}

const (
	successQuery = `provider: {prometheus: {query: 'sum(rate(m{code!~"5.."}[1m])) / sum(rate(m[1m]))'}}`
	errorQuery   = `provider: {prometheus: {query: 'sum(rate(m{code=~"5.."}[1m])) / sum(rate(m[1m]))'}}`
)

func TestArgo(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		metric string
		world  *scripted
		back   bool
		stuck  bool
		at     time.Duration // give or take a look
	}{
		"Happy": {"promoted when the steps are done",
			`{name: a, interval: 1m, initialDelay: 1m, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, never)}, false, false, 10 * time.Minute},
		"CumulativeLimit": {"four bad minutes in all, no two in a row: the limit of three is passed at minute 7",
			`{name: a, interval: 1m, initialDelay: 1m, failureLimit: 3, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, func(m int) float64 { return 0.5 * float64(m%2) })}, true, false, 7 * time.Minute},
		"DefaultLimitIsZero": {"the first failure is too many",
			`{name: a, interval: 1m, initialDelay: 1m, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, from(3))}, true, false, 3 * time.Minute},
		"NaNFailsASuccessCondition": {"requests came once and then none: 0/0 >= 0.95 is false",
			`{name: a, interval: 1m, initialDelay: 2m, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: func(t time.Duration, _ int) (float64, float64) {
				if t < 30*time.Second {
					return 100, 0
				}
				return 0, 0
			}}, true, false, 2 * time.Minute},
		"NaNPassesAFailureCondition": {"0/0 > 0.05 is false: nothing is wrong with what answers nobody",
			`{name: a, interval: 1m, initialDelay: 2m, failureCondition: "result[0] > 0.05", ` + errorQuery + `}`,
			&scripted{serve: func(t time.Duration, _ int) (float64, float64) {
				if t < 30*time.Second {
					return 100, 100
				}
				return 0, 0
			}}, false, false, 10 * time.Minute},
		"NoSeriesIsAnError": {"a canary that never failed has no series of failures; five errors, ten seconds apart",
			`{name: a, interval: 1m, initialDelay: 1m, failureCondition: "result[0] > 0.05", ` + errorQuery + `}`,
			&scripted{serve: always(100, never)}, true, false, 100 * time.Second},
		"NoSeriesAllowedFor": {"len(result) == 0 is asked first",
			`{name: a, interval: 1m, initialDelay: 1m, successCondition: "len(result) == 0 || result[0] < 0.05", ` + errorQuery + `}`,
			&scripted{serve: always(100, never)}, false, false, 10 * time.Minute},
		"NeitherConditionHolds": {"inconclusive: it waits for a person",
			`{name: a, interval: 1m, initialDelay: 1m, successCondition: "result[0] >= 0.95", failureCondition: "result[0] < 0.4", ` + successQuery + `}`,
			&scripted{serve: always(100, from(1))}, false, true, 0},
		"NeverMeasured": {"its delay is longer than the rollout: the run is ended and good",
			`{name: a, interval: 1m, initialDelay: 30m, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, from(1))}, false, false, 10 * time.Minute},
		"CountEndsIt": {"two measurements, both good; what comes later is not looked at",
			`{name: a, interval: 1m, initialDelay: 1m, count: 2, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, from(4))}, false, false, 10 * time.Minute},
		"LimitSwitchedOff": {"failureLimit -1: never",
			`{name: a, interval: 1m, initialDelay: 1m, failureLimit: -1, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, from(1))}, false, false, 10 * time.Minute},
		"NothingAfterTheSteps": {"wrong from the minute after the last step: there is no analysis after a canary",
			`{name: a, interval: 1m, initialDelay: 1m, successCondition: "result[0] >= 0.95", ` + successQuery + `}`,
			&scripted{serve: always(100, from(12))}, false, false, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := play(t, c.world, argoOf(t, c.metric, ""))
			late := r.Took - c.at
			if r.Back != c.back || r.Stuck != c.stuck || !c.back && !c.stuck && !r.Promoted || c.at > 0 && (late < -5*time.Second || late > 10*time.Second) {
				t.Errorf("%s: back %v stuck %v after %v (%s), want %v %v after %v", c.reason, r.Back, r.Stuck, r.Took, r.Why, c.back, c.stuck, c.at)
			}
		})
	}
}

func TestArgoLaterLimitOverwrites(t *testing.T) {
	m := metricRun{ArgoMetric: &ArgoMetric{ErrorLimit: 4}, failures: 1, consecutiveErrors: 5}
	if m.assess(); m.phase != errored {
		t.Errorf("failed and in error: %v, the later limit counts", phaseNames[m.phase])
	}
	m = metricRun{ArgoMetric: &ArgoMetric{ErrorLimit: 4}, failures: 1, undecided: 1}
	if m.assess(); m.phase != inconclusive {
		t.Errorf("failed and undecided: %v, the later limit counts", phaseNames[m.phase])
	}
}

func TestArgoInlineAnalysis(t *testing.T) {
	rolloutText := `---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: r}
spec: {strategy: {canary: {steps: [{setWeight: 10}, {pause: {duration: 60}}, {analysis: {templates: [{templateName: x}]}}, {setWeight: 50}, {pause: {}}]}}}
`
	m := argoOf(t, `{name: a, interval: 1m, count: 3, successCondition: "result[0] >= 0.95", `+successQuery+`}`, rolloutText)
	if r := play(t, &scripted{serve: always(100, never)}, m); !r.Promoted || r.Took.Round(time.Minute) != 3*time.Minute {
		t.Errorf("a minute of pause, three measurements in two: promoted %v after %v, want 3m", r.Promoted, r.Took)
	}
	if r := play(t, &scripted{serve: always(100, from(1))}, m); !r.Back || r.Took.Round(time.Minute) != time.Minute {
		t.Errorf("fails its first measurement: back %v after %v, want 1m", r.Back, r.Took)
	}
}

func TestKayenta(t *testing.T) {
	ramp := func(from, step float64, n int) (out []float64) {
		for i := range n {
			out = append(out, from+step*float64(i))
		}
		return out
	}
	for name, c := range map[string]struct {
		reason              string
		control, experiment []float64
		want                class
	}{
		"Same":            {"identical values", ramp(1, 0.1, 10), ramp(1, 0.1, 10), pass},
		"OneValueOverall": {"a single distinct value", []float64{2, 2, 2}, []float64{2, 2, 2, 2}, pass},
		"SevenOfTenHundredTimesWorse": {"three points like stable's keep the interval's lower end below a quarter of the shift",
			ramp(1, 0.1, 10), append([]float64{1.02, 1.31, 1.77}, ramp(100, 1, 7)...), pass},
		"VarianceOnly": {"the middle did not move",
			ramp(9, 0.2, 11), ramp(0, 2, 11), pass},
		"MeanUpBy650Percent": {"a few large points among zeros",
			[]float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, []float64{0, 0, 0, 0, 0, 0, 0, 2.5, 2.5, 2.5}, pass},
		"TinyButConsistent": {"one percent, always: the tolerance is relative to the shift itself",
			ramp(100, 0.01, 10), ramp(101, 0.01, 10), high},
		"FourPointsApart":   {"with four points the interval ends at the range: separated", ramp(1, 0.1, 4), ramp(3, 0.1, 4), high},
		"FourPointsOverlap": {"one point overlaps: not separated", ramp(1, 0.1, 4), []float64{1.05, 3, 3.1, 3.2}, pass},
		"Lower":             {"better is not High", ramp(5, 0.1, 10), ramp(1, 0.1, 10), pass},
		"ConstantButUnlike": {"noise separates two constants", []float64{1, 1, 1, 1, 1, 1}, []float64{2, 2, 2, 2, 2, 2}, high},
		"NothingToCompare":  {"no points", nil, ramp(1, 1, 3), noData},
		"FromZero":          {"the ratio of means is not a number: not asked", make([]float64, 10), ramp(1, 0.1, 10), high},
	} {
		t.Run(name, func(t *testing.T) {
			if got := classify(c.control, c.experiment, 1); got != c.want {
				t.Errorf("%s: %v, want %v", c.reason, got, c.want)
			}
		})
	}
	// Four points a side cannot reach the 98 % level.
	if z := rankZ(ramp(10, 1, 4), ramp(1, 1, 4), 0); math.Abs(z-2.165) > 0.001 {
		t.Errorf("complete separation of four and four: z %.4f, want 2.165", z)
	}
	// 10 and 10, three below: U = 70 + 0, worked out by hand.
	if z := rankZ(append([]float64{-3, -2, -1}, ramp(50, 1, 7)...), ramp(1, 1, 10), 0); math.Abs(z-19.5/math.Sqrt(175)) > 1e-9 {
		t.Errorf("z %.4f, want %.4f", z, 19.5/math.Sqrt(175))
	}
}

func TestConditions(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		text   string
		result []float64
		want   string
	}{
		{"result[0] >= 0.95", []float64{0.95}, "true"},
		{"result[0] >= 0.95", []float64{0.9499}, "false"},
		{"result[0] >= 0.95", []float64{nan}, "false"},
		{"result[0] > 0.05", []float64{nan}, "false"},
		{"result[0] >= 0.95", nil, "error"},
		{"len(result) == 0 || result[0] >= 0.95", nil, "true"},
		{"len(result) > 0 && result[0] < 0.05", nil, "false"},
		{"isNaN(result[0]) || result[0] < 0.05", []float64{nan}, "true"},
		{"!isInf(result[0]) && (result[0] * 100 <= 5)", []float64{0.05}, "true"},
		{"default(result[0], 0) < 0.05", nil, "true"},
		{"asFloat(result[0]) < .05 and result[1] > -1", []float64{0, 0}, "true"},
		{"not (result[0] == 1)", []float64{1}, "false"},
		{"result[0]", []float64{1}, "error"},
		{"result >= 1", []float64{1}, "error"},
	} {
		p, err := parseCondition(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		ok, err := p.holds(c.result)
		if got := fmt.Sprint(ok); got != c.want && (c.want != "error" || err == nil) || err != nil && c.want != "error" {
			t.Errorf("%s of %v: %v, %v, want %s", c.text, c.result, ok, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"":                         "empty",
		"result[0] >=":             "ends",
		"result[x] > 1":            "whole number",
		"all(result, {# < 0.5})":   "not understood",
		"result[0] > 1 result":     "not understood here",
		"percentile(result) > 0.5": "percentile",
		"(result[0] > 1":           "missing",
	} {
		if _, err := parseCondition(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something with %q", text, err, want)
		}
	}
}

func TestQueries(t *testing.T) {
	minute := time.Minute
	for text, want := range map[string]query{
		`sum(rate(istio_requests_total{reporter="source",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="source"}[1m]))`: {kind: successShare, times: 1, window: minute},
		`sum(irate(http_requests_total{job="{{args.service}}",code=~"5.."}[5m]))/sum(irate(http_requests_total{job="{{args.service}}"}[5m]))`:  {kind: errorShare, times: 1, window: 5 * minute, last: true},
		`100 - sum(rate(m{status!~"5.*"}[2m])) / sum(rate(m[2m])) * 100`:                                                                       {kind: errorShare, times: 100, window: 2 * minute},
		`1 - (sum(rate(m{status=~"5.*"}[30s])) / sum(rate(m[30s])))`:                                                                           {kind: successShare, times: 1, window: 30 * time.Second},
		`(sum(rate(m{code=~"5.."}[1m])) or vector(0)) / sum(rate(m[1m]))`:                                                                      {kind: errorShare, times: 1, window: minute, zero: true},
		`sum(rate(m{code=~"5.."}[1m])) by (pod) / sum(rate(m[1m])) by (pod)`:                                                                   {kind: errorShare, times: 1, window: minute, perPod: true},
		`sum(rate(m{app="{{ target }}-primary",code=~"5.."}[1m])) / sum(rate(m{app="{{ target }}-primary"}[1m]))`:                              {kind: errorShare, times: 1, window: minute, arm: stableArm},
		`histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{app="x"}[1m])) by (le))`:                                 {kind: latencyQuantile, q: 0.99, times: 1, window: minute},
		`histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))`:                                               {kind: latencyQuantile, q: 0.95, times: 0.001, window: 5 * minute},
		"histogram_quantile(0.99,\n  sum(\n    rate(istio_request_duration_milliseconds_bucket{app=\"x\"}[1m])\n  ) by (le)\n) / 1000":         {kind: latencyQuantile, q: 0.99, times: 0.001, window: minute},
	} {
		if got, err := parseQuery(text, nil); err != nil || got != want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		`up`, `sum(rate(a{code=~"5.."}[1m]))`, `sum(rate(a{code=~"5.."}[1m])) / sum(rate(b[1m]))`,
		`sum(rate(a{code=~"5.."}[1m])) / sum(rate(a[5m]))`, `sum(rate(a[1m])) / sum(rate(a[1m]))`,
		`histogram_quantile(0.99, sum(rate(latency_bucket[1m])) by (le))`, `2 * sum(rate(a{code=~"5.."}[1m])) / sum(rate(a[1m]))`, ``,
	} {
		if got, err := parseQuery(text, nil); err == nil {
			t.Errorf("%s: taken as %v", text, got.String())
		}
	}
}

func TestCompareRefusesByName(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"AllAtOnce": {`
kind: Canary
metadata: {name: x}
spec:
  analysis:
    interval: soon
    threshold: few
    mirror: true
    match: [{headers: {x: {exact: "1"}}}]
    iterations: 10
    metrics:
    - {name: error-rate, thresholdRange: {max: 1}}
    - {name: latency, templateRef: {name: gone}, thresholdRange: {max: 1}}
    - {name: request-success-rate}
`, []string{"spec.analysis.interval", "spec.analysis.threshold", "spec.analysis.mirror", "spec.analysis.match", "spec.analysis.iterations", `"error-rate" is neither`, "MetricTemplate gone", "metrics[2].thresholdRange"}},
		"Argo": {`
kind: AnalysisTemplate
metadata: {name: x}
spec:
  args: [{name: least}]
  metrics:
  - {name: a, interval: 1m, successCondition: "result[0] >= {{args.least}}", provider: {prometheus: {query: up}}}
  - {name: b, count: 3, successCondition: "all(result, {# > 1})", provider: {web: {url: x}}}
`, []string{"argument least has no value", "metric a: only the share", "spec.metrics[1].interval", "spec.metrics[1].successCondition", "metric b: only prometheus"}},
		"Neither": {"kind: Service\nmetadata: {name: x}\n", []string{"one Flagger Canary is meant"}},
		"Broken":  {"kind: [", []string{"line"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := Compare([]byte(c.text), nil, nil)
			all := fmt.Sprint(problems)
			for _, w := range c.want {
				if !strings.Contains(all, w) {
					t.Errorf("%q is not said:\n%v", w, all)
				}
			}
		})
	}
	hinted := "kind: AnalysisTemplate\nmetadata: {name: x}\nspec: {metrics: [{name: a, interval: 1m, successCondition: 'result[0] >= 99', provider: {datadog: {}}}]}\n"
	if _, problems := Compare([]byte(hinted), nil, Hints{"a": "success%:1m"}); len(problems) > 0 {
		t.Errorf("with a hint: %v", problems)
	}
	if _, problems := Compare([]byte(hinted), nil, Hints{"a": "success%:1m", "b": "p99:1m"}); len(problems) == 0 {
		t.Error("a hint for a metric that is not there is not told of")
	}
	for _, bad := range []string{"success", "success:soon", "goodness:1m", "p0:1m", "px:1m", "successful:1m"} {
		if q, err := namedQuery(bad); err == nil {
			t.Errorf("%q: taken as %v", bad, q.String())
		}
	}
}
