package rollout

import (
	"cmp"
	"fmt"
	"sort"
	"strings"
	"time"
)

// This file decides what is stable and who is the canary: adoption, newer
// revisions, versions that disappear, hands on the route.

// adopts finds out what is stable when nothing is known yet.
func (p *pass) adopts() bool {
	st := &p.st
	if st.Stable.Revision != "" {
		return false
	}
	r := p.obs.Route
	switch {
	case r.Known == Unknown || p.obs.Workloads.Known == Unknown:
		p.wait(WaitRoute, "Waiting: the route or the workloads cannot be read yet; nothing is written.")
		return true
	case r.Known == Absent:
		p.wait(WaitRoute, "Waiting: the route does not exist.")
		return true
	case p.spec.Deleted:
		return true
	case r.Note != nil && p.rebuild(*r.Note):
		return true
	}
	if r.Note != nil && (p.routedTo() != nil || len(p.fresh(VerbAdopt)) > 0) { // only with a decision
		st.N = max(st.N, r.Note.N)
		for _, c := range r.Note.Condemned {
			p.mark(Mark{Revision: c, Kind: Condemned, At: p.now, Why: "named as condemned on the route"})
		}
	}
	var stable *Workload
	how, by := "the route sends everything to it", "rule"
	for _, c := range p.fresh(VerbAdopt) {
		for i := range p.obs.Workloads.Items {
			if w := &p.obs.Workloads.Items[i]; matches(c.Revision, w.Revision) {
				stable, how, by = w, cmp.Or(c.Reason, "adopted by hand"), c.By
			}
		}
		if p.take(c); stable == nil {
			p.event(EvRefused, c.By, "", "", fmt.Sprintf("adopt %s: there is no such version; there are: %s.", c.Revision, p.versions()))
		} else if n, ok := p.ready(stable.Revision); (!ok || n == 0) && r.Weights[stable.Revision] < Whole {
			p.event(EvRefused, c.By, "", "", fmt.Sprintf("adopt %s: no replica of it is known to be ready, and everything would go to it.", stable.Revision.Label()))
			stable = nil
		}
	}
	if stable == nil {
		stable = p.routedTo()
	}
	if stable == nil {
		p.quiet = true
		p.status.Stalled = fmt.Sprintf("which version is stable is not clear: the route sends %s; there are: %s. Set the route to 100 %% of one, or say `serin adopt --stable VERSION`.",
			printSplit(r.Weights), p.versions())
		p.wait(WaitPerson, "Stalled: "+p.status.Stalled)
		return true
	}
	st.Stable = objectOf(*stable)
	p.unmark(stable.Revision)
	st.R = max(1, p.stableCount(stable))
	p.water(stable)
	for i := range p.obs.Workloads.Items {
		w := &p.obs.Workloads.Items[i]
		switch {
		case w.Revision == stable.Revision:
		case w.Replicas == 0 || !after(w.Since, w.Name, stable.Since, stable.Name):
			p.mark(Mark{Revision: w.Revision, Kind: Retired, At: p.now, Why: "older than stable, or at 0 replicas, when adopted"})
		case r.Note != nil && (w.Revision == r.Note.Stable || w.Revision == r.Note.Canary):
			p.mark(Mark{Revision: w.Revision, Kind: Retired, At: p.now, Why: "the route was taken from it"})
		}
	}
	p.declare()
	n := p.event(EvAdopted, by, "", stable.Revision.Label(), fmt.Sprintf("%s is the stable version: %s.", stable.Revision.Label(), how))
	p.grant(0, n)
	return true
}

// routedTo is the one version that gets everything and is there.
func (p *pass) routedTo() *Workload {
	for rev, w := range p.obs.Route.Weights {
		if w == Whole {
			return p.workload(rev)
		}
	}
	return nil
}

func (p *pass) versions() string {
	var ss []string
	for _, w := range p.obs.Workloads.Items {
		ss = append(ss, w.Revision.Label())
	}
	sort.Strings(ss)
	if len(ss) == 0 {
		return "none"
	}
	return strings.Join(ss, ", ")
}

