package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
)

var start = time.Date(2026, 1, 1, 12, 0, 0, 123456789, time.UTC)

func TestConformance(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		enginetest.TestStore(t, func(t *testing.T) enginetest.StoreFixture {
			key, uid := c.rollout(t)
			return enginetest.StoreFixture{Store: c.store(key, uid), Reopen: func() engine.Store { return c.store(key, uid) }}
		})
	})
}

func (c *cluster) get(t *testing.T, key types.NamespacedName) *v1alpha1.Rollout {
	t.Helper()
	r := &v1alpha1.Rollout{}
	if err := c.client.Get(t.Context(), key, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// pass is one in which a canary is at its second step.
func pass() Pass {
	plan := []rollout.Step{{Kind: rollout.StepWeight, Weight: 500, Hold: time.Minute}, {Kind: rollout.StepWeight, Weight: 2500, Hold: time.Minute}, {Kind: rollout.StepWeight, Weight: rollout.Whole}}
	st := rollout.State{
		Schema: rollout.SchemaVersion, N: 4, Phase: rollout.Progressing, Step: 1, Plan: plan, Granted: 2500, Confirmed: 2500,
		Stable: rollout.Object{Revision: "v1@1111", Name: "my-app-v1"}, Canary: rollout.Object{Revision: "v2@2222", Name: "my-app-v2"},
		Started: start, Asked: start, LiveAt: start.Add(time.Second), LastPass: start,
		Decisions: []rollout.Event{{N: 4, At: start, By: "rule", What: rollout.EvStepStarted, From: "5 %", To: "25 %", Why: "it was as good"}},
	}
	ready := func(rev rollout.Revision, n int) rollout.Workload {
		return rollout.Workload{Revision: rev, Replicas: n, Ready: n, ReadyKnown: true}
	}
	return Pass{
		Generation: 3, State: st, Time: start, Spec: rollout.Spec{Steps: plan},
		Seen: rollout.Observation{
			Workloads: rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{ready("v1@1111", 4), ready("v2@2222", 1)}},
			Route: rollout.Route{
				Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{"v1@1111": 7500, "v2@2222": 2500},
				Measured: true, Requests: map[rollout.Revision]float64{"v1@1111": 752, "v2@2222": 248},
			},
			Report: analysis.Report{Verdict: analysis.Undecided, Sentence: "not enough yet", Rollback: 0.12, Advance: 0.434},
		},
		Decision: rollout.Decision{Next: st, Status: rollout.Status{Message: "v2 has 25 %; 0.43 of the evidence.", Waiting: rollout.WaitEvidence}},
	}
}

func (p Pass) result() engine.Result {
	return engine.Result{At: p.Time, Decided: true, Seen: p.Seen, Decision: p.Decision, State: p.State}
}

// decided lets a store overhear the pass.
func decided(s *Store, p Pass) {
	s.Follow(p.Generation)
	d := p.Decision
	d.Next = p.State
	s.Policy(func(rollout.Spec, rollout.State, rollout.Observation, time.Time) rollout.Decision { return d })(p.Spec, p.State, p.Seen, p.Time)
}

func TestSaveWritesWhatPeopleReadInTheSameWrite(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		key, uid := c.rollout(t)
		s := c.store(key, uid)
		p := pass()
		decided(s, p)
		before := c.get(t, key).ResourceVersion
		if _, err := s.Save(t.Context(), engine.Saved{State: p.State, Evidence: []byte(`{}`), Told: 2}); err != nil {
			t.Fatal(err)
		}
		r := c.get(t, key)
		if r.ResourceVersion == before {
			t.Fatal("nothing was written")
		}
		got := r.Status
		if got.Phase != "Progressing" || got.Step.Text != "2/3" || got.Weight.Set.String() != "25%" || got.Weight.Seen.String() != "24.8%" ||
			got.Verdict != "Undecided" || got.Message != p.Decision.Status.Message || got.ObservedGeneration != 3 || got.N != 4 || got.Told != 2 || len(got.Decisions) != 1 {
			b, _ := json.MarshalIndent(got, "", " ")
			t.Errorf("%s", b)
		}
		if strings.Contains(string(got.State.Raw), "it was as good") {
			t.Error("the decisions are kept twice")
		}
		st, ok, err := StateOf(got)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if diff := cmp.Diff(p.State, st); diff != "" {
			t.Errorf("StateOf (-saved +read):\n%s", diff)
		}
	})
}

