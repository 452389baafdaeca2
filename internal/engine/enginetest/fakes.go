package enginetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Clock is a time that stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock starts at an instant.
func NewClock(at time.Time) *Clock { return &Clock{now: at} }

// Now is the time.
func (c *Clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

// Set moves to an instant, forwards or backwards.
func (c *Clock) Set(to time.Time) { c.mu.Lock(); defer c.mu.Unlock(); c.now = to }

// Advance moves by so much.
func (c *Clock) Advance(by time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(by) }

// Store keeps Saved in memory, as the bytes that a real one would write.
type Store struct {
	Faults *Faults

	mu      sync.Mutex
	version int
	bytes   []byte
}

// Writes counts the copies that were stored.
func (s *Store) Writes() int { s.mu.Lock(); defer s.mu.Unlock(); return s.version }

// Load implements engine.Store.
func (s *Store) Load(ctx context.Context) (engine.Saved, error) {
	var saved engine.Saved
	err := s.Faults.around(ctx, "store.load", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.version == 0 {
			return nil
		}
		if err := json.Unmarshal(s.bytes, &saved); err != nil {
			return err
		}
		saved.Version = strconv.Itoa(s.version)
		return nil
	})
	return saved, err
}

// Save implements engine.Store.
func (s *Store) Save(ctx context.Context, saved engine.Saved) (string, error) {
	var version string
	err := s.Faults.around(ctx, "store.save", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		have := ""
		if s.version > 0 {
			have = strconv.Itoa(s.version)
		}
		if saved.Version != have {
			return fmt.Errorf("version %q is stored, %q was read: %w", have, saved.Version, engine.ErrConflict)
		}
		saved.Version = ""
		b, err := json.Marshal(saved)
		if err != nil {
			return err
		}
		s.bytes, s.version = b, s.version+1
		version = strconv.Itoa(s.version)
		return nil
	})
	return version, err
}

// Version is one version of the workload, as a test arranges it.
type Version struct {
	rollout.Workload
	NeverReady bool
	Errors     float64       // share of its requests that fail
	Slow       float64       // share of its requests that take 900 ms instead of 20
	Silent     bool          // its figures cannot be read
	Started    time.Time     // of its oldest replica
	StartsIn   time.Duration // how long a replica takes to be ready; 0 = at once

	asked time.Time // when Replicas was last raised
	was   int       // how many were there before
}

// Workloads are versions in memory. Replicas come up StartsIn after they were
// asked for, by the clock.
type Workloads struct {
	Faults *Faults
	Clock  *Clock

	mu     sync.Mutex
	all    []*Version
	writes int
}

// Add adds a version that was made now, with its replicas on their way.
func (w *Workloads) Add(v Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.Since = cmp.Or(v.Since, w.Clock.Now())
	v.Started, v.asked = w.Clock.Now(), w.Clock.Now()
	v.Name = cmp.Or(v.Name, "my-app-"+v.Revision.Label())
	v.UID = cmp.Or(v.UID, "uid-"+string(v.Revision))
	v.Generation = cmp.Or(v.Generation, 1)
	w.all = append(w.all, &v)
}

// Change changes a version in place. It must not call other methods.
func (w *Workloads) Change(r rollout.Revision, f func(*Version)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.all {
		if v.Revision == r {
			f(v)
		}
	}
}

// Remove takes a version away altogether.
func (w *Workloads) Remove(r rollout.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = slices.DeleteFunc(w.all, func(v *Version) bool { return v.Revision == r })
}

// Writes counts what was really changed.
func (w *Workloads) Writes() int { w.mu.Lock(); defer w.mu.Unlock(); return w.writes }

func (w *Workloads) find(r rollout.Revision) *Version {
	for _, v := range w.all {
		if v.Revision == r {
			return v
		}
	}
	return nil
}

func (w *Workloads) ready(v *Version) int {
	switch {
	case v.NeverReady:
		return 0
	case w.Clock.Now().Sub(v.asked) < v.StartsIn:
		return min(v.was, v.Replicas)
	}
	return v.Replicas
}

// Ready is how many replicas of a version answer now.
func (w *Workloads) Ready(r rollout.Revision) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := w.find(r); v != nil {
		return w.ready(v)
	}
	return 0
}

