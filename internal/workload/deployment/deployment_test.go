package deployment_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

const ns = "shop"

// place is a namespace with a Service, in which step does what the controllers
// of a cluster do: it makes pods and endpoints of Deployments.
type place struct {
	t      *testing.T
	c      client.Client
	w      *deployment.Workloads
	writes int
	broken map[string]bool // Deployments whose pods do not get ready
	pods   []*corev1.Pod
	forbid func(client.Object, client.Patch) bool
	before func() // a write of ours
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, broken: map[string]bool{}}
	base := fake.NewClientBuilder().WithReturnManagedFields().WithStatusSubresource(&appsv1.Deployment{}).Build()
	p.c = base
	counted := interceptor.NewClient(base, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if p.before != nil {
				p.before()
			}
			if p.forbid != nil && p.forbid(obj, patch) {
				return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, obj.GetName(), errors.New("no"))
			}
			p.writes++
			return c.Patch(ctx, obj, patch, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			p.writes++
			return c.Delete(ctx, obj, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			p.writes++
			if sub != "scale" {
				t.Errorf("subresource %s is patched", sub)
			}
			// The fake client has no scale: the same document fits the main object.
			return c.Patch(ctx, obj, patch)
		},
	})
	p.w = deployment.New(deployment.Options{
		Client: counted, Namespace: ns, Label: "version",
		Selector: labels.SelectorFromSet(labels.Set{"app": "my-app"}),
		Services: func(context.Context) ([]types.NamespacedName, error) {
			return []types.NamespacedName{{Namespace: ns, Name: "my-app-service"}}, nil
		},
		Pods: func() ([]*corev1.Pod, bool) { return p.pods, p.pods != nil },
	})
	return p
}

func (p *place) make(name, label string, replicas int) *appsv1.Deployment {
	n := int32(replicas)
	set := map[string]string{"app": "my-app", "version": label}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: ns, UID: types.UID("uid-" + name), Generation: 1,
			CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: set},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: set},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "my-registry/my-app:" + label}}},
			},
		},
	}
	p.must(p.c.Create(context.Background(), d))
	return d
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// step brings statuses and endpoints up to date.
func (p *place) step() {
	ctx := context.Background()
	var all appsv1.DeploymentList
	p.must(p.c.List(ctx, &all, client.InNamespace(ns)))
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Name: "my-app-service-x1", Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: "my-app-service"},
	}}
	for i := range all.Items {
		d := &all.Items[i]
		n := *d.Spec.Replicas
		ready := n
		if p.broken[d.Name] {
			ready = 0
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: ready, Conditions: d.Status.Conditions}
		p.must(p.c.Status().Update(ctx, d))
		for j := range n {
			slice.Endpoints = append(slice.Endpoints, endpoint(fmt.Sprintf("%s-5d8b7c9f6b-x%dklm", d.Name, j+2), ready > j))
		}
	}
	_ = p.c.Delete(ctx, slice)
	slice.ResourceVersion = ""
	p.must(p.c.Create(ctx, slice))
}

func endpoint(pod string, ready bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{"10.0.0.1"},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: pod, UID: types.UID(pod)},
	}
}

func (p *place) look(name string) rollout.Workload {
	p.t.Helper()
	seen, err := p.w.Observe(context.Background())
	p.must(err)
	for _, w := range seen.Items {
		if w.Name == name {
			return w
		}
	}
	p.t.Fatalf("%s is not among %+v", name, seen.Items)
	return rollout.Workload{}
}

func (p *place) get(name string) *appsv1.Deployment {
	p.t.Helper()
	var d appsv1.Deployment
	p.must(p.c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: name}, &d))
	return &d
}

func (p *place) edit(name string, change func(*appsv1.Deployment)) {
	p.t.Helper()
	d := p.get(name)
	change(d)
	p.must(p.c.Update(context.Background(), d))
}

func TestConformance(t *testing.T) {
	enginetest.TestWorkloads(t, func(t *testing.T) enginetest.WorkloadsFixture {
		p := newPlace(t)
		return enginetest.WorkloadsFixture{
			Workloads: p.w,
			Add: func(label string, replicas int) rollout.Revision {
				p.make("my-app-"+label, label, replicas)
				return p.look("my-app-" + label).Revision
			},
			Step:   p.step,
			Writes: func() int { return p.writes },
		}
	})
}

func TestOnlyVersionsOfThisWorkload(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 1)
	p.make("other", "v1", 1)
	p.edit("other", func(d *appsv1.Deployment) {
		d.Spec.Template.Labels = map[string]string{"app": "other", "version": "v1"}
	})
	p.make("no-version", "v9", 1)
	p.edit("no-version", func(d *appsv1.Deployment) { d.Spec.Template.Labels = map[string]string{"app": "my-app"} })
	seen, err := p.w.Observe(context.Background())
	p.must(err)
	if len(seen.Items) != 1 || seen.Items[0].Name != "my-app-v1" {
		t.Errorf("versions are %+v, want my-app-v1 alone", seen.Items)
	}
}

