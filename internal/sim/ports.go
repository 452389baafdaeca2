package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// strike is what befalls one call of a port.
type strike uint8

const (
	spared      strike = iota
	crashBefore        // the process is gone before the call did anything
	crashAfter         // the process is gone after the call did its work
	failed             // nothing was done, and an error says so
	denied             // the work was done, and an error says otherwise
	conflict           // somebody else was faster
	late               // a timeout; the work is done some time afterwards
	lost               // nothing was done, and nobody says so
	doubled            // done twice
	forbidden          // not permitted, for now
	stale              // a read: an older answer
	partly             // a read: a part of the answer is not known
)

var strikeNames = [...]string{"", "crashes before", "crashes after", "fails", "is done and denied", "conflicts", "comes late", "is lost", "is doubled", "is forbidden", "is stale", "is known in part"}

// crash is what a port panics with when the process is gone.
type crash struct{ op string }

var errStruck = errors.New("struck")

// kindsOfWrite and kindsOfRead are what may befall a write or a read.
var (
	storeStrikes  = []strike{crashBefore, crashAfter, failed, denied, conflict, late}
	routeStrikes  = []strike{crashBefore, crashAfter, failed, denied, conflict, late, lost, doubled, forbidden}
	scaleStrikes  = []strike{crashBefore, crashAfter, failed, denied, conflict, late, lost, doubled, forbidden}
	otherStrikes  = []strike{crashBefore, crashAfter, failed, denied}
	lookStrikes   = []strike{crashBefore, failed, stale, partly}
	simpleStrikes = []strike{crashBefore, failed}
)

func strikesOf(op string) []strike {
	switch op {
	case "store.save":
		return storeStrikes
	case "router.apply":
		return routeStrikes
	case "workloads.apply":
		return scaleStrikes
	case "inbox.done", "tests.start", "notifier.tell":
		return otherStrikes
	case "workloads.observe":
		return lookStrikes
	case "router.observe":
		return lookStrikes[:3]
	}
	return simpleStrikes
}

// strikeAt chooses what befalls this call. Each world has kinds of its own
// that it knows, and a rate.
func (w *World) strikeAt(op string) strike {
	if s, ok := w.once[op]; ok {
		delete(w.once, op)
		w.logf("fault", "%s %s", op, strikeNames[s])
		return s
	}
	rate := w.faults.rate
	switch op {
	case "router.apply", "workloads.apply", "tests.start": // rare calls, and the ones that matter
		rate = min(5*rate, 0.4)
	}
	if !w.nemesis || rate == 0 || w.rng.Float64() >= rate {
		return spared
	}
	kinds := strikesOf(op)
	s := kinds[w.rng.IntN(len(kinds))]
	if w.faults.kinds&(1<<s) == 0 {
		return spared
	}
	if s == lost && op == "router.apply" && !w.route.exists {
		return spared
	}
	w.struck++
	w.met[op+" "+strikeNames[s]]++
	w.logf("fault", "%s %s", op, strikeNames[s])
	return s
}

// view is the world as one process sees it.
type view struct {
	w       *World
	version int // of the route object, as last observed
	route   *routeSnap
	cluster *clusterSnap
	looked  bool // the last look at the samples gave something
	former  bool // it leads no more
}

// around does the work of a simple call, or not.
func (v *view) around(op string, work func() error) error {
	s := v.w.strikeAt(op)
	switch s {
	case crashBefore:
		panic(crash{op})
	case failed:
		return fmt.Errorf("%s: %w", op, errStruck)
	}
	err := work()
	switch s {
	case crashAfter:
		panic(crash{op})
	case denied:
		return fmt.Errorf("%s: %w", op, errStruck)
	}
	return err
}

// change does the work of a write that may come late, or twice.
func (v *view) change(op string, work func() error) error {
	w := v.w
	s := w.strikeAt(op)
	switch s {
	case crashBefore:
		panic(crash{op})
	case failed:
		return fmt.Errorf("%s: %w", op, errStruck)
	case forbidden:
		return fmt.Errorf("%s: %w", op, engine.ErrForbidden)
	case conflict:
		return fmt.Errorf("%s: %w", op, engine.ErrConflict)
	case lost:
		return nil
	case late:
		w.lates = append(w.lates, lateWork{w.now.Add(w.between(100*time.Millisecond, 20*time.Second)), op, work})
		return fmt.Errorf("%s: %w", op, context.DeadlineExceeded)
	}
	err := work()
	switch s {
	case crashAfter:
		panic(crash{op})
	case denied:
		return fmt.Errorf("%s: %w", op, errStruck)
	case doubled:
		if err == nil {
			_ = work() // whatever it says: the first was done
		}
	}
	return err
}

// ---- store ----

type storePort struct{ *view }

// stored is what the disk holds.
type stored struct {
	version int
	saved   engine.Saved
}

