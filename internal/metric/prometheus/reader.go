package prometheus

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/serin-dev/serin/internal/metric"
)

// Reader asks one Prometheus, for all rollouts that it serves at once. Its
// methods may be called from several goroutines.
type Reader struct {
	c         Config
	door      *door
	transport *http.Transport
	client    *http.Client
	ctx       context.Context // of what it asks; ended by Close
	end       context.CancelFunc
	running   sync.WaitGroup

	mu    sync.Mutex
	views map[*Source]bool
	batch int       // rollouts in one question
	rest  time.Time // the server is not asked before
	why   *Error    // and this is why
	rests int       // in a row
	asked int       // questions, ever
	// mistaken is when a mistake of our own was logged.
	mistaken time.Time
	closed   bool
}

// New makes a reader that has asked nothing yet. The error says everything that
// is wrong with the configuration.
func New(c Config) (*Reader, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	c = c.withDefaults()
	t, err := c.transport()
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	r := &Reader{c: c, transport: t, views: map[*Source]bool{}, batch: c.Batch}
	r.door = &door{next: t, tenant: c.Tenant, maxAnswer: c.MaxAnswer,
		sign: &credentials{bearer: c.Bearer, bearerFile: c.BearerFile, user: c.User, password: c.Password, file: c.PasswordFile}}
	r.client = &http.Client{Transport: r.door}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r, nil
}

// Close ends what is being asked and waits for it.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
	r.transport.CloseIdleConnections()
}

// Asked is how many questions were asked so far.
func (r *Reader) Asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// For gives the view of one rollout: pods of one application in one namespace.
// It costs nothing until it is looked at, and nothing soon after the last look.
func (r *Reader) For(namespace string, pods metric.Pods) *Source {
	return &Source{reader: r, namespace: namespace, pods: pods, names: -1, shown: map[podKey]model.Time{}, shownUsage: map[podKey]model.Time{}}
}

type podKey struct{ namespace, name string }

// flight is a question on its way.
type flight struct{ done chan struct{} }

// answer is what one view got.
type answer struct {
	at     time.Time // when it was asked for
	pods   map[podKey]reading
	faults [kinds]*Error
}

// podSeries are the raw samples of one pod, by kind and by the target that they
// were scraped from.
type podSeries [kinds]map[string][]*model.SampleStream

// idle is how long a view that nobody looks at is still asked for.
const idle = 20 * time.Second

// fetch gives the question that will answer, or has answered, for s.
func (r *Reader) fetch(s *Source, want map[podKey]bool) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.c.Now()
	s.want, s.looked = want, now
	r.views[s] = true
	switch {
	case s.flight != nil && !s.flight.landed():
		return s.flight
	case s.flight != nil && !s.due(now, 1) && (now.Sub(s.asked) < time.Second || covers(s.covered, want)):
		return s.flight
	case r.closed:
		s.answer = &answer{at: now, faults: [kinds]*Error{requests: {Fault: Unreachable, Detail: "closed"}}}
		return landed
	case now.Before(r.rest):
		s.answer = &answer{at: now, faults: [kinds]*Error{requests: r.why}}
		return landed
	}
	f := &flight{done: make(chan struct{})}
	var group []*Source
	for v := range r.views {
		switch {
		case now.Sub(v.looked) > idle:
			delete(r.views, v)
		case v == s || (v.flight == nil || v.flight.landed()) && v.due(now, 2):
			v.flight, v.asked, v.covered = f, now, v.want
			group = append(group, v)
		}
	}
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		defer close(f.done)
		if e := r.safely(func() { r.run(group, now) }); e != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, v := range group {
				if v.answer == nil || v.answer.at != now { // not answered by this one
					v.answer = &answer{at: now, faults: [kinds]*Error{requests: e}}
				}
			}
		}
	}()
	return f
}

