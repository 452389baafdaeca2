package deployment

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// podName is what a Deployment's controller calls its pods:
// DEPLOYMENT-TEMPLATEHASH-RANDOM.
var podName = regexp.MustCompile(`^(.+)-[a-z0-9]{1,10}-[a-z0-9]{5}$`)

// longestName is the longest Deployment name that is whole in its pods' names:
// generated names are cut to 63 bytes, of which 17 are the two suffixes.
const longestName = 63 - 17

// countReady counts the ready pods by Deployment. An endpoint names its pod, and
// the pod's name its Deployment; where the name may have been cut, what the
// Deployment says of itself counts.
func countReady(slices []discoveryv1.EndpointSlice, objects []object) map[string]int {
	type pod struct{ name, uid string }
	seen := map[pod]bool{}
	out := map[string]int{}
	for i := range slices {
		for _, e := range slices[i].Endpoints {
			c := e.Conditions
			if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || c.Ready != nil && !*c.Ready || c.Terminating != nil && *c.Terminating {
				continue
			}
			p := pod{e.TargetRef.Name, string(e.TargetRef.UID)}
			if m := podName.FindStringSubmatch(p.name); m != nil && !seen[p] {
				seen[p] = true
				out[m[1]]++
			}
		}
	}
	for _, o := range objects {
		if len(o.workload.Name) > longestName {
			out[o.workload.Name] = o.status.ready
		}
	}
	return out
}

// podsOf picks a Deployment's pods, by its selector: names may have been cut. A
// selector cannot be changed and need not name the version, so that it may take
// in the other versions' pods too: those have the version label of another.
func (w *Workloads) podsOf(o object, pods []*corev1.Pod) []*corev1.Pod {
	if len(pods) == 0 {
		return nil
	}
	var out []*corev1.Pod
	own, version := selectorOf(o.raw), o.workload.Revision.Label()
	for _, p := range pods {
		if own.Matches(labels.Set(p.Labels)) && p.Labels[w.o.Label] == version {
			out = append(out, p)
		}
	}
	return out
}

// selectorOf is a Deployment's own selector; one that cannot be read selects
// nothing.
func selectorOf(u *unstructured.Unstructured) labels.Selector {
	m, found, _ := nested(u, "spec", "selector")
	var s metav1.LabelSelector
	if !found || runtime.DefaultUnstructuredConverter.FromUnstructured(m, &s) != nil {
		return labels.Nothing()
	}
	out, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}
