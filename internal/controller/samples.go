package controller

import (
	"context"
	"errors"
	"fmt"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/metric/prometheus"
	"github.com/serin-dev/serin/internal/rollout"
)

// figures makes the source of a rollout's figures, for a document with its
// defaults: from the pods or from Prometheus, with the answers to its own
// queries.
func (c *Controller) figures(doc *v1alpha1.Rollout, pods metricPods) (*metric.Joined, *prometheus.Custom, error) {
	joined := metric.Join(c.ownFigures(doc, pods))
	custom, err := c.queries(doc, joined)
	return joined, custom, err
}

// queries makes a document's own queries those that are asked; nil: there are none.
func (c *Controller) queries(doc *v1alpha1.Rollout, of *metric.Joined) (*prometheus.Custom, error) {
	queries, err := queriesOf(doc)
	if err != nil {
		return nil, err
	}
	if c.prom == nil || len(queries) == 0 {
		of.Exchange(nil)
		return nil, nil
	}
	custom := c.prom.Custom(doc.Namespace, queries)
	of.Exchange(custom)
	return custom, nil
}

// ownFigures are where a rollout's own figures may come from, without its queries.
func (c *Controller) ownFigures(doc *v1alpha1.Rollout, pods metricPods) metric.Sources {
	s := metric.Sources{Asked: doc.Spec.Analysis.Source, Pods: c.scraper.For(pods)}
	if c.prom != nil {
		s.Prometheus = c.prom.For(doc.Namespace, pods)
	}
	return s
}

// queriesOf reads the document's queries; the error names each that cannot be
// asked.
func queriesOf(doc *v1alpha1.Rollout) ([]prometheus.Query, error) {
	var out []prometheus.Query
	var errs []error
	for i, m := range doc.Spec.Analysis.Metrics {
		if m.Prometheus == nil {
			continue
		}
		t, err := prometheus.ParseTemplate(m.Prometheus.Query)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.analysis.metrics[%d].prometheus.query: %w", i, err))
			continue
		}
		out = append(out, prometheus.Query{Name: m.Name, Template: t})
	}
	return out, errors.Join(errs...)
}

// currentSamples are the source that is in force; at rest it is exchanged.
type currentSamples struct{ a *app }

// Look implements engine.Samples.
func (p currentSamples) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	if _, known := p.a.pods.list(); !known {
		if canary == "" {
			return engine.Sampled{}, engine.ErrUnchanged // at rest nobody looks at pods
		}
		return engine.Sampled{}, errors.New("the pods are not known yet")
	}
	return p.a.samples.Look(ctx, stable, canary)
}

// History implements engine.Historian.
func (p currentSamples) History(ctx context.Context, stable rollout.Revision) ([]engine.Moment, error) {
	if _, known := p.a.pods.list(); !known {
		return nil, engine.ErrUnchanged // they are listed from when a canary comes
	}
	return p.a.samples.History(ctx, stable)
}

// Choose implements engine.Chooser. Nothing is chosen before it can be tried.
func (p currentSamples) Choose(ctx context.Context, stable rollout.Revision, kept string) string {
	if _, known := p.a.pods.list(); !known {
		return kept
	}
	return p.a.samples.Choose(ctx, stable, kept)
}
