package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/metric/podscrape"
	"github.com/serin-dev/serin/internal/rollout"
)

const ns = "shop"

// world is a namespace with the founding objects, a controller over a client
// that keeps objects in memory, and in step what a cluster's own controllers
// do. Nothing of it is watched: every pass is asked for. The real API server is
// in test/cluster.
type world struct {
	t      *testing.T
	c      *Controller
	api    client.Client // as a user's: not counted
	calls  map[string]int
	refuse func(verb string, obj client.Object) error
	broken map[string]bool // Deployments whose pods do not get ready
	pods   *fakePods
	wake   time.Duration // what the last pass asked for
}

type fakePods struct {
	started bool
	mistake bool // reading them panics
}

func (p *fakePods) start(context.Context) error { p.started = true; return nil }
func (p *fakePods) end()                        { p.started = false }
func (p *fakePods) list() ([]*corev1.Pod, bool) {
	if p.mistake {
		panic("assignment to entry in nil map")
	}
	return nil, false
}

const articleObjects = `
- apiVersion: v1
  kind: Service
  metadata: {name: my-app-service, namespace: shop}
  spec: {selector: {app: my-app}, ports: [{protocol: TCP, port: 80, targetPort: 8080}]}
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: my-app-dest, namespace: shop}
  spec: {host: my-app-service, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: my-app-vs, namespace: shop}
  spec: {hosts: [my-app-service], http: [{route: [{destination: {host: my-app-service, subset: v1}, weight: 100}]}]}
`

const quickDocument = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app, namespace: shop, uid: rollout-uid, generation: 1}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 1s}}]
  strategy: {canary: {steps: [{weight: 5%, hold: 2s}, {weight: 50%, hold: 2s}, {weight: 100%, hold: 2s}]}}
  analysis: {none: {reason: "shows the host"}}
  promotion: {bake: 2s}
