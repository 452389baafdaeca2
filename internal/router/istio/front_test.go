package istio

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// ---- Istio's conditions, as its documentation has them ----

type request struct {
	path    string
	headers map[string]string // lower case
}

func stringMatch(c any, value string, fold bool) bool {
	m := asMap(c)
	same := func(s string) string {
		if fold {
			return strings.ToLower(s)
		}
		return s
	}
	if s, ok := m["exact"].(string); ok {
		return same(value) == same(s)
	}
	if s, ok := m["prefix"].(string); ok {
		return strings.HasPrefix(same(value), same(s))
	}
	if s, ok := m["regex"].(string); ok {
		if compiled[s] == nil {
			compiled[s] = regexp.MustCompile("^(?:" + s + ")$")
		}
		return compiled[s].MatchString(value)
	}
	return true
}

var compiled = map[string]*regexp.Regexp{}

func (r request) meets(match any) bool {
	m := asMap(match)
	if m["uri"] != nil && !stringMatch(m["uri"], r.path, m["ignoreUriCase"] == true) {
		return false
	}
	for name, c := range asMap(m["headers"]) {
		value, there := r.headers[strings.ToLower(name)]
		if !there || !stringMatch(c, value, false) {
			return false
		}
	}
	for name, c := range asMap(m["withoutHeaders"]) {
		if value, there := r.headers[strings.ToLower(name)]; there && stringMatch(c, value, false) {
			return false
		}
	}
	return true
}

func (r request) meetsAny(matches []any) bool {
	for _, m := range matches {
		if r.meets(m) {
			return true
		}
	}
	return false
}

func (r request) asks(step rollout.Match, anyCase bool) bool {
	for name, want := range step.Header {
		if got, there := r.headers[strings.ToLower(name)]; !there || got != want {
			return false
		}
	}
	for name, want := range step.Cookie {
		found := false
		for pair := range strings.SplitSeq(r.headers["cookie"], ";") {
			found = found || strings.Trim(pair, " ") == name+"="+want
		}
		if !found {
			return false
		}
	}
	path, under := r.path, strings.TrimSuffix(step.Path, "/")
	if anyCase {
		path, under = strings.ToLower(path), strings.ToLower(under)
	}
	return under == "" || path == under || strings.HasPrefix(path, under+"/")
}

var (
	paths  = []string{"/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/A/b", "/x"}
	values = []string{"1", "2", "12", "", "yes"}
	jars   = []string{"", "a=1", "a=1; b=2", "b=2;a=1", "xa=1", "a=12", "c=3; b=2; a=1; d=4", "a=1; b=22", "  a=1"}
)

func drawMatch(t *rapid.T) map[string]any {
	condition := func(of []string) any {
		v := rapid.SampledFrom(of).Draw(t, "value")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return map[string]any{"exact": v}
		case 1:
			return map[string]any{"prefix": v}
		case 2:
			return map[string]any{"regex": regexp.QuoteMeta(v) + ".*"}
		}
		return map[string]any{}
	}
	m := map[string]any{}
	if rapid.Bool().Draw(t, "by path") {
		m["uri"] = condition(paths[:6])
		if rapid.Bool().Draw(t, "any case") {
			m["ignoreUriCase"] = true
		}
	}
	for _, where := range []string{"headers", "withoutHeaders"} {
		if rapid.IntRange(0, 2).Draw(t, where) == 0 {
			m[where] = map[string]any{rapid.SampledFrom([]string{"x-a", "X-A", "cookie"}).Draw(t, "header"): condition(values)}
		}
	}
	m["gateways"] = []any{"mesh"} // is kept
	return m
}

// A request is served by our route exactly if the user's route would have got
// it and the step asks for it.
func TestFrontServesExactlyWhoAsks(t *testing.T) {
	joined := 0
	rapid.Check(t, func(t *rapid.T) {
		route := map[string]any{}
		var alternatives []any
		for range rapid.IntRange(0, 2).Draw(t, "alternatives") {
			alternatives = append(alternatives, drawMatch(t))
		}
		if alternatives != nil {
			route["match"] = alternatives
		}
		step := rollout.Match{Path: rapid.SampledFrom([]string{"", "/", "/a", "/a/", "/a/b"}).Draw(t, "path")}
		if rapid.Bool().Draw(t, "by header") {
			step.Header = map[string]string{"X-A": rapid.SampledFrom(values).Draw(t, "header value")}
		}
		if n := rapid.IntRange(0, 3).Draw(t, "cookies"); n > 0 {
			step.Cookie = map[string]string{}
			for i := range n {
				step.Cookie[string(rune('a'+i))] = string(rune('1' + i))
			}
		}
		both, err := joinAll(route, step)
		if err != nil {
			if !errors.Is(err, engine.ErrRefused) {
				t.Fatal(err)
			}
			return
		}
		joined++
		if alternatives == nil {
			alternatives = []any{map[string]any{}}
		}
		for _, m := range both {
			if alternatives[0].(map[string]any)["gateways"] != nil && asMap(m)["gateways"] == nil {
				t.Fatalf("a condition was lost: %v", m)
			}
		}
		for _, path := range paths {
			for _, a := range append(values, "-") {
				for _, jar := range append(jars, "-") {
					r := request{path: path, headers: map[string]string{}}
					if a != "-" {
						r.headers["x-a"] = a
					}
					if jar != "-" {
						r.headers["cookie"] = jar
					}
					want := false
					for _, m := range alternatives {
						want = want || r.meets(m) && r.asks(step, asMap(m)["ignoreUriCase"] == true)
					}
					if got := r.meetsAny(both); got != want {
						t.Fatalf("request %+v: served %v, want %v\nroute %v\nstep %+v\nours %v", r, got, want, alternatives, step, both)
					}
				}
			}
		}
	})
	if joined == 0 {
		t.Error("no route could be joined with any step")
	}
}

