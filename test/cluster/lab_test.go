package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var (
	virtualServices  = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	destinationRules = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"}
	deployments      = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	endpointSlices   = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	rollouts         = schema.GroupVersionResource{Group: "serin.dev", Version: "v1alpha1", Resource: "rollouts"}
)

// ready waits until a Deployment has so many ready pods.
func ready(t *testing.T, ns, name string, n int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d ready pods of %s", n, name), func() (bool, error) {
		d, err := the.Clients.AppsV1().Deployments(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if d.Status.ReadyReplicas != n {
			return false, fmt.Errorf("%d are ready", d.Status.ReadyReplicas)
		}
		return true, nil
	})
}

// setWeights writes the whole route of the founding VirtualService.
func setWeights(t *testing.T, ns string, weights map[string]int) {
	t.Helper()
	if err := writeWeights(t.Context(), ns, "hand", weights); err != nil {
		t.Fatal(err)
	}
}

// writeWeights writes it in somebody's name.
func writeWeights(ctx context.Context, ns, manager string, weights map[string]int) error {
	var route []any
	for _, v := range []string{"v1", "v2", "v3", "v4"} {
		if w, ok := weights[v]; ok {
			route = append(route, map[string]any{"destination": map[string]any{"host": "my-app-service", "subset": v}, "weight": w})
		}
	}
	b, err := json.Marshal(map[string]any{"spec": map[string]any{"http": []any{map[string]any{"route": route}}}})
	if err != nil {
		return err
	}
	_, err = the.Dynamic.Resource(virtualServices).Namespace(ns).Patch(ctx, "my-app-vs", types.MergePatchType, b, metav1.PatchOptions{FieldManager: manager})
	return err
}

// TestLab shows that the cluster is what the other tests take it for: a
// Deployment becomes ready, calls follow the weights that the API holds, failures
// are those that were asked for, and both ends agree on all of it.
func TestLab(t *testing.T) {
	ns := namespace(t)
	begun := time.Now()
	apply(t, ns, "01-deployment-v1.yaml")
	ready(t, ns, "my-app-v1", 3)
	t.Logf("3 replicas ready after %s", time.Since(begun).Round(time.Millisecond))
	apply(t, ns, "00-service.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml", "04-deployment-v2.yaml")
	ready(t, ns, "my-app-v2", 2)

	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 400)
	if err != nil {
		t.Fatal(err)
	}
	share, err := stream.Share(t.Context(), 400)
	if err != nil {
		t.Fatal(err)
	}
	if share["v1"] != 400 {
		t.Errorf("at 100/0 v1 answered %d of 400 calls: %v", share["v1"], share)
	}
	for _, w := range []int{5, 50} {
		setWeights(t, ns, map[string]int{"v1": 100 - w, "v2": w})
		// The first answer by the new split tells that it is in force.
		follows(t, stream, 1000, w)
	}
	the.Pods.Behave(ns, "my-app", "v2", behaviour{Errors: 1})
	eventually(t, "a failed call", func() (bool, error) {
		calls := stream.Calls()
		return !calls[len(calls)-1].OK(), nil
	})
	setWeights(t, ns, map[string]int{"v1": 100})
	eventually(t, "200 calls in a row that v1 answers", func() (bool, error) {
		calls := stream.Calls()
		for _, c := range calls[len(calls)-200:] {
			if c.Version != "v1" {
				return false, nil
			}
		}
		return true, nil
	})
	r, err := stream.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", r)
	if len(r.Failed) > 0 || len(r.Unlike) > 0 || r.Meant["v2"] == 0 || r.Meant["v1"] > 0 || r.AfterEnd > 0 {
		t.Errorf("calls failed, or the ends disagree: %+v", r)
	}
}

// follows waits until the calls follow a canary weight in percent, within four
// standard errors of n calls.
func follows(t *testing.T, stream interface {
	Len() int
	Calls() []call
}, n, weight int) {
	t.Helper()
	p := float64(weight) / 100
	bound := 4*math.Sqrt(p*(1-p)/float64(n)) + 1/float64(n)
	begun := stream.Len()
	eventually(t, fmt.Sprintf("a split of %d %%", weight), func() (bool, error) {
		calls := stream.Calls()
		if len(calls)-begun < n {
			return false, nil
		}
		got := 0
		for _, c := range calls[len(calls)-n:] {
			if c.Version != "v1" {
				got++
			}
		}
		share := float64(got) / float64(n)
		return math.Abs(share-p) <= bound, fmt.Errorf("the share is %.3f", share)
	})
}

// TestLabMeasures shows that Prometheus sees both the pods' figures and what a
// kubelet would add.
func TestLabMeasures(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml")
	ready(t, ns, "my-app-v1", 3)
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	for _, q := range []string{
		fmt.Sprintf(`sum(rate(istio_requests_total{namespace=%q,destination_version="v1"}[5s])) > 5`, ns),
		fmt.Sprintf(`sum(rate(container_cpu_usage_seconds_total{namespace=%q}[5s])) > 0.1`, ns),
		fmt.Sprintf(`histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{namespace=%q}[5s]))) > 0`, ns),
	} {
		eventually(t, q, func() (bool, error) {
			n, err := the.Query(t.Context(), q)
			return n > 0, err
		})
	}
}
