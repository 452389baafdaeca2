package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/rollout"
)

// Annotations of ours.
const (
	// MarkAnnotation says what became of a revision: "condemned/HASH" or
	// "retired/HASH", where HASH is the revision's.
	MarkAnnotation = "serin.dev/mark"
	// HPAMinAnnotation is an autoscaler's own minimum while ours is in force.
	HPAMinAnnotation = "serin.dev/min-replicas"
)

// Kind is the kind of object that is read, raw: a struct would drop what this
// program's version does not know, and the hash with it.
var Kind = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}

// Options of Workloads. Client, Namespace, Selector and Label are needed.
type Options struct {
	// Client reads and writes. Its reads may come from a cache, which has to
	// give back what was written through it.
	Client    client.Client
	Namespace string
	Selector  labels.Selector // over the labels of pod templates
	Label     string          // of pod templates: its value is the version
	// Services names the Services that the route sends to. nil or an empty list:
	// readiness is what the Deployments say.
	Services func(context.Context) ([]types.NamespacedName, error)
	// Pods gives the pods of the versions; false while they are not looked at.
	// They only say why something is not ready.
	Pods func() ([]*corev1.Pod, bool)
	// ScaleOnly says that counts may be written and marks may not: then marks are
	// in the rollout's state alone. nil: both may be.
	ScaleOnly func(context.Context) bool
	Now       func() time.Time // time.Now
}

// Workloads is the engine's port for one rollout.
type Workloads struct {
	o Options

	mu     sync.Mutex
	known  map[types.UID]template
	raised map[types.UID]raise // by autoscaler
	// may is when the Deployment itself may be tried to be patched again, after
	// that was not permitted.
	may time.Time
}

// template is what was made of a Deployment as it stood at a resourceVersion.
type template struct {
	version string
	hash    string
	since   time.Time
	settled bool // the Deployment's status was about this template at least once
}

// New makes the port. Nothing is read yet.
func New(o Options) *Workloads {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Workloads{o: o, known: map[types.UID]template{}, raised: map[types.UID]raise{}}
}

// object is one version's Deployment as far as it matters.
type object struct {
	raw      *unstructured.Unstructured
	workload rollout.Workload
	status   status
	mark     string
}

// status is what the Deployment's controller says.
type status struct {
	observed                 int64
	replicas, updated, ready int
	conditions               []condition
	surplus                  int  // pods of an older template
	stale                    bool // it is about an older template
}

type condition struct{ kind, status, reason, message string }

// Observe lists the versions, by name.
func (w *Workloads) Observe(ctx context.Context) (rollout.Workloads, error) {
	objects, err := w.list(ctx)
	if err != nil {
		return rollout.Workloads{}, err
	}
	out := rollout.Workloads{Known: rollout.Absent}
	if len(objects) == 0 {
		return out, nil
	}
	out.Known = rollout.Present
	hpas, err := w.hpas(ctx)
	if err != nil {
		return rollout.Workloads{}, err
	}
	ready, readyErr := w.ready(ctx, objects)
	var pods []*corev1.Pod
	watched := false
	if w.o.Pods != nil {
		pods, watched = w.o.Pods()
	}
	for _, o := range objects {
		x := o.workload
		if h := hpas[x.Name]; h != nil {
			x.HPA = &rollout.HPA{Name: h.Name, Min: minOf(h), Max: int(h.Spec.MaxReplicas), Desired: int(h.Status.DesiredReplicas)}
		}
		if readyErr == nil {
			x.Ready, x.ReadyKnown = certain(ready[x.Name], o.status)
		}
		if !x.ReadyKnown || x.Ready < x.Replicas {
			x.Why = why(o, ready[x.Name], readyErr, w.podsOf(o, pods), watched)
		}
		out.Items = append(out.Items, x)
	}
	return out, nil
}

// certain is how many of the ready pods run the template for certain. Pods of
// an older one that are still there may be among them.
func certain(ready int, s status) (n int, known bool) {
	switch {
	case s.stale:
		return 0, ready == 0
	case s.surplus == 0:
		return ready, true
	}
	n = max(0, ready-s.surplus)
	return n, n > 0 || ready == 0
}

