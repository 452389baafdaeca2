package istio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

var bg = context.Background()

func observe(t *testing.T, r *Router) rollout.Route {
	t.Helper()
	route, err := r.Observe(bg)
	if err != nil {
		t.Fatal(err)
	}
	return route
}

func put(t *testing.T, r *Router, want rollout.Traffic) {
	t.Helper()
	observe(t, r)
	if err := r.Apply(bg, want); err != nil {
		t.Fatal(err)
	}
	if got := observe(t, r); !maps.Equal(got.Weights, want.Weights()) || got.Note == nil || got.Note.N != want.N {
		t.Fatalf("holds %v with note %+v, want %v of decision %d", got.Weights, got.Note, want.Weights(), want.N)
	}
}

func split(n int, canary rollout.Revision, w rollout.Weight) rollout.Traffic {
	return rollout.Traffic{N: n, Stable: v1, Canary: canary, Weight: w}
}

func subsetsOf(o map[string]any) string {
	var out []string
	for _, s := range list(o, "spec", "subsets") {
		out = append(out, text(s, "name"))
	}
	return strings.Join(out, " ")
}

// ---- Subsets first ----

func TestASubsetSettlesBeforeItIsRoutedTo(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t, func(cfg *Config) {
		cfg.Targets[0].Settle = 10 * time.Second
		cfg.Now = func() time.Time { return now }
	})
	put(t, r, split(1, v3, 0)) // being made ready: nothing is routed to it yet
	if got := subsetsOf(c.read(t, "DestinationRule", "my-app-dest")); got != "v1 v2 serin-v3" {
		t.Fatalf("subsets %q", got)
	}
	if got := list(c.read(t, "VirtualService", "my-app-vs"), "spec", "http")[0]; len(list(got, "route")) != 1 {
		t.Errorf("the route names it already: %v", got)
	}
	now = now.Add(4 * time.Second)
	observe(t, r)
	before := c.patches.Load()
	err := r.Apply(bg, split(2, v3, 500))
	var wait *engine.ThrottledError
	if !errors.As(err, &wait) || wait.After != 6*time.Second || engine.KindOf(err) != engine.Retry {
		t.Fatalf("error %v, want to be told to come back in 6 s", err)
	}
	if c.patches.Load() != before {
		t.Error("something was written all the same")
	}
	if got := observe(t, r); got.Weights[v3] != 0 {
		t.Errorf("v3 has %v", got.Weights[v3])
	}
	now = now.Add(6 * time.Second)
	put(t, r, split(2, v3, 500))
	put(t, r, split(3, v3, 5000)) // it has traffic: no wait
}

func TestWhatTakesTrafficAwayDoesNotWait(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t, func(cfg *Config) {
		cfg.Targets[0].Settle = time.Hour
		cfg.Now = func() time.Time { return now }
	})
	put(t, r, split(1, v2, rollout.Whole))
	c.write(t, "DestinationRule", "my-app-dest", func(o map[string]any) { // somebody takes stable's subset away
		o["spec"].(map[string]any)["subsets"] = list(o, "spec", "subsets")[1:]
	})
	put(t, r, split(2, v2, 0))
	if got := subsetsOf(c.read(t, "DestinationRule", "my-app-dest")); got != "v2 serin-v1" {
		t.Errorf("subsets %q", got)
	}
	if refers := text(list(list(c.read(t, "VirtualService", "my-app-vs"), "spec", "http")[0], "route")[0], "destination", "subset"); refers != "serin-v1" {
		t.Errorf("stable is routed to by %q, which is not there", refers)
	}
}

