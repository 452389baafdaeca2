package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Kept is a client connection that rests between two requests, given by Leave
// to be served by another Gateway.
type Kept struct {
	Conn net.Conn
	Read []byte // what came of the next request already
}

// front is a listener whose connections can be taken away from the server that
// serves them while they rest between two requests.
type front struct {
	net.Listener
	g     *Gateway
	tls   bool
	room  chan struct{} // a place for each connection; nil = no bound
	first chan net.Conn // connections that another gateway kept

	ended chan struct{} // closed by Close
	once  sync.Once
	done  chan struct{} // closed when nothing is accepted any more
}

func (g *Gateway) newFront(l net.Listener, kept []Kept, tls bool) *front {
	f := &front{Listener: l, g: g, tls: tls, first: make(chan net.Conn, len(kept)),
		ended: make(chan struct{}), done: make(chan struct{})}
	if n := g.o.MaxConnections; n > 0 {
		f.room = make(chan struct{}, n)
	}
	for _, k := range kept {
		f.first <- &readBefore{Conn: k.Conn, read: k.Read}
	}
	close(f.first)
	return f
}

// Accept gives the kept connections first.
func (f *front) Accept() (net.Conn, error) {
	if f.room != nil {
		select {
		case f.room <- struct{}{}:
		case <-f.ended:
			return nil, net.ErrClosed
		}
	}
	nc, kept := <-f.first
	var err error
	if kept && f.g.leaving.Load() {
		f.g.mu.Lock()
		f.g.unserved = append(f.g.unserved, nc.(*readBefore))
		f.g.mu.Unlock()
		if f.room != nil {
			<-f.room
		}
		return f.Accept()
	}
	if !kept {
		nc, err = f.Listener.Accept()
		if err != nil {
			if f.room != nil {
				<-f.room
			}
			if f.g.leaving.Load() {
				err = net.ErrClosed // the listener's deadline woke us up
			}
			return nil, err
		}
	}
	c := &frontConn{Conn: nc, f: f, over: make(chan struct{})}
	if b, ok := nc.(*readBefore); ok {
		c.Conn, c.before = b.Conn, b.read
		c.dirty, c.since = len(b.read) > 0, time.Now()
	}
	f.g.fronts.add(c)
	return c, nil
}

// Close ends Accept. While the gateway is leaving, the listener itself stays
// open: connections that come wait in it for whoever takes it over.
func (f *front) Close() error {
	f.once.Do(func() { close(f.ended) })
	if d, ok := f.Listener.(interface{ SetDeadline(time.Time) error }); ok && f.g.leaving.Load() {
		return d.SetDeadline(aborted)
	}
	return f.Listener.Close()
}

// readBefore carries a connection's first bytes to Accept.
type readBefore struct {
	net.Conn
	read []byte
}

// frontConn is a client's connection. It may be taken while it rests: then its
// server sees it end, and its bytes are nobody's.
//
// Invariant: a byte that was read from the client is given to the server or is
// in before, whatever happens when.
type frontConn struct {
	net.Conn
	f    *front
	over chan struct{} // closed when the server has done with it

	mu     sync.Mutex
	state  http.ConnState
	since  time.Time // of the state, or of the first byte of a request's head
	before []byte    // to be read first; of a taken connection: what it goes on with
	dirty  bool      // something was read since it rested last
	magic  [3]byte   // the first bytes of all
	magicN int
	taken  bool
	closed bool // by the server; of HTTP/2, while the gateway leaves: only noted
	ended  bool // over is closed
	stream bool // carries an answer without a foreseeable end
}

// http2 says whether the client speaks HTTP/2 without TLS. Called with mu held.
func (c *frontConn) http2() bool { return c.magicN == 3 && string(c.magic[:]) == "PRI" }

// Read gives nothing of a connection that was taken.
func (c *frontConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.before) > 0 && !c.taken {
		n := copy(p, c.before)
		c.before = c.before[n:]
		c.note(p[:n])
		c.mu.Unlock()
		return n, nil
	}
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken {
		c.before = append(c.before, p[:n]...)
		return 0, io.EOF
	}
	c.note(p[:n])
	return n, err
}

// note remembers that bytes were given to the server. Called with mu held.
func (c *frontConn) note(b []byte) {
	if len(b) == 0 {
		return
	}
	c.magicN += copy(c.magic[c.magicN:], b)
	if !c.dirty {
		c.dirty, c.since = true, time.Now()
	}
}

// SetReadDeadline does not bring a taken connection's reader back.
func (c *frontConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *frontConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite passes an upgraded connection's end on.
func (c *frontConn) CloseWrite() error {
	closeWrite(c.Conn)
	return nil
}

// take takes the connection if it rests: nothing of a request was read, and no
// other request can be under way on it.
func (c *frontConn) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takeLocked()
}

func (c *frontConn) takeLocked() bool {
	resting := c.state == http.StateNew || c.state == http.StateIdle
	if c.f.tls || c.closed || c.dirty || c.taken || !resting || c.http2() {
		return c.taken
	}
	c.taken = true
	_ = c.Conn.SetReadDeadline(aborted)
	return true
}

// Close closes the connection, with three exceptions while the gateway leaves.
// One that rests is kept. One on which a request is just coming in is the
// server's Shutdown taking it for idle: the request is served. And one of
// HTTP/2 is closed when its last stream has ended and not before.
func (c *frontConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taken && !c.closed && c.f.g.leaving.Load() && !c.f.g.hurry.Load() {
		switch {
		case c.takeLocked():
		case !c.f.tls && c.state == http.StateIdle && (c.dirty || c.http2()):
			return nil
		}
	}
	if c.taken {
		c.endLocked()
		return nil
	}
	return c.closeLocked()
}

