package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/process"
	"github.com/serin-dev/serin/internal/workload/versions"
)

var myApp = httpapi.Ref{Name: "my-app"}

// deployed is what `serin deploy my-app --version ... -- backend` sends.
func deployed(version string, args ...string) httpapi.Deploy {
	return httpapi.Deploy{Version: version, Command: append([]string{os.Args[0], "-version", version}, args...), By: "alice", Env: map[string]string{"EXTRA": "yes"}}
}

func TestDeployWithoutYAML(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	l := startLoad(w.d.Addr(), "", 3)
	got, err := w.d.Deploy(context.Background(), myApp, deployed("v2"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "my-app-v2" || !strings.HasPrefix(got.File, w.state) {
		t.Errorf("%+v, want it kept in the state folder", got)
	}
	w.until("my-app", "v2 is at 25 %", liveAt(2500))
	again, err := w.d.Deploy(context.Background(), myApp, deployed("v2"))
	if err != nil || !strings.Contains(again.Message, "nothing was changed") {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	l.end()

	// It survives a restart, without a file in the user's folder.
	entries, _ := os.ReadDir(w.dir)
	if len(entries) != len(article("")) {
		t.Errorf("the user's folder has %d files", len(entries))
	}
	w.down()
	w.up()
	w.open()
	v := w.until("my-app", "v2 is at 25 % after a restart", liveAt(2500))
	l = startLoad(w.d.Addr(), "", 3)
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	w.until("my-app", "v2 is promoted", restsOn("v2"))
	l.end()

	// The next one is made after the deployed one.
	if _, err := w.d.Deploy(context.Background(), myApp, deployed("v3")); err != nil {
		t.Fatal(err)
	}
	l = startLoad(w.d.Addr(), "", 3)
	w.until("my-app", "v3 is at 25 %", liveAt(2500))
	l.end()
}

func TestDeployIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	many := 1000
	for name, c := range map[string]struct {
		ref  httpapi.Ref
		q    httpapi.Deploy
		want string // in the error
		kind any
	}{
		"InTheFolder":  {myApp, deployed("v1"), "01-deployment-v1.yaml", new(*httpapi.Refusal)},
		"NoCommand":    {myApp, httpapi.Deploy{Version: "v2"}, "command", new(*httpapi.Invalid)},
		"BadVersion":   {myApp, deployed("V 2"), "version", new(*httpapi.Invalid)},
		"Traversal":    {myApp, deployed("../../v2"), "version", new(*httpapi.Invalid)},
		"Relative":     {myApp, httpapi.Deploy{Version: "v2", Command: []string{"x"}, Dir: "here"}, "dir", new(*httpapi.Invalid)},
		"TooMany":      {myApp, httpapi.Deploy{Version: "v2", Command: []string{"x"}, Replicas: &many}, "replicas", new(*httpapi.Invalid)},
		"NobodysApp":   {httpapi.Ref{Name: "nobody"}, deployed("v2"), "my-app", nil},
		"BadVariable":  {myApp, httpapi.Deploy{Version: "v2", Command: []string{"x"}, Env: map[string]string{"A=B": ""}}, "env", new(*httpapi.Invalid)},
		"ZeroInArgs":   {myApp, httpapi.Deploy{Version: "v2", Command: []string{"x", "a\x00b"}}, "command", new(*httpapi.Invalid)},
		"EmptyProgram": {myApp, httpapi.Deploy{Version: "v2", Command: []string{""}}, "command", new(*httpapi.Invalid)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.d.Deploy(context.Background(), c.ref, c.q)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q in it", err, c.want)
			}
			if c.kind != nil && !errors.As(err, c.kind) {
				t.Errorf("error %T, want %T", err, c.kind)
			}
			if c.kind == nil && !errors.Is(err, httpapi.ErrNotFound) {
				t.Errorf("error %v, want it to be ErrNotFound", err)
			}
		})
	}
	files, err := readFolder(filepath.Join(w.state, "deployed"))
	if err == nil && len(files) > 0 {
		t.Errorf("refused, and kept: %v", files)
	}
}

