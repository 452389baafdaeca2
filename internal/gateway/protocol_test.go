package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// webSocketEcho is a back end that upgrades and then sends back every byte.
func webSocketEcho(t testing.TB) string {
	return rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
			io.WriteString(c, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: for-%s\r\n\r\nhello", r.Header.Get("Sec-WebSocket-Key"))
		io.Copy(c, br)
	})
}

// openWebSocket begins a websocket; early goes out together with the head.
func openWebSocket(t testing.TB, addr, early string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	fmt.Fprintf(nc, "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k1\r\nSec-WebSocket-Version: 13\r\n\r\n%s", early)
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "for-k1" || resp.Header.Get("X-V") != "v1" ||
		!strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return nc, br
}

func expect(t testing.TB, r io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != want {
		t.Fatalf("read %q (%v), want %q", b, err, want)
	}
}

func TestWebSocket(t *testing.T) {
	f := newFront(t, gateway.Options{VersionHeader: "X-V"})
	f.swap(t, table(1, all("v1"), version("v1", webSocketEcho(t))))
	nc, br := openWebSocket(t, f.addr, "early")
	expect(t, br, "hello"+"early") // what each side sent with its head is not lost
	for _, s := range []string{"a", strings.Repeat("frame", 50_000)} {
		go io.WriteString(nc, s)
		expect(t, br, s)
	}
	if v := f.version(t, "v1"); v.InFlight != 1 || v.Endpoints[0].Requests != 1 || v.Endpoints[0].Errors != 0 {
		t.Errorf("while it is open: %+v", v)
	}
	nc.(*net.TCPConn).CloseWrite() // the other direction may still say something
	if rest, err := io.ReadAll(br); len(rest) != 0 || err != nil {
		t.Errorf("%q %v", rest, err)
	}
	eventually(t, func() error {
		if v := f.version(t, "v1"); v.InFlight != 0 || v.Endpoints[0].Requests != 1 {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	// A refused upgrade is an answer like any other.
	if got := exchange(t, f.addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 426 ") {
		t.Errorf("%q", got)
	}
}

func TestSwitchingUnaskedIsRefused(t *testing.T) {
	addr := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\ntunnel")
		}
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", addr)))
	for _, up := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
		if got := exchange(t, f.addr, "GET / HTTP/1.1\r\nHost: a\r\n"+up+"\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") || strings.Contains(got, "tunnel") {
			t.Errorf("%q", got)
		}
	}
}

func TestDrainEndsStreamsAfterTheirOwnTimeout(t *testing.T) {
	for name, o := range map[string]gateway.Options{
		"Shorter": {DrainTimeout: patience, StreamDrainTimeout: 100 * time.Millisecond},
		"Longer":  {DrainTimeout: 3 * time.Second, StreamDrainTimeout: 3100 * time.Millisecond}, // which the end itself may take, too
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drainEndsStreams(t, o)
		})
	}
}

func drainEndsStreams(t *testing.T, o gateway.Options) {
	o.VersionHeader = "X-V"
	sse := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ws := webSocketEcho(t)
	f := newFront(t, o)
	f.swap(t, table(1, all("v1"), version("v1", ws)))
	_, br := openWebSocket(t, f.addr, "")
	expect(t, br, "hello")
	f.swap(t, table(2, all("v1"), version("v1", sse.addr)))
	resp, err := f.client.Get(f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	expect(t, resp.Body, "data: 1\n\n")
	if e := f.version(t, "v1").Endpoints[0]; e.Requests != 1 || e.InFlight != 1 {
		t.Errorf("a stream is counted when it begins: %+v", e)
	}
	f.swap(t, gateway.Table{Number: 3})
	var drained sync.WaitGroup
	for _, addr := range []string{ws, sse.addr} {
		drained.Go(func() {
			if err := f.Drain(context.Background(), addr); err != nil {
				t.Error(err)
			}
		})
	}
	drained.Wait()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("the event stream ended with %q, %v; want a clean end, so that the client comes again", rest, err)
	}
	if rest, _ := io.ReadAll(br); len(rest) != 0 {
		t.Errorf("the websocket ended with %q", rest)
	}
}

// h2Client speaks HTTP/2 without TLS.
func h2Client(t testing.TB) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// h2Backend serves HTTP/2 without TLS.
func h2Backend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	p.SetHTTP1(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, Protocols: &p}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return l.Addr().String()
}

