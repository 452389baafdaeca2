package httpapi

import (
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Summary is a rollout's line in a list. It holds no time that passes, so that
// a line that says nothing new is not sent again.
type Summary struct {
	Name      string          `json:"name"`
	Namespace string          `json:"namespace,omitempty"`
	Phase     rollout.Phase   `json:"phase"`
	Step      int             `json:"step"`
	Steps     int             `json:"steps"`
	Stable    string          `json:"stable,omitempty"` // version labels
	Canary    string          `json:"canary,omitempty"`
	Set       rollout.Weight  `json:"set"`            // canary's, decided; 1/10000
	Seen      *float64        `json:"seen,omitempty"` // 0..1, to a hundredth
	Verdict   string          `json:"verdict"`        // that of a release under way; "" at rest
	Advance   float64         `json:"advance"`        // evidence, to a hundredth
	Rollback  float64         `json:"rollback"`
	Exposed   float64         `json:"exposed"` // whole requests
	Harmed    float64         `json:"harmed"`  // to a tenth
	Waiting   rollout.WaitFor `json:"waiting,omitempty"`
	Until     *time.Time      `json:"until,omitempty"`
	Since     *time.Time      `json:"since,omitempty"` // began, or at rest ended
	Last      string          `json:"last,omitempty"`  // result of the last release, at rest
	Why       string          `json:"why,omitempty"`   // one sentence, where somebody is needed or it was taken back
	Needs     []Need          `json:"needs,omitempty"`
	Spark     []int           `json:"spark,omitempty"` // the canary's weight in this release, percent, evenly in time
}

// Need is why a person may want to look at a rollout.
type Need string

const (
	NeedApproval Need = "approval" // waits for somebody to approve
	NeedPerson   Need = "person"   // stalled, or paused until a person resumes
	NeedFailing  Need = "failing"  // the judge says Fail, or it is being taken back
	NeedNoData   Need = "noData"   // on trial and nobody can say how it does
	NeedFighting Need = "fighting" // somebody else keeps writing the route
)

// SummaryOf makes the line of a view. It is pure.
func SummaryOf(v RolloutView, spark []int) Summary {
	s := Summary{
		Name: v.Name, Namespace: v.Namespace, Phase: v.Phase, Step: v.Step, Steps: v.Steps,
		Set: v.WeightSet, Waiting: v.Waiting, Until: v.Until, Needs: needs(v), Spark: spark,
		Exposed: float64(int64(v.Exposed)), Harmed: round(v.Harmed, 10),
		Advance: round(v.Evidence.Advance, 100), Rollback: round(v.Evidence.Rollback, 100),
	}
	if v.Stable != nil {
		s.Stable = v.Stable.Version
	}
	if v.Until != nil && (v.Waiting == rollout.WaitNothing) {
		s.Until = nil
	}
	if v.Phase == rollout.Idle {
		s.Advance, s.Rollback, s.Exposed, s.Harmed = 0, 0, 0, 0
		if n := len(v.History); n > 0 {
			o := v.History[n-1]
			s.Last, s.Since, s.Exposed, s.Harmed = string(o.Result), &o.Ended, float64(int64(o.Exposed)), round(o.Harmed, 10)
			s.Canary = o.Revision.Label()
			if o.Result == rollout.RolledBack || o.Result == rollout.Aborted {
				s.Why = o.Why
			}
		}
	} else {
		s.Verdict, s.Since = v.Verdict.String(), v.Started
		if v.Canary != nil {
			s.Canary = v.Canary.Version
		}
		if v.WeightSeen != nil {
			seen := round(*v.WeightSeen, 100)
			s.Seen = &seen
		}
	}
	if v.Stalled != "" {
		s.Why = v.Stalled
	}
	return s
}

func needs(v RolloutView) []Need {
	var out []Need
	trial := v.Canary != nil && (v.Phase == rollout.Progressing || v.Phase == rollout.Promoting || v.Phase == rollout.Baking)
	switch {
	case v.Waiting == rollout.WaitApproval:
		out = append(out, NeedApproval)
	case v.Phase != rollout.Idle && v.Waiting == rollout.WaitPerson, v.Stalled != "" && v.Phase != rollout.RollingBack:
		out = append(out, NeedPerson)
	}
	if v.Phase == rollout.RollingBack || trial && v.Verdict == analysis.Fail {
		out = append(out, NeedFailing)
	}
	if trial && v.Live && v.Verdict == analysis.Unavailable && !justBegan(v) {
		out = append(out, NeedNoData)
	}
	if v.Drift != nil && v.Drift.Fighting {
		out = append(out, NeedFighting)
	}
	slices.Sort(out)
	return out
}

// justBegan: what a step begins with, its first figures still on their way, is
// nobody's business yet.
func justBegan(v RolloutView) bool {
	for _, d := range slices.Backward(v.Decisions) {
		switch d.What {
		case rollout.EvStepStarted, rollout.EvBakeStarted, rollout.EvApprovalRequested:
			return v.Time.Sub(d.At) < 10*time.Second
		}
	}
	return false
}

func round(x float64, parts float64) float64 {
	if x < 0 {
		return 0
	}
	return float64(int64(x*parts+0.5)) / parts
}
