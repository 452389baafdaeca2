package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// hostObjects is the application as its users call it, with a route to v1's own
// Service. There is no DestinationRule.
const hostObjects = `
apiVersion: v1
kind: Service
metadata: {name: my-app-service}
spec: {selector: {app: my-app}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [my-app-service]
  http:
  - route:
    - destination: {host: my-app-v1}
`

// ownService gives a version a Service that selects its pods and no others.
func ownService(t *testing.T, ns, version string) {
	t.Helper()
	doc := fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: my-app-%[1]s}, spec: {selector: {app: my-app, version: %[1]s}, ports: [{port: 80, targetPort: 8080}]}}", version)
	if err := the.Apply(t.Context(), ns, []byte(doc)); err != nil {
		t.Fatal(err)
	}
}

// byHosts is v1 at rest behind them, with a Rollout.
func byHosts(t *testing.T, ns string) {
	t.Helper()
	apply(t, ns, "01-deployment-v1.yaml")
	ownService(t, ns, "v1")
	if err := the.Apply(t.Context(), ns, []byte(hostObjects)); err != nil {
		t.Fatal(err)
	}
	ready(t, ns, "my-app-v1", 3)
	if err := the.Apply(t.Context(), ns, document(t, rolloutText, "virtualService: my-app-vs, destinationRule: my-app-dest", "virtualService: my-app-vs")); err != nil {
		t.Fatal(err)
	}
	until(t, ns, "v1 at rest", atRest("v1"))
}

// hostSplit is a route's weights by host.
func hostSplit(vs *unstructured.Unstructured) split {
	out := split{}
	http, _, _ := unstructured.NestedSlice(vs.Object, "spec", "http")
	for _, r := range http {
		route, _, _ := unstructured.NestedSlice(r.(map[string]any), "route")
		for _, d := range route {
			m := d.(map[string]any)
			host, _, _ := unstructured.NestedString(m, "destination", "host")
			w, given, _ := unstructured.NestedInt64(m, "weight")
			if !given && len(route) == 1 {
				w = 100
			}
			out[strings.TrimPrefix(host, "my-app-")] += float64(w)
		}
	}
	return out
}

// hostSplits lists the splits that the route had, in order; equal neighbours
// are one.
func hostSplits(h *history) []split {
	var out []split
	for _, c := range h.changes() {
		if c.kind == "VirtualService" && !c.deleted {
			if s := hostSplit(c.obj); len(out) == 0 || out[len(out)-1].String() != s.String() {
				out = append(out, s)
			}
		}
	}
	return out
}

// sharesOf lists the shares that a version had, in order.
func sharesOf(h *history, version string) []float64 {
	var out []float64
	for _, s := range hostSplits(h) {
		if w := s[version]; (len(out) > 0 || w > 0) && (len(out) == 0 || out[len(out)-1] != w) {
			out = append(out, w)
		}
	}
	return out
}

// TestHosts is the founding scenario over one Service for each version: v2 waits
// until it has one, and is promoted by itself; a bad v3 is taken back. No call
// fails but those that v3 fails itself, and nothing but weights and hosts of the
// route was written.
func TestHosts(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := record(t, ns)
	byHosts(t, ns)
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 250)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			stream.Stop()
		}
	}()

	t.Log("v2 appears, and nobody can route to it")
	apply(t, ns, "04-deployment-v2.yaml")
	s := until(t, ns, "v2 without a Service", func(s v1alpha1.RolloutStatus) bool {
		return s.Phase == v1alpha1.PhasePreparing && strings.Contains(s.Message, "v2 has no Service of its own")
	})
	t.Logf("%s", s.Message)
	t.Log("its Service appears")
	ownService(t, ns, "v2")
	s = until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool {
		return ended("v2", "promoted")(s) && atRest("v2")(s)
	})
	if got := sharesOf(h, "v2"); !slices.Equal(got, []float64{5, 25, 50, 75, 100}) {
		t.Errorf("v2's shares were %v; %s", got, decisions(s))
	}
	ready(t, ns, "my-app-v2", 3)
	ready(t, ns, "my-app-v1", 0)

	t.Log("v3 appears with its Service, and fails half of what it is asked")
	the.Pods.Behave(ns, "my-app", "v3", behaviour{Errors: 0.5})
	ownService(t, ns, "v3")
	deploy(t, ns, "v3", 2)
	s = until(t, ns, "v3 rolled back", func(s v1alpha1.RolloutStatus) bool {
		return ended("v3", "rolledBack")(s) && atRest("v2")(s)
	})
	if got := sharesOf(h, "v3"); !slices.Equal(got, []float64{5, 0}) {
		t.Errorf("v3's shares were %v; %s", got, decisions(s))
	}
	ready(t, ns, "my-app-v3", 0)
	eventually(t, "the route as at rest", func() (bool, error) {
		all := hostSplits(h)
		last := all[len(all)-1].String()
		return last == split{"v2": 100}.String(), fmt.Errorf("it is %s", last)
	})

	stopped = true
	r, err := stream.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", r)
	flawless(t, r, "v3")
	for _, s := range hostSplits(h) {
		sum := 0.0
		for _, w := range s {
			sum += w
		}
		if sum != 100 || len(s) > 2 {
			t.Errorf("the route was %s", s)
		}
	}
	for _, c := range h.changes() {
		if c.kind == "DestinationRule" {
			t.Errorf("there is a DestinationRule: %s", c.name)
		}
		if c.kind == "VirtualService" && !bytes.Contains([]byte(jsonText(c.obj.Object["spec"])), []byte(`"hosts":["my-app-service"]`)) {
			t.Errorf("the route was made %s", jsonText(c.obj.Object["spec"]))
		}
	}
	if t.Failed() {
		t.Logf("decisions:\n%s\nroutes: %v", decisions(s), hostSplits(h))
	}
}

// TestStillCalled: somebody begins to call v1 around the route as soon as v2 is
// promoted. It is kept, and retired when nobody calls it any more.
func TestStillCalled(t *testing.T) {
	together(t)
	ns := namespace(t)
	byHosts(t, ns)
	ownService(t, ns, "v2")
	users, err := the.Send(t.Context(), ns, "my-app-service", 80, 100)
	if err != nil {
		t.Fatal(err)
	}

	apply(t, ns, "04-deployment-v2.yaml")
	until(t, ns, "v2 promoted", ended("v2", "promoted"))
	around, err := the.Send(t.Context(), ns, "my-app-v1", 80, 5)
	if err != nil {
		t.Fatal(err)
	}
	said := func(s v1alpha1.RolloutStatus) bool {
		d := decided(s, "Mentioned", "")
		return d != nil && strings.Contains(d.Why, "v1 is at weight 0 and still gets requests")
	}
	t.Logf("%s", decided(until(t, ns, "v1 mentioned as still called", said), "Mentioned", "").Why)
	if err := around.Wait(t.Context(), lab.Patience, 100); err != nil { // 20 s, in which it is looked at more than once
		t.Fatal(err)
	}
	ready(t, ns, "my-app-v1", 3)

	r, err := around.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("around the route: %s", r)
	flawless(t, r)
	s := until(t, ns, "v1 retired", func(s v1alpha1.RolloutStatus) bool { return decided(s, "Retired", "") != nil })
	ready(t, ns, "my-app-v1", 0)
	if r, err = users.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("users: %s", r)
	flawless(t, r)
	if t.Failed() {
		t.Logf("decisions:\n%s", decisions(s))
	}
}
