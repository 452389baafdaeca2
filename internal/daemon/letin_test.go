package daemon

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// put makes a file that a backend looks for.
func (w *world) put(file string) {
	w.t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// One application that runs nobody, because its author says so, does not keep
// the others' users out.
func TestAnApplicationWithoutReplicasKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["10-other.yaml"] = strings.Replace(second("bee"), "replicas: 1", "replicas: 0", 1)
	w := newWorld(t, files)
	w.up()
	w.open()
	if diff := cmp.Diff(map[string]int{"v1": 20}, w.share(20, "my-app-service")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A stable version that does not start again, after a restart in the middle of
// a rollout, is an outage only where nobody else has a share: the gateway gives
// stable's to the canary, as it did before.
func TestWhoHasAShareAnswersForAStableThatDoesNotStartAgain(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	w := newWorld(t, files)
	broken := filepath.Join(t.TempDir(), "broken")
	w.write("01-deployment-v1.yaml", deploymentOf("v1", 2, "-exit-if", broken))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "", 2)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	w.until("my-app", "v2 gets its share", liveAt(2500))
	l.end()
	w.down()
	w.put(broken)
	w.up()
	w.open()
	if diff := cmp.Diff(map[string]int{"v2": 20}, w.share(20, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	v := w.view("my-app")
	if v.WeightSet != 2500 || decided(v, rollout.EvStableLost) {
		t.Errorf("weight %v\n%s", v.WeightSet, told(v))
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	w.eventually("stable answers again", func() bool { return w.share(1, "")["v1"] == 1 })
}

// Nobody is let in before whoever gets the requests can answer them, were the
// version before it ready long since.
func TestNobodyIsLetInForAVersionThatHasNoShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(strings.Replace(holding, "bake: 200ms", "bake: 1h", 1)+unjudged))
	flag := filepath.Join(t.TempDir(), "go-on")
	w.put(flag)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "", 2)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2, "-wait-for", flag))
	v := w.until("my-app", "v2 gets its share", liveAt(2500))
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v2 has everything", func(v httpapi.RolloutView) bool { return v.Phase == rollout.Baking && v.Live })
	l.end()
	w.down()
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	w.up()
	w.until("my-app", "v1 is ready", func(v httpapi.RolloutView) bool {
		return v.Stable != nil && v.Stable.Ready != nil && *v.Stable.Ready == 3
	})
	w.passes("my-app", 3)
	if w.d.isOpen() {
		res, err := http.Get("http://" + w.d.Addr())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		t.Fatalf("users are let in, and answered with %s: v2 has everything and is not ready", res.Status)
	}
	w.put(flag)
	w.open()
	if diff := cmp.Diff(map[string]int{"v2": 20}, w.share(20, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
