package podscrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	v1 = rollout.Revision("v1@1")
	v2 = rollout.Revision("v2@2")
)

// here lets the tests' pods be on this machine.
var here = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// cluster is a list of pods that changes.
type cluster struct {
	mu   sync.Mutex
	pods map[rollout.Revision][]metric.Pod
	err  error
}

func (c *cluster) Pods(_ context.Context, r rollout.Revision) ([]metric.Pod, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]metric.Pod(nil), c.pods[r]...), c.err
}

func (c *cluster) add(r rollout.Revision, p metric.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods == nil {
		c.pods = map[rollout.Revision][]metric.Pod{}
	}
	c.pods[r] = append(c.pods[r], p)
}

// serve runs a pod that answers with h and gives what the API server would say
// of it.
func serve(t testing.TB, name string, h http.Handler) metric.Pod {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return podAt(t, name, srv)
}

func podAt(t testing.TB, name string, srv *httptest.Server) metric.Pod {
	t.Helper()
	at := netip.MustParseAddrPort(strings.TrimPrefix(srv.URL, "http://"))
	return metric.Pod{Namespace: "shop", Name: name, Address: at.Addr(), Scrape: metric.Endpoint{Port: at.Port(), Path: "/metrics"},
		Started: time.Now().Add(-time.Hour)}
}

func text(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		io.WriteString(w, body)
	})
}

func scraper(t testing.TB, o Options) *Scraper {
	t.Helper()
	if o.Allow == nil {
		o.Allow = here
	}
	s := New(o)
	t.Cleanup(s.Close)
	return s
}

// istioPod counts as the sidecar of a pod does.
type istioPod struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	cpu      prometheus.Gauge
	http.Handler
}

func newIstioPod() *istioPod {
	labels := []string{"reporter", "response_code", "response_flags"}
	p := &istioPod{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "istio_requests_total", Help: "."}, labels),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "istio_request_duration_milliseconds", Help: ".",
			Buckets: []float64{1, 5, 10, 50, 100, 500, 1000}}, labels),
	}
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "istio_agent_go_goroutines", Help: "."})
	cpu := prometheus.NewGauge(prometheus.GaugeOpts{Name: "process_cpu_seconds_total", Help: "."})
	memory := prometheus.NewGauge(prometheus.GaugeOpts{Name: "process_resident_memory_bytes", Help: "."})
	cpu.Set(3)
	memory.Set(5e7)
	reg.MustRegister(p.requests, p.latency, build, cpu, memory)
	p.cpu = cpu
	p.Handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return p
}

func (p *istioPod) serve(code string, ms float64) {
	p.requests.WithLabelValues("destination", code, "-").Inc()
	p.latency.WithLabelValues("destination", code, "-").Observe(ms)
	// What it sends itself, which is nobody's business here.
	p.requests.WithLabelValues("source", "503", "UF").Inc()
	p.latency.WithLabelValues("source", "503", "UF").Observe(1)
}

func TestConformance(t *testing.T) {
	enginetest.TestSamples(t, func(t *testing.T) enginetest.SamplesFixture {
		c := &cluster{}
		var pods []*istioPod
		for i, r := range []rollout.Revision{v1, v1, v2} {
			p := newIstioPod()
			pods = append(pods, p)
			c.add(r, serve(t, fmt.Sprintf("pod-%d", i), p))
		}
		return enginetest.SamplesFixture{
			Samples: scraper(t, Options{}).For(c), Stable: v1, Canary: v2,
			Step: func() {
				for _, p := range pods {
					p.serve("200", 3)
				}
			},
		}
	})
}

