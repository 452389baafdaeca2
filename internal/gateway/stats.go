package gateway

import "time"

// Snapshot is what the gateway has counted up to Time. Counters are cumulative
// since the endpoint first appeared in a table.
type Snapshot struct {
	Time   time.Time
	Number int64 // of the table in force
	// LE are the upper bounds of all histograms, in milliseconds, rising.
	LE       []float64
	Services []ServiceStats
}

// ServiceStats are the figures of one service.
type ServiceStats struct {
	Name string
	// Unrouted counts requests that were answered by the gateway itself because
	// no version could: 503 where no destination has an endpoint, 404 where no
	// rule matches. They belong to no version.
	Unrouted uint64
	Versions []VersionStats // sorted by name
}

// VersionStats are the figures of one version. A version that has left the
// table stays for Options.KeepGone.
type VersionStats struct {
	Name        string
	Workload    string
	InForce     bool      // is in the table in force, with at least one endpoint
	InFlight    int64     // requests begun and not ended, on retired endpoints too
	Shed        uint64    // requests that went to Overflow because of MaxInFlight; not evidence
	LastRequest time.Time // when a request last began or ended; zero = never
	Endpoints   []EndpointStats
}

// EndpointStats are the figures of one endpoint. Errors <= Requests and
// Count[i] <= Requests hold in every Snapshot.
type EndpointStats struct {
	Replica  string
	Address  string
	Since    time.Time // first appearance in a table
	InForce  bool      // may get new requests
	InFlight int64

	Requests uint64 // ended requests
	Errors   uint64 // answered with 5xx, or Failed
	Failed   uint64 // not answered to the end: no connection, cut, timed out
	Retried  uint64 // attempts here that did nothing and were made again; not in Requests

	// Shielded are repetitions of what failed on another version, Mirrored are
	// copies of requests, MirrorErrors those of them that failed. None of these
	// is in Requests: they are not a sample of what users ask for.
	Shielded     uint64
	Mirrored     uint64
	MirrorErrors uint64

	// Count[i] requests took at most LE[i] milliseconds, from the request's
	// head to the last byte of the answer (to the first one for event streams
	// and upgraded connections). The overflow bucket is Requests.
	Count []uint64
	// SumMs is the sum of the times counted, in milliseconds.
	SumMs float64
}
