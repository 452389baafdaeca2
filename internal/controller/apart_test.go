package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/serin-dev/serin/api/v1alpha1"
)

// second is another Rollout for the same VirtualService, or for the same
// Deployments alone.
func (w *world) second(route string) types.NamespacedName {
	w.t.Helper()
	doc := strings.NewReplacer("name: my-app, namespace", `name: a-second, creationTimestamp: "2000-01-01T00:00:05Z", namespace`, "rollout-uid", "second-uid", "my-app-vs", route).Replace(quickDocument)
	w.document(doc)
	return types.NamespacedName{Namespace: ns, Name: "a-second"}
}

func (w *world) reconcile(key types.NamespacedName) v1alpha1.RolloutStatus {
	w.t.Helper()
	_, err := w.c.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
	w.must(err)
	doc := &v1alpha1.Rollout{}
	if w.api.Get(context.Background(), key, doc) != nil {
		return v1alpha1.RolloutStatus{}
	}
	return doc.Status
}

// Two Rollouts for one route: the older one is followed as if it were alone, in
// whatever order they are met; the other says why it is not, costs nothing, and
// is woken when the older one is gone.
func TestTwoRolloutsForOneRoute(t *testing.T) {
	bubble(t, func(w *world) {
		second := w.second("my-app-vs")
		if s := w.reconcile(second); !strings.Contains(s.Message, "my-app-vs is split by Rollout my-app, which is older") {
			t.Errorf("before the older one is met it says %q", s.Message)
		}
		atRest := func() bool { s := w.rollout().Status; return s.Phase == v1alpha1.PhaseIdle && s.Stable != nil }
		w.until("v1 at rest", atRest)
		w.deploy("v2", 2)
		w.until("v2 promoted", func() bool { w.reconcile(second); return atRest() && w.rollout().Status.Stable.Label == "v2" })
		if told := w.told(); slices.Contains(told, "StateRebuilt") || slices.Contains(told, "DriftObeyed") {
			t.Errorf("the second one was noticed: %v", told)
		}
		writes := func() (n int) {
			for what, k := range w.calls {
				if !strings.HasPrefix(what, "get ") {
					n += k
				}
			}
			return n
		}
		before := writes()
		for range 3 {
			w.reconcile(second)
		}
		if after := writes(); after != before || before == 0 {
			t.Errorf("one that waits writes: %d, then %d: %v", before, after, w.calls)
		}

		w.c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer w.c.queue.ShutDown()
		first := w.rollout()
		first.Finalizers = nil
		w.must(w.api.Update(context.Background(), first))
		w.must(w.api.Delete(context.Background(), first))
		w.reconcile(w.key())
		if woken, _ := w.c.queue.Get(); woken.NamespacedName != second {
			t.Errorf("woken was %v", woken)
		}
		for range 5 {
			w.reconcile(second)
			time.Sleep(time.Second)
		}
		if s := w.reconcile(second); s.Phase != v1alpha1.PhaseIdle || s.Stable == nil || s.Stable.Label != "v2" {
			t.Errorf("the one that is left is %+v", s)
		}
		w.c.forget(second)
	})
}

// The same where the newer one is edited onto the route of the older one: what
// it said before stays in force.
func TestARolloutEditedOntoAnothersRoute(t *testing.T) {
	bubble(t, func(w *world) {
		second := w.second("b-vs")
		w.reconcile(second)
		doc := &v1alpha1.Rollout{}
		w.must(w.api.Get(context.Background(), second, doc))
		doc.Spec.Traffic[0].Istio.VirtualService = "my-app-vs"
		doc.Generation++
		w.must(w.api.Update(context.Background(), doc))
		for range 3 {
			if s := w.reconcile(second); !strings.Contains(s.Message, "my-app-vs is split by Rollout my-app, which is older") {
				t.Errorf("it says %q", s.Message)
			}
		}
		if got := w.c.app(second).routes(); len(got) != 1 || got[0].Name != "b-vs" {
			t.Errorf("it follows %v", got)
		}
	})
}

// Two Rollouts for the same Deployments: neither moves traffic.
func TestTwoRolloutsForOneDeployment(t *testing.T) {
	bubble(t, func(w *world) {
		vs := raw(routeKind)
		w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "my-app-vs"}, vs))
		vs.SetName("other-vs")
		vs.SetResourceVersion("")
		w.must(w.api.Create(context.Background(), vs))
		second := w.second("other-vs")
		w.until("both at rest", func() bool {
			s := w.reconcile(second)
			return s.Phase == v1alpha1.PhaseIdle && w.rollout().Status.Phase == v1alpha1.PhaseIdle
		})
		w.deploy("v2", 2)
		w.until("both refuse", func() bool {
			return strings.Contains(w.reconcile(second).Message, "Deployment my-app-v1 is selected by Rollout my-app, too") &&
				strings.Contains(w.rollout().Status.Message, "Deployment my-app-v1 is selected by Rollout a-second, too")
		})
		if got := fmt.Sprint(w.weights()); got != "map[v1:100]" {
			t.Errorf("the route sends %s", got)
		}
		w.must(w.api.Delete(context.Background(), &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: second.Name}}))
		w.until("v2 promoted", func() bool {
			w.reconcile(second)
			s := w.rollout().Status
			return s.Phase == v1alpha1.PhaseIdle && s.Stable.Label == "v2"
		})
	})
}
