package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
	"sigs.k8s.io/yaml"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	v1 = rollout.Revision("v1@1111")
	v2 = rollout.Revision("v2@2222")
	v3 = rollout.Revision("v3@3333")
)

// document is what the stories are told under: short holds, limits that decide.
const document = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic: [{istio: {virtualService: my-app, destinationRule: my-app, settle: 1s}}]
  strategy:
    canary:
      steps: STEPS
  analysis:
    skip: [latency]
    errorRate: {max: 1%, for: 2s}
    minRequests: 20
    deadline: 30m
  promotion: {bake: 2s}
`

func specFor(t testing.TB, steps string) (rollout.Spec, analysis.Config) {
	t.Helper()
	if known, ok := specs.Load(steps); ok {
		return known.(parsed).spec, known.(parsed).cfg
	}
	var doc v1alpha1.Rollout
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(document, "STEPS", steps)), &doc); err != nil {
		t.Fatal(err)
	}
	spec, cfg, err := engine.SpecOf(&doc)
	if err != nil {
		t.Fatal(err)
	}
	spec.Quiet = time.Second
	cfg.Compare = false // the stories are about the pass; limits decide in few looks
	specs.Store(steps, parsed{spec, cfg})
	return spec, cfg
}

// specs are the documents that were parsed, by their steps: stories are told
// thousands of times.
var specs sync.Map

type parsed struct {
	spec rollout.Spec
	cfg  analysis.Config
}

// scene is something that happens to the world at a time.
type scene struct {
	at time.Duration
	do func(*enginetest.World)
}

// story is what happens to one world, and how it must end.
type story struct {
	name    string
	reason  string
	steps   string
	scenes  []scene
	horizon time.Duration
	end     string         // of the fault-free run, as ending says it
	passes  []rollout.What // decisions that the fault-free run has to make on its way
	receipt bool
}

func deploy(r rollout.Revision, change ...func(*enginetest.Version)) func(*enginetest.World) {
	return func(w *enginetest.World) {
		v := enginetest.Version{Workload: rollout.Workload{Revision: r, Replicas: 1}, StartsIn: time.Second}
		for _, c := range change {
			c(&v)
		}
		w.Workloads.Add(v)
	}
}

func say(c rollout.Command) func(*enginetest.World) {
	return func(w *enginetest.World) { w.Inbox.Send(c) }
}

func failing(share float64) func(*enginetest.Version) {
	return func(v *enginetest.Version) { v.Errors = share }
}

// run is one telling of a story.
type run struct {
	t       testing.TB
	world   *enginetest.World
	spec    rollout.Spec
	cfg     analysis.Config
	engine  *engine.Engine
	passes  int
	crashes int
	phases  map[rollout.Phase]bool
	// each is called after every pass that did not crash.
	each func(engine.Result, error)
}

func newRun(t testing.TB, s story) *run {
	spec, cfg := specFor(t, s.steps)
	r := &run{t: t, spec: spec, cfg: cfg, world: enginetest.NewWorld(start, v1, 100), phases: map[rollout.Phase]bool{}}
	r.world.Router.Receipt = s.receipt
	r.world.Router.Lag = 200 * time.Millisecond
	r.world.Tests.Result = func(string) *rollout.TestAnswer { return &rollout.TestAnswer{Passed: true, Detail: "it answers"} }
	r.restart()
	return r
}

func (r *run) restart() {
	e, err := engine.New(r.spec, r.cfg, r.world.Ports(), engine.Options{Now: r.world.Clock.Now, InOrder: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.engine = e
}

// tell passes whenever a pass is due, until the horizon.
func (r *run) tell(s story) {
	scenes := slices.Clone(s.scenes)
	due := start
	end := start.Add(s.horizon)
	for {
		now := r.world.Clock.Now()
		for len(scenes) > 0 && !start.Add(scenes[0].at).After(now) {
			scenes[0].do(r.world)
			scenes = scenes[1:]
			due = now
		}
		if !due.After(now) {
			due = r.pass()
		}
		next := end
		if len(scenes) > 0 {
			next = start.Add(scenes[0].at)
		}
		if !due.IsZero() && due.Before(next) {
			next = due
		} else if due.IsZero() {
			due = end.Add(time.Hour)
		}
		if !next.After(now) {
			next = now.Add(time.Millisecond)
		}
		if next.After(end) || !now.Before(end) {
			return
		}
		r.world.Clock.Set(next)
		if r.passes > 5000 {
			r.t.Fatalf("%s: more than 5000 passes: it does not come to rest", s.name)
		}
	}
}

func (r *run) pass() time.Time {
	r.passes++
	var res engine.Result
	var err error
	if at := enginetest.Survive(func() { res, err = r.engine.Pass(context.Background()) }); at != "" {
		r.crashes++
		r.restart()
		return r.world.Clock.Now().Add(300 * time.Millisecond) // the time that a restart takes
	}
	if res.Decided {
		r.phases[res.State.Phase] = true
	}
	var violation *rollout.Violation
	if errors.As(err, &violation) {
		r.t.Errorf("pass %d at +%v: %v", r.passes, r.world.Clock.Now().Sub(start), err)
	}
	if r.each != nil {
		r.each(res, err)
	}
	return res.Wake
}

// stored is what is in the store at the end.
func (r *run) stored() engine.Saved {
	f := r.world.Store.Faults
	r.world.Store.Faults = nil
	defer func() { r.world.Store.Faults = f }()
	s, err := r.world.Store.Load(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// ending says how it ended, without what a crash may change: times and counts.
func (r *run) ending() string {
	s := r.stored().State
	written, _ := r.world.Router.Split()
	var b strings.Builder
	fmt.Fprintf(&b, "%s stable=%s canary=%s", s.Phase, s.Stable.Revision.Label(), s.Canary.Revision.Label())
	for _, o := range s.History {
		fmt.Fprintf(&b, " %s:%s", o.Revision.Label(), o.Result)
	}
	for _, c := range s.FailedRevisions() {
		fmt.Fprintf(&b, " condemned=%s", c.Label())
	}
	for _, v := range []rollout.Revision{v1, v2, v3} {
		if w := written[v]; w > 0 {
			fmt.Fprintf(&b, " %s=%v", v.Label(), w)
		}
	}
	for _, v := range []rollout.Revision{v1, v2, v3} {
		fmt.Fprintf(&b, " %sx%d", v.Label(), r.world.Workloads.Ready(v))
	}
	if s.Stalled != "" {
		b.WriteString(" stalled")
	}
	if len(s.Pauses) > 0 {
		b.WriteString(" paused")
	}
	return b.String()
}

var stories = []story{
	{
		name: "good", reason: "a good version is carried to everybody, and the old one is retired once it is seen gone",
		steps: "[{weight: 25%, hold: 1s}, {weight: 100%, hold: 1s}]", horizon: 60 * time.Second,
		scenes: []scene{{time.Second, deploy(v2)}},
		end:    "Idle stable=v2 canary= v2:promoted v2=100 % v1x0 v2x3 v3x0",
	},
	{
		name: "good with a receipt", reason: "a router that says what is in force needs no settling",
		steps: "[{weight: 50%, hold: 1s}, {weight: 100%, hold: 1s}]", horizon: 40 * time.Second, receipt: true,
		scenes: []scene{{time.Second, deploy(v2)}},
		end:    "Idle stable=v2 canary= v2:promoted v2=100 % v1x0 v2x3 v3x0",
	},
	{
		name: "bad", reason: "a version that fails 20 % of its requests is taken back and stays so",
		steps: "[{weight: 25%, hold: 10s}, {weight: 100%, hold: 1s}]", horizon: 40 * time.Second,
		scenes: []scene{{time.Second, deploy(v2, failing(0.2))}},
		end:    "Idle stable=v1 canary= v2:rolledBack condemned=v2 v1=100 % v1x3 v2x0 v3x0 stalled",
	},
	{
		name: "bad in the bake", reason: "after 100 % it is watched still, and the old version is warm",
		steps: "[{weight: 50%, hold: 1s}, {weight: 100%, hold: 1s}]", horizon: 60 * time.Second,
		scenes: []scene{
			{time.Second, deploy(v2)},
			{2 * time.Second, func(w *enginetest.World) {
				w.Workloads.Change(v1, func(v *enginetest.Version) { v.Errors = 0.0001 })
			}},
			// From the moment it has everything, whenever that is.
			{3 * time.Second, func(w *enginetest.World) {
				w.Router.OnChange = func(split map[rollout.Revision]rollout.Weight) {
					if split[v2] == rollout.Whole {
						w.Workloads.Change(v2, func(v *enginetest.Version) { v.Errors = 0.3 })
					}
				}
			}},
		},
		end:    "Idle stable=v1 canary= v2:rolledBack condemned=v2 v1=100 % v1x3 v2x0 v3x0 stalled",
		passes: []rollout.What{rollout.EvBakeStarted, rollout.EvRolledBack, rollout.EvTrafficBack},
	},
	{
		name: "superseded", reason: "a newer version takes over; the older one reaches 0 and is gone first",
		steps: "[{weight: 25%, hold: 5s}, {weight: 100%, hold: 1s}]", horizon: 60 * time.Second,
		scenes: []scene{{time.Second, deploy(v2)}, {5 * time.Second, deploy(v3)}},
		end:    "Idle stable=v3 canary= v2:superseded v3:promoted v3=100 % v1x0 v2x0 v3x3",
		passes: []rollout.What{rollout.EvSuperseded, rollout.EvRetired},
	},
	{
		name: "aborted", reason: "a person's abort wins, and condemns",
		steps: "[{weight: 25%, hold: 20s}, {weight: 100%, hold: 1s}]", horizon: 40 * time.Second,
		scenes: []scene{
			{time.Second, deploy(v2)},
			{9 * time.Second, say(rollout.Command{ID: "c1", Verb: rollout.VerbAbort, By: "alice", Reason: "no"})},
		},
		end: "Idle stable=v1 canary= v2:aborted condemned=v2 v1=100 % v1x3 v2x0 v3x0 stalled",
	},
	{
		name: "people", reason: "a test, an approval, a pause, a look with a header: each waits for its own",
		steps: `[{test: {webhook: {url: "http://127.0.0.1/ok"}}}, {match: {header: {x-canary: "1"}}, hold: 1s}, {approval: {}}, {weight: 50%, hold: 1s}, {weight: 100%, hold: 1s}]`, horizon: 60 * time.Second,
		scenes: []scene{
			{time.Second, deploy(v2)},
			{9 * time.Second, say(rollout.Command{ID: "c1", Verb: rollout.VerbApprove, By: "bob"})},
			{10 * time.Second, say(rollout.Command{ID: "c2", Verb: rollout.VerbPause, By: "bob"})},
			{12 * time.Second, say(rollout.Command{ID: "c3", Verb: rollout.VerbResume, By: "bob"})},
		},
		end:    "Idle stable=v2 canary= v2:promoted v2=100 % v1x0 v2x3 v3x0",
		passes: []rollout.What{rollout.EvTestPassed, rollout.EvApproved, rollout.EvPaused, rollout.EvResumed},
	},
	{
		name: "hand", reason: "a hand that lowers the weight is obeyed; resume goes on",
		steps: "[{weight: 50%, hold: 3s}, {weight: 100%, hold: 1s}]", horizon: 60 * time.Second,
		scenes: []scene{
			{time.Second, deploy(v2)},
			{7 * time.Second, func(w *enginetest.World) {
				w.Router.Hand("kubectl-edit", map[rollout.Revision]rollout.Weight{v1: 9000, v2: 1000})
			}},
			{10 * time.Second, say(rollout.Command{ID: "c1", Verb: rollout.VerbResume, By: "alice"})},
		},
		end:    "Idle stable=v2 canary= v2:promoted v2=100 % v1x0 v2x3 v3x0",
		passes: []rollout.What{rollout.EvDriftObeyed, rollout.EvResumed},
	},
	{
		name: "undo", reason: "back to the version before: its capacity first, then one switch",
		steps: "[{weight: 100%, hold: 1s}]", horizon: 70 * time.Second,
		scenes: []scene{
			{time.Second, deploy(v2)},
			{35 * time.Second, say(rollout.Command{ID: "c1", Verb: rollout.VerbUndo, By: "alice"})},
		},
		end:    "Idle stable=v1 canary= v2:promoted v1:undone condemned=v2 v1=100 % v1x3 v2x0 v3x0",
		passes: []rollout.What{rollout.EvUndoStarted, rollout.EvUndone, rollout.EvRetired},
	},
}

// Every story ends as told when nothing goes wrong.
func TestStories(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			r := newRun(t, s)
			r.tell(s)
			made := map[rollout.What]bool{}
			for _, d := range r.stored().State.Decisions {
				made[d.What] = true
			}
			for _, what := range s.passes {
				if !made[what] {
					t.Errorf("%s: %s was never decided: the story shows less than it says", s.reason, what)
				}
			}
			if got := r.ending(); got != s.end {
				t.Errorf("%s\nended as %s\nwant     %s", s.reason, got, s.end)
				for _, d := range r.stored().State.Decisions {
					t.Logf("%3d +%v %s by %s: %s", d.N, d.At.Sub(start), d.What, d.By, d.Why)
				}
			}
		})
	}
}
