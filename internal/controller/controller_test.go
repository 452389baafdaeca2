package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
)

func (w *world) idle() bool { return w.rollout().Status.Phase == v1alpha1.PhaseIdle }

func (w *world) stable() string {
	if v := w.rollout().Status.Stable; v != nil {
		return v.Label
	}
	return ""
}

func (w *world) adopt() {
	w.t.Helper()
	w.until("v1 is adopted", func() bool { return w.idle() && w.stable() == "v1" })
}

// canary brings v2 to its first weight.
func (w *world) canary() {
	w.t.Helper()
	w.adopt()
	time.Sleep(time.Second)
	w.deploy("v2", 2)
	w.step()
	w.until("v2 has 5 %", func() bool { return w.weights()["v2"] == 5 })
}

func TestTheFoundingStory(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		if f := w.rollout().Finalizers; !slices.Equal(f, []string{Finalizer}) {
			t.Errorf("finalizers %v while traffic is moved", f)
		}
		w.until("v2 is stable and v1 is gone", func() bool { return w.idle() && w.stable() == "v2" && w.replicas("my-app-v1") == 0 })
		w.until("nothing is owed", func() bool { return len(w.rollout().Finalizers) == 0 })
		if got := w.weights(); got["v2"] != 100 || len(got) != 1 {
			t.Errorf("at rest the route sends %v, want v2 alone", got)
		}
		if n := w.replicas("my-app-v2"); n != 3 {
			t.Errorf("v2 has %d replicas, want stable's 3", n)
		}
		if c := w.condition(v1alpha1.ConditionReady); c.Status != metav1.ConditionTrue {
			t.Errorf("Ready is %+v", c)
		}
		want := []string{"Adopted", "RolloutStarted", "StepStarted", "StepStarted", "ScaleAsked", "StepStarted", "BakeStarted", "Promoted", "Retired"}
		got := w.told()
		if len(got) != int(w.rollout().Status.N) {
			t.Errorf("%d events for %d decisions", len(got), w.rollout().Status.N)
		}
		for _, what := range want {
			if !slices.Contains(got, what) {
				t.Errorf("no event %s among %v", what, got)
			}
		}
		if w.pods.started {
			t.Error("pods are still watched")
		}
	})
}

// At rest nothing is asked of the API server and nothing is written: neither
// when the pass is repeated, nor by itself.
func TestARolloutAtRestCostsNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		for range 100 { // what is saved a little later
			w.pass()
			time.Sleep(time.Second)
		}
		before := w.total()
		for range 600 {
			if w.pass(); w.wake != 0 {
				t.Fatalf("a pass at rest asks to be repeated after %v", w.wake)
			}
			time.Sleep(time.Second)
		}
		if n := w.total() - before; n != 0 {
			t.Errorf("%d requests in 10 minutes at rest: %v", n, w.calls)
		}
	})
}

func TestDeletionGivesTheTrafficBack(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.must(w.api.Delete(context.Background(), w.rollout()))
		gone := func() bool {
			return apierrors.IsNotFound(w.api.Get(context.Background(), w.key(), &v1alpha1.Rollout{}))
		}
		began := time.Now()
		w.until("the Rollout is gone", gone)
		if got := w.weights(); got["v1"] != 100 || len(got) != 1 {
			t.Errorf("the route sends %v, want everything to v1", got)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		if w.c.app(w.key()) != nil && w.pass().RequeueAfter != 0 {
			t.Error("what is gone is passed over again")
		}
	})
}

// A namespace that is going must not wait for us: the route may be gone first,
// or nothing may come true any more.
func TestDeletionDoesNotWaitForEver(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.refuse = func(verb string, obj client.Object) error {
			if verb == "patch" && obj.GetObjectKind().GroupVersionKind() == routeKind {
				return errors.New("connection refused")
			}
			return nil
		}
		w.must(w.api.Delete(context.Background(), w.rollout()))
		began := time.Now()
		w.until("the Rollout is gone", func() bool {
			return apierrors.IsNotFound(w.api.Get(context.Background(), w.key(), &v1alpha1.Rollout{}))
		})
		if took := time.Since(began); took < endPatience || took > endPatience+time.Minute {
			t.Errorf("it took %v, want about %v", took, endPatience)
		}
	})
}

