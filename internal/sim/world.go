package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Options are what a seed does not say.
type Options struct {
	// Trace keeps what [World.Trace] prints. A world is the same with and
	// without it.
	Trace bool
	// Policy stands in for rollout.Decide; nil = the real one.
	Policy engine.Policy
	// Ports may wrap the ports that an engine is given; nil = as they are.
	Ports func(engine.Ports) engine.Ports
	// Name says which Options these are, for the command that replays.
	Name string
}

// World is one application, its cluster, its router, its figures and its
// people, under one clock. It is not for concurrent use.
type World struct {
	stateLost bool // the saved state was lost once: nobody could know what it owed
	seed      uint64
	opts      Options
	rng       *rand.Rand

	start, now time.Time
	skew       time.Duration // of the engine's clock
	jumps      []time.Time   // when it jumped
	nemesis    bool          // faults, hands and people are at work
	faults     faults
	real       bool // with the real judge

	// A story leaves nothing to chance.
	told  bool
	turn  int
	blind bool              // there are no figures
	once  map[string]strike // what befalls the next call

	spec     rollout.Spec
	cfg      analysis.Config
	cluster  cluster
	route    route
	store    stored
	inbox    []rollout.Command
	tests    []testRun
	opens    time.Time
	files    map[string]rollout.Weight
	findings []rollout.Finding
	kinds    map[rollout.Revision]kind

	clusterSnaps []*clusterSnap
	routeSnaps   []*routeSnap
	lates        []lateWork

	who      *view // whose pass it is
	eng      *engine.Engine
	own      *view // eng's
	former   *former
	led      bool // two led at once: what one has saved the other has not told
	nextPass time.Time
	wake     time.Time // as the engine asked, in its own time; zero = when something changes
	poked    time.Time // something changed, and the host hears of it then
	deaf     time.Time // nothing runs until then
	pace     time.Duration
	resync   time.Duration

	actors  actors
	checks  checks
	writes  int // of the route
	passes  int
	struck  int
	crashes int
	met     map[string]int // what happened in this world, by name
	lines   []string
	said    string
	wrong   string
	printed int // number of the last decision that was printed as saved
	fail    *Failure
}

// faults is what this world knows of them.
type faults struct {
	rate  float64
	kinds uint32
}

// former is a leader that does not know yet that it is none any more.
type former struct {
	eng   *engine.Engine
	view  *view
	until time.Time
}

// lateWork is a write that is on its way.
type lateWork struct {
	at time.Time
	op string
	do func() error
}

// Failure is an invariant that did not hold.
type Failure struct {
	Seed      uint64
	At        time.Duration // since the world began
	Invariant string
	Why       string
	Replay    string // the command
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s at %s: %s\nreplay: %s", f.Invariant, f.At, f.Why, f.Replay)
}

// epoch is when every world begins.
var epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// New makes the world of a seed. Nothing has happened in it.
func New(seed uint64, opts Options) *World {
	w := blank(seed, opts)
	w.imagine()
	return w
}

func blank(seed uint64, opts Options) *World {
	w := &World{
		seed: seed, opts: opts, rng: rand.New(rand.NewPCG(seed, 0x5e121)),
		start: epoch, now: epoch, nextPass: epoch,
		kinds: map[rollout.Revision]kind{}, resync: 5 * time.Minute,
		met: map[string]int{},
	}
	w.route.traffic = map[rollout.Revision]*versionTraffic{}
	w.route.served = epoch
	w.checks.init()
	return w
}

func (w *World) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

func (w *World) chance(p float64) bool { return w.rng.Float64() < p }

func pick[T any](w *World, from ...T) T { return from[w.rng.IntN(len(from))] }

// lag is how long one proxy takes to have a write.
func (w *World) lag() time.Duration {
	if w.told { // each proxy its own, the last one the longest
		w.turn++
		n := len(w.route.proxies)
		return w.route.lag * time.Duration((w.turn-1)%n+1) / time.Duration(n)
	}
	return w.between(0, w.route.lag)
}

// clock is the engine's.
func (w *World) clock() time.Time { return w.now.Add(w.skew) }

// changed lets the host hear that something changed, mostly.
func (w *World) changed() {
	if w.nemesis && w.chance(0.1) {
		return // the event is lost; there is a resync
	}
	at := w.now.Add(w.between(0, time.Second))
	if w.told {
		at = w.now.Add(100 * time.Millisecond)
	}
	if w.poked.IsZero() || at.Before(w.poked) {
		w.poked = at
	}
}

