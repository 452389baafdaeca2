package analysis

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func ptr(x float64) *float64 { return &x }

// bench is a little world: two arms of pods whose counters the test moves.
type bench struct {
	t      *testing.T
	j      *Judge
	look   Look
	le     []float64
	report Report
}

func newBench(t *testing.T, cfg Config, stable, canary int) *bench {
	t.Helper()
	b := &bench{t: t, j: New(cfg), le: []float64{10, 50, 100, 500}}
	b.look = Look{Time: t0, Stable: "v1", Canary: "v2", Weight: 0.25, NextWeight: 0.5, Live: true}
	add := func(to *[]Pod, n int, name string) {
		for i := range n {
			*to = append(*to, Pod{
				Name: name + string(rune('a'+i)), Started: t0.Add(-time.Hour),
				Has:     HasRequests | HasErrors | HasLatency | HasCPU | HasMemory | HasRestarts,
				Latency: Histogram{LE: b.le, Count: make([]float64, len(b.le))}, MemoryBytes: 1e8,
			})
		}
	}
	add(&b.look.StablePods, stable, "s-")
	add(&b.look.CanaryPods, canary, "c-")
	b.see() // the baseline
	return b
}

func (b *bench) see() Report {
	b.report = b.j.Look(b.look)
	b.j.Explain(&b.report)
	return b.report
}

// serve adds n requests with e errors and slow requests above 500 ms to a pod.
func (b *bench) serve(p *Pod, n, e, slow float64) {
	p.Requests += n
	p.Errors += e
	for i := range p.Latency.Count {
		p.Latency.Count[i] += n - slow
	}
}

// tick moves the clock and both arms, then looks.
func (b *bench) tick(d time.Duration, sn, se, cn, ce float64) Report {
	b.look.Time = b.look.Time.Add(d)
	for i := range b.look.StablePods {
		b.serve(&b.look.StablePods[i], sn, se, 0)
	}
	for i := range b.look.CanaryPods {
		b.serve(&b.look.CanaryPods[i], cn, ce, 0)
	}
	return b.see()
}

func errorLimit(max float64, hold time.Duration) Config {
	return Config{ErrorRate: &RateRule{Max: ptr(max), For: hold}}
}

func (b *bench) want(v Verdict, words ...string) {
	b.t.Helper()
	if b.report.Verdict != v {
		b.t.Fatalf("verdict %v, want %v: %s", b.report.Verdict, v, b.report.Sentence)
	}
	for _, w := range words {
		if !strings.Contains(b.report.Sentence, w) {
			b.t.Errorf("sentence %q lacks %q", b.report.Sentence, w)
		}
	}
}

func TestLimitFiresAfterFor(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	start := b.look.Time
	for range 3 {
		b.tick(time.Second, 100, 0, 50, 10)
		b.want(Undecided, "limit 1 %", "taken back after 3 s")
		if b.report.Calm {
			t.Error("calm while a limit is broken")
		}
	}
	b.tick(time.Second, 100, 0, 50, 10)
	b.want(Fail, "Errors 20 % (30 of 150)", "on stable", "harmed")
	if b.report.Rule != "errorRate" || b.report.Rollback != 1 {
		t.Errorf("rule %q, rollback %v", b.report.Rule, b.report.Rollback)
	}
	if got := b.look.Time.Sub(start); got != 4*time.Second {
		t.Errorf("fired after %v", got)
	}
	if b.report.Harmed != 40 || b.report.Exposed != 200 {
		t.Errorf("harmed %v of %v", b.report.Harmed, b.report.Exposed)
	}
}

func TestLimitStartsAgainAfterAGoodWindow(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 5*time.Second), 1, 1)
	for range 4 {
		b.tick(time.Second, 100, 0, 50, 10)
	}
	for range 8 {
		b.tick(time.Second, 100, 0, 50, 0)
	}
	b.want(Pass)
	for range 4 {
		b.tick(time.Second, 100, 0, 50, 10)
		b.want(Undecided)
	}
}

func TestLimitNeedsTenBadRequests(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	for range 9 {
		b.tick(time.Second, 100, 0, 5, 1)
		b.want(Undecided)
	}
	b.tick(time.Second, 100, 0, 5, 1)
	b.want(Fail)
}