// list gives the versions' Deployments, by name.
func (w *Workloads) list(ctx context.Context) ([]object, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all unstructured.UnstructuredList
	all.SetGroupVersionKind(Kind.GroupVersion().WithKind("DeploymentList"))
	if err := w.o.Client.List(ctx, &all, client.InNamespace(w.o.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing the Deployments of %s: %w", w.o.Namespace, kindOf(err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[types.UID]bool{}
	var out []object
	for i := range all.Items {
		u := &all.Items[i]
		podLabels, _, _ := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels")
		label := podLabels[w.o.Label]
		if label == "" || !w.o.Selector.Matches(labels.Set(podLabels)) {
			continue
		}
		there[u.GetUID()] = true
		out = append(out, w.read(u, label))
	}
	for uid := range w.known {
		if !there[uid] {
			delete(w.known, uid)
		}
	}
	slices.SortFunc(out, func(a, b object) int { return strings.Compare(a.workload.Name, b.workload.Name) })
	return out, nil
}

// read makes a workload of a Deployment. The caller holds mu.
func (w *Workloads) read(u *unstructured.Unstructured, label string) object {
	was, seen := w.known[u.GetUID()]
	now := was
	if !seen || was.version != u.GetResourceVersion() {
		tmpl, _, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "template")
		raw, _ := json.Marshal(tmpl) // came from JSON
		now = template{version: u.GetResourceVersion(), hash: manifest.TemplateHash(raw), since: since(u), settled: was.settled}
		if seen && now.hash != was.hash {
			now.settled = false
			if !now.since.After(was.since) {
				// Whole seconds, or nobody noted it: it is later all the same.
				now.since = was.since.Add(time.Millisecond)
			}
		} else if seen && now.since.Before(was.since) {
			now.since = was.since
		}
	}
	o := object{raw: u, status: statusOf(u)}
	if o.status.observed >= u.GetGeneration() {
		now.settled = true
	}
	// A status that is about an older spec says nothing about the pods of a
	// template that is new to us; of a count that is new it does not have to.
	o.status.stale = !now.settled && o.status.observed > 0
	w.known[u.GetUID()] = now
	o.mark = u.GetAnnotations()[MarkAnnotation]
	kind, hash, _ := strings.Cut(o.mark, "/")
	replicas, found, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if !found {
		replicas = 1
	}
	o.workload = rollout.Workload{
		Revision: rollout.NewRevision(label, now.hash), Name: u.GetName(), UID: string(u.GetUID()), Generation: u.GetGeneration(),
		Since: now.since, Deleting: u.GetDeletionTimestamp() != nil, Replicas: int(replicas),
		Condemned: kind == string(rollout.Condemned) && hash == now.hash,
		Retired:   kind == string(rollout.Retired) && hash == now.hash,
	}
	return o
}

// since is when the template was last changed, as far as the server has noted.
func since(u *unstructured.Unstructured) time.Time {
	at := u.GetCreationTimestamp().Time
	for _, f := range u.GetManagedFields() {
		if f.Subresource != "" || f.Time == nil || f.FieldsV1 == nil || !f.Time.After(at) {
			continue
		}
		if ownsTemplate(f.FieldsV1.GetRawBytes()) {
			at = f.Time.Time
		}
	}
	return at.UTC()
}

func ownsTemplate(fields []byte) bool {
	var owned struct {
		Spec struct {
			Template json.RawMessage `json:"f:template"`
		} `json:"f:spec"`
	}
	return json.Unmarshal(fields, &owned) == nil && owned.Spec.Template != nil
}

// Slim drops from a Deployment what this package does not read. A cache keeps
// it so.
func Slim(u *unstructured.Unstructured) {
	var kept []metav1.ManagedFieldsEntry
	for _, f := range u.GetManagedFields() {
		if f.Subresource == "" && f.Time != nil && f.FieldsV1 != nil && ownsTemplate(f.FieldsV1.GetRawBytes()) {
			f.FieldsV1 = metav1.NewFieldsV1(`{"f:spec":{"f:template":{}}}`)
			kept = append(kept, f)
		}
	}
	u.SetManagedFields(kept)
	if a := u.GetAnnotations(); a[lastApplied] != "" {
		delete(a, lastApplied)
		u.SetAnnotations(a)
	}
}

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func statusOf(u *unstructured.Unstructured) status {
	s := status{}
	s.observed, _, _ = unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	number := func(field string) int {
		n, _, _ := unstructured.NestedInt64(u.Object, "status", field)
		return int(n)
	}
	s.replicas, s.updated, s.ready = number("replicas"), number("updatedReplicas"), number("readyReplicas")
	s.surplus = max(0, s.replicas-s.updated)
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range list {
		m, _ := c.(map[string]any)
		text := func(key string) string { v, _ := m[key].(string); return v }
		s.conditions = append(s.conditions, condition{text("type"), text("status"), text("reason"), text("message")})
	}
	return s
}

// hpas gives the autoscalers by the Deployment that they scale.
func (w *Workloads) hpas(ctx context.Context) (map[string]*autoscalingv2.HorizontalPodAutoscaler, error) {
	var all autoscalingv2.HorizontalPodAutoscalerList
	if err := w.o.Client.List(ctx, &all, client.InNamespace(w.o.Namespace)); err != nil {
		return nil, fmt.Errorf("listing the HorizontalPodAutoscalers of %s: %w", w.o.Namespace, kindOf(err))
	}
	out := map[string]*autoscalingv2.HorizontalPodAutoscaler{}
	for i := range all.Items {
		h := &all.Items[i]
		group, _, _ := strings.Cut(h.Spec.ScaleTargetRef.APIVersion, "/")
		if t := h.Spec.ScaleTargetRef; t.Kind == "Deployment" && (group == "apps" || group == "") && h.DeletionTimestamp == nil {
			if old := out[t.Name]; old == nil || h.Name < old.Name {
				out[t.Name] = h
			}
		}
	}
	return out, nil
}

func minOf(h *autoscalingv2.HorizontalPodAutoscaler) int {
	if h.Spec.MinReplicas == nil {
		return 1
	}
	return int(*h.Spec.MinReplicas)
}

// ready counts, by Deployment, the pods that the mesh would send to.
func (w *Workloads) ready(ctx context.Context, objects []object) (map[string]int, error) {
	var services []types.NamespacedName
	if w.o.Services != nil {
		var err error
		if services, err = w.o.Services(ctx); err != nil {
			return nil, fmt.Errorf("which Services the route sends to is not known: %w", err)
		}
	}
	if len(services) == 0 {
		out := map[string]int{}
		for _, o := range objects {
			out[o.workload.Name] = o.status.ready
		}
		return out, nil
	}
	var slices []discoveryv1.EndpointSlice
	for _, s := range services {
		if s.Namespace != w.o.Namespace {
			continue // pods are in their Service's namespace
		}
		var list discoveryv1.EndpointSliceList
		err := w.o.Client.List(ctx, &list, client.InNamespace(s.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: s.Name}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("listing the EndpointSlices of %s: %w", s, kindOf(err))
		}
		slices = append(slices, list.Items...)
	}
	return countReady(slices, objects), nil
}

// Apply does all it can; the error joins what could not be done.
func (w *Workloads) Apply(ctx context.Context, want []rollout.Scale) error {
	objects, err := w.list(ctx)
	if err != nil {
		return err
	}
	var hpas map[string]*autoscalingv2.HorizontalPodAutoscaler
	var errs []error
	for _, s := range want {
		i := slices.IndexFunc(objects, func(o object) bool {
			return o.workload.Revision == s.Revision && (s.Name == "" || o.workload.Name == s.Name)
		})
		if i < 0 {
			errs = append(errs, fmt.Errorf("scaling %s: %w", s.Revision, engine.ErrNotFound))
			continue
		}
		o := objects[i]
		if s.Delete {
			errs = append(errs, w.remove(ctx, o))
			continue
		}
		if s.HPA != "" {
			if hpas == nil {
				if hpas, err = w.hpas(ctx); err != nil {
					errs = append(errs, err)
					continue
				}
			}
			errs = append(errs, w.holdMinimum(ctx, hpas[o.workload.Name], s))
		}
		errs = append(errs, w.scale(ctx, o, s))
	}
	return errors.Join(errs...)
}

func (w *Workloads) remove(ctx context.Context, o object) error {
	if o.workload.Deleting {
		return nil
	}
	uid := o.raw.GetUID()
	err := w.o.Client.Delete(ctx, o.raw.DeepCopy(), client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Deployment %s: %w", o.workload.Name, kindOf(err))
	}
	return nil
}

type op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// scale writes the count and the mark, where they are not as asked.
func (w *Workloads) scale(ctx context.Context, o object, s rollout.Scale) error {
	count := o.workload.Replicas
	switch {
	case s.Zero:
		count = 0
	case s.Min > count:
		count = s.Min
	}
	mark := o.mark
	switch {
	case s.Mark != "":
		mark = string(s.Mark) + "/" + s.Revision.Hash()
	case s.Unmark:
		mark = ""
	}
	scaled, marked := count != o.workload.Replicas, mark != o.mark
	w.mu.Lock()
	marks := !w.o.Now().Before(w.may)
	w.mu.Unlock()
	if scaled || marked {
		marks = marks && (w.o.ScaleOnly == nil || !w.o.ScaleOnly(ctx))
	}
	if !scaled && (!marked || !marks) {
		return nil
	}
	if marks {
		err := w.patch(ctx, o, count, mark, marked)
		if !errors.Is(err, engine.ErrForbidden) {
			return err
		}
		// With the right to scale alone, marks are in the rollout's state only.
		w.mu.Lock()
		w.may = w.o.Now().Add(10 * time.Minute)
		w.mu.Unlock()
		if !scaled {
			return nil
		}
	}
	return w.scaleOnly(ctx, o, count)
}

func (w *Workloads) patch(ctx context.Context, o object, count int, mark string, marked bool) error {
	ops := []op{{"test", "/metadata/uid", o.workload.UID}}
	if count != o.workload.Replicas {
		ops = append(ops, op{"test", "/spec/replicas", o.workload.Replicas}, op{"replace", "/spec/replicas", count})
	}
	if marked {
		ops = append(ops, annotate(o.raw, MarkAnnotation, o.mark, mark)...)
	}
	return w.send(ctx, o.raw, ops, fmt.Sprintf("scaling Deployment %s to %d", o.workload.Name, count))
}

// annotate sets an annotation, or takes it away for an empty value.
func annotate(obj client.Object, key, from, to string) []op {
	path := "/metadata/annotations/" + strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
	switch {
	case from == to:
		return nil
	case to == "":
		return []op{{Op: "test", Path: path, Value: from}, {Op: "remove", Path: path}}
	case len(obj.GetAnnotations()) == 0:
		// There may be some by now: then the whole of it is a conflict.
		return []op{{"test", "/metadata/resourceVersion", obj.GetResourceVersion()}, {"add", "/metadata/annotations", map[string]string{key: to}}}
	case from != "":
		return []op{{"test", path, from}, {"replace", path, to}}
	}
	return []op{{"add", path, to}}
}

func (w *Workloads) send(ctx context.Context, obj client.Object, ops []op, what string) error {
	body, err := json.Marshal(ops)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	into := obj.DeepCopyObject().(client.Object)
	if err := w.o.Client.Patch(ctx, into, client.RawPatch(types.JSONPatchType, body), Manager); err != nil {
		return fmt.Errorf("%s: %w", what, kindOf(err))
	}
	return nil
}

// Manager is who our writes are by, in managedFields.
const Manager = client.FieldOwner("serin-controller")

func (w *Workloads) scaleOnly(ctx context.Context, o object, count int) error {
	body, err := json.Marshal([]op{{"test", "/spec/replicas", o.workload.Replicas}, {"replace", "/spec/replicas", count}})
	if err != nil {
		return err
	}
	err = w.o.Client.SubResource("scale").Patch(ctx, o.raw.DeepCopy(), client.RawPatch(types.JSONPatchType, body), Manager)
	if err != nil {
		return fmt.Errorf("scaling Deployment %s to %d: %w", o.workload.Name, count, kindOf(err))
	}
	return nil
}

// holdMinimum raises or restores an autoscaler's minimum. The annotation keeps
// the author's for as long as ours is in force.
func (w *Workloads) holdMinimum(ctx context.Context, h *autoscalingv2.HorizontalPodAutoscaler, s rollout.Scale) error {
	if h == nil || h.Name != s.HPA {
		return fmt.Errorf("setting the minimum of HorizontalPodAutoscaler %s: %w", s.HPA, engine.ErrNotFound)
	}
	has, kept := minOf(h), h.Annotations[HPAMinAnnotation]
	if has == s.HPAMin {
		return nil
	}
	now := w.o.Now()
	w.mu.Lock()
	was, raised := w.raised[h.UID]
	w.mu.Unlock()
	if raised && s.HPAMin > has && was.to == s.HPAMin && now.Sub(was.at) < raiseEvery && !now.Before(was.at) {
		return fmt.Errorf("the minimum of HorizontalPodAutoscaler %s was raised to %d and is %d again%s", h.Name, s.HPAMin, has, ownerOf(h))
	}
	note := kept
	switch {
	case kept == "" && s.HPAMin > has:
		note = strconv.Itoa(has)
	case kept == strconv.Itoa(s.HPAMin):
		note = ""
	}
	ops := []op{{"test", "/metadata/uid", string(h.UID)}}
	if h.Spec.MinReplicas == nil {
		ops = append(ops, op{"add", "/spec/minReplicas", s.HPAMin})
	} else {
		ops = append(ops, op{"test", "/spec/minReplicas", has}, op{"replace", "/spec/minReplicas", s.HPAMin})
	}
	ops = append(ops, annotate(h, HPAMinAnnotation, kept, note)...)
	err := w.send(ctx, h, ops, fmt.Sprintf("setting the minimum of HorizontalPodAutoscaler %s to %d", h.Name, s.HPAMin))
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.raised, h.UID)
	if err == nil && s.HPAMin > has {
		w.raised[h.UID] = raise{s.HPAMin, now}
	}
	return err
}

