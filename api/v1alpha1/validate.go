package v1alpha1

import (
	"fmt"
	"net/url"
	"regexp"
	"sort"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds that Validate keeps and the schema repeats.
const (
	maxTraffic  = 8
	maxSteps    = 50
	maxRoutes   = 16
	maxMatches  = 8
	maxBy       = 32
	maxCommand  = 64
	maxMetrics  = 10
	maxSelector = 16
	maxWait     = 30 * 24 * time.Hour // of any single wait
)

// Validate gives everything that is wrong with a document that Default has been
// called on, each with the field's path, what is wrong and what would be right.
// Without problems the document can be acted on. It changes nothing.
func (r *Rollout) Validate() field.ErrorList {
	c := &check{}
	meta := field.NewPath("metadata")
	c.name(meta.Child("name"), r.Name, "this document")
	if r.Namespace != "" {
		c.word(meta.Child("namespace"), r.Namespace)
	}
	spec, s := field.NewPath("spec"), &r.Spec
	c.workload(spec.Child("workload"), &s.Workload)
	c.traffic(spec.Child("traffic"), s)
	c.capacity(spec.Child("capacity"), &s.Capacity)
	c.strategy(spec.Child("strategy"), &s.Strategy)
	c.analysis(spec.Child("analysis"), &s.Analysis)
	c.deadline(spec, s)
	c.promotion(spec, s)
	oneOf(c, spec.Child("drift"), s.Drift, DriftObey, DriftRestore)
	return c.errs
}

// check collects problems.
type check struct{ errs field.ErrorList }

func (c *check) invalid(p *field.Path, value any, format string, args ...any) {
	c.errs = append(c.errs, field.Invalid(p, value, fmt.Sprintf(format, args...)))
}

func (c *check) required(p *field.Path, format string, args ...any) {
	c.errs = append(c.errs, field.Required(p, fmt.Sprintf(format, args...)))
}

// oneOf wants one of the words; empty is what Default would have filled in.
func oneOf[T ~string](c *check, p *field.Path, v T, words ...T) {
	if v == "" {
		return
	}
	for _, w := range words {
		if v == w {
			return
		}
	}
	c.errs = append(c.errs, field.NotSupported(p, v, words))
}

// exactly wants one of the named members.
func (c *check) exactly(p *field.Path, members ...member) bool {
	var names, given []string
	for _, m := range members {
		names = append(names, m.name)
		if m.given {
			given = append(given, m.name)
		}
	}
	switch len(given) {
	case 1:
		return true
	case 0:
		c.required(p, "give one of %s", strings.Join(names, ", "))
	default:
		c.invalid(p, strings.Join(given, " and "), "give one of them, not %d", len(given))
	}
	return false
}

type member struct {
	name  string
	given bool
}

// count bounds a list.
func (c *check) count(p *field.Path, n, most int) {
	if n > most {
		c.errs = append(c.errs, field.TooMany(p, n, most))
	}
}

// length bounds a text.
func (c *check) length(p *field.Path, s string, most int) {
	if len(s) > most {
		c.errs = append(c.errs, field.TooLong(p, s, most))
	}
}

// name wants the name of an object in the same namespace.
func (c *check) name(p *field.Path, name, of string) {
	switch {
	case name == "":
		c.required(p, "the name of %s", of)
	case strings.Contains(name, "/"):
		c.invalid(p, name, "only objects in the rollout's own namespace: give the bare name")
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		c.invalid(p, name, "a name has small letters, digits, - and ., begins and ends with a letter or digit, and has at most 253 of them")
	}
}

// word wants what can be a label's value and part of a host name.
func (c *check) word(p *field.Path, word string) {
	if len(validation.IsDNS1123Label(word)) > 0 {
		c.invalid(p, word, "has small letters, digits and -, begins and ends with a letter or digit, and has at most 63 of them")
	}
}

// wait bounds a time; nil is fine.
func (c *check) wait(p *field.Path, d *Duration, least, most time.Duration) {
	switch {
	case d == nil:
	case d.Duration < least:
		c.invalid(p, d.String(), "at least %s", Duration{least})
	case d.Duration > most:
		c.invalid(p, d.String(), "at most %s", Duration{most})
	}
}

// share bounds a percentage; nil is fine.
func (c *check) share(p *field.Path, v *Percent, least, most Percent) {
	if v != nil && (*v < least || *v > most) {
		c.invalid(p, v.String(), "has to be from %s to %s", least, most)
	}
}

// unique reports entries that stand there twice or say nothing.
func unique[T ~string](c *check, p *field.Path, list []T) {
	seen := map[T]bool{}
	for i, v := range list {
		if strings.TrimSpace(string(v)) == "" {
			c.required(p.Index(i), "an entry may not be empty")
		} else if seen[v] {
			c.errs = append(c.errs, field.Duplicate(p.Index(i), v))
		}
		seen[v] = true
	}
}

func (c *check) workload(p *field.Path, w *Workload) {
	c.exactly(p, member{"versions", w.Versions != nil}, member{"inPlace", w.InPlace != nil})
	if v := w.Versions; v != nil {
		c.versions(p.Child("versions"), v)
	}
	if i := w.InPlace; i != nil {
		c.name(p.Child("inPlace", "name"), i.Name, "the Deployment that is edited in place")
		oneOf(c, p.Child("inPlace", "kind"), i.Kind, InPlaceDeployment)
	}
}

func (c *check) versions(p *field.Path, v *VersionsWorkload) {
	at := p.Child("selector")
	sel := v.Selector
	c.count(at, len(sel.MatchLabels)+len(sel.MatchExpressions), maxSelector)
	if len(sel.MatchLabels)+len(sel.MatchExpressions) == 0 {
		c.required(at, "labels that the Deployments of all versions share, such as matchLabels: {app: my-app}")
	} else if _, err := metav1.LabelSelectorAsSelector(&sel); err != nil {
		c.invalid(at, metav1.FormatLabelSelector(&sel), "%s", err)
	}
	if v.Label == "" {
		return
	}
	for _, why := range validation.IsQualifiedName(v.Label) {
		c.invalid(p.Child("label"), v.Label, "%s", why)
	}
	if one, ok := sel.MatchLabels[v.Label]; ok {
		c.invalid(at.Child("matchLabels").Key(v.Label), one,
			"selects one version only, and %q is the label that tells versions apart: leave it out here", v.Label)
	}
}

func (c *check) traffic(p *field.Path, s *RolloutSpec) {
	traffic := s.Traffic
	c.count(p, len(traffic), maxTraffic)
	if len(traffic) == 0 {
		c.required(p, "at least one route that carries the split, such as istio: {virtualService: my-app-vs, destinationRule: my-app-dest}")
	}
	seen := map[string]int{}
	for i := range traffic {
		t, at := &traffic[i], p.Index(i)
		if !c.exactly(at, member{"istio", t.Istio != nil}, member{"gatewayAPI", t.GatewayAPI != nil}) {
			continue
		}
		route := c.route(at, t)
		if first, twice := seen[route]; twice {
			c.invalid(at, route, "the same route as %s", p.Index(first))
		} else {
			seen[route] = i
		}
		if i := t.Istio; i != nil && i.DestinationRule == "" && s.Workload.InPlace != nil {
			c.required(at.Child("istio", "destinationRule"), "a Deployment that is edited in place is split over subsets: the name of the DestinationRule of its Service")
		}
	}
}

// route checks one entry and gives what identifies it.
func (c *check) route(p *field.Path, t *Traffic) string {
	if g := t.GatewayAPI; g != nil {
		at := p.Child("gatewayAPI")
		oneOf(c, at.Child("kind"), g.Kind, GatewayAPIHTTPRoute, GatewayAPIGRPCRoute)
		c.name(at.Child("name"), g.Name, "the route")
		c.routeNames(at.Child("rules"), g.Rules)
		return string(g.Kind) + "/" + g.Name + " " + strings.Join(g.Rules, ",")
	}
	i, at := t.Istio, p.Child("istio")
	c.name(at.Child("virtualService"), i.VirtualService, "the VirtualService that holds the weights")
	if i.DestinationRule != "" {
		c.name(at.Child("destinationRule"), i.DestinationRule, "the DestinationRule that holds the subsets")
	}
	c.wait(at.Child("settle"), i.Settle, 0, 10*time.Minute)
	c.routeNames(at.Child("routes"), i.Routes)
	return "VirtualService/" + i.VirtualService + " " + strings.Join(i.Routes, ",")
}

func (c *check) routeNames(p *field.Path, names []string) {
	c.count(p, len(names), maxRoutes)
	unique(c, p, names)
	for i, n := range names {
		c.length(p.Index(i), n, 253)
	}
}

func (c *check) capacity(p *field.Path, v *Capacity) {
	c.share(p.Child("headroom"), &v.Headroom, 0, 10*Whole)
	oneOf(c, p.Child("hpa"), v.HPA, HPAHoldMinimum, HPAIgnore)
	c.wait(p.Child("deadline"), v.Deadline, time.Second, maxWait)
}

func (c *check) strategy(p *field.Path, s *Strategy) {
	if s.Canary != nil && s.BlueGreen != nil {
		c.invalid(p, "canary and blueGreen", "give one of them, not 2")
	}
	if v := s.Canary; v != nil {
		at := p.Child("canary")
		oneOf(c, at.Child("revert"), v.Revert, RevertFast, RevertCanary)
		c.steps(at.Child("steps"), v.Steps)
	}
	if b := s.BlueGreen; b != nil {
		at := p.Child("blueGreen")
		oneOf(c, at.Child("revert"), b.Revert, RevertFast, RevertCanary)
		c.test(at.Child("test"), b.Test)
		c.match(at.Child("preview"), b.Preview)
		c.approval(at.Child("approval"), b.Approval)
		if b.Hold != nil && b.Preview == nil {
			c.invalid(at.Child("hold"), b.Hold.String(), "is the time of the preview: give preview too, or use promotion.bake for the time after the switch")
		}
		c.wait(at.Child("hold"), b.Hold, 0, maxWait)
	}
}

func (c *check) steps(p *field.Path, steps []Step) {
	c.count(p, len(steps), maxSteps)
	highest := Percent(0)
	for i := range steps {
		s, at := &steps[i], p.Index(i)
		c.step(at, s)
		if highest == Whole {
			c.invalid(at, s.kind(), "comes after 100%%: the step at 100%% is the last; what follows it is promotion.bake")
		}
		if s.Weight == nil {
			continue
		}
		switch w := *s.Weight; {
		case w <= 0 || w > Whole:
			c.invalid(at.Child("weight"), w.String(), "has to be above 0%% and at most 100%%; before any user sees it there are test and match")
		case w <= highest && highest < Whole:
			c.invalid(at.Child("weight"), w.String(), "has to be above the weight before it, %s", highest)
		}
		if *s.Weight <= Whole { // what is wrong by itself is said once
			highest = max(highest, *s.Weight)
		}
	}
}

// kind names what a step is, for messages.
func (s *Step) kind() string {
	for _, m := range s.members() {
		if m.given {
			return m.name
		}
	}
	return "step"
}

func (s *Step) members() []member {
	return []member{
		{"weight", s.Weight != nil}, {"match", s.Match != nil}, {"approval", s.Approval != nil},
		{"pause", s.Pause != nil}, {"test", s.Test != nil},
	}
}

func (c *check) step(p *field.Path, s *Step) {
	c.exactly(p, s.members()...)
	// Of a step with none of them, or whose weight cannot be read, that is said
	// and not that its hold belongs to nothing.
	if s.Hold != nil && s.Weight == nil && s.Match == nil && (s.Approval != nil || s.Pause != nil || s.Test != nil) {
		remedy := "it belongs to weight and match"
		if s.Pause != nil {
			remedy = "a pause has for: pause: {for: " + s.Hold.String() + "}"
		}
		c.invalid(p.Child("hold"), s.Hold.String(), "%s", remedy)
	}
	c.wait(p.Child("hold"), s.Hold, 0, maxWait)
	c.match(p.Child("match"), s.Match)
	c.approval(p.Child("approval"), s.Approval)
	c.test(p.Child("test"), s.Test)
	if s.Pause != nil {
		c.wait(p.Child("pause", "for"), s.Pause.For, time.Second, maxWait)
	}
}

var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")

func (c *check) match(p *field.Path, m *Match) {
	if m == nil {
		return
	}
	if len(m.Header)+len(m.Cookie) == 0 && m.Path == "" {
		c.required(p, "at least one of header, cookie and path, such as header: {x-canary: \"1\"}")
	}
	c.pairs(p.Child("header"), m.Header)
	c.pairs(p.Child("cookie"), m.Cookie)
	c.length(p.Child("path"), m.Path, 1024)
	if m.Path != "" && !strings.HasPrefix(m.Path, "/") {
		c.invalid(p.Child("path"), m.Path, "a path begins with /: /%s", m.Path)
	}
	if strings.ContainsAny(m.Path, "?#") || !printable(m.Path) {
		c.invalid(p.Child("path"), m.Path, "a path without query and fragment, in printable ASCII")
	}
	lower := map[string]string{}
	for _, name := range sortedKeys(m.Header) {
		if other, twice := lower[strings.ToLower(name)]; twice {
			c.invalid(p.Child("header").Key(name), name, "the same header as %q: names are not case-sensitive", other)
		}
		lower[strings.ToLower(name)] = name
	}
}

func (c *check) pairs(p *field.Path, pairs map[string]string) {
	c.count(p, len(pairs), maxMatches)
	for _, name := range sortedKeys(pairs) {
		at, value := p.Key(name), pairs[name]
		if !token.MatchString(name) {
			c.invalid(at, name, "the name has to be 1 to 128 letters, digits or any of !#$%%&'*+.^_`|~-")
		}
		if value == "" || len(value) > 256 || !printable(value) {
			c.invalid(at, value, "the value has to be 1 to 256 printable ASCII characters, compared exactly")
		}
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func (c *check) approval(p *field.Path, a *Approval) {
	if a == nil {
		return
	}
	c.count(p.Child("by"), len(a.By), maxBy)
	unique(c, p.Child("by"), a.By)
	for i, who := range a.By {
		c.length(p.Child("by").Index(i), who, 253)
	}
	c.wait(p.Child("until"), a.Until, time.Second, maxWait)
}

func (c *check) test(p *field.Path, t *Test) {
	if t == nil {
		return
	}
	c.exactly(p, member{"command", len(t.Command) > 0}, member{"webhook", t.Webhook != nil}, member{"job", t.Job != nil})
	c.count(p.Child("command"), len(t.Command), maxCommand)
	for i, arg := range t.Command {
		c.length(p.Child("command").Index(i), arg, 4096)
		if strings.ContainsRune(arg, 0) {
			c.invalid(p.Child("command").Index(i), arg, "an argument cannot carry a zero byte")
		}
	}
	if len(t.Command) > 0 && t.Command[0] == "" {
		c.required(p.Child("command").Index(0), "the program to run")
	}
	if t.Webhook != nil {
		c.webhook(p.Child("webhook", "url"), t.Webhook.URL)
	}
	if t.Job != nil {
		c.name(p.Child("job", "cronJob"), t.Job.CronJob, "the CronJob whose job is run")
	}
	c.wait(p.Child("timeout"), t.Timeout, time.Second, 24*time.Hour)
}

func (c *check) webhook(p *field.Path, raw string) {
	c.length(p, raw, 2048)
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		c.required(p, "where to ask, such as https://checks.example.com/canary")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		c.invalid(p, raw, "has to be an http or https address, such as https://checks.example.com/canary")
	case u.User != nil:
		c.invalid(p, "(with a password)", "a password in an address is shown to everybody who may read the document")
	}
}

func (c *check) analysis(p *field.Path, a *Analysis) {
	if a.None != nil {
		c.none(p, a)
	}
	oneOf(c, p.Child("source"), a.Source, SourceAuto, SourcePrometheus, SourcePods, SourceGateway)
	c.skip(p.Child("skip"), a)
	if e := a.ErrorRate; e != nil {
		c.errorRate(p.Child("errorRate"), e)
	}
	if l := a.Latency; l != nil {
		c.latency(p.Child("latency"), l)
	}
	c.resource(p.Child("cpu"), a.CPU, "500m")
	c.resource(p.Child("memory"), a.Memory, "300Mi")
	c.metrics(p.Child("metrics"), a.Metrics)
	if n := a.MinRequests; n != nil && (*n < 0 || *n > 1e9) {
		c.invalid(p.Child("minRequests"), *n, "has to be from 0 to 1000000000")
	}
	c.wait(p.Child("deadline"), a.Deadline, time.Second, 2*maxWait)
	oneOf(c, p.Child("onUndecided"), a.OnUndecided, UndecidedAdvance, UndecidedPause, UndecidedRollBack)
	if a.OnUnavailable == "Advance" {
		c.invalid(p.Child("onUnavailable"), a.OnUnavailable, "nothing advances without data: Pause or RollBack; a release without judgement says analysis.none with its reason")
	} else {
		oneOf(c, p.Child("onUnavailable"), a.OnUnavailable, UnavailablePause, UnavailableRollBack)
	}
	if f := a.FalseRollback; f != nil && (*f <= 0 || *f > Whole/10) {
		c.invalid(p.Child("falseRollback"), f.String(), "has to be above 0%% and at most 10%%")
	}
}

func (c *check) none(p *field.Path, a *Analysis) {
	if n := len(strings.TrimSpace(a.None.Reason)); n < 10 {
		c.invalid(p.Child("none", "reason"), a.None.Reason, "say in at least 10 characters why nothing is judged: it is shown with every release")
	}
	c.length(p.Child("none", "reason"), a.None.Reason, 1024)
	for _, m := range []member{
		{"errorRate", a.ErrorRate != nil}, {"latency", a.Latency != nil}, {"cpu", a.CPU != nil},
		{"memory", a.Memory != nil}, {"metrics", len(a.Metrics) > 0}, {"skip", len(a.Skip) > 0},
	} {
		if m.given {
			c.errs = append(c.errs, field.Forbidden(p.Child(m.name), "none says that nothing is judged: remove none or this"))
		}
	}
}

func (c *check) skip(p *field.Path, a *Analysis) {
	c.count(p, len(a.Skip), 2)
	unique(c, p, a.Skip)
	for i, m := range a.Skip {
		oneOf(c, p.Index(i), m, MetricErrorRate, MetricLatency)
		if (m == MetricErrorRate && a.ErrorRate != nil) || (m == MetricLatency && a.Latency != nil) {
			c.invalid(p.Index(i), m, "is asked for beside it: remove one of them")
		}
	}
	if a.None == nil && a.skips(MetricErrorRate) && a.skips(MetricLatency) &&
		a.CPU == nil && a.Memory == nil && len(a.Metrics) == 0 {
		c.invalid(p, "errorRate and latency", "nothing is left to judge: say analysis.none with its reason")
	}
}

func (c *check) errorRate(p *field.Path, e *ErrorRate) {
	if v := e.WorseBy; v != nil && (*v <= 0 || *v > maxPoints) {
		c.invalid(p.Child("worseBy"), v.String(), "has to be above 0pp and at most 100pp")
	}
	c.share(p.Child("max"), e.Max, 1, Whole)
	c.forLimit(p, e.For, e.Max != nil)
}

func (c *check) latency(p *field.Path, l *Latency) {
	if q := l.Quantile; q != nil && !(*q >= 50 && *q <= 99.99) {
		c.invalid(p.Child("quantile"), q.String(), "is in percent, from 50 to 99.99: 99 is the 99th percentile")
	}
	if l.Max != nil && l.Quantile == nil {
		c.required(p.Child("quantile"), "max bounds a quantile: say which, such as 99")
	}
	c.worseBy(p, l.WorseBy)
	c.wait(p.Child("max"), l.Max, time.Millisecond, time.Hour)
	c.forLimit(p, l.For, l.Max != nil)
}

func (c *check) resource(p *field.Path, u *ResourceUse, example string) {
	if u == nil {
		return
	}
	c.worseBy(p, u.WorseBy)
	if u.Max != nil && u.Max.Sign() <= 0 {
		c.invalid(p.Child("max"), u.Max.String(), "has to be above 0, such as %s", example)
	}
	c.forLimit(p, u.For, u.Max != nil)
}

func (c *check) worseBy(p *field.Path, v *Percent) {
	if v != nil && (*v <= 0 || *v > 10*Whole) {
		c.invalid(p.Child("worseBy"), v.String(), "has to be above 0%% and at most 1000%%")
	}
}

func (c *check) forLimit(p *field.Path, d *Duration, limit bool) {
	if d != nil && !limit {
		c.invalid(p.Child("for"), d.String(), "says how long max has to be broken: give max too")
	}
	c.wait(p.Child("for"), d, 0, 24*time.Hour)
}

var placeholder = regexp.MustCompile(`\{\{[^{}]*\}\}`)

func (c *check) metrics(p *field.Path, metrics []Metric) {
	c.count(p, len(metrics), maxMetrics)
	seen := map[string]bool{}
	for i := range metrics {
		m, at := &metrics[i], p.Index(i)
		if seen[m.Name] {
			c.errs = append(c.errs, field.Duplicate(at.Child("name"), m.Name))
		}
		seen[m.Name] = true
		c.metric(at, m)
	}
}

func (c *check) metric(p *field.Path, m *Metric) {
	if m.Name == "" {
		c.required(p.Child("name"), "what it is called in messages, such as checkout-success")
	} else {
		c.word(p.Child("name"), m.Name)
	}
	switch {
	case m.Prometheus == nil:
		c.required(p, "where the number comes from, such as prometheus: {query: ...}")
	case strings.TrimSpace(m.Prometheus.Query) == "":
		c.required(p.Child("prometheus", "query"), "a query that gives one number; {{version}} stands for the version")
	default:
		q := p.Child("prometheus", "query")
		c.length(q, m.Prometheus.Query, 4096)
		for _, h := range placeholder.FindAllString(m.Prometheus.Query, 4) {
			if h != "{{version}}" && h != "{{namespace}}" {
				c.invalid(q, h, "there are {{version}} and {{namespace}}")
			}
		}
	}
	if m.Min == nil && m.Max == nil {
		c.required(p, "a limit: min, max or both")
	}
	if m.Min != nil && m.Max != nil && *m.Min > *m.Max {
		c.invalid(p.Child("min"), m.Min.String(), "is above max, %s: no number could be right", m.Max)
	}
	c.wait(p.Child("for"), m.For, 0, 24*time.Hour)
}

// deadline wants time for the evidence beyond the longest hold.
func (c *check) deadline(p *field.Path, s *RolloutSpec) {
	d, hold := s.Analysis.Deadline, s.Strategy.longestHold()
	if d != nil && d.Duration < hold {
		c.invalid(p.Child("analysis", "deadline"), d.String(), "is shorter than the longest hold, %s: the deadline would decide before the hold ends", Duration{hold})
	}
}

func (c *check) promotion(p *field.Path, s *RolloutSpec) {
	at, v := p.Child("promotion"), &s.Promotion
	c.wait(at.Child("bake"), v.Bake, 0, maxWait)
	c.wait(at.Child("retireAfter"), v.RetireAfter, 0, maxWait)
	c.share(at.Child("control"), &v.Control, 0, Whole/2)
	oneOf(c, at.Child("retire"), v.Retire, RetireScaleToZero, RetireDelete, RetireKeep)
	oneOf(c, p.Child("rollback", "retire"), s.Rollback.Retire, RetireScaleToZero, RetireDelete, RetireKeep)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
