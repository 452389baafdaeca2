package metric

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Customs answers the metrics of a document beside the built-in ones. Readings
// gives the answers that have come since it was asked last; it does not wait.
type Customs interface {
	Readings(ctx context.Context, stable, canary rollout.Revision) []analysis.Custom
}

// Choose says where the figures come from: what the document asks for, what
// this rollout keeps ("" = none yet), and whether the pods gave figures when
// they were asked last. It is "" where what is kept or asked for is not to be
// had here.
//
// The pods come first: they are seen at every look, Prometheus once a scrape.
// A source that is kept is never exchanged, since counters that were read
// elsewhere are other counters.
func Choose(asked v1alpha1.MetricSource, kept string, hasPods, podsAnswer, hasPrometheus bool) v1alpha1.MetricSource {
	have := func(s v1alpha1.MetricSource) v1alpha1.MetricSource {
		if s == v1alpha1.SourcePods && hasPods || s == v1alpha1.SourcePrometheus && hasPrometheus {
			return s
		}
		return ""
	}
	switch {
	case asked != "" && asked != v1alpha1.SourceAuto:
		return have(asked)
	case kept != "":
		return have(v1alpha1.MetricSource(kept))
	case hasPods && (podsAnswer || !hasPrometheus):
		return v1alpha1.SourcePods
	}
	return have(v1alpha1.SourcePrometheus)
}

// Sources are where the figures of one rollout may come from. What is nil is
// not to be had.
type Sources struct {
	Asked      v1alpha1.MetricSource // by the document
	Pods       engine.Samples
	Prometheus engine.Samples
	Custom     Customs
}

// Exchange takes other answers for the document's own metrics, nil for none; the
// pods' figures go on.
func (j *Joined) Exchange(c Customs) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.s.Custom = c
}

// Join makes one source of them: it implements engine.Samples and
// engine.Chooser.
func Join(s Sources) *Joined { return &Joined{s: s} }

// Joined is one source made of several.
type Joined struct {
	s Sources

	mu     sync.Mutex
	chosen v1alpha1.MetricSource
}

// ErrNoSource: what the document asks for, or what this rollout keeps, is not
// to be had here.
var ErrNoSource = errors.New("the figures' source is not to be had: the controller was started without it")

// Choose implements engine.Chooser. Where the choice is free it tries stable's
// pods.
func (j *Joined) Choose(ctx context.Context, stable rollout.Revision, kept string) string {
	answer := true
	if free := (j.s.Asked == "" || j.s.Asked == v1alpha1.SourceAuto) && kept == ""; free && j.s.Pods != nil && j.s.Prometheus != nil {
		seen, err := j.s.Pods.Look(ctx, stable, "")
		answer = err == nil && slices.ContainsFunc(seen.Stable, func(p analysis.Pod) bool { return p.Has&analysis.HasRequests != 0 })
	}
	chosen := Choose(j.s.Asked, kept, j.s.Pods != nil, answer, j.s.Prometheus != nil)
	j.mu.Lock()
	j.chosen = chosen
	j.mu.Unlock()
	return string(chosen)
}

// History implements engine.Historian, where the source that Choose gave last
// does.
func (j *Joined) History(ctx context.Context, stable rollout.Revision) ([]engine.Moment, error) {
	if h, ok := j.from().(engine.Historian); ok {
		return h.History(ctx, stable)
	}
	return nil, nil
}

// from is the source that Choose gave last; nil = none.
func (j *Joined) from() engine.Samples {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch j.chosen {
	case v1alpha1.SourcePods:
		return j.s.Pods
	case v1alpha1.SourcePrometheus:
		return j.s.Prometheus
	}
	return nil
}

// Look asks the source that Choose gave last, and adds the answers of the
// document's own metrics that have come since.
func (j *Joined) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	from := j.from()
	if from == nil {
		return engine.Sampled{}, ErrNoSource
	}
	out, err := from.Look(ctx, stable, canary)
	j.mu.Lock()
	custom := j.s.Custom
	j.mu.Unlock()
	if custom == nil || ctx.Err() != nil {
		return out, err
	}
	if out.Custom = custom.Readings(ctx, stable, canary); len(out.Custom) > 0 {
		// The document's own metrics are something, whatever the pods gave; and
		// where the others have nothing newer, they are.
		return out, nil
	}
	return out, err
}

// Problems says in words what was wrong with single pods' figures in the last
// look, or with parts of the answer; nil = nothing. A look may be good in spite
// of them.
func (j *Joined) Problems() []string {
	if p, ok := j.from().(interface{ Problems() []string }); ok {
		return p.Problems()
	}
	return nil
}
