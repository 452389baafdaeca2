package istio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

// A real API server, where one is given: KUBEBUILDER_ASSETS names the folder
// with etcd and kube-apiserver.
var (
	real   client.Client
	spaces atomic.Int32
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return m.Run()
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("testdata", "crd")}, ErrorIfCRDPathMissing: true}
	cfg, err := env.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the API server of KUBEBUILDER_ASSETS does not start:", err)
		return 1
	}
	defer func() {
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		}
	}()
	cfg.QPS = -1
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"VirtualService", "DestinationRule"} {
		mapper.Add(schema.GroupVersionKind{Group: Group, Version: "v1", Kind: kind}, meta.RESTScopeNamespace)
	}
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	if real, err = client.New(cfg, client.Options{Scheme: istioScheme(), Mapper: mapper}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// onServer puts objects into a namespace of the real API server; without one the
// test is skipped, or with CI=true fails.
func onServer(t *testing.T, objects ...map[string]any) *cluster {
	t.Helper()
	if real == nil || os.Getenv("KUBEBUILDER_ASSETS") == "" { // asked here too, for the cache of go test
		const why = "no API server: KUBEBUILDER_ASSETS has to name the folder of etcd and kube-apiserver"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	c := &cluster{namespace: fmt.Sprintf("t%d", spaces.Add(1))}
	if err := real.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: object(t, strings.ReplaceAll(string(raw), ".default.", "."+c.namespace+"."))}
		u.SetNamespace(c.namespace)
		if u.GetKind() != "Service" {
			u.SetAPIVersion(Group + "/v1")
		}
		if err := real.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	c.Client = &counted{Client: real, c: c}
	return c
}

// counted counts patches.
type counted struct {
	client.Client
	c *cluster
}

func (x *counted) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	x.c.patches.Add(1)
	return x.Client.Patch(ctx, o, p, opts...)
}

// The engine's promises, kept on a real API server: its JSON Patch, its
// conflicts, its managed fields.
func TestRouterSuiteOnAServer(t *testing.T) {
	for name, shape := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			enginetest.TestRouter(t, func(t *testing.T) enginetest.RouterFixture {
				return shape.fixture(t, onServer(t, shape.objects...))
			})
		})
	}
}

// What a hand wrote after our look is not written over: the server refuses the
// patch as a whole.
func TestAServerRefusesAnOldPatch(t *testing.T) {
	shape := shapes(t)["Hosts"]
	c := onServer(t, shape.objects...)
	r := c.router(t, shape.config)
	put(t, r, split(1, v2, 500))
	c.write(t, "VirtualService", "my-app-vs", func(o map[string]any) { shape.hand(o, map[string]int64{"v1": 99, "v2": 1}) })
	before := c.read(t, "VirtualService", "my-app-vs")
	if err := r.Apply(bg, split(2, v2, 2500)); !errors.Is(err, engine.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	if after := c.read(t, "VirtualService", "my-app-vs"); !same(before, after) {
		t.Errorf("was %v\nis  %v", before, after)
	}
	seen := observe(t, r)
	if want := map[rollout.Revision]rollout.Weight{v1: 9900, v2: 100}; !maps.Equal(seen.Weights, want) {
		t.Errorf("seen %v, want %v", seen.Weights, want)
	}
	if seen.Manager == "" || seen.Manager == FieldManager {
		t.Errorf("written by %q, want the hand's name", seen.Manager)
	}
}
