package process

import (
	"bufio"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A supervisor's process executes itself again and again, at any moment of its
// replicas' lives: they notice nothing, and their keeper keeps them as before.
func TestReplicasLiveThroughTheirSupervisorsExec(t *testing.T) {
	linuxTree(t)
	_, mark := newSupervisor(t, Options{})
	cmd, _, out := talkingDaemon(t, spec(mark, "-family", "-say=begun", "-burners=1"))
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.HasPrefix(s.Text(), "with ") {
				lines <- s.Text()
			}
		}
	}()
	type told struct {
		pids, restarts, rest string
	}
	var last told
	next := func(what string, holds func(told) bool) told {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case line, open := <-lines:
				f := strings.Fields(line)
				if !open || len(f) != 8 {
					t.Fatalf("%s: %q", what, line)
				}
				last = told{f[1] + " " + f[2], f[3] + " " + f[4], strings.Join(f[5:], " ")}
				if holds(last) {
					return last
				}
			case <-deadline:
				t.Fatalf("still not so: %s; last %+v", what, last)
			}
		}
	}
	send := func(pid int, sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	always := func(told) bool { return true }
	first := next("both are ready", always)
	for i := range 10 {
		send(cmd.Process.Pid, syscall.SIGUSR2)
		now := next(fmt.Sprintf("ready after exec %d", i), always)
		if now.pids != first.pids || now.restarts != "0 0" {
			t.Fatalf("after exec %d: %+v, want the processes %s as they were", i, now, first.pids)
		}
		if !strings.HasPrefix(now.rest, "0 ") {
			t.Errorf("lines of output were lost or doubled: %s", now.rest)
		}
	}
	created := strings.Fields(last.rest)[2]

	// One that ends after it was adopted is missed, and started again.
	var one, two int
	_, _ = fmt.Sscan(first.pids, &one, &two)
	send(one, syscall.SIGKILL)
	restarted := next("the one that was killed is back", func(x told) bool { return x.restarts == "1 0" })
	if !strings.HasSuffix(restarted.pids, fmt.Sprint(" ", two)) || strings.Fields(restarted.rest)[2] != created {
		t.Errorf("%+v, was %+v", restarted, first)
	}
	// And through an exec while one of them has just ended.
	send(two, syscall.SIGKILL)
	send(cmd.Process.Pid, syscall.SIGUSR2)
	next("both are ready again", func(x told) bool { return x.restarts == "1 1" })

	// Killed, the daemon takes all of them along, as ever.
	waitAlive(t, mark, 2*everywhere)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitAlive(t, mark, 0)
}
