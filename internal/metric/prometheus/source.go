package prometheus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
)

// Via marks the names of pods whose counters came through Prometheus: they lag
// behind the pods' own and are another series.
const Via = "prometheus"

// Source implements engine.Samples for one rollout.
type Source struct {
	reader    *Reader
	namespace string
	pods      metric.Pods

	// Guarded by the reader's mutex.
	want, covered map[podKey]bool // what is looked at, and what was asked for
	looked, asked time.Time
	flight        *flight
	answer        *answer
	interval      [kinds]time.Duration // between scrapes; 0 = not known
	targets       map[podKey]string    // that each pod's figures come from

	mu         sync.Mutex
	names      int
	shown      map[podKey]model.Time // of the samples that the judge has got
	shownUsage map[podKey]model.Time
	shownAt    time.Time // by our clock
	last       Summary
}

// Summary says how the last look that gave figures went, or that failed.
type Summary struct {
	At       time.Time
	Interval time.Duration // between scrapes, as learned; 0 = not known
	Pods     int
	Figures  int // pods that gave some
	Names    string
	Problems []string
}

// Last tells of the last look.
func (s *Source) Last() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Problems says in words what was wrong in the last look.
func (s *Source) Problems() []string { return s.Last().Problems }

// Look gives the counters of both versions as of the last scrape, once: while
// nothing newer was scraped the error is engine.ErrUnchanged. Pods are scraped
// one after another; their figures are given together once all have been, so
// that both versions' counts cover about the same time. The error is an [Error]
// where there are no figures.
func (s *Source) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	if err := ctx.Err(); err != nil {
		return engine.Sampled{}, err
	}
	all, arms, err := metric.Both(ctx, s.pods, stable, canary)
	if err != nil {
		return engine.Sampled{}, err
	}
	if len(all) == 0 {
		return engine.Sampled{}, &Error{Fault: NoSeries, Detail: "there are no pods"}
	}
	want := map[podKey]bool{}
	for i := range all {
		want[s.key(&all[i])] = true
	}
	f := s.reader.fetch(s, want)
	select {
	case <-f.done:
	case <-ctx.Done():
		return engine.Sampled{}, &Error{Fault: Slow, cause: ctx.Err()}
	}
	s.reader.mu.Lock()
	a, interval := s.answer, s.interval[requests]
	s.reader.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.judge(a, all, arms[0], interval)
	if err == nil || s.last.At != a.at {
		s.last.At = a.at
	}
	return out, err
}

func (s *Source) key(p *metric.Pod) podKey { return podKey{s.namespace, p.Name} }

// judge gives what the judge gets of an answer.
func (s *Source) judge(a *answer, all []metric.Pod, stable int, interval time.Duration) (engine.Sampled, error) {
	if e := a.faults[requests]; e != nil {
		s.last = Summary{At: a.at, Interval: interval, Pods: len(all), Problems: []string{e.Error()}}
		return engine.Sampled{}, e
	}
	readings := make([]reading, len(all))
	any, fresh, newer := 0, 0, false
	for i := range all {
		k := s.key(&all[i])
		r := a.pods[k]
		readings[i].why = r.why
		if r.tally == nil {
			continue
		}
		any++
		if r.at > s.shown[k] {
			r.fresh = true
			fresh++
			newer = true
		}
		r.freshUsage = r.usageAt > s.shownUsage[k]
		readings[i] = r
	}
	now := s.reader.c.Now()
	waited := now.Sub(s.shownAt)
	patience := max(2*interval, 2*s.reader.c.Every)
	switch {
	case any == 0:
		fault := NoSeries
		if len(s.shown) > 0 {
			fault = Stale
		}
		e := &Error{Fault: fault}
		for i := range all {
			if readings[i].why != "" {
				e.Detail = all[i].Name + ": " + readings[i].why
				break
			}
		}
		return engine.Sampled{}, s.fail(a, all, interval, e)
	case !newer && !s.shownAt.IsZero() && waited > max(3*interval, 30*time.Second):
		return engine.Sampled{}, s.fail(a, all, interval, &Error{Fault: Stale, Detail: fmt.Sprintf("nothing newer for %v", waited.Round(time.Second))})
	case !newer, fresh < any && !s.shownAt.IsZero() && waited < patience:
		return engine.Sampled{}, fmt.Errorf("asking Prometheus: %w", engine.ErrUnchanged)
	}
	return s.show(a, all, readings, stable, interval, now), nil
}

