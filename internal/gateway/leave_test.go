package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// patience bounds every wait for what must come; nothing is expected to need it.
const patience = 60 * time.Second

// relayed is a listener that one gateway after another serves.
type relayed struct {
	t    *testing.T
	l    *net.TCPListener
	g    *gateway.Gateway
	to   gateway.Table
	kept []gateway.Kept
	done chan error

	certs *gateway.Certificates // nil: without TLS
}

func newRelayed(t *testing.T, to gateway.Table) *relayed {
	t.Helper()
	return newRelayedTLS(t, to, nil)
}

func newRelayedTLS(t *testing.T, to gateway.Table, certs *gateway.Certificates) *relayed {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relayed{t: t, l: l.(*net.TCPListener), to: to, certs: certs}
	t.Cleanup(func() {
		r.g.Close()
		r.l.Close()
	})
	r.next()
	return r
}

// next lets a new gateway go on.
func (r *relayed) next() {
	r.g, r.done = gateway.New(gateway.Options{MaxConnections: 100}), make(chan error, 1)
	if err := r.g.Swap(r.to); err != nil {
		r.t.Fatal(err)
	}
	if err := r.l.SetDeadline(time.Time{}); err != nil {
		r.t.Fatal(err)
	}
	g, kept, done := r.g, r.kept, r.done
	go func() {
		if r.certs != nil {
			done <- g.ServeTLS(r.l, r.certs)
			return
		}
		done <- g.Continue(r.l, kept)
	}()
}

func (r *relayed) leave(patience time.Duration) error {
	r.t.Helper()
	var err error
	r.kept, err = r.g.Leave(context.Background(), patience)
	if serr := <-r.done; !errors.Is(serr, http.ErrServerClosed) {
		r.t.Errorf("Serve: %v", serr)
	}
	r.g.Close()
	return err
}

// noAnswerToNewcomers is closed once nobody is accepted any more: the gateway has
// begun to leave.
func (r *relayed) noAnswerToNewcomers() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := net.Dial("tcp", r.l.Addr().String())
			if err != nil {
				r.t.Error(err)
				return
			}
			fmt.Fprint(nc, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
			_ = nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, err = nc.Read(make([]byte, 1))
			nc.Close()
			if err != nil {
				return
			}
		}
	}()
	return done
}

// Twenty gateways one after the other serve the same clients, who notice
// nothing: no request fails, none is made twice, and a connection without TLS
// lives through all of them.
func TestClientsAreHandedOn(t *testing.T) {
	var mu sync.Mutex
	served := map[string]int{}
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		id := r.Method + " " + r.Header.Get("X-Request-Id")
		mu.Lock()
		served[id]++
		mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		if len(id)%7 == 0 {
			time.Sleep(2 * time.Millisecond) // some take longer than others
		}
		fmt.Fprintf(w, "%s %d", id, len(body))
	})
	r := newRelayed(t, table(1, all("v1"), version("v1", b.addr)))
	addr := r.l.Addr().String()

	stop := make(chan struct{})
	var work sync.WaitGroup
	var sent, failed, dialled atomic.Int64
	fail := func(format string, args ...any) {
		if failed.Add(1) <= 5 {
			t.Errorf(format, args...)
		}
	}
	for i := range 12 {
		work.Go(func() {
			c := &caller{addr: addr}
			defer c.close()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("c%d-%d", i, n)
				req, _ := http.NewRequest("POST", "http://"+addr+"/", strings.NewReader("0123456789"))
				req.Header.Set("X-Request-Id", id)
				if c.nc == nil {
					dialled.Add(1)
				}
				sent.Add(1)
				code, body, err := c.do(req)
				if err != nil || code != 200 || body != "POST "+id+" 10" {
					fail("%s: %d %q %v", id, code, body, err)
				}
			}
		})
	}
	for i := range 3 {
		h2 := h2Client(t)
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("h%d-%d", i, n)
				req := sentOnce("http://"+addr+"/", "0123456789")
				req.Header.Set("X-Request-Id", id)
				sent.Add(1)
				resp, err := h2.Do(req)
				if err != nil {
					fail("%s: %v", id, err)
					continue
				}
				if body := readAll(t, resp.Body); resp.StatusCode != 200 || body != "POST "+id+" 10" {
					fail("%s: %d %q", id, resp.StatusCode, body)
				}
				resp.Body.Close()
			}
		})
	}
	// One that rests all the while, and sends its one request when all is over.
	rests := &caller{addr: addr}
	defer rests.close()
	hello := func() {
		req, _ := http.NewRequest("GET", "http://"+addr+"/", nil)
		req.Header.Set("X-Request-Id", "rests")
		if code, _, err := rests.do(req); code != 200 || err != nil {
			t.Errorf("who rests: %d %v", code, err)
		}
	}
	hello()
	first := rests.nc
	enough := func(n int64) {
		for was := sent.Load(); sent.Load() < was+n; {
			time.Sleep(time.Millisecond)
		}
	}
	begun := time.Now()
	for range 20 {
		enough(150)
		if err := r.leave(patience); err != nil {
			t.Errorf("leaving: %v", err)
		}
		r.next()
	}
	enough(150)
	close(stop)
	work.Wait()
	hello()
	if rests.nc != first {
		t.Error("who rested has lost its connection")
	}
	if n := dialled.Load(); n != 12 {
		t.Errorf("12 clients over HTTP/1 needed %d connections", n)
	}
	mu.Lock()
	defer mu.Unlock()
	delete(served, "GET rests")
	if int64(len(served)) != sent.Load() {
		t.Errorf("%d requests sent, %d answered by the application", sent.Load(), len(served))
	}
	for id, n := range served {
		if n != 1 {
			t.Errorf("%s was made %d times", id, n)
		}
	}
	t.Logf("%d requests over 20 gateways in %s, %d failed", sent.Load(), time.Since(begun).Round(time.Millisecond), failed.Load())
}

