package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/hook"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/metric/gatewaystats"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/router/embedded"
	"github.com/serin-dev/serin/internal/workload/versions"
)

// app is one application: its versions, its route, its rollout, and the loop
// that passes over it. The loop alone calls the engine.
type app struct {
	name string
	d    *Daemon
	log  *slog.Logger

	versions *versions.App
	router   *embedded.Router
	samples  *gatewaystats.Source
	engine   *engine.Engine
	store    engine.Store
	inbox    *inbox
	checks   *hook.Runner
	record   *record.Writer
	recordAt string
	gap      bool // the last pass is not in the record

	living context.Context // ends with the daemon's passes, or with the application
	stop   context.CancelFunc
	ended  chan struct{} // closed when the loop has ended

	poke chan struct{} // something has changed: pass now
	// last asks for one more pass, after which finished is closed, see finish.
	last     chan struct{}
	finished chan struct{}

	mu     sync.Mutex
	plan   plan // what the documents say, as last understood
	respec bool // the engine has not taken plan yet
	seen   *seen
	rounds chan struct{} // closed and replaced after each pass

	unreadable error                       // why it is held back: its saved state cannot be read
	trouble    httpapi.Trouble             // of the passes
	unrouted   error                       // why the route of the documents is not in force
	named      map[string]rollout.Revision // whom the route in force means by a label
	replies    map[string]*httpapi.Answer  // what became of commands, by id; nil: not known yet
	replicas   map[string]rollout.Revision // every replica that was seen
}

// seen is the last pass, as it is shown. Where it ended in a panic, err says so
// and the rest is the pass before.
type seen struct {
	result engine.Result
	spec   rollout.Spec
	err    error
	passes uint64
}

// openApp makes an application, with what it was when the process before this one
// ended; held back, if that cannot be read.
func (d *Daemon) openApp(ctx context.Context, p plan) (*app, error) {
	a, err := d.newApp(p)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", p.name, err)
	}
	a.hold(a.resume(ctx))
	return a, nil
}

func (d *Daemon) newApp(p plan) (*app, error) {
	a := &app{
		name: p.name, d: d, log: d.log.With("app", p.name),
		last: make(chan struct{}), finished: make(chan struct{}), ended: make(chan struct{}),
		inbox: &inbox{}, poke: make(chan struct{}, 1), rounds: make(chan struct{}), plan: p,
		replies: map[string]*httpapi.Answer{}, replicas: map[string]rollout.Revision{},
	}
	a.living, a.stop = context.WithCancel(d.running)
	store, err := d.openStore(p.name)
	if err != nil {
		return nil, err
	}
	a.store = store
	a.router = d.board.Router(p.name)
	a.versions = versions.Open(p.name, d.memory.book(p.name), versions.Options{
		Runner: procs{d.sup},
		Save:   func(b versions.Book) error { return d.memory.saveBook(p.name, b) },
	})
	a.samples = gatewaystats.New(gatewaystats.Options{
		Stats: d.board.Stats, Service: a.router.Service, Versions: a.router.Versions, Replicas: a.usage,
	})
	try := checks{app: p.name, dir: d.o.Dir, about: a.addresses, hook: d.hook}
	a.checks = hook.New(a.living, hook.Host{Find: a.test, How: try.how, Go: d.work.Go, Ended: a.wake, Log: a.log})
	if a.record, a.recordAt, err = d.openRecord(p.name); err != nil {
		return nil, err
	}
	if a.engine, err = a.newEngine(p); err != nil {
		_ = a.record.Close()
		return nil, err
	}
	return a, nil
}

// newEngine makes one that goes on from what is saved.
func (a *app) newEngine(p plan) (*engine.Engine, error) {
	return engine.New(p.spec, p.judge, engine.Ports{
		Store: a.store, Workloads: a.versions, Router: a.router, Samples: a.samples,
		Inbox: a.inbox, Preflight: a, Tests: a.checks, Declared: a, Notifier: a,
	}, a.d.o.engine())
}

