package deployment

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Version is one version as its Deployment describes it.
type Version struct {
	Revision rollout.Revision
	Name     string            // of the Deployment
	Labels   map[string]string // of its pods
	Template map[string]any    // the raw pod template; not to be changed
	// Notes are the Deployment's own labels and annotations, by which tools that
	// apply it know it again.
	Notes map[string]string
}

// Versions lists the versions, by the Deployment's name.
func (w *Workloads) Versions(ctx context.Context) ([]Version, error) {
	objects, err := w.list(ctx)
	if err != nil {
		return nil, err
	}
	var out []Version
	for _, o := range objects {
		v := Version{Revision: o.workload.Revision, Name: o.workload.Name}
		v.Template, _, _ = nested(o.raw, "spec", "template")
		v.Notes = o.raw.GetLabels()
		if v.Notes == nil {
			v.Notes = map[string]string{}
		}
		maps.Copy(v.Notes, o.raw.GetAnnotations())
		if l, found, _ := unstructured.NestedStringMap(v.Template, "metadata", "labels"); found {
			v.Labels = maps.Clone(l)
		}
		out = append(out, v)
	}
	return out, nil
}

func nested(u *unstructured.Unstructured, path ...string) (map[string]any, bool, error) {
	v, found, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	m, _ := v.(map[string]any)
	return m, found && m != nil, err
}

// PodsOf lists a revision's pods that have not ended. While a Deployment
// replaces its pods, they are those with the template hash of the pod that was
// created last. It is an error while pods are not looked at.
func (w *Workloads) PodsOf(ctx context.Context, of rollout.Revision) ([]*corev1.Pod, error) {
	objects, err := w.list(ctx)
	if err != nil {
		return nil, err
	}
	var all []*corev1.Pod
	watched := false
	if w.o.Pods != nil {
		all, watched = w.o.Pods()
	}
	if !watched {
		return nil, fmt.Errorf("the pods of %s are not looked at yet: %w", of, engine.ErrNotFound)
	}
	for _, o := range objects {
		if o.workload.Revision != of {
			continue
		}
		var out []*corev1.Pod
		var newest *corev1.Pod
		for _, p := range w.podsOf(o, all) {
			if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
				continue
			}
			out = append(out, p)
			if newest == nil || newest.CreationTimestamp.Time.Before(p.CreationTimestamp.Time) {
				newest = p
			}
		}
		if o.status.surplus == 0 && !o.status.stale {
			return out, nil
		}
		kept := out[:0]
		for _, p := range out {
			if p.Labels[templateHash] == newest.Labels[templateHash] {
				kept = append(kept, p)
			}
		}
		return kept, nil
	}
	return nil, nil
}

// templateHash is the label by which a Deployment's controller tells the pods
// of its templates apart.
const templateHash = "pod-template-hash"
