package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// This file reads a route over one Service for each version, where no
// DestinationRule is named. Such a Service is to an App what a subset is: the
// name of a version in the route.

// ownService is a Service that selects the pods of one version.
type ownService struct {
	read[serviceObject]
	version string
}

// ownServices finds the versions' Services, and the one that users call.
func (l *loader) ownServices(p *parts) {
	for _, s := range l.services {
		if version := p.selects(s.body.Spec.Selector); s.Namespace == p.virtual.Namespace && version != "" {
			p.own = append(p.own, ownService{s, version})
		}
	}
	slices.SortFunc(p.own, func(a, b ownService) int { return cmp.Compare(a.Name, b.Name) })
	if len(p.own) == 0 {
		var rules []string
		for _, d := range l.destinations {
			if d.Namespace == p.virtual.Namespace {
				rules = append(rules, d.Name)
			}
		}
		there := ""
		if len(rules) > 0 {
			there = " (there are " + strings.Join(firstFew(rules), ", ") + ")"
		}
		l.wrong(p.where, "spec.traffic[0].istio", "names no destinationRule, so each version has a Service of its own, and none in these files selects one version by the label %s: name the DestinationRule that has the subsets%s, or add %s: VERSION to the selector of each version's Service", p.label, there, p.label)
		return
	}
	for _, host := range p.virtual.body.Spec.Hosts {
		for _, s := range l.services {
			if p.service.Name == "" && means(host, p.virtual.Namespace, s.Name, s.Namespace) {
				p.service = s
			}
		}
	}
}

// selects is the version whose pods a selector selects, and no others'; empty
// where there is none.
func (p parts) selects(selector map[string]string) string {
	found := map[string]bool{}
	others := len(p.deployments) == 0 // nothing that a Deployment has contradicts the other labels
	for _, d := range p.deployments {
		have := d.body.Spec.Template.Metadata.Labels
		if missing(selector, have, "") == "" {
			found[have[p.label]] = true
		}
		conflict := false
		for k, want := range selector {
			got, there := have[k]
			conflict = conflict || k != p.label && there && got != want
		}
		others = others || !conflict
	}
	switch version := selector[p.label]; {
	case len(selector) == 0:
		return ""
	case version != "" && others:
		return version
	case version == "" && len(found) == 1 && len(p.deployments) > 1:
		for v := range found {
			return v
		}
	}
	return ""
}

// servicesOf is what users call, and the port of each version.
func (l *loader) servicesOf(p parts) (Service, func(version string) servicePort) {
	s := Service{Name: cmp.Or(p.service.Name, p.virtual.Name), Namespace: p.virtual.Namespace, Selector: p.service.body.Spec.Selector}
	l.noPolicies(p)
	ports := map[string]servicePort{}
	var first servicePort
	for i, own := range p.own {
		port, ok := l.port(p, own.read)
		if !ok {
			continue
		}
		switch {
		case i == 0:
			first, s.HTTP2 = port, isHTTP2(port)
			s.Port, s.TargetPort = int(port.Port), port.TargetPort.String()
		case isHTTP2(port) != s.HTTP2:
			l.wrong(own.where, "spec.ports", "one of Service/%s and Service/%s speaks HTTP/2 to its pods and the other does not: give both ports the same appProtocol, or the same kind of name", p.own[0].Name, own.Name)
		}
		ports[own.version] = port
	}
	return s, func(version string) servicePort {
		if port, there := ports[version]; there {
			return port
		}
		return first
	}
}

// noPolicies refuses what a DestinationRule bounds for one version's host.
func (l *loader) noPolicies(p parts) {
	for _, d := range l.destinations {
		i := slices.IndexFunc(p.own, func(s ownService) bool { return means(d.body.Spec.Host, d.Namespace, s.Name, s.Namespace) })
		if t := d.body.Spec.TrafficPolicy; i >= 0 && t != nil && (t.LoadBalancer.ConsistentHash != nil || upgraded(t) || l.limit(d.where, "spec.trafficPolicy", t) != nil) {
			l.wrong(d.where, "spec.trafficPolicy", "is for %s alone, which is one version's: the gateway of one machine bounds versions by the subsets of one DestinationRule; %s", p.own[i].Name, keepApart)
		}
	}
}

// subsets are the Services of their own, as the rest of an App knows versions.
func (p parts) subsets() []Subset {
	var out []Subset
	for _, s := range p.own {
		out = append(out, Subset{Name: s.Name, Labels: s.body.Spec.Selector, Version: s.version})
	}
	return out
}

// ownOf gives the version that a destination means.
func (l *loader) ownOf(p parts, field string, d destinationObject) (Destination, bool) {
	var names []string
	for _, s := range p.own {
		names = append(names, s.Name)
	}
	if d.Subset != "" {
		l.wrong(p.virtual.where, field+".subset", "%s names no destinationRule, so there are no subsets: name it in spec.traffic[0].istio, or send to a version's own Service; there are %s", p.object(), strings.Join(firstFew(names), ", "))
		return Destination{}, false
	}
	for _, s := range p.own {
		if means(d.Host, p.virtual.Namespace, s.Name, s.Namespace) {
			i := slices.IndexFunc(p.own, func(o ownService) bool { return o.version == s.version })
			return Destination{Subset: p.own[i].Name, Version: s.version}, true
		}
	}
	s, there := l.serviceFor(d.Host, p.virtual.where, field+".host")
	if !there {
		return Destination{}, false
	}
	for _, d := range p.deployments {
		if len(s.body.Spec.Selector) == 0 || missing(s.body.Spec.Selector, d.body.Spec.Template.Metadata.Labels, "") != "" {
			l.wrong(p.virtual.where, field+".host", "%s is no Service of a version of %s: one VirtualService leads to one application here; there are %s", clip(s.Name), p.object(), strings.Join(firstFew(names), ", "))
			return Destination{}, false
		}
	}
	return Destination{}, true // all versions alike
}

// hostFindings says of which version no route could name the Service.
func hostFindings(p parts, a App) []Finding {
	var findings []Finding
	for _, v := range a.Versions {
		i := slices.IndexFunc(p.own, func(s ownService) bool { return s.version == v.Label })
		if i < 0 {
			findings = append(findings, Finding{Level: Warn, Version: v.Label,
				What:   fmt.Sprintf("No Service in these files selects the pods of Deployment/%s (%s=%s) and no others; here it is routed as if one did, and a cluster refuses to.", v.Deployment, a.Label, v.Label),
				Remedy: fmt.Sprintf("add a Service like %s with %s: %s in its spec.selector", p.own[0].Name, a.Label, v.Label)})
			continue
		}
		if s := p.own[i]; missing(s.body.Spec.Selector, v.Labels, "") != "" {
			k := missing(s.body.Spec.Selector, v.Labels, "")
			findings = append(findings, Finding{Level: Refuse, Version: v.Label,
				What: fmt.Sprintf("Service/%s selects %s=%s, which the pods of Deployment/%s do not have, so it has no endpoints and every request sent there would fail.",
					s.Name, k, s.body.Spec.Selector[k], v.Deployment),
				Remedy: fmt.Sprintf("add %s: %s to the pods' labels in %s, or remove it from the Service's spec.selector", k, s.body.Spec.Selector[k], v.File)})
		}
	}
	return findings
}
