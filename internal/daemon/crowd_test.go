package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// crowd is users of every protocol that ask all the while and never twice. Each
// request has an id, which its back end writes down (see journal): at the end
// both sides are compared.
type crowd struct {
	t       *testing.T
	journal string // the folder that back ends write ids to
	stop    chan struct{}
	work    sync.WaitGroup
	sent    atomic.Int64
	failed  atomic.Int64
	streams atomic.Int64 // event streams and websockets that ended in order
	ending  context.Context
	end     context.CancelFunc

	mu   sync.Mutex
	ids  map[string]bool
	seen map[string]int // answers, by version
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{t: t, journal: t.TempDir(), stop: make(chan struct{}), ids: map[string]bool{}, seen: map[string]int{}}
	c.ending, c.end = context.WithCancel(context.Background())
	t.Cleanup(c.end)
	return c
}

// home lets everybody finish and go.
func (c *crowd) home() {
	close(c.stop)
	c.end()
	c.work.Wait()
}

func (c *crowd) fail(format string, args ...any) {
	if c.failed.Add(1) <= 5 {
		c.t.Errorf(format, args...)
	}
}

// each does one thing again and again until everybody goes home.
func (c *crowd) each(one func()) {
	c.work.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			default:
				one()
				time.Sleep(time.Millisecond) // a user's pace, not a wait for anything
			}
		}
	})
}

// enough waits for n more requests.
func (c *crowd) enough(n int64) {
	c.t.Helper()
	for was, end := c.sent.Load(), time.Now().Add(patience); c.sent.Load() < was+n && c.failed.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("%d requests of %d", c.sent.Load()-was, n)
		}
	}
}

// id is that of a request which is sent now.
func (c *crowd) id(who string) string {
	id := fmt.Sprintf("%s-%d", who, c.sent.Add(1))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[id] = true
	return id
}

func (c *crowd) saw(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[version]++
}

// keeps asks over HTTP/1.1 and one connection.
func (c *crowd) keeps(u *keeper) {
	c.each(func() {
		a, err := u.send("POST", "/", c.id("keeper"), "ten bytes.")
		if err != nil || a.code != 200 {
			c.fail("HTTP/1.1: %d %v", a.code, err)
			return
		}
		c.saw(a.version)
	})
}

// asks asks through a transport of net/http, several at one time, with bodies
// that cannot be read twice: what was sent once is not sent again.
func (c *crowd) asks(who, url string, tr *http.Transport, proto, atOnce int) {
	c.t.Cleanup(tr.CloseIdleConnections)
	for range atOnce {
		c.each(func() {
			b := &onceRead{Reader: strings.NewReader("ten bytes.")}
			req, err := http.NewRequest("POST", url, b)
			if err != nil {
				c.fail("%s: %v", who, err)
				return
			}
			req.Host, req.ContentLength = "my-app-service", 10
			req.GetBody = func() (io.ReadCloser, error) {
				if b.begun.Load() {
					return nil, errors.New("was sent, and would have to be sent again")
				}
				return b, nil // of a connection that was found closed before anything was sent
			}
			req.Header.Set("X-Request-Id", c.id(who))
			res, err := tr.RoundTrip(req)
			if err != nil {
				c.fail("%s: %v", who, err)
				return
			}
			defer res.Body.Close()
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 || res.ProtoMajor != proto {
				c.fail("%s: %s %s %v", who, res.Proto, res.Status, err)
				return
			}
			c.saw(res.Header.Get("X-Version"))
		})
	}
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

// calls calls over gRPC: several at one time with one answer each, and
// conversations of some messages both ways. grpc-go repeats what a server says
// that it has not looked at, which cannot be switched off; the ids would tell.
func (c *crowd) calls(who, addr string, creds credentials.TransportCredentials) {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), grpc.WithAuthority("rpc-service"), grpc.WithDisableRetry())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	client := pb.NewTestServiceClient(conn)
	for range 2 {
		c.each(func() {
			id := c.id(who)
			if r, err := client.UnaryCall(context.Background(), &pb.SimpleRequest{Payload: body(id)}); err != nil || string(r.Payload.Body) != id {
				c.fail("%s: %v", who, err)
			}
		})
	}
	c.each(func() {
		s, err := client.FullDuplexCall(context.Background())
		if err != nil {
			c.fail("%s, a conversation: %v", who, err)
			return
		}
		for range 10 {
			id := c.id(who + "-said")
			if err := s.Send(&pb.StreamingOutputCallRequest{Payload: body(id)}); err != nil {
				_, err = s.Recv() // says why
				c.fail("%s, a conversation: %v", who, err)
				return
			}
			if r, err := s.Recv(); err != nil || string(r.Payload.Body) != id {
				c.fail("%s, a conversation: %v", who, err)
				return
			}
		}
		if err := s.CloseSend(); err != nil {
			c.fail("%s, a conversation's end: %v", who, err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			c.fail("%s, a conversation's end: %v", who, err)
		}
	})
}

