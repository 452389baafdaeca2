package daemon

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/store/file"
)

func TestGoodReleaseGoesToTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+limits))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	if diff := cmp.Diff(map[string]int{"v1": 200}, w.share(200, "")); diff != "" {
		t.Errorf("at rest (-want +got):\n%s", diff)
	}
	l := startLoad(w.d.Addr(), "my-app-service", 4)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	v := w.until("my-app", "v2 is promoted", restsOn("v2"))
	status, failed := l.end()
	if len(failed) > 0 {
		t.Errorf("%d requests failed because of the release: %v", len(failed), failed[:min(5, len(failed))])
	}
	if status["v1 200"] == 0 || status["v2 200"] == 0 || len(status) != 2 {
		t.Errorf("answers %v, want some of each version and all of them good", status)
	}
	if len(v.History) != 1 || v.History[0].Result != rollout.Promoted || v.Exit != httpapi.ExitPromoted {
		t.Errorf("history %+v, exit %d", v.History, v.Exit)
	}
	var way []string
	for _, e := range v.Decisions {
		if e.What == rollout.EvStepStarted {
			way = append(way, e.To)
		}
	}
	if got := strings.Join(way, " "); !strings.Contains(got, "5 %") || !strings.Contains(got, "25 %") || !strings.Contains(got, "50 %") {
		t.Errorf("steps taken: %q\n%s", got, told(v))
	}
	w.until("my-app", "v1 is retired", func(v httpapi.RolloutView) bool { return decided(v, rollout.EvRetired) })
	if diff := cmp.Diff(map[string]int{"v2": 200}, w.share(200, "")); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
	w.untilProcesses("v1", 0)
	w.untilProcesses("v2", 3)
	w.replays()
}

func TestBadReleaseIsTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+limits))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "", 4)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2, "-fail-every", "3"))
	v := w.until("my-app", "v2 is taken back", func(v httpapi.RolloutView) bool { return len(v.History) == 1 && restsOn("v1")(v) })
	status, failed := l.end()
	if len(failed) > 0 {
		t.Errorf("%d requests were not answered by a version: %v", len(failed), failed[:min(5, len(failed))])
	}
	if v.History[0].Result != rollout.RolledBack || v.Exit != httpapi.ExitRolledBack || len(v.Condemned) != 1 {
		t.Errorf("history %+v, exit %d, condemned %v\n%s", v.History, v.Exit, v.Condemned, told(v))
	}
	if status["v1 500"] > 0 {
		t.Errorf("answers %v: the stable version failed", status)
	}
	if got, want := v.History[0].Exposed, float64(status["v2 200"]+status["v2 500"]); got != want {
		t.Errorf("%v requests counted as exposed, the clients saw %v", got, want)
	}
	w.untilProcesses("v2", 0)
	if diff := cmp.Diff(map[string]int{"v1": 200}, w.share(200, "")); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
	w.replays()
}

// replays ends the daemon and plays its record again: the same decisions, word
// for word.
func (w *world) replays() {
	w.t.Helper()
	path, err := w.d.RecordPath(context.Background(), myApp)
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.d.app("my-app").planNow()
	w.down()
	in, err := record.OpenRing(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer in.Close()
	again := record.NewReplayer(p.spec, p.judge)
	reader := record.NewReader(in, func(s string) { w.t.Error(s) })
	for {
		l, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := again.Next(l); err != nil {
			w.t.Fatal(err)
		}
	}
	store, err := file.Open(filepath.Join(w.state, "rollouts", "my-app.state"))
	if err != nil {
		w.t.Fatal(err)
	}
	saved, err := store.Load(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(saved.State.Decisions, again.State().Decisions); diff != "" {
		w.t.Errorf("the record's decisions are others (-live +replayed):\n%s", diff)
	}
}
