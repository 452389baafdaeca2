package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// told is a release of two steps that is taken back, as its decisions tell it.
func told() []rollout.Event {
	fs := func(canary float64, state string) []analysis.Figure {
		return []analysis.Figure{{Metric: "errorRate", Unit: "share", Canary: canary, CanaryN: 100, Stable: 0.01, StableN: 900, Low: -0.01, High: 0.5, Limit: 0.06, State: state}}
	}
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	return []rollout.Event{
		{N: 1, At: at(0), What: rollout.EvAdopted, To: "v1"},
		{N: 2, At: at(10), What: rollout.EvRolloutStarted, To: "v2"},
		{N: 3, At: at(11), What: rollout.EvStepStarted, From: "0 %", To: "12.5 %", Why: "2 of 1 needed replicas are ready."},
		{N: 4, At: at(60), What: rollout.EvScaleAsked, From: "12.5 %", To: "50 %", Figures: fs(0.01, "ok")},
		{N: 5, At: at(60), What: rollout.EvStepStarted, From: "12.5 %", To: "50 %"},
		{N: 6, At: at(90), What: rollout.EvRolledBack, From: "50 %", To: "0 %", Figures: fs(0.4, "firing")},
		{N: 7, At: at(92), What: rollout.EvTrafficBack, From: "50 %", To: "0 %"},
	}
}

var nearly = cmpopts.EquateApprox(0, 0.01)

// Where nothing else was kept, the decisions tell how it went: the weight
// between them, and the figures that they rest on, as single instants.
func TestDecisionsTellHowItWent(t *testing.T) {
	vs, ref := NewViews(t0), Ref{Name: "app"}
	v := atRestAt(2 * time.Hour)
	v.Decisions = told()
	vs.Publish(v)
	s, err := vs.Series(t.Context(), ref, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	since := make([]float64, len(s.T))
	for i := range s.T {
		since[i] = s.T[i] - float64(t0.Unix())
	}
	if d := cmp.Diff([]float64{10, 11, 60, 60, 60, 90, 90, 92}, since, nearly); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Column{0, 0.125, 0.125, 0.125, 0.5, 0, 0, 0}, s.Set); d != "" {
		t.Error(d)
	}
	b, err := s.Metrics[0].Canary.MarshalJSON()
	if want := "[null,null,0.01,null,null,0.4,null,null]"; string(b) != want || err != nil {
		t.Errorf("the canary's error rate is %s, %v; want %s", b, err, want)
	}
	if s.Metrics[0].State != "--o--f--" || s.Verdict != "--------" || s.Sparse <= s.T[7] {
		t.Errorf("states %s, verdicts %s, sparse until %v", s.Metrics[0].State, s.Verdict, s.Sparse)
	}

	// What was seen is not told again, and what came before it is.
	for at := 80 * time.Second; at < 85*time.Second; at += time.Second {
		seen := onTrial(at, 5000)
		seen.Name, seen.Decisions = "late", told()
		vs.Publish(seen)
	}
	s, err = vs.Series(t.Context(), Ref{Name: "late"}, time.Time{})
	if err != nil || len(s.T) != 10 || s.Sparse != float64(t0.Unix()+80) {
		t.Errorf("%d instants, sparse before %v, %v; want the 5 of the decisions before it was seen and 5 that were", len(s.T), s.Sparse, err)
	}
	for i := 1; i < len(s.T); i++ {
		if s.T[i] <= s.T[i-1] {
			t.Errorf("instants out of order: %v", s.T)
		}
	}
	if s, err := vs.Series(t.Context(), Ref{Name: "late"}, t0.Add(82*time.Second)); err != nil || len(s.T) != 3 || s.Sparse != 0 {
		t.Errorf("since an instant: %d, sparse %v, %v", len(s.T), s.Sparse, err)
	}
}

// A file of a host that keeps no history has its decisions' charts.
func TestExportWithoutHistory(t *testing.T) {
	v := atRestAt(2 * time.Hour)
	v.Decisions = told()
	page, err := Export(v, Series{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if want := `"set":[0,0.125,0.125,0.125,0.5,0,0,0]`; !strings.Contains(string(page), want) {
		t.Errorf("%s is not in the file", want)
	}
}
