package rollout

// Faults that a reader found, each by the test that showed it.

import (
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// editing the steps drops an approval that stands before the next weight.
func TestFoundEditDropsApproval(t *testing.T) {
	b := newBench(t)
	ap := Step{Kind: StepApproval, ID: "a", By: []string{"bob"}}
	s := b.spec.Steps
	b.spec.Steps = []Step{s[0], s[1], ap, s[2], s[3], s[4]}
	b.canary(2500)
	edited := cloneSteps(b.spec.Steps)
	edited[3].Hold, edited[3].ID = 2*time.Minute, "w50b" // somebody lengthens the hold of the 50 % step
	b.spec.Steps = edited
	b.run(10 * time.Minute)
	b.want(b.st.Granted == 2500, "nobody approved, and it has %s", b.st.Granted)
}

// the same before the first weight.
func TestFoundEditDropsApprovalBeforeFirst(t *testing.T) {
	b := newBench(t)
	b.spec.Steps = append([]Step{{Kind: StepTest, Test: "smoke", ID: "t"}, {Kind: StepApproval, ID: "a"}}, b.spec.Steps...)
	b.add(load(v2, 2, b.now))
	b.run(3 * time.Second)
	edited := cloneSteps(b.spec.Steps)
	edited[3].Hold, edited[3].ID = 2*time.Minute, "w25b"
	b.spec.Steps = edited
	b.run(3 * time.Second)
	b.obs.Tests = []TestAnswer{{ID: b.d.Tests[0].ID, Passed: true}}
	b.run(10 * time.Second)
	b.want(b.st.Granted == 0, "nobody approved, and users see it at %s", b.st.Granted)
}

// bake promotes with too few ready replicas.
func TestFoundBakePromotesWithoutCapacity(t *testing.T) {
	b := newBench(t).canary(Whole)
	b.stopped[v2] = true
	b.w(v2).Ready = 1
	b.run(12 * time.Minute)
	b.want(b.st.Stable.Revision == v1 && b.w(v1).Replicas == 3, "promoted with 1 of 3 ready, and v1 has %d replicas", b.w(v1).Replicas)
}

// control end, raise without capacity: I2.
func TestFoundControlEndRaisesWithoutCapacity(t *testing.T) {
	b := newBench(t)
	b.spec.Promotion.Control = 500
	b.add(load(v2, 2, b.now))
	b.reachPhase(Baking)
	b.stopped[v2] = true
	b.w(v2).Ready = 2
	b.run(15 * time.Minute)
}

// control end, raise in a closed window.
func TestFoundControlEndRaisesInAWindow(t *testing.T) {
	b := newBench(t)
	b.spec.Promotion.Control = 500
	b.add(load(v2, 2, b.now))
	b.reachPhase(Baking)
	b.obs.Windows = []Window{{Name: "freeze"}}
	b.run(15 * time.Minute)
	b.want(b.st.Granted == 9500, "raised to %s in a freeze", b.st.Granted)
}

// an unknown route overrides a hand that was left at rest.
func TestFoundUnknownRouteOverridesTheHandAtRest(t *testing.T) {
	b := newBench(t)
	b.spec.Promotion.Retire = Keep
	promoted(b.canary(Whole))
	b.run(5 * time.Second)
	b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
	b.run(10 * time.Second)
	b.want(b.obs.Route.Weights[v1] == Whole, "not left")
	b.obs.Route.Known = Unknown // one failed read
	b.tick(time.Second)
	b.want(b.d.Traffic == nil, "the hand's split is written over with %v", b.d.Traffic)
}

// resume at rest is lost when the write fails once.
func TestFoundResumeAtRestIsLost(t *testing.T) {
	b := newBench(t)
	b.spec.Promotion.Retire = Keep
	promoted(b.canary(Whole))
	b.run(5 * time.Second)
	b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
	b.run(10 * time.Second)
	b.say(VerbResume)
	b.frozenRoute = true
	b.tick(time.Second)
	b.frozenRoute = false
	b.run(time.Minute)
	b.want(b.obs.Route.Weights[v2] == Whole, "recorded, never done: route %v", b.obs.Route.Weights)
}

// undo waits for preflight's data source and for windows.
func TestFoundUndoWaitsForPrometheus(t *testing.T) {
	b := newBench(t).canary(Whole)
	promoted(b)
	b.run(5 * time.Second)
	b.obs.Findings = []Finding{{Level: Wait, What: "Prometheus is down."}}
	b.say(VerbUndo)
	b.run(30 * time.Minute)
	b.want(b.st.Stable.Revision == v1, "undo waits: %s", b.d.Status.Message)
}

func TestFoundUndoWaitsForAFreeze(t *testing.T) {
	b := newBench(t).canary(Whole)
	promoted(b)
	b.run(5 * time.Second)
	b.obs.Windows = []Window{{Name: "change freeze"}}
	b.say(VerbUndo)
	b.run(30 * time.Minute)
	b.want(b.st.Stable.Revision == v1, "undo waits: %s", b.d.Status.Message)
}

// promote is swallowed: at a test step, in a bake whose route is not read.
func TestFoundPromoteSwallowedAtTest(t *testing.T) {
	b := newBench(t)
	b.spec.Steps = append([]Step{{Kind: StepTest, Test: "smoke", ID: "t"}}, b.spec.Steps...)
	b.add(load(v2, 2, b.now))
	b.run(3 * time.Second)
	n := len(b.log)
	b.say(VerbPromote)
	b.run(10 * time.Second)
	b.want(len(b.log) > n, "taken (%d), and neither done nor refused", len(b.st.Taken))
}

func TestFoundPromoteSwallowedInBake(t *testing.T) {
	b := newBench(t).canary(Whole)
	n := len(b.log)
	b.say(VerbPromote)
	b.obs.Route.Known = Unknown
	b.tick(time.Second)
	b.obs.Route.Known = Present
	b.run(10 * time.Second)
	b.want(len(b.log) > n, "taken (%d), and neither done nor refused", len(b.st.Taken))
}

// a canary below need at a step hangs for ever, unsaid.
func TestFoundBelowNeedHasNoDeadline(t *testing.T) {
	b := newBench(t).canary(5000)
	b.stopped[v2] = true
	b.w(v2).Ready = 1
	b.run(6 * time.Hour)
	b.want(len(b.st.Pauses) == 1, "six hours at %s: %s", b.st.Granted, b.d.Status.Message)
}

// contradiction: resume pauses again at once.
func TestFoundContradictedResume(t *testing.T) {
	b := newBench(t)
	b.noReceipt = true
	b.obs.Route.HasReceipt = false
	b.add(load(v2, 2, b.now))
	for range 2000 {
		b.obs.Route.Requests[v1] += 100
		b.tick(time.Second)
	}
	b.want(len(b.st.Pauses) == 1, "not paused")
	b.say(VerbResume)
	for range 60 {
		b.obs.Route.Requests[v1] += 100
		b.tick(time.Second)
	}
	b.want(len(b.st.Pauses) == 0, "resumed, and paused again within a minute")
}

// undo under onUnavailable RollBack with a contradicted share condemns the previous stable.
func TestFoundUndoContradictedCondemnsPrevious(t *testing.T) {
	b := newBench(t)
	b.noReceipt = true
	b.obs.Route.HasReceipt = false
	b.spec.Analysis.OnUnavailable = ActRollBack
	b.canary(Whole)
	promoted(b)
	b.run(30 * time.Second)
	b.say(VerbUndo)
	for range 2500 {
		b.obs.Route.Requests[v2] += 10 // kept-alive connections, callers past the route
		b.obs.Route.Requests[v1] += 100
		b.tick(time.Second)
	}
	for _, r := range b.st.FailedRevisions() {
		b.want(r != v1, "the version that a person goes back to is condemned")
	}
}

// full promote + hand + resume jumps.
func TestFoundHandAfterFullJumps(t *testing.T) {
	b := newBench(t).canary(500)
	b.say(VerbPromote, full)
	b.reach(Whole)
	b.hand(1000)
	b.run(2 * time.Second)
	b.phase(Progressing, 1000)
	b.say(VerbResume)
	b.run(3 * time.Second)
	b.phase(Progressing, 2500)
}

// HPA minimum never restored after stable or canary was edited in place.
func TestFoundHPAForgottenOnEdit(t *testing.T) {
	b := newBench(t)
	b.w(v1).HPA = &HPA{Name: "h1", Min: 1, Max: 10, Desired: 3}
	b.canary(500)
	b.want(b.w(v1).HPA.Min == 3, "min %d", b.w(v1).HPA.Min)
	w := b.w(v1)
	w.Revision, w.Generation = "v1@other", 2
	b.run(2 * time.Second)
	b.say(VerbAbort)
	b.run(3 * time.Minute)
	b.want(b.w("v1@other").HPA.Min == 1, "at rest (%s), min is %d, was 1", b.st.Phase, b.w("v1@other").HPA.Min)
}

func TestFoundHPAForgottenOnCanaryEdit(t *testing.T) {
	b := newBench(t)
	w := load(v2, 2, b.now)
	w.HPA = &HPA{Name: "h2", Min: 1, Max: 10, Desired: 2}
	b.add(w)
	b.reach(5000)
	b.want(b.w(v2).HPA.Min == 2, "min %d", b.w(v2).HPA.Min)
	x := b.w(v2)
	x.Revision, x.Generation, x.Since = "v2@edit", 2, b.now
	b.run(20 * time.Second)
	b.say(VerbAbort)
	b.run(time.Minute)
	b.want(b.w("v2@edit").HPA.Min == 1, "at rest (%s), min is %d, was 1", b.st.Phase, b.w("v2@edit").HPA.Min)
}

func TestFoundHPAForgottenOnOneLook(t *testing.T) {
	b := newBench(t)
	b.w(v1).HPA = &HPA{Name: "h1", Min: 1, Max: 10, Desired: 3}
	b.canary(500)
	h := b.w(v1).HPA
	b.w(v1).HPA = nil // the read of the autoscaler failed
	b.tick(time.Second)
	b.w(v1).HPA = h
	b.tick(time.Second)
	b.say(VerbAbort)
	b.run(3 * time.Minute)
	b.want(b.w(v1).HPA.Min == 1, "at rest (%s), min is %d, was 1", b.st.Phase, b.w(v1).HPA.Min)
}

// HPA restored while the canary still holds traffic in a held rollback.
func TestFoundHPARestoredUnderTraffic(t *testing.T) {
	b := newBench(t)
	w := load(v2, 2, b.now)
	w.HPA = &HPA{Name: "h2", Min: 1, Max: 10, Desired: 2}
	b.add(w)
	b.reach(5000)
	b.stopped[v1] = true
	b.w(v1).Ready = 0
	fail(b)
	b.run(3 * time.Second)
	b.phase(RollingBack, 5000)
	b.want(b.w(v2).HPA.Min == 2, "the canary carries %s and its autoscaler may go down to %d", b.st.Granted, b.w(v2).HPA.Min)
}

// deletion of everything together hangs.
func TestFoundDeletedTogether(t *testing.T) {
	b := newBench(t).canary(2500)
	b.spec.Deleted = true
	b.obs.Route = Route{Known: Absent}
	b.frozenRoute = true
	b.obs.Workloads = Workloads{Known: Absent}
	b.run(time.Hour)
	b.want(b.st.Phase == Idle, "the document cannot go: %s", b.d.Status.Message)
}

func TestFoundDeletedRouteGone(t *testing.T) {
	b := newBench(t).canary(2500)
	b.spec.Deleted = true
	b.obs.Route = Route{Known: Absent}
	b.frozenRoute = true
	b.run(time.Hour)
	b.want(b.st.Phase == Idle, "the document cannot go: %s", b.d.Status.Message)
}

// old saved state at rest, newer route: outage after a minute.
func TestFoundOldStateAtRestMovesTrafficToNobody(t *testing.T) {
	b := newBench(t)
	old := b.st
	promoted(b.canary(Whole))
	b.run(10 * time.Second)
	b.want(b.w(v1).Replicas == 0, "v1 not retired")
	b.st = old
	b.run(2 * time.Minute)
	b.want(b.obs.Route.Weights[v1] == 0 || b.w(v1).Ready > 0, "all traffic on v1, which has no replica: %v", b.obs.Route.Weights)
}

func TestFoundOldStateMidRolloutMovesTrafficToNobody(t *testing.T) {
	b := newBench(t).canary(2500)
	old := b.st
	promoted(b)
	b.run(10 * time.Second)
	b.add(load(v3, 2, b.now))
	b.reach(500)
	b.st = old
	b.stopped[v1] = true
	b.run(2 * time.Minute)
	b.want(b.obs.Route.Weights[v1] == 0 || b.w(v1).Ready > 0, "traffic on v1, which has no replica: %v", b.obs.Route.Weights)
}

// condemned of the newer note is forgotten at rest.
func TestFoundOldStateForgetsCondemned(t *testing.T) {
	b := newBench(t)
	old := b.st
	b.canary(500)
	fail(b)
	b.frozenScale = true
	b.run(2 * time.Second)
	b.obs.Report = good()
	b.st = old
	b.run(3 * time.Minute)
	b.want(b.st.Granted == 0 && b.st.Canary.Revision != v2, "the route says that v2 is condemned, and it has %s", b.st.Granted)
}

// note is newer and lower: rollout jumps.
func TestFoundLowerNoteInBakeJumps(t *testing.T) {
	b := newBench(t).canary(Whole)
	old := b.st
	b.hand(1000)
	b.tick(time.Second) // obeyed and written; the save fails, then a crash
	b.want(b.st.Granted == 1000, "not obeyed")
	b.st = old
	for range 1500 {
		was := b.st.Granted
		b.tick(time.Second)
		if b.st.Granted > 2500 && was <= 1000 {
			b.want(false, "jumped from %s to %s without a step or a resume", was, b.st.Granted)
			return
		}
	}
}

func TestFoundLowerNoteInStepJumps(t *testing.T) {
	b := newBench(t).canary(5000)
	old := b.st
	b.hand(500)
	b.tick(time.Second)
	b.st = old
	for range 200 {
		was := b.st.Granted
		b.tick(time.Second)
		if b.st.Granted > was && was <= 500 {
			b.want(b.st.Granted <= 2500, "jumped from %s to %s", was, b.st.Granted)
			return
		}
	}
}

// stable lost for one look: unjudged, promoted without approval.
func TestFoundStableBackAfterLoss(t *testing.T) {
	b := newBench(t)
	s := b.spec.Steps
	b.spec.Steps = []Step{s[0], {Kind: StepApproval, ID: "a", By: []string{"bob"}}, s[1], s[2], s[3], s[4]}
	b.canary(500)
	w := *b.w(v1)
	b.drop(v1)
	b.tick(time.Second)
	w.UID = "again"
	b.add(w)
	b.run(30 * time.Minute)
	b.want(b.st.Stable.Revision == v1, "v2 is stable: nobody approved, no step was held")
}

// object mark Retired => Promoted.
func TestFoundObjectMarkMakesItPromoted(t *testing.T) {
	b := newBench(t).canary(2500)
	b.add(load(v3, 2, b.now))
	promoted(b)
	b.run(time.Minute)
	b.want(b.w(v2).Retired, "v2 superseded: marked on the object")
	b.st = State{} // lost
	b.run(5 * time.Second)
	b.want(b.st.Stable.Revision == v3, "stable %s", b.st.Stable.Revision)
	b.drop(v1)
	b.w(v3).Deleting = true
	b.run(20 * time.Second)
	b.want(b.st.Stable.Revision != v2 && b.count(EvRevertStarted) == 0, "v2 was superseded at 25 %%, never promoted, and got everything in one switch")
}

// declared removal.
func TestFoundDeclaredRemoval(t *testing.T) {
	b := newBench(t)
	b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": 9000, "v2": 1000}}
	b.canary(2500)
	b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": Whole}}
	b.tick(time.Second)
	b.want(b.st.Granted == 0, "the file says 100 %% v1")
}

// Gone latched while the route gives it traffic again: I3.
func TestFoundGoneIsNotTakenBack(t *testing.T) {
	b := newBench(t)
	b.spec.Promotion.RetireAfter = time.Hour
	b.canary(2500)
	note, weights := *b.obs.Route.Note, b.obs.Route.Weights
	promoted(b)
	b.run(59*time.Minute + 50*time.Second)
	b.obs.Route.Note, b.obs.Route.Weights = &note, weights // an old copy of the route is restored
	b.frozenRoute = true
	b.run(15 * time.Second)
	b.frozenRoute = false
	b.obs.Route.InFlight[v1] = 50
	b.run(3 * time.Second)
	b.want(b.w(v1).Replicas > 0, "scaled away with 50 in flight")
}

// resume with a stale number.
func TestFoundResumeStale(t *testing.T) {
	b := newBench(t).canary(500)
	b.say(VerbPause)
	b.tick(time.Second)
	seen := b.st.N
	b.hand(100)
	b.tick(time.Second)
	b.say(VerbResume, func(c *Command) { c.N = seen })
	b.run(2 * time.Second)
	b.want(b.count(EvRefused) == 1, "its author did not see that a hand lowered it")
}

// adopt of a condemned object.
func TestFoundAdoptCondemned(t *testing.T) {
	b := emptyBench(t)
	w := load(v2, 3, t0)
	w.Condemned = true
	b.obs.Workloads.Items = []Workload{load(v1, 3, t0.Add(-time.Hour)), w}
	b.obs.Route.Weights = map[Revision]Weight{v2: Whole}
	b.run(3 * time.Second)
	b.want(b.st.Stable.Revision == v2, "stable %s", b.st.Stable.Revision)
	b.say(VerbRetry)
	b.run(5 * time.Second)
	b.want(b.st.Canary.Revision != b.st.Stable.Revision, "stable is its own canary")
}

// fast revert that never gets ready loops
func TestFoundFastRevertLoops(t *testing.T) {
	b := newBench(t).canary(Whole)
	promoted(b)
	b.run(5 * time.Second)
	b.drop(v2)
	b.stopped[v1] = true
	b.run(3 * time.Hour)
	b.want(b.count(EvRevertStarted) <= 1, "started %d times", b.count(EvRevertStarted))
}

// condemned stall is lost after drift at rest / resume at rest
func TestFoundStalledAfterRollbackIsLost(t *testing.T) {
	b := newBench(t).canary(500)
	fail(b)
	b.run(10 * time.Second)
	b.want(b.st.Stalled != "", "not stalled")
	b.obs.Route.Weights = map[Revision]Weight{v2: Whole}
	b.run(3 * time.Second)
	b.want(b.st.Stalled != "", "put right, and the rollback is forgotten")
}

func TestFoundResumeAtRestClearsCondemned(t *testing.T) {
	b := newBench(t).canary(500)
	fail(b)
	b.run(10 * time.Second)
	b.say(VerbResume)
	b.run(3 * time.Second)
	b.want(b.st.Stalled != "", "resume with nothing paused: stalled is gone")
}

func TestFoundMergeHidesARaise(t *testing.T) {
	n := &Note{N: 7, Stable: v1, Canary: v2, Weight: 0}
	b := newBench(t)
	_ = b
	r := MergeRoutes(v2, []Route{
		{Known: Present, Weights: map[Revision]Weight{v1: Whole}, Note: n, InFlight: map[Revision]int{v2: 0}},
		{Known: Present, Weights: map[Revision]Weight{v1: 5000, v2: 5000}, Note: &Note{N: 6, Stable: v1, Canary: v2, Weight: 5000}, InFlight: map[Revision]int{v2: 9}},
	})
	if noteMatches(*r.Note, r.Weights) && r.Note.N == 7 {
		t.Errorf("one route still sends 50 %% to v2, and the merged one says that decision 7 is in force; in flight on v2: %d", r.InFlight[v2])
	}
}

func TestFoundApproveMatchZeroReady(t *testing.T) {
	b := newBench(t)
	b.spec.Steps = append([]Step{{Kind: StepMatch, Match: &Match{Path: "/"}, Hold: time.Minute, ID: "m"}}, b.spec.Steps...)
	b.add(load(v2, 2, b.now))
	b.run(5 * time.Second)
	b.want(b.d.Traffic.Match != nil, "no match")
	b.stopped[v2] = true
	b.w(v2).Ready = 0
	b.run(6 * time.Hour)
	b.want(b.st.Phase == Idle || len(b.st.Pauses) > 0, "six hours: who asks for it gets nobody: %s", b.d.Status.Message)
}

// old stable restored state lost while held
func TestFoundRebuildHeldRollback(t *testing.T) {
	b := newBench(t).canary(Whole)
	b.stopped[v1] = true
	b.w(v1).Ready = 0
	fail(b)
	b.run(5 * time.Second)
	b.phase(RollingBack, Whole)
	b.st = State{}
	b.run(3 * time.Second)
	b.want(b.obs.Route.Weights[v1] == 0, "everything to v1, which has nobody: %v", b.obs.Route.Weights)
}

func TestFoundClockBack(t *testing.T) {
	b := newBench(t)
	b.noReceipt = true
	b.obs.Route.HasReceipt = false
	b.canary(500)
	fail(b)
	b.run(3 * time.Second)
	b.tick(-time.Hour)
	b.run(10 * time.Minute)
	b.want(b.st.Phase == Idle, "ten minutes: %s", b.d.Status.Message)
}

func TestFoundPersonPauseStableLostMessage(t *testing.T) {
	b := newBench(t).canary(Whole)
	b.drop(v1)
	b.run(time.Minute)
	b.want(b.d.Status.Stalled != "" || b.count(EvStableLost) > 0, "v1, the way back, is gone; nobody is told: %s", b.d.Status.Message)
}

// headroom: a hand that lowers is never obeyed
func TestFoundHeadroomHandNotObeyed(t *testing.T) {
	b := newBench(t)
	b.spec.Capacity.Headroom = 2000
	b.canary(5000)
	b.hand(0)
	b.run(2 * time.Second)
	b.want(b.st.Granted == 0 && b.count(EvDriftObeyed) == 1, "stable has all of its %d replicas ready", b.w(v1).Ready)
}

func TestFoundHeadroomHandAtRest(t *testing.T) {
	b := newBench(t)
	b.spec.Capacity.Headroom = 2000
	b.spec.Promotion.Retire = Keep
	promoted(b.canary(Whole))
	b.run(5 * time.Second)
	b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
	b.run(10 * time.Second)
	b.want(b.obs.Route.Weights[v1] == Whole, "the 3 a.m. switch back is undone: %v, v1 %d ready", b.obs.Route.Weights, b.w(v1).Ready)
}

// refused promote leaves the override on
func TestFoundRefusedPromoteOverrides(t *testing.T) {
	b := newBench(t)
	b.spec.Steps = append(b.spec.Steps[:1:1], append([]Step{{Kind: StepApproval, ID: "a"}}, b.spec.Steps[1:]...)...)
	b.canary(500)
	b.run(2 * time.Minute)
	b.say(VerbPromote, override)
	b.tick(time.Second)
	b.want(b.count(EvRefused) == 1, "not refused")
	fail(b)
	b.run(2 * time.Second)
	b.want(b.st.Phase == RollingBack || b.st.Phase == Idle, "the promote was refused, and a Fail is ignored from now on")
}

// fight stalls once only
func TestFoundSecondFightIsSilent(t *testing.T) {
	b := newBench(t).canary(500)
	fight := func() {
		for range 4 {
			b.hand(9000)
			b.tick(time.Second)
			b.tick(time.Second)
		}
	}
	fight()
	b.want(b.st.Stalled != "", "not stalled")
	b.say(VerbResume)
	b.run(20 * time.Second)
	b.want(b.st.Stalled == "", "still")
	fight()
	b.want(b.st.Stalled != "", "it fights on and is not stalled")
}

func TestFoundRouteGoneAtRest(t *testing.T) {
	b := newBench(t)
	b.obs.Route = Route{Known: Absent}
	b.frozenRoute = true
	b.run(time.Minute)
	b.want(b.d.Status.Stalled != "" || strings.Contains(b.d.Status.Message, "route"), "the route is gone: %q", b.d.Status.Message)
}

// newer that waits supersedes in a bake when the split is renewed
func TestFoundWaitingNewerSupersedesInBake(t *testing.T) {
	b := newBench(t).canary(Whole)
	b.add(load(v3, 2, b.now))
	b.run(time.Minute)
	b.want(b.st.Canary.Revision == v2, "superseded")
	w := b.w(v1)
	w.Revision, w.Generation = "v1@other", 2
	b.run(3 * time.Second)
	b.want(b.st.Canary.Revision == v2, "an edit of v1 threw v2 out of its bake")
}

func TestFoundWaitingNewerSupersedesAfterDrift(t *testing.T) {
	b := newBench(t).canary(Whole)
	b.add(load(v3, 2, b.now))
	b.run(time.Minute)
	b.obs.Route.Weights = map[Revision]Weight{v3: 1000, v2: 9000}
	b.run(3 * time.Second)
	b.want(b.st.Canary.Revision == v2, "a foreign write threw v2 out of its bake")
}

func TestFoundWaitingNewerSupersedesAtClosing(t *testing.T) {
	b := newBench(t)
	b.spec.Promotion.Control = 500
	b.add(load(v2, 2, b.now))
	b.reachPhase(Baking)
	b.run(time.Minute)
	b.add(load(v3, 2, b.now))
	promoted(b)
	b.want(b.st.Stable.Revision == v2, "stable is %s", b.st.Stable.Revision)
}

// old state at rest: the newer note names another stable
func TestFoundOldStateRevertsAPromotion(t *testing.T) {
	b := newBench(t)
	old := b.st
	promoted(b.canary(Whole))
	b.run(10 * time.Second)
	b.st = old
	b.run(2 * time.Minute)
	b.want(b.obs.Route.Weights[v1] == 0, "the note says that v2 is stable; two minutes later: %v", b.obs.Route.Weights)
}

func TestFoundOldStateBlocks(t *testing.T) {
	b := newBench(t)
	old := b.st
	promoted(b.canary(Whole))
	b.run(10 * time.Second)
	b.st = old
	b.stopped[v1] = true // its image is gone
	b.run(2 * time.Hour)
	b.want(b.st.Stable.Revision == v2, "two hours: %s, stable %s", b.d.Status.Message, b.st.Stable.Revision)
}

// blue/green: an edited hold drops the approval
func TestFoundBlueGreenEditDropsApproval(t *testing.T) {
	b := newBench(t)
	b.spec.BlueGreen = true
	b.spec.Steps = []Step{
		{Kind: StepMatch, Match: &Match{Header: map[string]string{"x": "1"}}, Hold: 10 * time.Minute, ID: "m10"},
		{Kind: StepApproval, ID: "a", By: []string{"bob"}},
		{Kind: StepWeight, Weight: Whole, ID: "w100"}}
	b.add(load(v2, 3, b.now))
	b.run(30 * time.Second)
	e := cloneSteps(b.spec.Steps)
	e[0].Hold, e[0].ID = 12*time.Minute, "m12"
	b.spec.Steps = e
	b.run(15 * time.Minute)
	b.want(b.st.Granted == 0, "nobody approved, and it has %s", b.st.Granted)
}

// unjudged + promote full
func TestFoundUnjudgedPromoteFull(t *testing.T) {
	b := newBench(t).canary(2500)
	b.drop(v1)
	b.run(3 * time.Second)
	b.say(VerbPromote, full)
	b.run(30 * time.Second)
	b.want(b.st.Stable.Revision == v2, "promote --full was taken and does nothing")
}

func TestFoundUnjudgedBlocksTheFix(t *testing.T) {
	b := newBench(t).canary(2500)
	b.drop(v1)
	b.run(3 * time.Second)
	b.add(load(v3, 3, b.now))
	b.drop(v2)
	b.run(2 * time.Hour)
	b.want(b.st.Stable.Revision == v3 || b.obs.Route.Weights[v3] > 0, "only v3 is left, and a day later: %v: %s", b.obs.Route.Weights, b.d.Status.Message)
}

func TestFoundMatchStaysWhenHandSetsZero(t *testing.T) {
	b := newBench(t)
	b.spec.Steps = append([]Step{{Kind: StepMatch, Match: &Match{Path: "/"}, Hold: time.Minute, ID: "m"}}, b.spec.Steps...)
	b.canary(500)
	b.hand(0)
	b.run(2 * time.Second)
	b.want(b.st.Granted == 0 && b.d.Traffic.Match == nil, "a hand took it all away, and the match (%v) still sends requests to it", b.d.Traffic.Match)
}

func TestFoundSecondHandMessage(t *testing.T) {
	b := newBench(t).canary(5000)
	b.hand(2500)
	b.run(2 * time.Second)
	b.hand(500) // the same person, a step lower; nobody resumed
	b.run(2 * time.Second)
	b.want(!strings.Contains(b.st.Stalled, "after it was resumed"), "nobody resumed: %s", b.st.Stalled)
}

func TestFoundNumbersAfterALostState(t *testing.T) {
	b := newBench(t).canary(500)
	fail(b)
	b.run(20 * time.Second)
	b.obs.Report = good()
	n := b.obs.Route.Note.N
	b.obs.Route.Note.Stable = "v0@gone" // the note's stable is not there any more
	b.st = State{}
	b.frozenScale = true
	b.w(v2).Condemned = false
	b.tick(time.Second)
	b.want(b.st.Stable.Revision == v1 && b.st.N > n, "the note has decision %d, the next one is %d", n, b.st.N)
	b.want(len(b.st.FailedRevisions()) == 1, "and who it condemns is forgotten: %v", b.st.Marks)
}

func TestFoundPauseThenResumeSettled(t *testing.T) {
	b := newBench(t)
	b.spec.Deleted = false
	b.canary(2500)
	b.drop(v2)
	b.hand(0)
	b.tick(time.Second)
	b.run(20 * time.Second)
	b.phase(Idle, 0)
}

func TestFoundRenameTests(t *testing.T) { // a test that runs is run again when the steps are edited
	b := newBench(t)
	b.spec.Steps = append([]Step{{Kind: StepTest, Test: "smoke", ID: "t"}}, b.spec.Steps...)
	b.add(load(v2, 2, b.now))
	b.run(3 * time.Second)
	id := b.d.Tests[0].ID
	e := cloneSteps(b.spec.Steps)
	e[2].Hold, e[2].ID = 3*time.Minute, "w25b"
	b.spec.Steps = e
	b.tick(time.Second)
	b.want(b.d.Tests[0].ID == id, "%s is started a second time as %s", id, b.d.Tests[0].ID)
	b.obs.Tests = []TestAnswer{{ID: id, Passed: false, Detail: "exit 1"}}
	b.run(3 * time.Second)
	b.want(b.count(EvRolledBack) == 1, "the answer of the first is thrown away: a failed test is not a fail")
}

// A rollback that is held because nobody of stable could answer does not keep
// the fix out: the newer version takes everything, unjudged.
func TestFoundHeldRollbackLetsTheFixIn(t *testing.T) {
	b := newBench(t).canary(2500)
	b.stopped[v1] = true
	b.w(v1).Ready = 0
	b.say(VerbAbort)
	b.run(2 * time.Second)
	b.want(b.st.Phase == RollingBack && b.st.Granted == 2500, "held: %s at %s", b.st.Phase, b.st.Granted)
	b.add(load(v3, 2, b.now))
	b.run(10 * time.Second)
	b.want(b.obs.Route.Weights[v3] == Whole && b.st.Unjudged, "the fix has %s: %s", b.obs.Route.Weights[v3], b.st.Stalled)
	b.want((&pass{st: b.st}).condemned(v2), "v2 is not condemned any more")
	b.w(v1).Ready = 3 // stable comes back: a person decides
	b.run(time.Minute)
	b.want(b.st.Granted == Whole && !b.st.Unjudged && b.st.Stable.Revision == v1, "granted %s, stable %s", b.st.Granted, b.st.Stable.Revision)
	b.say(VerbPromote)
	b.run(12 * time.Minute)
	b.want(b.st.Stable.Revision == v3, "stable is %s, %s", b.st.Stable.Revision, b.st.Phase)
}

// two objects under one label: no route tells them apart, so neither is a
// version of its own, and taking the second one "back" would take away pods that
// serve users.
func TestFoundTwinIsNoVersion(t *testing.T) {
	twin := func(b *bench, of Revision) Workload {
		w := load(NewRevision(of.Label(), "twin"), 4, b.now)
		w.Name += "-b"
		return w
	}
	t.Run("OfStable", func(t *testing.T) {
		b := newBench(t)
		w := twin(b, v1)
		b.add(w)
		b.run(15 * time.Minute)
		b.want(b.st.Phase == Idle && b.st.Canary.Revision == "", "a rollout from v1 to v1")
		b.now = b.now.Add(time.Minute)
		b.canary(Whole)
		b.want(b.w(w.Revision).Replicas == 4, "pods that serve v1's users were taken away")
	})
	t.Run("OfTheCanary", func(t *testing.T) {
		b := newBench(t).canary(500)
		w := twin(b, v2)
		b.add(w)
		b.run(10 * time.Second)
		b.want(b.st.Canary.Revision == v2 && b.st.Granted == 500 && b.w(w.Revision).Replicas == 4, "superseded by its twin")
	})
	t.Run("Inherits", func(t *testing.T) {
		b := newBench(t)
		w := twin(b, v1)
		b.add(w)
		b.run(time.Minute)
		b.drop(v1)
		b.run(time.Minute)
		b.want(b.st.Stable.Revision == w.Revision && b.st.Phase == Idle && b.count(EvStableChanged) == 1, "what has stable's label serves its users")
		b.canary(500)
	})
	t.Run("InheritsNothing", func(t *testing.T) { // it is behind no Service: a worker
		b := newBench(t)
		w := twin(b, v1)
		w.Ready = 0
		b.stopped[w.Revision] = true
		b.add(w)
		b.drop(v1)
		b.add(load(v2, 3, b.now))
		b.run(5 * time.Second)
		b.want(b.obs.Route.Weights[v2] == Whole, "nobody answers, and v2 has %s", b.obs.Route.Weights[v2])
	})
}

// one Deployment whose version label is edited: its old pods answer while the
// new ones come up, and the first of those cannot carry everything.
func TestFoundRelabelledInPlace(t *testing.T) {
	b := newBench(t)
	w := b.w(v1)
	w.Replicas, w.Ready = 10, 10
	b.tick(time.Second)
	*w = Workload{Revision: v2, Name: w.Name, UID: w.UID, Generation: 2, Since: b.now, Replicas: 10, Ready: 1, ReadyKnown: true}
	b.stopped[v2] = true
	b.run(30 * time.Second)
	b.want(b.obs.Route.Weights[v1] == Whole, "everything goes to the one new pod of ten")
	b.want(strings.Contains(b.d.Status.Stalled, "my-app-v1 was edited from v1 to v2 in place"), "stalled %q", b.d.Status.Stalled)
	b.w(v2).Ready = 5
	b.run(2 * time.Second)
	b.want(b.obs.Route.Weights[v2] == Whole && b.count(EvStableLost) == 1, "its old pods are going, and v2 has %s", b.obs.Route.Weights[v2])
}

// a note that is older than the split it stands on (the Rollout was deleted, and
// others moved the traffic since) says nothing about who is stable.
func TestFoundOutdatedNote(t *testing.T) {
	for to, then := range map[Revision]Revision{v3: "v4@dddd", v1: v3} { // others went on, or a hand went back
		b := newBench(t)
		b.spec.Promotion.Retire = Keep
		promoted(b.canary(Whole))
		b.run(5 * time.Second)
		b.st = State{}
		b.obs.Route.Weights = map[Revision]Weight{to: Whole}
		if to == v3 {
			b.add(load(v3, 3, b.now))
		}
		b.run(time.Minute)
		b.want(b.obs.Route.Weights[to] == Whole && b.st.Stable.Revision == to && b.st.Phase == Idle, "the users of %s were moved to %v", to, b.obs.Route.Weights)
		b.add(load(then, 2, b.now))
		b.reach(500)
	}
}

// a tool that follows Git takes everything to a retired version every few
// seconds: one decision says so, with what to paste, until it stops.
func TestFoundFightAtRest(t *testing.T) {
	b := newBench(t)
	b.spec.IgnoreRule = "ignoreDifferences: it"
	promoted(b.canary(Whole))
	b.run(5 * time.Second)
	for range 100 {
		b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
		b.tick(time.Second)
		b.want(b.obs.Route.Weights[v2] == Whole, "not put right")
		b.run(4 * time.Second)
	}
	b.want(b.count(EvDriftFight) == 1 && b.count(EvDriftUndone) == 2, "%d and %d entries", b.count(EvDriftFight), b.count(EvDriftUndone))
	b.want(strings.Contains(b.d.Status.Stalled, "ignoreDifferences: it"), "stalled %q", b.d.Status.Stalled)
	b.want(b.d.Wake.After(b.now) && !b.d.Wake.After(b.now.Add(10*time.Minute)), "looked at again at %v", b.d.Wake)
	b.now = b.d.Wake
	b.tick(time.Second)
	b.want(b.d.Status.Stalled == "" && b.d.Wake.IsZero(), "stalled %q, wake %v", b.d.Status.Stalled, b.d.Wake)
	b.add(load(v3, 2, b.now))
	b.reach(500)
}

// the source of the figures may be known only once the first weight was given
// (the pods have to be listed first): from then on it is kept.
func TestFoundSourceKnownLate(t *testing.T) {
	b := newBench(t).canary(500)
	b.want(b.st.Source == "", "source %q", b.st.Source)
	b.obs.Source = "pods"
	b.run(2 * time.Second)
	b.obs.Source = "prometheus"
	b.run(2 * time.Second)
	b.want(b.st.Source == "pods", "source %q", b.st.Source)
}

// a Service that selects the old version only (preflight says so) leaves the new
// one without a ready replica: that condemns nobody, and once it is mended the
// rollout goes on.
func TestFoundRefusedIsNotCondemned(t *testing.T) {
	b := newBench(t)
	b.obs.Findings = []Finding{{Level: Refuse, What: "the Service selects v1 only."}}
	w := load(v2, 2, b.now)
	w.Ready = 0
	b.stopped[v2] = true
	b.add(w)
	b.run(30 * time.Minute)
	b.phase(Preparing, 0)
	b.want(b.w(v2).Replicas == 2 && strings.Contains(b.d.Status.Stalled, "selects v1 only"), "stalled %q", b.d.Status.Stalled)
	b.obs.Findings, b.stopped[v2] = nil, false
	b.w(v2).Ready = 2
	b.reach(500)
}

// an autoscaler goes by figures of a minute ago: given its own minimum back the
// moment that stable has everything again, it scales stable down under it.
func TestFoundAutoscalerUnderTheTrafficBack(t *testing.T) {
	b := newBench(t)
	b.w(v1).HPA = &HPA{Name: "h1", Min: 1, Max: 10, Desired: 3}
	b.canary(Whole)
	b.run(5 * time.Minute) // its pods do nothing
	fail(b)
	b.tick(time.Second)
	b.phase(RollingBack, 0)
	b.obs.Report = good()
	for b.st.Phase != Idle {
		b.tick(time.Second)
	}
	for range 100 {
		b.tick(time.Second)
		b.want(b.w(v1).HPA.Min == 3, "its autoscaler may go down to %d", b.w(v1).HPA.Min)
	}
	b.want(!b.d.Wake.IsZero(), "nobody looks again")
	b.run(2 * time.Minute)
	b.want(b.w(v1).HPA.Min == 1 && len(b.st.HPAs) == 0 && b.d.Wake.IsZero(), "min %d, held %v, wake %v", b.w(v1).HPA.Min, b.st.HPAs, b.d.Wake)
}

// a document that goes gives it back at once: nobody would later.
func TestFoundAutoscalerOfWhoGoes(t *testing.T) {
	b := newBench(t)
	b.w(v1).HPA = &HPA{Name: "h1", Min: 1, Max: 10, Desired: 3}
	b.canary(500)
	b.say(VerbAbort)
	b.run(time.Minute)
	b.want(b.st.Phase == Idle && b.w(v1).HPA.Min == 3, "min %d", b.w(v1).HPA.Min)
	b.spec.Deleted = true
	b.run(2 * time.Second)
	b.want(b.w(v1).HPA.Min == 1, "min %d", b.w(v1).HPA.Min)
}

// a route that does not carry the split sends some users to the old version for
// good: taking it away would take their answers away.
func TestFoundRoutedElsewhere(t *testing.T) {
	b := newBench(t)
	b.obs.Route.Elsewhere = map[Revision]bool{v1: true}
	promoted(b.canary(Whole))
	b.run(5 * time.Minute)
	b.want(b.w(v1).Replicas == 3 && b.count(EvMentioned) == 1, "v1 has %d replicas, mentioned %d times", b.w(v1).Replicas, b.count(EvMentioned))
	b.want(b.d.Wake.IsZero(), "it is looked at again at %v", b.d.Wake)
	b.obs.Route.Elsewhere = nil
	b.run(5 * time.Second)
	b.want(b.w(v1).Replicas == 0, "v1 has %d replicas", b.w(v1).Replicas)
}

// what waits for data at 0 % goes on when a person says so: the fix of an outage
// may come while Prometheus is down, too.
func TestFoundPromoteInFullNeedsNoData(t *testing.T) {
	b := newBench(t)
	b.obs.Report = analysis.Report{}
	b.obs.Findings = []Finding{{Level: Wait, What: "Prometheus is down."}}
	b.add(load(v2, 3, b.now))
	b.run(time.Minute)
	b.phase(Preparing, 0)
	b.say(VerbPromote, full)
	b.reach(Whole)
}
