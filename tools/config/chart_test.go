package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const root = "../.."

type node = map[string]any

func rendered(t *testing.T, values string) []node {
	t.Helper()
	all, err := try(values)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func try(values string) ([]node, error) {
	files, err := filepath.Glob(root + "/config/crd/*.yaml")
	if err != nil {
		return nil, err
	}
	crds := map[string]string{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		crds[filepath.Base(f)] = string(raw)
	}
	v := node{}
	if err := yaml.Unmarshal([]byte(values), &v); err != nil {
		return nil, err
	}
	texts, err := Render(root+"/charts/serin", crds, v)
	if err != nil {
		return nil, err
	}
	var out []node
	for _, text := range texts {
		var o node
		if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func find(t *testing.T, all []node, kind, name string) node {
	t.Helper()
	for _, o := range all {
		if o["kind"] == kind && dig(o, "metadata", "name") == name {
			return o
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return nil
}

func count(all []node, kind string) (n int) {
	for _, o := range all {
		if o["kind"] == kind {
			n++
		}
	}
	return n
}

// verbs lists "group/resource: verbs" of a role, sorted.
func verbs(role node) []string {
	var out []string
	for _, r := range role["rules"].([]any) {
		rule := r.(node)
		for _, g := range rule["apiGroups"].([]any) {
			for _, res := range rule["resources"].([]any) {
				var vs []string
				for _, v := range rule["verbs"].([]any) {
					vs = append(vs, v.(string))
				}
				slices.Sort(vs)
				out = append(out, fmt.Sprintf("%s/%s: %s", g, res, strings.Join(vs, " ")))
			}
		}
	}
	slices.Sort(out)
	return out
}

// The chart as a folder holds the CRDs themselves: Helm follows the link.
func TestTheChartHoldsTheCRDs(t *testing.T) {
	for _, f := range []string{"rollouts.yaml", "rolloutcommands.yaml"} {
		a, errA := os.ReadFile(root + "/charts/serin/files/crd/" + f)
		b, errB := os.ReadFile(root + "/config/crd/" + f)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s: %v, %v", f, errA, errB)
		}
	}
}

func TestRoles(t *testing.T) {
	full := verbs(find(t, rendered(t, `{}`), "ClusterRole", "serin-controller"))
	for _, line := range full {
		if strings.Contains(line, "*") || strings.Contains(line, "secrets") || strings.Contains(line, "create") && !strings.Contains(line, "events") {
			t.Errorf("the controller may %s", line)
		}
	}
	routes := verbs(find(t, rendered(t, `{profile: routes-only}`), "ClusterRole", "serin-controller"))
	for _, line := range routes {
		if strings.HasPrefix(line, "apps/deployments:") && line != "apps/deployments: list watch" {
			t.Errorf("routes-only may %s", line)
		}
	}
	if !slices.Contains(routes, "apps/deployments/scale: patch") || slices.Contains(full, "apps/deployments/scale: patch") {
		t.Errorf("full: %v\nroutes-only: %v", full, routes)
	}
}

// With a list of namespaces there is no right outside of them.
func TestNamespaced(t *testing.T) {
	all := rendered(t, `{watchNamespaces: [shop, pay]}`)
	if n := count(all, "ClusterRoleBinding"); n != 0 {
		t.Errorf("%d ClusterRoleBindings", n)
	}
	if n := count(all, "RoleBinding"); n != 3 {
		t.Errorf("%d RoleBindings, want one each and the lease's", n)
	}
	args := fmt.Sprint(container(t, all)["args"])
	if !strings.Contains(args, "--namespace=shop") || !strings.Contains(args, "--namespace=pay") {
		t.Error(args)
	}
}

func container(t *testing.T, all []node) node {
	t.Helper()
	d := find(t, all, "Deployment", "serin-controller")
	return list(d, "spec", "template", "spec", "containers")[0].(node)
}

// What Pod Security calls restricted, and a file system that cannot be written.
func TestThePodIsRestricted(t *testing.T) {
	all := rendered(t, `{}`)
	pod := dig(find(t, all, "Deployment", "serin-controller"), "spec", "template", "spec").(node)
	c := container(t, all)
	for what, ok := range map[string]bool{
		"runAsNonRoot":             dig(pod, "securityContext", "runAsNonRoot") == true,
		"seccomp":                  dig(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault",
		"allowPrivilegeEscalation": dig(c, "securityContext", "allowPrivilegeEscalation") == false,
		"capabilities":             fmt.Sprint(dig(c, "securityContext", "capabilities", "drop")) == "[ALL]",
		"readOnlyRootFilesystem":   dig(c, "securityContext", "readOnlyRootFilesystem") == true,
		"memory limit":             dig(c, "resources", "limits", "memory") != nil,
		"no host":                  pod["hostNetwork"] == nil && pod["hostPID"] == nil,
		"two replicas, and a PDB":  fmt.Sprint(dig(find(t, all, "Deployment", "serin-controller"), "spec", "replicas")) == "2" && count(all, "PodDisruptionBudget") == 1,
	} {
		if !ok {
			t.Errorf("%s: %v", what, c)
		}
	}
}

// Every flag that the chart can pass is one that the program knows: another one
// would be a pod that never starts.
func TestFlagsExist(t *testing.T) {
	args := container(t, rendered(t, everything))["args"].([]any)
	if args[0] != "controller" {
		t.Fatal(args)
	}
	help, err := exec.Command("go", "run", "-C", root, "./cmd/serin", "controller", "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, help)
	}
	if len(args) < 15 {
		t.Errorf("only %v", args)
	}
	for _, a := range args[1:] {
		flag, _, _ := strings.Cut(a.(string), "=")
		if !regexp.MustCompile(`(^|\s)` + regexp.QuoteMeta(flag) + `\s`).Match(help) {
			t.Errorf("serin controller has no flag %s", flag)
		}
	}
}

// everything sets every value that changes what is rendered.
const everything = `
profile: routes-only
watchNamespaces: [shop]
replicas: 3
image: {repository: r/serin, digest: "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", pullPolicy: Always}
imagePullSecrets: [{name: s}]
namespace: {create: true}
crds: {install: true, keep: false}
rbac: {create: true, userRoles: true, configMaps: false}
serviceAccount: {create: true, name: other, annotations: {a: b}}
controller:
  verbose: true
  workers: 4
  extraArgs: [--record-dir=/tmp/records]
  prometheus: {address: "https://prometheus:9090", caFile: /a, serverName: b, certFile: /c, keyFile: /d, bearerTokenFile: /e, basicAuthUser: f, basicAuthPasswordFile: /g, tenant: h}
metrics: {port: 9000, service: true, serviceMonitor: true}
networkPolicy: {enabled: true, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
priorityClassName: system-cluster-critical
nodeSelector: {a: b}
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {}}
podAnnotations: {a: b}
podLabels: {c: d}
volumes: [{name: v, emptyDir: {}}]
volumeMounts: [{name: v, mountPath: /v}]
`

func TestEverythingRenders(t *testing.T) {
	all := rendered(t, everything)
	for _, kind := range []string{"Namespace", "NetworkPolicy", "ServiceMonitor"} {
		if count(all, kind) != 1 {
			t.Errorf("no %s", kind)
		}
	}
	if got := container(t, all)["image"]; got != "r/serin@sha256:"+strings.Repeat("a", 64) {
		t.Error(got)
	}
	policy := find(t, all, "ValidatingAdmissionPolicy", "serin-bounds-routes")
	if text := fmt.Sprint(policy); !strings.Contains(text, "system:serviceaccount:serin-system:other") {
		t.Error("the policies speak of another account:", text)
	}
	nothing := rendered(t, `{crds: {install: false}, rbac: {create: false, userRoles: false}, admissionPolicies: {install: false}, serviceAccount: {create: false, name: x}, metrics: {service: false}, replicas: 1}`)
	if len(nothing) != 1 || nothing[0]["kind"] != "Deployment" {
		t.Errorf("%d objects with everything off", len(nothing))
	}
}

// values.schema.json refuses what would otherwise be left out in silence.
func TestWrongValues(t *testing.T) {
	for values, want := range map[string]string{
		`{replica: 3}`:                                      "replica",
		`{profile: everything}`:                             "profile",
		`{watchNamespaces: ["*"]}`:                          "watchNamespaces",
		`{image: {repository: r, digest: latest}}`:          "digest",
		`{controller: {prometheus: {address: "nonsense"}}}`: "address",
		`{replicas: "2"}`:                                   "replicas",
	} {
		if _, err := try(values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", values, err)
		}
	}
}