// Without the finalizer nothing is raised: nobody would give the traffic back.
func TestNothingIsRaisedWithoutTheFinalizer(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		w.refuse = func(verb string, obj client.Object) error {
			if verb == "patch" && strings.Contains(typeOf(obj), "Rollout") {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "rollouts"}, obj.GetName(), errors.New("no"))
			}
			return nil
		}
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		for range 100 {
			w.pass()
			time.Sleep(100 * time.Millisecond)
		}
		if got := w.weights(); got["v2"] != 0 {
			t.Fatalf("the route sends %v without a finalizer", got)
		}
		w.refuse = nil
		w.until("v2 has 5 %", func() bool { return w.weights()["v2"] == 5 })
	})
}

func typeOf(obj client.Object) string {
	if k := obj.GetObjectKind().GroupVersionKind().Kind; k != "" {
		return k
	}
	if _, ok := obj.(*v1alpha1.Rollout); ok {
		return v1alpha1.Kind
	}
	return ""
}

// A panic ends one pass, is said on that Rollout, and is forgotten once it does
// not come back.
func TestAPanicStaysWithItsRollout(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.c.trip = func(types.NamespacedName) { panic("index out of range") }
		if res := w.pass(); res.RequeueAfter != afterPanic {
			t.Errorf("tried again after %v, want %v", res.RequeueAfter, afterPanic)
		}
		if c := w.condition(v1alpha1.ConditionStalled); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "index out of range") {
			t.Errorf("Stalled is %+v", c)
		}
		if got := w.weights(); got["v2"] != 5 {
			t.Errorf("the panic moved traffic: %v", got)
		}
		w.c.trip = nil
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
	})
}

// The same of one while something is read, which is done beside the pass.
func TestAPanicWhileReading(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.pods.mistake = true
		if res := w.pass(); res.RequeueAfter != afterPanic {
			t.Errorf("tried again after %v, want %v", res.RequeueAfter, afterPanic)
		}
		if c := w.condition(v1alpha1.ConditionStalled); !strings.Contains(c.Message, "nil map") {
			t.Errorf("Stalled is %+v", c)
		}
		w.pods.mistake = false
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
	})
}

// All of a document's faults are said at once; what was good before goes on.
func TestAnInvalidDocument(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.edit(func(d *v1alpha1.Rollout) {
			d.Spec.Drift = "Perhaps"
			d.Spec.Promotion.Retire = "Burn"
		})
		w.pass()
		c := w.condition(v1alpha1.ConditionReady)
		if c.Reason != v1alpha1.ReasonInvalid || !strings.Contains(c.Message, "spec.drift") || !strings.Contains(c.Message, "spec.promotion.retire") {
			t.Errorf("Ready is %+v, want both faults", c)
		}
		w.until("the last good document went on", func() bool { return w.weights()["v2"] == 50 })
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Drift, d.Spec.Promotion.Retire = "Obey", "Keep" })
		w.until("v2 is stable", func() bool {
			return w.idle() && w.stable() == "v2" && w.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue
		})
		if n := w.replicas("my-app-v1"); n != 3 {
			t.Errorf("v1 has %d replicas: the corrected document says Keep", n)
		}
	})
}

// A process that starts while a canary is out and the document cannot be
// followed never saw the last good one. The canary is attended to all the same:
// nothing is raised, commands are obeyed, a deletion gives the traffic back.
func TestARestartUnderAnInvalidDocument(t *testing.T) {
	for name, then := range map[string]func(w *world){
		"Abort": func(w *world) {
			w.must(w.api.Create(context.Background(), &v1alpha1.RolloutCommand{
				ObjectMeta: metav1.ObjectMeta{Name: "abort-1", Namespace: ns},
				Spec:       v1alpha1.RolloutCommandSpec{Rollout: "my-app", Verb: v1alpha1.VerbAbort, By: "alice", Reason: "smells"},
			}))
			w.until("it is over", w.idle)
			if c := w.condition(v1alpha1.ConditionReady); c.Reason != v1alpha1.ReasonInvalid {
				t.Errorf("at rest Ready is %+v", c)
			}
		},
		"Delete": func(w *world) {
			w.must(w.api.Delete(context.Background(), w.rollout()))
			w.until("the Rollout is gone", func() bool {
				return apierrors.IsNotFound(w.api.Get(context.Background(), w.key(), &v1alpha1.Rollout{}))
			})
		},
		"Correct": func(w *world) {
			w.edit(func(d *v1alpha1.Rollout) { d.Spec.Drift = "Obey" })
			w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.canary()
				w.edit(func(d *v1alpha1.Rollout) { d.Spec.Drift = "Perhaps" })
				w.c.forget(w.key()) // as a new process finds it
				for range 60 {
					w.pass()
					time.Sleep(time.Second)
				}
				if got := w.weights(); got["v2"] != 5 {
					t.Errorf("the route sends %v, want v2 at its 5", got)
				}
				if c := w.condition(v1alpha1.ConditionReady); c.Reason != v1alpha1.ReasonInvalid || !strings.Contains(c.Message, "spec.drift") {
					t.Errorf("Ready is %+v", c)
				}
				then(w)
				if got := w.weights(); name != "Correct" && got["v1"] != 100 {
					t.Errorf("the route sends %v, want everything to v1", got)
				}
			})
		})
	}
}

