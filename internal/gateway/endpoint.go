package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// endpoint is one replica over its life: in force, retired, gone.
//
// Invariant: a request begins on it (acquire gives true) only before it is
// retired; gone is closed when it is retired and nothing is in flight, and
// nothing begins after that.
type endpoint struct {
	Endpoint
	version   *versionState
	since     time.Time
	retiredAt time.Time // set before retired, read after it

	inflight atomic.Int64
	retired  atomic.Bool
	goneOnce sync.Once
	gone     chan struct{}

	// suspect is until when (Unix ns) other endpoints are preferred, because a
	// connection to this one failed.
	suspect atomic.Int64

	counters counters
	pool     pool

	h2Once sync.Once
	h2Made atomic.Bool
	h2     *http.Transport

	streamsMu sync.Mutex
	streams   map[*stream]struct{}
}

// stream is a request without a foreseeable end: an upgraded connection or an
// event stream. end may be called once, by Drain or Close, and ends it.
type stream struct {
	end func()
}

// endpoint gives the endpoint for te in force, made if it is new. Called with
// g.mu held.
func (g *Gateway) endpoint(v *versionState, te Endpoint, now time.Time) *endpoint {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.endpoints[te]
	if e == nil {
		e = &endpoint{Endpoint: te, version: v, since: now, gone: make(chan struct{})}
		v.endpoints[te] = e
	}
	v.goneSince = time.Time{}
	return e
}

// acquire begins a request, unless e is retired.
func (e *endpoint) acquire() bool {
	e.inflight.Add(1)
	// Both orders are safe: either retire sees this request in flight, or this
	// request sees that e is retired.
	if e.retired.Load() {
		e.release()
		return false
	}
	return true
}

func (e *endpoint) release() {
	if e.inflight.Add(-1) == 0 && e.retired.Load() {
		e.leave()
	}
}

// retire ends the time in which requests may begin.
func (e *endpoint) retire(now time.Time) {
	e.retiredAt = now
	e.retired.Store(true)
	e.pool.close()
	if e.inflight.Load() == 0 {
		e.leave()
	}
}

func (e *endpoint) leave() {
	e.goneOnce.Do(func() {
		e.closeHTTP2()
		close(e.gone)
	})
}

// choose gives the endpoint with the fewest requests in flight, in turn among
// equals. Endpoints that could not be connected to a moment ago are left alone
// while there are others; so is not, the one that an earlier attempt failed on.
func (v *version) choose(not *endpoint, now time.Time) *endpoint {
	n := len(v.endpoints)
	if n == 1 {
		return v.endpoints[0]
	}
	turn := int(v.state.turn.Add(1) % uint64(n))
	var best *endpoint
	bestLoad := int64(0)
	for i := range n {
		e := v.endpoints[(turn+i)%n]
		load := e.inflight.Load()
		if s := e.suspect.Load(); e == not || (s != 0 && s > now.UnixNano()) {
			load += 1 << 32
		}
		if best == nil || load < bestLoad {
			best, bestLoad = e, load
		}
	}
	return best
}

// hold registers a stream, so that Drain and Close can end it.
func (e *endpoint) hold(end func()) *stream {
	s := &stream{end: end}
	e.streamsMu.Lock()
	if e.streams == nil {
		e.streams = map[*stream]struct{}{}
	}
	e.streams[s] = struct{}{}
	e.streamsMu.Unlock()
	return s
}

func (e *endpoint) letGo(s *stream) {
	e.streamsMu.Lock()
	delete(e.streams, s)
	e.streamsMu.Unlock()
}

// endStreams ends all streams of e.
func (e *endpoint) endStreams() {
	e.streamsMu.Lock()
	all := make([]*stream, 0, len(e.streams))
	for s := range e.streams {
		all = append(all, s)
	}
	clear(e.streams)
	e.streamsMu.Unlock()
	for _, s := range all {
		s.end()
	}
}

func (e *endpoint) streamCount() int64 {
	e.streamsMu.Lock()
	defer e.streamsMu.Unlock()
	return int64(len(e.streams))
}