func TestLimitThatBothBreakHolds(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	for range 20 {
		b.tick(time.Second, 100, 5, 50, 10)
		b.want(Undecided, "both versions break it")
		if !b.report.BothBreak || b.report.Calm {
			t.Fatal("both break it: not said, or calm")
		}
	}
}

func TestLimitNotTwiceStableDoesNotCount(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	for range 20 {
		b.tick(time.Second, 1000, 9, 1000, 12)
		b.want(Undecided, "not clearly beyond stable")
	}
}

// Missing data neither starts nor breaks a `for`, until StaleAfter.
func TestLimitAndMissingData(t *testing.T) {
	for _, tc := range []struct {
		name string
		gap  time.Duration
		want Verdict
	}{
		{"a short gap does not break it", 30 * time.Second, Fail},
		{"after StaleAfter it starts again", 61 * time.Second, Undecided},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, errorLimit(0.01, 20*time.Second), 1, 1)
			b.tick(time.Second, 100, 0, 50, 10)
			pods := b.look.CanaryPods
			b.look.CanaryPods = nil
			for range int(tc.gap / time.Second) {
				b.tick(time.Second, 100, 0, 0, 0)
				if b.report.Verdict == Fail || b.report.Verdict == Pass {
					t.Fatalf("%v on missing data: %s", b.report.Verdict, b.report.Sentence)
				}
			}
			b.look.CanaryPods = pods
			b.tick(time.Second, 100, 0, 50, 10)
			b.want(tc.want)
		})
	}
}

func TestLimitWhileBakingNeedsNoStable(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	b.look.Weight, b.look.Baking = 1, true
	for range 5 {
		b.tick(time.Second, 0, 0, 50, 10)
	}
	b.want(Fail)
}

func TestBakingPassesOnTheCanaryAlone(t *testing.T) {
	cfg := errorLimit(0.01, 3*time.Second)
	cfg.MinRequests = 100
	b := newBench(t, cfg, 1, 1)
	b.look.Weight, b.look.Baking = 1, true
	b.look.StablePods = nil
	b.tick(time.Second, 0, 0, 60, 0)
	b.want(Undecided, "60 of the 100 requests")
	b.tick(time.Second, 0, 0, 60, 0)
	b.want(Pass)
}

// Before the bake, silence of stable is not the canary's fault.
func TestLimitWithoutStableHolds(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	for range 10 {
		b.tick(time.Second, 0, 0, 50, 10)
		if b.report.Verdict == Fail || b.report.Verdict == Pass {
			t.Fatal(b.report.Verdict, b.report.Sentence)
		}
	}
}

func TestLatencyLimitIsTheShareAboveTheBound(t *testing.T) {
	cfg := Config{Latency: &LatencyRule{Quantile: 0.99, Max: 500 * time.Millisecond, For: 3 * time.Second}}
	b := newBench(t, cfg, 1, 1)
	for range 5 {
		b.look.Time = b.look.Time.Add(time.Second)
		b.serve(&b.look.StablePods[0], 100, 0, 0)
		b.serve(&b.look.CanaryPods[0], 100, 0, 5)
		b.see()
	}
	b.want(Fail, "slower than 500 ms: 5 %", "limit 1 %")

	cfg.Latency.Max = 400 * time.Millisecond
	b = newBench(t, cfg, 1, 1)
	b.tick(time.Second, 100, 0, 100, 0)
	b.want(Unavailable, "no histogram bound lies at 400 ms")
}

func TestCPUAndMemoryLimits(t *testing.T) {
	cfg := Config{CPU: &GaugeRule{Max: ptr(0.5), For: 3 * time.Second}}
	b := newBench(t, cfg, 2, 1)
	for range 5 {
		b.look.CanaryPods[0].CPUSeconds += 0.8
		b.tick(time.Second, 10, 0, 10, 0)
	}
	b.want(Fail, "CPU 0.8 cores a pod, 0 on stable", "limit 0.5")
	cfg = Config{Memory: &GaugeRule{Max: ptr(1 << 30), For: 3 * time.Second}}
	b = newBench(t, cfg, 2, 1)
	b.look.CanaryPods[0].MemoryBytes = 1.5 * (1 << 30)
	for range 5 {
		b.tick(time.Second, 10, 0, 10, 0)
	}
	b.want(Fail, "Memory 1.5 GiB", "limit 1 GiB")
	b.look.StablePods[1].MemoryBytes = 2 * (1 << 30)
	b.tick(time.Second, 10, 0, 10, 0)
	b.want(Undecided, "both versions break it")
}