func TestTheFolderTakesOverWhatWasDeployed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	if _, err := w.d.Deploy(context.Background(), myApp, deployed("v2")); err != nil {
		t.Fatal(err)
	}
	l := startLoad(w.d.Addr(), "", 3)
	first := w.until("my-app", "v2 is at 25 %", liveAt(2500)).Canary.Revision
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	v := w.until("my-app", "the folder's v2 is at 25 %", func(v httpapi.RolloutView) bool {
		return liveAt(2500)(v) && v.Canary.Revision != first
	})
	l.end()
	if len(v.Findings) > 0 && strings.Contains(v.Findings[0].What, "not understood") {
		t.Errorf("findings %+v", v.Findings)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	defer l.end()
	pause := rollout.Command{ID: "p1", Verb: rollout.VerbPause, Reason: "lunch"}
	first := w.command("my-app", pause)
	if first.Refused || !strings.Contains(first.Message, "alice paused: lunch") {
		t.Errorf("%+v", first)
	}
	again := w.command("my-app", pause)
	if fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("the same id again: %+v, want %+v", again, first)
	}
	v := w.view("my-app")
	if n := countOf(v, rollout.EvPaused); n != 1 {
		t.Errorf("paused %d times", n)
	}
	if a := w.command("my-app", rollout.Command{Verb: rollout.VerbPromote, Revision: "v9"}); !a.Refused || !strings.Contains(a.Message, "v9") {
		t.Errorf("promote v9: %+v, want a refusal", a)
	}
	if a := w.command("my-app", rollout.Command{Verb: rollout.VerbAbort, Reason: "no"}); a.Refused {
		t.Errorf("abort: %+v", a)
	}
	w.until("my-app", "aborted", restsOn("v1"))
	if a := w.command("my-app", rollout.Command{Verb: rollout.VerbAbort}); !a.Refused || !strings.Contains(a.Message, "undo") {
		t.Errorf("abort at rest: %+v", a)
	}
	if _, err := w.d.Command(context.Background(), httpapi.Ref{Name: "nobody"}, pause); !errors.Is(err, httpapi.ErrNotFound) {
		t.Errorf("a rollout that is not there: %v", err)
	}

	// The same id after a restart is still the same command.
	w.down()
	w.up()
	w.open()
	if a := w.command("my-app", pause); a.Refused || !strings.Contains(a.Message, "before") {
		t.Errorf("after a restart: %+v", a)
	}
	if v := w.view("my-app"); countOf(v, rollout.EvPaused) != 1 {
		t.Errorf("paused again\n%s", told(v))
	}
}

func countOf(v httpapi.RolloutView, what rollout.What) int {
	n := 0
	for _, e := range v.Decisions {
		if e.What == what {
			n++
		}
	}
	return n
}

