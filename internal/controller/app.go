package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/metric/prometheus"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
	"github.com/serin-dev/serin/internal/router/istio"
	"github.com/serin-dev/serin/internal/store/status"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

// app is one Rollout: its engine, and the adapters under it. Reconcile calls it
// from one goroutine at a time.
type app struct {
	c   *Controller
	key types.NamespacedName
	uid types.UID
	log *slog.Logger

	store  *status.Store
	inbox  *inbox
	pods   podSource
	count  *counts
	checks *checks
	record *record.Writer

	engine *engine.Engine
	// What the last good document says, and what is made of it.
	doc        *v1alpha1.Rollout
	spec       *rollout.Spec
	generation int64 // of the last document that was looked at, good or not
	deleted    bool
	gone       bool        // the object was let go
	wrong      error       // what is wrong with the newest document
	waits      atomic.Bool // for another Rollout that has its route
	adapters
	leaving map[rollout.Revision]*metric.Joined // who asks those who drain
	pending *v1alpha1.Rollout                   // its traffic or workload take effect at rest
	shared  shared
	wroteAt time.Time            // the status
	said    map[string]time.Time // trouble, in the log

	mu         sync.Mutex
	passed     *passed
	events     []rollout.Event // of the decision that is being carried out
	passes     map[string]float64
	decided    map[decisionKey]float64
	newest     rollout.Event // of those
	panics     int
	try        try
	sampled    engine.Sampled   // the last look that gave stable's pods
	heard      rollout.Revision // the canary beside which they gave some
	last       chan struct{}    // closed after a pass that saves; nil: nobody asked for one
	invalid    bool             // the newest document cannot be followed
	trouble    standing.Trouble // of the passes, as it is said
	unreadable error            // why the saved state cannot be read
	untold     error            // why decisions are not told as events
}

// adapters are made of the document's workload and traffic, and exchanged at
// rest only.
type adapters struct {
	workloads *deployment.Workloads
	router    *istio.Router
	samples   *metric.Joined
	custom    *prometheus.Custom // nil: nothing is asked
	selector  labels.Selector
}

// passed is the last pass, as it is shown.
type passed struct {
	result engine.Result
	spec   rollout.Spec
	err    error
	took   time.Duration
}

func (c *Controller) newApp(doc *v1alpha1.Rollout) *app {
	key := client.ObjectKeyFromObject(doc)
	a := &app{
		c: c, key: key, uid: doc.UID, log: c.log.With("rollout", key.String()),
		count: newCounts(), said: map[string]time.Time{}, passes: map[string]float64{}, decided: map[decisionKey]float64{},
	}
	a.store = status.New(c.live, c.direct.Status(), key, doc.UID)
	a.inbox = &inbox{client: c.client, key: key, events: a.eventsNow, now: time.Now}
	a.checks = newChecks(c, a)
	if c.o.RecordDir != "" {
		path := filepath.Join(c.o.RecordDir, key.Namespace+"_"+key.Name+".jsonl")
		w, err := record.OpenWriter(path, c.o.RecordBytes)
		if err != nil {
			a.log.Warn("the observation record is not written", "err", err)
		}
		a.record = w
	}
	return a
}

func (a *app) close() {
	if a.pods != nil {
		a.pods.end()
	}
	a.checks.end()
	if a.record != nil {
		_ = a.record.Close()
	}
	a.c.release(a.key)
}

// follow takes the document as it is now. The error says what is wrong with it;
// then the last good one stays in force.
func (a *app) follow(doc *v1alpha1.Rollout) error {
	if doc.Generation == a.generation && a.deleted == (doc.DeletionTimestamp != nil) && !a.waits.Load() {
		return a.wrong
	}
	err := a.take(doc)
	if doc.Generation != a.generation {
		a.c.release(a.key)
	}
	var taken *contestedError
	a.waits.Store(errors.As(err, &taken))
	a.generation, a.wrong = doc.Generation, err
	return err
}

