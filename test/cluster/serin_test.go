package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// settle is the time that a route change is given where calls are made: long
// enough for an istiod that has to wait for a processor.
const settle = 3 * time.Second

// process starts the real program under the rights that are shipped, and
// ends it with the test.
func process(t *testing.T, args ...string) *lab.Process {
	t.Helper()
	p, err := the.Controller(t.Context(), lab.SerinUser, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the controller's log:\n%s", p.Tail(60))
		}
		p.End()
	})
	return p
}

var shared struct {
	once sync.Once
	k    *lab.Kept
	err  error
}

// together lets the test run beside others, under one controller for all of
// them, which runs until the last test has ended.
func together(t *testing.T) {
	t.Helper()
	t.Parallel()
	shared.once.Do(func() {
		shared.k, shared.err = the.Keep(context.WithoutCancel(t.Context()), lab.SerinUser, "--leader-elect")
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if err := shared.k.Wrong(); err != nil {
			t.Error(err)
		}
	})
}

// quickText is a document without judging, for what is not about it.
const quickText = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 500ms}}]
  strategy:
    canary:
      steps:
      - {weight: 20%, hold: 3s}
      - {weight: 60%, hold: 2s}
      - {weight: 100%, hold: 1s}
  analysis: {none: {reason: this is about something else}}
  promotion: {bake: 1s}
`

// rolloutText is the document of most tests: the usual steps in seconds.
const rolloutText = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 3s}}]
  strategy:
    canary:
      steps:
      - {weight: 5%, hold: 2s}
      - {weight: 25%, hold: 2s}
      - {weight: 50%, hold: 2s}
      - {weight: 75%, hold: 2s}
      - {weight: 100%, hold: 2s}
  analysis:
    source: pods
    errorRate: {worseBy: 5pp}
    latency: {quantile: 90, worseBy: 500%}
    minRequests: 20
    deadline: 60s
  promotion: {bake: 3s}
`

// document is the text with some of it replaced: old, new, old, new ...
func document(t *testing.T, text string, replace ...string) []byte {
	t.Helper()
	for i := 0; i+1 < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the document has no %q", replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return []byte(text)
}

// deploy applies the Deployment of a version, as v2's was published.
func deploy(t *testing.T, ns, version string, replicas int) {
	t.Helper()
	b := bytes.ReplaceAll(file(t, "04-deployment-v2.yaml"), []byte("v2"), []byte(version))
	b = bytes.ReplaceAll(b, []byte("replicas: 2"), fmt.Appendf(nil, "replicas: %d", replicas))
	if err := the.Apply(t.Context(), ns, b); err != nil {
		t.Fatal(err)
	}
}

// get is the Rollout as it is now.
func get(t *testing.T, ns string) (*v1alpha1.Rollout, error) {
	u, err := the.Dynamic.Resource(rollouts).Namespace(ns).Get(t.Context(), "my-app", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	b, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	r := &v1alpha1.Rollout{}
	return r, json.Unmarshal(b, r)
}

// until waits for a status that pleases, and gives it.
func until(t *testing.T, ns string, what string, ok func(v1alpha1.RolloutStatus) bool) v1alpha1.RolloutStatus {
	t.Helper()
	var last v1alpha1.RolloutStatus
	if err := lab.Await(t.Context(), lab.Patience, what, func() (bool, error) {
		r, err := get(t, ns)
		if err != nil {
			return false, err
		}
		last = r.Status
		if ok(last) {
			return true, nil
		}
		return false, errors.New(describe(last))
	}); err != nil {
		t.Fatalf("%v\n%s", err, decisions(last))
	}
	return last
}

func describe(s v1alpha1.RolloutStatus) string {
	label := func(v *v1alpha1.Version) string {
		if v == nil {
			return "none"
		}
		return v.Label
	}
	step := ""
	if s.Step != nil {
		step = s.Step.Text
	}
	return fmt.Sprintf("%s, stable %s, canary %s, step %s, weight %v, %s: %s", s.Phase, label(s.Stable), label(s.Canary), step, s.Weight.Set, s.Verdict, s.Message)
}

func decisions(s v1alpha1.RolloutStatus) string {
	var b strings.Builder
	for _, d := range s.Decisions {
		fmt.Fprintf(&b, "  #%d %s %s -> %s (%s) %s\n", d.N, d.What, d.From, d.To, d.By, d.Why)
	}
	return b.String()
}

func atRest(version string) func(v1alpha1.RolloutStatus) bool {
	return func(s v1alpha1.RolloutStatus) bool {
		return s.Phase == v1alpha1.PhaseIdle && s.Stable != nil && s.Stable.Label == version && s.Canary == nil
	}
}

// ended tells whether a version's rollout has ended in a way.
func ended(version, outcome string) func(v1alpha1.RolloutStatus) bool {
	return func(s v1alpha1.RolloutStatus) bool {
		return slices.ContainsFunc(s.History, func(h v1alpha1.HistoryEntry) bool {
			return strings.HasPrefix(h.Revision, version+"@") && h.Outcome == outcome
		})
	}
}

func decided(s v1alpha1.RolloutStatus, what, version string) *v1alpha1.Decision {
	for _, d := range slices.Backward(s.Decisions) {
		if d.What == what && (version == "" || strings.HasPrefix(d.Revision, version+"@") || d.To == version) {
			return &d
		}
	}
	return nil
}

func condition(s v1alpha1.RolloutStatus, kind string) *metav1.Condition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// command asks for something as a person would.
func command(t *testing.T, ns, verb string, more string) string {
	t.Helper()
	name := fmt.Sprintf("%s-%d", verb, time.Now().UnixNano())
	doc := fmt.Sprintf("{apiVersion: serin.dev/v1alpha1, kind: RolloutCommand, metadata: {name: %q}, spec: {rollout: my-app, verb: %s, by: lab%s}}", name, verb, more)
	if err := the.Apply(t.Context(), ns, []byte(doc)); err != nil {
		t.Fatal(err)
	}
	return name
}

// settled starts the founding scenario at rest: v1 with three pods, and a
// Rollout that knows it.
func settled(t *testing.T, ns string, doc []byte) *history {
	t.Helper()
	h := record(t, ns)
	apply(t, ns, "00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml")
	ready(t, ns, "my-app-v1", 3)
	if err := the.Apply(t.Context(), ns, doc); err != nil {
		t.Fatal(err)
	}
	// The Service's endpoints may come a moment after the pods.
	until(t, ns, "v1 at rest, and answered for by all of its pods", func(s v1alpha1.RolloutStatus) bool {
		return atRest("v1")(s) && s.Stable.Ready != nil && *s.Stable.Ready == 3
	})
	return h
}

// routed waits until the route names these weights and no others.
func routed(t *testing.T, ns string, want split) {
	t.Helper()
	eventually(t, "the route "+want.String(), func() (bool, error) {
		u, err := the.Dynamic.Resource(virtualServices).Namespace(ns).Get(t.Context(), "my-app-vs", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		got := splitOf(u)
		return got.String() == want.String(), fmt.Errorf("it is %s", got)
	})
}
