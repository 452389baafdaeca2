package gateway

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	maxMirrors    = 64               // copies under way at one time; more are dropped
	mirrorTimeout = 30 * time.Second // for one copy
)

// mirrors are the copies under way of one gateway.
type mirrors struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newMirrors() *mirrors {
	m := &mirrors{slots: make(chan struct{}, maxMirrors)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// begin reserves a slot for one copy.
func (m *mirrors) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	select {
	case m.slots <- struct{}{}:
		m.wg.Add(1)
		return true
	default:
		return false
	}
}

func (m *mirrors) end() {
	<-m.slots
	m.wg.Done()
}

// close ends the copies under way and waits for that.
func (m *mirrors) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait()
}

// mirrorRule is a compiled Mirror.
type mirrorRule struct {
	version *version
	split   *splitter // destination 1 is copied
}

// mirror sends copies of the request, as the rule says. The copies are made
// before the request goes its way, from what has been read of it.
func (x *exchange) mirror() {
	for i := range x.rule.mirrors {
		m := &x.rule.mirrors[i]
		if len(m.version.endpoints) == 0 || m.split.pick() == 0 || x.stream || x.head.upgrade != "" || m.version.h2c {
			continue
		}
		e := m.version.choose(nil, x.start)
		if !e.acquire() {
			continue
		}
		if !x.g.mirrors.begin() {
			e.release()
			continue
		}
		h := x.head
		h.host += "-shadow"
		b := append(appendHead(nil, x.r, &h), x.body...)
		go func() {
			defer x.g.mirrors.end()
			defer e.release()
			defer func() { // in a goroutine of its own it would end everything
				if v := recover(); v != nil {
					x.g.mistakes.say(x.g.o.Logger, "a copy", v)
					e.counters.mirrorErrors.Add(1)
				}
			}()
			x.g.copyTo(e, b, x.r.Method)
		}()
	}
}

// copyTo sends b to e and throws the answer away.
func (g *Gateway) copyTo(e *endpoint, b []byte, method string) {
	e.counters.mirrored.Add(1)
	ctx, cancel := context.WithTimeout(g.mirrors.ctx, mirrorTimeout)
	defer cancel()
	ok := func() bool {
		c := e.pool.get(time.Now(), g.o.UpstreamIdle, g.o.UpstreamIdle)
		if c == nil {
			var err error
			if c, err = dial(ctx, e.Address, g.o.DialTimeout); err != nil {
				return false
			}
		}
		stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(aborted) })
		whole, ok := c.discardAnswer(b, method)
		if stop() && whole {
			e.pool.put(c, time.Now())
		} else {
			c.close()
		}
		return ok
	}()
	if !ok {
		e.counters.mirrorErrors.Add(1)
	}
}

// discardAnswer writes a request and reads its answer. whole says that c can
// carry another request, ok that the answer was no error.
func (c *conn) discardAnswer(b []byte, method string) (whole, ok bool) {
	if _, err := c.nc.Write(b); err != nil {
		return false, false
	}
	c.headLeft = maxResponseHead
	defer func() { c.headLeft = -1 }()
	for {
		resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
		if err != nil {
			return false, false
		}
		if resp.StatusCode < 200 {
			if resp.StatusCode == http.StatusSwitchingProtocols {
				return false, false
			}
			continue
		}
		c.headLeft = -1
		_, err = io.Copy(io.Discard, resp.Body)
		return err == nil && !resp.Close && c.br.Buffered() == 0, err == nil && resp.StatusCode < 500
	}
}
