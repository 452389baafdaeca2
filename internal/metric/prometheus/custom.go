package prometheus

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Query is one metric of the document that Prometheus answers.
type Query struct {
	Name     string
	Template *Template
}

// Custom asks the queries of one document. It implements metric.Customs.
type Custom struct {
	reader    *Reader
	namespace string
	queries   []Query

	mu     sync.Mutex
	about  [2]rollout.Revision
	asked  time.Time
	flight chan []analysis.Custom // holds the answers once they are there
}

// Custom gives the answers to the queries of a document in this namespace.
func (r *Reader) Custom(namespace string, queries []Query) *Custom {
	return &Custom{reader: r, namespace: namespace, queries: queries}
}

// customLookback is how old a sample may be for an instant query to use it.
// Prometheus' own five minutes would let a version answer that is long gone.
const customLookback = 2 * time.Minute

// customAtOnce is how many queries of one document are asked at once.
const customAtOnce = 4

// Readings gives the answers that have come since the last call, and asks again
// when it is time. It never waits: a slow query does not slow a look. An answer
// about other versions than these is thrown away; so is one that is late.
func (c *Custom) Readings(_ context.Context, stable, canary rollout.Revision) []analysis.Custom {
	if canary == "" || len(c.queries) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	about := [2]rollout.Revision{stable, canary}
	var out []analysis.Custom
	if c.flight != nil {
		select {
		case got := <-c.flight:
			c.flight = nil
			if c.about == about {
				out = got
			}
		default:
			return nil
		}
	}
	now := c.reader.c.Now()
	if c.about == about && now.Sub(c.asked) < c.reader.c.Every {
		return out
	}
	c.about, c.asked = about, now
	if !c.reader.begin() {
		return out
	}
	flight := make(chan []analysis.Custom, 1)
	c.flight = flight
	go func() {
		defer c.reader.running.Done()
		flight <- c.ask(stable.Label(), canary.Label())
	}()
	return out
}

// begin notes that something is asked, unless the reader is closed.
func (r *Reader) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.running.Add(1)
	return true
}

func (c *Custom) ask(stable, canary string) []analysis.Custom {
	out := make([]analysis.Custom, len(c.queries))
	slots := make(chan struct{}, customAtOnce)
	var wg sync.WaitGroup
	one := func(q Query, version string, to *analysis.Reading) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			*to = c.reader.number(q.Template, Values{Version: version, Namespace: c.namespace})
		})
	}
	for i, q := range c.queries {
		out[i].Name = q.Name
		one(q, canary, &out[i].Canary)
		if q.Template.PerVersion {
			one(q, stable, &out[i].Stable)
		}
	}
	wg.Wait()
	return out
}

// Try asks every query about the stable version alone and says which of them
// give no number, before a canary waits for it. It may take as long as the
// server does.
func (c *Custom) Try(ctx context.Context, stable rollout.Revision) []rollout.Finding {
	var out []rollout.Finding
	for _, q := range c.queries {
		if ctx.Err() != nil {
			return out
		}
		got := c.reader.number(q.Template, Values{Version: stable.Label(), Namespace: c.namespace})
		if got.Answer == analysis.Number {
			continue
		}
		what := map[analysis.Answer]string{
			analysis.Empty: "no series", analysis.NotANumber: "no number", analysis.Several: "several numbers", analysis.SourceFailed: "no answer",
		}[got.Answer]
		if got.Detail != "" {
			what += " (" + got.Detail + ")"
		}
		out = append(out, rollout.Finding{Level: rollout.Warn, What: fmt.Sprintf("the query of metric %s gives %s for %s", q.Name, what, stable.Label()),
			Remedy: "try the query in Prometheus with the label's value in place of {{version}}; it is bound to the rollout's namespace"})
	}
	return out
}

// number asks for one number.
func (r *Reader) number(t *Template, v Values) (out analysis.Reading) {
	if e := r.safely(func() { out = r.ask(t, v) }); e != nil {
		return analysis.Reading{Answer: analysis.SourceFailed, Detail: e.Error()}
	}
	return out
}

func (r *Reader) ask(t *Template, v Values) analysis.Reading {
	failed := func(e *Error) analysis.Reading {
		return analysis.Reading{Answer: analysis.SourceFailed, Detail: e.Error()}
	}
	if e := r.resting(); e != nil {
		return failed(e)
	}
	query, err := t.Render(v, r.c.NamespaceLabel)
	if err != nil {
		return failed(&Error{Fault: BadQuery, Detail: err.Error()})
	}
	got, e := r.query(r.ctx, query, lookbackDelta(customLookback))
	if e != nil {
		return failed(e)
	}
	return readingOf(got)
}

// resting says why the server is not asked now; nil = it may be.
func (r *Reader) resting() *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.c.Now().Before(r.rest) {
		return r.why
	}
	return nil
}

// readingOf sorts an answer: one number, or one of the answers that are none.
func readingOf(got *result) analysis.Reading {
	switch {
	case got.kind != "vector" && got.kind != "scalar":
		return analysis.Reading{Answer: analysis.SourceFailed, Detail: "a " + got.kind + " where one number is meant"}
	case len(got.values) == 0:
		return analysis.Reading{Answer: analysis.Empty}
	case len(got.values) > 1:
		return analysis.Reading{Answer: analysis.Several, Detail: fmt.Sprintf("%d series where one is meant", len(got.values))}
	case got.values[0].histogram:
		return analysis.Reading{Answer: analysis.SourceFailed, Detail: "a histogram where one number is meant"}
	}
	x := got.values[0].v
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return analysis.Reading{Answer: analysis.NotANumber, Detail: model.SampleValue(x).String()}
	}
	return analysis.Reading{Answer: analysis.Number, Value: x}
}
