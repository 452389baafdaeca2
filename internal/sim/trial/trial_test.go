package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/sim/worlds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func document(t testing.TB, data []byte) (rollout.Spec, analysis.Config) {
	t.Helper()
	docs, problems := v1alpha1.Parse(data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	spec, cfg, err := engine.SpecOf(docs[0].Rollout)
	if err != nil {
		t.Fatal(err)
	}
	return spec, cfg
}

func founding(t testing.TB) (rollout.Spec, analysis.Config) {
	t.Helper()
	data, err := os.ReadFile("../../../examples/founding/05-rollout.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return document(t, data)
}

func campaign(t testing.TB, c Case, seed uint64, runs int) Totals {
	t.Helper()
	got, err := Campaign(context.Background(), c, seed, runs)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestTheSameSeedIsTheSameRun: on one processor and on all.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	spec, cfg := founding(t)
	c := Case{Synthetic(worlds.Scenario{RPS: 30, Base: 0.005, Bad: 0.03, Latency: true, History: 10 * time.Minute, Weather: worlds.PodBursts}), Serin(spec, cfg), 40 * time.Minute}
	first := campaign(t, c, 7, 6)
	old := runtime.GOMAXPROCS(1)
	again := campaign(t, c, 7, 6)
	runtime.GOMAXPROCS(old)
	if !reflect.DeepEqual(first, again) {
		t.Errorf("the same seeds gave\n%+v\nand\n%+v", first, again)
	}
	if other := campaign(t, c, 70, 6); reflect.DeepEqual(first, other) {
		t.Error("other seeds gave the same figures to the last digit")
	}
}

func TestACampaignEndsWhenAskedTo(t *testing.T) {
	spec, cfg := founding(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := Case{Synthetic(worlds.Scenario{RPS: 30, Base: 0.005}), Serin(spec, cfg), 10 * time.Minute}
	if _, err := Campaign(ctx, c, 1, 1000); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}

// TestSerinGoesThrough steps of every kind, and takes back what fails.
func TestSerinGoesThrough(t *testing.T) {
	spec, cfg := document(t, []byte(`
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: x}
spec:
  workload: {versions: {selector: {matchLabels: {app: x}}, label: version}}
  traffic: [{istio: {virtualService: x, destinationRule: x, settle: 10s}}]
  strategy:
    canary:
      steps:
      - {test: {command: [check]}}
      - {match: {header: {x-canary: "1"}}, hold: 1m}
      - {weight: 10%, hold: 1m}
      - {approval: {by: [alice]}}
      - {pause: {}}
      - {weight: 50%, hold: 1m}
      - {weight: 100%}
  analysis:
    metrics: [{name: checkout, prometheus: {query: 'x{version="{{version}}"}'}, min: 98, for: 2m}]
  promotion: {bake: 2m, control: 5%}
`))
	healthy := Run(Case{Synthetic(worlds.Scenario{RPS: 200, Base: 0.001, Latency: true, History: 10 * time.Minute}), Serin(spec, cfg), 3 * time.Hour}, 3)
	if !healthy.Promoted || !healthy.Rested || healthy.Harmed != 0 {
		t.Errorf("a healthy one: %+v", healthy)
	}
	wrong := Run(Case{Synthetic(worlds.Scenario{RPS: 200, Base: 0.001, Bad: 0.5, Latency: true, History: 10 * time.Minute}), Serin(spec, cfg), 3 * time.Hour}, 3)
	if !wrong.Back || wrong.Early || wrong.Caught <= 0 || wrong.Harmed < 10 || wrong.Why == "" {
		t.Errorf("one that fails half: %+v", wrong)
	}
	notes := strings.Join(assumptions(spec, cfg), "\n")
	for _, want := range []string{"approvals", "pause", "tests", "match", "checkout"} {
		if !strings.Contains(notes, want) {
			t.Errorf("nothing is said about %s: %s", want, notes)
		}
	}
	none := cfg
	none.None, none.NoneReason = true, "a test"
	unjudged := spec
	unjudged.Analysis.None = true
	if r := Run(Case{Synthetic(worlds.Scenario{RPS: 200, Base: 0.001, Bad: 0.5, Latency: true}), Serin(unjudged, none), 3 * time.Hour}, 3); r.Back || !r.Rested || r.Harmed < 1e5 {
		t.Errorf("without analysis one that fails half: %+v", r)
	}
}

// TestALimitBetweenBounds: the synthetic service has bounds of its own, and a
// document that asks for another limit is tried with the next one, and told.
func TestALimitBetweenBounds(t *testing.T) {
	spec, cfg := founding(t)
	cfg.Latency = &analysis.LatencyRule{Quantile: 0.99, WorseBy: 0.2, Max: 300 * time.Millisecond, For: 5 * time.Minute}
	r, err := Ask(context.Background(), Question{Spec: spec, Config: cfg, Source: SyntheticSource(worlds.Scenario{RPS: 200, Base: 0.001, Latency: true, History: 10 * time.Minute, LostScrapes: 0.5}), Runs: 2, Seed: 1})
	if err != nil || r.Policies[0].Healthy.Passed.K != 2 || !strings.Contains(strings.Join(r.Notes, ";"), "300ms: 500ms is taken instead") {
		t.Errorf("%+v, %v", r, err)
	}
	if cfg.Latency.Max != 300*time.Millisecond {
		t.Error("the question was changed")
	}
}

// TestInterval against figures of statistical tables.
func TestInterval(t *testing.T) {
	for _, c := range []struct {
		s         Share
		low, high float64
	}{{Share{0, 100}, 0, 0.0370}, {Share{1, 1000}, 0.000177, 0.00565}, {Share{50, 100}, 0.4038, 0.5962}, {Share{10, 10}, 0.7225, 1}, {Share{}, 0, 1}} {
		low, high := c.s.Interval()
		if math.Abs(low-c.low) > 5e-5 || math.Abs(high-c.high) > 5e-5 {
			t.Errorf("%v: %.5f to %.5f, want %.5f to %.5f", c.s, low, high, c.low, c.high)
		}
	}
}

// TestBound against the world's own, and against a histogram with two buckets.
func TestBound(t *testing.T) {
	for _, c := range []struct{ rps, base, bad float64 }{{10, 0.001, 0.02}, {1000, 0.01, 0.02}, {1, 0, 1}} {
		s := worlds.Scenario{RPS: c.rps, Base: c.base, Bad: c.bad}
		want, got := s.Bound(0.05, 0.01), Bound(0.01, 0.05, c.rps, c.base, c.bad)
		if math.Abs(want.Seconds()-got.Seconds()) > 1e-6*want.Seconds() {
			t.Errorf("%+v: %v, the world says %v", c, got, want)
		}
	}
	if d := Bound(0.01, 0.05, 10, 0.02, 0.02); d != math.MaxInt64 {
		t.Errorf("what is no worse cannot be told: %v", d)
	}
	h := slowInformation(worlds.Scenario{Latency: true, Slower: 1.5})
	sum := 0.0
	for i, p := range h.stable {
		sum += p - h.canary[i]
	}
	if math.Abs(sum) > 1e-9 || !(h.information(5, 95) > h.information(5, 5)) || h.information(5, 95) <= 0 {
		t.Errorf("the shapes %v and %v", h.stable, h.canary)
	}
}

// TestPowerAgreesWithRuns: what is computed is what is seen, near enough to be
// told to people.
func TestPowerAgreesWithRuns(t *testing.T) {
	spec, cfg := founding(t)
	for _, rps := range []float64{20, 150} {
		const base, within = 0.003, 10 * time.Minute
		p, ok := SmallestError(cfg, 0.05, rps, base, within)
		if !ok || p <= base || p > 0.3 {
			t.Fatalf("%v requests/s: %v %v", rps, p, ok)
		}
		q := Question{Spec: spec, Config: cfg, Source: SyntheticSource(worlds.Scenario{RPS: rps, Base: base, Latency: true, History: 15 * time.Minute}), Seed: 5, Within: within, Verify: 20}
		s, err := q.smallest(context.Background())
		if err != nil || s.Seen.Value() < 0.7 || s.Share > 2*s.Computed {
			t.Errorf("%v requests/s: computed %.4f, runs need %.4f and then catch %v in time (%v)", rps, s.Computed, s.Share, s.Seen, err)
		}
		half := campaign(t, Case{Synthetic(worlds.Scenario{RPS: rps, Base: base, Bad: base + (p-base)/4, Latency: true, History: 15 * time.Minute}), Serin(spec, cfg), within}, 5, 12)
		if half.Within(within).Value() > 0.6 {
			t.Errorf("%v requests/s: a quarter of the smallest is caught in time, too: %v", rps, half.Within(within))
		}
	}
	if _, ok := SmallestError(cfg, 0.05, 0.01, 0.003, 10*time.Minute); ok {
		t.Error("six requests tell nothing about a share")
	}
	// At 3 requests/s, 200 requests at 5 % alone take 22 minutes.
	d, why := AdvanceTime(analysis.Config{MinRequests: 200}, 0.05, 0.25, 3, 0.003)
	if d.Round(time.Minute) != 22*time.Minute || why != "requests" {
		t.Errorf("%v by %s", d, why)
	}
	// Errors: ln 20 over the divergence of 0.1 % from 1.1 % with 5 requests/s.
	one := analysis.Config{Compare: true, ErrorRate: &analysis.RateRule{WorseBy: 0.01}}
	d, why = AdvanceTime(one, 0.05, 0.25, 100, 0.001)
	want := math.Log(20) / (0.001*math.Log(0.001/0.011) + 0.999*math.Log(0.999/0.989)) / 5
	if math.Abs(d.Seconds()-want) > 0.1 || why != "errors" {
		t.Errorf("%v by %s, want %.1fs", d, why, want)
	}
	steps := Power(spec, cfg, 40, 0.003, 10*time.Minute)
	if len(steps) != 5 || steps[4].Smallest != nil || steps[0].Smallest == nil || *steps[1].Smallest >= *steps[0].Smallest || steps[1].Advance < 5*time.Minute {
		t.Errorf("%+v", steps)
	}
}

func TestParseRegression(t *testing.T) {
	r, err := ParseRegression("error=2%,after=15m,from=50%,over=30m")
	if want := (Regression{Text: r.Text, Error: 0.02, After: 15 * time.Minute, From: 0.5, Over: 30 * time.Minute}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "error", "error=2", "error=0%", "error=200%", "latency=1.5", "latency=x1", "latency=x", "latency=xNaN", "tail=", "after=5m", "error=2%,latency=x2", "error=2%,soon=1m", "error=2%,after=later", "error=x,from=y"} {
		if r, err := ParseRegression(bad); err == nil {
			t.Errorf("%q: taken as %+v", bad, r)
		}
	}
	if _, err := ParseRegression("error=x,from=y"); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("both problems are said: %v", err)
	}
}

// recorded makes a record of a synthetic service at rest.
func recorded(t testing.TB, s worlds.Scenario) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := worlds.New(s, 9)
	enc := json.NewEncoder(&b)
	for w.Elapsed() < 0 {
		w.Advance(0)
		l := record.Line{Time: w.Now(), Traffic: map[string]float64{"v1": 100}, Revisions: map[string]record.Revision{"v1": {Pods: map[string]record.Pod{}}, "v0": {Pods: map[string]record.Pod{}}}}
		for _, p := range w.Stable() {
			l.Revisions["v1"].Pods[p.Name] = record.Pod{Started: &p.Started, Requests: &p.Requests, Errors: &p.Errors, CPUSeconds: &p.CPUSeconds, MemoryBytes: &p.MemoryBytes,
				Latency: &record.Latency{LE: p.Latency.LE, Count: p.Latency.Count}}
		}
		if err := enc.Encode(l); err != nil {
			t.Fatal(err)
		}
	}
	return &b
}

func TestRecordedPodsPlayTheCanary(t *testing.T) {
	spec, cfg := founding(t)
	in := recorded(t, worlds.Scenario{RPS: 60, Base: 0.004, Pods: 5, Latency: true, History: 50 * time.Minute, Resets: 2})
	r, err := ReadRecord(in, "x.jsonl", nil)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.Rate()-60) > 2 || math.Abs(r.Base()-0.004) > 0.0007 || len(r.pods) != 5 || r.every != 5*time.Second {
		t.Errorf("rate %.1f, base %.4f, %d pods, a look every %v", r.Rate(), r.Base(), len(r.pods), r.every)
	}
	share := func(g *Regression, weight float64, looks int) (share, fails, slow float64) {
		ws, err := r.Worlds(g)
		if err != nil {
			t.Fatal(err)
		}
		w := ws.New(11, 0)
		for range looks {
			w.Advance(weight)
		}
		sum := func(ps []analysis.Pod) (n, e, h float64) {
			for _, p := range ps {
				n, e, h = n+p.Requests, e+p.Errors, h+p.Requests-p.Latency.Count[5] // beyond 250 ms
			}
			return
		}
		cn, ce, ch := sum(w.Canary())
		sn, _, _ := sum(w.Stable())
		if x := w.Truth().Exposed; x < cn { // what was reset is exposed all the same
			t.Errorf("exposed %v, shown %v", x, cn)
		}
		return cn / (cn + sn), ce / cn, ch / cn
	}
	for _, weight := range []float64{0.05, 0.25, 0.5, 1} {
		if got, _, _ := share(nil, weight, 300); math.Abs(got-weight) > 0.1*weight {
			t.Errorf("at %v the canary answers %v", weight, got)
		}
	}
	_, _, healthy := share(nil, 0.5, 500)
	if _, fails, _ := share(&Regression{Error: 0.05}, 0.5, 500); math.Abs(fails-0.05) > 0.006 {
		t.Errorf("with error=5%% it fails %v", fails)
	}
	if _, _, slow := share(&Regression{Slower: 2}, 0.5, 500); slow < 3*healthy {
		t.Errorf("twice as slow, %v take more than 250 ms, %v before", slow, healthy)
	}
	if _, _, slow := share(&Regression{Tail: 0.1}, 0.5, 500); math.Abs(slow-healthy-0.1) > 0.02 {
		t.Errorf("with a tail of 10 %%, %v take more than 250 ms, %v before", slow, healthy)
	}
	q := Question{Spec: spec, Config: cfg, Source: r, Regress: []Regression{{Text: "error=5%", Error: 0.05}}, Runs: 10, Seed: 1, Within: 10 * time.Minute}
	q.Config.CPU = nil
	rep, err := Ask(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Policies[0].Healthy.Back.K > 1 || rep.Policies[0].Wrong[0].Caught.K < 9 {
		t.Errorf("%+v", rep.Policies[0])
	}
}

func TestStretch(t *testing.T) {
	moves := stretch([]float64{10, 100, 1000}, 10)
	for j, m := range moves {
		sum := 0.0
		for _, x := range m {
			sum += x
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("of bucket %d %v arrives", j, sum)
		}
	}
	// (10, 100] times ten is (100, 1000]; (100, 1000] is beyond; (5, 10] is (50, 100].
	if math.Abs(moves[1][2]-1) > 1e-9 || math.Abs(moves[2][3]-1) > 1e-9 || math.Abs(moves[0][1]-1) > 1e-9 {
		t.Errorf("%v", moves)
	}
}

func TestRecordsThatAreNotEnough(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"Empty":    {"", []string{"0 pods", "at least 10m", "no request"}},
		"OnePod":   {recorded(t, worlds.Scenario{RPS: 5, Base: 0, Pods: 1, Latency: true, History: 11 * time.Minute}).String(), []string{"at least 2"}},
		"TooShort": {recorded(t, worlds.Scenario{RPS: 5, Base: 0, Pods: 2, Latency: true, History: 5 * time.Minute}).String(), []string{"at least 10m"}},
		"NotJSON":  {"hello\nworld\n", []string{"line 1"}},
	} {
		_, err := ReadRecord(strings.NewReader(c.text), "x", nil)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want something with %q", name, err, w)
			}
		}
	}
}

