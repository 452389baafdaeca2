package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

func isName(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }

// app makes an App of its parts.
func (l *loader) app(p parts) App {
	before := len(l.problems)
	a := App{
		Name: p.rollout.Name, Namespace: p.rollout.Namespace, Rollout: p.rollout,
		InPlace: p.label == "", Label: p.label,
	}
	var portOf func(version string) servicePort
	if len(p.own) > 0 {
		a.Service, portOf = l.servicesOf(p)
		a.Subsets = p.subsets()
	} else {
		var port servicePort
		a.Service, port = l.service(p)
		portOf = func(string) servicePort { return port }
		a.Subsets = l.subsets(p)
	}
	a.Route = l.route(p, a)
	for _, d := range p.deployments {
		if v, ok := l.version(p, d, portOf(d.body.Spec.Template.Metadata.Labels[p.label])); ok {
			a.Versions = append(a.Versions, v)
		}
	}
	slices.SortFunc(a.Versions, func(x, y Version) int { return cmp.Compare(x.Label, y.Label) })
	if len(l.problems) > before {
		return a // never seen: a Set with problems is none
	}
	a.Declared, a.Stable = l.declared(p, a)
	a.Findings = diagnose(p, a)
	return a
}

// service is the one Service, with the port that the route means.
func (l *loader) service(p parts) (Service, servicePort) {
	s := Service{Name: p.service.Name, Namespace: p.service.Namespace, Selector: p.service.body.Spec.Selector}
	port, ok := l.port(p, p.service)
	if !ok {
		return s, port
	}
	s.Port, s.TargetPort = int(port.Port), port.TargetPort.String()
	s.HTTP2 = isHTTP2(port) || upgraded(p.destination.body.Spec.TrafficPolicy)
	if s.HTTP2 {
		l.noConnections(p)
	}
	return s, port
}

// port picks the port of a Service that the route means.
func (l *loader) port(p parts, service read[serviceObject]) (servicePort, bool) {
	ports := service.body.Spec.Ports
	asked := map[int32]string{}
	ask := func(d destinationObject, at string) {
		if n := d.Port.Number; n != 0 && asked[n] == "" && (len(p.own) == 0 || means(d.Host, p.virtual.Namespace, service.Name, service.Namespace)) {
			asked[n] = at
		}
	}
	for i, h := range p.virtual.body.Spec.HTTP {
		for j, d := range h.Route {
			ask(d.Destination, fmt.Sprintf("spec.http[%d].route[%d].destination.port.number", i, j))
		}
		for at, m := range l.mirrored(p.virtual.where, fmt.Sprintf("spec.http[%d]", i), h) {
			ask(m.to, at)
		}
	}
	var port servicePort
	switch {
	case len(ports) == 0:
		l.wrong(service.where, "spec.ports", "is missing: the port that callers use")
		return port, false
	case len(asked) > 1:
		l.wrong(p.virtual.where, "spec.http", "sends to %d ports: one port of a Service can be routed here", len(asked))
		return port, false
	case len(asked) == 0 && len(ports) > 1:
		if i := onlyOne(ports, isHTTP); i >= 0 {
			port = ports[i]
		} else if i := onlyOne(ports, isHTTP2); i >= 0 && !slices.ContainsFunc(ports, isHTTP) {
			port = ports[i]
		} else {
			l.wrong(service.where, "spec.ports", "there are %d: name the one that is routed http, or say destination.port.number in %s", len(ports), p.virtual.object())
			return port, false
		}
	default:
		port = ports[0]
		for n, field := range asked {
			i := slices.IndexFunc(ports, func(p servicePort) bool { return p.Port == n })
			if i < 0 {
				l.wrong(p.virtual.where, field, "Service/%s has no port %d", service.Name, n)
				return port, false
			}
			port = ports[i]
		}
	}
	if port.Port < 1 || port.Port > 65535 {
		l.wrong(service.where, "spec.ports", "%d: a port is from 1 to 65535", port.Port)
	}
	if !port.TargetPort.given() {
		port.TargetPort.Number = int(port.Port)
	}
	return port, true
}

