package istio

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// This file makes the http route that serves a match step: a copy of the user's
// route, placed right before it, for the requests that this one would get and
// that the step asks for. All of our share goes to the canary there.

// front is that route for a slot; nil where no request can be asked for.
func (v View) front(s slot, behind []placed, want rollout.Traffic) (map[string]any, error) {
	both, err := joinAll(s.raw, *want.Match)
	if err != nil || both == nil {
		return nil, err
	}
	canary, stable := v.value(want.Canary), v.value(want.Stable)
	own := int64(0)
	model, there := placed{raw: v.model(s, stable)}, false
	for _, d := range behind {
		if d.third {
			continue
		}
		own += d.weight
		switch {
		case d.value == canary && !there:
			model, there = d, true
		case d.value == stable && !there:
			model = d
		}
	}
	served := placed{from: -1, raw: model.raw, host: model.host, subset: model.subset}
	if !there {
		if served.host, served.subset, err = v.address(canary, stable, model.raw); err != nil {
			return nil, err
		}
	}
	served.weight = own
	var destinations []any
	thirds := false
	for _, d := range behind {
		if d.third {
			destinations, thirds = append(destinations, d.object()), true
		}
	}
	if own == 0 && thirds {
		return nil, nil // others have everything
	}
	if !thirds {
		served.weight = 100
	}
	route, _ := clone(s.raw).(map[string]any)
	route["match"] = both
	route["route"] = append([]any{served.object()}, destinations...)
	_, name, _ := strings.Cut(s.key, "/")
	route["name"] = frontPrefix + name
	return route, nil
}

// fronts makes the routes of ours in spec.http those that are wanted, each
// right before the slot whose key it has. What is so already stays.
func (e *edit) fronts(object map[string]any, want map[string]map[string]any) {
	routes := list(object, "spec", "http")
	keys := keysOf(object, "http")
	stays := map[string]bool{}
	for i := len(routes) - 1; i >= 0; i-- {
		if keys[i] != "" {
			continue
		}
		if i+1 < len(routes) && want[keys[i+1]] != nil && !stays[keys[i+1]] && same(routes[i], want[keys[i+1]]) {
			stays[keys[i+1]] = true
			continue
		}
		e.test(text(routes[i], "name"), "spec", "http", i, "name")
		e.remove("spec", "http", i)
	}
	at := 0
	done := maps.Clone(stays)
	for i := range routes {
		if keys[i] == "" {
			if i+1 < len(routes) && stays[keys[i+1]] && same(routes[i], want[keys[i+1]]) {
				at++ // it was left
			}
			continue
		}
		if f := want[keys[i]]; f != nil && !done[keys[i]] {
			e.insert(f, "spec", "http", at)
			done[keys[i]] = true
			at++
		}
		at++
	}
}

// joinAll gives the conditions of a route, each joined with the step's; nil
// where no request meets both.
func joinAll(route map[string]any, step rollout.Match) ([]any, error) {
	alternatives := list(route, "match")
	if len(alternatives) == 0 {
		alternatives = []any{map[string]any{}}
	}
	rewrites := text(route, "rewrite", "uri") != ""
	var out []any
	for _, a := range alternatives {
		m, _ := clone(a).(map[string]any)
		if m == nil {
			m = map[string]any{}
		}
		joined, err := join(m, step, rewrites)
		if err != nil {
			return nil, err
		}
		out = append(out, joined...)
	}
	return out, nil
}

