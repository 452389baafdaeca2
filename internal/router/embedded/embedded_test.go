package embedded

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	v1 = rollout.Revision("v1@aaaa")
	v2 = rollout.Revision("v2@bbbb")
)

// counted counts the tables that a gateway was given.
type counted struct {
	*gateway.Gateway
	swaps int
}

func (c *counted) Swap(t gateway.Table) error { c.swaps++; return c.Gateway.Swap(t) }

func newGateway(t *testing.T) *counted {
	g := gateway.New(gateway.Options{Seed: 1})
	t.Cleanup(func() { _ = g.Close() })
	return &counted{Gateway: g}
}

// whole is the article's route: everything to one host, split by us.
func whole() Route {
	return Route{
		Service: "my-app-service", Hosts: []string{"my-app-service"}, Default: true,
		Rules: []Rule{{Shares: []Share{{Own: true, Weight: gateway.FullWeight}}}},
	}
}

func set(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestConformance runs the engine's suite over a real gateway.
func TestConformance(t *testing.T) {
	enginetest.TestRouter(t, func(t *testing.T) enginetest.RouterFixture {
		gw := newGateway(t)
		r := NewBoard(gw).Router("my-app")
		set(t, r.SetRoute(whole(), nil), r.Declare(map[rollout.Revision]rollout.Weight{v1: rollout.Whole}))
		return enginetest.RouterFixture{
			Router: r, Stable: v1, Canary: v2, Step: func() {},
			Remove: func() { set(t, r.Withdraw()) },
			Writes: func() int { return gw.swaps },
		}
	})
}

// replica is one real backend that answers with its name.
func replica(t *testing.T, name string) gateway.Endpoint {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return gateway.Endpoint{Replica: name, Address: strings.TrimPrefix(s.URL, "http://")}
}

// ask sends n requests through the gateway and counts who answered.
func ask(t *testing.T, gw http.Handler, n int, edit func(*http.Request)) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		req := httptest.NewRequest("GET", "http://my-app-service/api/x", nil)
		if edit != nil {
			edit(req)
		}
		res := httptest.NewRecorder()
		gw.ServeHTTP(res, req)
		if res.Code == http.StatusOK {
			got[res.Body.String()]++
		} else {
			got[fmt.Sprint(res.Code)]++
		}
	}
	return got
}

func TestTrafficIsWhatTheSplitSays(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	r := b.Router("my-app")
	set(t,
		r.SetRoute(whole(), map[rollout.Revision]string{v1: "my-app-v1"}),
		r.Declare(map[rollout.Revision]rollout.Weight{v1: rollout.Whole}),
		b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "one")}, v2: {replica(t, "two")}}}),
	)
	steps := []struct {
		reason string
		do     func() error
		edit   func(*http.Request)
		want   map[string]int
	}{
		{"before anything of ours the documents' weights are in force", func() error { return nil }, nil, map[string]int{"one": 1000}},
		{"5 % is exactly 50 of 1000", func() error {
			return r.Apply(context.Background(), rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: 500})
		}, nil, map[string]int{"one": 950, "two": 50}},
		{"declared weights move nothing once something was applied", func() error {
			return r.Declare(map[rollout.Revision]rollout.Weight{v2: rollout.Whole})
		}, nil, map[string]int{"one": 950, "two": 50}},
		{"a canary without an endpoint keeps its weight and gets nothing", func() error {
			return b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "one")}}})
		}, nil, map[string]int{"one": 1000}},
		{"a match serves who asks for it", func() error {
			err := b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "one")}, v2: {replica(t, "two")}}})
			if err != nil {
				return err
			}
			return r.Apply(context.Background(), rollout.Traffic{N: 2, Stable: v1, Canary: v2, Match: &rollout.Match{Header: map[string]string{"x-canary": "1"}}})
		}, func(r *http.Request) { r.Header.Set("X-Canary", "1") }, map[string]int{"two": 1000}},
		{"and nobody else", func() error { return nil }, nil, map[string]int{"one": 1000}},
	}
	for _, s := range steps {
		set(t, s.do())
		if diff := cmp.Diff(s.want, ask(t, gw, 1000, s.edit)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.reason, diff)
		}
	}
	seen, err := r.Observe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if seen.Weights[v1] != rollout.Whole || seen.Note == nil || seen.Receipt != 2 || !seen.HasReceipt {
		t.Errorf("observed %+v, want everything on v1 under decision 2", seen)
	}
	if got := seen.Requests[v1] + seen.Requests[v2]; got != 6000 {
		t.Errorf("%v requests counted over endpoints that came and went, want all 6000", got)
	}
}

