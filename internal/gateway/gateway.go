package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
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

	// DrainTimeout bounds how long Drain waits for ordinary requests; 30 s if 0.
	DrainTimeout time.Duration
	// StreamDrainTimeout bounds how long Drain waits for upgraded connections
	// and event streams before it closes them; 5 min if 0.
	StreamDrainTimeout time.Duration
	// DialTimeout bounds connecting to an endpoint; 5 s if 0.
	DialTimeout time.Duration
	// UpstreamIdle is how long an idle upstream connection is kept. It must be
	// shorter than the application's own; 4 s if 0.
	UpstreamIdle time.Duration
	// KeepGone is how long the figures of a version or endpoint that left the
	// table are kept; 15 min if 0.
	KeepGone time.Duration
}

// ErrInForce is what Drain answers for an address that the table in force
// still routes to.
var ErrInForce = errors.New("gateway: the table in force routes to this address")

// Gateway routes requests by the table in force. All methods are safe for
// concurrent use.
type Gateway struct{}

// New makes a Gateway with an empty table: every request is answered with 404
// until the first Swap. Close or Shutdown frees what it holds.
func New(o Options) *Gateway { panic("being written") }

// Swap checks t and puts it in force, whole or not at all. When it returns nil,
// no request begins any more on an endpoint that t leaves out. A bad table
// leaves the last good one in force; the error is a *TableError that names
// every problem with the field's path.
func (g *Gateway) Swap(t Table) error { panic("being written") }

// Validate gives the problems for which Swap would refuse t, or nil.
func (t Table) Validate() error { panic("being written") }

// TableError lists what is wrong with a table, one "path: problem" each.
type TableError struct{ Problems []string }

func (e *TableError) Error() string { panic("being written") }

// InForce is the receipt: the table that new requests follow.
func (g *Gateway) InForce() Receipt { panic("being written") }

// Drain waits until no request is in flight on address, which the table in
// force must not contain (ErrInForce). It returns nil then, and at once for an
// address that it does not know. Ordinary requests are waited for until
// Options.DrainTimeout, upgraded connections and event streams until
// Options.StreamDrainTimeout, after which these are closed; ctx may end the
// wait sooner. What is still in flight then is told by a *DrainError.
func (g *Gateway) Drain(ctx context.Context, address string) error { panic("being written") }

// DrainError says how many requests were still in flight when Drain gave up.
type DrainError struct {
	Address  string
	InFlight int64
	Cause    error // context.Canceled, context.DeadlineExceeded
}

func (e *DrainError) Error() string { panic("being written") }
func (e *DrainError) Unwrap() error { return e.Cause }

// Stats gives the figures of all services, for the judge.
func (g *Gateway) Stats() Snapshot { panic("being written") }

// Metrics serves the same figures in Prometheus' text format, under the names
// and labels of Istio's standard metrics (istio_requests_total,
// istio_request_duration_milliseconds). It belongs on a listener of its own.
func (g *Gateway) Metrics() http.Handler { panic("being written") }

// ServeHTTP routes one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("being written") }

// Serve accepts connections on l until Shutdown or Close; it then returns
// http.ErrServerClosed. It may be called for several listeners.
func (g *Gateway) Serve(l net.Listener) error { panic("being written") }

// Shutdown stops accepting, waits for the requests in flight (upgraded
// connections included) until ctx ends, and frees everything.
func (g *Gateway) Shutdown(ctx context.Context) error { panic("being written") }

// Close ends everything at once.
func (g *Gateway) Close() error { panic("being written") }
