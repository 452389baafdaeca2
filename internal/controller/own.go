package controller

import (
	"context"
	"reflect"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// ownClient gives back what was written through it. A cache hears of our own
// writes a moment later than we do; until then the API server's answer to the
// write stands in for what the cache has. (controller-runtime has the like
// built in; there it keeps reads waiting, and does not know that what is
// patched raw is what is read raw.)
type ownClient struct {
	client.Client

	mu    sync.Mutex
	wrote map[ref]written
}

type ref struct {
	kind schema.GroupVersionKind
	key  types.NamespacedName
	form string // typed, raw or metadata: the caches are not the same
}

type written struct {
	obj     client.Object
	version uint64
	at      time.Time
}

// forgetAfter bounds how long a write stands in for a cache that hears nothing.
const forgetAfter = time.Minute

func newOwnClient(c client.Client) *ownClient { return &ownClient{Client: c, wrote: map[ref]written{}} }

func (c *ownClient) refOf(obj client.Object) (ref, bool) {
	kind, err := apiutil.GVKForObject(obj, c.Scheme())
	return ref{kind, client.ObjectKeyFromObject(obj), formOf(obj)}, err == nil
}

func formOf(obj runtime.Object) string {
	if _, raw := obj.(runtime.Unstructured); raw {
		return "raw"
	}
	return "typed"
}

func versionOf(obj client.Object) uint64 {
	n, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (c *ownClient) remember(obj client.Object) {
	r, ok := c.refOf(obj)
	v := versionOf(obj)
	if !ok || v == 0 {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, w := range c.wrote {
		if now.Sub(w.at) > forgetAfter {
			delete(c.wrote, k)
		}
	}
	if old, there := c.wrote[r]; there && old.version > v {
		return
	}
	c.wrote[r] = written{obj.DeepCopyObject().(client.Object), v, now}
}

// newer is our write of the object, if the cache does not have it yet.
func (c *ownClient) newer(r ref, cached uint64) client.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, there := c.wrote[r]
	switch {
	case !there:
		return nil
	case cached >= w.version, time.Since(w.at) > forgetAfter:
		delete(c.wrote, r)
		return nil
	}
	return w.obj.DeepCopyObject().(client.Object)
}

func (c *ownClient) forget(r ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.wrote, r)
}

// Get reads from the cache, or gives our own later write.
func (c *ownClient) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := c.Client.Get(ctx, key, obj, opts...)
	kind, kindErr := apiutil.GVKForObject(obj, c.Scheme())
	if kindErr != nil {
		return err
	}
	r := ref{kind, key, formOf(obj)}
	if err != nil {
		if apierrors.IsNotFound(err) {
			c.forget(r) // what was deleted does not come back
		}
		return err
	}
	if w := c.newer(r, versionOf(obj)); w != nil {
		into(obj, w)
	}
	return nil
}

func into(obj, from client.Object) {
	a, b := reflect.ValueOf(obj).Elem(), reflect.ValueOf(from).Elem()
	if a.Type() == b.Type() {
		a.Set(b)
	}
}

// List reads from the cache, with our own later writes in place of what it has.
func (c *ownClient) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := c.Client.List(ctx, list, opts...); err != nil {
		return err
	}
	c.mu.Lock()
	idle := len(c.wrote) == 0
	c.mu.Unlock()
	if idle {
		return nil
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil // not a list that could hold a write of ours
	}
	changed := false
	for i, item := range items {
		obj, ok := item.(client.Object)
		if !ok {
			continue
		}
		r, ok := c.refOf(obj)
		if !ok {
			continue
		}
		if w := c.newer(r, versionOf(obj)); w != nil {
			items[i], changed = w, true
		}
	}
	if !changed {
		return nil
	}
	return meta.SetList(list, items)
}

// Patch writes, and remembers what the API server made of it.
func (c *ownClient) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if err := c.Client.Patch(ctx, obj, patch, opts...); err != nil {
		return err
	}
	c.remember(obj)
	return nil
}

// Update writes, and remembers what the API server made of it.
func (c *ownClient) Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error {
	if err := c.Client.Update(ctx, obj, opts...); err != nil {
		return err
	}
	c.remember(obj)
	return nil
}

// Status writes statuses, whose answer is the whole object, too.
func (c *ownClient) Status() client.SubResourceWriter { return ownStatus{c.Client.Status(), c} }

type ownStatus struct {
	client.SubResourceWriter
	c *ownClient
}

func (s ownStatus) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	if err := s.SubResourceWriter.Patch(ctx, obj, patch, opts...); err != nil {
		return err
	}
	s.c.remember(obj)
	return nil
}
