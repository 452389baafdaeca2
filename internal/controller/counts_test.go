package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// What was counted is known until two looks are missing, however far apart they
// come: from Prometheus that is a scrape, and a version must not be called gone
// for want of figures between two of them.
func TestCountsAreFreshForTwoLooks(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 15 * time.Second, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := newCounts()
			n := 0.0
			look := func() {
				n += 10
				c.add(engine.Result{
					At: time.Now(), Before: rollout.State{Stable: rollout.Object{Revision: "v1@1"}},
					Sampled: &engine.Sampled{Stable: []analysis.Pod{{Name: "a", Has: analysis.HasRequests, Requests: n}}},
				})
			}
			look()
			time.Sleep(every)
			look()
			time.Sleep(every + every/2)
			if m, ok := c.measured(t.Context()); !ok || m.Requests["v1@1"] != 10 {
				t.Errorf("every %v: half a look late: %v, %v", every, m.Requests, ok)
			}
			time.Sleep(max(5*time.Second, every))
			if _, ok := c.measured(t.Context()); ok {
				t.Errorf("every %v: known although two looks are missing", every)
			}
		})
	}
}
