package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/metric/prometheus"
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
	doc := a.doc.DeepCopy()
	doc.Default()
	seen, err := a.workloads.Observe(ctx)
	if err != nil {
		return nil, err
	}
	// Going back is neither judged nor planned: what keeps a release from starting
	// must not keep users on what is being left. What may not be written is said
	// by the write.
	st, steps := a.state(), a.steps()
	back := canary != "" && st.Canary.Revision == canary && st.Move != rollout.MoveCanary
	if back {
		steps = nil
	}
	autoscaled := slices.ContainsFunc(seen.Items, func(w rollout.Workload) bool { return w.HPA != nil })
	lacks := a.c.rights.lacks(ctx, a.key.Namespace)
	out := append(rightFindings(lacks, doc, autoscaled), a.untoldFindings(lacks)...)
	out = append(out, twinFindings(seen, stable, canary)...)
	for i := range out {
		if back {
			out[i].Level = rollout.Warn
		}
	}
	out = append(out, a.apartFindings(versions)...)
	if canary != "" {
		out = append(out, autoscalerFindings(seen, doc.Spec.Capacity.HPA, stable, canary)...)
		out = append(out, pruneFindings(versions, stable)...)
		out = append(out, a.sharedFindings(ctx, versions, stable, canary)...)
	}
	routed, err := a.router.Check(ctx, stable, canary, steps)
	if err != nil {
		return nil, err
	}
	out = append(out, routed...)
	if back {
		return out, nil
	}
	a.mu.Lock()
	sampled, heard := a.sampled, a.heard
	a.mu.Unlock()
	if canary != "" && heard != canary && doc.Spec.Analysis.None == nil {
		out = append(out, unheardFindings(seen, stable)...)
	}
	out = append(out, metric.Findings(&doc.Spec.Analysis, sampled, a.c.prom != nil)...)
	if a.c.prom == nil && doc.Spec.Analysis.Source == v1alpha1.SourcePrometheus {
		out = append(out, rollout.Finding{
			Level: rollout.Refuse, What: "analysis.source asks for figures from Prometheus, and this controller knows none",
			Remedy: "start the controller with --prometheus, or say analysis.source: pods",
		})
	}
	if canary != "" {
		out = append(out, a.tried(stable)...)
	}
	return out, nil
}

// tried is what trying the document's queries on stable gave. They are tried
// once for each stable version, beside the passes: a slow Prometheus holds
// nothing up.
func (a *app) tried(stable rollout.Revision) []rollout.Finding {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.custom == nil {
		return nil
	}
	if a.try.stable != stable || a.try.custom != a.custom {
		a.try = try{stable: stable, custom: a.custom}
		custom := a.custom
		a.checks.runs.Go(func() {
			found := custom.Try(a.checks.ctx, stable)
			a.mu.Lock()
			if a.try.stable == stable && a.try.custom == custom {
				a.try.found = found
			}
			a.mu.Unlock()
			a.wake()
		})
	}
	return a.try.found
}

// try is one trial of a document's queries.
type try struct {
	stable rollout.Revision
	custom *prometheus.Custom
	found  []rollout.Finding
}

// unheardFindings keeps a canary at 0 % until stable's figures can be had: what
// cannot be judged is not shown to users. A stable version that nobody of is
// ready has none, and must not keep its own fix out.
func unheardFindings(seen rollout.Workloads, stable rollout.Revision) []rollout.Finding {
	if !slices.ContainsFunc(seen.Items, func(w rollout.Workload) bool { return w.Revision == stable && w.ReadyKnown && w.Ready > 0 }) {
		return nil
	}
	return []rollout.Finding{{
		Level:  rollout.Wait,
		What:   fmt.Sprintf("the pods of %s have given no figures yet, so nothing could be judged", stable.Label()),
		Remedy: "`serin promote --full` goes on without them, and `analysis: none` does so always",
	}}
}

// twinFindings names Deployments that share stable's or the canary's label: a
// route tells versions apart by it, so that they share the traffic of that
// version, and neither its need nor its figures would be the whole of it.
func twinFindings(seen rollout.Workloads, stable, canary rollout.Revision) (out []rollout.Finding) {
	level := rollout.Warn
	if canary != "" {
		level = rollout.Refuse
	}
	said := map[string]bool{"": true}
	for _, label := range []string{stable.Label(), canary.Label()} {
		var names []string
		for _, w := range seen.Items {
			if w.Revision.Label() == label && w.Replicas > 0 && !w.Deleting {
				names = append(names, w.Name)
			}
		}
		if len(names) > 1 && !said[label] {
			out = append(out, rollout.Finding{
				Level:  level,
				What:   fmt.Sprintf("the Deployments %s all have pods of version %s, and no route can tell them apart", strings.Join(names, " and "), label),
				Remedy: "let spec.workload.versions.selector select one Deployment for each version",
			})
		}
		said[label] = true
	}
	return out
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

// pruneFindings warns where a tool that applies the stable version would take it
// away as soon as its file goes: with the commit that adds the next one, say.
func pruneFindings(versions []deployment.Version, stable rollout.Revision) []rollout.Finding {
	for _, v := range versions {
		if v.Revision != stable {
			continue
		}
		tool, keep := "", ""
		switch n := v.Notes; {
		case n["argocd.argoproj.io/tracking-id"] != "" && !strings.Contains(n["argocd.argoproj.io/sync-options"], "Prune=false"):
			tool, keep = "Argo CD", "argocd.argoproj.io/sync-options: Prune=false"
		case n["kustomize.toolkit.fluxcd.io/name"] != "" && n["kustomize.toolkit.fluxcd.io/prune"] != "disabled":
			tool, keep = "Flux", "kustomize.toolkit.fluxcd.io/prune: disabled"
		default:
			return nil
		}
		return []rollout.Finding{{
			Level:  rollout.Warn,
			What:   fmt.Sprintf("Deployment %s is applied by %s, which deletes it as soon as its file is gone, also while it carries the traffic", v.Name, tool),
			Remedy: fmt.Sprintf("take the file away only after the next version was promoted, or annotate the Deployment with %s", keep),
		}}
	}
	return nil
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
		if err := a.c.live.Get(ctx, types.NamespacedName{Namespace: a.key.Namespace, Name: name}, m); err != nil {
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