`

// bubble runs a test under virtual time.
func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f(w)
		w.c.forget(w.key())
		w.c.scraper.Close()
	})
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, calls: map[string]int{}, broken: map[string]bool{}, pods: &fakePods{}}
	base := fake.NewClientBuilder().WithScheme(Scheme()).
		WithStatusSubresource(&v1alpha1.Rollout{}, &v1alpha1.RolloutCommand{}, &appsv1.Deployment{}).Build()
	w.api = base
	call := func(verb string, obj client.Object) error {
		if w.refuse != nil {
			if err := w.refuse(verb, obj); err != nil {
				return err
			}
		}
		kind := obj.GetObjectKind().GroupVersionKind().Kind
		if kind == "" {
			kind = fmt.Sprintf("%T", obj)
		}
		w.calls[verb+" "+kind]++
		return nil
	}
	watched := interceptor.NewClient(base, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if err := call("create", obj); err != nil {
				return err
			}
			if r, ok := obj.(*authorizationv1.SelfSubjectRulesReview); ok {
				r.Status.ResourceRules = []authorizationv1.ResourceRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}}
				return nil
			}
			return c.Create(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if err := call("patch", obj); err != nil {
				return err
			}
			return c.Patch(ctx, obj, patch, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := call("patch "+sub, obj); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if err := call("delete", obj); err != nil {
				return err
			}
			return c.Delete(ctx, obj, opts...)
		},
	})
	live := interceptor.NewClient(base, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		if err := call("get", obj); err != nil {
			return err
		}
		return c.Get(ctx, key, obj, opts...)
	}})
	o := Options{Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	w.c = &Controller{
		o: o, log: o.Logger, index: newIndex(), apps: map[types.NamespacedName]*app{}, run: context.Background(), decide: rollout.Decide,
		client: newOwnClient(watched), live: live, direct: watched,
		watch:   func(string, labels.Selector, func()) podSource { return w.pods },
		scraper: podscrape.New(podscrape.Options{}), rights: newRights(watched),
	}
	w.c.meter = newMeter(w.c)

	var objects []map[string]any
	w.must(yaml.Unmarshal([]byte(articleObjects), &objects))
	for _, o := range objects {
		w.must(base.Create(context.Background(), &unstructured.Unstructured{Object: o}))
	}
	w.deploy("v1", 3)
	w.step()
	w.document(quickDocument)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) key() types.NamespacedName {
	return types.NamespacedName{Namespace: ns, Name: "my-app"}
}

func (w *world) document(text string) {
	w.t.Helper()
	doc := &v1alpha1.Rollout{}
	w.must(yaml.Unmarshal([]byte(text), doc))
	w.must(w.api.Create(context.Background(), doc))
}

// edit changes the document as a user would.
func (w *world) edit(change func(*v1alpha1.Rollout)) {
	w.t.Helper()
	doc := w.rollout()
	change(doc)
	doc.Generation++
	w.must(w.api.Update(context.Background(), doc))
}

func (w *world) deploy(version string, replicas int32) {
	w.t.Helper()
	set := map[string]string{"app": "my-app", "version": version}
	w.must(w.api.Create(context.Background(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "my-app-" + version, Namespace: ns, UID: types.UID("uid-" + version), Generation: 1, CreationTimestamp: metav1.Now()},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: set}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: set},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "my-registry/my-app:" + version}}},
		}},
	}))
}

// step does what a cluster's controllers do with Deployments.
func (w *world) step() {
	ctx := context.Background()
	var all appsv1.DeploymentList
	w.must(w.api.List(ctx, &all, client.InNamespace(ns)))
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Name: "my-app-service-x1", Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: "my-app-service"},
	}}
	for i := range all.Items {
		d := &all.Items[i]
		n := *d.Spec.Replicas
		ready := n
		if w.broken[d.Name] {
			ready = 0
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: ready}
		w.must(w.api.Status().Update(ctx, d))
		for j := range n {
			is := ready > j
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &is},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprintf("%s-5d8b7c9f6b-x%dklm", d.Name, j+2)},
			})
		}
	}
	_ = w.api.Delete(ctx, slice)
	slice.ResourceVersion = ""
	w.must(w.api.Create(ctx, slice))
}

// pass reconciles once and lets the cluster follow.
func (w *world) pass() reconcile.Result {
	w.t.Helper()
	res, err := w.c.Reconcile(context.Background(), reconcile.Request{NamespacedName: w.key()})
	w.must(err)
	w.step()
	w.wake = res.RequeueAfter
	return res
}

// until passes whenever the last pass asked for it, or once a second.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	for range 2000 {
		if w.pass(); holds() {
			return
		}
		wait := w.wake
		if wait <= 0 || wait > time.Second {
			wait = time.Second
		}
		time.Sleep(wait) // virtual
	}
	w.t.Fatalf("still not so: %s\n%s", what, w.told())
}

func (w *world) rollout() *v1alpha1.Rollout {
	w.t.Helper()
	doc := &v1alpha1.Rollout{}
	w.must(w.api.Get(context.Background(), w.key(), doc))
	return doc
}

func (w *world) condition(kind string) metav1.Condition {
	for _, c := range w.rollout().Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// weights are what the route sends, by subset.
func (w *world) weights() map[string]int64 { return w.sent("subset", 0) }

// sent is the same by any part of the destinations; one that has no weight counts
// as alone.
func (w *world) sent(by string, alone int64) map[string]int64 {
	vs := raw(routeKind)
	w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "my-app-vs"}, vs))
	out := map[string]int64{}
	http, _, _ := unstructured.NestedSlice(vs.Object, "spec", "http")
	for _, r := range http {
		parts, _ := r.(map[string]any)["route"].([]any)
		for _, p := range parts {
			d, _ := p.(map[string]any)
			to, _, _ := unstructured.NestedString(d, "destination", by)
			n, there := d["weight"].(int64)
			if !there {
				n = alone
			}
			out[to] += n
		}
	}
	return out
}

func (w *world) replicas(name string) int32 {
	d := &appsv1.Deployment{}
	w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: name}, d))
	return *d.Spec.Replicas
}

// told lists the decisions as events, by number.
func (w *world) told() []string {
	var all eventsv1.EventList
	w.must(w.api.List(context.Background(), &all, client.InNamespace(ns)))
	slices.SortFunc(all.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	var out []string
	for _, e := range all.Items {
		out = append(out, e.Reason)
	}
	return out
}

func (w *world) total() int {
	n := 0
	for _, k := range w.calls {
		n += k
	}
	return n
}

// counted is the sum of a counter's series.
func (w *world) counted(name string) (sum float64) {
	all, err := w.c.meter.registry.Gather()
	w.must(err)
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
