package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
)

// serve gives a version a Service of its own.
func (w *world) serve(version string) {
	w.t.Helper()
	w.must(w.api.Create(context.Background(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "my-app-" + version, Namespace: ns, CreationTimestamp: metav1.Now()},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "my-app", "version": version}, Ports: []corev1.ServicePort{{Port: 80}}},
	}))
}

// endpoints brings the Services' endpoints up to what the Deployments have, as
// the cluster does; w.step has done it for the Service of all versions.
func (w *world) endpoints() {
	w.t.Helper()
	ctx := context.Background()
	all := &discoveryv1.EndpointSlice{}
	w.must(w.api.Get(ctx, types.NamespacedName{Namespace: ns, Name: "my-app-service-x1"}, all))
	var services corev1.ServiceList
	w.must(w.api.List(ctx, &services))
	for _, s := range services.Items {
		if s.Spec.Selector["version"] == "" {
			continue
		}
		own := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: s.Name + "-x1", Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}}}
		_ = w.api.Delete(ctx, own)
		for _, e := range all.Endpoints {
			if strings.HasPrefix(e.TargetRef.Name, s.Name+"-") {
				own.Endpoints = append(own.Endpoints, e)
			}
		}
		w.must(w.api.Create(ctx, own))
	}
}

// hosts are the weights by host.
func (w *world) hosts() string { return fmt.Sprint(w.sent("host", 100)) }

// One Service for each version: a version whose Service is not there yet waits
// and says so; its pods count when they are behind their own Service, which the
// route names only then; a Service that comes later is heard of.
func TestOneServiceForEachVersion(t *testing.T) {
	bubble(t, func(w *world) {
		w.serve("v1")
		vs := raw(routeKind)
		w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "my-app-vs"}, vs))
		w.must(unstructured.SetNestedSlice(vs.Object, []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "my-app-v1"}}}}}, "spec", "http"))
		w.must(w.api.Update(context.Background(), vs))
		w.edit(func(r *v1alpha1.Rollout) { r.Spec.Traffic[0].Istio.DestinationRule = "" })
		until := func(what string, holds func(v1alpha1.RolloutStatus) bool) {
			w.t.Helper()
			w.until(what, func() bool { w.endpoints(); return holds(w.rollout().Status) })
		}
		until("v1 at rest", func(s v1alpha1.RolloutStatus) bool {
			return s.Phase == v1alpha1.PhaseIdle && s.Stable != nil && s.Stable.Label == "v1"
		})

		w.deploy("v2", 2)
		until("v2 without a Service", func(s v1alpha1.RolloutStatus) bool {
			return s.Phase == v1alpha1.PhasePreparing && strings.Contains(s.Message, "v2 has no Service of its own")
		})
		if got := w.hosts(); got != "map[my-app-v1:100]" {
			t.Errorf("the route sends %s", got)
		}
		key := types.NamespacedName{Namespace: ns, Name: "my-app-v2"}
		if got := fmt.Sprint(w.c.index.byNewService(key)); got != "[shop/my-app]" {
			t.Errorf("a new Service wakes %s", got)
		}
		w.serve("v2")
		until("v2 has a share", func(v1alpha1.RolloutStatus) bool { return w.hosts() == "map[my-app-v1:95 my-app-v2:5]" })
		if got := fmt.Sprint(w.c.index.byService(key)); got != "[shop/my-app]" {
			t.Errorf("endpoints of v2's Service wake %s", got)
		}
		until("v2 promoted", func(s v1alpha1.RolloutStatus) bool {
			return s.Phase == v1alpha1.PhaseIdle && s.Stable.Label == "v2" && w.hosts() == "map[my-app-v2:100]"
		})
		if n := w.replicas("my-app-v1"); n != 0 {
			t.Errorf("v1 has %d replicas", n)
		}
		if w.calls["patch DestinationRule"] > 0 {
			t.Error("a DestinationRule was written")
		}
	})
}

// The right to write DestinationRules is missed only where there is one.
func TestSubsetsNeedARightServicesDoNot(t *testing.T) {
	without := func(r right) bool { return r.resource == "destinationrules" }
	for rule, want := range map[string]string{"": "[]", "my-app-dest": "[Warn]"} {
		doc := &v1alpha1.Rollout{Spec: v1alpha1.RolloutSpec{Traffic: []v1alpha1.Traffic{{Istio: &v1alpha1.IstioTraffic{VirtualService: "my-app-vs", DestinationRule: rule}}}}}
		var levels []rollout.Level
		for _, f := range rightFindings(without, doc, false) {
			levels = append(levels, f.Level)
		}
		if got := fmt.Sprint(levels); got != want {
			t.Errorf("destinationRule %q: missing %s, want %s", rule, got, want)
		}
	}
}