// raise is what an autoscaler's minimum was raised to, and when that was tried.
type raise struct {
	to int
	at time.Time
}

// raiseEvery is how soon a minimum that somebody wrote back is raised again: who
// does so (KEDA, for one) does it at once, each time.
const raiseEvery = 10 * time.Second

// ownerOf says who keeps an autoscaler as it is, where that can be told.
func ownerOf(h *autoscalingv2.HorizontalPodAutoscaler) string {
	for _, o := range h.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return fmt.Sprintf(": it belongs to %s %s, whose own minimum counts; raise that one, or say capacity.hpa: Ignore", o.Kind, o.Name)
		}
	}
	return ""
}

// Restore gives autoscalers of the versions the minimum back that their author
// had written, where the annotation still remembers one. It is for when nothing
// is under way and nothing is remembered of it: a state that was lost must not
// leave a minimum raised for ever.
func (w *Workloads) Restore(ctx context.Context) error {
	objects, err := w.list(ctx)
	if err != nil {
		return err
	}
	hpas, err := w.hpas(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range objects {
		h := hpas[o.workload.Name]
		if h == nil || h.Annotations[HPAMinAnnotation] == "" {
			continue
		}
		least, err := strconv.Atoi(h.Annotations[HPAMinAnnotation])
		if err != nil || least < 0 || int64(least) > int64(h.Spec.MaxReplicas) {
			continue // not ours, or no minimum any more: a person sees it
		}
		if least == minOf(h) {
			ops := append([]op{{"test", "/metadata/uid", string(h.UID)}}, annotate(h, HPAMinAnnotation, h.Annotations[HPAMinAnnotation], "")...)
			errs = append(errs, w.send(ctx, h, ops, fmt.Sprintf("taking our note off HorizontalPodAutoscaler %s", h.Name)))
			continue
		}
		errs = append(errs, w.holdMinimum(ctx, h, rollout.Scale{HPA: h.Name, HPAMin: least}))
	}
	return errors.Join(errs...)
}
