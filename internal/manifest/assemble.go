package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/strictyaml"
)

// parts are the objects of one App, found and read.
type parts struct {
	where   // what a problem with the App as a whole is said of
	rollout *v1alpha1.Rollout

	service     read[serviceObject]         // that users call; without a name: none of the files'
	destination read[destinationRuleObject] // without a name: versions are told apart by own
	own         []ownService                // by name; empty: there are subsets
	virtual     read[virtualServiceObject]
	deployments []read[deploymentObject]
	routes      []string // names of the routes that carry the split; empty: the only one
	label       string   // empty: in place
}

// assemble puts the objects together: an App for every Rollout, and the default
// Rollout for every VirtualService that none names.
func (l *loader) assemble() *Set {
	s := &Set{}
	used := map[string]parts{}   // object -> whose it is
	routes := map[string]where{} // host -> the VirtualService that answers for it
	take := func(p parts, a App) {
		s.Apps = append(s.Apps, a)
		l.claim(used, p)
		l.answer(routes, p, a)
	}
	for i := range l.rollouts {
		if p, ok := l.given(l.rollouts[i].Rollout, l.rolloutAt[i]); ok {
			app := l.app(p)
			app.File = l.rolloutAt[i].file
			take(p, app)
		} else if vs := namedVirtualService(l.rollouts[i].Rollout); vs != "" {
			// The default Rollout is not made beside one that has problems.
			used[where{kind: "VirtualService", objectMeta: objectMeta{vs, l.rolloutAt[i].Namespace}}.object()] = parts{}
		}
	}
	for _, v := range l.virtualServices {
		if _, taken := used[v.object()]; taken {
			continue
		}
		if p, why, ok := l.derived(v, s.Apps); ok {
			app := l.app(p)
			app.Derived = why
			take(p, app)
		}
	}
	l.unused(used)
	slices.SortFunc(s.Apps, func(a, b App) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	if len(s.Apps) == 0 && len(l.problems) == 0 {
		l.add(Problem{Message: "nothing to route: give a VirtualService with the DestinationRule, the Service and a Deployment per version that belong to it"})
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.notes), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	}) {
		s.Notes = append(s.Notes, *l.notes[key])
	}
	return s
}

func namedVirtualService(r *v1alpha1.Rollout) string {
	for _, t := range r.Spec.Traffic {
		if t.Istio != nil {
			return t.Istio.VirtualService
		}
	}
	return ""
}

// claim notes which objects an App uses.
func (l *loader) claim(used map[string]parts, p parts) {
	l.oneSplit(used, p, p.virtual.where, 0)
	for _, d := range p.deployments {
		l.oneOwner(used, p, d.where)
	}
	objects := []where{p.service.where, p.destination.where, p.virtual.where}
	for _, s := range p.own {
		objects = append(objects, s.where)
	}
	for _, w := range objects {
		if w.Name != "" {
			used[w.object()] = p
		}
	}
}

// oneSplit wants a VirtualService, the nth of a Rollout's traffic, to be no other
// one's.
func (l *loader) oneSplit(used map[string]parts, p parts, virtual where, n int) {
	field := fmt.Sprintf("spec.traffic[%d].istio.virtualService", n)
	if other := used[virtual.object()]; other.rollout != nil && other.rollout != p.rollout {
		l.wrong(p.where, field, "%s carries the split of %s (%s) already: one Rollout moves the weights of a VirtualService", virtual.object(), other.object(), other.at("spec.traffic"))
	}
	used[virtual.object()] = p
}

// oneOwner wants a Deployment to be no other Rollout's.
func (l *loader) oneOwner(used map[string]parts, p parts, d where) {
	if other := used[d.object()]; other.rollout != nil {
		field, verb := "spec.workload", "selects"
		if p.kind != v1alpha1.Kind {
			field, verb = "spec.http", "leads to"
		}
		l.wrong(p.where, field, "%s %s (%s), which belongs to %s (%s) already: each version belongs to one Rollout", verb, d.object(), d.at("spec.template.metadata.labels"), other.object(), other.at("spec"))
	}
	used[d.object()] = p
}

