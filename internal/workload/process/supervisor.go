package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Supervisor keeps the sets that it was asked for running. Its methods may be
// called from several goroutines.
type Supervisor struct {
	opt         Options
	log         *slog.Logger
	logs        *logs
	client      *http.Client
	environ     []string // what a command inherits
	shimEnviron []string // what a shim gets
	changed     chan struct{}
	work        sync.WaitGroup // one for each replica, and the sampling
	hard        context.Context
	killAll     context.CancelFunc // ends hard: no patience any more
	stopSample  context.CancelFunc

	// Replaced where a test is about time and must not wait for processes.
	startRun func(spec Spec, name string, port int, log *ring) (*run, error)
	check    func(context.Context, Probe, *run) error

	starts sync.RWMutex // held for reading while a run is started, for ever once handed over

	mu     sync.Mutex
	closed bool
	seq    uint64
	sets   map[string]*set
	all    map[*replica]bool
}

// set is what was asked for under one key.
type set struct {
	key      string
	spec     Spec
	print    string
	want     int
	removed  bool
	replicas []*replica // also those that are being stopped
}

// New returns a Supervisor without sets. Close must be called in the end.
func New(o Options) *Supervisor {
	if os.Getenv(shimEnv) != "" {
		// Going on would start shims that start shims, without end.
		panic("process: this process was started as a shim; RunShimIfAsked must be the first thing that main (or TestMain) calls")
	}
	s := &Supervisor{
		client:  newProbeClient(),
		environ: o.Environ,
		changed: make(chan struct{}, 1),
		sets:    map[string]*set{},
		all:     map[*replica]bool{},
	}
	if s.environ == nil {
		s.environ = os.Environ()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if dir, err := filepath.Abs(o.Dir); err == nil {
		o.Dir = dir // an error leaves it relative, and the first start says what is wrong
	}
	o.DrainTimeout = orDuration(o.DrainTimeout, 30*time.Second)
	o.BackoffBase = orDuration(o.BackoffBase, 250*time.Millisecond)
	o.BackoffMax = max(orDuration(o.BackoffMax, 30*time.Second), o.BackoffBase)
	o.HealthyAfter = orDuration(o.HealthyAfter, 10*time.Second)
	o.SampleEvery = orDuration(o.SampleEvery, time.Second)
	o.LogLines = cmp.Or(o.LogLines, 1000)
	o.LogBytes = cmp.Or(o.LogBytes, 256<<10)
	o.LogLineSize = cmp.Or(o.LogLineSize, 4096)
	if o.Executable == "" {
		if exe, err := self(); err == nil {
			o.Executable = exe
		} else {
			o.Executable = os.Args[0]
		}
	}
	if exe, err := filepath.Abs(o.Executable); err == nil {
		o.Executable = exe // shims start in another directory
	}
	for _, kv := range os.Environ() { // what a Go binary itself looks at
		if name, _, _ := strings.Cut(kv, "="); slices.Contains([]string{"GODEBUG", "GOCOVERDIR", "GORACE"}, name) {
			s.shimEnviron = append(s.shimEnviron, kv)
		}
	}
	s.opt, s.log, s.logs = o, o.Logger, newLogs(o)
	s.startRun = s.start
	s.check = s.probe
	s.hard, s.killAll = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	s.stopSample = cancel
	s.work.Go(func() { s.sample(ctx) })
	s.adopt(o.Held)
	return s
}

// Set states what must run under key and returns at once; saying it again
// changes nothing. A different number starts or stops replicas (those that are
// not ready first, then the newest); a different Spec starts new ones at once and
// stops old ones as the new ones become ready (those that do not run or have not
// been ready: at once). Errors: a Spec that cannot work, with
// all its problems; a closed Supervisor. Nothing is changed then. A command that
// cannot be started is no error here: Replica.Why says so.
func (s *Supervisor) Set(key string, spec Spec, replicas int) error {
	err := spec.validate()
	if key == "" {
		err = errors.Join(errors.New("key: is empty"), err)
	}
	if replicas < 0 {
		err = errors.Join(err, fmt.Errorf("replicas: is %d: want zero or more", replicas))
	}
	if err != nil {
		return err
	}
	spec = spec.withDefaults(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the supervisor is closed")
	}
	t := s.sets[key]
	if t == nil {
		t = &set{key: key}
		s.sets[key] = t
	}
	t.spec, t.print, t.want, t.removed = spec, spec.fingerprint(), replicas, false
	s.reconcile(t)
	return nil
}

// Remove stops all replicas of key and forgets the key when they are gone. An
// unknown key is already gone.
func (s *Supervisor) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.sets[key]; t != nil {
		t.want, t.removed = 0, true
		s.reconcile(t)
	}
}

