package prometheus

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/metric/prometheus/prometheustest"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	v1_ = rollout.Revision("v1@1")
	v2_ = rollout.Revision("v2@2")
)

// run starts a real one that scrapes these jobs.
func run(t testing.TB, jobs string) *prometheustest.Server {
	t.Helper()
	return prometheustest.Start(t, t.TempDir(), "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\nscrape_configs:\n"+jobs, "--enable-feature", "native-histograms")
}

// exporter is a pod that counts, and that knows how often it was scraped.
type exporter struct {
	mu      sync.Mutex
	text    string
	counts  map[string]float64 // by response code
	down    bool
	scraped int
	changed chan struct{} // closed at every scrape
	srv     *httptest.Server
}

func newExporter(t testing.TB) *exporter {
	e := &exporter{counts: map[string]float64{}, changed: make(chan struct{})}
	e.srv = httptest.NewServer(e)
	t.Cleanup(e.srv.Close)
	return e
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scraped++
	close(e.changed)
	e.changed = make(chan struct{})
	if e.down {
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "# TYPE istio_build gauge\nistio_build 1")
	for code, n := range e.counts {
		l := fmt.Sprintf(`reporter="destination",response_code="%s",response_flags="-"`, code)
		fmt.Fprintf(w, "istio_requests_total{%s} %v\n", l, n)
		for i, le := range []string{"5", "50", "500", "+Inf"} {
			fmt.Fprintf(w, "istio_request_duration_milliseconds_bucket{%s,le=\"%s\"} %v\n", l, le, n*[]float64{0.5, 1, 1, 1}[i])
		}
		fmt.Fprintf(w, "istio_requests_total{reporter=\"source\",response_code=\"%s\"} 1000\n", code)
	}
	fmt.Fprint(w, e.text)
}

func (e *exporter) count(code string, n float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[code] += n
}

func (e *exporter) set(text string, down bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text, e.down = text, down
}

// wait waits for so many scrapes that begin from now on.
func (e *exporter) wait(t testing.TB, n int) {
	t.Helper()
	for deadline := time.After(time.Minute); n > 0; n-- {
		e.mu.Lock()
		c := e.changed
		e.mu.Unlock()
		select {
		case <-c:
		case <-deadline:
			t.Fatal("it is not scraped")
		}
	}
}

func (e *exporter) target() string { return strings.TrimPrefix(e.srv.URL, "http://") }

// pods is a list of pods that changes.
type pods struct {
	mu   sync.Mutex
	list map[rollout.Revision][]metric.Pod
}

func (p *pods) Pods(_ context.Context, r rollout.Revision) ([]metric.Pod, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]metric.Pod(nil), p.list[r]...), nil
}

func (p *pods) add(r rollout.Revision, names ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.list == nil {
		p.list = map[rollout.Revision][]metric.Pod{}
	}
	for _, n := range names {
		p.list[r] = append(p.list[r], metric.Pod{Namespace: "shop", Name: n, Started: time.Now().Add(-time.Hour)})
	}
}

// job is a scrape job whose targets have labels as a cluster gives them.
func job(name string, targets map[string]*exporter, version map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- job_name: %s\n  static_configs:\n", name)
	for pod, e := range targets {
		fmt.Fprintf(&b, "  - {targets: [%q], labels: {namespace: shop, pod: %q, version: %q}}\n", e.target(), pod, version[pod])
	}
	return b.String()
}

func reader(t testing.TB, c Config) *Reader {
	t.Helper()
	if c.Every == 0 {
		c.Every = 100 * time.Millisecond
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
