package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/router/embedded"
	"github.com/serin-dev/serin/internal/workload/process"
)

// Options of a Daemon. Dir and StateDir are needed.
type Options struct {
	Dir      string // folder of documents
	StateDir string // what outlives the process; made if it is not there
	// Run says how the containers of an image are started, as
	// manifest.ParseRun reads it; it wins over the container's own command.
	Run map[string][]string
	// WorkDir is where relative commands are meant from; the working directory
	// if empty.
	WorkDir string

	Listen        string // users' requests; 127.0.0.1:8080 if empty
	TLS           TLS    // users' requests, encrypted; besides Listen
	MetricsListen string // /metrics; none if empty
	Socket        string // the API; serin.sock in StateDir if empty
	// Dashboard is where browsers find it: an address of loopback; none if empty.
	Dashboard string
	// User is in whose name the dashboard's owner acts; this process's if empty.
	User string

	Logger  *slog.Logger // nil: nothing is logged
	Version string       // of the program, for Info
	Seed    uint64       // orders the gateway's blocks; 0 is a seed too

	SaveEvery   time.Duration // engine.Options.SaveEvery
	RecordBytes int64         // size of one of the two files of a rollout's record; record.DefaultBytes if 0
	// Process are the supervisor's settings; Logger, Dir, Drain, Environ and Held are
	// the daemon's. DrainTimeout 0: as long as the gateway's Drain may take.
	Process process.Options
	// Inherited is what this process had before, or was given; nil: nothing.
	Inherited *Inherited
	// Program is what is executed again, see Again; the zero Program: nothing is.
	Program Program
	// Notify tells a service manager lines of the sd_notify protocol; nil: there is
	// none. It hears WATCHDOG=1 three times in every Watchdog, where that is not 0.
	Notify   func(state string) error
	Watchdog time.Duration

	// Gateway are the data plane's settings; Logger, Seed, StickyKey, Counted and
	// Before are the daemon's. MaxConnections 0: what the descriptors allow.
	Gateway gateway.Options
	// Linger is for how long an application whose documents are gone must have been
	// asked nothing before it is ended; 10 min if 0.
	Linger time.Duration
	// Shield repeats a request that a canary failed on the stable version, where
	// that may be done; the judge still counts the failure.
	Shield bool
	// ShutdownTimeout bounds how long requests in flight are waited for at the
	// end; 30 s if 0.
	ShutdownTimeout time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" || o.StateDir == "" {
		return o, errors.New("a daemon needs a folder of documents and a state folder")
	}
	var err error
	for _, p := range []*string{&o.Dir, &o.StateDir, &o.WorkDir} {
		if *p, err = filepath.Abs(*p); err != nil {
			return o, err
		}
	}
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:8080")
	o.Socket = cmp.Or(o.Socket, filepath.Join(o.StateDir, "serin.sock"))
	o.Version = cmp.Or(o.Version, "devel")
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 30*time.Second)
	o.Linger = cmp.Or(o.Linger, 10*time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func (o Options) engine() engine.Options {
	return engine.Options{SaveEvery: o.SaveEvery, LookAtRest: 5 * time.Second}
}

// process are the supervisor's settings. It waits for as long as the gateway
// does: what is left after that, the gateway has ended or given up.
func (o Options) process() process.Options {
	p := o.Process
	p.Logger, p.Dir = o.Logger, o.WorkDir
	p.DrainTimeout = cmp.Or(p.DrainTimeout, o.Gateway.LongestDrain())
	return p
}

// Daemon runs the applications of one folder. It is an httpapi.Host.
type Daemon struct {
	o     Options
	log   *slog.Logger
	begun time.Time
	lock  *os.File

	users   net.Listener // bound since New, answered once a stable version can
	secure  net.Listener // nil: nothing is encrypted
	tls     *front
	metrics net.Listener
	api     net.Listener

	standing []*standing     // all listeners, by name
	told     map[string]bool // findings of the documents that are in force; the loader's alone
	handing  atomic.Bool     // the program is being executed again
	again    chan struct{}   // somebody asks for that
	parting  chan struct{}   // somebody may have become absent, or be missed no more
	web      *dashboard      // nil: none

	memory *memory
	first  documents // what New understood
	meter  *meter

	sup   *process.Supervisor
	gw    *gateway.Gateway
	board *embedded.Board
	hook  *http.Client

	*httpapi.Views

	running  context.Context // ends with the passes
	stop     context.CancelFunc
	now      context.Context // ends when nobody is waited for any more
	stopNow  context.CancelFunc
	work     sync.WaitGroup // everything that stop ends
	opened   chan struct{}  // closed when the gateway accepts
	refreshM sync.Mutex

	loading sync.Mutex // one change of the documents at a time
	routing sync.Mutex // one change of a route at a time, so that none is undone by an older one

	mu          sync.Mutex
	apps        map[string]*app
	folder      map[string]string    // files of the last good set
	uncertified map[string]string    // hosts without a certificate, and why
	problem     error                // why the folder as it is now is not in force
	absent      map[string]time.Time // apps whose documents have gone, and when
}

// New checks everything that can be checked and takes the addresses. Nothing
// runs yet; either Run or Close must follow. The documents that cannot be
// understood are an error that wraps ErrDocuments, unless the state folder
// remembers ones that could be.
func New(o Options) (_ *Daemon, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		o: o, log: o.Logger, begun: time.Now(), apps: map[string]*app{}, absent: map[string]time.Time{}, opened: make(chan struct{}),
		again: make(chan struct{}, 1), parting: make(chan struct{}, 1),
		hook: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if o.Inherited.Again() {
		d.begun = o.Inherited.again.Begun
	}
	d.Views = httpapi.NewViews(d.begun)
	d.running, d.stop = context.WithCancel(context.Background())
	d.now, d.stopNow = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	if o.Inherited.Again() && o.Inherited.files["lock"] != nil {
		d.lock = o.Inherited.files["lock"] // has been locked all the while
	} else if d.lock, err = lockFolder(o.StateDir); err != nil {
		return nil, err
	}
	if d.memory, err = openMemory(memoryPath(o), o.Dir); err != nil {
		return nil, err
	}
	if err := d.firstDocuments(); err != nil {
		return nil, err
	}
	if d.tls, err = d.openTLS(); err != nil {
		return nil, err
	}
	if d.users, err = d.listen("users", o.Listen, "users' requests", "--listen"); err != nil {
		return nil, err
	}
	if d.tls != nil {
		at := cmp.Or(o.TLS.Listen, "127.0.0.1:8443")
		if d.secure, err = d.listen("tls", at, "users' encrypted requests", "--listen-tls"); err != nil {
			return nil, err
		}
		d.tls.reachable(d.users.Addr(), d.secure.Addr())
	}
	if o.MetricsListen != "" {
		if d.metrics, err = d.listen("metrics", o.MetricsListen, "/metrics", "--metrics-listen"); err != nil {
			return nil, err
		}
	}
	if d.api, err = d.listenAPI(); err != nil {
		return nil, err
	}
	if d.web, err = openDashboard(o); err != nil {
		return nil, err
	}
	if d.web != nil {
		d.web.Listener = d.stand("dashboard", d.web.Listener)
	}
	return d, nil
}

func memoryPath(o Options) string { return filepath.Join(o.StateDir, "daemon.json") }

// listenError says what to do about an address that cannot be listened on.
func listenError(what, address, flag string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is taken by another program: choose another address for %s with %s, for example %s 127.0.0.1:0 for any free port", address, what, flag, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listening on %s is not permitted to this user: choose another address for %s with %s, for example %s 127.0.0.1:8080", address, what, flag, flag)
	}
	return fmt.Errorf("listening for %s on %s (choose another with %s): %w", what, address, flag, err)
}

