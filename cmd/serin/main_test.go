package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/workload/process"
)

var update = flag.Bool("update", false, "write golden files anew")

// The test binary is also the program: the scripts run it, and so does the
// daemon that they start, for its shims and for the application.
func TestMain(m *testing.M) {
	process.RunShimIfAsked()
	testscript.Main(m, map[string]func(){"serin": main, "kubectl-serin": main, "kubectl_complete-serin": main})
}

// TestScripts runs every verb as a person would, good and bad input, against
// real daemons and real processes.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			run, err := os.MkdirTemp("", "serin") // short: sockets are in it
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(run) })
			e.Setenv("XDG_RUNTIME_DIR", run)
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     code,
			"until":    until,
			"users":    users,
			"replicas": replicas,
			"gone":     gone,
			"replace":  replaceProgram,
			"truncate": truncate,
			"leave":    leave,
		},
	})
}

// code N COMMAND...: runs it, and wants this exit code.
func code(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// leave N COMMAND...: runs it, presses Ctrl-C once it talks to a daemon, and
// wants this exit code. What it said is in "left".
func leave(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: leave N COMMAND...")
	}
	program, err := exec.LookPath(args[1])
	if err != nil { // the script's own path
		program = filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], args[1])
	}
	said, err := os.Create(ts.MkAbs("left"))
	ts.Check(err)
	defer said.Close()
	c := exec.Command(program, args[2:]...)
	c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), said, said
	for _, k := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"} {
		c.Env = append(c.Env, k+"="+ts.Getenv(k))
	}
	ts.Check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	talks := func() bool {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Process.Pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(patience); !talks(); time.Sleep(20 * time.Millisecond) {
		if len(ended) > 0 || time.Now().After(end) {
			_ = c.Process.Kill()
			ts.Fatalf("it never talked to a daemon (%v): %s", <-ended, ts.ReadFile("left"))
		}
	}
	ts.Check(c.Process.Signal(os.Interrupt))
	select {
	case <-ended:
	case <-time.After(patience):
		_ = c.Process.Kill()
		ts.Fatalf("it goes on after Ctrl-C")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := c.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d: %s", got, want, ts.ReadFile("left"))
	}
}

// One wish to end it may come in several copies; only a later one is impatience.
func TestHurry(t *testing.T) {
	for name, c := range map[string]struct {
		after   time.Duration
		hurried bool
	}{
		"TwoCopiesOfOne": {10 * time.Millisecond, false},
		"AskedAgain":     {3 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithCancel(context.Background())
				ends, done := make(chan os.Signal, 1), make(chan struct{})
				hurried := false
				go hurry(ctx, ends, done, func() { hurried = true })
				ends <- syscall.SIGTERM // it ends ctx, and is heard here too
				end()
				time.Sleep(c.after)
				synctest.Wait()
				ends <- syscall.SIGTERM
				synctest.Wait()
				if hurried != c.hurried {
					t.Errorf("a second signal after %s: hurried %v", c.after, hurried)
				}
				close(done)
			})
		})
	}
}

// patience is for a machine that is busy; nothing is judged by it.
const patience = 60 * time.Second

// until REGEXP COMMAND...: runs it again and again until what it prints matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if out := ts.ReadFile("stdout") + ts.ReadFile("stderr"); want.MatchString(out) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%q did not come within %s (last: %v)", args[0], patience, err)
		}
	}
}

// replicas FILE: writes the process ids of all replicas, of which the logs'
// first lines tell.
func replicas(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("serin", "logs"))
	var pids []string
	for _, m := range regexp.MustCompile(`v\d-(\d+) listens on`).FindAllStringSubmatch(ts.ReadFile("stdout"), -1) {
		pids = append(pids, m[1])
	}
	if len(pids) == 0 {
		ts.Fatalf("no replica has said its process id")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(pids, "\n")), 0o644))
}

// replace: asks the only daemon to execute its program again, and waits until it
// has, which the kernel tells by the process's environment.
func replaceProgram(ts *testscript.TestScript, _ bool, _ []string) {
	socks, err := filepath.Glob(filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "serin", "*.sock"))
	ts.Check(err)
	if len(socks) != 1 {
		ts.Fatalf("%d sockets, want one: %v", len(socks), socks)
	}
	c, err := httpapi.Dial(context.Background(), socks[0])
	ts.Check(err)
	defer c.Close()
	info, err := c.Info(context.Background())
	ts.Check(err)
	environ := fmt.Sprintf("/proc/%d/environ", info.PID)
	if _, err := os.Stat(environ); err != nil {
		ts.Fatalf("no /proc here: %v", err)
	}
	ts.Check(syscall.Kill(info.PID, syscall.SIGUSR2))
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(environ)
		// In the middle of an exec there is, for a moment, no memory to read.
		if !errors.Is(err, syscall.ESRCH) {
			ts.Check(err)
		}
		if strings.Contains(string(b), "SERIN_HANDOVER=") {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("process %d has not executed its program again", info.PID)
		}
	}
}

// truncate FILE: cuts it in half.
func truncate(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()/2))
}

// gone FILE: waits until none of these processes is there.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	for pid := range strings.FieldsSeq(ts.ReadFile(args[0])) {
		n, err := strconv.Atoi(pid)
		ts.Check(err)
		for end := time.Now().Add(patience); !errors.Is(syscall.Kill(n, 0), syscall.ESRCH); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				ts.Fatalf("process %d is still there after %s", n, patience)
			}
		}
	}
}

// users N: sends N requests to the only daemon's gateway, one after another,
// and prints who answered how many; a failure is printed too.
func users(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	socks, err := filepath.Glob(filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "serin", "*.sock"))
	ts.Check(err)
	if len(socks) != 1 {
		ts.Fatalf("%d sockets, want one: %v", len(socks), socks)
	}
	c, err := httpapi.Dial(context.Background(), socks[0])
	ts.Check(err)
	defer c.Close()
	info, err := c.Info(context.Background())
	ts.Check(err)
	count := map[string]int{}
	t := &http.Transport{}
	defer t.CloseIdleConnections()
	for i := range n {
		req, err := http.NewRequest("POST", "http://"+info.Gateway+"/", io.MultiReader(strings.NewReader("x")))
		ts.Check(err)
		req.Host = "my-app-service"
		req.Header.Set("X-Request-Id", fmt.Sprint(i))
		resp, err := t.RoundTrip(req)
		ts.Check(err)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		version := regexp.MustCompile(`"version":"(\w+)"`).FindStringSubmatch(string(b))
		if version == nil || resp.StatusCode != 200 {
			ts.Fatalf("request %d: %s: %s", i, resp.Status, b)
		}
		count[version[1]]++
	}
	for _, v := range []string{"v1", "v2", "v3"} {
		if count[v] > 0 {
			fmt.Fprintf(ts.Stdout(), "%s %d\n", v, count[v])
		}
	}
}
