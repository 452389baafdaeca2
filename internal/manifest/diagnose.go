package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
)

// diagnose says what would go wrong once traffic moves, before it does.
func diagnose(p parts, a App) []Finding {
	var findings []Finding
	if f, ok := narrowService(p, a); ok {
		findings = append(findings, f)
	}
	for _, v := range a.Versions {
		if len(p.own) > 0 {
			break // whom users call is not who answers
		}
		if k := missing(a.Service.Selector, v.Labels, a.Label); k != "" {
			want := a.Service.Selector[k]
			findings = append(findings, Finding{Level: Refuse, Version: v.Label,
				What: fmt.Sprintf("Service/%s selects %s=%s, which the pods of Deployment/%s do not have, so version %s would have no endpoints and every request sent to it would fail.",
					a.Service.Name, k, want, v.Deployment, v.Label),
				Remedy: fmt.Sprintf("add %s: %s to the pods' labels in %s, or remove it from the Service's spec.selector", k, want, v.File)})
		}
	}
	if len(p.own) > 0 {
		findings = append(findings, hostFindings(p, a)...)
	} else {
		findings = append(findings, subsetFindings(p, a)...)
	}
	findings = append(findings, absentFindings(a)...)
	if len(a.Versions) == 0 {
		findings = append(findings, nobodyFinding(p, a))
	}
	return findings
}

// nobodyFinding says that a Rollout has no version.
func nobodyFinding(p parts, a App) Finding {
	selects := "is called " + a.Name
	if v := a.Rollout.Spec.Workload.Versions; v != nil {
		selects = "has pods with " + metav1.FormatLabelSelector(&v.Selector)
	}
	f := Finding{Level: Refuse,
		What:   fmt.Sprintf("No Deployment in these files %s, which Rollout/%s selects, so nobody can answer.", selects, a.Name),
		Remedy: "add a Deployment for the version that the route sends to"}
	if p.kind == v1alpha1.Kind {
		f.Remedy += ", or correct spec.workload of the Rollout (" + p.at("spec.workload") + ")"
	}
	return f
}

// narrowService finds the Service that names one version in its selector: with
// subsets every other version is left without endpoints.
func narrowService(p parts, a App) (Finding, bool) {
	only, named := a.Service.Selector[a.Label]
	if a.Label == "" || !named || len(p.own) > 0 {
		return Finding{}, false
	}
	var left []string
	for _, s := range a.Subsets {
		if s.Version != only {
			left = append(left, s.Name)
		}
	}
	what := "any other version would have no endpoints"
	if len(left) > 0 {
		word, verb := "subset", "has"
		if len(left) > 1 {
			word, verb = "subsets", "have"
		}
		what = fmt.Sprintf("%s %s of DestinationRule/%s %s no endpoints", word, strings.Join(firstFew(left), ", "), p.destination.Name, verb)
	}
	return Finding{
		Level: Refuse,
		What: fmt.Sprintf("Service/%s selects only the pods with %s=%s (%s), so %s and every request sent there would fail.",
			a.Service.Name, a.Label, only, p.service.at("spec.selector["+a.Label+"]"), what),
		Remedy: fmt.Sprintf("remove %s: %s from the Service's spec.selector; the subsets tell the versions apart", a.Label, only),
	}, true
}

// missing gives the first label, besides except, that is wanted and not there.
func missing(want, have map[string]string, except string) string {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if k != except && have[k] != want[k] {
			return k
		}
	}
	return ""
}

func subsetFindings(p parts, a App) []Finding {
	if a.InPlace {
		return nil
	}
	var findings []Finding
	byLabel := map[string]Version{}
	for _, v := range a.Versions {
		byLabel[v.Label] = v
	}
	subset := map[string]bool{}
	for _, s := range a.Subsets {
		subset[s.Version] = true
		v, there := byLabel[s.Version]
		if k := missing(s.Labels, v.Labels, ""); there && k != "" {
			findings = append(findings, Finding{Level: Refuse, Version: v.Label,
				What: fmt.Sprintf("Subset %s of DestinationRule/%s selects %s=%s, which the pods of Deployment/%s do not have, so the subset has no endpoints and every request sent there would fail.",
					s.Name, p.destination.Name, k, s.Labels[k], v.Deployment),
				Remedy: fmt.Sprintf("add %s: %s to the pods' labels in %s, or remove it from the subset", k, s.Labels[k], v.File)})
		}
	}
	for _, v := range a.Versions {
		if !subset[v.Label] {
			findings = append(findings, Finding{Level: Warn, Version: v.Label,
				What:   fmt.Sprintf("No subset of DestinationRule/%s selects Deployment/%s (%s=%s); here it is routed as if one did.", p.destination.Name, v.Deployment, a.Label, v.Label),
				Remedy: fmt.Sprintf("add the subset {name: %s, labels: {%s: %s}} to keep the file complete", v.Label, a.Label, v.Label)})
		}
	}
	return findings
}

// absentFindings names what the files' route sends to and nobody is.
func absentFindings(a App) []Finding {
	if a.InPlace {
		return nil
	}
	there := map[string]bool{}
	for _, v := range a.Versions {
		there[v.Label] = true
	}
	var findings []Finding
	for _, label := range slices.Sorted(maps.Keys(a.Declared)) {
		if !there[label] && a.Declared[label] > 0 {
			// Only a warning: once the App has been taken over, the file's weights
			// count when they are edited, and the version may have been retired.
			findings = append(findings, Finding{Level: Warn, Version: label,
				What:   fmt.Sprintf("VirtualService/%s sends %s to version %s, and no Deployment in these files has %s=%s.", a.Route.Name, percent(a.Declared[label]), label, a.Label, label),
				Remedy: remedyForAbsent(a)})
		}
	}
	return findings
}

func remedyForAbsent(a App) string {
	if len(a.Versions) == 0 {
		return "add its Deployment"
	}
	var labels []string
	for _, v := range a.Versions {
		labels = append(labels, v.Label)
	}
	return "add its Deployment, or send the weight to a version that is there: " + strings.Join(firstFew(labels), ", ")
}
