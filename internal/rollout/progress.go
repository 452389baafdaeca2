package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// This file makes progress, and takes a bad version back.

// wait says what the rollout waits for. The first word wins.
func (p *pass) wait(f WaitFor, msg string) {
	if p.status.Message == "" {
		p.status.Waiting, p.status.Message = f, msg
	}
}

func (p *pass) until(t time.Time) {
	if p.status.Until.IsZero() {
		p.status.Until = t
	}
	p.wakes = append(p.wakes, t)
}

// fails: what protects users, and depends on nothing but the verdict and the
// readiness that is known.
func (p *pass) fails() bool {
	st := &p.st
	if !p.active() || st.Phase == RollingBack || st.Move != MoveCanary {
		return false
	}
	rep := p.obs.Report
	if rep.Verdict == analysis.Fail && st.Phase != Preparing {
		if !st.Override {
			p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "rule", Why: cmp.Or(rep.Sentence, "the judge found it worse than it may be.")}, true)
			return true
		}
		if p.once("override") {
			p.event(EvMentioned, "rule", "", "", "the judge says Fail, overridden by hand: "+rep.Sentence)
		}
	}
	cn, cok := p.ready(st.Canary.Revision)
	sn, sok := p.ready(st.Stable.Revision)
	w := p.workload(st.Canary.Revision)
	switch {
	case st.Granted > 0 && cok && cn == 0 && sok && sn > 0 && w != nil && !w.Deleting:
		if st.ZeroReady++; st.ZeroReady > 1 {
			st.ZeroFor += p.tick
		}
	default:
		st.ZeroReady, st.ZeroFor = 0, 0
	}
	if st.ZeroReady >= 2 && st.ZeroFor >= activeMeasure { // two looks, and not within one blink
		p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "rule", Why: fmt.Sprintf("no replica of %s is ready any more%s.", st.Canary.Revision.Label(), p.whyNot(st.Canary.Revision))}, true)
		return true
	}
	for _, t := range p.obs.Tests {
		if p.expects(t.ID) && !p.tested(t.ID) {
			st.TestsRun = appendRing(st.TestsRun, TestDone(t), 20)
			if !t.Passed {
				p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "rule", Why: fmt.Sprintf("its test failed: %s", cmp.Or(t.Detail, "no detail given"))}, true)
				return true
			}
			p.event(EvTestPassed, "rule", "", "", cmp.Or(t.Detail, "the test passed."))
		}
	}
	return false
}

func (p *pass) testID(s Step) string {
	id, _, _ := strings.Cut(s.ID, "+") // what editedID adds is not content
	return fmt.Sprintf("%s/%s/%d", p.st.Canary.Revision, id, p.st.Try)
}

func (p *pass) expects(id string) bool {
	st := &p.st
	return st.Phase == Progressing && st.Entered && st.Step < len(st.Plan) && st.Plan[st.Step].Kind == StepTest && p.testID(st.Plan[st.Step]) == id
}

func (p *pass) tested(id string) bool {
	for _, t := range p.st.TestsRun {
		if t.ID == id {
			return true
		}
	}
	return false
}

func (p *pass) whyNot(r Revision) string {
	if w := p.workload(r); w != nil && w.Why != "" {
		return ": " + strings.TrimRight(w.Why, ".")
	}
	return ""
}

// edited: the document's steps were changed in the middle. What is in force
// stays; the new steps count from the next weight above it.
func (p *pass) edited() {
	st := &p.st
	if !p.active() || st.Move != MoveCanary || (st.Phase != Preparing && st.Phase != Progressing) {
		return
	}
	next := p.spec.Steps
	if st.Phase == Preparing {
		if !sameSteps(st.Plan, next) {
			st.Plan = cloneSteps(next)
		}
		return
	}
	if sameSteps(st.Plan, next) || (len(st.Plan) > 0 && st.Plan[0].ID == editedID(st.Plan[0], next)) {
		return
	}
	cur, entered := Step{Kind: StepWeight, Weight: st.Granted}, st.Entered
	if st.Entered && st.Step < len(st.Plan) {
		if s := st.Plan[st.Step]; s.Kind == StepTest && !p.tested(p.testID(s)) && !slices.ContainsFunc(next, func(n Step) bool { return n.Test == s.Test }) {
			entered = false // the document does not have this test any more: nobody can run it
		} else {
			cur = s
		}
	}
	// What only a person or a test can answer stays in the way, unless it was
	// passed already.
	passed := map[string]bool{}
	for i, s := range st.Plan {
		if i < st.Step || (i == st.Step && st.Entered) {
			id, _, _ := strings.Cut(s.ID, "+")
			passed[id] = true
		}
	}
	plan, gates := []Step{cur}, []Step(nil)
	for i, s := range next {
		if s.Kind != StepWeight {
			if !passed[s.ID] {
				gates = append(gates, s)
			}
			continue
		}
		if s.Weight > st.Granted {
			plan = append(append(plan, gates...), cloneSteps(next[i:])...)
			break
		}
		gates = nil
	}
	plan[0].ID = editedID(cur, next)
	n := p.event(EvStepsChanged, "git", "", "", fmt.Sprintf("the steps were edited: going on from %s with the next one above it.", st.Granted))
	_ = n
	st.Plan, st.Step, st.Entered = plan, 0, true
	if !entered && len(plan) > 1 {
		st.Step, st.Entered = 1, false
	}
	if len(plan) == 1 {
		p.pausePolicy("the edited steps have none above the weight in force.")
	}
}