func (s *Source) fail(a *answer, all []metric.Pod, interval time.Duration, e *Error) error {
	s.last = Summary{At: a.at, Interval: interval, Pods: len(all), Problems: []string{e.Error()}}
	return e
}

// show turns the readings into what the judge gets, and remembers it.
func (s *Source) show(a *answer, all []metric.Pod, readings []reading, stable int, interval time.Duration, now time.Time) engine.Sampled {
	names := s.reader.c.Names
	tallies := make([]*metric.Tally, len(all))
	for i := range readings {
		if readings[i].fresh {
			tallies[i] = readings[i].tally
		}
	}
	s.names = metric.Agree(s.names, tallies[:stable], tallies)
	s.last = Summary{At: a.at, Interval: interval, Pods: len(all)}
	if s.names >= 0 {
		s.last.Names = names[s.names].ID
	}
	for k, e := range a.faults {
		if e != nil && kind(k) != requests {
			s.last.Problems = append(s.last.Problems, [...]string{latency: "latency", usage: "cpu and memory"}[k]+": "+e.Error())
		}
	}
	figures := make([]metric.Figures, len(all))
	var list []*metric.Figures
	shown, shownUsage := map[podKey]model.Time{}, map[podKey]model.Time{}
	for i := range all {
		k, r := s.key(&all[i]), &readings[i]
		shown[k], shownUsage[k] = s.shown[k], s.shownUsage[k]
		if tallies[i] == nil {
			if r.why != "" {
				s.last.Problems = append(s.last.Problems, all[i].Name+": "+r.why)
			}
			continue
		}
		var lack metric.Lack
		var detail string
		figures[i], lack, detail = r.tally.Read(s.names)
		if lack != metric.Nothing && !(r.noLatency && lack == metric.Incomplete) {
			s.last.Problems = append(s.last.Problems, all[i].Name+": "+detail)
		}
		if !r.freshUsage {
			figures[i].Has &^= analysis.HasCPU | analysis.HasMemory
		}
		if figures[i].Has != 0 {
			s.last.Figures++
		}
		shown[k], shownUsage[k] = r.at, max(r.usageAt, shownUsage[k])
		list = append(list, &figures[i])
	}
	metric.Blank(list)
	s.shown, s.shownUsage, s.shownAt = shown, shownUsage, now
	var pods []analysis.Pod
	for i := range all {
		p := all[i].Judged()
		p.Name = metric.Identity(p.Name, Via, names, s.names)
		figures[i].Put(&p)
		pods = append(pods, p)
	}
	return engine.Sampled{Stable: pods[:stable:stable], Canary: pods[stable:]}
}

// reading is what the samples of one pod say.
type reading struct {
	tally       *metric.Tally // nil = it was not scraped, or did not answer
	target      string
	at, usageAt model.Time
	fresh       bool // newer than what the judge has got
	freshUsage  bool
	noLatency   bool // it could not be asked for
	why         string
}

// series gives labels to a tally.
type series model.Metric

func (s series) Get(name string) string { return string(s[model.LabelName(name)]) }

