package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestBothVersionsThereAtFirstStart(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["04-deployment-v2.yaml"] = deploymentOf("v2", 2)
	w := newWorld(t, files)
	w.up()
	w.open()
	l := startLoad(w.d.Addr(), "", 2)
	v := w.until("my-app", "v2 is a canary at 25 %", liveAt(2500))
	if v.Stable.Version != "v1" || v.Canary.Version != "v2" || !decided(v, rollout.EvAdopted) {
		t.Errorf("stable %s, canary %s\n%s", v.Stable.Version, v.Canary.Version, told(v))
	}
	if _, failed := l.end(); len(failed) > 0 {
		t.Error(failed[:min(5, len(failed))])
	}
}

// liveAt holds once the canary's weight is so, seen in force.
func liveAt(weight rollout.Weight) func(httpapi.RolloutView) bool {
	return func(v httpapi.RolloutView) bool {
		return v.Phase == rollout.Progressing && v.WeightSet == weight && v.Live
	}
}

// atHold brings v2 to 25 % and leaves it there, waiting for an approval.
func atHold(t *testing.T) (*world, *load) {
	t.Helper()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "", 2)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	w.until("my-app", "v2 waits for approval at 25 %", func(v httpapi.RolloutView) bool {
		return v.Waiting == rollout.WaitApproval && liveAt(2500)(v)
	})
	return w, l
}

func TestServiceAsPublishedMovesNothing(t *testing.T) {
	t.Parallel()
	files := article(steps + unjudged)
	files["00-service.yaml"] = strings.Replace(service, "selector: {app: my-app}", "selector: {app: my-app, version: v1}", 1)
	files["04-deployment-v2.yaml"] = deploymentOf("v2", 2)
	w := newWorld(t, files)
	w.up()
	w.open()
	v := w.until("my-app", "the rollout waits for the finding", func(v httpapi.RolloutView) bool {
		return v.Waiting == rollout.WaitFinding && len(v.Findings) > 0
	})
	if v.WeightSet != 0 || v.Findings[0].Level != rollout.Refuse || !strings.Contains(v.Message, "selects only the pods with version=v1") {
		t.Errorf("weight %v, findings %+v, message %q", v.WeightSet, v.Findings, v.Message)
	}
	if diff := cmp.Diff(map[string]int{"v1": 200}, w.share(200, "")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	w.write("00-service.yaml", service)
	l := startLoad(w.d.Addr(), "", 4)
	w.until("my-app", "it goes on once the Service is put right", restsOn("v2"))
	if _, failed := l.end(); len(failed) > 0 {
		t.Error(failed[:min(5, len(failed))])
	}
}

func TestBrokenFileChangesNothing(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2)[:200])
	v := w.until("my-app", "the problem is said", func(v httpapi.RolloutView) bool {
		return slices.ContainsFunc(v.Findings, func(f rollout.Finding) bool { return strings.Contains(f.What, "04-deployment-v2.yaml") })
	})
	if v.WeightSet != 2500 || v.Canary == nil || !strings.Contains(v.Findings[0].What, "last good ones stay in force") {
		t.Errorf("weight %v, findings %+v", v.WeightSet, v.Findings)
	}
	if got := w.share(400, ""); got["v2"] == 0 || got["v1"] == 0 {
		t.Errorf("answers %v, want both versions as before", got)
	}

	// The last good documents survive a restart too.
	w.down()
	w.up()
	w.open()
	v = w.until("my-app", "the same split after a restart", liveAt(2500))
	if len(v.Findings) == 0 || !strings.Contains(v.Findings[0].What, "04-deployment-v2.yaml") {
		t.Errorf("findings %+v, want the file that is still broken", v.Findings)
	}
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	v = w.until("my-app", "the finding goes when the file is whole", func(v httpapi.RolloutView) bool { return len(v.Findings) == 0 })
	if v.WeightSet != 2500 || decided(v, rollout.EvSuperseded) {
		t.Errorf("weight %v\n%s", v.WeightSet, told(v))
	}
	l.end()
}