func (a *app) take(doc *v1alpha1.Rollout) error {
	spec, cfg, err := a.specOf(doc)
	if err == nil {
		return a.takeGood(doc, spec, cfg)
	}
	going := doc.DeletionTimestamp != nil
	var last *v1alpha1.Rollout
	switch {
	case a.doc != nil && (going || a.engine == nil): // after a panic there is none
		last = a.doc.DeepCopy()
		last.DeletionTimestamp, last.Generation = doc.DeletionTimestamp, doc.Generation
	case a.engine == nil && doc.Status.Phase != "" && doc.Status.Phase != v1alpha1.PhaseIdle:
		last = bare(doc)
	default:
		return err
	}
	spec, cfg, lastErr := a.specOf(last)
	if lastErr != nil {
		return err
	}
	if lastErr = a.takeGood(last, spec, cfg); lastErr != nil || going {
		return lastErr // what is to be done about what goes needs no more
	}
	return err
}

// bare is what a document that cannot be followed says of its objects. A process
// that starts while a canary is out knows no other: it raises nothing, but a
// canary that fails is taken back all the same, and commands are obeyed.
func bare(doc *v1alpha1.Rollout) *v1alpha1.Rollout {
	b := doc.DeepCopy()
	b.Spec = v1alpha1.RolloutSpec{Suspend: true, Workload: b.Spec.Workload, Traffic: b.Spec.Traffic}
	return b
}

func (a *app) takeGood(doc *v1alpha1.Rollout, spec rollout.Spec, cfg analysis.Config) error {
	goes := doc.DeletionTimestamp != nil
	begins := a.engine == nil
	if begins {
		followed := a.followed(doc)
		if err := a.c.contested(followed); err != nil {
			return err
		}
		if err := a.begin(followed, spec, cfg); err != nil {
			return err
		}
		a.spec, a.doc, a.deleted, a.pending = &spec, followed, goes, nil
		a.store.Follow(doc.Generation)
		a.checks.follow(doc)
	}
	if !sameObjects(a.doc, doc) {
		if err := a.c.contested(doc); err != nil && !goes {
			return err
		}
		a.pending = doc.DeepCopy()
	} else if a.pending != nil {
		a.pending = doc.DeepCopy() // the rest of it has been edited since
	}
	if !begins {
		if jsonOf(a.doc.Spec.Analysis.Metrics) != jsonOf(doc.Spec.Analysis.Metrics) {
			// A query that was put right must not have to wait for the end of the
			// rollout that waits for its answers.
			custom, err := a.c.queries(doc, a.samples)
			if err != nil {
				return err
			}
			a.custom = custom
		}
		if err := a.engine.Respec(spec, cfg); err != nil {
			a.log.Warn("taking the edited document", "err", err)
		}
	}
	a.spec, a.doc, a.deleted = &spec, doc.DeepCopy(), goes
	a.store.Follow(doc.Generation)
	a.checks.follow(doc)
	return nil
}

// objects is the part of a document that takes effect at rest only, as it is
// kept in the status of a rollout under way.
type objects struct {
	Workload v1alpha1.Workload     `json:"workload"`
	Traffic  []v1alpha1.Traffic    `json:"traffic"`
	Source   v1alpha1.MetricSource `json:"source,omitempty"` // of the figures: counters of another one are other counters
}

// followed is the document with the objects that the rollout under way is
// about, for a process that starts in the middle of it: those of the document
// may be other ones by now, and the split is in these.
func (a *app) followed(doc *v1alpha1.Rollout) *v1alpha1.Rollout {
	out := doc.DeepCopy()
	kept := doc.Status.Objects
	if kept == nil {
		return out
	}
	var o objects
	if err := json.Unmarshal(kept.Raw, &o); err != nil || o.Workload.Versions == nil || len(o.Traffic) == 0 {
		a.log.Warn("status.objects cannot be read: those of the document are followed", "err", err)
		return out
	}
	out.Spec.Workload, out.Spec.Traffic = o.Workload, o.Traffic
	out.Spec.Analysis.Source = cmp.Or(o.Source, out.Spec.Analysis.Source)
	return out
}

