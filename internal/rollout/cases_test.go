package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/golden"
)

// A hard case: what is decided, and why. docs/CASES.md is written from here.
type hardCase struct {
	line   int // 1 to 29, the groups of docs/CASES.md
	name   string
	reason string
	run    func(t *testing.T)
}

func at(w Weight, f func(b *bench)) func(*testing.T) {
	return func(t *testing.T) { f(newBench(t).canary(w)) }
}

func rest(f func(b *bench)) func(*testing.T) { return func(t *testing.T) { f(newBench(t)) } }

func fail(b *bench) {
	b.obs.Report = analysis.Report{Verdict: analysis.Fail, Sentence: "5xx 5 % against 0.1 %.", Rollback: 1}
}

func override(c *Command) { c.Override = true }
func full(c *Command)     { c.Full = true }
func promoted(b *bench) *bench {
	b.t.Helper()
	for range 3000 {
		if b.tick(time.Second); b.st.Phase == Idle && b.st.Stable.Revision != v1 {
			return b
		}
	}
	b.t.Fatalf("never promoted\n%s", b.story())
	return b
}

var hardCases = []hardCase{
	{1, "TheWholeIsBaked", "The last step is the bake: the old version stays warm, and its hold is a part of the bake.", at(Whole, func(b *bench) {
		b.phase(Baking, Whole)
		b.run(9 * time.Minute)
		b.phase(Baking, Whole)
		b.want(b.w(v1).Replicas == 3, "stable was scaled down while baking")
		b.run(2 * time.Minute)
		b.want(b.st.Stable.Revision == v2, "not promoted")
	})},
	{1, "HoldOfTheWholeIsPartOfTheBake", "A hold at 100 % and a bake are one time, the longer of the two.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Steps[4].Hold = 15 * time.Minute
		b.canary(Whole)
		b.run(14 * time.Minute)
		b.phase(Baking, Whole)
		b.run(2 * time.Minute)
		b.want(b.st.Stable.Revision == v2, "not promoted")
	}},
	{1, "AlarmInTheBakeRollsBack", "The old version is warm: one step back.", at(Whole, func(b *bench) {
		fail(b)
		b.tick(time.Second)
		b.phase(RollingBack, 0)
	})},
	{1, "NoDataInTheBakePauses", "No data is no success: pause at the deadline, and nothing is retired.", at(Whole, func(b *bench) {
		b.obs.Report = analysis.Report{}
		b.run(31 * time.Minute)
		b.want(len(b.st.Pauses) == 1 && b.st.Pauses[0].Kind == PausePolicy, "not paused")
		b.phase(Baking, Whole)
		b.want(b.w(v1).Replicas == 3, "stable was retired")
	})},
	{2, "StableFlipsAtTheEndOfTheBake", "Until then the old version is the stable one.", at(Whole, func(b *bench) {
		b.run(9 * time.Minute)
		b.want(b.st.Stable.Revision == v1, "flipped early")
		promoted(b)
		b.want(b.st.Previous.Revision == v1, "the old one is not kept for undo")
	})},
	{2, "ControlLeavesBeforeRest", "With a control of 5 %, 100/0 in force and the old version seen without traffic come before rest.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Promotion.Control = 500
		b.add(load(v2, 2, b.now))
		for b.st.Phase != Baking {
			b.tick(time.Second)
		}
		b.phase(Baking, 9500)
		b.obs.Route.InFlight[v1] = 3
		b.run(11 * time.Minute)
		b.phase(Baking, Whole)
		b.want(b.st.Closing, "not closing")
		b.obs.Route.InFlight[v1] = 0
		b.run(3 * time.Second)
		b.want(b.st.Phase == Idle && b.st.Stable.Revision == v2, "not at rest")
	}},
	{3, "NewerWaitsOnceTheWholeIsLive", "What has everything is not thrown away for something untried: the newer one waits, warm, and starts after.", at(Whole, func(b *bench) {
		b.add(load(v3, 2, b.now))
		b.run(time.Minute)
		b.phase(Baking, Whole)
		b.want(b.st.Canary.Revision == v2, "superseded in the bake")
		promoted(b)
		b.run(5 * time.Second)
		b.want(b.st.Canary.Revision == v3, "the newer one did not start")
	})},
	{3, "NewerSupersedesEarlier", "Before that the newest is what its author wants judged.", at(2500, func(b *bench) {
		b.add(load(v3, 2, b.now))
		b.tick(time.Second)
		b.want(b.st.Canary.Revision == v3 && b.st.Granted == 0, "not superseded")
	})},
	{3, "FirstWeightWaitsForTheLeaving", "At most one canary has traffic: the newer one warms up while the old one drains.", at(2500, func(b *bench) {
		b.obs.Route.InFlight[v2] = 4
		w := load(v3, 1, b.now)
		w.Ready, w.Replicas = 0, 0
		b.add(w)
		b.run(20 * time.Second)
		b.phase(Preparing, 0)
		b.want(b.w(v3).Ready >= 1, "it did not warm up meanwhile")
		b.obs.Route.InFlight[v2] = 0
		b.run(3 * time.Second)
		b.phase(Progressing, 500)
	})},
	{4, "RetiringIsOwedAndCarriedOn", "retireAfter runs on in rest, and the debt outlives it.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Promotion.RetireAfter = time.Hour
		promoted(b.canary(Whole))
		b.run(50 * time.Minute)
		b.want(b.w(v1).Replicas == 3, "retired early")
		b.run(11 * time.Minute)
		b.want(b.w(v1).Replicas == 0, "never retired")
	}},
	{4, "RetiredOnceThenReleased", "What Git brings back afterwards stays at weight 0 and is mentioned once.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.w(v1).Replicas, b.w(v1).Ready = 3, 3
		b.run(time.Minute)
		b.want(b.w(v1).Replicas == 3, "fought over replicas that are not ours any more")
		b.want(b.count(EvMentioned) == 1, "mentioned %d times", b.count(EvMentioned))
		b.phase(Idle, 0)
	})},
	{4, "AtRestScaleIsEmpty", "At rest nothing is enforced: the replicas are the author's.", rest(func(b *bench) {
		b.want(len(b.d.Scale) == 0, "scale at rest: %v", b.d.Scale)
	})},
	{4, "FloorsOnly", "The author's larger count stays.", func(t *testing.T) {
		b := newBench(t)
		b.add(load(v2, 7, b.now))
		b.reach(500)
		for _, s := range b.d.Scale {
			b.want(s.Revision != v2 || s.Min <= 7, "floor %d", s.Min)
		}
		b.want(b.w(v2).Replicas == 7, "scaled to %d", b.w(v2).Replicas)
	}},
	{5, "NeedFollowsTheLargestStable", "R is the most that stable had in this rollout, with the headroom on top.", at(500, func(b *bench) {
		b.w(v1).Replicas, b.w(v1).Ready = 8, 8
		b.tick(time.Second)
		b.w(v1).Replicas, b.w(v1).Ready = 4, 4
		b.tick(time.Second)
		b.want(b.st.R == 8, "R = %d", b.st.R)
		b.want(need(8, 5000, 0) == 4 && need(8, 5000, 2500) == 5 && need(3, 500, 0) == 1 && need(3, 0, 0) == 1, "need")
	})},
	{5, "PreviousCountIsKeptForUndo", "Undo brings the old version back to the size it had.", at(Whole, func(b *bench) {
		promoted(b)
		b.want(b.st.Previous.R == 3, "R = %d", b.st.Previous.R)
	})},
	{6, "WatermarkNotNewest", "Only what came after everything considered before is a candidate.", at(Whole, func(b *bench) {
		promoted(b)
		b.add(load("v0@zzzz", 3, t0.Add(-2*time.Hour)))
		b.run(time.Minute)
		b.phase(Idle, 0)
	})},
	{6, "SupersededCountsAsRetired", "v3 gone again does not bring v2 back.", at(2500, func(b *bench) {
		b.add(load(v3, 2, b.now))
		b.run(5 * time.Second)
		b.drop(v3)
		b.run(time.Minute)
		b.want(b.st.Phase == Idle && b.st.Stable.Revision == v1, "v2 came back")
	})},
	{6, "MarksOnTheObjectCount", "A lost state does not lose who was condemned.", rest(func(b *bench) {
		w := load(v2, 2, b.now)
		w.Condemned = true
		b.add(w)
		b.run(10 * time.Second)
		b.phase(Idle, 0)
		b.want(len(b.st.FailedRevisions()) == 1, "not on the list")
	})},
	{6, "AdoptionRetiresTheOld", "Older than stable, or at 0 replicas, is history.", func(t *testing.T) {
		b := emptyBench(t)
		zero := load(v3, 0, t0)
		b.obs.Workloads.Items = []Workload{load("v0@zzzz", 3, t0.Add(-9*time.Hour)), load(v1, 3, t0.Add(-time.Hour)), zero}
		b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
		b.run(20 * time.Second)
		b.phase(Idle, 0)
		b.want(len(b.st.Marks) == 2, "marks: %v", b.st.Marks)
	}},
	{6, "TieByName", "Two objects of one second have an order.", rest(func(b *bench) {
		b.add(load(v3, 2, b.now))
		b.add(load(v2, 2, b.now))
		b.run(5 * time.Second)
		b.want(b.st.Canary.Revision == v3, "canary is %s", b.st.Canary.Revision)
	})},
	{7, "SameGenerationIsARebind", "A server upgrade that defaults a field restarts nothing, so it starts nothing.", at(500, func(b *bench) {
		b.w(v1).Revision = "v1@other"
		b.run(3 * time.Second)
		b.want(b.st.Stable.Revision == "v1@other" && b.st.Canary.Revision == v2, "stable %s", b.st.Stable.Revision)
		b.want(b.st.Phase == Progressing, "the rollout was lost")
	})},
	{7, "EditedStableIsSaidNotRolledOut", "Every pod changes at once, unjudged: recorded loudly, with the evidence from zero.", at(500, func(b *bench) {
		b.run(30 * time.Second)
		w := b.w(v1)
		w.Revision, w.Generation = "v1@other", 2
		b.tick(time.Second)
		b.want(b.count(EvStableChanged) == 1 && b.st.LiveFor == 0, "clocks go on: %s", b.st.LiveFor)
	})},
	{8, "FastRevertNeedsStableGoing", "Going back in Git: capacity, then one switch.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.drop(v2)
		b.w(v1).Replicas = 0
		b.run(5 * time.Second)
		b.want(b.st.Stable.Revision == v1 && b.count(EvReverted) == 1, "not reverted")
		b.want(b.w(v1).Ready == 3, "no capacity")
	})},
	{8, "RecreatedOldAloneStartsNothing", "A GitOps tool that re-creates v1 is not a wish for v1.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.drop(v1)
		b.tick(time.Second)
		b.add(load(v1, 3, b.now))
		b.run(time.Minute)
		b.want(b.st.Phase == Idle && b.st.Stable.Revision == v2, "v1 came back")
	})},
	{9, "AdoptionWithBothRunning", "100/0 says who is stable; the other one is the canary at once, and it is said.", func(t *testing.T) {
		b := emptyBench(t)
		b.obs.Workloads.Items = []Workload{load(v1, 3, t0.Add(-time.Hour)), load(v2, 2, t0)}
		b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
		b.run(5 * time.Second)
		b.phase(Progressing, 500)
		b.want(b.count(EvAdopted) == 1 && b.count(EvRolloutStarted) == 1, "not said")
	}},
	{9, "AmbiguousIsStalledAndNotTouched", "50/50 does not say who is stable; nothing is written until somebody does.", func(t *testing.T) {
		b := emptyBench(t)
		b.obs.Workloads.Items = []Workload{load(v1, 3, t0.Add(-time.Hour)), load(v2, 2, t0)}
		b.obs.Route.Weights = map[Revision]Weight{v1: 5000, v2: 5000}
		b.run(5 * time.Second)
		b.want(b.d.Traffic == nil && b.d.Status.Stalled != "" && strings.Contains(b.d.Status.Stalled, "v1, v2"), "stalled: %q", b.d.Status.Stalled)
		b.say(VerbAdopt, func(c *Command) { c.Revision = "v2" })
		b.run(3 * time.Second)
		b.want(b.st.Stable.Revision == v2, "adopt was not taken")
	}},
	{9, "TheUserSettlesIt", "Setting the route to 100/0 is as good as the command.", func(t *testing.T) {
		b := emptyBench(t)
		b.obs.Workloads.Items = []Workload{load(v1, 3, t0.Add(-time.Hour)), load(v2, 2, t0)}
		b.obs.Route.Weights = map[Revision]Weight{v1: 5000, v2: 5000}
		b.run(5 * time.Second)
		b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
		b.run(3 * time.Second)
		b.want(b.st.Stable.Revision == v1, "not adopted")
	}},
	{10, "RollbackNeedsNoReadiness", "Readiness that is not known does not stop the way back.", at(5000, func(b *bench) {
		b.obs.Workloads.Known = Unknown
		fail(b)
		b.tick(time.Second)
		b.phase(RollingBack, 0)
	})},
	{10, "RollbackToNobodyIsHeld", "Stable is known to have nobody: scale it up, hold the split, switch at the first ready pod.", at(5000, func(b *bench) {
		b.stopped[v1] = true
		b.w(v1).Ready = 0
		fail(b)
		b.run(3 * time.Second)
		b.phase(RollingBack, 5000)
		b.want(b.st.Stalled != "", "not said")
		b.w(v1).Ready = 1
		b.run(2 * time.Second)
		b.want(b.st.Granted == 0, "not switched")
	})},
	{10, "HeldIsHeldWhereNothingIsKnown", "Not to know is no ready pod: a restart in the middle of it does not take the traffic from the only one who answers.", at(5000, func(b *bench) {
		b.stopped[v1] = true
		b.w(v1).Ready = 0
		fail(b)
		b.run(3 * time.Second)
		b.phase(RollingBack, 5000)
		b.w(v1).ReadyKnown, b.w(v2).ReadyKnown = false, false
		b.run(3 * time.Second)
		b.phase(RollingBack, 5000)
		b.w(v2).ReadyKnown = true
		b.run(3 * time.Second)
		b.phase(RollingBack, 5000)
		b.w(v1).ReadyKnown, b.w(v1).Ready = true, 1
		b.run(2 * time.Second)
		b.want(b.st.Granted == 0, "not switched")
	})},
	{10, "HeldForNobodyIsNotHeld", "Where nobody of the canary is left either, not knowing stable's readiness is the usual case: back.", at(5000, func(b *bench) {
		b.stopped[v1], b.stopped[v2] = true, true
		b.w(v1).Ready = 0
		fail(b)
		b.run(3 * time.Second)
		b.phase(RollingBack, 5000)
		b.w(v1).ReadyKnown = false
		b.w(v2).Ready = 0
		b.run(2 * time.Second)
		b.want(b.st.Granted == 0, "not switched")
	})},
	{10, "HeldRollbackLetsTheFixIn", "While it is held, a newer version with a ready pod takes everything, unjudged: nobody else answers well.", at(2500, func(b *bench) {
		b.stopped[v1] = true
		b.w(v1).Ready = 0
		fail(b)
		b.run(3 * time.Second)
		b.phase(RollingBack, 2500)
		b.add(load(v3, 2, b.now))
		b.obs.Report = analysis.Report{}
		b.run(5 * time.Second)
		b.phase(Promoting, Whole)
		b.want(b.st.Canary.Revision == v3 && b.st.Unjudged && b.st.Stalled != "", "%s: %s", b.st.Canary.Revision, b.st.Stalled)
	})},
	{10, "FixThatNeverGotInIsJudged", "Its write was lost, and stable answers again: it is a release like any other.", at(2500, func(b *bench) {
		b.w(v1).Ready = 0
		b.stopped[v1] = true
		fail(b)
		b.tick(time.Second)
		b.frozenRoute = true
		b.add(load(v3, 2, b.now))
		b.obs.Report = analysis.Report{}
		b.tick(time.Second)
		b.want(b.st.Canary.Revision == v3 && b.st.Unjudged, "not decided")
		b.stopped[v1] = false
		b.w(v1).Ready = b.w(v1).Replicas
		b.tick(time.Second)
		b.frozenRoute = false
		b.phase(Preparing, 0)
		b.want(!b.st.Unjudged && b.st.Stalled == "", "%s", b.st.Stalled)
		for range 30 {
			b.tick(time.Second)
			b.want(b.obs.Route.Weights[v2] == 0 || b.obs.Route.Weights[v3] == 0, "both have a share: %v", b.obs.Route.Weights)
		}
		b.want(b.st.Canary.Revision == v3 && b.st.Granted == 500, "the fix is not on its way")
	})},
	{11, "StableLost", "Everything goes to a canary that is not condemned: recorded as unjudged, Stalled.", at(2500, func(b *bench) {
		b.drop(v1)
		b.run(3 * time.Second)
		b.phase(Promoting, Whole)
		b.want(b.st.Unjudged && b.st.Stalled != "" && b.count(EvStableLost) == 1, "not said")
		b.say(VerbPromote)
		b.run(3 * time.Second)
		b.want(b.st.Stable.Revision == v2 && b.st.Phase == Idle, "promote does not accept it")
	})},
	{11, "GoingIsNotLost", "One machine: a version whose file is gone serves until its traffic is gone.", at(2500, func(b *bench) {
		b.w(v1).Deleting = true
		b.run(10 * time.Second)
		b.want(!b.st.Unjudged, "lost")
	})},
	{12, "ReadinessGatesOnlyWhatIsAboveTheConfirmed", "A canary that loses a pod keeps its weight and gets no more.", at(5000, func(b *bench) {
		b.stopped[v2] = true
		b.w(v2).Ready = 1
		b.run(5 * time.Minute)
		b.phase(Progressing, 5000)
		b.want(b.d.Status.Waiting == WaitCapacity, "waiting for %s", b.d.Status.Waiting)
	})},
	{12, "NobodyReadyTwiceIsAFail", "Zero ready in two looks while stable is ready is worse than any error rate.", at(5000, func(b *bench) {
		b.stopped[v2] = true
		b.w(v2).Ready = 0
		b.tick(time.Second)
		b.phase(Progressing, 5000)
		b.tick(time.Second)
		b.phase(RollingBack, 0)
	})},
	{12, "NotKnownIsNotZero", "A list that failed says nothing about the pods.", at(5000, func(b *bench) {
		b.w(v2).ReadyKnown, b.w(v2).Ready = false, 0
		b.run(30 * time.Second)
		b.want(b.st.Phase == Progressing, "rolled back on nothing")
	})},
	{13, "StalledNeverStopsTheWayBack", "A person is needed for going on, not for going back.", at(5000, func(b *bench) {
		b.hand(2500)
		b.run(2 * time.Second)
		b.say(VerbResume)
		b.run(3 * time.Second)
		b.hand(500)
		b.run(2 * time.Second)
		b.want(b.st.Stalled != "", "not stalled")
		fail(b)
		b.tick(time.Second)
		b.phase(RollingBack, 0)
	})},
	{14, "LostStateGoesOnFromTheNote", "Numbers go on after the route's; the observed weight is kept, with no evidence.", at(2500, func(b *bench) {
		n := b.st.N
		b.st = State{}
		b.tick(time.Second)
		b.want(b.st.Granted == 2500 && b.st.N == n+1 && b.st.LiveFor == 0, "N = %d after %d", b.st.N, n)
		b.run(3 * time.Second)
		b.phase(Progressing, 2500)
	})},
	{14, "NewerAndLowerIsAdopted", "A rollback that was written and not saved is kept, condemned revision and all.", at(2500, func(b *bench) {
		old := b.st
		fail(b)
		b.tick(time.Second)
		b.obs.Report = good()
		b.st = old
		b.tick(time.Second)
		b.want(b.st.Phase == RollingBack && len(b.st.FailedRevisions()) == 1, "the fail was lost")
	})},
	{14, "NewerAndHigherIsReadAgain", "A state that is behind writes nothing.", at(500, func(b *bench) {
		b.obs.Route.Note = &Note{N: b.st.N + 3, Stable: v1, Canary: v2, Weight: 2500}
		b.obs.Route.Weights = map[Revision]Weight{v1: 7500, v2: 2500}
		b.frozenRoute = true
		b.tick(time.Second)
		b.want(b.d.Traffic == nil && len(b.d.Events) == 0, "something was written")
		b.run(2 * time.Minute)
		b.want(b.d.Traffic != nil && b.st.Granted <= 500, "it hangs")
	})},
	{14, "OlderNumberOtherWeightsIsAHand", "A lost write has its own weights; anything else was somebody.", at(5000, func(b *bench) {
		b.obs.Route.Note = &Note{N: b.st.TrafficN - 1, Stable: v1, Canary: v2, Weight: 2500}
		b.obs.Route.Weights = map[Revision]Weight{v1: 9000, v2: 1000}
		b.tick(time.Second)
		b.want(b.st.Granted == 1000 && b.count(EvDriftObeyed) == 1, "not obeyed")
	})},
	{14, "OlderNumberOwnWeightsIsALostWrite", "It is written again, and nobody is blamed.", at(5000, func(b *bench) {
		b.obs.Route.Note = &Note{N: b.st.TrafficN - 1, Stable: v1, Canary: v2, Weight: 2500}
		b.obs.Route.Weights = map[Revision]Weight{v1: 7500, v2: 2500}
		b.obs.Route.Receipt--
		b.tick(time.Second)
		b.want(b.d.Traffic != nil && b.d.Traffic.Weight == 5000 && len(b.d.Events) == 0, "%v", b.d.Events)
	})},
	{15, "AtRestNobodyThereIsPutRight", "A split that would drop requests is not a wish.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
		b.run(2 * time.Second)
		b.want(b.obs.Route.Weights[v2] == Whole && b.count(EvDriftUndone) == 1, "left")
	})},
	{15, "AtRestAHandIsLeft", "A person's switch back at 3 a.m. stands, and the question is asked.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Promotion.Retire = Keep
		promoted(b.canary(Whole))
		b.run(5 * time.Second)
		b.obs.Route.Weights = map[Revision]Weight{v1: Whole}
		b.run(time.Minute)
		b.want(b.obs.Route.Weights[v1] == Whole && strings.Contains(b.d.Status.Stalled, "undo") && b.count(EvDriftLeft) == 1, "not left")
		b.say(VerbUndo)
		b.run(5 * time.Second)
		b.want(b.st.Stable.Revision == v1 && b.st.Phase == Idle, "undo does not take it over")
	}},
	{15, "ForeignWritesWithholdRetiring", "Until it is settled who may be needed again is not known.", at(Whole, func(b *bench) {
		promoted(b)
		b.frozenRoute = true
		b.obs.Route.Weights = map[Revision]Weight{v2: 9000, v1: 1000}
		b.run(30 * time.Second)
		b.want(b.w(v1).Replicas == 3, "retired under a foreign split")
	})},
	{16, "ResumeGoesOnAboveTheHeldWeight", "With the clocks from zero.", at(5000, func(b *bench) {
		b.hand(1000)
		b.run(5 * time.Second)
		b.phase(Progressing, 1000)
		b.say(VerbResume)
		b.run(3 * time.Second)
		b.phase(Progressing, 2500)
	})},
	{16, "SecondLoweringStalls", "Resume clears it and keeps the counter; the counter ends with the revision.", at(5000, func(b *bench) {
		b.hand(1000)
		b.run(2 * time.Second)
		b.say(VerbResume)
		b.run(5 * time.Second)
		b.hand(500)
		b.run(2 * time.Second)
		b.want(strings.Contains(b.st.Stalled, "PASTE-THIS"), "no rule to paste")
		b.say(VerbResume)
		b.run(2 * time.Second)
		b.want(b.st.Stalled == "" && b.st.Drift.Lowered == 2, "lowered %d", b.st.Drift.Lowered)
		b.add(load(v3, 2, b.now))
		b.run(2 * time.Second)
		b.want(b.st.Drift.Lowered == 0, "the counter goes on")
	})},
	{16, "RestoreFallsBackToObey", "After three flips in ten minutes the hand means it: obeyed, and Stalled with the rule to paste.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Drift = Restore
		b.canary(5000)
		for range 2 {
			b.hand(500)
			b.run(5 * time.Second)
			b.phase(Progressing, 5000)
		}
		b.hand(500)
		b.run(2 * time.Second)
		b.phase(Progressing, 500)
		b.want(strings.Contains(b.st.Stalled, b.spec.IgnoreRule) && b.count(EvDriftFight) == 1, "stalled %q", b.st.Stalled)
		b.say(VerbResume)
		b.run(2 * time.Second)
		b.want(b.st.Stalled == "", "still %q", b.st.Stalled)
	}},
	{16, "FightsAreOneDecision", "A tool that writes every second gets one entry, not fifty.", at(500, func(b *bench) {
		for range 50 {
			b.hand(9000)
			b.frozenRoute = true
			b.tick(time.Second)
		}
		b.want(b.count(EvDriftUndone) == 1, "%d entries", b.count(EvDriftUndone))
	})},
	{16, "RaisedByHandIsUndone", "Only lowering is obeyed.", at(500, func(b *bench) {
		b.hand(9000)
		b.run(2 * time.Second)
		b.phase(Progressing, 500)
		b.want(b.obs.Route.Weights[v2] == 500, "left")
	})},
	{16, "LoweredToNobodyIsUndone", "A hand that would drop requests is not obeyed.", at(5000, func(b *bench) {
		b.stopped[v1] = true
		b.w(v1).Ready = 1
		b.hand(0)
		b.run(2 * time.Second)
		b.phase(Progressing, 5000)
	})},
	{17, "DeclaredLowerIsObeyed", "One machine: the file is the hand.", func(t *testing.T) { declaredCase(t, 100, 100) }},
	{17, "DeclaredHigherIsIgnoredAndSaid", "Raising is what evidence is for.", func(t *testing.T) { declaredCase(t, 9000, 2500) }},
	{17, "DeclaredLowerWaitsForWhoTakesTheRest", "A hand that cannot be obeyed yet is not forgotten, and nothing is raised over it.", func(t *testing.T) {
		b := newBench(t)
		b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": Whole}}
		b.canary(2500)
		b.stopped[v1], b.w(v1).Ready = true, 1
		b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": 9900, "v2": 100}}
		b.run(5 * time.Minute)
		b.phase(Progressing, 2500)
		b.want(b.count(EvMentioned) == 1, "said %d times", b.count(EvMentioned))
		b.w(v1).Ready = b.w(v1).Replicas
		b.run(3 * time.Second)
		b.phase(Progressing, 100)
		b.want(b.count(EvDriftObeyed) == 1, "not obeyed")
	}},
	{17, "EditedWhileDownCountsTheSame", "The weights last seen are in the state.", func(t *testing.T) {
		b := newBench(t)
		b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": Whole}}
		b.canary(2500)
		b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": 9900, "v2": 100}}
		b.tick(20 * time.Minute) // the daemon was down
		b.phase(Progressing, 100)
	}},
	{18, "TheLowestOfSeveralRoutesWins", "A hand on one route lowers all.", func(t *testing.T) {
		n := &Note{N: 7}
		r := MergeRoutes(v2, []Route{
			{Known: Present, Weights: map[Revision]Weight{v1: 5000, v2: 5000}, Note: n, HasReceipt: true, Receipt: 7},
			{Known: Present, Weights: map[Revision]Weight{v1: 9000, v2: 1000}, Note: n, HasReceipt: true, Receipt: 6},
		})
		if r.Weights[v2] != 1000 || r.Receipt != 6 {
			t.Errorf("merged: %+v", r)
		}
		if r := MergeRoutes(v2, []Route{{Known: Present}, {Known: Unknown}, {Known: Absent}}); r.Known != Unknown {
			t.Errorf("one unknown makes all unknown: %+v", r)
		}
	}},
	{19, "DeletedCanaryIsWithdrawn", "Weight 0, and nobody is condemned.", at(2500, func(b *bench) {
		b.drop(v2)
		b.run(5 * time.Second)
		b.want(b.st.Phase == Idle && b.st.Granted == 0 && len(b.st.FailedRevisions()) == 0, "condemned")
		b.want(b.st.History[0].Result == Withdrawn, "outcome %s", b.st.History[0].Result)
	})},
	{19, "CondemnedAndGoneNeedsNobody", "Who takes the version away that was taken back has done what was asked; it stays condemned.", at(2500, func(b *bench) {
		b.say(VerbAbort)
		b.run(10 * time.Second)
		b.want(b.st.Phase == Idle && strings.Contains(b.d.Status.Stalled, "v2 is condemned"), "stalled %q", b.d.Status.Stalled)
		b.obs.Workloads.Known = Unknown
		b.run(2 * time.Second)
		b.want(strings.Contains(b.d.Status.Stalled, "v2 is condemned"), "a list that failed settled it")
		b.obs.Workloads.Known = Present
		b.drop(v2)
		b.run(2 * time.Second)
		b.want(b.d.Status.Stalled == "" && len(b.st.FailedRevisions()) == 1, "stalled %q, condemned %v", b.d.Status.Stalled, b.st.FailedRevisions())
	})},
	{19, "CondemnedAndDeletedByUs", "With rollback.retire: Delete its absence does not say that nobody asks for it.", at(2500, func(b *bench) {
		b.spec.RollbackRetire = Delete
		b.say(VerbAbort)
		b.run(10 * time.Second)
		b.drop(v2)
		b.run(2 * time.Second)
		b.want(strings.Contains(b.d.Status.Stalled, "v2 is condemned"), "stalled %q", b.d.Status.Stalled)
	})},
	{19, "DocumentDeletedInACalmBake", "Everything is on the new version and nothing speaks against it: leave it there.", at(Whole, func(b *bench) {
		b.spec.Deleted = true
		b.run(3 * time.Second)
		b.want(b.st.Stable.Revision == v2 && b.obs.Route.Weights[v2] == Whole, "moved")
	})},
	{19, "DocumentDeletedElsewhere", "Traffic goes back to stable.", at(2500, func(b *bench) {
		b.spec.Deleted = true
		b.run(3 * time.Second)
		b.want(b.st.Stable.Revision == v1 && b.obs.Route.Weights[v1] == Whole && b.st.Phase == Idle, "not back")
	})},
	{19, "EditedStepsGoOnAbove", "From the next weight above the one in force; what is in force is still judged.", at(2500, func(b *bench) {
		b.spec.Steps = []Step{{Kind: StepWeight, Weight: 1000, ID: "n10", Hold: time.Minute}, {Kind: StepWeight, Weight: 4000, ID: "n40", Hold: time.Minute}, {Kind: StepWeight, Weight: Whole, ID: "w100"}}
		b.tick(time.Second)
		b.phase(Progressing, 2500)
		b.reach(4000)
		b.reach(Whole)
		b.want(b.count(EvStepsChanged) == 1, "%d", b.count(EvStepsChanged))
	})},
	{19, "EditedStepsWithNoneAbovePause", "No jump.", at(7500, func(b *bench) {
		b.spec.Steps = []Step{{Kind: StepWeight, Weight: 1000, ID: "n10"}}
		b.tick(time.Second)
		b.phase(Progressing, 7500)
		b.want(len(b.st.Pauses) == 1, "not paused")
	})},
	{19, "EditedTestTakesThePlaceOfTheOneBefore", "What the document does not have any more nobody can run: it is not waited for.", func(t *testing.T) {
		b := newBench(t)
		steps := b.spec.Steps
		b.spec.Steps = append([]Step{{Kind: StepTest, Test: "smoke", ID: "t"}}, steps...)
		b.add(load(v2, 2, b.now))
		b.run(3 * time.Second)
		old := b.d.Tests[0].ID
		b.spec.Steps = append([]Step{{Kind: StepTest, Test: "better", ID: "u"}}, steps...)
		b.run(3 * time.Second)
		b.want(len(b.d.Tests) == 1 && b.d.Tests[0].Name == "better", "asked for: %v", b.d.Tests)
		b.want(b.st.Granted == 0, "%s before its test", b.st.Granted)
		b.obs.Tests = []TestAnswer{{ID: old, Detail: "exit 1"}, {ID: b.d.Tests[0].ID, Passed: true}}
		b.reach(500)
		b.want(b.count(EvStepsChanged) == 1, "%d", b.count(EvStepsChanged))
	}},
	{20, "GoneIsSettledAndQuiet", "Without a receipt: settled, no new request for five seconds, nothing in flight.", func(t *testing.T) {
		b := newBench(t)
		b.noReceipt = true
		b.obs.Route.HasReceipt = false
		b.canary(2500)
		fail(b)
		b.tick(time.Second)
		for range 12 { // somebody still calls
			b.obs.Route.Requests[v2]++
			b.tick(time.Second)
		}
		b.want(b.st.Phase == RollingBack, "gone too early")
		b.run(20 * time.Second)
		b.want(b.st.Phase == Idle, "never gone")
	}},
	{20, "QuietIsReadNotAssumed", "A count that was not renewed says nothing of the time since: scrapes may be half a minute apart.", func(t *testing.T) {
		b := newBench(t)
		b.noReceipt = true
		b.obs.Route.HasReceipt = false
		b.obs.Route.Counted = map[Revision]time.Time{v1: b.now}
		b.canary(Whole)
		promoted(b)
		for i := range 100 { // somebody calls v1 around the route
			if i%30 == 0 {
				b.obs.Route.Counted = map[Revision]time.Time{v1: b.now}
				b.obs.Route.Requests[v1] += 30
			}
			b.tick(time.Second)
		}
		b.want(b.w(v1).Replicas == 3 && b.count(EvMentioned) == 1, "retired while called")
		b.run(time.Minute)
		b.want(b.w(v1).Replicas == 3, "retired on a count that was not renewed")
		b.obs.Route.Counted = map[Revision]time.Time{v1: b.now}
		b.run(3 * time.Second)
		b.want(b.w(v1).Replicas == 0, "never gone")
	}},
	{20, "CountsThatAreAwayAreNoQuiet", "A process that was just started has none yet; after two drain timeouts there are none.", func(t *testing.T) {
		b := newBench(t)
		b.noReceipt = true
		b.obs.Route.HasReceipt = false
		b.obs.Route.Counted = map[Revision]time.Time{}
		b.canary(Whole)
		promoted(b)
		for range 90 { // somebody calls v1 around the route
			b.obs.Route.Counted[v1] = b.now
			b.obs.Route.Requests[v1]++
			b.tick(time.Second)
		}
		b.obs.Route.Measured = false
		b.run(time.Minute)
		b.want(b.w(v1).Replicas == 3, "retired because nothing was counted for a minute")
		b.run(5 * time.Minute)
		b.want(b.w(v1).Replicas == 0, "never gone")
	}},
	{20, "SupersedingNeverWaitsLonger", "The drain timeout bounds it.", at(2500, func(b *bench) {
		b.obs.Route.InFlight[v2] = 1
		b.add(load(v3, 2, b.now))
		b.run(55 * time.Second)
		b.phase(Preparing, 0)
		b.run(10 * time.Second)
		b.phase(Progressing, 500)
	})},
	{20, "StillCalledIsKept", "Real requests after the end: keep it, and say so.", func(t *testing.T) {
		b := newBench(t)
		b.noReceipt = true
		b.obs.Route.HasReceipt = false
		b.canary(Whole)
		promoted(b)
		for range 100 {
			b.obs.Route.Requests[v1]++
			b.tick(time.Second)
		}
		b.want(b.w(v1).Replicas == 3 && b.count(EvMentioned) == 1, "retired while called")
		b.run(10 * time.Second)
		b.want(b.w(v1).Replicas == 0, "not retired when quiet")
	}},
	{20, "SeenLiveNeedsTheShare", "Settled is not enough where the counts say otherwise.", func(t *testing.T) {
		b := newBench(t)
		b.noReceipt = true
		b.obs.Route.HasReceipt = false
		b.add(load(v2, 2, b.now))
		for range 90 { // the data plane still sends everything to v1
			b.obs.Route.Requests[v1] += 100
			b.tick(time.Second)
		}
		b.want(b.st.LiveAt.IsZero() && b.d.Status.Waiting == WaitTraffic, "waiting for %s", b.d.Status.Waiting)
		for range 25 {
			b.obs.Route.Requests[v1] += 95
			b.obs.Route.Requests[v2] += 5
			b.tick(time.Second)
		}
		b.want(!b.st.LiveAt.IsZero(), "never live")
	}},
	{20, "NeverLiveEndsAtTheDeadline", "Then onUnavailable.", func(t *testing.T) {
		b := newBench(t)
		b.noReceipt = true
		b.obs.Route.HasReceipt = false
		b.spec.Analysis.OnUnavailable = ActRollBack
		b.add(load(v2, 2, b.now))
		for range 1900 {
			b.obs.Route.Requests[v1] += 100
			b.tick(time.Second)
		}
		b.want(b.count(EvRolledBack) == 1, "it hangs")
		why := b.st.History[len(b.st.History)-1].Why
		b.want(strings.Contains(why, "of the last 1000 requests reached v1; somebody may call it around the route"), "it says %q", why)
	}},
	{21, "DeadlineRunsFromSeenLive", "Not from the write.", at(500, func(b *bench) {
		b.obs.Report = analysis.Report{Verdict: analysis.Undecided, Calm: true, CanaryRequests: 10, Scored: time.Hour}
		b.run(29 * time.Minute)
		b.phase(Progressing, 500)
		b.run(2 * time.Minute)
		b.phase(Progressing, 2500)
	})},
	{21, "NeverReadyIsRolledBack", "In Preparing, after the capacity deadline: condemned, with the reason.", rest(func(b *bench) {
		w := load(v2, 2, b.now)
		w.Ready, w.Why = 0, "image not found"
		b.stopped[v2] = true
		b.add(w)
		b.run(9 * time.Minute)
		b.phase(Preparing, 0)
		b.run(2 * time.Minute)
		b.want(b.st.Phase == Idle && len(b.st.FailedRevisions()) == 1 && strings.Contains(b.st.History[0].Why, "image not found"), "not condemned")
	})},
	{21, "LaterThatIsAPause", "Above weight 0 the users are served: pause at the last weight.", func(t *testing.T) {
		b := newBench(t)
		b.stopped[v2] = true
		w := load(v2, 1, b.now)
		b.add(w)
		b.run(15 * time.Minute)
		b.phase(Progressing, 2500) // one replica carries 25 % of three
		b.want(len(b.st.Pauses) == 1, "not paused")
	}},
	{21, "ResumeRestartsTheDeadline", "And pauses by policy do not end by themselves when data returns.", at(500, func(b *bench) {
		b.obs.Report = analysis.Report{}
		b.run(31 * time.Minute)
		b.want(len(b.st.Pauses) == 1, "not paused")
		b.obs.Report = good()
		b.run(5 * time.Minute)
		b.phase(Progressing, 500)
		b.obs.Report = analysis.Report{}
		b.say(VerbResume)
		b.run(29 * time.Minute)
		b.want(len(b.st.Pauses) == 0, "paused at once again")
	})},
	{21, "PauseStopsClocks", "Hold, deadline and bake stand still.", at(500, func(b *bench) {
		b.say(VerbPause)
		b.run(2 * time.Hour)
		b.phase(Progressing, 500)
		b.want(b.st.LiveFor < 5*time.Second, "clock at %s", b.st.LiveFor)
	})},
	{22, "AdvanceAtTheDeadlineNeedsSamples", "Less than half of the live time scored, or no request: that is Unavailable.", at(500, func(b *bench) {
		b.obs.Report = analysis.Report{Verdict: analysis.Undecided, Calm: true, CanaryRequests: 10, Scored: time.Minute}
		b.run(31 * time.Minute)
		b.phase(Progressing, 500)
		b.want(len(b.st.Pauses) == 1, "advanced on too little")
	})},
	{22, "NotCalmPauses", "Something speaks against it: a person decides.", at(500, func(b *bench) {
		b.obs.Report = analysis.Report{Verdict: analysis.Undecided, CanaryRequests: 10, Scored: time.Hour}
		b.run(31 * time.Minute)
		b.want(len(b.st.Pauses) == 1 && b.st.Granted == 500, "advanced")
	})},
	{22, "BothBreakPauses", "It is not the canary's doing, and not a time to go on.", at(500, func(b *bench) {
		b.obs.Report = analysis.Report{Verdict: analysis.Undecided, Calm: true, BothBreak: true, CanaryRequests: 10, Scored: time.Hour}
		b.run(31 * time.Minute)
		b.want(len(b.st.Pauses) == 1 && b.st.Granted == 500, "advanced")
	})},
	{22, "MatchApprovalAndTestNeedNoPass", "Nothing is compared there; a Fail counts all the same.", func(t *testing.T) {
		b := newBench(t)
		b.obs.Report = analysis.Report{}
		b.spec.Steps = append([]Step{
			{Kind: StepTest, Test: "smoke", ID: "t"},
			{Kind: StepMatch, Match: &Match{Header: map[string]string{"x-canary": "1"}}, Hold: time.Minute, ID: "m"},
			{Kind: StepApproval, ID: "a", By: []string{"bob"}},
		}, b.spec.Steps...)
		b.add(load(v2, 2, b.now))
		b.run(3 * time.Second)
		b.want(len(b.d.Tests) == 1, "no test asked for")
		b.obs.Tests = []TestAnswer{{ID: b.d.Tests[0].ID, Passed: true}}
		b.run(3 * time.Second)
		b.want(b.d.Traffic.Match != nil && b.d.Traffic.Weight == 0, "no match: %+v", b.d.Traffic)
		b.run(90 * time.Second)
		b.want(b.d.Status.Waiting == WaitApproval, "waiting for %s", b.d.Status.Waiting)
		b.say(VerbApprove)
		b.run(2 * time.Second)
		b.want(b.count(EvRefused) == 1, "alice may approve")
		b.say(VerbApprove, func(c *Command) { c.By = "bob" })
		b.run(3 * time.Second)
		b.phase(Progressing, 500)
	}},
	{22, "AnApprovalHasItsOwnDeadline", "When it is over the canary is taken back: a decision that nobody made is no yes. Retry asks again.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Steps = append(b.spec.Steps[:1:1], append([]Step{{Kind: StepApproval, ID: "a", Until: time.Hour}}, b.spec.Steps[1:]...)...)
		b.canary(500)
		b.run(50 * time.Minute)
		b.want(b.d.Status.Waiting == WaitApproval && !b.d.Status.Until.IsZero(), "no countdown")
		b.run(20 * time.Minute)
		b.want(b.st.Phase == Idle && b.count(EvRolledBack) == 1, "still waiting")
		b.say(VerbRetry)
		b.run(5 * time.Second)
		b.phase(Progressing, 500)
	}},
	{22, "AFailedTestRollsBack", "Before any user sees it.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Steps = append([]Step{{Kind: StepTest, Test: "smoke", ID: "t"}}, b.spec.Steps...)
		b.add(load(v2, 2, b.now))
		b.run(3 * time.Second)
		b.obs.Tests = []TestAnswer{{ID: b.d.Tests[0].ID, Detail: "exit 1"}}
		b.run(3 * time.Second)
		b.want(b.st.Phase == Idle && len(b.st.FailedRevisions()) == 1, "went on")
	}},
	{23, "FailCountsFromTheFirstRequest", "Before the split is seen live, and in every step.", rest(func(b *bench) {
		b.add(load(v2, 2, b.now))
		b.frozenRoute = false
		for b.st.Granted == 0 {
			b.tick(time.Second)
		}
		fail(b)
		b.tick(time.Second)
		b.phase(RollingBack, 0)
	})},
	{24, "GapsCountForNothing", "A pass that is later than its wake and a minute saw nothing in between; a clock that goes back counts as 0.", at(500, func(b *bench) {
		b.run(20 * time.Second)
		was := b.st.LiveFor
		b.tick(time.Hour)
		b.want(b.st.LiveFor == was, "an hour of nothing counted: %s", b.st.LiveFor-was)
		b.tick(-30 * time.Minute)
		b.want(b.st.LiveFor == was, "went back")
		b.run(3 * time.Second)
		b.want(b.st.LiveFor > was, "stands still")
	})},
	{25, "SourceIsChosenOnce", "In Preparing, and never switched in the middle.", rest(func(b *bench) {
		b.obs.Source = "gateway"
		b.canary(500)
		b.obs.Source = "prometheus"
		b.run(5 * time.Second)
		b.want(b.st.Source == "gateway", "source %s", b.st.Source)
	})},
	{25, "FindingsRefuseWaitWarn", "Refuse and Wait keep the canary at 0 %; Warn does not.", rest(func(b *bench) {
		b.obs.Findings = []Finding{{Level: Refuse, What: "the Service selects v1 only.", Remedy: "Remove version from it."}}
		b.add(load(v2, 2, b.now))
		b.run(30 * time.Second)
		b.phase(Preparing, 0)
		b.want(strings.Contains(b.d.Status.Stalled, "selects v1 only"), "stalled %q", b.d.Status.Stalled)
		b.obs.Findings = []Finding{{Level: Wait, What: "Prometheus is down."}}
		b.run(5 * time.Second)
		b.want(b.d.Status.Waiting == WaitData && b.st.Granted == 0, "waiting for %s", b.d.Status.Waiting)
		b.obs.Findings = []Finding{{Level: Warn, What: "no sidecar."}}
		b.run(5 * time.Second)
		b.phase(Progressing, 500)
	})},
	{26, "CommandsForSomethingElseAreRefused", "And that is recorded.", at(500, func(b *bench) {
		b.say(VerbAbort, func(c *Command) { c.Revision = "v9" })
		b.say(VerbPromote, func(c *Command) { c.N = 1 })
		b.run(3 * time.Second)
		b.phase(Progressing, 500)
		b.want(b.count(EvRefused) == 2, "refused %d", b.count(EvRefused))
	})},
	{26, "AbortWinsWithinAPass", "Over Fail, over everything.", at(500, func(b *bench) {
		fail(b)
		b.say(VerbPromote, full, override)
		b.say(VerbAbort)
		b.tick(time.Second)
		b.want(b.st.Ending != nil && b.st.Ending.Result == Aborted && b.st.Granted == 0, "not aborted")
	})},
	{26, "EveryCommandOrderIsSafe", "Each pair, in each phase: no panic, no invariant broken, one end.", func(t *testing.T) {
		verbs := []Verb{VerbAbort, VerbUndo, VerbPause, VerbApprove, VerbResume, VerbPromote, VerbRetry, VerbAdopt, "nonsense"}
		for _, start := range []Weight{-1, 500, 5000, Whole} {
			for _, x := range verbs {
				for _, y := range verbs {
					b := newBench(t)
					if start >= 0 {
						b.canary(start)
					}
					b.say(x)
					b.tick(time.Second)
					b.say(y)
					b.run(10 * time.Second)
					b.say(VerbResume)
					b.run(20 * time.Second)
					if t.Failed() {
						t.Fatalf("%v at %s", []Verb{x, y}, start)
					}
				}
			}
		}
	}},
	{27, "OverrideSilencesFail", "For this revision, until rest; abort still wins.", at(500, func(b *bench) {
		b.say(VerbPromote, full, override)
		b.tick(time.Second)
		fail(b)
		b.run(20 * time.Second)
		b.phase(Baking, Whole)
		b.say(VerbAbort)
		b.tick(time.Second)
		b.phase(RollingBack, 0)
	})},
	{27, "PromoteEndsTheStep", "And implies resume.", at(500, func(b *bench) {
		b.say(VerbPause)
		b.tick(time.Second)
		b.say(VerbPromote)
		b.run(2 * time.Second)
		b.phase(Progressing, 2500)
	})},
	{27, "PromoteDoesNotBeatSuspend", "What Git says stands.", at(500, func(b *bench) {
		b.spec.Suspend = true
		b.say(VerbPromote)
		b.run(5 * time.Second)
		b.phase(Progressing, 500)
		b.want(b.count(EvRefused) == 1, "not refused")
	})},
	{27, "PromoteNeverApproves", "Who may deploy is not who may approve; not even in full.", func(t *testing.T) {
		b := newBench(t)
		b.spec.Steps = append(b.spec.Steps[:1:1], append([]Step{{Kind: StepApproval, ID: "a"}}, b.spec.Steps[1:]...)...)
		b.canary(500)
		b.say(VerbPromote, full)
		b.run(10 * time.Second)
		b.phase(Progressing, 500)
		b.say(VerbPromote)
		b.run(3 * time.Second)
		b.want(b.count(EvRefused) == 1, "not refused")
		b.say(VerbApprove)
		b.run(5 * time.Second)
		b.phase(Baking, Whole)
	}},
	{27, "PromoteEndsTheBake", "A person may stop watching.", at(Whole, func(b *bench) {
		b.say(VerbPromote)
		b.run(2 * time.Second)
		b.want(b.st.Stable.Revision == v2, "still baking")
	})},
	{27, "FullGoesThroughCapacityAndBakes", "No step between, no shortcut in capacity, and the bake stays.", func(t *testing.T) {
		b := newBench(t)
		b.stopped[v2] = true
		b.add(load(v2, 1, b.now))
		b.reach(500)
		b.say(VerbPromote, full)
		b.run(10 * time.Second)
		b.phase(Promoting, 500)
		b.want(b.w(v2).Replicas == 3, "not scaled")
		b.w(v2).Ready = 3
		b.run(3 * time.Second)
		b.phase(Baking, Whole)
	}},
	{27, "RetrySpendsNewAlpha", "The newest condemned only, and the judge is told which try it is.", at(500, func(b *bench) {
		fail(b)
		b.run(5 * time.Second)
		b.obs.Report = good()
		b.say(VerbRetry)
		b.tick(time.Second)
		b.want(b.st.Canary.Revision == v2 && b.st.Try == 1, "try %d", b.st.Try)
		fail(b)
		b.reachPhase(Idle)
		b.obs.Report = good()
		b.say(VerbRetry)
		b.tick(time.Second)
		b.want(b.st.Try == 2, "try %d", b.st.Try)
		b.say(VerbRetry)
		b.tick(time.Second)
		b.want(b.count(EvRefused) == 1, "not refused while it runs")
	})},
	{28, "UndoGoesBackAndCondemns", "Capacity, one switch, not judged; what it leaves is condemned when the switch is seen.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.say(VerbUndo)
		b.frozenRoute = true
		b.run(5 * time.Second)
		b.want(len(b.st.FailedRevisions()) == 0, "condemned before it was seen")
		b.frozenRoute = false
		b.run(5 * time.Second)
		b.want(b.st.Stable.Revision == v1 && b.st.Phase == Idle && len(b.st.FailedRevisions()) == 1 && b.w(v1).Ready == 3, "not undone")
		b.say(VerbUndo)
		b.tick(time.Second)
		b.want(b.count(EvRefused) == 1, "twice is an error")
	})},
	{28, "UndoNeverReadyIsAbandoned", "Nothing is marked.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.stopped[v1] = true
		b.say(VerbUndo)
		b.run(12 * time.Minute)
		b.want(b.st.Stable.Revision == v2 && b.st.Phase == Idle && b.count(EvUndoAbandoned) == 1 && len(b.st.FailedRevisions()) == 0, "marked")
	})},
	{28, "UndoInTheMiddleIsRefused", "There the word is abort.", at(500, func(b *bench) {
		b.say(VerbUndo)
		b.tick(time.Second)
		b.want(b.count(EvRefused) == 1 && strings.Contains(b.story(), "serin abort"), "not refused")
	})},
	{28, "UndoOfADeletedVersionIsAnError", "And says which Deployment is gone.", at(Whole, func(b *bench) {
		promoted(b)
		b.run(5 * time.Second)
		b.drop(v1)
		b.say(VerbUndo)
		b.tick(time.Second)
		b.want(b.count(EvRefused) == 1, "not refused")
	})},
	{28, "AbortAtRestPointsToUndo", "And does nothing.", rest(func(b *bench) {
		b.say(VerbAbort)
		b.tick(time.Second)
		b.want(b.count(EvRefused) == 1 && strings.Contains(b.story(), "serin undo") && b.w(v1).Replicas == 3, "did something")
	})},
	{29, "EventsAreNumberedAndKept", "At least once: the state keeps them for the next telling.", at(Whole, func(b *bench) {
		for i, e := range b.log {
			b.want(e.N == i+1, "number %d at place %d", e.N, i)
		}
		b.want(len(b.st.Decisions) == len(b.log), "kept %d of %d", len(b.st.Decisions), len(b.log))
	})},
	{29, "ACommandIsTakenOnce", "However often it is delivered.", at(500, func(b *bench) {
		b.say(VerbPause)
		b.run(5 * time.Second)
		b.want(b.count(EvPaused) == 1, "%d", b.count(EvPaused))
	})},
}