// resume puts the split of the saved state in force, before anything can ask
// for it.
func (a *app) resume(ctx context.Context) error {
	saved, err := a.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("loading the state of %s: %w", a.name, err)
	}
	p := a.planNow()
	if saved.State.Stable.Revision == "" {
		return nil
	}
	return a.router.Prime(lastSplit(p.spec, saved.State))
}

// lastSplit is the split that a saved state stands for. Decide restates it when
// it is shown nothing; should it want something else, the state's own weight
// holds until the first pass has seen more.
func lastSplit(spec rollout.Spec, st rollout.State) rollout.Traffic {
	d := rollout.Decide(spec, st, rollout.Observation{}, st.LastPass)
	if d.Traffic != nil && d.Traffic.N == st.TrafficN && d.Traffic.Weight == st.Granted {
		return *d.Traffic
	}
	weight := st.Granted
	if st.LiveAt.IsZero() {
		// It may never have been in force, and who could carry it then has to be
		// there again first.
		weight = min(weight, st.Confirmed)
	}
	return rollout.Traffic{N: st.TrafficN, Stable: st.Stable.Revision, Canary: st.Canary.Revision, Weight: weight}
}

// follow takes what the documents say now: versions, route, policy. Everything
// is tried; the error says what could not be done.
func (a *app) follow(p plan) error {
	a.mu.Lock()
	a.plan, a.respec = p, true
	a.mu.Unlock()
	if a.held() != nil {
		a.wake()
		return nil
	}
	err := a.versions.Declare(p.wanted)
	a.routes()
	a.wake()
	return err
}

// routes makes the router's route and declared weights follow the documents and
// the versions that are there and can answer. What keeps it from that is said in
// the log, once, and in the view for as long as it lasts.
func (a *app) routes() {
	a.d.routing.Lock()
	defer a.d.routing.Unlock()
	if a.living.Err() != nil || a.held() != nil {
		return
	}
	err := a.d.safely(a.route)
	a.mu.Lock()
	was := a.unrouted
	a.unrouted = err
	a.mu.Unlock()
	if err != nil && text(err) != text(was) {
		a.log.Warn("the route of the documents is not in force", "err", err)
	}
}

// route is called with the daemon's routing held.
func (a *app) route() error {
	if a.d.isAbsent(a.name) && a.router.Service() == "" {
		return nil // another application has its place
	}
	p := a.planNow()
	names := map[rollout.Revision]string{}
	counts := map[rollout.Revision]int{}
	entries := a.versions.Book().Entries
	for _, e := range entries {
		if !e.Deleted {
			names[e.Revision], counts[e.Revision] = e.Name, max(1, e.Replicas())
		}
	}
	replicas := a.versions.Replicas()
	current := meant(entries, replicas)
	split := declaredSplit(p.declared, current, counts)
	if runs := instead(split, entries); runs != "" {
		split = map[rollout.Revision]rollout.Weight{runs: rollout.Whole}
	}
	var displaced []*embedded.Router
	for _, old := range a.d.displaced(p) {
		if old.router.Service() == "" {
			continue
		}
		if !answered(split, replicas) {
			return fmt.Errorf("%s, whose documents are gone, answers for the same Service or host until a replica of %s is ready", old.name, a.name)
		}
		displaced = append(displaced, old.router)
	}
	route := routeOf(p.doc, current, p.fallback, p.service)
	route.Shield = a.d.o.Shield
	// The weights come first: a route without weights would answer nobody.
	weights := a.router.Declare(split)
	err := a.router.SetRoute(route, names, displaced...)
	if err == nil {
		a.mu.Lock()
		a.named = current
		a.mu.Unlock()
		if len(displaced) > 0 {
			a.d.lookAtAbsent()
		}
	}
	return errors.Join(weights, err)
}

// instead gives whom the documents' weights mean where they send to nobody but
// versions that were retired here: they are of before that, and count only where
// the saved state was lost. Meant is whoever has run for longest. Empty: they
// mean what they say.
func instead(split map[rollout.Revision]rollout.Weight, entries []versions.Entry) rollout.Revision {
	var runs rollout.Revision
	for _, e := range entries {
		switch {
		case split[e.Revision] > 0 && !e.Zero && !e.Deleted:
			return ""
		case runs == "" && e.Replicas() > 0:
			runs = e.Revision
		}
	}
	for _, e := range entries {
		if split[e.Revision] > 0 {
			return runs
		}
	}
	return ""
}

