package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/workload/process"
)

// Executing again: a daemon replaces its own program, in the same process, by
// the file that it was started from, with the listeners, the clients that rest
// and the replicas. Process id, parent and children stay what they are.
//
//	check    the new program is asked whether it could take over; it touches nothing
//	leave    the gateway answers what has begun; who comes now waits in the listeners
//	last     one more pass takes in what was counted, and saves
//	exec     descriptors and a record of what they are go on
//
// Until "leave" anything that goes wrong changes nothing. After that only exec can
// fail; then the replicas are taken back, and the daemon ends in order with the
// error.

const (
	handoverEnv    = "SERIN_HANDOVER"       // number of the descriptor that the record can be read from
	checkEnv       = "SERIN_HANDOVER_CHECK" // the record's schema: could this program take it over?
	handoverSchema = 1

	// askPatience is how long the new program may take to say that it can.
	askPatience = 30 * time.Second
	// leavePatience bounds how long requests in flight are waited for, twice: while
	// new ones are served, and while they wait.
	leavePatience = 10 * time.Second
)

// Inherited is what this process had before it executed itself again, or what
// a service manager gave it: listeners by name, and, of a daemon before, the rest.
type Inherited struct {
	files map[string]*os.File
	kept  []gateway.Kept
	again handed
}

// handed is what goes from one program to the next. Descriptors are numbers.
type handed struct {
	Schema    int
	Begun     time.Time
	Times     int // how often this process has executed itself again
	Files     map[string]int
	Kept      []keptClient
	Held      *process.Held
	Counted   []gateway.Counted
	Decisions []keptCount
	Passes    []keptCount
}

type keptClient struct {
	Name string // of the listener that it came to
	FD   int
	Read []byte `json:",omitempty"`
}

// TakeOver gives what the daemon before in this process left, or nil where there
// was none. It must be called before anything else opens or starts anything.
func TakeOver() (*Inherited, error) {
	text, there := os.LookupEnv(handoverEnv)
	if !there {
		return nil, nil
	}
	os.Unsetenv(handoverEnv)
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s=%q is not a descriptor", handoverEnv, text)
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	in := &Inherited{files: map[string]*os.File{}}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading what was handed over: %w", err)
	}
	if err := json.NewDecoder(f).Decode(&in.again); err != nil {
		return nil, fmt.Errorf("reading what was handed over: %w", err)
	}
	if in.again.Schema != handoverSchema {
		return nil, fmt.Errorf("what was handed over has form %d, this serin knows %d", in.again.Schema, handoverSchema)
	}
	for name, fd := range in.again.Files {
		syscall.CloseOnExec(fd)
		in.files[name] = os.NewFile(uintptr(fd), name)
	}
	for _, k := range in.again.Kept {
		syscall.CloseOnExec(k.FD)
		f := os.NewFile(uintptr(k.FD), "client")
		if nc, err := net.FileConn(f); err == nil { // gone meanwhile otherwise
			in.kept = append(in.kept, gateway.Kept{Conn: nc, Read: k.Read})
		}
		f.Close()
	}
	return in, nil
}

// Again says whether a daemon was here before in this process.
func (in *Inherited) Again() bool { return in != nil && in.again.Schema != 0 }

