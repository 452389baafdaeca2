package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Options are the engine's own settings; the zero value of each means its default.
type Options struct {
	Now func() time.Time // time.Now

	// ReadTimeout bounds each read of a pass; a read that takes longer is
	// Unknown. 2 s, so that a dead source of figures does not delay the way to 0 %.
	ReadTimeout time.Duration
	// WriteTimeout bounds each write of a pass. 10 s.
	WriteTimeout time.Duration
	// TellTimeout bounds telling people. 1 s: a notifier that talks to a slow
	// network queues.
	TellTimeout time.Duration
	// SaveEvery is how much evidence and how many clocks a crash may lose. 30 s.
	SaveEvery time.Duration
	// LookAtRest is how often the judge looks at the stable version while no
	// rollout is under way, so that it knows how stable's replicas differ before
	// the next one starts. 0 = not at all: on a cluster an idle rollout costs
	// nothing; where samples are free, one look a second.
	LookAtRest time.Duration
	// InOrder makes the reads of a pass one after another in a fixed order,
	// which simulations need. Otherwise they run at the same time.
	InOrder bool
	// Policy and Recall stand in for rollout.Decide and for the judge, where a
	// simulation wants to see a faulty policy caught or to script the verdicts.
	// nil means the real ones.
	Policy Policy
	Recall Recall
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&o.ReadTimeout, 2 * time.Second},
		{&o.WriteTimeout, 10 * time.Second},
		{&o.TellTimeout, time.Second},
		{&o.SaveEvery, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	return o
}

// Result is what one pass saw, decided and did. It is valid beside an error.
type Result struct {
	At time.Time
	// Decided is false when the pass ended before a decision, because nothing
	// could be loaded; then only At, Wake and the error mean anything.
	Decided  bool
	Before   rollout.State       // what was decided before this pass
	Seen     rollout.Observation // with the judge's report
	Sampled  *Sampled            // nil: no look was due
	Decision rollout.Decision
	// State is what holds after the pass: the decision's Next where Taken, else
	// Before, because Next could not be saved or must not be.
	State rollout.State
	Taken bool
	// Loaded is what this pass took over from the store, where it had to: the
	// first pass, after a conflict, and after a save that was applied although
	// it failed.
	Loaded *Loaded
	Wrote  Wrote
	// Wake is when to pass again if nothing happens; zero = no need.
	Wake time.Time
}

// Loaded is a stored copy that was taken over.
type Loaded struct {
	Saved
	// JudgeKept: the judge in memory is younger than the copy's evidence, and
	// goes on.
	JudgeKept bool
}

// Wrote says which writes a pass made, or tried to make.
type Wrote struct {
	State   bool
	Traffic bool
	Scale   []rollout.Scale
}

// Any says whether there was a write at all.
func (w Wrote) Any() bool { return w.State || w.Traffic || len(w.Scale) > 0 }

// Engine passes over one rollout. Its methods are not for concurrent use.
type Engine struct {
	ports Ports
	opts  Options
	mind  *Mind

	// What is in memory. state is what the next pass starts from: what is
	// stored, and clocks that are younger.
	loaded  bool
	stored  Saved // as it was read, or written by us
	state   rollout.State
	unsaved bool // state lowers exposure, is in force, and could not be saved yet
	savedAt time.Time
	doubt   *Saved // a save that failed: it may have been applied
	told    int
	asked   *rollout.Traffic // the last split that this process wrote
	learned rollout.Revision // the canary before which history was asked for

	saveError, applyError string
	failures, untold      int // in a row
	tellAt                time.Time
}

// New makes an engine for one rollout. Nothing is read or written before the
// first pass. It is an error to leave out Store, Workloads or Router.
func New(spec rollout.Spec, cfg analysis.Config, ports Ports, opts Options) (*Engine, error) {
	switch {
	case ports.Store == nil:
		return nil, errors.New("an engine needs a store")
	case ports.Workloads == nil:
		return nil, errors.New("an engine needs workloads")
	case ports.Router == nil:
		return nil, errors.New("an engine needs a router")
	}
	mind := NewMind(spec, cfg)
	mind.atRest = opts.LookAtRest
	if opts.Policy != nil {
		mind.decide = opts.Policy
	}
	if opts.Recall != nil {
		mind.restore = opts.Recall
		if err := mind.Restore(nil); err != nil {
			return nil, err
		}
	}
	return &Engine{ports: ports, opts: opts.withDefaults(), mind: mind}, nil
}

