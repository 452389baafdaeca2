package install

import (
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const documents = "../../api/v1alpha1/testdata/documents"

// What Validate accepts the API server accepts, and gives back as it was.
func TestDocumentsAreLetIn(t *testing.T) {
	ctx := live(t)
	namespace(t, "documents")
	for _, name := range []string{"smallest", "everything", "bluegreen", "steps-without-the-end", "same"} {
		t.Run(name, func(t *testing.T) {
			files, _ := filepath.Glob(filepath.Join(documents, name+".[yj]*"))
			if len(files) != 1 {
				t.Fatalf("%v", files)
			}
			raw, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			for i, doc := range strings.Split(string(raw), "\n---\n") {
				u := object(doc)
				if u.GetKind() != "Rollout" {
					continue
				}
				u.SetNamespace("documents")
				u.SetName(fmt.Sprintf("%s-%d", name, i))
				if err := admin.Create(ctx, u, client.FieldValidation("Strict")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDocumentsAreRefused(t *testing.T) {
	ctx := live(t)
	namespace(t, "documents")
	ok := func(strategy, analysis string) string {
		return "{apiVersion: serin.dev/v1alpha1, kind: Rollout, metadata: {name: refused, namespace: documents}, spec: {workload: {versions: {selector: {matchLabels: {app: a}}}}, " +
			"traffic: [{istio: {virtualService: a, destinationRule: b}}], strategy: {" + strategy + "}, analysis: {" + analysis + "}}}"
	}
	most := "" // as many steps as there may be: the rules' cost is bounded for them
	for i := range 50 {
		most += fmt.Sprintf("{weight: %d.%d%%, hold: 1m}, ", 2*i, i%9+1)
	}
	for _, strategy := range []string{
		"", "canary: {steps: []}", "canary: {steps: [{approval: {}}]}",
		"canary: {steps: [{weight: 9%}, {approval: {}}, {weight: 10%}, {weight: 10.01%}, {pause: {}}, {weight: 100%}]}", // by value, not by letters
		"canary: {steps: [" + most + "]}",
	} {
		if err := admin.Create(ctx, object(ok(strategy, "")), client.DryRunAll); err != nil {
			t.Errorf("%s: %v", strategy, err)
		}
	}
	byHost := "{apiVersion: serin.dev/v1alpha1, kind: Rollout, metadata: {name: by-host, namespace: documents}, spec: {workload: {%s}, traffic: [{istio: {virtualService: a}}, {gatewayAPI: {name: b}}]}}"
	if err := admin.Create(ctx, object(fmt.Sprintf(byHost, "versions: {selector: {matchLabels: {app: a}}}")), client.DryRunAll); err != nil {
		t.Errorf("one Service for each version: %v", err)
	}
	for doc, want := range map[string]string{
		ok("canary: {steps: [{weight: 0%}]}", ""):                                                            "above 0%",
		ok("canary: {steps: [{weight: 101%}]}", ""):                                                          "at most 100%",
		ok("canary: {steps: [{weight: 50%}, {weight: 5%}]}", ""):                                             "above the weights before it",
		ok("canary: {steps: [{weight: 5%}, {approval: {}}, {weight: 5.00%}]}", ""):                           "above the weights before it",
		ok("canary: {steps: [{weight: 5%}, {weight: 100%}, {weight: 10%}]}", ""):                             "above the weights before it",
		ok("canary: {steps: ["+strings.TrimSuffix(most, "{weight: 98.5%, hold: 1m}, ")+"{weight: 1%}]}", ""): "above the weights before it",
		ok("canary: {steps: [{weight: 5}]}", ""):                                                             "weight",
		ok("canary: {steps: [{weight: 5%, pause: {}}]}", ""):                                                 "exactly one of",
		ok("canary: {steps: [{hold: 5m, approval: {}}]}", ""):                                                "hold belongs",
		ok("canary: {}, blueGreen: {}", ""):                                                                  "at most one",
		ok("", "none: {reason: short}"):                                                                      "none.reason",
		ok("", "none: {reason: it is a demo of it}, cpu: {}"):                                                "none goes with no metric",
		ok("", "errorRate: {for: 5m}"):                                                                       "give max",
		ok("", "onUnavailable: Advance"):                                                                     "onUnavailable",
		ok("", "latency: {max: 1y}"):                                                                         "latency.max",
		ok("", "metrics: [{name: a, prometheus: {query: up}}]"):                                              "min, max or both",
		"{apiVersion: serin.dev/v1alpha1, kind: Rollout, metadata: {name: refused, namespace: documents}, spec: {workload: {}, traffic: []}}": "exactly one of versions",
		fmt.Sprintf(byHost, "inPlace: {name: a}"):                                   "give istio.destinationRule",
		strings.Replace(ok("", ""), "destinationRule: b", `destinationRule: ""`, 1): "istio.destinationRule",
	} {
		if err := admin.Create(ctx, object(doc), client.DryRunAll); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %q", doc, err, want)
		}
	}
}

func TestACommandDoesNotChange(t *testing.T) {
	ctx := live(t)
	c := command("fixed", "x", "pause")
	who := as(t, "x", "system:masters")
	if err := who.Create(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := admin.Patch(ctx, c, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"verb":"abort"}}`))); err == nil || !strings.Contains(err.Error(), "cannot be changed") {
		t.Errorf("%v", err)
	}
	for _, spec := range []string{"verb: pause, full: true", "verb: abort, override: true", "verb: adopt", "verb: pause, stable: v1", "verb: nonsense", `verb: pause, "n": -1`} {
		doc := "{apiVersion: serin.dev/v1alpha1, kind: RolloutCommand, metadata: {name: bad, namespace: default}, spec: {rollout: my-app, by: x, " + spec + "}}"
		if err := who.Create(ctx, object(doc), client.DryRunAll); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// Who may deploy may not approve; nobody speaks for another.
func TestWhoMayCommand(t *testing.T) {
	ctx := live(t)
	bind(t, "default", "serin-edit", "dev")
	bind(t, "default", "serin-approve", "boss")
	bind(t, "default", "serin-view", "guest")
	command := func(by, spec string) *unstructured.Unstructured {
		return object("{apiVersion: serin.dev/v1alpha1, kind: RolloutCommand, metadata: {generateName: c-, namespace: default}, spec: {rollout: my-app, by: " + by + ", " + spec + "}}")
	}
	for _, c := range []struct {
		user, by, spec, refusal string
	}{
		{"dev", "dev", "verb: promote", ""},
		{"dev", "dev", "verb: promote, full: true", ""},
		{"dev", "dev", "verb: abort", ""},
		{"dev", "dev", "verb: adopt, stable: v1", ""},
		{"dev", "boss", "verb: abort", "spec.by is boss, and you are dev"},
		{"dev", "dev", "verb: approve", "dev may not approve rollouts.serin.dev my-app in default"},
		{"dev", "dev", "verb: promote, override: true", "dev may not override"},
		{"boss", "boss", "verb: approve", ""},
		{"boss", "boss", "verb: promote, override: true", ""},
		{"boss", "boss", "verb: approve, groups: ['system:authenticated']", ""},
		{"boss", "boss", "verb: approve, groups: ['system:authenticated', sre]", "boss is not in every one of spec.groups"},
		{"boss", "boss", "verb: undo", "boss may not undo"},
		{"guest", "guest", "verb: pause", "cannot create resource"},
	} {
		err := as(t, c.user).Create(ctx, command(c.by, c.spec), client.DryRunAll)
		switch {
		case c.refusal == "" && err != nil:
			t.Errorf("%s: %s: %v", c.user, c.spec, err)
		case c.refusal != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), c.refusal)):
			t.Errorf("%s: %s: %v, want %q", c.user, c.spec, err, c.refusal)
		}
	}
}

// fields are what the controller's account tries to write: allowed, or refused
// with the words of a policy or of the authorizer.
var fields = []struct {
	kind    string
	patch   string // JSON Patch
	refusal string
}{
	{"Deployment", `[{"op":"replace","path":"/spec/replicas","value":5}]`, ""},
	{"Deployment", `[{"op":"add","path":"/metadata/annotations/serin.dev~1mark","value":"retired/1111"},{"op":"replace","path":"/spec/replicas","value":0}]`, ""},
	{"Deployment", `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"evil"}]`, "nothing of it but spec.replicas"},
	{"Deployment", `[{"op":"add","path":"/spec/paused","value":true}]`, "nothing of it but spec.replicas"},
	{"Deployment", `[{"op":"add","path":"/spec/minReadySeconds","value":7}]`, "nothing of it but spec.replicas"},
	{"Deployment", `[{"op":"replace","path":"/metadata/annotations/theirs","value":"changed"}]`, "no annotation but its own"},
	{"Deployment", `[{"op":"remove","path":"/metadata/annotations/theirs"}]`, "no annotation but its own"},
	{"Deployment", `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, "no label"},
	{"Deployment", `[{"op":"add","path":"/metadata/finalizers","value":["a/b"]}]`, "finalizer"},

	{"HorizontalPodAutoscaler", `[{"op":"replace","path":"/spec/minReplicas","value":4},{"op":"add","path":"/metadata/annotations","value":{"serin.dev/min-replicas":"2"}}]`, ""},
	{"HorizontalPodAutoscaler", `[{"op":"replace","path":"/spec/maxReplicas","value":100}]`, "nothing of it but spec.minReplicas"},

	{"VirtualService", `[{"op":"replace","path":"/spec/http/1/route/0/weight","value":95},{"op":"add","path":"/spec/http/1/route/-","value":{"destination":{"host":"my-app","subset":"v2"},"weight":5}},{"op":"add","path":"/metadata/annotations/serin.dev~1note","value":"{}"}]`, ""},
	{"VirtualService", `[{"op":"replace","path":"/spec/http/1/route/0/destination/host","value":"my-app-v2"}]`, ""},
	{"VirtualService", `[{"op":"replace","path":"/spec/http/1/route/0/destination/host","value":"evil.example.com"}]`, "no other domain"},
	{"VirtualService", `[{"op":"replace","path":"/spec/http/1/route/0/destination/host","value":"my-app.other.svc.cluster.local"}]`, "no other domain"},
	{"VirtualService", `[{"op":"add","path":"/spec/http/1/mirror","value":{"host":"my-app"}}]`, "nothing of an http route but its destinations"},
	{"VirtualService", `[{"op":"add","path":"/spec/http/0/timeout","value":"1s"}]`, "nothing of an http route but its destinations"},
	{"VirtualService", `[{"op":"remove","path":"/spec/http/0"}]`, "nothing of an http route but its destinations"},
	{"VirtualService", `[{"op":"add","path":"/spec/http/0","value":{"name":"mine","route":[{"destination":{"host":"my-app"}}]}}]`, "nothing of an http route but its destinations"},
	{"VirtualService", `[{"op":"add","path":"/spec/http/1","value":{"name":"serin-match/main","match":[{"headers":{"x-canary":{"exact":"1"}}}],"timeout":"3s","route":[{"destination":{"host":"my-app","subset":"v2"},"weight":100}]}}]`, ""},
	{"VirtualService", `[{"op":"add","path":"/spec/http/1","value":{"name":"serin-match/main","fault":{"abort":{"httpStatus":500}},"route":[{"destination":{"host":"my-app"}}]}}]`, "a copy of one that is there"},
	{"VirtualService", `[{"op":"replace","path":"/spec/hosts","value":["evil"]}]`, "nothing of it but spec.http, spec.tls and spec.tcp"},
	{"VirtualService", `[{"op":"add","path":"/spec/gateways","value":["g"]}]`, "nothing of it but spec.http, spec.tls and spec.tcp"},
	{"VirtualService", `[{"op":"replace","path":"/spec/tcp/0/route/0/weight","value":90}]`, ""},
	{"VirtualService", `[{"op":"replace","path":"/spec/tcp/0/match/0/port","value":1}]`, "tls or tcp route"},

	{"DestinationRule", `[{"op":"add","path":"/spec/subsets/-","value":{"name":"serin-v2","labels":{"version":"v2"}}}]`, ""},
	{"DestinationRule", `[{"op":"add","path":"/spec/subsets/-","value":{"name":"v2","labels":{"version":"v2"}}}]`, "no subset but its own"},
	{"DestinationRule", `[{"op":"replace","path":"/spec/subsets/0/labels/version","value":"v9"}]`, "no subset but its own"},
	{"DestinationRule", `[{"op":"replace","path":"/spec/host","value":"other"}]`, "nothing of it but spec.subsets"},
	{"DestinationRule", `[{"op":"add","path":"/spec/trafficPolicy","value":{"tls":{"mode":"DISABLE"}}}]`, "nothing of it but spec.subsets"},

	{"Rollout", `[{"op":"add","path":"/metadata/finalizers","value":["serin.dev/traffic"]}]`, ""},
	{"Rollout", `[{"op":"add","path":"/metadata/finalizers","value":["other/one"]}]`, "no finalizer but serin.dev/traffic"},
	{"Rollout", `[{"op":"add","path":"/spec/suspend","value":true}]`, "does not edit documents"},
	{"Rollout", `[{"op":"add","path":"/metadata/annotations","value":{"a":"b"}}]`, "nothing but its finalizer"},

	{"Service", `[{"op":"add","path":"/spec/selector","value":{"app":"evil"}}]`, "cannot patch resource"},
}

const shop = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: my-app, annotations: {theirs: "1"}}
spec:
  replicas: 2
  selector: {matchLabels: {app: my-app}}
  template: {metadata: {labels: {app: my-app, version: v1}}, spec: {containers: [{name: app, image: app}]}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: my-app}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: my-app}, minReplicas: 2, maxReplicas: 9}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: my-app, annotations: {theirs: "1"}}
