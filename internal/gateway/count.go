package gateway

import (
	"cmp"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// boundsMs are the upper bounds of the latency histograms: Istio's, and finer
// ones where people set limits.
var boundsMs = [...]float64{
	0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600,
	750, 800, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10000, 15000, 20000, 30000, 60000, 120000,
	300000, 600000, 1800000, 3600000,
}

// bucketOf is the index of the first bound that d does not exceed, or
// len(boundsMs).
func bucketOf(d time.Duration) int {
	ms := float64(d) / float64(time.Millisecond)
	lo, hi := 0, len(boundsMs)
	for lo < hi {
		mid := (lo + hi) / 2
		if ms <= boundsMs[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// outcome says how a request ended: the status code that the upstream gave, or
// one of the ends below, in which it gave none or not the whole answer.
type outcome int

const (
	clientGone   outcome = 600 + iota // the client went away before the end
	noConnection                      // no connection to the endpoint
	cut                               // the connection ended before the answer did
	timedOut                          // no answer in time
	grpcFailed                        // answered with 200 and a grpc-status that is the server's fault; plus the status
	outcomes     = grpcFailed + 17
)

// answered is the outcome of an answer with this status. Three digits above 599
// mean nothing: they are counted as one kind of error.
func answered(status int) outcome { return outcome(min(status, 599)) }

func (o outcome) failed() bool { return o == noConnection || o == cut || o == timedOut }
func (o outcome) isError() bool {
	return o.failed() || (o >= 500 && o < 600) || o >= grpcFailed
}

// counters are what one endpoint has done. Adding takes three atomic
// additions; errors are derived when they are read.
type counters struct {
	buckets [len(boundsMs) + 1]atomic.Uint64
	codes   [outcomes]atomic.Uint64
	sumUs   atomic.Uint64
	retried atomic.Uint64

	shielded, mirrored, mirrorErrors atomic.Uint64
}

// add counts one ended request. The bucket is written first and read last, so
// that a reader never sees more errors than requests.
func (c *counters) add(o outcome, d time.Duration) {
	c.buckets[bucketOf(d)].Add(1)
	c.sumUs.Add(uint64(d / time.Microsecond))
	c.codes[o].Add(1)
}

// tally is what counters held at one moment, and a sum of such.
type tally struct {
	codes   map[outcome]uint64
	count   [len(boundsMs) + 1]uint64 // not cumulative
	sumUs   uint64
	retried uint64

	shielded, mirrored, mirrorErrors uint64
}

func (c *counters) read() tally {
	t := tally{codes: map[outcome]uint64{}, retried: c.retried.Load(), shielded: c.shielded.Load()}
	t.mirrorErrors = c.mirrorErrors.Load() // before mirrored, which is counted first
	t.mirrored = c.mirrored.Load()
	for o := range c.codes {
		if n := c.codes[o].Load(); n > 0 {
			t.codes[outcome(o)] = n
		}
	}
	t.sumUs = c.sumUs.Load()
	for i := range c.buckets {
		t.count[i] = c.buckets[i].Load()
	}
	return t
}

func (t *tally) addTally(u tally) {
	if t.codes == nil {
		t.codes = map[outcome]uint64{}
	}
	for o, n := range u.codes {
		t.codes[o] += n
	}
	for i, n := range u.count {
		t.count[i] += n
	}
	t.sumUs += u.sumUs
	t.retried += u.retried
	t.shielded += u.shielded
	t.mirrored += u.mirrored
	t.mirrorErrors += u.mirrorErrors
}

// cumulative gives the counts as Prometheus has them, and the number of all.
func (t *tally) cumulative() (counts []uint64, total uint64) {
	counts = make([]uint64, len(boundsMs))
	for i := range counts {
		total += t.count[i]
		counts[i] = total
	}
	return counts, total + t.count[len(boundsMs)]
}

// serviceState is what is known of a service over all tables.
type serviceState struct {
	name                 string
	place                atomic.Pointer[place] // as the last table has it; read while tables are swapped
	notFound, noEndpoint atomic.Uint64
	goneSince            time.Time // zero while a table has it

	mu       sync.Mutex
	versions map[string]*versionState
}

// place is where a service stands, as metrics name it.
type place struct{ namespace, host string }

// versionState is what is known of a version over all tables.
type versionState struct {
	service  *serviceState
	name     string
	workload atomic.Pointer[string] // as the last table has it
	last     atomic.Int64           // Unix time of the last begin or end, in ns
	turn     atomic.Uint64
	room     room
	shed     atomic.Uint64

	mu        sync.Mutex
	endpoints map[Endpoint]*endpoint // in force; the retired ones are in old
	old       []*endpoint
	folded    tally     // of endpoints that were forgotten
	goneSince time.Time // zero while it has an endpoint in force
}

// serviceState gives the state for ts, made if it is new. Called with g.mu held.
func (g *Gateway) serviceState(ts Service) *serviceState {
	s := g.services[ts.Name]
	if s == nil {
		s = &serviceState{name: ts.Name, versions: map[string]*versionState{}}
		g.services[ts.Name] = s
	}
	at := place{namespace: cmp.Or(ts.Namespace, "default"), host: ts.Name}
	if len(ts.Hosts) > 0 {
		at.host = hostKey(ts.Hosts[0])
	}
	s.place.Store(&at)
	s.goneSince = time.Time{}
	return s
}

func (s *serviceState) versionState(tv Version) *versionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.versions[tv.Name]
	if v == nil {
		v = &versionState{service: s, name: tv.Name, endpoints: map[Endpoint]*endpoint{}}
		s.versions[tv.Name] = v
	}
	workload := cmp.Or(tv.Workload, tv.Name)
	v.workload.Store(&workload)
	return v
}

// touch remembers that the version had a request at t.
func (v *versionState) touch(t time.Time) { v.last.Store(t.UnixNano()) }

// forget drops what has been gone for longer than keep; the requests of
// forgotten endpoints stay in their version's sums. Called with g.mu held.
func (g *Gateway) forget(now time.Time) {
	for name, s := range g.services {
		s.mu.Lock()
		for vn, v := range s.versions {
			if v.forget(now, g.o.KeepGone) {
				delete(s.versions, vn)
			}
		}
		if !s.goneSince.IsZero() && now.Sub(s.goneSince) > g.o.KeepGone && len(s.versions) == 0 {
			delete(g.services, name)
		}
		s.mu.Unlock()
	}
}

// forget drops endpoints, and says whether the version itself may go.
func (v *versionState) forget(now time.Time, keep time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := v.old[:0]
	for _, e := range v.old {
		if e.inflight.Load() > 0 || now.Sub(e.retiredAt) <= keep {
			kept = append(kept, e)
			continue
		}
		v.folded.addTally(e.counters.read())
	}
	clear(v.old[len(kept):])
	v.old = kept
	return len(v.endpoints) == 0 && len(v.old) == 0 && !v.goneSince.IsZero() && now.Sub(v.goneSince) > keep
}

// all gives the version's endpoints, those in force first.
func (v *versionState) all() []*endpoint {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]*endpoint, 0, len(v.endpoints)+len(v.old))
	for _, e := range v.endpoints {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Replica < out[j].Replica })
	return append(out, v.old...)
}

