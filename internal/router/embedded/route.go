package embedded

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

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

	H2C    bool            // the endpoints speak HTTP/2 without TLS
	Sticky *gateway.Sticky // of every rule; nil splits request by request
	// Limit bounds each version's requests, Limits one's alone. What is too much
	// for a version goes to the stable one.
	Limit  Limit
	Limits map[rollout.Revision]Limit
	// Shield repeats on the stable version what failed on another one, see
	// gateway.Rule.
	Shield bool
}

// Limit bounds the requests of one version at one time; the zero Limit does not.
type Limit struct{ InFlight, Waiting int }

func (r Route) limit(rev rollout.Revision) Limit {
	if l, own := r.Limits[rev]; own {
		return l
	}
	return r.Limit
}

// Rule is one rule of a Route. Its shares sum to gateway.FullWeight.
type Rule struct {
	Name   string
	Match  []gateway.Match // alternatives; empty matches all
	Shares []Share

	Mirrors           []Mirror
	Rewrite           *gateway.Rewrite
	Request, Response gateway.HeaderChange
	Timeout           time.Duration
	Retries           gateway.Retries
}

// Mirror copies a share of what a rule matches to a version.
type Mirror struct {
	Revision rollout.Revision
	Share    int // in 1/10000
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
// calls a version, has says of such a name whether anybody can answer for it.
func (r Route) rules(own split, name func(rollout.Revision) string, has map[string]bool) ([]gateway.Rule, error) {
	var out []gateway.Rule
	for _, rule := range r.Rules {
		from := len(out)
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
		for i := from; i < len(out); i++ {
			r.apply(rule, &out[i], own, name)
			if rule.own() > 0 && own.stable != "" {
				out[i].Split = orStable(out[i].Split, name(own.stable), has)
			}
		}
	}
	return out, nil
}

// orStable sends everything to the stable version where nobody of those with a
// share can answer: it is kept warm for going back, and need not wait until the
// core has seen enough to go back. With a share of its own it has all of it anyway.
func orStable(split []gateway.Destination, stable string, has map[string]bool) []gateway.Destination {
	if !has[stable] || slices.ContainsFunc(split, func(d gateway.Destination) bool { return d.Weight > 0 && has[d.Version] }) {
		return split
	}
	return []gateway.Destination{{Version: stable, Weight: gateway.FullWeight}}
}

// apply gives a rendered rule what the documents' rule says beyond the split.
func (r Route) apply(rule Rule, to *gateway.Rule, own split, name func(rollout.Revision) string) {
	to.Sticky, to.Rewrite, to.Request, to.Response = r.Sticky, rule.Rewrite, rule.Request, rule.Response
	to.Timeout, to.Retries = rule.Timeout, rule.Retries
	for _, m := range rule.Mirrors {
		to.Mirrors = append(to.Mirrors, gateway.Mirror{Version: name(m.Revision), Share: m.Share})
	}
	if r.Shield && own.stable != "" {
		to.Shield = name(own.stable)
	}
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
	out := m
	out.Headers = append(slices.Clone(m.Headers), named(step.Header)...)
	out.Cookies = append(slices.Clone(m.Cookies), named(step.Cookie)...)
	if step.Path == "" || step.Path == "/" {
		return out, true, nil
	}
	segments := strings.TrimSuffix(step.Path, "/")
	under := func(p string) bool { return p == segments || strings.HasPrefix(p, segments+"/") }
	want := &gateway.StringMatch{Kind: gateway.Regex, Value: regexp.QuoteMeta(segments) + "(/.*)?"}
	switch {
	case m.AnyCase && m.Path != nil:
		return out, false, fmt.Errorf("matches the path %q in any case, which cannot be joined with the step's path %q: give the step a header or a cookie instead", m.Path.Value, step.Path)
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