func TestRetryAndUndo(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	defer l.end()
	canary := w.view("my-app").Canary.Revision
	w.command("my-app", rollout.Command{Verb: rollout.VerbAbort})
	w.until("my-app", "aborted", restsOn("v1"))
	w.untilProcesses("v2", 0)
	if a := w.command("my-app", rollout.Command{Verb: rollout.VerbRetry, Revision: canary}); a.Refused {
		t.Fatalf("%+v", a)
	}
	w.until("my-app", "v2 is at 25 % again", liveAt(2500))
	w.command("my-app", rollout.Command{Verb: rollout.VerbPromote, Full: true})
	w.until("my-app", "v2 waits for approval or is through", func(v httpapi.RolloutView) bool {
		return v.WeightSet == rollout.Whole || v.Waiting == rollout.WaitApproval || restsOn("v2")(v)
	})
	if v := w.view("my-app"); v.Waiting == rollout.WaitApproval {
		w.command("my-app", rollout.Command{Verb: rollout.VerbApprove, Revision: v.Canary.Revision})
	}
	w.until("my-app", "v2 is promoted", restsOn("v2"))
	w.untilProcesses("v1", 0)
	if a := w.command("my-app", rollout.Command{Verb: rollout.VerbUndo}); a.Refused {
		t.Fatalf("%+v", a)
	}
	w.until("my-app", "v1 is back", restsOn("v1"))
	w.untilProcesses("v1", 3)
	w.untilProcesses("v2", 0)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.until("my-app", "three are ready", func(v httpapi.RolloutView) bool { return v.Stable.Ready != nil && *v.Stable.Ready == 3 })
	read := func(q httpapi.LogQuery) ([]httpapi.LogLine, error) {
		var out []httpapi.LogLine
		err := w.d.Logs(context.Background(), myApp, q, func(l httpapi.LogLine) error { out = append(out, l); return nil })
		return out, err
	}
	var lines []httpapi.LogLine
	var err error
	w.eventually("every replica has said a line", func() bool {
		lines, err = read(httpapi.LogQuery{})
		return err != nil || len(lines) == 3
	})
	if err != nil || lines[0].Version != "v1" || lines[0].Stream != "stdout" || !strings.Contains(lines[0].Text, "backend v1 pid") {
		t.Errorf("%+v, %v; want the first line of three replicas", lines, err)
	}
	if lines, err = read(httpapi.LogQuery{Replica: "my-app-v1-1", Version: "v1", Tail: 1}); err != nil || len(lines) != 1 || lines[0].Replica != "my-app-v1-1" {
		t.Errorf("%+v, %v", lines, err)
	}
	var invalid *httpapi.Invalid
	if _, err = read(httpapi.LogQuery{Version: "v9"}); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "v1") {
		t.Errorf("a version that never was: %v", err)
	}
	// Following sees what comes later, and ends with its reader.
	seen := make(chan httpapi.LogLine)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- w.d.Logs(ctx, myApp, httpapi.LogQuery{Follow: true, Version: "v2"}, func(l httpapi.LogLine) error {
			select {
			case seen <- l:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	w.eventually("v2 may be asked for", func() bool {
		select {
		case <-ended: // it was not known yet: ask again once it is
			go func() {
				ended <- w.d.Logs(ctx, myApp, httpapi.LogQuery{Follow: true, Version: "v2"}, func(l httpapi.LogLine) error {
					select {
					case seen <- l:
					case <-ctx.Done():
					}
					return nil
				})
			}()
		default:
		}
		if _, err := os.Stat(filepath.Join(w.dir, "04-deployment-v2.yaml")); err != nil {
			w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
		}
		select {
		case l := <-seen:
			return l.Version == "v2" && strings.Contains(l.Text, "backend v2")
		default:
			return false
		}
	})
	cancel()
	<-ended
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w, l := atHold(t)
	defer l.end()
	w.until("my-app", "all of v1 are ready", func(v httpapi.RolloutView) bool { return v.Stable.Ready != nil && *v.Stable.Ready == 3 })
	res, err := http.Get("http://" + w.d.MetricsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`serin_weight_ratio{app="my-app",kind="set"} 0.25`,
		`serin_phase{app="my-app",phase="Progressing"} 1`,
		`serin_phase{app="my-app",phase="Idle"} 0`,
		`serin_gateway_open 1`,
		`serin_documents_in_force 1`,
		`serin_replicas{app="my-app",kind="ready",version="v1"} 3`,
		`serin_decisions_total{app="my-app",author="git",what="RolloutStarted"} 1`,
		`istio_requests_total{`,
		`destination_version="v2"`,
		`destination_workload="my-app-v2"`,
		`serin_requests_exposed{app="my-app"}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "serin_") {
				t.Log(line)
			}
		}
	}
}

// TestWorkloadsConformance runs the engine's suite over real processes.
func TestWorkloadsConformance(t *testing.T) {
	t.Parallel()
	enginetest.TestWorkloads(t, func(t *testing.T) enginetest.WorkloadsFixture {
		sup := process.New(process.Options{BackoffBase: 20e6})
		t.Cleanup(func() {
			if err := sup.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		saves := 0
		app := versions.Open("my-app", versions.Book{}, versions.Options{Runner: procs{sup}, Save: func(versions.Book) error { saves++; return nil }})
		var all []versions.Wanted
		return enginetest.WorkloadsFixture{
			Workloads: app,
			Add: func(label string, replicas int) rollout.Revision {
				spec := process.Spec{
					Command: []string{os.Args[0], "-version", label}, TerminationGracePeriod: 5e9,
					Env: []process.EnvVar{{Name: playing, Value: "backend"}},
				}
				// The author asks for one at most: what he asks for is kept for ever,
				// also after Zero, and the suite asks for one then.
				all = append(all, versions.Wanted{Label: label, Hash: "abc", Name: "my-app-" + label, Replicas: min(replicas, 1), Run: runSpec(spec)})
				if err := app.Declare(all); err != nil {
					t.Fatal(err)
				}
				r := rollout.NewRevision(label, "abc")
				if replicas > 1 {
					if err := app.Apply(context.Background(), []rollout.Scale{{Revision: r, Min: replicas}}); err != nil {
						t.Fatal(err)
					}
				}
				return r
			},
			Step: func() {
				select {
				case <-sup.Changed():
				case <-time.After(20 * time.Millisecond): // nothing may be about to change
				}
			},
			Writes: func() int { return saves },
		}
	})
}

// TestTestSteps runs a command and a webhook before any user sees the canary.
func TestTestSteps(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		b, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(b), `"version":"v2"`) {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer hook.Close()
	out := filepath.Join(t.TempDir(), "out")
	plan := func(script string) string {
		return fmt.Sprintf(`
  strategy:
    canary:
      steps:
      - test: {command: [/bin/sh, -c, %q], timeout: 20s}
      - test: {webhook: {url: %q}}
      - {weight: 25%%, hold: 100ms}
      - {approval: {}}
      - {weight: 100%%, hold: 100ms}
`, script, hook.URL)
	}
	t.Run("Passed", func(t *testing.T) {
		w := newWorld(t, article(plan(`echo "$SERIN_VERSION $SERIN_URL" > `+out)+unjudged))
		w.up()
		w.open()
		w.until("my-app", "v1 is adopted", restsOn("v1"))
		l := startLoad(w.d.Addr(), "", 2)
		w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
		v := w.until("my-app", "v2 is at 25 %", liveAt(2500))
		l.end()
		b, err := os.ReadFile(out)
		if err != nil || !strings.HasPrefix(string(b), "v2 http://127.0.0.1:") {
			t.Errorf("the command was told %q, %v", b, err)
		}
		if asked.Load() != 1 || countOf(v, rollout.EvTestPassed) != 2 {
			t.Errorf("the webhook was asked %d times, %d tests passed\n%s", asked.Load(), countOf(v, rollout.EvTestPassed), told(v))
		}
	})
	t.Run("Failed", func(t *testing.T) {
		w := newWorld(t, article(plan(`echo no such table; exit 1`)+unjudged))
		w.up()
		w.open()
		w.until("my-app", "v1 is adopted", restsOn("v1"))
		w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
		v := w.until("my-app", "v2 is taken back", func(v httpapi.RolloutView) bool { return len(v.History) == 1 && restsOn("v1")(v) })
		if v.History[0].Result != rollout.RolledBack || !strings.Contains(v.History[0].Why, "no such table") {
			t.Errorf("history %+v", v.History)
		}
		if slices.ContainsFunc(v.Decisions, func(e rollout.Event) bool { return e.To == "25 %" }) {
			t.Errorf("it got weight\n%s", told(v))
		}
	})
}

func TestInfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	c, err := httpapi.Dial(context.Background(), w.d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	i, err := c.Info(context.Background())
	if err != nil || i.PID != os.Getpid() || i.Dir != w.dir || i.Gateway != w.d.Addr() || i.Metrics != w.d.MetricsAddr() {
		t.Errorf("%+v, %v", i, err)
	}
	st, err := os.Stat(w.d.Socket())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v; want 0600", st.Mode(), err)
	}
	w.open()
}
