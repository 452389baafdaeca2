package tui

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/golden"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

var sizes = [][2]int{{80, 24}, {120, 40}}

// The frames as people see them, on the two sizes that terminals have.
func TestFrames(t *testing.T) {
	for name, s := range situations() {
		for _, size := range sizes {
			id := fmt.Sprintf("%s-%dx%d", name, size[0], size[1])
			t.Run(id, func(t *testing.T) {
				m := s.model()
				got := Frame(m, size[0], size[1])
				check(t, got, size[0], size[1])
				golden.Same(t, "testdata/"+id+".golden", got+"\n")
				m.Color = true
				var plain []string
				for l := range strings.SplitSeq(ansi.Strip(Frame(m, size[0], size[1])), "\n") {
					plain = append(plain, strings.TrimRight(l, " "))
				}
				if d := cmp.Diff(strings.Split(got, "\n"), plain); d != "" {
					t.Errorf("with colours it says something else (-without +with):\n%s", d)
				}
			})
		}
	}
}

// check holds what is promised of every frame.
func check(t interface{ Errorf(string, ...any) }, frame string, w, h int) {
	lines := strings.Split(frame, "\n")
	if len(lines) != h {
		t.Errorf("%d lines, want %d", len(lines), h)
	}
	for i, l := range lines {
		if n := ansi.StringWidth(l); n > w {
			t.Errorf("line %d has %d cells of %d: %q", i+1, n, w, l)
		}
		for _, r := range l {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("line %d holds %q: %q", i+1, r, l)
			}
		}
	}
}

