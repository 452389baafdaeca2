package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

var seed = flag.Uint64("seed", 0, "of the moments at which TestKilledAtAnyMoment kills; 0 = a new one")

// other is a daemon in a process of its own, which may be killed.
type other struct {
	t       *testing.T
	w       *world
	cmd     *exec.Cmd
	addr    string
	secure  string // empty: nothing is encrypted
	listen  string
	client  *httpapi.Client
	log     *logBuffer
	waited  chan struct{}
	outcome error
}

func (w *world) start(listen string) *other {
	w.t.Helper()
	return w.startProgram(os.Args[0], listen)
}

func (w *world) startProgram(program, listen string) *other {
	w.t.Helper()
	o := &other{t: w.t, w: w, log: w.log, waited: make(chan struct{}), listen: listen}
	o.cmd = exec.Command(program, append([]string{"-dir", w.dir, "-state", w.state, "-listen", listen}, w.args...)...)
	o.cmd.Env = append(os.Environ(), playing+"=daemon", worldMark+w.state) // and so every process of this world can be found
	o.cmd.Stderr = w.log
	if w.prepare != nil {
		w.prepare(o.cmd)
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { defer close(o.waited); o.outcome = o.cmd.Wait() }()
	if err != nil {
		<-o.waited
		w.t.Fatalf("the daemon says nothing: %v, %v", err, o.outcome)
	}
	o.addr, o.secure, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "addr ")), " ")
	w.t.Cleanup(o.kill)
	o.client, err = httpapi.Dial(context.Background(), filepath.Join(w.state, "serin.sock"))
	for deadline := time.Now().Add(patience); err != nil; o.client, err = httpapi.Dial(context.Background(), filepath.Join(w.state, "serin.sock")) {
		if time.Now().After(deadline) {
			w.t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return o
}

// kill is SIGKILL, and waits until nothing of it is left.
func (o *other) kill() {
	select {
	case <-o.waited:
	default:
		_ = o.cmd.Process.Kill()
		<-o.waited
	}
	if o.client != nil {
		o.client.Close()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		left := o.w.processes()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("left behind: %v", left)
		}
	}
}

const worldMark = "SERIN_TEST_WORLD="

// processes finds what runs because of this world, by its environment. (Without
// /proc it finds nothing; that nothing is left behind is tested in
// internal/workload/process, too.)
func (w *world) processes() []string {
	mine := []byte(worldMark + w.state)
	var out []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil || !bytes.Contains(env, mine) {
			continue
		}
		if stat, err := os.ReadFile(filepath.Join(d, "stat")); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			continue // ended, and not waited for yet
		}
		line, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		out = append(out, filepath.Base(d)+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return out
}

func (o *other) view() (httpapi.RolloutView, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return o.client.Get(ctx, httpapi.Ref{Name: "my-app"})
}

func (o *other) until(what string, holds func(httpapi.RolloutView) bool) httpapi.RolloutView {
	o.t.Helper()
	var v httpapi.RolloutView
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		var err error
		if v, err = o.view(); err == nil && holds(v) {
			return v
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("still not so: %s; %v; %s at %v: %s\n%s", what, err, v.Phase, v.WeightSet, v.Message, told(v))
		}
	}
}

// share asks n times in a row.
func (o *other) share(n int) map[string]int {
	o.t.Helper()
	out := map[string]int{}
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	for range n {
		a := get(client, o.addr, "")
		if a.err != nil {
			o.t.Fatal(a.err)
		}
		out[a.version]++
	}
	return out
}

// TestKilledAtEveryPhase kills the daemon in each phase of a good release and
// starts it again: the rollout goes on where it was.
func TestKilledAtEveryPhase(t *testing.T) {
	t.Parallel()
	type moment struct {
		name  string
		holds func(httpapi.RolloutView) bool
	}
	moments := []moment{
		{"Adopted", func(v httpapi.RolloutView) bool { return v.Stable != nil && v.Canary == nil && len(v.History) == 0 }},
		{"Preparing", func(v httpapi.RolloutView) bool { return v.Phase == rollout.Preparing }},
		{"At5", func(v httpapi.RolloutView) bool { return v.WeightSet == 500 }},
		{"At25", func(v httpapi.RolloutView) bool { return v.WeightSet == 2500 }},
		{"At50", func(v httpapi.RolloutView) bool { return v.WeightSet == 5000 }},
		{"Everything", func(v httpapi.RolloutView) bool { return v.WeightSet == rollout.Whole && v.Canary != nil }},
		{"Promoted", func(v httpapi.RolloutView) bool { return v.Phase == rollout.Idle && len(v.History) == 1 }},
	}
	w := newWorld(t, article(steps+limits))
	d := w.start("127.0.0.1:0")
	d.until("v1 is adopted", restsOn("v1"))
	listen := d.addr
	l := startLoad(listen, "", 3)
	for i, m := range moments {
		if i == 1 {
			w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
		}
		var before httpapi.RolloutView
		reached := false
		for !reached {
			v, err := d.view()
			if err != nil {
				t.Fatal(err)
			}
			// A phase may be over before it was looked at: then the next one counts.
			reached = m.holds(v) || (i > 1 && v.Phase == rollout.Idle && len(v.History) == 1)
			before = v
		}
		d.kill()
		d = w.start(listen)
		after := d.until("the first pass after "+m.name, func(v httpapi.RolloutView) bool { return v.Stable != nil })
		if after.N < before.N || len(after.History) < len(before.History) {
			t.Errorf("%s: decision %d before, %d after", m.name, before.N, after.N)
		}
		if after.N == before.N && (after.WeightSet != before.WeightSet || after.Stable.Revision != before.Stable.Revision) {
			t.Errorf("%s: no decision between %v on %s and %v on %s", m.name, before.WeightSet, before.Stable.Revision, after.WeightSet, after.Stable.Revision)
		}
	}
	v := d.until("v2 is promoted", restsOn("v2"))
	status, _ := l.end() // requests during a kill fail: nobody is there
	for s := range status {
		if !strings.HasSuffix(s, " 200") {
			t.Errorf("a version answered %s", s)
		}
	}
	if len(v.History) != 1 || v.History[0].Result != rollout.Promoted {
		t.Errorf("history %+v", v.History)
	}
	numbered(t, v)
	d.kill()
}