// A canary that has everything, or everything of who asks for it, and is gone
// leaves nobody without an answer: stable is there. Rules that are not ours are
// answered by whom they name, and by nobody else.
func TestStableAnswersForACanaryThatIsGone(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	r := b.Router("my-app")
	route := whole()
	route.Rules = append([]Rule{{
		Name: "fixed", Match: []gateway.Match{{Path: &gateway.StringMatch{Kind: gateway.Prefix, Value: "/fixed"}}},
		Shares: []Share{{Revision: v2, Weight: gateway.FullWeight}, {Revision: v1}},
	}}, route.Rules...)
	one, two := replica(t, "one"), replica(t, "two")
	there := func(es ...gateway.Endpoint) {
		t.Helper()
		by := map[rollout.Revision][]gateway.Endpoint{}
		for _, e := range es {
			by[map[string]rollout.Revision{"one": v1, "two": v2}[e.Replica]] = []gateway.Endpoint{e}
		}
		set(t, b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": by}))
	}
	set(t, r.SetRoute(route, nil))
	asks := func(r *http.Request) { r.Header.Set("X-Canary", "1") }
	fixed := func(r *http.Request) { r.URL.Path = "/fixed" }
	for name, c := range map[string]struct {
		split rollout.Traffic
		edit  func(*http.Request)
		want  map[string]string // by who is there
	}{
		"Whole":    {rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: rollout.Whole}, nil, map[string]string{"one two": "two", "one": "one", "": "503"}},
		"Share":    {rollout.Traffic{N: 2, Stable: v1, Canary: v2, Weight: 2500}, nil, map[string]string{"one": "one", "two": "two", "": "503"}},
		"Match":    {rollout.Traffic{N: 3, Stable: v1, Canary: v2, Match: &rollout.Match{Header: map[string]string{"x-canary": "1"}}}, asks, map[string]string{"one two": "two", "one": "one", "": "503"}},
		"NotOurs":  {rollout.Traffic{N: 4, Stable: v1, Canary: v2, Weight: rollout.Whole}, fixed, map[string]string{"one two": "two", "one": "503"}},
		"AtRest":   {rollout.Traffic{N: 5, Stable: v1}, nil, map[string]string{"one two": "one", "two": "503"}},
		"Promoted": {rollout.Traffic{N: 6, Stable: v2}, nil, map[string]string{"one two": "two", "one": "503"}},
	} {
		set(t, r.Apply(context.Background(), c.split))
		for who, want := range c.want {
			var es []gateway.Endpoint
			for _, e := range []gateway.Endpoint{one, two} {
				if strings.Contains(who, e.Replica) {
					es = append(es, e)
				}
			}
			there(es...)
			if got := ask(t, gw, 100, c.edit); got[want] != 100 {
				t.Errorf("%s, there: %q: answers %v, want %s", name, who, got, want)
			}
			seen, err := r.Observe(context.Background())
			if err != nil || seen.Weights[v2] != c.split.Weights()[v2] || seen.Receipt != c.split.N {
				t.Errorf("%s, there: %q: observed %+v, %v; want what was asked for", name, who, seen, err)
			}
		}
	}
}

