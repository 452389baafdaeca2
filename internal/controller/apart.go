package controller

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

// contested says which older Rollout splits one of the document's VirtualServices
// already; nil where none does. Of two that write one route, each would take the
// other's note for a lost state of its own, also at rest: only the older one is
// followed. What cannot be listed contests nothing; the preflight looks again.
func (c *Controller) contested(doc *v1alpha1.Rollout) error {
	var all v1alpha1.RolloutList
	if err := c.client.List(c.run, &all, client.InNamespace(doc.Namespace)); err != nil {
		return nil
	}
	for i, t := range doc.Spec.Traffic {
		for j := range all.Items {
			other := &all.Items[j]
			if t.Istio == nil || other.Name == doc.Name || !older(other, doc) {
				continue
			}
			if slices.ContainsFunc(other.Spec.Traffic, func(o v1alpha1.Traffic) bool {
				return o.Istio != nil && o.Istio.VirtualService == t.Istio.VirtualService
			}) {
				return &contestedError{fmt.Sprintf("spec.traffic[%d].istio.virtualService: %s is split by Rollout %s, which is older: one Rollout moves the weights of a VirtualService; name another one, or delete one of the two", i, t.Istio.VirtualService, other.Name)}
			}
		}
	}
	return nil
}

// contestedError is what is wrong only as long as another Rollout is there.
type contestedError struct{ what string }

func (e *contestedError) Error() string { return e.what }

func older(a, b *v1alpha1.Rollout) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// release wakes those that another Rollout has kept from being followed, after
// that one was edited or went.
func (c *Controller) release(of types.NamespacedName) {
	c.mu.Lock()
	var waiting []types.NamespacedName
	for key, a := range c.apps {
		if key.Namespace == of.Namespace && key != of && a.waits.Load() {
			waiting = append(waiting, key)
		}
	}
	c.mu.Unlock()
	for _, key := range waiting {
		c.poke(key)
	}
}

// apartFindings refuses what another Rollout moves, too: of two that write one
// route each would take the other for a hand, and of two that scale one
// Deployment one would take away what the other needs. Both are told, because
// neither can know which one is meant.
func (a *app) apartFindings(versions []deployment.Version) []rollout.Finding {
	others := func(all []types.NamespacedName) []string {
		var out []string
		for _, key := range all {
			if key != a.key {
				out = append(out, key.Name)
			}
		}
		slices.Sort(out)
		return out
	}
	var out []rollout.Finding
	refuse := func(kind, name, verb string, by []string) {
		if len(by) > 0 {
			out = append(out, rollout.Finding{
				Level:  rollout.Refuse,
				What:   fmt.Sprintf("%s %s is %s by Rollout %s, too", kind, name, verb, strings.Join(by, " and ")),
				Remedy: "leave it to one of them: correct the other one's document, or delete it",
			})
		}
	}
	for _, key := range a.routes() {
		refuse("VirtualService", key.Name, "split", others(a.c.index.byRoute(key)))
	}
	for _, v := range versions {
		refuse("Deployment", v.Name, "selected", others(a.c.index.byPodLabels(a.key.Namespace, v.Labels)))
	}
	return out
}
