package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/apiserver"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/store/status"
	"github.com/serin-dev/serin/internal/telemetry"
)

// Finalizer is on a Rollout while it has changed traffic.
const Finalizer = "serin.dev/traffic"

const (
	// endPatience bounds how long a deletion waits for traffic to be given back:
	// a namespace that is going must be able to go.
	endPatience = 2 * time.Minute
	// afterPanic is how long a Rollout whose pass panicked is left alone.
	afterPanic = 30 * time.Second
	// soon is when something that another write got in the way of is tried again.
	soon = 100 * time.Millisecond
)

// Reconcile does one pass. It never returns an error: what went wrong is said on
// the Rollout, and when to try again is the engine's to say.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	doc := &v1alpha1.Rollout{}
	err := c.client.Get(ctx, req.NamespacedName, doc)
	switch {
	case apierrors.IsNotFound(err):
		c.forget(req.NamespacedName)
		nobody := &inbox{client: c.client, key: req.NamespacedName, now: time.Now}
		return reconcile.Result{RequeueAfter: nobody.orphans(ctx)}, nil
	case err != nil:
		c.log.Warn("reading a Rollout", "rollout", req.String(), "err", err)
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	a := c.remember(doc)
	after, err := a.safely(ctx, doc)
	if err != nil {
		a.log.Error("a pass panicked; this Rollout is left alone for a while", "err", err)
	}
	priority := a.urgency(underWay)
	return reconcile.Result{RequeueAfter: after, Priority: &priority}, nil
}

// remember gives the Rollout's memory; another object of the same name gets a
// new one.
func (c *Controller) remember(doc *v1alpha1.Rollout) *app {
	key := client.ObjectKeyFromObject(doc)
	if a := c.app(key); a != nil && a.uid == doc.UID {
		return a
	}
	c.forget(key)
	a := c.newApp(doc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apps[key] = a
	return a
}

// forget drops everything about a Rollout; its series go with it.
func (c *Controller) forget(key types.NamespacedName) {
	c.mu.Lock()
	a := c.apps[key]
	delete(c.apps, key)
	c.mu.Unlock()
	c.index.drop(key)
	if a != nil {
		a.close()
	}
}

// poke enqueues a pass from outside of the watches.
func (c *Controller) poke(key types.NamespacedName) {
	c.mu.Lock()
	q := c.queue
	c.mu.Unlock()
	if q != nil {
		add(q, reconcile.Request{NamespacedName: key}, c.urgency(key, underWay), gather)
	}
}

// safely keeps a panic to the Rollout that it was about. Its engine is thrown
// away: what it held in memory may be half of something.
func (a *app) safely(ctx context.Context, doc *v1alpha1.Rollout) (after time.Duration, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		what, stack := fmt.Sprint(p), debug.Stack()
		if port, ok := p.(*engine.PortPanic); ok {
			what, stack = port.What(), port.Stack
		}
		err = fmt.Errorf("%s\n%s", what, stack)
		after = afterPanic
		a.mu.Lock()
		a.panics++
		a.mu.Unlock()
		a.engine, a.generation = nil, 0
		problem := fmt.Errorf("this version of Serin made a mistake over it (%s); nothing is changed, and it is tried again in %s. the controller's log says more", what, afterPanic)
		_, _ = a.store.PublishInvalid(ctx, doc.Generation, problem, time.Now().UTC())
	}()
	return a.reconcile(ctx, doc), nil
}

func (a *app) reconcile(ctx context.Context, doc *v1alpha1.Rollout) time.Duration {
	if a.c.trip != nil {
		a.c.trip(a.key)
	}
	defer a.saveLast()()
	has := slices.Contains(doc.Finalizers, Finalizer)
	if doc.DeletionTimestamp != nil && (!has || a.gone) {
		return 0 // it goes without us
	}
	err := a.follow(doc)
	a.mu.Lock()
	a.invalid = err != nil
	a.mu.Unlock()
	if err != nil && a.engine == nil {
		said, answered := a.sayInvalid(ctx), a.inbox.refuse(ctx, fmt.Sprintf("the document of %s cannot be followed, so nothing was moved: %v", a.key.Name, err))
		if said != nil || answered != nil {
			return time.Second
		}
		if doc.DeletionTimestamp != nil {
			return a.letGo(ctx, doc, "its document could never be followed")
		}
		return 0 // until it is edited
	}
	if wait, held := a.held(ctx, doc, has); held {
		return wait
	}
	if a.pending != nil && a.restful() {
		if err := a.adapt(a.pending); err != nil { // what was in force stays
			a.wrong = err
		}
		a.pending = nil
	}
	return a.pass(ctx, doc, has)
}

