package engine

import (
	"reflect"
	"slices"

	"github.com/serin-dev/serin/internal/rollout"
)

// lowersExposure says whether the decision's split takes weight from versions
// other than stable and gives none of them more. Compared is with what is in
// force; where that is not known, with what was decided before.
func lowersExposure(d rollout.Decision, before rollout.State, seen rollout.Route) bool {
	if d.Traffic == nil {
		return false
	}
	now := map[rollout.Revision]rollout.Weight{before.Canary.Revision: before.Granted}
	if seen.Known == rollout.Present {
		now = seen.Weights
	}
	want := d.Traffic.Weights()
	lower := d.Lowers
	for r, w := range want {
		if r != d.Traffic.Stable && w > now[r] {
			return false
		}
	}
	for r, w := range now {
		if r != d.Traffic.Stable && want[r] < w {
			lower = true
		}
	}
	return lower
}

// inForce says whether the route holds the split already, so that writing it
// would change nothing. The route does not show matches and kept subsets: that
// they are as wanted is known only from having asked for the very same.
func inForce(want rollout.Traffic, asked *rollout.Traffic, seen rollout.Route) bool {
	if seen.Known != rollout.Present || seen.Note == nil || asked == nil {
		return false
	}
	return reflect.DeepEqual(want, *asked) && sameNote(*seen.Note, want.Note()) && sameWeights(seen.Weights, want.Weights())
}

func sameNote(a, b rollout.Note) bool {
	return a.N == b.N && a.Stable == b.Stable && a.Canary == b.Canary && a.Weight == b.Weight && slices.Equal(a.Condemned, b.Condemned)
}

// sameWeights compares splits; a version without an entry has 0.
func sameWeights(a, b map[rollout.Revision]rollout.Weight) bool {
	for r, w := range a {
		if b[r] != w {
			return false
		}
	}
	for r, w := range b {
		if a[r] != w {
			return false
		}
	}
	return true
}

func find(all rollout.Workloads, s rollout.Scale) *rollout.Workload {
	for i := range all.Items {
		w := &all.Items[i]
		if w.Revision == s.Revision && (s.Name == "" || w.Name == s.Name) {
			return w
		}
	}
	return nil
}

// carried says whether a version is already as asked.
func carried(s rollout.Scale, w *rollout.Workload, known rollout.Known) bool {
	if known == rollout.Unknown {
		return false
	}
	if w == nil {
		return s.Zero || s.Delete // gone; nothing is left to be taken
	}
	marked := s.Mark == "" ||
		s.Mark == rollout.Condemned && w.Condemned ||
		s.Mark == rollout.Retired && w.Retired
	switch {
	case s.Delete:
		return w.Deleting
	case s.Zero:
		return marked && w.Replicas == 0
	}
	scaled := w.Replicas >= s.Min
	held := s.HPA == "" || w.HPA != nil && w.HPA.Name == s.HPA && w.HPA.Min == s.HPAMin
	return marked && scaled && held
}
