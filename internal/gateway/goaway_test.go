package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/serin-dev/serin/internal/gateway"
)

// told reads up to the next GOAWAY or the end, answering nothing, and gives what
// it read of the streams' bodies.
func (c *h2Conn) told() (goAway *http2.GoAwayFrame, body int64, end error) {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return nil, body, err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			body += int64(len(f.Data()))
		case *http2.GoAwayFrame:
			return f, body, nil
		}
	}
}

// An HTTP/2 connection ends as RFC 9113 asks it to: no stream is refused before
// the client can know that there must be no more, the last GOAWAY names the last
// stream, and the connection's end is one of TLS where there is TLS. What is
// said is put between frames: an answer of many goes on while it is said.
func TestHTTP2IsEndedInTwoSteps(t *testing.T) {
	const size = 4 << 20
	for name, secure := range map[string]bool{"h2c": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			begun, goOn := make(chan struct{}), make(chan struct{})
			b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/large" {
					_, _ = io.CopyN(w, zeros{}, size/2)
					close(begun)
					<-goOn
					_, _ = io.CopyN(w, zeros{}, size/2)
				}
			})
			var r *relayed
			to := table(1, all("v1"), version("v1", b.addr))
			if !secure {
				r = newRelayed(t, to)
			} else {
				certs, err := gateway.LoadCertificates(nil, certificate(t, t.TempDir(), "a.test", 1))
				if err != nil {
					t.Fatal(err)
				}
				r = newRelayedTLS(t, to, certs)
			}
			nc, err := net.Dial("tcp", r.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if secure {
				nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			}
			_ = nc.SetDeadline(time.Now().Add(patience))
			c := newH2ConnOn(t, nc)
			_ = c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2 * size})
			_ = c.fr.WriteWindowUpdate(0, 2*size)
			if err := c.request(1, "GET", "/large", "a"); err != nil {
				t.Fatal(err)
			}
			<-begun
			left := make(chan error, 1)
			go func() {
				var err error
				r.kept, err = r.g.Leave(context.Background(), patience)
				left <- err
			}()
			first, body, err := c.told()
			if err != nil || first.LastStreamID != 1<<31-1 || first.ErrCode != http2.ErrCodeNo {
				t.Fatalf("the first word is %v, %v; want GOAWAY for streams beyond 2^31-1", first, err)
			}
			ping, err := c.fr.ReadFrame()
			for ; err == nil && ping.Header().Type == http2.FrameData; ping, err = c.fr.ReadFrame() {
				body += int64(len(ping.(*http2.DataFrame).Data()))
			}
			p, ok := ping.(*http2.PingFrame)
			if err != nil || !ok || p.IsAck() {
				t.Fatalf("then %v, %v; want a PING", ping, err)
			}
			// This one was under way when it was said.
			if err := errors.Join(c.request(3, "GET", "/", "a"), c.fr.WritePing(true, p.Data)); err != nil {
				t.Fatal(err)
			}
			close(goOn)
			last, rest, err := c.told()
			if err != nil || last.LastStreamID != 3 || last.ErrCode != http2.ErrCodeNo {
				t.Fatalf("the last word is %v, %v; want GOAWAY after stream 3", last, err)
			}
			_, tail, end := c.told()
			if body+rest+tail != size || !errors.Is(end, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes of %d, and then %v", body+rest+tail, size, end)
			}
			if err := <-left; err != nil {
				t.Error(err)
			}
			<-r.done
			r.g.Close()
			r.next()
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Over TLS and HTTP/1 there is nothing to be said to who rests: the connection
// ends in order, with TLS's own word for it.
func TestARestingTLSConnectionIsEndedInOrder(t *testing.T) {
	certs, err := gateway.LoadCertificates(nil, certificate(t, t.TempDir(), "a.test", 1))
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, says("ok"))
	r := newRelayedTLS(t, table(1, all("v1"), version("v1", b.addr)), certs)
	dial := func() net.Conn {
		nc, err := tls.Dial("tcp", r.l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	used, unused := dial(), dial() // browsers open some that they may need
	req, _ := http.NewRequest("GET", "https://a.test/", nil)
	if err := req.Write(used); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(used)
	resp, err := http.ReadResponse(br, req)
	if err != nil || readAll(t, resp.Body) != "ok" {
		t.Fatal(err)
	}
	if err := r.leave(patience); err != nil {
		t.Error(err)
	}
	for name, from := range map[string]io.Reader{"used": br, "unused": unused} {
		if n, err := from.Read(make([]byte, 1)); n != 0 || err != io.EOF { // without close_notify: unexpected EOF
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	r.next()
}

// Who forgets the encryption is told so.
func TestAPlainRequestToTLSIsToldWhatIsWrong(t *testing.T) {
	certs, err := gateway.LoadCertificates(nil, certificate(t, t.TempDir(), "a.test", 1))
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, says("ok"))
	r := newRelayedTLS(t, table(1, all("v1"), version("v1", b.addr)), certs)
	nc, err := net.Dial("tcp", r.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(nc).ReadString('\n')
	if !strings.HasPrefix(line, "HTTP/1.0 400 ") {
		t.Errorf("it is told %q", line)
	}
}