// outdated: the route sends to somebody whom its own note does not name. The
// note is from before that, and so is what it says about stable.
func (p *pass) outdated(n Note) bool {
	for rev, w := range p.obs.Route.Weights {
		if w > 0 && rev != n.Stable && rev != n.Canary {
			return true
		}
	}
	return false
}

// rebuild goes on from what our own note says, after the state was lost: at
// the observed weight if that is lower, with no evidence.
func (p *pass) rebuild(n Note) bool {
	st := &p.st
	stable := p.workload(n.Stable)
	if stable == nil || p.outdated(n) {
		return false
	}
	st.Stable, st.N = objectOf(*stable), max(st.N, n.N)
	p.unmark(stable.Revision)
	st.R = max(1, p.stableCount(stable))
	p.water(stable)
	p.declare()
	for _, c := range n.Condemned {
		p.mark(Mark{Revision: c, Kind: Condemned, At: p.now, Why: "named as condemned on the route"})
	}
	canary := p.workload(n.Canary)
	w := min(n.Weight, p.obs.Route.Weights[n.Canary])
	if canary == nil || n.Canary == n.Stable || p.condemned(n.Canary) {
		k := p.event(EvStateRebuilt, "rule", "", stable.Revision.Label(), "the saved state was lost; the route's own note names the stable version.")
		p.grant(0, k)
		return true
	}
	k := p.event(EvStateRebuilt, "rule", "", w.String(), fmt.Sprintf("the saved state was lost; going on with %s at the %s that the route holds, with no evidence.", canary.Revision.Label(), w))
	p.begin(canary, MoveCanary, 0, k)
	if w > 0 {
		st.Phase, st.Step = Progressing, p.stepAt(w)
		st.Granted, st.Confirmed = w, w
		st.Entered = st.Plan[st.Step].Weight <= w // less than the first step: that one comes next
		if w >= Whole-p.spec.Promotion.Control {
			st.Phase, st.Step, st.Entered = Promoting, len(st.Plan)-1, true
		}
	}
	return true
}

// stepAt is the last weight step that does not ask for more than w.
func (p *pass) stepAt(w Weight) int {
	at := 0
	for i, s := range p.st.Plan {
		if s.Kind == StepWeight && s.Weight <= w {
			at = i
		}
	}
	return at
}

// declare remembers the weights in the user's files as they stand.
func (p *pass) declare() {
	if p.obs.Declared == nil {
		return
	}
	p.st.Declared = map[string]Weight{}
	for v, w := range p.obs.Declared.Weights {
		p.st.Declared[v] = w
	}
}

