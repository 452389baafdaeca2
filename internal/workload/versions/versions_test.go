package versions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a runner whose replicas are as the test says. Real processes run
// under this package's suite in internal/daemon.
type table struct {
	want   map[string]int
	ready  map[string]int
	failed map[string]string
	refuse map[string]error
}

func newTable() *table {
	return &table{want: map[string]int{}, ready: map[string]int{}, failed: map[string]string{}, refuse: map[string]error{}}
}

func (r *table) Set(key, stem string, _ json.RawMessage, n int) error {
	if err := r.refuse[key]; err != nil {
		return err
	}
	r.want[key] = n
	return nil
}

func (r *table) Remove(key string) { delete(r.want, key) }

func (r *table) List() []Replica {
	var out []Replica
	for key, n := range r.want {
		for i := range n {
			x := Replica{Key: key, Name: fmt.Sprintf("%s-%d", key, i), Ready: i < r.ready[key], Why: "starting"}
			if why := r.failed[key]; why != "" {
				x.Failed, x.Why = true, why
			}
			out = append(out, x)
		}
	}
	return out
}

type fixture struct {
	t    *testing.T
	run  *table
	book Book
	bad  error // of Save
	now  time.Time
	app  *App
}

func open(t *testing.T) *fixture {
	f := &fixture{t: t, run: newTable(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	f.restart()
	return f
}

// restart is a new process over the saved book.
func (f *fixture) restart() {
	f.run = newTable()
	f.app = Open("my-app", f.book, Options{
		Runner: f.run, Now: func() time.Time { return f.now },
		Save: func(b Book) error {
			if f.bad == nil {
				f.book = b
			}
			return f.bad
		},
	})
}

func (f *fixture) declare(ws ...Wanted) {
	f.t.Helper()
	if err := f.app.Declare(ws); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) apply(ss ...rollout.Scale) {
	f.t.Helper()
	if err := f.app.Apply(context.Background(), ss); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) see(r rollout.Revision) (rollout.Workload, bool) {
	f.t.Helper()
	all, err := f.app.Observe(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, w := range all.Items {
		if w.Revision == r {
			return w, true
		}
	}
	return rollout.Workload{}, false
}

func wanted(label, hash string, n int) Wanted {
	return Wanted{Label: label, Hash: hash, Name: "my-app-" + label, Replicas: n, Run: json.RawMessage(`{"Command":["x"]}`)}
}

const (
	v1  = rollout.Revision("v1@a")
	v2  = rollout.Revision("v2@b")
	v2x = rollout.Revision("v2@c")
)

func TestEarlierFilesAreOlder(t *testing.T) {
	f := open(t)
	f.declare(wanted("v10", "k", 1), wanted("v9", "j", 1), wanted("v2", "b", 1))
	var order []string
	all, _ := f.app.Observe(context.Background())
	for _, w := range all.Items {
		order = append(order, w.Revision.Label())
	}
	if diff := cmp.Diff([]string{"v2", "v9", "v10"}, order); diff != "" {
		t.Errorf("seen together they are ordered as people count (-want +got):\n%s", diff)
	}
	for i := 1; i < len(all.Items); i++ {
		if !all.Items[i].Since.After(all.Items[i-1].Since) {
			t.Errorf("%s is not later than %s", all.Items[i].Revision, all.Items[i-1].Revision)
		}
	}
}

func TestSinceOutlivesTheProcessAndTheClock(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 1))
	first, _ := f.see(v1)
	f.now = f.now.Add(-time.Hour) // the clock is set back while nobody runs
	f.restart()
	f.declare(wanted("v1", "a", 1), wanted("v2", "b", 1))
	again, _ := f.see(v1)
	later, _ := f.see(v2)
	if !again.Since.Equal(first.Since) || !later.Since.After(first.Since) {
		t.Errorf("v1 since %v, then %v; v2 since %v", first.Since, again.Since, later.Since)
	}
}

func TestReadinessIsUnknownAfterARestart(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 2))
	if w, _ := f.see(v1); !w.ReadyKnown || w.Ready != 0 {
		t.Errorf("a new version is known to have none ready: %+v", w)
	}
	for _, c := range []struct {
		name   string
		happen func()
		known  bool
	}{
		{"NothingYet", func() {}, false},
		{"OneIsReady", func() { f.run.ready["my-app/v1@a"] = 1 }, true},
		{"ItCannotRun", func() { f.run.failed["my-app/v1@a"] = "exited with 1" }, true},
		{"TimeIsUp", func() { f.now = f.now.Add(31 * time.Second) }, true},
		{"NobodyWants", func() { f.apply(rollout.Scale{Revision: v1, Zero: true}) }, true},
	} {
		f.restart()
		f.declare(wanted("v1", "a", 2))
		c.happen()
		if w, _ := f.see(v1); w.ReadyKnown != c.known {
			t.Errorf("%s: known %v, want %v", c.name, w.ReadyKnown, c.known)
		}
	}
}

