// Command config writes config/: the CRDs as they are installed, and the
// manifests for those who do without Helm, which are the chart rendered with
// its defaults. The chart is the one source of everything but the CRDs, and the
// Go types are the one source of those.
//
//	config -crds DIR -chart charts/serin -out config
//
// crds is what controller-gen wrote. What it cannot be told by markers is added
// here: bounds inside of types that are not ours. What it says about Go and
// nothing about the document is left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	goyaml "go.yaml.in/yaml/v2"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

func main() {
	crds := flag.String("crds", "", "folder of what controller-gen wrote")
	chart := flag.String("chart", "charts/serin", "folder of the chart")
	out := flag.String("out", "config", "folder to write to")
	flag.Parse()
	goyaml.FutureLineWrap() // one line stays one line: half of a folded one is indentation
	if err := run(*crds, *chart, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(crds, chart, out string) error {
	definitions, err := definitions(crds)
	if err != nil {
		return err
	}
	for name, text := range definitions {
		if err := write(filepath.Join(out, "crd", name), text); err != nil {
			return err
		}
	}
	for name, values := range manifests {
		objects, err := Render(chart, definitions, values)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := write(filepath.Join(out, name), banner+strings.Join(objects, "---\n")); err != nil {
			return err
		}
	}
	return nil
}

// manifests are the files for kubectl, with the values that each is rendered
// with beside the chart's defaults.
var manifests = map[string]map[string]any{
	"install.yaml":             {"namespace": map[string]any{"create": true}},
	"install-routes-only.yaml": {"namespace": map[string]any{"create": true}, "profile": "routes-only"},
}

const banner = "# Written by `make generate` from charts/serin: kubectl apply --server-side -f FILE\n---\n"

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// definitions reads what controller-gen wrote and finishes it, by file name.
func definitions(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no CRDs in %q", dir)
	}
	out := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var crd map[string]any
		if err := yaml.Unmarshal(raw, &crd); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, v := range list(crd, "spec", "versions") {
			root, ok := dig(v, "schema", "openAPIV3Schema").(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%s: a version without a schema", file)
			}
			for _, field := range []string{"apiVersion", "kind"} {
				delete(dig(root, "properties", field).(map[string]any), "description")
			}
			finish(root, "")
		}
		text, err := yaml.Marshal(crd)
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(filepath.Base(file), "serin.dev_")] = string(text)
	}
	return out, nil
}

// bounds of parts that are not our types, by the path that ends in them.
var bounds = []struct {
	path *regexp.Regexp
	set  map[string]any
}{
	{regexp.MustCompile(`\.selector\.matchLabels$`), map[string]any{"maxProperties": 16, "additionalProperties": map[string]any{"type": "string", "maxLength": 63}}},
	{regexp.MustCompile(`\.selector\.matchExpressions$`), map[string]any{"maxItems": 16}},
	{regexp.MustCompile(`\.matchExpressions\[\]\.key$`), map[string]any{"maxLength": 317}},
	{regexp.MustCompile(`\.matchExpressions\[\]\.operator$`), map[string]any{"enum": []any{"In", "NotIn", "Exists", "DoesNotExist"}}},
	{regexp.MustCompile(`\.matchExpressions\[\]\.values$`), map[string]any{"maxItems": 16}},
	{regexp.MustCompile(`\.matchExpressions\[\]\.values\[\]$`), map[string]any{"maxLength": 63}},
	{regexp.MustCompile(`\.(header|cookie)$`), map[string]any{"additionalProperties": map[string]any{"type": "string", "minLength": 1, "maxLength": 256}}},
	{regexp.MustCompile(`\.(cpu|memory)\.max$`), map[string]any{"maxLength": 32}},
	{regexp.MustCompile(`\.lastTransitionTime$`), map[string]any{"maxLength": 64}},
}

// finish bounds a schema and everything below it, and says it shorter.
func finish(schema map[string]any, path string) {
	for _, b := range bounds {
		if b.path.MatchString(path) {
			for k, v := range b.set {
				schema[k] = v
			}
		}
	}
	if text, ok := schema["description"].(string); ok {
		if text = shorter(text); text == "" {
			delete(schema, "description")
		} else {
			schema["description"] = text
		}
	}
	if items, ok := schema["items"].(map[string]any); ok {
		finish(items, path+"[]")
	}
	if properties, ok := schema["properties"].(map[string]any); ok {
		for name, p := range properties {
			finish(p.(map[string]any), path+"."+name)
		}
	}
}

var aboutGo = regexp.MustCompile(`;? *[Nn]ever nil after [A-Z][^.;]*`)

// shorter keeps the sentences of a description that fit, the first one always.
func shorter(text string) string {
	const most = 160
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ReplaceAll(aboutGo.ReplaceAllString(text, ""), "..", ".")
	text = strings.TrimSuffix(strings.TrimSpace(text), " .")
	kept := ""
	for _, s := range regexp.MustCompile(`[^.]+(\.[^ ][^.]*)*\.?( |$)`).FindAllString(text, -1) {
		if kept != "" && len(kept)+len(s) > most {
			break
		}
		kept += s
	}
	return strings.TrimSpace(kept)
}

// Render gives the chart's objects as text, in the order in which they are to
// be applied.
func Render(dir string, crds map[string]string, values map[string]any) ([]string, error) {
	slog.SetLogLoggerLevel(slog.LevelWarn) // the loader remarks on every link
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return nil, err
	}
	files := chart.Files[:0]
	for _, f := range chart.Files {
		if !strings.HasPrefix(f.Name, "files/crd/") {
			files = append(files, f)
		}
	}
	chart.Files = files
	for name, text := range crds {
		chart.Files = append(chart.Files, &common.File{Name: "files/crd/" + name, Data: []byte(text)})
	}
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "serin", Namespace: "serin-system", IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Engine{Strict: true}.RenderWithContext(context.Background(), chart, all)
	if err != nil {
		return nil, err
	}
	return objects(rendered)
}

type object struct{ kind, name, text string }

func objects(rendered map[string]string) ([]string, error) {
	var all []object
	var errs []error
	for file, text := range rendered {
		if !strings.HasSuffix(file, ".yaml") {
			continue
		}
		for _, doc := range regexp.MustCompile(`(?m)^---\s*$`).Split(text, -1) {
			var o map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w\n%s", file, err, doc))
				continue
			}
			if len(o) == 0 {
				continue
			}
			kind, _ := o["kind"].(string)
			name, _ := dig(o, "metadata", "name").(string)
			namespace, _ := dig(o, "metadata", "namespace").(string)
			if kind == "" || name == "" {
				errs = append(errs, fmt.Errorf("%s: an object without kind or name:\n%s", file, doc))
			}
			text, err := yaml.Marshal(o)
			if err != nil {
				return nil, err
			}
			all = append(all, object{kind, namespace + "/" + name, string(text)})
		}
	}
	sort.Slice(all, func(a, b int) bool {
		if x, y := rank(all[a].kind), rank(all[b].kind); x != y {
			return x < y
		}
		return all[a].kind+all[a].name < all[b].kind+all[b].name
	})
	var out []string
	for _, o := range all {
		out = append(out, o.text)
	}
	return out, errors.Join(errs...)
}

func rank(kind string) int {
	for i, k := range []string{"Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
		if k == kind {
			return i
		}
	}
	return 100
}

func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func list(v any, path ...string) []any {
	l, _ := dig(v, path...).([]any)
	return l
}