// specOf is the document in the core's terms, if this host can follow it.
func (a *app) specOf(doc *v1alpha1.Rollout) (rollout.Spec, analysis.Config, error) {
	spec, cfg, err := engine.SpecOf(doc)
	if err != nil {
		return spec, cfg, err
	}
	var errs []error
	if doc.Spec.Workload.Versions == nil {
		errs = append(errs, errors.New("spec.workload.inPlace: this controller follows spec.workload.versions: one Deployment for each version"))
	}
	for i, t := range doc.Spec.Traffic {
		if t.Istio == nil {
			errs = append(errs, fmt.Errorf("spec.traffic[%d].gatewayAPI: this controller splits traffic by spec.traffic[].istio", i))
		}
	}
	for i, s := range doc.Spec.Strategy.Plan() {
		if s.Test != nil && len(s.Test.Command) > 0 {
			errs = append(errs, fmt.Errorf("spec.strategy step %d: a command is run on one machine only; in a cluster give the test a webhook", i+1))
		}
		if s.Test != nil && s.Test.Job != nil {
			errs = append(errs, fmt.Errorf("spec.strategy step %d: this controller runs no jobs yet; give the test a webhook", i+1))
		}
	}
	if _, err := queriesOf(doc); err != nil {
		errs = append(errs, err)
	}
	if a.c.o.Settle > 0 {
		spec.Settle = a.c.o.Settle
	}
	return spec, cfg, errors.Join(errs...)
}

// sameObjects says whether two documents are about the same objects.
func sameObjects(a, b *v1alpha1.Rollout) bool {
	return jsonOf(a.Spec.Workload) == jsonOf(b.Spec.Workload) && jsonOf(a.Spec.Traffic) == jsonOf(b.Spec.Traffic) &&
		a.Spec.Analysis.Source == b.Spec.Analysis.Source
}

func (a *app) begin(doc *v1alpha1.Rollout, spec rollout.Spec, cfg analysis.Config) error {
	if err := a.adapt(doc); err != nil {
		return err
	}
	o := a.c.o.Engine
	o.Policy = a.listen(a.store.Policy(a.c.decide))
	e, err := engine.New(spec, cfg, engine.Ports{
		Store: a.store, Workloads: currentWorkloads{a}, Router: currentRouter{a}, Samples: currentSamples{a},
		Inbox: a.inbox, Preflight: a, Tests: a.checks, Notifier: a,
	}, o)
	if err != nil {
		return err
	}
	a.engine = e
	return nil
}

// adapt makes the adapters for a document's workload and traffic.
func (a *app) adapt(doc *v1alpha1.Rollout) error {
	doc = doc.DeepCopy()
	doc.Default()
	v := doc.Spec.Workload.Versions
	selector, err := metav1.LabelSelectorAsSelector(&v.Selector)
	if err != nil {
		return fmt.Errorf("spec.workload.versions.selector: %w", err)
	}
	next := adapters{selector: selector}
	next.workloads = deployment.New(deployment.Options{
		Client: a.c.client, Namespace: a.key.Namespace, Selector: selector, Label: v.Label,
		Services: a.services, Pods: func() ([]*corev1.Pod, bool) { return a.pods.list() },
		ScaleOnly: func(ctx context.Context) bool {
			lacks := a.c.rights.lacks(ctx, a.key.Namespace)
			return lacks(patchDeployments) && !lacks(patchScale)
		},
	})
	cfg := istio.Config{
		Client: a.c.client, Namespace: a.key.Namespace, Label: v.Label, Version: routeKind.Version,
		Measure: a.count.measured,
		Versions: func(ctx context.Context) ([]istio.Version, error) {
			all, err := next.workloads.Versions(ctx)
			if err != nil {
				return nil, err
			}
			var out []istio.Version
			for _, x := range all {
				out = append(out, istio.Version{Revision: x.Revision, Labels: x.Labels})
			}
			return out, nil
		},
	}
	for _, t := range doc.Spec.Traffic {
		settle := t.Istio.Settle.Duration
		if a.c.o.Settle > 0 {
			settle = a.c.o.Settle
		}
		cfg.Targets = append(cfg.Targets, istio.Target{
			VirtualService: t.Istio.VirtualService, DestinationRule: t.Istio.DestinationRule, Routes: t.Istio.Routes, Settle: settle,
		})
	}
	if next.router, err = istio.New(cfg); err != nil {
		return err
	}
	if next.samples, next.custom, err = a.c.figures(doc, metricPods{next.workloads}); err != nil {
		return err
	}
	if a.pods != nil && next.selector.String() != a.selector.String() {
		a.pods.end()
		a.pods = nil
	}
	if a.pods == nil {
		a.pods = a.c.watch(a.key.Namespace, selector, a.wake)
	}
	a.adapters = next
	a.store.Objects([]byte(jsonOf(objects{doc.Spec.Workload, doc.Spec.Traffic, doc.Spec.Analysis.Source})))
	a.c.index.set(a.key, about{selector: selector, routes: a.routes(), rules: a.rules(), byService: a.router.ByService()})
	return nil
}

