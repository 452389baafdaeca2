package cli

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/sim/trial"
)

func TestInSeconds(t *testing.T) {
	type inner struct {
		Took time.Duration `json:"took"`
	}
	type outer struct {
		inner
		Bound  time.Duration            `json:"bound"`
		Never  time.Duration            `json:"never"`
		None   time.Duration            `json:"none,omitempty"`
		WaitS  time.Duration            `json:"waitSeconds"`
		Hidden time.Duration            `json:"-"`
		At     time.Time                `json:"at"`
		Word   analysis.Verdict         `json:"word"`
		More   []inner                  `json:"more"`
		Nil    []inner                  `json:"nil"`
		One    *inner                   `json:"one,omitempty"`
		By     map[string]time.Duration `json:"by"`
		N      int
	}
	v := outer{
		inner: inner{1500 * time.Millisecond}, Bound: 90 * time.Second, Never: math.MaxInt64, WaitS: time.Second, Hidden: 1,
		At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Word: analysis.Pass, More: []inner{{time.Minute}}, By: map[string]time.Duration{"a": time.Second}, N: 3,
	}
	b, err := json.Marshal(inSeconds(v))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"tookSeconds":1.5,"boundSeconds":90,"neverSeconds":null,"waitSeconds":1,"at":"2026-01-01T00:00:00Z","word":"Pass","more":[{"tookSeconds":60}],"nil":null,"by":{"a":1},"N":3}`
	if string(b) != want {
		t.Errorf("%s\nwant\n%s", b, want)
	}
}

// No duration is left in what simulate prints, and nothing else is lost.
func TestReportInSeconds(t *testing.T) {
	r := trial.Report{Source: "x", Horizon: time.Hour, Power: []trial.StepPower{{Advance: time.Minute}}, Policies: []trial.Answer{{Name: "Serin", Wrong: []trial.WrongCase{{Bound: time.Minute}}}}}
	keys := func(v any) map[string]bool {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, m := range regexp.MustCompile(`"(\w+)":`).FindAllSubmatch(b, -1) {
			out[string(m[1])] = true
		}
		if nanos := regexp.MustCompile(`[1-9]0{9,}`).Find(b); nanos != nil {
			t.Errorf("%s looks like nanoseconds: %s", nanos, b)
		}
		return out
	}
	b, _ := json.Marshal(r)
	var before map[string]any
	if err := json.Unmarshal(b, &before); err != nil {
		t.Fatal(err)
	}
	after := keys(inSeconds(r))
	for k := range before {
		if !after[k] && !after[k+"Seconds"] {
			t.Errorf("%s is lost", k)
		}
	}
	if !after["horizonSeconds"] || !after["boundSeconds"] || !after["advanceSeconds"] {
		t.Errorf("%v", after)
	}
}

// But for lengths of time, a view is printed as the API gives it.
func TestViewsInSeconds(t *testing.T) {
	for name, v := range views() {
		v.Figures, v.Decisions = slices.Clone(v.Figures), slices.Clone(v.Decisions)
		for i := range v.Figures {
			v.Figures[i].Window = 0
		}
		for i := range v.Decisions {
			v.Decisions[i].Figures = nil
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(inSeconds(v))
		if err != nil {
			t.Fatal(err)
		}
		if g := regexp.MustCompile(`"windowSeconds":0`).ReplaceAllString(string(got), `"window":0`); g != string(want) {
			t.Errorf("%s: (-API +printed)\n%s", name, cmp.Diff(string(want), g))
		}
	}
}
