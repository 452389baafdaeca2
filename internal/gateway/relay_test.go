package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// rawBackend accepts connections and hands each to serve, with its number.
func rawBackend(t testing.TB, serve func(n int, c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Add(1)
	go func() {
		defer wg.Done()
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// exchange writes raw bytes to addr, reads the first answer, then says that no
// more will come, and gives all that came back.
func exchange(t testing.TB, addr, raw string) string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, raw); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	br := bufio.NewReader(io.TeeReader(nc, &all))
	method, _, _ := strings.Cut(raw, " ")
	if resp, err := http.ReadResponse(br, &http.Request{Method: method}); err == nil {
		io.Copy(io.Discard, resp.Body)
	}
	nc.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, br) // the other side may reset: what was read counts
	return all.String()
}

// pattern is an endless reproducible stream of bytes, whose period is a prime
// so that no two buffers are alike.
type pattern struct{ at int }

var patternBytes = func() []byte {
	b := make([]byte, 65537)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}()

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, patternBytes[p.at:])
	p.at = (p.at + n) % len(patternBytes)
	return n, nil
}

// TestBodiesStreamInConstantMemory sends 128 MiB each way, and allows an eighth
// of that for everything in this process, both ends included.
func TestBodiesStreamInConstantMemory(t *testing.T) {
	const size = 128 << 20
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			io.CopyN(w, &pattern{}, size)
			return
		}
		n, err := sameAs(r.Body, &pattern{})
		fmt.Fprintf(w, "%d %v", n, err)
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))

	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak uint64
	watch := func() {
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapInuse)
	}
	for _, known := range []bool{true, false} {
		req, err := http.NewRequest("POST", f.url, &watched{r: io.LimitReader(&pattern{}, size), every: 16 << 20, do: watch})
		if err != nil {
			t.Fatal(err)
		}
		if known {
			req.ContentLength = size
		}
		resp, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); got != fmt.Sprintf("%d <nil>", size) {
			t.Errorf("uploaded: %s", got)
		}
		resp.Body.Close()
	}
	resp, err := f.client.Get(f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := sameAs(&watched{r: resp.Body, every: 16 << 20, do: watch}, &pattern{}); n != size || err != nil {
		t.Errorf("downloaded %d bytes: %v", n, err)
	}
	if grown := int64(peak) - int64(before.HeapInuse); grown > size/8 {
		t.Errorf("the heap grew by %d MiB for bodies of %d MiB", grown>>20, size>>20)
	}
}

// sameAs compares r with what want gives, and counts.
func sameAs(r, want io.Reader) (n int64, err error) {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		k, err := r.Read(a)
		io.ReadFull(want, b[:k])
		if !bytes.Equal(a[:k], b[:k]) {
			return n, fmt.Errorf("differs after %d bytes", n)
		}
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

type watched struct {
	r     io.Reader
	every int64
	do    func()
	n     int64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.n/w.every != (w.n+int64(n))/w.every {
		w.do()
	}
	w.n += int64(n)
	return n, err
}

// TestAnswersThatAreCut cuts an endpoint's answer after every byte. The client
// must never take a part for the whole, and the gateway must count a failure.
func TestAnswersThatAreCut(t *testing.T) {
	for name, answer := range map[string]string{
		"known length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-A: b\r\n\r\n0123456789",
		"chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
		"after a 103":  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
	} {
		t.Run(name, func(t *testing.T) {
			var at atomic.Int64
			addr := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				io.WriteString(c, answer[:at.Load()])
			})
			f := newFront(t, gateway.Options{})
			f.swap(t, table(1, all("v1"), version("v1", addr)))
			for i := range len(answer) {
				at.Store(int64(i))
				c := &caller{addr: f.addr}
				req, _ := http.NewRequest("GET", f.url, nil)
				code, body, err := c.do(req)
				for code/100 == 1 { // what came before the answer
					resp, rerr := http.ReadResponse(c.br, req)
					if rerr != nil {
						code, err = 0, rerr
						break
					}
					var b []byte
					b, err = io.ReadAll(resp.Body)
					code, body = resp.StatusCode, string(b)
				}
				c.close()
				if code == 200 && err == nil {
					t.Fatalf("cut after %d bytes (%q) and taken for whole: %q", i, answer[:i], body)
				}
				if err == nil && code != 502 {
					t.Fatalf("cut after %d bytes: status %d", i, code)
				}
			}
			eventually(t, func() error {
				e := f.Stats().Services[0].Versions[0].Endpoints[0]
				if e.Requests != uint64(len(answer)) || e.Failed != e.Requests || e.Errors != e.Requests || e.Retried != 0 || e.InFlight != 0 {
					return fmt.Errorf("%+v, want %d failed", e, len(answer))
				}
				return nil
			})
		})
	}
}

