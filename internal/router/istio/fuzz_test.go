package istio

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/rollout"
)

// FuzzObjects feeds any two objects to everything that reads foreign data. None
// of it may fail but with an error; a split that could be rendered is read back
// as it was, and rendering it again changes nothing.
func FuzzObjects(f *testing.F) {
	seeds, _ := filepath.Glob("testdata/*.yaml")
	for _, name := range seeds {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		asJSON, err := yaml.YAMLToJSON(raw)
		if err != nil {
			f.Fatal(err)
		}
		dr := `{"metadata":{"namespace":"default"},"spec":{"host":"my-app-service","subsets":[{"name":"v1","labels":{"version":"v1"}}]}}`
		f.Add(asJSON, []byte(dr), uint16(500))
	}
	for _, vs := range []string{
		`{"spec":{"http":[{"route":[{"destination":{"host":"my-app-service"},"weight":-1},{"destination":{"host":"x"},"weight":2147483647}]}]}}`,
		`{"metadata":{"annotations":{"serin.dev/note":"{}","serin.dev/kept":"{\"http/0\":{\"scale\":-5}}"}},"spec":{"http":[{"route":[{"destination":{"host":"my-app-service","subset":"v1"},"weight":"1"},null,7]}]}}`,
		`{"metadata":{"annotations":7},"spec":{"tcp":[null,{"route":{}}],"tls":[{"route":[{"destination":null}]}],"http":{"a":1}}}`,
		`{"spec":{"http":[{"name":"serin-match/0"},{"name":"0","match":[null,{"uri":3}],"route":[{"destination":{"host":"my-app-service","subset":"v2"},"weight":0.5}]},{"route":[{"destination":{"host":"my-app-service"}}]}]}}`,
		`{"metadata":{"namespace":"default"},"spec":{"hosts":["my-app","x.y"],"http":[{"name":"a","route":[{"destination":{"host":"my-app-v1.default.svc.cluster.local","port":{"number":80}},"weight":90},{"destination":{"host":"MY-APP-V2."},"weight":10}]},{"route":[{"destination":{"host":"all"}},{"destination":{"host":"my-app-v1.else.svc"},"weight":3}]}]}}`,
	} {
		f.Add([]byte(vs), []byte(`{"spec":{"host":"my-app-service.default.svc","subsets":[null,{"name":3},{"name":"serin-v2","labels":{"version":"v1"}}]}}`), uint16(50))
	}
	f.Fuzz(func(t *testing.T, vsRaw, drRaw []byte, w uint16) {
		var vs, dr map[string]any
		if kjson.Unmarshal(vsRaw, &vs) != nil || kjson.Unmarshal(drRaw, &dr) != nil || vs == nil || dr == nil {
			return
		}
		rule := ReadRule(dr)
		view := View{Namespace: "default", Label: "version", Versions: versions, Rule: &rule}
		Parse(vs, view)
		want := rollout.Traffic{N: 3, Stable: v1, Canary: v2, Weight: rollout.Weight(w) % (rollout.Whole + 1), Match: &rollout.Match{Path: "/a"}}
		scene := Scene{Target: Target{VirtualService: "x", DestinationRule: "y"}, Root: vs, Rule: dr, View: view}
		Findings(scene, v1, v2, []rollout.Step{{Kind: rollout.StepMatch, Match: want.Match}, {Kind: rollout.StepWeight, Weight: 50}})
		PruneRule(dr, want, view, vs)
		hosts := view
		hosts.Rule, hosts.Services = nil, []Service{
			{Name: "my-app-service", Namespace: "default", Selector: map[string]string{"version": "v1"}},
			{Name: "my-app-v2", Namespace: "default", Selector: pods("v2"), Ports: []int32{80}}, // my-app-v1 is called like it
			{Name: "all", Namespace: "default", Selector: map[string]string{"app": "my-app"}},
		}
		scene.DestinationRule, scene.Rule, scene.View = "", nil, hosts
		Findings(scene, v1, v2, []rollout.Step{{Kind: rollout.StepWeight, Weight: 50}})
		for _, view := range []View{view, hosts} {
			if !patchable(vs) {
				continue
			}
			p, err := Render(vs, want, view)
			if err != nil {
				continue
			}
			after := apply(t, vs, p)
			if again, err := Render(after, want, view); err != nil || len(again) > 0 {
				t.Fatalf("a second time: %v, error %v\nobject %v", again, err, after)
			}
			if got, ok := Parse(after, view); ok && (!maps.Equal(got.Weights, want.Weights()) || got.Note == nil || got.Note.N != 3) {
				t.Fatalf("holds %v with note %+v\nobject %v", got.Weights, got.Note, after)
			}
		}
		if _, ok := at(dr, "spec", "subsets").([]any); ok || at(dr, "spec", "subsets") == nil {
			if _, ok := dr["spec"].(map[string]any); ok {
				apply(t, dr, RenderRule(dr, want, view))
			}
		}
	})
}

// patchable: what the API server's schema sees to.
func patchable(vs map[string]any) bool {
	m, ok := vs["metadata"].(map[string]any)
	if !ok {
		return false
	}
	if a := m["annotations"]; a != nil {
		all, ok := a.(map[string]any)
		if !ok {
			return false
		}
		for _, v := range all {
			if _, ok := v.(string); !ok {
				return false
			}
		}
	}
	for _, kind := range kinds {
		for _, r := range list(vs, "spec", kind) {
			route, ok := r.(map[string]any)
			if !ok {
				return false
			}
			for _, key := range []string{"match", "route"} {
				if _, isList := route[key].([]any); route[key] != nil && !isList {
					return false
				}
			}
			for _, d := range list(r, "route") {
				if _, ok := at(d, "destination").(map[string]any); !ok {
					return false
				}
			}
		}
	}
	return true
}