func isHTTP(p servicePort) bool { return p.Name == "http" || strings.HasPrefix(p.Name, "http-") }

// onlyOne gives the index of the only port of its kind, or -1.
func onlyOne(ports []servicePort, is func(servicePort) bool) int {
	i := slices.IndexFunc(ports, is)
	if i >= 0 && slices.ContainsFunc(ports[i+1:], is) {
		return -1
	}
	return i
}

// isHTTP2 says whether the pods speak HTTP/2: what the port is called, unless
// it says its protocol, decides as in a mesh.
func isHTTP2(p servicePort) bool {
	name, _, _ := strings.Cut(p.Name, "-")
	switch p.AppProtocol {
	case "":
		return name == "http2" || name == "grpc"
	case "http2", "grpc", "kubernetes.io/h2c":
		return true
	}
	return false
}

func upgraded(p *trafficPolicyObject) bool {
	return p != nil && p.ConnectionPool.HTTP.H2UpgradePolicy == "UPGRADE"
}

// noConnections refuses a bound on connections where one carries many requests.
func (l *loader) noConnections(p parts) {
	o := p.destination.body.Spec
	at := map[string]*trafficPolicyObject{"spec.trafficPolicy": o.TrafficPolicy}
	for i, s := range o.Subsets {
		at[fmt.Sprintf("spec.subsets[%d].trafficPolicy", i)] = s.TrafficPolicy
	}
	for field, t := range at {
		if t != nil && t.ConnectionPool.TCP.MaxConnections != nil {
			l.wrong(p.destination.where, field+".connectionPool.tcp.maxConnections", "the pods speak HTTP/2, where a connection carries many requests: bound them with http.http2MaxRequests")
		}
	}
}

func (l *loader) subsets(p parts) []Subset {
	var subsets []Subset
	names, versions := map[string]bool{}, map[string]string{}
	for i, o := range p.destination.body.Spec.Subsets {
		at := fmt.Sprintf("spec.subsets[%d]", i)
		version, has := o.Labels[p.label]
		switch {
		case o.Name == "":
			l.wrong(p.destination.where, at+".name", "is missing")
		case names[o.Name]:
			l.wrong(p.destination.where, at+".name", "%s is given twice", clip(o.Name))
		case p.label == "":
		case !has || version == "":
			l.wrong(p.destination.where, at+".labels", "the label %s is missing: it tells the versions of Rollout/%s apart; add %s: NAME", p.label, p.rollout.Name, p.label)
		case versions[version] != "":
			l.wrong(p.destination.where, at+".labels", "%s=%s is subset %s already", p.label, clip(version), versions[version])
		}
		names[o.Name], versions[version] = true, o.Name
		limit := l.limit(p.destination.where, at+".trafficPolicy", o.TrafficPolicy)
		subsets = append(subsets, Subset{Name: o.Name, Labels: o.Labels, Version: version, Limit: limit})
	}
	return subsets
}

func (l *loader) route(p parts, a App) Route {
	o := p.virtual.body
	policy := p.destination.body.Spec.TrafficPolicy
	r := Route{
		Name:   p.virtual.Name,
		Sticky: l.sticky(p.destination.where, "spec.trafficPolicy.loadBalancer.consistentHash", policy),
		Limit:  l.limit(p.destination.where, "spec.trafficPolicy", policy),
	}
	l.hosts(p, &r)
	split := l.splits(p)
	for i, h := range o.Spec.HTTP {
		at := fmt.Sprintf("spec.http[%d]", i)
		rule := Rule{Name: h.Name, Split: slices.Contains(split, i), Policy: l.policy(p.virtual.where, at, h)}
		rule.Mirrors = l.mirrors(p, a, at, h)
		for j, m := range h.Match {
			rule.Match = append(rule.Match, l.match(p.virtual.where, fmt.Sprintf("%s.match[%d]", at, j), m))
		}
		rule.To = l.to(p, a, at, h)
		r.Rules = append(r.Rules, rule)
	}
	return r
}

const maxHosts = 64

