package embedded

import (
	"testing"

	"github.com/serin-dev/serin/internal/rollout"
)

// What the documents say is said again whenever a process changes: that must
// not cost the gateway a table.
func TestSayingTheSameAgainSwapsNothing(t *testing.T) {
	gw := newGateway(t)
	r := NewBoard(gw).Router("my-app")
	names := map[rollout.Revision]string{v1: "my-app-v1"}
	weights := map[rollout.Revision]rollout.Weight{v1: rollout.Whole}
	set(t, r.SetRoute(whole(), names), r.Declare(weights))
	before := gw.swaps
	set(t, r.SetRoute(whole(), names), r.Declare(weights))
	if gw.swaps != before {
		t.Errorf("%d more tables, want none", gw.swaps-before)
	}
	set(t, r.Declare(map[rollout.Revision]rollout.Weight{v1: 9000, v2: 1000}))
	if gw.swaps != before+1 {
		t.Errorf("%d more tables after a change, want one", gw.swaps-before)
	}
}