// The first byte of a request may have been read while the one before it was
// answered. It is not lost.
func TestAFirstByteThatCameEarly(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			arrived <- struct{}{}
			<-release
		}
		io.WriteString(w, r.Method)
	})
	r := newRelayed(t, table(1, all("v1"), version("v1", b.addr)))
	nc, err := net.Dial("tcp", r.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(3 * patience)) // of which Leave may take two
	io.WriteString(nc, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	// The server reads a byte of it while it waits for the answer to the first.
	io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	begun := r.noAnswerToNewcomers()
	left := make(chan error, 1)
	go func() { left <- r.leave(patience) }()
	<-begun
	close(release)
	br := bufio.NewReader(nc)
	for _, want := range []string{"GET", "POST"} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); got != want {
			t.Errorf("answered as %q, want %s", got, want)
		}
		if want == "GET" {
			if err := <-left; err != nil {
				t.Error(err)
			}
			r.next()
		}
	}
}

// Streams end in order, what has begun is answered, and what comes meanwhile
// waits for the next one.
func TestLeaving(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sse":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/slow":
			arrived <- struct{}{}
			<-release
		}
		io.WriteString(w, "done")
	})
	r := newRelayed(t, table(1, all("v1"), version("v1", b.addr)))
	url := "http://" + r.l.Addr().String()
	get := func(path string) (*http.Response, error) {
		return (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url + path)
	}
	sse, err := get("/sse")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 9)
	if _, err := io.ReadFull(sse.Body, buf); err != nil {
		t.Fatal(err)
	}
	slow := make(chan string, 1)
	go func() {
		resp, err := get("/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		slow <- readAll(t, resp.Body)
		resp.Body.Close()
	}()
	<-arrived
	left := make(chan error, 1)
	go func() { left <- r.leave(patience) }()
	// The stream's end says that it has begun to leave.
	if rest, err := io.ReadAll(sse.Body); err != nil || len(rest) != 0 {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	sse.Body.Close()
	late := make(chan string, 1)
	go func() {
		resp, err := get("/")
		if err != nil {
			late <- err.Error()
			return
		}
		late <- readAll(t, resp.Body)
		resp.Body.Close()
	}()
	select {
	case err := <-left:
		t.Fatalf("left with a request in flight: %v", err)
	case s := <-late:
		t.Fatalf("who came late got %q from a gateway that leaves", s)
	case <-time.After(50 * time.Millisecond): // nothing can be waited for that must not happen
	}
	close(release)
	if got := <-slow; got != "done" {
		t.Errorf("what had begun: %q", got)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
	r.next()
	if got := <-late; got != "done" {
		t.Errorf("who came late: %q", got)
	}
}

// What does not end in time is cut, and counted.
func TestLeavingInTheEnd(t *testing.T) {
	arrived := make(chan struct{}, 1)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	r := newRelayed(t, table(1, all("v1"), version("v1", b.addr)))
	got := make(chan error, 1)
	go func() {
		_, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + r.l.Addr().String())
		got <- err
	}()
	<-arrived
	var cut *gateway.LeaveError
	if err := r.leave(100 * time.Millisecond); !errors.As(err, &cut) || cut.Cut != 1 {
		t.Errorf("%v", err)
	}
	if err := <-got; err == nil {
		t.Error("answered")
	}
	r.next()
}

// The metrics' counters go on where those of the gateway before ended.
func TestCountersGoOn(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
	})
	to := table(1, all("v1"), version("v1", b.addr))
	first := newFront(t, gateway.Options{})
	first.swap(t, to)
	for range 3 {
		first.get(t, "/")
		first.get(t, "/bad")
	}
	raw, err := json.Marshal(first.Counted())
	if err != nil {
		t.Fatal(err)
	}
	var counted []gateway.Counted
	if err := json.Unmarshal(raw, &counted); err != nil {
		t.Fatal(err)
	}
	second := newFront(t, gateway.Options{Counted: counted})
	second.swap(t, to)
	second.get(t, "/")
	if n := second.Stats().Services[0].Versions[0].Endpoints[0].Requests; n != 1 {
		t.Errorf("the judge is shown %d requests, want this gateway's 1", n)
	}
	w := httptest.NewRecorder()
	second.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`request_protocol="http",response_code="200",response_flags="-",source_workload="serin-gateway"} 4`,
		`response_code="500",response_flags="-",source_workload="serin-gateway"} 3`, `istio_request_duration_milliseconds_count{`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "istio_request_duration_milliseconds_count{") && !strings.HasSuffix(line, " 7\n") {
			t.Error(line)
		}
	}
}

