package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/serin-dev/serin/internal/gateway"
)

// backend is a real HTTP server on loopback that answers for one replica.
type backend struct {
	*httptest.Server
	addr string
}

func newBackend(t testing.TB, h http.HandlerFunc) *backend {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &backend{s, s.Listener.Addr().String()}
}

// says answers with a fixed text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }
}

// front is a gateway that listens, and a client for it.
type front struct {
	*gateway.Gateway
	url    string
	addr   string
	client *http.Client
}

func newFront(t testing.TB, o gateway.Options) *front {
	t.Helper()
	g := gateway.New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	tr := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Errorf("shutting the gateway down: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) { // ended before it began, too
			t.Errorf("Serve: %v", err)
		}
	})
	addr := l.Addr().String()
	return &front{Gateway: g, url: "http://" + addr, addr: addr, client: &http.Client{Transport: tr}}
}

func (f *front) swap(t testing.TB, tb gateway.Table) {
	t.Helper()
	if err := f.Swap(tb); err != nil {
		t.Fatal(err)
	}
}

// get gives status and body.
func (f *front) get(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := f.client.Get(f.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, readAll(t, resp.Body)
}

// version builds a version with one endpoint per address.
func version(name string, addrs ...string) gateway.Version {
	v := gateway.Version{Name: name, Workload: "app-" + name}
	for i, a := range addrs {
		v.Endpoints = append(v.Endpoints, gateway.Endpoint{Replica: fmt.Sprintf("%s-%d", name, i), Address: a})
	}
	return v
}

// table routes every request of one service by one split.
func table(n int64, split []gateway.Destination, vs ...gateway.Version) gateway.Table {
	return gateway.Table{Number: n, Services: []gateway.Service{{Name: "app", Default: true, Versions: vs,
		Rules: []gateway.Rule{{Name: "main", Split: split}}}}}
}

func all(v string) []gateway.Destination { return []gateway.Destination{{Version: v, Weight: 10000}} }

func share(canary int) []gateway.Destination {
	return []gateway.Destination{{Version: "v1", Weight: 10000 - canary}, {Version: "v2", Weight: canary}}
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