// Not being allowed to write the DestinationRule does not keep the canary's
// traffic where it is.
func TestTheWayDownNeedsNoSubset(t *testing.T) {
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t)
	put(t, r, split(1, v3, 5000))
	c.write(t, "DestinationRule", "my-app-dest", func(o map[string]any) {
		o["spec"].(map[string]any)["subsets"] = list(o, "spec", "subsets")[:2]
	})
	c.fail = func(kind string) error {
		if kind == "DestinationRule" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "destinationrules"}, "my-app-dest", errors.New("no"))
		}
		return nil
	}
	observe(t, r)
	if err := r.Apply(bg, split(2, v3, 7500)); !errors.Is(err, engine.ErrForbidden) {
		t.Errorf("error %v", err)
	}
	if got := observe(t, r); got.Weights[v3] != 5000 {
		t.Errorf("raised without its subset: %v", got.Weights)
	}
	if err := r.Apply(bg, split(3, v3, 0)); !errors.Is(err, engine.ErrForbidden) {
		t.Errorf("error %v, want it said", err)
	}
	if got := observe(t, r); got.Weights[v3] != 0 {
		t.Errorf("still %v", got.Weights)
	}
}

func TestARouteWithoutSubsets(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	vs := object(t, `{kind: VirtualService, metadata: {name: my-app-vs}, spec: {hosts: [my-app-service], http: [{route: [{destination: {host: my-app-service}}]}]}}`)
	dr := object(t, `{kind: DestinationRule, metadata: {name: my-app-dest}, spec: {host: my-app-service, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}`)
	there := versions
	c := newCluster(t, vs, dr)
	r := c.router(t, func(cfg *Config) {
		cfg.Targets[0].Settle = time.Second
		cfg.Now = func() time.Time { return now }
		cfg.Versions = func(context.Context) ([]Version, error) { return there, nil }
	})
	if got := observe(t, r); got.Known != rollout.Present || len(got.Weights) != 0 {
		t.Errorf("with two versions behind one host it is not clear who gets what; seen %+v", got)
	}
	there = versions[:1]
	if got := observe(t, r); got.Weights[v1] != rollout.Whole {
		t.Errorf("the only version gets everything; seen %+v", got)
	}
	err := r.Apply(bg, rollout.Traffic{N: 1, Stable: v1})
	if wait := new(engine.ThrottledError); !errors.As(err, &wait) {
		t.Fatalf("error %v; a subset that is a moment old must not get everything", err)
	}
	now = now.Add(time.Second)
	put(t, r, rollout.Traffic{N: 1, Stable: v1})
	there = versions
	put(t, r, split(2, v2, 0))
	now = now.Add(time.Second)
	put(t, r, split(3, v2, 500))
	route := list(list(c.read(t, "VirtualService", "my-app-vs"), "spec", "http")[0], "route")
	if text(route[0], "destination", "subset") != "serin-v1" || text(route[1], "destination", "subset") != "serin-v2" {
		t.Errorf("route %v", route)
	}
}

// A tool that puts the DestinationRule back as it is in Git takes our subset
// away under a route that names it.
func TestALostSubsetIsALostWrite(t *testing.T) {
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t)
	put(t, r, split(4, v3, 500))
	c.write(t, "DestinationRule", "my-app-dest", func(o map[string]any) {
		o["spec"].(map[string]any)["subsets"] = list(o, "spec", "subsets")[:2]
	})
	got := observe(t, r)
	if got.Note == nil || got.Note.N != 3 || got.Weights[v3] != 500 {
		t.Fatalf("seen %+v with note %+v; want the weights, and a note that says that decision 4 is not all in force", got.Weights, got.Note)
	}
	put(t, r, split(4, v3, 500))
	if got := subsetsOf(c.read(t, "DestinationRule", "my-app-dest")); got != "v1 v2 serin-v3" {
		t.Errorf("subsets %q", got)
	}
}

func TestSubsetsOfOursGoWhenNobodyNeedsThem(t *testing.T) {
	there := append(slices.Clone(versions), Version{v3, pods("v3")})
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t, func(cfg *Config) {
		cfg.Versions = func(context.Context) ([]Version, error) { return there, nil }
	})
	put(t, r, split(1, v3, 500))
	put(t, r, split(2, v3, 0))
	put(t, r, rollout.Traffic{N: 3, Stable: v1})
	if got := subsetsOf(c.read(t, "DestinationRule", "my-app-dest")); got != "v1 v2 serin-v3" {
		t.Errorf("subsets %q: v3 has a Deployment still", got)
	}
	there = versions
	put(t, r, rollout.Traffic{N: 3, Stable: v1})
	if got := subsetsOf(c.read(t, "DestinationRule", "my-app-dest")); got != "v1 v2" {
		t.Errorf("subsets %q: nobody needs v3's any more, and v2's is its author's", got)
	}
}