// behindRoute: the route knows later decisions than the state does.
func (p *pass) behindRoute() bool {
	st := &p.st
	if !p.newer {
		return false
	}
	n := *p.obs.Route.Note
	seen := p.obs.Route.Weights[st.Canary.Revision]
	lower := p.active() && n.Stable == st.Stable.Revision && (n.Canary == st.Canary.Revision || n.Canary == "") && seen <= st.Granted
	condemned := false
	for _, c := range n.Condemned {
		condemned = condemned || c == st.Canary.Revision
	}
	for _, c := range n.Condemned {
		if c != st.Stable.Revision && c != st.Canary.Revision && !p.condemned(c) {
			p.mark(Mark{Revision: c, Kind: Condemned, At: p.now, Why: "named as condemned on the route"})
		}
	}
	switch {
	case lower && condemned && st.Phase != RollingBack:
		st.N = n.N
		p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "rule", Why: "the route says that this revision was condemned; the decision was made and not saved."}, true)
	case lower:
		st.N = n.N
		k := p.event(EvStateRebuilt, "rule", st.Granted.String(), seen.String(), "the route holds a later, lower split than the saved state: adopted.")
		if seen < st.Granted && exposedPhase(st.Phase) {
			st.Phase, st.Step, st.Entered, st.Closing, st.Full = Progressing, p.stepAt(seen), true, false, false
			p.release(st.Stable.Revision)
			st.Pauses = append(st.Pauses, Pause{Kind: PauseHand, By: "the route", Why: "a decision that lowered it to " + seen.String() + " was not saved", At: p.now})
		}
		p.grant(seen, k)
		p.restart()
	case st.NewerSince.IsZero():
		st.NewerSince = p.now
		fallthrough
	case p.now.Sub(st.NewerSince) < time.Minute && !p.now.Before(st.NewerSince):
		p.quiet = true
		p.wakes = append(p.wakes, p.now.Add(time.Second))
		p.wait(WaitRoute, "Waiting: the route's note is ahead of the saved state; reading again, nothing is written.")
	default: // it stays ahead: the saved state is an old one
		st.N, st.NewerSince = n.N, time.Time{}
		if n.Stable != st.Stable.Revision && p.workload(n.Stable) != nil && !p.outdated(n) {
			// It is from before a change of stable, which the route names.
			*st = State{Schema: st.Schema, Phase: Idle, N: st.N, Marks: st.Marks, Watermark: st.Watermark, WatermarkName: st.WatermarkName,
				Pauses: personPauses(st.Pauses), HPAs: st.HPAs, Declared: st.Declared, Taken: st.Taken, Decisions: st.Decisions, History: st.History}
			p.rebuild(n)
			break
		}
		if !p.active() {
			k := p.event(EvStateRebuilt, "rule", "", "", "the route's note is ahead of the saved state and stays so: numbering goes on from it.")
			p.grant(0, k)
			break
		}
		w := min(st.Granted, seen)
		k := p.event(EvStateRebuilt, "rule", st.Granted.String(), w.String(), "the route's note is ahead of the saved state and stays so: going on at the lower of the two weights.")
		p.grant(w, k)
		p.restart()
	}
	return true
}

// deleted ends what runs when the document goes away.
func (p *pass) deleted() bool {
	st := &p.st
	switch {
	case !p.spec.Deleted, st.Phase == RollingBack:
		return false
	case !p.active():
		p.quiet = p.quiet || p.foreign != nil // the route is not ours any more
		return true
	}
	if st.Phase == Baking && st.Granted == Whole && !st.LiveAt.IsZero() && p.obs.Report.Calm {
		p.finish("git", "the Rollout was deleted while everything went to this version, and nothing speaks against it.")
		return true
	}
	p.rollBack(EvWithdrawn, Ending{Result: Withdrawn, By: "git", Why: "the Rollout was deleted: traffic goes back to stable."}, false)
	return true
}

// loses: stable disappears.
func (p *pass) loses() bool {
	st := &p.st
	if !p.listed() || len(p.obs.Workloads.Items) == 0 {
		return false
	}
	w := p.workload(st.Stable.Revision)
	lost := w == nil || (w.Deleting && w.ReadyKnown && w.Ready == 0)
	switch {
	case st.Phase == Idle && (w == nil || w.Deleting) && p.reverts():
		return true
	case !lost:
		return st.Unjudged && p.answers(st.Stable.Revision) && p.isBack()
	case st.Phase == Idle:
		if p.candidate() == nil {
			p.status.Stalled = fmt.Sprintf("%s, the stable version, is gone and nothing may replace it.", st.Stable.Revision.Label())
		}
		return false
	case st.Phase == RollingBack || st.Unjudged || st.Granted == Whole:
		if st.Phase == Baking && !st.Unjudged && p.once("stable lost") {
			p.event(EvStableLost, "rule", "", "", fmt.Sprintf("%s is gone: there is no way back from %s any more.", st.Stable.Revision.Label(), st.Canary.Revision.Label()))
		}
		return false
	}
	n, ok := p.ready(st.Canary.Revision)
	if !ok || n == 0 || p.condemned(st.Canary.Revision) {
		p.status.Stalled = fmt.Sprintf("%s, the stable version, is gone, and %s has no ready replica.", st.Stable.Revision.Label(), st.Canary.Revision.Label())
		return false
	}
	if least := ceilDiv(st.R, 2); st.Canary.UID != "" && st.Canary.UID == st.Stable.UID && n < least {
		// One object that was given another label: its old pods answer until the
		// new ones have replaced them, and one new pod cannot do that for all.
		p.status.Stalled = fmt.Sprintf("%s was edited from %s to %s in place: everything goes to %s, unjudged, once %d of its replicas are ready; %d are.",
			st.Canary.Name, st.Stable.Revision.Label(), st.Canary.Revision.Label(), st.Canary.Revision.Label(), least, n)
		p.arrives()
		return true
	}
	p.unjudged(p.lost(fmt.Sprintf("%s is gone", st.Stable.Revision.Label()), st.Canary.Revision))
	return true
}