// eventually waits for a condition that is about to come true.
func eventually(t testing.TB, cond func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// An endpoint that closes kept-alive connections at the worst moment: when it
// has the next request.
func TestKeepAliveRace(t *testing.T) {
	serve := func(n int, c net.Conn, br *bufio.Reader) {
		for i := 0; ; i++ {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if i == 1 {
				return // closes instead of answering the second request
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", rawBackend(t, serve))))
	for range 20 {
		if code, body := f.get(t, "/"); code != 200 || body != "ok" {
			t.Fatalf("a GET was lost to the race: %d %q", code, body)
		}
	}
	e := f.Stats().Services[0].Versions[0].Endpoints[0]
	if e.Requests != 20 || e.Errors != 0 || e.Retried == 0 {
		t.Errorf("%+v, want 20 requests, 0 errors, some retried", e)
	}
	// A POST may have been carried out: it is not made again.
	lost := 0
	for range 20 {
		resp, err := f.client.Post(f.url, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == 502 {
			lost++
		}
		resp.Body.Close()
	}
	if lost == 0 {
		t.Error("no POST failed, so some were made twice")
	}
}

// A connection that was closed while it was idle costs nothing, not even a POST.
func TestIdleConnectionsThatWereClosedAreNotUsed(t *testing.T) {
	closed := make(chan struct{}, 100)
	serve := func(n int, c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close() // without having said so
		closed <- struct{}{}
	}
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", rawBackend(t, serve))))
	for range 50 {
		resp, err := f.client.Post(f.url, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
		resp.Body.Close()
		<-closed
	}
	if e := f.Stats().Services[0].Versions[0].Endpoints[0]; e.Retried != 0 || e.Errors != 0 {
		t.Errorf("%+v", e)
	}
}

func TestDeadReplicaIsTriedOnceAndLeftAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	alive := newBackend(t, says("alive"))
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", dead, alive.addr)))
	for range 100 {
		resp, err := f.client.Post(f.url, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp.Body); resp.StatusCode != 200 || body != "alive" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
		resp.Body.Close()
	}
	es := f.Stats().Services[0].Versions[0].Endpoints
	if es[0].Retried == 0 || es[0].Retried > 50 || es[0].Requests != 0 || es[1].Requests != 100 {
		t.Errorf("dead: %+v\nalive: %+v", es[0], es[1])
	}
	// Alone, its failures are its own.
	f.swap(t, table(2, all("v1"), version("v1", dead)))
	if code, body := f.get(t, "/"); code != 502 || !strings.Contains(body, "could not be connected to") {
		t.Errorf("%d %q", code, body)
	}
	if e := f.Stats().Services[0].Versions[0].Endpoints[0]; e.Failed != 1 || e.Errors != 1 || e.Requests != 1 {
		t.Errorf("%+v", e)
	}
}

func TestDrainWaitsForWhatIsInFlight(t *testing.T) {
	release := make(chan struct{})
	b1 := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		<-release
		io.WriteString(w, "one")
	})
	b2 := newBackend(t, says("two"))
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b1.addr), version("v2", b2.addr)))
	if err := f.Drain(context.Background(), b1.addr); !errors.Is(err, gateway.ErrInForce) {
		t.Errorf("draining what is in force: %v", err)
	}
	if err := f.Drain(context.Background(), "127.0.0.1:1"); err != nil {
		t.Errorf("draining the unknown: %v", err)
	}
	got := make(chan string, 1)
	go func() {
		resp, err := f.client.Get(f.url)
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		got <- string(b)
	}()
	eventually(t, func() error {
		if n := f.Stats().Services[0].Versions[0].InFlight; n != 1 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
	f.swap(t, table(2, all("v2"), version("v2", b2.addr)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var de *gateway.DrainError
	if err := f.Drain(ctx, b1.addr); !errors.As(err, &de) || de.InFlight != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("with a request in flight: %v", err)
	}
	if _, body := f.get(t, "/"); body != "two" {
		t.Errorf("a new request went to %q", body)
	}
	drained := make(chan error, 1)
	go func() { drained <- f.Drain(context.Background(), b1.addr) }()
	select {
	case err := <-drained:
		t.Errorf("drained with a request in flight: %v", err)
	default:
	}
	close(release)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if body := <-got; body != "one" {
		t.Errorf("the request in flight got %q", body)
	}
}

func TestDrainGivesUpAfterItsTimeout(t *testing.T) {
	release := make(chan struct{})
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	f := newFront(t, gateway.Options{DrainTimeout: time.Millisecond})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.get(t, "/")
	}()
	eventually(t, func() error {
		if n := f.Stats().Services[0].Versions[0].InFlight; n != 1 {
			return fmt.Errorf("%d in flight", n)
		}
		return nil
	})
	f.swap(t, gateway.Table{Number: 2})
	var de *gateway.DrainError
	if err := f.Drain(context.Background(), b.addr); !errors.As(err, &de) || de.InFlight != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	close(release)
	<-done
}

func TestClientsThatGoAwayAreNoErrors(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // the gateway must pass the going away on
		close(left)
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", f.url, nil)
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := f.client.Do(req); err == nil {
		t.Fatal("no error")
	}
	<-left
	eventually(t, func() error {
		if e := f.Stats().Services[0].Versions[0].Endpoints[0]; e.Requests != 1 || e.Errors != 0 {
			return fmt.Errorf("%+v, want 1 request, 0 errors", e)
		}
		return nil
	})
}

// What an endpoint says reaches the client when it is said.
func TestAnswersAreNotHeldBack(t *testing.T) {
	next := make(chan struct{})
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sse" {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		w.WriteHeader(200)
		for range 3 {
			w.(http.Flusher).Flush()
			<-next
			io.WriteString(w, "data: x\n\n")
		}
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	for _, path := range []string{"/", "/sse"} {
		resp, err := f.client.Get(f.url + path) // returns with the head alone
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 9)
		for range 3 {
			next <- struct{}{}
			if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "data: x\n\n" {
				t.Fatalf("%s: %q %v", path, buf, err)
			}
		}
		if rest := readAll(t, resp.Body); rest != "" {
			t.Errorf("%s: %q", path, rest)
		}
		resp.Body.Close()
	}
}

func TestEarlyAnswerToAnUpload(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "too large")
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// The body never comes: the answer must not wait for it.
	fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, resp.Body); resp.StatusCode != 413 || body != "too large" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestUploadsAndAnswersMayOverlap(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		buf := make([]byte, 1)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				return
			}
			w.Write(buf)
			w.(http.Flusher).Flush()
		}
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1)
	for _, s := range []string{"a", "b", "c"} {
		fmt.Fprintf(nc, "1\r\n%s\r\n", s)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != s {
			t.Fatalf("sent %s, got %q, %v", s, buf, err)
		}
	}
	fmt.Fprintf(nc, "0\r\n\r\n")
	if rest := readAll(t, resp.Body); rest != "" {
		t.Errorf("%q after the end", rest)
	}
}