// steps are the plan's, as the document has them.
func (a *app) steps() []rollout.Step {
	if a.spec == nil {
		return nil
	}
	return a.spec.Steps
}

func (a *app) objects(kind string) []types.NamespacedName {
	var out []types.NamespacedName
	for _, o := range a.router.Objects() {
		if o.Kind == kind {
			out = append(out, types.NamespacedName{Namespace: a.key.Namespace, Name: o.Name})
		}
	}
	return out
}

func (a *app) routes() []types.NamespacedName { return a.objects(routeKind.Kind) }
func (a *app) rules() []types.NamespacedName  { return a.objects(ruleKind.Kind) }

// services are those that the routes' destinations name, and those that stand
// for one version where the versions are told apart by them: a new version has
// to be ready before a route may name its Service.
func (a *app) services(ctx context.Context) ([]types.NamespacedName, error) {
	out, err := a.router.Services(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range a.routes() {
		vs := raw(routeKind)
		if err := a.c.client.Get(ctx, key, vs); err != nil {
			if client.IgnoreNotFound(err) == nil {
				continue // the route says itself that it is not there
			}
			return nil, fmt.Errorf("reading VirtualService %s: %w", key, err)
		}
		for _, host := range hostsOf(vs.Object) {
			if s, ok := serviceOf(host, key.Namespace); ok && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// The ports that are exchanged at rest.
type (
	currentWorkloads struct{ a *app }
	currentRouter    struct{ a *app }
)

func (p currentWorkloads) Observe(ctx context.Context) (rollout.Workloads, error) {
	return p.a.workloads.Observe(ctx)
}

// Apply takes nothing away for a process that may not lead any more: one that
// was stopped between its look and this write would take what another one has
// sent the users back to since, and a count that is as it was does not tell it.
func (p currentWorkloads) Apply(ctx context.Context, want []rollout.Scale) error {
	if slices.ContainsFunc(want, func(s rollout.Scale) bool { return s.Zero || s.Delete }) && !p.a.c.holdsLease() {
		return errors.New("the lease was not renewed in time, so nothing is taken away")
	}
	return p.a.workloads.Apply(ctx, want)
}

func (p currentRouter) Observe(ctx context.Context) (rollout.Route, error) {
	return p.a.router.Observe(ctx)
}

func (p currentRouter) Apply(ctx context.Context, want rollout.Traffic) error {
	return p.a.router.Apply(ctx, want)
}

// listen remembers what is decided, for those who answer commands.
func (a *app) listen(decide engine.Policy) engine.Policy {
	return func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
		d := decide(spec, st, obs, now)
		a.mu.Lock()
		a.events = d.Events
		a.mu.Unlock()
		return d
	}
}

func (a *app) eventsNow() []rollout.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.events
}

// wake asks for a pass now.
func (a *app) wake() { a.c.poke(a.key) }

func (a *app) urgency(otherwise int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.passed == nil {
		return otherwise
	}
	return urgencyOf(a.passed)
}

func urgencyOf(p *passed) int {
	switch {
	case p.result.Decision.Lowers || p.result.State.Phase == rollout.RollingBack || p.result.Seen.Report.Verdict == analysis.Fail:
		return lowering
	case p.result.State.Phase == rollout.Idle && len(p.result.State.Leaving) == 0:
		return atRest
	}
	return underWay
}

// view is what the last pass looks like; false before the first.
func (a *app) view() (httpapi.RolloutView, *passed, bool) {
	if v, is := a.unreadableView(); is {
		return v, &passed{}, true
	}
	a.mu.Lock()
	p, trouble := a.passed, a.trouble
	a.mu.Unlock()
	if p == nil || !p.result.Decided {
		return httpapi.RolloutView{}, p, false
	}
	return httpapi.BuildView(httpapi.Pass{
		Ref: httpapi.Ref{Namespace: a.key.Namespace, Name: a.key.Name}, Spec: p.spec, State: p.result.State,
		Seen: p.result.Seen, Decision: p.result.Decision, Time: p.result.At, Trouble: trouble,
	}), p, true
}