func TestANewSubsetIsLikeStables(t *testing.T) {
	dr := object(t, `
kind: DestinationRule
metadata: {name: my-app-dest, namespace: default}
spec:
  host: my-app-service
  subsets:
  - name: stable
    labels: {version: v1, app: my-app, tier: old}
    trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}
  - name: serin-v3
    labels: {version: v2}
`)
	rule := ReadRule(dr)
	view := View{Namespace: "default", Label: "version", Rule: &rule, Versions: []Version{
		{v1, map[string]string{"version": "v1", "app": "my-app", "tier": "old"}},
		{v3, map[string]string{"version": "v3", "app": "my-app"}},
	}}
	dr = apply(t, dr, RenderRule(dr, split(1, v3, 0), view))
	got := list(dr, "spec", "subsets")[2]
	want := map[string]any{
		"name":          "serin-v3-2", // serin-v3 is taken
		"labels":        map[string]any{"version": "v3", "app": "my-app"},
		"trafficPolicy": map[string]any{"connectionPool": map[string]any{"http": map[string]any{"http2MaxRequests": 7}}},
	}
	if !same(got, want) {
		t.Errorf("added %v, want %v", got, want)
	}
}

func TestSubsetNames(t *testing.T) {
	seen := map[string]string{}
	for _, value := range []string{"v1", "v1.2.3", "v1-2-3", "V1", "1_0", strings.Repeat("x", 63), strings.Repeat("x", 62) + "y", "", "-", "ünïcode", strings.Repeat("ü", 31)} {
		name := subsetName(value)
		if !isDNSLabel(name) || !strings.HasPrefix(name, ownPrefix) {
			t.Errorf("%q becomes %q, which Istio does not take", value, name)
		}
		if other, met := seen[name]; met {
			t.Errorf("%q and %q both become %q", value, other, name)
		}
		seen[name] = value
	}
}

// ---- Several objects ----

const delegating = `
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
  - name: health
    match: [{uri: {exact: /health}}]
    directResponse: {status: 200}
  - name: app
    match: [{uri: {prefix: /app}}]
    delegate: {name: my-app-routes}
  - name: elsewhere
    delegate: {name: others, namespace: elsewhere}
`

const delegated = `
kind: VirtualService
metadata: {name: my-app-routes}
spec:
  http:
  - name: main
    route: [{destination: {host: my-app-service, subset: v1}, weight: 100}]
`

func TestDelegates(t *testing.T) {
	foreign := object(t, strings.Replace(delegated, "my-app-routes", "others, namespace: elsewhere", 1))
	c := newCluster(t, object(t, delegating), object(t, delegated), foreign, file(t, "02-destinationrule.yaml"))
	r := c.router(t)
	root := c.read(t, "VirtualService", "my-app-vs")
	put(t, r, split(1, v2, 500))
	if !same(root, c.read(t, "VirtualService", "my-app-vs")) {
		t.Error("the root was written, which holds no split")
	}
	if note := readNote(c.read(t, "VirtualService", "my-app-routes")); note == nil {
		t.Error("the delegate has no note")
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: "v1", Kind: "VirtualService"})
	if err := c.Client.Get(bg, nn("elsewhere", "others"), u); err != nil || readNote(u.Object) != nil {
		t.Errorf("error %v; the delegate of another namespace was written: %v", err, u.Object)
	}
	if got := fmt.Sprint(r.Objects()); got != "[{VirtualService my-app-vs} {DestinationRule my-app-dest} {VirtualService my-app-routes}]" {
		t.Errorf("reads %s", got)
	}
}