func look(t testing.TB, s *Source) engine.Sampled {
	t.Helper()
	got, err := s.Look(context.Background(), v1, v2)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestIstio(t *testing.T) {
	c, one, two := &cluster{}, newIstioPod(), newIstioPod()
	p := serve(t, "a", one)
	p.Restarts, p.OOMKills = 2, 1
	c.add(v1, p)
	c.add(v2, serve(t, "b", two))
	s := scraper(t, Options{}).For(c)

	// Nobody has counted anything: the sidecar is there, so that is zero.
	got := look(t, s)
	if x := got.Canary[0]; x.Has&(analysis.HasRequests|analysis.HasErrors) != analysis.HasRequests|analysis.HasErrors || x.Requests != 0 || x.Has&analysis.HasLatency != 0 {
		t.Errorf("before the first request: %+v", x)
	}
	for range 90 {
		one.serve("200", 3)
	}
	for range 6 {
		one.serve("503", 70)
	}
	one.serve("404", 2000)
	one.requests.WithLabelValues("destination", "0", "DC").Inc() // the client went away
	one.latency.WithLabelValues("destination", "0", "DC").Observe(3)
	one.requests.WithLabelValues("destination", "0", "-").Inc() // and here it did not
	one.latency.WithLabelValues("destination", "0", "-").Observe(3)
	got = look(t, s)
	x := got.Stable[0]
	want := analysis.HasRequests | analysis.HasErrors | analysis.HasLatency | analysis.HasCPU | analysis.HasMemory | analysis.HasRestarts
	if x.Has != want || x.Name != "a" || x.Requests != 99 || x.Errors != 7 || x.CPUSeconds != 3 || x.MemoryBytes != 5e7 || x.Restarts != 2 || x.OOMKills != 1 || x.Started.IsZero() {
		t.Errorf("got %+v", x)
	}
	if fmt.Sprint(x.Latency) != "{[1 5 10 50 100 500 1000] [0 92 92 92 98 98 98]}" {
		t.Errorf("latency %v", x.Latency)
	}
	// The other one has no series, and bounds are known by now.
	if y := got.Canary[0]; y.Has&analysis.HasLatency == 0 || fmt.Sprint(y.Latency) != "{[1 5 10 50 100 500 1000] [0 0 0 0 0 0 0]}" || y.Requests != 0 {
		t.Errorf("the idle one: %+v", y)
	}
	if l := s.Last(); l.Asked != 2 || l.Answered != 2 || l.Names != "istio" || len(l.Problems) != 0 {
		t.Errorf("summary %+v", l)
	}
}

// TestConventions: the text of one pod of each version, and what comes of it.
func TestConventions(t *testing.T) {
	for name, c := range map[string]struct {
		reason         string
		stable, canary string
		want           string // requests/errors/bounds of both
		problem        string
	}{
		"Classic": {
			stable: "# HELP http_requests_total x\n# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 9\nhttp_requests_total{code=\"500\"} 1\n",
			canary: "http_requests_total{code=\"5xx\"} 4\nhttp_requests_total{code=\"2xx\"} 4\n",
			want:   "10/1/0 8/4/0", problem: "http_request_duration_seconds has no buckets",
		},
		"ACounterThatWasNotCountedYet": {
			reason: "a counter with labels has no series before its first request; the other pods show that it is counted",
			stable: "http_requests_total{code=\"200\"} 9\nhttp_request_duration_seconds_bucket{le=\"0.3\"} 8\nhttp_request_duration_seconds_bucket{le=\"+Inf\"} 9\n",
			canary: "go_goroutines 7\n",
			want:   "9/0/1 0/0/1",
		},
		"DeclaredOnly": {
			reason: "a metric that is told of without series has counted nothing",
			stable: "# TYPE http_requests_total counter\nup 1\n",
			canary: "up 1\n",
			want:   "0/0/0 0/0/0",
		},
		"NobodyCounts": {
			stable: "go_goroutines 7\nprocess_cpu_seconds_total 1\n",
			canary: "process_cpu_seconds_total 1\n",
			want:   "- -", problem: "NoCounters",
		},
		"OtherNames": {
			reason: "what is counted by different means is not compared",
			stable: "http_requests_total{code=\"200\"} 9\nhttp_request_duration_seconds_bucket{le=\"+Inf\"} 9\nhttp_request_duration_seconds_bucket{le=\"1\"} 9\n",
			canary: "http_server_requests_seconds_count{status=\"200\"} 4\nhttp_server_requests_seconds_bucket{le=\"1\",status=\"200\"} 4\nhttp_server_requests_seconds_bucket{le=\"+Inf\",status=\"200\"} 4\n",
			want:   "9/0/1 -", problem: "it counts under http_server_requests_seconds, the application under http_requests_total",
		},
		"TheHistogramIsTheCounter": {
			stable: "http_server_request_duration_seconds_count{http_response_status_code=\"200\"} 4\nhttp_server_request_duration_seconds_count{http_response_status_code=\"502\"} 2\n" +
				"http_server_request_duration_seconds_bucket{http_response_status_code=\"200\",le=\"0.1\"} 4\nhttp_server_request_duration_seconds_bucket{http_response_status_code=\"200\",le=\"+Inf\"} 4\n" +
				"http_server_request_duration_seconds_bucket{http_response_status_code=\"502\",le=\"0.1\"} 1\nhttp_server_request_duration_seconds_bucket{http_response_status_code=\"502\",le=\"+Inf\"} 2\n",
			canary: "up 1\n",
			want:   "6/2/1 0/0/1",
		},
		"GRPC": {
			stable: "grpc_server_handled_total{grpc_code=\"OK\"} 4\ngrpc_server_handled_total{grpc_code=\"NotFound\"} 4\ngrpc_server_handled_total{grpc_code=\"Unavailable\"} 2\n",
			canary: "grpc_server_handled_total{grpc_code=\"Internal\"} 1\n",
			want:   "10/2/0 1/1/0", problem: "no buckets",
		},
		"GRPCInIstio": {
			stable: "istio_requests_total{reporter=\"destination\",response_code=\"200\",grpc_response_status=\"14\"} 3\nistio_requests_total{reporter=\"destination\",response_code=\"200\",grpc_response_status=\"0\"} 3\n",
			canary: "istio_requests_total{reporter=\"destination\",response_code=\"200\",grpc_response_status=\"5\"} 3\n",
			want:   "6/3/0 3/0/0", problem: "no buckets",
		},
		"NoStatus": {
			reason: "requests are known, failures are not: missing, not zero",
			stable: "http_requests_total 9\n",
			canary: "http_requests_total{path=\"/\"} 3\n",
			want:   "9/?/0 3/?/0", problem: "not every series of http_requests_total has a label with the status",
		},
		"TheHistogramCountsOthers": {
			reason: "what is in no bucket would be taken for slow",
			stable: "http_requests_total{code=\"200\"} 900\nhttp_request_duration_seconds_bucket{le=\"1\"} 90\nhttp_request_duration_seconds_bucket{le=\"+Inf\"} 90\n",
			canary: "http_requests_total{code=\"200\"} 1\n",
			want:   "900/0/0 1/0/0", problem: "counts other requests",
		},
		"NotANumber": {
			stable: "http_requests_total{code=\"200\"} NaN\n",
			canary: "http_requests_total{code=\"200\"} -1\n",
			want:   "- -", problem: "is not a number that it can be",
		},
		"OthersMistakes": {
			reason: "what another exporter of the pod gets wrong is left alone",
			stable: "# TYPE a counter\n# TYPE a gauge\na{x=\"1} 2\nb b b\nhttp_requests_total{code=\"200\",path=\"/a b{}\\\"\"} 9\n",
			canary: "<nonsense>\nhttp_requests_total{code=\"200\"} 1 1700000000000\n",
			want:   "9/0/0 1/0/0", problem: "no buckets",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cl := &cluster{}
			cl.add(v1, serve(t, "a", text(c.stable)))
			cl.add(v2, serve(t, "b", text(c.canary)))
			s := scraper(t, Options{}).For(cl)
			got, err := s.Look(context.Background(), v1, v2)
			if err != nil && !strings.Contains(fmt.Sprint(err), "NoCounters") && !strings.Contains(err.Error(), "Malformed") {
				t.Fatal(err)
			}
			say := func(p analysis.Pod) string {
				if p.Has&analysis.HasRequests == 0 {
					return "-"
				}
				e := "?"
				if p.Has&analysis.HasErrors != 0 {
					e = fmt.Sprint(p.Errors)
				}
				return fmt.Sprintf("%v/%s/%d", p.Requests, e, len(p.Latency.LE))
			}
			if g := say(got.Stable[0]) + " " + say(got.Canary[0]); g != c.want {
				t.Errorf("got %s, want %s; %s", g, c.want, c.reason)
			}
			if g := fmt.Sprint(s.Last().Problems); !strings.Contains(g, c.problem) || c.problem == "" && g != "[]" {
				t.Errorf("problems %s, want %q", g, c.problem)
			}
		})
	}
}