// Observe implements engine.Workloads.
func (w *Workloads) Observe(ctx context.Context) (rollout.Workloads, error) {
	seen := rollout.Workloads{Known: rollout.Absent}
	err := w.Faults.around(ctx, "workloads.observe", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, v := range w.all {
			one := v.Workload
			one.Ready, one.ReadyKnown = w.ready(v), true
			if v.HPA != nil {
				hpa := *v.HPA
				one.HPA = &hpa
			}
			seen.Known = rollout.Present
			seen.Items = append(seen.Items, one)
		}
		return nil
	})
	return seen, err
}

// Apply implements engine.Workloads.
func (w *Workloads) Apply(ctx context.Context, want []rollout.Scale) error {
	return w.Faults.around(ctx, "workloads.apply", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		var errs []error
		for _, s := range want {
			v := w.find(s.Revision)
			if v == nil {
				errs = append(errs, fmt.Errorf("version %s: %w", s.Revision, engine.ErrNotFound))
				continue
			}
			w.apply(v, s)
		}
		return errors.Join(errs...)
	})
}

func (w *Workloads) apply(v *Version, s rollout.Scale) {
	changed := false
	set := func(changes bool, do func()) {
		if changes {
			do()
			changed = true
		}
	}
	set(s.Mark == rollout.Condemned && !v.Condemned, func() { v.Condemned = true })
	set(s.Mark == rollout.Retired && !v.Retired, func() { v.Retired = true })
	set(s.HPA != "" && v.HPA != nil && v.HPA.Name == s.HPA && v.HPA.Min != s.HPAMin, func() { v.HPA.Min = s.HPAMin })
	switch {
	case s.Delete:
		w.all = slices.DeleteFunc(w.all, func(o *Version) bool { return o == v })
		changed = true
	case s.Zero:
		set(v.Replicas != 0, func() { v.was, v.Replicas = 0, 0 })
	default:
		set(v.Replicas < s.Min, func() {
			v.was, v.Replicas, v.asked = w.ready(v), s.Min, w.Clock.Now()
		})
	}
	if changed {
		w.writes++
	}
}

// Router is a route in memory with traffic on it: PerSecond requests, split
// exactly by the weights, counted by the clock.
type Router struct {
	Faults    *Faults
	Clock     *Clock
	PerSecond float64
	// Receipt: the route says itself which decision is in force.
	Receipt bool
	// Lag is how long a write takes to be in force.
	Lag time.Duration
	// OnChange is called with every split that comes in force; it must not call
	// the router.
	OnChange func(map[rollout.Revision]rollout.Weight)

	mu       sync.Mutex
	exists   bool
	weights  map[rollout.Revision]rollout.Weight
	note     *rollout.Note
	manager  string
	match    *rollout.Match
	keep     []rollout.Revision
	version  int // of the route, as the API server counts
	observed int // the version that was last observed

	effective map[rollout.Revision]rollout.Weight
	inForceN  int
	changedAt time.Time
	counted   time.Time
	requests  map[rollout.Revision]float64
	last      map[rollout.Revision]time.Time
	history   []Change
}

// Change is one change of the split.
type Change struct {
	At      time.Time
	By      string
	Weights map[rollout.Revision]rollout.Weight
}

// NewRouter makes a route as a user wrote it, which sends to the weights given.
func NewRouter(clock *Clock, perSecond float64, weights map[rollout.Revision]rollout.Weight) *Router {
	return &Router{
		Clock: clock, PerSecond: perSecond, exists: true, manager: "kubectl",
		weights: maps.Clone(weights), effective: maps.Clone(weights), counted: clock.Now(), version: 1,
		requests: map[rollout.Revision]float64{}, last: map[rollout.Revision]time.Time{},
	}
}

// count brings the counters up to now, and a write in force whose lag is over.
func (r *Router) count() {
	now := r.Clock.Now()
	until := now
	lagging := !sameSplit(r.effective, r.weights) || r.note != nil && r.inForceN != r.note.N
	if due := r.changedAt.Add(r.Lag); lagging && !due.After(now) {
		until = due
	} else {
		lagging = false
	}
	r.serve(until)
	if lagging {
		r.effective = maps.Clone(r.weights)
		if r.note != nil {
			r.inForceN = r.note.N
		}
		if r.OnChange != nil {
			r.OnChange(maps.Clone(r.effective))
		}
		r.serve(now)
	}
}

