package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

// The kinds of Istio's that are read and written, raw.
var (
	routeKind = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"}
	ruleKind  = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"}
)

func raw(kind schema.GroupVersionKind) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u
}

// cacheOptions says what the caches keep of each kind.
func cacheOptions(namespaces []string) cache.Options {
	o := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.Rollout{}: {Transform: func(o any) (any, error) {
				if r, ok := o.(*v1alpha1.Rollout); ok {
					// The state is read live; the phase says who goes first after a start.
					r.ManagedFields, r.Status = nil, v1alpha1.RolloutStatus{Phase: r.Status.Phase}
				}
				return o, nil
			}},
			raw(deployment.Kind): {Transform: func(o any) (any, error) {
				if u, ok := o.(*unstructured.Unstructured); ok {
					deployment.Slim(u)
				}
				return o, nil
			}},
			// Who wrote a route last is in its managed fields.
			raw(routeKind): {Transform: func(o any) (any, error) { return o, nil }},
			&discoveryv1.EndpointSlice{}: {Transform: func(o any) (any, error) {
				if s, ok := o.(*discoveryv1.EndpointSlice); ok {
					s.ManagedFields, s.Annotations, s.OwnerReferences, s.Ports = nil, nil, nil, nil
					s.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
					for i := range s.Endpoints {
						e := &s.Endpoints[i]
						s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, TargetRef: e.TargetRef}
					}
				}
				return o, nil
			}},
		},
	}
	if len(namespaces) > 0 {
		o.DefaultNamespaces = map[string]cache.Config{}
		for _, n := range namespaces {
			o.DefaultNamespaces[n] = cache.Config{}
		}
	}
	return o
}

// watcher enqueues the Rollouts that an object is about. It does nothing else.
type watcher struct {
	c    *Controller
	whom func(client.Object) []types.NamespacedName
	// news says whether an update is any; nil: each is.
	news func(was, is client.Object) bool
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (w watcher) Create(_ context.Context, e event.CreateEvent, q queue) {
	priority := underWay
	if r, ok := e.Object.(*v1alpha1.Rollout); ok && e.IsInInitialList {
		priority = urgencyIn(r.Status.Phase)
	}
	w.enqueue(q, priority, e.Object)
}

func (w watcher) Update(_ context.Context, e event.UpdateEvent, q queue) {
	if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
		return // the cache told again what it told before
	}
	if w.news == nil || w.news(e.ObjectOld, e.ObjectNew) {
		w.enqueue(q, underWay, e.ObjectOld, e.ObjectNew)
	}
}

func (w watcher) Delete(_ context.Context, e event.DeleteEvent, q queue) {
	w.enqueue(q, underWay, e.Object)
}

func (w watcher) Generic(_ context.Context, e event.GenericEvent, q queue) {
	w.enqueue(q, underWay, e.Object)
}

// gather is how long an event waits for others about the same Rollout: pods
// that come up together make one pass.
const gather = 5 * time.Millisecond

// enqueue puts Rollouts in the queue by what their last pass had to do; with
// priority, where there was none yet.
func (w watcher) enqueue(q queue, priority int, objects ...client.Object) {
	told := map[types.NamespacedName]bool{}
	for _, o := range objects {
		for _, key := range w.whom(o) {
			if told[key] {
				continue
			}
			told[key] = true
			p := w.c.urgency(key, priority)
			if cmd, ok := o.(*v1alpha1.RolloutCommand); ok && cmd.Spec.Verb == v1alpha1.VerbAbort {
				p = lowering
			}
			add(q, reconcile.Request{NamespacedName: key}, p, gather)
		}
	}
}

func add(q queue, r reconcile.Request, priority int, after time.Duration) {
	if pq, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		pq.AddWithOpts(priorityqueue.AddOpts{Priority: &priority, After: after}, r)
		return
	}
	q.AddAfter(r, after)
}