func TestTrailersBothWays(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "got "+r.Trailer.Get("X-Client"))
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	req, _ := http.NewRequest("POST", f.url, io.MultiReader(strings.NewReader("abc")))
	req.Trailer = http.Header{"X-Client": {"7"}}
	resp, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body := readAll(t, resp.Body); body != "body" || resp.Trailer.Get("X-Sum") != "got 7" {
		t.Errorf("%q, trailer %v", body, resp.Trailer)
	}
}

func TestExpectContinueAsksTheEndpoint(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.Copy(w, r.Body)
	})
	silent := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) { // never says 100
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter")
	})
	for why, c := range map[string]struct {
		addr, header, first, want string
	}{
		"wanted: 100, then the answer":        {b.addr, "Authorization: x\r\n", "100", "hello"},
		"not wanted: the answer alone":        {b.addr, "", "401", ""},
		"never said: the body is sent anyway": {silent, "", "100", "after"},
	} {
		f := newFront(t, gateway.Options{})
		f.swap(t, table(1, all("v1"), version("v1", c.addr)))
		nc, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(nc, "POST / HTTP/1.1\r\nHost: a\r\n%sExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", c.header)
		br := bufio.NewReader(nc)
		line, err := br.ReadString('\n')
		if err != nil || !strings.Contains(line, " "+c.first+" ") {
			t.Fatalf("%s: %q %v", why, line, err)
		}
		if c.first == "100" {
			br.ReadString('\n')
			io.WriteString(nc, "hello")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); body != c.want {
				t.Errorf("%s: %q, want %q", why, body, c.want)
			}
		}
		nc.Close()
	}
}

// What happens to an upload must not outlive it: the connection's next request
// is served, whether the endpoint cut the connection, answered early or took
// the whole body.
func TestTheNextRequestAfterAnUpload(t *testing.T) {
	var how atomic.Value
	addr := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.Method == "GET" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
				continue
			}
			if how.Load() == "early" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				io.Copy(io.Discard, r.Body)
				continue
			}
			io.Copy(io.Discard, r.Body)
			if how.Load() == "cut" {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", addr)))
	for _, h := range []string{"whole", "cut", "early", "early and slow"} {
		how.Store(strings.TrimSuffix(h, " and slow"))
		for i := range 20 {
			c := &caller{addr: f.addr}
			var body io.Reader = bytes.NewReader(make([]byte, 50_000))
			if strings.HasSuffix(h, "slow") {
				if i == 3 {
					c.close()
					break
				}
				// The rest comes long after the answer.
				body = io.MultiReader(bytes.NewReader(make([]byte, 25_000)), &late{100 * time.Millisecond}, bytes.NewReader(make([]byte, 25_000)))
			}
			req, _ := http.NewRequest("PUT", f.url, body)
			if strings.HasSuffix(h, "slow") {
				req.ContentLength = 50_000
			}
			code, _, err := c.do(req)
			want := 200
			if h == "cut" {
				want = 502
			}
			if code != want || err != nil {
				t.Fatalf("%s: the upload: %d %v", h, code, err)
			}
			if c.nc == nil {
				continue // the gateway has said that it closes
			}
			req, _ = http.NewRequest("GET", f.url, nil)
			if code, got, err := c.do(req); code != 200 || got != "next" || err != nil {
				t.Fatalf("%s: the request after it: %d %q %v", h, code, got, err)
			}
			c.close()
		}
	}
}

// late is a pause in a body.
type late struct{ d time.Duration }

func (l *late) Read([]byte) (int, error) {
	time.Sleep(l.d)
	return 0, io.EOF
}