func TestFirstStartWithBrokenFileIsAnError(t *testing.T) {
	t.Parallel()
	files := article(steps + unjudged)
	files["03-virtualservice.yaml"] = strings.Replace(virtualService(100, 0), "subset: v2", "subset: v9", 1)
	files["01-deployment-v1.yaml"] = strings.Replace(files["01-deployment-v1.yaml"], "replicas: 3", "replicsa: 3", 1)
	w := newWorld(t, files)
	d, err := New(testOptions(w.dir, w.state))
	if err == nil {
		d.Close()
		t.Fatal("was taken")
	}
	if !errors.Is(err, ErrDocuments) || !strings.Contains(err.Error(), "01-deployment-v1.yaml") || !strings.Contains(err.Error(), "replicsa") {
		t.Errorf("error %v, want the file and the field", err)
	}
}

func TestCanaryWhoseFileGoesIsWithdrawn(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	w.remove("04-deployment-v2.yaml")
	v := w.until("my-app", "v2 is withdrawn", func(v httpapi.RolloutView) bool { return len(v.History) == 1 && restsOn("v1")(v) })
	_, failed := l.end()
	if len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
	if v.History[0].Result != rollout.Withdrawn || len(v.Condemned) != 0 {
		t.Errorf("history %+v, condemned %v", v.History, v.Condemned)
	}
	w.untilProcesses("v2", 0)
	w.untilProcesses("v1", 3)
}

func TestStableWhoseFileGoesRunsUntilItsTrafficIsGone(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	w.remove("01-deployment-v1.yaml")
	w.until("my-app", "the folder without v1 was read", func(httpapi.RolloutView) bool {
		return len(w.d.app("my-app").planNow().wanted) == 1
	})
	if got := w.share(400, ""); got["v1"] < 250 {
		t.Errorf("answers %v, want v1 to carry on", got)
	}
	// It is remembered over a restart, although no file says how it is run.
	w.down()
	_, failed := l.end()
	l = nil
	_ = failed // the daemon was down
	w.up()
	w.open()
	w.until("my-app", "the same split after a restart", liveAt(2500))
	w.untilProcesses("v1", 3)
	second := startLoad(w.d.Addr(), "", 4)
	v := w.view("my-app")
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v2 is promoted", restsOn("v2"))
	w.untilProcesses("v1", 0)
	if _, failed := second.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
	// The route in the files still names v1; that is history and refuses nothing.
	w.write("06-deployment-v3.yaml", deploymentOf("v3", 1))
	third := startLoad(w.d.Addr(), "", 4)
	w.until("my-app", "v3 gets its share", liveAt(2500))
	third.end()
}

func TestEditedCanaryIsANewRollout(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	old := w.view("my-app").Canary.Revision
	w.write("04-deployment-v2.yaml", strings.Replace(deploymentOf("v2", 2), "image: my-registry/my-app:v2", "image: my-registry/my-app:v2.1", 1))
	v := w.until("my-app", "the edited v2 gets its share", func(v httpapi.RolloutView) bool {
		return liveAt(2500)(v) && v.Canary.Revision != old
	})
	if v.Canary.Revision.Label() != "v2" || !decided(v, rollout.EvSuperseded) {
		t.Errorf("canary %s\n%s", v.Canary.Revision, told(v))
	}
	w.eventually("nothing of the old template runs", func() bool {
		return len(w.d.app("my-app").versions.Replicas()[old]) == 0
	})
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
}

