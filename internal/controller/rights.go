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
	at    time.Time
	rules []authorizationv1.ResourceRule
	open  bool // there may be more: not every authorizer can list what it allows
	bad   bool // something that may be needed is missing, or may be
}

// right is a verb on a resource, and what it is for.
type right struct{ group, resource, verb, what string }

// askAgain is how soon it is asked again whether a missing right was granted; only
// passes ask, so at rest nobody does.
const askAgain = 5 * time.Minute

func newRights(c client.Client) *rights { return &rights{c: c, known: map[string]granted{}} }

// Rights that are asked about by themselves.
var (
	patchDeployments = right{"apps", "deployments", "patch", "replicas cannot follow the weight"}
	patchScale       = right{"apps", "deployments/scale", "patch", "replicas cannot follow the weight"}
	deleteOld        = right{"apps", "deployments", "delete", "old versions cannot be deleted (retire: Delete)"}
	createEvents     = right{"events.k8s.io", "events", "create", "nobody is told of decisions by events"}
	patchAutoscalers = right{"autoscaling", "horizontalpodautoscalers", "patch", "an autoscaler's minimum cannot be held (capacity.hpa: HoldMinimum)"}
)

// alwaysNeeded are the rights that every rollout needs.
var alwaysNeeded = []right{
	{"serin.dev", "rollouts/status", "patch", "decisions cannot be recorded, and nothing is done that is not"},
	{"serin.dev", "rollouts", "patch", "the finalizer that gives traffic back cannot be added"},
	{"networking.istio.io", "virtualservices", "patch", "the split cannot be written"},
	{"networking.istio.io", "destinationrules", "patch", "a version without a subset cannot get one"},
	{"", "pods", "list", "why a version is not ready, and its figures, cannot be read"},
	{"", "pods", "watch", "why a version is not ready, and its figures, cannot be read"},
	createEvents,
}

// rightFindings says what a document asks for and Serin may not do.
func rightFindings(lacks func(right) bool, doc *v1alpha1.Rollout, autoscaled bool) []rollout.Finding {
	var out []rollout.Finding
	bySubset := slices.ContainsFunc(doc.Spec.Traffic, func(t v1alpha1.Traffic) bool { return t.Istio != nil && t.Istio.DestinationRule != "" })
	for _, r := range alwaysNeeded {
		if r.resource == "destinationrules" && !bySubset {
			continue // one Service for each version
		}
		if lacks(r) {
			out = append(out, r.finding("add the rule to the role that was installed for it, or bind that role in this namespace"))
		}
	}
	if lacks(patchDeployments) && lacks(patchScale) {
		out = append(out, patchScale.finding("scale the versions yourself: a rollout waits until you have; or grant it"))
	}
	if lacks(deleteOld) && (doc.Spec.Promotion.Retire == v1alpha1.RetireDelete || doc.Spec.Rollback.Retire == v1alpha1.RetireDelete) {
		out = append(out, deleteOld.finding("say retire: ScaleToZero, or grant it"))
	}
	if lacks(patchAutoscalers) && autoscaled && doc.Spec.Capacity.HPA != v1alpha1.HPAIgnore {
		out = append(out, patchAutoscalers.finding("say capacity.hpa: Ignore, or grant it"))
	}
	return out
}

// lacks says whether a right is missing. Where that cannot be found out nothing
// is: a write that is denied is said anyway.
func (r *rights) lacks(ctx context.Context, namespace string) func(right) bool {
	r.mu.Lock()
	g, known := r.known[namespace]
	r.mu.Unlock()
	if !known || g.bad && time.Since(g.at) > askAgain {
		review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
		if err := r.c.Create(ctx, review); err != nil {
			return func(right) bool { return false }
		}
		g = granted{at: time.Now(), rules: review.Status.ResourceRules, open: review.Status.Incomplete}
		g.bad = g.open || slices.ContainsFunc(append(slices.Clone(alwaysNeeded), patchDeployments, deleteOld, patchAutoscalers), g.lacks)
		r.mu.Lock()
		r.known[namespace] = g
		r.mu.Unlock()
	}
	return g.lacks
}

func (g granted) lacks(want right) bool {
	return !g.open && !slices.ContainsFunc(g.rules, func(rule authorizationv1.ResourceRule) bool { return allows(rule, want) })
}

func allows(rule authorizationv1.ResourceRule, want right) bool {
	has := func(list []string, x string) bool { return slices.Contains(list, x) || slices.Contains(list, "*") }
	_, sub, _ := strings.Cut(want.resource, "/")
	resource := has(rule.Resources, want.resource) || sub != "" && slices.Contains(rule.Resources, "*/"+sub)
	return len(rule.ResourceNames) == 0 && has(rule.APIGroups, want.group) && has(rule.Verbs, want.verb) && resource
}

// finding says what a missing right keeps from being done.
func (m right) finding(remedy string) rollout.Finding {
	level := rollout.Refuse
	switch m.resource {
	case "events", "pods", "destinationrules", "deployments/scale":
		level = rollout.Warn
	}
	group := m.group
	if group == "" {
		group = "core"
	}
	return rollout.Finding{
		Level:  level,
		What:   fmt.Sprintf("Serin's service account may not %s %s (%s): %s.", m.verb, m.resource, group, m.what),
		Remedy: remedy,
	}
}