// Stats gives the figures of all services, for the judge.
func (g *Gateway) Stats() Snapshot {
	now := time.Now()
	out := Snapshot{Time: now, Number: g.routing.Load().number, LE: append([]float64(nil), boundsMs[:]...)}
	for _, s := range g.known(now) {
		ss := ServiceStats{Name: s.name, Unrouted: s.notFound.Load() + s.noEndpoint.Load()}
		for _, v := range s.sorted() {
			ss.Versions = append(ss.Versions, v.stats())
		}
		out.Services = append(out.Services, ss)
	}
	return out
}

// known gives the services sorted by name, after forgetting what is long gone.
func (g *Gateway) known(now time.Time) []*serviceState {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(now)
	out := make([]*serviceState, 0, len(g.services))
	for _, s := range g.services {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

func (s *serviceState) sorted() []*versionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*versionState, 0, len(s.versions))
	for _, v := range s.versions {
		out = append(out, v)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

func (v *versionState) stats() VersionStats {
	vs := VersionStats{Name: v.name, Workload: *v.workload.Load(), Shed: v.shed.Load()}
	if n := v.last.Load(); n != 0 {
		vs.LastRequest = time.Unix(0, n)
	}
	for _, e := range v.all() {
		es := e.stats()
		vs.InForce = vs.InForce || es.InForce
		vs.InFlight += es.InFlight
		vs.Endpoints = append(vs.Endpoints, es)
	}
	return vs
}

func (e *endpoint) stats() EndpointStats {
	t := e.counters.read()
	es := EndpointStats{Replica: e.Replica, Address: e.Address, Since: e.since,
		InForce: !e.retired.Load(), InFlight: e.inflight.Load(), Retried: t.retried, SumMs: float64(t.sumUs) / 1000,
		Shielded: t.shielded, Mirrored: t.mirrored, MirrorErrors: t.mirrorErrors}
	for o, n := range t.codes {
		if o.isError() {
			es.Errors += n
		}
		if o.failed() {
			es.Failed += n
		}
	}
	es.Count, es.Requests = t.cumulative()
	return es
}