func second(t *testing.T) map[string]any {
	vs := file(t, "03-virtualservice.yaml")
	vs["metadata"].(map[string]any)["name"] = "inner-vs"
	return vs
}

func TestSeveralAreKeptInStep(t *testing.T) {
	c := newCluster(t, file(t, "03-virtualservice.yaml"), second(t), file(t, "02-destinationrule.yaml"))
	r := c.router(t, func(cfg *Config) {
		cfg.Targets = append(cfg.Targets, Target{VirtualService: "inner-vs", DestinationRule: "my-app-dest"})
	})
	put(t, r, split(1, v2, 5000))
	c.write(t, "VirtualService", "inner-vs", func(o map[string]any) { setWeights(o, "http", 0, false, map[string]int64{"v1": 90, "v2": 10}) })
	if got := observe(t, r); got.Weights[v2] != 1000 {
		t.Errorf("a hand on one: seen %v, want the lowest, 10 %%", got.Weights)
	}
	put(t, r, split(2, v2, 1000))

	// The second one fails: what was written is seen as not in force everywhere.
	n := 0
	c.fail = func(kind string) error {
		if n++; n == 2 {
			return apierrors.NewInternalError(errors.New("out of luck"))
		}
		return nil
	}
	observe(t, r)
	if err := r.Apply(bg, split(3, v2, 2500)); engine.KindOf(err) != engine.Retry {
		t.Errorf("error %v, want one that may pass", err)
	}
	c.fail = nil
	if got := observe(t, r); got.Weights[v2] != 1000 || got.Note.N >= 3 {
		t.Errorf("seen %v with note %+v, want what is in force everywhere and an older number", got.Weights, got.Note)
	}
	put(t, r, split(3, v2, 2500))

	// On the way down one that fails does not keep the other.
	n = 0
	c.fail = func(kind string) error {
		if n++; n == 1 {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "virtualservices"}, "my-app-vs", errors.New("no"))
		}
		return nil
	}
	observe(t, r)
	if err := r.Apply(bg, split(4, v2, 0)); !errors.Is(err, engine.ErrForbidden) || engine.KindOf(err) != engine.Stall {
		t.Errorf("error %v, want it forbidden", err)
	}
	if note := readNote(c.read(t, "VirtualService", "inner-vs")); note == nil || note.Weight != 0 {
		t.Errorf("the other one was not lowered: note %+v", note)
	}
	c.fail = nil
	put(t, r, split(4, v2, 0))
}

func TestMissingIsAbsent(t *testing.T) {
	for name, there := range map[string][]map[string]any{
		"NoVirtualService":  {file(t, "02-destinationrule.yaml")},
		"NoDestinationRule": {file(t, "03-virtualservice.yaml")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newCluster(t, there...).router(t)
			if got := observe(t, r); got.Known != rollout.Absent {
				t.Errorf("seen %+v", got)
			}
			if err := r.Apply(bg, split(1, v2, 0)); !errors.Is(err, engine.ErrNotFound) || engine.KindOf(err) != engine.Ignore {
				t.Errorf("error %v, want not found", err)
			}
		})
	}
}

// ---- Which routes ----

const twoRoutes = `
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [my-app-service]
  http:
  - name: testers
    match: [{headers: {x-tester: {exact: "1"}}}]
    route: [{destination: {host: my-app-service, subset: v2}}]
  - name: api
    route: [{destination: {host: my-app-service, subset: v1}}]
`

