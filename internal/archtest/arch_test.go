package archtest

import (
	"bufio"
	"bytes"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/serin-dev/serin/"

// pkg is one package of the module: its path below the module, and what it
// imports (tests apart, since a test may reach for anything).
type pkg struct {
	path    string
	imports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	// What another program reads, go test does not see: without this it would
	// give an old answer from its cache.
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var ps []pkg
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		f := strings.Fields(s.Text())
		ps = append(ps, pkg{strings.TrimPrefix(f[0], module), f[1:]})
	}
	if len(ps) < 10 {
		t.Fatalf("only %d packages found: the test looks in the wrong place", len(ps))
	}
	return ps
}

// A layer holds the packages under its prefixes. A package may import its own
// layer's parents only, so lower layers never see higher ones.
var layers = []struct {
	name     string
	prefixes []string
}{
	{"pure", []string{"internal/analysis", "internal/rollout", "internal/strictyaml", "api"}},
	{"engine", []string{"internal/engine", "internal/apiserver", "internal/gateway", "internal/manifest", "internal/record"}},
	{"adapters", []string{"internal/router", "internal/workload", "internal/metric", "internal/store", "internal/hook"}},
	{"model", []string{"internal/httpapi", "internal/telemetry"}},
	{"hosts", []string{"internal/daemon", "internal/controller"}},
	{"cli", []string{"internal/cli", "internal/demo", "internal/tui"}},
	{"cmd", []string{"cmd"}},
}

func layerOf(path string) int {
	for i, l := range layers {
		for _, p := range l.prefixes {
			if path == p || strings.HasPrefix(path, p+"/") {
				return i
			}
		}
	}
	return -1
}

// apart are beside the layers: what they may import is stated by the bans.
var apart = []string{"internal/sim", "internal/archtest", "internal/engine/enginetest", "internal/golden", "test", "ui", "grafana"}