func TestStableEditedInPlaceIsReleasedLikeAnyOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	old := w.view("my-app").Stable.Revision
	l := startLoad(w.d.Addr(), "", 2)
	w.write("01-deployment-v1.yaml", strings.Replace(deploymentOf("v1", 3), "image: my-registry/my-app:v1", "image: my-registry/my-app:v1.1", 1))
	v := w.until("my-app", "the edited v1 is a canary", liveAt(2500))
	if v.Stable.Revision != old || v.Canary.Revision.Label() != "v1" {
		t.Errorf("stable %s, canary %s", v.Stable.Revision, v.Canary.Revision)
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	edited := v.Canary.Revision
	w.until("my-app", "the edited v1 is stable", func(v httpapi.RolloutView) bool { return restsOn("v1")(v) && v.Stable.Revision == edited })
	w.eventually("nothing of the old template runs", func() bool {
		return len(w.d.app("my-app").versions.Replicas()[old]) == 0
	})
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
}

func TestDeclaredWeights(t *testing.T) {
	t.Parallel()
	t.Run("LowerIsObeyed", func(t *testing.T) {
		w, l := atHold(t)
		w.write("03-virtualservice.yaml", virtualService(90, 10))
		v := w.until("my-app", "10 % by the file's hand", func(v httpapi.RolloutView) bool { return v.WeightSet == 1000 && v.Live })
		if v.Paused == "" || !decided(v, rollout.EvDriftObeyed) {
			t.Errorf("paused %q\n%s", v.Paused, told(v))
		}
		if got := w.share(1000, ""); got["v2"] < 50 || got["v2"] > 150 {
			t.Errorf("answers %v, want about a tenth on v2", got)
		}
		l.end()
	})
	t.Run("HigherIsIgnoredAndSaidOnce", func(t *testing.T) {
		w, l := atHold(t)
		w.write("03-virtualservice.yaml", virtualService(10, 90))
		v := w.until("my-app", "it is mentioned", func(v httpapi.RolloutView) bool { return decided(v, rollout.EvMentioned) })
		if v.WeightSet != 2500 {
			t.Errorf("weight %v\n%s", v.WeightSet, told(v))
		}
		l.end()
	})
	t.Run("WhileTheDaemonWasDown", func(t *testing.T) {
		w, l := atHold(t)
		l.end()
		w.down()
		w.write("03-virtualservice.yaml", virtualService(95, 5))
		w.up()
		w.open()
		v := w.until("my-app", "5 % by the file's hand", func(v httpapi.RolloutView) bool { return v.WeightSet == 500 && v.Live })
		if !decided(v, rollout.EvDriftObeyed) {
			t.Errorf("%s", told(v))
		}
	})
}

// A replica that takes its time right after the first start keeps an edit from
// being judged, not from being seen: what the files said at adoption is known.
func TestDeclaredWeightsEditedWhileAReplicaStarts(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	root := t.TempDir()
	flag := filepath.Join(root, "go-on")
	// The first replica of v2 starts at once, the other one with the file.
	files["04-deployment-v2.yaml"] = strings.Replace(deploymentOf("v2", 2, "-wait-for", flag), "        command:\n", "        command:\n"+
		`        - "sh"
        - "-c"
        - 'mkdir "$0" 2>/dev/null && set -- "$1" "$2" "$3"; exec "$@"'
        - "`+filepath.Join(root, "first")+`"
`, 1)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v2 waits for approval at 25 %", func(v httpapi.RolloutView) bool {
		return v.Waiting == rollout.WaitApproval && liveAt(2500)(v)
	})
	w.write("03-virtualservice.yaml", virtualService(90, 10))
	w.eventually("the edit is read", func() bool { return w.d.app("my-app").planNow().declared["v2"] == 1000 })
	w.passes("my-app", 2)
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v := w.until("my-app", "10 % by the file's hand", func(v httpapi.RolloutView) bool { return v.WeightSet == 1000 && v.Live })
	if !decided(v, rollout.EvDriftObeyed) {
		t.Errorf("%s", told(v))
	}
}

func TestPortTakenIsSaidBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	files := article(steps + unjudged)
	started := filepath.Join(t.TempDir(), "started")
	files["01-deployment-v1.yaml"] = strings.Replace(deploymentOf("v1", 1), `        command:`, `        command: ["touch", "`+started+`"]
        args:`, 1)
	w := newWorld(t, files)
	o := testOptions(w.dir, w.state)
	o.Listen = taken.Addr().String()
	d, err := New(o)
	if err == nil {
		d.Close()
		t.Fatal("was taken twice")
	}
	if !strings.Contains(err.Error(), "--listen") || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %q, want the address and what to do", err)
	}
	if _, err := os.Stat(started); err == nil {
		t.Error("a process was started")
	}
	// Nothing is left behind that would stop the next start.
	o.Listen = "127.0.0.1:0"
	if d, err = New(o); err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestOneDaemonForAStateFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+unjudged))
	w.up()
	o := testOptions(w.dir, w.state)
	if d, err := New(o); err == nil {
		d.Close()
		t.Error("two daemons on one state folder")
	} else if !strings.Contains(err.Error(), w.state) {
		t.Errorf("error %q, want the folder", err)
	}
	w.open()
}

func TestTwoApplications(t *testing.T) {
	t.Parallel()
	rename := func(s string) string { return strings.ReplaceAll(s, "my-app", "other") }
	files := article(holding + unjudged)
	for name, text := range article(holding + unjudged) {
		files["other-"+name] = strings.ReplaceAll(rename(text), "-version\"\n        - \"v1", "-version\"\n        - \"o1")
	}
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "my-app is adopted", restsOn("v1"))
	w.until("other", "other is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "my-app-service", 2)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	w.until("my-app", "v2 gets its share", liveAt(2500))
	if got := w.share(200, "my-app-service"); got["v2"] == 0 || got["v1"] == 0 {
		t.Errorf("my-app answers %v, want both versions", got)
	}
	if diff := cmp.Diff(map[string]int{"o1": 200}, w.share(200, "other-service")); diff != "" {
		t.Errorf("other (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"404": 5}, w.share(5, "nobody")); diff != "" {
		t.Errorf("a host that nobody names (-want +got):\n%s", diff)
	}
	l.end()

	// One of them loses its documents: it goes on, and that is said.
	for name := range article("") {
		w.remove("other-" + name)
	}
	w.until("other", "that its documents are gone is said", func(v httpapi.RolloutView) bool {
		return slices.ContainsFunc(v.Findings, func(f rollout.Finding) bool { return strings.Contains(f.What, "are gone") })
	})
	if diff := cmp.Diff(map[string]int{"o1": 50}, w.share(50, "other-service")); diff != "" {
		t.Errorf("other, without documents (-want +got):\n%s", diff)
	}
	list, err := w.d.List(context.Background())
	if err != nil || len(list) != 2 {
		t.Errorf("%d rollouts, %v", len(list), err)
	}
}

func TestInPlace(t *testing.T) {
	t.Parallel()
	files := article("")
	files["02-destinationrule.yaml"] = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: my-app-dest}\nspec: {host: my-app-service}\n"
	files["03-virtualservice.yaml"] = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [my-app-service]
  http: [{route: [{destination: {host: my-app-service}}]}]
`
	files["05-rollout.yaml"] = strings.Replace(quick(holding+unjudged), "workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}", "workload: {inPlace: {name: my-app}}", 1)
	one := strings.Replace(deploymentOf("v1", 2), "name: my-app-v1", "name: my-app", 1)
	files["01-deployment-v1.yaml"] = one
	w := newWorld(t, files)
	w.up()
	w.open()
	old := w.until("my-app", "the Deployment is adopted", func(v httpapi.RolloutView) bool { return v.Stable != nil && v.Phase == rollout.Idle && v.Live }).Stable.Revision
	l := startLoad(w.d.Addr(), "", 2)
	w.write("01-deployment-v1.yaml", strings.Replace(one, `        - "v1"`, `        - "v1-edited"`, 1))
	v := w.until("my-app", "the edit is a canary", liveAt(2500))
	if got := w.share(400, ""); got["v1"] == 0 || got["v1-edited"] == 0 {
		t.Errorf("answers %v, want old and new", got)
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "the edit is stable", func(v httpapi.RolloutView) bool {
		return v.Phase == rollout.Idle && v.Live && v.Stable.Revision != old
	})
	w.eventually("nothing of the old template runs", func() bool { return len(w.d.app("my-app").versions.Replicas()[old]) == 0 })
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
}

func TestReplicaThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2, "-exit", "3"))
	v := w.until("my-app", "the message says why", func(v httpapi.RolloutView) bool {
		return strings.Contains(v.Message, "cannot reach the database")
	})
	if v.Phase != rollout.Preparing || v.WeightSet != 0 {
		t.Errorf("%s at %v: %s", v.Phase, v.WeightSet, v.Message)
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbAbort, Reason: "hopeless"})
	w.until("my-app", "aborted", func(v httpapi.RolloutView) bool { return len(v.History) == 1 && restsOn("v1")(v) })
	w.untilProcesses("v2", 0)
}

func TestGatewayWaitsForStable(t *testing.T) {
	t.Parallel()
	flag := filepath.Join(t.TempDir(), "go")
	files := article(steps + unjudged)
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 1, "-wait-for", flag)
	w := newWorld(t, files)
	w.up()
	v := w.until("my-app", "it says what it waits for", func(v httpapi.RolloutView) bool { return strings.Contains(v.Message, "is not answered yet") })
	select {
	case <-w.d.Opened():
		t.Fatal("open without a ready replica")
	default:
	}
	if !strings.Contains(v.Message, "v1") {
		t.Errorf("message %q", v.Message)
	}
	// Who comes too early waits; nobody is refused.
	l := startLoad(w.d.Addr(), "", 3)
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.until("my-app", "it says so no more", func(v httpapi.RolloutView) bool { return !strings.Contains(v.Message, "is not answered yet") })
	w.share(10, "")
	if status, failed := l.end(); len(failed) > 0 || len(status) != 1 {
		t.Errorf("answers %v, failed %v", status, failed)
	}
}

// TestEditedDocumentCountsAtOnce: after the step in force come the edited ones.
func TestEditedDocumentCountsAtOnce(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	w.write("05-rollout.yaml", quick(strings.Replace(holding, "      - {approval: {}}\n", "      - {weight: 60%, hold: 100ms}\n", 1)+unjudged))
	v := w.until("my-app", "the edit is recorded", func(v httpapi.RolloutView) bool { return decided(v, rollout.EvStepsChanged) })
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	v = w.until("my-app", "v2 is promoted", restsOn("v2"))
	if !slices.ContainsFunc(v.Decisions, func(e rollout.Event) bool { return e.What == rollout.EvStepStarted && e.To == "60 %" }) {
		t.Errorf("the step that was added was left out\n%s", told(v))
	}
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
}

// TestDamagedMemoryIsSaidBeforeAnythingStarts: what cannot be read is never
// taken for nothing. (The state of one application: held_test.go.)
func TestDamagedMemoryIsSaidBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.down()
	path := filepath.Join(w.state, "daemon.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	w.log.reset()
	d, err := New(testOptions(w.dir, w.state))
	if err == nil {
		err = d.Run(context.Background())
	}
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want the file's name", err)
	}
	if strings.Contains(w.log.String(), "replica started") {
		t.Error("a replica was started")
	}
	if after, _ := os.ReadFile(path); len(after) != len(b)/2 {
		t.Error("the damaged file was overwritten")
	}
}

// TestAnotherFoldersDocumentsAreNotUsed: what was good in one folder is nothing
// to go on with in another.
func TestAnotherFoldersDocumentsAreNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.down()
	empty := t.TempDir()
	d, err := New(testOptions(empty, w.state))
	if err == nil {
		d.Close()
		t.Fatal("an empty folder was taken for another one")
	}
	if !errors.Is(err, ErrDocuments) {
		t.Errorf("error %v", err)
	}
}