func TestCustomAnswersAreEachTheirOwn(t *testing.T) {
	num := func(x float64) Reading { return Reading{Answer: Number, Value: x} }
	for _, tc := range []struct {
		name           string
		stable, canary Reading
		want           Verdict
		words          string
	}{
		{"a number", num(99), num(99), Pass, "checkout 99"},
		{"below the min", num(99), num(90), Undecided, "at least 98"},
		{"both below", num(90), num(90), Undecided, "both versions"},
		{"one number for the canary only", Reading{}, num(99), Pass, ""},
		{"one number, below", Reading{}, num(90), Undecided, "over it since"},
		{"never answered", Reading{}, Reading{}, Unavailable, "no number yet"},
		{"empty", num(99), Reading{Answer: Empty}, Unavailable, "no series for the canary"},
		{"stable empty", Reading{Answer: Empty}, num(99), Unavailable, "no series for stable"},
		{"NaN", num(99), num(math.NaN()), Unavailable, "not a number"},
		{"Inf", num(99), num(math.Inf(1)), Unavailable, "not a number"},
		{"several", num(99), Reading{Answer: Several}, Unavailable, "several series"},
		{"failed", num(99), Reading{Answer: SourceFailed}, Unavailable, "did not answer"},
		{"unknown word", num(99), Reading{Answer: 77}, Unavailable, "did not answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, Config{Custom: []CustomRule{{Name: "checkout", Min: ptr(98), For: 3 * time.Second}}}, 1, 1)
			b.look.Custom = []Custom{{Name: "checkout", Stable: tc.stable, Canary: tc.canary}}
			b.tick(time.Second, 10, 0, 10, 0)
			b.want(tc.want, tc.words)
		})
	}
}

func TestCustomFiresAndAGapDoesNotBreakIt(t *testing.T) {
	b := newBench(t, Config{Custom: []CustomRule{{Name: "x", Max: ptr(5), For: 3 * time.Second}}}, 1, 1)
	num := func(x float64) Reading { return Reading{Answer: Number, Value: x} }
	b.look.Custom = []Custom{{Name: "x", Stable: num(1), Canary: num(9)}}
	b.tick(time.Second, 10, 0, 10, 0)
	b.look.Custom[0].Canary = Reading{Answer: Empty}
	b.tick(time.Second, 10, 0, 10, 0)
	b.want(Unavailable)
	b.look.Custom[0].Canary = num(9)
	b.tick(2*time.Second, 10, 0, 10, 0)
	b.want(Fail, "x is 9, 1 on stable")
}

// A declared metric that nothing measures is a typo, not a success.
func TestDeclaredMetricWithoutDataIsUnavailable(t *testing.T) {
	b := newBench(t, Config{ErrorRate: &RateRule{}, CPU: &GaugeRule{}}, 1, 1)
	for _, pods := range [][]Pod{b.look.StablePods, b.look.CanaryPods} {
		for i := range pods {
			pods[i].Has &^= HasCPU
		}
	}
	for range 100 {
		b.tick(time.Second, 100, 0, 100, 0)
	}
	b.want(Unavailable, "cpu")
	for _, pods := range [][]Pod{b.look.StablePods, b.look.CanaryPods} {
		for i := range pods {
			pods[i].Has |= HasCPU
		}
	}
	b.tick(time.Second, 100, 0, 100, 0)
	b.tick(time.Second, 100, 0, 100, 0)
	b.want(Pass)
}

func TestNothingDeclaredNeverPasses(t *testing.T) {
	b := newBench(t, Config{}, 1, 1)
	b.tick(time.Second, 100, 0, 100, 0)
	b.want(Unavailable)
	b = newBench(t, Config{None: true, NoneReason: "internal tool"}, 0, 0)
	b.see()
	b.want(Pass, "internal tool")
}

