package httpapi

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// onTrial is what a release looks like after some seconds.
func onTrial(after time.Duration, w rollout.Weight) RolloutView {
	seen, started := float64(w)/10000, t0
	return RolloutView{
		Name: "app", Time: t0.Add(after), Phase: rollout.Progressing, Started: &started, Live: true, N: 3 + int(w)/500,
		Stable: &VersionView{Revision: v1, Version: "v1", Replicas: 3}, Canary: &VersionView{Revision: v2, Version: "v2", Replicas: 1},
		WeightSet: w, WeightSeen: &seen, Verdict: analysis.Undecided, Evidence: EvidenceView{Advance: min(1, after.Minutes()/10)},
		Exposed: after.Seconds() * 10, Sentence: "after " + after.String(), Message: "step",
		Figures:   []analysis.Figure{{Metric: "errorRate", Unit: "share", Canary: 0.01, Stable: 0.02, Low: -0.03, High: 0.04, Limit: 0.05, State: "ok", CanaryN: 10, StableN: 20}},
		Decisions: []rollout.Event{{N: 1, At: t0, What: rollout.EvRolloutStarted}, {N: 2, At: t0.Add(30 * time.Second), What: rollout.EvStepStarted}},
	}
}

func atRestAt(after time.Duration) RolloutView {
	v := onTrial(after, 0)
	v.Phase, v.Canary, v.Figures = rollout.Idle, nil, nil
	return v
}

// Seconds for some minutes, then ten seconds for a day, each instant once and
// in order; nothing while a rollout rests.
func TestHistoryIsFineThenCoarse(t *testing.T) {
	p, ref := newPast(), Ref{Name: "app"}
	p.add(ref, atRestAt(-time.Hour))
	const length = 30 * time.Minute
	for at := time.Duration(0); at < length; at += time.Second {
		p.add(ref, onTrial(at, 500))
	}
	for at := length; at < length+time.Hour; at += 5 * time.Second {
		p.add(ref, atRestAt(at))
	}
	s := p.series(ref, time.Time{}, nil)
	n := len(s.T)
	fine := 0
	for i := 1; i < n; i++ {
		step := s.T[i] - s.T[i-1]
		if step <= 0 {
			t.Fatalf("instant %d is not after the one before it", i)
		}
		if step == 1 {
			fine++
		}
	}
	if fine < fineKept-1 || fine > fineKept+fineKept/8 {
		t.Errorf("%d instants a second apart, want %d or some more", fine, fineKept)
	}
	if want := int((length - fineKept*time.Second) / coarseStep); n-fine < want-10 || n-fine > want+5 {
		t.Errorf("%d instants ten seconds apart, want about %d", n-fine, want)
	}
	if last := s.T[n-1] - float64(t0.Unix()); last != length.Seconds() {
		t.Errorf("the last instant is %v s after the beginning: want the one at which it came to rest, and none after it", last)
	}
	if s.Verdict[n-1] != '-' || s.Verdict[n-2] != 'U' || s.Set[n-1] != 0 {
		t.Errorf("it ends with %q and weight %v", s.Verdict[n-5:], s.Set[n-1])
	}
	if half := p.series(ref, t0.Add(length/2), nil); half.T[0] < float64(t0.Add(length/2).Unix()) || len(half.T) >= n {
		t.Errorf("since the half there are %d instants of %d, from %v", len(half.T), n, half.T[0])
	}
}

// However many rollouts there are and however long they take, no more is kept
// than the budget, and what is newest of each is there.
func TestHistoryIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPast()
		p.budget = rapid.IntRange(10, 400).Draw(rt, "budget")
		refs := []Ref{{Name: "a"}, {Name: "b"}, {Namespace: "n", Name: "c"}}
		now := time.Duration(0)
		for range rapid.IntRange(1, 600).Draw(rt, "looks") {
			now += time.Duration(rapid.IntRange(0, 20000).Draw(rt, "ms")) * time.Millisecond
			ref := rapid.SampledFrom(refs).Draw(rt, "of")
			v := onTrial(now, 500)
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				v = atRestAt(now)
			case 1:
				v.Figures = nil
			case 2:
				v = onTrial(now-time.Minute, 500) // a clock that was set back
			case 3:
				p.remove(ref)
				continue
			}
			p.add(ref, v)
			count := 0
			for _, tr := range p.by {
				count += len(tr.fine.points(earliest)) + len(tr.coarse.points(earliest))
			}
			if count != p.points || count > p.budget {
				rt.Fatalf("%d points are kept, %d are counted, %d may be", count, p.points, p.budget)
			}
			s := p.series(ref, time.Time{}, nil)
			for i := range s.T {
				if i > 0 && s.T[i] <= s.T[i-1] {
					rt.Fatalf("instants out of order: %v", s.T)
				}
			}
			for _, m := range s.Metrics {
				if len(m.Canary) != len(s.T) || len(m.State) != len(s.T) {
					rt.Fatalf("columns of different lengths")
				}
			}
		}
	})
}

