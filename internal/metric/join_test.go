package metric

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestChoose(t *testing.T) {
	const (
		pods       = v1alpha1.SourcePods
		prometheus = v1alpha1.SourcePrometheus
		auto       = v1alpha1.SourceAuto
	)
	for i, c := range []struct {
		asked                 v1alpha1.MetricSource
		kept                  string
		hasPods, answer, prom bool
		want                  v1alpha1.MetricSource
		reason                string
	}{
		{auto, "", true, true, true, pods, "seen at every look"},
		{"", "", true, true, true, pods, "nothing said is auto"},
		{auto, "", true, false, true, prometheus, "the pods count nothing"},
		{auto, "", true, false, false, pods, "there is nothing else"},
		{auto, "", false, false, true, prometheus, ""},
		{auto, "", false, false, false, "", ""},
		{auto, "prometheus", true, true, true, prometheus, "what is kept is not exchanged"},
		{auto, "pods", true, false, true, pods, "not even when it fails"},
		{auto, "prometheus", true, true, false, "", "nor when it is gone"},
		{pods, "prometheus", true, true, true, pods, "the document was edited"},
		{prometheus, "", true, true, true, prometheus, ""},
		{prometheus, "", true, true, false, "", ""},
		{v1alpha1.SourceGateway, "", true, true, true, "", "a cluster has none"},
	} {
		if got := Choose(c.asked, c.kept, c.hasPods, c.answer, c.prom); got != c.want {
			t.Errorf("%d: %q, want %q: %s", i, got, c.want, c.reason)
		}
	}
}

// samples give what they are told, and count how often they were asked.
type samples struct {
	has   analysis.Has
	err   error
	looks int
}

func (s *samples) Look(_ context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	s.looks++
	if s.err != nil {
		return engine.Sampled{}, s.err
	}
	out := engine.Sampled{Stable: []analysis.Pod{{Name: string(stable), Has: s.has}}}
	if canary != "" {
		out.Canary = []analysis.Pod{{Name: string(canary), Has: s.has}}
	}
	return out, nil
}

type customs []analysis.Custom

func (c customs) Readings(context.Context, rollout.Revision, rollout.Revision) []analysis.Custom {
	return c
}

func TestJoin(t *testing.T) {
	ctx := context.Background()
	pods, prom := &samples{has: analysis.HasRestarts}, &samples{has: analysis.HasRequests}
	j := Join(Sources{Pods: pods, Prometheus: prom})
	if got := j.Choose(ctx, "v1", ""); got != "prometheus" {
		t.Errorf("pods that count nothing: %q", got)
	}
	if _, err := j.Look(ctx, "v1", "v2"); err != nil || prom.looks != 1 {
		t.Error(err, prom.looks)
	}
	pods.has = analysis.HasRequests
	if got := j.Choose(ctx, "v1", "prometheus"); got != "prometheus" {
		t.Errorf("what is kept: %q", got)
	}
	if got := j.Choose(ctx, "v1", ""); got != "pods" {
		t.Errorf("the next rollout: %q", got)
	}
	before := pods.looks
	j.Choose(ctx, "v1", "pods")
	if pods.looks != before {
		t.Error("the pods were tried although the choice is made")
	}

	one := customs{{Name: "x", Canary: analysis.Reading{Answer: analysis.Number, Value: 1}}}
	prom.err = engine.ErrUnchanged
	for name, c := range map[string]struct {
		from   *samples
		custom Customs
		err    error
		want   string
	}{
		"Both":              {&samples{has: analysis.HasRequests}, one, nil, "2 pods 1 custom"},
		"NothingNewer":      {&samples{err: engine.ErrUnchanged}, customs(nil), engine.ErrUnchanged, "0 pods 0 custom"},
		"CustomIsNewer":     {&samples{err: engine.ErrUnchanged}, one, nil, "0 pods 1 custom"},
		"OnlyCustomAnswers": {&samples{err: errors.New("down")}, one, nil, "0 pods 1 custom"},
		"NoneAsked":         {&samples{has: analysis.HasRequests}, nil, nil, "2 pods 0 custom"},
	} {
		j := Join(Sources{Asked: "prometheus", Prometheus: c.from, Custom: c.custom})
		j.Choose(ctx, "v1", "")
		got, err := j.Look(ctx, "v1", "v2")
		if s := fmt.Sprintf("%d pods %d custom", len(got.Stable)+len(got.Canary), len(got.Custom)); s != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %s, %v", name, s, err)
		}
	}
	j = Join(Sources{Asked: "prometheus", Pods: pods})
	if got := j.Choose(ctx, "v1", ""); got != "" {
		t.Errorf("there is none: %q", got)
	}
	if _, err := j.Look(ctx, "v1", ""); !errors.Is(err, ErrNoSource) {
		t.Error(err)
	}
}