func TestScenariosSayWhatIsWrong(t *testing.T) {
	_, problems := ReadScenarios([]byte(`
scenarios:
- {name: a, rps: 0, base: 5, weather: rainy}
- {name: a, rps: 1e9, latency: {slower: 0.5, cold: soon}, onset: {wieght: 5%}}
- {rps: 1, base: 200%, resets: 100, every: 1ms, pods: 1000}
`))
	all := fmt.Sprint(problems)
	for _, want := range []string{"scenarios[0].rps", "scenarios[0].base", "scenarios[0].weather", `"a" is there twice`, "scenarios[1].rps", "latency.slower", "latency.cold", "wieght", "scenarios[2].name", "scenarios[2].base", "resets", "every", "pods"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not said:\n%v", want, strings.ReplaceAll(all, "} {", "}\n{"))
		}
	}
}

const scenarios = "../../../test/scenarios"

// TestScenarios: the public set is there, whole, and a few of it give what its
// golden table says.
func TestScenarios(t *testing.T) {
	b, err := ReadBenchmark(os.DirFS(scenarios))
	if err != nil {
		t.Fatal(err)
	}
	n, rates, kinds := 0, map[float64]bool{}, map[string]bool{}
	for _, g := range b.Groups {
		for _, s := range g.Scenarios {
			n++
			rates[s.RPS] = true
			for kind, has := range map[string]bool{"outage": s.OutageFor > 0, "bursts": s.Weather != "", "unlike": s.Unlike > 0, "cold": s.ColdBy > 1, "sticky": s.Sticky, "resets": s.Resets > 0,
				"lost": s.LostScrapes > 0, "skew": s.Skew, "better": s.Bad > 0 && s.Bad < s.Base, "load": s.OnsetWeight > 0, "leak": s.Ramp > 0, "slower": s.Slower > 1, "tail": s.Tail > 0, "healthy": s.Healthy()} {
				kinds[kind] = kinds[kind] || has
			}
		}
	}
	if n < 60 || !rates[1] || !rates[1000] || len(b.Peers) != 2 {
		t.Errorf("%d scenarios, rates %v, %d peers", n, rates, len(b.Peers))
	}
	for k, has := range kinds {
		if !has {
			t.Errorf("no scenario of kind %s", k)
		}
	}
	b.Runs, b.Only = 5, "00/s 0.5%"
	got, err := b.Run(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) < 3 {
		t.Fatalf("%d scenarios of that name", len(got.Rows))
	}
	changed, err := got.Check(os.DirFS(scenarios))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changed {
		t.Errorf("%s (to accept: serin simulate --scenarios test/scenarios --write-golden)", c)
	}
	// A judge that has become blind, or trigger-happy, is told of.
	blind := *got
	blind.Rows = append([]Row(nil), got.Rows...)
	for i := range blind.Rows {
		blind.Rows[i].Cells = append([]Cell(nil), got.Rows[i].Cells...)
		c := &blind.Rows[i].Cells[0]
		c.Back, c.Passed = c.Runs-c.Back, c.Runs-c.Passed
	}
	if changed, _ := blind.Check(os.DirFS(scenarios)); len(changed) < len(got.Rows) {
		t.Errorf("the opposite of it is taken for the same: %v", changed)
	}
	if text := got.Markdown(); !strings.Contains(text, "| errors 100/s 0.5% to 5% |") || !strings.Contains(text, "Kayenta") {
		t.Errorf("the table:\n%s", text)
	}
}

// TestBeyond: one run too many is chance; what the whole interval says is not.
func TestBeyond(t *testing.T) {
	for k, want := range map[int]bool{0: false, 5: false, 8: false, 12: true, 30: true} {
		a := Answer{Wrong: []WrongCase{{Regression: Regression{Text: "a"}, Caught: Share{475, 500}}, {Regression: Regression{Text: "b"}, Caught: Share{474, 500}}}}
		a.False[0], a.False[1] = Share{k, 500}.Interval()
		r := Report{Bound: 0.01, Policies: []Answer{a}}
		if got := r.FalseBeyond(); got != want {
			t.Errorf("%d of 500 taken back (%.4f to %.4f), 1 %% allowed: beyond is %v", k, a.False[0], a.False[1], got)
		}
		if missed := r.MissedBeyond(0.05); !reflect.DeepEqual(missed, []string{"b"}) {
			t.Errorf("missed in more than 5 %%: %v", missed)
		}
	}
}
