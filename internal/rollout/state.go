package rollout

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// clone copies what a pass may change in place. The rings (decisions, history,
// taken, said, tests, flips) are never written into, only replaced: see
// appendRing. That they are the same array is also what makes comparing a state
// that did not change cheap.
func (s State) clone() State {
	s.Plan = cloneSteps(s.Plan)
	s.Pauses = slices.Clone(s.Pauses)
	s.Approvals = slices.Clone(s.Approvals)
	s.Leaving = slices.Clone(s.Leaving)
	s.Retiring = slices.Clone(s.Retiring)
	s.HPAs = slices.Clone(s.HPAs)
	s.Marks = slices.Clone(s.Marks)
	s.Declared = maps.Clone(s.Declared)
	if s.Ending != nil {
		e := *s.Ending
		s.Ending = &e
	}
	return s
}

func cloneSteps(ss []Step) []Step { return slices.Clone(ss) }

// appendRing appends and forgets the oldest beyond n. It never writes into the
// given array.
func appendRing[T any](s []T, v T, n int) []T {
	s = append(s[:len(s):len(s)], v)
	if len(s) > n {
		s = slices.Clone(s[len(s)-n:])
	}
	return s
}

// personPauses are what outlives a rollout: a person paused, a person resumes.
func personPauses(ps []Pause) []Pause {
	var out []Pause
	for _, x := range ps {
		if x.Kind == PausePerson {
			out = append(out, x)
		}
	}
	return out
}

// saveFor compares what matters: clocks and sums may be lost for half a minute,
// anything else may not be acted on before it is saved.
func saveFor(was, next State) Save {
	a, b := essence(was), essence(next)
	if a.Asked.IsZero() {
		// That the route was seen to hold the split is seen again after a crash,
		// and settles anew then. That it is so no more, or anew, must be saved.
		b.Asked = time.Time{}
	}
	if !reflect.DeepEqual(a, b) {
		return SaveMust
	}
	if !reflect.DeepEqual(was, next) {
		return SaveLazy
	}
	return SaveNo
}

// essence is the state without its clocks and with empty slices alike.
func essence(s State) State {
	s.Leaving, s.Retiring = slices.Clone(s.Leaving), slices.Clone(s.Retiring)
	s.LastPass, s.NextWake = time.Time{}, time.Time{}
	s.LiveFor, s.DeadFor, s.WaitFor = 0, 0, 0
	s.Exposed, s.Harmed, s.ZeroReady, s.ZeroFor = 0, 0, 0, 0
	s.Share, s.Settled = Share{}, 0
	if s.Phase == "" {
		s.Phase = Idle
	}
	s.Schema = 0
	for _, ls := range [][]Leaving{s.Leaving, s.Retiring} {
		for i := range ls {
			ls[i].LastCount, ls[i].Waited, ls[i].Quiet, ls[i].Unread = 0, 0, 0, 0
			ls[i].Counted = time.Time{}
		}
	}
	s.Plan, s.Pauses, s.Approvals = nilIfEmpty(s.Plan), nilIfEmpty(s.Pauses), nilIfEmpty(s.Approvals)
	s.TestsRun, s.Leaving, s.Retiring = nilIfEmpty(s.TestsRun), nilIfEmpty(s.Leaving), nilIfEmpty(s.Retiring)
	s.HPAs, s.Marks, s.Drift.Flips = nilIfEmpty(s.HPAs), nilIfEmpty(s.Marks), nilIfEmpty(s.Drift.Flips)
	s.Taken, s.Said, s.Decisions = nilIfEmpty(s.Taken), nilIfEmpty(s.Said), nilIfEmpty(s.Decisions)
	s.History = nilIfEmpty(s.History)
	return s
}

func nilIfEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// Moves says whether traffic is, or is about to be, other than at rest.
func (s State) Moves() bool {
	return s.Phase != "" && s.Phase != Idle || len(s.Leaving) > 0
}

// FailedRevisions are those that get no traffic until a person says retry.
func (s State) FailedRevisions() []Revision {
	var out []Revision
	for _, m := range s.Marks {
		if m.Kind == Condemned {
			out = append(out, m.Revision)
		}
	}
	return out
}
