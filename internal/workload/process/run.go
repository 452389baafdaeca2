package process

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// run is one life of a replica's process.
type run struct {
	addr    string
	shim    int // pid; 0 in tests without one
	pid     int
	began   time.Time
	exited  chan struct{} // closed when the command's own process has ended; end says how then
	stopped chan struct{} // closed after that, when nothing of the tree is left; end is valid then
	end     ending
	listens bool       // its tree was seen listening at addr; the probe's alone
	words   *lastWords // what it has said so far; guarded by the logs

	terminate func() // SIGTERM to the command's process group
	kill      func() // SIGKILL to the whole tree; may be called again
}

func (r *run) hasExited() bool {
	select {
	case <-r.exited:
		return true
	default:
		return false
	}
}

// patience bounds the waits for a shim that does not answer: it is our own
// code, which takes milliseconds on a machine that is not out of everything.
const patience = 20 * time.Second

// start starts the command of spec in a shim. The error says in words why the
// command could not be started.
func (s *Supervisor) start(spec Spec, name string, port int, log *ring) (_ *run, err error) {
	mark := name + "." + rand.Text()
	dir := s.opt.Dir
	if filepath.IsAbs(spec.Dir) {
		dir = spec.Dir
	} else {
		dir = filepath.Join(dir, spec.Dir)
	}
	args, env := spec.command(s.environ, host, strconv.Itoa(port))
	path, err := findProgram(args[0], dir, lookupEnv(env, "PATH"))
	if err != nil {
		return nil, err
	}
	what, err := json.Marshal(launch{Path: path, Args: args, Env: append(env, markEnv+"="+mark), Dir: dir})
	if err != nil {
		return nil, err
	}

	// On any error everything that was opened so far is closed; after Start the
	// far ends are, in any case.
	var near, far []*os.File
	defer func() {
		for _, f := range far {
			f.Close()
		}
		if err != nil {
			for _, f := range near {
				f.Close()
			}
		}
	}()
	pipe := func(fromShim bool) (n, f *os.File) {
		r, w, e := os.Pipe()
		if e != nil {
			err = errors.Join(err, e)
			return nil, nil
		}
		if fromShim {
			n, f = r, w
		} else {
			n, f = w, r
		}
		near, far = append(near, n), append(far, f)
		return n, f
	}
	stdout, shimStdout := pipe(true)
	stderr, shimStderr := pipe(true)
	reports, shimReports := pipe(true)
	control, shimControl := pipe(false)
	if err != nil {
		return nil, fmt.Errorf("opening pipes: %s", inWords(err))
	}
	cmd := &exec.Cmd{
		Path:       s.opt.Executable,
		Args:       []string{"replica-shim", name},
		Env:        append([]string{shimEnv + "=1"}, s.shimEnviron...),
		Dir:        "/",
		Stdout:     shimStdout,
		Stderr:     shimStderr,
		ExtraFiles: []*os.File{shimControl, shimReports}, // become controlFD and reportFD
		// A session of its own: neither a terminal's signals nor its hang-up come here.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	r := &run{addr: fmt.Sprintf("%s:%d", host, port), began: time.Now(), exited: make(chan struct{}), stopped: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a shim from %s: %s", s.opt.Executable, inWords(err))
	}
	r.shim = cmd.Process.Pid
	for _, f := range far {
		f.Close() // so that an end of file can be seen
	}
	far = nil
	r.terminate = func() { _, _ = io.WriteString(control, orderTerminate+"\n") }
	r.kill = func() { _ = control.Close() }

	words := &lastWords{}
	r.words = words
	pumped := make(chan struct{}, 2)
	for stream, from := range map[Stream]*os.File{Stdout: stdout, Stderr: stderr} {
		go func() {
			defer func() { pumped <- struct{}{} }()
			defer from.Close()
			s.logs.pump(from, stream, log, words)
		}()
	}
	// finish waits for the shim and for the last of the output.
	finish := func() {
		control.Close()
		reports.Close()
		_ = cmd.Wait()
		late := time.AfterFunc(time.Second, func() { // somebody who escaped holds the pipe
			stdout.Close()
			stderr.Close()
		})
		defer late.Stop()
		<-pumped
		<-pumped
	}

	_ = control.SetWriteDeadline(time.Now().Add(patience))
	_ = reports.SetReadDeadline(time.Now().Add(patience))
	_, _ = control.Write(append(what, '\n')) // the answer tells whether it came through
	said := json.NewDecoder(reports)
	var first report
	if e := said.Decode(&first); e != nil || first.Started == 0 {
		if e != nil {
			_ = cmd.Process.Kill()
		}
		finish()
		if e != nil {
			return nil, fmt.Errorf("the shim of %s gave up: %s", name, orText(s.logs.words(words), inWords(e)))
		}
		return nil, errors.New(startFailure(args[0], first.Failed))
	}
	_ = control.SetWriteDeadline(time.Time{})
	_ = reports.SetReadDeadline(time.Time{})
	r.pid = first.Started
	r.began = time.Now()
	go func() {
		defer close(r.stopped)
		var exited, finished bool
		var last report
		for said.Decode(&last) == nil {
			switch {
			case last.Exited != nil && !exited:
				exited, r.end.status, r.end.after = true, *last.Exited, time.Since(r.began)
				close(r.exited)
			case last.Gone != nil:
				finished, r.end.cpu = true, last.Gone.CPUSeconds
			}
			last = report{}
		}
		if !exited {
			r.end.lost, r.end.after = true, time.Since(r.began)
			close(r.exited)
		}
		if !finished { // the shim was killed; on Linux the kernel has killed the command with it
			killMarked(mark, r.pid, patience)
		}
		finish()
		r.end.words = s.logs.words(words)
	}()
	return r, nil
}

// strangerPatience is how long an answer on a replica's port is not believed
// while no process of its tree listens there: somebody else may have taken the
// port, and the command is about to fail for that. After it the answer counts,
// because the listener may rightly be outside the tree (a container engine's).
const strangerPatience = 3 * time.Second

// probe checks once whether a run is ready.
func (s *Supervisor) probe(ctx context.Context, p Probe, r *run) error {
	addr := r.addr
	if p.Port != 0 {
		addr = net.JoinHostPort(host, strconv.Itoa(p.Port))
	}
	if err := p.check(ctx, s.client, addr); err != nil {
		return err
	}
	if p.Port != 0 || r.listens || time.Since(r.began) > strangerPatience {
		return nil
	}
	_, port, _ := net.SplitHostPort(r.addr)
	number, _ := strconv.Atoi(port)
	if r.listens = listensBelow(r.shim, number); !r.listens {
		return fmt.Errorf("%s is answered, but by no process of this replica", r.addr)
	}
	return nil
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
