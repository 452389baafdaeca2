package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
)

// rights knows what this process may do in a namespace. It asks once, with one
// request, and again after a while only if something was missing.
type rights struct {
	c client.Client

	mu    sync.Mutex
	known map[string]granted
}

type granted struct {
	at      time.Time
	missing []right
}

// right is a verb on a resource, and what it is for.
type right struct{ group, resource, verb, what string }

const askAgain = time.Minute

func newRights(c client.Client) *rights { return &rights{c: c, known: map[string]granted{}} }

// neededFor lists what a rollout of this document may come to need.
func neededFor(doc *v1alpha1.Rollout) []right {
	return slices.DeleteFunc(allRights(), func(r right) bool {
		switch {
		case r.resource == "horizontalpodautoscalers":
			return doc.Spec.Capacity.HPA == v1alpha1.HPAIgnore
		case r.verb == "delete":
			return doc.Spec.Promotion.Retire != v1alpha1.RetireDelete && doc.Spec.Rollback.Retire != v1alpha1.RetireDelete
		}
		return false
	})
}

func allRights() []right {
	return []right{
		{"serin.dev", "rollouts/status", "patch", "decisions cannot be recorded, and nothing is done that is not"},
		{"serin.dev", "rollouts", "patch", "the finalizer that gives traffic back cannot be added"},
		{"apps", "deployments", "patch", "replicas cannot follow the weight"},
		{"networking.istio.io", "virtualservices", "patch", "the split cannot be written"},
		{"networking.istio.io", "destinationrules", "patch", "a version without a subset cannot get one"},
		{"", "pods", "list", "why a version is not ready, and its figures, cannot be read"},
		{"", "pods", "watch", "why a version is not ready, and its figures, cannot be read"},
		{"events.k8s.io", "events", "create", "nobody is told of decisions by events"},
		{"autoscaling", "horizontalpodautoscalers", "patch", "an autoscaler's minimum cannot be held (capacity.hpa: HoldMinimum)"},
		{"apps", "deployments", "delete", "old versions cannot be deleted (retire: Delete)"},
	}
}

// missing says which of the rights are not there. Where that cannot be found
// out nothing is: a write that is denied is said anyway.
func (r *rights) missing(ctx context.Context, namespace string, need []right) []right {
	r.mu.Lock()
	g, known := r.known[namespace]
	r.mu.Unlock()
	if !known || slices.ContainsFunc(g.missing, func(m right) bool { return slices.Contains(need, m) }) && time.Since(g.at) > askAgain {
		review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
		if err := r.c.Create(ctx, review); err != nil || review.Status.Incomplete {
			return nil
		}
		g = granted{at: time.Now()}
		for _, want := range allRights() {
			if !slices.ContainsFunc(review.Status.ResourceRules, func(rule authorizationv1.ResourceRule) bool { return allows(rule, want) }) {
				g.missing = append(g.missing, want)
			}
		}
		r.mu.Lock()
		r.known[namespace] = g
		r.mu.Unlock()
	}
	var out []right
	for _, m := range g.missing {
		if slices.Contains(need, m) {
			out = append(out, m)
		}
	}
	return out
}

func allows(rule authorizationv1.ResourceRule, want right) bool {
	has := func(list []string, x string) bool { return slices.Contains(list, x) || slices.Contains(list, "*") }
	_, sub, _ := strings.Cut(want.resource, "/")
	resource := has(rule.Resources, want.resource) || sub != "" && slices.Contains(rule.Resources, "*/"+sub)
	return len(rule.ResourceNames) == 0 && has(rule.APIGroups, want.group) && has(rule.Verbs, want.verb) && resource
}

// finding says what a missing right keeps from being done.
func (m right) finding() rollout.Finding {
	level := rollout.Refuse
	switch m.resource {
	case "events", "pods", "destinationrules", "horizontalpodautoscalers":
		level = rollout.Warn
	}
	group := m.group
	if group == "" {
		group = "core"
	}
	return rollout.Finding{
		Level:  level,
		What:   fmt.Sprintf("Serin's service account may not %s %s (%s): %s.", m.verb, m.resource, group, m.what),
		Remedy: "add the rule to the role that was installed for it, or bind that role in this namespace",
	}
}
