package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	eventsv1 "k8s.io/api/events/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
)

// gauge is a series of the Rollout's; -1: there is none.
func (w *world) gauge(name string) float64 {
	all, err := w.c.meter.registry.Gather()
	w.must(err)
	for _, f := range all {
		if f.GetName() == name && len(f.GetMetric()) > 0 {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}

// asks commands the Rollout and gives the command as it is after one pass.
func (w *world) asks(name string, verb v1alpha1.CommandVerb) v1alpha1.RolloutCommandStatus {
	w.t.Helper()
	cmd := &v1alpha1.RolloutCommand{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, CreationTimestamp: metav1.Now()},
		Spec:       v1alpha1.RolloutCommandSpec{Rollout: "my-app", Verb: verb, By: "alice", Reason: "smells"},
	}
	w.must(w.api.Create(context.Background(), cmd))
	w.pass()
	w.must(w.api.Get(context.Background(), client.ObjectKeyFromObject(cmd), cmd))
	return cmd.Status
}

func (w *world) patchStatus(body string) {
	w.t.Helper()
	w.must(w.api.Status().Patch(context.Background(), w.rollout(), client.RawPatch(types.MergePatchType, []byte(body))))
}

// deny refuses a verb on what has this kind.
func deny(verb, kind string) func(string, client.Object) error {
	return func(v string, obj client.Object) error {
		is := typeOf(obj)
		if _, event := obj.(*eventsv1.Event); event {
			is = "Event"
		}
		if v == verb && is == kind {
			return apierrors.NewForbidden(schema.GroupResource{Resource: strings.ToLower(kind) + "s"}, obj.GetName(), errors.New("no rule allows it"))
		}
		return nil
	}
}

// A saved state that cannot be read is said in the status, as an event and as a
// metric; commands are answered; nothing is moved, and nothing of the copy is
// lost. The remedy that it names helps.
func TestADamagedStateIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.patchStatus(`{"status":{"state":{"n":"four"}}}`)
		before := w.rollout().Status
		w.c.forget(w.key()) // as a new process finds it
		if res := w.pass(); res.RequeueAfter != lookAgain {
			t.Errorf("it is looked at again after %v, want %v", res.RequeueAfter, lookAgain)
		}
		for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionStalled} {
			if c := w.condition(kind); c.Reason != standing.StateUnreadable || (c.Status == metav1.ConditionTrue) != (kind == v1alpha1.ConditionStalled) || !strings.Contains(c.Message, "kubectl patch rollout my-app -n shop") {
				t.Errorf("%s is %+v", kind, c)
			}
		}
		if got := w.rollout().Status.Message; !strings.Contains(got, "Nothing is judged, moved or taken back") || !strings.Contains(got, "cannot be understood") {
			t.Errorf("the message is %q", got)
		}
		if got := w.gauge("serin_stalled"); got != 1 {
			t.Errorf("serin_stalled is %v", got)
		}
		if got := w.told(); !slices.Contains(got, evUnreadable) {
			t.Errorf("no event among %v", got)
		}
		if got := w.asks("abort-1", v1alpha1.VerbAbort); !got.Taken || !strings.HasPrefix(got.Message, "refused: Nothing is judged, moved or taken back: ") {
			t.Errorf("an abort is answered with %+v", got)
		}
		if got := w.weights(); got["v2"] != 5 {
			t.Errorf("the route sends %v", got)
		}
		writes := w.calls["patch status Rollout"]
		for range 20 {
			w.pass()
			time.Sleep(lookAgain)
		}
		if n := w.calls["patch status Rollout"]; n != writes {
			t.Errorf("what is said already is written again: %d times", n-writes)
		}
		after := w.rollout().Status
		after.Message, after.Conditions = before.Message, before.Conditions
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("more was changed than is said:\n%s", diff)
		}

		w.patchStatus(`{"status":null}`)
		w.until("it goes on from the route", func() bool {
			return w.rollout().Status.Copy != "" && w.condition(v1alpha1.ConditionStalled).Reason != standing.StateUnreadable
		})
		if got := w.weights(); got["v1"] < 95 {
			t.Errorf("after the remedy the route sends %v", got)
		}
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
		if got := w.gauge("serin_stalled"); got != 0 {
			t.Errorf("in the end serin_stalled is %v", got)
		}
	})
}

// An API server that is away is no damage: nothing is said, and commands wait.
func TestAStateThatIsAwayIsNotDamaged(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		w.c.forget(w.key())
		w.refuse = func(verb string, obj client.Object) error {
			if verb == "get" {
				return errors.New("connection refused")
			}
			return nil
		}
		if got := w.asks("abort-1", v1alpha1.VerbAbort); got.Taken {
			t.Errorf("the command is answered with %+v", got)
		}
		w.refuse = nil
		w.until("the abort is obeyed", func() bool { return w.weights()["v2"] == 0 })
	})
}

// Who commands a Rollout whose document could never be followed is told so at
// once, with what is wrong with it.
func TestACommandUnderADocumentThatWasNeverGood(t *testing.T) {
	bubble(t, func(w *world) {
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Drift = "Perhaps" })
		w.pass()
		got := w.asks("pause-1", v1alpha1.VerbPause)
		if !got.Taken || !strings.HasPrefix(got.Message, "refused: the document of my-app cannot be followed, so nothing was moved: ") || !strings.Contains(got.Message, "spec.drift") {
			t.Errorf("it is answered with %+v", got)
		}
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Drift = "Obey" })
		w.adopt()
		if got := w.rollout().Status.Paused; len(got) != 0 {
			t.Errorf("what was refused was done later: %+v", got)
		}
	})
}