// No size and no text from elsewhere makes a frame that does not fit, moves the
// cursor, or fails.
func TestFramesFitWhateverComes(t *testing.T) {
	names := []string{}
	all := situations()
	for n := range all {
		names = append(names, n)
	}
	odd := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[2J\x1b[1;1Hgone", "a\nb\r\nc", "\u009b31m", "👩‍👩‍👧‍👦", "e\u0301\u0301", "\u202eevil", "\xff\xfe", strings.Repeat("長い", 300), "<script>", ""}))
	rapid.Check(t, func(t *rapid.T) {
		m := all[rapid.SampledFrom(sorted(names)).Draw(t, "situation")].model()
		w, h := rapid.IntRange(1, 200).Draw(t, "width"), rapid.IntRange(1, 70).Draw(t, "height")
		m.Page = Page(rapid.IntRange(0, 4).Draw(t, "page"))
		m.Top = rapid.IntRange(0, 100).Draw(t, "top")
		m.Typed, m.Said = odd.Draw(t, "typed"), odd.Draw(t, "said")
		if v := m.View; v != nil {
			v.Name, v.Message, v.Sentence, v.Stalled, v.Paused = odd.Draw(t, "name"), odd.Draw(t, "message"), odd.Draw(t, "sentence"), odd.Draw(t, "stalled"), odd.Draw(t, "paused")
			if v.Canary != nil {
				v.Canary.Version, v.Canary.Why = odd.Draw(t, "version"), odd.Draw(t, "why")
			}
			for i := range v.Figures {
				f := &v.Figures[i]
				f.Metric, f.Canary, f.Low = odd.Draw(t, "metric"), rapid.Float64().Draw(t, "canary"), rapid.Float64().Draw(t, "low")
			}
			for i := range v.Decisions {
				v.Decisions[i].Why = odd.Draw(t, "decision")
			}
			for i := range v.StepsList {
				v.StepsList[i].Text = odd.Draw(t, "step")
			}
		}
		check(t, Frame(m, w, h), w, h)
	})
}

func sorted(s []string) []string {
	out := append([]string{}, s...)
	for i := range out {
		for j := i; j > 0 && out[j] < out[j-1]; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

// What matters most is on the smallest screen that terminals have by default.
func TestNothingThatMattersScrollsOff(t *testing.T) {
	for name, want := range map[string][]string{
		"good":       {"checkout", "step 2 of 5", "25 % set", "24.8", "UNDECIDED", "71 %", "errorRate", "latency", "exposed", "harmed", "3m29s left", "#4 StepStarted", "pause", "abort"},
		"bad":        {"FAIL", "✖ broken", "360 harmed", "#5 RolledBack"},
		"no-data":    {"NO DATA", "░ no data"},
		"approval":   {"alice or bob", "y approve", "PASS"},
		"drift":      {"A PERSON IS NEEDED", "argocd-controller", "r resume", "DriftObeyed"},
		"taken-back": {"rolled back", "t retry"},
		"preparing":  {"0/3 ready", "no such file", "ConfigMap"},
		"long-names": {"✖ worse"},
		"unknown":    {"which one is stable"},
		"asking":     {"why?", "enter sends it", "Ｆｉｒｅｆｏｘ"},
	} {
		frame := Frame(situations()[name].model(), 80, 24)
		for _, w := range want {
			if !strings.Contains(frame, w) {
				t.Errorf("%s: %q is not on the screen:\n%s", name, w, frame)
			}
		}
	}
}

// No data never looks like something good.
func TestNoDataIsNotGood(t *testing.T) {
	m := situations()["no-data"].model()
	for _, page := range []Page{Main, Evidence} {
		m.Page = page
		if frame := Frame(m, 120, 40); strings.Contains(frame, "✔ ok") || strings.Contains(frame, "●") {
			t.Errorf("page %d shows a mark or a needle without data:\n%s", page, frame)
		}
	}
}

func TestTrail(t *testing.T) {
	var tr Trail
	v := *situations()["good"].model().View
	for i := range 500 {
		v.Time = at(i / 2) // two looks a second
		tr.Add(v)
	}
	if n := len(tr.points["errorRate"]); n != trailLength {
		t.Errorf("%d points, want %d", n, trailLength)
	}
	v.Canary.Revision, v.Time = "v9@1", at(1000)
	v.Figures = []analysis.Figure{{Metric: "errorRate", Unit: "share", State: "ok"}}
	tr.Add(v)
	if n := len(tr.points["errorRate"]); n != 1 || len(tr.points) != 1 {
		t.Errorf("another canary goes on with the trail of the one before: %d points of %d metrics", n, len(tr.points))
	}
	if tr.points["errorRate"][0].canary == 0 {
		t.Error("no request counts as no failure")
	}
}

// What the host remembers comes before what was seen, of this canary only.
func TestTrailBefore(t *testing.T) {
	v := *situations()["good"].model().View
	var tr Trail
	tr.Add(v)
	began := float64(v.Started.Unix())
	past := httpapi.Series{
		T:       []float64{began - 10, began + 10, began + 20, float64(v.Time.Unix()) + 5},
		Metrics: []httpapi.MetricSeries{{Metric: "errorRate", Canary: httpapi.Column{9, 0.1, float32(math.NaN()), 9}, Stable: httpapi.Column{9, 0.2, 0.2, 9}}},
	}
	tr.Before(v, past)
	p := tr.points["errorRate"]
	if len(p) != 3 || math.Abs(p[0].canary-0.1) > 1e-6 || !math.IsNaN(p[1].canary) || p[2].canary != v.Figures[0].Canary {
		t.Errorf("%v", p)
	}
	other := *v.Canary
	other.Revision = "v9@1"
	v.Canary = &other
	tr.Before(v, past)
	if len(tr.points["errorRate"]) != 3 {
		t.Error("another canary's past was put in front")
	}
}

// Every key offers what the read model offers, and nothing else.
func TestActionsAreOffers(t *testing.T) {
	for name, s := range situations() {
		v := s.model().View
		if v == nil {
			continue
		}
		have := map[rollout.Verb]bool{}
		for _, a := range Actions(*v) {
			if have[a.Verb] || a.Key == "" {
				t.Errorf("%s: %s is offered twice or without a key", name, a.Verb)
			}
			have[a.Verb] = true
			if other := a.other(); a.full != nil && (other.Full == a.Full || other.other().Full != a.Full) {
				t.Errorf("%s: tab does not turn %s over and back", name, a.Verb)
			}
		}
		for _, o := range httpapi.OffersOf(*v) {
			if !have[o.Verb] {
				t.Errorf("%s: no key for %s", name, o.Verb)
			}
		}
	}
}
