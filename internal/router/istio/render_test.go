package istio

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/golden"
	"github.com/serin-dev/serin/internal/rollout"
)

// The article's story as it is written to the API server, patch by patch.
func TestGoldenArticle(t *testing.T) {
	vs, view := article(t)
	dr := file(t, "02-destinationrule.yaml")
	for _, o := range []map[string]any{vs, dr} {
		o["metadata"].(map[string]any)["namespace"] = "default"
		o["metadata"].(map[string]any)["resourceVersion"] = "41"
	}
	var out strings.Builder
	for _, step := range []struct {
		what string
		t    rollout.Traffic
	}{
		{"v1 is adopted", rollout.Traffic{N: 1, Stable: v1}},
		{"v2 is made ready", rollout.Traffic{N: 2, Stable: v1, Canary: v2}},
		{"0.5 % to v2", rollout.Traffic{N: 3, Stable: v1, Canary: v2, Weight: 50}},
		{"5 % to v2", rollout.Traffic{N: 4, Stable: v1, Canary: v2, Weight: 500}},
		{"v2 is taken back", rollout.Traffic{N: 5, Stable: v1, Canary: v2, Condemned: []rollout.Revision{v2}}},
		{"v2 drains", rollout.Traffic{N: 6, Stable: v1, Keep: []rollout.Revision{v2}, Condemned: []rollout.Revision{v2}}},
		{"rest", rollout.Traffic{N: 7, Stable: v1, Condemned: []rollout.Revision{v2}}},
		{"v3, for whom asks", rollout.Traffic{N: 8, Stable: v1, Canary: v3, Match: &rollout.Match{Header: map[string]string{"X-Canary": "1"}}}},
		{"everything to v3", rollout.Traffic{N: 9, Stable: v1, Canary: v3, Weight: rollout.Whole}},
		{"v3 is stable, v1 drains", rollout.Traffic{N: 10, Stable: v3, Keep: []rollout.Revision{v1}}},
		{"rest", rollout.Traffic{N: 11, Stable: v3}},
	} {
		fmt.Fprintf(&out, "# %s\n", step.what)
		show := func(kind string, p Patch) {
			for _, op := range p {
				raw, err := json.Marshal(op)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "%s %s\n", kind, raw)
			}
		}
		p := RenderRule(dr, step.t, view)
		show("DestinationRule", p)
		dr = apply(t, dr, p)
		rule := ReadRule(dr)
		view.Rule = &rule
		p, err := Render(vs, step.t, view)
		if err != nil {
			t.Fatal(err)
		}
		show("VirtualService ", p)
		vs = apply(t, vs, p)
		if got, _ := Parse(vs, view); !maps.Equal(got.Weights, step.t.Weights()) {
			t.Fatalf("%s: holds %v, want %v", step.what, got.Weights, step.t.Weights())
		}
	}
	raw, err := json.MarshalIndent(vs, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "# the VirtualService at the end\n%s\n", raw)
	golden.Same(t, "testdata/article.golden", out.String())
}