// lockPatience is how long a lock may still be held after its holder was
// killed: a child that it was just starting has it until it runs its program.
const lockPatience = 2 * time.Second

// lockFolder makes sure that one daemon alone uses a state folder. The lock
// goes with the process, however it ends.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EWOULDBLOCK) && time.Now().Before(deadline):
			continue
		}
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another serin runs on the state folder %s: end it first, or choose another one with --state-dir", dir)
		}
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
}

// firstDocuments reads the folder. Documents that are not understood are an
// error at the very first start; later, what was in force is put in force again.
func (d *Daemon) firstDocuments() error {
	deployed, err := d.readDeployed()
	if err != nil {
		return err
	}
	folder, err := readFolder(d.o.Dir)
	if err == nil {
		var said []string
		err = d.safely(func() (err error) {
			d.first, said, err = loadDocuments(folder, deployed, d.o.Run, d.o.WorkDir)
			return err
		})
		if err == nil {
			d.say(said)
			d.folder = folder
			return nil
		}
	}
	good := d.memory.good()
	if len(good) == 0 {
		return err
	}
	first, said, again := loadDocuments(good, deployed, d.o.Run, d.o.WorkDir)
	if again != nil {
		return err
	}
	d.say(said)
	d.first, d.folder, d.problem = first, good, err
	return nil
}

