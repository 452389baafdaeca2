package embedded

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

// Router is the engine's port for one application of a [Board].
type Router struct {
	board *Board
	app   string

	// Everything below is the board's to lock.
	route     *Route
	current   held // what is to be in force
	inForce   held // what the last table that the gateway took has
	endpoints map[rollout.Revision][]gateway.Endpoint
	workloads map[rollout.Revision]string
	names     map[rollout.Revision]string // as the gateway calls them
	totals    map[rollout.Revision]*total
}

// held is a split and where it comes from.
type held struct {
	declared map[rollout.Revision]rollout.Weight // while nothing of ours is in force
	applied  *rollout.Traffic
}

func (h held) split() split {
	if h.applied != nil {
		t := *h.applied
		s := split{stable: t.Stable, canary: t.Canary, match: t.Match}
		for _, rev := range sortedKeys(t.Weights()) {
			s.parts = append(s.parts, part{rev, t.Weights()[rev]})
		}
		return s
	}
	s := split{}
	for _, rev := range sortedKeys(h.declared) {
		s.parts = append(s.parts, part{rev, h.declared[rev]})
		if s.stable == "" || h.declared[rev] > h.declared[s.stable] {
			s.stable = rev
		}
	}
	return s
}

// change makes one change and puts it in force, or takes it back. It may change
// others too.
func (r *Router) change(do func(), others ...*Router) error {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	changed := append([]*Router{r}, others...)
	were := make([]Router, len(changed))
	for i, c := range changed {
		were[i] = *c
	}
	do()
	if err := r.board.render(); err != nil {
		for i, c := range changed {
			c.route, c.current, c.workloads = were[i].route, were[i].current, were[i].workloads
		}
		return err
	}
	return nil
}

// SetRoute states what the documents say, instead of what others' do: these lose
// their routes in the same swap. An error means that all routes are in force as
// before.
func (r *Router) SetRoute(route Route, workloads map[rollout.Revision]string, instead ...*Router) error {
	r.board.mu.Lock()
	same := r.route != nil && reflect.DeepEqual(*r.route, route) && maps.Equal(r.workloads, workloads)
	for _, o := range instead {
		same = same && o.route == nil
	}
	r.board.mu.Unlock()
	if same {
		return nil
	}
	return r.change(func() {
		r.route, r.workloads = &route, maps.Clone(workloads)
		for _, o := range instead {
			o.route = nil
		}
	}, instead...)
}

// Declare states the weights of the documents, which are in force as long as
// nothing was primed or applied.
func (r *Router) Declare(weights map[rollout.Revision]rollout.Weight) error {
	r.board.mu.Lock()
	same := r.current.declared != nil && maps.Equal(r.current.declared, weights)
	r.board.mu.Unlock()
	if same {
		return nil
	}
	return r.change(func() { r.current.declared = maps.Clone(weights) })
}

// Prime puts in force again what was in force when the process before this one
// ended.
func (r *Router) Prime(last rollout.Traffic) error {
	return r.change(func() { r.current.applied = &last })
}

// Observe reports the split in force, with its note unless it is only declared.
// The receipt is the number of the decision that it belongs to.
func (r *Router) Observe(ctx context.Context) (rollout.Route, error) {
	if err := ctx.Err(); err != nil {
		return rollout.Route{}, err
	}
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	if r.route == nil {
		return rollout.Route{Known: rollout.Absent}, nil
	}
	out := rollout.Route{Known: rollout.Present, HasReceipt: true, Measured: true}
	if t := r.inForce.applied; t != nil {
		note := t.Note()
		note.Condemned = slices.Clone(note.Condemned)
		out.Weights, out.Note, out.Receipt = t.Weights(), &note, t.N
	} else {
		out.Weights = maps.Clone(r.inForce.declared)
	}
	if r.board.gw.InForce().Number != r.board.n {
		out.Receipt = 0 // somebody else has swapped the table: nothing is certain
	}
	r.count(r.board.gw.Stats())
	out.Requests = map[rollout.Revision]float64{}
	out.InFlight = map[rollout.Revision]int{}
	out.Last = map[rollout.Revision]time.Time{}
	for rev, t := range r.totals {
		out.Requests[rev], out.InFlight[rev] = t.requests, t.inFlight
		if !t.last.IsZero() {
			out.Last[rev] = t.last
		}
	}
	return out, nil
}