// A request that turns out to be a stream only after the streams were ended is
// ended too.
func TestLeavingWhileAStreamBegins(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r := newRelayed(t, table(1, all("v1"), version("v1", b.addr)))
	got := make(chan error, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + r.l.Addr().String())
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		got <- err
	}()
	<-arrived
	left := make(chan error, 1)
	go func() { left <- r.leave(patience) }()
	<-r.noAnswerToNewcomers()
	close(release)
	if err := <-got; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
	r.next()
}

// sentOnce is a request that net/http cannot repeat: its body cannot be read
// twice. (A connection that turns out to be leaving before anything was sent on
// it may be exchanged: net/http closes the body then, and asks for it again.)
func sentOnce(url, body string) *http.Request {
	b := &onceRead{Reader: strings.NewReader(body)}
	req, _ := http.NewRequest("POST", url, b)
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) {
		if b.begun.Load() {
			return nil, errors.New("was sent, and would have to be sent again")
		}
		return b, nil
	}
	return req
}

type onceRead struct {
	io.Reader
	begun atomic.Bool
}

func (b *onceRead) Read(p []byte) (int, error) {
	b.begun.Store(true)
	return b.Reader.Read(p)
}

func (b *onceRead) Close() error { return nil }

// Clients over TLS are told to come again: who asks all the while, over HTTP/1
// or HTTP/2, sees no failure and causes nothing twice, though its connection
// cannot be kept and it cannot repeat a request.
func TestClientsOverTLSComeAgain(t *testing.T) {
	certs, err := gateway.LoadCertificates(nil, certificate(t, t.TempDir(), "a.test", 1))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	served := map[string]int{}
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		served[r.Header.Get("X-Request-Id")]++
		mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
	})
	r := newRelayedTLS(t, table(1, all("v1"), version("v1", b.addr)), certs)
	addr := r.l.Addr().String()
	stop := make(chan struct{})
	var work sync.WaitGroup
	var sent, failed atomic.Int64
	for i := range 8 {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: i%2 == 0}
		t.Cleanup(tr.CloseIdleConnections)
		for k := range 1 + 3*(1-i%2) { // several streams on one connection
			work.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					req := sentOnce("https://"+addr+"/", "0123456789")
					req.Header.Set("X-Request-Id", fmt.Sprintf("%d-%d-%d", i, k, n))
					sent.Add(1)
					resp, err := tr.RoundTrip(req)
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if err == nil && (resp.StatusCode != 200 || (resp.ProtoMajor == 2) != (i%2 == 0)) {
							err = fmt.Errorf("%s %s", resp.Proto, resp.Status)
						}
					}
					if err != nil && failed.Add(1) <= 5 {
						t.Errorf("client %d: %v", i, err)
					}
				}
			})
		}
	}
	for range 20 {
		for was := sent.Load(); sent.Load() < was+200; {
			time.Sleep(time.Millisecond)
		}
		if err := r.leave(patience); err != nil {
			t.Errorf("leaving: %v", err)
		}
		r.next()
	}
	close(stop)
	work.Wait()
	mu.Lock()
	defer mu.Unlock()
	if int64(len(served)) != sent.Load() {
		t.Errorf("%d requests sent, %d answered by the application", sent.Load(), len(served))
	}
	for id, n := range served {
		if n != 1 {
			t.Errorf("%s was made %d times", id, n)
		}
	}
	t.Logf("%d requests over 20 gateways, %d failed", sent.Load(), failed.Load())
}