func (d *Daemon) say(said []string) {
	for _, s := range said {
		d.log.Warn(s)
	}
}

// Addr is where users' requests come to; known since New.
func (d *Daemon) Addr() string { return d.users.Addr().String() }

// MetricsAddr is where /metrics is; known since New. Empty: nowhere.
func (d *Daemon) MetricsAddr() string {
	if d.metrics == nil {
		return ""
	}
	return d.metrics.Addr().String()
}

// SecureAddr is where users' encrypted requests come to; known since New. Empty:
// nowhere.
func (d *Daemon) SecureAddr() string {
	if d.secure == nil {
		return ""
	}
	return d.secure.Addr().String()
}

// Socket is where the API is; known since New.
func (d *Daemon) Socket() string { return d.o.Socket }

// Opened is closed when users' requests are accepted.
func (d *Daemon) Opened() <-chan struct{} { return d.opened }

// StopNow makes Run, once it is ending, wait for nobody: requests in flight are
// cut, processes killed.
func (d *Daemon) StopNow() { d.stopNow() }

// Close frees what New took. Run does so itself.
func (d *Daemon) Close() error {
	d.stop()
	d.stopNow()
	var errs []error
	if d.api != nil {
		errs = append(errs, ignoreClosed(d.api.Close()))
	}
	d.tls.close()
	for _, l := range []net.Listener{d.users, d.secure, d.metrics} {
		if l != nil {
			errs = append(errs, ignoreClosed(l.Close()))
		}
	}
	if d.web != nil {
		errs = append(errs, ignoreClosed(d.web.Close()))
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
		d.lock = nil
	}
	d.hook.CloseIdleConnections()
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Run runs everything until ctx ends, then ends it in order: passes, requests
// in flight, processes. It returns nil after an orderly end.
func (d *Daemon) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	if err = d.build(); err == nil {
		err = d.start()
	}
	for going := err == nil; going; {
		select {
		case <-ctx.Done():
			d.log.Info("ending: no new requests, those in flight are waited for")
			going = false
		case <-d.running.Done():
			going = false
		case <-d.again:
			err = d.executeAgain(ctx)
			going = err == nil
		}
	}
	d.notify("STOPPING=1", "STATUS=Ending: requests in flight are waited for.")
	return errors.Join(err, d.end())
}

func (d *Daemon) build() (err error) {
	g := d.o.Gateway
	g.Logger, g.Seed = d.log, d.o.Seed
	if g.StickyKey, err = stickyKey(d.o.StateDir); err != nil {
		return err
	}
	g.MaxConnections = cmp.Or(g.MaxConnections, affordable())
	if d.tls != nil && d.tls.issuer != nil {
		g.Before = d.tls.challenged
	}
	if d.o.Inherited.Again() {
		g.Counted = d.o.Inherited.again.Counted
	}
	d.gw = gateway.New(g)
	d.board = embedded.NewBoard(d.gw)
	p := d.o.process()
	p.Drain, p.Environ = d.drain, environment()
	if d.o.Inherited.Again() {
		p.Held = d.o.Inherited.again.Held
		if err := p.Held.Check(); err != nil {
			return err
		}
	}
	d.sup = process.New(p)
	d.meter = newMeter(d)
	if d.o.Inherited.Again() {
		d.meter.goOn(d.o.Inherited.again.Decisions, d.o.Inherited.again.Passes)
	}
	return nil
}