// answered says whether somebody who is to get requests can answer them.
func answered(split map[rollout.Revision]rollout.Weight, replicas map[rollout.Revision][]versions.Replica) bool {
	for rev, w := range split {
		if w > 0 && ready(replicas[rev]) {
			return true
		}
	}
	return false
}

func ready(replicas []versions.Replica) bool {
	return slices.ContainsFunc(replicas, func(r versions.Replica) bool { return r.Ready })
}

// meant gives, by label, the revision that a rule means which names it: the one
// of the documents, or, until that can answer, one before it that can. A rule
// must not be left without anybody because a file was edited.
func meant(entries []versions.Entry, replicas map[rollout.Revision][]versions.Replica) map[string]rollout.Revision {
	current, best := map[string]rollout.Revision{}, map[string]int{}
	for _, e := range entries {
		if e.Deleted {
			continue
		}
		rank := 1
		if ready(replicas[e.Revision]) {
			rank += 2
		}
		if !e.Gone {
			rank++
		}
		if l := e.Revision.Label(); rank >= best[l] {
			current[l], best[l] = e.Revision, rank
		}
	}
	return current
}

// declaredSplit gives the documents' weights by revision. A label without a
// version keeps its weight under a revision of its own, so that it is seen.
// Without weights every version has its share of the replicas, as a Service
// without subsets would send to them.
func declaredSplit(weights map[string]rollout.Weight, current map[string]rollout.Revision, counts map[rollout.Revision]int) map[rollout.Revision]rollout.Weight {
	out := map[rollout.Revision]rollout.Weight{}
	if weights != nil {
		for label, w := range weights {
			r, there := current[label]
			if !there {
				r = rollout.NewRevision(label, "")
			}
			out[r] = w
		}
		return out
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	left := rollout.Whole
	var last rollout.Revision
	for r, n := range counts {
		out[r] = rollout.Whole * rollout.Weight(n) / rollout.Weight(total)
		left -= out[r]
		if r > last {
			last = r
		}
	}
	if last != "" {
		out[last] += left
	}
	return out
}

func (a *app) wake() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// loop passes whenever something has changed or the last pass asked for it.
func (a *app) loop(ctx context.Context) {
	if !a.untilReadable(ctx) {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.last:
			a.engine.SaveNext()
			a.safely(ctx)
			close(a.finished)
			return
		case <-a.poke:
		case <-timer.C:
		}
		wake := a.safely(ctx)
		if ctx.Err() != nil {
			return
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(0, time.Until(wake)))
		}
	}
}

// pass does one pass and what hangs on it.
func (a *app) pass(ctx context.Context) time.Time {
	a.mu.Lock()
	p, respec := a.plan, a.respec
	a.respec = false
	a.mu.Unlock()
	if respec {
		if err := a.engine.Respec(p.spec, p.judge); err != nil {
			a.log.Warn("taking the edited document", "err", err)
		}
	}
	res, err := a.engine.Pass(ctx)
	if ctx.Err() != nil {
		return time.Time{} // what was cut short says nothing about anybody
	}
	a.mu.Lock()
	was := a.seen
	a.note(err)
	a.seen = &seen{result: res, spec: p.spec, err: err, passes: 1}
	if was != nil {
		a.seen.passes += was.passes
		if !res.Decided {
			a.seen.result, a.seen.spec = was.result, was.spec
		}
	}
	a.mu.Unlock()
	a.d.meter.passed(a.name, err)
	if text(err) != "" && (was == nil || text(was.err) != text(err)) {
		a.log.Warn("a pass had trouble", "err", err)
	}
	if res.Decided {
		if res.Taken {
			a.versions.Asked(res.Decision.Scale)
		}
		a.letGo(res)
		a.write(res)
		if len(res.Wrote.Scale) > 0 {
			a.routes()
			a.d.refresh()
		}
	}
	a.d.changed(a)
	// Who waits for this pass is told once its view can be seen.
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keepAnswers(res)
	close(a.rounds)
	a.rounds = make(chan struct{})
	return res.Wake
}