// Run lets the world run to its end: first with everything that may go wrong,
// then in quiet until it rests. nil means that every invariant held.
func (w *World) Run() *Failure {
	if w.actors.prologue {
		w.prologue()
	}
	w.nemesis = true
	w.actors.next = w.now.Add(w.between(0, w.actors.mean))
	w.until(w.now.Add(w.actors.lasts))
	if w.fail == nil {
		w.calm()
	}
	return w.fail
}

// until lets time pass.
func (w *World) until(end time.Time) {
	for w.fail == nil {
		at, what := end, 0
		if w.nextPass.Before(at) {
			at, what = w.nextPass, 1
		}
		if w.nemesis && w.actors.next.Before(at) {
			at, what = w.actors.next, 2
		}
		late := -1
		for i := range w.lates {
			if w.lates[i].at.Before(at) {
				at, what, late = w.lates[i].at, 3, i
			}
		}
		if w.poked.After(w.start) && w.poked.Before(at) && w.eng != nil && !w.poked.Before(w.deaf) {
			at, what = w.poked, 1
		}
		if at.After(w.now) {
			w.now = at
		}
		w.route.serve(w.now)
		w.cluster.tick(w.now)
		switch what {
		case 0:
			return
		case 1:
			w.pass()
		case 2:
			w.act()
		case 3:
			l := w.lates[late]
			w.lates = append(w.lates[:late], w.lates[late+1:]...)
			w.logf("fault", "%s that came late: %v", l.op, l.do())
		}
	}
}

// pass lets the process do one pass, or begin anew.
func (w *World) pass() {
	w.poked = time.Time{}
	if w.eng == nil && !w.boot() {
		return
	}
	if w.passes++; w.passes > 30000 {
		w.failf("I19", "%d passes in %s", w.passes, w.now.Sub(w.start))
		return
	}
	w.formerPass()
	w.who = w.own
	from := len(w.lines)
	var res engine.Result
	var err error
	at := survive(func() { res, err = w.eng.Pass(context.Background()) })
	if at != "" {
		w.crashes++
		w.eng = nil
		down := w.between(0, 5*time.Second)
		if w.chance(0.1) {
			down = w.between(0, 20*time.Minute)
		}
		if w.told {
			down = 2 * time.Second
		}
		w.nextPass = w.now.Add(down)
		w.logf("crash", "the process is gone at %s, back in %s", at, down.Round(100*time.Millisecond))
		return
	}
	w.logPass(from, res, err)
	w.checkPass(res, err)
	w.wake = res.Wake
	next := w.now.Add(w.resync)
	if !res.Wake.IsZero() {
		next = res.Wake.Add(-w.skew)
	}
	pace := w.pace
	if w.nemesis && pace > 0 {
		pace = w.between(0, 2*w.pace)
	}
	if least := w.now.Add(max(pace, time.Millisecond)); next.Before(least) {
		next = least
	}
	w.nextPass = next
}

// formerPass lets a former leader do one more pass beside its successor.
func (w *World) formerPass() {
	f := w.former
	if f == nil {
		return
	}
	if !w.now.Before(f.until) {
		w.former = nil
		return
	}
	if w.chance(0.4) {
		return
	}
	w.who = f.view
	var res engine.Result
	var err error
	if at := survive(func() { res, err = f.eng.Pass(context.Background()) }); at != "" {
		w.former = nil
		return
	}
	if w.opts.Trace && (res.Wrote.Any() || len(res.Decision.Events) > 0) {
		w.logf("former", "the former leader decides %d things and writes %v: %v", len(res.Decision.Events), res.Wrote.Traffic, err)
	}
	if v := isViolation(err); v != nil {
		w.failf("refused", "%s", v.Error())
	}
}

// boot starts a process that remembers nothing.
func (w *World) boot() bool {
	v := &view{w: w, version: -1}
	ports := v.ports()
	if w.opts.Ports != nil {
		ports = w.opts.Ports(ports)
	}
	o := engine.Options{Now: w.clock, InOrder: true, Policy: w.opts.Policy}
	if !w.real {
		o.Recall = w.recall
	}
	e, err := engine.New(w.spec, w.cfg, ports, o)
	if err != nil {
		w.failf("sim", "an engine could not be made: %v", err)
		return false
	}
	w.own, w.eng = v, e
	return true
}

// survive runs f and says where the process was gone.
func survive(f func()) (at string) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case crash:
			at = v.op
		default:
			panic(v)
		}
	}()
	f()
	return ""
}

// failf notes the first invariant that did not hold.
func (w *World) failf(invariant, format string, args ...any) {
	if w.fail != nil {
		return
	}
	w.fail = &Failure{
		Seed: w.seed, At: w.now.Sub(w.start).Round(time.Millisecond),
		Invariant: invariant, Why: fmt.Sprintf(format, args...), Replay: w.replay(),
	}
	w.logf("BROKEN", "%s: %s", invariant, w.fail.Why)
}