func TestMoreThanOneRoute(t *testing.T) {
	c := newCluster(t, object(t, twoRoutes), file(t, "02-destinationrule.yaml"))
	r := c.router(t)
	if got := observe(t, r); got.Weights[v1] == rollout.Whole || got.Weights[v2] == rollout.Whole {
		t.Errorf("seen %v: it is not clear who is stable", got.Weights)
	}
	for n, want := range []rollout.Traffic{{Stable: v1}, split(1, v2, 500), split(1, v2, 0)} {
		err := r.Apply(bg, want)
		if !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), `"testers", http route "api"`) {
			t.Errorf("%d: error %v, want it refused, naming the routes", n, err)
		}
		observe(t, r)
	}
	if c.patches.Load() > 0 {
		t.Error("something was written")
	}

	named := c.router(t, func(cfg *Config) { cfg.Targets[0].Routes = []string{"api"} })
	put(t, named, split(1, v2, 500))
	testers := list(c.read(t, "VirtualService", "my-app-vs"), "spec", "http")[0]
	if !same(testers, list(object(t, twoRoutes), "spec", "http")[0]) {
		t.Errorf("the other route is now %v", testers)
	}
	if got := observe(t, named).Elsewhere; len(got) != 1 || !got[v2] {
		t.Errorf("the other route sends to %v, want v2", got)
	}

	// Somebody renames it in mid-rollout: not higher, and down all the same.
	c.write(t, "VirtualService", "my-app-vs", func(o map[string]any) {
		list(o, "spec", "http")[1].(map[string]any)["name"] = "web"
	})
	observe(t, named)
	if err := named.Apply(bg, split(2, v2, 2500)); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("error %v, want it refused", err)
	}
	if got := observe(t, named); got.Weights[v2] != 500 {
		t.Errorf("seen %v; the route that was renamed has v2 at 5 %% still", got.Weights)
	}
	put(t, named, split(3, v2, 0))
	if !same(testers, list(c.read(t, "VirtualService", "my-app-vs"), "spec", "http")[0]) {
		t.Error("the testers' route was written")
	}

	c.write(t, "VirtualService", "my-app-vs", func(o map[string]any) {
		route := list(o, "spec", "http")[1].(map[string]any)["route"].([]any)
		route[0].(map[string]any)["weight"], route[1].(map[string]any)["weight"] = int64(95), int64(5)
	})
	both := c.router(t) // and the document names none
	observe(t, both)
	if err := both.Apply(bg, split(2, v2, 2500)); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("error %v, want it refused", err)
	}
	put(t, both, split(4, v2, 0))
}

// ---- A Service for each version ----

const hostSplit = `
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [shop.example]
  http:
  - route:
    - {destination: {host: my-app-v1.default.svc.cluster.local, port: {number: 80}}, weight: 50}
    - {destination: {host: legacy}, weight: 50}
`

func service(name string, selector string) string {
	return fmt.Sprintf("{kind: Service, apiVersion: v1, metadata: {name: %s}, spec: {selector: %s, ports: [{port: 80}]}}", name, selector)
}

func TestHostSplit(t *testing.T) {
	objects := []map[string]any{object(t, hostSplit)}
	for _, s := range []string{
		service("my-app-v1", "{app: my-app, version: v1}"),
		service("my-app-v2", "{app: my-app, version: v2}"),
		service("my-app-v2-debug", "{app: my-app, version: v2}"),
		service("my-app", "{app: my-app}"),
		service("legacy", "{app: legacy, version: v1}"),
	} {
		objects = append(objects, object(t, s))
	}
	c := newCluster(t, objects...)
	r := c.router(t, func(cfg *Config) { cfg.Targets[0].DestinationRule = "" })
	if got := observe(t, r); !maps.Equal(got.Weights, map[rollout.Revision]rollout.Weight{v1: rollout.Whole}) {
		t.Errorf("seen %v", got.Weights)
	}
	put(t, r, split(1, v2, 1000))
	route := list(list(c.read(t, "VirtualService", "my-app-vs"), "spec", "http")[0], "route")
	want := list(object(t, `{r: [
	  {destination: {host: my-app-v1.default.svc.cluster.local, port: {number: 80}}, weight: 45},
	  {destination: {host: my-app-v2.default.svc.cluster.local, port: {number: 80}}, weight: 5},
	  {destination: {host: legacy}, weight: 50}]}`), "r")
	if !same(route, want) {
		t.Errorf("route %v\nwant  %v", route, want)
	}
	observe(t, r)
	if err := r.Apply(bg, split(2, v3, 1000)); !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), "no Service in default selects the pods with version=v3") {
		t.Errorf("error %v", err)
	}
}

// ---- What is read ----

