package cluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/test/cluster/lab"
)

// browses plays a scene of test/browser/cluster.mjs. What the scene asks of the
// cluster, a line of words, does answers.
func browses(t *testing.T, scene string, facts map[string]string, does func(words []string)) {
	t.Helper()
	node, err1 := exec.LookPath("node")
	chrome, err2 := exec.LookPath("chromium")
	_, err3 := os.Stat("../browser/node_modules/playwright-core")
	if err1 != nil || err2 != nil || err3 != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("a browser is needed: %v, %v, %v (npm ci in test/browser)", err1, err2, err3)
		}
		t.Skipf("no browser here: %v, %v, %v", err1, err2, err3)
	}
	told, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "cluster.mjs", scene, string(told))
	cmd.Dir = "../browser"
	cmd.Env = append(os.Environ(), "CHROMIUM="+chrome)
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() { // does may end the test: then the scene, which waits for an answer, ends by having none
		in.Close()
		if !ended {
			_ = cmd.Wait()
		}
	}()
	for sc := bufio.NewScanner(out); sc.Scan(); {
		words, asked := strings.CutPrefix(sc.Text(), "> ")
		if !asked {
			t.Log(sc.Text())
			continue
		}
		t.Log(words)
		does(strings.Fields(words))
		if _, err := fmt.Fprintln(in, "done"); err != nil {
			break // it has ended; why is told below
		}
	}
	ended = true
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
}

// watchedText is the document of the story that is watched.
const watchedText = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 1s}}]
  strategy:
    canary:
      steps:
      - {weight: 10%, hold: 2s}
      - {weight: 50%, hold: 2s}
      - {weight: 100%, hold: 2s}
  analysis:
    source: pods
    errorRate: {worseBy: 10pp}
    latency: {quantile: 50, worseBy: 1000%}
    minRequests: 20
    deadline: 60s
  promotion: {bake: 2s}
`

// TestDashboardStory is what one person sees and does in a browser while
// releases come and go under calls: a good one to its end, a bad one that is
// taken back with its reason, and one that stands at 10 % while its viewer looks
// at everything, loses the connection, and takes it back without a mouse.
func TestDashboardStory(t *testing.T) {
	together(t)
	ns := namespace(t)
	settled(t, ns, document(t, watchedText))
	binds(t, ns, "alice", "serin-view", "serin-edit", "serin-approve")
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 250)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	alice := &person{t, "alice", ns, t.TempDir()}
	hers := alice.opens("-n", ns)
	browses(t, "story", map[string]string{"alice": hers.root + "/?token=" + hers.token, "ns": ns}, func(words []string) {
		switch words[0] {
		case "release":
			if len(words) > 2 {
				the.Pods.Behave(ns, "my-app", words[1], behaviour{Errors: 0.5})
			}
			deploy(t, ns, words[1], 2)
		case "plan":
			doc := document(t, watchedText, "{weight: 10%, hold: 2s}", "{weight: 10%, hold: 30m}", "deadline: 60s", "deadline: 40m")
			if err := the.Apply(t.Context(), ns, doc); err != nil {
				t.Fatal(err)
			}
			if err := lab.Await(t.Context(), 2*time.Minute, "the new steps to be read", func() (bool, error) {
				r, err := get(t, ns)
				return err == nil && r.Status.ObservedGeneration == r.Generation, err
			}); err != nil {
				t.Fatal(err)
			}
		case "pause":
			command(t, ns, "pause", ", reason: "+strings.Join(words[1:], " "))
		default:
			t.Fatalf("the scene asks for %q", words)
		}
	})
	r, err := get(t, ns)
	if err != nil {
		t.Fatal(err)
	}
	for version, how := range map[string]string{"v2": "promoted", "v3": "rolledBack", "v4": "aborted"} {
		if !ended(version, how)(r.Status) {
			t.Errorf("%s was not %s: %s\n%s", version, how, describe(r.Status), decisions(r.Status))
		}
	}
	// The file has charts although nobody kept any history: by the decisions.
	if x := alice.types("export", "my-app", "-o", "-"); x.code != 0 || !strings.Contains(x.out, `"set":[0,0.1,`) || !strings.Contains(x.out, `"metric":"errorRate"`) {
		t.Errorf("the export ended with %d; %d bytes; %s", x.code, len(x.out), x.err)
	}
	if d := decided(r.Status, "Aborted", "v4"); d == nil || d.By != "alice" {
		t.Errorf("the abort has no author: %+v", d)
	}
}
