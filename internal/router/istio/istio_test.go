package istio

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/rollout"
)

const (
	v1 rollout.Revision = "v1@aaaa"
	v2 rollout.Revision = "v2@bbbb"
	v3 rollout.Revision = "v3@cccc"
)

func pods(version string) map[string]string {
	return map[string]string{"app": "my-app", "version": version}
}

var versions = []Version{{v1, pods("v1")}, {v2, pods("v2")}}

// object reads YAML as the API server would store it.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := kjson.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func file(t testing.TB, name string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return object(t, string(raw))
}

// fataler is testing.TB, and rapid's T.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// apply applies a patch as an API server would.
func apply(t fataler, o map[string]any, p Patch) map[string]any {
	t.Helper()
	if len(p) == 0 {
		return o
	}
	raw, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := decoded.Apply(doc)
	if err != nil {
		t.Fatalf("%v\npatch %s\nobject %s", err, raw, doc)
	}
	var out map[string]any
	if err := kjson.Unmarshal(changed, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func article(t testing.TB) (vs map[string]any, v View) {
	t.Helper()
	vs, dr := file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml")
	for _, o := range []map[string]any{vs, dr} {
		o["metadata"].(map[string]any)["namespace"] = "default"
	}
	rule := ReadRule(dr)
	return vs, View{Namespace: "default", Label: "version", Versions: versions, Rule: &rule}
}
