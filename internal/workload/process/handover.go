package process

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// heldSchema is the number of Held's form. A binary that writes another one
// cannot take the replicas of this one over.
const heldSchema = 1

// Held is everything that a Supervisor knows of its replicas, with the pipes
// that their shims obey. It is for this same process when it has executed
// itself again: descriptors are numbers, and the shims are its children still.
type Held struct {
	Schema int
	Seq    uint64
	Lines  uint64 // how many lines of output there were
	Sets   []heldSet
}

type heldSet struct {
	Key      string
	Spec     Spec
	Want     int
	Removed  bool
	Replicas []heldReplica
}

type heldReplica struct {
	Seq       uint64
	Spec      Spec
	Name      string
	Created   time.Time
	Stopping  bool
	State     State
	Port      int
	Addr      string
	Served    bool
	Readies   time.Duration // up to the handover
	Late      bool
	Started   time.Time
	Runs      int
	NextStart time.Time
	Why       string
	Ended     string
	Ends      int
	CPUBefore float64
	CPU       float64
	Memory    int64
	SampledAt time.Time
	Log       []Line
	Dropped   uint64 // lines from the front of Log
	Run       *heldRun
}

type heldRun struct {
	Shim, PID int
	Mark      string
	Began     time.Time
	Listens   bool
	Exited    *exitStatus
	After     time.Duration
	Said      []byte    // of the reports
	Begun     [2][]byte // lines of stdout and stderr that have not ended
	Words     [3]string
	Control   int // descriptors
	Reports   int
	Out       [2]int
}

// Check says whether this binary can take over what another one holds.
func (h *Held) Check() error {
	if h != nil && h.Schema != heldSchema {
		return fmt.Errorf("the running serin holds its replicas in form %d, this one knows %d", h.Schema, heldSchema)
	}
	return nil
}

// HandOver stops supervising without stopping anything, and gives what another
// Supervisor needs to go on after this process has executed itself again. The
// descriptors that keep must survive that. The Supervisor is of no use
// afterwards: its methods block, until TakeBack where nobody could take over.
func (s *Supervisor) HandOver() (h *Held, keep []int) {
	s.starts.Lock()
	s.mu.Lock()
	s.closed = true
	h = &Held{Schema: heldSchema, Seq: s.seq}
	for _, t := range s.sets {
		ht := heldSet{Key: t.key, Spec: t.spec, Want: t.want, Removed: t.removed}
		for _, r := range t.replicas {
			hr := r.hold()
			if hr.Run != nil {
				for _, fd := range []int{hr.Run.Control, hr.Run.Reports, hr.Run.Out[0], hr.Run.Out[1]} {
					if fd >= 0 {
						keep = append(keep, fd)
					}
				}
			}
			ht.Replicas = append(ht.Replicas, hr)
		}
		h.Sets = append(h.Sets, ht)
	}
	s.logs.mu.Lock()
	h.Lines = s.logs.seq
	s.logs.mu.Unlock()
	return h, keep
}

// TakeBack undoes a HandOver: the Supervisor goes on as before. What happened
// meanwhile is found in the pipes.
func (s *Supervisor) TakeBack() {
	for r := range s.all {
		if r.run != nil {
			s.heed(r.run, r.log)
		}
	}
	s.closed = false
	s.mu.Unlock()
	s.starts.Unlock()
}

// heed reads a run's pipes on from where hold stopped.
func (s *Supervisor) heed(r *run, log *ring) {
	e := r.ends
	if !e.left {
		return // its tree was gone first
	}
	e.left, e.read = false, make(chan struct{})
	_ = e.reports.SetReadDeadline(time.Time{})
	for i, from := range e.out {
		if from != nil && number(from) >= 0 {
			_ = from.SetReadDeadline(time.Time{})
			s.listen(r, log, i)
		}
	}
	go s.watch(r)
}

// hold is called with the Supervisor's mutex held, which the transitions of the
// run wait for from now on.
func (r *replica) hold() heldReplica {
	h := heldReplica{
		Seq: r.seq, Spec: r.spec, Name: r.name, Created: r.created, Stopping: r.stopping, State: r.state, Port: r.port, Addr: r.addr,
		Served: r.served, Readies: r.readies, Late: r.late, Started: r.started, Runs: r.runs, NextStart: r.nextStart,
		Why: r.why, Ended: r.ended, Ends: r.ends, CPUBefore: r.cpuBefore, CPU: r.cpu, Memory: r.memory, SampledAt: r.sampledAt,
	}
	if r.state == Ready {
		h.Readies += time.Since(r.readySince)
	}
	if r.run != nil {
		h.Run = r.run.hold(r.sup)
		if h.Run == nil { // its tree is gone: what follows is the next run
			h.State, h.NextStart = BackOff, time.Now()
			h.CPUBefore = max(h.CPU, h.CPUBefore+r.run.end.cpu)
			h.CPU, h.Memory = h.CPUBefore, 0
		}
	}
	r.sup.logs.mu.Lock()
	h.Log, h.Dropped = r.log.lines, r.log.first
	r.sup.logs.mu.Unlock()
	return h
}

