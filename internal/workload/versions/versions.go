package versions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Wanted is one Deployment as the documents have it now.
type Wanted struct {
	Label, Hash string
	Name        string // of the Deployment
	Replicas    int
	// Run says how a replica is run, in the Runner's own words. It is kept and
	// handed on, never read here.
	Run json.RawMessage
}

// Entry is one revision as it is remembered.
type Entry struct {
	Revision   rollout.Revision `json:"revision"`
	Name       string           `json:"name"`
	Stem       string           `json:"stem"` // of the replicas' names
	UID        string           `json:"uid"`
	Generation int64            `json:"generation"`
	Since      time.Time        `json:"since"`
	Author     int              `json:"author"`            // replicas in the file
	Asked      int              `json:"asked,omitempty"`   // floor of the core
	Zero       bool             `json:"zero,omitempty"`    // retired by the core
	Deleted    bool             `json:"deleted,omitempty"` // retired with Delete: hidden while its file is still there
	Gone       bool             `json:"gone,omitempty"`    // its file does not ask for it any more
	Mark       rollout.MarkKind `json:"mark,omitempty"`
	Run        json.RawMessage  `json:"run"`
}

// Replicas is how many are to run.
func (e Entry) Replicas() int {
	if e.Zero || e.Deleted {
		return 0
	}
	return max(e.Author, e.Asked)
}

// Book is what outlives the process.
type Book struct {
	Entries []Entry   `json:"entries,omitempty"`
	Last    time.Time `json:"last,omitzero"` // the latest Since that was given out
}

// Replica is what a Runner knows about one replica.
type Replica struct {
	Key    string
	Name   string
	Addr   string
	Ready  bool
	Failed bool   // has ended by itself, or takes longer to start than it may
	Ending bool   // is not wanted any more
	Why    string // why it is not ready
}

// Runner runs replicas under keys. Its promises are those of process.Supervisor.
type Runner interface {
	// Set states how many replicas run under key and how; again changes nothing.
	Set(key, stem string, run json.RawMessage, replicas int) error
	// Remove stops what runs under key and forgets it.
	Remove(key string)
	// List gives every replica of every key. It is cheap.
	List() []Replica
}

// Options of an App.
type Options struct {
	Runner Runner
	// Save keeps the book. When it fails the app goes on from memory, says so in
	// the error, and saves again with the next change.
	Save func(Book) error
	// Settled bounds how long after Open readiness may stay unknown, and how long
	// a gone version that has crashed may take to be back; 30 s if 0.
	Settled time.Duration
	Now     func() time.Time // time.Now
}

// App is the versions of one application. Its methods may be called from
// several goroutines.
type App struct {
	name string
	o    Options

	mu       sync.Mutex
	book     Book
	dirty    bool // the book in memory is not the saved one
	opened   time.Time
	resuming map[rollout.Revision]bool
	served   map[rollout.Revision]time.Time // when it was last seen ready, or was started over
	faults   map[rollout.Revision]string    // what the runner refused
	asked    map[rollout.Revision]int       // floors of the last decision
}

// Open starts what the book says.
func Open(name string, book Book, o Options) *App {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Settled == 0 {
		o.Settled = 30 * time.Second
	}
	a := &App{name: name, o: o, book: book, opened: o.Now(), resuming: map[rollout.Revision]bool{},
		served: map[rollout.Revision]time.Time{}, faults: map[rollout.Revision]string{}}
	for _, e := range book.Entries {
		if e.Replicas() > 0 {
			a.resuming[e.Revision], a.served[e.Revision] = true, a.opened
		}
	}
	return a
}

// Key is where a revision's replicas run.
func (a *App) Key(r rollout.Revision) string { return a.name + "/" + string(r) }

