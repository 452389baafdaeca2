package lab

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/serin-dev/serin/api/v1alpha1"
)

var (
	rollouts        = schema.GroupVersionResource{Group: "serin.dev", Version: "v1alpha1", Resource: "rollouts"}
	virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
)

// Follow calls each for every state of a Rollout's status, the present one
// first, until it says that it has seen enough, or ctx ends.
func (c *Cluster) Follow(ctx context.Context, namespace, name string, each func(v1alpha1.RolloutStatus) (enough bool)) error {
	return c.follow(ctx, rollouts, namespace, name, func(u *unstructured.Unstructured) (bool, error) {
		b, err := u.MarshalJSON()
		if err != nil {
			return false, err
		}
		var r v1alpha1.Rollout
		if err := json.Unmarshal(b, &r); err != nil {
			return false, err
		}
		return each(r.Status), nil
	})
}

// follow calls each for every state of one object, the present one first, over
// the ends of its watches, until it says that it has seen enough, or ctx ends.
func (c *Cluster) follow(ctx context.Context, kind schema.GroupVersionResource, namespace, name string, each func(*unstructured.Unstructured) (enough bool, err error)) error {
	for ctx.Err() == nil {
		w, err := c.Dynamic.Resource(kind).Namespace(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return err
		}
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == watch.Deleted {
				continue
			}
			if enough, err := each(u); enough || err != nil {
				w.Stop()
				return err
			}
		}
		w.Stop()
	}
	return ctx.Err()
}

// Weights is a split as the API server had it.
type Weights struct {
	At time.Time          // when we heard of it
	Of map[string]float64 // by version, in percent
}

// FollowWeights sends each state of a VirtualService's first route until ctx
// ends, and closes out then. A subset that Serin added counts as its version.
func (c *Cluster) FollowWeights(ctx context.Context, namespace, name string, out chan<- Weights) error {
	defer close(out)
	return c.follow(ctx, virtualServices, namespace, name, func(u *unstructured.Unstructured) (bool, error) {
		select {
		case out <- Weights{time.Now(), Split(u)}:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	})
}

// Split is the weights of a VirtualService's first route by version. A single
// destination without a weight has all of it.
func Split(vs *unstructured.Unstructured) map[string]float64 {
	http, _, _ := unstructured.NestedSlice(vs.Object, "spec", "http")
	if len(http) == 0 {
		return nil
	}
	first, ok := http[0].(map[string]any)
	if !ok {
		return nil
	}
	route, _, _ := unstructured.NestedSlice(first, "route")
	out := map[string]float64{}
	for _, d := range route {
		m, ok := d.(map[string]any)
		if !ok {
			continue
		}
		subset, _, _ := unstructured.NestedString(m, "destination", "subset")
		w, found, _ := unstructured.NestedInt64(m, "weight")
		if !found && len(route) == 1 {
			w = 100
		}
		out[strings.TrimPrefix(subset, "serin-")] += float64(w)
	}
	return out
}