// What is not ours may change in between: it is no conflict.
func TestAnEditOfTheDocumentIsNoConflict(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		key, uid := c.rollout(t)
		s := c.store(key, uid)
		saved := engine.Saved{State: enginetest.FullState()}
		version, err := s.Save(t.Context(), saved)
		if err != nil {
			t.Fatal(err)
		}
		r := c.get(t, key)
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}},"spec":{"suspend":true}}`))
		if err := c.client.Patch(t.Context(), r, patch); err != nil {
			t.Fatal(err)
		}
		saved.Version = version
		if _, err := s.Save(t.Context(), saved); err != nil {
			t.Fatal(err)
		}
		if !c.get(t, key).Spec.Suspend {
			t.Error("the edit is gone")
		}
	})
}

func TestAnotherObjectOfTheSameNameGetsNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		key, uid := c.rollout(t)
		s := c.store(key, uid)
		version, err := s.Save(t.Context(), engine.Saved{State: enginetest.FullState()})
		if err != nil {
			t.Fatal(err)
		}
		again := c.get(t, key)
		if err := c.client.Delete(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		again.UID, again.ResourceVersion, again.Status = "", "", v1alpha1.RolloutStatus{}
		if err := c.client.Create(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		_, err = s.Save(t.Context(), engine.Saved{State: enginetest.FullState(), Version: version})
		if !errors.Is(err, engine.ErrNotFound) || engine.KindOf(err) != engine.Ignore {
			t.Errorf("saving gives %v, to %v", err, engine.KindOf(err))
		}
		if _, err := s.Load(t.Context()); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("loading gives %v", err)
		}
		if got := c.get(t, key).Status.Copy; got != "" {
			t.Errorf("the new one got copy %s", got)
		}
	})
}

func TestPublish(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		key, uid := c.rollout(t)
		s := c.store(key, uid)
		p := pass()
		decided(s, p)
		version, err := s.Save(t.Context(), engine.Saved{State: p.State, Evidence: []byte("e")})
		if err != nil {
			t.Fatal(err)
		}
		publish := func(why string, want bool, change func(*Pass)) {
			t.Helper()
			change(&p)
			wrote, err := s.Publish(t.Context(), p.result())
			if err != nil || wrote != want {
				t.Errorf("%s: wrote %v, error %v", why, wrote, err)
			}
		}
		publish("nothing new", false, func(*Pass) {})
		publish("only a number runs", false, func(p *Pass) {
			p.Time = p.Time.Add(time.Second)
			p.Decision.Status.Message = "v2 has 25 %; 0.44 of the evidence."
			p.Seen.Route.Requests = map[rollout.Revision]float64{"v1@1111": 1752, "v2@2222": 1248}
		})
		publish("the number has run for long", true, func(p *Pass) { p.Time = p.Time.Add(time.Minute) })
		publish("other words", true, func(p *Pass) { p.Decision.Status.Message = "v2 waits for capacity." })
		publish("a condition", true, func(p *Pass) { p.Seen.Report.Verdict = analysis.Pass })
		r := c.get(t, key)
		if r.Status.Message != "v2 waits for capacity." || r.Status.Copy != version {
			t.Errorf("message %q, copy %q", r.Status.Message, r.Status.Copy)
		}
		for _, reopened := range []*Store{s, c.store(key, uid)} {
			got, err := reopened.Load(t.Context())
			if err != nil || got.Version != version || string(got.Evidence) != "e" || len(got.State.Decisions) != 1 {
				t.Errorf("after publishing: %+v, %v", got, err)
			}
		}
		wrote, err := s.PublishInvalid(t.Context(), 9, errors.New("spec.traffic: no such route"), p.Time)
		if err != nil || !wrote {
			t.Fatal(wrote, err)
		}
		again, err := s.PublishInvalid(t.Context(), 9, errors.New("spec.traffic: no such route"), p.Time.Add(time.Hour))
		if err != nil || again {
			t.Errorf("said twice: %v, %v", again, err)
		}
		r = c.get(t, key)
		if got := find(r.Status.Conditions, "Ready"); got.Reason != "Invalid" || got.Status != "False" || !strings.Contains(got.Message, "no such route") || r.Status.Phase != "Progressing" {
			t.Errorf("%+v", r.Status)
		}
		saved := engine.Saved{State: p.State, Version: version}
		if _, err := s.Save(t.Context(), saved); err != nil {
			t.Errorf("publishing is in the way of saving: %v", err)
		}
	})
}

// A document that is wrong from the first has no copy yet.
func TestPublishBeforeAnythingIsSaved(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		key, uid := c.rollout(t)
		s := c.store(key, uid)
		for i, want := range []bool{true, false} {
			if wrote, err := s.PublishInvalid(t.Context(), 1, errors.New("wrong"), start); err != nil || wrote != want {
				t.Errorf("%d: %v, %v", i, wrote, err)
			}
		}
		if got, err := s.Load(t.Context()); err != nil || got.Version != "" {
			t.Errorf("loaded %+v, %v", got, err)
		}
		if _, err := s.Save(t.Context(), engine.Saved{State: enginetest.FullState()}); err != nil {
			t.Error(err)
		}
	})
}

func find(all []metav1.Condition, kind string) metav1.Condition {
	for _, c := range all {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

func TestDamage(t *testing.T) {
	c := small(t)
	for name, status := range map[string]string{
		"no state":     `{"copy":"1-a"}`,
		"not a state":  `{"copy":"1-a","state":{"n":"four"}}`,
		"a later one":  `{"copy":"1-a","state":{"schema":99}}`,
		"evidence":     `{"copy":"1-a","state":{"schema":1},"evidence":{"rollback":"0%","advance":"0%","saved":"bm8gZ3ppcA=="}}`,
		"not a status": `{"copy":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			key, uid := c.rollout(t)
			r := c.get(t, key)
			if err := c.client.Status().Patch(t.Context(), r, client.RawPatch(types.MergePatchType, []byte(`{"status":`+status+`}`))); err != nil && name != "not a status" {
				t.Fatal(err)
			}
			s := c.store(key, uid)
			_, err := s.Load(t.Context())
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.Rollout != key || damaged.Remedy == "" || engine.KindOf(err) != engine.Stall {
				t.Fatalf("loading gives %v", err)
			}
			if _, err := s.Save(t.Context(), engine.Saved{State: enginetest.FullState()}); err == nil {
				t.Error("it was overwritten")
			}
		})
	}
}

