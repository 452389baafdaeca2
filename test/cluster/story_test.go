package cluster

import (
	"slices"
	"testing"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// TestStory is the founding scenario and what comes after it, under calls that
// never stop: v1 at rest; v2 is promoted by itself; a bad v3 is taken back; v5
// arrives while v4 is on trial; undo; v1's Deployment is made again by a tool
// after it was retired. No call fails but those that v3 fails itself.
func TestStory(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := settled(t, ns, document(t, rolloutText))
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 250)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			stream.Stop()
		}
	}()

	t.Log("v2 appears, with two replicas")
	apply(t, ns, "04-deployment-v2.yaml")
	s := until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool {
		return ended("v2", "promoted")(s) && atRest("v2")(s)
	})
	routed(t, ns, split{"v2": 100})
	if got := h.weightsOf("v2"); !slices.Equal(got, []float64{5, 25, 50, 75, 100}) {
		t.Errorf("v2's weights were %v; %s", got, decisions(s))
	}
	ready(t, ns, "my-app-v2", 3)
	ready(t, ns, "my-app-v1", 0)

	t.Log("v3 appears, and fails half of what it is asked")
	the.Pods.Behave(ns, "my-app", "v3", behaviour{Errors: 0.5})
	deploy(t, ns, "v3", 2)
	s = until(t, ns, "v3 rolled back", func(s v1alpha1.RolloutStatus) bool {
		return ended("v3", "rolledBack")(s) && atRest("v2")(s)
	})
	routed(t, ns, split{"v2": 100})
	if got := h.weightsOf("v3"); !slices.Equal(got, []float64{5, 0}) {
		t.Errorf("v3's weights were %v; %s", got, decisions(s))
	}
	if c := condition(s, "Ready"); c == nil || c.Status != "False" || c.Reason != "RolledBack" {
		t.Errorf("after a rollback Ready is %+v", c)
	}
	ready(t, ns, "my-app-v3", 0)

	t.Log("v4 appears; v5 while v4 is at 5 %")
	deploy(t, ns, "v4", 2)
	until(t, ns, "v4 live at 5 %", func(s v1alpha1.RolloutStatus) bool {
		return s.Canary != nil && s.Canary.Label == "v4" && s.Step != nil && s.Step.LiveAt != nil
	})
	deploy(t, ns, "v5", 2)
	s = until(t, ns, "v5 promoted", func(s v1alpha1.RolloutStatus) bool {
		return ended("v5", "promoted")(s) && atRest("v5")(s)
	})
	if !ended("v4", "superseded")(s) {
		t.Errorf("v4 was not superseded: %s", decisions(s))
	}
	routed(t, ns, split{"v5": 100})
	ready(t, ns, "my-app-v4", 0)
	ready(t, ns, "my-app-v2", 0)

	t.Log("undo")
	command(t, ns, "undo", ", reason: we saw something")
	s = until(t, ns, "back at v2", func(s v1alpha1.RolloutStatus) bool {
		return atRest("v2")(s) && ended("v2", "undone")(s) || atRest("v2")(s) && decided(s, "Undone", "") != nil
	})
	routed(t, ns, split{"v2": 100})
	if d := decided(s, "UndoStarted", ""); d == nil || d.By != "lab" {
		t.Errorf("the undo has no author: %+v", d)
	}

	t.Log("a tool makes v1's Deployment again")
	if err := the.Delete(t.Context(), deployments, ns, "my-app-v1"); err != nil {
		t.Fatal(err)
	}
	apply(t, ns, "01-deployment-v1.yaml")
	ready(t, ns, "my-app-v1", 3)
	// That nothing starts is shown by time: as long as a canary takes to its
	// first step, twice.
	was := len(h.splits())
	if err := stream.Wait(t.Context(), lab.Patience, 250*6); err != nil {
		t.Fatal(err)
	}
	if now := h.splits(); len(now) != was {
		t.Errorf("the route was changed for a version that was retired: %v", now[was:])
	}
	s = until(t, ns, "v2 at rest", atRest("v2"))

	stopped = true
	r, err := stream.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", r)
	flawless(t, r, "v3")
	if n := retriedBetween(t, h, stream); n > 0 {
		t.Errorf("%d calls were caught between two routes while both versions were in both", n)
	}
	h.check(t, 3, settle, allow{})
	if t.Failed() {
		t.Logf("decisions:\n%s", decisions(s))
	}
}

// flawless holds a stream to: nothing failed but what a bad version failed, both
// ends agree, and nobody asked a pod that was gone.
func flawless(t *testing.T, r lab.Report, bad ...string) {
	t.Helper()
	if len(r.Failed) > 0 {
		t.Errorf("%d calls failed for another reason than a bad version", len(r.Failed))
	}
	if len(r.Unlike) > 0 {
		t.Errorf("both ends disagree about %d calls: %v", len(r.Unlike), r.Unlike[:min(5, len(r.Unlike))])
	}
	if r.AfterEnd > 0 {
		t.Errorf("%d calls reached pods that were deleted already", r.AfterEnd)
	}
	for v, n := range r.Meant {
		if !slices.Contains(bad, v) {
			t.Errorf("%s failed %d calls on purpose", v, n)
		}
	}
}

// retriedBetween counts the calls that grpc-go did not send although no version
// was entering or leaving the route: from the write until five seconds after it,
// after the first answer of what entered, and after the last of what left.
func retriedBetween(t *testing.T, h *history, stream *lab.Traffic) int {
	names := func(s split) string {
		var out []string
		for v := range s {
			out = append(out, v)
		}
		slices.Sort(out)
		return jsonText(out)
	}
	calls := stream.Calls()
	type turn struct{ from, to time.Time }
	var turns []turn
	var last split
	when := h.clock(t)
	for _, c := range h.changes() {
		if c.kind != "VirtualService" || c.deleted {
			continue
		}
		now := splitOf(c.obj)
		if names(now) != names(last) {
			x := turn{when(c), when(c)}
			for v := range now {
				if _, was := last[v]; was {
					continue
				}
				if i := slices.IndexFunc(calls, func(k call) bool { return k.Version == v && k.At.After(x.from) }); i >= 0 && calls[i].At.After(x.to) {
					x.to = calls[i].At
				}
			}
			for _, k := range calls {
				if _, is := now[k.Version]; last != nil && !is && k.Version != "" && k.At.After(x.to) && k.At.Before(x.from.Add(30*time.Second)) {
					x.to = k.At
				}
			}
			turns = append(turns, turn{x.from.Add(-time.Second), x.to.Add(5 * time.Second)})
		}
		last = now
	}
	n := 0
	for _, c := range calls {
		if c.Retries > 0 && !slices.ContainsFunc(turns, func(x turn) bool { return c.At.After(x.from) && c.At.Before(x.to) }) {
			n++
		}
	}
	return n
}
