package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// scrape gives the sum of a metric's series that hold all of the given texts.
func scrape(t testing.TB, g *gateway.Gateway, metric string, having ...string) (sum float64, series int) {
	t.Helper()
	rec := httptest.NewRecorder()
	g.Metrics().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("/metrics: %d %s", rec.Code, rec.Body)
	}
line:
	for line := range strings.SplitSeq(rec.Body.String(), "\n") {
		if !strings.HasPrefix(line, metric+"{") {
			continue
		}
		for _, h := range having {
			if !strings.Contains(line, h) {
				continue line
			}
		}
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
		series++
	}
	return sum, series
}

// TestWhatIsGoneIsForgotten: figures of endpoints and versions that left the
// table stay for a while, then their series go; a version's sums never fall
// while it is there.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateway.New(gateway.Options{KeepGone: time.Minute, DialTimeout: time.Second})
		defer g.Close()
		swap := func(tb gateway.Table) {
			t.Helper()
			if err := g.Swap(tb); err != nil {
				t.Fatal(err)
			}
		}
		// The endpoints refuse connections: failures count as well as anything.
		ask := func() {
			rec := httptest.NewRecorder()
			g.ServeHTTP(rec, httptest.NewRequest("GET", "http://a/", nil))
			if rec.Code != http.StatusBadGateway {
				t.Fatalf("status %d", rec.Code)
			}
		}
		const a, b = "127.0.0.1:1", "127.0.0.1:2"
		v2 := `destination_version="v2"`
		swap(table(1, all("v2"), version("v2", a)))
		ask()
		ask()
		swap(table(2, all("v2"), version("v2", b))) // another process of the same version
		ask()
		if n, _ := scrape(t, g, "istio_requests_total", v2); n != 3 {
			t.Errorf("%v requests, want 3", n)
		}
		if es := g.Stats().Services[0].Versions[0].Endpoints; len(es) != 2 || !es[0].InForce || es[0].Requests != 1 || es[1].InForce || es[1].Requests != 2 {
			t.Errorf("endpoints: %+v", es)
		}
		time.Sleep(2 * time.Minute)
		if es := g.Stats().Services[0].Versions[0].Endpoints; len(es) != 1 {
			t.Errorf("the old endpoint is still there: %+v", es)
		}
		if n, _ := scrape(t, g, "istio_requests_total", v2); n != 3 {
			t.Errorf("the version's sum fell to %v", n)
		}
		swap(table(3, all("v1"), version("v1", a)))
		if _, series := scrape(t, g, "istio_requests_total", v2); series != 1 {
			t.Errorf("%d series at once after the version left, want 1", series)
		}
		if vs := g.Stats().Services[0].Versions; len(vs) != 2 || vs[1].InForce || vs[1].LastRequest.IsZero() {
			t.Errorf("versions: %+v", vs)
		}
		time.Sleep(2 * time.Minute)
		g.Stats()
		if _, series := scrape(t, g, "istio_requests_total", v2); series != 0 {
			t.Errorf("%d series long after the version left", series)
		}
		swap(gateway.Table{Number: 4})
		time.Sleep(2 * time.Minute)
		g.Stats()
		if ss := g.Stats().Services; len(ss) != 0 {
			t.Errorf("services: %+v", ss)
		}
	})
}

// Clients cannot make series: neither by status codes nor by paths, hosts and
// methods.
func TestSeriesAreBounded(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(code)
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	for i := 200; i < 1000; i++ {
		req, _ := http.NewRequest(fmt.Sprintf("M%d", i), fmt.Sprintf("%s/%d", f.url, i), nil)
		req.Host = fmt.Sprintf("h%d.example", i)
		resp, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != i {
			t.Fatalf("status %d, want %d", resp.StatusCode, i)
		}
	}
	n, series := scrape(t, f.Gateway, "istio_requests_total")
	if n != 800 || series > 400 {
		t.Errorf("%v requests in %d series", n, series)
	}
	// 500 to 999 were no answers that anybody could use.
	if e := f.version(t, "v1").Endpoints[0]; e.Errors != 500 || e.Failed != 0 {
		t.Errorf("%+v", e)
	}
}

// Stats and metrics may be read while everything changes: no more errors than
// requests, no bucket above the total.
func TestFiguresAreConsistentWhileTheyChange(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
					f.get(t, "/")
				}
			}
		}()
	}
	for i := range 300 {
		f.swap(t, table(int64(i+2), all("v1"), version("v1", b.addr)))
		for _, e := range f.Stats().Services[0].Versions[0].Endpoints {
			last := uint64(0)
			for _, n := range e.Count {
				if n < last || n > e.Requests {
					t.Fatalf("bucket %d after %d, of %d", n, last, e.Requests)
				}
				last = n
			}
			if e.Errors > e.Requests {
				t.Fatalf("%d errors of %d requests", e.Errors, e.Requests)
			}
		}
	}
	close(stop)
	wg.Wait()
}
