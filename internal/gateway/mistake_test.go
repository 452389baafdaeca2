package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// reads makes a mistake when it is read.
type reads struct{ io.ReadCloser }

func (reads) Read(p []byte) (int, error) { return len(p[len(p)+1:]), nil }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// A panic over one request, its body or its copy is that request's: others are
// answered as before, nothing of it is left in flight, and the stack is in the
// log.
func TestAPanicIsOneRequests(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			io.WriteString(w, "fine")
		}
	}))
	defer backend.Close()
	for name, c := range map[string]struct {
		path   string
		before func(*Gateway)
		fails  bool
	}{
		"a body that is sent while it is read": {"/upload", nil, true},
		"a request":                            {"/request", nil, true},
		"a copy": {"/", func(g *Gateway) {
			for _, e := range g.services["app"].versions["v2"].all() {
				for range 4 { // what looks like a connection, for each copy
					e.pool.idle = append(e.pool.idle, &conn{idle: time.Now()})
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var logged lockedBuffer
			g := New(Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			at := strings.TrimPrefix(backend.URL, "http://")
			if err := g.Swap(Table{Number: 1, Services: []Service{{Name: "app", Default: true,
				Versions: []Version{{Name: "v1", Endpoints: []Endpoint{{Replica: "a", Address: at}}}, {Name: "v2", Endpoints: []Endpoint{{Replica: "b", Address: at}}}},
				Rules:    []Rule{{Split: []Destination{{Version: "v1", Weight: 10000}}, Mirrors: []Mirror{{Version: "v2", Share: 10000}}}}}}}); err != nil {
				t.Fatal(err)
			}
			if c.before != nil {
				c.before(g)
			}
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/upload":
					r.Body, r.ContentLength = reads{r.Body}, 1<<20
				case "/request":
					r.Body = reads{r.Body}
				}
				g.ServeHTTP(w, r)
			}))
			ask := func(path string) (string, error) {
				res, err := front.Client().Post(front.URL+path, "text/plain", strings.NewReader("body"))
				if err != nil {
					return "", err
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				return string(b), err
			}
			for range 3 {
				if got, err := ask(c.path); (got == "fine" && err == nil) == c.fails {
					t.Errorf("%q, %v", got, err)
				}
			}
			if got, err := ask("/"); err != nil || got != "fine" {
				t.Errorf("afterwards: %q, %v", got, err)
			}
			for end := time.Now().Add(time.Minute); !c.fails && g.services["app"].versions["v2"].all()[0].counters.mirrorErrors.Load() < 4; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("copies are missing")
				}
			}
			front.Close()
			if err := g.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			for _, v := range g.Stats().Services[0].Versions {
				if v.InFlight != 0 {
					t.Errorf("%s: %d in flight", v.Name, v.InFlight)
				}
			}
			log := logged.b.String()
			if n := strings.Count(log, "a mistake of this version of Serin over "+name); n != 1 || !strings.Contains(log, ".go:") {
				t.Errorf("said %d times, want once, with the stack:\n%s", n, log)
			}
		})
	}
}
