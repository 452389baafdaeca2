package install

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/api/v1alpha1"
)

const config = "../../config"

type node = map[string]any

func crds(t *testing.T) map[string]node {
	t.Helper()
	files, err := filepath.Glob(config + "/crd/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("CRDs: %v %v", files, err)
	}
	out := map[string]node{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var crd node
		if err := yaml.UnmarshalStrict(raw, &crd); err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".yaml")] = crd
	}
	return out
}

func schemaOf(crd node) node {
	return crd["spec"].(node)["versions"].([]any)[0].(node)["schema"].(node)["openAPIV3Schema"].(node)
}

// Below 60 KiB, so that whoever applies one by hand does not meet the bound of
// an annotation.
func TestCRDsAreSmall(t *testing.T) {
	files, _ := filepath.Glob(config + "/crd/*.yaml")
	for _, f := range files {
		if i, err := os.Stat(f); err != nil || i.Size() >= 60<<10 {
			t.Errorf("%s: %d bytes, %v", f, i.Size(), err)
		} else {
			t.Logf("%s: %d bytes", filepath.Base(f), i.Size())
		}
	}
}

// Every list, text and map in the schema has a bound: without them the API
// server cannot bound what a rule costs, and nobody what an object weighs.
func TestEverythingInTheSchemaIsBounded(t *testing.T) {
	for name, crd := range crds(t) {
		var loose []string
		unbounded(schemaOf(crd), name, &loose)
		sort.Strings(loose)
		for _, l := range loose {
			// The API server bounds what it defines itself.
			switch l {
			case name + ".apiVersion: text", name + ".kind: text":
			default:
				t.Errorf("%s without a bound", l)
			}
		}
	}
}

func unbounded(s node, path string, out *[]string) {
	has := func(keys ...string) bool {
		for _, k := range keys {
			if s[k] != nil {
				return true
			}
		}
		return false
	}
	switch {
	case s["type"] == "string" && !has("maxLength", "enum"):
		*out = append(*out, path+": text")
	case s["type"] == "array" && !has("maxItems"):
		*out = append(*out, path+": list")
	case has("additionalProperties", "x-kubernetes-preserve-unknown-fields") && !has("maxProperties"):
		*out = append(*out, path+": map")
	case has("x-kubernetes-int-or-string") && !has("maxLength"):
		*out = append(*out, path+": text")
	}
	if items, ok := s["items"].(node); ok {
		unbounded(items, path+"[]", out)
	}
	if more, ok := s["additionalProperties"].(node); ok {
		unbounded(more, path+"{}", out)
	}
	if properties, ok := s["properties"].(node); ok {
		for k, p := range properties {
			if path+"."+k != "rollouts.metadata" && path+"."+k != "rolloutcommands.metadata" {
				unbounded(p.(node), path+"."+k, out)
			}
		}
	}
}

// Otherwise the test above proves nothing.
func TestUnboundedIsFound(t *testing.T) {
	var loose []string
	unbounded(node{"properties": node{
		"a": node{"type": "string"}, "b": node{"type": "array", "items": node{"type": "string"}},
		"c": node{"type": "object", "additionalProperties": node{"type": "integer"}}, "d": node{"x-kubernetes-preserve-unknown-fields": true},
	}}, "x", &loose)
	if len(loose) != 5 {
		t.Errorf("found %v", loose)
	}
}

func at(t *testing.T, s node, path string) node {
	t.Helper()
	for _, p := range strings.Split(path, ".") {
		if p == "[]" {
			s, _ = s["items"].(node)
		} else {
			properties, _ := s["properties"].(node)
			s, _ = properties[p].(node)
		}
		if s == nil {
			t.Fatalf("no %s in %s", p, path)
		}
	}
	return s
}

// A value with a unit that the schema lets in can be decoded: a single document
// that could not would keep every reader of a list from reading any.
func TestWhatIsLetInCanBeRead(t *testing.T) {
	root := schemaOf(crds(t)["rollouts"])
	for path, into := range map[string]func() json.Unmarshaler{
		"spec.capacity.headroom":               func() json.Unmarshaler { return new(v1alpha1.Percent) },
		"spec.strategy.canary.steps.[].weight": func() json.Unmarshaler { return new(v1alpha1.Percent) },
		"spec.analysis.errorRate.worseBy":      func() json.Unmarshaler { return new(v1alpha1.Points) },
		"spec.promotion.bake":                  func() json.Unmarshaler { return new(v1alpha1.Duration) },
		"spec.traffic.[].istio.settle":         func() json.Unmarshaler { return new(v1alpha1.Duration) },
	} {
		t.Run(path, func(t *testing.T) {
			s := at(t, root, path)
			pattern, most, least := s["pattern"].(string), s["maxLength"].(float64), 0.0
			if n, ok := s["minLength"].(float64); ok {
				least = n
			}
			values := rapid.StringMatching(pattern).Filter(func(v string) bool { return float64(len(v)) <= most && float64(len(v)) >= least })
			rapid.Check(t, func(t *rapid.T) {
				v := values.Draw(t, "value")
				if err := into().UnmarshalJSON([]byte(fmt.Sprintf("%q", v))); err != nil {
					t.Fatalf("%q is let in: %v", v, err)
				}
			})
		})
	}
}

// The schema knows every verb, and only those.
func TestTheVerbsAreTheCoresVerbs(t *testing.T) {
	enum := at(t, schemaOf(crds(t)["rolloutcommands"]), "spec.verb")["enum"].([]any)
	var got []string
	for _, e := range enum {
		got = append(got, e.(string))
	}
	sort.Strings(got)
	if want := "abort adopt approve pause promote resume retry undo"; strings.Join(got, " ") != want {
		t.Errorf("verbs %v, want %s", got, want)
	}
}

func TestColumns(t *testing.T) {
	var names []string
	for _, c := range crds(t)["rollouts"]["spec"].(node)["versions"].([]any)[0].(node)["additionalPrinterColumns"].([]any) {
		names = append(names, c.(node)["name"].(string))
	}
	if got := strings.ToUpper(strings.Join(names, " ")); got != "READY PHASE STEP WEIGHT SEEN VERDICT MESSAGE AGE" {
		t.Error(got)
	}
}