func TestRulesThatAreNotOursStay(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	r := b.Router("my-app")
	route := whole()
	route.Rules = []Rule{
		{Name: "admin", Match: []gateway.Match{{Path: &gateway.StringMatch{Kind: gateway.Prefix, Value: "/admin"}}}, Shares: []Share{{Revision: v1, Weight: gateway.FullWeight}}},
		{Name: "half", Match: []gateway.Match{{Path: &gateway.StringMatch{Kind: gateway.Prefix, Value: "/half"}}}, Shares: []Share{{Own: true, Weight: 5000}, {Revision: v1, Weight: 5000}}},
		{Name: "main", Shares: []Share{{Own: true, Weight: gateway.FullWeight}}},
	}
	set(t, r.SetRoute(route, nil),
		b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "one")}, v2: {replica(t, "two")}}}),
		r.Apply(context.Background(), rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: 5000}))
	at := func(path string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = path } }
	for path, want := range map[string]map[string]int{
		"/admin/x": {"one": 1000},
		"/half":    {"one": 750, "two": 250},
		"/":        {"one": 500, "two": 500},
	} {
		if diff := cmp.Diff(want, ask(t, gw, 1000, at(path))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestARefusedTableChangesNothing(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	r := b.Router("my-app")
	set(t, r.SetRoute(whole(), nil),
		b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "one")}, v2: {replica(t, "two")}}}),
		r.Apply(context.Background(), rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: 500}))
	bad := whole()
	bad.Hosts = []string{"no such host"}
	if err := r.SetRoute(bad, nil); err == nil {
		t.Error("a host with blanks was taken")
	}
	if err := r.Apply(context.Background(), rollout.Traffic{N: 2, Stable: v1, Canary: v2, Weight: rollout.Whole + 1}); err == nil {
		t.Error("a weight above everything was taken")
	}
	seen, _ := r.Observe(context.Background())
	if seen.Receipt != 1 || seen.Weights[v2] != 500 {
		t.Errorf("in force is %+v, want decision 1", seen)
	}
	if diff := cmp.Diff(map[string]int{"one": 950, "two": 50}, ask(t, gw, 1000, nil)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTwoAppsDoNotTouchEachOther(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	a, c := b.Router("a"), b.Router("c")
	routeA, routeC := whole(), whole()
	routeA.Service, routeA.Hosts, routeA.Default = "a", []string{"a"}, false
	routeC.Service, routeC.Hosts, routeC.Default = "c", []string{"c"}, false
	set(t, a.SetRoute(routeA, nil), c.SetRoute(routeC, nil),
		b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{
			"a": {v1: {replica(t, "a1")}, v2: {replica(t, "a2")}}, "c": {v1: {replica(t, "c1")}, v2: {replica(t, "c2")}},
		}),
		a.Apply(context.Background(), rollout.Traffic{N: 7, Stable: v1, Canary: v2, Weight: 2500}),
		c.Apply(context.Background(), rollout.Traffic{N: 3, Stable: v2}))
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	if diff := cmp.Diff(map[string]int{"a1": 750, "a2": 250}, ask(t, gw, 1000, host("a"))); diff != "" {
		t.Errorf("a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"c2": 1000}, ask(t, gw, 1000, host("c:8080"))); diff != "" {
		t.Errorf("c (-want +got):\n%s", diff)
	}
	set(t, b.Remove("a"))
	if diff := cmp.Diff(map[string]int{"404": 10}, ask(t, gw, 10, host("a"))); diff != "" {
		t.Errorf("a, removed (-want +got):\n%s", diff)
	}
	if seen, _ := c.Observe(context.Background()); seen.Receipt != 3 || seen.Weights[v2] != rollout.Whole {
		t.Errorf("c holds %+v, want decision 3", seen)
	}
}

// TestPrimedIsAsApplied: what was in force before a restart is in force with
// its note before anything is asked for.
func TestPrimedIsAsApplied(t *testing.T) {
	gw := newGateway(t)
	r := NewBoard(gw).Router("my-app")
	last := rollout.Traffic{N: 9, Stable: v1, Canary: v2, Weight: 2500, Condemned: []rollout.Revision{"v0@x"}}
	set(t, r.SetRoute(whole(), nil), r.Declare(map[rollout.Revision]rollout.Weight{v1: rollout.Whole}), r.Prime(last))
	seen, _ := r.Observe(context.Background())
	if seen.Note == nil || seen.Note.N != 9 || seen.Weights[v2] != 2500 || seen.Receipt != 9 {
		t.Errorf("observed %+v, want the primed split", seen)
	}
}

// TestTwoRevisionsOfOneLabel: an edited version is counted under a name of its
// own, and the old one keeps its own.
func TestTwoRevisionsOfOneLabel(t *testing.T) {
	edited := rollout.Revision("v1@cccc")
	gw := newGateway(t)
	b := NewBoard(gw)
	r := b.Router("my-app")
	set(t, r.SetRoute(whole(), nil), r.Apply(context.Background(), rollout.Traffic{N: 1, Stable: v1}),
		b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "old")}, edited: {replica(t, "new")}}}),
		r.Apply(context.Background(), rollout.Traffic{N: 2, Stable: v1, Canary: edited, Weight: 5000}))
	if diff := cmp.Diff(map[rollout.Revision]string{v1: "v1", edited: "v1@cccc"}, r.Versions()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ask(t, gw, 1000, nil)
	seen, _ := r.Observe(context.Background())
	if seen.Requests[v1] != 500 || seen.Requests[edited] != 500 {
		t.Errorf("counted %v, want 500 each", seen.Requests)
	}
}

