package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/router/embedded"
	"github.com/serin-dev/serin/internal/workload/process"
	"github.com/serin-dev/serin/internal/workload/versions"
)

// plan is what the documents say about one application, in the words of the
// parts that carry it out.
type plan struct {
	name string // "my-app", or "namespace/my-app" outside the default namespace
	ref  httpapi.Ref
	doc  manifest.App

	spec     rollout.Spec
	judge    analysis.Config
	tests    map[string]v1alpha1.Test
	wanted   []versions.Wanted
	declared map[string]rollout.Weight // nil: the route names no version
	where    string
	findings []rollout.Finding

	service  string // as the gateway calls it
	fallback bool   // answers for every host: it is the only application
}

const defaultNamespace = "default"

func refOf(a manifest.App) httpapi.Ref {
	if a.Namespace == defaultNamespace {
		return httpapi.Ref{Name: a.Name}
	}
	return httpapi.Ref{Namespace: a.Namespace, Name: a.Name}
}

// nameOf is an application's name inside the daemon.
func nameOf(ref httpapi.Ref) string {
	if ref.Namespace == defaultNamespace {
		ref.Namespace = ""
	}
	return ref.String()
}

// planOf reads one application. cwd is the absolute folder that relative
// commands are meant from.
func planOf(a manifest.App, cwd string) (plan, error) {
	p := plan{ref: refOf(a), doc: a, tests: engine.TestsOf(a.Rollout), where: "VirtualService/" + a.Route.Name}
	p.name = p.ref.String()
	var err error
	if p.spec, p.judge, err = engine.SpecOf(a.Rollout); err != nil {
		return plan{}, fmt.Errorf("in Rollout/%s: %w", a.Name, err)
	}
	for _, v := range a.Versions {
		p.wanted = append(p.wanted, versions.Wanted{
			Label: v.Label, Hash: v.Hash, Name: v.Deployment, Replicas: v.Replicas, Run: runSpec(processOf(v, cwd)),
		})
	}
	if a.Declared != nil {
		p.declared = map[string]rollout.Weight{}
		for label, w := range a.Declared {
			p.declared[label] = rollout.Weight(w)
		}
	}
	for _, f := range a.Findings {
		if f.Level == manifest.Warn && deployedByCommand(a, f.Version) {
			continue // there is no file of it that could be completed
		}
		p.findings = append(p.findings, rollout.Finding{Level: rollout.Level(f.Level), What: f.What, Remedy: f.Remedy})
	}
	for _, s := range p.spec.Steps {
		if s.Match == nil {
			continue
		}
		if err := routeOf(a, nil, false, "").CheckMatch(*s.Match); err != nil {
			return plan{}, fmt.Errorf("in Rollout/%s: a step's match cannot be served: %w", a.Name, err)
		}
	}
	return p, nil
}

func processOf(v manifest.Version, cwd string) process.Spec {
	s := process.Spec{
		Command: slices.Clone(v.Command), Dir: v.Dir,
		TerminationGracePeriod: v.Grace,
		Ready: process.Probe{
			Port: v.Ready.Port, InitialDelay: v.Ready.InitialDelay, Period: v.Ready.Period, Timeout: v.Ready.Timeout,
			SuccessThreshold: v.Ready.SuccessThreshold, FailureThreshold: v.Ready.FailureThreshold,
		},
	}
	if s.Dir == "" {
		s.Dir = cwd
	}
	if v.Grace == 0 {
		s.TerminationGracePeriod = -1 // the document asks for SIGKILL at once; absent is 30 s
	}
	for _, e := range v.Env {
		s.Env = append(s.Env, process.EnvVar(e))
	}
	if h := v.Ready.HTTP; h != nil {
		s.Ready.HTTP = &process.HTTPGet{Path: h.Path, HTTPS: h.HTTPS}
		for _, e := range h.Headers {
			s.Ready.HTTP.Headers = append(s.Ready.HTTP.Headers, process.EnvVar(e))
		}
	}
	return s
}

// routeOf says a VirtualService in the router's words. current is what a label
// means now; a rule that the rollout does not move keeps the versions that it
// names, and one that names the whole Service follows the split.
func routeOf(a manifest.App, current map[string]rollout.Revision, fallback bool, service string) embedded.Route {
	means := func(label string) rollout.Revision {
		if rev, there := current[label]; there {
			return rev
		}
		return rollout.NewRevision(label, "")
	}
	r := embedded.Route{
		Service: service, Namespace: a.Service.Namespace, H2C: a.Service.HTTP2,
		Hosts: slices.Clone(a.Route.Hosts), Default: fallback || a.Route.AnyHost,
		Sticky: stickyOf(a.Route.Sticky), Limit: limitOf(a.Route.Limit),
	}
	for _, s := range a.Subsets {
		if s.Limit != nil {
			if r.Limits == nil {
				r.Limits = map[rollout.Revision]embedded.Limit{}
			}
			r.Limits[means(s.Version)] = limitOf(s.Limit)
		}
	}
	for _, rule := range a.Route.Rules {
		out := embedded.Rule{
			Name: rule.Name, Timeout: rule.Timeout, Retries: gateway.Retries(rule.Retries),
			Request: changeOf(rule.Request), Response: changeOf(rule.Response),
		}
		for _, d := range rule.To {
			s := embedded.Share{Own: rule.Split || d.Version == "", Weight: d.Weight}
			if !s.Own {
				s.Revision = means(d.Version)
			}
			out.Shares = append(out.Shares, s)
		}
		for _, m := range rule.Mirrors {
			out.Mirrors = append(out.Mirrors, embedded.Mirror{Revision: means(m.Version), Share: m.Share})
		}
		r.Rules = append(r.Rules, rewritten(out, rule)...)
	}
	return r
}

