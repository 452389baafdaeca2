package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

// Check is the engine's Preflight: what would go wrong before any weight moves.
// At rest it reads caches only.
func (a *app) Check(ctx context.Context, stable, canary rollout.Revision) ([]rollout.Finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	versions, err := a.workloads.Versions(ctx)
	if err != nil {
		return nil, err
	}
	services, err := a.selectors(ctx)
	if err != nil {
		return nil, err
	}
	v := a.doc.Spec.Workload.Versions
	label := v.Label
	if label == "" {
		label = "version"
	}
	var out []rollout.Finding
	out = append(out, serviceFindings(services, versions, label, stable, canary)...)
	for _, m := range a.c.rights.missing(ctx, a.key.Namespace, neededFor(a.doc)) {
		out = append(out, m.finding())
	}
	if canary != "" {
		seen, err := a.workloads.Observe(ctx)
		if err != nil {
			return nil, err
		}
		doc := a.doc.DeepCopy()
		doc.Default()
		out = append(out, autoscalerFindings(seen, doc.Spec.Capacity.HPA, stable, canary)...)
		out = append(out, a.sharedFindings(ctx, versions, stable, canary)...)
	}
	if routed, ok := any(a.router).(interface {
		Findings(ctx context.Context, stable, canary rollout.Revision) ([]rollout.Finding, error)
	}); ok {
		more, err := routed.Findings(ctx, stable, canary)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	if len(a.doc.Spec.Analysis.Metrics) > 0 && a.c.o.Custom == nil {
		out = append(out, rollout.Finding{
			Level: rollout.Warn, What: fmt.Sprintf("analysis.metrics asks for %d queries, and this controller knows no Prometheus: they have no figures, and nothing advances by itself.", len(a.doc.Spec.Analysis.Metrics)),
			Remedy: "start the controller with --prometheus, or take the queries out",
		})
	}
	return out, nil
}

// service is what a route sends to.
type service struct {
	key      types.NamespacedName
	there    bool
	subsets  bool // it is divided by subsets, so it has to select every version
	selector map[string]string
}

// selectors reads the Services that the routes name.
func (a *app) selectors(ctx context.Context) ([]service, error) {
	var out []service
	for _, key := range a.routes() {
		vs := raw(routeKind)
		if err := a.c.client.Get(ctx, key, vs); err != nil {
			if client.IgnoreNotFound(err) == nil {
				continue
			}
			return nil, fmt.Errorf("reading VirtualService %s: %w", key, err)
		}
		for _, d := range destinationsOf(vs.Object) {
			s, ok := serviceOf(d.host, key.Namespace)
			if !ok {
				continue
			}
			i := slices.IndexFunc(out, func(o service) bool { return o.key == s })
			if i < 0 {
				one := service{key: s}
				var svc corev1.Service
				switch err := a.c.client.Get(ctx, s, &svc); {
				case err == nil:
					one.there, one.selector = true, svc.Spec.Selector
				case !apierrors.IsNotFound(err):
					return nil, fmt.Errorf("reading Service %s: %w", s, err)
				}
				out = append(out, one)
				i = len(out) - 1
			}
			out[i].subsets = out[i].subsets || d.subset != ""
		}
	}
	return out, nil
}

// serviceFindings says of a Service that leaves out a version, that the subset
// of that version has no endpoints.
func serviceFindings(services []service, versions []deployment.Version, label string, stable, canary rollout.Revision) []rollout.Finding {
	labelsOf := func(r rollout.Revision) map[string]string {
		for _, v := range versions {
			if v.Revision == r {
				return v.Labels
			}
		}
		return nil
	}
	matches := func(selector, labels map[string]string) (bool, string) {
		for _, k := range slices.Sorted(maps.Keys(selector)) {
			if labels[k] != selector[k] {
				return false, k
			}
		}
		return true, ""
	}
	var out []rollout.Finding
	for _, s := range services {
		name := s.key.Name
		switch pinned, picks := s.selector[label]; {
		case !s.there:
			if s.subsets {
				out = append(out, rollout.Finding{
					Level: rollout.Refuse, What: fmt.Sprintf("the route sends to Service %s, and there is no such Service in %s.", name, s.key.Namespace),
					Remedy: "create it, or correct the host in the route",
				})
			}
		case !s.subsets || len(s.selector) == 0:
			// One Service for each version, or one without a selector: somebody
			// else knows what is behind it.
		case picks:
			out = append(out, rollout.Finding{
				Level:  rollout.Refuse,
				What:   fmt.Sprintf("Service %s selects %s=%s and so leaves out the pods of every other version: their subsets have no endpoints, and requests sent to them fail.", name, label, pinned),
				Remedy: fmt.Sprintf("take %s out of its selector: kubectl -n %s patch service %s --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/selector/%s\"}]'", label, s.key.Namespace, name, strings.ReplaceAll(label, "/", "~1")),
			})
		default:
			for _, r := range []rollout.Revision{stable, canary} {
				l := labelsOf(r)
				if l == nil {
					continue
				}
				if ok, key := matches(s.selector, l); !ok {
					out = append(out, rollout.Finding{
						Level:  rollout.Refuse,
						What:   fmt.Sprintf("Service %s selects %s=%s, and the pods of %s have %s: it sends nothing to them.", name, key, s.selector[key], r.Label(), given(key, l)),
						Remedy: fmt.Sprintf("give the pods of %s the label, or change the Service's selector", r.Label()),
					})
				}
			}
		}
	}
	return out
}

func given(key string, labels map[string]string) string {
	if v, ok := labels[key]; ok {
		return key + "=" + v
	}
	return "no label " + key
}

// autoscalerFindings says where an autoscaler and a rollout would fight.
func autoscalerFindings(seen rollout.Workloads, policy v1alpha1.HPAPolicy, stable, canary rollout.Revision) []rollout.Finding {
	var s, c *rollout.Workload
	for i := range seen.Items {
		switch w := &seen.Items[i]; w.Revision {
		case stable:
			s = w
		case canary:
			c = w
		}
	}
	if s == nil || c == nil {
		return nil
	}
	var out []rollout.Finding
	if s.HPA != nil && c.HPA == nil {
		out = append(out, rollout.Finding{
			Level:  rollout.Warn,
			What:   fmt.Sprintf("%s is scaled by HorizontalPodAutoscaler %s, and %s by none: once it has all the traffic it keeps the replicas that it was given.", s.Name, s.HPA.Name, c.Name),
			Remedy: fmt.Sprintf("add a HorizontalPodAutoscaler for %s", c.Name),
		})
	}
	if c.HPA != nil && c.HPA.Max < s.Replicas {
		out = append(out, rollout.Finding{
			Level:  rollout.Warn,
			What:   fmt.Sprintf("HorizontalPodAutoscaler %s allows %d replicas of %s, and %s has %d: it cannot carry all the traffic.", c.HPA.Name, c.HPA.Max, c.Name, s.Name, s.Replicas),
			Remedy: fmt.Sprintf("raise its maxReplicas to %d or more", s.Replicas),
		})
	}
	if policy == v1alpha1.HPAIgnore {
		for _, w := range []*rollout.Workload{s, c} {
			if w.HPA != nil {
				out = append(out, rollout.Finding{
					Level:  rollout.Warn,
					What:   fmt.Sprintf("HorizontalPodAutoscaler %s may scale %s below what its share of the traffic needs, and capacity.hpa says Ignore.", w.HPA.Name, w.Name),
					Remedy: "capacity.hpa: HoldMinimum raises its minimum while a rollout runs",
				})
			}
		}
	}
	return out
}

// sharedFindings names ConfigMaps that both versions use and that were changed
// after stable's template: a change for the new version is under the old one,
// too. Only the metadata is read, once for a canary; Secrets are not looked at.
func (a *app) sharedFindings(ctx context.Context, versions []deployment.Version, stable, canary rollout.Revision) []rollout.Finding {
	if a.shared.canary == canary {
		return a.shared.findings
	}
	var s, c *deployment.Version
	for i := range versions {
		switch v := &versions[i]; v.Revision {
		case stable:
			s = v
		case canary:
			c = v
		}
	}
	if s == nil || c == nil {
		return nil
	}
	seen := a.state()
	theirs := configMaps(s.Template)
	var out []rollout.Finding
	for _, name := range configMaps(c.Template) {
		if !slices.Contains(theirs, name) {
			continue
		}
		m := &metav1.PartialObjectMetadata{}
		m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
		if err := a.c.mgr.GetAPIReader().Get(ctx, types.NamespacedName{Namespace: a.key.Namespace, Name: name}, m); err != nil {
			continue // not permitted, or not there: its pods say so themselves
		}
		at := m.CreationTimestamp.Time
		for _, f := range m.ManagedFields {
			if f.Time != nil && f.Time.After(at) {
				at = f.Time.Time
			}
		}
		if at.After(seen.Stable.Since) {
			out = append(out, rollout.Finding{
				Level:  rollout.Warn,
				What:   fmt.Sprintf("ConfigMap %s is used by %s and %s and was changed at %s: the change is under the stable version, too, and going back does not undo it.", name, stable.Label(), canary.Label(), at.UTC().Format(time.RFC3339)),
				Remedy: "a ConfigMap of its own for each version",
			})
		}
	}
	a.shared.canary, a.shared.findings = canary, out
	return out
}

// shared is what was found about a canary's configuration.
type shared struct {
	canary   rollout.Revision
	findings []rollout.Finding
}

// configMaps lists the ConfigMaps that a pod template names.
func configMaps(template map[string]any) []string {
	names := map[string]bool{}
	var walk func(v any, key string)
	walk = func(v any, key string) {
		switch x := v.(type) {
		case map[string]any:
			switch key {
			case "configMap", "configMapRef", "configMapKeyRef":
				if n, ok := x["name"].(string); ok && n != "" {
					names[n] = true
				}
			}
			for k, e := range x {
				walk(e, k)
			}
		case []any:
			for _, e := range x {
				walk(e, key)
			}
		}
	}
	walk(template, "")
	return slices.Sorted(maps.Keys(names))
}