// A revision follows the template: a restart, a scale and a mark leave it, an
// edit under the same label makes another one, which is later and bears no
// mark.
func TestRevisionFollowsTheTemplate(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v2", "v2", 2)
	p.step()
	first := p.look("my-app-v2")
	p.must(p.w.Apply(context.Background(), []rollout.Scale{{Revision: first.Revision, Name: "my-app-v2", Zero: true, Mark: rollout.Condemned}}))
	p.edit("my-app-v2", func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
	})
	same := p.look("my-app-v2")
	if same.Revision != first.Revision || !same.Condemned || same.Replicas != 0 {
		t.Fatalf("after a mark, a scale and a restart it is %+v, was %+v", same, first)
	}
	p.edit("my-app-v2", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "my-registry/my-app:v2b" })
	next := p.look("my-app-v2")
	switch {
	case next.Revision == first.Revision || next.Revision.Label() != "v2":
		t.Errorf("the edited template's revision is %s, was %s", next.Revision, first.Revision)
	case next.Condemned:
		t.Error("the mark of the old template is on the new one")
	case !next.Since.After(first.Since):
		t.Errorf("since %v, not after %v", next.Since, first.Since)
	}
	if again := p.look("my-app-v2"); !again.Since.Equal(next.Since) {
		t.Errorf("since moved from %v to %v without an edit", next.Since, again.Since)
	}
}

// The server's own notes tell when a template came to be, also to a process
// that was not there.
func TestSinceIsInManagedFields(t *testing.T) {
	p := newPlace(t)
	created := p.make("my-app-v2", "v2", 1).CreationTimestamp
	at := metav1.NewTime(created.Add(time.Hour))
	later := metav1.NewTime(created.Add(2 * time.Hour))
	p.edit("my-app-v2", func(d *appsv1.Deployment) {
		d.ManagedFields = []metav1.ManagedFieldsEntry{
			{Manager: "kubectl", Operation: "Update", APIVersion: "apps/v1", Time: &at, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:template":{"f:spec":{}}}}`)},
			{Manager: "serin-controller", Operation: "Update", APIVersion: "apps/v1", Time: &later, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)},
		}
	})
	if got := p.get("my-app-v2").ManagedFields; len(got) != 2 {
		t.Fatalf("the fake client keeps other managed fields (%v)", got)
	}
	if got := p.look("my-app-v2").Since; !got.Equal(at.Time) {
		t.Errorf("since %v, want %v", got, at.Time)
	}
}

func TestReadyIsWhatTheServiceSendsTo(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 3)
	p.make("my-app-v1-extra", "v1x", 1) // its name begins like the other's
	p.step()
	if w := p.look("my-app-v1"); w.Ready != 3 || !w.ReadyKnown || w.Why != "" {
		t.Errorf("v1 is %+v, want 3 ready and no reason", w)
	}
	var s discoveryv1.EndpointSlice
	key := client.ObjectKey{Namespace: ns, Name: "my-app-service-x1"}
	p.must(p.c.Get(context.Background(), key, &s))
	s.Endpoints = slices.DeleteFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return strings.HasPrefix(e.TargetRef.Name, "my-app-v1-5") })
	p.must(p.c.Update(context.Background(), &s))
	w := p.look("my-app-v1")
	if w.Ready != 0 || !w.ReadyKnown || !strings.Contains(w.Why, "3 of its pods are ready, and the Service") {
		t.Errorf("v1 is %+v, want 0 ready because no Service sends to it", w)
	}
	if x := p.look("my-app-v1-extra"); x.Ready != 1 {
		t.Errorf("v1-extra is %+v, want 1 ready", x)
	}
}