// hostNames looks at each host by itself.
func (l *loader) hostNames(w where, hosts []string) {
	if len(hosts) == 0 || len(hosts) > maxHosts {
		l.wrong(w, "spec.hosts", "%d hosts: 1 to %d are meant", len(hosts), maxHosts)
		return
	}
	for i, host := range hosts {
		switch h := strings.ToLower(host); {
		case h == "*":
		case strings.Contains(h, "*"):
			l.wrong(w, fmt.Sprintf("spec.hosts[%d]", i), "%q: the gateway of one machine knows whole names and * alone", clip(h))
		case !isName(h):
			l.wrong(w, fmt.Sprintf("spec.hosts[%d]", i), "%q: a host name is meant", clip(h))
		}
	}
}

func (l *loader) hosts(p parts, r *Route) {
	for _, host := range p.virtual.body.Spec.Hosts {
		switch h := strings.ToLower(host); h {
		case "*":
			r.AnyHost = true
		default:
			r.Hosts = append(r.Hosts, h)
			if means(h, p.virtual.Namespace, p.service.Name, p.service.Namespace) {
				r.Hosts = append(r.Hosts, p.service.Name)
				r.Hosts = append(r.Hosts, longNames(p.service.Name, p.service.Namespace)...)
			}
		}
	}
	slices.Sort(r.Hosts)
	r.Hosts = slices.Compact(r.Hosts)
}

// splits gives the indices of the rules whose weights the rollout moves.
func (l *loader) splits(p parts) []int {
	var all, named []int
	var names, nameless []string
	for i, h := range p.virtual.body.Spec.HTTP {
		all = append(all, i)
		if h.Name == "" {
			nameless = append(nameless, fmt.Sprintf("http[%d]", i))
		} else {
			names = append(names, h.Name)
		}
		if h.Name != "" && slices.Contains(p.routes, h.Name) {
			named = append(named, i)
		}
	}
	there := func(meant string) string {
		switch {
		case len(nameless) == 0:
			return thereAre(names, meant)
		case len(names) == 0:
			return "none has a name: give each one, such as name: main"
		}
		return thereAre(names, meant) + "; " + strings.Join(firstFew(nameless), ", ") + " without a name"
	}
	for i, want := range p.routes {
		if !slices.Contains(names, want) {
			l.wrong(p.where, fmt.Sprintf("spec.traffic[0].istio.routes[%d]", i), "%s has no route %s; %s", p.virtual.object(), clip(want), there(want))
		}
	}
	switch {
	case len(p.routes) > 0:
		return named
	case len(all) > 1:
		l.wrong(p.virtual.where, "spec.http", "%d routes lead to the application: say in the Rollout's traffic[0].istio.routes which of them carry the split; %s", len(all), there(""))
	case len(all) == 0:
		l.wrong(p.virtual.where, "spec.http", "has no route")
	}
	return all
}

// maxRegex and maxMatched bound what a condition is compared with, in bytes.
const (
	maxRegex   = 1024
	maxMatched = 4096
)

func (l *loader) match(w where, at string, m httpMatch) Match {
	var out Match
	if m.URI != nil {
		out.Path = l.text(w, at+".uri", *m.URI)
		if p := out.Path; p != nil && (p.Kind == Exact || p.Kind == Prefix) && !strings.HasPrefix(p.Value, "/") {
			l.wrong(w, at+".uri", "%q: a path begins with /", clip(p.Value))
		}
		if out.Path != nil && out.Path.Kind == Present {
			l.wrong(w, at+".uri", "give one of exact, prefix, regex")
		}
	}
	if m.Method != nil && m.Method.Prefix == nil && m.Method.Regex == nil { // these are refused by name
		if m.Method.Exact == nil || !methodName.MatchString(*m.Method.Exact) {
			l.wrong(w, at+".method", "exact is meant, with a method such as GET")
		} else {
			out.Method = *m.Method.Exact
		}
	}
	if m.Scheme != nil && m.Scheme.Prefix == nil && m.Scheme.Regex == nil {
		if s := m.Scheme.Exact; s == nil || *s != "http" && *s != "https" {
			l.wrong(w, at+".scheme", "exact is meant, with http or https")
		} else {
			out.Scheme = *s
		}
	}
	out.AnyCase = m.IgnoreURICase
	out.Headers = l.named(w, at, "headers", m.Headers)
	out.Without = l.named(w, at, "withoutHeaders", m.WithoutHeaders)
	out.Query = l.named(w, at, "queryParams", m.QueryParams)
	return out
}