func (w *World) replay() string {
	cmd := fmt.Sprintf("go test ./internal/sim -run 'TestWorlds$' -seed=%d", w.seed)
	if w.opts.Name != "" {
		cmd += " -mutant=" + w.opts.Name
	}
	return cmd
}

// ---- trace ----

func (w *World) logf(who, format string, args ...any) {
	if !w.opts.Trace {
		return
	}
	w.lines = append(w.lines, fmt.Sprintf("%9s %-6s %s", stamp(w.now.Sub(w.start)), who, fmt.Sprintf(format, args...)))
}

// stamp prints the time since the beginning.
func stamp(d time.Duration) string {
	d = d.Round(100 * time.Millisecond)
	return fmt.Sprintf("%d:%02d:%04.1f", int(d.Hours()), int(d.Minutes())%60, d.Seconds()-60*float64(int(d.Minutes())))
}

// Trace is what happened, a line each, if it was kept.
func (w *World) Trace() string { return strings.Join(w.lines, "\n") + "\n" }

// logPass prints what a pass saw and did, if it is news. Its lines begin at
// from; decisions are printed before what they led to.
func (w *World) logPass(from int, res engine.Result, err error) {
	if !w.opts.Trace {
		return
	}
	wrong := ""
	if err != nil {
		wrong = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if wrong != "" && wrong != w.wrong {
		w.logf("error", "%s", wrong)
	}
	w.wrong = wrong
	if !res.Decided {
		return
	}
	d := res.Decision
	for _, e := range res.Before.Decisions { // made by a pass that did not live to tell
		if e.N > w.printed {
			w.logf("decide", "%d %s by %s, found in the store: %s", e.N, e.What, e.By, e.Why)
			w.printed = e.N
		}
	}
	saved := ""
	if len(d.Events) > 0 && res.State.N != d.Next.N {
		saved = " (not saved)"
	}
	wrote := w.lines[from:]
	i := slices.IndexFunc(wrote, func(l string) bool { return strings.Contains(l, " route  ") || strings.Contains(l, " scale  ") })
	if i < 0 {
		i = len(wrote)
	}
	wrote = slices.Clone(wrote[i:])
	w.lines = w.lines[:from+i]
	for _, e := range d.Events {
		w.logf("decide", "%d %s by %s%s: %s", e.N, e.What, e.By, saved, e.Why)
	}
	if saved == "" && len(d.Events) > 0 {
		w.printed = d.Next.N
	}
	w.lines = append(w.lines, wrote...)
	// A count-down is no news, and neither is one more request.
	state := w.stateText(res)
	said := state + wordless(d.Status.Message) + wordless(d.Status.Stalled)
	if said == w.said {
		return
	}
	told := wordless(d.Status.Message) + wordless(d.Status.Stalled)
	again := strings.HasSuffix(w.said, told) && w.said != ""
	w.said = said
	w.logf("state", "%s", state)
	if again {
		return
	}
	w.logf("says", "%s", d.Status.Message)
	if d.Status.Stalled != "" && d.Status.Message != "Stalled: "+d.Status.Stalled {
		w.logf("stalls", "%s", d.Status.Stalled)
	}
}

// wordless is a message without its numbers and their units.
func wordless(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == 'h' || r == 'm' || r == 's' || r == '.' {
			return -1
		}
		return r
	}, s)
}

// stateText is the three things that are kept apart: decided, written, seen.
func (w *World) stateText(res engine.Result) string {
	st := res.Decision.Next
	s := string(st.Phase)
	if st.Canary.Revision != "" {
		s += fmt.Sprintf(" %s step %d", st.Canary.Revision, st.Step+1)
	}
	s += fmt.Sprintf(", decided %s (%d), route %s", st.Granted, st.TrafficN, routeText(res.Seen.Route))
	var live []string
	for i := range w.route.proxies {
		if t := w.route.proxies[i].inForce.String(); len(live) == 0 || live[len(live)-1] != t {
			live = append(live, t)
		}
	}
	s += ", in force " + strings.Join(live, " / ")
	if st.Canary.Revision != "" {
		s += fmt.Sprintf(", verdict %s", res.Seen.Report.Verdict)
	}
	return s
}

func routeText(r rollout.Route) string {
	switch r.Known {
	case rollout.Unknown:
		return "unknown"
	case rollout.Absent:
		return "absent"
	}
	s := splitOf(r.Weights).String()
	if r.Note == nil {
		return s + " (no note)"
	}
	return fmt.Sprintf("%s (%d)", s, r.Note.N)
}

// isViolation finds the product's own refusal in an error.
func isViolation(err error) *rollout.Violation {
	var v *rollout.Violation
	if errors.As(err, &v) {
		return v
	}
	return nil
}