func (l *loader) unused(used map[string]parts) {
	each := func(w where, why string) {
		if _, taken := used[w.object()]; !taken {
			l.note(w, "", why)
		}
	}
	for _, d := range l.deployments {
		each(d.where, "no rollout selects it, so it is not run")
	}
	for _, s := range l.services {
		each(s.where, "no route leads to it")
	}
	for _, d := range l.destinations {
		each(d.where, "no rollout uses it")
	}
}

// answer wants every host to lead to one App.
func (l *loader) answer(routes map[string]where, p parts, a App) {
	hosts := a.Route.Hosts
	if a.Route.AnyHost {
		hosts = append(slices.Clone(hosts), "*")
	}
	for _, h := range hosts {
		if other, taken := routes[h]; taken {
			if other.object() == p.virtual.object() {
				return // said of the Rollouts
			}
			l.wrong(p.virtual.where, "spec.hosts", "%s is the host of %s (%s) too: one route answers for a host", h, other.object(), other.at("spec.hosts"))
			return
		}
		routes[h] = p.virtual.where
	}
}

// given finds the objects that a Rollout names.
func (l *loader) given(r *v1alpha1.Rollout, w where) (parts, bool) {
	before := len(l.problems)
	p := parts{where: w, rollout: r}
	if len(r.Spec.Traffic) > 1 {
		l.wrong(w, "spec.traffic[1]", "one machine has one gateway: keep one route here")
	}
	istio := r.Spec.Traffic[0].Istio
	if istio == nil {
		l.wrong(w, "spec.traffic[0].gatewayAPI", "is not read on one machine, a VirtualService is: istio: {virtualService: NAME, destinationRule: NAME}")
		return p, false
	}
	l.clusterOnly(r, w)
	p.routes = istio.Routes
	at := "spec.traffic[0].istio."
	p.virtual = find(l, l.virtualServices, w, at+"virtualService", "VirtualService", istio.VirtualService)
	if istio.DestinationRule != "" {
		p.destination = find(l, l.destinations, w, at+"destinationRule", "DestinationRule", istio.DestinationRule)
	}
	if len(l.problems) > before {
		return p, false
	}
	if istio.DestinationRule != "" {
		var ok bool
		if p.service, ok = l.serviceFor(p.destination.body.Spec.Host, p.destination.where, "spec.host"); !ok {
			return p, false
		}
	}
	if in := r.Spec.Workload.InPlace; in != nil {
		p.deployments = []read[deploymentObject]{find(l, l.deployments, w, "spec.workload.inPlace.name", "Deployment", in.Name)}
	} else {
		p.label = r.Spec.Workload.Versions.Label
		selector, err := metav1.LabelSelectorAsSelector(&r.Spec.Workload.Versions.Selector)
		if err != nil { // Validate has looked at it
			selector = labels.Nothing()
		}
		p.deployments = l.selected(w.Namespace, selector)
	}
	if istio.DestinationRule == "" {
		l.ownServices(&p)
	}
	return p, len(l.problems) == before
}

// clusterOnly refuses what a Rollout can ask for and one machine cannot do. To
// leave it out in silence would be to judge by less than was asked for.
func (l *loader) clusterOnly(r *v1alpha1.Rollout, w where) {
	for _, s := range r.Spec.Strategy.Plan() {
		if s.Test != nil && s.Test.Job != nil {
			l.wrong(w, "spec.strategy", "a test by job (%s) needs a cluster: use command or webhook here", s.Test.Job.CronJob)
		}
	}
	if b := r.Spec.Strategy.BlueGreen; b != nil {
		l.asks(w, "spec.strategy.blueGreen.preview", b.Preview)
	} else if c := r.Spec.Strategy.Canary; c != nil {
		for i, s := range c.Steps {
			l.asks(w, fmt.Sprintf("spec.strategy.canary.steps[%d].match", i), s.Match)
		}
	}
	a := &r.Spec.Analysis
	if a.Source == v1alpha1.SourcePrometheus || a.Source == v1alpha1.SourcePods {
		l.wrong(w, "spec.analysis.source", "%s needs a cluster: the gateway counts on one machine, which auto and gateway mean", a.Source)
	}
	for i, m := range a.Metrics {
		l.wrong(w, fmt.Sprintf("spec.analysis.metrics[%d].prometheus", i), "%s is asked from Prometheus, which needs a cluster: keep it in a Rollout that only the cluster reads", m.Name)
	}
}