// named reads conditions on headers or parameters, by name.
func (l *loader) named(w where, at, what string, all map[string]stringMatch) []NamedMatch {
	var out []NamedMatch
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if what != "queryParams" && !headerName.MatchString(name) {
			l.wrong(w, at+"."+what, "%q: a header's name in small letters is meant", clip(name))
			continue
		}
		if what != "queryParams" {
			l.arrives(w, at+"."+what, name)
		}
		if v := l.text(w, at+"."+what+"["+name+"]", all[name]); v != nil {
			out = append(out, NamedMatch{Name: name, Value: *v})
		}
	}
	return out
}

// arrives refuses a condition on a header that the gateway lets through to nobody.
func (l *loader) arrives(w where, at, name string) {
	if strings.Contains(name, "_") {
		l.wrong(w, at, "%q: the gateway drops headers with _ in their name, which many programs take for -: %s is meant, perhaps", clip(name), clip(strings.ReplaceAll(name, "_", "-")))
	}
}

var (
	methodName = regexp.MustCompile(`^[A-Z]{1,32}$`)
	headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9a-z-]{1,128}$") // Istio wants small letters
)

func (l *loader) text(w where, at string, m stringMatch) *StringMatch {
	var all []StringMatch
	for _, k := range []struct {
		kind  MatchKind
		value *string
	}{{Exact, m.Exact}, {Prefix, m.Prefix}, {Regex, m.Regex}} {
		if k.value != nil {
			all = append(all, StringMatch{Kind: k.kind, Value: *k.value})
		}
	}
	if len(all) == 0 {
		return &StringMatch{Kind: Present}
	}
	if len(all) > 1 {
		l.wrong(w, at, "give one of exact, prefix, regex, not %d", len(all))
		return nil
	}
	if v := all[0]; v.Kind != Regex && len(v.Value) > maxMatched {
		l.wrong(w, at, "%d bytes: %d can be read", len(v.Value), maxMatched)
		return nil
	}
	if v := all[0]; v.Kind == Regex {
		if len(v.Value) > maxRegex {
			l.wrong(w, at+".regex", "%d characters: %d can be read", len(v.Value), maxRegex)
			return nil
		}
		if _, err := regexp.Compile(v.Value); err != nil {
			l.wrong(w, at+".regex", "%s", err)
			return nil
		}
	}
	return &all[0]
}

// to reads a rule's destinations; their weights become 1/10000.
func (l *loader) to(p parts, a App, at string, h httpRoute) []Destination {
	if len(h.Route) == 0 {
		l.wrong(p.virtual.where, at+".route", "is missing: a destination")
		return nil
	}
	var to []Destination
	var weights []int
	for j, d := range h.Route {
		field := fmt.Sprintf("%s.route[%d]", at, j)
		dest, ok := l.subsetOf(p, a, field+".destination", d.Destination)
		weight := 0
		switch {
		case d.Weight == nil && len(h.Route) == 1:
			weight = 100
		case d.Weight == nil:
		case *d.Weight < 0 || *d.Weight > 1_000_000:
			l.wrong(p.virtual.where, field+".weight", "%d: from 0 to 100 is meant", *d.Weight)
			ok = false
		default:
			weight = int(*d.Weight)
		}
		if !ok {
			continue
		}
		if i := slices.IndexFunc(to, func(o Destination) bool { return o.Subset == dest.Subset }); i >= 0 {
			weights[i] += weight
			continue
		}
		to, weights = append(to, dest), append(weights, weight)
	}
	if len(to) == 0 {
		return nil
	}
	if len(h.Route) == 1 && weights[0] == 0 {
		weights[0] = 100 // as Istio does: the only destination gets everything
	}
	shares, ok := proportions(weights)
	if !ok {
		l.wrong(p.virtual.where, at+".route", "all weights are 0: nobody would answer")
	}
	for i := range to {
		to[i].Weight = shares[i]
	}
	return to
}