// sources are the watches; those whose kind the cluster does not have are left
// out and named.
func (c *Controller) sources() (all []source.Source, missing []schema.GroupVersionKind, err error) {
	ch := c.mgr.GetCache()
	ns := func(o client.Object) types.NamespacedName { return client.ObjectKeyFromObject(o) }
	podLabels := func(o client.Object) map[string]string {
		u, ok := o.(*unstructured.Unstructured)
		if !ok {
			return nil
		}
		l, _, _ := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels")
		return l
	}
	ofDeployment := func(o client.Object) []types.NamespacedName {
		return c.index.byPodLabels(o.GetNamespace(), podLabels(o))
	}
	all = []source.Source{
		source.Kind(ch, client.Object(&v1alpha1.Rollout{}), watcher{c: c,
			whom: func(o client.Object) []types.NamespacedName { return []types.NamespacedName{ns(o)} },
			news: func(was, is client.Object) bool {
				return was.GetGeneration() != is.GetGeneration() || was.GetUID() != is.GetUID() ||
					(was.GetDeletionTimestamp() == nil) != (is.GetDeletionTimestamp() == nil) ||
					!slices.Equal(was.GetFinalizers(), is.GetFinalizers())
			}}),
		source.Kind(ch, client.Object(&v1alpha1.RolloutCommand{}), watcher{c: c,
			whom: func(o client.Object) []types.NamespacedName {
				cmd, ok := o.(*v1alpha1.RolloutCommand)
				if !ok || cmd.Status.Taken {
					return nil
				}
				return []types.NamespacedName{{Namespace: cmd.Namespace, Name: cmd.Spec.Rollout}}
			}}),
		source.Kind(ch, client.Object(raw(deployment.Kind)), watcher{c: c, whom: ofDeployment}),
		source.Kind(ch, client.Object(&autoscalingv2.HorizontalPodAutoscaler{}), watcher{c: c,
			whom: func(o client.Object) []types.NamespacedName {
				h, ok := o.(*autoscalingv2.HorizontalPodAutoscaler)
				if !ok || h.Spec.ScaleTargetRef.Kind != deployment.Kind.Kind {
					return nil
				}
				d := raw(deployment.Kind)
				key := types.NamespacedName{Namespace: h.Namespace, Name: h.Spec.ScaleTargetRef.Name}
				if err := ch.Get(context.Background(), key, d, client.UnsafeDisableDeepCopy); err != nil {
					return nil // of no Deployment that is there
				}
				return ofDeployment(d)
			},
			news: func(was, is client.Object) bool {
				a, okA := was.(*autoscalingv2.HorizontalPodAutoscaler)
				b, okB := is.(*autoscalingv2.HorizontalPodAutoscaler)
				return !okA || !okB || !reflect.DeepEqual(a.Spec, b.Spec) || a.Status.DesiredReplicas != b.Status.DesiredReplicas
			}}),
		source.Kind(ch, client.Object(&discoveryv1.EndpointSlice{}), watcher{c: c,
			whom: func(o client.Object) []types.NamespacedName {
				return c.index.byService(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]})
			},
			news: func(was, is client.Object) bool {
				a, okA := was.(*discoveryv1.EndpointSlice)
				b, okB := is.(*discoveryv1.EndpointSlice)
				return !okA || !okB || !reflect.DeepEqual(a.Endpoints, b.Endpoints)
			}}),
		source.Kind(ch, client.Object(&corev1.Service{}), watcher{c: c,
			whom: func(o client.Object) []types.NamespacedName { return c.index.byNewService(ns(o)) },
			news: func(was, is client.Object) bool {
				a, okA := was.(*corev1.Service)
				b, okB := is.(*corev1.Service)
				return !okA || !okB || !maps.Equal(a.Spec.Selector, b.Spec.Selector)
			}}),
	}
	for _, k := range []schema.GroupVersionKind{routeKind, ruleKind} {
		switch there, err := c.has(k); {
		case err != nil:
			return nil, nil, err
		case !there:
			missing = append(missing, k)
		default:
			all = append(all, c.routing(k))
		}
	}
	return all, missing, nil
}

// routing watches a kind of Istio's.
func (c *Controller) routing(kind schema.GroupVersionKind) source.Source {
	whom := c.index.byRoute
	if kind == ruleKind {
		whom = c.index.byRule
	}
	return source.Kind(c.mgr.GetCache(), client.Object(raw(kind)), watcher{c: c, whom: func(o client.Object) []types.NamespacedName {
		return whom(client.ObjectKeyFromObject(o))
	}})
}

// watchLater adds such a watch to a controller that runs. What it lists at first
// wakes the Rollouts that waited for it.
func (c *Controller) watchLater(kind schema.GroupVersionKind) error {
	return c.runtime.Watch(c.routing(kind))
}

// has says whether the cluster knows a kind.
func (c *Controller) has(kind schema.GroupVersionKind) (bool, error) {
	_, err := c.mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	var none *meta.NoKindMatchError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &none) || meta.IsNoMatchError(err):
		return false, nil
	}
	return false, fmt.Errorf("asking whether there is a %s: %w", kind.Kind, err)
}
