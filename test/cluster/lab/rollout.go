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
	for {
		w, err := c.Dynamic.Resource(rollouts).Namespace(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return err
		}
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == watch.Deleted {
				continue
			}
			b, err := u.MarshalJSON()
			if err != nil {
				return err
			}
			var r v1alpha1.Rollout
			if err := json.Unmarshal(b, &r); err != nil {
				return err
			}
			if each(r.Status) {
				w.Stop()
				return nil
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
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
	for {
		w, err := c.Dynamic.Resource(virtualServices).Namespace(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return err
		}
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == watch.Deleted {
				continue
			}
			select {
			case out <- Weights{time.Now(), Split(u)}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
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