spec:
  hosts: [my-app]
  http:
  - {name: health, match: [{uri: {exact: /healthz}}], route: [{destination: {host: my-app, subset: v1}}]}
  - {name: main, timeout: 3s, route: [{destination: {host: my-app, subset: v1}, weight: 100}]}
  tcp:
  - {match: [{port: 5432}], route: [{destination: {host: my-app}, weight: 100}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: my-app}
spec: {host: my-app, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: v1
kind: Service
metadata: {name: my-app}
spec: {selector: {app: my-app}, ports: [{port: 80}]}
---
`

const rollout = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec: {workload: {versions: {selector: {matchLabels: {app: my-app}}}}, traffic: [{istio: {virtualService: my-app, destinationRule: my-app}}]}
`

const controller = "system:serviceaccount:serin-system:serin-controller"

func goods(t *testing.T, ns string, docs string) map[string]*unstructured.Unstructured {
	t.Helper()
	namespace(t, ns)
	out := map[string]*unstructured.Unstructured{}
	for _, doc := range strings.Split(docs, "\n---\n") {
		u := object(doc)
		if len(u.Object) == 0 {
			continue
		}
		u.SetNamespace(ns)
		if err := admin.Create(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		out[u.GetKind()] = u
	}
	return out
}

// The controller's account may write the fields that it has to, and no others.
// Others may write what they could before.
func TestTheControllersAccountIsBounded(t *testing.T) {
	ctx := live(t)
	ours := as(t, controller, "system:serviceaccounts", "system:serviceaccounts:serin-system")
	things := goods(t, "shop", shop+rollout)
	for _, f := range fields {
		patch := func(c client.Client) error {
			return c.Patch(ctx, things[f.kind].DeepCopy(), client.RawPatch(types.JSONPatchType, []byte(f.patch)), client.DryRunAll)
		}
		switch err := patch(ours); {
		case f.refusal == "" && err != nil:
			t.Errorf("%s %s: %v", f.kind, f.patch, err)
		case f.refusal != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), f.refusal)):
			t.Errorf("%s %s: %v, want %q", f.kind, f.patch, err, f.refusal) // 422 would be taken for a test that failed, and tried again
		}
		if err := patch(admin); err != nil {
			t.Errorf("an administrator: %s %s: %v", f.kind, f.patch, err)
		}
	}
	if err := ours.Delete(ctx, things["Deployment"].DeepCopy(), client.DryRunAll); err != nil {
		t.Errorf("deleting an old version: %v", err)
	}
	for _, kind := range []string{"VirtualService", "Rollout", "Service", "HorizontalPodAutoscaler"} {
		if err := ours.Delete(ctx, things[kind].DeepCopy(), client.DryRunAll); !apierrors.IsForbidden(err) {
			t.Errorf("deleting %s: %v", kind, err)
		}
	}
}