// editedID marks a plan that was spliced from edited steps, so that it is
// spliced once.
func editedID(cur Step, next []Step) string {
	var b strings.Builder
	id := cur.ID
	if i := strings.Index(id, "+"); i >= 0 {
		id = id[:i]
	}
	b.WriteString(id + "+")
	for _, s := range next {
		b.WriteString(s.ID + ",")
	}
	return b.String()
}

func sameSteps(a, b []Step) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].Kind != b[i].Kind || a[i].Weight != b[i].Weight || a[i].Hold != b[i].Hold || a[i].Until != b[i].Until {
			return false
		}
	}
	return true
}

// progress goes on where it may.
func (p *pass) progress() {
	if p.st.Stable.Revision != "" && !p.spec.Deleted && p.obs.Route.Known == Absent {
		p.status.Stalled = "the route does not exist any more: nothing can be moved, and nothing is scaled down."
		p.wait(WaitRoute, "Stalled: "+p.status.Stalled)
	}
	if p.active() && p.st.Phase != RollingBack {
		p.st.Source = cmp.Or(p.st.Source, p.obs.Source) // from then on it is kept
	}
	switch p.st.Phase {
	case Preparing:
		p.prepare()
	case Progressing, Promoting:
		p.steps()
	case Baking:
		p.bake()
	case RollingBack:
		p.goBack()
	default:
		p.notAskedFor()
	}
}

// notAskedFor ends the call for a person once the version that was taken back is
// not there any more: it has been done what was asked. The version stays
// condemned. What Serin deletes itself may well be asked for still.
func (p *pass) notAskedFor() {
	st := &p.st
	if st.Stalled == "" || p.obs.Workloads.Known != Present || p.spec.RollbackRetire == Delete || len(st.History) == 0 {
		return
	}
	last := st.History[len(st.History)-1]
	if p.workload(last.Revision) == nil && st.Stalled == condemnedWords(last.Revision, last.Why) {
		st.Stalled = ""
	}
}

func condemnedWords(r Revision, why string) string {
	return fmt.Sprintf("%s is condemned: %s `serin retry` tries it again; a newer revision starts afresh.", r.Label(), sentence(why))
}

// prepare waits, at weight 0, until the first step may be taken.
func (p *pass) prepare() {
	st := &p.st
	v := st.Canary.Revision.Label()
	first := Weight(0)
	if len(st.Plan) > 0 && st.Plan[0].Kind == StepWeight {
		first = st.Plan[0].Weight
	}
	if len(st.Leaving) > 0 {
		p.wait(WaitLeaving, fmt.Sprintf("Waiting: %s is still leaving; then %s gets its first traffic.", st.Leaving[0].Revision.Label(), v))
	}
	if p.paused() {
		p.wait(WaitPerson, fmt.Sprintf("Paused: %s; %s stays at 0 %%.", p.pausedText(), v))
	}
	refused := false
	for _, f := range p.obs.Findings {
		if f.Level == Wait && (st.Move != MoveCanary || st.Full) {
			continue // what is not judged, or what a person sends on as it is, needs no data
		}
		switch f.Level {
		case Refuse:
			refused = true
			if p.status.Stalled == "" {
				p.status.Stalled = f.String()
			}
			p.wait(WaitFinding, "Stalled before any traffic moved: "+f.String())
		case Wait:
			p.wait(WaitData, "Waiting: "+f.String())
		}
	}
	p.windows()
	switch {
	case st.Move != MoveCanary:
	case !p.inForce:
		p.wait(WaitRoute, "Waiting: the route does not yet hold what was decided.")
	case st.LiveAt.IsZero(): // whoever had traffic before has none any more
		p.wait(WaitTraffic, fmt.Sprintf("Waiting until the split that %s starts from is seen in force.", v))
	}
	need := p.need(first)
	n, ok := p.ready(st.Canary.Revision)
	if (!ok || n < need) && !refused { // what was refused may be why nobody is ready: that is for a person to mend
		p.capacity(n, need, ok)
		if p.spec.Capacity.Deadline > 0 && st.WaitFor >= p.spec.Capacity.Deadline {
			p.neverReady(n, need)
			return
		}
	}
	if p.status.Waiting != "" {
		return
	}
	st.Phase, st.WaitFor = Progressing, 0
	if st.Move != MoveCanary {
		st.Phase = Promoting
	}
	p.because = fmt.Sprintf("%d of %d needed replicas are ready", n, need)
	p.by = "rule"
	p.steps()
}

