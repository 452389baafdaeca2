package istio

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

// ---- A cluster ----

// cluster is controller-runtime's client in memory, with our objects in it.
type cluster struct {
	client.Client
	namespace string // empty: default
	patches   atomic.Int64
	fail      func(kind string) error // before a patch
	stale     func(kind string) *unstructured.Unstructured
}

func istioScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := corev1.AddToScheme(s); err != nil {
		panic(err)
	}
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		gvk := schema.GroupVersionKind{Group: Group, Version: "v1", Kind: kind}
		s.AddKnownTypeWithName(gvk, &unstructured.Unstructured{})
		gvk.Kind += "List"
		s.AddKnownTypeWithName(gvk, &unstructured.UnstructuredList{})
	}
	return s
}

func newCluster(t testing.TB, objects ...map[string]any) *cluster {
	t.Helper()
	c := &cluster{}
	b := fake.NewClientBuilder().WithScheme(istioScheme())
	for _, o := range objects {
		u := &unstructured.Unstructured{Object: clone(o).(map[string]any)}
		if u.GetNamespace() == "" {
			u.SetNamespace("default")
		}
		if u.GetKind() == "Service" {
			var s corev1.Service
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &s); err != nil {
				t.Fatal(err)
			}
			b = b.WithObjects(&s)
			continue
		}
		u.SetAPIVersion(Group + "/v1")
		b = b.WithObjects(u)
	}
	c.Client = interceptor.NewClient(b.Build(), interceptor.Funcs{
		Get: func(ctx context.Context, in client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if c.stale != nil {
				if old := c.stale(o.GetObjectKind().GroupVersionKind().Kind); old != nil {
					o.(*unstructured.Unstructured).Object = clone(old.Object).(map[string]any)
					return nil
				}
			}
			return in.Get(ctx, key, o, opts...)
		},
		Patch: func(ctx context.Context, in client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if c.fail != nil {
				if err := c.fail(o.GetObjectKind().GroupVersionKind().Kind); err != nil {
					return err
				}
			}
			c.patches.Add(1)
			return in.Patch(ctx, o, p, opts...)
		},
	})
	return c
}

func (c *cluster) read(t testing.TB, kind, name string) map[string]any {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: Group, Version: "v1", Kind: kind})
	if err := c.Client.Get(context.Background(), types.NamespacedName{Namespace: cmp.Or(c.namespace, "default"), Name: name}, u); err != nil {
		t.Fatal(err)
	}
	return u.Object
}

