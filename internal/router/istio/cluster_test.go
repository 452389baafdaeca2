package istio

import (
	"bytes"
	"context"
	"encoding/json"
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
	patches atomic.Int64
	fail    func(kind string) error // before a patch
	stale   func(kind string) *unstructured.Unstructured
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
	if err := c.Client.Get(context.Background(), types.NamespacedName{Namespace: "default", Name: name}, u); err != nil {
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
		Client: c, Namespace: "default", Label: "version",
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

// setWeights writes numbers into the first route, as a hand would.
func setWeights(o map[string]any, kind string, by map[string]int64) {
	route := list(o, "spec", kind)[0].(map[string]any)
	var out []any
	for _, version := range []string{"v1", "v2"} {
		out = append(out, map[string]any{"destination": map[string]any{"host": "my-app-service", "subset": version}, "weight": by[version]})
	}
	route["route"] = out
}

func TestRouterSuite(t *testing.T) {
	for name, shape := range map[string]struct {
		vs, kind string
	}{
		"Article": {kind: "http"},
		"TCP": {kind: "tcp", vs: `
metadata: {name: my-app-vs, labels: {team: shop}}
spec:
  hosts: [my-app-service]
  tcp:
  - match: [{port: 80}]
    route:
    - destination: {host: my-app-service.default.svc.cluster.local, subset: v1, port: {number: 80}}
`},
		"TLS": {kind: "tls", vs: `
metadata: {name: my-app-vs}
spec:
  hosts: [shop.example]
  gateways: [mesh, front]
  tls:
  - match: [{port: 443, sniHosts: [shop.example]}]
    route:
    - {destination: {host: my-app-service, subset: v1}, weight: 7}
`},
		"Much": {kind: "http", vs: `
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
`},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.TestRouter(t, func(t *testing.T) enginetest.RouterFixture {
				vs := file(t, "03-virtualservice.yaml")
				if shape.vs != "" {
					vs = object(t, shape.vs)
					vs["kind"] = "VirtualService"
				}
				c := newCluster(t, vs, file(t, "02-destinationrule.yaml"))
				return enginetest.RouterFixture{
					Router: c.router(t), Stable: v1, Canary: v2,
					Step: func() {},
					Hand: func(by map[rollout.Revision]rollout.Weight) {
						c.write(t, "VirtualService", "my-app-vs", func(o map[string]any) {
							numbers := map[string]int64{}
							for rev, w := range by {
								numbers[rev.Label()] = int64(w) / 100
							}
							at := 0
							if name == "Much" {
								at = 1
							}
							routes := list(o, "spec", shape.kind)
							routes[0], routes[at] = routes[at], routes[0]
							setWeights(o, shape.kind, numbers)
							routes[0], routes[at] = routes[at], routes[0]
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
				if canonical(text(d, "destination", "host"), "default") != "my-app-service.default.svc" {
					rest = append(rest, d)
					continue
				}
				d := d.(map[string]any)
				delete(d, "weight")
				delete(d["destination"].(map[string]any), "subset")
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