func TestNoPassWithoutTrafficOrBeforeLive(t *testing.T) {
	b := newBench(t, errorLimit(0.01, time.Minute), 1, 1)
	b.tick(time.Second, 100, 0, 0, 0)
	b.want(Unavailable, "No request has reached the canary")
	b.tick(time.Second, 0, 0, 100, 0)
	b.want(Pass) // one look each: both have been seen at this step
	b.look.Step, b.look.Live = 1, false
	b.tick(time.Second, 100, 0, 100, 0)
	b.want(Undecided, "not been seen in force")
	if b.report.CanaryRequests != 0 || b.report.Scored != 0 {
		t.Error("counted before the split was live")
	}
	b.look.Live = true
	b.tick(time.Second, 100, 0, 100, 0) // this look's traffic is older than live
	if b.report.CanaryRequests != 0 {
		t.Error("counted what came before live")
	}
	b.tick(time.Second, 100, 0, 100, 0)
	b.want(Pass)
	if b.report.CanaryRequests != 100 || b.report.StableRequests != 100 || b.report.Scored != time.Second {
		t.Errorf("%+v", b.report)
	}
}

// Evidence never mixes revisions.
func TestAnotherRevisionStartsFromNothing(t *testing.T) {
	b := newBench(t, errorLimit(0.01, 3*time.Second), 1, 1)
	for range 4 {
		b.tick(time.Second, 100, 0, 50, 10)
	}
	b.want(Fail)
	b.look.Canary = "v3"
	b.tick(time.Second, 100, 0, 50, 10)
	b.tick(time.Second, 100, 0, 50, 10)
	b.want(Undecided)
	if b.report.Exposed != 50 {
		t.Errorf("exposed %v: the baseline of a new revision's pod counts nothing", b.report.Exposed)
	}
}

func TestDeltas(t *testing.T) {
	total := func(b *bench) float64 { return b.report.Exposed }
	fresh := func() *bench { return newBench(t, errorLimit(0.01, time.Minute), 1, 1) }

	b := fresh()
	b.tick(time.Second, 100, 0, 50, 0)
	b.look.CanaryPods[0].Requests, b.look.CanaryPods[0].Errors = 7, 0
	clear(b.look.CanaryPods[0].Latency.Count)
	b.tick(time.Second, 100, 0, 0, 0)
	if total(b) != 57 {
		t.Errorf("a counter that fell: %v, want 57", total(b))
	}

	b = fresh()
	b.tick(time.Second, 100, 0, 50, 0)
	b.tick(0, 100, 0, 50, 0)
	b.tick(-time.Second, 100, 0, 50, 0)
	if total(b) != 50 {
		t.Errorf("looks that are not later were scored: %v, want 50", total(b))
	}
	b.look.Time = b.look.Time.Add(2 * time.Second)
	b.see()
	if total(b) != 150 {
		t.Errorf("the next look covers what they held: %v, want 150", total(b))
	}

	b = fresh()
	b.look.CanaryPods = append(b.look.CanaryPods, b.look.CanaryPods[0])
	b.look.CanaryPods[1].Name = "old"
	b.look.CanaryPods[1].Requests = 1000
	b.look.CanaryPods[1].Latency.Count = []float64{1, 2, 3, 4}
	b.tick(time.Second, 0, 0, 0, 0)
	if total(b) != 0 {
		t.Errorf("a new pod's first reading is a baseline: %v", total(b))
	}
	b.look.CanaryPods = append(b.look.CanaryPods, b.look.CanaryPods[0])
	b.look.CanaryPods[2].Name = "young"
	b.look.CanaryPods[2].Started = b.look.Time
	b.look.CanaryPods[2].Requests = 3
	b.look.CanaryPods[2].Latency.Count = []float64{0, 0, 0, 0}
	b.tick(time.Second, 0, 0, 0, 0)
	if total(b) != 3 {
		t.Errorf("a pod that started since the last look: %v, want 3", total(b))
	}
}

func TestReadingsThatCannotBeTrueAreLeftOutAndNamed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*Pod)
		words string
	}{
		{"NaN", func(p *Pod) { p.Requests = math.NaN() }, "pod c-a is not a number"},
		{"Inf", func(p *Pod) { p.Errors = math.Inf(1) }, "pod c-a is not a number"},
		{"negative", func(p *Pod) { p.Requests = -1 }, "pod c-a is negative"},
		{"more errors than requests", func(p *Pod) { p.Errors = p.Requests + 100 }, "pod c-a has more errors than requests"},
		{"buckets that fall", func(p *Pod) { p.Latency.Count = []float64{5, 4, 3, 2} }, "broken histogram"},
		{"lengths that differ", func(p *Pod) { p.Latency.Count = p.Latency.Count[:2] }, "broken histogram"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, errorLimit(0.01, time.Minute), 1, 1)
			b.tick(time.Second, 100, 0, 100, 0)
			before := b.look.CanaryPods[0]
			before.Latency.Count = append([]float64(nil), before.Latency.Count...)
			tc.spoil(&b.look.CanaryPods[0])
			b.tick(time.Second, 100, 0, 0, 0)
			if b.report.Exposed != 100 {
				t.Errorf("scored %v of a broken reading", b.report.Exposed-100)
			}
			if !strings.Contains(b.report.Sentence, tc.words) {
				t.Errorf("sentence %q lacks %q", b.report.Sentence, tc.words)
			}
			b.look.CanaryPods[0] = before
			b.tick(time.Second, 100, 0, 100, 0)
			if b.report.Exposed != 200 {
				t.Errorf("after it: %v, want 200", b.report.Exposed)
			}
		})
	}
}

