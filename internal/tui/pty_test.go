//go:build linux

package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// terminal is a real one, of which this test is the other end.
type terminal struct {
	master, slave *os.File
	mu            sync.Mutex
	screen        *emulator
	out           bytes.Buffer // everything that was written
	done          chan struct{}
}

func newTerminal(t *testing.T, w, h uint16) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{master: os.NewFile(uintptr(fd), "ptmx"), slave: slave, screen: newEmulator(), done: make(chan struct{})}
	x.resize(t, w, h)
	go func() {
		defer close(x.done)
		b := make([]byte, 4096)
		for {
			n, err := x.master.Read(b)
			x.mu.Lock()
			x.out.Write(b[:n])
			x.screen.Write(b[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close() // the reader ends with the last of them
		<-x.done
		x.master.Close()
		if x.screen.unknown != "" {
			t.Errorf("the emulator does not know %s", x.screen.unknown)
		}
	})
	return x
}

func (x *terminal) resize(t *testing.T, w, h uint16) {
	t.Helper()
	x.mu.Lock()
	x.screen.resize(int(w), int(h))
	x.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: h, Col: w}); err != nil {
		t.Fatal(err)
	}
}

// shows waits until something stands on the screen.
func (x *terminal) shows(t *testing.T, want string) {
	t.Helper()
	x.until(t, func() bool { return strings.Contains(x.screen.String(), want) }, "%q never came", want)
}

// hides waits until something no longer stands there.
func (x *terminal) hides(t *testing.T, not string) {
	t.Helper()
	x.until(t, func() bool { return !strings.Contains(x.screen.String(), not) }, "%q never went", not)
}

// sent waits until something was written.
func (x *terminal) sent(t *testing.T, want string) {
	t.Helper()
	x.until(t, func() bool { return strings.Contains(x.out.String(), want) }, "%q was never sent", want)
}

func (x *terminal) until(t *testing.T, holds func() bool, message string, args ...any) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		x.mu.Lock()
		held, screen := holds(), x.screen.String()
		x.mu.Unlock()
		if held {
			return
		}
		if time.Now().After(end) {
			t.Fatalf(message+"; the screen:\n%s", append(args, screen)...)
		}
	}
}

func (x *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// fakeHost gives the views that it is sent, and keeps the commands.
type fakeHost struct {
	views    chan httpapi.RolloutView
	commands chan rollout.Command
	fail     error
}

func (f *fakeHost) Watch(ctx context.Context, _ httpapi.Ref, see func(httpapi.Update) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case v, open := <-f.views:
			if !open {
				return f.fail
			}
			if err := see(httpapi.Update{View: &v}); err != nil {
				return err
			}
		}
	}
}

func (f *fakeHost) Command(_ context.Context, _ httpapi.Ref, c rollout.Command) (httpapi.Answer, error) {
	f.commands <- c
	return httpapi.Answer{ID: c.ID, Message: c.By + " did " + string(c.Verb)}, nil
}

type run struct {
	*terminal
	host   *fakeHost
	before *unix.Termios
	done   chan struct{}
	cancel context.CancelFunc
	last   httpapi.RolloutView
	ended  bool
	err    error
}