// write changes an object as somebody else would.
func (c *cluster) write(t testing.TB, kind, name string, change func(map[string]any)) {
	t.Helper()
	u := &unstructured.Unstructured{Object: c.read(t, kind, name)}
	change(u.Object)
	if err := c.Client.Update(context.Background(), u); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) router(t testing.TB, change ...func(*Config)) *Router {
	t.Helper()
	cfg := Config{
		Client: c, Namespace: cmp.Or(c.namespace, "default"), Label: "version",
		Targets:  []Target{{VirtualService: "my-app-vs", DestinationRule: "my-app-dest"}},
		Versions: func(context.Context) ([]Version, error) { return versions, nil },
	}
	for _, f := range change {
		f(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ---- The engine's promises ----

// shape is a VirtualService on which the promises are kept.
type shape struct {
	objects []map[string]any
	kind    string // of the route that carries the split
	at      int    // its place
	byHost  bool
}

func (s shape) config(cfg *Config) {
	if s.byHost {
		cfg.Targets[0].DestinationRule = ""
	}
}

// hand writes numbers into the route, as somebody else would.
func (s shape) hand(o map[string]any, by map[string]int64) {
	setWeights(o, s.kind, s.at, s.byHost, by)
}

// setWeights writes a route's numbers anew.
func setWeights(o map[string]any, kind string, at int, byHost bool, by map[string]int64) {
	var out []any
	for _, version := range []string{"v1", "v2"} {
		destination := map[string]any{"host": "my-app-service", "subset": version}
		if byHost {
			destination = map[string]any{"host": "my-app-" + version}
		}
		out = append(out, map[string]any{"destination": destination, "weight": by[version]})
	}
	list(o, "spec", kind)[at].(map[string]any)["route"] = out
}

func shapes(t testing.TB) map[string]shape {
	rule := file(t, "02-destinationrule.yaml")
	vs := func(text string) map[string]any {
		o := object(t, text)
		o["kind"] = "VirtualService"
		return o
	}
	return map[string]shape{
		"Article": {kind: "http", objects: []map[string]any{file(t, "03-virtualservice.yaml"), rule}},
		"TCP": {kind: "tcp", objects: []map[string]any{rule, vs(`
metadata: {name: my-app-vs, labels: {team: shop}}
spec:
  hosts: [my-app-service]
  tcp:
  - match: [{port: 80}]
    route:
    - destination: {host: my-app-service, subset: v1, port: {number: 80}}
`)}},
		"TLS": {kind: "tls", objects: []map[string]any{rule, vs(`
metadata: {name: my-app-vs}
spec:
  hosts: [shop.example]
  gateways: [mesh, front]
  tls:
  - match: [{port: 443, sniHosts: [shop.example]}]
    route:
    - {destination: {host: my-app-service, subset: v1}, weight: 7}
`)}},
		"Much": {kind: "http", at: 1, objects: []map[string]any{rule, vs(`
metadata: {name: my-app-vs, annotations: {mine: "yes"}}
spec:
  hosts: [my-app-service]
  http:
  - name: redirect
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - name: main
    timeout: 2s
    retries: {attempts: 3, perTryTimeout: 250ms}
    mirror: {host: shadow, subset: v9}
    mirrorPercentage: {value: 12.5}
    route:
    - {destination: {host: my-app-service, subset: v1, port: {number: 8080}}, weight: 100, headers: {response: {set: {x-a: b}}}}
`)}},
		"Hosts": {kind: "http", byHost: true, objects: []map[string]any{
			object(t, service("my-app", "{app: my-app}")),
			object(t, service("my-app-v1", "{app: my-app, version: v1}")),
			object(t, service("my-app-v2", "{app: my-app, version: v2}")),
			vs(`
metadata: {name: my-app-vs, labels: {team: shop}}
spec:
  hosts: [my-app]
  http:
  - timeout: 2s
    route:
    - {destination: {host: my-app-v1}, headers: {response: {set: {x-a: b}}}}
`)}},
	}
}

// fixture is the shape, there in a cluster.
func (s shape) fixture(t *testing.T, c *cluster) enginetest.RouterFixture {
	return enginetest.RouterFixture{
		Router: c.router(t, s.config), Stable: v1, Canary: v2,
		Step: func() {},
		Hand: func(by map[rollout.Revision]rollout.Weight) {
			c.write(t, "VirtualService", "my-app-vs", func(o map[string]any) {
				numbers := map[string]int64{}
				for rev, w := range by {
					numbers[rev.Label()] = int64(w) / 100
				}
				s.hand(o, numbers)
			})
		},
		Remove: func() {
			u := &unstructured.Unstructured{Object: c.read(t, "VirtualService", "my-app-vs")}
			if err := c.Client.Delete(context.Background(), u); err != nil {
				t.Fatal(err)
			}
		},
		Foreign: func() []byte { return foreign(t, c.read(t, "VirtualService", "my-app-vs")) },
		Writes:  func() int { return int(c.patches.Load()) },
	}
}

func TestRouterSuite(t *testing.T) {
	for name, shape := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			enginetest.TestRouter(t, func(t *testing.T) enginetest.RouterFixture {
				return shape.fixture(t, newCluster(t, shape.objects...))
			})
		})
	}
}

// foreign is what of an object is not ours: everything but our annotations and
// what the destinations of our host say of versions and numbers.
func foreign(t testing.TB, o map[string]any) []byte {
	t.Helper()
	o = clone(o).(map[string]any)
	meta, _ := o["metadata"].(map[string]any)
	delete(meta, "resourceVersion")
	delete(meta, "managedFields")
	delete(meta, "generation")
	if a, ok := meta["annotations"].(map[string]any); ok {
		delete(a, NoteAnnotation)
		delete(a, KeptAnnotation)
		if len(a) == 0 {
			delete(meta, "annotations")
		}
	}
	for _, kind := range kinds {
		for _, r := range list(o, "spec", kind) {
			var rest []any
			for _, d := range list(r, "route") {
				host, d := text(d, "destination", "host"), d.(map[string]any)
				switch {
				case host == "my-app-service" || strings.HasPrefix(host, "my-app-service."):
					delete(d["destination"].(map[string]any), "subset")
				case strings.HasPrefix(host, "my-app-v"):
					d["destination"].(map[string]any)["host"] = "my-app-v?"
				default:
					rest = append(rest, d)
					continue
				}
				delete(d, "weight")
				if len(rest) == 0 || !same(rest[len(rest)-1], d) {
					rest = append(rest, d)
				}
			}
			if m, ok := r.(map[string]any); ok && rest != nil {
				m["route"] = rest
			}
		}
	}
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", " "); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