func (p *pass) windows() {
	if p.st.Move != MoveCanary {
		return // going back is not a release
	}
	for _, w := range p.obs.Windows {
		p.wait(WaitWindow, fmt.Sprintf("Waiting: %s is closed.", w.Name))
		if !w.Opens.IsZero() {
			p.until(w.Opens)
		}
	}
}

// capacity waits for replicas, on a clock of its own.
func (p *pass) capacity(n, need int, ok bool) {
	st := &p.st
	v := st.Canary.Revision.Label()
	if ok && !p.paused() && len(st.Leaving) == 0 {
		st.WaitFor += p.dt
	}
	msg := fmt.Sprintf("Waiting for capacity: %d of %d replicas of %s are ready%s.", n, need, v, p.whyNot(st.Canary.Revision))
	if !ok {
		msg = fmt.Sprintf("Waiting for capacity: whether %s is ready is not known.", v)
	}
	p.wait(WaitCapacity, msg)
	if d := p.spec.Capacity.Deadline; d > 0 && st.WaitFor < d {
		p.until(p.now.Add(d - st.WaitFor))
	}
}

func (p *pass) neverReady(n, need int) {
	st := &p.st
	v := st.Canary.Revision.Label()
	why := fmt.Sprintf("%s was never ready: %d of %d replicas after %s%s.", v, n, need, short(st.WaitFor), p.whyNot(st.Canary.Revision))
	p.status = Status{}
	if st.Move != MoveCanary {
		if m := p.marked(st.Canary.Revision); st.Move == MoveFast && m != nil {
			m.Promoted = false // nor again, until somebody asks
		}
		p.rollBack(EvUndoAbandoned, Ending{Result: Abandoned, By: "deadline", Why: why}, false)
		return
	}
	p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "deadline", Why: why}, true)
}

// steps enters and ends steps, as many in one pass as need no new look.
func (p *pass) steps() {
	st := &p.st
	for range len(st.Plan) + 1 {
		if st.Step >= len(st.Plan) {
			return
		}
		s := st.Plan[st.Step]
		if st.Full && !st.Entered && st.Step < len(st.Plan)-1 && (s.Kind == StepWeight || s.Kind == StepMatch || s.Kind == StepPause) {
			st.Step++ // straight to the whole, or to the next thing that only a person or a test can answer
			continue
		}
		if !st.Entered && !p.enter(s) {
			return
		}
		if !p.ended(st.Plan[st.Step]) {
			return
		}
		if st.Step == len(st.Plan)-1 {
			p.whole()
			return
		}
		st.Step++
		st.Entered = false
		p.restart()
	}
}