func start(t *testing.T, env map[string]string, follow bool) *run {
	t.Helper()
	r := &run{terminal: newTerminal(t, 80, 24), host: &fakeHost{views: make(chan httpapi.RolloutView), commands: make(chan rollout.Command, 1)}, done: make(chan struct{})}
	var err error
	if r.before, err = unix.IoctlGetTermios(int(r.slave.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	t.Cleanup(cancel)
	go func() {
		defer close(r.done)
		r.last, r.ended, r.err = Run(ctx, Options{
			Host: r.host, Ref: httpapi.Ref{Name: "checkout"}, User: "alice", Follow: follow, In: r.slave, Out: r.slave,
			Env: func(k string) string { return env[k] }, Now: func() time.Time { return at(401) },
			NewID: func(v rollout.Verb) string { return string(v) + "-1" },
		})
	}()
	return r
}

// over waits for the end, and wants the terminal as it was.
func (r *run) over(t *testing.T) {
	t.Helper()
	<-r.done
	after, err := unix.IoctlGetTermios(int(r.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *r.before {
		t.Errorf("the terminal's settings are not as they were: %+v, %+v", after, r.before)
	}
	r.sent(t, "\x1b[?1049l") // the screen that was there before
	r.sent(t, "\x1b[?25h")   // the cursor
}

// A person watches, turns pages, acts, and leaves.
func TestOnATerminal(t *testing.T) {
	r := start(t, map[string]string{"NO_COLOR": "1"}, false)
	v := *situations()["good"].model().View
	r.host.views <- v
	r.shows(t, "25 % set")
	r.press(t, "?")
	r.shows(t, "nothing is raised until resume")
	r.press(t, "?")
	r.hides(t, "nothing is raised until resume")
	r.shows(t, "v1.43.0 is new")
	r.press(t, "p")
	r.shows(t, "why?")
	r.press(t, "\r") // without a reason nothing is sent
	r.press(t, "lunch\r")
	if c := <-r.host.commands; c.Verb != rollout.VerbPause || c.Reason != "lunch" || c.By != "alice" || c.N != v.N || c.Revision != v2 || c.ID != "pause-1" {
		t.Errorf("%+v", c)
	}
	r.shows(t, "alice did pause")
	r.press(t, "P")
	r.shows(t, "enter sends it")
	r.press(t, "\tall\r")
	if c := <-r.host.commands; c.Verb != rollout.VerbPromote || !c.Full || c.Reason != "all" {
		t.Errorf("%+v", c)
	}
	r.press(t, "a")
	r.shows(t, "is condemned")
	r.press(t, "\x1b[200~"+strings.Repeat("x", 3000)+"\x1b[201~") // pasted: as long as what is typed may be
	r.shows(t, "xxx")
	r.press(t, "\x1b") // nothing is sent
	r.hides(t, "is condemned")
	r.press(t, "q")
	r.over(t)
	if r.err != nil || r.ended || r.last.Exit != httpapi.ExitTimeout {
		t.Errorf("ended %v, exit %d, %v", r.ended, r.last.Exit, r.err)
	}
	if len(r.host.commands) > 0 {
		t.Errorf("sent after esc: %+v", <-r.host.commands)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out := r.out.String(); strings.Contains(out, "\x1b[38") || strings.Contains(out, "\x1b[1m") {
		t.Error("colours in spite of NO_COLOR")
	}
}

func TestItEndsWithTheRollout(t *testing.T) {
	r := start(t, nil, false)
	r.host.views <- *situations()["good"].model().View
	r.shows(t, "set")
	r.host.views <- *situations()["taken-back"].model().View
	r.over(t)
	if r.err != nil || !r.ended || httpapi.ExitAtEnd(r.last) != httpapi.ExitRolledBack {
		t.Errorf("ended %v, exit %d, %v", r.ended, httpapi.ExitAtEnd(r.last), r.err)
	}
}

func TestFollowGoesOn(t *testing.T) {
	r := start(t, nil, true)
	r.host.views <- *situations()["good"].model().View
	r.host.views <- *situations()["taken-back"].model().View
	r.shows(t, "past rollouts")
	r.press(t, "\x03") // Ctrl-C
	r.over(t)
	if r.err != nil || r.ended || r.last.Exit != httpapi.ExitRolledBack {
		t.Errorf("ended %v, exit %d, %v", r.ended, r.last.Exit, r.err)
	}
}

// A signal ends the program from outside.
func TestASignalLeavesTheTerminalAsItWas(t *testing.T) {
	r := start(t, nil, false)
	r.host.views <- *situations()["good"].model().View
	r.shows(t, "set")
	r.cancel()
	r.over(t)
	if r.err != nil || r.ended {
		t.Errorf("ended %v, %v", r.ended, r.err)
	}
}

func TestTheHostGoesAway(t *testing.T) {
	r := start(t, nil, false)
	r.host.views <- *situations()["good"].model().View
	r.shows(t, "set")
	r.host.fail = errors.New("nobody answers any more")
	close(r.host.views)
	r.over(t)
	if r.err != r.host.fail {
		t.Errorf("%v", r.err)
	}
}

func TestResize(t *testing.T) {
	r := start(t, map[string]string{"NO_COLOR": "1"}, false)
	r.host.views <- *situations()["good"].model().View
	r.shows(t, "decisions")
	const whole = "held for 5m0s, evidence complete: errors 0.30 % against 0.29 %."
	r.hides(t, whole) // cut off at 80
	r.resize(t, 120, 40)
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // which a controlling terminal would send
		t.Fatal(err)
	}
	r.shows(t, whole)
	r.press(t, "q")
	r.over(t)
}