func TestFront(t *testing.T) {
	_, view := article(t)
	vs := object(t, `
metadata: {name: x, namespace: default}
spec:
  http:
  - name: first
    match: [{uri: {prefix: /static}}]
    route: [{destination: {host: cdn}}]
  - name: api
    match: [{uri: {prefix: /api}, port: 80}, {headers: {x-old: {}}}]
    timeout: 3s
    retries: {attempts: 2}
    corsPolicy: {allowMethods: [GET]}
    route:
    - {destination: {host: my-app-service, subset: v1, port: {number: 8080}}, weight: 60, headers: {request: {set: {x-from: api}}}}
    - {destination: {host: legacy}, weight: 40}
  - name: rest
    route: [{destination: {host: my-app-service, subset: v1}}]
`)
	before := clone(vs).(map[string]any)
	view.Routes = []string{"api", "rest"}
	want := rollout.Traffic{N: 1, Stable: v1, Canary: v2, Match: &rollout.Match{Header: map[string]string{"X-Canary": "1"}}}
	put := func(want rollout.Traffic) {
		t.Helper()
		p, err := Render(vs, want, view)
		if err != nil {
			t.Fatal(err)
		}
		vs = apply(t, vs, p)
	}
	put(want)
	routes := list(vs, "spec", "http")
	var names []string
	for _, r := range routes {
		names = append(names, text(r, "name"))
	}
	if got := strings.Join(names, " "); got != "first serin-match/api api serin-match/rest rest" {
		t.Fatalf("routes %s", got)
	}
	front := object(t, `
name: serin-match/api
match: [{uri: {prefix: /api}, port: 80, headers: {x-canary: {exact: "1"}}}, {headers: {x-old: {}, x-canary: {exact: "1"}}}]
timeout: 3s
retries: {attempts: 2}
corsPolicy: {allowMethods: [GET]}
route:
- {destination: {host: my-app-service, subset: v2, port: {number: 8080}}, weight: 60, headers: {request: {set: {x-from: api}}}}
- {destination: {host: legacy}, weight: 40}
`)
	if !same(routes[1], front) {
		t.Errorf("ours is\n%v\nwant\n%v", routes[1], front)
	}
	if got, _ := Parse(vs, view); got.Weights[v1] != rollout.Whole {
		t.Errorf("a match moves no weight: %v", got.Weights)
	}

	// Its author edits the route behind it: ours follows with the next write.
	list(vs, "spec", "http")[2].(map[string]any)["timeout"] = "9s"
	want.N = 2
	put(want)
	if got := text(list(vs, "spec", "http")[1], "timeout"); got != "9s" {
		t.Errorf("ours has timeout %s still", got)
	}
	list(vs, "spec", "http")[2].(map[string]any)["timeout"] = "3s"

	want.N, want.Weight = 3, 500 // the match goes on beside the weights
	put(want)
	if n := len(list(vs, "spec", "http")); n != 5 {
		t.Errorf("%d routes", n)
	}
	put(rollout.Traffic{N: 4, Stable: v1})
	delete(vs["metadata"].(map[string]any), "annotations")
	if !same(vs, before) {
		t.Errorf("left\n%v\nwant\n%v", vs, before)
	}
}

func TestFrontRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		route string
		step  rollout.Match
		says  string
	}{
		"PathOnARewrite":   {`{match: [{uri: {prefix: /a}}], rewrite: {uri: /}}`, rollout.Match{Path: "/a/b"}, "rewrites the path"},
		"PathOnARegex":     {`{match: [{uri: {regex: /a.*}}]}`, rollout.Match{Path: "/a"}, "regular expression"},
		"CookieOnACookie":  {`{match: [{headers: {cookie: {regex: ".*s=1.*"}}}]}`, rollout.Match{Cookie: map[string]string{"a": "1"}}, "header cookie already"},
		"TooManyCookies":   {`{}`, rollout.Match{Cookie: map[string]string{"a": "1", "b": "1", "c": "1", "d": "1"}}, "3 cookies at most"},
		"RewriteUntouched": {`{match: [{uri: {prefix: /a/b}}], rewrite: {uri: /}}`, rollout.Match{Path: "/a"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			both, err := joinAll(object(t, c.route), c.step)
			switch {
			case c.says == "" && (err != nil || len(both) != 1):
				t.Errorf("joined to %v, error %v", both, err)
			case c.says != "" && (!errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}