func TestMatchesJoin(t *testing.T) {
	path := func(kind gateway.MatchKind, v string) gateway.Match {
		return gateway.Match{Path: &gateway.StringMatch{Kind: kind, Value: v}}
	}
	for name, c := range map[string]struct {
		rule  gateway.Match
		path  string
		both  []string // paths that match both
		none  []string
		error bool
	}{
		"AnyPath":         {rule: gateway.Match{}, path: "/api", both: []string{"/api", "/api/x"}, none: []string{"/apix", "/"}},
		"ExactInside":     {rule: path(gateway.Exact, "/api/x"), path: "/api", both: []string{"/api/x"}, none: []string{"/api"}},
		"ExactOutside":    {rule: path(gateway.Exact, "/x"), path: "/api", none: []string{"/x", "/api"}},
		"PrefixShorter":   {rule: path(gateway.Prefix, "/a"), path: "/api", both: []string{"/api/x"}, none: []string{"/a", "/apix"}},
		"PrefixSame":      {rule: path(gateway.Prefix, "/api"), path: "/api/", both: []string{"/api", "/api/x"}, none: []string{"/apix"}},
		"PrefixLonger":    {rule: path(gateway.Prefix, "/api/v1"), path: "/api", both: []string{"/api/v1", "/api/v12"}, none: []string{"/api", "/api/v2"}},
		"PrefixElsewhere": {rule: path(gateway.Prefix, "/apix"), path: "/api", none: []string{"/apix", "/api"}},
		"Regex":           {rule: path(gateway.Regex, "/a.*"), path: "/api", error: true},
		"SpecialChars":    {rule: gateway.Match{}, path: "/a.b", both: []string{"/a.b"}, none: []string{"/axb"}},
	} {
		t.Run(name, func(t *testing.T) {
			gw := newGateway(t)
			b := NewBoard(gw)
			r := b.Router("my-app")
			route := whole()
			route.Rules = append([]Rule{{Match: []gateway.Match{c.rule}, Shares: []Share{{Own: true, Weight: gateway.FullWeight}}}}, route.Rules...)
			route.Rules[1].Match = []gateway.Match{{Headers: []gateway.NamedMatch{{Name: "never", Value: gateway.StringMatch{Kind: gateway.Present}}}}}
			m := &rollout.Match{Path: c.path}
			if err := route.CheckMatch(*m); (err != nil) != c.error {
				t.Fatalf("CheckMatch: %v", err)
			}
			set(t, r.SetRoute(route, nil), b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v1: {replica(t, "one")}, v2: {replica(t, "two")}}}))
			err := r.Apply(context.Background(), rollout.Traffic{N: 1, Stable: v1, Canary: v2, Match: m})
			if c.error {
				if err == nil {
					t.Error("was taken")
				}
				return
			}
			set(t, err)
			for _, p := range c.both {
				if got := ask(t, gw, 1, func(r *http.Request) { r.URL.Path = p }); got["two"] != 1 {
					t.Errorf("%s went to %v, want the canary", p, got)
				}
			}
			for _, p := range c.none {
				if got := ask(t, gw, 1, func(r *http.Request) { r.URL.Path = p }); got["two"] != 0 {
					t.Errorf("%s went to the canary", p)
				}
			}
		})
	}
}

// TestEverySplitIsWhole: whatever the shares and weights, what is rendered sums
// up to everything and the canary never gets more than its share.
func TestEverySplitIsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own := rapid.IntRange(0, gateway.FullWeight).Draw(t, "own")
		w := rapid.IntRange(0, int(rollout.Whole)).Draw(t, "weight")
		rule := Rule{Shares: []Share{{Own: true, Weight: own}, {Revision: "v0@x", Weight: gateway.FullWeight - own}}}
		sp := held{applied: &rollout.Traffic{Stable: v1, Canary: v2, Weight: rollout.Weight(w)}}.split()
		sum, canary := 0, 0
		for _, d := range rule.split(sp, func(r rollout.Revision) string { return string(r) }) {
			if d.Weight < 0 {
				t.Fatalf("weight %d", d.Weight)
			}
			sum += d.Weight
			if d.Version == string(v2) {
				canary += d.Weight
			}
		}
		if sum != gateway.FullWeight {
			t.Fatalf("sum %d", sum)
		}
		if canary*int(rollout.Whole) > own*w {
			t.Fatalf("canary gets %d of %d at %d", canary, own, w)
		}
	})
}

func TestInFlightIsSeen(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	r := b.Router("my-app")
	entered, leave := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-leave }))
	defer s.Close()
	slow := gateway.Endpoint{Replica: "slow", Address: strings.TrimPrefix(s.URL, "http://")}
	set(t, r.SetRoute(whole(), nil),
		b.SetEndpoints(map[string]map[rollout.Revision][]gateway.Endpoint{"my-app": {v2: {slow}, v1: {replica(t, "one")}}}),
		r.Apply(context.Background(), rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: rollout.Whole}))
	ended := make(chan struct{})
	go func() { defer close(ended); ask(t, gw, 1, nil) }()
	<-entered
	set(t, r.Apply(context.Background(), rollout.Traffic{N: 2, Stable: v1, Canary: v2}))
	seen, _ := r.Observe(context.Background())
	if seen.InFlight[v2] != 1 || seen.Last[v2].IsZero() {
		t.Errorf("in flight %v, last %v; want the one that began before the switch", seen.InFlight, seen.Last)
	}
	close(leave)
	<-ended
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if seen, _ = r.Observe(context.Background()); seen.InFlight[v2] == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the request has ended and is still counted as in flight")
		}
	}
}
