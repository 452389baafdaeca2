package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/serin-dev/serin/internal/analysis"
)

// Prometheus says where a real service's past is, and under which names. The
// raw counters are asked for, series by series; what they increased by is
// computed here.
type Prometheus struct {
	URL      string
	Selector string // label matchers of the stable pods' series
	Window   time.Duration
	Requests string // counter
	Latency  string // classic histogram's buckets; "" = none
	Pod      string // label
	Code     string // label
	Failed   string // regular expression of the whole of Code's value

	least time.Duration // of data, instead of leastSpan
}

const (
	queryTimeout = 30 * time.Second
	// mostAnswer bounds one answer: two hours of a hundred pods fit many times.
	mostAnswer = 64 << 20
	mostPoints = 5000
	// idleMemory: how far back the last sample is looked for, to learn how
	// often the pods are scraped.
	idleMemory = 10 * time.Minute
)

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// check says everything that is wrong with it.
func (p *Prometheus) check() error {
	var errs []error
	if u, err := url.Parse(p.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("%q: an address is meant, such as http://localhost:9090", p.URL))
	}
	if strings.TrimSpace(p.Selector) == "" {
		errs = append(errs, errors.New(`--query-selector is missing: labels that select the stable pods' series, such as reporter="destination",destination_workload="my-app-v1"`))
	}
	for _, m := range [...]struct {
		flag, name string
		valid      *regexp.Regexp
	}{{"requests", p.Requests, metricName}, {"latency", p.Latency, metricName}, {"pod-label", p.Pod, labelName}, {"code-label", p.Code, labelName}} {
		if m.flag == "latency" && m.name == "" {
			continue
		}
		if !m.valid.MatchString(m.name) {
			errs = append(errs, fmt.Errorf("--query-%s: %q is no name", m.flag, m.name))
		}
	}
	if p.Latency != "" && !strings.HasSuffix(p.Latency, "_bucket") {
		errs = append(errs, fmt.Errorf("--query-latency: %q: the buckets of a histogram are meant, a name that ends in _bucket", p.Latency))
	}
	if _, err := regexp.Compile(p.Failed); err != nil {
		errs = append(errs, fmt.Errorf("--query-failed: %w", err))
	}
	return errors.Join(errs...)
}

// Fetch asks for the last window before now.
func (p *Prometheus) Fetch(ctx context.Context, now time.Time) (*Recording, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	client, err := api.NewClient(api.Config{Address: p.URL, RoundTripper: bounded{transport}})
	if err != nil {
		return nil, err
	}
	asked := v1.NewAPI(client)
	selector := strings.Trim(strings.TrimSpace(p.Selector), "{}")
	every, err := p.interval(ctx, asked, selector, now)
	if err != nil {
		return nil, err
	}
	step := max(every, p.Window/mostPoints).Round(time.Second)
	span := v1.Range{Start: now.Add(-p.Window).Truncate(time.Second), End: now.Truncate(time.Second), Step: step}
	requests, err := ranged(ctx, asked, fmt.Sprintf("%s{%s}", p.Requests, selector), span)
	if err != nil {
		return nil, err
	}
	var latency model.Matrix
	if p.Latency != "" {
		if latency, err = ranged(ctx, asked, fmt.Sprintf("%s{%s}", p.Latency, selector), span); err != nil {
			return nil, err
		}
	}
	return p.recording(requests, latency, span)
}

// interval learns how often the pods are scraped from their last samples.
func (p *Prometheus) interval(ctx context.Context, asked v1.API, selector string, now time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	query := fmt.Sprintf("%s{%s}[%s]", p.Requests, selector, model.Duration(idleMemory))
	v, _, _, err := asked.Query(ctx, query, now)
	if err != nil {
		return 0, asking(query, err)
	}
	matrix, ok := v.(model.Matrix)
	if !ok || len(matrix) == 0 {
		return 0, fmt.Errorf("%s{%s} has had no series in the last %s: are the metric and the labels right, and is the service scraped?", p.Requests, selector, short(idleMemory))
	}
	longest := slices.MaxFunc(matrix, func(a, b *model.SampleStream) int { return cmp.Compare(len(a.Values), len(b.Values)) })
	var gaps []time.Duration
	for i := 1; i < len(longest.Values); i++ {
		gaps = append(gaps, longest.Values[i].Timestamp.Sub(longest.Values[i-1].Timestamp))
	}
	if len(gaps) == 0 {
		return 0, fmt.Errorf("%s{%s} has one sample in the last %s: at least two are needed", p.Requests, selector, short(idleMemory))
	}
	return max(time.Second, quantile(gaps, 0.5).Round(time.Second)), nil
}

func ranged(ctx context.Context, asked v1.API, query string, r v1.Range) (model.Matrix, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	v, _, _, err := asked.QueryRange(ctx, query, r, v1.WithTimeout(queryTimeout))
	if err != nil {
		return nil, asking(query, err)
	}
	m, ok := v.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("%s: a range of series is meant, this answers with a %s", query, v.Type())
	}
	return m, nil
}