func (r *Router) serve(until time.Time) {
	d := until.Sub(r.counted).Seconds()
	if d <= 0 || !r.exists {
		r.counted = until
		return
	}
	for rev, w := range r.effective {
		if n := d * r.PerSecond * float64(w) / float64(rollout.Whole); n > 0 {
			r.requests[rev] += n
			r.last[rev] = until
		}
	}
	r.counted = until
}

// Hand changes the weights as somebody else would: the note stays.
func (r *Router) Hand(by string, weights map[rollout.Revision]rollout.Weight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count()
	r.weights, r.manager, r.exists = maps.Clone(weights), by, true
	r.changed(by)
}

// Replace writes the route as a tool does that knows nothing of notes.
func (r *Router) Replace(by string, weights map[rollout.Revision]rollout.Weight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count()
	r.weights, r.note, r.match, r.keep, r.manager, r.exists = maps.Clone(weights), nil, nil, nil, by, true
	r.changed(by)
}

// Remove deletes the route.
func (r *Router) Remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count()
	r.exists, r.weights, r.effective, r.note = false, nil, nil, nil
	r.changed("kubectl")
}

func (r *Router) changed(by string) {
	r.version++
	r.changedAt = r.Clock.Now()
	r.history = append(r.history, Change{At: r.changedAt, By: by, Weights: maps.Clone(r.weights)})
	r.count()
}

// History lists every change of the route, ours and others'.
func (r *Router) History() []Change { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.history) }

// Writes counts the writes of the engine that changed something.
func (r *Router) Writes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.history {
		if c.By == "serin" {
			n++
		}
	}
	return n
}

// Requests is how many requests a version has answered so far.
func (r *Router) Requests(rev rollout.Revision) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count()
	return r.requests[rev]
}

// Split is the split as written, and as in force.
func (r *Router) Split() (written, effective map[rollout.Revision]rollout.Weight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count()
	return maps.Clone(r.weights), maps.Clone(r.effective)
}

// Match is the match in the route.
func (r *Router) Match() *rollout.Match { r.mu.Lock(); defer r.mu.Unlock(); return r.match }

// Observe implements engine.Router.
func (r *Router) Observe(ctx context.Context) (rollout.Route, error) {
	var seen rollout.Route
	err := r.Faults.around(ctx, "router.observe", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count()
		r.observed = r.version
		if !r.exists {
			seen = rollout.Route{Known: rollout.Absent}
			return nil
		}
		seen = rollout.Route{
			Known: rollout.Present, Weights: maps.Clone(r.weights), Manager: r.manager,
			Measured: true, Requests: maps.Clone(r.requests), Last: maps.Clone(r.last),
			InFlight: map[rollout.Revision]int{},
		}
		if r.note != nil {
			note := *r.note
			seen.Note = &note
		}
		if r.Receipt {
			seen.HasReceipt, seen.Receipt = true, r.inForceN
		}
		return nil
	})
	return seen, err
}

// Apply implements engine.Router.
func (r *Router) Apply(ctx context.Context, want rollout.Traffic) error {
	return r.Faults.around(ctx, "router.apply", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count()
		if !r.exists {
			return fmt.Errorf("the route: %w", engine.ErrNotFound)
		}
		if r.observed != r.version {
			return fmt.Errorf("the route is at version %d, %d was observed: %w", r.version, r.observed, engine.ErrConflict)
		}
		note := want.Note()
		if r.note != nil && equalJSON(note, *r.note) && sameSplit(r.weights, want.Weights()) &&
			equalJSON(r.match, want.Match) && equalJSON(r.keep, want.Keep) {
			return nil
		}
		r.weights, r.note, r.manager = want.Weights(), &note, "serin"
		r.match, r.keep = want.Match, slices.Clone(want.Keep)
		r.changed("serin")
		r.observed = r.version
		return nil
	})
}

func sameSplit(a, b map[rollout.Revision]rollout.Weight) bool {
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	for k := range b {
		if a[k] != b[k] {
			return false
		}
	}
	return true
}

func equalJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// Samples are the figures that the versions' replicas have counted of the
// router's traffic.
type Samples struct {
	Faults    *Faults
	Workloads *Workloads
	Router    *Router
	// Values of custom metrics: name, version label, value.
	Values map[string]map[string]float64
	// Down: the source gives nothing.
	Down bool

	mu     sync.Mutex
	scored map[rollout.Revision]float64
	counts map[rollout.Revision][]counted
}

// counted is what one replica has counted since it started.
type counted struct {
	started                time.Time
	requests, errors, slow float64
}

var bounds = []float64{5, 25, 100, 500, 1000}

// Look implements engine.Samples.
func (s *Samples) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	var seen engine.Sampled
	err := s.Faults.around(ctx, "samples.look", func() error {
		if s.Down {
			return errors.New("the source of the figures does not answer")
		}
		seen.Stable = s.pods(stable)
		if canary != "" {
			seen.Canary = s.pods(canary)
		}
		for _, name := range slices.Sorted(maps.Keys(s.Values)) {
			reading := func(r rollout.Revision) analysis.Reading {
				if v, ok := s.Values[name][r.Label()]; ok && r != "" {
					return analysis.Reading{Answer: analysis.Number, Value: v}
				}
				return analysis.Reading{}
			}
			seen.Custom = append(seen.Custom, analysis.Custom{Name: name, Stable: reading(stable), Canary: reading(canary)})
		}
		return nil
	})
	return seen, err
}

func (s *Samples) pods(r rollout.Revision) []analysis.Pod {
	requests := s.Router.Requests(r)
	s.Workloads.mu.Lock()
	defer s.Workloads.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.Workloads.find(r)
	if v == nil || v.Silent {
		return nil
	}
	n := s.Workloads.ready(v)
	if n == 0 {
		return nil
	}
	if s.counts == nil {
		s.counts, s.scored = map[rollout.Revision][]counted{}, map[rollout.Revision]float64{}
	}
	all := s.counts[r]
	for len(all) < n {
		started := s.Workloads.Clock.Now()
		if len(all) == 0 || requests == 0 {
			started = v.Started
		}
		all = append(all, counted{started: started})
	}
	s.counts[r] = all
	fresh := (requests - s.scored[r]) / float64(n)
	s.scored[r] = requests
	pods := make([]analysis.Pod, 0, n)
	for i := range n {
		c := &all[i]
		c.requests, c.errors, c.slow = c.requests+fresh, c.errors+fresh*v.Errors, c.slow+fresh*v.Slow
		quick := c.requests - c.slow
		pods = append(pods, analysis.Pod{
			Name:     fmt.Sprintf("%s-%c", r.Label(), 'a'+i),
			Started:  c.started,
			Has:      analysis.HasRequests | analysis.HasErrors | analysis.HasLatency | analysis.HasCPU | analysis.HasMemory | analysis.HasRestarts,
			Requests: c.requests, Errors: c.errors,
			Latency:    analysis.Histogram{LE: bounds, Count: []float64{quick * 0.1, quick, quick, quick, c.requests}},
			CPUSeconds: c.requests * 0.002, MemoryBytes: 64 << 20,
		})
	}
	return pods
}

// Inbox is a list of commands in memory.
type Inbox struct {
	Faults *Faults

	mu      sync.Mutex
	pending []rollout.Command
}

// Send adds a command.
func (i *Inbox) Send(c rollout.Command) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pending = append(i.pending, c)
}

// Pending implements engine.Inbox.
func (i *Inbox) Pending(ctx context.Context) (list []rollout.Command, err error) {
	err = i.Faults.around(ctx, "inbox.pending", func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		list = slices.Clone(i.pending)
		return nil
	})
	return list, err
}

// Done implements engine.Inbox.
func (i *Inbox) Done(ctx context.Context, ids []string) error {
	return i.Faults.around(ctx, "inbox.done", func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.pending = slices.DeleteFunc(i.pending, func(c rollout.Command) bool { return slices.Contains(ids, c.ID) })
		return nil
	})
}

// Tests answers runs as a test arranges.
type Tests struct {
	Faults *Faults
	// Result says how the test of this name ends; nil: it does not end.
	Result func(name string) *rollout.TestAnswer

	mu   sync.Mutex
	runs []rollout.TestRun
}