// held says that nothing may be raised yet, because the finalizer that gives the
// traffic back is not there and cannot be written, and when to try again.
func (a *app) held(ctx context.Context, doc *v1alpha1.Rollout, has bool) (wait time.Duration, held bool) {
	st := a.state()
	if has || doc.DeletionTimestamp != nil || !st.Moves() {
		return 0, false
	}
	err := apiserver.Kind(a.setFinalizer(ctx, doc, true))
	if err != nil && a.news(err) {
		a.log.Warn("adding the finalizer", "err", err)
	}
	if err == nil || st.Granted != 0 || st.Phase != rollout.Preparing {
		return 0, false
	}
	a.sayHeld(ctx, fmt.Errorf("adding the finalizer that gives traffic back, without which nothing is raised: %w", err))
	if engine.KindOf(err) == engine.Stall {
		return time.Second, true
	}
	return soon, true
}

func (a *app) state() rollout.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.passed == nil {
		return rollout.State{}
	}
	return a.passed.result.State
}

func (a *app) restful() bool {
	st := a.state()
	return st.Phase == rollout.Idle && !st.Moves()
}

// pass does the engine's pass and what hangs on it.
func (a *app) pass(ctx context.Context, doc *v1alpha1.Rollout, has bool) time.Duration {
	began := time.Now()
	asked := a.askLeaving(ctx)
	res, err := a.engine.Pass(ctx)
	asked()
	if ctx.Err() != nil {
		return 0 // what was cut short says nothing about anybody
	}
	a.sayViolation(err, &res)
	a.keep(res, err, time.Since(began))
	if !res.Decided {
		return a.noState(ctx, err, res.Wake)
	}
	trouble := []error{err}
	a.count.add(res)
	if a.record != nil {
		if err := a.record.Write(res, a.engine.Evidence); err != nil {
			a.log.Warn("the observation record has a gap", "err", err)
		}
	}
	after := until(res.Wake)
	sooner := func(d time.Duration) {
		if d > 0 && (after == 0 || d < after) {
			after = d
		}
	}
	// What is watched follows what is under way.
	if services, err := a.services(ctx); err == nil {
		if services == nil {
			services = []types.NamespacedName{}
		}
		a.c.index.set(a.key, about{selector: a.selector, routes: a.routes(), rules: a.rules(), services: services, byService: a.router.ByService()})
	}
	if res.State.Phase == rollout.Idle && res.State.Stable.Revision != "" && len(res.State.HPAs) == 0 && len(res.Decision.Scale) == 0 {
		if err := a.workloads.Restore(ctx); err != nil {
			trouble = append(trouble, fmt.Errorf("restoring an autoscaler: %w", err))
			if a.news(err) {
				a.log.Warn("restoring an autoscaler", "err", err)
			}
		}
	}
	if res.State.Moves() || len(drains(res.State)) > 0 {
		if err := a.pods.start(ctx); err != nil {
			trouble = append(trouble, fmt.Errorf("watching pods: %w", err))
			if a.news(err) {
				a.log.Warn("watching pods", "err", err)
			}
		}
	} else {
		a.pods.end()
	}

	sooner(a.note(errors.Join(trouble...)))
	if before := res.Seen.SaveError; before != "" && engine.KindOf(err) == engine.Stall {
		a.unwritten(ctx, before)
	}
	if a.wrong == nil {
		sooner(a.publish(ctx, res))
	} else if err := a.sayInvalid(ctx); err != nil { // after what the pass has saved
		sooner(time.Second)
	}
	switch {
	case doc.DeletionTimestamp != nil:
		if d := a.ending(ctx, doc, res, has); d > 0 {
			sooner(d)
		} else {
			return 0
		}
	case res.State.Moves() && !has:
		if err := a.setFinalizer(ctx, doc, true); err != nil {
			sooner(soon)
		}
	case !res.State.Moves() && has && !owesMinimum(res):
		if err := a.setFinalizer(ctx, doc, false); err != nil {
			sooner(soon)
		}
	}
	return after
}

// owesMinimum: an autoscaler has not been given its author's minimum back.
func owesMinimum(res engine.Result) bool {
	return slices.ContainsFunc(res.State.HPAs, func(h rollout.HPAHold) bool {
		return slices.ContainsFunc(res.Seen.Workloads.Items, func(w rollout.Workload) bool {
			return w.Name == h.Name && w.HPA != nil && w.HPA.Name == h.HPA && w.HPA.Min != h.Min
		})
	})
}

// sayInvalid says on the Rollout what is wrong with its newest document.
func (a *app) sayInvalid(ctx context.Context) error {
	wrote, err := a.store.PublishInvalid(ctx, a.generation, a.wrong, time.Now().UTC())
	switch {
	case err != nil:
		a.log.Warn("saying what is wrong with the document", "err", err)
	case wrote:
		a.log.Warn("the document cannot be followed; the last good one stays in force", "err", a.wrong)
	}
	return err
}

// publishEvery is how soon after the last write of the status another one is
// made only for people to read: what a save will write in a moment anyway need
// not be written twice.
const publishEvery = time.Second