func asking(query string, err error) error {
	var e *v1.Error
	switch {
	case errors.Is(err, errTooLarge):
		return fmt.Errorf("asking for %s: the answer is larger than %d MiB: a shorter --query-window or a narrower --query-selector", query, mostAnswer>>20)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("asking for %s: no answer within %s", query, queryTimeout)
	case errors.As(err, &e) && e.Detail != "" && !strings.Contains(e.Msg, e.Detail):
		return fmt.Errorf("asking for %s: %s: %.200s", query, e.Msg, e.Detail)
	}
	return fmt.Errorf("asking for %s: %w", query, err)
}

// bounded refuses answers that are too large to be taken in.
type bounded struct{ http.RoundTripper }

var errTooLarge = errors.New("the answer is too large")

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, mostAnswer}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

func (p *Prometheus) recording(requests, latency model.Matrix, span v1.Range) (*Recording, error) {
	failed := regexp.MustCompile("^(?:" + p.Failed + ")$")
	type point struct {
		requests, errors float64
		buckets          map[float64]float64
		hasLatency       bool
	}
	// Increases by pod and time.
	pods := map[string]map[model.Time]*point{}
	at := func(pod string, t model.Time) *point {
		m := pods[pod]
		if m == nil {
			m = map[model.Time]*point{}
			pods[pod] = m
		}
		x := m[t]
		if x == nil {
			x = &point{buckets: map[float64]float64{}}
			m[t] = x
		}
		return x
	}
	born := map[string]model.Time{} // a pod's first sample
	for _, s := range requests {
		if len(s.Values) == 0 {
			continue
		}
		pod := string(s.Metric[model.LabelName(p.Pod)])
		if first := s.Values[0].Timestamp; born[pod] == 0 || first < born[pod] {
			born[pod] = first
		}
	}
	increases := func(s *model.SampleStream, add func(x *point, d float64)) {
		pod := string(s.Metric[model.LabelName(p.Pod)])
		before := math.NaN()
		for i, v := range s.Values {
			now := float64(v.Value)
			d := 0.0
			switch {
			case math.IsNaN(now) || math.IsInf(now, 0):
				continue
			case i == 0 && v.Timestamp > born[pod]:
				d = now // a series that began later than its pod: its first sample counts
			case math.IsNaN(before):
			case now < before:
				d = now
			default:
				d = now - before
			}
			before = now
			add(at(pod, v.Timestamp), d)
		}
	}
	unlabelled := false
	for _, s := range requests {
		unlabelled = unlabelled || s.Metric[model.LabelName(p.Pod)] == ""
		bad := failed.MatchString(string(s.Metric[model.LabelName(p.Code)]))
		increases(s, func(x *point, d float64) {
			x.requests += d
			if bad {
				x.errors += d
			}
		})
	}
	if unlabelled {
		return nil, fmt.Errorf("%s has series without the label %s: which label tells the pods apart? (--query-pod-label)", p.Requests, p.Pod)
	}
	times := 1.0
	if !strings.Contains(p.Latency, "millisecond") && strings.Contains(p.Latency, "second") {
		times = 1000
	}
	bounds := map[float64]bool{}
	for _, s := range latency {
		le, err := strconv.ParseFloat(string(s.Metric[model.BucketLabel]), 64)
		if err != nil || math.IsInf(le, 0) || born[string(s.Metric[model.LabelName(p.Pod)])] == 0 {
			continue
		}
		le *= times
		bounds[le] = true
		increases(s, func(x *point, d float64) {
			x.buckets[le] += d
			x.hasLatency = true
		})
	}
	var les []float64
	for le := range bounds {
		les = append(les, le)
	}
	slices.Sort(les)
	totals := map[string]*analysis.Pod{}
	b := newRecorder("Prometheus")
	b.least = cmp.Or(p.least, leastSpan)
	for t := span.Start; !t.After(span.End); t = t.Add(span.Step) {
		var seen []analysis.Pod
		for pod, points := range pods {
			x := points[model.TimeFromUnixNano(t.UnixNano())]
			if x == nil {
				continue
			}
			sum := totals[pod]
			if sum == nil {
				sum = &analysis.Pod{Name: pod, Has: analysis.HasRequests | analysis.HasErrors}
				totals[pod] = sum
			}
			sum.Requests += x.requests
			sum.Errors += x.errors
			if len(les) > 0 {
				if sum.Latency.LE == nil {
					sum.Latency = analysis.Histogram{LE: les, Count: make([]float64, len(les))}
				}
				sum.Has &^= analysis.HasLatency
				if x.hasLatency {
					sum.Has |= analysis.HasLatency
				}
				for i, le := range les {
					sum.Latency.Count[i] += x.buckets[le]
				}
			}
			copied := *sum
			copied.Latency.Count = slices.Clone(sum.Latency.Count)
			seen = append(seen, copied)
		}
		slices.SortFunc(seen, func(a, b analysis.Pod) int { return cmp.Compare(a.Name, b.Name) })
		if err := b.look(t, seen); err != nil {
			return nil, err
		}
	}
	return b.done()
}