// subsetOf gives the version that a destination means.
func (l *loader) subsetOf(p parts, a App, field string, d destinationObject) (Destination, bool) {
	if len(p.own) > 0 {
		return l.ownOf(p, field, d)
	}
	host := d.Host
	if !means(host, p.virtual.Namespace, p.service.Name, p.service.Namespace) {
		if _, there := l.serviceFor(host, p.virtual.where, field+".host"); there {
			l.wrong(p.virtual.where, field+".host", "%s is another Service than %s: one VirtualService leads to one Service here", clip(host), p.service.Name)
		}
		return Destination{}, false
	}
	name := d.Subset
	if name == "" {
		return Destination{}, true
	}
	for _, s := range a.Subsets {
		if s.Name == name {
			return Destination{Subset: name, Version: s.Version}, true
		}
	}
	l.wrong(p.virtual.where, field+".subset", "%s has no subset %s; %s", p.destination.object(), clip(name), thereAre(subsetNames(a), name))
	return Destination{}, false
}

func subsetNames(a App) []string {
	var names []string
	for _, s := range a.Subsets {
		names = append(names, s.Name)
	}
	return names
}

// proportions turns weights into shares of 10000 that sum up to it; what is
// left by rounding goes to the largest remainders, the first one first.
func proportions(weights []int) ([]int, bool) {
	const whole = 10000
	total := 0
	for _, w := range weights {
		total += w
	}
	shares := make([]int, len(weights))
	if total == 0 {
		return shares, false
	}
	left := whole
	order := make([]int, len(weights))
	for i, w := range weights {
		shares[i] = w * whole / total
		left -= shares[i]
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(weights[b]*whole%total, weights[a]*whole%total)
	})
	for _, i := range order[:left] {
		shares[i]++
	}
	return shares, true
}

// version reads a Deployment.
func (l *loader) version(p parts, d read[deploymentObject], port servicePort) (Version, bool) {
	before := len(l.problems)
	spec := &d.body.Spec
	template := "spec.template.spec"
	v := Version{
		Deployment: d.Name, Namespace: d.Namespace, File: d.file,
		Labels: spec.Template.Metadata.Labels, Replicas: 1, Grace: 30 * time.Second,
	}
	if spec.Replicas != nil {
		v.Replicas = int(*spec.Replicas)
	}
	if v.Replicas < 0 || v.Replicas > maxReplicas {
		l.wrong(d.where, "spec.replicas", "%d: from 0 to %d are meant", v.Replicas, maxReplicas)
	}
	if g := spec.Template.Spec.TerminationGracePeriodSeconds; g != nil {
		if *g < 0 || *g > 3600 {
			l.wrong(d.where, template+".terminationGracePeriodSeconds", "%d: from 0 to 3600 is meant", *g)
		} else {
			v.Grace = time.Duration(*g) * time.Second
		}
	}
	l.selectorMatches(d)
	if n := len(spec.Template.Spec.Containers); n != 1 {
		l.wrong(d.where, template+".containers", "there are %d: a replica on one machine is one process, so one container is meant", n)
		return v, false
	}
	c := spec.Template.Spec.Containers[0]
	at := template + ".containers[0]"
	l.command(d.where, at, c, &v)
	for i, e := range c.Env {
		if e.Name == "" || strings.ContainsAny(e.Name, "=\x00") || strings.ContainsRune(e.Value, 0) {
			l.wrong(d.where, fmt.Sprintf("%s.env[%d]", at, i), "a name without = and a value without zero bytes are meant")
		}
		v.Env = append(v.Env, EnvVar{Name: e.Name, Value: e.Value})
	}
	v.Dir = c.WorkingDir
	if v.FromRun {
		v.Dir = "" // the line was written for this machine, workingDir for the image
	}
	v.ContainerPort = l.containerPort(d.where, at, c, port)
	if c.ReadinessProbe != nil {
		v.Ready = l.probe(d.where, at, c, v.ContainerPort)
	}
	if raw, err := d.doc.JSONAt("spec", "template"); err != nil {
		l.wrong(d.where, "spec.template", "%s", err)
	} else {
		v.Hash = TemplateHash(raw)
	}
	v.Label = l.label(p, d, v)
	v.Revision = v.Label + "@" + v.Hash
	return v, len(l.problems) == before
}

