package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// shimEnv marks a process as a shim. A command never sees it: its environment
// is made by the supervisor and comes through the control pipe.
const shimEnv = "SERIN_PROCESS_SHIM"

// markEnv is in the environment of every process of a run (as far as they leave
// it alone): what is left of a run whose shim was killed is found by its value.
const markEnv = "SERIN_REPLICA"

// The shim's descriptors: standard input is empty, standard output and error are
// the command's, and these two lead to the supervisor.
const (
	controlFD = 3 // a launch, then one order a line; its end means: kill the tree
	reportFD  = 4 // reports, JSON one a line
)

// launch is what a shim is told to start.
type launch struct {
	Path string
	Args []string
	Env  []string
	Dir  string
}

// orderTerminate asks for SIGTERM to the command's process group. There is no
// order to kill: closing the pipe is that.
const orderTerminate = "terminate"

// report is what a shim tells, one field at a time, in this order.
type report struct {
	Failed  syscall.Errno `json:",omitempty"` // the kernel refused to start it; the last report
	Started int           `json:",omitempty"` // the command's pid and process group
	Exited  *exitStatus   `json:",omitempty"` // the command's own process
	Gone    *gone         `json:",omitempty"` // nothing is left of the tree; the last report
}

// exitStatus is how a process ended: by its own code, or by a signal.
type exitStatus struct{ Code, Signal int }

// gone carries what only the parent of all orphans knows.
type gone struct{ CPUSeconds float64 }

// RunShimIfAsked must be the first thing that main calls. In a process that a
// Supervisor started as a shim it does the shim's work and never returns; in
// any other it returns at once.
func RunShimIfAsked() {
	if os.Getenv(shimEnv) == "" {
		return
	}
	if err := runShim(); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err) // ends up in the replica's log
		os.Exit(1)
	}
	os.Exit(0)
}

// shim is the supervisor's hand in a tree. It decides nothing but this: when
// the command has ended or the pipe has, the rest of the tree is killed.
type shim struct {
	pid         int         // the command, leader of its process group
	terminating atomic.Bool // SIGTERM was asked for: the group may end in its own time
}

func runShim() error {
	// On Linux the kernel kills the command when the thread that started it ends;
	// this goroutine keeps the main thread until the process exits.
	runtime.LockOSThread()
	// Signals that are sent to everybody (a terminal's hang-up, a service manager's
	// SIGTERM to the whole group) are the daemon's to answer. They are caught, not
	// ignored: ignoring would be inherited by the command.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	if err := becomeShim(); err != nil {
		return err
	}
	control := bufio.NewReader(os.NewFile(controlFD, "control"))
	reports := json.NewEncoder(os.NewFile(reportFD, "reports"))
	line, err := control.ReadBytes('\n')
	if err != nil {
		return nil // the daemon died first
	}
	var what launch
	if err := json.Unmarshal(line, &what); err != nil {
		return fmt.Errorf("reading what to start: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	s := &shim{}
	s.pid, err = syscall.ForkExec(what.Path, what.Args, &syscall.ProcAttr{
		Dir:   what.Dir,
		Env:   what.Env,
		Files: []uintptr{null.Fd(), 1, 2},
		Sys:   commandAttr(),
	})
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		return reports.Encode(report{Failed: errno})
	}
	// Reports may fail because the daemon is gone. The pipe says so too, and it
	// says it to obey.
	_ = reports.Encode(report{Started: s.pid})
	go s.obey(control)
	cpu := s.reap(func(e exitStatus) { _ = reports.Encode(report{Exited: &e}) })
	_ = reports.Encode(report{Gone: &gone{CPUSeconds: cpu}})
	return nil
}

// obey follows the pipe to its end, which is the order to kill.
func (s *shim) obey(control *bufio.Reader) {
	for {
		order, err := control.ReadString('\n')
		if err != nil {
			break
		}
		if order == orderTerminate+"\n" {
			s.terminating.Store(true)
			_ = syscall.Kill(-s.pid, syscall.SIGTERM)
		}
	}
	s.kill()
}

// reap waits for the command and for every orphan that comes to this process,
// until none is left, and returns the processor seconds that they all used.
func (s *shim) reap(exited func(exitStatus)) float64 {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil { // ECHILD: nobody is left
			break
		}
		if pid == s.pid {
			status := exitStatus{Code: ws.ExitStatus()}
			if ws.Signaled() {
				status = exitStatus{Signal: int(ws.Signal())}
			}
			exited(status)
			go s.finish()
		}
	}
	reapStrays(s.pid)
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_CHILDREN, &ru)
	return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
}

// finish ends what the command left behind when it ended. After a SIGTERM the
// rest of its group, which got the signal too, may still be answering its last
// requests: it has as long as the daemon gives it.
func (s *shim) finish() {
	for s.terminating.Load() && syscall.Kill(-s.pid, 0) == nil {
		time.Sleep(10 * time.Millisecond) // a group tells nobody when it becomes empty
	}
	s.kill()
}

// kill kills the tree and goes on killing what it may still fork, until reap has
// seen the last one and the process exits.
func (s *shim) kill() {
	for pause := time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		_ = syscall.Kill(-s.pid, syscall.SIGKILL)
		for _, pid := range treeBelow(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(pause)
	}
}