// No data is no number, in the file as on the page.
func TestNoDataIsNoNumber(t *testing.T) {
	p, ref := newPast(), Ref{Name: "app"}
	p.add(ref, onTrial(0, 500))
	v := onTrial(2*time.Second, 500)
	v.Figures[0].State, v.Figures[0].Canary, v.WeightSeen, v.Verdict = "noData", 0, nil, analysis.Unavailable
	p.add(ref, v)
	v = onTrial(4*time.Second, 500)
	v.Figures = append(v.Figures, analysis.Figure{Metric: "custom", State: "ok", Canary: 7, Stable: 8})
	p.add(ref, v)
	b, err := json.Marshal(p.series(ref, time.Time{}, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"seen":[0.05,null,0.05]`, `"canary":[0.01,null,0.01]`, `"state":"ono"`, `"verdict":"UNU"`, `"canary":[null,null,7]`, `"limit":[null,null,null]`, `"state":"--o"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	v = onTrial(6*time.Second, 500)
	v.Figures[0].CanaryN, v.Figures[0].Canary = 0, 0 // nobody has asked it anything yet
	p.add(ref, v)
	if got, err := p.series(ref, time.Time{}, nil).Metrics[0].Canary.MarshalJSON(); err != nil || string(got) != "[0.01,null,0.01,null]" {
		t.Errorf("of no request it says %s, %v", got, err)
	}
	var back Series
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(b) {
		t.Errorf("read and written again: %s, %v", again, err)
	}
}

func TestColumnRefusesWhatIsNoNumber(t *testing.T) {
	var c Column
	if err := json.Unmarshal([]byte(`["x"]`), &c); err == nil {
		t.Error("a text was read as a number")
	}
	if b, err := json.Marshal(Column{float32(math.Inf(1)), 1}); err != nil || string(b) != "[null,1]" {
		t.Errorf("%s, %v", b, err)
	}
}

// A view of a past instant holds what was known then, and nothing later.
func TestAsItWas(t *testing.T) {
	vs := NewViews(t0)
	for at := time.Duration(0); at <= time.Minute; at += time.Second {
		vs.Publish(onTrial(at, 500+rollout.Weight(at/time.Second)*10))
	}
	ref := Ref{Name: "app"}
	v, err := vs.At(t.Context(), ref, t0.Add(20*time.Second+300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if !v.Time.Equal(t0.Add(20*time.Second)) || v.WeightSet != 700 || v.Exposed != 200 || v.Canary.Version != "v2" || len(v.Figures) != 1 || v.Figures[0].Canary < 0.0099 || v.Verdict != analysis.Undecided {
		t.Errorf("got %+v", v)
	}
	if len(v.Decisions) != 1 || v.N != 1 {
		t.Errorf("decisions %v, last %d; want the first alone", v.Decisions, v.N)
	}
	if v.Sentence == "" || v.Sentence > "after 20s" {
		t.Errorf("it says %q", v.Sentence)
	}
	if now, err := vs.At(t.Context(), ref, t0.Add(time.Hour)); err != nil || now.WeightSet != 1100 {
		t.Errorf("in the future: %v, %v", now.WeightSet, err)
	}
	if _, err := vs.At(t.Context(), ref, t0.Add(-time.Hour)); err == nil || !strings.Contains(err.Error(), "nothing is kept") {
		t.Errorf("before anything is known: %v", err)
	}
	if _, err := vs.At(t.Context(), Ref{Name: "other"}, t0); err == nil {
		t.Error("a rollout that is not there was shown")
	}
}

// A line of the list is told again only when it says something new.
func TestListIsToldWhatIsNew(t *testing.T) {
	vs := NewViews(t0)
	ctx := t.Context()
	vs.Publish(atRestAt(0))
	other := atRestAt(0)
	other.Name = "other"
	vs.Publish(other)
	lines, cursor, err := vs.Briefs(ctx, Cursor{})
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	vs.Publish(atRestAt(time.Second)) // nothing but its time
	vs.Publish(onTrial(2*time.Second, 500))
	lines, cursor, err = vs.Briefs(ctx, cursor)
	if err != nil || len(lines) != 1 || lines[0].Ref.Name != "app" {
		t.Fatalf("%v, %v; want app alone", lines, err)
	}
	var s Summary
	if err := json.Unmarshal(lines[0].Text, &s); err != nil || s.Set != 500 || s.Verdict != "Undecided" || s.Canary != "v2" {
		t.Errorf("%+v, %v", s, err)
	}
	vs.Remove(Ref{Name: "other"})
	lines, cursor, err = vs.Briefs(ctx, cursor)
	if err != nil || len(lines) != 1 || lines[0].Text != nil {
		t.Errorf("%v, %v; want that other is gone", lines, err)
	}
	if lines, _, err := vs.Briefs(ctx, Cursor{Epoch: "another", Seq: 99}); err != nil || len(lines) != 1 {
		t.Errorf("a reader of another run got %v, %v; want what there is, and nobody that is gone", lines, err)
	}
	_ = cursor
}

func TestNeeds(t *testing.T) {
	change := func(f func(*RolloutView)) RolloutView { v := onTrial(time.Minute, 500); f(&v); return v }
	for name, c := range map[string]struct {
		v    RolloutView
		want []Need
	}{
		"UnderWay":               {onTrial(0, 500), nil},
		"AtRest":                 {atRestAt(0), nil},
		"Approval":               {change(func(v *RolloutView) { v.Waiting = rollout.WaitApproval }), []Need{NeedApproval}},
		"Paused":                 {change(func(v *RolloutView) { v.Waiting = rollout.WaitPerson }), []Need{NeedPerson}},
		"Stalled":                {change(func(v *RolloutView) { v.Stalled = "why" }), []Need{NeedPerson}},
		"Failing":                {change(func(v *RolloutView) { v.Verdict = analysis.Fail }), []Need{NeedFailing}},
		"GoingBack":              {change(func(v *RolloutView) { v.Phase = rollout.RollingBack }), []Need{NeedFailing}},
		"NoData":                 {change(func(v *RolloutView) { v.Verdict = analysis.Unavailable }), []Need{NeedNoData}},
		"FirstFiguresOnTheirWay": {change(func(v *RolloutView) { v.Verdict, v.Time = analysis.Unavailable, t0.Add(35*time.Second) }), nil},
		"NotInForceYet":          {change(func(v *RolloutView) { v.Verdict, v.Live = analysis.Unavailable, false }), nil},
		"Fighting":               {change(func(v *RolloutView) { v.Drift = &DriftView{Fighting: true} }), []Need{NeedFighting}},
		"StalledFighting": {change(func(v *RolloutView) {
			v.Stalled, v.Drift = "argocd keeps writing the route", &DriftView{Fighting: true}
		}), []Need{NeedFighting, NeedPerson}},
	} {
		if d := cmp.Diff(c.want, needs(c.v)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// What is offered is what the policy would not refuse, and says what comes of it.
func TestOffersAreWhatThePolicyTakes(t *testing.T) {
	for name, c := range map[string]struct {
		st    rollout.State
		verbs []rollout.Verb
		says  string
	}{
		"FirstStep":  {progressing(0), []rollout.Verb{rollout.VerbPromote, rollout.VerbPromote, rollout.VerbPause, rollout.VerbAbort}, "v1 gets all traffic back"},
		"Approval":   {progressing(1), []rollout.Verb{rollout.VerbApprove, rollout.VerbPromote, rollout.VerbPause, rollout.VerbAbort}, "Next, v2 gets 100 %"},
		"TakenBack":  {atRest(rollout.RolledBack, true), []rollout.Verb{rollout.VerbRetry, rollout.VerbResume}, "v2 is released again"},
		"HandAtRest": {atRest(rollout.Promoted, false), []rollout.Verb{rollout.VerbResume}, "All traffic goes to v1 again"}, // the desk's route gives v2 5 %
	} {
		t.Run(name, func(t *testing.T) {
			var got []rollout.Verb
			var all strings.Builder
			h := newDesk(c.st)
			v, _ := h.Get(t.Context(), Ref{Name: "app"})
			for _, o := range v.Offers {
				got = append(got, o.Verb)
				all.WriteString(o.Effect)
				fresh := newDesk(c.st)
				a, err := fresh.Command(t.Context(), Ref{Name: "app"}, rollout.Command{ID: "1", By: "alice", Verb: o.Verb, Full: o.Full})
				if err != nil || a.Refused && o.Verb != rollout.VerbPromote {
					t.Errorf("%s is offered and refused: %+v, %v", o.Verb, a, err)
				}
			}
			if d := cmp.Diff(c.verbs, got); d != "" {
				t.Error(d)
			}
			if !strings.Contains(all.String(), c.says) {
				t.Errorf("%q does not say %q", all.String(), c.says)
			}
		})
	}
}

// Of many rollouts those at rest are kept small, and given as they were.
func TestPackedIsGivenWhole(t *testing.T) {
	vs := NewViews(t0)
	const n = packAbove + 50
	publish := func(at time.Duration) {
		for i := range n {
			v := atRestAt(at)
			v.Name = fmt.Sprint(i)
			v.History = []rollout.Outcome{{Revision: v2, Result: rollout.Promoted, Ended: t0, Exposed: float64(i)}}
			vs.Publish(v)
		}
	}
	publish(0)
	publish(time.Second)
	ref := Ref{Name: "7"}
	want := atRestAt(time.Second)
	want.Name, want.History = "7", []rollout.Outcome{{Revision: v2, Result: rollout.Promoted, Ended: t0, Exposed: 7}}
	if vs.by[ref].packed == nil || vs.by[ref].update.View.Decisions != nil {
		t.Fatal("it is not packed")
	}
	got, err := vs.Get(t.Context(), ref)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("Get: %s %v", d, err)
	}
	us, cursor, err := vs.NextOf(t.Context(), Cursor{}, ref)
	if err != nil || len(us) != 1 {
		t.Fatalf("%v, %v", us, err)
	}
	if d := cmp.Diff(want, *us[0].View); d != "" {
		t.Errorf("NextOf: %s", d)
	}
	b, err := us[0].JSON()
	var back RolloutView
	if err != nil || json.Unmarshal(b, &back) != nil || cmp.Diff(want, back) != "" {
		t.Errorf("JSON: %s, %v", b, err)
	}
	if all, _, err := vs.Next(t.Context(), Cursor{}); err != nil || len(all) != n || len(all[3].View.Decisions) != 2 {
		t.Errorf("Next gives %d, %v", len(all), err)
	}
	if all, err := vs.List(t.Context()); err != nil || len(all) != n || len(all[3].History) != 1 {
		t.Errorf("List gives %d, %v", len(all), err)
	}
	old := vs.by[ref].packed
	vs.Publish(want)
	if vs.by[ref].packed != old {
		t.Error("what did not change was packed anew")
	}
	moved := onTrial(2*time.Second, 500)
	moved.Name = "7"
	vs.Publish(moved)
	if us, _, err := vs.NextOf(t.Context(), cursor, ref); err != nil || us[0].View.WeightSet != 500 || len(us[0].View.Decisions) != 2 {
		t.Errorf("%v, %v", us, err)
	}
	if vs.by[ref].packed == nil {
		t.Error("a release that is under way is not packed")
	}
	ended := moved
	ended.Phase, ended.Decisions = rollout.Idle, append(moved.Decisions[:2:2], rollout.Event{N: 3, At: t0.Add(time.Minute), What: rollout.EvPromoted})
	ended.N = 3
	vs.Publish(ended)
	if v, _ := vs.Get(t.Context(), ref); len(v.Decisions) != 3 {
		t.Errorf("%d decisions after the end, want the new one too", len(v.Decisions))
	}
}

// The list's small line is the release that is under way, evenly in time.
func TestSparkIsThisRelease(t *testing.T) {
	p, ref := newPast(), Ref{Name: "app"}
	for at := time.Duration(0); at <= 100*time.Second; at += time.Second {
		w := rollout.Weight(500)
		if at >= 50*time.Second {
			w = 2500
		}
		p.add(ref, onTrial(at, w))
	}
	if d := cmp.Diff([]int{5, 5, 5, 5, 5, 25, 25, 25, 25, 25, 25}, p.spark(ref)[:11]); d != "" {
		t.Error(d)
	}
	for at := 101 * time.Second; at < 2*time.Hour; at += 10 * time.Second {
		p.add(ref, onTrial(at, 5000))
	}
	if got := p.spark(ref); len(got) != sparkPoints || got[0] != 50 && got[0] != 25 || got[sparkPoints-1] != 50 {
		t.Errorf("after two hours it is %v", got)
	}
	next := onTrial(3*time.Hour, 1000)
	begun := next.Time
	next.Started = &begun
	p.add(ref, next)
	if d := cmp.Diff([]int{10}, p.spark(ref)); d != "" {
		t.Errorf("of the next release: %s", d)
	}
	p.add(ref, atRestAt(4*time.Hour))
	if got := p.spark(ref); got != nil {
		t.Errorf("at rest it is %v", got)
	}
}

// Several views of one instant are one after the other, and nothing before them
// is lost.
func TestOneInstantSeveralViews(t *testing.T) {
	v := NewViews(t0)
	for i := range 20 {
		v.Publish(RolloutView{Name: "a", Time: t0.Add(time.Duration(i) * time.Second), Phase: rollout.Progressing, Canary: &VersionView{Version: "v2"}})
	}
	for i := range 3 {
		v.Publish(RolloutView{Name: "a", Time: t0.Add(19 * time.Second), Phase: rollout.Progressing, Canary: &VersionView{Version: "v2", Ready: &i}})
	}
	s, err := v.Series(t.Context(), Ref{Name: "a"}, time.Time{})
	if err != nil || len(s.T) < 20 {
		t.Errorf("%d points, %v; want the twenty that were there", len(s.T), err)
	}
}
