package httpapi

import (
	"testing"

	"github.com/serin-dev/serin/internal/rollout"
)

func TestExitOf(t *testing.T) {
	for r, want := range map[rollout.Result]int{
		rollout.Promoted: 0, rollout.Reverted: 0, rollout.Undone: 0,
		rollout.RolledBack: 2, rollout.Aborted: 2, rollout.Withdrawn: 2, rollout.Abandoned: 2,
		rollout.Superseded: 1,
	} {
		if got := ExitOf(r); got != want {
			t.Errorf("%s: %d, want %d", r, got, want)
		}
	}
	well := BuildView(Pass{State: atRest(rollout.Withdrawn, false)})
	if well.Exit != ExitPromoted || ExitAtEnd(well) != ExitRolledBack {
		t.Errorf("after a withdrawn canary things stand well (%d), and whoever followed it is told that it went back (%d)", well.Exit, ExitAtEnd(well))
	}
	undone := rollout.State{
		Phase: rollout.Idle, Stable: rollout.Object{Revision: v1}, Marks: []rollout.Mark{{Revision: v2, Kind: rollout.Condemned}},
		History: []rollout.Outcome{{Revision: v1, From: v2, Result: rollout.Undone}},
	}
	if v := BuildView(Pass{State: undone}); ExitAtEnd(v) != ExitRolledBack {
		t.Errorf("an undo ends with what was asked for condemned: %d", ExitAtEnd(v))
	}
}