// listener gives the inherited listener of a name, or nil.
func (in *Inherited) listener(name string) (net.Listener, error) {
	if in == nil || in.files[name] == nil {
		return nil, nil
	}
	f := in.files[name]
	delete(in.files, name)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("taking over the listener %s: %w", name, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return l, nil
}

// take takes an address, or the inherited listener of that name.
func (in *Inherited) take(name, address, what, flag string) (net.Listener, error) {
	l, err := in.listener(name)
	if l == nil && err == nil {
		if l, err = net.Listen("tcp", address); err != nil {
			err = listenError(what, address, flag, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// listen is take, for the daemon's life and the next one's.
func (d *Daemon) listen(name, address, what, flag string) (net.Listener, error) {
	l, err := d.o.Inherited.take(name, address, what, flag)
	if err != nil {
		return nil, err
	}
	return d.stand(name, l), nil
}

// stand makes a listener one that stays open over a handover.
func (d *Daemon) stand(name string, l net.Listener) net.Listener {
	s := &standing{Listener: l, name: name, handing: &d.handing}
	d.standing = append(d.standing, s)
	return s
}

// standing is a listener that stays open when its server ends because of a
// handover.
type standing struct {
	net.Listener
	name    string
	handing *atomic.Bool
}

func (l *standing) Close() error {
	if l.handing.Load() {
		return l.SetDeadline(time.Unix(1, 0)) // wakes who accepts
	}
	return l.Listener.Close()
}

// SetDeadline is the listener's own; TCP and unix sockets have one.
func (l *standing) SetDeadline(t time.Time) error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return nil
}

// Program is what a daemon executes again: itself, as it was started.
type Program struct {
	Path string   // looked up anew: the file may have been replaced
	Args []string // with the program's own name
	Env  []string
}

// ThisProgram is the running one.
func ThisProgram() (Program, error) {
	path, err := os.Executable()
	return Program{Path: path, Args: slices.Clone(os.Args), Env: os.Environ()}, err
}

// Again asks the daemon to execute itself again. It returns at once; what came
// of it is in the log, and in the process.
func (d *Daemon) Again() {
	select {
	case d.again <- struct{}{}:
	default: // asked for already
	}
}

// ask lets the new program say whether it could take over.
func (d *Daemon) ask(ctx context.Context) error {
	p := d.o.Program
	if p.Path == "" {
		return errors.New("this serin does not know what it was started from")
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Path, p.Args[1:]...)
	cmd.Args[0] = p.Args[0]
	cmd.Env = append(slices.Clone(p.Env), checkEnv+"="+strconv.Itoa(handoverSchema))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s cannot take over: %w: %s", p.Path, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// Asked says whether this process was started only to say whether it could take
// over from the one that asks.
func Asked() bool { _, there := os.LookupEnv(checkEnv); return there }

// Check is the answer: nil if a daemon with these options would go on where the
// one that asks is. It opens, writes and starts nothing.
func Check(o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	if theirs := os.Getenv(checkEnv); theirs != strconv.Itoa(handoverSchema) {
		return fmt.Errorf("the running serin hands over in form %s, this one knows %d: end it and start this one", theirs, handoverSchema)
	}
	d := &Daemon{o: o, log: o.Logger}
	if d.memory, err = openMemory(memoryPath(o), o.Dir); err != nil {
		return err
	}
	if err := d.firstDocuments(); err != nil {
		return err
	}
	if err := d.readableStates(context.Background()); err != nil {
		return err
	}
	_, err = d.openTLS()
	return err
}

// executeAgain does not return unless it was refused, which changes nothing, or
// ctx ended meanwhile; or, with an error, if neither the new program nor the
// running one could be executed: nothing is served any more then.
func (d *Daemon) executeAgain(ctx context.Context) error {
	begun := time.Now()
	err := d.ask(ctx)
	var record *os.File
	if err == nil {
		record, err = anonymousFile(d.o.StateDir)
	}
	if err != nil {
		d.log.Error("going on as before: the new program cannot take over", "err", err)
		return nil
	}
	defer record.Close()
	d.log.Info("executing the program again, with listeners, clients and replicas", "path", d.o.Program.Path)
	d.notify("RELOADING=1", monotonic(), "STATUS=Executing the program again.")
	d.handing.Store(true)
	kept, err := d.gw.Leave(ctx, leavePatience)
	var cut *gateway.LeaveError
	if errors.As(err, &cut) {
		d.log.Warn("requests that took too long were cut", "connections", cut.Cut)
	}
	if ctx.Err() != nil {
		d.handing.Store(false)
		return nil
	}
	for _, a := range d.allApps() {
		a.finish(ctx)
	}
	d.stop()
	d.gw.Close()
	d.work.Wait()
	if d.o.Inherited.Again() {
		kept = append(kept, d.o.Inherited.kept...)
	}
	for _, a := range d.allApps() {
		_ = a.record.Close()
	}
	r := handed{
		Schema: handoverSchema, Begun: d.begun, Times: d.o.Inherited.times() + 1, Files: map[string]int{}, Counted: d.gw.Counted(),
	}
	r.Decisions, r.Passes = d.meter.counts()
	var keep []int
	r.Held, keep = d.sup.HandOver()
	file := func(name string, c syscall.Conn) {
		if fd := descriptor(c); fd >= 0 {
			r.Files[name] = fd
			keep = append(keep, fd)
		}
	}
	for _, l := range d.standing {
		if c, ok := l.Listener.(syscall.Conn); ok {
			file(l.name, c)
		}
	}
	file("lock", d.lock)
	for _, k := range kept {
		if c, ok := k.Conn.(syscall.Conn); ok {
			if fd := descriptor(c); fd >= 0 {
				r.Kept = append(r.Kept, keptClient{Name: "users", FD: fd, Read: k.Read})
				keep = append(keep, fd)
			}
		}
	}
	d.log.Info("handing over", "clients", len(r.Kept), "after", time.Since(begun))
	err = d.execute(r, record, keep)
	d.handing.Store(false)
	d.sup.TakeBack()
	for _, k := range kept {
		_ = k.Conn.Close()
	}
	for _, l := range d.standing { // nobody is to wait for an answer that does not come
		_ = l.Close()
	}
	d.log.Error("ending: the program could not be executed again", "err", err)
	return fmt.Errorf("the program could not be executed again: %w", err)
}

func (in *Inherited) times() int {
	if in == nil {
		return 0
	}
	return in.again.Times
}

// execute replaces the program, which reads r from the file record. It returns
// only if neither the new program nor the running one can be executed.
func (d *Daemon) execute(r handed, record *os.File, keep []int) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := record.Write(b); err != nil {
		return err
	}
	fd := descriptor(record)
	p := d.o.Program
	env := append(slices.Clone(p.Env), handoverEnv+"="+strconv.Itoa(fd))
	// Ignored signals stay ignored over exec until the new program listens: one
	// that comes too early must not end it.
	signal.Ignore(syscall.SIGUSR2)
	// Nobody may start a child between here and exec: it would inherit all this.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	keep = append(keep, fd)
	defer func() {
		for _, n := range keep {
			syscall.CloseOnExec(n)
		}
	}()
	for _, n := range keep {
		if err := inherit(n); err != nil {
			return err
		}
	}
	err = syscall.Exec(p.Path, p.Args, env)
	return errors.Join(err, syscall.Exec(runningProgram, p.Args, env))
}

// descriptor gives the number of an open file; -1 for a closed one.
func descriptor(c syscall.Conn) int {
	n := -1
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}

// keptCount is one of the meter's counters.
type keptCount struct {
	Key []string
	N   float64
}

func (m *meter) counts() (decisions, passes []keptCount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.decisions {
		decisions = append(decisions, keptCount{[]string{k.app, k.what, k.author}, n})
	}
	for k, n := range m.passes {
		passes = append(passes, keptCount{[]string{k.app, k.result}, n})
	}
	return decisions, passes
}

// goOn counts on from what was counted before.
func (m *meter) goOn(decisions, passes []keptCount) {
	for _, c := range decisions {
		if len(c.Key) == 3 {
			m.decisions[decisionKey{c.Key[0], c.Key[1], c.Key[2]}] = c.N
		}
	}
	for _, c := range passes {
		if len(c.Key) == 2 {
			m.passes[passKey{c.Key[0], c.Key[1]}] = c.N
		}
	}
}

// finish makes the loop do one more pass, which takes in what was counted, and
// save; then it ends.
func (a *app) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commandPatience)
	defer cancel()
	select {
	case <-ctx.Done():
		return
	case <-a.living.Done():
		return
	case a.last <- struct{}{}:
	}
	select {
	case <-ctx.Done():
	case <-a.finished:
	}
}
