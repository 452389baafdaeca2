package gateway

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// parse reads one request as the server side does.
func parse(raw string) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err == nil {
		r.RemoteAddr = "192.0.2.7:1234"
		r.Header.Del("Host")
	}
	return r, err
}

// headOf is the head without any rule.
func headOf(r *http.Request, upgrade string) *head {
	return &head{target: target(r), host: r.Host, id: requestID(r.Header), upgrade: upgrade}
}

func TestHeadAsItGoesToAnEndpoint(t *testing.T) {
	for why, c := range map[string]struct{ sent, want string }{
		"target and query go on as they came": {
			"GET /a%2Fb/../c;x?q=%zz&&=;+ HTTP/1.1\r\nHost: app\r\n\r\n", "GET /a%2Fb/../c;x?q=%zz&&=;+ HTTP/1.1\r\n"},
		"an absolute target loses its authority": {"GET http://app/x?y HTTP/1.1\r\nHost: other\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: app\r\n"},
		"OPTIONS * stays":                        {"OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: app\r\n"},
		"an id that the client made":             {"GET / HTTP/1.1\r\nHost: app\r\nX-Request-Id: abc\r\n\r\n", "\r\nX-Request-Id: abc\r\n"},
		"a POST without a body says so":          {"POST / HTTP/1.1\r\nHost: app\r\n\r\n", "\r\nContent-Length: 0\r\n"},
		"where it came from":                     {"GET / HTTP/1.1\r\nHost: app\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.7\r\nX-Real-Ip: 192.0.2.7\r\nX-Forwarded-Host: app\r\nX-Forwarded-Proto: http\r\n"},
		"trailers may be accepted":               {"GET / HTTP/1.1\r\nHost: app\r\nTE: trailers, deflate\r\n\r\n", "\r\nTe: trailers\r\n"},
	} {
		r, err := parse(c.sent)
		if err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		if got := string(appendHead(nil, r, headOf(r, ""))); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q lacks %q", why, got, c.want)
		}
	}
}

func TestHeadersThatDoNotGoOn(t *testing.T) {
	for _, h := range []string{
		"X_Forwarded_Proto: https", "X-Forwarded-Proto: evil", "X-Forwarded-Port: evil", "Forwarded: for=evil", "X-Real-IP: evil",
		"Keep-Alive: evil", "Proxy-Connection: evil", "Proxy-Authorization: evil", "Te: evil", "Upgrade: evil", "HTTP2-Settings: evil",
		"Trailer: evil", "Connection: X-Secret\r\nX-Secret: evil", "a_b: evil", "X-Request-Id: ev il\tx", "Connection: close, evil\r\nEvil: evil",
	} {
		r, err := parse("GET / HTTP/1.1\r\nHost: app\r\n" + h + "\r\n\r\n")
		if err != nil {
			t.Fatalf("%s: %v", h, err)
		}
		got := string(appendHead(nil, r, headOf(r, "")))
		if strings.Contains(got, "vil") || strings.Contains(got, "_") || strings.Contains(got, "X-Secret") || strings.Contains(got, "https") {
			t.Errorf("%q went on: %q", h, got)
		}
	}
	// What the connection may not take away.
	r, err := parse("GET / HTTP/1.1\r\nHost: app\r\nConnection: Host, X-Forwarded-For, X-Request-Id, Content-Length\r\nX-Request-Id: abc\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	got := string(appendHead(nil, r, headOf(r, "")))
	for _, want := range []string{"Host: app", "X-Forwarded-For: 192.0.2.7", "X-Request-Id: abc"} {
		if !strings.Contains(got, want) {
			t.Errorf("Connection took %q away: %q", want, got)
		}
	}
}

func TestAnswerHeaders(t *testing.T) {
	dst := http.Header{}
	copyAnswer(dst, http.Header{"Connection": {"X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Set-Cookie": {"a", "b"}, "Upgrade": {"h2c"}})
	if len(dst["Set-Cookie"]) != 2 || dst["X-Hop"] != nil || dst["Connection"] != nil || dst["Keep-Alive"] != nil || dst["Upgrade"] != nil {
		t.Errorf("copied %v", dst)
	}
	if v, ok := dst["Content-Type"]; !ok || v != nil {
		t.Error("a missing Content-Type must stay missing")
	}
}

// FuzzHead feeds what net/http accepts as a request. What the gateway makes of
// it must read as exactly one request with the same method, target, host and
// body framing, without a header that clients may not set.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
		"GET http://u:p@a:1/x?y#z HTTP/1.1\r\nHost: b\r\nConnection: a, b\r\nX_Y: 1\r\n\r\n",
		"OPTIONS * HTTP/1.0\r\n\r\n",
		"GET //a/b HTTP/1.1\r\nHost: a\r\nTe: trailers\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
		"GET /\xff\x80 HTTP/1.1\r\nHost: a\r\nX: \xff\r\nCookie: a=b; c=\"d\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := serverSees(raw)
		if r == nil || r.Method == "CONNECT" || target(r) == "" { // refused by admit
			return
		}
		upgrade := upgradeAsked(r.Header)
		if upgrade != "websocket" {
			upgrade = ""
		}
		head := appendHead(nil, r, headOf(r, upgrade))
		br := bufio.NewReader(bytes.NewReader(head))
		got, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("%q became %q: %v", raw, head, err)
		}
		if got.Method != r.Method || got.RequestURI != target(r) || got.Host != r.Host || got.ContentLength != r.ContentLength {
			t.Fatalf("%q became %q", raw, head)
		}
		if r.ContentLength == 0 && br.Buffered() > 0 {
			t.Fatalf("%q became more than one request: %q", raw, head)
		}
		for k := range got.Header {
			if strings.Contains(k, "_") || k == "Forwarded" || k == "Http2-Settings" || k == "Proxy-Authorization" {
				t.Fatalf("%q let %s through: %q", raw, k, head)
			}
		}
		for _, k := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id"} {
			if len(got.Header[k]) != 1 {
				t.Fatalf("%q: %d values of %s in %q", raw, len(got.Header[k]), k, head)
			}
		}
	})
}

