package engine_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
)

// archive are samples that know what was before.
type archive struct {
	*enginetest.Samples
	past  []engine.Moment
	fails bool
	late  int // so often it cannot be said yet
	asked []rollout.Revision
}

func (a *archive) History(_ context.Context, stable rollout.Revision) ([]engine.Moment, error) {
	if a.late > 0 {
		a.late--
		return nil, engine.ErrUnchanged
	}
	a.asked = append(a.asked, stable)
	if a.fails {
		return nil, errors.New("away")
	}
	return a.past, nil
}

// History is asked for once, when a canary has come and has no traffic yet: at
// rest it is nobody's business, and later it would wipe out what is known of the
// canary. Where it cannot be had, nothing is held up.
func TestHistoryIsAskedOnceForEachCanary(t *testing.T) {
	for name, fails := range map[string]bool{"There": false, "Away": true, "Late": false} {
		t.Run(name, func(t *testing.T) {
			r := newRun(t, good)
			a := &archive{Samples: r.world.Samples, fails: fails}
			if name == "Late" {
				a.late = 1
			}
			for i := range 120 {
				a.past = append(a.past, engine.Moment{At: start.Add(time.Duration(i-120) * 15 * time.Second), Pods: []analysis.Pod{
					{Name: "v1-a", Started: start.Add(-time.Hour), Requests: float64(i) * 100, Errors: float64(i) * 3, Has: analysis.HasRequests | analysis.HasErrors},
					{Name: "v1-b", Started: start.Add(-time.Hour), Requests: float64(i) * 100, Errors: float64(i), Has: analysis.HasRequests | analysis.HasErrors},
				}})
			}
			restart := func() {
				ports := r.world.Ports()
				ports.Samples = a
				var err error
				if r.engine, err = engine.New(r.spec, r.cfg, ports, engine.Options{Now: r.world.Clock.Now, InOrder: true}); err != nil {
					t.Fatal(err)
				}
			}
			restart()
			r.until(time.Second, "v1 is adopted", func(res engine.Result) bool { return res.State.Stable.Revision == v1 })
			for range 5 {
				r.world.Clock.Advance(time.Minute)
				must(r.engine.Pass(t.Context()))
			}
			if len(a.asked) > 0 {
				t.Fatalf("asked at rest: %v", a.asked)
			}
			blank := must(r.engine.Evidence())
			deploy(v2, func(v *enginetest.Version) { v.StartsIn = 5 * time.Second })(r.world)
			learnt := false
			r.until(time.Minute, "v2 has half, seen live", func(res engine.Result) bool {
				learnt = learnt || res.Loaded != nil && !bytes.Equal(res.Loaded.Evidence, blank)
				return res.State.Confirmed == 5000
			})
			if learnt == fails {
				t.Errorf("learnt: %v", learnt)
			}
			if len(a.asked) != 1 || a.asked[0] != v1 {
				t.Errorf("asked for %v, want v1 once", a.asked)
			}
			restart() // with traffic on the canary nothing may be forgotten
			r.until(time.Minute, "it looks again", func(res engine.Result) bool { return res.Sampled != nil })
			if len(a.asked) != 1 {
				t.Errorf("asked again after a restart: %v", a.asked)
			}
		})
	}
}