// asks looks at a step's conditions.
func (l *loader) asks(w where, at string, m *v1alpha1.Match) {
	if m != nil {
		for _, name := range slices.Sorted(maps.Keys(m.Header)) {
			l.arrives(w, at+".header["+name+"]", name)
		}
	}
}

// find gives the object that a field names, or says which there are.
func find[T any](l *loader, all []read[T], by where, field, kind, name string) read[T] {
	var names []string
	for _, o := range all {
		if o.Namespace != by.Namespace {
			continue
		}
		if o.Name == name {
			return o
		}
		names = append(names, o.Name)
	}
	there := thereAre(names, name)
	l.wrong(by, field, "no %s/%s in these files; %s", kind, name, there)
	return read[T]{where: by}
}

// thereAre says which name may be meant, or which there are.
func thereAre(names []string, meant string) string {
	near := ""
	if len(meant) > 2 { // of shorter names any is near
		near = strictyaml.Nearest(names, meant)
	}
	switch {
	case near != "":
		return near + "?"
	case len(names) == 0:
		return "there is none"
	case len(names) == 1:
		return "there is " + names[0]
	}
	return "there are " + strings.Join(firstFew(names), ", ")
}

func firstFew(names []string) []string {
	if len(names) > 8 {
		return append(slices.Clone(names[:8]), "...")
	}
	return names
}

// selected gives the Deployments whose pods a selector selects.
func (l *loader) selected(namespace string, s labels.Selector) []read[deploymentObject] {
	var found []read[deploymentObject]
	for _, d := range l.deployments {
		if d.Namespace == namespace && s.Matches(labels.Set(d.body.Spec.Template.Metadata.Labels)) {
			found = append(found, d)
		}
	}
	return found
}

// serviceFor gives the Service that a host means, seen from an object's namespace.
func (l *loader) serviceFor(host string, w where, field string) (read[serviceObject], bool) {
	var names []string
	for _, s := range l.services {
		if means(host, w.Namespace, s.Name, s.Namespace) {
			return s, true
		}
		names = append(names, s.Name)
	}
	there := thereAre(names, host)
	if host == "" {
		l.wrong(w, field, "is missing: the name of a Service; %s", there)
	} else {
		l.wrong(w, field, "no Service in these files is called %s; %s", clip(host), there)
	}
	return read[serviceObject]{}, false
}

// means says whether a host, used in namespace from, is the Service's.
func means(host, from, name, namespace string) bool {
	host = strings.ToLower(host)
	if host == name {
		return from == namespace
	}
	return slices.Contains(longNames(name, namespace), host)
}

func longNames(name, namespace string) []string {
	base := name + "." + namespace
	return []string{base, base + ".svc", base + ".svc.cluster.local"}
}

// derived makes the default Rollout for a VirtualService.
func (l *loader) derived(v read[virtualServiceObject], apps []App) (parts, string, bool) {
	before := len(l.problems)
	p := parts{where: v.where, virtual: v}
	if host, field := firstHost(v.body); host == "" {
		l.wrong(v.where, "spec.http", "has no route to a destination")
	} else if s, ok := l.serviceFor(host, v.where, field); ok {
		p.service = s
	}
	if len(l.problems) > before {
		return p, "", false
	}
	if !l.derivedDestination(&p) {
		return p, "", false
	}
	workload, ok := l.derivedWorkload(&p)
	if !ok {
		return p, "", false
	}
	r := &v1alpha1.Rollout{}
	r.Name, r.Namespace = derivedName(p, apps), v.Namespace
	r.Spec.Workload = workload
	r.Spec.Traffic = []v1alpha1.Traffic{{Istio: &v1alpha1.IstioTraffic{
		VirtualService: v.Name, DestinationRule: p.destination.Name,
	}}}
	r.Default()
	for _, e := range r.Validate() {
		l.wrong(v.where, "", "no default Rollout can be made: %s", e)
	}
	p.rollout = r
	why := fmt.Sprintf("No Rollout names %s: the default one is used for it, %s and the Deployments %s.",
		v.object(), p.destination.object(), selectorWords(workload))
	return p, why, len(l.problems) == before
}

