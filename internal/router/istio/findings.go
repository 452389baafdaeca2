package istio

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

func refuse(what, remedy string, a ...any) rollout.Finding {
	return rollout.Finding{Level: rollout.Refuse, What: fmt.Sprintf(what, a...), Remedy: remedy}
}

func warn(what, remedy string, a ...any) rollout.Finding {
	return rollout.Finding{Level: rollout.Warn, What: fmt.Sprintf(what, a...), Remedy: remedy}
}

// Findings is what would go wrong with a target, in a stable order. The view's
// Services are those of the namespace; steps are the plan's.
func Findings(s Scene, stable, canary rollout.Revision, steps []rollout.Step) []rollout.Finding {
	if p := s.problem(); p != nil && (s.Root == nil || s.DestinationRule != "" && s.Rule == nil) {
		return []rollout.Finding{*p}
	}
	var out []rollout.Finding
	out = append(out, s.delegateFindings(steps)...)
	if p := s.problem(); p != nil {
		out = append(out, *p)
	}
	out = append(out, s.ruleFindings(stable, canary)...)
	out = append(out, s.routeFindings(stable, steps)...)
	out = append(out, s.reachFindings()...)
	return out
}

// problem is the first reason why it is not clear what is to be written; nil
// where it is clear.
func (s Scene) problem() *rollout.Finding {
	of := func(f rollout.Finding) *rollout.Finding { return &f }
	switch {
	case s.Root == nil:
		return of(refuse("there is no VirtualService %s in %s", "create it, or correct spec.traffic", s.VirtualService, s.View.Namespace))
	case s.DestinationRule != "" && s.Rule == nil:
		return of(refuse("there is no DestinationRule %s in %s", "create it, or correct spec.traffic", s.DestinationRule, s.View.Namespace))
	}
	var all, carrying []slot
	for _, object := range s.objects() {
		all = append(all, s.View.slots(object)...)
		carrying = append(carrying, s.View.carrying(object)...)
	}
	switch {
	case len(all) == 0 && s.View.Rule != nil:
		return of(refuse("no route of VirtualService %s sends to %s, the host of DestinationRule %s; it sends to %s", "route to that host, or name the DestinationRule of the host that is routed to",
			s.VirtualService, text(s.Rule, "spec", "host"), s.DestinationRule, orNobody(s.hosts())))
	case len(all) == 0 && len(s.subsets()) > 0:
		return of(refuse("the routes of VirtualService %s name subsets (%s), and spec.traffic[].istio names no DestinationRule", "name it as destinationRule; without one each version has a Service of its own, and no subset",
			s.VirtualService, strings.Join(s.subsets(), ", ")))
	case len(all) == 0:
		return of(refuse("no route of VirtualService %s sends to a Service that selects one version by the label %s; it sends to %s", "give each version a Service of its own and route to stable's, or name the DestinationRule with the subsets under spec.traffic[].istio",
			s.VirtualService, s.View.Label, orNobody(s.hosts())))
	}
	var missing []string
	for _, name := range s.Routes {
		if !slices.ContainsFunc(carrying, func(x slot) bool { return x.called(name) }) {
			missing = append(missing, fmt.Sprintf("%q", name))
		}
	}
	switch {
	case len(missing) > 0:
		return of(refuse("VirtualService %s has no route called %s that sends to the application; it has %s", "correct spec.traffic[].istio.routes: http routes by name, others as tcp:PORT, tls:PORT or tls:HOST",
			s.VirtualService, strings.Join(missing, ", "), slotNames(all)))
	case len(s.Routes) == 0 && len(all) > 1:
		return of(refuse("more than one route of VirtualService %s sends to the application: %s", "name those that carry the split under spec.traffic[].istio.routes (http routes by name, which you may have to give them; others as tcp:PORT, tls:PORT or tls:HOST)",
			s.VirtualService, slotNames(all)))
	}
	return nil
}

func slotNames(all []slot) string {
	var out []string
	for _, s := range all {
		out = append(out, s.String())
	}
	return strings.Join(out, ", ")
}

func orNobody(all []string) string {
	if len(all) == 0 {
		return "nobody"
	}
	return strings.Join(all, ", ")
}

// hosts lists every host that the VirtualServices send to.
func (s Scene) hosts() []string { return s.sentTo("host") }

// subsets lists every subset of any host that they send to.
func (s Scene) subsets() []string { return s.sentTo("subset") }