// enter puts a step in force, if it may be.
func (p *pass) enter(s Step) bool {
	st := &p.st
	v := st.Canary.Revision.Label()
	last := s.Kind == StepWeight && s.Weight == Whole
	switch s.Kind {
	case StepApproval:
		if p.approved(s) {
			st.Entered = true
			return true
		}
		who := "somebody"
		if len(s.By) > 0 {
			who = strings.Join(s.By, " or ")
		}
		p.event(EvApprovalRequested, "rule", "", "", fmt.Sprintf("%s waits for %s to approve (step %d).%s", v, who, st.Step+1, p.andBecause()))
		st.Entered = true
		return true
	case StepPause:
		st.Entered = true
		if s.Hold == 0 && !st.Full {
			st.Pauses = append(st.Pauses, Pause{Kind: PauseStep, By: "the document", Why: "a pause step", At: p.now})
			p.event(EvPaused, "rule", "", "", fmt.Sprintf("step %d is a pause: `serin resume` goes on.%s", st.Step+1, p.andBecause()))
		}
		return true
	case StepTest:
		st.Entered = true
		p.event(EvTestStarted, "rule", "", "", fmt.Sprintf("test %s of %s starts.%s", s.Test, v, p.andBecause()))
		return true
	}
	if p.paused() {
		p.wait(WaitPerson, fmt.Sprintf("Paused at %s: %s.", st.Granted, p.pausedText()))
		return false
	}
	p.windows()
	if p.status.Waiting != "" {
		return false
	}
	if p.obs.Route.Known != Present || p.foreign != nil || p.newer || (!p.inForce && st.Move == MoveCanary) {
		p.wait(WaitRoute, "Waiting: the route does not yet hold what was decided.")
		return false
	}
	if len(st.Leaving) > 0 {
		p.wait(WaitLeaving, fmt.Sprintf("Waiting: %s is still leaving.", st.Leaving[0].Revision.Label()))
		return false
	}
	to := max(s.Weight, st.Granted)
	if s.Kind == StepMatch {
		to = st.Granted
	}
	if last && st.Move == MoveCanary {
		to = max(Whole-p.spec.Promotion.Control, st.Granted)
	}
	if last && st.Phase == Progressing {
		st.Phase = Promoting
	}
	need := p.need(to)
	if last {
		need = p.need(Whole)
	}
	if n, ok := p.ready(st.Canary.Revision); !ok || n < need {
		if p.because != "" {
			p.event(EvScaleAsked, p.by, st.Granted.String(), to.String(), fmt.Sprintf("step %d (%s) may start once %d replicas are ready: %s", st.Step+1, to, need, sentence(p.because)))
		}
		p.capacity(n, need, ok)
		if d := p.spec.Capacity.Deadline; d > 0 && st.WaitFor >= d {
			if st.Move != MoveCanary && st.Granted == 0 {
				p.neverReady(n, need)
				return false
			}
			p.pausePolicy(fmt.Sprintf("%d of %d replicas of %s are ready after %s%s", n, need, v, short(st.WaitFor), p.whyNot(st.Canary.Revision)))
		}
		return false
	}
	why := sentence(cmp.Or(p.because, fmt.Sprintf("%d of %d needed replicas are ready", need, need)))
	from, name := st.Granted.String(), to.String()
	if s.Kind == StepMatch {
		name = "who asks for it"
		why = "only requests that ask for it go to " + v + ". " + why
	}
	n := p.event(EvStepStarted, cmp.Or(p.by, "rule"), from, name, why)
	p.grant(to, n)
	st.Entered = true
	p.restart()
	p.wait(WaitTraffic, fmt.Sprintf("Step %d of %d: %s to %s; waiting until that is seen in force.", st.Step+1, len(st.Plan), name, v))
	return true
}

func (p *pass) andBecause() string {
	if p.because == "" {
		return ""
	}
	return " Before: " + sentence(p.because)
}