func TestHTTP2ClientsAndHTTP1Endpoints(t *testing.T) {
	b := newSeen(t)
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	c := h2Client(t)
	for _, size := range []int{0, 10, 100_000} {
		resp, err := c.Post(f.url+"/a%2Fb?q", "text/plain", bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp.Body); resp.ProtoMajor != 2 || body != "answer to /a%2Fb?q" {
			t.Errorf("%s %q", resp.Proto, body)
		}
		resp.Body.Close()
		got, _ := b.take()
		if want := "POST /a%2Fb?q " + string(make([]byte, size)); len(got) != 1 || got[0] != want {
			t.Errorf("the endpoint saw %.50q", got)
		}
	}
	resp, err := c.Post(f.url, "text/plain", io.MultiReader(strings.NewReader("no length")))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, _ := b.take(); len(got) != 1 || got[0] != "POST / no length" {
		t.Errorf("%q", got)
	}
}

// What HTTP/2 may carry in a pseudo header must not become a part of HTTP/1's
// first lines, however lax their reader: net/http lets spaces through.
func TestHTTP2CannotSplitHTTP1sFirstLine(t *testing.T) {
	lines := make(chan string, 10)
	addr := rawBackend(t, func(n int, c net.Conn, br *bufio.Reader) {
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			for rest := line; rest != "\r\n"; {
				if rest, err = br.ReadString('\n'); err != nil {
					return
				}
			}
			lines <- line
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", addr)))
	for what, h := range map[string][4]string{
		"path":      {"GET", "/a HTTP/1.1 x", "a", "400"},
		"method":    {"GET /evil HTTP/1.1 x", "/a", "a", "400"},
		"authority": {"GET", "/a", "a b", "400"},
		"connect":   {"CONNECT", "", "a:80", "405"},
		"good":      {"GET", "/a", "a", "200"},
	} {
		hc := newH2Conn(t, f.addr)
		hc.request(1, h[0], h[1], h[2])
		if got := hc.status(1); got != h[3] {
			t.Errorf("%s: %s, want %s", what, got, h[3])
		}
		select {
		case line := <-lines:
			if h[3] != "200" || line != "GET /a HTTP/1.1\r\n" {
				t.Errorf("%s: the endpoint was sent %q", what, line)
			}
		default:
			if h[3] == "200" {
				t.Errorf("%s: the endpoint was sent nothing", what)
			}
		}
	}
}

// grpcMessage frames a message as gRPC does.
func grpcMessage(s string) []byte {
	b := make([]byte, 5, 5+len(s))
	binary.BigEndian.PutUint32(b[1:], uint32(len(s)))
	return append(b, s...)
}

func readGRPC(r io.Reader) (string, error) {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", err
	}
	b := make([]byte, binary.BigEndian.Uint32(h[1:]))
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// TestGRPC speaks gRPC's framing over HTTP/2 on both sides: a call in both
// directions at once, trailers, and statuses that HTTP does not show.
func TestGRPC(t *testing.T) {
	addr := h2Backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if status := r.Header.Get("Want-Status"); status != "" {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
			return
		}
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("%s, Te %q", r.Proto, r.Header.Get("Te"))
		}
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for {
			m, err := readGRPC(r.Body)
			if err != nil {
				break
			}
			w.Write(grpcMessage("echo " + m))
			w.(http.Flusher).Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
	})
	f := newFront(t, gateway.Options{})
	v := version("v1", addr)
	v.H2C = true
	f.swap(t, table(1, all("v1"), v))
	c := h2Client(t)
	call := func(body io.Reader, header ...string) *http.Response {
		req, _ := http.NewRequest("POST", f.url+"/pkg.Service/Method", body)
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	pr, pw := io.Pipe()
	resp := call(pr)
	for i := range 10 {
		pw.Write(grpcMessage(fmt.Sprint(i)))
		if m, err := readGRPC(resp.Body); err != nil || m != fmt.Sprint("echo ", i) {
			t.Fatalf("message %d: %q %v", i, m, err)
		}
	}
	pw.Close()
	if rest := readAll(t, resp.Body); rest != "" || resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("Grpc-Message") != "fine" {
		t.Errorf("%q, trailers %v", rest, resp.Trailer)
	}
	// 0 and what the caller did wrong are no errors of the version; the rest is.
	for status := range 17 {
		resp := call(nil, "Want-Status", fmt.Sprint(status))
		io.Copy(io.Discard, resp.Body)
		if got := resp.Trailer.Get("Grpc-Status"); got != fmt.Sprint(status) || resp.StatusCode != 200 {
			t.Errorf("status %d arrived as %q", status, got)
		}
	}
	eventually(t, func() error {
		if e := f.version(t, "v1").Endpoints[0]; e.Requests != 18 || e.Errors != 6 || e.Failed != 0 {
			return fmt.Errorf("%+v, want 18 requests and 6 errors", e)
		}
		return nil
	})
	// Retired and drained, nothing is lost.
	pr, pw = io.Pipe()
	resp = call(pr)
	f.swap(t, gateway.Table{Number: 2})
	pw.Write(grpcMessage("late"))
	if m, err := readGRPC(resp.Body); err != nil || m != "echo late" {
		t.Errorf("after the switch: %q %v", m, err)
	}
	pw.Close()
	io.Copy(io.Discard, resp.Body)
	if err := f.Drain(context.Background(), addr); err != nil {
		t.Error(err)
	}
}

func TestH2CEndpointThatIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	alive := h2Backend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	f := newFront(t, gateway.Options{})
	v := version("v1", dead, alive)
	v.H2C = true
	f.swap(t, table(1, all("v1"), v))
	for range 20 { // a body that is streamed is still whole after a failed dial
		resp, err := f.client.Post(f.url, "text/plain", io.MultiReader(strings.NewReader("streamed")))
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp.Body); resp.StatusCode != 200 || body != "streamed" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
		resp.Body.Close()
	}
}