func (s Scene) sentTo(member string) []string {
	found := map[string]bool{}
	for _, object := range s.objects() {
		for _, kind := range kinds {
			for _, r := range list(object, "spec", kind) {
				for _, d := range list(r, "route") {
					if h := text(d, "destination", member); h != "" {
						found[h] = true
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (s Scene) delegateFindings(steps []rollout.Step) (out []rollout.Finding) {
	for _, d := range s.Delegates {
		for _, st := range steps {
			if st.Match == nil || d.Object == nil || len(s.View.carrying(d.Object)) == 0 {
				continue
			}
			if what := s.dropped(d, *st.Match); what != "" {
				out = append(out, refuse("a match step cannot be served by the delegate %s: the route that hands over to it has %s, and Istio drops a delegate's route whose conditions conflict with that", "give the step another header, or leave the condition to the delegate", d.Name, what))
			}
		}
		switch {
		case d.Foreign:
			out = append(out, warn("VirtualService %s hands over to %s in %s, which is not written from here", "make the Rollout in that namespace, or move the delegate", s.VirtualService, d.Name, d.Namespace))
		case d.Object == nil:
			out = append(out, refuse("VirtualService %s hands over to the VirtualService %s, which is not there", "create it: until then what it should answer is not answered", s.VirtualService, d.Name))
		case len(texts(d.Object, "spec", "hosts")) > 0:
			out = append(out, refuse("the delegate %s has hosts of its own, so Istio does not take it for a delegate", "remove spec.hosts from it", d.Name))
		}
	}
	return out
}

// dropped says which condition of the root makes Istio ignore our route in a
// delegate; empty where none does. Istio joins both conditions where they are of
// kinds that it can join, and ignores the route where one alternative is not.
func (s Scene) dropped(d Delegate, step rollout.Match) string {
	for _, h := range list(s.Root, "spec", "http") {
		if text(h, "delegate", "name") != d.Name {
			continue
		}
		for _, m := range list(h, "match") {
			for name := range asMap(at(m, "headers")) {
				_, asked := step.Header[name]
				if asked || strings.EqualFold(name, "cookie") && len(step.Cookie) > 0 {
					return "a condition on the header " + name
				}
			}
			if at(m, "ignoreUriCase") == true {
				return "ignoreUriCase"
			}
			if under := strings.TrimSuffix(step.Path, "/"); under != "" && at(m, "uri") != nil {
				if prefix, ok := at(m, "uri", "prefix").(string); !ok || !strings.HasPrefix(under, prefix) {
					return "a condition on the path"
				}
			}
		}
	}
	return ""
}

// versionsOf are the pods' labels of stable and canary, where they are known.
func (s Scene) versionsOf(stable, canary rollout.Revision) []Version {
	var out []Version
	for _, rev := range []rollout.Revision{stable, canary} {
		for _, v := range s.View.Versions {
			if rev != "" && v.Revision == rev {
				out = append(out, v)
			}
		}
	}
	return out
}

// ruleFindings: will the host and its subsets have endpoints?
func (s Scene) ruleFindings(stable, canary rollout.Revision) (out []rollout.Finding) {
	if s.View.Rule == nil {
		return s.hostFindings(stable, canary)
	}
	host := text(s.Rule, "spec", "host")
	name, namespace, isService := serviceOf(s.View.Rule.Host)
	if isService && namespace == s.View.Namespace {
		i := slices.IndexFunc(s.View.Services, func(x Service) bool { return x.Name == name })
		switch {
		case i < 0:
			out = append(out, refuse("%s, the host of DestinationRule %s, is no Service in %s", "create the Service, or correct spec.host", host, s.DestinationRule, namespace))
		default:
			out = append(out, s.serviceFindings(s.View.Services[i], stable, canary)...)
		}
	}
	for _, version := range s.versionsOf(stable, canary) {
		value := s.View.value(version.Revision)
		if value == "" {
			out = append(out, refuse("the pods of %s have no label %s", "give the pod template that label", version.Revision.Label(), s.View.Label))
			continue
		}
		for _, sub := range s.View.Rule.Subsets {
			if sub.Labels[s.View.Label] == value && !contains(version.Labels, sub.Labels) {
				out = append(out, refuse("subset %s of DestinationRule %s selects %s, and the pods of %s have %s: it has no pods", "make its labels those of the pods", sub.Name, s.DestinationRule, labelText(sub.Labels), version.Revision.Label(), labelText(pick(version.Labels, sub.Labels))))
			}
		}
	}
	for _, sub := range s.View.Rule.Subsets {
		if sub.Name == "" || s.View.selected(sub.Labels) != "" || !s.routed(sub.Name) {
			continue
		}
		out = append(out, warn("subset %s of DestinationRule %s is routed to and stands for no one version (%s): its share is left as it is",
			fmt.Sprintf("give it the label %s of one version", s.View.Label), sub.Name, s.DestinationRule, labelText(sub.Labels)))
	}
	if len(s.View.Versions) > 0 {
		for _, sub := range s.View.Rule.Subsets {
			value := sub.Labels[s.View.Label]
			if value != "" && s.routed(sub.Name) && !slices.ContainsFunc(s.View.Versions, func(v Version) bool { return s.View.value(v.Revision) == value }) {
				out = append(out, warn("traffic goes to subset %s of DestinationRule %s, and no Deployment has pods with %s=%s", "send it to a version that is there", sub.Name, s.DestinationRule, s.View.Label, value))
			}
		}
	}
	for _, missing := range s.missingSubsets() {
		out = append(out, warn("a route names subset %s, which DestinationRule %s does not have: its share is answered 503", "add the subset, or take the destination away", missing, s.DestinationRule))
	}
	policies := []any{at(s.Rule, "spec", "trafficPolicy")}
	for _, sub := range s.View.Rule.Subsets {
		policies = append(policies, sub.raw["trafficPolicy"])
	}
	if slices.ContainsFunc(policies, func(p any) bool { return at(p, "loadBalancer", "consistentHash") != nil }) {
		out = append(out, warn("DestinationRule %s has a consistent hash: callers stay on one pod of a version, but each request chooses the version anew", "use a match step by header or cookie where users must stay on one version", s.DestinationRule))
	}
	if at(s.Rule, "spec", "workloadSelector") != nil {
		out = append(out, warn("DestinationRule %s is for some callers only (workloadSelector): for others its subsets do not exist, and what is routed to them is answered 503", "remove spec.workloadSelector", s.DestinationRule))
	}
	return out
}

// serviceFindings: a Service that selects by version hides the other versions
// from every subset.
func (s Scene) serviceFindings(service Service, stable, canary rollout.Revision) (out []rollout.Finding) {
	if value, narrow := service.Selector[s.View.Label]; narrow {
		return append(out, refuse("Service %s selects %s=%s, so subsets for other versions have no endpoints, and what is routed to them is answered 503",
			fmt.Sprintf("remove %s from the Service's selector: the subsets tell the versions apart", s.View.Label), service.Name, s.View.Label, value))
	}
	if len(service.Selector) == 0 {
		return append(out, warn("Service %s has no selector: whose pods are behind it is not known", "", service.Name))
	}
	for _, version := range s.versionsOf(stable, canary) {
		if !contains(version.Labels, service.Selector) {
			out = append(out, refuse("Service %s selects %s, and the pods of %s have %s: they are not behind it", "make the selector fit the pods of every version", service.Name, labelText(service.Selector), version.Revision.Label(), labelText(pick(version.Labels, service.Selector))))
		}
	}
	return out
}

// hostFindings: one Service for each version.
func (s Scene) hostFindings(stable, canary rollout.Revision) (out []rollout.Finding) {
	add := func(f rollout.Finding) { // once, however many routes there are
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	for _, object := range s.objects() {
		for _, slot := range s.View.carrying(object) {
			for _, version := range s.versionsOf(stable, canary) {
				if f := s.ownServiceFinding(slot, version); f != nil {
					add(*f)
				}
			}
			for _, p := range slot.parts {
				host := text(p.raw, "destination", "host")
				name, namespace, _ := serviceOf(canonical(host, s.View.Namespace))
				if p.ours && s.View.service(name, namespace) == nil && (p.weight > 0 || len(slot.parts) == 1) {
					add(refuse("%s sends to %s, and there is no such Service in %s: its share is answered 503", "create the Service, or take the destination away", slot, host, namespace))
				}
			}
		}
	}
	for _, x := range s.View.Services {
		value := s.View.selected(x.Selector)
		if canary == "" && value != "" && x.Selector[s.View.Label] == "" && slices.Contains(s.hostNames(), x.Name+"."+x.Namespace+".svc") {
			add(warn("Service %s selects %s and not %s=%s: if the next version's pods have these labels too, it takes them in, and no route can tell them apart",
				fmt.Sprintf("add %s: %s to its selector, and give the next version a Service of its own", s.View.Label, value), x.Name, labelText(x.Selector), s.View.Label, value))
		}
	}
	return out
}

// hostNames are the hosts that are sent to, in one form.
func (s Scene) hostNames() []string {
	var out []string
	for _, h := range s.hosts() {
		out = append(out, canonical(h, s.View.Namespace))
	}
	return out
}

// ownServiceFinding: can a route send to a version by a Service of its own? nil
// where it can.
func (s Scene) ownServiceFinding(slot slot, version Version) *rollout.Finding {
	of := func(f rollout.Finding) *rollout.Finding { return &f }
	value, label := s.View.value(version.Revision), version.Revision.Label()
	if value == "" {
		return of(refuse("the pods of %s have no label %s", "give the pod template that label", label, s.View.Label))
	}
	model := s.View.model(slot, "")
	host, _, err := s.View.address(value, "", model)
	for _, p := range slot.parts {
		if p.value == value {
			host, err = text(p.raw, "destination", "host"), nil
		}
	}
	if err != nil {
		for _, x := range s.View.Services {
			if x.Namespace == s.View.Namespace && x.Selector[s.View.Label] == value && !contains(version.Labels, x.Selector) && slices.Contains(s.View.like(slot), x.Name) {
				return of(s.unlike(x, version))
			}
		}
		if len(s.View.own(value)) > 1 {
			return of(refuse("which Service %s is to be sent to is not clear: %s", "leave one of them, or name it like that of the other version", label, reason(err)))
		}
		return of(refuse("%s has no Service of its own: %s", fmt.Sprintf("create one with %s: %s in its selector; or name a DestinationRule with subsets in spec.traffic[].istio", s.View.Label, value), label, reason(err)))
	}
	name, namespace, _ := serviceOf(canonical(host, s.View.Namespace))
	x := s.View.service(name, namespace)
	switch {
	case x == nil:
		return nil // said of the destination
	case !contains(version.Labels, x.Selector):
		return of(s.unlike(*x, version))
	}
	if missing := s.missingPort(slot, *x); missing != 0 {
		return of(refuse("Service %s has no port %d, which %s sends to", "give it the ports that the Services of the other versions have", x.Name, missing, slot))
	}
	return nil
}

func (s Scene) unlike(x Service, version Version) rollout.Finding {
	return refuse("Service %s selects %s, and the pods of %s have %s: none of them is behind it", "make its selector fit the pods of that version",
		x.Name, labelText(x.Selector), version.Revision.Label(), labelText(pick(version.Labels, x.Selector)))
}

// like are what a version's Service may be called, by the names of the others
// that a slot sends to.
func (v View) like(slot slot) []string {
	var out []string
	for _, p := range slot.parts {
		name, _, _ := serviceOf(canonical(text(p.raw, "destination", "host"), v.Namespace))
		for _, one := range v.Versions {
			if n := renamed(name, p.value, v.value(one.Revision)); n != "" {
				out = append(out, n)
			}
		}
	}
	return out
}

// missingPort is a port that the slot's destinations are asked at and that a
// Service does not have; 0 where there is none. Without a number in the
// destination Istio takes a Service's only port, else the one that was called.
func (s Scene) missingPort(slot slot, x Service) int32 {
	for _, p := range slot.parts {
		if !p.ours || p.undivided || len(x.Ports) == 0 {
			continue
		}
		if n, given := number(p.raw, "destination", "port", "number"); given {
			if !slices.Contains(x.Ports, int32(n)) {
				return int32(n)
			}
			continue
		}
		name, namespace, _ := serviceOf(canonical(text(p.raw, "destination", "host"), s.View.Namespace))
		if other := s.View.service(name, namespace); other != nil && len(x.Ports) > 1 {
			for _, n := range other.Ports {
				if !slices.Contains(x.Ports, n) {
					return n
				}
			}
		}
	}
	return 0
}

// routed: somewhere a share above 0 goes to the subset.
func (s Scene) routed(subset string) bool {
	for _, object := range s.objects() {
		for _, x := range s.View.slots(object) {
			for _, p := range x.parts {
				if text(p.raw, "destination", "subset") == subset && (p.weight > 0 || len(x.parts) == 1) {
					return true
				}
			}
		}
	}
	return false
}

func (s Scene) missingSubsets() []string {
	found := map[string]bool{}
	for _, object := range s.objects() {
		for _, x := range s.View.slots(object) {
			for _, p := range x.parts {
				name := text(p.raw, "destination", "subset")
				if p.ours && name != "" && !s.View.taken(name) && (p.weight > 0 || len(x.parts) == 1) {
					found[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// routeFindings: what is odd about the routes that carry the split, and about
// those that do not.
func (s Scene) routeFindings(stable rollout.Revision, steps []rollout.Step) (out []rollout.Finding) {
	matches := 0
	for _, st := range steps {
		if st.Match != nil {
			matches++
		}
	}
	for _, object := range s.objects() {
		name := text(object, "metadata", "name")
		carrying := s.View.carrying(object)
		for _, x := range carrying {
			own, third := x.sums()
			switch {
			case third > 0 && own == 0:
				out = append(out, refuse("%s of VirtualService %s gives the application nothing: it all goes to %s", "give the application a share", x, name, thirds(x)))
			case third > 0:
				out = append(out, warn("%s of VirtualService %s gives %s to %s, which stays: the steps divide the remaining %s", "", x, name, percent(third, own+third), thirds(x), percent(own, own+third)))
			}
			if slices.ContainsFunc(x.parts, func(p part) bool { return p.undivided }) {
				f := warn("%s of VirtualService %s sends to the host without a subset: its share goes to the pods of all versions alike", "name a subset, or let the rollout do it", x, name)
				if s.View.Rule == nil {
					f = warn("%s of VirtualService %s sends to a Service that selects the pods of all versions alike", "send to the Service of one version, or let the rollout do it", x, name)
				}
				if s.View.only() == "" && stable == "" {
					f.Level, f.Remedy = rollout.Wait, "send to the version that is stable, or say `serin adopt --stable VERSION`"
				}
				out = append(out, f)
			}
			if scaled := scaledBy(x, steps); scaled != "" {
				out = append(out, warn("%s of VirtualService %s: %s", "write larger numbers in the same proportion to avoid that", x, name, scaled))
			}
			if x.kind != "http" {
				out = append(out, warn("%s of VirtualService %s splits connections, not requests: long ones stay where they are", "", x, name))
				if matches > 0 {
					out = append(out, refuse("%s of VirtualService %s cannot serve a match step", "take the match step out of the plan, or the route out of the split", x, name))
				}
				continue
			}
			for _, st := range steps {
				if st.Match == nil {
					continue
				}
				switch both, err := joinAll(x.raw, *st.Match); {
				case err != nil:
					out = append(out, refuse("%s of VirtualService %s cannot serve a match step: %s", "", x, name, reason(err)))
				case both == nil:
					out = append(out, warn("%s of VirtualService %s: no request that it takes is one that a match step asks for", "", x, name))
				}
			}
			if shadow := shadowed(object, x); shadow != "" {
				out = append(out, warn("%s of VirtualService %s is never reached: %s before it takes everything", "move it up, or give the other a match", x, name, shadow))
			}
			if at(x.raw, "fault") != nil {
				out = append(out, warn("%s of VirtualService %s injects faults, which count against both versions alike", "", x, name))
			}
		}
		for _, x := range s.View.slots(object) {
			if len(carrying) == 0 || slices.ContainsFunc(carrying, func(c slot) bool { return c.key == x.key }) {
				continue
			}
			for _, p := range x.parts {
				if p.ours && p.value != "" && (p.weight > 0 || len(x.parts) == 1) {
					out = append(out, warn("%s of VirtualService %s sends to %s and does not carry the split: %s is not taken away as long as it does", "name it under spec.traffic[].istio.routes, or send it to the host without a subset", x, name, p.value, p.value))
					break
				}
			}
		}
		for _, r := range list(object, "spec", "http") {
			for _, m := range append([]any{at(r, "mirror")}, mirrors(r)...) {
				if value, undivided, ours := s.View.whose(m); m != nil && ours && !undivided && !isFront("http", text(r, "name")) {
					out = append(out, warn("a route of VirtualService %s mirrors to %s, and goes on to do so when %s is retired", "", name, value, value))
				}
			}
		}
	}
	return out
}

// reason is an error without the kind that it has for the engine.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), engine.ErrRefused.Error()+": ")
}

func mirrors(route any) (out []any) {
	for _, m := range list(route, "mirrors") {
		out = append(out, at(m, "destination"))
	}
	return out
}

func thirds(x slot) string {
	var out []string
	for _, p := range x.parts {
		if !p.ours {
			name := text(p.raw, "destination", "host")
			if sub := text(p.raw, "destination", "subset"); sub != "" {
				name += " (" + sub + ")"
			}
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

func percent(n, of int64) string {
	return rollout.Weight((n*int64(rollout.Whole) + of/2) / of).String()
}

// scaledBy says by what the numbers of others will be multiplied.
func scaledBy(x slot, steps []rollout.Step) string {
	own, third := x.sums()
	if third == 0 || own == 0 {
		return ""
	}
	for _, st := range steps {
		if st.Kind != rollout.StepWeight || st.Weight == 0 {
			continue
		}
		n, err := scaleFor(own, third, rollout.Traffic{Canary: "any", Weight: st.Weight})
		switch {
		case err != nil:
			return reason(err)
		case n > 1:
			return fmt.Sprintf("%s of its %d parts is no whole number, so all its numbers are multiplied by %d while that step lasts (the proportions stay)", st.Weight, own, n)
		}
	}
	return ""
}

// shadowed names the route before the slot that takes everything; empty where
// there is none.
func shadowed(object map[string]any, x slot) string {
	for i, r := range list(object, "spec", "http") {
		if i >= x.index {
			break
		}
		if at(r, "delegate") != nil || isFront("http", text(r, "name")) {
			continue // what it takes is for the delegate to say
		}
		all := len(list(r, "match")) == 0
		for _, m := range list(r, "match") {
			c := asMap(m)
			all = all || len(c) == 0 || len(c) == 1 && text(m, "uri", "prefix") == "/"
		}
		if all {
			if n := text(r, "name"); n != "" {
				return fmt.Sprintf("http route %q", n)
			}
			return fmt.Sprintf("http route %d", i+1)
		}
	}
	return ""
}

// reachFindings: whose calls see the split at all?
func (s Scene) reachFindings() (out []rollout.Finding) {
	gateways := texts(s.Root, "spec", "gateways")
	mesh := len(gateways) == 0 || slices.Contains(gateways, "mesh")
	if !mesh {
		out = append(out, warn("VirtualService %s is for %s only: callers inside the mesh do not see the split", "add the gateway mesh, and the Service's host, if they should", s.VirtualService, strings.Join(gateways, ", ")))
	}
	hosts := texts(s.Root, "spec", "hosts")
	if mesh && s.View.Rule != nil && len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool {
		return h == "*" || canonical(h, s.View.Namespace) == s.View.Rule.Host
	}) {
		out = append(out, warn("VirtualService %s answers for %s and not for %s: callers of the Service's own name do not see the split", "add that host if they should", s.VirtualService, strings.Join(hosts, ", "), text(s.Rule, "spec", "host")))
	}
	if mesh && s.View.Rule == nil {
		for _, h := range hosts {
			name, namespace, isService := serviceOf(canonical(h, s.View.Namespace))
			if isService && namespace == s.View.Namespace && s.View.service(name, namespace) == nil {
				out = append(out, warn("VirtualService %s answers for %s, and there is no such Service in %s: callers in the mesh do not find it", "create a Service of that name for all versions", s.VirtualService, h, namespace))
			}
		}
	}
	route, rule := exported(s.Root), exported(s.Rule)
	if s.Rule != nil && route != rule && rule != "*" {
		out = append(out, warn("VirtualService %s is seen from %s and DestinationRule %s from %s: where only the route is seen, what is routed to subsets is answered 503", "give both the same exportTo", s.VirtualService, where(route), s.DestinationRule, where(rule)))
	} else if route != "*" {
		out = append(out, warn("VirtualService %s is seen from %s only: callers elsewhere do not see the split", "", s.VirtualService, where(route)))
	}
	return out
}

// exported is exportTo as one text; "*" where it is everywhere.
func exported(object map[string]any) string {
	to := texts(object, "spec", "exportTo")
	slices.Sort(to)
	if len(to) == 0 || slices.Contains(to, "*") {
		return "*"
	}
	return strings.Join(to, ", ")
}

func where(exported string) string {
	switch exported {
	case "*":
		return "everywhere"
	case ".":
		return "its own namespace"
	}
	return exported
}

func labelText(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	if len(out) == 0 {
		return "nothing of that"
	}
	return strings.Join(out, ",")
}

// pick is what pods have of the labels that are asked for.
func pick(have, asked map[string]string) map[string]string {
	out := map[string]string{}
	for k := range asked {
		if v, ok := have[k]; ok {
			out[k] = v
		}
	}
	return out
}
