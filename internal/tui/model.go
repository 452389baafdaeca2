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
	first  time.Time
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
		t.points, t.first = map[string][]point{}, v.Time
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

// Before puts what the host remembers of this canary in front of what was seen.
func (t *Trail) Before(v httpapi.RolloutView, s httpapi.Series) {
	if v.Canary == nil || v.Canary.Revision != t.of || v.Started == nil {
		return
	}
	from, to := float64(v.Started.UnixMilli())/1000, float64(t.first.UnixMilli())/1000
	for _, m := range s.Metrics {
		var old []point
		for i, at := range s.T {
			if at < from || at >= to || i >= len(m.Canary) || i >= len(m.Stable) {
				continue
			}
			old = append(old, point{float64(m.Canary[i]), float64(m.Stable[i])})
		}
		all := append(old, t.points[m.Metric]...)
		t.points[m.Metric] = all[max(0, len(all)-trailLength):]
	}
}

// noData: a figure of requests without requests says nothing either.
func noData(f analysis.Figure) bool {
	return f.State == "noData" || (f.Unit == "share" || f.Unit == "ms") && f.CanaryN == 0
}

// Action is an offer with the key that takes it up.
type Action struct {
	Key string
	httpapi.Offer
	About rollout.Revision // that its author means
	full  *httpapi.Offer   // promote: the same all the way, if that is offered
}

// keyOf gives a command its key.
var keyOf = map[rollout.Verb]string{
	rollout.VerbApprove: "y", rollout.VerbResume: "r", rollout.VerbPause: "p", rollout.VerbPromote: "P",
	rollout.VerbAbort: "a", rollout.VerbRetry: "t", rollout.VerbUndo: "u",
}

// Actions are the keys that do something as things stand, most wanted first.
func Actions(v httpapi.RolloutView) []Action {
	var out []Action
	for _, o := range httpapi.OffersOf(v) {
		a := Action{Key: keyOf[o.Verb], Offer: o}
		switch {
		case a.Key == "":
			continue
		case o.Verb == rollout.VerbUndo && v.Stable != nil:
			a.About = v.Stable.Revision
		case o.Verb != rollout.VerbRetry && v.Canary != nil:
			a.About = v.Canary.Revision
		}
		if n := len(out); n > 0 && out[n-1].Verb == o.Verb { // promote, and promote in full
			out[n-1].full = &o
			continue
		}
		out = append(out, a)
	}
	return out
}

// other turns a promotion of one step into one all the way, and back.
func (a Action) other() Action {
	if a.full != nil {
		step := a.Offer
		a.Offer, a.full = *a.full, &step
	}
	return a
}