// write adds the pass to the record. A record that cannot be written has a gap,
// which is said once; nothing else depends on it.
func (a *app) write(res engine.Result) {
	err := a.record.Write(res, a.engine.Evidence)
	if err != nil && !a.gap {
		a.log.Warn("the observation record has a gap", "err", err)
	}
	a.gap = err != nil
}

// letGo stops versions that nobody asks for any more, whose traffic was seen
// gone, and to whom the rollout owes nothing.
func (a *app) letGo(res engine.Result) {
	st, route := res.State, res.Seen.Route
	if st.Stable.Revision == "" || route.Known != rollout.Present || st.Phase == "" {
		return
	}
	owed := map[rollout.Revision]bool{st.Stable.Revision: true, st.Canary.Revision: true}
	a.mu.Lock()
	for _, rev := range a.named { // a rule may name it by its label, and whom the documents mean cannot answer yet
		owed[rev] = owed[rev] || a.replaced(rev)
	}
	a.mu.Unlock()
	for _, l := range append(append([]rollout.Leaving(nil), st.Leaving...), st.Retiring...) {
		if !l.Gone {
			owed[l.Revision] = true
		}
	}
	released := false
	for _, e := range a.versions.Book().Entries {
		if !e.Gone || owed[e.Revision] || route.Weights[e.Revision] > 0 || route.InFlight[e.Revision] > 0 {
			continue
		}
		a.log.Info("nobody asks for this version any more and it has no traffic: it is stopped", "revision", e.Revision)
		if err := a.versions.Release(e.Revision); err != nil {
			a.log.Warn("letting go", "revision", e.Revision, "err", err)
		}
		released = true
	}
	if released {
		a.wake()
	}
}

// replaced says whether the documents mean another revision by its label. The
// caller holds mu.
func (a *app) replaced(rev rollout.Revision) bool {
	return slices.ContainsFunc(a.plan.wanted, func(w versions.Wanted) bool {
		return w.Label == rev.Label() && rollout.NewRevision(w.Label, w.Hash) != rev
	})
}

// usage is what the replicas' processes used, for the judge.
func (a *app) usage() map[rollout.Revision][]gatewaystats.Replica {
	byKey := map[string]rollout.Revision{}
	for _, e := range a.versions.Book().Entries {
		byKey[a.versions.Key(e.Revision)] = e.Revision
	}
	out := map[rollout.Revision][]gatewaystats.Replica{}
	for _, r := range a.d.sup.List() {
		rev, ours := byKey[r.Key]
		if !ours {
			continue
		}
		out[rev] = append(out[rev], gatewaystats.Replica{
			Name: r.Name, Started: r.Created, CPUSeconds: r.CPUSeconds, MemoryBytes: r.MemoryBytes, Restarts: r.Restarts,
		})
	}
	return out
}

func (a *app) addresses(rev rollout.Revision) []string {
	var out []string
	for _, r := range a.versions.Replicas()[rev] {
		if r.Ready {
			out = append(out, r.Addr)
		}
	}
	return out
}

func (a *app) test(name string) (v1alpha1.Test, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, there := a.plan.tests[name]
	return t, there
}

// Check is the engine's Preflight: what the documents would make go wrong.
func (a *app) Check(_ context.Context, stable, canary rollout.Revision) ([]rollout.Finding, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.plan.standing(stable != ""), nil
}

// Declared gives the weights of the user's files as last understood.
func (a *app) Declared(context.Context) (*rollout.Declared, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.plan.declared == nil {
		return nil, nil
	}
	return &rollout.Declared{Where: a.plan.where, Weights: maps.Clone(a.plan.declared)}, nil
}

// Tell writes decisions to the log.
func (a *app) Tell(_ context.Context, events []rollout.Event) error {
	a.d.meter.decided(a.name, events)
	for _, e := range events {
		a.log.Info(e.Why, "decision", e.N, "what", string(e.What), "by", e.By, "from", e.From, "to", e.To)
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// planNow is what the documents say, as last understood.
func (a *app) planNow() plan {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.plan
}
