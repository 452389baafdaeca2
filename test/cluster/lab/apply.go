package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// Manager is the field manager of everything that this package applies: the
// name under which "the user's tool" writes.
const Manager = "lab"

type applier struct {
	cluster *Cluster
	mu      sync.Mutex
	mapper  meta.RESTMapper
}

// Apply applies documents by server-side apply, as a GitOps tool would:
// namespaces and types first. An object that names no namespace goes to the one
// given. Types are waited for until they are served.
func (c *Cluster) Apply(ctx context.Context, namespace string, docs ...[]byte) error {
	var all []*unstructured.Unstructured
	for _, d := range docs {
		objs, err := Parse(d)
		if err != nil {
			return err
		}
		all = append(all, objs...)
	}
	return c.ApplyObjects(ctx, namespace, all...)
}

// Parse reads documents of YAML or JSON; empty ones are left out.
func Parse(b []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096); ; {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(out)+1, err)
		}
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw); err != nil {
			return nil, fmt.Errorf("document %d: %w", len(out)+1, err)
		}
		out = append(out, u)
	}
}

// ApplyObjects is Apply for objects that are parsed.
func (c *Cluster) ApplyObjects(ctx context.Context, namespace string, objs ...*unstructured.Unstructured) error {
	rank := func(u *unstructured.Unstructured) int {
		return slices.Index([]string{"Namespace", "CustomResourceDefinition"}, u.GetKind())
	}
	objs = slices.Clone(objs)
	slices.SortStableFunc(objs, func(a, b *unstructured.Unstructured) int {
		ra, rb := rank(a), rank(b)
		if ra < 0 {
			ra = 2
		}
		if rb < 0 {
			rb = 2
		}
		return ra - rb
	})
	var types []string
	for _, u := range objs {
		if u.GetKind() != "CustomResourceDefinition" && len(types) > 0 {
			if err := c.established(ctx, types); err != nil {
				return err
			}
			types = nil
		}
		if u.GetKind() == "CustomResourceDefinition" {
			types = append(types, u.GetName())
		}
		r, err := c.resource(ctx, u, namespace)
		if err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
		b, err := u.MarshalJSON()
		if err != nil {
			return err
		}
		force := true
		if _, err := r.Patch(ctx, u.GetName(), apply, b, metav1.PatchOptions{FieldManager: Manager, Force: &force}); err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return c.established(ctx, types)
}

const apply = types.ApplyPatchType

var crdResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// established waits until all of the types are served.
func (c *Cluster) established(ctx context.Context, names []string) error {
	for _, n := range names {
		if err := Await(ctx, Patience, "type "+n, func() (bool, error) {
			u, err := c.Dynamic.Resource(crdResource).Get(ctx, n, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			conds, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			for _, x := range conds {
				if m, ok := x.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
					return true, nil
				}
			}
			return false, errors.New("not established")
		}); err != nil {
			return err
		}
	}
	return nil
}

// resource is the client for an object's kind, in its namespace.
func (c *Cluster) resource(ctx context.Context, u *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	gvk := u.GroupVersionKind()
	var m *meta.RESTMapping
	err := Await(ctx, Patience, "kind "+gvk.Kind, func() (ok bool, err error) {
		m, err = c.apply.mapping(gvk)
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return c.Dynamic.Resource(m.Resource), nil
	}
	if ns := u.GetNamespace(); ns != "" {
		namespace = ns
	}
	return c.Dynamic.Resource(m.Resource).Namespace(namespace), nil
}

// mapping asks the API server anew for kinds that were not there before.
func (a *applier) mapping(gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mapper != nil {
		if m, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err == nil {
			return m, nil
		}
	}
	groups, err := restmapper.GetAPIGroupResources(a.cluster.Clients.Discovery())
	if err != nil {
		return nil, err
	}
	a.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	return a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
}

// ApplyFiles applies files, in the order given.
func (c *Cluster) ApplyFiles(ctx context.Context, namespace string, files ...string) error {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, namespace, b); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(f), err)
		}
	}
	return nil
}

// Namespace makes a namespace if it is not there.
func (c *Cluster) Namespace(ctx context.Context, name string) error {
	return c.Apply(ctx, "", fmt.Appendf(nil, "{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", name))
}

// Delete deletes an object and does not wait; one that is not there is fine.
func (c *Cluster) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	var r dynamic.ResourceInterface = c.Dynamic.Resource(gvr)
	if namespace != "" {
		r = c.Dynamic.Resource(gvr).Namespace(namespace)
	}
	err := r.Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