// List returns every replica, also those that are being stopped, by key and
// name. It costs no system call.
func (s *Supervisor) List() []Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Replica, 0, len(s.all))
	for r := range s.all {
		list = append(list, r.view())
	}
	slices.SortFunc(list, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Changed receives a value after List has come to differ in anything but CPU,
// memory and the words of Why. Changes which nobody waited for are one value;
// there is one channel, for one reader. It is never closed.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

// Logs returns the last tail lines (all that are kept for tail < 0) of the
// replicas of key in their order; "" means every key. Some replicas that are
// gone are still remembered.
func (s *Supervisor) Logs(key string, tail int) []Line {
	lines, _, _ := s.logs.last(reader{}, key, tail)
	return lines
}

// Follow is Logs that goes on with new lines until ctx ends, the loop is left or
// the Supervisor is closed. A reader that is too slow loses lines and learns how
// many; it never holds up a process.
func (s *Supervisor) Follow(ctx context.Context, key string, tail int) iter.Seq[Line] {
	return s.logs.follow(ctx, key, tail)
}

// Close drains and stops everything, whole trees included, and returns when
// nothing is left. When ctx ends first, the rest is killed at once; the error
// says so.
func (s *Supervisor) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for _, t := range s.sets {
		t.want, t.removed = 0, true
		s.reconcile(t)
	}
	s.mu.Unlock()
	s.stopSample()
	left := make(chan struct{})
	go func() {
		s.work.Wait()
		close(left)
	}()
	var err error
	select {
	case <-left:
	case <-ctx.Done():
		err = fmt.Errorf("replicas were killed before they had finished: %w", context.Cause(ctx))
		s.killAll()
		select {
		case <-left:
		case <-time.After(patience): // SIGKILL has not helped: a process hangs in the kernel
			for _, r := range s.List() {
				err = errors.Join(err, fmt.Errorf("%s (pid %d) does not end", r.Name, r.PID))
			}
		}
	}
	s.killAll()
	s.client.CloseIdleConnections()
	s.logs.close()
	return err
}

// reconcile starts what is missing in t and stops what is too much. It is called
// with the mutex held, after anything that it looks at has changed.
func (s *Supervisor) reconcile(t *set) {
	var current, old, idle []*replica
	ready := 0
	for _, r := range t.replicas {
		switch {
		case r.stopping:
		case r.print != t.print && (r.state == BackOff || r.state == Starting):
			idle = append(idle, r) // carries nothing: not worth waiting for
		case r.print != t.print:
			old = append(old, r)
		default:
			current = append(current, r)
			if r.state == Ready {
				ready++
			}
		}
	}
	for range t.want - len(current) {
		s.add(t)
	}
	surplus(current, t.want)
	surplus(idle, 0)
	// Old ones carry what the new ones cannot yet.
	surplus(old, max(t.want-ready, 0))
	if t.removed && len(t.replicas) == 0 {
		delete(s.sets, t.key)
	}
}

// surplus stops all but keep of the replicas: those that are not ready first,
// then the newest.
func surplus(replicas []*replica, keep int) {
	slices.SortFunc(replicas, func(a, b *replica) int {
		if ar, br := a.state == Ready, b.state == Ready; ar != br {
			if ar {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.seq, a.seq)
	})
	for _, r := range replicas[:max(len(replicas)-keep, 0)] {
		// Not ready from here on, for everybody; only then is it drained.
		r.stopping = true
		r.state, r.why = Draining, "no longer wanted: waits until no request is on its way"
		r.nextStart = time.Time{}
		close(r.stop)
		r.sup.notify()
	}
}

func (s *Supervisor) add(t *set) {
	s.seq++
	r := &replica{
		sup:     s,
		set:     t,
		seq:     s.seq,
		spec:    t.spec,
		print:   t.print,
		name:    s.freeName(t.spec.Name),
		stop:    make(chan struct{}),
		created: time.Now(),
		why:     "starting",
	}
	r.log = s.logs.open(t.key, r.name)
	t.replicas = append(t.replicas, r)
	s.all[r] = true
	s.notify()
	s.work.Go(r.supervise)
}

// freeName returns stem with the lowest number that no replica has.
func (s *Supervisor) freeName(stem string) string {
	used := map[string]bool{}
	for r := range s.all {
		used[r.name] = true
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("%s-%d", stem, i); !used[name] {
			return name
		}
	}
}

// gone forgets a replica of which nothing is left.
func (s *Supervisor) gone(r *replica) {
	s.logs.retire(r.log)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, r)
	r.set.replicas = slices.DeleteFunc(r.set.replicas, func(other *replica) bool { return other == r })
	s.reconcile(r.set)
	s.notify()
}

func (s *Supervisor) notify() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// lastWords is what a run has said so far.
func (s *Supervisor) lastWords(r *run) string {
	if r.words == nil {
		return ""
	}
	return s.logs.words(r.words)
}

// sample reads CPU and memory of all trees until ctx ends.
func (s *Supervisor) sample(ctx context.Context) {
	var reads sampler
	tick := time.NewTicker(s.opt.SampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var roots []treeRoot
		runs := map[int]*run{}
		s.mu.Lock()
		owners := map[*run]*replica{}
		for r := range s.all {
			if r.run != nil && r.run.shim != 0 {
				roots = append(roots, treeRoot{shim: r.run.shim, group: r.run.pid})
				runs[r.run.shim], owners[r.run] = r.run, r
			}
		}
		s.mu.Unlock()
		uses, at := reads.sample(roots), time.Now()
		s.mu.Lock()
		for shim, use := range uses {
			owners[runs[shim]].sampled(runs[shim], use, at)
		}
		s.mu.Unlock()
	}
}