// read takes the newest whole scrape of a pod: of one target, and all series as
// of one instant. Of several targets that count requests (the same pod scraped
// twice) it is always the same one.
func read(names []metric.Names, p *podSeries, faults [kinds]*Error, before string) reading {
	var best reading
	rank := -1
	for _, target := range sortedTargets(p[requests]) {
		at, answered, counts := scrapeOf(p[requests][target])
		if !answered {
			if rank < 0 {
				best.why = "its last scrape failed"
			}
			continue
		}
		score := 0
		if counts {
			score += 2
		}
		if target == before {
			score++
		}
		if score > rank {
			rank = score
			best = reading{target: target, at: at}
		}
	}
	if rank < 0 {
		return best
	}
	best.tally = metric.NewTally(names)
	for _, k := range [...]kind{requests, latency} {
		for _, s := range p[k][best.target] {
			add(best.tally, s, best.at)
		}
	}
	best.noLatency = faults[latency] != nil
	best.usageAt = addUsage(best.tally, p[usage], best.target)
	return best
}

func sortedTargets(m map[string][]*model.SampleStream) []string {
	out := make([]string, 0, len(m))
	for t := range m {
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}

// scrapeOf says when a target was scraped last, whether it answered, and
// whether it counts requests.
func scrapeOf(list []*model.SampleStream) (at model.Time, answered, counts bool) {
	answered = true
	for _, s := range list {
		at = max(at, newest(s))
	}
	for _, s := range list {
		if s.Metric[model.MetricNameLabel] == up {
			if n := len(s.Values); n > 0 && s.Values[n-1].Timestamp == at {
				answered = s.Values[n-1].Value != 0
			}
		} else if newest(s) == at {
			counts = true
		}
	}
	return at, answered, counts
}

func newest(s *model.SampleStream) (t model.Time) {
	if n := len(s.Values); n > 0 {
		t = s.Values[n-1].Timestamp
	}
	if n := len(s.Histograms); n > 0 {
		t = max(t, s.Histograms[n-1].Timestamp)
	}
	return t
}

// add counts the series' sample of that instant, if it has one: a series
// without was not in that scrape.
func add(t *metric.Tally, s *model.SampleStream, at model.Time) {
	name := string(s.Metric[model.MetricNameLabel])
	if name == up {
		return
	}
	for i := len(s.Values) - 1; i >= 0; i-- {
		if s.Values[i].Timestamp == at {
			t.Add(name, series(s.Metric), float64(s.Values[i].Value))
			return
		}
	}
	for i := len(s.Histograms) - 1; i >= 0; i-- {
		if h := s.Histograms[i]; h.Timestamp == at && h.Histogram != nil {
			var lower, upper, count []float64
			for _, b := range h.Histogram.Buckets {
				lower, upper, count = append(lower, float64(b.Lower)), append(upper, float64(b.Upper)), append(count, float64(b.Count))
			}
			if n := metric.NativeFromBuckets(lower, upper, count, float64(h.Histogram.Count)); n != nil {
				t.AddNative(name, series(s.Metric), n)
			}
			return
		}
	}
}

// addUsage takes processor time and memory from the one target that tells them
// of the containers, or else from the pod's own.
func addUsage(t *metric.Tally, targets map[string][]*model.SampleStream, own string) (at model.Time) {
	chosen := ""
	for _, target := range sortedTargets(targets) {
		containers := slices.ContainsFunc(targets[target], ofContainer)
		if chosen == "" && (containers || target == own) || containers && !slices.ContainsFunc(targets[chosen], ofContainer) {
			chosen = target
		}
	}
	if chosen == "" {
		return 0
	}
	for _, s := range targets[chosen] {
		at = max(at, newest(s))
	}
	for _, s := range targets[chosen] {
		// cAdvisor tells of the pod's cgroup too, without a container, and of the
		// container that holds the network.
		if isContainer(s) && !ofContainer(s) {
			continue
		}
		add(t, s, at)
	}
	return at
}

func isContainer(s *model.SampleStream) bool {
	return strings.HasPrefix(string(s.Metric[model.MetricNameLabel]), "container_")
}

func ofContainer(s *model.SampleStream) bool {
	c := s.Metric["container"]
	return isContainer(s) && c != "" && c != "POD"
}

var _ engine.Samples = (*Source)(nil)
