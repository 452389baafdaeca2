package daemon

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/process"
	"github.com/serin-dev/serin/internal/workload/versions"
)

// A file that goes and comes back is a version that is there anew, also where
// what it meant before has not quite left: it is released, and not forgotten.
func TestAVersionWhoseFileComesBackIsReleased(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	defer l.end()
	flag := filepath.Join(t.TempDir(), "go-on")
	// One request stays with v2, so that it cannot leave.
	canary := w.view("my-app").Canary.Revision
	stays := func() bool {
		route, err := w.d.app("my-app").router.Observe(t.Context())
		return err == nil && route.InFlight[canary] >= 3 // the load has two at most
	}
	answers := make(chan string)
	asked := 0
	for !stays() {
		asked++
		go func() {
			res, err := http.Get("http://" + w.d.Addr() + "/wait-for" + flag)
			if err != nil {
				answers <- err.Error()
				return
			}
			res.Body.Close()
			answers <- res.Status
		}()
		w.passes("my-app", 1)
	}
	w.remove("04-deployment-v2.yaml")
	w.until("my-app", "v2 is withdrawn, and is leaving", func(v httpapi.RolloutView) bool { return decided(v, rollout.EvWithdrawn) })
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	w.eventually("the file is read", func() bool { return len(w.d.app("my-app").planNow().wanted) == 2 })
	w.put(flag)
	for range asked {
		if got := <-answers; got != "200 OK" {
			t.Errorf("a request that was on its way: %s", got)
		}
	}
	v := w.until("my-app", "v2 gets its share again", func(v httpapi.RolloutView) bool {
		return liveAt(2500)(v) && len(v.History) == 1
	})
	if v.History[0].Result != rollout.Withdrawn {
		t.Errorf("history %+v", v.History)
	}
}

// While a rollout runs, stable keeps the replicas that it began with, whatever
// its author makes of the file meanwhile: everything may have to go back to it.
func TestAnAuthorsFewerReplicasWaitForTheEndOfTheRollout(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	before := w.d.sup.List()
	w.write("01-deployment-v1.yaml", deploymentOf("v1", 0))
	w.eventually("the file is read", func() bool {
		return slices.ContainsFunc(w.d.app("my-app").versions.Book().Entries, func(e versions.Entry) bool { return e.Author == 0 })
	})
	w.passes("my-app", 3)
	after := w.d.sup.List()
	for _, r := range before {
		if i := slices.IndexFunc(after, func(o process.Replica) bool { return o.Name == r.Name && o.PID == r.PID && o.Ready }); i < 0 && strings.Contains(r.Name, "-v1-") {
			t.Errorf("%s is not there any more", r.Name)
		}
	}
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("%d requests failed: %v", len(failed), failed[:min(5, len(failed))])
	}
	v := w.view("my-app")
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v2 is promoted", restsOn("v2"))
	w.untilProcesses("v1", 0)
}

// Nor does a commit that takes the replicas from the old version and brings the
// new one leave the users with nobody: that is what a rollout is for.
func TestACommitThatSwitchesByReplicasIsARollout(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	delete(files, "01-deployment-v1.yaml")
	files["01-deployments.yaml"] = deploymentOf("v1", 2)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.until("my-app", "v1 is ready", func(v httpapi.RolloutView) bool { return v.Stable.Ready != nil && *v.Stable.Ready == 2 })
	l := startLoad(w.d.Addr(), "", 2)
	w.write(".01-deployments.yaml", deploymentOf("v1", 0)+"\n---\n"+deploymentOf("v2", 2))
	if err := os.Rename(filepath.Join(w.dir, ".01-deployments.yaml"), filepath.Join(w.dir, "01-deployments.yaml")); err != nil {
		t.Fatal(err)
	}
	v := w.until("my-app", "v2 gets its share", liveAt(2500))
	if v.Stable.Ready == nil || *v.Stable.Ready != 2 {
		t.Errorf("stable %+v, want its two replicas", v.Stable)
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v2 is promoted", restsOn("v2"))
	w.untilProcesses("v1", 0)
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("%d requests failed: %v", len(failed), failed[:min(5, len(failed))])
	}
}

// A test that was edited while nobody ran it is run as it is now. The one that
// had begun is nowhere any more.
func TestATestThatWasEditedWhileDownIsRunAsItIsNow(t *testing.T) {
	t.Parallel()
	plan := func(script string) string {
		first := "      - {weight: 25%, hold: 100ms}\n"
		return quick(strings.Replace(holding, first, "      - test: {command: [/bin/sh, -c, \""+script+"\"], timeout: 1h}\n"+first, 1) + unjudged)
	}
	files := article("")
	files["05-rollout.yaml"] = plan("while true; do sleep 1; done")
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	w.until("my-app", "v2 is being tested", func(v httpapi.RolloutView) bool { return v.Waiting == rollout.WaitTest })
	w.down()
	w.write("05-rollout.yaml", plan("echo the other one"))
	w.up()
	v := w.until("my-app", "v2 has 25 %", liveAt(2500))
	if !slices.ContainsFunc(v.Decisions, func(e rollout.Event) bool { return e.What == rollout.EvTestPassed && e.Why == "the other one" }) {
		t.Errorf("decisions:\n%s", told(v))
	}
}

// A hand that lowers the canary's weight in the files while stable is short of a
// replica is obeyed once it is not, and nothing is raised until then.
func TestALoweredWeightWaitsForStablesReplicas(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken")
	files := article(strings.Replace(holding, "- {approval: {}}", "- {weight: 50%, hold: 1h}", 1) + unjudged)
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 3, "-exit-if", broken)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	w.until("my-app", "v2 has 50 %", liveAt(5000))
	w.put(broken)
	for _, r := range w.d.sup.List() {
		if strings.HasSuffix(r.Name, "-v1-0") {
			if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.until("my-app", "v1 is short of one", func(v httpapi.RolloutView) bool { return v.Stable.Ready != nil && *v.Stable.Ready == 2 })
	w.write("03-virtualservice.yaml", virtualService(90, 10))
	v := w.until("my-app", "it is said", func(v httpapi.RolloutView) bool { return decided(v, rollout.EvMentioned) })
	if v.WeightSet != 5000 || !strings.Contains(v.Message, "as soon as") {
		t.Errorf("%v: %s", v.WeightSet, v.Message)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	w.until("my-app", "10 % by the file's hand", func(v httpapi.RolloutView) bool { return v.WeightSet == 1000 && v.Live })
}
