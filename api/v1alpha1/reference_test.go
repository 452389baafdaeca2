package v1alpha1

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/golden"
)

// docs/ROLLOUT.md holds the table of all fields, written from the schema that
// the types give: who has no cluster has no `kubectl explain`.
func TestReference(t *testing.T) {
	const path, from, to = "../../docs/ROLLOUT.md", "<!-- table: go test ./api/v1alpha1 -run Reference -update -->\n", "<!-- end of table -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), from)
	_, after, closed := strings.Cut(rest, to)
	if !ok || !closed {
		t.Fatalf("%s has no table", path)
	}
	crd, err := os.ReadFile("../../config/crd/rollouts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema fieldSchema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(crd, &c); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| field of `spec` | |\n|---|---|\n")
	reference(&b, "", c.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"])
	golden.Same(t, path, before+from+b.String()+to+after)
}

type fieldSchema struct {
	Type        string                 `json:"type"`
	Description string                 `json:"description"`
	Enum        []string               `json:"enum"`
	Properties  map[string]fieldSchema `json:"properties"`
	Items       *fieldSchema           `json:"items"`
}

func reference(b *strings.Builder, at string, s fieldSchema) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f, path := s.Properties[name], strings.TrimPrefix(at+"."+name, ".")
		says := f.Description
		if f.Items != nil {
			f, path = *f.Items, path+"[]"
		}
		says = strings.ReplaceAll(strings.Join(strings.Fields(says), " "), "|", `\|`)
		if len(f.Enum) > 0 {
			says = strings.TrimSpace(says + " One of " + strings.Join(f.Enum, ", ") + ".")
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", path, says)
		if name != "selector" { // Kubernetes' own
			reference(b, path, f)
		}
	}
}
