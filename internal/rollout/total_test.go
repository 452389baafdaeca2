package rollout

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// FuzzDecide: the policy is total. Whatever a state file, a document or a
// broken adapter says, there is an answer, the same one twice, and it survives
// being saved.
func FuzzDecide(f *testing.F) {
	b := newBench(&testing.T{}).canary(2500)
	seed, err := json.Marshal(struct {
		Spec  Spec
		State State
		Obs   Observation
	}{b.spec, b.st, b.obs})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"State":{"phase":"Baking","step":99,"stable":{"revision":"v1@a"}}}`))
	f.Add([]byte(`{"State":{"phase":"Progressing","canary":{"revision":"v2@a"},"plan":[]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var in struct {
			Spec  Spec
			State State
			Obs   Observation
		}
		if json.Unmarshal(raw, &in) != nil {
			return
		}
		d := Decide(in.Spec, in.State, in.Obs, t0)
		d = Decide(in.Spec, d.Next, in.Obs, t0.Add(time.Second))
		if d.Traffic != nil && d.Next.Granted >= 0 && d.Next.Granted <= Whole {
			sum := Weight(0)
			for _, w := range d.Traffic.Weights() {
				sum += w
			}
			if sum != Whole {
				t.Errorf("weights sum to %d", sum)
			}
		}
		if _, err := json.Marshal(d.Next); err != nil {
			t.Error(err)
		}
	})
}

// TestMangledStates takes true states and breaks one field at a time.
func TestMangledStates(t *testing.T) {
	b := newBench(t).canary(2500)
	raw, err := json.Marshal(b.st)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	junk := []string{`null`, `""`, `-1`, `99999`, `[]`, `{}`, `true`, `"Baking"`, `"RollingBack"`, `"Promoting"`, `"Idle"`, `"Preparing"`, `"nonsense"`}
	for name := range fields {
		for _, j := range junk {
			m := map[string]json.RawMessage{}
			for k, v := range fields {
				m[k] = v
			}
			m[name] = json.RawMessage(j)
			one, _ := json.Marshal(m)
			var st State
			if json.Unmarshal(one, &st) != nil {
				continue
			}
			now := b.now
			for range 5 {
				now = now.Add(time.Second)
				st = Decide(b.spec, st, b.obs, now).Next
			}
		}
	}
}

// TestRandomObservations drives the policy with observations that make no
// sense; the invariants hold all the same.
func TestRandomObservations(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := newBench(t)
		b.add(load(v2, 2, b.now))
		for range 60 {
			b.obs.Workloads.Known = Known(r.IntN(3))
			b.obs.Route.Known = Known(r.IntN(3))
			b.obs.Report = good()
			b.obs.Report.Verdict = analysis.Verdict(r.IntN(4))
			b.obs.Report.Calm = r.IntN(2) == 0
			for k := range b.obs.Workloads.Items {
				w := &b.obs.Workloads.Items[k]
				w.Ready, w.ReadyKnown, w.Deleting = r.IntN(4), r.IntN(4) > 0, r.IntN(12) == 0
			}
			if r.IntN(10) == 0 {
				b.obs.Route.Weights = map[Revision]Weight{v1: Weight(r.IntN(20000) - 5000), v2: Weight(r.IntN(20000) - 5000), "ghost": 1}
			}
			b.say([]Verb{VerbAbort, VerbPromote, VerbPause, VerbResume, VerbUndo, VerbRetry}[r.IntN(6)], func(c *Command) { c.Full = r.IntN(2) == 0 })
			b.tick(time.Duration(r.IntN(200)-20) * time.Second)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func BenchmarkDecide(bm *testing.B) {
	b := newBench(&testing.T{}).canary(2500)
	bm.ReportAllocs()
	for i := range bm.N {
		d := Decide(b.spec, b.st, b.obs, b.now.Add(time.Duration(i%1000)*time.Millisecond))
		if d.Traffic == nil {
			bm.Fatal("no traffic")
		}
	}
}
