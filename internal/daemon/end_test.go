package daemon

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// slow makes one request that its backend answers only once the file exists.
// before are those on their way already; nobody else may ask meanwhile.
func slow(t *testing.T, w *world, flag string, before int) <-chan answer {
	t.Helper()
	got := make(chan answer, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		res, err := client.Get("http://" + w.d.Addr() + "/wait-for" + flag)
		if err != nil {
			got <- answer{err: err}
			return
		}
		res.Body.Close()
		got <- answer{res.Header.Get("X-Version"), res.StatusCode, nil}
	}()
	w.eventually("the request is on its way", func() bool {
		r, err := w.d.app("my-app").router.Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, n := range r.InFlight {
			sum += n
		}
		return sum > before
	})
	return got
}

// TestEndWaitsForRequestsInFlight: an orderly end answers what was asked, and
// no process is told to stop before.
func TestEndWaitsForRequestsInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	flag := filepath.Join(t.TempDir(), "go")
	got := slow(t, w, flag, 0)
	w.cancel()
	w.eventually("it is ending", func() bool { return strings.Contains(w.log.String(), "ending:") })
	select {
	case a := <-got:
		t.Fatalf("answered before its time: %+v", a)
	case <-w.ended:
		t.Fatal("ended with a request in flight")
	default:
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.err != nil || a.version != "v1" || a.code != http.StatusOK {
		t.Errorf("%+v, want v1's answer", a)
	}
	w.down()
}

// TestSecondSignalWaitsForNobody: StopNow ends at once what would take long.
func TestSecondSignalWaitsForNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	got := slow(t, w, filepath.Join(t.TempDir(), "never"), 0)
	w.cancel()
	w.eventually("it is ending", func() bool { return strings.Contains(w.log.String(), "ending:") })
	w.d.StopNow()
	select {
	case <-w.ended:
	case <-time.After(patience):
		t.Fatal("does not end")
	}
	if a := <-got; a.err == nil && a.code == http.StatusOK {
		t.Errorf("%+v, want it cut", a)
	}
	if w.err == nil {
		t.Error("requests were cut, and nobody says so")
	}
	w.d, w.err = nil, nil
}

// TestDrainBeforeRetire: a version that has lost its traffic is stopped only
// after its last request.
func TestDrainBeforeRetire(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	flag := filepath.Join(t.TempDir(), "go")
	if _, failed := l.end(); len(failed) > 0 {
		t.Error(failed[:min(5, len(failed))])
	}
	var held []<-chan answer
	for { // until one of them is the canary's
		held = append(held, slow(t, w, flag, len(held)))
		r, err := w.d.app("my-app").router.Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if r.InFlight[w.view("my-app").Canary.Revision] > 0 {
			break
		}
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbAbort})
	v := w.until("my-app", "v1 has everything", func(v httpapi.RolloutView) bool { return v.WeightSet == 0 && v.Live })
	if got := w.share(100, ""); got["v1"] != 100 {
		t.Errorf("answers %v, want v1 alone", got)
	}
	if n := len(w.d.app("my-app").versions.Replicas()[v.Condemned[0]]); n == 0 {
		t.Error("stopped with a request in flight")
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		if a := <-h; a.err != nil || a.code != http.StatusOK {
			t.Errorf("%+v, want an answer", a)
		}
	}
	w.untilProcesses("v2", 0)
}

// TestAStateThatCannotBeSavedStillRollsBack: a full disk holds everything but
// the way to 0 %.
func TestAStateThatCannotBeSavedStillRollsBack(t *testing.T) {
	t.Parallel()
	if syscall.Geteuid() == 0 {
		t.Log("root may write into folders without permission: the folder is replaced by a file instead")
	}
	w, l := atHold(t)
	states := filepath.Join(w.state, "rollouts")
	if err := os.Rename(states, states+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(states, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.d.Command(context.Background(), myApp, rollout.Command{Verb: rollout.VerbAbort, By: "alice"})
	t.Logf("the abort's answer: %v", err)
	w.eventually("v2 gets nothing more", func() bool { return w.share(50, "")["v1"] == 50 })
	w.until("my-app", "the trouble is said", func(v httpapi.RolloutView) bool {
		for _, f := range v.Findings {
			if strings.Contains(f.What, "The last pass had trouble") {
				return true
			}
		}
		return false
	})
	if err := os.Remove(states); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(states+".away", states); err != nil {
		t.Fatal(err)
	}
	w.until("my-app", "it comes to rest once there is room", func(v httpapi.RolloutView) bool {
		return restsOn("v1")(v) && len(v.Condemned) == 1 && len(v.Findings) == 0
	})
	l.end()
}