// publish makes the status say what the pass saw. It says when to try again;
// 0 = no need.
func (a *app) publish(ctx context.Context, res engine.Result) time.Duration {
	now := time.Now()
	if res.Wrote.State && a.trouble.Passes == 0 { // a save that failed has said nothing
		a.wroteAt = now
	}
	if rest := publishEvery - now.Sub(a.wroteAt); rest > 0 {
		return rest
	}
	wrote, err := a.store.Publish(ctx, res)
	if wrote {
		a.wroteAt = now
	}
	switch {
	case engine.KindOf(err) == engine.Ignore: // none; or the object is gone
		return 0
	case engine.KindOf(err) == engine.Stall:
		a.log.Warn("publishing the status", "err", err)
		a.unwritten(ctx, err.Error())
		return time.Minute
	}
	a.log.Debug("publishing the status", "err", err)
	return time.Second
}

// until is how long to wait for an instant: 0 means for ever.
func until(wake time.Time) time.Duration {
	if wake.IsZero() {
		return 0
	}
	return max(time.Millisecond, time.Until(wake))
}

// ending lets the object go once traffic was given back, and after a while in
// any case. It says when to look again; 0: it went.
func (a *app) ending(ctx context.Context, doc *v1alpha1.Rollout, res engine.Result, has bool) time.Duration {
	waited := time.Since(doc.DeletionTimestamp.Time)
	why := ""
	switch {
	case !has:
		return 0
	case !res.State.Moves() && len(res.Decision.Scale) == 0:
		why = "traffic is as it is at rest, and nothing is owed to anybody"
	case res.Seen.Route.Known == rollout.Absent:
		why = "the route is gone, and the split with it"
	case res.Seen.Workloads.Known == rollout.Absent:
		why = "every version is gone"
	case waited > endPatience:
		why = fmt.Sprintf("traffic could not be seen to be back within %s", endPatience)
	default:
		return min(endPatience-waited+time.Second, 5*time.Second)
	}
	return a.letGo(ctx, doc, why)
}

func (a *app) letGo(ctx context.Context, doc *v1alpha1.Rollout, why string) time.Duration {
	if a.engine != nil && !a.state().Moves() {
		// Nobody reads our notes any more.
		if err := a.router.Release(ctx); err != nil {
			a.log.Warn("taking our notes off the routes", "err", err)
		}
	}
	if err := a.setFinalizer(ctx, doc, false); err != nil {
		a.log.Warn("removing the finalizer", "err", err)
		return time.Second
	}
	a.log.Info("the Rollout is let go", "why", why)
	a.gone = true
	return 0
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// setFinalizer adds or removes ours and leaves those of others.
func (a *app) setFinalizer(ctx context.Context, doc *v1alpha1.Rollout, want bool) error {
	at := slices.Index(doc.Finalizers, Finalizer)
	if want == (at >= 0) {
		return nil
	}
	ops := []operation{{"test", "/metadata/uid", string(doc.UID)}}
	place := fmt.Sprintf("/metadata/finalizers/%d", at)
	switch {
	case !want:
		ops = append(ops, operation{"test", place, Finalizer}, operation{"remove", place, nil})
	case len(doc.Finalizers) == 0:
		ops = append(ops, operation{"test", "/metadata/finalizers", nil}, operation{"add", "/metadata/finalizers", []string{Finalizer}})
	default:
		ops = append(ops, operation{"add", "/metadata/finalizers/-", Finalizer})
	}
	body, err := json.Marshal(ops)
	if err != nil {
		return err
	}
	err = a.c.client.Patch(ctx, doc, client.RawPatch(types.JSONPatchType, body), client.FieldOwner(status.Manager))
	if apierrors.IsNotFound(err) && !want {
		return nil
	}
	return err
}

// keep remembers the pass, as it is shown and counted.
func (a *app) keep(res engine.Result, err error, took time.Duration) {
	a.mu.Lock()
	was := a.passed
	spec := rollout.Spec{}
	if a.spec != nil {
		spec = *a.spec
	}
	now := &passed{result: res, spec: spec, err: err, took: took}
	if was != nil && !res.Decided {
		now.result = was.result
	}
	a.passed = now
	if res.Sampled != nil && len(res.Sampled.Stable) > 0 {
		a.sampled, a.heard = *res.Sampled, res.Before.Canary.Revision
	}
	a.passes[telemetry.Result(err)]++
	a.mu.Unlock()
	a.c.meter.took(took)
	if err != nil && a.news(err) {
		a.log.Warn("a pass had trouble", "err", err)
	}
}

// news says whether trouble is worth a line in the log: not when the like of it
// was said within the last minute.
func (a *app) news(err error) bool {
	like := err.Error()
	if len(like) > 40 {
		like = like[:40]
	}
	now := time.Now()
	maps.DeleteFunc(a.said, func(_ string, at time.Time) bool { return now.Sub(at) > time.Minute })
	_, known := a.said[like]
	if !known {
		a.said[like] = now
	}
	return !known
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v) // documents are plain data
	return string(b)
}
