package trial

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/metric/prometheus/prometheustest"
	"github.com/serin-dev/serin/internal/sim/worlds"
)

// openMetrics writes a synthetic service's past as Istio's metrics.
func openMetrics(s worlds.Scenario, end time.Time) []byte {
	w := worlds.New(s, 4)
	var requests, errors, buckets bytes.Buffer
	for w.Elapsed() < 0 {
		w.Advance(0)
		at := float64(end.Add(w.Elapsed()).UnixMilli()) / 1000
		for _, p := range w.Stable() {
			labels := fmt.Sprintf(`reporter="destination",destination_workload="shop-v1",pod=%q`, p.Name)
			fmt.Fprintf(&requests, "istio_requests_total{%s,response_code=\"200\"} %v %.3f\n", labels, p.Requests-p.Errors, at)
			if p.Errors > 0 {
				fmt.Fprintf(&errors, "istio_requests_total{%s,response_code=\"503\"} %v %.3f\n", labels, p.Errors, at)
			}
			for i, le := range p.Latency.LE {
				fmt.Fprintf(&buckets, "istio_request_duration_milliseconds_bucket{%s,response_code=\"200\",le=\"%v\"} %v %.3f\n", labels, le, p.Latency.Count[i], at)
			}
			fmt.Fprintf(&buckets, "istio_request_duration_milliseconds_bucket{%s,response_code=\"200\",le=\"+Inf\"} %v %.3f\n", labels, p.Requests, at)
		}
	}
	var out bytes.Buffer
	out.WriteString("# TYPE istio_requests counter\n")
	out.Write(requests.Bytes())
	out.Write(errors.Bytes())
	out.WriteString("# TYPE other gauge\nother 1 " + fmt.Sprintf("%.3f\n", float64(end.UnixMilli())/1000))
	out.WriteString("# TYPE istio_request_duration_milliseconds_bucket unknown\n")
	out.Write(buckets.Bytes())
	out.WriteString("# EOF\n")
	return out.Bytes()
}

// TestPrometheus asks a real one: for a past of 40 minutes that was put into it,
// and for what it scrapes from a real target now.
func TestPrometheus(t *testing.T) {
	dir := t.TempDir()
	end := time.Now().Add(-time.Second).Truncate(time.Second)
	s := worlds.Scenario{RPS: 50, Base: 0.01, Pods: 4, Latency: true, History: 40 * time.Minute, Every: 15 * time.Second, Resets: 1}
	text := filepath.Join(dir, "past.txt")
	if err := os.WriteFile(text, openMetrics(s, end), 0o600); err != nil {
		t.Fatal(err)
	}
	prometheustest.Fill(t, dir, text)
	var scraped atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := scraped.Add(1)
		for pod := range 2 {
			fmt.Fprintf(w, "tiny_requests_total{pod=\"p%d\",code=\"200\"} %d\ntiny_requests_total{pod=\"p%d\",code=\"500\"} %d\n", pod, 90*n, pod, 10*n)
		}
	}))
	defer target.Close()
	scrape := fmt.Sprintf("scrape_configs:\n- job_name: tiny\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  static_configs: [{targets: [%q]}]\n", strings.TrimPrefix(target.URL, "http://"))
	url := prometheustest.Start(t, dir, scrape, "--storage.tsdb.retention.time", "10d").URL

	p := Prometheus{URL: url, Selector: `reporter="destination",destination_workload="shop-v1"`, Window: 35 * time.Minute,
		Requests: "istio_requests_total", Latency: "istio_request_duration_milliseconds_bucket", Pod: "pod", Code: "response_code", Failed: "5..|0"}
	r, err := p.Fetch(context.Background(), end)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.Rate()-50) > 2.5 || math.Abs(r.Base()-0.01) > 0.002 || len(r.pods) != 4 || r.every != 15*time.Second || len(r.le) != 11 {
		t.Errorf("rate %.1f, base %.4f, %d pods, every %v, %d bounds", r.Rate(), r.Base(), len(r.pods), r.every, len(r.le))
	}
	spec, cfg := founding(t)
	rep, err := Ask(context.Background(), Question{Spec: spec, Config: cfg, Source: r, Regress: []Regression{{Text: "error=10%", Error: 0.1}, {Text: "latency=x2", Slower: 2}}, Runs: 6, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	a := rep.Policies[0]
	if a.Healthy.Back.K > 1 || a.Wrong[0].Caught.K < 5 || a.Wrong[1].Caught.K < 5 {
		t.Errorf("healthy %+v\nwrong %+v", a.Healthy, a.Wrong)
	}
	if notes := strings.Join(rep.Notes, "; "); !strings.Contains(notes, "CPU was not measured") {
		t.Errorf("notes: %s", notes)
	}

	// What it scrapes now: two pods that fail one request in ten.
	live := Prometheus{URL: url, Selector: `job="tiny"`, Window: time.Minute, Requests: "tiny_requests_total", Pod: "pod", Code: "code", Failed: "5..", least: time.Second}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		r, err := live.Fetch(context.Background(), time.Now())
		if err == nil && r.total >= 400 {
			if r.Base() != 0.1 || len(r.pods) != 2 {
				t.Errorf("base %v, pods %v", r.Base(), r.pods)
			}
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %d scrapes: %v", scraped.Load(), err)
		}
	}

	for name, c := range map[string]struct {
		change func(*Prometheus)
		want   string
	}{
		"NoSeries":   {func(p *Prometheus) { p.Selector = `destination_workload="nobody"` }, "has had no series"},
		"BadLabels":  {func(p *Prometheus) { p.Selector = `{destination_workload=}` }, "parse error"},
		"NoPodLabel": {func(p *Prometheus) { p.Pod = "instance_of" }, "without the label instance_of"},
		"NotThere":   {func(p *Prometheus) { p.URL = "http://127.0.0.1:1" }, "refused"},
	} {
		q := p
		c.change(&q)
		if _, err := q.Fetch(context.Background(), end); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something with %q", name, err, c.want)
		}
	}
}

// TestPrometheusAnswersThatAreNone: answers of a server that is no Prometheus,
// or too talkative a one.
func TestPrometheusAnswersThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"HTML":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello</html>") }, "asking for"},
		"Failing": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }, "502"},
		"Endless": {func(w http.ResponseWriter, _ *http.Request) {
			line := bytes.Repeat([]byte(" "), 1<<20)
			for range 70 {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, "larger than 64 MiB"},
	} {
		server := httptest.NewServer(c.answer)
		p := Prometheus{URL: server.URL, Selector: `a="b"`, Window: time.Hour, Requests: "m", Pod: "pod", Code: "code", Failed: "5.."}
		_, err := p.Fetch(context.Background(), time.Now())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something with %q", name, err, c.want)
		}
		server.Close()
	}
	p := Prometheus{URL: "ftp://x", Requests: "a b", Latency: "seconds", Pod: "1", Code: "", Failed: "("}
	_, err := p.Fetch(context.Background(), time.Now())
	for _, want := range []string{"an address", "--query-selector", "--query-requests", "ends in _bucket", "--query-pod-label", "--query-code-label", "--query-failed"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
}