// A cache that has not seen our own write yet does not undo it.
func TestReadsWhatItWrote(t *testing.T) {
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t)
	old := &unstructured.Unstructured{Object: c.read(t, "VirtualService", "my-app-vs")}
	put(t, r, split(1, v2, 500))
	c.stale = func(kind string) *unstructured.Unstructured {
		if kind == "VirtualService" {
			return old
		}
		return nil
	}
	if got := observe(t, r); got.Weights[v2] != 500 {
		t.Errorf("seen %v", got.Weights)
	}
	put(t, r, split(2, v2, 1000)) // and what is written next is not a conflict
	c.stale = nil
	c.write(t, "VirtualService", "my-app-vs", func(o map[string]any) { setWeights(o, "http", 0, false, map[string]int64{"v1": 100, "v2": 0}) })
	if got := observe(t, r); got.Weights[v2] != 0 {
		t.Errorf("a later write of somebody else is hidden: seen %v", got.Weights)
	}
	// A reader that never saw ours, in a router that made no write.
	c.stale = func(kind string) *unstructured.Unstructured {
		if kind == "VirtualService" {
			return old
		}
		return nil
	}
	other := c.router(t)
	observe(t, other)
	if err := other.Apply(bg, split(3, v2, 5000)); !errors.Is(err, engine.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}

func TestTheNoteComesFirst(t *testing.T) {
	there := versions
	c := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t, func(cfg *Config) {
		cfg.Versions = func(context.Context) ([]Version, error) { return there, nil }
	})
	put(t, r, split(1, v2, 500))
	there = []Version{{v1, pods("v1")}, {"v2@edited", pods("v2")}}
	if got := observe(t, r); got.Weights[v2] != 500 {
		t.Errorf("seen %v; the split is of the revision that it was made for", got.Weights)
	}
	put(t, r, rollout.Traffic{N: 2, Stable: v1, Canary: "v2@edited", Keep: []rollout.Revision{v2}})
	put(t, r, rollout.Traffic{N: 3, Stable: v1, Canary: "v2@edited", Weight: 500})
}

func TestMeasured(t *testing.T) {
	c := newCluster(t, object(t, twoRoutes), file(t, "02-destinationrule.yaml"))
	measure := func(cfg *Config) {
		cfg.Targets[0].Routes = []string{"api"}
		cfg.Measure = func(context.Context) (Measured, bool) {
			return Measured{Requests: map[rollout.Revision]float64{v1: 7}}, true
		}
	}
	if got := observe(t, c.router(t, measure)); got.Measured {
		t.Error("the testers' route is counted too, so that the counts say nothing about the split")
	}
	c = newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml"))
	r := c.router(t, measure, func(cfg *Config) { cfg.Targets[0].Routes = nil })
	if got := observe(t, r); !got.Measured || got.Requests[v1] != 7 || got.HasReceipt {
		t.Errorf("seen %+v", got)
	}
	want := split(1, v2, 0)
	want.Match = &rollout.Match{Header: map[string]string{"x": "y"}}
	if err := r.Apply(bg, want); err != nil {
		t.Fatal(err)
	}
	if got := observe(t, r); got.Measured {
		t.Error("who asks for the canary is counted too")
	}
}

