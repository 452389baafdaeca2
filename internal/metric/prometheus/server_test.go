package prometheus

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	v1_ = rollout.Revision("v1@1")
	v2_ = rollout.Revision("v2@2")
)

// program finds the real one, of the Debian package prometheus. Where
// everything must run, not to find it is a failure.
func program(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: the Debian package prometheus is needed", err)
		}
		t.Skipf("%v: install the Debian package prometheus", err)
	}
	return path
}

// server is a real Prometheus.
type server struct {
	url string
	cmd *exec.Cmd
	end chan struct{}
}

// run starts one that scrapes these jobs.
func run(t testing.TB, jobs string) *server {
	t.Helper()
	path, dir := program(t), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 250ms, scrape_timeout: 250ms}\nscrape_configs:\n"+jobs), 0o600); err != nil {
		t.Fatal(err)
	}
	// The port is chosen by the kernel; another program may take it before the
	// server does, so it is tried again.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		var log bytes.Buffer
		s := &server{url: "http://" + addr, end: make(chan struct{})}
		s.cmd = exec.Command(path, "--config.file", config, "--storage.tsdb.path", dir, "--web.listen-address", addr, "--log.level", "warn", "--enable-feature", "native-histograms")
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		s.cmd.Stdout, s.cmd.Stderr = &log, &log
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.cmd.Wait(); close(s.end) }()
		if s.ready() {
			t.Cleanup(s.stop)
			return s
		}
		s.stop()
		if !strings.Contains(log.String(), "address already in use") {
			t.Fatalf("prometheus did not start:\n%s", log.String())
		}
	}
	t.Fatal("no port is free")
	return nil
}

func (s *server) ready() bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		resp, err := client.Get(s.url + "/-/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-tick.C:
		case <-s.end:
			return false
		case <-deadline:
			return false
		}
	}
}

// freeze makes it hang, or go on.
func (s *server) freeze(on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	_ = s.cmd.Process.Signal(sig)
}

func (s *server) stop() {
	s.freeze(false)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.end:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.end
	}
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