// Respec takes an edited document. It counts from the next pass; an error says
// that the evidence so far was lost.
func (e *Engine) Respec(spec rollout.Spec, cfg analysis.Config) error {
	if err := e.mind.Respec(spec, cfg); err != nil {
		return fmt.Errorf("keeping the evidence under the edited document: %w", err)
	}
	return nil
}

// SaveNext makes the next pass save, whatever it decides: the host is about to
// end, and evidence that was not saved would be lost.
func (e *Engine) SaveNext() { e.unsaved = true }

// Evidence is the judge's memory as it is now.
func (e *Engine) Evidence() ([]byte, error) { return e.mind.Evidence() }

// Pass does one pass. The error joins everything that went wrong; the result
// is valid all the same, and Wake says when to try again.
func (e *Engine) Pass(ctx context.Context) (Result, error) {
	loaded, loadErr := e.load(ctx)
	if !e.loaded {
		now := e.opts.Now().UTC()
		e.failures++
		return Result{At: now, Wake: now.Add(e.retryIn(loadErr, false))}, loadErr
	}

	obs, seen, past, readErr := e.observe(ctx)
	now := e.opts.Now().UTC()
	before := e.state
	if len(past) > 0 {
		var learnErr error
		loaded, learnErr = e.learn(past, loaded)
		readErr = errors.Join(readErr, learnErr)
	}
	d, obs := e.mind.Think(before, obs, seen, now)
	res := Result{At: now, Decided: true, Before: before, Seen: obs, Sampled: seen, Decision: d, Loaded: loaded}

	lowers := lowersExposure(d, before, obs.Route)
	saveErr, applyErr := e.carryOut(ctx, d, before, obs, lowers, now, &res)
	e.saveError, e.applyError = text(saveErr), text(applyErr)
	doneErr := e.done(ctx, obs.Commands)
	tellErr := e.tell(ctx, now)

	res.State = e.state
	bad := errors.Join(loadErr, readErr, saveErr, applyErr, doneErr)
	if KindOf(bad) == Ignore {
		e.failures = 0
	} else {
		e.failures++
	}
	res.Wake = e.wake(d, bad, lowers, now, res.Wrote)
	return res, errors.Join(bad, tellErr)
}

// load makes sure that what is in memory is what is stored. It reads the store
// at first, after a conflict, and after a save of which it is not known whether
// it was applied. What it took over is returned.
func (e *Engine) load(ctx context.Context) (*Loaded, error) {
	if e.loaded && e.doubt == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.ReadTimeout)
	defer cancel()
	s, err := e.ports.Store.Load(ctx)
	if err != nil {
		// With something in memory the pass goes on: a store that is away must
		// not stop a canary from being taken back.
		return nil, fmt.Errorf("loading the state: %w", err)
	}
	doubt := e.doubt
	e.doubt = nil
	switch {
	case e.loaded && s.Version == e.stored.Version:
		return nil, nil // it was not applied; what is in memory goes on
	case e.loaded && doubt != nil && same(s, *doubt):
		e.stored, e.unsaved = s, false // it was applied; the judge in memory is younger than the evidence
		e.state = s.State
		return &Loaded{Saved: s, JudgeKept: true}, nil
	}
	e.loaded, e.stored, e.state, e.unsaved, e.asked = true, s, s.State, false, nil
	e.told = s.Told
	e.savedAt = time.Time{}
	if err := e.mind.Restore(s.Evidence); err != nil {
		return &Loaded{Saved: s}, fmt.Errorf("the evidence so far is lost, it starts from nothing: %w", err)
	}
	return &Loaded{Saved: s}, nil
}

// learn shows the judge what stable counted before there was a canary. For a
// record that is a start from what is known then.
func (e *Engine) learn(past []Moment, loaded *Loaded) (*Loaded, error) {
	evidence, err := e.mind.Learn(e.state.Stable.Revision, past)
	if err != nil {
		return loaded, fmt.Errorf("learning from the time before: %w", err)
	}
	return &Loaded{Saved: Saved{State: e.state, Evidence: evidence, Version: e.stored.Version, Told: e.told}}, nil
}

// historian is who can tell what was before the canary, where that is wanted.
func (e *Engine) historian() Historian {
	st := &e.state
	h, ok := e.ports.Samples.(Historian)
	if !ok || st.Phase != rollout.Preparing || st.Granted > 0 || st.Confirmed > 0 || st.Canary.Revision == e.learned {
		return nil
	}
	return h
}