// hold stops those who read the run's pipes where they are; nil if the run's
// tree was gone first.
func (r *run) hold(s *Supervisor) *heldRun {
	e := r.ends
	now := time.Now()
	_ = e.reports.SetReadDeadline(now)
	<-e.read
	if !e.left {
		<-r.stopped
		return nil
	}
	_ = e.out[0].SetReadDeadline(now)
	_ = e.out[1].SetReadDeadline(now)
	e.pumped.Wait()
	h := &heldRun{
		Shim: r.shim, PID: r.pid, Mark: r.mark, Began: r.began, Listens: r.listens.Load(), Said: e.said,
		Control: number(e.control), Reports: number(e.reports),
	}
	if r.hasExited() {
		h.Exited, h.After = &r.end.status, r.end.after
	}
	for i, p := range e.pumps {
		h.Begun[i], h.Out[i] = p.line, number(e.out[i])
	}
	s.logs.mu.Lock()
	h.Words = [3]string{r.words.panicked, r.words.stderr, r.words.stdout}
	s.logs.mu.Unlock()
	return h
}

// number is a file's descriptor; -1 for one that is closed. Other than Fd it
// leaves deadlines in working order.
func number(f *os.File) int {
	n := -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}

// adopt goes on with what another Supervisor held.
func (s *Supervisor) adopt(h *Held) {
	if h == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq = h.Seq
	s.logs.seq = h.Lines
	for _, ht := range h.Sets {
		t := &set{key: ht.Key, spec: ht.Spec, print: ht.Spec.fingerprint(), want: ht.Want, removed: ht.Removed}
		s.sets[t.key] = t
		for _, hr := range ht.Replicas {
			r := s.adopted(t, hr)
			t.replicas = append(t.replicas, r)
			s.all[r] = true
			s.work.Go(r.supervise)
		}
	}
	s.notify()
}

func (s *Supervisor) adopted(t *set, h heldReplica) *replica {
	r := &replica{
		sup: s, set: t, seq: h.Seq, spec: h.Spec, print: h.Spec.fingerprint(), name: h.Name, stop: make(chan struct{}), created: h.Created,
		stopping: h.Stopping, state: h.State, port: h.Port, addr: h.Addr, served: h.Served, readySince: time.Now(), readies: h.Readies,
		late: h.Late, started: h.Started, runs: h.Runs, nextStart: h.NextStart, why: h.Why, ended: h.Ended, ends: h.Ends,
		cpuBefore: h.CPUBefore, cpu: h.CPU, memory: h.Memory, sampledAt: h.SampledAt, from: &h,
	}
	if h.Stopping {
		close(r.stop)
	}
	r.log = s.logs.open(t.key, h.Name)
	r.log.lines, r.log.first = h.Log, h.Dropped
	for _, line := range h.Log {
		r.log.bytes += len(line.Text)
	}
	if h.Run != nil {
		r.run = s.attach(*h.Run, h.Addr, r.log)
	}
	return r
}

// attach takes a run's pipes up where they were left.
func (s *Supervisor) attach(h heldRun, addr string, log *ring) *run {
	r := newRun(addr, h.Mark)
	r.shim, r.pid, r.began = h.Shim, h.PID, h.Began
	r.listens.Store(h.Listens)
	*r.words = lastWords{panicked: h.Words[0], stderr: h.Words[1], stdout: h.Words[2]}
	r.proc, _ = os.FindProcess(h.Shim) // on unix there is no error
	file := func(fd int) *os.File {
		syscall.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), "held") // nil for what was closed before
	}
	r.ends = &ends{control: file(h.Control), reports: file(h.Reports), out: [2]*os.File{file(h.Out[0]), file(h.Out[1])},
		said: h.Said, read: make(chan struct{})}
	if h.Exited != nil {
		r.end.status, r.end.after = *h.Exited, h.After
		close(r.exited)
	}
	s.hear(r, log, h.Begun)
	go s.watch(r)
	return r
}

// UnmarshalText reads a state's word.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no state of a replica", b)
}

// UnmarshalText reads what MarshalText writes.
func (s *Stream) UnmarshalText(b []byte) error {
	*s = Stdout
	if string(b) == Stderr.String() {
		*s = Stderr
	}
	return nil
}