// The bounds hold with and without a Rollout in the namespace, and bind nobody
// else in either: a policy that looks for something and does not find it would
// forbid the write to everybody.
func TestTheBoundsBindNobodyElse(t *testing.T) {
	ctx := live(t)
	ours := as(t, controller, "system:serviceaccounts", "system:serviceaccounts:serin-system")
	namespace(t, "elsewhere")
	bind(t, "elsewhere", "admin-of-tests", "somebody")
	if err := apply(ctx, admin, "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: admin-of-tests}, rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]}"); err != nil {
		t.Fatal(err)
	}
	things := goods(t, "elsewhere", shop)
	somebody := as(t, "somebody")
	for _, f := range fields {
		if f.kind == "Rollout" {
			continue
		}
		patch := client.RawPatch(types.JSONPatchType, []byte(f.patch))
		if err := somebody.Patch(ctx, things[f.kind].DeepCopy(), patch, client.DryRunAll); err != nil {
			t.Errorf("somebody else: %s %s: %v", f.kind, f.patch, err)
		}
		switch err := ours.Patch(ctx, things[f.kind].DeepCopy(), patch, client.DryRunAll); {
		case f.refusal == "" && err != nil:
			t.Errorf("%s %s: %v", f.kind, f.patch, err)
		case f.refusal != "" && !apierrors.IsForbidden(err):
			t.Errorf("%s %s: %v", f.kind, f.patch, err)
		}
	}
	for _, kind := range []string{"Deployment", "HorizontalPodAutoscaler", "VirtualService", "DestinationRule"} {
		if err := somebody.Delete(ctx, things[kind].DeepCopy(), client.DryRunAll); err != nil {
			t.Errorf("somebody else deletes %s: %v", kind, err)
		}
	}
	scale := client.RawPatch(types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/replicas","value":3}]`))
	if err := somebody.SubResource("scale").Patch(ctx, things["Deployment"].DeepCopy(), scale, client.DryRunAll); err != nil {
		t.Errorf("somebody else scales: %v", err)
	}
}

// What `kubectl get sro` prints.
func TestTable(t *testing.T) {
	ctx := live(t)
	things := goods(t, "table", rollout)
	status := []byte(`{"status":{"phase":"Progressing","message":"v2 has 25 %.","verdict":"Undecided","step":{"number":2,"of":5,"text":"2/5"},"weight":{"set":"25%","seen":"24.8%"},` +
		`"conditions":[{"type":"Ready","status":"False","reason":"Progressing","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	if err := admin.Status().Patch(ctx, things["Rollout"], client.RawPatch(types.MergePatchType, status)); err != nil {
		t.Fatal(err)
	}
	http, err := rest.HTTPClientFor(cluster)
	if err != nil {
		t.Fatal(err)
	}
	req, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodGet, strings.TrimSuffix(cluster.Host, "/")+"/apis/serin.dev/v1alpha1/namespaces/table/rollouts", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	res, err := http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var table metav1.Table
	if err := json.NewDecoder(res.Body).Decode(&table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 {
		t.Fatalf("%d rows", len(table.Rows))
	}
	got := fmt.Sprint(table.Rows[0].Cells[:8])
	if want := "[my-app False Progressing 2/5 25% 24.8% Undecided v2 has 25 %.]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Its status is all that the account writes of a Rollout, and of a command.
func TestTheControllersAccountWritesStatus(t *testing.T) {
	ctx := live(t)
	ours := as(t, controller, "system:serviceaccounts", "system:serviceaccounts:serin-system")
	things := goods(t, "statuses", rollout)
	status := []byte(`{"status":{"phase":"Idle","message":"m","state":{"n":1}}}`)
	if err := ours.Status().Patch(ctx, things["Rollout"], client.RawPatch(types.MergePatchType, status)); err != nil {
		t.Error(err)
	}
	if err := ours.Create(ctx, command("forged", controller, "promote")); !apierrors.IsForbidden(err) {
		t.Errorf("a command of its own: %v", err)
	}
}
