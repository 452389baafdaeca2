package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/serin-dev/serin/internal/gateway"
)

// seen is a back end that remembers the requests that it was given.
type seen struct {
	*backend
	mu       sync.Mutex
	requests []string // "METHOD target body"
	headers  []http.Header
}

func newSeen(t testing.TB) *seen {
	s := &seen{}
	s.backend = newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return // only whole requests count
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, b))
		s.headers = append(s.headers, r.Header)
		io.WriteString(w, "answer to "+r.RequestURI)
	})
	return s
}

func (s *seen) take() ([]string, []http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, h := s.requests, s.headers
	s.requests, s.headers = nil, nil
	return r, h
}

// smuggling are requests that two readers could understand differently.
var smuggling = map[string]struct {
	sent string
	code string   // of the first answer
	seen []string // at the back end
}{
	"length and chunked: the chunks alone count": {
		"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nX", "200", []string{"POST /a "}},
	"chunked hidden by a space before the colon": {
		"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", nil},
	"an unknown transfer encoding":        {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501", nil},
	"two transfer encodings":              {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "501", nil},
	"chunked behind a vertical tab":       {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400", nil},
	"two lengths that differ":             {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400", nil},
	"a length with a sign":                {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", "400", nil},
	"a length that is a list":             {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", "400", nil},
	"a negative length":                   {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400", nil},
	"two hosts":                           {"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", nil},
	"no host":                             {"GET /a HTTP/1.1\r\n\r\n", "400", nil},
	"a host with a space":                 {"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", "400", nil},
	"a header without a colon":            {"GET /a HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", "400", nil},
	"a space before the colon":            {"GET /a HTTP/1.1\r\nHost: a\r\nX-A : 1\r\n\r\n", "400", nil},
	"a NUL in a value":                    {"GET /a HTTP/1.1\r\nHost: a\r\nX-A: \x00\r\n\r\n", "400", nil},
	"a bare CR in a value":                {"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\rX-B: 2\r\n\r\n", "400", nil},
	"a bare LF in a chunk's size":         {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\na\r\n0\r\n\r\n", "400", nil},
	"a chunk's size that is no number":    {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", "400", nil},
	"HTTP/1.0 with chunked: no body":      {"GET /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200", []string{"GET /a "}},
	"HTTP/0.9":                            {"GET /a-path-of-some-length\r\n\r\n", "400", nil},
	"CONNECT":                             {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "405", nil},
	"CONNECT with a body":                 {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ", "405", nil},
	"upgrade to h2c is ignored":           {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200", []string{"GET /a "}},
	"upgrade to anything else is refused": {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tls/1.0\r\n\r\n", "400", nil},
	"websocket beside something else":     {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", "400", nil},
	"websocket with a body":               {"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nGET ", "400", nil},
	"Upgrade without Connection":          {"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "200", []string{"GET /a "}},
	"a GET with a body keeps it":          {"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\nConnection: close\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n", "200", []string{"GET /a GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"}},
	"an opaque target":                    {"GET evil:x HTTP/1.1\r\nHost: a\r\n\r\n", "400", nil},
	"a target with a user":                {"GET http://u:p@a/x HTTP/1.1\r\nHost: b\r\n\r\n", "200", []string{"GET /x "}},
	"obs-fold is one value for both":      {"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n", "200", []string{"GET /a "}},
	"a chunk that is longer than it says": {"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "400", nil},
	"a head of 100 KiB":                   {"GET /a HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", "431", nil},
}

// TestSmuggling: requests that two readers could understand differently are
// refused, or reach the back end as the one request that they are. The victim's
// request, sent on another connection afterwards, gets its own answer.
func TestSmuggling(t *testing.T) {
	b := newSeen(t)
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	for why, c := range smuggling {
		answer := exchange(t, f.addr, c.sent)
		got, headers := b.take()
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.code+" ") && !strings.HasPrefix(answer, "HTTP/1.0 "+c.code+" ") {
			t.Errorf("%s: answered %.60q, want %s", why, answer, c.code)
		}
		if strings.Join(got, "|") != strings.Join(c.seen, "|") {
			t.Errorf("%s: the back end saw %q, want %q", why, got, c.seen)
		}
		for _, h := range headers {
			if h.Get("Upgrade") != "" || h.Get("Http2-Settings") != "" {
				t.Errorf("%s: %v went on", why, h)
			}
		}
		if code, body := f.get(t, "/victim"); code != 200 || body != "answer to /victim" {
			t.Fatalf("%s: the next client got %d %q", why, code, body)
		}
		b.take()
	}
}

// Pipelined requests get their own answers in their order.
func TestPipelining(t *testing.T) {
	b := newSeen(t)
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	br := bufio.NewReader(nc)
	for _, want := range []string{"answer to /1", "answer to /2", "answer to /3"} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp.Body); body != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
}

// TestAnswersNeverCross sends requests with a mark of their own over many
// connections, through a back end that ends its answers in every bad way: too
// long, early, with bytes that nobody asked for. No client may see another's.
func TestAnswersNeverCross(t *testing.T) {
	addr := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		for i := 0; ; i++ {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			mark := r.URL.Path[1:]
			if i%3 != 2 { // sometimes answers before it has read the body
				io.Copy(io.Discard, r.Body)
			}
			ok := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(mark), mark)
			switch (n + i) % 4 {
			case 1: // a second answer, unasked, for whoever comes next
				ok += "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!"
			case 2:
				ok = fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(mark), mark)
			}
			if _, err := io.WriteString(c, ok); err != nil {
				return
			}
		}
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", addr)))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := &caller{addr: f.addr}
			defer c.close()
			for i := range 200 {
				mark := fmt.Sprintf("w%d-%d", w, i)
				var body io.Reader
				if i%2 == 1 {
					body = bytes.NewReader(make([]byte, 100*i))
				}
				req, _ := http.NewRequest("PUT", f.url+"/"+mark, body)
				if code, got, err := c.do(req); code == 200 && err == nil && got != mark {
					t.Errorf("%s was answered with %q", mark, got)
				}
			}
		}()
	}
	wg.Wait()
}

// A client may not say where its request came from.
func TestForwardedHeadersAreOurs(t *testing.T) {
	b := newSeen(t)
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	exchange(t, f.addr, "GET /a HTTP/1.1\r\nHost: app:81\r\nX_Forwarded_Proto: https\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Server: evil\r\nConnection: close\r\n\r\n")
	_, hs := b.take()
	if len(hs) != 1 {
		t.Fatalf("%d requests", len(hs))
	}
	want := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "app:81", "Forwarded": "", "X-Forwarded-Server": "", "X_forwarded_proto": ""}
	for k, v := range want {
		if got := hs[0].Get(k); got != v {
			t.Errorf("%s: %q, want %q", k, got, v)
		}
	}
	if len(hs[0]["X-Request-Id"]) != 1 || len(hs[0].Get("X-Request-Id")) != 32 {
		t.Errorf("X-Request-Id: %q", hs[0]["X-Request-Id"])
	}
}