// TestWhatIsNoAnswer: each way in which a pod fails to answer has its reason,
// gives no figures, hurts no other pod and leaks nothing of the answer.
func TestWhatIsNoAnswer(t *testing.T) {
	const secret = "hunter2"
	closed := httptest.NewServer(text(""))
	gone := podAt(t, "bad", closed)
	closed.Close()
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	handlers := map[Reason]http.HandlerFunc{
		BadStatus: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusTeapot) },
		TooLarge: func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				if _, err := io.WriteString(w, "x 1\n"+strings.Repeat(secret, 100)+"\n"); err != nil {
					return
				}
			}
		},
		NotMetrics: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<html>"+secret+"</html>\n")
		},
		Malformed: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "http_requests_total "+secret+"\n") },
		TimedOut: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "http_requests_total{code=\"200\"} 17\n")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		},
		Refused: func(w http.ResponseWriter, _ *http.Request) { // ends before it is whole
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "http_requests_total{code=\"200\"} 17\n")
		},
	}
	pods := map[string]metric.Pod{
		"Gone/Refused":            gone,
		"NoAddress/NoAddress":     {Name: "bad", Scrape: metric.IstioEndpoint},
		"Off/NotScraped":          {Name: "bad", Address: here[0].Addr(), Scrape: metric.Endpoint{Off: true}},
		"NoPort/NotScraped":       {Name: "bad", Address: here[0].Addr()},
		"Metadata/AddressRefused": {Name: "bad", Address: netip.MustParseAddr("169.254.169.254"), Scrape: metric.IstioEndpoint},
		"HalfALine/Malformed":     serve(t, "bad", text("http_requests_total{code=\"200\"} 1")),
		"LongLine/Malformed":      serve(t, "bad", text("a 1\n#"+strings.Repeat("x", maxLine+1)+"\n")),
		"Redirect/BadStatus":      serve(t, "bad", http.RedirectHandler(other.URL, http.StatusFound)),
		"Empty/NotMetrics":        serve(t, "bad", text("")),
		"Binary/Malformed": serve(t, "bad", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", `application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited`)
			w.Write([]byte{0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3}) // claims 32 GiB
		})),
	}
	for r, h := range handlers {
		pods["Handler/"+string(r)] = serve(t, "bad", h)
	}
	good := serve(t, "good", text("http_requests_total{code=\"200\"} 9\n"))
	for name, bad := range pods {
		t.Run(name, func(t *testing.T) {
			_, reason, _ := strings.Cut(name, "/")
			timeout := 10 * time.Second
			if reason == string(TimedOut) {
				timeout = 50 * time.Millisecond
			}
			bad.Restarts = 3
			c := &cluster{}
			c.add(v1, good)
			c.add(v1, bad)
			sc := scraper(t, Options{Timeout: timeout, MaxBody: maxLine + 1000, Allow: here})
			if reason == string(TooLarge) {
				sc = scraper(t, Options{Timeout: timeout, MaxBody: 1000})
			}
			s := sc.For(c)
			got, err := s.Look(context.Background(), v1, "")
			if err != nil {
				t.Fatal(err)
			}
			if reason != string(TimedOut) && got.Stable[0].Requests != 9 {
				t.Errorf("the good one: %+v", got.Stable[0])
			}
			if p := got.Stable[1]; p.Has != analysis.HasRestarts || p.Requests != 0 || p.Restarts != 3 {
				t.Errorf("the bad one gave figures: %+v", p)
			}
			said := fmt.Sprint(s.Last().Problems)
			if !strings.Contains(said, "bad: "+reason) {
				t.Errorf("said %s, want %s", said, reason)
			}
			// Alone it is an error, with the same words.
			c.pods[v1] = c.pods[v1][1:]
			_, err = sc.For(c).Look(context.Background(), v1, "")
			var e *LookError
			if !errors.As(err, &e) || len(e.Problems) != 1 || string(e.Problems[0].Reason) != reason {
				t.Errorf("alone: %v", err)
			}
			if strings.Contains(said+fmt.Sprint(err), secret) {
				t.Errorf("what the pod answered is repeated: %s %v", said, err)
			}
		})
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// TestAddresses: what is dialled, and what is not.
func TestAddresses(t *testing.T) {
	s := scraper(t, Options{Allow: []netip.Prefix{}})
	for a, want := range map[string]bool{
		"10.1.2.3": true, "192.168.0.9": true, "172.20.1.1": true, "8.8.8.8": true, "fd12::7": true, "100.64.3.3": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "0.0.0.0": false, "::": false, "169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false,
		"224.0.0.1": false, "255.255.255.255": false, "ff02::1": false, "fd00:ec2::254": false, "100.100.100.200": false,
		"::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
	} {
		if got := s.allowed(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
		if err := s.control("tcp", net.JoinHostPort(a, "80"), nil); (err == nil) != want {
			t.Errorf("dialling %s: %v", a, err)
		}
	}
}

// TestSickPodsAreLeftAlone: a pod that hangs is not waited for at every look.
func TestSickPodsAreLeftAlone(t *testing.T) {
	var asked atomic.Int64
	var well atomic.Bool
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	sick := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if well.Load() {
			io.WriteString(w, "http_requests_total{code=\"200\"} 5\n")
			return
		}
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	now := time.Now()
	c := &cluster{}
	c.add(v1, serve(t, "good", text("http_requests_total{code=\"200\"} 9\n")))
	c.add(v2, serve(t, "sick", sick))
	s := scraper(t, Options{Timeout: 300 * time.Millisecond, Now: func() time.Time { return now }}).For(c)
	last := func() string {
		look(t, s)
		return fmt.Sprint(s.Last().Problems)
	}
	for i, want := range []string{"TimedOut", "TimedOut", "Hung (2 looks in a row", "Hung"} {
		if got := last(); !strings.Contains(got, want) {
			t.Errorf("look %d: %s, want %s", i, got, want)
		}
	}
	now = now.Add(1100 * time.Millisecond)
	if got := last(); !strings.Contains(got, "TimedOut") || asked.Load() != 3 {
		t.Errorf("after its rest: %s, asked %d times", got, asked.Load())
	}
	well.Store(true)
	now = now.Add(longestRest)
	if got := look(t, s); got.Canary[0].Requests != 5 || strings.Contains(fmt.Sprint(s.Last().Problems), "Hung") {
		t.Errorf("well again: %+v, %v", got, s.Last().Problems)
	}
}

// TestConnectionsAreKept: one connection for each pod, however often it is
// asked, and none beyond the bound on concurrency.
func TestConnectionsAreKept(t *testing.T) {
	var conns, now, most atomic.Int64
	c := &cluster{}
	for i := range 12 {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			io.WriteString(w, "http_requests_total{code=\"200\"} 5\n")
			now.Add(-1)
		}))
		srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateNew {
				conns.Add(1)
			}
		}
		srv.Start()
		t.Cleanup(srv.Close)
		c.add(v1, podAt(t, fmt.Sprint("p", i), srv))
	}
	s := scraper(t, Options{Concurrency: 3, Timeout: 10 * time.Second}).For(c)
	for range 20 {
		look(t, s)
	}
	if conns.Load() != 12 || most.Load() > 3 {
		t.Errorf("%d connections for 12 pods, %d at once", conns.Load(), most.Load())
	}
}