// start brings everything up in the order that the package's comment gives.
func (d *Daemon) start() error {
	d.loading.Lock()
	defer d.loading.Unlock()
	for _, p := range d.first.plans {
		a, err := d.openApp(d.running, p)
		if err != nil {
			return err
		}
		d.apps[p.name] = a
	}
	if err := d.memory.saveGood(d.folder); err != nil {
		d.log.Warn("the documents in force could not be remembered", "err", err)
	}
	d.introduce(d.first)
	if d.problem != nil {
		d.log.Error("the documents in the folder are not in force; the last good ones are", "err", d.problem)
	}
	d.followAll(d.first.plans)
	d.endStrangers()
	d.refresh()

	d.work.Go(d.followProcesses)
	d.work.Go(d.followAbsent)
	folder := maps.Clone(d.folder)
	if d.problem != nil {
		folder = nil // looked at again as soon as it is watched
	}
	d.work.Go(func() { watchFolder(d.running, d.o.Dir, folder, d.log, d.folderChanged) })
	for _, a := range d.apps {
		d.work.Go(a.run)
	}
	d.work.Go(func() {
		if err := httpapi.NewServer(d).WithLogger(d.log).Serve(d.running, d.api); err != nil && d.running.Err() == nil {
			d.log.Error("the API ended", "err", err)
		}
	})
	d.work.Go(func() { d.web.serve(d.running, httpapi.NewServer(d).WithLogger(d.log), d.log) })
	d.work.Go(func() { d.meter.serve(d.running, d.metrics) })
	d.work.Go(d.accept)
	d.work.Go(func() { d.keepInformed(d.running) })
	return nil
}

// accept lets users in once somebody can answer.
func (d *Daemon) accept() {
	select {
	case <-d.running.Done():
		return
	case <-d.opened:
	}
	d.log.Info("listening", "addr", d.Addr())
	if d.secure != nil {
		d.log.Info("listening, encrypted", "addr", d.secure.Addr().String())
		d.tls.manage(d.running, d.log)
		d.work.Go(func() {
			if err := d.gw.ServeTLSConfig(d.secure, d.tls.config); !errors.Is(err, http.ErrServerClosed) && d.running.Err() == nil {
				d.log.Error("the gateway's encrypted listener ended", "err", err)
				d.stop()
			}
		})
	}
	var kept []gateway.Kept
	if d.o.Inherited.Again() {
		kept = d.o.Inherited.kept
	}
	err := d.gw.Continue(d.users, kept)
	if errors.Is(err, gateway.ErrNotBegun) {
		return
	}
	if d.o.Inherited.Again() {
		d.o.Inherited.kept = nil // they were served, or are kept anew
	}
	if !errors.Is(err, http.ErrServerClosed) && d.running.Err() == nil {
		d.log.Error("the gateway's listener ended", "err", err)
		d.stop()
	}
}

// end stops passes before anything that they look at, so that nothing which
// happens on the way out is taken for the versions' doing.
func (d *Daemon) end() error {
	d.stop()
	if d.sup == nil {
		return nil // nothing was built
	}
	var errs []error
	if !d.isOpen() {
		for _, l := range []net.Listener{d.users, d.secure} { // who waits to be let in
			if l != nil {
				errs = append(errs, ignoreClosed(l.Close()))
			}
		}
	}
	patience, cancel := context.WithTimeout(d.now, d.o.ShutdownTimeout)
	defer cancel()
	if err := ignoreClosed(d.gw.Shutdown(patience)); err != nil {
		errs = append(errs, fmt.Errorf("requests were cut: %w", err))
	}
	d.work.Wait()
	if err := d.sup.Close(d.now); err != nil {
		errs = append(errs, err)
	}
	for _, a := range d.apps {
		errs = append(errs, a.record.Close())
	}
	return errors.Join(errs...)
}

