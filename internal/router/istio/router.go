package istio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Group is the API group of Istio's objects for traffic.
const Group = "networking.istio.io"

// Measured is what the proxies have counted of the application's requests.
type Measured struct {
	Requests map[rollout.Revision]float64   // cumulative, since any fixed point
	Last     map[rollout.Revision]time.Time // nil: not known
	At       map[rollout.Revision]time.Time // when a count was last renewed; a missing key: now
}

// Config is what a Router needs. Client reads and writes; it may read from a
// cache, which need not be up to date: what was written is remembered, and a
// patch of something older than what is stored is a conflict.
type Config struct {
	Client    client.Client
	Namespace string
	Targets   []Target
	Label     string // of the pods, that tells the versions apart
	// Versions lists those that are there, whoever made them.
	Versions func(context.Context) ([]Version, error)
	// Measure fills in what the proxies have counted, where that is known; nil
	// otherwise. It is not asked where the split is of a part of the traffic
	// only: then the counts say nothing about it.
	Measure func(context.Context) (Measured, bool)
	// Version of Istio's API: "v1" where empty.
	Version string
	Now     func() time.Time // nil: time.Now
}

// Router is the engine's port for the VirtualServices of one rollout.
//
// There is no receipt: proxies learn of a change in their own time. A split
// that names a subset which the DestinationRule has not had for the settle time,
// or a Service that is younger, is put off with an engine.ThrottledError, unless
// it lowers the canary.
type Router struct {
	cfg Config

	mu     sync.Mutex
	look   *look                         // the last one
	asked  *rollout.Traffic              // the last split that was written
	wrote  map[string]map[string]any     // by object: as it was after our last write, for caches that lag
	since  map[string]time.Time          // by rule and subset, or by Service: since when it can be routed to
	looked map[types.NamespacedName]bool // rules that were seen once
}

// New checks the configuration; nothing is read or written.
func New(cfg Config) (*Router, error) {
	switch {
	case cfg.Client == nil || cfg.Versions == nil:
		return nil, errors.New("an Istio router needs a client and the versions")
	case cfg.Label == "":
		return nil, errors.New("an Istio router needs the label that tells the versions apart")
	case len(cfg.Targets) == 0:
		return nil, errors.New("an Istio router needs a VirtualService")
	}
	if cfg.Version == "" {
		cfg.Version = "v1"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Router{cfg: cfg, wrote: map[string]map[string]any{}, since: map[string]time.Time{}, looked: map[types.NamespacedName]bool{}}, nil
}

// ---- One look ----

// look is everything that was read for one observation.
type look struct{ targets []Scene }

func (r *Router) read(ctx context.Context) (*look, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	versions, err := r.cfg.Versions(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the versions: %w", err)
	}
	out := &look{}
	for _, t := range r.cfg.Targets {
		s := Scene{Target: t, View: View{Namespace: r.cfg.Namespace, Routes: t.Routes, Label: r.cfg.Label, Versions: versions}}
		if s.Root, err = r.get(ctx, "VirtualService", t.VirtualService); err != nil {
			return nil, err
		}
		for _, d := range delegatesOf(s.Root, r.cfg.Namespace) {
			if !d.Foreign {
				if d.Object, err = r.get(ctx, "VirtualService", d.Name); err != nil {
					return nil, err
				}
			}
			s.Delegates = append(s.Delegates, d)
		}
		if t.DestinationRule != "" {
			if s.Rule, err = r.get(ctx, "DestinationRule", t.DestinationRule); err != nil {
				return nil, err
			}
			if s.Rule != nil {
				s.reads(s.Rule)
			}
		} else if s.View.Services, err = r.services(ctx); err != nil {
			return nil, err
		}
		out.targets = append(out.targets, s)
	}
	return out, nil
}

func (r *Router) gvk(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: Group, Version: r.cfg.Version, Kind: kind}
}

