package process

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestExpand(t *testing.T) {
	known := map[string]string{"PORT": "4001", "HOST": "127.0.0.1", "EMPTY": "", "MONEY": "$(PORT)"}
	for in, want := range map[string]string{
		"":                   "",
		"plain":              "plain",
		"$(HOST):$(PORT)":    "127.0.0.1:4001",
		"$(UNKNOWN)":         "$(UNKNOWN)",
		"$$(PORT)":           "$(PORT)",
		"$$$(PORT)":          "$4001",
		"$$$$":               "$$",
		"$PORT":              "$PORT",
		"${PORT}":            "${PORT}",
		"$":                  "$",
		"a$":                 "a$",
		"$(PORT":             "$(PORT",
		"$()":                "$()",
		"[$(EMPTY)]":         "[]",
		"$(MONEY)":           "$(PORT)", // a value is not read again
		"$(UNKNOWN$(PORT)":   "$(UNKNOWN4001",
		"$(UNKNOWN) $(PORT)": "$(UNKNOWN) 4001",
	} {
		if got := expand(in, known); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	s := Spec{
		PortEnv: "LISTEN_PORT",
		Command: []string{"x", "$(B)", "$(HOME)"},
		Env: []EnvVar{
			{"A", "1"}, {"B", "$(A)-$(LISTEN_PORT)"}, {"C", "$(D)"}, {"D", "late"},
			{"LISTEN_PORT", "80"}, {"HOST", "0.0.0.0"}, {"PATH", "/opt"}, {"A", "2"},
		},
	}
	args, env := s.command([]string{"PATH=/bin", "HOME=/home/u"}, "127.0.0.1", "4001")
	if want := []string{"x", "1-4001", "$(HOME)"}; !slices.Equal(args, want) {
		t.Errorf("args %q, want %q: only the document's own variables are meant", args, want)
	}
	want := []string{"HOME=/home/u", "LISTEN_PORT=4001", "HOST=127.0.0.1", "A=2", "B=1-4001", "C=$(D)", "D=late", "PATH=/opt"}
	if !slices.Equal(env, want) {
		t.Errorf("env  %q\nwant %q", env, want)
	}
}

func TestBackoff(t *testing.T) {
	const s = time.Second
	b := backoff{base: s, max: 10 * s, healthy: time.Minute}
	for i, c := range []struct{ ready, want time.Duration }{
		{0, s}, {0, 2 * s}, {0, 4 * s}, {59 * s, 8 * s}, {0, 10 * s}, {0, 10 * s},
		{60 * s, s}, {0, 2 * s}, {time.Hour, s},
	} {
		if got := b.after(c.ready); got != c.want {
			t.Errorf("end %d after %v ready: wait %v, want %v", i, c.ready, got, c.want)
		}
	}
	b.ends = math.MaxInt32
	if got := b.after(0); got != 10*s {
		t.Errorf("after very many ends: %v", got)
	}
}

// The whole loop in virtual time: runs that last as long as the test says.
func TestRunsAreSpacedByTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sup := New(Options{BackoffBase: time.Second, BackoffMax: 8 * time.Second, HealthyAfter: time.Minute})
		lives := []time.Duration{0, 0, 0, 0, 0, 0, 90 * time.Second, 0, 0}
		var starts []time.Duration
		began := time.Now()
		sup.startRun = func(_ Spec, name string, _ int, _ *ring) (*run, error) {
			starts = append(starts, time.Since(began))
			if len(starts) > len(lives) {
				return nil, errors.New("over")
			}
			r := &run{addr: "127.0.0.1:1", began: time.Now(), exited: make(chan struct{}), stopped: make(chan struct{})}
			r.terminate, r.kill = func() {}, func() {}
			time.AfterFunc(lives[len(starts)-1], func() { close(r.exited); close(r.stopped) })
			return r, nil
		}
		sup.check = func(context.Context, Probe, *run) error { return nil }
		if err := sup.Set("app/v1", Spec{Command: []string{"x"}}, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // virtual
		if err := sup.Close(context.Background()); err != nil {
			t.Error(err)
		}
		want := []time.Duration{0, 1, 3, 7, 15, 23, 31, 122, 124, 128}
		for i := range want {
			want[i] *= time.Second
		}
		if len(starts) < len(want) || !slices.Equal(starts[:len(want)], want) {
			t.Errorf("starts at %v\nwant      %v", starts, want)
		}
	})
}