func (p storePort) Load(context.Context) (out engine.Saved, err error) {
	err = p.around("store.load", func() error {
		if p.w.store.version == 0 {
			return nil
		}
		// What comes back went through bytes, as on every host.
		b, err := json.Marshal(p.w.store.saved)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &out); err != nil {
			return err
		}
		out.Version = strconv.Itoa(p.w.store.version)
		return nil
	})
	return out, err
}

func (p storePort) Save(_ context.Context, s engine.Saved) (string, error) {
	w := p.w
	version := ""
	err := p.change("store.save", func() error {
		have := ""
		if w.store.version > 0 {
			have = strconv.Itoa(w.store.version)
		}
		if s.Version != have {
			return fmt.Errorf("version %q is stored, %q was read: %w", have, s.Version, engine.ErrConflict)
		}
		w.checkSaved(s)
		w.store.version++
		w.store.saved = s
		version = strconv.Itoa(w.store.version)
		return nil
	})
	if err != nil {
		version = ""
	}
	return version, err
}

// ---- workloads ----

type workloadsPort struct{ *view }

func (p workloadsPort) Observe(context.Context) (rollout.Workloads, error) {
	w := p.w
	p.cluster = nil
	s := w.strikeAt("workloads.observe")
	switch s {
	case crashBefore:
		panic(crash{"workloads.observe"})
	case failed:
		return rollout.Workloads{}, errStruck
	}
	snap := w.cluster.snap(w.now)
	w.clusterSnaps = remember(w.clusterSnaps, snap)
	switch s {
	case stale:
		snap = w.clusterSnaps[w.rng.IntN(len(w.clusterSnaps))]
	case partly:
		c := *snap
		c.items = slices.Clone(c.items)
		for i := range c.items {
			if w.rng.IntN(2) == 0 {
				c.items[i].ReadyKnown = false
			}
		}
		snap = &c
	}
	p.cluster = snap
	return snap.observed(), nil
}

func (p workloadsPort) Apply(_ context.Context, want []rollout.Scale) error {
	w := p.w
	want = slices.Clone(want)
	p.checkScale(want)
	if w.fail != nil {
		return errStruck // what breaks an invariant is not carried out
	}
	return p.change("workloads.apply", func() error {
		var errs []error
		for _, s := range want {
			if !w.cluster.apply(s, w.now) {
				errs = append(errs, fmt.Errorf("version %s: %w", s.Revision, engine.ErrNotFound))
			}
			w.logf("scale", "%s", scaleText(s))
		}
		w.changed()
		return errors.Join(errs...)
	})
}

func scaleText(s rollout.Scale) string {
	switch {
	case s.Delete:
		return fmt.Sprintf("%s is deleted", s.Revision)
	case s.Zero:
		return fmt.Sprintf("%s is scaled to 0", s.Revision)
	case s.HPA != "" && s.Min > 0:
		return fmt.Sprintf("%s has at least %d replicas, its autoscaler at least %d", s.Revision, s.Min, s.HPAMin)
	case s.HPA != "":
		return fmt.Sprintf("the autoscaler of %s has minimum %d", s.Revision, s.HPAMin)
	}
	return fmt.Sprintf("%s has at least %d replicas", s.Revision, s.Min)
}

// ---- router ----

type routerPort struct{ *view }

func (p routerPort) Observe(context.Context) (rollout.Route, error) {
	w := p.w
	p.view.route = nil
	s := w.strikeAt("router.observe")
	switch s {
	case crashBefore:
		panic(crash{"router.observe"})
	case failed:
		return rollout.Route{}, errStruck
	}
	snap := w.route.snap(w.now)
	w.routeSnaps = remember(w.routeSnaps, snap)
	if s == stale {
		snap = w.routeSnaps[w.rng.IntN(len(w.routeSnaps))]
	}
	p.view.route, p.version = snap, snap.version
	return snap.observed(), nil
}

// remember keeps the last few looks.
func remember[T any](all []T, one T) []T {
	if len(all) == 6 {
		copy(all, all[1:])
		all = all[:5]
	}
	return append(all, one)
}

func (p routerPort) Apply(_ context.Context, want rollout.Traffic) error {
	w := p.w
	version := p.version
	if version == w.route.version { // or the fence refuses it
		p.checkTraffic(want)
	}
	err := p.change("router.apply", func() error {
		if !w.route.exists {
			return fmt.Errorf("the route: %w", engine.ErrNotFound)
		}
		if w.route.version != version {
			return fmt.Errorf("the route is at version %d, %d was observed: %w", w.route.version, version, engine.ErrConflict)
		}
		note := want.Note()
		note.Condemned = slices.Clone(note.Condemned)
		c := config{split: splitOf(want.Weights()), note: &note, match: want.Match, keep: slices.Clone(want.Keep)}
		if sameConfig(w.route.config, c) {
			return nil
		}
		w.logf("route", "serin writes %s (decision %d)", c.split, note.N)
		w.route.write(c, "serin", w.now, w.lag)
		w.writes++
		return nil
	})
	if err == nil && w.route.manager == "serin" {
		p.version = w.route.version // what was written is known to the writer
	}
	return err
}