// certificate writes a self-signed pair for name.
func certificate(t testing.TB, dir, name string, serial int64) gateway.KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := gateway.KeyPair{CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key")}
	for file, b := range map[string]*pem.Block{p.CertFile: {Type: "CERTIFICATE", Bytes: der}, p.KeyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestTLSWithReload(t *testing.T) {
	dir := t.TempDir()
	a, b := certificate(t, dir, "a.test", 1), certificate(t, dir, "b.test", 2)
	certs, err := gateway.LoadCertificates(nil, a, b)
	if err != nil {
		t.Fatal(err)
	}
	back := newSeen(t)
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", back.addr)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.ServeTLS(l, certs) }()
	t.Cleanup(func() {
		f.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	serial := func(name string, max uint16) (int64, error) {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: max})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	check := func(name string, want int64) {
		t.Helper()
		if got, err := serial(name, 0); err != nil || got != want {
			t.Errorf("%s: certificate %d, %v; want %d", name, got, err, want)
		}
	}
	check("a.test", 1)
	check("b.test", 2)
	check("c.test", 1)
	if _, err := serial("a.test", tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	for _, h2 := range []bool{false, true} {
		var p http.Protocols
		p.SetHTTP1(!h2)
		p.SetHTTP2(h2)
		tr := &http.Transport{Protocols: &p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "a.test"}}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if (resp.ProtoMajor == 2) != h2 {
			t.Errorf("h2 %v: %s", h2, resp.Proto)
		}
		if _, hs := back.take(); len(hs) != 1 || hs[0].Get("X-Forwarded-Proto") != "https" {
			t.Errorf("h2 %v: the endpoint saw %v", h2, hs)
		}
		tr.CloseIdleConnections()
	}
	certificate(t, dir, "a.test", 3)
	if err := certs.Reload(); err != nil {
		t.Fatal(err)
	}
	check("a.test", 3)
	if err := os.WriteFile(a.KeyFile, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := certs.Reload(); err == nil {
		t.Error("a torn key was accepted")
	}
	check("a.test", 3)
	if _, err := gateway.LoadCertificates(nil, gateway.KeyPair{CertFile: "no", KeyFile: "no"}); err == nil {
		t.Error("files that are not there were accepted")
	}
}

func TestInformationalAnswersPass(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "ok")
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	c := &caller{addr: f.addr}
	defer c.close()
	req, _ := http.NewRequest("GET", f.url, nil)
	code, _, err := c.do(req)
	if code != 103 || err != nil {
		t.Fatalf("%d %v, want 103 first", code, err)
	}
	resp, err := http.ReadResponse(c.br, req)
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, resp.Body); resp.StatusCode != 200 || body != "ok" || resp.Header.Get("Link") != "" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
}