func isApart(path string) bool {
	for _, p := range apart {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

func TestImportsRunDownwards(t *testing.T) {
	for _, p := range packages(t) {
		from := layerOf(p.path)
		if from < 0 && !isApart(p.path) {
			t.Errorf("%s is in no layer: give it a place in archtest, with the reason", p.path)
			continue
		}
		for _, i := range p.imports {
			rel, ours := strings.CutPrefix(i, module)
			if !ours || isApart(p.path) {
				continue
			}
			if to := layerOf(rel); to > from {
				t.Errorf("%s (%s) imports %s (%s): imports run downwards only", p.path, layers[from].name, rel, layers[to].name)
			}
		}
	}
}

// A prefix of nothing would be a rule that only looks like one.
func TestEveryPlaceIsOne(t *testing.T) {
	ps := packages(t)
	named := slices.Clone(apart)
	for _, l := range layers {
		named = append(named, l.prefixes...)
	}
	for _, b := range bans {
		named = append(append(named, b.who...), b.except...)
	}
	for _, n := range named {
		if !slices.ContainsFunc(ps, func(p pkg) bool { return under(p.path, []string{n}) }) {
			t.Errorf("%s is in a rule and holds no package", n)
		}
	}
}

// A ban names who may not import what, and why.
var bans = []struct {
	who     []string // prefixes; "" = everybody
	except  []string
	what    []string // prefixes of import paths; "std" = only the standard library and ours of the same layer
	because string
}{
	{[]string{"internal/analysis", "internal/rollout"}, nil, []string{"nonstd"},
		"the policy and the judge are values in, values out: nothing in them may need an upgrade, a network or a clock"},
	{[]string{"internal/analysis", "internal/rollout"}, nil, []string{"net", "os", "os/exec", "net/http", "log", "log/slog", "context", "math/rand", "math/rand/v2", "crypto/rand", "sync", "io/fs"},
		"no I/O, no goroutines, no chance in the core"},
	{[]string{"internal/analysis"}, nil, []string{module + "internal/"},
		"the judge knows no rollouts"},
	{[]string{"internal/gateway"}, nil, []string{module + "internal/", module + "api"},
		"the data plane knows no rollouts"},
	{[]string{"internal/manifest"}, nil, []string{module + "internal/engine", module + "internal/gateway"},
		"documents become plain values; hosts do the rest"},
	{[]string{""}, []string{"internal/controller", "internal/router/istio", "internal/workload/deployment", "internal/store/status", "cmd"}, []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
		"a machine without a cluster does not carry the cluster's client"},
	{[]string{"api"}, nil, []string{"k8s.io/api", "k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
		"whoever imports the document's types gets apimachinery's meta types and nothing heavier"},
	{[]string{""}, []string{"internal/sim", "internal/engine/enginetest", "internal/metric/prometheus/prometheustest", "internal/golden", "test", "internal/cli", "internal/demo"}, []string{module + "internal/sim", module + "internal/engine/enginetest", module + "internal/metric/prometheus/prometheustest", module + "internal/golden", "testing"},
		"fakes and the simulator are for tests, and for `serin simulate`"},
	{[]string{""}, nil, []string{"gonum.org"},
		"an oracle in tests, not a dependency"},
	{[]string{""}, []string{"cmd", "internal/daemon", "internal/cli", "internal/demo", "internal/controller", "internal/workload/process", "test"}, []string{"os/signal"},
		"signals are the business of what a person starts"},
}

func TestBans(t *testing.T) {
	ps := packages(t)
	for _, b := range bans {
		for _, p := range ps {
			if !under(p.path, b.who) || under(p.path, b.except) && b.except != nil {
				continue
			}
			for _, i := range p.imports {
				for _, w := range b.what {
					if banned(p.path, i, w) {
						t.Errorf("%s imports %s: %s", p.path, i, b.because)
					}
				}
			}
		}
	}
}

func under(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if p == "" || path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

func banned(path, imp, what string) bool {
	if what == "nonstd" {
		return strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !strings.HasPrefix(imp, module)
	}
	if rel, ours := strings.CutPrefix(imp, module); ours {
		if rel == path || strings.HasPrefix(rel, path+"/") || strings.HasPrefix(path, rel+"/") {
			return false // its own subtree
		}
	}
	if strings.HasSuffix(what, "/") {
		return strings.HasPrefix(imp, what)
	}
	return imp == what || (strings.HasPrefix(imp, what+"/") && !isStd(what))
}

func isStd(p string) bool { return !strings.Contains(strings.SplitN(p, "/", 2)[0], ".") }

// TestAdaptersDoNotKnowEachOther: a host composes them.
func TestAdaptersDoNotKnowEachOther(t *testing.T) {
	adapters := layers[2].prefixes
	for _, p := range packages(t) {
		if !under(p.path, adapters) {
			continue
		}
		for _, i := range p.imports {
			rel, ours := strings.CutPrefix(i, module)
			if ours && under(rel, adapters) && rel != p.path && !strings.HasPrefix(rel, p.path+"/") && !strings.HasPrefix(p.path, rel+"/") {
				t.Errorf("%s imports its sibling %s: hosts put adapters together", p.path, rel)
			}
		}
	}
}

// TestNoPackageCalledUtil: a package is named for what it offers.
func TestNoPackageCalledUtil(t *testing.T) {
	for _, p := range packages(t) {
		for _, bad := range []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared"} {
			if p.path == bad || strings.HasSuffix(p.path, "/"+bad) {
				t.Errorf("%s: name it for what it offers", p.path)
			}
		}
	}
}

// TestNoSecrets of how or where this is made: the project stands alone.
func TestNothingForeignInTheTree(t *testing.T) {
	cmd := exec.Command("git", "grep", "-nIE", `(^|[^a-zA-Z])/(work|farm)/|shared/(design|cases|judge|faults|record|habits|peers|ux)`, "--", ":!internal/archtest")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err == nil && len(out) > 0 {
		t.Errorf("a path of a machine, or a file that is not in the project:\n%s", out)
	}
}