func TestACommandIsObeyedOnceAndAnswered(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.must(w.api.Create(context.Background(), &v1alpha1.RolloutCommand{
			ObjectMeta: metav1.ObjectMeta{Name: "abort-1", Namespace: ns},
			Spec:       v1alpha1.RolloutCommandSpec{Rollout: "my-app", Verb: v1alpha1.VerbAbort, By: "alice", Reason: "smells"},
		}))
		w.pass()
		if got := w.weights(); got["v2"] != 0 {
			t.Errorf("after the pass that saw the abort the route sends %v", got)
		}
		cmd := &v1alpha1.RolloutCommand{}
		w.must(w.api.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: "abort-1"}, cmd))
		if !cmd.Status.Taken || !strings.Contains(cmd.Status.Message, "alice aborted v2: smells") {
			t.Errorf("the command's status is %+v", cmd.Status)
		}
		w.until("it is over", w.idle)
		if c := w.condition(v1alpha1.ConditionReady); c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonAborted {
			t.Errorf("Ready is %+v", c)
		}
		if got := w.told(); slices.Index(got, "Aborted") < 0 {
			t.Errorf("no event for the abort among %v", got)
		}
	})
}

// Who commands a Rollout that is not there is told so, once it is clear that it
// does not only come later.
func TestACommandForNobodyIsRefused(t *testing.T) {
	bubble(t, func(w *world) {
		cmd := &v1alpha1.RolloutCommand{
			ObjectMeta: metav1.ObjectMeta{Name: "lost", Namespace: ns, CreationTimestamp: metav1.Now()},
			Spec:       v1alpha1.RolloutCommandSpec{Rollout: "nobody", Verb: v1alpha1.VerbPause, By: "alice"},
		}
		w.must(w.api.Create(context.Background(), cmd))
		req := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: ns, Name: "nobody"}}
		for wait := time.Duration(1); wait > 0; time.Sleep(wait) {
			res, err := w.c.Reconcile(context.Background(), req)
			w.must(err)
			wait = res.RequeueAfter
		}
		w.must(w.api.Get(context.Background(), client.ObjectKeyFromObject(cmd), cmd))
		if !cmd.Status.Taken || !strings.Contains(cmd.Status.Message, "there is no Rollout nobody in shop") || time.Since(cmd.CreationTimestamp.Time) < orphanAfter-time.Second {
			t.Errorf("after %v the command's status is %+v", time.Since(cmd.CreationTimestamp.Time), cmd.Status)
		}
	})
}

// A decision that breaks an invariant changes nothing, and is said in the
// status, as an event and in the metrics.
func TestARefusedDecisionIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		time.Sleep(time.Second)
		w.broken["my-app-v2"] = true
		w.deploy("v2", 2)
		w.step()
		w.until("v2 is waited for", func() bool { return w.rollout().Status.Phase == v1alpha1.PhasePreparing })
		w.c.decide = func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
			d := rollout.Decide(spec, st, obs, now)
			if d.Next.Phase == rollout.Preparing { // sends users to nobody
				d.Next.Phase, d.Next.Granted = rollout.Progressing, 500
				d.Next.N++
				d.Next.TrafficN = d.Next.N
				e := rollout.Event{N: d.Next.N, At: now, By: "rule", What: rollout.EvStepStarted, Why: "a mistake"}
				d.Events = append(d.Events, e)
				d.Next.Decisions = append(d.Next.Decisions, e)
				d.Traffic = &rollout.Traffic{N: d.Next.N, Stable: d.Next.Stable.Revision, Canary: d.Next.Canary.Revision, Weight: 500}
				d.Save = rollout.SaveMust
			}
			return d
		}
		w.c.forget(w.key()) // as after a start
		for range 5 {
			w.pass()
			time.Sleep(time.Second)
		}
		if got := w.weights(); got["v2"] != 0 {
			t.Errorf("the route sends %v to a version without a ready pod", got)
		}
		if c := w.condition(v1alpha1.ConditionStalled); !strings.Contains(c.Message, "invariant I2") {
			t.Errorf("Stalled is %+v", c)
		}
		if got := w.told(); !slices.Contains(got, evViolation) {
			t.Errorf("no event among %v", got)
		}
		if n := w.counted("serin_invariant_violations_total"); n < 1 {
			t.Errorf("%v violations counted", n)
		}
	})
}

