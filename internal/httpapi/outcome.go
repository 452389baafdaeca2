package httpapi

import "github.com/serin-dev/serin/internal/rollout"

// ExitOf is what a verb that followed a rollout to its end exits with: 0 where
// the version that it was about has everything, 2 where its traffic was taken
// back, for whichever reason: by the judge, by a person, because its object was
// deleted, or because what was to be gone back to never got ready. 1 where
// another version took its place.
//
// It says how an attempt ended. RolloutView.Exit says how things stand, which
// after a withdrawn canary is well: nothing is asked for that is not so.
func ExitOf(r rollout.Result) int {
	switch r {
	case rollout.Promoted, rollout.Reverted, rollout.Undone:
		return ExitPromoted
	case rollout.RolledBack, rollout.Aborted, rollout.Withdrawn, rollout.Abandoned:
		return ExitRolledBack
	}
	return ExitError
}

// ExitAtEnd is what following ends with: how things stand, and where that is
// well, how the newest rollout ended.
func ExitAtEnd(v RolloutView) int {
	if n := len(v.History); v.Exit == ExitPromoted && n > 0 {
		return ExitOf(v.History[n-1].Result)
	}
	return v.Exit
}