// serverSees gives the first request that net/http's server hands to a handler
// for these bytes, or nil.
func serverSees(raw []byte) (seen *http.Request) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil
	}
	// What the server checks beyond ReadRequest, see net/http's conn.readRequest.
	if r.ProtoMajor != 1 || (r.ProtoAtLeast(1, 1) && len(r.Header["Host"]) == 0 && r.Host == "") {
		return nil
	}
	if !validForServer(r) {
		return nil
	}
	r.RemoteAddr = "192.0.2.7:1"
	return r
}

// validForServer repeats the server's own checks of the host and of names and values.
func validForServer(r *http.Request) bool {
	if !httpguts.ValidHostHeader(r.Host) {
		return false
	}
	for k, vv := range r.Header {
		if !httpguts.ValidHeaderFieldName(k) {
			return false
		}
		for _, v := range vv {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	delete(r.Header, "Host")
	return true
}

func FuzzRequestID(f *testing.F) {
	f.Add("abc")
	f.Add("a\r\nb")
	f.Add(strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, s string) {
		id := requestID(http.Header{"X-Request-Id": {s}})
		if !printable(id) {
			t.Fatalf("%q became %q", s, id)
		}
	})
}

// FuzzAnswer feeds the bytes of an answer: the client must get an answer or an
// aborted connection, never a panic of another kind.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 000 X\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 999 X\r\nConnection: a,,b\r\nTrailer: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			return
		}
		rec := httptest.NewRecorder()
		copyAnswer(rec.Header(), resp.Header)
		for k := range rec.Header() {
			if hopByHop(k) || textproto.CanonicalMIMEHeaderKey(k) != k {
				t.Fatalf("%q let %q through", raw, k)
			}
		}
		io.Copy(io.Discard, resp.Body)
	})
}

// FuzzStickyCookie: whatever a client sends as cookies, it is known by the
// gateway's own cookie only with the gateway's signature.
func FuzzStickyCookie(f *testing.F) {
	s := &sticky{Sticky: Sticky{OwnCookie: "u"}, key: []byte("key")}
	id := strings.Repeat("a", 32)
	genuine := id + "." + s.sign(id)
	f.Add("u=" + genuine)
	f.Add("a=b; u=" + genuine + "; u=x")
	f.Add("u=\"" + id + ".x\"; ;=;")
	f.Fuzz(func(t *testing.T, cookies string) {
		r := &http.Request{Header: http.Header{"Cookie": {cookies}}}
		user, set := s.user(r)
		if !s.genuine(user) {
			t.Fatalf("%q made the user %q", cookies, user)
		}
		if set == "" && user != genuine {
			t.Fatalf("%q was taken for genuine", cookies)
		}
		if v := s.choose(user, []*version{{name: "v1", endpoints: make([]*endpoint, 1)}, {name: "v2"}}, []int{5000, 5000}); v == nil || v.name != "v1" {
			t.Fatalf("sent to %v", v)
		}
	})
}