const maxReplicas = 100

// selectorMatches wants what the API server wants: a selector that selects the
// Deployment's own pods.
func (l *loader) selectorMatches(d read[deploymentObject]) {
	want, have := d.body.Spec.Selector.MatchLabels, d.body.Spec.Template.Metadata.Labels
	if len(want) == 0 {
		l.wrong(d.where, "spec.selector.matchLabels", "is missing: the labels of the Deployment's own pods")
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if have[k] != want[k] {
			l.wrong(d.where, "spec.selector.matchLabels["+k+"]", "is %s, and the template's label is %q: a cluster refuses a Deployment that does not select its own pods", clip(want[k]), clip(have[k]))
		}
	}
}

// command says how a replica is started.
func (l *loader) command(w where, at string, c containerObject, v *Version) {
	v.Image = c.Image
	if run := l.options.Run[c.Image]; len(run) > 0 {
		v.Command, v.FromRun = slices.Clone(run), true
		return
	}
	v.Command = append(slices.Clone(c.Command), c.Args...)
	for i, word := range v.Command {
		if strings.ContainsRune(word, 0) {
			l.wrong(w, at+".command", "word %d has a zero byte, which no argument can carry", i)
		}
	}
	switch {
	case len(c.Command) > 0 && c.Command[0] != "", l.options.Unstarted:
	case c.Image == "":
		l.wrong(w, at, "has neither image nor command: how is it started?")
	default:
		program := "./" + imageName(c.Image)
		for _, a := range c.Args {
			program += " " + a
		}
		l.wrong(w, at+".image", "%s is not run as a container here, and the container has no command: say how it starts, with --run %s='%s' or with command in the container",
			clip(c.Image), clip(c.Image), clip(program))
	}
}

// imageName gives the last part of an image's name without its tag.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ := strings.Cut(image, ":")
	return name
}

// imageTag gives an image's tag, or "".
func imageTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	_, tag, _ := strings.Cut(image, ":")
	return tag
}

// containerPort gives the port that the Service means in this container.
func (l *loader) containerPort(w where, at string, c containerObject, port servicePort) int {
	want := port.TargetPort
	if want.Name == "" {
		return want.Number
	}
	var names []string
	for _, p := range c.Ports {
		if p.Name == want.Name {
			return int(p.ContainerPort)
		}
		if p.Name != "" {
			names = append(names, p.Name)
		}
	}
	there := "none has a name"
	if len(names) > 0 {
		there = "there are " + strings.Join(firstFew(names), ", ")
	}
	l.wrong(w, at+".ports", "the Service's targetPort is %s, and no port has this name; %s", want.Name, there)
	return 0
}

func (l *loader) probe(w where, at string, c containerObject, own int) Probe {
	o, at := c.ReadinessProbe, at+".readinessProbe"
	seconds := func(field string, n int32) time.Duration {
		if n < 0 || n > 3600 {
			l.wrong(w, at+"."+field, "%d: from 0 to 3600 is meant", n)
			return 0
		}
		return time.Duration(n) * time.Second
	}
	count := func(field string, n int32) int {
		if n < 0 || n > 1000 {
			l.wrong(w, at+"."+field, "%d: from 1 to 1000 is meant", n)
			return 0
		}
		return int(n)
	}
	p := Probe{
		InitialDelay:     seconds("initialDelaySeconds", o.InitialDelaySeconds),
		Period:           seconds("periodSeconds", o.PeriodSeconds),
		Timeout:          seconds("timeoutSeconds", o.TimeoutSeconds),
		SuccessThreshold: count("successThreshold", o.SuccessThreshold),
		FailureThreshold: count("failureThreshold", o.FailureThreshold),
	}
	switch {
	case (o.HTTPGet == nil) == (o.TCPSocket == nil):
		l.wrong(w, at, "give one of httpGet and tcpSocket")
	case o.TCPSocket != nil:
		l.probePort(w, at+".tcpSocket.port", c, o.TCPSocket.Port, own)
	default:
		get := o.HTTPGet
		l.probePort(w, at+".httpGet.port", c, get.Port, own)
		if get.Scheme != "" && get.Scheme != "HTTP" && get.Scheme != "HTTPS" {
			l.wrong(w, at+".httpGet.scheme", "%q: HTTP or HTTPS is meant", clip(get.Scheme))
		}
		p.HTTP = &HTTPGet{Path: cmp.Or(get.Path, "/"), HTTPS: get.Scheme == "HTTPS"}
		for _, h := range get.HTTPHeaders {
			p.HTTP.Headers = append(p.HTTP.Headers, EnvVar(h))
		}
	}
	return p
}

