package gateway_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/serin-dev/serin/internal/gateway"
)

func TestBadTablesAreRefusedWithEveryProblem(t *testing.T) {
	bad := gateway.Table{Number: 2, Services: []gateway.Service{
		{Name: "", Hosts: []string{"*.example"}, Default: true,
			Versions: []gateway.Version{{Name: "v1", Endpoints: []gateway.Endpoint{{Replica: "", Address: "nowhere"}}}, {Name: "v1"}},
			Rules: []gateway.Rule{
				{Name: "a", Split: []gateway.Destination{{Version: "v1", Weight: 9000}, {Version: "v3", Weight: 500}}},
				{Name: "a", Match: []gateway.Match{{Method: "G T", Path: &gateway.StringMatch{Kind: gateway.Regex, Value: "("},
					Headers: []gateway.NamedMatch{{Name: "x_y", Value: gateway.StringMatch{Kind: 9}}}}}},
			}},
		{Name: "b", Default: true},
	}}
	want := []string{
		"services[0].name:", "services[0].hosts[0]:", "services[0].versions[0].endpoints[0].replica:",
		"services[0].versions[0].endpoints[0].address:", "services[0].versions[1].name:",
		"services[0].rules[0].split[1].version:", "services[0].rules[0].split: the weights sum up to 9500, want 10000",
		"services[0].rules[1].name:", "services[0].rules[1].split: has 0 destinations",
		"services[0].rules[1].match[0].method:", "services[0].rules[1].match[0].path:",
		"services[0].rules[1].match[0].headers[0].name:", "services[0].rules[1].match[0].headers[0].value:",
		"services[1].default:",
	}
	f := newFront(t, gateway.Options{})
	b := newBackend(t, says("good"))
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	err := f.Swap(bad)
	var te *gateway.TableError
	if !errors.As(err, &te) {
		t.Fatalf("Swap: %v, want a *TableError", err)
	}
	for _, w := range want {
		if !strings.Contains(strings.Join(te.Problems, "\n"), w) {
			t.Errorf("no problem %q among\n%s", w, strings.Join(te.Problems, "\n"))
		}
	}
	if len(te.Problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(te.Problems), len(want), strings.Join(te.Problems, "\n"))
	}
	if n := f.InForce().Number; n != 1 {
		t.Errorf("table %d is in force after a refused one, want 1", n)
	}
	if code, body := f.get(t, "/"); code != 200 || body != "good" {
		t.Errorf("after a refused table: %d %q", code, body)
	}
}

func TestRulesAndHosts(t *testing.T) {
	name := func(n string) gateway.Version { return version(n, newBackend(t, says(n)).addr) }
	match := func(v string, m gateway.Match) gateway.Rule {
		return gateway.Rule{Match: []gateway.Match{m}, Split: all(v)}
	}
	text := func(k gateway.MatchKind, v string) gateway.StringMatch { return gateway.StringMatch{Kind: k, Value: v} }
	path := func(k gateway.MatchKind, v string) *gateway.StringMatch { m := text(k, v); return &m }
	header := func(n string, k gateway.MatchKind, v string) []gateway.NamedMatch {
		return []gateway.NamedMatch{{Name: n, Value: text(k, v)}}
	}
	f := newFront(t, gateway.Options{})
	f.swap(t, gateway.Table{Number: 1, Services: []gateway.Service{
		{Name: "shop", Hosts: []string{"shop", "Shop.Example"}, Versions: []gateway.Version{
			name("exact"), name("prefix"), name("regex"), name("present"), name("cookie"), name("path"), name("under"), name("post"), name("rest"), name("both"),
			name("query"), name("without"), name("anycase"), name("secure")},
			Rules: []gateway.Rule{
				match("both", gateway.Match{Method: "DELETE", Headers: header("x-a", gateway.Exact, "1")}),
				match("secure", gateway.Match{Scheme: "https"}),
				match("query", gateway.Match{Query: header("v", gateway.Exact, "2")}),
				match("anycase", gateway.Match{Path: path(gateway.Prefix, "/Any/"), AnyCase: true}),
				match("without", gateway.Match{Method: "PATCH", Scheme: "http", Without: header("x-old", gateway.Exact, "1")}),
				match("exact", gateway.Match{Headers: header("x-canary", gateway.Exact, "1")}),
				match("prefix", gateway.Match{Headers: header("x-user", gateway.Prefix, "test-")}),
				match("regex", gateway.Match{Headers: header("user-agent", gateway.Regex, "(Fire|Water)fox.*")}),
				match("present", gateway.Match{Headers: header("x-debug", gateway.Present, "")}),
				match("cookie", gateway.Match{Cookies: header("group", gateway.Exact, "beta")}),
				match("path", gateway.Match{Path: path(gateway.Exact, "/exactly")}),
				match("under", gateway.Match{Path: path(gateway.Prefix, "/under/")}),
				match("post", gateway.Match{Method: "POST"}),
				match("rest", gateway.Match{Method: "GET"}),
			}},
		{Name: "blog", Default: true, Versions: []gateway.Version{name("blog")}, Rules: []gateway.Rule{{Split: all("blog")}}},
	}})
	for why, c := range map[string]struct {
		method, host, path, header, value string
		code                              int
		want                              string
	}{
		"a parameter of the query":            {path: "/x?a=1&v=2", want: "query"},
		"of two of one name the first counts": {path: "/x?v=1&v=2", want: "rest"},
		"a path in other letters":             {path: "/aNY/x", want: "anycase"},
		"a header that must not be there":     {method: "PATCH", want: "without"},
		"and is there":                        {method: "PATCH", header: "X-Old", value: "1", code: 404, want: "serin gateway: no rule of shop matches this request\n"},
		"and is there with another value":     {method: "PATCH", header: "X-Old", value: "2", want: "without"},
		"an exact header":                     {header: "X-Canary", value: "1", want: "exact"},
		"another value does not match":        {header: "X-Canary", value: "10", want: "rest"},
		"a header's prefix":                   {header: "X-User", value: "test-7", want: "prefix"},
		"a regex matches the whole value":     {header: "User-Agent", value: "Firefox/9", want: "regex"},
		"and not a part of it":                {header: "User-Agent", value: "A Firefox", want: "rest"},
		"a header that is there, empty":       {header: "X-Debug", value: "", want: "present"},
		"a cookie among others":               {header: "Cookie", value: "a=b; group=beta", want: "cookie"},
		"another cookie's value":              {header: "Cookie", value: "group=alpha", want: "rest"},
		"an exact path, whatever the query":   {path: "/exactly?x=1", want: "path"},
		"a path that is longer":               {path: "/exactly/", want: "rest"},
		"a path's prefix":                     {path: "/under/x", want: "under"},
		"a method":                            {method: "POST", want: "post"},
		"all parts of a match, one missing":   {method: "DELETE", code: 404, want: "serin gateway: no rule of shop matches this request\n"},
		"all parts of a match":                {method: "DELETE", header: "X-A", value: "1", want: "both"},
		"the host in other letters":           {host: "SHOP", want: "rest"},
		"the host with a port":                {host: "shop:8080", want: "rest"},
		"the host with a final dot":           {host: "shop.", want: "rest"},
		"a second host of the same service":   {host: "shop.example", want: "rest"},
		"a host that nobody has: the default": {host: "elsewhere", want: "blog"},
		"an address as host: the default":     {host: "[::1]:80", want: "blog"},
	} {
		method, host := c.method, c.host
		if method == "" {
			method = "GET"
		}
		if host == "" {
			host = "shop"
		}
		if c.code == 0 {
			c.code = 200
		}
		req, err := http.NewRequest(method, f.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		resp, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); got != c.want || resp.StatusCode != c.code {
			t.Errorf("%s: %d %q, want %d %q", why, resp.StatusCode, got, c.code, c.want)
		}
		resp.Body.Close()
	}
}