// What cannot be read is said where people look, with what helps, in place of
// what was said before; the copy stays byte for byte, whatever else is in the
// status, and what helps does help.
func TestDamageIsSaid(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		key, uid := c.rollout(t)
		s := c.store(key, uid)
		decided(s, pass())
		if _, err := s.Save(t.Context(), engine.Saved{State: pass().State, Evidence: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		damage := client.RawPatch(types.MergePatchType, []byte(`{"status":{"state":{"n":"four","schema":1},"evidence":{"saved":"bm8gZ3ppcA=="}}}`))
		if err := c.client.Status().Patch(t.Context(), c.get(t, key), damage); err != nil {
			t.Fatal(err)
		}
		before := c.get(t, key).Status
		s = c.store(key, uid) // as a new process
		_, problem := s.Load(t.Context())
		for i, want := range []bool{true, false} { // it is said once
			if wrote, err := s.PublishUnreadable(t.Context(), 4, problem, start.Add(time.Hour)); err != nil || wrote != want {
				t.Fatalf("%d: wrote %v, error %v", i, wrote, err)
			}
		}
		after := c.get(t, key).Status
		remedy := fmt.Sprintf("`kubectl patch rollout %s -n %s --subresource=status --type=merge -p '{\"status\":null}'`", key.Name, key.Namespace)
		if !strings.Contains(after.Message, "holds a state that cannot be understood") || !strings.Contains(after.Message, remedy) {
			t.Errorf("it says %q", after.Message)
		}
		for kind, status := range map[string]metav1.ConditionStatus{v1alpha1.ConditionReady: "False", v1alpha1.ConditionStalled: "True", v1alpha1.ConditionAvailable: "Unknown"} {
			if got := find(after.Conditions, kind); got.Status != status || got.ObservedGeneration != 4 {
				t.Errorf("%s is %+v", kind, got)
			}
		}
		if got := find(after.Conditions, v1alpha1.ConditionStalled); got.Reason != standing.StateUnreadable || got.Message != after.Message {
			t.Errorf("Stalled is %+v", got)
		}
		after.Message, after.Conditions, after.ObservedGeneration = before.Message, before.Conditions, before.ObservedGeneration
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("it has changed more than it says:\n%s", diff)
		}
		if _, err := s.Load(t.Context()); err == nil {
			t.Error("the damage is gone")
		}

		if err := c.client.Status().Patch(t.Context(), c.get(t, key), client.RawPatch(types.MergePatchType, []byte(`{"status":null}`))); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(t.Context()); err != nil || got.Version != "" {
			t.Errorf("after the remedy it loads %+v, %v", got, err)
		}
		if wrote, err := s.PublishUnreadable(t.Context(), 4, problem, start); err != nil || wrote {
			t.Errorf("where nothing is damaged any more it writes: %v, %v", wrote, err)
		}
		if _, err := s.Save(t.Context(), engine.Saved{State: pass().State}); err != nil {
			t.Error(err)
		}
	})
}