// TestNativeHistogram: an application that has only native histograms is asked
// for the binary format, and its bounds do not depend on what was counted.
func TestNativeHistogram(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "http_server_request_duration_seconds", Help: ".", NativeHistogramBucketFactor: 1.1}, []string{"http_response_status_code"})
	reg.MustRegister(h)
	for range 90 {
		h.WithLabelValues("200").Observe(0.040)
	}
	for range 10 {
		h.WithLabelValues("500").Observe(0.7)
	}
	c := &cluster{}
	c.add(v1, serve(t, "a", promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	s := scraper(t, Options{}).For(c)
	var p analysis.Pod
	for range 3 { // the first look shows that the text is not all
		got, err := s.Look(context.Background(), v1, "")
		if err != nil {
			t.Fatal(err)
		}
		p = got.Stable[0]
	}
	if p.Requests != 100 || p.Errors != 10 || p.Has&analysis.HasLatency == 0 || len(p.Latency.LE) != 33 {
		t.Fatalf("got %+v; %v", p, s.Last().Problems)
	}
	for i, le := range p.Latency.LE {
		want := 0.0
		if le > 44 {
			want = 90
		}
		if le >= 1000 {
			want = 100
		}
		if le < 1000 && le > 600 {
			continue // within a bucket's width
		}
		if p.Latency.Count[i] != want {
			t.Errorf("at most %v ms: %v, want %v", le, p.Latency.Count[i], want)
		}
	}
	h.WithLabelValues("200").Observe(9)
	again, err := s.Look(context.Background(), v1, "")
	if err != nil || fmt.Sprint(again.Stable[0].Latency.LE) != fmt.Sprint(p.Latency.LE) {
		t.Errorf("other bounds: %v, %v", again.Stable[0].Latency.LE, err)
	}
}

// TestTheJudgeSeesABadCanary: looks at real pods, judged by the real judge.
func TestTheJudgeSeesABadCanary(t *testing.T) {
	c := &cluster{}
	var stable []*istioPod
	for i := range 3 {
		p := newIstioPod()
		stable = append(stable, p)
		c.add(v1, serve(t, fmt.Sprint("s", i), p))
	}
	bad := newIstioPod()
	c.add(v2, serve(t, "c0", bad))
	s := scraper(t, Options{}).For(c)
	judge := analysis.New(analysis.Config{Compare: true, ErrorRate: &analysis.RateRule{WorseBy: 0.005}, MinRequests: 200, FalseRollback: 0.01})
	now := time.Now()
	for i := range 20 {
		now = now.Add(time.Second)
		got := look(t, s)
		r := judge.Look(analysis.Look{Time: now, Stable: string(v1), Canary: string(v2), Live: true, Weight: 0.05, NextWeight: 0.25, StablePods: got.Stable, CanaryPods: got.Canary})
		if r.Verdict == analysis.Fail {
			t.Logf("after %d looks", i)
			if i < 2 {
				t.Errorf("after %d looks, which is too soon for evidence", i)
			}
			if r.Exposed != float64(10*i) {
				t.Errorf("after %d looks %v requests were counted", i, r.Exposed)
			}
			return
		}
		for k := range 190 {
			stable[k%3].serve("200", 3)
		}
		for k := range 10 {
			bad.serve([]string{"200", "503"}[k%2], 3)
		}
	}
	t.Error("half of the canary's answers are failures, and nobody noticed for 20 looks")
}

func TestListingFails(t *testing.T) {
	c := &cluster{err: errors.New("the cache is not filled yet")}
	if _, err := scraper(t, Options{}).For(c).Look(context.Background(), v1, v2); err == nil || !strings.Contains(err.Error(), "listing the pods of v1: the cache") {
		t.Error(err)
	}
	if _, err := scraper(t, Options{}).For(&cluster{}).Look(context.Background(), v1, v2); err == nil || err.Error() != "there are no pods to ask" {
		t.Error(err)
	}
}

// FuzzAnswer: whatever a pod says, its figures are numbers that can be.
// A mistake of ours over one pod's answer is that pod's of that look, with its
// stack in the log, once; nothing else ends of it.
func TestAPanicIsOnePodsOfOneLook(t *testing.T) {
	const counters = "http_requests_total{code=\"200\"} 7\n"
	pods := &cluster{}
	bad, good := serve(t, "bad", text(counters)), serve(t, "good", text(counters))
	pods.add(v1, good)
	pods.add(v2, bad)
	var logged bytes.Buffer
	scraper := scraper(t, Options{Concurrency: 1, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	var broken atomic.Bool
	broken.Store(true)
	mistaken := func(problems []string) bool {
		return slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, "bad: Mistake (") })
	}
	next := scraper.client.Transport
	scraper.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(r)
		if broken.Load() && r.URL.Port() == fmt.Sprint(bad.Scrape.Port) && err == nil {
			res.Body = panics{res.Body}
		}
		return res, err
	})
	t.Cleanup(func() { scraper.client.Transport = next })
	s := scraper.For(pods)
	for range 3 {
		got := look(t, s)
		if len(got.Stable) != 1 || got.Stable[0].Has&analysis.HasRequests == 0 || len(got.Canary) != 1 || got.Canary[0].Has&analysis.HasRequests != 0 {
			t.Fatalf("%+v", got)
		}
		if p := s.Problems(); !mistaken(p) {
			t.Errorf("problems %q", p)
		}
	}
	if n := strings.Count(logged.String(), "out of range"); n != 1 || !strings.Contains(logged.String(), "podscrape_test.go") {
		t.Errorf("said %d times, want once, with the stack:\n%s", n, logged.String())
	}
	broken.Store(false)
	if got := look(t, s); got.Canary[0].Has&analysis.HasRequests == 0 || mistaken(s.Problems()) {
		t.Errorf("afterwards: %+v, %q", got, s.Problems())
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// panics is an answer over which whoever reads it makes a mistake.
type panics struct{ io.ReadCloser }

func (panics) Read(p []byte) (int, error) { return len(p[len(p)+1:]), nil }

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("istio_requests_total{reporter=\"destination\",response_code=\"200\"} 5\nprocess_cpu_seconds_total 1e3\n"), false)
	f.Add([]byte("http_request_duration_seconds_bucket{le=\"0.1\"} 1\nhttp_request_duration_seconds_bucket{le=\"+Inf\"} 1\nhttp_requests_total{code=\"500\"} 1\n"), false)
	f.Add([]byte("http_requests_total{code=\"500\"} -Inf\n# TYPE x\n"), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1}, true)
	known := newWords(metric.Known())
	f.Fuzz(func(t *testing.T, body []byte, binary bool) {
		r := &reader{tally: metric.NewTally(metric.Known()), words: known}
		read := r.text
		if binary {
			read = r.binary
		}
		if err := read(strings.NewReader(string(body))); err != nil {
			return
		}
		for i := -1; i < len(metric.Known()); i++ {
			g := r.tally.Figures(i)
			for _, x := range append([]float64{g.Requests, g.Errors, g.CPUSeconds, g.MemoryBytes}, g.Latency.Count...) {
				if !(x >= 0) || math.IsInf(x, 0) {
					t.Fatalf("%v in %+v", x, g)
				}
			}
			if g.Errors > g.Requests || len(g.Latency.LE) != len(g.Latency.Count) {
				t.Fatalf("%+v", g)
			}
			for k := 1; k < len(g.Latency.LE); k++ {
				if g.Latency.LE[k] <= g.Latency.LE[k-1] || g.Latency.Count[k] < g.Latency.Count[k-1] {
					t.Fatalf("%+v", g.Latency)
				}
			}
		}
	})
}