// get reads an object, or what we wrote if the reader lags behind that; nil
// where there is none.
func (r *Router) get(ctx context.Context, kind, name string) (map[string]any, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(r.gvk(kind))
	err := r.cfg.Client.Get(ctx, types.NamespacedName{Namespace: r.cfg.Namespace, Name: name}, u)
	key := kind + "/" + name
	r.mu.Lock()
	defer r.mu.Unlock()
	if err = kindOf(err); errors.Is(err, engine.ErrNotFound) {
		delete(r.wrote, key)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind, name, err)
	}
	if mine := r.wrote[key]; mine != nil {
		if text(mine, "metadata", "uid") == string(u.GetUID()) && older(u.GetResourceVersion(), text(mine, "metadata", "resourceVersion")) {
			return mine, nil
		}
		if u.GetResourceVersion() != text(mine, "metadata", "resourceVersion") {
			delete(r.wrote, key) // newer, or another object of that name
		}
	}
	return u.Object, nil
}

// older compares resourceVersions, which are numbers that grow.
func older(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	return errX == nil && errY == nil && x < y
}

func (r *Router) services(ctx context.Context) ([]Service, error) {
	var all corev1.ServiceList
	if err := r.cfg.Client.List(ctx, &all, client.InNamespace(r.cfg.Namespace)); err != nil {
		return nil, fmt.Errorf("listing the Services: %w", kindOf(err))
	}
	var out []Service
	for _, s := range all.Items {
		one := Service{Name: s.Name, Namespace: s.Namespace, Selector: s.Spec.Selector, Created: s.CreationTimestamp.Time}
		for _, p := range s.Spec.Ports {
			one.Ports = append(one.Ports, p.Port)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// ---- The port ----

// Observe reports the split as it stands. A VirtualService or a DestinationRule
// that is not there makes it Absent. Where what was written last is not all
// there (a subset, a match, a destination that is kept), the note's number is
// one less, which the core reads as a write that was lost.
func (r *Router) Observe(ctx context.Context) (rollout.Route, error) {
	l, err := r.read(ctx)
	if err != nil {
		return rollout.Route{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look = l
	r.age(l)

	var all []rollout.Route
	whole := r.asked == nil || r.asked.Match == nil
	for _, s := range l.targets {
		if s.Root == nil || s.DestinationRule != "" && s.Rule == nil {
			return rollout.Route{Known: rollout.Absent}, nil
		}
		whole = whole && s.whole()
		for _, object := range s.objects() {
			route, ok := Parse(object, s.View)
			if !ok {
				continue
			}
			if r.asked != nil && route.Note != nil && sameNote(route.Note, r.asked.Note()) &&
				maps.Equal(route.Weights, r.asked.Weights()) && !s.holds(object, *r.asked) {
				note := *route.Note
				note.N--
				route.Note = &note
			}
			all = append(all, route)
		}
	}
	out := merge(all)
	out.Known = rollout.Present
	for _, s := range l.targets {
		for _, object := range s.objects() {
			out.Elsewhere = s.View.elsewhere(object, out.Elsewhere)
		}
	}
	if out.Weights == nil {
		out.Weights = map[rollout.Revision]rollout.Weight{}
	}
	if r.cfg.Measure != nil && whole {
		if m, ok := r.cfg.Measure(ctx); ok {
			out.Measured, out.Requests, out.Last, out.Counted = true, m.Requests, m.Last, m.At
		}
	}
	return out, nil
}

// age notes when each subset, or each version's Service, was first seen. Those
// that are seen at the first look count from the rule's last change, where that
// can be told, and from when the Service was made.
func (r *Router) age(l *look) {
	now := r.cfg.Now()
	for _, s := range l.targets {
		key := types.NamespacedName{Namespace: s.View.Namespace, Name: s.DestinationRule}
		since, there := map[string]time.Time{}, map[string]bool{}
		if s.DestinationRule == "" {
			for _, x := range s.View.Services {
				if s.View.selected(x.Selector) != "" {
					since[x.key()] = x.Created
					if r.reselected(x) {
						since[x.key()] = now
					}
				}
			}
		} else if s.Rule != nil {
			at := now
			if !r.looked[key] {
				at = changedAt(s.Rule)
			}
			for _, sub := range s.View.Rule.Subsets {
				since[key.Name+"/"+sub.Name] = at
			}
		}
		r.looked[key] = true
		for k, at := range since {
			there[k] = true
			if _, known := r.since[k]; !known {
				r.since[k] = earlier(at, now) // clocks differ
			}
		}
		maps.DeleteFunc(r.since, func(k string, _ time.Time) bool {
			return strings.HasPrefix(k, key.Name+"/") && !there[k]
		})
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// key is what a Service is known by as long as it selects the same pods.
func (s Service) key() string { return "/" + s.Name + "?" + labelText(s.Selector) }

// reselected: a Service of that name was seen with another selector.
func (r *Router) reselected(s Service) bool {
	for k := range r.since {
		if strings.HasPrefix(k, "/"+s.Name+"?") && k != s.key() {
			return true
		}
	}
	return false
}

// changedAt is when somebody last wrote the object's spec; zero where that
// cannot be told.
func changedAt(object map[string]any) time.Time {
	var newest time.Time
	for _, f := range list(object, "metadata", "managedFields") {
		if at(f, "fieldsV1", "f:spec") == nil {
			continue
		}
		if t, err := time.Parse(time.RFC3339, text(f, "time")); err == nil && t.After(newest) {
			newest = t
		}
	}
	return newest
}

// Apply puts the whole split in force: first the subsets that it needs, then,
// when these have settled, each VirtualService in one write with its note, at
// last away with subsets of ours that nobody needs. What is so already is not
// written.
//
// Several VirtualServices are not written at once. Where one of them fails, the
// others are written all the same if that lowers the canary; what is left over
// is seen by the next look as a write that was lost.
func (r *Router) Apply(ctx context.Context, want rollout.Traffic) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	l := r.look
	r.mu.Unlock()
	if l == nil {
		if _, err := r.Observe(ctx); err != nil {
			return err
		}
		r.mu.Lock()
		l = r.look
		r.mu.Unlock()
	}
	var errs []error
	for i := range l.targets {
		err := r.applyTo(ctx, &l.targets[i], want)
		if err != nil {
			errs = append(errs, err)
			if errors.Is(err, engine.ErrConflict) || !l.lowers(want) {
				break
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.mu.Lock()
		r.look = nil // what was written is not what was read
		r.mu.Unlock()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	want.Keep, want.Condemned = slices.Clone(want.Keep), slices.Clone(want.Condemned)
	r.asked = &want
	return nil
}

// lowers: no target gives the canary more than it has.
func (l *look) lowers(want rollout.Traffic) bool {
	for _, s := range l.targets {
		if !s.lowers(want) {
			return false
		}
	}
	return true
}

func (r *Router) applyTo(ctx context.Context, s *Scene, want rollout.Traffic) error {
	switch {
	case s.Root == nil:
		return fmt.Errorf("routing by VirtualService %s: %w", s.VirtualService, engine.ErrNotFound)
	case s.DestinationRule != "" && s.Rule == nil:
		return fmt.Errorf("routing by DestinationRule %s: %w", s.DestinationRule, engine.ErrNotFound)
	}
	lowers := s.lowers(want)
	if problem := s.problem(); problem != nil && (!lowers || !s.ours()) {
		return fmt.Errorf("%w: %s", engine.ErrRefused, problem)
	}

	// Everything is rendered before anything is written: what cannot be said
	// changes nothing.
	rulePatch := RenderRule(s.Rule, want, s.View)
	var writes []write
	held := time.Duration(0)
	for _, object := range s.objects() {
		patch, err := Render(object, want, s.View)
		if err != nil {
			return err
		}
		if len(patch) > 0 {
			writes = append(writes, write{object, patch})
			held = max(held, r.unsettled(s, object, want))
		}
	}
	var missing []string
	if len(rulePatch) > 0 {
		for _, op := range rulePatch {
			if op.Op == "add" {
				missing = append(missing, names(op.Value)...)
			}
		}
		written, err := r.patch(ctx, "DestinationRule", s.Rule, rulePatch)
		if err != nil {
			err = fmt.Errorf("adding subsets to DestinationRule %s: %w", s.DestinationRule, err)
			if !s.stands(want) {
				return err
			}
			// The way down needs nothing that is missing.
			return errors.Join(err, r.writeAll(ctx, s, writes))
		}
		s.reads(written)
		r.mu.Lock()
		for _, n := range missing {
			r.since[s.DestinationRule+"/"+n] = r.cfg.Now()
		}
		r.mu.Unlock()
		held = 0
		for _, w := range writes {
			held = max(held, r.unsettled(s, w.object, want))
		}
	}
	if held > 0 {
		what := fmt.Sprintf("DestinationRule %s has had the subset", s.DestinationRule)
		if s.View.Rule == nil {
			what = "the Service of the version has been there"
		}
		return &engine.ThrottledError{After: held, Err: fmt.Errorf("%s for less than %v, and proxies may not know it yet", what, s.Settle)}
	}
	if err := r.writeAll(ctx, s, writes); err != nil {
		return err
	}
	if prune := PruneRule(s.Rule, want, s.View, s.objects()...); len(prune) > 0 && len(writes) == 0 {
		// Never in one go with the routes: proxies learn of both in any order.
		if written, err := r.patch(ctx, "DestinationRule", s.Rule, prune); err == nil {
			s.reads(written)
		} // else it stays, and harms nobody
	}
	return nil
}

// write is a VirtualService as it was read, and what changes in it.
type write struct {
	object map[string]any
	patch  Patch
}

func (r *Router) writeAll(ctx context.Context, s *Scene, writes []write) error {
	for _, w := range writes {
		name := text(w.object, "metadata", "name")
		written, err := r.patch(ctx, "VirtualService", w.object, w.patch)
		if err != nil {
			return fmt.Errorf("writing VirtualService %s: %w", name, err)
		}
		s.replace(name, written)
	}
	return nil
}

func names(v any) []string {
	var out []string
	for _, s := range append([]any{v}, asList(v)...) {
		if n := text(s, "name"); n != "" {
			out = append(out, n)
		}
	}
	return out
}

func asList(v any) []any { l, _ := v.([]any); return l }

// unsettled is how long the split has to wait for a subset, or for a Service,
// that it is the first to give traffic to. What takes traffic from a version
// other than stable does not wait.
func (r *Router) unsettled(s *Scene, object map[string]any, want rollout.Traffic) time.Duration {
	if s.takes(object, want) {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := time.Duration(0)
	for _, slot := range s.View.carrying(object) {
		served := map[string]bool{}
		for _, p := range slot.parts {
			if p.ours && (p.weight > 0 || len(slot.parts) == 1) {
				served[s.sinceKey(p.raw)] = true
			}
		}
		for rev, w := range want.Weights() {
			if w > 0 || rev == want.Canary && want.Match != nil && slot.kind == "http" {
				key := s.keyFor(slot, s.View.value(rev), s.View.value(want.Stable))
				if since, known := r.since[key]; !served[key] && known {
					wait = max(wait, s.Settle-max(r.cfg.Now().Sub(since), 0))
				} else if !served[key] {
					wait = max(wait, s.Settle)
				}
			}
		}
	}
	return wait
}

// sinceKey is the key in Router.since of what a destination names.
func (s *Scene) sinceKey(destination map[string]any) string {
	if s.View.Rule != nil {
		return s.DestinationRule + "/" + text(destination, "destination", "subset")
	}
	name, namespace, _ := serviceOf(canonical(text(destination, "destination", "host"), s.View.Namespace))
	if x := s.View.service(name, namespace); x != nil {
		return x.key()
	}
	return ""
}

// keyFor is the same of how a slot names a version, or will.
func (s *Scene) keyFor(slot slot, value, stable string) string {
	for _, p := range slot.parts {
		if p.value == value && (s.View.Rule == nil || s.View.taken(text(p.raw, "destination", "subset"))) {
			return s.sinceKey(p.raw)
		}
	}
	if s.View.Rule != nil {
		name, _ := s.View.subset(value, s.View.neighbour(stable))
		return s.DestinationRule + "/" + name
	}
	host, _, err := s.View.address(value, stable, s.View.model(slot, stable))
	if err != nil {
		return "" // rendering has said so
	}
	return s.sinceKey(map[string]any{"destination": map[string]any{"host": host}})
}

// patch sends a patch and gives the object as it then is.
func (r *Router) patch(ctx context.Context, kind string, object map[string]any, patch Patch) (map[string]any, error) {
	raw, err := patch.JSON()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(r.gvk(kind))
	u.SetNamespace(r.cfg.Namespace)
	u.SetName(text(object, "metadata", "name"))
	if err := r.cfg.Client.Patch(ctx, u, client.RawPatch(types.JSONPatchType, raw), client.FieldOwner(FieldManager)); err != nil {
		return nil, kindOf(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrote[kind+"/"+u.GetName()] = u.Object
	return u.Object, nil
}

// Object names something that the router reads.
type Object struct{ Kind, Name string }

// Objects lists what the last look read, for watches: the VirtualServices, the
// delegates, the DestinationRules.
func (r *Router) Objects() []Object {
	var out []Object
	add := func(kind, name string) {
		if o := (Object{kind, name}); name != "" && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	for _, t := range r.cfg.Targets {
		add("VirtualService", t.VirtualService)
		add("DestinationRule", t.DestinationRule)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.look != nil {
		for _, s := range r.look.targets {
			for _, d := range s.Delegates {
				if !d.Foreign {
					add("VirtualService", d.Name)
				}
			}
		}
	}
	return out
}

// Services lists the Services that stand for one version, where the versions
// are told apart by them: a version's pods can be routed to when they are behind
// its own, also while no route names it yet. Empty where there are subsets.
func (r *Router) Services(ctx context.Context) ([]types.NamespacedName, error) {
	if !r.ByService() {
		return nil, nil
	}
	l, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	var out []types.NamespacedName
	for _, s := range l.targets {
		if s.DestinationRule != "" {
			continue
		}
		for _, x := range s.View.Services {
			key := types.NamespacedName{Namespace: x.Namespace, Name: x.Name}
			if s.View.selected(x.Selector) != "" && !slices.Contains(out, key) {
				out = append(out, key)
			}
		}
	}
	return out, nil
}

// ByService: in one of the targets at least, each version has a Service of its
// own. Then any Service of the namespace may come to matter.
func (r *Router) ByService() bool {
	return slices.ContainsFunc(r.cfg.Targets, func(t Target) bool { return t.DestinationRule == "" })
}

// Check looks for what would go wrong, in every target. steps are the plan's;
// canary is empty at rest. It reads the Services of the namespace too.
func (r *Router) Check(ctx context.Context, stable, canary rollout.Revision, steps []rollout.Step) ([]rollout.Finding, error) {
	l, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	services, err := r.services(ctx)
	if err != nil {
		return nil, err
	}
	var out []rollout.Finding
	for _, s := range l.targets {
		s.View.Services = services
		out = append(out, Findings(s, stable, canary, steps)...)
	}
	return out, nil
}

// Release takes everything off the objects that is ours and not traffic: notes,
// and routes for match steps. The split stays as it is. It is for when the
// rollout's document is deleted, after the traffic was given back.
func (r *Router) Release(ctx context.Context) error {
	l, err := r.read(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range l.targets {
		for _, object := range s.objects() {
			var e edit
			e.fronts(object, nil)
			e.annotate(object, map[string]string{NoteAnnotation: "", KeptAnnotation: ""})
			if p := e.of(object); len(p) > 0 {
				if _, err := r.patch(ctx, "VirtualService", object, p); err != nil && !errors.Is(err, engine.ErrNotFound) {
					errs = append(errs, fmt.Errorf("taking our note off VirtualService %s: %w", text(object, "metadata", "name"), err))
				}
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look, r.asked = nil, nil
	return errors.Join(errs...)
}