// rewritten gives a rule its conditions and what becomes of the path. What is
// replaced follows from the condition that held, so a rule that replaces a part
// becomes one for each of them.
func rewritten(r embedded.Rule, rule manifest.Rule) []embedded.Rule {
	rw := rule.Rewrite
	if rw == nil || rw.URI == "" || len(rule.Match) < 2 {
		for _, m := range rule.Match {
			r.Match = append(r.Match, matchOf(m))
		}
		if rw != nil {
			var m manifest.Match
			if len(rule.Match) > 0 {
				m = rule.Match[0]
			}
			r.Rewrite = rewriteOf(*rw, m)
		}
		return []embedded.Rule{r}
	}
	var out []embedded.Rule
	for i, m := range rule.Match {
		one := r
		if r.Name != "" && i > 0 {
			one.Name = fmt.Sprintf("%s (match %d)", r.Name, i+1)
		}
		one.Match, one.Rewrite = []gateway.Match{matchOf(m)}, rewriteOf(*rw, m)
		out = append(out, one)
	}
	return out
}

// rewriteOf says a rewrite for what m matches: a rule that matches no path
// matches every path's first slash.
func rewriteOf(rw manifest.Rewrite, m manifest.Match) *gateway.Rewrite {
	out := &gateway.Rewrite{Authority: rw.Authority}
	switch {
	case rw.URI == "":
	case m.Path == nil:
		out.Prefix, out.Path = "/", rw.URI
	case m.Path.Kind != manifest.Prefix:
		out.Path = rw.URI
	case rw.URI == "/" && !strings.HasSuffix(m.Path.Value, "/"):
		out.Prefix = m.Path.Value // taken away: "/api/x" becomes "/x", not "//x"
	default:
		out.Prefix, out.Path = m.Path.Value, rw.URI
	}
	return out
}

func stickyOf(s *manifest.Sticky) *gateway.Sticky {
	switch {
	case s == nil:
		return nil
	case s.Header != "":
		return &gateway.Sticky{Header: s.Header, Replica: true}
	case !s.Own:
		return &gateway.Sticky{Cookie: s.Cookie, Replica: true}
	}
	out := &gateway.Sticky{OwnCookie: s.Cookie, Path: s.Path, Age: s.Age, Replica: true}
	if s.Age == 0 {
		out.Age = -1 // until the browser is closed
	}
	return out
}

func limitOf(l *manifest.Limit) embedded.Limit {
	if l == nil {
		return embedded.Limit{}
	}
	return embedded.Limit(*l)
}

func changeOf(c manifest.HeaderChange) gateway.HeaderChange {
	fields := func(all []manifest.EnvVar) (out []gateway.Header) {
		for _, f := range all {
			out = append(out, gateway.Header(f))
		}
		return out
	}
	return gateway.HeaderChange{Remove: c.Remove, Set: fields(c.Set), Add: fields(c.Add)}
}

func matchOf(m manifest.Match) gateway.Match {
	out := gateway.Match{
		Method: m.Method, Scheme: m.Scheme, AnyCase: m.AnyCase,
		Headers: namedOf(m.Headers), Without: namedOf(m.Without), Query: namedOf(m.Query),
	}
	if m.Path != nil {
		t := textOf(*m.Path)
		out.Path = &t
	}
	return out
}

func namedOf(all []manifest.NamedMatch) (out []gateway.NamedMatch) {
	for _, m := range all {
		out = append(out, gateway.NamedMatch{Name: m.Name, Value: textOf(m.Value)})
	}
	return out
}

var matchKinds = map[manifest.MatchKind]gateway.MatchKind{
	manifest.Exact: gateway.Exact, manifest.Prefix: gateway.Prefix, manifest.Regex: gateway.Regex, manifest.Present: gateway.Present,
}

func textOf(m manifest.StringMatch) gateway.StringMatch {
	return gateway.StringMatch{Kind: matchKinds[m.Kind], Value: m.Value}
}

// services names the gateway's services: the Service's own name where one
// application alone has it.
func services(plans []plan) map[string]string {
	users := map[string]int{}
	for _, p := range plans {
		users[p.doc.Service.Name]++
	}
	out := map[string]string{}
	for _, p := range plans {
		out[p.name] = p.doc.Service.Name
		if users[p.doc.Service.Name] > 1 {
			out[p.name] = p.name
		}
	}
	return out
}

// standing drops the findings that only matter until a version is known to be
// stable: afterwards the route's weights in the files are history, and the
// version that they name may have been retired and removed long ago.
func (p plan) standing(adopted bool) []rollout.Finding {
	if !adopted {
		return p.findings
	}
	there := map[string]bool{}
	for _, w := range p.wanted {
		there[w.Label] = true
	}
	var absent []string
	for _, label := range slices.Sorted(maps.Keys(p.declared)) {
		if !there[label] && p.declared[label] > 0 {
			absent = append(absent, " to version "+label+",")
		}
	}
	var out []rollout.Finding
	for _, f := range p.findings {
		history := strings.HasPrefix(f.What, p.where+" sends ") &&
			slices.ContainsFunc(absent, func(s string) bool { return strings.Contains(f.What, s) })
		if !history {
			out = append(out, f)
		}
	}
	return out
}