// Trouble is said with what was decided, by saves and in between, and no longer
// than it lasts.
func TestTroubleIsSaid(t *testing.T) {
	c := small(t)
	key, uid := c.rollout(t)
	s := c.store(key, uid)
	p := pass()
	decided(s, p)
	denied := standing.Trouble{What: "applying the split: not permitted", Since: start, Passes: 2, Person: true}
	s.Trouble(denied)
	if _, err := s.Save(t.Context(), engine.Saved{State: p.State}); err != nil {
		t.Fatal(err)
	}
	said := func() string {
		st := c.get(t, key).Status
		return st.Message + " / " + find(st.Conditions, v1alpha1.ConditionStalled).Message
	}
	first := "Trouble since 12:00:00 UTC: applying the split: not permitted."
	if got := said(); !strings.Contains(got, first+" "+p.Decision.Status.Message+" / "+first) {
		t.Errorf("it says %q", got)
	}
	if wrote, err := s.Publish(t.Context(), p.result()); err != nil || wrote {
		t.Errorf("the same again: wrote %v, %v", wrote, err)
	}
	s.Trouble(standing.Trouble{})
	if wrote, err := s.Publish(t.Context(), p.result()); err != nil || !wrote {
		t.Errorf("that it is over: wrote %v, %v", wrote, err)
	}
	if got := said(); got != p.Decision.Status.Message+" / " {
		t.Errorf("after it is over it says %q", got)
	}
}