// lost says that everything goes to a version that nobody has judged, and why.
func (p *pass) lost(why string, to Revision) (n int, stalled string) {
	stalled = fmt.Sprintf("%s: everything goes to %s, unjudged. `serin promote` makes it the stable version.", why, to.Label())
	return p.event(EvStableLost, "rule", p.st.Granted.String(), Whole.String(), stalled), stalled
}

// isBack: stable answers again, and everything goes to a canary that nobody has
// judged. Where the route is known to give it nothing yet, it is a release like
// any other; else a person decides.
func (p *pass) isBack() (taken bool) {
	st, r := &p.st, p.obs.Route
	stable, canary := st.Stable.Revision.Label(), st.Canary.Revision.Label()
	w := p.workload(st.Canary.Revision)
	if w != nil && st.Confirmed == 0 && !p.inForce && r.Known == Present && r.Weights[st.Canary.Revision] == 0 {
		n := p.event(EvRolloutStarted, "rule", "", canary, fmt.Sprintf("%s is there again before anything went to %s, which is judged now: a rollout from %s starts.", stable, canary, stable))
		p.begin(w, MoveCanary, st.Try, n)
		return true
	}
	st.Unjudged, st.Stalled = false, ""
	p.pausePolicy(fmt.Sprintf("%s is there again, and everything goes to %s, unjudged", stable, canary))
	return false
}

// unjudged gives the canary everything by decision n: nobody else can answer.
func (p *pass) unjudged(n int, stalled string) {
	st := &p.st
	st.Unjudged, st.Phase, st.Entered = true, Promoting, true
	st.Step, st.Stalled = len(st.Plan)-1, stalled
	p.grant(Whole, n)
	p.restart()
}

// reverts: stable is gone or going, and a version that was stable once is
// there: Git went back. Capacity, then one switch.
func (p *pass) reverts() bool {
	st := &p.st
	if p.spec.Revert != RevertFast || p.spec.Deleted {
		return false
	}
	var best *Workload
	for i := range p.obs.Workloads.Items {
		w := &p.obs.Workloads.Items[i]
		m := p.marked(w.Revision)
		if w.Deleting || w.Revision == st.Stable.Revision || m == nil || m.Kind != Retired || !m.Promoted ||
			(m.GaveUp && !p.carries(w.Revision, Whole)) {
			continue
		}
		if best == nil || after(w.Since, w.Name, best.Since, best.Name) {
			best = w
		}
	}
	if c := p.candidate(); best == nil || (c != nil && after(c.Since, c.Name, best.Since, best.Name)) {
		return false
	}
	n := p.event(EvRevertStarted, "git", st.Stable.Revision.Label(), best.Revision.Label(),
		fmt.Sprintf("%s is gone from what is asked for and %s, which was promoted before, is there: capacity first, then one switch.", st.Stable.Revision.Label(), best.Revision.Label()))
	p.begin(best, MoveFast, 0, n)
	return true
}

