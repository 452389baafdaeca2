package rollout

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const (
	v1 = Revision("v1@aaaa")
	v2 = Revision("v2@bbbb")
	v3 = Revision("v3@cccc")
)

// bench is a small, faithful world: what is decided is applied at once unless
// a test says otherwise. It calls Check after every pass.
type bench struct {
	t    *testing.T
	spec Spec
	st   State
	obs  Observation
	now  time.Time
	d    Decision
	log  []Event

	before input // of the last pass
	passes int

	frozenRoute bool // the router does not take writes
	frozenScale bool // replicas do not follow
	noReceipt   bool // as Istio: no receipt, counts only
	stopped     map[Revision]bool
}

func spec() Spec {
	w := func(p int, hold time.Duration) Step {
		return Step{Kind: StepWeight, Weight: Weight(p * 100), Hold: hold, ID: fmt.Sprint("w", p)}
	}
	return Spec{
		Steps:          []Step{w(5, time.Minute), w(25, time.Minute), w(50, time.Minute), w(75, time.Minute), w(100, 0)},
		Revert:         RevertFast,
		Capacity:       Capacity{HPA: HoldMinimum, Deadline: 10 * time.Minute},
		Analysis:       Policy{Deadline: 30 * time.Minute, OnUndecided: ActAdvance, OnUnavailable: ActPause},
		Promotion:      Promotion{Bake: 10 * time.Minute, Retire: ScaleToZero},
		RollbackRetire: ScaleToZero,
		Drift:          Obey,
		Settle:         10 * time.Second, Quiet: 5 * time.Second, DrainTimeout: time.Minute,
		IgnoreRule: "PASTE-THIS",
	}
}

func load(r Revision, replicas int, since time.Time) Workload {
	return Workload{Revision: r, Name: "my-app-" + r.Label(), UID: "uid-" + string(r), Generation: 1, Since: since, Replicas: replicas, Ready: replicas, ReadyKnown: true}
}

func good() analysis.Report {
	return analysis.Report{Verdict: analysis.Pass, Sentence: "nothing is wrong.", Calm: true, Advance: 1, CanaryRequests: 500, StableRequests: 5000, Scored: time.Hour}
}

// input is what one pass is given.
type input struct {
	spec Spec
	st   State
	obs  Observation
	now  time.Time
}

// newBench has v1 adopted and at rest.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := emptyBench(t)
	b.obs.Workloads.Items = []Workload{load(v1, 3, t0.Add(-time.Hour))}
	b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
	b.tick(time.Second)
	b.tick(time.Second)
	if b.st.Stable.Revision != v1 || b.st.Phase != Idle {
		t.Fatalf("not adopted: %+v", b.st)
	}
	return b
}

func emptyBench(t *testing.T) *bench {
	return &bench{t: t, spec: spec(), now: t0, obs: Observation{
		Workloads: Workloads{Known: Present},
		Route:     Route{Known: Present, HasReceipt: true, Measured: true, Requests: map[Revision]float64{}, InFlight: map[Revision]int{}},
		Report:    good(),
	}, stopped: map[Revision]bool{}}
}

// canary starts a rollout of v2 and brings it to a weight, live.
func (b *bench) canary(at Weight) *bench {
	b.t.Helper()
	b.add(load(v2, 2, b.now))
	b.reach(at)
	return b
}

func (b *bench) reach(at Weight) {
	b.t.Helper()
	for range 3000 {
		b.tick(time.Second)
		if b.st.Granted == at && !b.st.LiveAt.IsZero() && b.st.Phase != Idle && (at < Whole || b.st.Phase == Baking) {
			return
		}
	}
	b.t.Fatalf("never reached %s: %s at %s: %s\n%s", at, b.st.Phase, b.st.Granted, b.d.Status.Message, b.story())
}

func (b *bench) add(w Workload)         { b.obs.Workloads.Items = append(b.obs.Workloads.Items, w) }
func (b *bench) w(r Revision) *Workload { return (&pass{obs: b.obs}).workload(r) }
func (b *bench) drop(r Revision) {
	out := b.obs.Workloads.Items[:0:0]
	for _, w := range b.obs.Workloads.Items {
		if w.Revision != r {
			out = append(out, w)
		}
	}
	b.obs.Workloads.Items = out
}

