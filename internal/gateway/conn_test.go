package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// idleConn is a connection that rests in p since t; the other end is given too.
func idleConn(p *pool, t time.Time) (*conn, net.Conn) {
	a, b := net.Pipe()
	c := &conn{nc: a, headLeft: -1}
	c.br = bufio.NewReader(c)
	p.put(c, t)
	return c, b
}

func TestPoolGivesOnlyWhatIsSafe(t *testing.T) {
	t0 := time.Unix(1000, 0)
	const limit = 4 * time.Second
	for why, c := range map[string]struct {
		age    time.Duration
		young  time.Duration
		given  bool
		closed bool
	}{
		"used a moment ago":                              {0, youngIdle, true, false},
		"idle for 3 s, for a GET":                        {3 * time.Second, limit, true, false},
		"idle for 3 s, for a POST: left to others":       {3 * time.Second, youngIdle, false, false},
		"idle for 5 s: the application may close it now": {5 * time.Second, limit, false, true},
	} {
		p := &pool{}
		old, far := idleConn(p, t0)
		got := p.get(t0.Add(c.age), limit, c.young)
		if (got == old) != c.given {
			t.Errorf("%s: given %v", why, got == old)
		}
		far.SetReadDeadline(aborted)
		_, err := far.Read(make([]byte, 1))
		if closed := errors.Is(err, io.EOF); closed != c.closed {
			t.Errorf("%s: closed %v (%v)", why, closed, err)
		}
		p.close()
		old.close()
		far.Close()
	}
}

func TestPoolGivesTheYoungestAndSweepsTheOldest(t *testing.T) {
	p := &pool{}
	t0 := time.Unix(1000, 0)
	a, fa := idleConn(p, t0)
	b, fb := idleConn(p, t0.Add(time.Second))
	defer func() { a.close(); b.close(); fa.Close(); fb.Close() }()
	p.sweep(t0.Add(500 * time.Millisecond))
	if len(p.idle) != 1 || p.idle[0] != b {
		t.Fatalf("%d left", len(p.idle))
	}
	if got := p.get(t0.Add(time.Second), time.Minute, time.Minute); got != b {
		t.Error("not the youngest")
	}
	p.close()
	p.put(b, t0) // one that comes back late is closed
	if _, err := fb.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || len(p.idle) != 0 {
		t.Errorf("%v, %d idle", err, len(p.idle))
	}
}

// A connection on which the other side has said something unasked is not used.
func TestUnaskedBytesMakeAConnectionUnusable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := dial(t.Context(), l.Addr().String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if !c.fresh() {
		t.Error("a quiet connection is not fresh")
	}
	io.WriteString(far, "x")
	for end := time.Now().Add(time.Minute); c.fresh(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a connection with unasked bytes is fresh")
		}
	}
}
