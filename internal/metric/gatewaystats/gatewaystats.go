// Package gatewaystats is the judge's source on one machine: what the gateway
// counted for every replica, beside the processor time and memory that the
// replica's processes used. It needs no metrics server and sees every request.
//
// # Nouns
//
// A replica is one place in a version; it keeps its name when its process is
// started again on another port. An endpoint is one address of a replica in the
// gateway's table. A [Source] adds up a replica's endpoints, so that the
// judge's counters of a replica never fall while the replica lives: what a
// process did in the moment before it crashed is counted like everything else.
//
// # Invariants
//
//   - Every request that the gateway counted for a replica is in its counters
//     from the next look on, exactly once.
//   - Counters of a replica never fall between two looks.
//   - What was not measured is missing in a pod's Has; it is never zero.
//
// # Example
//
//	s := gatewaystats.New(gatewaystats.Options{
//		Stats: gw.Stats, Service: router.Service, Versions: router.Versions, Replicas: replicas,
//	})
//	look, err := s.Look(ctx, stable, canary)
package gatewaystats

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

// Replica is what is known of a replica beside its requests.
type Replica struct {
	Name        string    // as the gateway's endpoints have it
	Started     time.Time // when its counters began at zero; not its last restart
	CPUSeconds  float64   // over all its runs; 0 = not measured
	MemoryBytes int64     // 0 = not measured
	Restarts    int
}

// Options say where the figures come from. All are needed, and all are cheap.
type Options struct {
	Stats func() gateway.Snapshot
	// Service is the application's name in the snapshot; empty: not routed yet.
	Service func() string
	// Versions gives the names of the revisions in the snapshot.
	Versions func() map[rollout.Revision]string
	// Replicas lists the replicas that run, by revision.
	Replicas func() map[rollout.Revision][]Replica
}

// Source implements engine.Samples for one application.
type Source struct {
	o Options

	mu   sync.Mutex
	sums map[replicaKey]*sum
}

type replicaKey struct {
	revision rollout.Revision
	replica  string
}

// sum adds up the endpoints of a replica.
type sum struct {
	started          time.Time // of the replica that has the name now
	requests, errors float64
	count            []float64
	endpoints        map[endpointKey]gateway.EndpointStats // as last seen
}

type endpointKey struct {
	address string
	since   time.Time
}

// New makes a source that has counted nothing yet.
func New(o Options) *Source { return &Source{o: o, sums: map[replicaKey]*sum{}} }

// Look gives the counters of both versions as of one snapshot of the gateway.
func (s *Source) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	if err := ctx.Err(); err != nil {
		return engine.Sampled{}, err
	}
	service := s.o.Service()
	if service == "" {
		return engine.Sampled{}, errors.New("the gateway does not route this application yet")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	snapshot, replicas := s.o.Stats(), s.o.Replicas()
	s.renew(replicas)
	s.add(snapshot, service)
	s.forget(replicas)
	return engine.Sampled{
		Stable: s.pods(stable, snapshot.LE, replicas[stable]),
		Canary: s.pods(canary, snapshot.LE, replicas[canary]),
	}, nil
}

// renew begins at zero for a replica that has got the name of one before it.
func (s *Source) renew(replicas map[rollout.Revision][]Replica) {
	for r, list := range replicas {
		for _, rep := range list {
			if u := s.of(replicaKey{r, rep.Name}); !u.started.Equal(rep.Started) {
				*u = sum{started: rep.Started}
			}
		}
	}
}

// add takes what was counted since the last look.
func (s *Source) add(snapshot gateway.Snapshot, service string) {
	revisions := map[string]rollout.Revision{}
	for r, name := range s.o.Versions() {
		revisions[name] = r
	}
	seen := map[replicaKey]map[endpointKey]gateway.EndpointStats{}
	for _, svc := range snapshot.Services {
		if svc.Name != service {
			continue
		}
		for _, v := range svc.Versions {
			r, known := revisions[v.Name]
			if !known {
				continue
			}
			for _, e := range v.Endpoints {
				k := replicaKey{r, e.Replica}
				if u := s.of(k); !e.Since.Before(u.started) { // else: of a replica before, of this name
					u.endpoint(e)
				}
				if seen[k] == nil {
					seen[k] = map[endpointKey]gateway.EndpointStats{}
				}
				seen[k][endpointKey{e.Address, e.Since}] = e
			}
		}
	}
	for k, u := range s.sums {
		u.endpoints = seen[k]
	}
}

func (s *Source) of(k replicaKey) *sum {
	if s.sums[k] == nil {
		s.sums[k] = &sum{}
	}
	return s.sums[k]
}

func (u *sum) endpoint(e gateway.EndpointStats) {
	last := u.endpoints[endpointKey{e.Address, e.Since}]
	u.requests += rise(last.Requests, e.Requests)
	u.errors += rise(last.Errors, e.Errors)
	if u.count == nil {
		u.count = make([]float64, len(e.Count))
	}
	for i := range min(len(u.count), len(e.Count)) {
		before := uint64(0)
		if i < len(last.Count) {
			before = last.Count[i]
		}
		u.count[i] += rise(before, e.Count[i])
	}
}

func rise(before, now uint64) float64 {
	if now < before {
		return 0
	}
	return float64(now - before)
}

// forget drops what was counted for replicas that are gone and whose endpoints
// the gateway has forgotten too.
func (s *Source) forget(replicas map[rollout.Revision][]Replica) {
	for k, u := range s.sums {
		alive := slices.ContainsFunc(replicas[k.revision], func(r Replica) bool { return r.Name == k.replica })
		if !alive && len(u.endpoints) == 0 {
			delete(s.sums, k)
		}
	}
}

func (s *Source) pods(r rollout.Revision, le []float64, replicas []Replica) []analysis.Pod {
	var out []analysis.Pod
	for _, rep := range replicas {
		p := analysis.Pod{
			Name: rep.Name, Started: rep.Started, Restarts: float64(rep.Restarts),
			Has: analysis.HasRequests | analysis.HasErrors | analysis.HasLatency | analysis.HasRestarts,
		}
		p.Latency = analysis.Histogram{LE: slices.Clone(le), Count: make([]float64, len(le))}
		if u := s.sums[replicaKey{r, rep.Name}]; u != nil {
			p.Requests, p.Errors = u.requests, u.errors
			copy(p.Latency.Count, u.count)
		}
		if rep.CPUSeconds > 0 {
			p.Has |= analysis.HasCPU
			p.CPUSeconds = rep.CPUSeconds
		}
		if rep.MemoryBytes > 0 {
			p.Has |= analysis.HasMemory
			p.MemoryBytes = float64(rep.MemoryBytes)
		}
		out = append(out, p)
	}
	return out
}