// same says whether two copies hold the same, whatever their versions.
func same(a, b Saved) bool {
	x, errX := json.Marshal(a.State)
	y, errY := json.Marshal(b.State)
	return errX == nil && errY == nil && bytes.Equal(x, y) && bytes.Equal(a.Evidence, b.Evidence) && a.Told == b.Told
}

// observe makes every read of the pass. What fails is left Unknown.
func (e *Engine) observe(ctx context.Context) (obs rollout.Observation, seen *Sampled, past []Moment, err error) {
	obs = rollout.Observation{SaveError: e.saveError, ApplyError: e.applyError}
	stable, canary := e.state.Stable.Revision, e.state.Canary.Revision
	kept := e.state.Source
	now := e.opts.Now().UTC()

	type read struct {
		what string
		do   func(context.Context) error
	}
	reads := []read{
		{"the versions", func(ctx context.Context) (err error) {
			obs.Workloads, err = keep(e.ports.Workloads.Observe(ctx))
			return
		}},
		{"the route", func(ctx context.Context) (err error) { obs.Route, err = keep(e.ports.Router.Observe(ctx)); return }},
	}
	if p := e.ports.Inbox; p != nil {
		reads = append(reads, read{"the commands", func(ctx context.Context) (err error) { obs.Commands, err = keep(p.Pending(ctx)); return }})
	}
	if p := e.ports.Tests; p != nil {
		reads = append(reads, read{"the tests", func(ctx context.Context) (err error) { obs.Tests, err = keep(p.Answers(ctx)); return }})
	}
	if p := e.ports.Windows; p != nil {
		reads = append(reads, read{"the windows", func(ctx context.Context) error {
			closed, err := p.Closed(ctx, now)
			if err != nil {
				// Not known to be open is closed: it holds, and raises nothing.
				closed = []rollout.Window{{Name: "windows that could not be read"}}
			}
			obs.Windows = closed
			return err
		}})
	}
	if p := e.ports.Declared; p != nil {
		reads = append(reads, read{"the declared weights", func(ctx context.Context) (err error) { obs.Declared, err = keep(p.Declared(ctx)); return }})
	}
	if p := e.ports.Preflight; p != nil && (e.state.Phase == rollout.Idle || e.state.Phase == rollout.Preparing || e.state.Phase == "") {
		reads = append(reads, read{"the preflight", func(ctx context.Context) error {
			found, err := p.Check(ctx, stable, canary)
			if err != nil {
				found = []rollout.Finding{{Level: rollout.Wait, What: "the preflight could not be made: " + err.Error()}}
			}
			obs.Findings = found
			return err
		}})
	}
	switch p := e.ports.Samples; {
	case stable == "" || !e.mind.Due(e.state, now):
	case p == nil:
		seen = &Sampled{} // the judge says what no figures mean
	default:
		reads = append(reads, read{"the samples", func(ctx context.Context) error {
			if c, ok := p.(Chooser); ok {
				obs.Source = c.Choose(ctx, stable, kept)
			}
			if h := e.historian(); h != nil {
				// Once: what nobody can tell is learnt while the canary waits.
				ctx, cancel := context.WithTimeout(ctx, e.opts.ReadTimeout/2) // the look needs the rest
				var err error
				if past, err = keep(h.History(ctx, stable)); !errors.Is(err, ErrUnchanged) {
					e.learned = canary
				}
				cancel()
			}
			s, err := keep(p.Look(ctx, stable, canary))
			if errors.Is(err, ErrUnchanged) {
				return nil
			}
			seen = &s // a look that gave nothing is a look
			return err
		}})
	}

	errs := make([]error, len(reads))
	one := func(i int) {
		ctx, cancel := context.WithTimeout(ctx, e.opts.ReadTimeout)
		defer cancel()
		if err := reads[i].do(ctx); err != nil {
			errs[i] = fmt.Errorf("reading %s: %w", reads[i].what, err)
		}
	}
	if e.opts.InOrder {
		for i := range reads {
			one(i)
		}
	} else {
		var all sync.WaitGroup
		mistakes := make([]*PortPanic, len(reads))
		for i := range reads {
			all.Go(func() {
				defer func() {
					if v := recover(); v != nil {
						mistakes[i] = &PortPanic{Reading: reads[i].what, Value: v, Stack: debug.Stack()}
					}
				}()
				one(i)
			})
		}
		all.Wait()
		for _, m := range mistakes {
			if m != nil {
				panic(m)
			}
		}
	}
	return obs, seen, past, errors.Join(errs...)
}