func (b *bench) reachPhase(ph Phase) {
	b.t.Helper()
	for range 3000 {
		if b.tick(time.Second); b.st.Phase == ph {
			return
		}
	}
	b.t.Fatalf("never %s\n%s", ph, b.story())
}

func declaredCase(t *testing.T, to, want Weight) {
	b := newBench(t)
	b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": Whole}}
	b.canary(2500)
	b.obs.Declared = &Declared{Where: "vs.yaml", Weights: map[string]Weight{"v1": Whole - to, "v2": to}}
	b.run(5 * time.Second)
	b.phase(Progressing, want)
	b.want(b.count(EvMentioned)+b.count(EvDriftObeyed) == 1, "not said once")
}

func TestCases(t *testing.T) {
	lines := map[int]bool{}
	names := map[string]bool{}
	for _, c := range hardCases {
		lines[c.line] = true
		if names[c.name] {
			t.Errorf("two cases are called %s", c.name)
		}
		names[c.name] = true
		t.Run(fmt.Sprintf("%02d/%s", c.line, c.name), func(t *testing.T) { c.run(t) })
	}
	for n := 1; n <= 29; n++ {
		if !lines[n] {
			t.Errorf("line %d has no case", n)
		}
	}
}

// TestCasesDoc keeps docs/CASES.md what the table says.
func TestCasesDoc(t *testing.T) {
	var s strings.Builder
	s.WriteString("# Hard cases, decided\n\nEach is a test of that name in `internal/rollout/cases_test.go`, from which this page is written\n(`go test ./internal/rollout -run TestCasesDoc -update`).\n")
	last := 0
	for _, c := range hardCases {
		if c.line != last {
			fmt.Fprintf(&s, "\n## %d\n\n", c.line)
			last = c.line
		}
		fmt.Fprintf(&s, "- **%s**: %s\n", c.name, c.reason)
	}
	golden.Same(t, "../../docs/CASES.md", s.String())
}