// probePort wants the probe to ask where requests go: every replica has one
// port here, and two replicas could not share another.
func (l *loader) probePort(w where, at string, c containerObject, port portRef, own int) {
	n := port.Number
	for _, p := range c.Ports {
		if port.Name != "" && p.Name == port.Name {
			n = int(p.ContainerPort)
		}
	}
	if n != own {
		l.wrong(w, at, "%s is not the port that requests go to (%d): a replica has one port on this machine", port, own)
	}
}

// label gives the version's name.
func (l *loader) label(p parts, d read[deploymentObject], v Version) string {
	at := "spec.template.metadata.labels"
	if p.label == "" {
		// The tag is what people change; two templates with one tag differ in
		// their hash.
		label := cmp.Or(v.Labels["version"], v.Labels["app.kubernetes.io/version"], imageTag(v.Image))
		if label == "" || len(validation.IsValidLabelValue(label)) > 0 {
			return v.Hash
		}
		return label
	}
	label := v.Labels[p.label]
	switch {
	case label == "":
		l.wrong(d.where, at, "the label %s is missing: it tells the versions of Rollout/%s apart; add %s: NAME", p.label, p.rollout.Name, p.label)
	case len(validation.IsValidLabelValue(label)) > 0:
		l.wrong(d.where, at+"["+p.label+"]", "%q: %s", clip(label), strings.Join(validation.IsValidLabelValue(label), "; "))
	default:
		for _, other := range p.deployments {
			if other.body.Spec.Template.Metadata.Labels[p.label] == label && other.Name < d.Name {
				l.wrong(d.where, at+"["+p.label+"]", "%s is the version of %s (%s) too: give each version a label of its own", label, other.object(), other.at(at))
				break
			}
		}
	}
	return label
}

// declared gives what the files' route sends to each version.
func (l *loader) declared(p parts, a App) (map[string]int, []string) {
	var all []string
	for _, v := range a.Versions {
		all = append(all, v.Label)
	}
	var weights map[string]int
	for i, r := range a.Route.Rules {
		if !r.Split || a.InPlace {
			continue
		}
		to, whole := map[string]int{}, false
		for _, d := range r.To {
			to[d.Version] += d.Weight
			whole = whole || d.Version == ""
		}
		switch {
		case whole && len(r.To) == 1:
			return nil, all // the whole Service: any version that is there
		case whole:
			l.wrong(p.virtual.where, fmt.Sprintf("spec.http[%d].route", i), "names a subset in one destination and none in another: give each its subset")
		case weights != nil && !maps.Equal(weights, to):
			l.wrong(p.virtual.where, fmt.Sprintf("spec.http[%d].route", i), "has other weights than the routes before it that carry the split: give them the same")
		}
		weights = to
	}
	if weights == nil {
		return nil, all
	}
	var stable []string
	for _, version := range slices.Sorted(maps.Keys(weights)) {
		if weights[version] > 0 {
			stable = append(stable, version)
		}
	}
	return weights, stable
}

func percent(weight int) string {
	return strings.TrimSuffix(strings.TrimSuffix(strconv.FormatFloat(float64(weight)/100, 'f', 2, 64), "0"), ".0") + " %"
}
