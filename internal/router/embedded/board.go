package embedded

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

// Gateway is what the board needs of the data plane.
type Gateway interface {
	Swap(gateway.Table) error
	InForce() gateway.Receipt
	Stats() gateway.Snapshot
}

// Board makes one gateway's table out of all applications' routes, endpoints
// and splits. Its methods, and those of its routers, may be called from several
// goroutines; a change is in force when the call that made it has returned
// without an error.
type Board struct {
	gw Gateway

	mu   sync.Mutex
	n    int64 // number of the last table
	apps map[string]*Router
}

// NewBoard makes a board without applications. The gateway's table is the
// board's alone from now on.
func NewBoard(gw Gateway) *Board {
	return &Board{gw: gw, apps: map[string]*Router{}}
}

// Router gives the router of one application, made when first asked for.
func (b *Board) Router(app string) *Router {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.apps[app]
	if r == nil {
		r = &Router{board: b, app: app, names: map[rollout.Revision]string{}, totals: map[rollout.Revision]*total{}}
		b.apps[app] = r
	}
	return r
}

// Remove takes an application off the table.
func (b *Board) Remove(app string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.apps[app]
	if old == nil {
		return nil
	}
	delete(b.apps, app)
	if err := b.render(); err != nil {
		b.apps[app] = old
		return err
	}
	return nil
}

// SetEndpoints states the endpoints of all applications that may get requests:
// by application and revision. What it leaves out gets no request any more.
func (b *Board) SetEndpoints(all map[string]map[rollout.Revision][]gateway.Endpoint) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := map[string]map[rollout.Revision][]gateway.Endpoint{}
	changed := false
	for app, r := range b.apps {
		was[app] = r.endpoints
		next := all[app]
		if !maps.EqualFunc(r.endpoints, next, slices.Equal) {
			changed = true
		}
		r.endpoints = maps.Clone(next)
	}
	if !changed {
		return nil
	}
	if err := b.render(); err != nil {
		for app, r := range b.apps {
			r.endpoints = was[app]
		}
		return err
	}
	return nil
}

// Stats gives the gateway's figures as of one table: no swap happens meanwhile.
func (b *Board) Stats() gateway.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gw.Stats()
}

// render makes the table and puts it in force. The caller holds mu and takes
// its change back when render fails.
func (b *Board) render() error {
	t := gateway.Table{Number: b.n + 1}
	for _, app := range sortedKeys(b.apps) {
		r := b.apps[app]
		if r.route == nil {
			continue
		}
		s, err := b.service(r)
		if err != nil {
			return fmt.Errorf("routing %s: %w", app, err)
		}
		t.Services = append(t.Services, s)
	}
	if err := b.gw.Swap(t); err != nil {
		return err
	}
	b.n = t.Number
	for _, r := range b.apps {
		r.inForce = r.current
	}
	return nil
}

func (b *Board) service(r *Router) (gateway.Service, error) {
	s := gateway.Service{Name: r.route.Service, Namespace: r.route.Namespace, Hosts: r.route.Hosts, Default: r.route.Default}
	own := r.current.split()
	r.nameAll(own)
	has := map[string]bool{}
	for rev, es := range r.endpoints {
		has[r.name(rev)] = len(es) > 0
	}
	rules, err := r.route.rules(own, r.name, has)
	if err != nil {
		return s, err
	}
	s.Rules = rules
	seen := map[string]bool{}
	add := func(v gateway.Version) {
		if !seen[v.Name] {
			seen[v.Name] = true
			s.Versions = append(s.Versions, v)
		}
	}
	for _, rev := range sortedKeys(r.endpoints) {
		limit := r.route.limit(rev)
		v := gateway.Version{Name: r.name(rev), Workload: r.workloads[rev], Endpoints: sortedEndpoints(r.endpoints[rev]),
			H2C: r.route.H2C, MaxInFlight: limit.InFlight, MaxWaiting: limit.Waiting}
		if limit.InFlight > 0 && own.stable != "" && own.stable != rev {
			v.Overflow = r.name(own.stable)
		}
		add(v)
	}
	for _, rule := range rules { // named by a rule, and without a replica
		for _, d := range rule.Split {
			add(gateway.Version{Name: d.Version})
		}
		for _, m := range rule.Mirrors {
			add(gateway.Version{Name: m.Version})
		}
		if rule.Shield != "" {
			add(gateway.Version{Name: rule.Shield})
		}
	}
	for _, v := range s.Versions {
		if v.Overflow != "" {
			add(gateway.Version{Name: v.Overflow})
		}
	}
	return s, nil
}

func sortedEndpoints(es []gateway.Endpoint) []gateway.Endpoint {
	es = slices.Clone(es)
	sort.Slice(es, func(a, b int) bool {
		if es[a].Replica != es[b].Replica {
			return es[a].Replica < es[b].Replica
		}
		return es[a].Address < es[b].Address
	})
	return es
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