// The rest of a tree may take its time to go; its replica is out of the routes
// from the moment when the command's own process has ended.
func TestEndedProcessIsUnreadyBeforeItsTreeIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sup := New(Options{})
		r := &run{addr: "127.0.0.1:1", began: time.Now(), exited: make(chan struct{}), stopped: make(chan struct{})}
		r.terminate, r.kill = func() {}, func() {}
		sup.startRun = func(Spec, string, int, *ring) (*run, error) { return r, nil }
		sup.check = func(context.Context, Probe, *run) error { return nil }
		if err := sup.Set("app/v1", Spec{Command: []string{"x"}}, 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if l := sup.List(); !l[0].Ready {
			t.Fatalf("not ready: %+v", l)
		}
		r.end.status.Code = 3
		close(r.exited)
		synctest.Wait()
		if l := sup.List(); l[0].Ready || l[0].State != Unready || !strings.HasPrefix(l[0].Why, "exited with 3") {
			t.Errorf("its process has ended: %+v", l)
		}
		sup.startRun = func(Spec, string, int, *ring) (*run, error) { return nil, errors.New("over") }
		close(r.stopped)
		if err := sup.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// Readiness in virtual time: how often is asked, and what the thresholds do.
func TestProbeSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Probe{Period: time.Second, InitialDelay: 3 * time.Second, SuccessThreshold: 2, FailureThreshold: 3}
		answers := "FFFFFFFFSSSFFSFFFSS" // one a check
		want := ".........RRRRRRR..R"
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var at []time.Duration
		var got strings.Builder
		began := time.Now()
		check := func(context.Context) error {
			at = append(at, time.Since(began))
			if answers[len(at)-1] == 'F' {
				return errors.New("no")
			}
			return nil
		}
		p.watch(ctx, false, check, func(ready bool, _ error) {
			got.WriteByte(map[bool]byte{true: 'R', false: '.'}[ready])
			if len(at) == len(answers) {
				cancel()
			}
		})
		if got.String() != want {
			t.Errorf("answers %s\nready   %s\nwant    %s", answers, got.String(), want)
		}
		ms := time.Millisecond
		gaps := []time.Duration{3000 * ms, 25 * ms, 50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1000 * ms, 1000 * ms}
		last := time.Duration(0)
		for i, gap := range gaps {
			if at[i]-last != gap {
				t.Errorf("check %d came %v after the one before, want %v", i, at[i]-last, gap)
			}
			last = at[i]
		}
	})
}

func TestInSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		12 * time.Millisecond:     "12 ms",
		230 * time.Millisecond:    "0.2 s",
		2 * time.Second:           "2 s",
		9949 * time.Millisecond:   "9.9 s",
		9990 * time.Millisecond:   "10 s",
		30 * time.Second:          "30 s",
		125400 * time.Millisecond: "2m5s",
	} {
		if got := inSeconds(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestParsePS(t *testing.T) {
	table := parsePS("    1     0     1  12345 1-02:03:04\n  200     1   200    512   0:01.50\n  201   200   200     64 125:00.25\nnonsense\n  202 201 200 x 0:00\n  300   1 300 1 00:00:07\n")
	want := []psProc{
		{1, 0, 1, 12345 << 10, 93784},
		{200, 1, 200, 512 << 10, 1.5},
		{201, 200, 200, 64 << 10, 7500.25},
		{300, 1, 300, 1 << 10, 7},
	}
	if !slices.Equal(table, want) {
		t.Errorf("got  %v\nwant %v", table, want)
	}
	// 200 is the shim; 300 has left its parent and kept the group of 201.
	table[3].group = 201
	tree := psTree(table, treeRoot{shim: 200, group: 201})
	if len(tree) != 2 || tree[0].pid != 201 || tree[1].pid != 300 {
		t.Errorf("tree %v", tree)
	}
}

func TestParsePSReadsThisMachinesPS(t *testing.T) {
	out, err := exec.Command("ps", psArgs...).Output()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to have ps: ", err)
		}
		t.Skip("no ps on this machine, and none is needed on Linux: ", err)
	}
	table := parsePS(string(out))
	i := slices.IndexFunc(table, func(p psProc) bool { return p.pid == os.Getpid() })
	if i < 0 {
		t.Fatalf("this process is not in what ps says:\n%s", out)
	}
	if p := table[i]; p.parent != os.Getppid() || p.memory < 1<<20 {
		t.Errorf("read %+v", p)
	}
	if lines := strings.Count(string(out), "\n"); lines != len(table) {
		t.Errorf("%d of %d lines understood", len(table), lines)
	}
}