// listens hears event streams, which end in order, and comes again.
func (c *crowd) listens(addr string) {
	c.each(func() {
		req, _ := http.NewRequestWithContext(c.ending, "GET", "http://"+addr+"/events", nil)
		req.Host = "my-app-service"
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if c.ending.Err() != nil {
			return
		}
		if err != nil {
			c.fail("events: %v", err)
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if c.ending.Err() != nil {
			return
		}
		if err != nil || len(b) > 0 && (!bytes.HasPrefix(b, []byte("data: ")) || !bytes.HasSuffix(b, []byte("\n\n"))) {
			c.fail("events: %d bytes, %v", len(b), err)
		}
		c.streams.Add(1)
	})
}

// talks talks over websockets, which live until they are ended, between two
// frames.
func (c *crowd) talks(addr string) {
	c.each(func() {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			c.fail("websocket: %v", err)
			return
		}
		defer nc.Close()
		fmt.Fprintf(nc, "GET /socket HTTP/1.1\r\nHost: my-app-service\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		br := bufio.NewReader(nc)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != 101 {
			c.fail("websocket: %v", err)
			return
		}
		for n := 0; ; n++ {
			select {
			case <-c.stop:
				return
			default:
			}
			if _, err := fmt.Fprintf(nc, "%d\n", n); err != nil {
				break
			}
			if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("%d\n", n) {
				if line != "" {
					c.fail("websocket: a frame was cut: %q", line)
				}
				break
			}
			time.Sleep(time.Millisecond) // a conversation's pace
		}
		c.streams.Add(1)
	})
}

// everybody comes: users of each protocol, with TLS and without.
func (c *crowd) everybody(addr, secure string, roots *x509.CertPool) []*keeper {
	users := make([]*keeper, 8)
	for i := range users {
		users[i] = &keeper{addr: addr, host: "my-app-service"}
		c.keeps(users[i])
	}
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	known := &tls.Config{RootCAs: roots, ServerName: "rpc-service"}
	for range 2 {
		c.asks("h2c", "http://"+addr+"/", &http.Transport{Protocols: &h2}, 2, 2)
		c.asks("tls", "https://"+secure+"/", &http.Transport{TLSClientConfig: known.Clone()}, 1, 1)
		c.asks("h2", "https://"+secure+"/", &http.Transport{TLSClientConfig: known.Clone(), ForceAttemptHTTP2: true}, 2, 2)
	}
	c.calls("grpc", addr, insecure.NewCredentials())
	c.calls("grpcs", secure, credentials.NewTLS(known.Clone()))
	c.listens(addr)
	c.talks(addr)
	return users
}

// compare compares what was sent with what arrived.
func (c *crowd) compare() {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.journal, "*"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("no back end has written anything: %v", err)
	}
	arrived := map[string]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		for id := range strings.Lines(string(b)) {
			arrived[strings.TrimSpace(id)]++
		}
	}
	var lost, doubled, unknown []string
	for id := range c.ids {
		switch n := arrived[id]; {
		case n == 0:
			lost = append(lost, id)
		case n > 1:
			doubled = append(doubled, id)
		}
	}
	for id := range arrived {
		if !c.ids[id] {
			unknown = append(unknown, id)
		}
	}
	if len(lost)+len(doubled)+len(unknown) > 0 || len(c.ids) != int(c.sent.Load()) {
		c.t.Errorf("%d requests\nnever arrived: %q\narrived more than once: %q\narrived, and nobody sent them: %q", len(c.ids), lost, doubled, unknown)
	}
}

// journal writes ids down, each before its request is answered. Every process
// has a file of its own.
type journal struct{ f *os.File }

func openJournal(dir string) (journal, error) {
	if dir == "" {
		return journal{}, nil
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(os.Getpid())), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return journal{f}, err
}

func (j journal) note(id string) {
	if j.f == nil || id == "" {
		return
	}
	if _, err := j.f.WriteString(id + "\n"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