// twin: another object is stable's or the canary's, under the same label. A
// route tells versions apart by it, so that what looks like a newer version
// shares that one's traffic already.
func (p *pass) twin(w *Workload) bool {
	for _, r := range []Revision{p.st.Stable.Revision, p.st.Canary.Revision} {
		x := p.workload(r)
		if x != nil && !x.Deleting && x.Name != w.Name && r.Label() == w.Revision.Label() {
			return true
		}
	}
	return false
}

// candidate is the newest version after the watermark that nothing is held
// against.
func (p *pass) candidate() *Workload {
	if !p.listed() || p.spec.Deleted {
		return nil
	}
	st := &p.st
	var best *Workload
	for i := range p.obs.Workloads.Items {
		w := &p.obs.Workloads.Items[i]
		if w.Deleting || w.Revision == st.Stable.Revision || w.Revision == st.Canary.Revision ||
			p.marked(w.Revision) != nil || !after(w.Since, w.Name, st.Watermark, st.WatermarkName) || p.twin(w) {
			continue
		}
		if best == nil || after(w.Since, w.Name, best.Since, best.Name) {
			best = w
		}
	}
	return best
}

// arrives: a newer revision starts or supersedes; a canary that is gone is
// withdrawn.
func (p *pass) arrives() bool {
	st := &p.st
	if !p.listed() {
		return false
	}
	if st.Phase == RollingBack {
		return p.rescues()
	}
	c := p.candidate()
	if st.Phase == Idle {
		if c == nil || st.Drift.Foreign || p.foreign != nil {
			return c == nil && p.returns()
		}
		n := p.event(EvRolloutStarted, "git", "", c.Revision.Label(), fmt.Sprintf("%s is new: a rollout from %s starts.", c.Revision.Label(), st.Stable.Revision.Label()))
		p.begin(c, MoveCanary, 0, n)
		return true
	}
	w := p.workload(st.Canary.Revision)
	if c == nil {
		if w != nil && !w.Deleting {
			return false
		}
		if len(p.obs.Workloads.Items) == 0 || st.Unjudged {
			return false
		}
		p.rollBack(EvWithdrawn, Ending{Result: Withdrawn, By: "git", Why: fmt.Sprintf("%s was taken away: its traffic goes back to %s.", st.Canary.Revision.Label(), st.Stable.Revision.Label())}, false)
		return true
	}
	switch {
	case w != nil && (st.Unjudged || st.Move != MoveCanary || st.Phase == Baking || (st.Granted >= Whole-p.spec.Promotion.Control && !st.LiveAt.IsZero())):
		if p.once("waits " + string(c.Revision)) {
			p.event(EvMentioned, "rule", "", c.Revision.Label(), fmt.Sprintf("%s is there and waits until %s is through.", c.Revision.Label(), st.Canary.Revision.Label()))
		}
		return false
	case st.Granted > 0 && !p.canZero() && (p.answers(st.Canary.Revision) || w != nil && !w.ReadyKnown):
		p.status.Stalled = fmt.Sprintf("%s is there, and %s has no ready replica to take the traffic back.", c.Revision.Label(), st.Stable.Revision.Label())
		return false
	}
	p.supersede(c)
	return true
}

// rescues: what is taken back still has its share, because nobody of stable
// could answer in its place, and a newer version could. It takes everything,
// unjudged, as when stable is gone: waiting for stable would keep the fix of an
// outage out.
func (p *pass) rescues() bool {
	st := &p.st
	if st.Granted == 0 || p.canZero() {
		return false
	}
	c := p.candidate()
	if c == nil || !p.answers(c.Revision) {
		return false
	}
	p.remember(st.Ending.result(), st.Ending.why(), st.Ending.by())
	n, stalled := p.lost(fmt.Sprintf("%s has no ready replica and %s is being taken back", st.Stable.Revision.Label(), st.Canary.Revision.Label()), c.Revision)
	p.begin(c, MoveCanary, 0, n)
	p.unjudged(n, stalled)
	return true
}