func TestSharesOfVersionsWithoutEndpointsGoToTheOthers(t *testing.T) {
	f := newFront(t, gateway.Options{Seed: 3})
	if code, _ := f.get(t, "/"); code != 404 {
		t.Errorf("before the first table: %d, want 404", code)
	}
	b1, b2 := newBackend(t, says("one")), newBackend(t, says("two"))
	f.swap(t, table(1, share(5000), version("v1", b1.addr), version("v2")))
	for range 10 {
		if _, body := f.get(t, "/"); body != "one" {
			t.Fatalf("answered by %q", body)
		}
	}
	want := []gateway.Route{{Service: "app", Rule: "main", Set: share(5000), Effective: all("v1")}}
	if d := cmp.Diff(want, f.InForce().Routes); d != "" {
		t.Error(d)
	}
	f.swap(t, table(2, share(5000), version("v1"), version("v2")))
	code, body := f.get(t, "/")
	if code != 503 || body != "serin gateway: no version of app that this request may go to has an endpoint\n" {
		t.Errorf("without any endpoint: %d %q", code, body)
	}
	f.swap(t, table(3, all("v1"), version("v1"), version("v2", b2.addr)))
	if code, _ := f.get(t, "/"); code != 503 {
		t.Errorf("only a version of weight 0 has endpoints: %d, want 503", code)
	}
	if n := f.Stats().Services[0].Unrouted; n != 2 {
		t.Errorf("%d unrouted, want 2", n)
	}
}

func TestSwappingEndpointsDoesNotRestartTheBlock(t *testing.T) {
	f := newFront(t, gateway.Options{Seed: 9})
	b1, b2, b3 := newBackend(t, says("one")), newBackend(t, says("two")), newBackend(t, says("one"))
	got := map[string]int{}
	for i := range 1000 {
		vs := []gateway.Version{version("v1", b1.addr), version("v2", b2.addr)}
		if i%2 == 1 {
			vs[0] = version("v1", b1.addr, b3.addr)
		}
		f.swap(t, table(int64(i+1), share(10), vs...)) // 0.1 %: a restarted block would give far more or less
		_, body := f.get(t, "/")
		got[body]++
	}
	if got["two"] != 1 || got["one"] != 999 {
		t.Errorf("over 1000 swaps of endpoints: %v, want one request in 1000 for v2", got)
	}
}

func TestTablesAreCopied(t *testing.T) {
	f := newFront(t, gateway.Options{})
	b := newBackend(t, says("one"))
	tb := table(1, all("v1"), version("v1", b.addr))
	f.swap(t, tb)
	tb.Services[0].Rules[0].Split[0] = gateway.Destination{Version: "v9", Weight: 1}
	f.InForce().Routes[0].Set[0].Weight = 7
	if d := cmp.Diff(all("v1"), f.InForce().Routes[0].Set); d != "" {
		t.Error(d)
	}
}
