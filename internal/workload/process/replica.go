package process

import (
	"context"
	"net"
	"strconv"
	"time"
)

// replica is one place in a set. One goroutine (supervise) lives its life; the
// fields below mu are guarded by the Supervisor's mutex.
type replica struct {
	sup     *Supervisor
	set     *set
	seq     uint64 // order of creation
	spec    Spec
	print   string // the spec's fingerprint
	name    string
	log     *ring
	stop    chan struct{} // closed once, when the replica is no longer wanted
	created time.Time
	from    *heldReplica // where another supervisor left it; nil: from the start

	// guarded by sup.mu
	stopping   bool
	state      State
	port       int
	addr       string
	run        *run // nil while none runs
	served     bool // this run has been ready: traffic may be on its way
	readySince time.Time
	readies    time.Duration // how long this run was ready, up to readySince
	late       bool          // this run's StartTimeout is over
	started    time.Time
	runs       int
	nextStart  time.Time
	why        string
	ended      string  // how the last run ended, as long as that explains the present
	ends       int     // runs that ended by themselves, in a row
	cpuBefore  float64 // seconds, of the runs that are over
	cpu        float64 // seconds, as last reported
	memory     int64
	sampledAt  time.Time
}

// supervise runs the command again and again until the replica is stopped.
func (r *replica) supervise() {
	defer r.sup.gone(r)
	wait := backoff{base: r.sup.opt.BackoffBase, max: r.sup.opt.BackoffMax, healthy: r.sup.opt.HealthyAfter, ends: r.ends}
	for from := r.from; ; from = nil {
		var pause time.Duration
		if from != nil && from.Run == nil && from.State == BackOff {
			pause = time.Until(from.NextStart)
		} else {
			var end ending
			if from != nil && from.Run != nil {
				end = r.follow(r.run)
			} else {
				end = r.live()
			}
			pause = wait.after(end.readies)
			if !r.backOff(end, pause, wait.ends) {
				return
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-r.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// live is one run, from start to the end of the whole tree.
func (r *replica) live() ending {
	run, end := r.begin()
	if run == nil {
		return end
	}
	return r.follow(run)
}

// begin starts a run, unless none is wanted any more.
func (r *replica) begin() (*run, ending) {
	s := r.sup
	s.starts.RLock() // a start that has begun is not handed over by halves
	defer s.starts.RUnlock()
	select {
	case <-r.stop:
		return nil, ending{}
	default:
	}
	port, err := s.reservePort(r)
	if err != nil {
		return nil, ending{failed: err.Error()}
	}
	r.beginStart()
	run, err := s.startRun(r.spec, r.name, port, r.log)
	if err != nil {
		return nil, ending{failed: err.Error()}
	}
	r.running(run)
	return run, ending{}
}

// follow goes with a run to the end of its tree.
func (r *replica) follow(run *run) ending {
	s := r.sup
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.spec.Ready.watch(ctx, r.isReady(),
			func(ctx context.Context) error { return s.check(ctx, r.spec.Ready, run) },
			func(ready bool, met error) { r.probed(run, ready, met) })
	}()
	select {
	case <-run.exited:
		r.exited(run)
		cancel()
	case <-r.stop:
		cancel()
		<-watched
		r.shutDown(run)
	}
	<-watched
	<-run.stopped
	return r.over(run)
}

// shutDown takes a run that is no longer wanted down: no traffic, SIGTERM, time
// to finish, SIGKILL. A run that has ended by itself is past all that.
func (r *replica) shutDown(run *run) {
	s := r.sup
	if run.hasExited() {
		return
	}
	if s.opt.Drain != nil && r.hasServed() {
		ctx, cancel := context.WithTimeout(s.hard, s.opt.DrainTimeout)
		go func() {
			select {
			case <-run.exited: // nothing left to wait for
				cancel()
			case <-ctx.Done():
			}
		}()
		s.opt.Drain(ctx, run.addr)
		cancel()
	}
	if run.hasExited() {
		return
	}
	again := r.enterStopping()
	if grace := r.spec.TerminationGracePeriod; grace > 0 {
		if !again { // who was told before the handover is not told twice
			run.terminate()
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-run.stopped:
			return
		case <-timer.C:
			s.log.Warn("replica outlived its grace period and is killed", "replica", r.name, "pid", run.pid, "grace", grace)
		case <-s.hard.Done():
		}
	}
	run.kill()
}

// The methods below are the transitions; each takes the mutex.

func (r *replica) beginStart() {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	r.late, r.served, r.readies = false, false, 0
	if r.stopping {
		return
	}
	r.state, r.nextStart = Starting, time.Time{}
	r.why = "starting"
	if r.ended != "" {
		r.why = "starting again; the run before " + r.ended
	}
	s.notify()
}

func (r *replica) running(run *run) {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	r.run, r.addr, r.started = run, run.addr, run.began
	r.runs++
	s.log.Info("replica started", "replica", r.name, "pid", run.pid, "addr", run.addr, "run", r.runs)
	s.notify()
}

func (r *replica) probed(run *run, ready bool, met error) {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.stopping || r.run != run || run.hasExited() {
		return
	}
	switch {
	case ready:
		r.why = ""
		if r.state == Ready {
			return
		}
		s.log.Info("replica ready", "replica", r.name, "addr", r.addr, "after", time.Since(r.started))
		r.state, r.served, r.readySince, r.ended = Ready, true, time.Now(), ""
		s.reconcile(r.set)
		s.notify()
	case r.served:
		if r.state == Ready {
			s.log.Warn("replica not ready any more", "replica", r.name, "addr", r.addr, "probe", met)
			r.readies += time.Since(r.readySince)
			r.state = Unready
			s.notify()
		}
		if met != nil {
			r.why = "not ready any more: " + met.Error()
		}
	case met != nil:
		r.why = "starting: " + met.Error()
		if since := time.Since(r.started); since >= r.spec.StartTimeout {
			r.why = "not ready after " + inSeconds(since.Truncate(time.Second)) + ": " + met.Error()
			if words := s.lastWords(run); words != "" {
				r.why += "; it said: " + words
			}
			if !r.late {
				r.late = true
				s.log.Warn("replica does not become ready", "replica", r.name, "why", r.why)
				s.notify()
			}
		}
		if r.ended != "" {
			r.why += "; the run before " + r.ended
		}
	}
}

// exited takes the replica out of the routes as soon as its own process has
// ended: the rest of the tree may take a moment longer.
func (r *replica) exited(run *run) {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.stopping || r.run != run {
		return
	}
	if r.state == Ready {
		r.readies += time.Since(r.readySince)
	}
	// What the run's other goroutine goes on writing is not read here.
	end := ending{status: run.end.status, after: run.end.after, lost: run.end.lost, words: s.lastWords(run)}
	r.state, r.why = Unready, end.sentence()
	s.notify()
}

func (r *replica) hasServed() bool {
	r.sup.mu.Lock()
	defer r.sup.mu.Unlock()
	return r.served
}

func (r *replica) isReady() bool {
	r.sup.mu.Lock()
	defer r.sup.mu.Unlock()
	return r.state == Ready
}

// enterStopping says whether the replica was stopping already.
func (r *replica) enterStopping() (again bool) {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.state == Stopping {
		return true
	}
	r.state, r.why = Stopping, "no longer wanted: is being ended"
	s.notify()
	return false
}

// over closes the books of a run.
func (r *replica) over(run *run) ending {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	end := run.end // valid: the run has stopped
	end.readies = r.readies
	r.cpu = max(r.cpu, r.cpuBefore+end.cpu)
	r.cpuBefore, r.memory, r.sampledAt = r.cpu, 0, time.Now()
	r.run = nil
	return end
}

// backOff enters the wait for the next run; false when none is wanted.
func (r *replica) backOff(end ending, pause time.Duration, ends int) bool {
	s := r.sup
	s.mu.Lock()
	defer s.mu.Unlock()
	r.ends = ends
	if r.stopping {
		end.words = "" // it was told to end: its last line explains nothing
		s.log.Info("replica ended", "replica", r.name, "how", end.sentence())
		return false
	}
	s.log.Warn("replica ended by itself", "replica", r.name, "how", end.sentence(), "next", pause)
	r.state, r.ended, r.nextStart = BackOff, end.sentence(), time.Now().Add(pause)
	r.why = r.ended
	s.reconcile(r.set)
	s.notify()
	return true
}

// sampled takes what the run's tree uses; CPU never falls.
func (r *replica) sampled(run *run, u usage, at time.Time) {
	if r.run == run {
		r.cpu = max(r.cpu, r.cpuBefore+u.cpu)
		r.memory, r.sampledAt = u.memory, at
	}
}

// view is the replica as List shows it.
func (r *replica) view() Replica {
	v := Replica{
		Key:         r.set.key,
		Name:        r.name,
		State:       r.state,
		Ready:       r.state == Ready,
		Addr:        r.addr,
		Current:     r.print == r.set.print && !r.stopping,
		Created:     r.created,
		Started:     r.started,
		Restarts:    max(r.runs-1, 0),
		NextStart:   r.nextStart,
		Why:         r.why,
		CPUSeconds:  r.cpu,
		MemoryBytes: r.memory,
		Sampled:     r.sampledAt,
	}
	if r.run != nil {
		v.PID = r.run.pid
	}
	return v
}

func (s *Supervisor) reservePort(r *replica) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.port = 0
	port, err := freePort(func(port int) bool {
		for other := range s.all {
			if other.port == port {
				return true
			}
		}
		return false
	})
	if err != nil {
		return 0, err
	}
	r.port = port
	r.addr = net.JoinHostPort(host, strconv.Itoa(port))
	return port, nil
}