// sentence gives a clause a capital and a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// ended: may the rollout go on from this step?
func (p *pass) ended(s Step) bool {
	st, rep := &p.st, p.obs.Report
	v := st.Canary.Revision.Label()
	forced := p.forced
	end := func(by, why string) bool {
		if by == "rule" && p.because != "" && p.by != "rule" {
			by, why = p.by, p.because+"; "+why // a person, or the deadline, set it going in this pass
		}
		p.because, p.by, p.figures = why, by, rep.Figures
		p.forced = nil
		return true
	}
	switch s.Kind {
	case StepApproval:
		if p.approved(s) {
			return end("rule", "it was approved")
		}
		if s.Until > 0 && !p.paused() { // its own clock: no split is being watched for it
			st.WaitFor += p.dt
			if st.WaitFor >= s.Until {
				p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "deadline", Why: fmt.Sprintf("nobody approved %s within %s.", v, short(s.Until))}, true)
				return false
			}
			p.until(p.now.Add(s.Until - st.WaitFor))
		}
		who := "anybody who may send commands"
		if len(s.By) > 0 {
			who = strings.Join(s.By, " or ")
		}
		p.wait(WaitApproval, fmt.Sprintf("Waiting for approval of %s by %s (step %d of %d, at %s): `serin approve`.", v, who, st.Step+1, len(st.Plan), st.Granted))
		return false
	case StepPause:
		if forced != nil || (st.Full && !p.paused()) {
			return end(p.author(), "ended by hand")
		}
		if s.Hold > 0 && st.LiveFor >= s.Hold {
			return end("rule", "the pause is over")
		}
		if s.Hold > 0 {
			p.until(p.now.Add(s.Hold - st.LiveFor))
			p.wait(WaitHold, fmt.Sprintf("Pausing at %s for %s more.", st.Granted, short(s.Hold-st.LiveFor)))
			return false
		}
		if !p.paused() {
			return end("rule", "resumed")
		}
		p.wait(WaitPerson, fmt.Sprintf("Paused at %s: %s. `serin resume` goes on.", st.Granted, p.pausedText()))
		return false
	case StepTest:
		if id := p.testID(s); p.tested(id) {
			return end("rule", "its test passed")
		} else {
			p.tests = append(p.tests, TestRun{ID: id, Name: s.Test, Revision: st.Canary.Revision})
		}
		p.wait(WaitTest, fmt.Sprintf("Waiting for test %s of %s.", s.Test, v))
		return false
	}
	if st.LiveAt.IsZero() || !p.inForce {
		if p.recover() {
			if forced != nil {
				p.refuse(*forced, "the split of this step waits for capacity.")
				p.forced = nil
			}
			return false
		}
		p.wait(WaitTraffic, fmt.Sprintf("Step %d of %d: %s to %s; waiting until that is seen in force.", st.Step+1, len(st.Plan), st.Granted, v))
		if forced != nil {
			p.refuse(*forced, "the split of this step is not in force yet.")
			p.forced = nil
		}
		p.contradicted()
		return false
	}
	if s.Kind == StepWeight && s.Weight == Whole && st.Granted >= Whole-p.spec.Promotion.Control {
		if forced != nil && !st.Unjudged {
			p.refuse(*forced, "everything goes to it already; the bake starts.")
			p.forced = nil
		}
		return true // the whole: baking judges it
	}
	if forced != nil {
		return end(forced.By, fmt.Sprintf("%s ended the step%s", forced.By, reason(*forced)))
	}
	if p.paused() {
		p.wait(WaitPerson, fmt.Sprintf("Paused at %s: %s.", st.Granted, p.pausedText()))
		return false
	}
	if st.Full {
		return end(p.author(), "promoted in full by hand")
	}
	if n, ok := p.ready(st.Canary.Revision); ok && n < p.need(st.Granted) {
		need := p.need(st.Granted)
		p.capacity(n, need, ok)
		if d := p.spec.Capacity.Deadline; d > 0 && st.WaitFor >= d {
			p.pausePolicy(fmt.Sprintf("%d of %d replicas of %s are ready after %s%s", n, need, v, short(st.WaitFor), p.whyNot(st.Canary.Revision)))
		}
		return false
	}
	st.WaitFor = 0
	if st.LiveFor < s.Hold {
		p.until(p.now.Add(s.Hold - st.LiveFor))
		p.wait(WaitHold, fmt.Sprintf("Step %d of %d: %s to %s, held for %s more. %s", st.Step+1, len(st.Plan), p.share(s), v, short(s.Hold-st.LiveFor), rep.Sentence))
		return false
	}
	if s.Kind == StepMatch {
		return end("rule", fmt.Sprintf("nothing failed in %s", short(st.LiveFor)))
	}
	if rep.Verdict == analysis.Pass {
		return end("rule", cmp.Or(rep.Sentence, "nothing is judged"))
	}
	return p.undecided(max(p.spec.Analysis.Deadline, s.Hold), end)
}

func (p *pass) share(s Step) string {
	if s.Kind == StepMatch {
		return "who asks for it"
	}
	return p.st.Granted.String()
}

// author is who sped the rollout up.
func (p *pass) author() string {
	for i := len(p.st.Decisions) - 1; i >= 0; i-- {
		if e := p.st.Decisions[i]; e.What == EvResumed {
			return e.By
		}
	}
	return "rule"
}

// contradicted: the counted share says for six settles that the split is not
// in force. At the deadline the document says what then.
func (p *pass) contradicted() {
	st := &p.st
	settle := max(p.spec.Settle, time.Second)
	if st.Asked.IsZero() || st.Settled < 6*settle {
		return
	}
	p.status.Message = ""
	against := p.against()
	p.wait(WaitTraffic, fmt.Sprintf("Waiting for traffic: the route holds %s for %s, and what is counted has said otherwise for %s: %s.", st.Granted, st.Canary.Revision.Label(), short(st.Settled), against))
	if d := p.spec.Analysis.Deadline; d > 0 && st.Settled >= d && !p.paused() {
		p.act(p.spec.Analysis.OnUnavailable, "the split was never seen in force: "+against)
	}
}

