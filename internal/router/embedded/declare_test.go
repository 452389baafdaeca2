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

// A route that takes another one's place does so in one table, or not at all.
func TestARouteInsteadOfAnother(t *testing.T) {
	gw := newGateway(t)
	b := NewBoard(gw)
	one, two := b.Router("one"), b.Router("two")
	names := map[rollout.Revision]string{v1: "my-app-v1"}
	weights := map[rollout.Revision]rollout.Weight{v1: rollout.Whole}
	set(t, one.Declare(weights), one.SetRoute(whole(), names), two.Declare(weights))
	if err := two.SetRoute(whole(), names); err == nil {
		t.Error("two routes have one host")
	}
	bad := whole()
	bad.Rules = append(bad.Rules, Rule{Name: "no shares"})
	if err := two.SetRoute(bad, names, one); err == nil {
		t.Error("a rule without shares was taken")
	}
	if one.Service() == "" || two.Service() != "" {
		t.Errorf("what was refused has changed something: %q, %q", one.Service(), two.Service())
	}
	before := gw.swaps
	set(t, two.SetRoute(whole(), names, one), two.SetRoute(whole(), names, one))
	if one.Service() != "" || two.Service() == "" || gw.swaps != before+1 {
		t.Errorf("%q, %q, after %d tables", one.Service(), two.Service(), gw.swaps-before)
	}
}
