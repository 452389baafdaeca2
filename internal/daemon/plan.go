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
	r := embedded.Route{
		Service: service, Namespace: a.Service.Namespace,
		Hosts: slices.Clone(a.Route.Hosts), Default: fallback || a.Route.AnyHost,
	}
	for _, rule := range a.Route.Rules {
		out := embedded.Rule{Name: rule.Name}
		for _, m := range rule.Match {
			out.Match = append(out.Match, matchOf(m))
		}
		for _, d := range rule.To {
			s := embedded.Share{Own: rule.Split || d.Version == "", Weight: d.Weight}
			if !s.Own {
				var there bool
				if s.Revision, there = current[d.Version]; !there {
					s.Revision = rollout.NewRevision(d.Version, "")
				}
			}
			out.Shares = append(out.Shares, s)
		}
		r.Rules = append(r.Rules, out)
	}
	return r
}

func matchOf(m manifest.Match) gateway.Match {
	out := gateway.Match{Method: m.Method}
	if m.Path != nil {
		t := textOf(*m.Path)
		out.Path = &t
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, gateway.NamedMatch{Name: h.Name, Value: textOf(h.Value)})
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
