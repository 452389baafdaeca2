package daemon

import (
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// A mistake of ours in a pass is that application's: users are answered as
// before, it is said, and the next pass goes on from what was saved.
func TestAPanicInAPassEndsNothing(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	a := w.d.app("my-app")
	forget := func(replies map[string]*httpapi.Answer) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.replies = replies
	}
	forget(nil) // to be written to
	a.inbox.add(rollout.Command{ID: "1", Verb: rollout.VerbPause, By: "alice"})
	a.wake()
	v := w.until("my-app", "it is said", func(v httpapi.RolloutView) bool { return finds(v, "this version of Serin made a mistake over it") })
	if v.WeightSet != 2500 || v.Canary == nil {
		t.Errorf("weight %v, canary %v", v.WeightSet, v.Canary)
	}
	if log := w.log.String(); !strings.Contains(log, "assignment to entry in nil map") || !strings.Contains(log, "keepAnswers") {
		t.Error("the stack is not in the log")
	}
	if got := w.share(400, ""); got["v1"] == 0 || got["v2"] == 0 {
		t.Errorf("answers %v, want both versions", got)
	}
	forget(map[string]*httpapi.Answer{})
	v = w.until("my-app", "it goes on, with the command that was taken", func(v httpapi.RolloutView) bool {
		a.wake()
		return !finds(v, "made a mistake") && v.Paused != ""
	})
	w.command("my-app", rollout.Command{Verb: rollout.VerbResume})
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v2 is promoted", restsOn("v2"))
	if _, failed := l.end(); len(failed) > 0 {
		t.Errorf("requests failed: %v", failed[:min(5, len(failed))])
	}
}

// A mistake of ours over the documents is an error in them: what is in force
// stays so.
func TestAPanicOverTheDocumentsEndsNothing(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["10-bee.yaml"] = second("bee")
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.until("bee", "v1 is adopted", restsOn("v1"))
	w.d.mu.Lock()
	absent := w.d.absent
	w.d.absent = nil // to be written to
	w.d.mu.Unlock()
	w.remove("10-bee.yaml")
	w.until("my-app", "it is said", func(v httpapi.RolloutView) bool {
		return finds(v, "the last good ones stay in force: this version of Serin made a mistake over them")
	})
	if !strings.Contains(w.log.String(), "assignment to entry in nil map") || !strings.Contains(w.log.String(), "missing") {
		t.Error("the stack is not in the log")
	}
	for host, version := range map[string]string{"my-app-service": "v1", "bee-service": "v1"} {
		if got := w.share(20, host); got[version] != 20 {
			t.Errorf("%s: answers %v", host, got)
		}
	}
	w.d.mu.Lock()
	w.d.absent = absent
	w.d.mu.Unlock()
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	w.until("my-app", "v2 gets its share", liveAt(2500))
}