func selectorWords(w v1alpha1.Workload) string {
	if w.InPlace != nil {
		return "named " + w.InPlace.Name
	}
	return "with " + metav1.FormatLabelSelector(&w.Versions.Selector) + ", told apart by the label " + w.Versions.Label
}

func firstHost(v virtualServiceObject) (host, field string) {
	for i, h := range v.Spec.HTTP {
		for j, d := range h.Route {
			return d.Destination.Host, fmt.Sprintf("spec.http[%d].route[%d].destination.host", i, j)
		}
	}
	return "", ""
}

func (l *loader) derivedDestination(p *parts) bool {
	var found []read[destinationRuleObject]
	for _, d := range l.destinations {
		if means(d.body.Spec.Host, d.Namespace, p.service.Name, p.service.Namespace) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		p.destination = found[0]
		return true
	case 0:
		l.wrong(p.virtual.where, "spec.http", "no DestinationRule has host %s: add one with a subset for each version; or a Rollout that names none, where each version has a Service of its own; or keep this VirtualService in a file that only the cluster reads", p.service.Name)
	default:
		l.wrong(p.virtual.where, "spec.http", "%d DestinationRules have host %s: say in a Rollout which one holds the versions", len(found), p.service.Name)
	}
	return false
}

// derivedWorkload finds by which label the subsets tell versions apart; without
// subsets a single Deployment is edited in place.
func (l *loader) derivedWorkload(p *parts) (v1alpha1.Workload, bool) {
	selector := maps.Clone(p.service.body.Spec.Selector)
	if len(selector) == 0 {
		l.wrong(p.service.where, "spec.selector", "is missing: the labels of the pods that answer")
		return v1alpha1.Workload{}, false
	}
	p.label = versionLabel(p.destination.body)
	if p.label == "" {
		found := l.selected(p.service.Namespace, labels.SelectorFromSet(selector))
		if len(p.destination.body.Spec.Subsets) > 0 || len(found) != 1 {
			l.wrong(p.destination.where, "spec.subsets", "tell no versions apart: give each version a subset with a label of its own, such as version: v1")
			return v1alpha1.Workload{}, false
		}
		p.deployments = found
		return v1alpha1.Workload{InPlace: &v1alpha1.InPlaceWorkload{Name: found[0].Name}}, true
	}
	// A Service that selects one version only is a finding, not the selector
	// of all versions.
	delete(selector, p.label)
	if len(selector) == 0 {
		l.wrong(p.service.where, "spec.selector", "selects by %s alone: add a label that all versions share, such as app, here and to the pods", p.label)
		return v1alpha1.Workload{}, false
	}
	p.deployments = l.selected(p.service.Namespace, labels.SelectorFromSet(selector))
	return v1alpha1.Workload{Versions: &v1alpha1.VersionsWorkload{
		Selector: metav1.LabelSelector{MatchLabels: selector}, Label: p.label,
	}}, true
}

// versionLabel gives the label that all subsets have with different values.
func versionLabel(d destinationRuleObject) string {
	subsets := d.Spec.Subsets
	if len(subsets) == 0 {
		return ""
	}
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(subsets[0].Labels)) {
		values := map[string]bool{}
		for _, s := range subsets {
			if v, ok := s.Labels[key]; ok {
				values[v] = true
			}
		}
		if len(values) == len(subsets) {
			keys = append(keys, key)
		}
	}
	for _, usual := range []string{"version", "app.kubernetes.io/version"} {
		if slices.Contains(keys, usual) {
			return usual
		}
	}
	if len(keys) == 1 {
		return keys[0]
	}
	return ""
}

// derivedName is what people call the application.
func derivedName(p parts, apps []App) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(apps, func(a App) bool { return a.Name == name && a.Namespace == p.virtual.Namespace })
	}
	for _, key := range []string{"app.kubernetes.io/name", "app", "k8s-app"} {
		if name := p.service.body.Spec.Selector[key]; isName(name) && !taken(name) {
			return name
		}
	}
	return p.virtual.Name
}