// A version without a file that serves and crashes is being started again: under a
// rollout it is on its way out only once it is ready, or has not come back for too
// long.
func TestAGoneVersionThatCrashedIsNotLostAtOnce(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 1))
	f.run.ready["my-app/v1@a"] = 1
	f.see(v1)
	f.declare(wanted("v2", "b", 1))
	under := []rollout.Scale{{Revision: v2, Min: 1}}
	f.app.Asked(under)
	for _, c := range []struct {
		name     string
		happen   func()
		deleting bool
	}{
		{"Serves", func() {}, true},
		{"Crashed", func() { f.run.ready["my-app/v1@a"] = 0; f.run.failed["my-app/v1@a"] = "exited with 1" }, false},
		{"AlmostTooLong", func() { f.now = f.now.Add(30 * time.Second) }, false},
		{"AtRest", func() { f.app.Asked(nil) }, true},
		{"UnderWay", func() { f.app.Asked(under) }, false},
		{"TooLong", func() { f.now = f.now.Add(time.Second) }, true},
		{"Back", func() { f.run.ready["my-app/v1@a"] = 1; delete(f.run.failed, "my-app/v1@a") }, true},
		{"AfterARestart", func() {
			f.restart()
			f.declare(wanted("v2", "b", 1))
			f.app.Asked(under)
			f.run.failed["my-app/v1@a"] = "exited with 1"
		}, false},
		{"AndTooLong", func() { f.now = f.now.Add(31 * time.Second) }, true},
	} {
		c.happen()
		if w, _ := f.see(v1); w.Deleting != c.deleting {
			t.Errorf("%s: deleting %v, want %v (%+v)", c.name, w.Deleting, c.deleting, w)
		}
	}
	f.declare(wanted("v2", "b", 1), wanted("v3", "d", 1))
	f.declare(wanted("v2", "b", 1))
	if w, _ := f.see("v3@d"); !w.Deleting {
		t.Error("one that never served is waited for")
	}
}

// A file that comes back is a version that came later than all before it, while
// its replicas run on.
func TestAFileThatComesBackIsNew(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 1), wanted("v2", "b", 1))
	first, _ := f.see(v2)
	f.declare(wanted("v1", "a", 1))
	f.declare(wanted("v1", "a", 1), wanted("v2", "b", 1), wanted("v3", "d", 1))
	again, _ := f.see(v2)
	third, _ := f.see("v3@d")
	if !again.Since.After(first.Since) || again.UID == first.UID || again.Deleting || f.run.want["my-app/v2@b"] != 1 {
		t.Errorf("%+v, was %+v", again, first)
	}
	if !third.Since.After(again.Since) {
		t.Errorf("v3 since %v, v2 since %v: what comes together is ordered by name", third.Since, again.Since)
	}
	one, _ := f.see(v1)
	if f.declare(wanted("v1", "a", 1)); one.Since.After(first.Since) {
		t.Error("v1 was there all the while")
	}
}

// Fewer replicas in the file are what its author wants at rest: what serves in a
// rollout, or when one begins, is kept until that is through.
func TestFewerReplicasWhileSomethingIsReleased(t *testing.T) {
	for name, c := range map[string]struct {
		asked []rollout.Scale
		then  []Wanted
		want  int // of v1
	}{
		"AtRest":     {nil, []Wanted{wanted("v1", "a", 1), wanted("v2", "b", 1)}, 1},
		"ToNone":     {nil, []Wanted{wanted("v1", "a", 0), wanted("v2", "b", 1)}, 0},
		"InARollout": {[]rollout.Scale{{Revision: v1, Min: 3}}, []Wanted{wanted("v1", "a", 0), wanted("v2", "b", 1)}, 3},
		"NotBelow":   {[]rollout.Scale{{Revision: v1, Min: 2}}, []Wanted{wanted("v1", "a", 1), wanted("v2", "b", 1)}, 2},
		"Others":     {[]rollout.Scale{{Revision: v2, Min: 3}}, []Wanted{wanted("v1", "a", 1), wanted("v2", "b", 1)}, 1},
		"WithANew":   {nil, []Wanted{wanted("v1", "a", 0), wanted("v2", "b", 1), wanted("v3", "d", 1)}, 3},
		"MoreAtOnce": {nil, []Wanted{wanted("v1", "a", 5), wanted("v2", "b", 1), wanted("v3", "d", 1)}, 5},
	} {
		f := open(t)
		f.declare(wanted("v1", "a", 3), wanted("v2", "b", 1))
		f.app.Asked(c.asked)
		f.declare(c.then...)
		if got := f.run.want["my-app/v1@a"]; got != c.want {
			t.Errorf("%s: %d replicas, want %d", name, got, c.want)
		}
		f.apply(rollout.Scale{Revision: v1, Zero: true})
		if got := f.run.want["my-app/v1@a"]; got != 0 {
			t.Errorf("%s: %d replicas of what was retired", name, got)
		}
	}
}

