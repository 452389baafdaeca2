package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	maxIdle         = 512         // idle connections kept per endpoint
	youngIdle       = time.Second // what cannot be made again goes only on connections idle for less: no application closes one so soon
	maxResponseHead = 1 << 20     // bytes
	readBuffer      = 4 << 10
)

// conn is one connection to an endpoint. It is used by one request at a time
// and needs no goroutine of its own: whoever carries the request writes and
// reads.
type conn struct {
	nc   net.Conn
	br   *bufio.Reader
	used bool      // has carried a request before
	idle time.Time // when it was put back

	// headLeft bounds what may still be read while a head is awaited; negative
	// while a body is read.
	headLeft int

	raw   syscall.RawConn
	alive bool // answer of the last probe
	probe func(fd uintptr) bool
}

var errHeadTooLarge = errors.New("the answer's head is larger than 1 MiB")

// Read feeds br.
func (c *conn) Read(p []byte) (int, error) {
	if c.headLeft == 0 {
		return 0, errHeadTooLarge
	}
	if c.headLeft > 0 && len(p) > c.headLeft {
		p = p[:c.headLeft]
	}
	n, err := c.nc.Read(p)
	if c.headLeft > 0 {
		c.headLeft -= n
	}
	return n, err
}

func dial(ctx context.Context, address string, timeout time.Duration) (*conn, error) {
	d := net.Dialer{Timeout: timeout}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, headLeft: -1}
	c.br = bufio.NewReaderSize(c, readBuffer)
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			c.probe = func(fd uintptr) bool {
				c.alive = quiet(fd)
				return true // do not wait for it to become readable
			}
		}
	}
	return c, nil
}

// fresh says whether an idle connection can be used: the other side neither
// closed it nor sent anything that nobody asked for.
func (c *conn) fresh() bool {
	if c.br.Buffered() > 0 {
		return false
	}
	if c.raw == nil {
		return true
	}
	return c.raw.Read(c.probe) == nil && c.alive
}

func (c *conn) close() { c.nc.Close() }

// closeWrite tells the other side that nothing more will come.
func closeWrite(nc net.Conn) {
	if cw, ok := nc.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
		return
	}
	nc.Close()
}

// pool holds the idle connections of one endpoint, the longest idle first. The
// zero pool is ready.
type pool struct {
	mu     sync.Mutex
	idle   []*conn
	closed bool
}

// get takes the connection that was used last, or nil. Connections that have
// been idle for longer than limit, or that the other side has closed, are not
// given out. One that has been idle for young or longer is left where it is:
// young is smaller than limit for requests that cannot be made again.
func (p *pool) get(now time.Time, limit, young time.Duration) *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 || (young < limit && now.Sub(p.idle[n-1].idle) >= young) {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if now.Sub(c.idle) < limit && c.fresh() {
			return c
		}
		c.close()
	}
}

// put gives a connection back whose last answer was read to its end.
func (p *pool) put(c *conn, now time.Time) {
	c.used, c.idle = true, now
	p.mu.Lock()
	if p.closed || len(p.idle) >= maxIdle {
		p.mu.Unlock()
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	p.mu.Unlock()
}

// sweep closes what has been idle since before t.
func (p *pool) sweep(t time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && p.idle[n].idle.Before(t) {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// close closes the idle connections; those in use are closed when they are put
// back.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// aborted is a time in the past: a deadline that ends what is going on.
var aborted = time.Unix(1, 0)

// isTimeout says whether err came from a deadline.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

const smallBuffer = 4 << 10

// Buffers for bodies, and for heads and small bodies.
var (
	buffers      = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
)

var _ io.Reader = (*conn)(nil)