// keep drops what came beside an error: half an answer is none.
func keep[T any](v T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// carryOut is the one place that says in which order things are done:
//
//	check, save;
//	then, if it lowers exposure:  traffic, capacity given
//	otherwise:                    capacity given, traffic
//	then tests started, and at last capacity taken.
func (e *Engine) carryOut(ctx context.Context, d rollout.Decision, before rollout.State, obs rollout.Observation, lowers bool, now time.Time, res *Result) (saveErr, applyErr error) {
	wrote := &res.Wrote
	if broken := rollout.Check(e.mind.spec, before, obs, d); broken != nil {
		// Not recorded either: what must not be decided was not decided.
		refused := fmt.Errorf("a decision was not carried out, because it breaks what must hold: %w", broken)
		if !lowers {
			return nil, refused
		}
		return nil, errors.Join(refused, e.route(ctx, d, obs.Route, wrote))
	}

	// Where the route could not be read, its note tells nobody that another
	// process decides by now: the store has to, before anything is written.
	blind := d.Traffic != nil && obs.Route.Known == rollout.Unknown
	if err := e.save(ctx, d, blind, now, wrote); err != nil {
		err = fmt.Errorf("saving the state: %w", err)
		switch {
		case errors.Is(err, ErrConflict):
			return err, nil // somebody else decides; this decision never was
		case d.Save == rollout.SaveMust || e.unsaved:
			if lowers && d.Traffic.Stable == before.Stable.Revision {
				// The way down needs no disk. The route's note says what was
				// decided, and so does the memory, until it can be saved.
				e.state, e.unsaved, res.Taken = d.Next, true, true
				return err, e.route(ctx, d, obs.Route, wrote)
			}
			return err, nil
		}
		// Only clocks are not saved: what is decided is in the store.
		saveErr = err
	}
	e.state, res.Taken = d.Next, true

	give, take := e.scale(d.Scale, obs.Workloads)
	var errs []error
	if lowers {
		errs = append(errs, e.route(ctx, d, obs.Route, wrote), e.capacity(ctx, give, "giving", wrote))
	} else {
		errs = append(errs, e.capacity(ctx, give, "giving", wrote), e.route(ctx, d, obs.Route, wrote))
	}
	for _, t := range d.Tests {
		errs = append(errs, e.start(ctx, t))
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, e.capacity(ctx, take, "taking", wrote))
	}
	return saveErr, errors.Join(errs...)
}

// save writes the decision to the store: at once when it matters, else when
// enough has changed.
func (e *Engine) save(ctx context.Context, d rollout.Decision, always bool, now time.Time, wrote *Wrote) error {
	switch due := now.Sub(e.savedAt) >= e.opts.SaveEvery || now.Before(e.savedAt); {
	case d.Save == rollout.SaveMust, e.unsaved, always:
	case d.Save == rollout.SaveLazy && due:
	case e.told > e.stored.Told && due && e.stored.Version != "":
	default:
		return nil
	}
	s := Saved{State: d.Next, Told: e.told, Version: e.stored.Version}
	var err error
	if s.Evidence, err = e.mind.Evidence(); err != nil {
		// Saving decisions matters more than evidence; the older one stays.
		s.Evidence = e.stored.Evidence
	}
	wrote.State = true
	ctx, cancel := context.WithTimeout(ctx, e.opts.WriteTimeout)
	defer cancel()
	version, err := e.ports.Store.Save(ctx, s)
	switch {
	case errors.Is(err, ErrConflict):
		e.loaded, e.doubt = false, nil
		return err
	case err != nil:
		e.doubt = &s
		return err
	}
	s.Version = version
	e.stored, e.savedAt, e.unsaved = s, now, false
	return nil
}

// route writes the split, unless it stands exactly so already.
func (e *Engine) route(ctx context.Context, d rollout.Decision, seen rollout.Route, wrote *Wrote) error {
	if d.Traffic == nil || inForce(*d.Traffic, e.asked, seen) {
		return nil
	}
	wrote.Traffic = true
	ctx, cancel := context.WithTimeout(ctx, e.opts.WriteTimeout)
	defer cancel()
	if err := e.ports.Router.Apply(ctx, *d.Traffic); err != nil {
		e.asked = nil
		return fmt.Errorf("applying the split: %w", err)
	}
	e.asked = d.Traffic
	return nil
}

