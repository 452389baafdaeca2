package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// serving is a gateway whose end is the test's business.
func serving(t *testing.T, o gateway.Options) (g *gateway.Gateway, addr string, served chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g = gateway.New(o)
	served = make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() { g.Close() })
	return g, l.Addr().String(), served
}

func TestShutdownWaitsForRequestsAndSockets(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		io.WriteString(w, "done")
	})
	g, addr, served := serving(t, gateway.Options{VersionHeader: "X-V"})
	if err := g.Swap(table(1, all("v1"), version("v1", webSocketEcho(t)))); err != nil {
		t.Fatal(err)
	}
	ws, br := openWebSocket(t, addr, "")
	expect(t, br, "hello")
	if err := g.Swap(table(2, all("v1"), version("v1", b.addr))); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		c := &caller{addr: addr}
		defer c.close()
		req, _ := http.NewRequest("GET", "http://"+addr, nil)
		_, body, err := c.do(req)
		got <- fmt.Sprint(body, err)
	}()
	<-arrived
	down := make(chan error, 1)
	go func() { down <- g.Shutdown(context.Background()) }()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	eventually(t, func() error { // nothing new is accepted
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return errors.New("still accepts")
		}
		return nil
	})
	io.WriteString(ws, "still there")
	expect(t, br, "still there")
	close(release)
	if body := <-got; body != "done<nil>" {
		t.Errorf("the request in flight got %q", body)
	}
	select {
	case err := <-down:
		t.Errorf("Shutdown did not wait for the websocket: %v", err)
	default:
	}
	ws.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownEndsWhatDoesNotEnd(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	g, addr, served := serving(t, gateway.Options{VersionHeader: "X-V"})
	if err := g.Swap(table(1, all("v1"), version("v1", webSocketEcho(t)))); err != nil {
		t.Fatal(err)
	}
	_, br := openWebSocket(t, addr, "")
	expect(t, br, "hello")
	if err := g.Swap(table(2, all("v1"), version("v1", b.addr))); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		c := &caller{addr: addr}
		defer c.close()
		req, _ := http.NewRequest("GET", "http://"+addr, nil)
		_, _, err := c.do(req)
		failed <- err
	}()
	eventually(t, func() error {
		var n int64
		for _, v := range g.Stats().Services[0].Versions {
			n += v.InFlight
		}
		if n != 2 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	<-served
	if err := <-failed; err == nil {
		t.Error("the request that did not end was answered")
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		t.Errorf("the websocket ended with %q", rest)
	}
	eventually(t, func() error {
		for _, v := range g.Stats().Services[0].Versions {
			if v.InFlight != 0 {
				return fmt.Errorf("%+v", v)
			}
		}
		return nil
	})
}

func TestConnectionsAreLimited(t *testing.T) {
	b := newBackend(t, says("ok"))
	g, addr, _ := serving(t, gateway.Options{MaxConnections: 2})
	if err := g.Swap(table(1, all("v1"), version("v1", b.addr))); err != nil {
		t.Fatal(err)
	}
	ask := func(c *caller) string {
		req, _ := http.NewRequest("GET", "http://"+addr, nil)
		_, body, err := c.do(req)
		return fmt.Sprint(body, err)
	}
	one, two, three := &caller{addr: addr}, &caller{addr: addr}, &caller{addr: addr}
	defer two.close()
	defer three.close()
	if ask(one) != "ok<nil>" || ask(two) != "ok<nil>" {
		t.Fatal("two connections were not served")
	}
	third := make(chan string, 1)
	go func() { third <- ask(three) }()
	for range 50 {
		if got := ask(two); got != "ok<nil>" {
			t.Fatal(got)
		}
	}
	select {
	case got := <-third:
		t.Fatalf("a third connection got %q", got)
	default:
	}
	one.close()
	if got := <-third; got != "ok<nil>" {
		t.Errorf("with room again: %q", got)
	}
}