func (b *bench) say(v Verb, f ...func(*Command)) {
	c := Command{ID: fmt.Sprintf("c%d-%d", b.now.UnixNano(), len(b.obs.Commands)), Verb: v, By: "alice"}
	for _, g := range f {
		g(&c)
	}
	b.obs.Commands = append(b.obs.Commands, c)
}

// hand writes the route as a person would: the note stays.
func (b *bench) hand(canary Weight) {
	b.obs.Route.Manager = "kubectl-edit"
	b.obs.Route.Weights = map[Revision]Weight{b.st.Stable.Revision: Whole - canary, v2: canary}
}

// tick moves the clock and makes one pass.
func (b *bench) tick(d time.Duration) Decision {
	b.t.Helper()
	b.now = b.now.Add(d)
	return b.pass()
}

func (b *bench) pass() Decision {
	b.t.Helper()
	b.before = input{b.spec, b.st, b.obs, b.now}
	d := Decide(b.spec, b.st, b.obs, b.now)
	if v := Check(b.spec, b.st, b.obs, d); v != nil {
		b.t.Fatalf("%v\n%s", v, b.story())
	}
	b.st, b.d = d.Next, d
	if b.passes++; len(d.Events) > 0 || b.passes%64 == 0 { // the rest moved clocks alone
		b.st = b.saved(d)
	}
	b.log = append(b.log, d.Events...)
	b.apply(d)
	return d
}

// saved is what comes back from the store, for an input whose answer is the
// same twice.
func (b *bench) saved(d Decision) (back State) {
	b.t.Helper()
	raw, err := json.Marshal(d.Next)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &back); err != nil {
		b.t.Fatal(err)
	}
	if len(d.Events) > 0 {
		was := b.before
		if again := Decide(was.spec, was.st, was.obs, was.now); !reflect.DeepEqual(d, again) {
			b.t.Fatalf("the same input had two answers")
		}
	}
	return back
}

func (b *bench) apply(d Decision) {
	if d.Traffic != nil && !b.frozenRoute {
		n := d.Traffic.Note()
		r := &b.obs.Route
		r.Weights, r.Note, r.Manager = d.Traffic.Weights(), &n, "serin"
		if r.HasReceipt = !b.noReceipt; r.HasReceipt {
			r.Receipt = n.N
		}
	}
	for _, s := range d.Scale {
		w := b.w(s.Revision)
		if w == nil || b.frozenScale {
			continue
		}
		if s.Unmark {
			w.Condemned, w.Retired = false, false
		}
		switch {
		case s.Delete:
			b.drop(s.Revision)
		case s.Zero:
			w.Replicas, w.Ready = 0, 0
			w.Condemned, w.Retired = s.Mark == Condemned, s.Mark == Retired
		case s.HPA != "":
			w.HPA.Min = s.HPAMin
			if s.Min > 0 || w.Replicas < s.HPAMin {
				w.Replicas = max(w.Replicas, s.HPAMin, s.Min)
			}
		default:
			w.Replicas = max(w.Replicas, s.Min)
		}
		if !b.stopped[s.Revision] {
			w.Ready = w.Replicas
		}
	}
}

func (b *bench) run(d time.Duration) {
	b.t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		b.tick(time.Second)
	}
}

func (b *bench) story() string {
	var s strings.Builder
	for _, e := range b.log {
		fmt.Fprintf(&s, "%3d %s %-18s %s -> %s  %s\n", e.N, e.At.Format("15:04:05"), e.What, e.From, e.To, e.Why)
	}
	return s.String() + b.d.Status.Message
}

func (b *bench) count(what What) (n int) {
	for _, e := range b.log {
		if e.What == what {
			n++
		}
	}
	return n
}

func (b *bench) want(ok bool, format string, a ...any) {
	b.t.Helper()
	if !ok {
		b.t.Errorf(format+"\nphase %s, granted %s, stalled %q\n%s", append(a, b.st.Phase, b.st.Granted, b.st.Stalled, b.story())...)
	}
}

func (b *bench) phase(p Phase, w Weight) {
	b.t.Helper()
	b.want(b.st.Phase == p && b.st.Granted == w, "want %s at %s", p, w)
}
