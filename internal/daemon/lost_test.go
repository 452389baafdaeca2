package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/store/file"
	"github.com/serin-dev/serin/internal/workload/process"
)

// crash kills every process of a version, as nothing of serin's would.
func (w *world) crash(app, version string) {
	w.t.Helper()
	a := w.d.app(app)
	var pids []int
	for _, r := range w.d.sup.List() {
		if rev, ours := strings.CutPrefix(r.Key, a.name+"/"); ours && rollout.Revision(rev).Label() == version && r.State == process.Ready {
			pids = append(pids, r.PID)
		}
	}
	if len(pids) == 0 {
		w.t.Fatalf("nobody of %s is ready", version)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			w.t.Error(err)
		}
	}
}

// A stable version whose file is gone is started again when it crashes, like any
// other: a moment without it is no reason to give everything to a canary that
// nobody has judged.
func TestACrashOfAStableWhoseFileIsGoneIsNoLoss(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 1)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "", 2)
	defer l.end()
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	w.remove("01-deployment-v1.yaml")
	at := func(v httpapi.RolloutView) bool { return v.Waiting == rollout.WaitApproval && liveAt(2500)(v) }
	w.until("my-app", "v2 gets its share", at)
	restarts := func() int {
		return slices.MaxFunc(w.d.sup.List(), func(a, b process.Replica) int { return a.Restarts - b.Restarts }).Restarts
	}
	for n := 1; n <= 2; n++ {
		w.crash("my-app", "v1")
		w.eventually("it is started again", func() bool { return restarts() == n })
		w.passes("my-app", 2)
		w.until("my-app", "v1 is ready", func(v httpapi.RolloutView) bool { return v.Stable.Ready != nil && *v.Stable.Ready == 1 })
	}
	v := w.view("my-app")
	if v.WeightSet != 2500 || decided(v, rollout.EvStableLost) {
		t.Errorf("weight %v\n%s", v.WeightSet, told(v))
	}
}

// What is taken back while nobody of stable can answer keeps its share over a
// restart too: the process after does not know yet that nobody of stable can, and
// must not take the traffic from the only ones who answer.
func TestARollbackThatIsHeldIsHeldOverARestart(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken")
	files := article(holding + unjudged)
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 2, "-exit-if", broken)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	w.until("my-app", "v2 gets its share", liveAt(2500))
	w.put(broken)
	w.crash("my-app", "v1")
	w.until("my-app", "nobody of v1 is ready", func(v httpapi.RolloutView) bool { return v.Stable.Ready != nil && *v.Stable.Ready == 0 })
	w.command("my-app", rollout.Command{Verb: rollout.VerbAbort})
	held := func(v httpapi.RolloutView) bool { return v.Phase == rollout.RollingBack && v.WeightSet == 2500 }
	w.until("my-app", "v2 is taken back, and keeps its share", held)
	w.down()
	w.up()
	w.open()
	if got := w.share(50, ""); got["v2"] != 50 {
		t.Errorf("answers %v, want v2 alone: nobody else can", got)
	}
	w.passes("my-app", 3)
	if v := w.view("my-app"); !held(v) {
		t.Errorf("%s at %v\n%s", v.Phase, v.WeightSet, told(v))
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	v := w.until("my-app", "v1 has everything again", restsOn("v1"))
	if len(v.Condemned) != 1 {
		t.Errorf("condemned %v", v.Condemned)
	}
}

// A share that was decided, and of which nobody knows that it ever was in force,
// is put in force after a restart once the canary can carry it, and not before.
func TestAShareThatWasNeverSeenInForceWaitsForCapacity(t *testing.T) {
	t.Parallel()
	flag := filepath.Join(t.TempDir(), "go-on")
	w := newWorld(t, article(strings.Replace(holding, "- {approval: {}}", "- {weight: 50%, hold: 1h}", 1)+unjudged))
	w.put(flag)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2, "-wait-for", flag))
	w.until("my-app", "v2 has 50 %", liveAt(5000))
	w.down()
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	store, err := file.Open(filepath.Join(w.state, "rollouts", "my-app.state"))
	if err != nil {
		t.Fatal(err)
	}
	saved, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	saved.State.Confirmed, saved.State.LiveAt = 2500, time.Time{} // as if killed between saving and applying
	if _, err := store.Save(t.Context(), saved); err != nil {
		t.Fatal(err)
	}
	w.up()
	w.open()
	weight := func() rollout.Weight {
		route, err := w.d.app("my-app").router.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return route.Weights[w.view("my-app").Canary.Revision]
	}
	w.passes("my-app", 3)
	if got := weight(); got != 2500 {
		t.Errorf("%v is in force, and nobody of v2 is ready; want the 25 %% that were seen", got)
	}
	w.put(flag)
	w.until("my-app", "v2 has 50 %", liveAt(5000))
	if got := weight(); got != 5000 {
		t.Errorf("%v is in force, want 50 %%", got)
	}
}

// A lost state is no way back to a version that was retired long since: the
// weights in the files are of before that, and say nothing of who is stable now.
func TestALostStateDoesNotBringTheRetiredBack(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	v := w.view("my-app")
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v1 is retired", func(v httpapi.RolloutView) bool { return decided(v, rollout.EvRetired) })
	l.end()
	w.down()
	if err := os.Remove(filepath.Join(w.state, "rollouts", "my-app.state")); err != nil {
		t.Fatal(err)
	}
	w.up()
	w.open()
	if got := w.share(50, ""); got["v2"] != 50 {
		t.Errorf("answers %v, want v2 alone", got)
	}
	w.until("my-app", "v2 is adopted", restsOn("v2"))
	w.passes("my-app", 3)
	if v := w.view("my-app"); !restsOn("v2")(v) {
		t.Errorf("%s on %s\n%s", v.Phase, v.Stable.Revision, told(v))
	}
}