// against says who was asked more than his share, and what may be behind it.
func (p *pass) against() string {
	st := &p.st
	much, n := st.Canary.Revision, st.Share.AgainstCanary
	all := st.Share.AgainstStable + n
	if n*float64(Whole) < all*float64(st.Granted) {
		much, n = st.Stable.Revision, st.Share.AgainstStable
	}
	return fmt.Sprintf("%.0f of the last %.0f requests reached %s; somebody may call it around the route, or a proxy has not got the split", n, all, much.Label())
}

// undecided waits for the judge until the deadline; then the document says
// what. Never advance on no data.
func (p *pass) undecided(deadline time.Duration, end func(by, why string) bool) bool {
	st, rep := &p.st, p.obs.Report
	v := st.Canary.Revision.Label()
	if st.DeadFor < deadline {
		p.until(p.now.Add(deadline - st.DeadFor))
		if rep.Verdict == analysis.Unavailable {
			p.wait(WaitData, fmt.Sprintf("Waiting for data at %s: %s", st.Granted, cmp.Or(rep.Sentence, "there is none.")))
		} else {
			p.wait(WaitEvidence, fmt.Sprintf("Waiting for evidence at %s: %s", st.Granted, cmp.Or(rep.Sentence, "not enough yet.")))
		}
		return false
	}
	action, why := p.spec.Analysis.OnUndecided, "the judge is undecided"
	thin := 2*rep.Scored < st.LiveFor || rep.CanaryRequests < 1
	switch {
	case rep.Verdict == analysis.Unavailable || (action == ActAdvance && thin):
		action, why = p.spec.Analysis.OnUnavailable, "there is not enough usable data"
	case action == ActAdvance && (!rep.Calm || rep.BothBreak):
		action, why = ActPause, "the judge is undecided, and something speaks against it"
	}
	why = fmt.Sprintf("%s after %s at %s. %s", why, short(st.DeadFor), st.Granted, rep.Sentence)
	if action == ActAdvance {
		return end("deadline", "nothing speaks against "+v+"; "+why)
	}
	p.act(action, why)
	return false
}

func (p *pass) act(a Action, why string) {
	p.status.Message, p.status.Waiting = "", ""
	if a == ActRollBack && p.st.Move == MoveCanary {
		p.rollBack(EvRolledBack, Ending{Result: RolledBack, By: "deadline", Why: sentence(why)}, true)
		return
	}
	p.pausePolicy(why)
}

func (p *pass) pausePolicy(why string) {
	p.st.Pauses = append(p.st.Pauses, Pause{Kind: PausePolicy, By: "the document", Why: strings.TrimRight(why, ". "), At: p.now})
	p.event(EvPaused, "deadline", "", "", "paused: "+sentence(why)+" `serin resume` tries on, `serin abort` takes it back.")
	p.status.Message = ""
	p.wait(WaitPerson, fmt.Sprintf("Paused at %s: %s.", p.st.Granted, strings.TrimRight(why, ". ")))
}

// whole: everything that it will get goes to the canary.
func (p *pass) whole() {
	st := &p.st
	v := st.Canary.Revision.Label()
	switch {
	case st.Move == MoveUndo:
		left := st.Stable.Revision
		p.mark(Mark{Revision: left, Kind: Condemned, At: p.now, Why: "undone"})
		p.finish(p.undoAuthor(), fmt.Sprintf("everything goes to %s again; %s is condemned.", v, left.Label()))
	case st.Move == MoveFast:
		p.finish("git", fmt.Sprintf("everything goes to %s again.", v))
	case st.Unjudged:
		if by := p.accepted(); by != "" {
			p.forced = nil
			p.finish(by, "accepted by hand after stable was lost.")
			return
		}
		p.status.Stalled = st.Stalled
		p.wait(WaitPerson, st.Stalled)
	default:
		st.Phase = Baking
		p.restart()
		p.event(EvBakeStarted, "rule", "", st.Granted.String(), fmt.Sprintf("%s of the traffic is on %s, seen in force; it is watched for %s before %s is retired.", st.Granted, v, short(p.bakeTime()), st.Stable.Revision.Label()))
		p.forced = nil
		p.bake()
	}
}

func (p *pass) accepted() string {
	if p.forced != nil {
		return p.forced.By
	}
	if p.st.Full {
		return p.author()
	}
	return ""
}

func (p *pass) undoAuthor() string {
	for i := len(p.st.Decisions) - 1; i >= 0; i-- {
		if e := p.st.Decisions[i]; e.What == EvUndoStarted {
			return e.By
		}
	}
	return "rule"
}