func TestAuthorAndCore(t *testing.T) {
	f := open(t)
	f.declare(wanted("v2", "b", 2))
	count := func() int { return f.run.want["my-app/v2@b"] }
	for _, s := range []struct {
		reason string
		do     func()
		want   int
	}{
		{"as the author says", func() {}, 2},
		{"a floor below it changes nothing", func() { f.apply(rollout.Scale{Revision: v2, Min: 1}) }, 2},
		{"a floor above it counts", func() { f.apply(rollout.Scale{Revision: v2, Min: 3}) }, 3},
		{"and stays when it is said no more", func() { f.apply() }, 3},
		{"and after a restart", func() { f.restart(); f.declare(wanted("v2", "b", 2)) }, 3},
		{"until the author says something new", func() { f.declare(wanted("v2", "b", 1)) }, 1},
		{"retired is none", func() { f.apply(rollout.Scale{Revision: v2, Zero: true, Mark: rollout.Retired}) }, 0},
		{"also after a restart", func() { f.restart(); f.declare(wanted("v2", "b", 1)) }, 0},
		{"wanted again it is what the author says at least", func() { f.apply(rollout.Scale{Revision: v2, Min: 1}) }, 1},
	} {
		s.do()
		if count() != s.want {
			t.Errorf("%s: %d replicas, want %d", s.reason, count(), s.want)
		}
	}
	if w, _ := f.see(v2); w.Retired {
		t.Error("wanted again, and still marked as retired")
	}
}

func TestAFileThatGoesTakesNothingAway(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 3), wanted("v2", "b", 2))
	f.declare(wanted("v2", "b", 2))
	if w, there := f.see(v1); !there || !w.Deleting || f.run.want["my-app/v1@a"] != 3 {
		t.Errorf("%+v, %d run; want it to go on and to be said to be going", w, f.run.want["my-app/v1@a"])
	}
	f.restart() // no file says how v1 is run any more; the book does
	f.declare(wanted("v2", "b", 2))
	if f.run.want["my-app/v1@a"] != 3 {
		t.Errorf("%d run after a restart, want 3", f.run.want["my-app/v1@a"])
	}
	if err := f.app.Release(v2); err != nil || f.run.want["my-app/v2@b"] != 2 {
		t.Errorf("a version that is asked for was released: %v", err)
	}
	if err := f.app.Release(v1); err != nil {
		t.Fatal(err)
	}
	if _, there := f.see(v1); there || len(f.book.Entries) != 1 {
		t.Errorf("released, and still there: %+v", f.book)
	}
	if _, runs := f.run.want["my-app/v1@a"]; runs {
		t.Error("released, and still run")
	}
	// The file that comes back is a new version.
	before := f.book.Last
	f.declare(wanted("v1", "a", 3), wanted("v2", "b", 2))
	if w, _ := f.see(v1); !w.Since.After(before) || w.Deleting {
		t.Errorf("%+v, want a new version", w)
	}
}

func TestAnEditIsTwoVersions(t *testing.T) {
	f := open(t)
	f.declare(wanted("v2", "b", 2))
	f.declare(wanted("v2", "c", 2))
	old, there := f.see(v2)
	edited, _ := f.see(v2x)
	if !there || !old.Deleting || edited.Deleting || old.Name != edited.Name || old.UID != edited.UID || edited.Generation != old.Generation+1 || !edited.Since.After(old.Since) {
		t.Errorf("old %+v\nnew %+v", old, edited)
	}
	if f.book.Entries[0].Stem == f.book.Entries[1].Stem {
		t.Error("replicas of both would have one name")
	}
	f.declare(wanted("v2", "b", 2)) // edited back
	if w, _ := f.see(v2); w.Deleting {
		t.Error("asked for again, and still going")
	}
}