// Declare states what the documents ask for now. The error is the first save's
// or run's that failed; everything else was done.
//
// Fewer replicas than before are what the author wants at rest. Under a rollout
// they are at least what the core asks for, and where the same documents bring a
// new version, what there was: whoever serves must be able to until that is through.
func (a *App) Declare(wanted []Wanted) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	declared := map[rollout.Revision]bool{}
	var arrived []Wanted
	brings := slices.ContainsFunc(wanted, func(w Wanted) bool { return a.entry(rollout.NewRevision(w.Label, w.Hash)) == nil })
	for _, w := range wanted {
		r := rollout.NewRevision(w.Label, w.Hash)
		declared[r] = true
		e := a.entry(r)
		if e == nil || e.Gone {
			arrived = append(arrived, w)
		}
		if e == nil {
			continue
		}
		was := *e
		e.Gone, e.Name, e.Run = false, w.Name, w.Run
		if e.Author != w.Replicas {
			e.Author, e.Asked, e.Zero, e.Deleted = w.Replicas, a.asked[r], false, false
			if runs := was.Replicas(); brings && w.Replicas < runs {
				e.Asked = runs
			}
		}
		a.dirty = a.dirty || !same(was, *e)
	}
	for i := range a.book.Entries {
		if e := &a.book.Entries[i]; !declared[e.Revision] && !e.Gone {
			e.Gone, a.dirty = true, true
		}
	}
	sort.SliceStable(arrived, func(i, j int) bool { return natural(arrived[i].Name, arrived[j].Name) < 0 })
	now := a.o.Now()
	for i, w := range arrived {
		at := a.since(now.Add(time.Duration(i-len(arrived)) * time.Millisecond))
		if e := a.entry(rollout.NewRevision(w.Label, w.Hash)); e != nil {
			// There anew, like an object that was deleted and made again: what was
			// decided about the one before is not about this one.
			e.Since, e.UID, e.Generation = at, uid(w.Name, at), 1
			continue
		}
		a.add(w, at)
	}
	slices.SortStableFunc(a.book.Entries, func(x, y Entry) int { return x.Since.Compare(y.Since) })
	a.drop()
	return a.carryOut()
}

func same(a, b Entry) bool {
	run := bytes.Equal(a.Run, b.Run)
	a.Run, b.Run = nil, nil
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return run && bytes.Equal(x, y)
}

func (a *App) entry(r rollout.Revision) *Entry {
	for i := range a.book.Entries {
		if a.book.Entries[i].Revision == r {
			return &a.book.Entries[i]
		}
	}
	return nil
}

// since gives out an instant at which a version was first seen: later than all
// before it, whatever the clock says.
func (a *App) since(at time.Time) time.Time {
	if least := a.book.Last.Add(time.Millisecond); at.Before(least) {
		at = least
	}
	a.book.Last, a.dirty = at.UTC().Round(0), true
	return a.book.Last
}

func uid(name string, since time.Time) string { return fmt.Sprintf("%s/%d", name, since.UnixMilli()) }

func (a *App) add(w Wanted, at time.Time) {
	e := Entry{
		Revision: rollout.NewRevision(w.Label, w.Hash), Name: w.Name, Stem: w.Name,
		UID: uid(w.Name, at), Generation: 1, Since: at, Author: w.Replicas, Run: w.Run,
	}
	for _, old := range a.book.Entries {
		if old.Name == w.Name && old.Generation >= e.Generation {
			e.UID, e.Generation = old.UID, old.Generation+1
		}
		if old.Stem == e.Stem {
			e.Stem = w.Name + "-" + w.Hash
		}
	}
	a.book.Entries = append(a.book.Entries, e)
}

// drop forgets entries that nobody asks for and that do not run.
func (a *App) drop() {
	a.book.Entries = slices.DeleteFunc(a.book.Entries, func(e Entry) bool {
		if !e.Gone || e.Replicas() > 0 {
			return false
		}
		a.dirty = true
		delete(a.resuming, e.Revision)
		delete(a.served, e.Revision)
		delete(a.faults, e.Revision)
		a.o.Runner.Remove(a.Key(e.Revision))
		return true
	})
}

// carryOut saves the book if it changed, and makes the runner run what it says.
func (a *App) carryOut() error {
	var errs []error
	if a.dirty {
		if err := a.o.Save(a.copyBook()); err != nil {
			errs = append(errs, fmt.Errorf("remembering the versions of %s: %w", a.name, err))
		} else {
			a.dirty = false
		}
	}
	for _, e := range a.book.Entries {
		err := a.o.Runner.Set(a.Key(e.Revision), e.Stem, e.Run, e.Replicas())
		if err != nil {
			a.faults[e.Revision] = err.Error()
			errs = append(errs, fmt.Errorf("running %s: %w", e.Name, err))
			continue
		}
		delete(a.faults, e.Revision)
	}
	return errors.Join(errs...)
}

func (a *App) copyBook() Book {
	return Book{Entries: slices.Clone(a.book.Entries), Last: a.book.Last}
}