// proxyText is about what a proxy with a few clusters tells: two thousand lines
// of which sixty are counted.
func proxyText() string {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "envoy_cluster_upstream_cx_total{cluster_name=\"outbound|80||service-%d.shop.svc.cluster.local\"} %d\n", i, i)
	}
	for _, code := range []string{"200", "404", "503"} {
		l := fmt.Sprintf(`reporter="destination",source_workload="web",source_workload_namespace="shop",destination_workload="my-app-v2",destination_version="v2",destination_service="my-app.shop.svc.cluster.local",request_protocol="http",response_code="%s",response_flags="-",connection_security_policy="mutual_tls"`, code)
		fmt.Fprintf(&b, "istio_requests_total{%s} 1000\n", l)
		for _, le := range []string{"0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000", "300000", "600000", "1800000", "3600000", "+Inf"} {
			fmt.Fprintf(&b, "istio_request_duration_milliseconds_bucket{%s,le=\"%s\"} 1000\n", l, le)
		}
	}
	return b.String()
}

// BenchmarkLook is one look at 20 pods over real connections, each answering
// with what a proxy tells (220 kB).
func BenchmarkLook(b *testing.B) {
	h := text(proxyText())
	c := &cluster{}
	for i := range 20 {
		r := v1
		if i < 4 {
			r = v2
		}
		c.add(r, serve(b, fmt.Sprint("p", i), h))
	}
	s := scraper(b, Options{Timeout: 10 * time.Second}).For(c)
	b.ReportAllocs()
	for b.Loop() {
		look(b, s)
	}
	b.ReportMetric(float64(s.Last().Spread.Microseconds()), "µs-spread")
}

// BenchmarkRead is one pod's answer alone, without a network.
func BenchmarkRead(b *testing.B) {
	body := proxyText()
	known := newWords(metric.Known())
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r := &reader{tally: metric.NewTally(metric.Known()), words: known}
		if err := r.text(strings.NewReader(body)); err != nil {
			b.Fatal(err)
		}
	}
}