// A rollout that was taken back leaves the route as its author wrote it, our
// note apart, whatever its numbers were.
func TestTakenBackIsAsItWas(t *testing.T) {
	_, view := article(t)
	for name, text := range map[string]string{
		"Bare":        `[{destination: {host: my-app-service, subset: v1}}]`,
		"Hundred":     `[{destination: {host: my-app-service, subset: v1}, weight: 100}]`,
		"Seven":       `[{destination: {host: my-app-service, subset: v1}, weight: 7}]`,
		"Third":       `[{destination: {host: legacy}, weight: 33}, {destination: {host: my-app-service, subset: v1}, weight: 67}]`,
		"ThirdSubset": `[{destination: {host: my-app-service, subset: v1}, weight: 1}, {destination: {host: my-app-service.other}, weight: 3}]`,
	} {
		t.Run(name, func(t *testing.T) {
			vs := object(t, "metadata: {name: x, namespace: default}\nspec: {http: [{route: "+text+"}]}")
			before := clone(vs).(map[string]any)
			for n, w := range []rollout.Weight{0, 1, 50, 500, 3333, rollout.Whole, 0} {
				want := rollout.Traffic{N: n + 1, Stable: v1, Canary: v2, Weight: w}
				p, err := Render(vs, want, view)
				if err != nil {
					t.Fatal(err)
				}
				vs = apply(t, vs, p)
				if got, _ := Parse(vs, view); !maps.Equal(got.Weights, want.Weights()) {
					t.Fatalf("at %v the route holds %v", w, got.Weights)
				}
			}
			p, err := Render(vs, rollout.Traffic{N: 9, Stable: v1}, view)
			if err != nil {
				t.Fatal(err)
			}
			vs = apply(t, vs, p)
			if got := at(vs, "metadata", "annotations", KeptAnnotation); got != nil {
				t.Errorf("still hidden: %v", got)
			}
			delete(vs["metadata"].(map[string]any), "annotations")
			if !same(before, vs) {
				t.Errorf("was %v\nis  %v", before, vs)
			}
		})
	}
}

func TestThirdSharesStay(t *testing.T) {
	_, view := article(t)
	vs := object(t, `
metadata: {name: x, namespace: default}
spec: {http: [{route: [
  {destination: {host: my-app-service, subset: v1}, weight: 90},
  {destination: {host: legacy}, weight: 10}]}]}`)
	for _, w := range []rollout.Weight{500, 5000, 1234, 10000} {
		p, err := Render(vs, rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: w}, view)
		if err != nil {
			t.Fatal(err)
		}
		vs = apply(t, vs, p)
		s := view.slots(vs)[0]
		own, third := s.sums()
		if third*9 != own {
			t.Errorf("at %v others have %d of %d, want a tenth", w, third, own+third)
		}
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	_, view := article(t)
	for name, c := range map[string]struct {
		vs   string
		want rollout.Traffic
		says string
	}{
		"SameLabel": {
			vs:   `[{destination: {host: my-app-service, subset: v1}}]`,
			want: rollout.Traffic{Stable: v1, Canary: "v1@other", Weight: 500}, says: "no route can tell them apart",
		},
		"TooSmallAShare": {
			vs:   `[{destination: {host: my-app-service, subset: v1}, weight: 3}, {destination: {host: legacy}, weight: 2000000000}]`,
			want: rollout.Traffic{Stable: v1, Canary: v2, Weight: 50}, says: "cannot be said in whole numbers",
		},
		"RegularExpression": {
			vs:   `[{destination: {host: my-app-service, subset: v1}}], match: [{uri: {regex: "/a.*"}}]`,
			want: rollout.Traffic{Stable: v1, Canary: v2, Match: &rollout.Match{Path: "/b"}}, says: "regular expression",
		},
	} {
		t.Run(name, func(t *testing.T) {
			vs := object(t, "metadata: {name: x, namespace: default}\nspec: {http: [{route: "+c.vs+"}]}")
			p, err := Render(vs, c.want, view)
			if !errors.Is(err, engine.ErrRefused) || engine.KindOf(err) != engine.Stall || !strings.Contains(err.Error(), c.says) || len(p) > 0 {
				t.Errorf("patch %v, error %v; want it refused, saying %q", p, err, c.says)
			}
		})
	}
}

// ---- Any object, any split ----

// anything draws JSON that means nothing to us.
func anything(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Map(rapid.StringMatching(`[ -~]{0,8}`), func(s string) any { return s }),
		rapid.Map(rapid.Int64Range(-1<<53, 1<<53), func(n int64) any { return n }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil), rapid.Just[any](0.25),
	)
	if depth == 0 {
		return leaf
	}
	sub := anything(depth - 1)
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(sub, 0, 3), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.StringMatching(`x[a-z~/]{0,4}`), sub, 0, 3), func(m map[string]any) any { return m }),
	)
}