// Errors counted a moment before their requests are not lost.
func TestSkewedCountersKeepEveryError(t *testing.T) {
	b := newBench(t, errorLimit(0.5, time.Minute), 1, 1)
	b.tick(time.Second, 100, 0, 10, 11)
	b.tick(time.Second, 100, 0, 10, 9)
	w := b.j.s.Shown.total()
	if w.CanaryK != 20 || w.CanaryN != 20 {
		t.Errorf("%v of %v", w.CanaryK, w.CanaryN)
	}
}

// What one arm alone reported is compared with nothing, and lost never.
func TestOneArmedLooksAreCarriedOver(t *testing.T) {
	b := newBench(t, errorLimit(0.01, time.Minute), 1, 1)
	pods := b.look.StablePods
	b.tick(time.Second, 100, 0, 50, 0)
	b.look.StablePods = nil
	b.tick(time.Second, 0, 0, 50, 0)
	if b.report.CanaryRequests != 50 {
		t.Errorf("a one-armed look was scored: %v", b.report.CanaryRequests)
	}
	b.look.StablePods = pods
	b.tick(time.Second, 200, 0, 50, 0)
	if b.report.CanaryRequests != 150 || b.report.StableRequests != 300 {
		t.Errorf("%v, %v", b.report.CanaryRequests, b.report.StableRequests)
	}
}

func TestHistogramLayouts(t *testing.T) {
	cfg := Config{Latency: &LatencyRule{Quantile: 0.99, Max: 100 * time.Millisecond, For: time.Second}}
	b := newBench(t, cfg, 1, 1)
	b.tick(time.Second, 100, 0, 100, 0)
	// The canary's next build has fewer bounds: the common ones remain.
	b.look.CanaryPods[0].Latency = Histogram{LE: []float64{50, 100, 2000}, Count: []float64{100, 100, 100}}
	b.tick(time.Second, 100, 0, 100, 0)
	if got := b.j.s.Layout; !reflect.DeepEqual(got, []float64{50, 100}) {
		t.Fatal("layout", got)
	}
	for range 3 {
		b.look.Time = b.look.Time.Add(time.Second)
		b.serve(&b.look.StablePods[0], 100, 0, 0)
		b.serve(&b.look.CanaryPods[0], 100, 0, 50)
		b.see()
	}
	b.want(Fail, "50 %", "on stable")
	b.look.CanaryPods[0].Latency = Histogram{LE: []float64{7}, Count: []float64{100}}
	b.tick(time.Second, 100, 0, 0, 0)
	if !strings.Contains(b.report.Sentence, "no bound in common") {
		t.Error(b.report.Sentence)
	}
}

func TestStateRoundTrip(t *testing.T) {
	cfg := fullConfig()
	b := newBench(t, cfg, 3, 2)
	b.look.Custom = []Custom{{Name: "x", Stable: Reading{Answer: Number, Value: 1}, Canary: Reading{Answer: Number, Value: 0.1}}}
	for i := range 200 {
		f := float64(i%7) / 3
		b.look.CanaryPods[0].CPUSeconds += 0.1 * f
		b.look.StablePods[0].CPUSeconds += 0.1
		b.look.StablePods[1].MemoryBytes += 1e5 * f
		if i%50 == 20 {
			b.look.Step++
		}
		saved, err := b.j.Save()
		if err != nil {
			t.Fatal(err)
		}
		other, err := Restore(cfg, saved)
		if err != nil {
			t.Fatal(err)
		}
		again, err := other.Save()
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(saved) {
			t.Fatalf("look %d:\n%s\n%s", i, saved, again)
		}
		live := b.tick(time.Second, 100+f, float64(i%3), 30, float64(i%5)/2)
		got := other.Look(b.look)
		if other.Explain(&got); !reflect.DeepEqual(got, live) {
			t.Fatalf("look %d after a restore:\n%+v\n%+v", i, got, live)
		}
	}
	saved, _ := b.j.Save()
	t.Logf("%d bytes with %d pods", len(saved), 5)
}

