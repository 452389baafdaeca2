package httpapi

import (
	"fmt"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
)

// Offer is a command that would do something now, and what it would do. Who
// looks may not be allowed to send it: see [Authorizer].
type Offer struct {
	Verb   rollout.Verb `json:"verb"`
	Full   bool         `json:"full,omitempty"` // promote: all the way
	Effect string       `json:"effect"`         // one or two sentences: what happens, what is promised
}

// OffersOf lists what a person can do about a view, what protects users last
// but always there. It is pure; the policy itself has the last word.
func OffersOf(v RolloutView) []Offer {
	var out []Offer
	add := func(verb rollout.Verb, full bool, format string, args ...any) {
		out = append(out, Offer{Verb: verb, Full: full, Effect: fmt.Sprintf(format, args...)})
	}
	if v.Stable == nil {
		return nil // adopt needs a name: the terminal's business
	}
	stable := v.Stable.Version
	if v.Canary == nil || v.Phase == rollout.Idle {
		if back := lastTakenBack(v); back != "" && v.Exit == ExitRolledBack { // else nobody asks for it any more
			add(rollout.VerbRetry, false, "%s is released again, from the first step, and judged from zero.", back)
		}
		if v.Drift != nil && v.Drift.Foreign {
			add(rollout.VerbResume, false, "All traffic goes to %s again.", stable)
		}
		if v.Previous != "" && v.Previous != stable {
			add(rollout.VerbUndo, false, "Back to %s: its replicas are started first, then it gets all traffic in one switch. %s gets none again unless somebody says retry.", v.Previous, stable)
		}
		return out
	}
	canary := v.Canary.Version
	if v.Phase == rollout.RollingBack {
		return nil // on its way, and nothing may hold it up
	}
	if v.Waiting == rollout.WaitApproval {
		add(rollout.VerbApprove, false, "Step %d is approved for %s. %s", v.Step, canary, after(v, canary))
	}
	if v.Paused != "" {
		add(rollout.VerbResume, false, "%s goes on from %s.", canary, v.WeightSet)
	}
	if v.Waiting != rollout.WaitApproval && v.Paused == "" && (v.Phase == rollout.Progressing || v.Phase == rollout.Promoting) {
		add(rollout.VerbPromote, false, "Step %d ends now, without waiting for the rest of its evidence. %s", v.Step, after(v, canary))
	}
	if v.Phase == rollout.Preparing || v.Phase == rollout.Progressing {
		also := ""
		if v.Verdict == analysis.Fail {
			also = " The judge says that it is worse: that is refused without --override, which only the terminal has."
		}
		add(rollout.VerbPromote, true, "%s gets all traffic as soon as its replicas can carry it; the steps between are left out. It is watched at 100 %% as any other.%s", canary, also)
	}
	if v.Paused == "" {
		add(rollout.VerbPause, false, "%s stays at %s until somebody resumes. Should it fail, it is taken back all the same.", canary, v.WeightSet)
	}
	add(rollout.VerbAbort, false, "%s gets all traffic back, at once. %s is condemned: it gets none again unless somebody says retry.", stable, canary)
	return out
}

// after says what comes when the step in force ends.
func after(v RolloutView, canary string) string {
	for i, s := range v.StepsList {
		if s.State != "ahead" || i == 0 {
			continue
		}
		switch s.Kind {
		case rollout.StepWeight:
			return fmt.Sprintf("Next, %s gets %s.", canary, s.Weight)
		default:
			return "Next: " + s.Text + "."
		}
	}
	return fmt.Sprintf("Next, %s is watched at 100 %% before %s is retired.", canary, v.Stable.Version)
}

// lastTakenBack is the condemned version of the last release that ended badly.
func lastTakenBack(v RolloutView) string {
	for i := len(v.History) - 1; i >= 0; i-- {
		o := v.History[i]
		if o.Result == rollout.Abandoned {
			continue
		}
		for _, r := range v.Condemned {
			if r == standing.Left(o) {
				return r.Label()
			}
		}
		break
	}
	return ""
}

// worst is how many requests may have been harmed at most: had every request
// of this release fared as badly, beside stable, as the upper end of the error
// rate's band says. Nil where there is no such band.
func worst(v RolloutView) *float64 {
	for _, f := range v.Figures {
		if f.Unit == "share" && f.CanaryN > 0 && f.StableN > 0 {
			w := max(v.Harmed, v.Exposed*max(0, f.High))
			return &w
		}
	}
	return nil
}