func extras(t *rapid.T, into map[string]any) map[string]any {
	for k, v := range rapid.MapOfN(rapid.StringMatching(`x[a-z~/]{1,5}`), anything(2), 0, 3).Draw(t, "foreign") {
		into[k] = v
	}
	return into
}

func drawRoute(t *rapid.T) map[string]any {
	r := extras(t, map[string]any{})
	n := rapid.IntRange(1, 4).Draw(t, "destinations")
	var route []any
	sum := int64(0)
	for i := range n {
		d := extras(t, map[string]any{"host": "my-app-service"})
		switch rapid.IntRange(0, 5).Draw(t, "whose") {
		case 0:
			d["host"] = "third" + fmt.Sprint(i)
		case 1:
			d["subset"] = "v2"
		case 2:
			d["subset"] = "v7"
		case 3:
			d["host"] = "my-app-service.default.svc.cluster.local"
			d["subset"] = "v1"
		case 4: // undivided
		default:
			d["subset"] = "v1"
		}
		w := int64(rapid.SampledFrom([]int{0, 1, 3, 5, 10, 33, 50, 67, 90, 100, 1000, 12345}).Draw(t, "weight"))
		one := extras(t, map[string]any{"destination": d, "weight": w})
		if w == 0 && rapid.Bool().Draw(t, "no number") {
			delete(one, "weight")
		}
		sum += w
		route = append(route, one)
	}
	if n > 1 && sum == 0 { // Istio refuses it
		route[0].(map[string]any)["weight"] = int64(100)
	}
	r["route"] = route
	if rapid.Bool().Draw(t, "has a match") {
		r["match"] = []any{map[string]any{"uri": map[string]any{"prefix": rapid.SampledFrom([]string{"/", "/a", "/b/c"}).Draw(t, "prefix")}}}
	}
	return r
}

func drawVirtualService(t *rapid.T) map[string]any {
	spec := extras(t, map[string]any{"hosts": []any{"my-app-service"}})
	for _, kind := range kinds {
		n := rapid.IntRange(0, 3).Draw(t, kind)
		var routes []any
		for i := range n {
			r := drawRoute(t)
			if kind == "http" && rapid.Bool().Draw(t, "named") {
				r["name"] = rapid.SampledFrom([]string{"api", "web", fmt.Sprint("r", i)}).Draw(t, "name")
			}
			routes = append(routes, r)
		}
		if n > 0 {
			spec[kind] = routes
		}
	}
	meta := extras(t, map[string]any{"name": "x", "namespace": "default", "resourceVersion": "7"})
	if rapid.Bool().Draw(t, "annotated") {
		meta["annotations"] = map[string]any{"a/b~c": "d"}
	}
	return extras(t, map[string]any{"kind": "VirtualService", "metadata": meta, "spec": spec})
}

func drawTraffic(t *rapid.T, n int) rollout.Traffic {
	out := rollout.Traffic{N: n, Stable: rapid.SampledFrom([]rollout.Revision{v1, v2, v3}).Draw(t, "stable")}
	if canary := rapid.SampledFrom([]rollout.Revision{"", v1, v2, v3}).Draw(t, "canary"); canary != out.Stable && canary != "" {
		out.Canary = canary
		out.Weight = rollout.Weight(rapid.IntRange(0, int(rollout.Whole)).Draw(t, "weight"))
		if rapid.Bool().Draw(t, "asked for") {
			out.Match = &rollout.Match{Header: map[string]string{"X-Canary": "1"}, Path: rapid.SampledFrom([]string{"", "/", "/b"}).Draw(t, "path")}
		}
	}
	if keep := rapid.SampledFrom([]rollout.Revision{"", v1, v2, v3}).Draw(t, "keep"); keep != "" && keep != out.Stable && keep != out.Canary {
		out.Keep = append(out.Keep, keep)
	}
	if rapid.Bool().Draw(t, "one is condemned") {
		out.Condemned = []rollout.Revision{"v0@dead"}
	}
	return out
}

