package record_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
)

var seed = flag.Uint64("seed", 0, "play this one world of TestReplayEqualsLive")

const (
	v1 = rollout.Revision("v1@1111")
	v2 = rollout.Revision("v2@2222")
	v3 = rollout.Revision("v3@3333")
)

const liveDocument = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic: [{istio: {virtualService: my-app, destinationRule: my-app, settle: 1s}}]
  strategy:
    canary:
      steps: [{test: {webhook: {url: "http://127.0.0.1/"}}}, {weight: 10%, hold: 3s}, {approval: {by: ["group:sre"]}}, {weight: 50%, hold: 3s}, {weight: 100%, hold: 3s}]
  analysis:
    skip: [latency]
    errorRate: {max: 1%, for: 3s}
    metrics: [{name: score, prometheus: {query: "score{{version}}"}, min: 1, for: 5s}]
    minRequests: 50
    deadline: 40s
    onUndecided: Pause
  promotion: {bake: 6s}
`

// TestReplayEqualsLive runs an engine over a world full of accidents, records
// it, and plays the record again: every pass decides the same, says the same
// and leaves the same state, across crashes, conflicts, hands and rotations.
func TestReplayEqualsLive(t *testing.T) {
	seeds := []uint64{*seed}
	if *seed == 0 {
		seeds = nil
		for s := uint64(1); s <= 24; s++ {
			seeds = append(seeds, s)
		}
	}
	phases, restarts, rotations, histories := map[rollout.Phase]int{}, 0, 0, 0
	for _, s := range seeds {
		p, r, o := playLive(t, s, &histories)
		for k, n := range p {
			phases[k] += n
		}
		restarts += r
		rotations += o
	}
	if *seed != 0 {
		return
	}
	t.Logf("passes by phase %v, %d restarts, %d worlds whose record began anew", phases, restarts, rotations)
	for _, p := range []rollout.Phase{rollout.Idle, rollout.Preparing, rollout.Progressing, rollout.Promoting, rollout.Baking, rollout.RollingBack} {
		if phases[p] == 0 {
			t.Errorf("no world passed through %s", p)
		}
	}
	if histories == 0 {
		t.Error("no world's judge learnt from the time before the canary")
	}
	if restarts == 0 || rotations == 0 {
		t.Error("no world crashed, or none's record began anew: the test shows less than it says")
	}
}

// lived is what one pass decided, as the live engine had it.
type lived struct {
	state    string
	message  string
	verdict  string
	events   int
	weights  map[rollout.Revision]rollout.Weight
	rollback float64
}

// remembering are samples that know what stable had counted before.
type remembering struct {
	*enginetest.Samples
	now   func() time.Time
	asked *int
}

func (s remembering) History(ctx context.Context, stable rollout.Revision) ([]engine.Moment, error) {
	seen, err := s.Look(ctx, stable, "")
	if err != nil {
		return nil, err
	}
	*s.asked++
	var past []engine.Moment
	for i := range 10 {
		m := engine.Moment{At: s.now().Add(time.Duration(i-10) * time.Second)}
		for _, p := range seen.Stable {
			p.Requests, p.Errors, p.Latency, p.Has = p.Requests*float64(i)/10, p.Errors*float64(i)/10, analysis.Histogram{}, analysis.HasRequests|analysis.HasErrors
			m.Pods = append(m.Pods, p)
		}
		past = append(past, m)
	}
	return past, nil
}

func playLive(t *testing.T, seed uint64, histories *int) (phases map[rollout.Phase]int, restarts, rotations int) {
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\nreplay: go test ./internal/record -run TestReplayEqualsLive -seed=%d", fmt.Sprintf(format, args...), seed)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	spec, cfg := documentSpec(t, liveDocument)
	spec.Quiet = time.Second
	world := enginetest.NewWorld(start, v1, 100)
	world.Router.Receipt = rng.IntN(2) == 0
	world.Router.Lag = time.Duration(rng.IntN(1500)) * time.Millisecond
	world.Samples.Values = map[string]map[string]float64{"score": {"v1": 2, "v2": 2, "v3": 2}}
	world.Tests.Result = func(string) *rollout.TestAnswer { return &rollout.TestAnswer{Passed: true} }
	world.Faults.Strike = func(_ int, op string) enginetest.Strike {
		if rng.IntN(100) > 0 {
			return enginetest.None
		}
		if enginetest.Write(op) {
			return enginetest.Strikes[rng.IntN(len(enginetest.Strikes))]
		}
		return []enginetest.Strike{enginetest.CrashBefore, enginetest.ErrorBefore}[rng.IntN(2)]
	}

	path := filepath.Join(t.TempDir(), fmt.Sprint(seed))
	size := int64(0)
	if seed%3 == 0 {
		size = 150 << 10
	}
	writer, err := record.OpenWriter(path, size)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *engine.Engine {
		ports := world.Ports()
		ports.Samples = remembering{world.Samples, world.Clock.Now, histories}
		e, err := engine.New(spec, cfg, ports, engine.Options{Now: world.Clock.Now, InOrder: true})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := begin()
	phases = map[rollout.Phase]int{}
	var live []lived
	v3At := 60 + rng.IntN(200)
	for i := range 400 {
		now := world.Clock.Now()
		happen(world, rng, i, v3At)
		var res engine.Result
		var err error
		at := enginetest.Survive(func() { res, err = e.Pass(context.Background()) })
		var violation *rollout.Violation
		if errors.As(err, &violation) {
			fail("pass %d: %v", i, err)
		}
		if at != "" {
			restarts++
			e = begin()
		} else if res.Decided {
			phases[res.State.Phase]++
			live = append(live, livedOf(t, res))
			if err := writer.Write(res, e.Evidence); err != nil {
				t.Fatal(err)
			}
		}
		next := res.Wake
		if latest := now.Add(2 * time.Second); next.IsZero() || next.After(latest) {
			next = latest
		}
		world.Clock.Set(next)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}

	in, err := record.OpenRing(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	reader := record.NewReader(in, func(s string) { fail("warned: %s", s) })
	keepsToTheSchema(t, path)
	var lines []record.Line
	for {
		l, err := reader.Next()
		if err != nil {
			break
		}
		lines = append(lines, l)
	}
	if len(lines) < len(live) {
		rotations = 1
		live = live[len(live)-len(lines):]
	}
	if len(lines) != len(live) || len(lines) < 50 {
		fail("%d lines of %d passes", len(lines), len(live))
	}
	replayer := record.NewReplayer(spec, cfg)
	for i, l := range lines {
		a, err := replayer.Next(l)
		if err != nil {
			fail("line %d: %v", i+1, err)
		}
		want := live[i]
		got, _ := json.Marshal(replayer.State())
		if string(got) != want.state {
			fail("line %d, +%v: the state is\n%s\nlive it was\n%s", i+1, l.Time.Sub(start), got, want.state)
		}
		if a.Message != want.message || a.Verdict.String() != want.verdict || a.Evidence.Rollback != want.rollback {
			fail("line %d, +%v: %s, %v, %q; live it was %s, %v, %q", i+1, l.Time.Sub(start), a.Verdict, a.Evidence.Rollback, a.Message, want.verdict, want.rollback, want.message)
		}
		if !l.Unsaved && len(a.Decisions) != want.events {
			fail("line %d, +%v: %d decisions, live there were %d", i+1, l.Time.Sub(start), len(a.Decisions), want.events)
		}
		for r, w := range want.weights {
			if a.Weights[r.Label()] != float64(w)/100 {
				fail("line %d, +%v: weights %v, live they were %v", i+1, l.Time.Sub(start), a.Weights, want.weights)
			}
		}
	}
	return phases, restarts, rotations
}

func livedOf(t *testing.T, res engine.Result) lived {
	state, err := json.Marshal(res.State)
	if err != nil {
		t.Fatal(err)
	}
	l := lived{
		state: string(state), message: res.Decision.Status.Message,
		verdict: res.Seen.Report.Verdict.String(), rollback: res.Seen.Report.Rollback,
		events: len(res.Decision.Events),
	}
	if res.Decision.Traffic != nil {
		l.weights = res.Decision.Traffic.Weights()
	}
	return l
}

// happen is what the world does before a pass: versions come, fail and recover,
// people command, hands write the route, figures fail to come.
func happen(w *enginetest.World, rng *rand.Rand, i, v3At int) {
	add := func(r rollout.Revision) {
		v := enginetest.Version{Workload: rollout.Workload{Revision: r, Replicas: 1}, StartsIn: time.Second}
		if rng.IntN(3) == 0 {
			v.Errors = 0.1
		}
		w.Workloads.Add(v)
	}
	switch i {
	case 5:
		add(v2)
	case v3At:
		add(v3)
	}
	if rng.IntN(20) > 0 {
		return
	}
	verbs := []rollout.Verb{rollout.VerbApprove, rollout.VerbApprove, rollout.VerbApprove, rollout.VerbResume, rollout.VerbResume, rollout.VerbPause, rollout.VerbPromote, rollout.VerbUndo, rollout.VerbRetry}
	switch rng.IntN(10) {
	case 0, 1, 2, 3, 4, 5:
		w.Inbox.Send(rollout.Command{ID: fmt.Sprint("c", i), Verb: verbs[rng.IntN(len(verbs))], By: "alice", Groups: []string{"sre"}, Full: rng.IntN(4) == 0})
	case 6:
		w.Inbox.Send(rollout.Command{ID: fmt.Sprint("c", i), Verb: rollout.VerbAbort, By: "bob", Reason: "no"})
	case 7:
		canary := []rollout.Revision{v2, v3}[rng.IntN(2)]
		share := rollout.Weight(rng.IntN(3000))
		w.Router.Hand("kubectl-edit", map[rollout.Revision]rollout.Weight{v1: rollout.Whole - share, canary: share})
	case 8:
		w.Workloads.Change([]rollout.Revision{v2, v3}[rng.IntN(2)], func(v *enginetest.Version) { v.Errors = float64(rng.IntN(2)) * 0.2 })
	case 9:
		w.Samples.Down = !w.Samples.Down
	}
}