// app finds an application by its name.
func (d *Daemon) app(name string) *app {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.apps[name]
}

func (d *Daemon) allApps() []*app {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*app
	for _, name := range slices.Sorted(maps.Keys(d.apps)) {
		out = append(out, d.apps[name])
	}
	return out
}

// introduce says once what is special about the documents.
func (d *Daemon) introduce(docs documents) {
	for _, a := range docs.set.Apps {
		if a.Derived != "" {
			d.log.Info(a.Derived, "app", a.Name)
		}
	}
	for _, n := range docs.set.Notes {
		d.log.Info(n.String())
	}
	d.warn(docs)
}

// warn says what keeps traffic from moving, when it is found and not again while
// it stays; `serin status` has it all the time, with what is only to be known.
func (d *Daemon) warn(docs documents) {
	told := d.told
	d.told = map[string]bool{}
	for _, p := range docs.plans {
		for _, f := range p.findings {
			if key := p.name + " " + f.What; f.Level == rollout.Refuse {
				if d.told[key] = true; !told[key] {
					d.log.Warn("no traffic moves: "+f.What, "app", p.name, "remedy", f.Remedy)
				}
			}
		}
	}
}

// folderChanged is given what the folder holds now, or why it cannot be read. It
// asks for another call where it was not the documents that kept them from being
// put in force: that may pass.
func (d *Daemon) folderChanged(folder map[string]string, err error) (again bool) {
	d.loading.Lock()
	defer d.loading.Unlock()
	if err == nil {
		var deployed map[string]string
		if deployed, err = d.readDeployed(); err == nil {
			err = d.safely(func() error { return d.reload(d.running, folder, deployed) })
		}
	}
	d.mu.Lock()
	was := d.problem
	d.problem = err
	d.mu.Unlock()
	switch {
	case err != nil && text(err) == text(was): // was said
	case err != nil:
		d.log.Error("the documents in the folder are not in force; the last good ones stay", "err", err)
	case was != nil:
		d.log.Info("the documents in the folder are understood again and in force")
	}
	for _, a := range d.allApps() {
		a.wake()
	}
	return err != nil && !errors.Is(err, ErrDocuments)
}

// notInForce is why documents that were understood could not be put in force.
type notInForce struct{ error }

func (e notInForce) Unwrap() error { return e.error }

// reload puts documents in force, whole or not at all.
func (d *Daemon) reload(ctx context.Context, folder, deployed map[string]string) error {
	docs, said, err := loadDocuments(folder, deployed, d.o.Run, d.o.WorkDir)
	if err != nil {
		return err
	}
	d.say(said)
	there := map[string]bool{}
	var fresh []*app
	for _, p := range docs.plans {
		there[p.name] = true
		if d.app(p.name) != nil {
			continue
		}
		a, err := d.openApp(ctx, p)
		if err != nil {
			for _, opened := range fresh {
				opened.stop()
				_ = opened.record.Close()
			}
			return notInForce{err}
		}
		fresh = append(fresh, a)
	}
	d.warn(docs)
	if err := d.memory.saveGood(folder); err != nil {
		d.log.Warn("the documents in force could not be remembered", "err", err)
	}
	d.enter(fresh, there, folder)
	d.followAll(docs.plans)
	for _, a := range fresh {
		d.log.Info("a new application", "app", a.name)
		d.work.Go(a.run)
	}
	d.refresh()
	d.lookAtAbsent()
	return nil
}

// enter notes what is there now.
func (d *Daemon) enter(fresh []*app, there map[string]bool, folder map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.folder = folder
	for _, a := range fresh {
		d.apps[a.name] = a
	}
	d.missing(there, time.Now())
}

func (d *Daemon) folderInForce() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.folder)
}

// followAll hands every application what its documents say.
func (d *Daemon) followAll(plans []plan) {
	names := services(plans)
	places := map[string]bool{}
	for _, a := range d.allApps() {
		places[a.name] = true
	}
	for _, p := range plans {
		for _, old := range d.displaced(p) {
			delete(places, old.name)
		}
	}
	for _, p := range plans {
		a := d.app(p.name)
		p.service, p.fallback = names[p.name], len(places) == 1
		if err := a.follow(p); err != nil {
			a.log.Warn("following the documents", "err", err)
		}
	}
}

