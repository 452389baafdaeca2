package embedded

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

// Route is what the documents say about one application.
type Route struct {
	Service   string // name of the gateway's service
	Namespace string
	Hosts     []string
	Default   bool // answers for every host that nobody names
	Rules     []Rule
}

// Rule is one rule of a Route. Its shares sum to gateway.FullWeight.
type Rule struct {
	Name   string
	Match  []gateway.Match // alternatives; empty matches all
	Shares []Share
}

// Share is one destination of a rule.
type Share struct {
	// Own shares follow the application's split, whatever version the documents
	// name; their weights are summed.
	Own bool
	// Revision has the rest, as the documents say.
	Revision rollout.Revision
	Weight   int // in 1/10000
}

// split is one application's, as it is rendered.
type split struct {
	stable rollout.Revision // takes what rounding leaves
	parts  []part
	canary rollout.Revision // whom match serves
	match  *rollout.Match
}

type part struct {
	revision rollout.Revision
	weight   rollout.Weight
}

// rules renders the rules of the route under a split; name is what the gateway
// calls a version.
func (r Route) rules(own split, name func(rollout.Revision) string) ([]gateway.Rule, error) {
	var out []gateway.Rule
	for _, rule := range r.Rules {
		if own.match != nil && rule.own() > 0 {
			front, err := rule.front(own, name)
			if err != nil {
				return nil, err
			}
			if front != nil {
				out = append(out, *front)
			}
		}
		out = append(out, gateway.Rule{Name: rule.Name, Match: rule.Match, Split: rule.split(own, name)})
	}
	return out, nil
}

func (r Rule) own() int {
	sum := 0
	for _, s := range r.Shares {
		if s.Own {
			sum += s.Weight
		}
	}
	return sum
}

// split divides what is the application's own as it is divided, and keeps the
// rest. What rounding leaves goes to the stable version, never to the canary.
func (r Rule) split(own split, name func(rollout.Revision) string) []gateway.Destination {
	var out destinations
	if share := r.own(); share > 0 {
		rest := share
		for _, p := range own.parts {
			if p.revision != own.stable {
				w := share * int(p.weight) / int(rollout.Whole)
				out.put(name(p.revision), w)
				rest -= w
			}
		}
		out.put(name(own.stable), rest)
	}
	for _, s := range r.Shares {
		if !s.Own {
			out.put(name(s.Revision), s.Weight)
		}
	}
	return out
}

type destinations []gateway.Destination

func (d *destinations) put(version string, weight int) {
	for i := range *d {
		if (*d)[i].Version == version {
			(*d)[i].Weight += weight
			return
		}
	}
	*d = append(*d, gateway.Destination{Version: version, Weight: weight})
}

// front is the rule that serves only who asks for the canary: whatever the rule
// matches and the step's match too. nil: no request can be both.
func (r Rule) front(own split, name func(rollout.Revision) string) (*gateway.Rule, error) {
	alternatives := r.Match
	if len(alternatives) == 0 {
		alternatives = []gateway.Match{{}}
	}
	var both []gateway.Match
	for _, m := range alternatives {
		m, ok, err := and(m, *own.match)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		if ok {
			both = append(both, m)
		}
	}
	if len(both) == 0 {
		return nil, nil
	}
	asked := split{stable: own.canary, parts: []part{{own.canary, rollout.Whole}}}
	front := gateway.Rule{Match: both, Split: r.split(asked, name)}
	if r.Name != "" {
		front.Name = r.Name + " (step's match)"
	}
	return &front, nil
}

// and joins a rule's condition with a step's. False: nothing matches both.
func and(m gateway.Match, step rollout.Match) (gateway.Match, bool, error) {
	out := gateway.Match{Method: m.Method, Path: m.Path}
	out.Headers = append(append(out.Headers, m.Headers...), named(step.Header)...)
	out.Cookies = append(append(out.Cookies, m.Cookies...), named(step.Cookie)...)
	if step.Path == "" || step.Path == "/" {
		return out, true, nil
	}
	segments := strings.TrimSuffix(step.Path, "/")
	under := func(p string) bool { return p == segments || strings.HasPrefix(p, segments+"/") }
	want := &gateway.StringMatch{Kind: gateway.Regex, Value: regexp.QuoteMeta(segments) + "(/.*)?"}
	switch {
	case m.Path == nil || m.Path.Kind == gateway.Present:
		out.Path = want
		return out, true, nil
	case m.Path.Kind == gateway.Exact:
		return out, under(m.Path.Value), nil
	case m.Path.Kind == gateway.Prefix && strings.HasPrefix(segments, m.Path.Value):
		out.Path = want // the step asks for less, or for the same without "/apix"
		return out, true, nil
	case m.Path.Kind == gateway.Prefix:
		return out, strings.HasPrefix(m.Path.Value, segments+"/"), nil
	}
	return out, false, fmt.Errorf("matches paths by the regular expression %q, which cannot be joined with the step's path %q: give the step a header or a cookie instead", m.Path.Value, step.Path)
}

// named gives exact conditions in the order of their names, so that equal
// splits give equal tables.
func named(m map[string]string) []gateway.NamedMatch {
	var out []gateway.NamedMatch
	for _, k := range sortedKeys(m) {
		out = append(out, gateway.NamedMatch{Name: k, Value: gateway.StringMatch{Kind: gateway.Exact, Value: m[k]}})
	}
	return out
}

// CheckMatch gives the reason why a step's match cannot be served on this
// route, or nil.
func (r Route) CheckMatch(m rollout.Match) error {
	for _, rule := range r.Rules {
		if rule.own() == 0 {
			continue
		}
		for _, alternative := range rule.Match {
			if _, _, err := and(alternative, m); err != nil {
				return fmt.Errorf("rule %q: %w", rule.Name, err)
			}
		}
	}
	return nil
}