// What is told twice is there once.
func TestEventsAreIdempotent(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		a := w.c.app(w.key())
		before, counted := w.told(), w.counted("serin_decisions_total")
		for range 3 {
			w.must(a.Tell(context.Background(), a.state().Decisions))
		}
		if after := w.told(); !slices.Equal(before, after) {
			t.Errorf("events %v, were %v", after, before)
		}
		if n := w.counted("serin_decisions_total"); counted == 0 || n != counted {
			t.Errorf("%v decisions counted, were %v", n, counted)
		}
	})
}

// Edited traffic takes effect at rest, not under a canary that runs, whoever
// goes on with it.
func TestOtherObjectsTakeEffectAtRest(t *testing.T) {
	for name, meanwhile := range map[string]func(w *world){
		"the same process": func(w *world) {},
		"a new process":    func(w *world) { w.c.forget(w.key()) },
		"after a mistake": func(w *world) {
			w.c.trip = func(types.NamespacedName) { panic("index out of range") }
			w.pass()
			w.c.trip = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.canary()
				w.edit(func(d *v1alpha1.Rollout) { d.Spec.Traffic[0].Istio.VirtualService = "another" })
				meanwhile(w)
				w.pass()
				if got := w.c.app(w.key()).routes(); len(got) != 1 || got[0].Name != "my-app-vs" {
					t.Errorf("under the canary the routes are %v", got)
				}
				w.until("v2 is stable", func() bool { return w.stable() == "v2" && w.idle() })
				if got := w.weights(); got["v2"] != 100 {
					t.Errorf("the route sends %v, want everything to v2", got)
				}
				w.pass()
				w.pass()
				if got := w.c.app(w.key()).routes(); len(got) != 1 || got[0].Name != "another" {
					t.Errorf("at rest the routes are %v", got)
				}
				if kept := w.rollout().Status.Objects; kept != nil {
					t.Errorf("at rest the status keeps %s", kept.Raw)
				}
			})
		})
	}
}

func TestMetricsGoWithTheirObject(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		series := func() (n int) {
			all, err := w.c.meter.registry.Gather()
			w.must(err)
			for _, f := range all {
				for _, m := range f.GetMetric() {
					for _, l := range m.GetLabel() {
						if l.GetName() == "app" && l.GetValue() == ns+"/my-app" {
							n++
						}
					}
				}
			}
			return n
		}
		if n := series(); n < 20 {
			t.Errorf("%d series while it runs", n)
		}
		w.c.forget(w.key())
		if n := series(); n != 0 {
			t.Errorf("%d series of an object that is gone", n)
		}
	})
}

// Of what waits, that which takes exposure back goes first.
func TestUrgency(t *testing.T) {
	for name, c := range map[string]struct {
		state  rollout.State
		lowers bool
		want   int
	}{
		"rest":         {rollout.State{Phase: rollout.Idle}, false, atRest},
		"going on":     {rollout.State{Phase: rollout.Progressing}, false, underWay},
		"taking back":  {rollout.State{Phase: rollout.RollingBack}, false, lowering},
		"hand obeyed":  {rollout.State{Phase: rollout.Progressing}, true, lowering},
		"still leaves": {rollout.State{Phase: rollout.Idle, Leaving: []rollout.Leaving{{}}}, false, underWay},
	} {
		p := &passed{}
		p.result.State, p.result.Decision.Lowers = c.state, c.lowers
		if got := urgencyOf(p); got != c.want {
			t.Errorf("%s: priority %d, want %d", name, got, c.want)
		}
	}
}