func sameConfig(a, b config) bool {
	x, _ := json.Marshal([]any{a.note, a.match, a.keep})
	y, _ := json.Marshal([]any{b.note, b.match, b.keep})
	return slices.Equal(a.split, b.split) && string(x) == string(y)
}

// ---- the others ----

type samplesPort struct{ *view }

func (p samplesPort) Look(_ context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	var seen engine.Sampled
	p.view.looked = false
	err := p.around("samples.look", func() error {
		if p.w.blind {
			return errStruck
		}
		p.view.looked = true
		if p.w.real {
			seen.Stable = p.w.pods(stable)
			if canary != "" {
				seen.Canary = p.w.pods(canary)
			}
		}
		return nil
	})
	if err != nil {
		p.view.looked = false
	}
	return seen, err
}

type inboxPort struct{ *view }

func (p inboxPort) Pending(context.Context) (out []rollout.Command, err error) {
	err = p.around("inbox.pending", func() error { out = slices.Clone(p.w.inbox); return nil })
	return out, err
}

func (p inboxPort) Done(_ context.Context, ids []string) error {
	return p.around("inbox.done", func() error {
		p.w.inbox = slices.DeleteFunc(p.w.inbox, func(c rollout.Command) bool { return slices.Contains(ids, c.ID) })
		return nil
	})
}

type testsPort struct{ *view }

type testRun struct {
	run rollout.TestRun
	end time.Time
}

func (p testsPort) Start(_ context.Context, run rollout.TestRun) error {
	return p.around("tests.start", func() error {
		for _, t := range p.w.tests {
			if t.run.ID == run.ID {
				return nil
			}
		}
		p.w.tests = append(p.w.tests, testRun{run, p.w.now.Add(p.w.between(time.Second, 20*time.Second))})
		return nil
	})
}

func (p testsPort) Answers(context.Context) (out []rollout.TestAnswer, err error) {
	err = p.around("tests.answers", func() error {
		for _, t := range p.w.tests {
			if !t.end.After(p.w.now) {
				ok := !p.w.kind(t.run.Revision).failsTest
				out = append(out, rollout.TestAnswer{ID: t.run.ID, Passed: ok, Detail: "the test says so"})
			}
		}
		return nil
	})
	return out, err
}

type windowsPort struct{ *view }

func (p windowsPort) Closed(_ context.Context, _ time.Time) (out []rollout.Window, err error) {
	err = p.around("windows.closed", func() error {
		if p.w.now.Before(p.w.opens) {
			out = []rollout.Window{{Name: "the freeze", Opens: p.w.opens.Add(p.w.skew)}}
		}
		return nil
	})
	return out, err
}

type declaredPort struct{ *view }

func (p declaredPort) Declared(context.Context) (d *rollout.Declared, err error) {
	err = p.around("declared.declared", func() error {
		if p.w.files != nil {
			m := map[string]rollout.Weight{}
			for k, v := range p.w.files {
				m[k] = v
			}
			d = &rollout.Declared{Where: "the files", Weights: m}
		}
		return nil
	})
	return d, err
}

type preflightPort struct{ *view }

func (p preflightPort) Check(context.Context, rollout.Revision, rollout.Revision) (out []rollout.Finding, err error) {
	err = p.around("preflight.check", func() error { out = slices.Clone(p.w.findings); return nil })
	return out, err
}

type notifierPort struct{ *view }

func (p notifierPort) Tell(_ context.Context, events []rollout.Event) error {
	return p.around("notifier.tell", func() error { p.w.checkTold(events); return nil })
}

// ports are the world as an engine takes it.
func (v *view) ports() engine.Ports {
	p := engine.Ports{
		Store: storePort{v}, Workloads: workloadsPort{v}, Router: routerPort{v},
		Samples: samplesPort{v}, Inbox: inboxPort{v}, Preflight: preflightPort{v},
		Tests: testsPort{v}, Windows: windowsPort{v}, Notifier: notifierPort{v},
	}
	if v.w.files != nil {
		p.Declared = declaredPort{v}
	}
	return p
}

// pods are what a version's replicas have counted, for worlds with the real judge.
func (w *World) pods(r rollout.Revision) []analysis.Pod {
	n := w.cluster.ready(r, w.now)
	if n == 0 || w.kind(r).verdict == silent {
		return nil
	}
	w.route.serve(w.now)
	var pods []analysis.Pod
	each := w.route.of(r).requests / float64(n)
	k := w.kind(r)
	for i := range n {
		pods = append(pods, analysis.Pod{
			Name: fmt.Sprintf("%s-%d", r, i), Has: analysis.HasRequests | analysis.HasErrors,
			Requests: float64(int(each)), Errors: float64(int(each * k.errors)),
		})
	}
	return pods
}
