package tui

import (
	"math"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Page is what fills the screen.
type Page int

const (
	Main Page = iota
	Evidence
	Replicas
	Logs
	Help
)

// Model is all that a frame depends on. The zero value waits for a first view.
type Model struct {
	View  *httpapi.RolloutView // nil: none yet
	Trail Trail
	Now   time.Time
	Page  Page
	Top   int      // first line that a page shows, where it has more than fit
	Asked *Action  // whose reason is being typed
	Typed string   // so far
	Said  string   // what became of the last command
	Bad   bool     // and that was a refusal
	Busy  bool     // a command is on its way
	Lines []string // of logs, oldest first
	Color bool
}

// trailLength is more than a sparkline is ever wide.
const trailLength = 240

// Trail is what was seen of each metric since the screen was opened.
type Trail struct {
	of     rollout.Revision
	last   time.Time
	points map[string][]point
}

type point struct{ canary, stable float64 } // NaN where there was no data

// Add takes a view's figures, at most one a second. Another canary starts anew.
func (t *Trail) Add(v httpapi.RolloutView) {
	if v.Canary == nil {
		return
	}
	if v.Canary.Revision != t.of {
		*t = Trail{of: v.Canary.Revision}
	}
	if v.Time.Sub(t.last) < time.Second {
		return
	}
	t.last = v.Time
	if t.points == nil {
		t.points = map[string][]point{}
	}
	for _, f := range v.Figures {
		p := point{f.Canary, f.Stable}
		if noData(f) {
			p = point{math.NaN(), math.NaN()}
		}
		s := append(t.points[f.Metric], p)
		if len(s) > trailLength {
			s = slices.Clone(s[len(s)-trailLength:])
		}
		t.points[f.Metric] = s
	}
}

// noData: a figure of requests without requests says nothing either.
func noData(f analysis.Figure) bool {
	return f.State == "noData" || (f.Unit == "share" || f.Unit == "ms") && f.CanaryN == 0
}

// Action is what a key asks for, with what it does in words.
type Action struct {
	Key    string
	Verb   rollout.Verb
	Full   bool
	Effect string // before it is done: what will follow
	About  rollout.Revision
}

// Actions are the keys that do something as things stand, most wanted first.
func Actions(v httpapi.RolloutView) []Action {
	var out []Action
	canary, stable := label(v.Canary), label(v.Stable)
	of := func(x *httpapi.VersionView) rollout.Revision {
		if x == nil {
			return ""
		}
		return x.Revision
	}
	under := httpapi.UnderWay(v)
	leaving := v.Phase == rollout.RollingBack
	if under && !leaving && v.Waiting == rollout.WaitApproval {
		out = append(out, Action{Key: "y", Verb: rollout.VerbApprove, Effect: "lets " + canary + " go on past this step", About: of(v.Canary)})
	}
	switch {
	case v.Paused != "" || v.Stalled != "" && !under:
		out = append(out, Action{Key: "r", Verb: rollout.VerbResume, Effect: "goes on from here", About: of(v.Canary)})
	case under && !leaving:
		out = append(out, Action{Key: "p", Verb: rollout.VerbPause, Effect: "raises nothing until resume; a failure is still taken back"})
	}
	if under && !leaving {
		out = append(out,
			Action{Key: "P", Verb: rollout.VerbPromote, Effect: "ends this step now; " + canary + " gets the next one's share", About: of(v.Canary)},
			Action{Key: "a", Verb: rollout.VerbAbort, Effect: "takes " + canary + "'s " + v.WeightSet.String() + " back to " + stable + "; it gets none again without retry", About: of(v.Canary)})
	}
	if !under && v.Exit == httpapi.ExitRolledBack {
		out = append(out, Action{Key: "t", Verb: rollout.VerbRetry, Effect: "tries the version that was taken back once more"})
	}
	if !under && v.Previous != "" {
		out = append(out, Action{Key: "u", Verb: rollout.VerbUndo, Effect: "goes back to " + v.Previous + ", and condemns " + stable, About: of(v.Stable)})
	}
	return out
}

func label(v *httpapi.VersionView) string {
	if v == nil {
		return "-"
	}
	return v.Version
}
