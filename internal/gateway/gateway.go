package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure a Gateway. The zero value is usable.
type Options struct {
	// Seed orders the blocks of the splits: equal seeds and equal tables give
	// equal orders.
	Seed uint64
	// Logger gets what no answer can tell; nil discards it.
	Logger *slog.Logger
	// VersionHeader names a response header that says which version answered,
	// for example "X-Serin-Version". Empty: no such header.
	VersionHeader string

	// Before is shown every request before any table is looked at, and answers
	// those that are the host's own business, such as an authority's look whether
	// this is the host that it certifies. True: it has answered. Nil: there are none.
	Before func(http.ResponseWriter, *http.Request) bool

	// StickyKey signs the cookies of Sticky.OwnCookie. With another key users are
	// dealt out anew. Empty: made from Seed, which is no secret.
	StickyKey []byte

	// MaxConnections bounds the client connections of one Serve; more of them wait
	// to be accepted. Keep it below half of the descriptors that the process may
	// have: a request takes one more for its endpoint. 0 = no bound.
	MaxConnections int

	// DrainTimeout bounds how long Drain waits for ordinary requests; 30 s if 0.
	DrainTimeout time.Duration
	// StreamDrainTimeout bounds how long Drain waits for upgraded connections
	// and event streams before it ends them; 5 min if 0.
	StreamDrainTimeout time.Duration
	// DialTimeout bounds connecting to an endpoint; 5 s if 0.
	DialTimeout time.Duration
	// UpstreamIdle is how long an idle upstream connection is kept. It must be
	// shorter than the application's own; 4 s if 0.
	UpstreamIdle time.Duration
	// Counted are figures of a gateway before this one, as its Counted gave them:
	// the counters of the metrics go on from there. Stats begins anew.
	Counted []Counted

	// KeepGone is how long the figures of a version or endpoint that left the
	// table are kept; 15 min if 0.
	KeepGone time.Duration
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for d, v := range map[*time.Duration]time.Duration{
		&o.DrainTimeout:       30 * time.Second,
		&o.StreamDrainTimeout: 5 * time.Minute,
		&o.DialTimeout:        5 * time.Second,
		&o.UpstreamIdle:       4 * time.Second,
		&o.KeepGone:           15 * time.Minute,
	} {
		if *d <= 0 {
			*d = v
		}
	}
	if len(o.StickyKey) == 0 {
		o.StickyKey = binary.BigEndian.AppendUint64(nil, o.Seed)
	}
	o.VersionHeader = http.CanonicalHeaderKey(o.VersionHeader)
}

// LongestDrain is how long a Drain may take at most.
func (o Options) LongestDrain() time.Duration {
	o.setDefaults()
	return max(o.DrainTimeout, o.StreamDrainTimeout) + o.DrainTimeout
}

// Gateway routes requests by the table in force. All methods are safe for
// concurrent use.
type Gateway struct {
	o       Options
	routing atomic.Pointer[routing]

	mu        sync.Mutex // guards what follows, and makes swaps one after the other
	services  map[string]*serviceState
	splits    uint64 // made so far: no two have one seed
	servers   []*http.Server
	listening []*front
	closed    bool

	fronts   fronts
	unserved []*readBefore // kept connections that came too late to be served
	leaving  atomic.Bool   // see Leave
	hurry    atomic.Bool   // Leave has lost its patience

	stop     chan struct{} // closed by Close: ends the sweeper
	swept    chan struct{} // closed when it has ended
	upgraded sync.WaitGroup
	mirrors  *mirrors
	mistakes mistakes
}

// New makes a Gateway with an empty table: every request is answered with 404
// until the first Swap. Close or Shutdown frees what it holds.
func New(o Options) *Gateway {
	o.setDefaults()
	g := &Gateway{o: o, services: map[string]*serviceState{}, stop: make(chan struct{}), swept: make(chan struct{}), mirrors: newMirrors()}
	g.routing.Store(&routing{})
	g.goOn(o.Counted)
	go g.sweep()
	return g
}