// While pods are replaced, those of the old template do not count for the new.
func TestReplacingPods(t *testing.T) {
	type is struct {
		generation, observed int64
		replicas, updated    int32
		endpoints            int
	}
	for name, c := range map[string]struct {
		now   is
		ready int
		known bool
	}{
		"the status is older than the template":  {is{3, 2, 3, 3, 3}, 0, false},
		"only old pods":                          {is{3, 3, 3, 0, 3}, 0, false},
		"one new one beside three":               {is{3, 3, 4, 1, 4}, 1, true},
		"two new, one not ready":                 {is{3, 3, 4, 2, 3}, 1, true},
		"through":                                {is{3, 3, 3, 3, 3}, 3, true},
		"nobody is ready, old or new":            {is{3, 3, 3, 1, 0}, 0, true},
		"nobody is ready and the status is late": {is{3, 2, 3, 3, 0}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.make("my-app-v2", "v2", 3)
			p.step()
			p.look("my-app-v2")
			p.edit("my-app-v2", func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.Containers[0].Image = "my-registry/my-app:v2b"
				d.Generation = c.now.generation
			})
			d := p.get("my-app-v2")
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: c.now.observed, Replicas: c.now.replicas, UpdatedReplicas: c.now.updated}
			p.must(p.c.Status().Update(context.Background(), d))
			var s discoveryv1.EndpointSlice
			p.must(p.c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: "my-app-service-x1"}, &s))
			s.Endpoints = nil
			for i := range c.now.endpoints {
				s.Endpoints = append(s.Endpoints, endpoint(fmt.Sprintf("my-app-v2-5d8b7c9f6b-x%dklm", i+2), true))
			}
			p.must(p.c.Update(context.Background(), &s))
			if w := p.look("my-app-v2"); w.Ready != c.ready || w.ReadyKnown != c.known {
				t.Errorf("ready %d (known %v), want %d (known %v)", w.Ready, w.ReadyKnown, c.ready, c.known)
			}
		})
	}
}

func (p *place) autoscaler(target string, least, most int32) {
	p.must(p.c.Create(context.Background(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: target + "-hpa", Namespace: ns, UID: "hpa", Annotations: map[string]string{"theirs": "stays"}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target},
			MinReplicas:    &least, MaxReplicas: most,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{DesiredReplicas: 4},
	}))
}

func TestAutoscalersMinimumIsRaisedAndRestored(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 2)
	p.autoscaler("my-app-v1", 2, 10)
	w := p.look("my-app-v1")
	if w.HPA == nil || *w.HPA != (rollout.HPA{Name: "my-app-v1-hpa", Min: 2, Max: 10, Desired: 4}) {
		t.Fatalf("the autoscaler is %+v", w.HPA)
	}
	set := func(n int) (int32, map[string]string) {
		p.must(p.w.Apply(context.Background(), []rollout.Scale{{Revision: w.Revision, Name: w.Name, HPA: w.HPA.Name, HPAMin: n}}))
		var h autoscalingv2.HorizontalPodAutoscaler
		p.must(p.c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: "my-app-v1-hpa"}, &h))
		return *h.Spec.MinReplicas, h.Annotations
	}
	for _, c := range []struct {
		least int
		note  string
	}{{5, "2"}, {5, "2"}, {7, "2"}, {2, ""}} {
		least, notes := set(c.least)
		if int(least) != c.least || notes[deployment.HPAMinAnnotation] != c.note || notes["theirs"] != "stays" {
			t.Errorf("asked for %d: minimum %d, annotations %v; want the note %q", c.least, least, notes, c.note)
		}
	}
	if p.writes != 3 {
		t.Errorf("%d writes for three changes", p.writes)
	}
}

// An operator that owns an autoscaler writes the minimum back at once, each time:
// that is said, with its name, and not answered with a write of ours each time.
func TestAMinimumThatIsWrittenBack(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 2)
	p.autoscaler("my-app-v1", 2, 10)
	w := p.look("my-app-v1")
	back := func() {
		var h autoscalingv2.HorizontalPodAutoscaler
		p.must(p.c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: "my-app-v1-hpa"}, &h))
		h.OwnerReferences = []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "my-app", UID: "keda", Controller: new(true)}}
		*h.Spec.MinReplicas = 2
		p.must(p.c.Update(context.Background(), &h))
	}
	raise := func(to int) error {
		return p.w.Apply(context.Background(), []rollout.Scale{{Revision: w.Revision, Name: w.Name, HPA: w.HPA.Name, HPAMin: to}})
	}
	p.must(raise(6))
	for range 20 {
		back()
		if err := raise(6); err == nil || !strings.Contains(err.Error(), "is 2 again: it belongs to ScaledObject my-app") {
			t.Fatalf("written back, and the error is %v", err)
		}
	}
	if p.writes != 1 {
		t.Errorf("%d writes", p.writes)
	}
	p.must(raise(7)) // another wish is no fight
	p.must(raise(2)) // nor is its end
	p.must(raise(7))
}