func TestDeleteHidesWhileTheFileIsThere(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 1), wanted("v2", "b", 1))
	f.apply(rollout.Scale{Revision: v1, Delete: true})
	if _, there := f.see(v1); there {
		t.Error("deleted, and there")
	}
	f.restart()
	f.declare(wanted("v1", "a", 1), wanted("v2", "b", 1))
	if _, there := f.see(v1); there || f.run.want["my-app/v1@a"] != 0 {
		t.Error("back after a restart, although its file did not change")
	}
	err := f.app.Apply(context.Background(), []rollout.Scale{{Revision: v1, Min: 1}})
	if !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("scaling it: %v, want ErrNotFound", err)
	}
	f.declare(wanted("v2", "b", 1))
	if len(f.book.Entries) != 1 {
		t.Errorf("remembered for ever: %+v", f.book.Entries)
	}
}

func TestWhyIsTheFailure(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 2))
	f.run.failed["my-app/v1@a"] = "exited with 3 after 0.1 s"
	if w, _ := f.see(v1); w.Why != "exited with 3 after 0.1 s" {
		t.Errorf("why %q", w.Why)
	}
	f.run.refuse["my-app/v2@b"] = errors.New("command: is empty")
	err := f.app.Declare([]Wanted{wanted("v1", "a", 2), wanted("v2", "b", 1)})
	if w, _ := f.see(v2); err == nil || !strings.Contains(w.Why, "command: is empty") || !w.ReadyKnown {
		t.Errorf("%v; %+v", err, w)
	}
	if f.run.want["my-app/v1@a"] != 2 {
		t.Error("one that cannot run stopped the others")
	}
}

func TestAFullDiskStopsNothing(t *testing.T) {
	f := open(t)
	f.declare(wanted("v1", "a", 1))
	f.bad = errors.New("no space left on device")
	if err := f.app.Apply(context.Background(), []rollout.Scale{{Revision: v1, Min: 3}}); !errors.Is(err, f.bad) {
		t.Errorf("error %v, want it to be said", err)
	}
	if f.run.want["my-app/v1@a"] != 3 {
		t.Errorf("%d run, want 3 all the same", f.run.want["my-app/v1@a"])
	}
	f.bad = nil
	f.apply(rollout.Scale{Revision: v1, Min: 3})
	if f.book.Entries[0].Asked != 3 {
		t.Errorf("not saved once there was room: %+v", f.book.Entries)
	}
}

// TestBookFollowsWhateverHappens: files and decisions in any order, restarts at
// any moment: what runs is what the book says, and Since only rises.
func TestBookFollowsWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := open(t)
		var files []Wanted
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			f.now = f.now.Add(time.Duration(rapid.IntRange(-5, 20).Draw(rt, "seconds")) * time.Second)
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0, 1:
				files = nil
				for _, label := range []string{"v1", "v2", "v3"} {
					if rapid.Bool().Draw(rt, label) {
						files = append(files, wanted(label, rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "hash"), rapid.IntRange(0, 3).Draw(rt, "n")))
					}
				}
				f.declare(files...)
			case 2:
				f.restart()
				f.declare(files...)
			default:
				if es := f.app.Book().Entries; len(es) > 0 {
					e := rapid.SampledFrom(es).Draw(rt, "entry")
					s := rollout.Scale{Revision: e.Revision, Zero: rapid.Bool().Draw(rt, "zero")}
					if !s.Zero {
						s.Min = rapid.IntRange(1, 5).Draw(rt, "min")
					}
					if !e.Deleted {
						f.apply(s)
					}
				}
			}
			want := map[string]int{}
			var last time.Time
			for _, e := range f.app.Book().Entries {
				want["my-app/"+string(e.Revision)] = e.Replicas()
				if !e.Since.After(last) {
					rt.Fatalf("since %v after %v", e.Since, last)
				}
				last = e.Since
				if e.Gone && e.Replicas() == 0 {
					rt.Fatalf("%s is gone, does not run, and is remembered", e.Revision)
				}
			}
			if diff := cmp.Diff(want, f.run.want); diff != "" {
				rt.Fatalf("runs (-book +runner):\n%s", diff)
			}
			if diff := cmp.Diff(f.app.Book(), f.book); diff != "" {
				rt.Fatalf("saved (-memory +file):\n%s", diff)
			}
		}
	})
}