// returns mentions, once, a retired version that somebody brought back.
func (p *pass) returns() bool {
	for i := range p.st.Marks {
		m := &p.st.Marks[i]
		if w := p.workload(m.Revision); m.Ended && w != nil && !w.Deleting && w.Replicas > 0 {
			m.Ended = false
			p.event(EvMentioned, "rule", "", m.Revision.Label(), fmt.Sprintf("%s, which was retired, is there again with %d replicas: it stays at weight 0. `serin undo` (where it was the stable version before) or a new template would use it.", m.Revision.Label(), w.Replicas))
			return true
		}
	}
	return false
}

func (p *pass) supersede(c *Workload) {
	st := &p.st
	old, from := st.Canary, st.Granted
	why := fmt.Sprintf("%s is newer than %s, whose traffic goes back to %s first.", c.Revision.Label(), old.Revision.Label(), st.Stable.Revision.Label())
	n := p.event(EvSuperseded, "git", old.Revision.Label(), c.Revision.Label(), why)
	p.remember(Superseded, why, "git")
	p.mark(Mark{Revision: old.Revision, Kind: Retired, At: p.now, Why: "superseded by " + c.Revision.Label()})
	p.release(st.Stable.Revision)
	l := Leaving{Revision: old.Revision, Name: old.Name, Policy: p.spec.RollbackRetire, Mark: Retired}
	if old.Name == c.Name {
		l.Policy = Keep // one object: its new template is the new canary
	}
	p.begin(c, MoveCanary, 0, n)
	if from > 0 || st.Confirmed > 0 || !st.Asked.IsZero() || p.workload(old.Revision) != nil {
		st.Leaving = append(st.Leaving, l)
	}
}

// drifts answers somebody else's split.
func (p *pass) drifts() bool {
	st, f := &p.st, p.foreign
	if f == nil {
		p.calm()
		return p.declaredEdit()
	}
	first := !st.Drift.Foreign || st.Drift.Seen != f.print
	if first {
		st.Drift.Flips = recent(appendRing(st.Drift.Flips, p.now, 10), p.now)
	}
	st.Drift.Foreign, st.Drift.Seen, st.Drift.Manager = true, f.print, f.manager
	if st.Phase == Idle {
		return p.driftAtRest(f, first)
	}
	fight := len(recent(st.Drift.Flips, p.now)) >= 3
	lowered := exposedPhase(st.Phase) && !f.others && f.canary < st.Granted && p.carries(st.Stable.Revision, Whole-f.canary)
	switch {
	case lowered && (p.spec.Drift == Obey || fight):
		p.obey(f.canary, f.manager, fmt.Sprintf("%s set the route to %s: obeyed, and paused there.", f.manager, f.print))
		if fight {
			p.fights(f)
		}
		return true
	case f.canary > st.Granted && !p.canZero() && p.answers(st.Canary.Revision):
		// Undoing it would leave the users with nobody.
		p.quiet = true
		p.status.Stalled = fmt.Sprintf("%s set the route to %s, and %s has no ready replica to take that back; it is left so until it has.", f.manager, f.print, st.Stable.Revision.Label())
		if first {
			p.event(EvDriftLeft, f.manager, st.Granted.String(), f.print, p.status.Stalled)
		}
		return first
	case st.Phase == RollingBack && f.canary >= 0 && f.canary < st.Granted:
		// It is on its way to 0 and only waited for stable: never up again.
		n := p.event(EvDriftObeyed, f.manager, st.Granted.String(), f.canary.String(), fmt.Sprintf("%s took traffic from %s, which is being taken back anyway (%s).", f.manager, st.Canary.Revision.Label(), f.print))
		p.grant(f.canary, n)
		st.Drift.Foreign, st.Drift.Seen = false, ""
		return true
	case first:
		what := "raised what the canary gets"
		switch {
		case f.others:
			what = "sent traffic to versions that have none in this rollout"
		case f.canary < st.Granted:
			what = "lowered what the canary gets"
			if p.spec.Drift == Obey || !p.carries(st.Stable.Revision, Whole-f.canary) {
				what = "sent the traffic where too few replicas are ready to take it"
			}
		}
		n := p.event(EvDriftUndone, "rule", f.print, st.Granted.String(), fmt.Sprintf("%s %s (%s): undone.", f.manager, what, f.print))
		p.grantSame(n)
		if fight {
			p.fights(f)
		}
		return true
	}
	return false
}