// bakeTime: the last step's hold is a part of the bake.
func (p *pass) bakeTime() time.Duration {
	d := p.spec.Promotion.Bake
	if n := len(p.st.Plan); n > 0 {
		d = max(d, p.st.Plan[n-1].Hold)
	}
	return d
}

// bake watches the whole before stable changes.
func (p *pass) bake() {
	st, rep := &p.st, p.obs.Report
	v := st.Canary.Revision.Label()
	if st.LiveAt.IsZero() || !p.inForce {
		if p.recover() {
			return
		}
		p.wait(WaitTraffic, fmt.Sprintf("%s to %s; waiting until that is seen in force.", st.Granted, v))
		p.contradicted()
		return
	}
	if st.Closing {
		p.closing()
		return
	}
	forced, bake := p.forced, p.bakeTime()
	p.forced = nil
	if forced == nil && p.paused() {
		p.wait(WaitPerson, fmt.Sprintf("Paused while baking at %s: %s.", st.Granted, p.pausedText()))
		return
	}
	by, why := "rule", ""
	done := func(b, w string) bool { by, why = b, w; return true }
	switch {
	case forced != nil:
		by, why = forced.By, fmt.Sprintf("%s ended the bake%s", forced.By, reason(*forced))
	case st.LiveFor < bake:
		p.until(p.now.Add(bake - st.LiveFor))
		p.wait(WaitHold, fmt.Sprintf("Baking at %s: watched for %s more. %s", st.Granted, short(bake-st.LiveFor), rep.Sentence))
		return
	case rep.Verdict == analysis.Pass:
		why = cmp.Or(rep.Sentence, "nothing is judged")
	default:
		if !p.undecided(max(p.spec.Analysis.Deadline, bake), done) {
			return
		}
	}
	// What is retired next is what could take the traffic back: the new version
	// has to carry everything by then. A person who says so knows better.
	if n, ok := p.ready(st.Canary.Revision); (!ok || n < p.need(Whole)) && (forced == nil || st.Granted < Whole) {
		if forced != nil {
			p.refuse(*forced, fmt.Sprintf("%d of %d replicas of %s are ready.", n, p.need(Whole), v))
		}
		p.capacity(n, p.need(Whole), ok)
		return
	}
	if st.Granted < Whole {
		if p.windows(); p.status.Waiting != "" {
			if forced != nil {
				p.refuse(*forced, p.status.Message)
			}
			return
		}
		n := p.event(EvStepStarted, by, st.Granted.String(), Whole.String(), "the bake is over: "+sentence(why))
		p.grant(Whole, n)
		st.Closing = true
		st.Leaving = append(st.Leaving, Leaving{Revision: st.Stable.Revision, Name: st.Stable.Name})
		return
	}
	p.finish(by, sentence(why))
}

// closing ends a bake that kept a control: 100/0 in force, and the old version
// seen without traffic, before it counts.
func (p *pass) closing() {
	st := &p.st
	for _, l := range st.Leaving {
		if l.Revision == st.Stable.Revision && !l.Gone {
			p.wait(WaitLeaving, fmt.Sprintf("Waiting until no traffic is left on %s.", l.Revision.Label()))
			return
		}
	}
	p.finish("rule", "the bake is over and no traffic is left on the old version.")
}

// finish makes the canary the stable version.
func (p *pass) finish(by, why string) {
	st := &p.st
	old, now := st.Stable, st.Canary
	what, result, policy, mark := EvPromoted, Promoted, p.spec.Promotion.Retire, Retired
	prev := Previous{Revision: old.Revision, Name: old.Name, R: st.R}
	switch st.Move {
	case MoveUndo:
		what, result, policy, mark, prev = EvUndone, Undone, p.spec.RollbackRetire, Condemned, Previous{}
	case MoveFast:
		what, result = EvReverted, Reverted
	}
	n := p.event(what, by, old.Revision.Label(), now.Revision.Label(), fmt.Sprintf("%s is the stable version now: %s", now.Revision.Label(), sentence(why)))
	p.rest(result, why, by)
	for _, l := range st.Leaving { // nobody is leaving any more in another sense than this
		if l.Revision != old.Revision && l.Policy != "" {
			st.Retiring = append(st.Retiring, l)
		}
	}
	st.Leaving = nil
	st.Previous, st.Stable = prev, now
	st.Given = Given{}
	if full := p.need(Whole); full > st.R {
		st.Given = Given{Revision: now.Revision, Count: full, R: st.R}
	}
	p.unmark(now.Revision) // stable is on no list
	if mark == Retired {
		p.mark(Mark{Revision: old.Revision, Kind: Retired, Promoted: true, At: p.now, Why: "replaced by " + now.Revision.Label()})
	}
	p.release(now.Revision)
	st.Retiring = append(st.Retiring, Leaving{Revision: old.Revision, Name: old.Name, Policy: policy, Mark: mark, Due: p.now.Add(p.spec.Promotion.RetireAfter)})
	st.Stalled = ""
	p.grant(0, n)
}

