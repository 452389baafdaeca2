package metric

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/analysis"
)

func TestEndpointOf(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string // or the beginning of the error
	}{
		"None":        {nil, "{15020 /stats/prometheus false}"},
		"Unrelated":   {map[string]string{"a": "b"}, "{15020 /stats/prometheus false}"},
		"ScrapeAlone": {map[string]string{"prometheus.io/scrape": "true"}, "{15020 /stats/prometheus false}"},
		"Port":        {map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}, "{8080 /metrics false}"},
		"Injected":    {map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus"}, "{15020 /stats/prometheus false}"},
		"Query":       {map[string]string{"prometheus.io/port": "80", "prometheus.io/path": "/m?format=prometheus"}, "{80 /m?format=prometheus false}"},
		"Off":         {map[string]string{"prometheus.io/scrape": "false", "prometheus.io/port": "8080"}, "{0  true}"},
		"BadScrape":   {map[string]string{"prometheus.io/scrape": "maybe"}, `annotation prometheus.io/scrape: "maybe" is neither`},
		"BadPort":     {map[string]string{"prometheus.io/port": "http"}, `annotation prometheus.io/port: "http" is no port`},
		"PortZero":    {map[string]string{"prometheus.io/port": "0"}, `annotation prometheus.io/port`},
		"PortLarge":   {map[string]string{"prometheus.io/port": "65536"}, `annotation prometheus.io/port`},
		"HTTPS":       {map[string]string{"prometheus.io/scheme": "https"}, `annotation prometheus.io/scheme: "https": pods are asked over plain http only`},
		"OtherHost":   {map[string]string{"prometheus.io/path": "//evil/x"}, `annotation prometheus.io/path`},
		"Relative":    {map[string]string{"prometheus.io/path": "metrics"}, `annotation prometheus.io/path`},
		"NewLine":     {map[string]string{"prometheus.io/path": "/a\r\nHost: b"}, `annotation prometheus.io/path`},
		"Long":        {map[string]string{"prometheus.io/path": "/" + strings.Repeat("a", 300)}, `annotation prometheus.io/path: "/aaa`},
	} {
		e, err := EndpointOf(c.annotations)
		got := fmt.Sprint(e)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// set are labels in a map.
type set map[string]string

func (s set) Get(name string) string { return s[name] }

// TestOrderDoesNotMatter: series in any order give the same figures, and a
// histogram's bounds rise.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type one struct {
			name string
			l    set
			v    float64
		}
		var all []one
		total := 0.0
		for i, code := range []string{"200", "503", "404"}[:rapid.IntRange(1, 3).Draw(t, "codes")] {
			n := 0.0
			for _, le := range []string{"0.5", "1", "2.5", "10", "+Inf"} {
				n += float64(rapid.IntRange(0, 50).Draw(t, "n"))
				all = append(all, one{"istio_request_duration_milliseconds_bucket", set{"reporter": "destination", "response_code": code, "le": le}, n})
			}
			total += n
			all = append(all, one{"istio_requests_total", set{"reporter": "destination", "response_code": code}, n},
				one{"istio_requests_total", set{"reporter": "source", "response_code": code}, float64(1000 * i)})
		}
		figures := func(in []one) Figures {
			y := NewTally(Known())
			for _, x := range in {
				y.Add(x.name, x.l, x.v)
			}
			return y.Figures(y.Speaks())
		}
		want := figures(all)
		got := figures(rapid.Permutation(all).Draw(t, "order"))
		if fmt.Sprint(got) != fmt.Sprint(want) || got.Requests != total || got.Bad != "" || got.Lacks != "" {
			t.Fatalf("%+v and %+v", got, want)
		}
		for i := 1; i < len(got.Latency.LE); i++ {
			if got.Latency.LE[i] <= got.Latency.LE[i-1] || got.Latency.Count[i] < got.Latency.Count[i-1] {
				t.Fatalf("%+v", got.Latency)
			}
		}
	})
}

// TestBoundsOfSecondsAreRound: the judge looks for the document's limit among
// the bounds.
func TestBoundsOfSecondsAreRound(t *testing.T) {
	for s, want := range map[float64]float64{0.3: 300, 0.005: 5, 0.1: 100, 0.0025: 2.5, 1.1: 1100, 1e-9: 1e-6} {
		if got := milliseconds(s, time.Second); got != want {
			t.Errorf("%v s are %v ms", s, got)
		}
	}
}

// TestNativeBothForms: what is exposed and what Prometheus answers of the same
// histogram give the same counts, and no count at a bound is more than what was
// observed below it.
func TestNativeBothForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schema := rapid.IntRange(-2, 8).Draw(t, "schema")
		first := rapid.IntRange(-20, 20).Draw(t, "first")
		n := rapid.IntRange(1, 12).Draw(t, "buckets")
		zero := float64(rapid.IntRange(0, 3).Draw(t, "zero"))
		var deltas []int64
		var lower, upper, count []float64
		total, before := zero, int64(0)
		if zero > 0 {
			lower, upper, count = append(lower, -1e-9), append(upper, 1e-9), append(count, zero)
		}
		bound := func(i int) float64 { return math.Exp2(float64(i) * math.Exp2(-float64(schema))) }
		for i := range n {
			c := int64(rapid.IntRange(0, 9).Draw(t, "count"))
			deltas = append(deltas, c-before)
			before = c
			total += float64(c)
			lower, upper, count = append(lower, bound(first+i-1)), append(upper, bound(first+i)), append(count, float64(c))
		}
		figures := func(h *Native) Figures {
			y := NewTally(Known())
			y.AddNative("http_server_request_duration_seconds", set{"http_response_status_code": "200"}, h)
			return y.Figures(y.Speaks())
		}
		a := figures(NativeFromSpans(schema, 1e-9, zero, total, []int32{int32(first)}, []uint32{uint32(n)}, deltas, nil))
		b := figures(NativeFromBuckets(lower, upper, count, total))
		if fmt.Sprint(a) != fmt.Sprint(b) || a.Requests != total || a.Has&analysis.HasLatency == 0 {
			t.Fatalf("%+v and %+v", a, b)
		}
		for k, le := range a.Latency.LE {
			most := 0.0
			for i := range upper {
				if upper[i] <= le/1000*(1+1e-6) {
					most += count[i]
				}
			}
			if a.Latency.Count[k] != most {
				t.Fatalf("at most %v ms: %v, want %v", le, a.Latency.Count[k], most)
			}
		}
	})
	if NativeFromSpans(0, 0, 0, 5, []int32{0}, []uint32{4000000000}, []int64{1}, nil) != nil {
		t.Error("a span without its buckets was taken")
	}
	if NativeFromSpans(99, 0, 0, 5, nil, nil, nil, nil) != nil || NativeFromBuckets([]float64{1}, []float64{1.0000001}, []float64{1}, 1) != nil {
		t.Error("a schema that does not exist was taken")
	}
}

// TestTooManyBounds: what a pod can make us keep is bounded.
func TestTooManyBounds(t *testing.T) {
	y := NewTally(Known())
	for i := range 100_000 {
		y.Add("http_request_duration_seconds_bucket", set{"le": fmt.Sprint(100_000 - i)}, 1)
	}
	y.Add("http_request_duration_seconds_bucket", set{"le": "+Inf"}, 1)
	y.Add("http_requests_total", set{"code": "200"}, 1)
	f := y.Figures(1)
	if !strings.Contains(f.Lacks, "too many bounds") || f.Has&analysis.HasLatency != 0 || f.Requests != 1 {
		t.Errorf("%+v", f)
	}
}