// skeleton is what of an object is not ours: every destination of the
// application is left out, third numbers are proportions.
func skeleton(o map[string]any, v View) string {
	o = clone(o).(map[string]any)
	if a, ok := o["metadata"].(map[string]any)["annotations"].(map[string]any); ok {
		delete(a, NoteAnnotation)
		delete(a, KeptAnnotation)
		if len(a) == 0 {
			delete(o["metadata"].(map[string]any), "annotations")
		}
	}
	for _, kind := range kinds {
		var routes []any
		for _, r := range list(o, "spec", kind) {
			if isFront(kind, text(r, "name")) {
				continue
			}
			total := int64(0)
			for _, d := range list(r, "route") {
				w, _ := number(d, "weight")
				total += w
			}
			var rest []any
			for _, d := range list(r, "route") {
				if _, _, ours := v.whose(at(d, "destination")); ours {
					continue
				}
				m := d.(map[string]any)
				if w, ok := number(d, "weight"); ok && total > 0 {
					m["weight"] = fmt.Sprintf("%.9f", float64(w)/float64(total))
				}
				rest = append(rest, d)
			}
			m := r.(map[string]any)
			if m["route"] = rest; rest == nil {
				delete(m, "route")
			}
			routes = append(routes, m)
		}
		if routes != nil {
			o["spec"].(map[string]any)[kind] = routes
		}
	}
	raw, _ := json.Marshal(o)
	return string(raw)
}

// renders writes a split. carried: a route holds it now, with its weights and
// its note, and to write it again would change nothing. What is refused leaves
// everything as it was.
func renders(t *rapid.T, vs map[string]any, want rollout.Traffic, view View) (after map[string]any, wrote, carried bool) {
	before := clone(vs)
	p, err := Render(vs, want, view)
	if err != nil {
		if !errors.Is(err, engine.ErrRefused) || !same(before, vs) {
			t.Fatal(err)
		}
		return vs, false, false
	}
	vs = apply(t, vs, p)
	if again, err := Render(vs, want, view); err != nil || len(again) > 0 {
		t.Fatalf("a second time: %v, error %v\nobject %v", again, err, vs)
	}
	got, ok := Parse(vs, view)
	if !ok {
		if len(p) > 0 {
			t.Fatal("something was written where no route carries the split")
		}
		return vs, false, false
	}
	if !maps.Equal(got.Weights, want.Weights()) || got.Note == nil || !sameNote(got.Note, want.Note()) {
		t.Fatalf("holds %v with note %+v, want %v with %+v\nobject %v", got.Weights, got.Note, want.Weights(), want.Note(), vs)
	}
	return vs, len(p) > 0, true
}

func TestAnyRouteAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := drawVirtualService(t)
		dr := map[string]any{"metadata": map[string]any{"name": "r", "namespace": "default"}, "spec": extras(t, map[string]any{
			"host": "my-app-service",
			"subsets": []any{
				extras(t, map[string]any{"name": "v1", "labels": map[string]any{"version": "v1"}}),
				extras(t, map[string]any{"name": "v2", "labels": map[string]any{"version": "v2"}}),
				extras(t, map[string]any{"name": "serin-v3", "labels": map[string]any{"version": "v9"}}), // in our way
			}[:rapid.IntRange(0, 3).Draw(t, "subsets")],
		})}
		rule := ReadRule(dr)
		view := View{Namespace: "default", Label: "version", Versions: versions, Rule: &rule}
		if rapid.Bool().Draw(t, "named routes") {
			view.Routes = []string{"api", "tcp", "tls:x"}
		}
		original := skeleton(vs, view)
		noted := false
		for n := range rapid.IntRange(1, 4).Draw(t, "splits") {
			want := drawTraffic(t, n+1)
			dr = apply(t, dr, RenderRule(dr, want, view))
			rule := ReadRule(dr)
			view.Rule = &rule
			if p := RenderRule(dr, want, view); len(p) > 0 {
				t.Fatalf("the rule is patched again: %v", p)
			}
			after, wrote, carried := renders(t, vs, want, view)
			vs, noted = after, noted || wrote
			if !carried {
				continue
			}
			for _, s := range view.carrying(vs) {
				own, third := s.sums()
				if own+third <= 0 {
					t.Fatalf("%s has nothing", s)
				}
				for _, p := range s.parts {
					if p.ours && !p.undivided && !view.taken(text(p.raw, "destination", "subset")) && p.weight > 0 {
						t.Fatalf("%s names a subset that the rule does not have: %v", s, p.raw)
					}
				}
				if want.Canary == "" && len(want.Keep) == 0 {
					for _, p := range s.parts {
						if p.ours && p.value != view.value(want.Stable) {
							t.Fatalf("at rest %s names %s", s, p.value)
						}
					}
				}
			}
		}
		if after := skeleton(vs, view); after != original && noted {
			t.Fatalf("what is not ours was\n%s\nand is\n%s", original, after)
		}
	})
}

// Every weight there is, on the article's route.
func TestEveryWeight(t *testing.T) {
	vs, view := article(t)
	start := view.slots(vs)[0]
	for w := range rollout.Whole + 1 {
		want := rollout.Traffic{N: 1, Stable: v1, Canary: v2, Weight: w}
		placed, _, err := view.divide(start, want, kept{})
		if err != nil {
			t.Fatal(err)
		}
		var route []any
		sum, canary := int64(0), int64(0)
		for _, d := range placed {
			sum += d.weight
			if d.value == "v2" {
				canary = d.weight
			}
			route = append(route, d.object())
		}
		if canary*int64(rollout.Whole) != int64(w)*sum || sum > 10000 {
			t.Fatalf("%v is written as %d of %d", w, canary, sum)
		}
		start.raw["route"] = route
		if got, _ := Parse(vs, view); !maps.Equal(got.Weights, want.Weights()) {
			t.Fatalf("%v is read as %v", w, got.Weights)
		}
	}
}

// What went to all versions alike becomes stable's; beside a destination of
// stable's own it goes.
func TestUndivided(t *testing.T) {
	_, view := article(t)
	for name, c := range map[string]struct{ was, is string }{
		"Alone":         {`[{destination: {host: my-app-service, port: {number: 80}}, headers: {a: b}}]`, `[{destination: {host: my-app-service, port: {number: 80}, subset: v1}, headers: {a: b}}]`},
		"BesideStable":  {`[{destination: {host: my-app-service}, weight: 50}, {destination: {host: my-app-service, subset: v1}, weight: 50}]`, `[{destination: {host: my-app-service, subset: v1}, weight: 100}]`},
		"BesideAnother": {`[{destination: {host: my-app-service, subset: v2}, weight: 50}, {destination: {host: my-app-service}, weight: 50}]`, `[{destination: {host: my-app-service, subset: v1}, weight: 100}]`},
		"BesideAThird":  {`[{destination: {host: legacy}, weight: 30}, {destination: {host: my-app-service}, weight: 70}]`, `[{destination: {host: legacy}, weight: 30}, {destination: {host: my-app-service, subset: v1}, weight: 70}]`},
	} {
		t.Run(name, func(t *testing.T) {
			vs := object(t, "metadata: {name: x, namespace: default}\nspec: {http: [{route: "+c.was+"}]}")
			p, err := Render(vs, rollout.Traffic{N: 1, Stable: v1}, view)
			if err != nil {
				t.Fatal(err)
			}
			got, want := list(list(apply(t, vs, p), "spec", "http")[0], "route"), list(object(t, "r: "+c.is), "r")
			if !same(got, want) {
				t.Errorf("is %v\nwant %v", got, want)
			}
		})
	}
}