func TestErrorsHaveTheEnginesKinds(t *testing.T) {
	c := small(t)
	key, uid := c.rollout(t)
	s := c.store(key, uid)
	version, err := s.Save(t.Context(), engine.Saved{State: enginetest.FullState()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		status metav1.Status
		is     error
		kind   engine.Kind
	}{
		{metav1.Status{Code: 409, Reason: metav1.StatusReasonConflict}, engine.ErrConflict, engine.Retry},
		{metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound}, engine.ErrNotFound, engine.Ignore},
		{metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden}, engine.ErrForbidden, engine.Stall},
		{metav1.Status{Code: 422, Reason: metav1.StatusReasonInvalid, Message: "status.phase: too long"}, engine.ErrRefused, engine.Stall},
		{metav1.Status{Code: 413, Reason: metav1.StatusReasonRequestEntityTooLarge}, engine.ErrRefused, engine.Stall},
		{metav1.Status{Code: 500, Reason: metav1.StatusReasonInternalError}, nil, engine.Retry},
		{metav1.Status{Code: 429, Reason: metav1.StatusReasonTooManyRequests, Details: &metav1.StatusDetails{RetryAfterSeconds: 7}}, nil, engine.Retry},
	} {
		t.Run(fmt.Sprint(tc.status.Code), func(t *testing.T) {
			c.fault = func(r *http.Request) *metav1.Status {
				if r.Method == http.MethodPatch {
					st := tc.status
					return &st
				}
				return nil
			}
			defer func() { c.fault = nil }()
			_, err := s.Save(t.Context(), engine.Saved{State: enginetest.FullState(), Version: version})
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || engine.KindOf(err) != tc.kind {
				t.Errorf("%v is of kind %v, want %v", err, engine.KindOf(err), tc.kind)
			}
			var throttled *engine.ThrottledError
			if tc.status.Code == 429 && (!errors.As(err, &throttled) || throttled.After != 7*time.Second) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A save of which the answer was lost has been made all the same: loading shows
// it, under the very content that was saved.
func TestASaveWithoutAnAnswer(t *testing.T) {
	c := small(t)
	s := c.open(t)
	saved := engine.Saved{State: pass().State, Evidence: []byte("e"), Told: 3}
	ctx, cancel := context.WithCancel(t.Context())
	lost := make(chan struct{})
	c.fault = func(r *http.Request) *metav1.Status {
		if r.Method == http.MethodPatch {
			body, _ := io.ReadAll(r.Body) // a server sees nobody leave before it has read all
			r.Body = io.NopCloser(bytes.NewReader(body))
			close(lost)
			cancel()
			<-r.Context().Done() // the client has given up before any answer
		}
		return nil
	}
	_, err := s.Save(ctx, saved)
	<-lost
	c.fault = nil
	if err == nil {
		t.Fatal("an answer that nobody waited for came")
	}
	// It may take the server until now to have done it, or it never did.
	got, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != "" {
		if diff := cmp.Diff(saved.State, got.State); diff != "" {
			t.Error(diff)
		}
	}
	saved.Version = got.Version
	if _, err := s.Save(t.Context(), saved); err != nil && !errors.Is(err, engine.ErrConflict) {
		t.Error(err)
	}
}

// Nothing that a core says keeps a decision from being recorded: texts of any
// length and any bytes fit the schema, the whole stays within its bound.
func TestWhateverIsSaidFits(t *testing.T) {
	everywhere(t, func(t *testing.T, c *cluster) {
		for name, text := range map[string]string{
			"long": strings.Repeat("ü", 5000), "bytes": "\xff\xfe" + strings.Repeat("\x00", 300), "empty": "",
		} {
			t.Run(name, func(t *testing.T) {
				key, uid := c.rollout(t)
				s := c.store(key, uid)
				p := pass()
				p.Decision.Status = rollout.Status{Message: text, Waiting: rollout.WaitFor(text), Stalled: text}
				p.State.Phase = rollout.Phase(text)
				p.State.Canary.Name = text
				p.State.Granted = -5
				p.Seen.Report.Sentence = text
				p.Seen.Findings = []rollout.Finding{{Level: rollout.Level(text), What: text, Remedy: text}}
				figure := analysis.Figure{Metric: text, Unit: text, State: text, Window: 1234567891}
				for range 60 {
					p.State.Decisions = append(p.State.Decisions, rollout.Event{N: 1, At: start, By: text, What: rollout.What(text), From: text, To: text, Why: text, Rev: rollout.Revision(text), Figures: []analysis.Figure{figure, figure, figure, figure, figure}})
					p.State.History = append(p.State.History, rollout.Outcome{Revision: rollout.Revision(text), Result: rollout.Result(text), By: text, Why: text, Started: start, Ended: start})
					p.State.Pauses = append(p.State.Pauses, rollout.Pause{Kind: rollout.PauseKind(text), By: text, Why: text, At: start})
					p.Seen.Report.Figures = append(p.Seen.Report.Figures, figure)
				}
				p.State.Pauses = p.State.Pauses[:3] // the state itself is nobody's to cut
				decided(s, p)
				if _, err := s.Save(t.Context(), engine.Saved{State: p.State, Evidence: []byte(strings.Repeat("e", 1<<20))}); err != nil {
					t.Fatal(err)
				}
				st := c.get(t, key).Status
				b, err := json.Marshal(st)
				if err != nil || len(b) > v1alpha1.MaxStatusBytes {
					t.Errorf("%d bytes, %v", len(b), err)
				}
				t.Logf("%d bytes", len(b))
				if len(st.Decisions) < 20 || len(st.Decisions) > v1alpha1.MaxDecisions || len(st.History) != v1alpha1.MaxHistory {
					t.Errorf("%d decisions, %d outcomes", len(st.Decisions), len(st.History))
				}
				if _, err := s.Load(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func TestAStateThatIsTooLargeIsRefusedAndNotCut(t *testing.T) {
	c := small(t)
	s := c.open(t)
	st := pass().State
	st.Stalled = strings.Repeat("x", v1alpha1.MaxStatusBytes)
	_, err := s.Save(t.Context(), engine.Saved{State: st})
	if !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("saving gives %v", err)
	}
}
