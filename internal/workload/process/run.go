package process

import (
	"bytes"
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
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// run is one life of a replica's process.
type run struct {
	addr    string
	mark    string
	shim    int // pid; 0 in tests without one
	proc    *os.Process
	pid     int
	began   time.Time
	exited  chan struct{} // closed when the command's own process has ended; end says how then
	stopped chan struct{} // closed after that, when nothing of the tree is left; end is valid then
	end     ending
	listens atomic.Bool // its tree was seen listening at addr
	words   *lastWords  // what it has said so far; guarded by the logs

	terminate func() // SIGTERM to the command's process group
	kill      func() // SIGKILL to the whole tree; may be called again

	ends *ends // nil in tests without a shim
}

// ends are the near ends of a shim's pipes, and those who read them.
type ends struct {
	control, reports *os.File
	out              [2]*os.File // stdout, stderr
	pumps            [2]*pump
	said             []byte        // read from reports, and not looked at yet
	left             bool          // reports were left in the middle, to be read by somebody else; valid once read is closed
	read             chan struct{} // closed when nobody reads reports any more
	pumped           sync.WaitGroup
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
	r := newRun(fmt.Sprintf("%s:%d", host, port), mark)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a shim from %s: %s", s.opt.Executable, inWords(err))
	}
	r.shim, r.proc = cmd.Process.Pid, cmd.Process
	for _, f := range far {
		f.Close() // so that an end of file can be seen
	}
	far = nil
	r.ends = &ends{control: control, reports: reports, out: [2]*os.File{stdout, stderr}, read: make(chan struct{})}
	s.hear(r, log, [2][]byte{})

	_ = control.SetWriteDeadline(time.Now().Add(patience))
	_ = reports.SetReadDeadline(time.Now().Add(patience))
	_, _ = control.Write(append(what, '\n')) // the answer tells whether it came through
	first, e := r.ends.report()
	if e != nil || first.Started == 0 {
		if e != nil {
			_ = cmd.Process.Kill()
		}
		close(r.ends.read)
		s.finish(r)
		if e != nil {
			return nil, fmt.Errorf("the shim of %s gave up: %s", name, orText(s.logs.words(r.words), inWords(e)))
		}
		return nil, errors.New(startFailure(args[0], first.Failed))
	}
	_ = control.SetWriteDeadline(time.Time{})
	_ = reports.SetReadDeadline(time.Time{})
	r.pid = first.Started
	r.began = time.Now()
	go s.watch(r)
	return r, nil
}

func newRun(addr, mark string) *run {
	return &run{addr: addr, mark: mark, began: time.Now(), exited: make(chan struct{}), stopped: make(chan struct{}), words: &lastWords{}}
}

// hear reads what the run's tree says, beginning with lines that were read in part.
func (s *Supervisor) hear(r *run, log *ring, begun [2][]byte) {
	e := r.ends
	r.terminate = func() { _, _ = io.WriteString(e.control, orderTerminate+"\n") }
	r.kill = func() { _ = e.control.Close() }
	for i, from := range e.out {
		e.pumps[i] = &pump{line: begun[i]}
		if from != nil { // it ended before the handover otherwise
			s.listen(r, log, i)
		}
	}
}

// listen reads one of the run's streams, from where its pump is.
func (s *Supervisor) listen(r *run, log *ring, i int) {
	from, p := r.ends.out[i], r.ends.pumps[i]
	r.ends.pumped.Go(func() {
		if s.logs.pump(from, Stream(i), log, r.words, p) {
			from.Close()
		}
	})
}

// report reads the shim's next report.
func (e *ends) report() (report, error) {
	var buf [512]byte
	for {
		if line, rest, whole := bytes.Cut(e.said, []byte("\n")); whole {
			e.said = rest
			var one report
			err := json.Unmarshal(line, &one)
			return one, err
		}
		n, err := e.reports.Read(buf[:])
		e.said = append(e.said, buf[:n]...)
		if n == 0 && err != nil {
			return report{}, err
		}
	}
}

// watch follows a run's shim to its end, unless the run is handed over before.
func (s *Supervisor) watch(r *run) {
	finished := false
	for {
		one, err := r.ends.report()
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			r.ends.left = true
			close(r.ends.read)
			return // handed over: whoever has the pipes goes on
		}
		if err != nil {
			break
		}
		switch {
		case one.Exited != nil && !r.hasExited():
			r.end.status, r.end.after = *one.Exited, time.Since(r.began)
			close(r.exited)
		case one.Gone != nil:
			finished, r.end.cpu = true, one.Gone.CPUSeconds
		}
	}
	close(r.ends.read)
	defer close(r.stopped)
	if !r.hasExited() {
		r.end.lost, r.end.after = true, time.Since(r.began)
		close(r.exited)
	}
	if !finished { // the shim was killed; on Linux the kernel has killed the command with it
		killMarked(r.mark, r.pid, patience)
	}
	s.finish(r)
	r.end.words = s.logs.words(r.words)
}

// finish waits for the shim and for the last of the output.
func (s *Supervisor) finish(r *run) {
	r.ends.control.Close()
	r.ends.reports.Close()
	_, _ = r.proc.Wait()
	late := time.AfterFunc(time.Second, func() { // somebody who escaped holds the pipe
		r.ends.out[0].Close()
		r.ends.out[1].Close()
	})
	defer late.Stop()
	r.ends.pumped.Wait()
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
	if p.Port != 0 || r.listens.Load() || time.Since(r.began) > strangerPatience {
		return nil
	}
	_, port, _ := net.SplitHostPort(r.addr)
	number, _ := strconv.Atoi(port)
	r.listens.Store(listensBelow(r.shim, number))
	if !r.listens.Load() {
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