// scale splits what is asked into what gives capacity and what takes it away,
// without what is so already.
func (e *Engine) scale(want []rollout.Scale, seen rollout.Workloads) (give, take []rollout.Scale) {
	for _, s := range want {
		w := find(seen, s)
		switch {
		case carried(s, w, seen.Known):
		case s.Zero || s.Delete || s.HPA != "" && w != nil && w.HPA != nil && w.HPA.Min > s.HPAMin:
			take = append(take, s)
		default:
			give = append(give, s)
		}
	}
	return give, take
}

func (e *Engine) capacity(ctx context.Context, want []rollout.Scale, what string, wrote *Wrote) error {
	if len(want) == 0 {
		return nil
	}
	wrote.Scale = append(wrote.Scale, want...)
	ctx, cancel := context.WithTimeout(ctx, e.opts.WriteTimeout)
	defer cancel()
	if err := e.ports.Workloads.Apply(ctx, want); err != nil {
		return fmt.Errorf("%s capacity: %w", what, err)
	}
	return nil
}

func (e *Engine) start(ctx context.Context, t rollout.TestRun) error {
	if e.ports.Tests == nil {
		return fmt.Errorf("starting test %q: %w: this host runs no tests", t.Name, ErrRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.WriteTimeout)
	defer cancel()
	if err := e.ports.Tests.Start(ctx, t); err != nil {
		return fmt.Errorf("starting test %q: %w", t.Name, err)
	}
	return nil
}

// done takes the commands off the list whose fate is in the store.
func (e *Engine) done(ctx context.Context, pending []rollout.Command) error {
	taken := map[string]bool{}
	for _, id := range e.stored.State.Taken {
		taken[id] = true
	}
	var ids []string
	for _, c := range pending {
		if taken[c.ID] {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.WriteTimeout)
	defer cancel()
	if err := e.ports.Inbox.Done(ctx, ids); err != nil {
		return fmt.Errorf("taking commands off the list: %w", err)
	}
	return nil
}

// tell gives people every stored decision that they have not been told.
func (e *Engine) tell(ctx context.Context, now time.Time) error {
	var news []rollout.Event
	for _, ev := range e.stored.State.Decisions {
		if ev.N > e.told {
			news = append(news, ev)
		}
	}
	if len(news) == 0 || now.Before(e.tellAt) {
		return nil
	}
	if e.ports.Notifier != nil {
		ctx, cancel := context.WithTimeout(ctx, e.opts.TellTimeout)
		defer cancel()
		if err := e.ports.Notifier.Tell(ctx, news); err != nil {
			e.untold++
			e.tellAt = now.Add(min(time.Second<<min(e.untold, 10), time.Minute))
			return fmt.Errorf("telling decisions %d to %d: %w", news[0].N, news[len(news)-1].N, err)
		}
	}
	e.told, e.untold, e.tellAt = news[len(news)-1].N, 0, time.Time{}
	return nil
}

// wake is the earliest of what the decision, the judge and the errors ask for.
func (e *Engine) wake(d rollout.Decision, bad error, lowers bool, now time.Time, wrote Wrote) time.Time {
	wake := d.Wake
	at := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	if every := e.mind.measure; every > 0 && (d.Measure > 0 || e.ports.Samples != nil) {
		next := e.mind.lookedAt.Add(every)
		if e.mind.lookedAt.IsZero() || !next.After(now) {
			next = now.Add(every)
		}
		at(next)
	}
	if KindOf(bad) != Ignore {
		at(now.Add(e.retryIn(bad, lowers)))
	}
	if e.untold > 0 {
		at(e.tellAt)
	} else if e.told > e.stored.Told && e.stored.Version != "" {
		at(e.savedAt.Add(e.opts.SaveEvery))
	}
	switch {
	case wake.IsZero() || wake.After(now):
		return wake
	case wrote.Any() && e.failures < 2:
		return now // at once: the next step may be open
	case e.failures > 0:
		return now.Add(e.retryIn(bad, lowers)) // what cannot be written would be tried for ever
	}
	return now.Add(time.Second) // nothing changed, so at once would be for ever
}

// retryIn is how long to wait after so many failures in a row. A way down is
// tried at least every second.
func (e *Engine) retryIn(err error, lowers bool) time.Duration {
	wait := min(100*time.Millisecond<<min(e.failures-1, 12), 30*time.Second)
	if KindOf(err) == Stall {
		wait = time.Minute
	}
	if lowers {
		wait = min(wait, time.Second)
	}
	var throttled *ThrottledError
	if errors.As(err, &throttled) {
		wait = max(wait, throttled.After)
	}
	return wait
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