// Runs lists what was begun.
func (t *Tests) Runs() []rollout.TestRun {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.runs)
}

// Start implements engine.Tests.
func (t *Tests) Start(ctx context.Context, run rollout.TestRun) error {
	return t.Faults.around(ctx, "tests.start", func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, r := range t.runs {
			if r.ID == run.ID {
				return nil
			}
		}
		t.runs = append(t.runs, run)
		return nil
	})
}

// Answers implements engine.Tests.
func (t *Tests) Answers(ctx context.Context) (list []rollout.TestAnswer, err error) {
	err = t.Faults.around(ctx, "tests.answers", func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, r := range t.runs {
			if t.Result == nil {
				continue
			}
			if a := t.Result(r.Name); a != nil {
				answer := *a
				answer.ID = r.ID
				list = append(list, answer)
			}
		}
		return nil
	})
	return list, err
}

// Notifier remembers what it was told.
type Notifier struct {
	Faults *Faults

	mu   sync.Mutex
	told []rollout.Event
}

// Told lists everything in the order in which it came, doubles too.
func (n *Notifier) Told() []rollout.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.told)
}

// Tell implements engine.Notifier.
func (n *Notifier) Tell(ctx context.Context, events []rollout.Event) error {
	return n.Faults.around(ctx, "notifier.tell", func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.told = append(n.told, events...)
		return nil
	})
}

// Facts are windows, declared weights and findings, as a test sets them.
type Facts struct {
	Faults   *Faults
	Closing  []rollout.Window
	Files    *rollout.Declared
	Findings []rollout.Finding
}

// Closed implements engine.Windows.
func (f *Facts) Closed(ctx context.Context, _ time.Time) (list []rollout.Window, err error) {
	err = f.Faults.around(ctx, "windows.closed", func() error { list = slices.Clone(f.Closing); return nil })
	return list, err
}

// Declared implements engine.Declared.
func (f *Facts) Declared(ctx context.Context) (d *rollout.Declared, err error) {
	err = f.Faults.around(ctx, "declared.declared", func() error { d = f.Files; return nil })
	return d, err
}

// Check implements engine.Preflight.
func (f *Facts) Check(ctx context.Context, _, _ rollout.Revision) (list []rollout.Finding, err error) {
	err = f.Faults.around(ctx, "preflight.check", func() error { list = slices.Clone(f.Findings); return nil })
	return list, err
}

// World is one of each on one clock, with one Faults.
type World struct {
	Faults    *Faults
	Clock     *Clock
	Store     *Store
	Workloads *Workloads
	Router    *Router
	Samples   *Samples
	Inbox     *Inbox
	Tests     *Tests
	Notifier  *Notifier
	Facts     *Facts
}

// NewWorld is a world at rest: stable with three ready replicas and all the
// traffic, so many requests per second.
func NewWorld(at time.Time, stable rollout.Revision, perSecond float64) *World {
	f := &Faults{}
	c := NewClock(at)
	w := &World{
		Faults: f, Clock: c,
		Store:     &Store{Faults: f},
		Workloads: &Workloads{Faults: f, Clock: c},
		Router:    NewRouter(c, perSecond, map[rollout.Revision]rollout.Weight{stable: rollout.Whole}),
		Inbox:     &Inbox{Faults: f},
		Tests:     &Tests{Faults: f},
		Notifier:  &Notifier{Faults: f},
		Facts:     &Facts{Faults: f},
	}
	w.Router.Faults = f
	w.Samples = &Samples{Faults: f, Workloads: w.Workloads, Router: w.Router}
	w.Workloads.Add(Version{Workload: rollout.Workload{Revision: stable, Replicas: 3}})
	return w
}

// Ports are the world as an engine takes it. Declared is left out: set it to
// w.Facts for a host whose files are the declaration.
func (w *World) Ports() engine.Ports {
	return engine.Ports{
		Store: w.Store, Workloads: w.Workloads, Router: w.Router, Samples: w.Samples,
		Inbox: w.Inbox, Tests: w.Tests, Notifier: w.Notifier, Windows: w.Facts, Preflight: w.Facts,
	}
}