func (c *frontConn) closeLocked() error {
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	err := c.Conn.Close()
	c.endLocked()
	return err
}

// endLocked notes that the server has done with the connection.
func (c *frontConn) endLocked() {
	if c.ended {
		return
	}
	c.ended = true
	close(c.over)
	if !c.taken {
		c.f.g.fronts.remove(c)
	}
	if c.f.room != nil {
		<-c.f.room
	}
}

// stateChanged is the server's ConnState.
func stateChanged(nc net.Conn, state http.ConnState) {
	c := frontOf(nc)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	switch state {
	case http.StateActive:
		c.since = time.Now()
	case http.StateIdle:
		c.dirty, c.stream, c.since = false, false, time.Now()
		if c.f.g.leaving.Load() {
			c.takeLocked()
		}
	case http.StateClosed:
		if !c.taken {
			_ = c.closeLocked()
		}
	}
}

// frontOf gives the connection under a server's.
func frontOf(nc net.Conn) *frontConn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*frontConn)
	return c
}

// streams notes that the answer on a connection has no foreseeable end.
func (x *exchange) streams() {
	if guard, ok := x.ctx.Value(guardKey{}).(*connGuard); ok {
		if c := frontOf(guard.nc); c != nil {
			c.mu.Lock()
			c.stream = true
			c.mu.Unlock()
		}
	}
}

// leaves says whether the answer must tell the client to come again on another
// connection: its own cannot be kept.
func (x *exchange) leaves() bool {
	return x.g.leaving.Load() && (x.r.TLS != nil || x.r.ProtoMajor == 2)
}

// fronts are the client connections of a gateway.
type fronts struct {
	mu  sync.Mutex
	all map[*frontConn]struct{}
}

func (s *fronts) add(c *frontConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*frontConn]struct{}{}
	}
	s.all[c] = struct{}{}
}

func (s *fronts) remove(c *frontConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
}

func (s *fronts) list() []*frontConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*frontConn, 0, len(s.all))
	for c := range s.all {
		out = append(out, c)
	}
	return out
}

// How Leave goes about it.
const (
	// longRequest is how old a request is that is waited for while new ones are
	// still taken: those that come later wait in the listener for what is left.
	longRequest = time.Second
	// leaveAfter is how long clients that cannot be kept (TLS, HTTP/2) have for
	// one more request, after which they are told to go, and how long the head of
	// a request may take that had begun.
	leaveAfter = time.Second
	lookEvery  = 2 * time.Millisecond
)

// Leave makes the gateway stop so that another one can go on with its listeners
// and clients. First, for at most patience, it waits for requests that take
// long, and serves as ever. Then it accepts no more (the listeners stay open),
// ends event streams and upgraded connections, and answers what has begun, for
// at most patience. It gives the HTTP/1 connections without TLS that rest; the
// others are told to come again and closed. What was still in flight is cut; the
// error says how many connections that were.
//
// Serve returns http.ErrServerClosed. Close must still be called.
func (g *Gateway) Leave(ctx context.Context, patience time.Duration) ([]Kept, error) {
	first, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g.fronts.until(first, func(now time.Time, c *frontConn) bool {
		return c.state != http.StateActive || c.stream || c.http2() || now.Sub(c.since) < longRequest
	})
	g.mu.Lock()
	g.leaving.Store(true)
	servers, listening := append([]*http.Server(nil), g.servers...), append([]*front(nil), g.listening...)
	g.mu.Unlock()
	for _, f := range listening {
		_ = f.Close()
	}
	for _, f := range listening {
		<-f.done
	}
	g.eachEndpoint(func(e *endpoint) { e.endStreams() })
	for _, c := range g.fronts.list() {
		c.take()
	}
	soon, cancel := context.WithTimeout(ctx, min(leaveAfter, patience))
	defer cancel()
	g.fronts.until(soon, func(_ time.Time, c *frontConn) bool { return c.ended })
	last, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var work sync.WaitGroup
	for _, srv := range servers {
		work.Go(func() { _ = srv.Shutdown(last) })
	}
	for _, c := range g.fronts.list() {
		c.late()
	}
	g.fronts.until(last, func(_ time.Time, c *frontConn) bool { return c.ended })
	g.hurry.Store(true)
	cut := 0
	var kept []Kept
	for _, c := range g.fronts.list() {
		c.mu.Lock()
		switch {
		case c.taken && c.ended:
			_ = c.Conn.SetDeadline(time.Time{})
			kept = append(kept, Kept{Conn: c.Conn, Read: c.before})
		case !c.ended:
			cut++
			_ = c.closeLocked()
		}
		c.mu.Unlock()
	}
	cancel()
	work.Wait()
	for _, nc := range g.unserved { // nobody accepts any more
		kept = append(kept, Kept{Conn: nc.Conn, Read: nc.read})
	}
	if cut > 0 {
		return kept, &LeaveError{Cut: cut}
	}
	return kept, nil
}

// LeaveError says how many connections Leave cut in the middle of a request.
type LeaveError struct{ Cut int }

func (e *LeaveError) Error() string {
	return "gateway: leaving: some connections were cut in the middle of a request"
}

// late closes a connection on which a head has begun and does not come.
func (c *frontConn) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirty && !c.ended && !c.http2() && c.state != http.StateActive && c.state != http.StateHijacked && time.Since(c.since) >= leaveAfter {
		_ = c.closeLocked()
	}
}

// until waits until something holds of every connection, or ctx ends.
func (s *fronts) until(ctx context.Context, holds func(time.Time, *frontConn) bool) {
	for {
		now, all := time.Now(), true
		for _, c := range s.list() {
			c.mu.Lock()
			all = all && holds(now, c)
			c.mu.Unlock()
		}
		if all {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}