// safely keeps a panic to the one question that it was about: in a goroutine of
// its own it would end everything. Its stack is in the log, once.
func (r *Reader) safely(do func()) (e *Error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		e = &Error{Fault: Mistake}
		r.mu.Lock()
		defer r.mu.Unlock()
		if now := r.c.Now(); r.mistaken.IsZero() || now.Sub(r.mistaken) >= mistakesEvery {
			r.mistaken = now
			r.c.Log.Error("a mistake of this version of Serin over an answer of Prometheus", "what", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	do()
	return nil
}

// mistakesEvery is how often a mistake of our own is logged: it may come again
// at every look.
const mistakesEvery = 10 * time.Minute

// landed is a flight that has come back.
var landed = func() *flight { f := &flight{done: make(chan struct{})}; close(f.done); return f }()

func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

func covers(have, want map[podKey]bool) bool {
	for k := range want {
		if !have[k] {
			return false
		}
	}
	return true
}

// due says whether the time between questions is over, or that part of it.
// Asking more often than twice a scrape finds nothing new.
func (s *Source) due(now time.Time, part time.Duration) bool {
	every := max(s.reader.c.Every, min(s.interval[requests]/2, 15*time.Second))
	return s.asked.IsZero() || now.Sub(s.asked) >= every/part
}

// run asks for a group of views.
func (r *Reader) run(group []*Source, now time.Time) {
	for len(group) > 0 {
		r.mu.Lock()
		n := min(r.batch, len(group))
		r.mu.Unlock()
		r.chunk(group[:n], now)
		group = group[n:]
	}
}

// chunk asks every kind for some views.
func (r *Reader) chunk(views []*Source, now time.Time) {
	q := &questions{r: r, answers: map[*Source]*answer{}, series: map[podKey]*podSeries{}, spoken: map[int]bool{}}
	for _, v := range views {
		q.answers[v] = &answer{at: now, pods: map[podKey]reading{}}
	}
	q.ask(requests, views)
	if q.reached() {
		q.ask(latency, views)
		q.ask(usage, views)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for v, a := range q.answers {
		// The samples are many; what they say is little, and only that is kept.
		for k := range v.covered {
			if p := q.series[k]; p != nil {
				a.pods[k] = read(r.c.Names, p, a.faults, v.targets[k])
			}
		}
		v.targets = map[podKey]string{}
		for k, reading := range a.pods {
			v.targets[k] = reading.target
		}
		v.answer = a
	}
	if !q.split {
		r.batch = min(r.c.Batch, r.batch+1)
	}
	r.recover(q.down)
}

// recover sets when the server is asked again.
func (r *Reader) recover(down *Error) {
	if down == nil {
		r.rests = 0
		return
	}
	r.rests = min(r.rests+1, 5)
	r.why = down
	r.rest = r.c.Now().Add(max(down.After, min(30*time.Second, time.Second<<r.rests)))
}

// questions are the questions of one chunk.
type questions struct {
	r       *Reader
	answers map[*Source]*answer
	series  map[podKey]*podSeries
	spoken  map[int]bool // conventions that some pod counts under
	split   bool
	down    *Error // the server answers nobody
}

func (q *questions) reached() bool { return q.down == nil }

// lookback is how far back is looked for pods whose scrape interval is not
// known yet.
const lookback = 5 * time.Minute

// span is how far back samples are asked for: two of them, at the interval at
// which they come. What is older than that is none of a pod that is scraped.
func (s *Source) span(k kind) time.Duration {
	if s.interval[k] == 0 {
		return lookback
	}
	return min(lookback, max(3*time.Second, s.interval[k]*5/2+time.Second))
}

// ask asks one kind for some views; where that is too much, for half of them at
// a time.
func (q *questions) ask(k kind, views []*Source) {
	names := q.names(k)
	if len(names) == 0 || q.down != nil {
		return
	}
	pods, span := map[podKey]bool{}, time.Duration(0)
	q.r.mu.Lock()
	for _, v := range views {
		for p := range v.covered {
			pods[p] = true
		}
		span = max(span, v.span(k))
	}
	q.r.mu.Unlock()
	if len(pods) == 0 {
		return
	}
	matrix, err := q.r.raw(q.r.ctx, q.r.c.query(selectionOf(k, names), pods, span))
	switch {
	case err == nil:
		q.take(k, views, matrix)
	case err.splits() && len(views) > 1:
		half := len(views) / 2
		q.split = true
		q.r.mu.Lock()
		q.r.batch = max(1, half)
		q.r.mu.Unlock()
		q.ask(k, views[:half])
		q.ask(k, views[half:])
	default:
		for _, v := range views {
			q.answers[v].faults[k] = err
		}
		if k != requests {
			break // the figures that matter have come, and are given
		}
		switch err.Fault {
		case Unreachable, NotTrusted, NotSignedIn, Throttled, ServerFailed, Redirected, Slow, NotPrometheus:
			q.down = err
		}
	}
}

// names are the conventions that are asked for: all, until it is known which
// are in use.
func (q *questions) names(k kind) []metric.Names {
	if k != latency {
		return q.r.c.Names
	}
	var out []metric.Names
	for i := range q.r.c.Names {
		if q.spoken[i] {
			out = append(out, q.r.c.Names[i])
		}
	}
	return out
}

// take hands the series to the views that asked for their pods.
func (q *questions) take(k kind, views []*Source, matrix model.Matrix) {
	c := &q.r.c
	for _, s := range matrix {
		key := podKey{string(s.Metric[model.LabelName(c.NamespaceLabel)]), string(s.Metric[model.LabelName(c.PodLabel)])}
		p := q.series[key]
		if p == nil {
			p = new(podSeries)
			q.series[key] = p
		}
		if p[k] == nil {
			p[k] = map[string][]*model.SampleStream{}
		}
		t := targetOf(s.Metric)
		p[k][t] = append(p[k][t], s)
		if k == requests {
			q.speaks(s.Metric)
		}
	}
	q.r.mu.Lock()
	defer q.r.mu.Unlock()
	for _, v := range views {
		v.interval[k] = 0
		for key := range v.covered {
			if p := q.series[key]; p != nil {
				v.interval[k] = max(v.interval[k], intervalOf(p[k]))
			}
		}
	}
}

func (q *questions) speaks(m model.Metric) {
	name := string(m[model.MetricNameLabel])
	for i := range q.r.c.Names {
		if n := &q.r.c.Names[i]; name == n.Requests || n.Requests == "" && name == n.Latency+"_count" {
			q.spoken[i] = true
		}
	}
}

// targetOf is where a series was scraped from, and by which of several servers
// that scrape the same.
func targetOf(m model.Metric) string {
	var b []byte
	for _, l := range [...]model.LabelName{"job", "instance", "cluster", "prometheus", "prometheus_replica", "replica"} {
		b = append(append(b, m[l]...), 0)
	}
	return string(b)
}

// intervalOf is how often the pod is scraped: the shortest that two samples are
// apart; 0 = that cannot be told.
func intervalOf(targets map[string][]*model.SampleStream) time.Duration {
	var out time.Duration
	for _, list := range targets {
		for _, s := range list {
			var shortest time.Duration
			for i := 1; i < len(s.Values); i++ {
				if d := s.Values[i].Timestamp.Sub(s.Values[i-1].Timestamp); d > 0 && (shortest == 0 || d < shortest) {
					shortest = d
				}
			}
			if shortest > 0 {
				return max(out, shortest)
			}
		}
	}
	return out
}