func TestFindings(t *testing.T) {
	full := func(max time.Duration) *v1alpha1.Analysis {
		r := &v1alpha1.Rollout{}
		r.Spec.Analysis.CPU, r.Spec.Analysis.Memory = &v1alpha1.ResourceUse{}, &v1alpha1.ResourceUse{}
		r.Default()
		r.Spec.Analysis.Latency.Max = &v1alpha1.Duration{Duration: max}
		return &r.Spec.Analysis
	}
	all := analysis.HasRequests | analysis.HasErrors | analysis.HasLatency | analysis.HasCPU | analysis.HasMemory
	pod := func(has analysis.Has, n float64) engine.Sampled {
		p := analysis.Pod{Has: has, Requests: n}
		if has&analysis.HasLatency != 0 {
			p.Latency = analysis.Histogram{LE: []float64{5, 250, 500}, Count: []float64{0, 0, 0}}
		}
		return engine.Sampled{Stable: []analysis.Pod{p}}
	}
	for name, c := range map[string]struct {
		seen engine.Sampled
		max  time.Duration
		want []string
	}{
		"AllThere":      {pod(all, 5), 250 * time.Millisecond, nil},
		"NoBound":       {pod(all, 5), 300 * time.Millisecond, []string{"max, 300ms", "250ms or 500ms"}},
		"BeyondBounds":  {pod(all, 5), 3 * time.Second, []string{"a bound, 500ms,"}},
		"BelowBounds":   {pod(all, 5), time.Millisecond, []string{"a bound, 5ms,"}},
		"NoTrafficYet":  {pod(all&^analysis.HasLatency, 0), time.Second, nil},
		"NoHistogram":   {pod(all&^analysis.HasLatency, 5), time.Second, []string{"no pod has a histogram"}},
		"NoStatus":      {pod(all&^analysis.HasErrors, 5), 250 * time.Millisecond, []string{"without their status"}},
		"NoUsage":       {pod(all&^analysis.HasCPU&^analysis.HasMemory, 5), 250 * time.Millisecond, []string{"analysis.cpu cannot", "analysis.memory cannot"}},
		"NothingAtAll":  {pod(analysis.HasRestarts, 0), time.Second, []string{"nothing can be judged", "http_requests_total or"}},
		"NoPodsNoWords": {engine.Sampled{}, time.Second, nil},
	} {
		got := fmt.Sprint(Findings(full(c.max), c.seen, true))
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %s, want %q", name, got, w)
			}
		}
		if len(c.want) == 0 && got != "[]" {
			t.Errorf("%s: %s", name, got)
		}
	}
	custom := full(time.Second)
	custom.Metrics = []v1alpha1.Metric{{Name: "x", Prometheus: &v1alpha1.PrometheusMetric{Query: "x"}}}
	if got := fmt.Sprint(Findings(custom, engine.Sampled{}, false)); !strings.Contains(got, "the controller was given none") {
		t.Errorf("queries without a Prometheus: %s", got)
	}
	if got := Findings(custom, engine.Sampled{}, true); got != nil {
		t.Errorf("queries with a Prometheus: %v", got)
	}
}
