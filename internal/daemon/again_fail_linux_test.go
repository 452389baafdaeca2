package daemon

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// If neither the new program nor the running one can be executed, the daemon
// says so and ends in order: it neither hangs nor is silent about it, and
// leaves no process and no listener behind.
//
// The kernel refuses both because their environment has become too large for it:
// how large it may be follows from the limit of the stack.
func TestAProgramThatCannotBeExecutedAgainEndsTheDaemon(t *testing.T) {
	var stack syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_STACK, &stack); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Setrlimit(syscall.RLIMIT_STACK, &stack)
		signal.Reset(syscall.SIGUSR2)
	})
	large := os.Environ()
	for i := range 8 {
		large = append(large, fmt.Sprintf("LARGE_%d=%s", i, strings.Repeat("x", 64<<10)))
	}
	w := newWorld(t, article(steps+unjudged))
	program := filepath.Join(w.state+"-program", "serin")
	if err := os.MkdirAll(filepath.Dir(program), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.edit = func(o *Options) {
		o.Program = Program{Path: program, Args: []string{"serin", "-no-such-flag-of-the-tests"}, Env: large}
		o.Notify = func(state string) error {
			if strings.HasPrefix(state, "RELOADING=1") { // it was asked, and could
				small := stack
				small.Cur = 512 << 10
				return syscall.Setrlimit(syscall.RLIMIT_STACK, &small)
			}
			return nil
		}
	}
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	_, e := w.ask("GET", "my-app-service", "/echo")
	addr := w.d.Addr()
	w.d.Again()
	select {
	case <-w.ended:
	case <-time.After(patience):
		t.Fatal("the daemon hangs")
	}
	err := w.err
	w.d = nil // it has ended, as it had to: with an error
	if err == nil || !strings.Contains(err.Error(), "the program could not be executed again: ") ||
		!strings.Contains(err.Error(), syscall.E2BIG.Error()) {
		t.Fatalf("the daemon ended with %v", err)
	}
	if err := syscall.Kill(e.PID, 0); err != syscall.ESRCH {
		t.Errorf("the replica is still there: %v", err)
	}
	if strings.Contains(err.Error(), "killed before") || strings.Contains(w.log.String(), "outlived its grace period") {
		t.Errorf("the replicas were not ended in order: %v", err)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("somebody still listens")
	}
	if _, err := os.Stat(filepath.Join(w.state, "serin.sock")); !os.IsNotExist(err) {
		t.Errorf("the API's socket: %v", err)
	}
}