// displaced are the applications whose documents are gone, and whose place in the
// gateway those of p take: its Service, or one of its hosts.
func (d *Daemon) displaced(p plan) []*app {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, absent := d.absent[p.name]; absent {
		return nil
	}
	var out []*app
	for _, name := range slices.Sorted(maps.Keys(d.apps)) {
		a := d.apps[name]
		if _, absent := d.absent[name]; absent && samePlace(a.planNow().doc, p.doc) {
			out = append(out, a)
		}
	}
	return out
}

func samePlace(a, b manifest.App) bool {
	return a.Service.Namespace == b.Service.Namespace && a.Service.Name == b.Service.Name ||
		a.Route.AnyHost && b.Route.AnyHost ||
		slices.ContainsFunc(a.Route.Hosts, func(h string) bool { return slices.Contains(b.Route.Hosts, h) })
}

// followProcesses keeps the gateway's endpoints as the processes are.
func (d *Daemon) followProcesses() {
	for {
		select {
		case <-d.running.Done():
			return
		case <-d.sup.Changed():
		}
		d.refresh()
		for _, a := range d.allApps() {
			a.routes() // who can answer may have changed whom a label means
			a.wake()
		}
	}
}

// refresh makes the gateway route to what is ready, and to nothing else.
func (d *Daemon) refresh() {
	d.refreshM.Lock()
	defer d.refreshM.Unlock()
	all := map[string]map[rollout.Revision][]gateway.Endpoint{}
	for _, a := range d.allApps() {
		all[a.name] = map[rollout.Revision][]gateway.Endpoint{}
		for rev, replicas := range a.versions.Replicas() {
			for _, r := range replicas {
				a.owns(r.Name, rev)
				if r.Ready {
					all[a.name][rev] = append(all[a.name][rev], gateway.Endpoint{Replica: r.Name, Address: r.Addr})
				}
			}
		}
	}
	if err := d.board.SetEndpoints(all); err != nil {
		d.log.Error("routing to what is ready", "err", err)
	}
}

// drain is asked before a replica that served is stopped.
func (d *Daemon) drain(ctx context.Context, address string) {
	for {
		d.refresh()
		err := d.gw.Drain(ctx, address)
		var still *gateway.DrainError
		switch {
		case errors.As(err, &still):
			d.log.Warn("a replica is stopped with requests in flight", "addr", address, "err", err)
			return
		case err == nil || ctx.Err() != nil:
			return
		}
		// Still in force: a table was refused. What refused it is logged; the
		// replica is waited for as long as the supervisor is willing to.
		select {
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// changed publishes what an application looks like now, and opens the gateway
// once somebody can answer.
func (d *Daemon) changed(a *app) {
	d.tryOpen()
	if v, ok := a.view(); ok {
		d.Publish(v)
	}
}

// tryOpen lets users in when one application can answer, and every other
// one can too or has nobody to wait for.
func (d *Daemon) tryOpen() {
	select {
	case <-d.opened:
		return
	default:
	}
	somebody := false
	for _, a := range d.allApps() {
		can, hopeless := a.answers()
		if !can && !hopeless {
			return
		}
		somebody = somebody || can
	}
	if somebody {
		d.mu.Lock()
		defer d.mu.Unlock()
		select {
		case <-d.opened:
		default:
			close(d.opened)
		}
	}
}

func (d *Daemon) isOpen() bool {
	select {
	case <-d.opened:
		return true
	default:
		return false
	}
}

// Info says who answers.
func (d *Daemon) Info() httpapi.Info {
	return httpapi.Info{
		Version: d.o.Version, PID: os.Getpid(), Started: d.begun, Dir: d.o.Dir, StateDir: d.o.StateDir,
		Gateway: d.Addr(), Metrics: d.MetricsAddr(),
		Dashboard: d.web.url(d.web.full()), DashboardLook: d.web.url(d.web.look()),
	}
}