// Swap checks t and puts it in force, whole or not at all. When it returns nil,
// no request begins any more on an endpoint that t leaves out. A bad table
// leaves the last good one in force; the error is a *TableError that names
// every problem with the field's path.
func (g *Gateway) Swap(t Table) error {
	if err := t.Validate(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	rt := g.compile(t, g.routing.Load(), now)
	g.routing.Store(rt)
	// Only now: a request that still follows the old table finds its endpoint
	// retired and looks again, at a table that has another one.
	g.retireOthers(t, now)
	g.forget(now)
	return nil
}

// retireOthers retires every endpoint that t leaves out.
func (g *Gateway) retireOthers(t Table, now time.Time) {
	type key struct{ service, version string }
	inForce := map[key]map[Endpoint]bool{}
	named := map[string]bool{}
	for _, s := range t.Services {
		named[s.Name] = true
		for _, v := range s.Versions {
			set := map[Endpoint]bool{}
			for _, e := range v.Endpoints {
				set[e] = true
			}
			inForce[key{s.Name, v.Name}] = set
		}
	}
	for _, s := range g.services {
		if !named[s.name] && s.goneSince.IsZero() {
			s.goneSince = now
		}
		s.mu.Lock()
		for _, v := range s.versions {
			v.retireOthers(inForce[key{s.name, v.name}], now)
		}
		s.mu.Unlock()
	}
}

func (v *versionState) retireOthers(inForce map[Endpoint]bool, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, e := range v.endpoints {
		if !inForce[k] {
			delete(v.endpoints, k)
			v.old = append(v.old, e)
			e.retire(now)
		}
	}
	if len(v.endpoints) == 0 && v.goneSince.IsZero() {
		v.goneSince = now
	}
}

// InForce is the receipt: the table that new requests follow.
func (g *Gateway) InForce() Receipt {
	rt := g.routing.Load()
	r := Receipt{Number: rt.number, Since: rt.since}
	for _, x := range rt.routes {
		x.Set = append([]Destination(nil), x.Set...)
		x.Effective = append([]Destination(nil), x.Effective...)
		r.Routes = append(r.Routes, x)
	}
	return r
}

// ErrInForce is what Drain answers for an address that the table in force
// still routes to.
var ErrInForce = errors.New("the table in force routes to this address")

// DrainError says how many requests were still in flight when Drain gave up.
type DrainError struct {
	Address  string
	InFlight int64
	Cause    error // context.Canceled or context.DeadlineExceeded
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("gateway: draining %s: %d requests still in flight: %v", e.Address, e.InFlight, e.Cause)
}

func (e *DrainError) Unwrap() error { return e.Cause }

// Drain waits until no request is in flight on address, which the table in
// force must not contain (ErrInForce). It returns nil then, and at once for an
// address that it does not know. Ordinary requests are waited for until
// Options.DrainTimeout, upgraded connections and event streams until
// Options.StreamDrainTimeout, after which these are ended; ctx may end the
// wait sooner. What is still in flight then is told by a *DrainError.
func (g *Gateway) Drain(ctx context.Context, address string) error {
	leaving, err := g.retiredOn(address)
	if err != nil {
		return fmt.Errorf("gateway: draining %s: %w", address, err)
	}
	begun := time.Now()
	for _, e := range leaving {
		if err := g.drain(ctx, e, begun); err != nil {
			return err
		}
	}
	return nil
}

// retiredOn gives the retired endpoints at address.
func (g *Gateway) retiredOn(address string) ([]*endpoint, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*endpoint
	for _, s := range g.services {
		for _, v := range s.sorted() {
			for _, e := range v.all() {
				if e.Address != address {
					continue
				}
				if !e.retired.Load() {
					return nil, ErrInForce
				}
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func (g *Gateway) drain(ctx context.Context, e *endpoint, begun time.Time) error {
	ordinary, cancel := context.WithDeadline(ctx, begun.Add(g.o.DrainTimeout))
	defer cancel()
	streams, cancel := context.WithDeadline(ctx, begun.Add(g.o.StreamDrainTimeout))
	defer cancel()
	if g.o.StreamDrainTimeout < g.o.DrainTimeout {
		defer context.AfterFunc(streams, e.endStreams)()
	}
	select {
	case <-e.gone:
		return nil
	case <-ordinary.Done():
	}
	if n := e.inflight.Load() - e.streamCount(); ctx.Err() != nil || n > 0 {
		return e.drainError(ordinary)
	}
	// What is left are streams, which have a longer time.
	select {
	case <-e.gone:
		return nil
	case <-streams.Done():
	}
	if ctx.Err() != nil {
		return e.drainError(ctx)
	}
	e.endStreams()
	last, cancel := context.WithTimeout(ctx, g.o.DrainTimeout)
	defer cancel()
	select {
	case <-e.gone:
		return nil
	case <-last.Done():
		return e.drainError(last)
	}
}

func (e *endpoint) drainError(ctx context.Context) error {
	n := e.inflight.Load()
	if n == 0 {
		return nil
	}
	return &DrainError{Address: e.Address, InFlight: n, Cause: ctx.Err()}
}

// eachEndpoint calls f for every endpoint that is known.
func (g *Gateway) eachEndpoint(f func(*endpoint)) {
	g.mu.Lock()
	services := make([]*serviceState, 0, len(g.services))
	for _, s := range g.services {
		services = append(services, s)
	}
	g.mu.Unlock()
	for _, s := range services {
		for _, v := range s.sorted() {
			for _, e := range v.all() {
				f(e)
			}
		}
	}
}

// sweep closes upstream connections that have been idle for too long.
func (g *Gateway) sweep() {
	defer close(g.swept)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-g.stop:
			return
		case now := <-t.C:
			g.eachEndpoint(func(e *endpoint) { e.pool.sweep(now.Add(-g.o.UpstreamIdle)) })
		}
	}
}