// fightsAtRest: the same at rest, where a tool that follows Git takes the users
// back, again and again, to a version that was retired. One decision says so; it
// is written over all the same.
func (p *pass) fightsAtRest(f *foreign) bool {
	d := &p.st.Drift
	if len(recent(d.Flips, p.now)) < 3 {
		return false
	}
	why := fmt.Sprintf("%s keeps sending the traffic (%s) where too few replicas are ready to take it (three times in ten minutes): it is put right each time, and until then requests fail. %s", f.manager, f.print, p.ignoreRule())
	if !d.Fight {
		d.Fight = true
		p.grantSame(p.event(EvDriftFight, "rule", f.print, "100 % "+p.st.Stable.Revision.Label(), why))
	}
	p.status.Stalled = why
	return true
}

// calm: nobody has written over the route at rest for ten minutes.
func (p *pass) calm() {
	d := &p.st.Drift
	if p.st.Phase != Idle || !d.Fight {
		return
	}
	left := recent(d.Flips, p.now)
	if d.Fight = len(left) > 0; d.Fight {
		p.wakes = append(p.wakes, left[len(left)-1].Add(10*time.Minute))
		p.status.Stalled = fmt.Sprintf("%s keeps sending the traffic where too few replicas are ready to take it. %s", d.Manager, p.ignoreRule())
	}
}

// fights says, once, that somebody and we write over each other.
func (p *pass) fights(f *foreign) {
	if p.st.Stalled != "" {
		return
	}
	p.st.Stalled = fmt.Sprintf("%s keeps writing the route (three times in ten minutes). %s", f.manager, p.ignoreRule())
	p.event(EvDriftFight, "rule", "", "", p.st.Stalled)
}

// grantSame renews the number of the split without changing it, so that what
// is written over a foreign write can be told from it.
func (p *pass) grantSame(n int) { p.grant(p.st.Granted, n) }

func (p *pass) obey(w Weight, who, why string) {
	st := &p.st
	if !p.held() { // lowered twice without a resume is one wish
		st.Drift.Lowered++
	}
	again := !p.held() && st.Drift.Lowered >= 2
	n := p.event(EvDriftObeyed, who, st.Granted.String(), w.String(), why)
	p.grant(w, n)
	st.Drift.Foreign, st.Drift.Seen = false, ""
	st.Closing, st.Full = false, false
	st.Phase, st.Step, st.Entered = Progressing, p.stepAt(w), w > 0
	if st.Step == len(st.Plan)-1 {
		st.Phase = Promoting
	}
	p.release(st.Stable.Revision) // a bake that was closing is not any more
	st.Pauses = append(st.Pauses, Pause{Kind: PauseHand, By: who, Why: "lowered to " + w.String() + " by hand", At: p.now})
	p.restart()
	if again {
		st.Stalled = fmt.Sprintf("%s lowered the weight again after it was resumed. %s", who, p.ignoreRule())
	}
}

// held: a hand lowered the weight, and nobody has resumed since.
func (p *pass) held() bool {
	for _, x := range p.st.Pauses {
		if x.Kind == PauseHand {
			return true
		}
	}
	return false
}

func (p *pass) ignoreRule() string {
	return cmp.Or(p.spec.IgnoreRule, "Let it ignore the weights of the route while a rollout runs.")
}