// goBack waits until what was taken back is seen without traffic.
func (p *pass) goBack() {
	st := &p.st
	v, s := st.Canary.Revision.Label(), st.Stable.Revision.Label()
	if p.spec.Deleted && p.obs.Route.Known == Absent {
		n := p.event(EvTrafficBack, "git", "", "", "the document and the route are gone: nothing is left to be moved.")
		p.rest(st.Ending.result(), st.Ending.why(), "git")
		p.grant(0, n)
		return
	}
	if st.Granted > 0 {
		if p.stillHeld() {
			st.Stalled = fmt.Sprintf("%s should get its traffic back and has no ready replica%s; the split is held until it has.", s, p.whyNot(st.Stable.Revision))
			p.wait(WaitCapacity, "Stalled: "+st.Stalled)
			return
		}
		n := p.event(EvRolledBack, "rule", st.Granted.String(), Weight(0).String(), fmt.Sprintf("%s can answer again: its traffic goes back to it.", s))
		st.Stalled = ""
		p.grant(0, n)
		return
	}
	gone := true
	for _, l := range st.Leaving {
		gone = gone && (l.Gone || l.Revision != st.Canary.Revision)
	}
	if !gone || st.LiveAt.IsZero() || !p.inForce {
		p.wait(WaitLeaving, fmt.Sprintf("%s has no share any more; waiting until its last request is answered. %s", v, st.Ending.why()))
		return
	}
	e := st.Ending
	if e == nil {
		e = &Ending{Result: RolledBack, By: "rule", At: p.now}
	}
	n := p.event(EvTrafficBack, "rule", e.From.String(), Weight(0).String(), fmt.Sprintf("everything goes to %s again, seen after %s.", s, short(p.now.Sub(e.At))))
	stalled := ""
	if e.Result == RolledBack || e.Result == Aborted {
		stalled = condemnedWords(st.Canary.Revision, e.Why)
	}
	p.rest(e.Result, e.Why, e.By)
	st.Stalled = stalled
	p.grant(0, n)
}

// stillHeld: what is taken back keeps its share until somebody of stable is seen
// ready. That stable had nobody is decided already, so that not knowing (a
// restart, a list that failed) changes nothing while the other one may answer.
func (p *pass) stillHeld() bool {
	if n, ok := p.ready(p.st.Stable.Revision); ok {
		return n == 0
	}
	n, ok := p.ready(p.st.Canary.Revision)
	return !ok || n > 0
}

func (e *Ending) result() Result {
	if e == nil {
		return Withdrawn
	}
	return e.Result
}

func (e *Ending) by() string {
	if e == nil {
		return "rule"
	}
	return e.By
}

func (e *Ending) why() string {
	if e == nil {
		return ""
	}
	return e.Why
}

func (p *pass) pausedText() string {
	var ss []string
	if p.spec.Suspend {
		ss = append(ss, "`suspend: true` in the document")
	}
	for _, x := range p.st.Pauses {
		t := x.By
		if x.Why != "" {
			t += " (" + x.Why + ")"
		}
		ss = append(ss, t)
	}
	sort.Strings(ss)
	return strings.Join(ss, "; ")
}

func (p *pass) restMessage() string {
	st := &p.st
	if st.Stable.Revision == "" {
		return "Nothing is adopted yet."
	}
	if p.active() {
		return fmt.Sprintf("%s: %s at %s.", st.Phase, st.Canary.Revision.Label(), st.Granted)
	}
	msg := fmt.Sprintf("%s is stable.", st.Stable.Revision.Label())
	if n := len(st.History); n > 0 {
		h := st.History[n-1]
		if h.Result != Promoted && h.Result != Undone && h.Result != Reverted {
			msg = fmt.Sprintf("%s is stable; %s was %s: %s", st.Stable.Revision.Label(), h.Revision.Label(), resultWord(h.Result), h.Why)
		}
	}
	return msg
}

func resultWord(r Result) string {
	switch r {
	case RolledBack:
		return "rolled back"
	case Aborted:
		return "aborted"
	case Withdrawn:
		return "withdrawn"
	case Superseded:
		return "superseded"
	case Abandoned:
		return "abandoned"
	}
	return string(r)
}

// short prints a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