// Without the right to make events decisions are in the log and counted, once;
// the status says what is missing, and nothing is asked again and again.
func TestDecisionsWithoutEvents(t *testing.T) {
	bubble(t, func(w *world) {
		w.refuse = deny("create", "Event")
		w.canary()
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
		for range 60 {
			w.pass()
			time.Sleep(time.Second)
		}
		st := w.rollout().Status
		if got := w.counted("serin_decisions_total"); got != float64(st.N) || st.N < 5 {
			t.Errorf("%v decisions counted of %d", got, st.N)
		}
		if w.wake != 0 {
			t.Errorf("at rest a pass asks to be repeated after %v", w.wake)
		}
		if st.Told != st.N {
			t.Errorf("%d of %d decisions are told", st.Told, st.N)
		}
		said := func() bool {
			return slices.ContainsFunc(w.rollout().Status.Findings, func(f v1alpha1.Finding) bool { return strings.Contains(f.What, "no rule allows it") })
		}
		if !said() {
			t.Errorf("findings %+v", w.rollout().Status.Findings)
		}
		w.refuse = nil
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Suspend = true })
		w.asks("pause-1", v1alpha1.VerbPause)
		w.until("it is no longer said", func() bool { return !said() })
	})
}

// A write that is denied is said in the status as long as it is, and only then.
func TestADeniedSplitIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		w.refuse = deny("patch", routeKind.Kind)
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		stalled := func() metav1.Condition { return w.condition(v1alpha1.ConditionStalled) }
		w.until("it is said", func() bool { return strings.Contains(w.rollout().Status.Message, "no rule allows it") })
		if c := stalled(); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "applying the split") || !strings.Contains(c.Message, "my-app-vs") {
			t.Errorf("Stalled is %+v", c)
		}
		since, writes := stalled().LastTransitionTime, w.calls["patch status Rollout"]
		for range 120 {
			w.pass()
			time.Sleep(time.Second)
		}
		if c := stalled(); !c.LastTransitionTime.Equal(&since) {
			t.Errorf("Stalled came and went: since %s, was %s", c.LastTransitionTime, since)
		}
		if n := w.calls["patch status Rollout"] - writes; n > 12 {
			t.Errorf("%d writes of the status in two minutes", n)
		}
		if got := w.gauge("serin_stalled"); got != 1 {
			t.Errorf("serin_stalled is %v", got)
		}
		w.refuse = nil
		w.until("v2 has 5 %", func() bool { return w.weights()["v2"] == 5 })
		w.until("the trouble is over", func() bool { return stalled().Status != metav1.ConditionTrue })
		if got := w.rollout().Status.Message; strings.Contains(got, "no rule allows it") {
			t.Errorf("it says %q", got)
		}
	})
}

// What the status cannot say because it cannot be written is an event and a
// metric.
func TestAStatusThatCannotBeWrittenIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		w.refuse = deny("patch status", "Rollout")
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		w.until("it is told as an event", func() bool { return slices.Contains(w.told(), evUnwritten) })
		w.until("it is counted", func() bool { return w.gauge("serin_stalled") == 1 })
		if got := w.weights(); got["v2"] != 0 {
			t.Errorf("the route sends %v", got)
		}
		w.refuse = nil
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" && w.gauge("serin_stalled") == 0 })
	})
}

// A save that is refused for what is in it (a schema that is older than the
// program) is said in the status: the words have room.
func TestASaveThatIsRefusedIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		large := strings.Repeat("x", v1alpha1.MaxStatusBytes)
		w.c.decide = func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
			d := rollout.Decide(spec, st, obs, now)
			if d.Next.Phase == rollout.Preparing {
				d.Next.Canary.Name = large
			}
			return d
		}
		w.c.forget(w.key()) // as after a start
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		w.until("it is said", func() bool { return strings.Contains(w.rollout().Status.Message, "saving the state") })
		if c := w.condition(v1alpha1.ConditionStalled); c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "refused") {
			t.Errorf("Stalled is %+v", c)
		}
		if got := w.weights(); got["v2"] != 0 {
			t.Errorf("the route sends %v", got)
		}
	})
}

// A finalizer that cannot be added is said: without it nothing is raised.
func TestAMissingFinalizerIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		w.refuse = deny("patch", v1alpha1.Kind)
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		w.until("it is said", func() bool { return strings.Contains(w.rollout().Status.Message, "adding the finalizer") })
		if c := w.condition(v1alpha1.ConditionStalled); c.Status != metav1.ConditionTrue {
			t.Errorf("Stalled is %+v", c)
		}
		if w.wake < time.Second {
			t.Errorf("it is tried again after %v", w.wake)
		}
		w.refuse = nil
		w.until("v2 is stable, and nothing is said of it", func() bool {
			return w.idle() && w.stable() == "v2" && !strings.Contains(w.rollout().Status.Message, "finalizer")
		})
	})
}