// join adds a step's conditions to one of a route's. It is nil where no request
// meets both, and two where a path is under the step's or is it.
func join(m map[string]any, step rollout.Match, rewrites bool) ([]any, error) {
	headers, _ := m["headers"].(map[string]any)
	headers, _ = clone(headers).(map[string]any)
	if headers == nil {
		headers = map[string]any{}
	}
	for _, name := range slices.Sorted(maps.Keys(step.Header)) {
		key, value := strings.ToLower(name), step.Header[name]
		for had, condition := range headers {
			if strings.EqualFold(had, key) {
				if !meets(condition, value) {
					return nil, nil
				}
				delete(headers, had)
			}
		}
		for had, condition := range asMap(m["withoutHeaders"]) {
			if strings.EqualFold(had, key) && meets(condition, value) {
				return nil, nil
			}
		}
		headers[key] = map[string]any{"exact": value}
	}
	if len(step.Cookie) > 0 {
		for had, condition := range headers {
			if !strings.EqualFold(had, "cookie") {
				continue
			}
			if len(asMap(condition)) > 0 {
				return nil, fmt.Errorf("%w: the route has a condition on the header cookie already, which cannot be joined with the step's: give the step a header of its own", engine.ErrRefused)
			}
			delete(headers, had) // any cookie will do
		}
		if len(step.Cookie) > maxCookies {
			return nil, fmt.Errorf("%w: a match step on Istio may ask for %d cookies at most, not %d", engine.ErrRefused, maxCookies, len(step.Cookie))
		}
		headers["cookie"] = map[string]any{"regex": cookies(step.Cookie)}
	}
	if len(headers) > 0 {
		m["headers"] = headers
	}
	segments := strings.TrimSuffix(step.Path, "/")
	if segments == "" {
		return []any{m}, nil
	}
	uris, narrowed, err := under(m["uri"], m["ignoreUriCase"] == true, segments)
	if err != nil {
		return nil, err
	}
	if narrowed && rewrites {
		return nil, fmt.Errorf("%w: the route rewrites the path that it matches, which it would do otherwise for the step's path %q: give the step a header or a cookie instead", engine.ErrRefused, step.Path)
	}
	var out []any
	for _, uri := range uris {
		one, _ := clone(m).(map[string]any)
		one["uri"] = uri
		out = append(out, one)
	}
	return out, nil
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }

// under narrows a condition on the path to what is under the step's segments.
// Where the route does not mind the case of a path, neither does the step.
func under(uri any, ignoreCase bool, segments string) (uris []any, narrowed bool, err error) {
	fold := func(s string) string { return s }
	if ignoreCase {
		fold = strings.ToLower
	}
	exactly, below := map[string]any{"exact": segments}, map[string]any{"prefix": segments + "/"}
	if len(asMap(uri)) == 0 {
		return []any{exactly, below}, true, nil
	}
	want := fold(segments)
	if p, ok := at(uri, "exact").(string); ok {
		if f := fold(p); f == want || strings.HasPrefix(f, want+"/") {
			return []any{uri}, false, nil
		}
		return nil, false, nil
	}
	if p, ok := at(uri, "prefix").(string); ok {
		switch f := fold(p); {
		case strings.HasPrefix(f, want+"/"):
			return []any{uri}, false, nil // the route asks for less
		case strings.HasPrefix(want, f):
			return []any{exactly, below}, true, nil
		}
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("%w: the route matches paths by the regular expression %q, which cannot be joined with the step's path %q: give the step a header or a cookie instead", engine.ErrRefused, text(uri, "regex"), segments)
}

// meets says whether a header's value meets Istio's condition; no condition
// means that it has to be there.
func meets(condition any, value string) bool {
	c := asMap(condition)
	if exact, ok := c["exact"].(string); ok {
		return value == exact
	}
	if prefix, ok := c["prefix"].(string); ok {
		return strings.HasPrefix(value, prefix)
	}
	if expr, ok := c["regex"].(string); ok {
		re, err := regexp.Compile("^(?:" + expr + ")$") // RE2, over the whole value
		return expr == "*" || err == nil && re.MatchString(value)
	}
	return true
}

// maxCookies bounds the alternatives: cookies come in any order.
const maxCookies = 3

// cookies is the expression that a Cookie header meets which has them all.
func cookies(want map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		pairs = append(pairs, regexp.QuoteMeta(name+"="+want[name]))
	}
	var orders []string
	permute(pairs, func(p []string) { orders = append(orders, strings.Join(p, " *;(?:.*;)? *")) })
	return "(?:.*;)? *(?:" + strings.Join(orders, "|") + ") *(?:;.*)?"
}

func permute(s []string, visit func([]string)) {
	var rest func(done, left []string)
	rest = func(done, left []string) {
		if len(left) == 0 {
			visit(done)
			return
		}
		for i := range left {
			others := append(slices.Clone(left[:i]), left[i+1:]...)
			rest(append(slices.Clone(done), left[i]), others)
		}
	}
	rest(nil, s)
}