func fullConfig() Config {
	return Config{
		ErrorRate: &RateRule{WorseBy: 0.005, Max: ptr(0.01), For: 5 * time.Minute},
		Latency:   &LatencyRule{Quantile: 0.99, WorseBy: 0.2, Max: 500 * time.Millisecond, For: 5 * time.Minute},
		CPU:       &GaugeRule{WorseBy: 0.3, Max: ptr(2), For: time.Minute},
		Memory:    &GaugeRule{WorseBy: 0.3, Max: ptr(1e9), For: time.Minute},
		Custom:    []CustomRule{{Name: "x", Max: ptr(5), For: time.Minute}},
		Compare:   true, MinRequests: 200, FalseRollback: 0.01,
	}
}

func TestRestoreRefusesForeignBytes(t *testing.T) {
	b := newBench(t, fullConfig(), 2, 1)
	b.tick(time.Second, 100, 1, 50, 1)
	good, err := b.j.Save()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "null", "{}", "[]", "7", `"x"`, `{"serinJudge":99}`, `{"serinJudge":1,"what":1}`,
		string(good) + "x", string(good[:len(good)-1]), strings.Replace(string(good), `"serinJudge":1`, `"serinJudge":2`, 1)} {
		if _, err := Restore(fullConfig(), []byte(bad)); err == nil {
			t.Errorf("took %.40q", bad)
		}
	}
	if _, err := Restore(Config{}, good); err != nil {
		t.Error("another configuration:", err)
	}
}

// Whatever bytes Restore takes, the judge that it gives does not panic.
func FuzzRestore(f *testing.F) {
	b := newBench(&testing.T{}, fullConfig(), 2, 1)
	b.tick(time.Second, 100, 1, 50, 1)
	good, _ := b.j.Save()
	f.Add(good)
	f.Add([]byte(`{"serinJudge":1}`))
	f.Fuzz(func(t *testing.T, saved []byte) {
		j, err := Restore(fullConfig(), saved)
		if err != nil {
			return
		}
		l := b.look
		for range 3 {
			l.Time = l.Time.Add(time.Second)
			r := j.Look(l)
			j.Explain(&r)
			if _, err := json.Marshal(r); err != nil {
				t.Fatal(err)
			}
			if _, err := j.Save(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestRestoreTakesMutatedStatesWithoutPanic(t *testing.T) {
	b := newBench(t, fullConfig(), 2, 1)
	b.tick(time.Second, 100, 1, 50, 1)
	good, _ := b.j.Save()
	var tree any
	if err := json.Unmarshal(good, &tree); err != nil {
		t.Fatal(err)
	}
	tried, taken := 0, 0
	// Each number becomes absurd, each list loses its end, each object its keys.
	var walk func(x any, put func(any))
	try := func() {
		tried++
		raw, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		j, err := Restore(fullConfig(), raw)
		if err != nil {
			return
		}
		taken++
		l := b.look
		for range 2 {
			l.Time = l.Time.Add(time.Second)
			r := j.Look(l)
			j.Explain(&r)
			if _, err := json.Marshal(r); err != nil {
				t.Fatalf("%v in %s", err, raw)
			}
		}
	}
	walk = func(x any, put func(any)) {
		switch x := x.(type) {
		case float64:
			for _, y := range []float64{-1, 1e300, 0.5} {
				put(y)
				try()
			}
			put(x)
		case []any:
			put([]any{})
			try()
			if len(x) > 0 {
				put(x[:len(x)-1])
				try()
			}
			put(x)
			for i := range x {
				if i < 2 || i == len(x)-1 { // the others are alike
					walk(x[i], func(y any) { x[i] = y })
				}
			}
		case map[string]any:
			for k, v := range x {
				delete(x, k)
				try()
				x[k] = v
				walk(v, func(y any) { x[k] = y })
			}
		}
	}
	walk(tree, func(any) {})
	t.Logf("%d mutations, %d taken", tried, taken)
}
