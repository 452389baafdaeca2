package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
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
	tls   *tls.Config   // nil: not encrypted
	room  chan struct{} // a place for each connection; nil = no bound
	first chan net.Conn // connections that another gateway kept

	ended chan struct{} // closed by Close
	once  sync.Once
	done  chan struct{} // closed when nothing is accepted any more
}

func (g *Gateway) newFront(l net.Listener, kept []Kept, c *tls.Config) *front {
	f := &front{Listener: l, g: g, tls: c, first: make(chan net.Conn, len(kept)),
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
	c := &frontConn{Conn: nc, raw: nc, f: f, since: time.Now()}
	if b, ok := nc.(*readBefore); ok {
		c.Conn, c.raw, c.before = b.Conn, b.Conn, b.read
		c.dirty = len(b.read) > 0
	}
	if f.tls != nil {
		c.Conn = tls.Server(nc, f.tls)
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

// frontConn is a client's connection, decrypted. It may be taken while it rests,
// if it came as it is: then its server sees it end, and its bytes are nobody's.
//
// Invariant: a byte that was read from the client is given to the server or is
// in before, whatever happens when.
type frontConn struct {
	net.Conn
	raw net.Conn // under the encryption; Conn where there is none
	f   *front

	mu     sync.Mutex
	state  http.ConnState
	since  time.Time // of the state, of the first byte of a request's head, or of the farewell's answer
	before []byte    // to be read first; of a taken connection: what it goes on with
	dirty  bool      // something was read since it rested last
	ahead  bool      // the last that was read may be the next request's first byte
	magic  [4]byte   // the first bytes of all
	magicN int
	in     frames
	parted bool // HTTP/2: the client has answered the farewell
	taken  bool
	closed bool // by the server; of HTTP/2, while the gateway leaves: only noted
	ended  bool // the server has done with it
	stream bool // carries an answer without a foreseeable end
	failed bool // the handshake, and that was said
	secret *tls.ConnectionState

	framed  atomic.Bool // it is HTTP/2
	writing sync.Mutex  // guards what follows, once framed
	out     frames
	told    bool // the farewell
}

// http2 says whether the client speaks HTTP/2. Called with mu held.
func (c *frontConn) http2() bool { return c.magicN == len(c.magic) && string(c.magic[:]) == "PRI " }

// Read gives nothing of a connection that was taken.
func (c *frontConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.before) > 0 && !c.taken {
		n := copy(p, c.before)
		c.before = c.before[n:]
		c.note(p, n)
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
	c.note(p, n)
	if err != nil && c.f.tls != nil {
		c.noHandshake(err)
	}
	return n, err
}

// note remembers that n bytes were given to the server, in p. Called with mu held.
func (c *frontConn) note(p []byte, n int) {
	if n == 0 {
		return
	}
	b := p[:n]
	c.ahead = len(p) == 1
	if c.magicN < len(c.magic) {
		before := c.magicN
		if c.magicN += copy(c.magic[before:], b); c.http2() {
			c.in = frames{n: frameHead, left: prefaceLen - before} // the preface, as if it were a frame's payload
			c.framed.Store(true)
		}
	}
	if c.framed.Load() && c.in.follow(b) {
		c.parted, c.since = true, time.Now()
	}
	if !c.dirty {
		c.dirty, c.since = true, time.Now()
	}
}

// noHandshake says once, to who forgot the encryption, that it is needed. Called
// with mu held.
func (c *frontConn) noHandshake(err error) {
	if c.failed || c.magicN > 0 {
		return
	}
	c.failed = true
	c.f.g.o.Logger.Debug("TLS handshake", "client", c.raw.RemoteAddr(), "error", err)
	var re tls.RecordHeaderError
	if errors.As(err, &re) && re.Conn != nil {
		switch string(re.RecordHeader[:]) {
		case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
			_, _ = io.WriteString(c.raw, "HTTP/1.0 400 Bad Request\r\n\r\nThis address is for HTTPS; the request came without encryption.\n")
		}
	}
}

// secured gives what is known of the connection's encryption; nil: there is none.
func (c *frontConn) secured() *tls.ConnectionState {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.secret == nil {
		state := t.ConnectionState()
		c.secret = &state
	}
	return c.secret
}

// silent says whether nothing of what the client sent waits to be read.
func (c *frontConn) silent() (yes bool) {
	yes = true
	if sc, ok := c.raw.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { yes = quiet(fd) })
		}
	}
	return yes
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
	if c.f.tls != nil || c.closed || c.dirty || c.taken || !resting || c.http2() {
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
		case c.state == http.StateIdle && (c.dirty || c.http2() || !c.silent()):
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
	nc := c.Conn
	if c.f.g.hurry.Load() {
		nc = c.raw // nobody waits for room to say goodbye in
	}
	err := nc.Close()
	c.endLocked()
	return err
}

// endLocked notes that the server has done with the connection.
func (c *frontConn) endLocked() {
	if c.ended {
		return
	}
	c.ended = true
	if !c.taken {
		c.f.g.fronts.remove(c)
	}
	if c.f.room != nil {
		<-c.f.room
	}
}

// stateChanged is the server's ConnState.
func stateChanged(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*frontConn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	switch state {
	case http.StateActive:
		c.since = time.Now()
	case http.StateIdle:
		// While a request is answered net/http reads one byte further, to see its
		// client go away. With the answer's last byte under way that may be the
		// first one of the next request.
		c.dirty, c.stream, c.since = c.ahead, false, time.Now()
		if c.f.g.leaving.Load() {
			c.takeLocked()
		}
	case http.StateClosed:
		if !c.taken {
			_ = c.closeLocked()
		}
	}
}

// frontOf gives the connection that a request came on; nil: none of ours.
func frontOf(ctx context.Context) *frontConn {
	if guard, ok := ctx.Value(guardKey{}).(*connGuard); ok {
		c, _ := guard.nc.(*frontConn)
		return c
	}
	return nil
}

// streams notes that the answer on a connection has no foreseeable end.
func (x *exchange) streams() {
	if c := frontOf(x.ctx); c != nil {
		c.mu.Lock()
		c.stream = true
		c.mu.Unlock()
	}
}

// leaves says whether the answer must tell the client to come again on another
// connection: its own cannot be kept. Over HTTP/2 the farewell has told it.
func (x *exchange) leaves() bool {
	return x.g.leaving.Load() && x.r.TLS != nil && x.r.ProtoMajor == 1
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
	// leaveAfter is how long an encrypted connection of HTTP/1 must have rested to
	// be closed: who uses it is told to go with its next answer instead. The head
	// of a request that has begun may take as long.
	leaveAfter = time.Second
	lookEvery  = 2 * time.Millisecond
)

// Leave makes the gateway stop so that another one can go on with its listeners
// and clients. First, for at most patience, it waits for requests that take
// long, and serves as ever. Then it accepts no more (the listeners stay open),
// ends event streams and upgraded connections, and answers what has begun, for
// at most patience. It gives the HTTP/1 connections without TLS that rest. The
// others are told to come again, over HTTP/2 by a farewell and over TLS with
// their next answer, and are closed once they rest. What was still in flight is
// cut; the error says how many connections that were.
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
	var work sync.WaitGroup
	for _, c := range g.fronts.list() {
		c.take()
		if c.framed.Load() {
			work.Go(c.announce)
		}
	}
	soon, cancel := context.WithTimeout(ctx, min(leaveAfter, patience))
	defer cancel()
	g.fronts.until(soon, func(now time.Time, c *frontConn) bool { return c.ended || c.rests(now) })
	last, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, srv := range servers {
		work.Go(func() { _ = srv.Shutdown(last) })
	}
	g.fronts.until(last, func(now time.Time, c *frontConn) bool {
		c.late(now)
		return c.ended
	})
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

// rests says whether nothing is lost when the server ends the connection now.
// Called with mu held.
func (c *frontConn) rests(now time.Time) bool {
	switch {
	case c.http2():
		return c.parted && c.state == http.StateIdle && now.Sub(c.since) >= quietFor
	case c.f.tls != nil && c.state == http.StateIdle && !c.dirty:
		return now.Sub(c.since) >= leaveAfter && c.silent()
	}
	return false
}

// late closes a connection of HTTP/1 that rests, or on which a head has begun and
// does not come. Called with mu held.
func (c *frontConn) late(now time.Time) {
	waits := c.state == http.StateNew || c.state == http.StateIdle
	if !c.ended && !c.taken && waits && !c.http2() && now.Sub(c.since) >= leaveAfter && (c.dirty || c.silent()) {
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