// Apply puts the whole split in force in one swap. There is nobody else who
// writes the table, so it never conflicts.
func (r *Router) Apply(ctx context.Context, want rollout.Traffic) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.board.mu.Lock()
	same := r.inForce.applied != nil && reflect.DeepEqual(*r.inForce.applied, want)
	routed := r.route != nil
	r.board.mu.Unlock()
	if !routed {
		return fmt.Errorf("routing %s: %w", r.app, engine.ErrNotFound)
	}
	if same {
		return nil
	}
	want.Keep, want.Condemned = slices.Clone(want.Keep), slices.Clone(want.Condemned)
	return r.change(func() { r.current.applied = &want })
}

// Versions gives the names under which the gateway counts the revisions.
func (r *Router) Versions() map[rollout.Revision]string {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	return maps.Clone(r.names)
}

// Service is the name under which the gateway counts the application; empty
// while it has no route.
func (r *Router) Service() string {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	if r.route == nil {
		return ""
	}
	return r.route.Service
}

// nameAll gives every revision that this table names a name, which it keeps as
// long as anything refers to it: figures are counted under it.
func (r *Router) nameAll(own split) {
	wanted := map[rollout.Revision]bool{own.stable: true, own.canary: true}
	for _, p := range own.parts {
		wanted[p.revision] = true
	}
	for rev := range r.endpoints {
		wanted[rev] = true
	}
	for rev := range r.workloads {
		wanted[rev] = true
	}
	for _, rule := range r.route.Rules {
		for _, s := range rule.Shares {
			wanted[s.Revision] = true
		}
		for _, m := range rule.Mirrors {
			wanted[m.Revision] = true
		}
	}
	for rev := range r.names {
		if !wanted[rev] && (r.totals[rev] == nil || r.totals[rev].inFlight == 0) {
			delete(r.names, rev)
			delete(r.totals, rev)
		}
	}
	for _, rev := range sortedKeys(wanted) {
		if rev != "" {
			r.name(rev)
		}
	}
}

// name is what the gateway calls a revision: its label, or label and hash where
// the label is taken.
func (r *Router) name(rev rollout.Revision) string {
	if rev == "" {
		return "none"
	}
	if n, ok := r.names[rev]; ok {
		return n
	}
	n := rev.Label()
	for other, taken := range r.names {
		if taken == n && other != rev {
			n = string(rev)
			break
		}
	}
	r.names[rev] = n
	return n
}

// total sums a version's requests over endpoints that come and go.
type total struct {
	requests float64
	inFlight int
	last     time.Time
	seen     map[endpointKey]uint64
}

type endpointKey struct {
	replica, address string
	since            time.Time
}

func (r *Router) count(s gateway.Snapshot) {
	byName := map[string]rollout.Revision{}
	for rev, n := range r.names {
		byName[n] = rev
	}
	for _, service := range s.Services {
		if r.route == nil || service.Name != r.route.Service {
			continue
		}
		for _, v := range service.Versions {
			rev, known := byName[v.Name]
			if !known {
				continue
			}
			t := r.totals[rev]
			if t == nil {
				t = &total{seen: map[endpointKey]uint64{}}
				r.totals[rev] = t
			}
			t.inFlight, t.last = int(v.InFlight), v.LastRequest
			now := make(map[endpointKey]uint64, len(v.Endpoints))
			for _, e := range v.Endpoints {
				k := endpointKey{e.Replica, e.Address, e.Since}
				now[k] = e.Requests
				t.requests += float64(e.Requests - min(t.seen[k], e.Requests))
			}
			t.seen = now
		}
	}
}

// Withdraw takes the route away: the application is not answered for any more.
func (r *Router) Withdraw() error { return r.change(func() { r.route = nil }) }