// A state that was lost does not leave a minimum raised.
func TestAForgottenMinimumIsRestored(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 2)
	p.autoscaler("my-app-v1", 2, 10)
	w := p.look("my-app-v1")
	p.must(p.w.Apply(context.Background(), []rollout.Scale{{Revision: w.Revision, Name: w.Name, HPA: w.HPA.Name, HPAMin: 6}}))
	for range 2 {
		p.must(p.w.Restore(context.Background()))
	}
	var h autoscalingv2.HorizontalPodAutoscaler
	p.must(p.c.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: "my-app-v1-hpa"}, &h))
	if *h.Spec.MinReplicas != 2 || h.Annotations[deployment.HPAMinAnnotation] != "" || h.Annotations["theirs"] != "stays" || p.writes != 2 {
		t.Errorf("minimum %d, annotations %v after %d writes; want its author's 2, no note, 2", *h.Spec.MinReplicas, h.Annotations, p.writes)
	}
}

// Somebody scales between the look and the write.
func TestACountThatChangedIsAConflict(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 2)
	w := p.look("my-app-v1")
	p.before = func() {
		p.before = nil
		p.edit("my-app-v1", func(d *appsv1.Deployment) { n := int32(7); d.Spec.Replicas = &n })
	}
	err := p.w.Apply(context.Background(), []rollout.Scale{{Revision: w.Revision, Name: w.Name, Min: 3}})
	if !errors.Is(err, engine.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	if n := *p.get("my-app-v1").Spec.Replicas; n != 7 {
		t.Errorf("%d replicas, want the other's 7", n)
	}
}

// With the right to scale alone, replicas go through the subresource, and a
// mark that cannot be written is not tried with every look.
func TestRightToScaleAlone(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 2)
	w := p.look("my-app-v1")
	tried := 0
	p.forbid = func(_ client.Object, patch client.Patch) bool {
		tried++
		return true
	}
	want := []rollout.Scale{{Revision: w.Revision, Name: w.Name, Zero: true, Mark: rollout.Retired}}
	for range 3 {
		p.must(p.w.Apply(context.Background(), want))
	}
	d := p.get("my-app-v1")
	if *d.Spec.Replicas != 0 || d.Annotations[deployment.MarkAnnotation] != "" || tried != 1 || p.writes != 1 {
		t.Errorf("%d replicas, annotations %v after %d forbidden tries and %d writes; want 0, none, 1 and 1", *d.Spec.Replicas, d.Annotations, tried, p.writes)
	}
}

func TestOnlyOursIsChanged(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 2)
	p.edit("my-app-v1", func(d *appsv1.Deployment) { d.Annotations = map[string]string{"a/b~c": "stays"} })
	before := p.get("my-app-v1")
	w := p.look("my-app-v1")
	p.must(p.w.Apply(context.Background(), []rollout.Scale{{Revision: w.Revision, Name: w.Name, Zero: true, Mark: rollout.Retired}}))
	marked := p.get("my-app-v1")
	if marked.Annotations[deployment.MarkAnnotation] != "retired/"+w.Revision.Hash() {
		t.Errorf("annotations %v", marked.Annotations)
	}
	p.must(p.w.Apply(context.Background(), []rollout.Scale{{Revision: w.Revision, Name: w.Name, Min: 2, Unmark: true}}))
	after := p.get("my-app-v1")
	if !maps.Equal(before.Annotations, after.Annotations) || *after.Spec.Replicas != 2 {
		t.Errorf("there and back: annotations %v, were %v; %d replicas", after.Annotations, before.Annotations, *after.Spec.Replicas)
	}
}

func TestAFailedReadIsNoAnswer(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v1", "v1", 1)
	p.step()
	gone := errors.New("connection refused")
	for name, c := range map[string]struct {
		list    client.ObjectList
		failing bool // Observe as a whole
	}{
		"deployments": {nil, true}, "slices": {&discoveryv1.EndpointSliceList{}, false}, "hpas": {&autoscalingv2.HorizontalPodAutoscalerList{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			broken := interceptor.NewClient(p.c.(client.WithWatch), interceptor.Funcs{List: func(ctx context.Context, in client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
				if c.list == nil || fmt.Sprintf("%T", l) == fmt.Sprintf("%T", c.list) {
					return gone
				}
				return in.List(ctx, l, opts...)
			}})
			w := deployment.New(deployment.Options{
				Client: broken, Namespace: ns, Label: "version", Selector: labels.Everything(),
				Services: func(context.Context) ([]types.NamespacedName, error) {
					return []types.NamespacedName{{Namespace: ns, Name: "my-app-service"}}, nil
				},
			})
			seen, err := w.Observe(context.Background())
			switch {
			case c.failing && (!errors.Is(err, gone) || seen.Known != rollout.Unknown):
				t.Errorf("seen %+v, error %v; want an error and nothing", seen, err)
			case !c.failing && (err != nil || seen.Items[0].ReadyKnown || !strings.Contains(seen.Items[0].Why, "connection refused")):
				t.Errorf("seen %+v, error %v; want readiness unknown, and why", seen, err)
			}
		})
	}
}
