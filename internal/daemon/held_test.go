package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// damage halves the state file of an application, and gives what mends it.
func (w *world) damage(app string) (path string, mend func()) {
	w.t.Helper()
	path = filepath.Join(w.state, "rollouts", app+".state")
	whole, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	put := func(b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	put(whole[:len(whole)/2])
	return path, func() { put(whole) }
}

// scrape is what /metrics says.
func (w *world) scrape() string {
	w.t.Helper()
	res, err := http.Get("http://" + w.d.MetricsAddr() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// What cannot be read is never taken for nothing, and keeps nobody else from
// being served: it is said in the view, its exit code and the metrics, commands
// are refused, nothing of it runs, and it goes on once it can be read.
func TestADamagedStateHoldsItsApplicationBack(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["10-bee.yaml"] = second("bee")
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.until("bee", "v1 is adopted", restsOn("v1"))
	w.down()
	path, mend := w.damage("my-app")
	w.log.reset()
	w.up()
	w.open()
	w.until("bee", "it is served", restsOn("v1"))
	v := w.until("my-app", "it is said", httpapi.Unreadable)
	if v.Exit != httpapi.ExitError || !strings.Contains(v.Stalled, path) || !strings.Contains(v.Message, "`mv ") || len(v.Findings) == 0 || v.Findings[0].Level != rollout.Refuse {
		t.Errorf("exit %d, stalled %q, message %q, findings %+v", v.Exit, v.Stalled, v.Message, v.Findings)
	}
	if got := w.share(20, "bee-service"); got["v1"] != 20 {
		t.Errorf("bee answers %v", got)
	}
	if got := w.share(5, "my-app-service"); got["v1"] > 0 {
		t.Errorf("somebody answers for my-app: %v", got)
	}
	_, err := w.d.Command(context.Background(), httpapi.Ref{Name: "my-app"}, rollout.Command{Verb: rollout.VerbAbort, By: "alice"})
	var refusal *httpapi.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Why, path) {
		t.Errorf("an abort is answered with %v", err)
	}
	if got := w.scrape(); !strings.Contains(got, "\nserin_stalled{app=\"my-app\"} 1\n") || strings.Contains(got, "serin_phase{app=\"my-app\"") {
		t.Error("the metrics do not say that it is stalled, or say a phase")
	}
	if strings.Contains(w.log.String(), "replica=my-app") {
		t.Error("a replica was started")
	}
	if b, err := os.ReadFile(path); err != nil || len(b) == 0 {
		t.Error("the damaged file was overwritten", err)
	}
	mend()
	w.until("my-app", "it goes on, and is ready", func(v httpapi.RolloutView) bool {
		return restsOn("v1")(v) && v.Stable.Ready != nil && *v.Stable.Ready > 0
	})
	if got := w.share(20, "my-app-service"); got["v1"] != 20 {
		t.Errorf("my-app answers %v", got)
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbPause})
}

// Of the only application, too: nobody is let in before it can be read, and who
// has come waits.
func TestADamagedStateOfTheOnlyApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.down()
	_, mend := w.damage("my-app")
	w.up()
	w.until("my-app", "it is said", httpapi.Unreadable)
	select {
	case <-w.d.Opened():
		t.Error("open without anybody who could answer")
	default:
	}
	mend()
	w.open()
	w.until("my-app", "it goes on", restsOn("v1"))
	w.share(20, "")
}

// Ended while it is held back, it ends.
func TestAHeldApplicationEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.down()
	w.damage("my-app")
	w.up()
	w.until("my-app", "it is said", httpapi.Unreadable)
	w.down()
}

// A program that could not go on from a saved state does not take over from one
// that serves.
func TestADamagedStateIsFoundBeforeAHandover(t *testing.T) {
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.down()
	t.Setenv(checkEnv, strconv.Itoa(handoverSchema))
	if err := Check(testOptions(w.dir, w.state)); err != nil {
		t.Fatal(err)
	}
	path, _ := w.damage("my-app")
	if err := Check(testOptions(w.dir, w.state)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

// Damaged while it runs: what is in memory is whole, so what lowers is done; that
// nothing can be recorded is said first, wherever somebody looks.
func TestADamagedStateWhileItRuns(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	path, mend := w.damage("my-app")
	if a := w.command("my-app", rollout.Command{Verb: rollout.VerbAbort, Reason: "smells"}); a.Refused || !strings.Contains(a.Message, "There was trouble with it: saving the state: ") {
		t.Errorf("%+v", a)
	}
	v := w.until("my-app", "it is said", func(v httpapi.RolloutView) bool { return strings.HasPrefix(v.Message, "Trouble since ") })
	if !strings.Contains(v.Message, path) || v.Stalled == "" || v.WeightSet != 0 {
		t.Errorf("message %q, stalled %q, weight %v", v.Message, v.Stalled, v.WeightSet)
	}
	mend()
	w.until("my-app", "it is over", func(v httpapi.RolloutView) bool {
		w.d.app("my-app").wake()
		return v.Phase == rollout.Idle && !strings.Contains(v.Message, "Trouble")
	})
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
}