// numbered: decisions have numbers without gaps.
func numbered(t *testing.T, v httpapi.RolloutView) {
	t.Helper()
	for i, e := range v.Decisions {
		if i > 0 && e.N != v.Decisions[i-1].N+1 {
			t.Errorf("decision %d follows %d\n%s", e.N, v.Decisions[i-1].N, told(v))
		}
	}
}

func TestSplitIsTheSameAfterAKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	d := w.start("127.0.0.1:0")
	d.until("v1 is adopted", restsOn("v1"))
	l := startLoad(d.addr, "", 2)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2))
	before := d.until("v2 waits at 25 %", func(v httpapi.RolloutView) bool { return v.Waiting == rollout.WaitApproval })
	l.end()
	d.kill()
	d = w.start(d.addr)
	d.until("both versions are ready", func(v httpapi.RolloutView) bool {
		return v.Canary != nil && v.Canary.Ready != nil && *v.Canary.Ready == 2 && v.Stable.Ready != nil && *v.Stable.Ready == 3
	})
	d.share(100) // what came before the canary was ready began a block
	got := d.share(1000)
	if got["v1"] != 750 || got["v2"] != 250 {
		t.Errorf("answers %v, want exactly 750 and 250", got)
	}
	after, err := d.view()
	if err != nil {
		t.Fatal(err)
	}
	if after.N != before.N || after.WeightSet != 2500 || after.Waiting != rollout.WaitApproval {
		t.Errorf("decision %d at %v, waiting %q; was %d at 25 %%", after.N, after.WeightSet, after.Waiting, before.N)
	}
}

func TestFailIsKeptOverAKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+limits))
	d := w.start("127.0.0.1:0")
	d.until("v1 is adopted", restsOn("v1"))
	l := startLoad(d.addr, "", 4)
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 2, "-fail-every", "2"))
	d.until("v2 has failed", func(v httpapi.RolloutView) bool { return len(v.Condemned) == 1 })
	d.kill()
	l.end()
	d = w.start(d.addr)
	v := d.until("v1 has everything", func(v httpapi.RolloutView) bool { return restsOn("v1")(v) && len(v.History) == 1 })
	if v.History[0].Result != rollout.RolledBack || len(v.Condemned) != 1 {
		t.Errorf("history %+v, condemned %v", v.History, v.Condemned)
	}
	if got := d.share(500); got["v1"] != 500 {
		t.Errorf("answers %v, want v1 alone", got)
	}
	if v, _ = d.view(); v.Phase != rollout.Idle {
		t.Errorf("it was tried again: %s\n%s", v.Phase, told(v))
	}
}

// TestKilledAtAnyMoment kills at random moments of a good and of a bad release.
// Whatever the moments, the good one is promoted and the bad one is not.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("again with: go test ./internal/daemon -run TestKilledAtAnyMoment -seed=%d", s)
	for i, c := range []struct {
		name string
		args []string
		want string
	}{{"Good", nil, "v2"}, {"Bad", []string{"-fail-every", "2"}, "v1"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(s, uint64(i)))
			w := newWorld(t, article(steps+limits))
			d := w.start("127.0.0.1:0")
			d.until("v1 is adopted", restsOn("v1"))
			listen := d.addr
			l := startLoad(listen, "", 3)
			w.write("04-deployment-v2.yaml", deploymentOf("v2", 2, c.args...))
			for range 6 {
				moment := time.Duration(r.IntN(900)) * time.Millisecond
				select {
				case <-time.After(moment): // the moment itself is what is random
				case <-d.waited:
					t.Fatalf("the daemon ended: %v", d.outcome)
				}
				d.kill()
				d = w.start(listen)
			}
			v := d.until("the end", func(v httpapi.RolloutView) bool { return len(v.History) == 1 && restsOn(c.want)(v) })
			l.end()
			numbered(t, v)
			if got := d.share(200); got[c.want] != 200 {
				t.Errorf("answers %v, want %s alone", got, c.want)
			}
			d.kill()
		})
	}
}

// TestTermEndsInOrder: SIGTERM ends with code 0, drops nothing that was in
// flight, and leaves nothing.
func TestTermEndsInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps+limits))
	d := w.start("127.0.0.1:0")
	d.until("v1 is adopted", restsOn("v1"))
	d.share(10)
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.waited:
	case <-time.After(patience):
		t.Fatal("does not end")
	}
	var code *exec.ExitError
	if errors.As(d.outcome, &code) {
		t.Errorf("exit code %d", code.ExitCode())
	}
	if left := w.processes(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