func TestTheLastForeignWriter(t *testing.T) {
	entry := func(manager, at, fields string) string {
		return fmt.Sprintf(`{manager: %s, operation: Update, time: "2026-05-01T12:%s:00Z", fieldsV1: {%s}}`, manager, at, fields)
	}
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"Nobody":        {nil, ""},
		"Ours":          {[]string{entry("kubectl", "00", `"f:spec": {"f:hosts": {}}`), entry(FieldManager, "01", `"f:spec": {"f:http": {}}`)}, ""},
		"AHand":         {[]string{entry(FieldManager, "01", `"f:spec": {"f:tcp": {}}`), entry("kubectl-edit", "02", `"f:spec": {"f:http": {}}`)}, "kubectl-edit"},
		"TheSameSecond": {[]string{entry(FieldManager, "01", `"f:spec": {"f:http": {}}`), entry("argocd", "01", `"f:spec": {"f:http": {}}`)}, "argocd"},
		"LabelsOnly":    {[]string{entry("helm", "09", `"f:metadata": {}`), entry("flux", "01", `"f:spec": {"f:http": {}}`)}, "flux"},
	} {
		t.Run(name, func(t *testing.T) {
			o := object(t, "{metadata: {managedFields: ["+strings.Join(c.entries, ", ")+"]}}")
			if got := lastForeignWriter(o); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestRelease(t *testing.T) {
	before := file(t, "03-virtualservice.yaml")
	c := newCluster(t, before, file(t, "02-destinationrule.yaml"))
	r := c.router(t)
	want := split(1, v2, 0)
	want.Match = &rollout.Match{Cookie: map[string]string{"beta": "yes"}}
	put(t, r, want)
	put(t, r, rollout.Traffic{N: 2, Stable: v1})
	if err := r.Release(bg); err != nil {
		t.Fatal(err)
	}
	after := c.read(t, "VirtualService", "my-app-vs")
	if !same(after["spec"], before["spec"]) || len(textMap(after, "metadata", "annotations")) > 0 {
		t.Errorf("left behind: %v", after)
	}
	if err := r.Release(bg); err != nil {
		t.Errorf("again: %v", err)
	}
}

// ---- Errors ----

func TestErrorsHaveTheirKind(t *testing.T) {
	gr := schema.GroupResource{Group: Group, Resource: "virtualservices"}
	throttled := apierrors.NewTooManyRequests("slow down", 7)
	for name, c := range map[string]struct {
		err  error
		is   error
		kind engine.Kind
	}{
		"TestFailed": {apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", "testing value /metadata/resourceVersion failed: test failed", 0, false), engine.ErrConflict, engine.Retry},
		"IndexGone":  {apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", "replace operation does not apply: doc is missing path: /spec/http/3/route: missing value", 0, false), engine.ErrConflict, engine.Retry},
		"InMemory":   {errors.New("testing value /metadata/resourceVersion failed: test failed"), engine.ErrConflict, engine.Retry},
		"Conflict":   {apierrors.NewConflict(gr, "x", errors.New("newer")), engine.ErrConflict, engine.Retry},
		"Invalid": {apierrors.NewInvalid(schema.GroupKind{Group: Group, Kind: "VirtualService"}, "x", field.ErrorList{
			field.Invalid(field.NewPath("spec"), "testing value ", "no")}), engine.ErrRefused, engine.Stall},
		"Webhook":   {apierrors.NewBadRequest(`admission webhook "validation.istio.io" denied the request: configuration is invalid`), engine.ErrRefused, engine.Stall},
		"Forbidden": {apierrors.NewForbidden(gr, "x", errors.New("no")), engine.ErrForbidden, engine.Stall},
		"NotFound":  {apierrors.NewNotFound(gr, "x"), engine.ErrNotFound, engine.Ignore},
		"NoCRD":     {&meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: Group, Kind: "VirtualService"}}, engine.ErrRefused, engine.Stall},
		"Throttled": {throttled, throttled, engine.Retry},
		"Internal":  {apierrors.NewInternalError(errors.New("x")), nil, engine.Retry},
		"TimedOut":  {context.DeadlineExceeded, context.DeadlineExceeded, engine.Retry},
	} {
		t.Run(name, func(t *testing.T) {
			got := kindOf(fmt.Errorf("sending: %w", c.err))
			if got == nil || c.is != nil && !errors.Is(got, c.is) || engine.KindOf(got) != c.kind {
				t.Errorf("%v has kind %v, want %v and to be %v", got, engine.KindOf(got), c.kind, c.is)
			}
		})
	}
	var wait *engine.ThrottledError
	if !errors.As(kindOf(throttled), &wait) || wait.After != 7*time.Second {
		t.Errorf("%v: want to come back in 7 s", kindOf(throttled))
	}
}

func nn(namespace, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: namespace, Name: name}
}
