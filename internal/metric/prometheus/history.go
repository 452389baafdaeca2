package prometheus

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
)

// As far back as this is asked for, or as little where that is too much.
const (
	maxHistory = 2 * time.Hour
	minHistory = 10 * time.Minute
)

// History implements [engine.Historian]: one moment for each scrape.
func (s *Source) History(ctx context.Context, stable rollout.Revision) ([]engine.Moment, error) {
	list, err := s.pods.Pods(ctx, stable)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	for back := maxHistory; ; back /= 2 {
		out, e := s.history(ctx, list, back)
		if e == nil {
			return out, nil
		}
		if back/2 < minHistory || !e.splits() {
			return nil, e
		}
	}
}

func (s *Source) history(ctx context.Context, list []metric.Pod, back time.Duration) ([]engine.Moment, *Error) {
	r := s.reader
	if e := r.resting(); e != nil {
		return nil, e
	}
	want := map[podKey]bool{}
	for i := range list {
		want[s.key(&list[i])] = true
	}
	q := &questions{r: r, series: map[podKey]*podSeries{}, spoken: map[int]bool{}}
	for _, k := range [...]kind{requests, latency} {
		names := q.names(k)
		if len(names) == 0 {
			continue
		}
		m, e := r.raw(ctx, r.c.query(selectionOf(k, names), want, back))
		if e != nil {
			return nil, e
		}
		q.take(k, nil, m)
	}
	return q.moments(s, list), nil
}

// moments puts scrapes of all pods that were made within one interval together.
func (q *questions) moments(s *Source, list []metric.Pod) []engine.Moment {
	names := q.r.c.Names
	type scrape struct {
		at    model.Time
		pod   *metric.Pod
		tally *metric.Tally
	}
	var scrapes []scrape
	var tallies []*metric.Tally
	var interval time.Duration
	for i := range list {
		p := q.series[s.key(&list[i])]
		if p == nil {
			continue
		}
		now := read(names, p, [kinds]*Error{}, "")
		if now.tally == nil {
			continue
		}
		interval = max(interval, intervalOf(p[requests]))
		tallies = append(tallies, now.tally)
		for _, at := range instants(p[requests][now.target]) {
			t := metric.NewTally(names)
			for _, k := range [...]kind{requests, latency} {
				for _, series := range p[k][now.target] {
					add(t, series, at)
				}
			}
			scrapes = append(scrapes, scrape{at, &list[i], t})
		}
	}
	inForce := metric.Agree(-1, tallies, tallies)
	if interval == 0 || inForce < 0 {
		return nil
	}
	type place struct {
		pod  string
		slot int64
	}
	bySlot, taken := map[int64]*engine.Moment{}, map[place]bool{}
	slices.SortStableFunc(scrapes, func(a, b scrape) int { return int(a.at - b.at) })
	for _, x := range scrapes {
		slot := int64(x.at) / interval.Milliseconds()
		if taken[place{x.pod.Name, slot}] {
			continue // the next slot's counters cover it
		}
		f, lack, _ := x.tally.Read(inForce)
		if lack == metric.Malformed || lack == metric.OtherNames {
			continue
		}
		taken[place{x.pod.Name, slot}] = true
		m := bySlot[slot]
		if m == nil {
			m = &engine.Moment{}
			bySlot[slot] = m
		}
		m.At = x.at.Time()
		p := analysis.Pod{Name: metric.Identity(x.pod.Name, Via, names, inForce), Started: x.pod.Started}
		f.Put(&p)
		m.Pods = append(m.Pods, p)
	}
	var out []engine.Moment
	for _, slot := range slices.Sorted(maps.Keys(bySlot)) {
		out = append(out, *bySlot[slot])
	}
	return out
}

// instants are the times at which a target was scraped and answered, in order.
func instants(list []*model.SampleStream) []model.Time {
	set := map[model.Time]bool{}
	failed := map[model.Time]bool{}
	for _, s := range list {
		for _, v := range s.Values {
			set[v.Timestamp] = true
			if s.Metric[model.MetricNameLabel] == up && v.Value == 0 {
				failed[v.Timestamp] = true
			}
		}
		for _, h := range s.Histograms {
			set[h.Timestamp] = true
		}
	}
	var out []model.Time
	for _, at := range slices.Sorted(maps.Keys(set)) {
		if !failed[at] {
			out = append(out, at)
		}
	}
	return out
}