// driftAtRest: a split that its targets can carry is a person's doing at
// 3 a.m. and is left; one that would drop requests is put right.
func (p *pass) driftAtRest(f *foreign, first bool) bool {
	st := &p.st
	if first {
		st.Drift.Restore = false
	}
	if st.Drift.Restore {
		return false
	}
	carried := p.listed()
	total := Weight(0)
	for rev, w := range p.obs.Route.Weights {
		total += w
		if w > 0 && !p.carries(rev, w) {
			carried = false
		}
	}
	elsewhere := false
	for rev, w := range p.obs.Route.Weights {
		elsewhere = elsewhere || (rev != st.Stable.Revision && w > 0 && p.answers(rev))
	}
	if (!carried || total != Whole) && (p.canZero() || !elsewhere) {
		if p.fightsAtRest(f) {
			return !p.was.Drift.Fight
		}
		if first {
			n := p.event(EvDriftUndone, "rule", f.print, "100 % "+st.Stable.Revision.Label(), fmt.Sprintf("%s sent the traffic where too few replicas are ready to take it (%s): put right.", f.manager, f.print))
			p.grantSame(n)
			return true
		}
		return false
	}
	p.quiet = true
	p.status.Stalled = fmt.Sprintf("%s set the route to %s; it is left so. `serin undo` makes the previous version the stable one, `serin resume` puts the traffic back on %s.", f.manager, f.print, st.Stable.Revision.Label())
	if first {
		p.event(EvDriftLeft, f.manager, "100 % "+st.Stable.Revision.Label(), f.print, p.status.Stalled)
	}
	return false
}

// answers: somebody of this version is known to be ready.
func (p *pass) answers(r Revision) bool {
	n, ok := p.ready(r)
	return ok && n > 0
}

// carries: the version has the ready replicas for a weight. Not known is no.
func (p *pass) carries(r Revision, w Weight) bool {
	if w == 0 {
		return true
	}
	n, ok := p.ready(r)
	return ok && n >= need(p.st.R, w, 0)
}

// declaredEdit, on one machine: lower weights in the user's files are obeyed,
// higher ones are not, and said once.
func (p *pass) declaredEdit() bool {
	st, d := &p.st, p.obs.Declared
	if d == nil || sameDeclared(st.Declared, d.Weights) {
		return false
	}
	known := st.Declared != nil
	old := st.Declared[st.Canary.Revision.Label()]
	w, named := d.Weights[st.Canary.Revision.Label()]
	named = named || old > 0 // taken out of the file is 0
	lower := known && exposedPhase(st.Phase) && named && w < st.Granted && (w != old || old == 0)
	if lower && !p.carries(st.Stable.Revision, Whole-w) {
		// A wish all the same: nothing is raised meanwhile, and it is not forgotten.
		why := fmt.Sprintf("%s was edited to %s for %s, and too few replicas of %s are ready to take the rest: it is obeyed as soon as they are. `serin abort` needs one.", d.Where, w, st.Canary.Revision.Label(), st.Stable.Revision.Label())
		p.wait(WaitCapacity, "Waiting: "+why)
		if p.once("declared " + w.String()) {
			p.event(EvMentioned, "rule", "", "", why)
			return true
		}
		return false
	}
	p.declare()
	switch {
	case !known:
		return false
	case !exposedPhase(st.Phase):
		p.event(EvMentioned, "rule", "", "", fmt.Sprintf("the weights in %s were edited; they count at adoption and to lower a running canary. To change versions: `serin deploy`, `serin undo`.", d.Where))
		return true
	case lower:
		p.obey(w, d.Where, fmt.Sprintf("%s was edited to %s for %s: obeyed, and paused there.", d.Where, w, st.Canary.Revision.Label()))
		return true
	}
	p.event(EvMentioned, "rule", "", "", fmt.Sprintf("the weights in %s were edited, and not to less than the %s that %s has: ignored. `serin promote` goes on.", d.Where, st.Granted, st.Canary.Revision.Label()))
	return true
}

func sameDeclared(a, b map[string]Weight) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

func recent(ts []time.Time, now time.Time) []time.Time {
	out := ts[:0:0]
	for _, t := range ts {
		if now.Sub(t) < 10*time.Minute && !t.After(now) {
			out = append(out, t)
		}
	}
	return out
}