// Observe lists the versions, in the order in which they came. A
// revision that the documents do not ask for any more is Deleting, but, under a
// rollout, for the time in which it is started again after a crash.
func (a *App) Observe(ctx context.Context) (rollout.Workloads, error) {
	if err := ctx.Err(); err != nil {
		return rollout.Workloads{}, err
	}
	replicas := a.Replicas()
	a.mu.Lock()
	defer a.mu.Unlock()
	out := rollout.Workloads{Known: rollout.Absent}
	for _, e := range a.book.Entries {
		if e.Deleted {
			continue
		}
		w := rollout.Workload{
			Revision: e.Revision, Name: e.Name, UID: e.UID, Generation: e.Generation, Since: e.Since,
			Replicas: e.Replicas(), ReadyKnown: true,
			Condemned: e.Mark == rollout.Condemned, Retired: e.Mark == rollout.Retired,
			Why: a.faults[e.Revision],
		}
		failed := false
		for _, r := range replicas[e.Revision] {
			if r.Ready {
				w.Ready++
				continue
			}
			if r.Ending {
				continue
			}
			if w.Why == "" || (r.Failed && !failed) {
				w.Why = cmp.Or(r.Why, w.Why)
			}
			failed = failed || r.Failed
		}
		if w.Ready > 0 || failed || e.Replicas() == 0 || a.faults[e.Revision] != "" || a.o.Now().Sub(a.opened) > a.o.Settled {
			delete(a.resuming, e.Revision)
		}
		w.ReadyKnown = !a.resuming[e.Revision]
		w.Deleting = e.Gone && !a.returns(e, w.Ready)
		if w.Ready >= w.Replicas {
			w.Why = ""
		}
		out.Known = rollout.Present
		out.Items = append(out.Items, w)
	}
	return out, nil
}

// returns says whether a version of which nobody is ready is about to be back: it
// served a moment ago and is being started again, whether its file is there or
// not. What has no file and does not come back is lost to the core, which then
// gives its traffic to others; under a rollout to one that nobody has judged, so
// that it is waited for there. The caller holds mu.
func (a *App) returns(e Entry, ready int) bool {
	now := a.o.Now()
	if ready > 0 {
		a.served[e.Revision] = now
		return false
	}
	last, has := a.served[e.Revision]
	return len(a.asked) > 0 && has && now.Sub(last) <= a.o.Settled && e.Replicas() > 0 && a.faults[e.Revision] == ""
}

// Replicas gives the replicas of every revision of the book, ready or not.
func (a *App) Replicas() map[rollout.Revision][]Replica {
	all := a.o.Runner.List()
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[rollout.Revision][]Replica{}
	for _, r := range all {
		rev, ours := strings.CutPrefix(r.Key, a.name+"/")
		if ours && a.entry(rollout.Revision(rev)) != nil {
			out[rollout.Revision(rev)] = append(out[rollout.Revision(rev)], r)
		}
	}
	return out
}

// Asked says what the core's last decision asks for, whether it had to be applied
// or was so already.
func (a *App) Asked(all []rollout.Scale) {
	asked := map[rollout.Revision]int{}
	for _, s := range all {
		if s.Min > 0 {
			asked[s.Revision] = s.Min
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = asked
}

// Apply makes every revision able to carry what is asked.
func (a *App) Apply(ctx context.Context, want []rollout.Scale) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, s := range want {
		e := a.entry(s.Revision)
		if e == nil || e.Deleted {
			errs = append(errs, fmt.Errorf("scaling %s: %w", s.Revision, engine.ErrNotFound))
			continue
		}
		was := *e
		if s.Mark != "" {
			e.Mark = s.Mark
		}
		switch {
		case s.Delete:
			e.Zero, e.Asked, e.Deleted = true, 0, true
		case s.Zero:
			e.Zero, e.Asked = true, 0
		case s.Min > 0:
			if s.Min > e.Replicas() {
				e.Asked = s.Min
			}
			if e.Zero {
				e.Zero, e.Asked, e.Mark = false, max(e.Asked, s.Min), ""
			}
		}
		a.dirty = a.dirty || !same(was, *e)
	}
	a.drop()
	if err := a.carryOut(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Release stops a gone revision: its traffic was seen gone. Anything else is
// left alone.
func (a *App) Release(r rollout.Revision) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.entry(r)
	if e == nil || !e.Gone {
		return nil
	}
	e.Zero, e.Asked = true, 0
	a.dirty = true
	a.drop()
	return a.carryOut()
}

// Book gives the entries as they are now.
func (a *App) Book() Book {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.copyBook()
}

// natural orders names as people do: numbers in them by their value.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, restA := chunk(a)
		y, restB := chunk(b)
		if isDigit(x[0]) && isDigit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return len(a) - len(b)
}

// chunk cuts off the digits, or the other characters, that s begins with.
func chunk(s string) (first, rest string) {
	for i := 1; i < len(s); i++ {
		if isDigit(s[i]) != isDigit(s[0]) {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
