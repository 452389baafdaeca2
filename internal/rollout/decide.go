package rollout

import (
	"cmp"
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// Decide is the whole policy. It is total: every input has an answer, and the
// same input has the same answer.
func Decide(spec Spec, st State, obs Observation, now time.Time) Decision {
	p := &pass{spec: spec, obs: obs, now: now, was: st, st: st.clone()}
	p.open()
	if !p.newer { // or nothing may be decided, and no number given, before that is clear
		p.inventory()
		p.readRoute()
		p.leaving()
	}
	p.transition()
	return p.decision()
}

// transition runs from what protects users to what makes progress. Whatever
// takes the pass ends it: the next pass sees what came of it.
func (p *pass) transition() {
	switch {
	case p.adopts():
	case p.behindRoute():
	case p.aborts():
	case p.fails():
	case p.undoes():
	case p.deleted():
	case p.loses():
	case p.arrives():
	case p.drifts():
	default:
		p.edited()
		p.people()
		p.progress()
		if c := p.forced; c != nil {
			p.forced = nil
			p.refuse(*c, "it cannot be ended now. "+p.status.Message)
		}
	}
}

// pass is one call of Decide on its way. Only st and the answers change.
type pass struct {
	spec Spec
	obs  Observation
	now  time.Time
	was  State
	st   State

	dt      time.Duration // time since the last pass that counts
	tick    time.Duration // the same, for what must not end early: at most smallStep
	inForce bool          // the route holds what is granted, and nobody else wrote it
	foreign *foreign      // somebody else's split
	newer   bool          // the route's note is ahead of the state
	admits  []Command     // that this pass answers
	forced  *Command      // promote: this step ends now
	because string        // why the step before ended
	by      string        // and by whom
	figures []analysis.Figure

	events []Event
	tests  []TestRun
	status Status
	wakes  []time.Time
	quiet  bool // leave the route alone
}

// foreign is a split that is not ours.
type foreign struct {
	canary  Weight // what our canary has in it
	stable  Weight
	others  bool // somebody else has a share
	manager string
	print   string
}

// activeMeasure is how often the samples are looked at while a canary is out.
const activeMeasure = time.Second

// keptMeasure is how often a version is looked at that somebody calls around
// the route: it may be kept for months.
const keptMeasure = 10 * time.Second

// smallStep is how much one pass may add to a wait that protects users: for a
// route to settle, for traffic to be gone. A clock that jumped and a process
// that was away make such a wait longer, never shorter.
const smallStep = 5 * time.Second

// gapGrace is how late a pass may be and still count as observed time.
const gapGrace = time.Minute

// open moves the clocks: time counts only where it was observed.
func (p *pass) open() {
	st := &p.st
	if p.obs.Workloads.Known != Present {
		p.obs.Workloads.Items = nil // what is listed under "not known" or "none" is neither
	}
	st.Schema = SchemaVersion
	if st.Phase == "" {
		st.Phase = Idle
	}
	if st.Step < 0 || (len(st.Plan) > 0 && st.Step >= len(st.Plan)) {
		st.Step = max(0, len(st.Plan)-1)
	}
	if r := p.obs.Route; st.Stable.Revision != "" && r.Known == Present && r.Note != nil {
		p.newer = r.Note.N > st.N
	}
	if !st.LastPass.IsZero() {
		p.dt = max(0, p.now.Sub(st.LastPass))
		if p.now.After(st.NextWake.Add(gapGrace)) {
			p.dt = 0
		}
		if st.Share.At.After(p.now) { // the clock went back
			st.Share.At = p.now
		}
		p.tick = min(max(0, p.now.Sub(st.LastPass)), smallStep)
	}
	if st.Canary.Revision != "" {
		st.Exposed = max(st.Exposed, p.obs.Report.Exposed)
		st.Harmed = max(st.Harmed, p.obs.Report.Harmed)
	}
}

// active: a canary is under way.
func (p *pass) active() bool { return p.st.Canary.Revision != "" && p.st.Phase != Idle }

// exposedPhase: a hand that lowers the weight is obeyed in these.
func exposedPhase(ph Phase) bool { return ph == Progressing || ph == Promoting || ph == Baking }

// paused: nothing is raised, no clock runs, nothing is retired.
func (p *pass) paused() bool { return p.spec.Suspend || len(p.st.Pauses) > 0 }

// workload finds a revision; nil where it is not there or nothing is known.
func (p *pass) workload(r Revision) *Workload {
	if r == "" {
		return nil
	}
	for i := range p.obs.Workloads.Items {
		if p.obs.Workloads.Items[i].Revision == r {
			return &p.obs.Workloads.Items[i]
		}
	}
	return nil
}

// listed: what is there is known, even if it is nothing.
func (p *pass) listed() bool { return p.obs.Workloads.Known != Unknown }

// ready counts the replicas that the router would send to. ok is false where
// it is not known; a revision that is known not to be there has none.
func (p *pass) ready(r Revision) (n int, ok bool) {
	if !p.listed() {
		return 0, false
	}
	w := p.workload(r)
	if w == nil {
		return 0, true
	}
	return w.Ready, w.ReadyKnown
}

// need is how many replicas carry a weight: max(1, ceil(w x R)).
func (p *pass) need(w Weight) int { return need(p.st.R, w, p.spec.Capacity.Headroom) }

func need(r int, w, headroom Weight) int {
	full := ceilDiv(max(r, 1)*int(Whole+headroom), int(Whole))
	return max(1, ceilDiv(full*int(w), int(Whole)))
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// event records one decision. It is the only place where numbers are given out.
func (p *pass) event(what What, by, from, to, why string) int {
	st := &p.st
	st.N++
	e := Event{N: st.N, At: p.now, By: by, What: what, From: from, To: to, Why: why, Rev: st.Canary.Revision}
	switch what {
	case EvRolledBack, EvStepStarted, EvScaleAsked, EvPromoted, EvBakeStarted:
		e.Figures = p.figures
		if e.Figures == nil && what == EvRolledBack {
			e.Figures = p.obs.Report.Figures
		}
	}
	p.events = append(p.events, e)
	st.Decisions = appendRing(st.Decisions, e, 50)
	return st.N
}

// once says a thing once in a rollout.
func (p *pass) once(key string) bool {
	for _, s := range p.st.Said {
		if s == key {
			return false
		}
	}
	p.st.Said = appendRing(p.st.Said, key, 50)
	return true
}

// grant puts a weight in force under the number of the decision that names why.
func (p *pass) grant(w Weight, n int) {
	st := &p.st
	st.Granted, st.TrafficN = w, n
	st.Asked, st.Settled, st.LiveAt, st.Share = time.Time{}, 0, time.Time{}, Share{}
	p.inForce = false
}

// restart sets a step's clocks to zero.
func (p *pass) restart() { p.st.LiveFor, p.st.DeadFor, p.st.WaitFor = 0, 0, 0 }

// canZero: traffic may go back to stable. Unconditional unless stable is known
// to have nobody who could answer.
func (p *pass) canZero() bool {
	n, ok := p.ready(p.st.Stable.Revision)
	return !ok || n > 0
}

// mark puts a revision on the list; condemned wins over retired.
func (p *pass) mark(m Mark) {
	for i := range p.st.Marks {
		if old := &p.st.Marks[i]; old.Revision == m.Revision {
			m.Promoted = m.Promoted || old.Promoted
			m.Tries = max(m.Tries, old.Tries)
			m.UID, m.Generation = old.UID, old.Generation
			if old.Kind == Condemned && m.Kind == Retired && !m.Promoted {
				m.Kind = Condemned
			}
			p.st.Marks = append(append(p.st.Marks[:i:i], p.st.Marks[i+1:]...), m)
			return
		}
	}
	p.st.Marks = append(p.st.Marks, m)
	for len(p.st.Marks) > 50 {
		drop := 0
		for i, m := range p.st.Marks { // what is not there any more goes first
			if p.workload(m.Revision) == nil {
				drop = i
				break
			}
		}
		p.st.Marks = append(p.st.Marks[:drop:drop], p.st.Marks[drop+1:]...)
	}
}

// unmark takes a revision off the list.
func (p *pass) unmark(r Revision) {
	kept := p.st.Marks[:0:0]
	for _, m := range p.st.Marks {
		if m.Revision != r {
			kept = append(kept, m)
		}
	}
	p.st.Marks = kept
}

func (p *pass) marked(r Revision) *Mark {
	for i := range p.st.Marks {
		if p.st.Marks[i].Revision == r {
			return &p.st.Marks[i]
		}
	}
	return nil
}

func (p *pass) condemned(r Revision) bool {
	m := p.marked(r)
	return m != nil && m.Kind == Condemned
}

// release ends the obligations towards a revision that is wanted again.
func (p *pass) release(r Revision) {
	keep := func(ls []Leaving) []Leaving {
		out := ls[:0:0]
		for _, l := range ls {
			if l.Revision != r {
				out = append(out, l)
			}
		}
		return out
	}
	p.st.Leaving, p.st.Retiring = keep(p.st.Leaving), keep(p.st.Retiring)
}

// begin starts a move to a revision. Its first weight comes later.
func (p *pass) begin(w *Workload, move Move, try int, n int) {
	st := &p.st
	seen := st.Phase == Idle && st.Granted == 0 && !st.LiveAt.IsZero()
	st.Canary = objectOf(*w)
	st.Move, st.Try = move, try
	st.Phase, st.Started = Preparing, p.now
	st.Plan, st.Step, st.Entered = p.plan(move), 0, false
	st.Full, st.Override, st.Unjudged, st.Closing, st.Ending = false, false, false, false, nil
	st.ZeroReady, st.ZeroFor, st.Exposed, st.Harmed, st.Confirmed = 0, 0, 0, 0, 0
	st.Source = ""
	st.Stalled, st.Said, st.Drift = "", nil, DriftState{}
	st.Approvals, st.TestsRun = nil, nil
	st.Pauses = personPauses(st.Pauses)
	if s := p.workload(st.Stable.Revision); s != nil {
		st.R = p.stableCount(s)
	}
	if move == MoveUndo {
		st.R = max(st.R, st.Previous.R)
	}
	st.R = max(st.R, 1)
	p.release(w.Revision)
	p.restart()
	p.water(w)
	if !seen { // at rest everything goes to stable, which was seen and does not change
		p.grant(0, n)
	}
	p.inForce = false // its first step is the next pass's
}

func (p *pass) plan(m Move) []Step {
	if m != MoveCanary {
		return []Step{{Kind: StepWeight, Weight: Whole, ID: string(m)}}
	}
	return cloneSteps(p.spec.Steps)
}

// water moves the watermark: what is not newer is never a candidate.
func (p *pass) water(w *Workload) {
	if after(w.Since, w.Name, p.st.Watermark, p.st.WatermarkName) {
		p.st.Watermark, p.st.WatermarkName = w.Since, w.Name
	}
}

func after(t time.Time, name string, u time.Time, uname string) bool {
	if !t.Equal(u) {
		return t.After(u)
	}
	return name > uname
}

// remember puts the attempt that ends here into the history.
func (p *pass) remember(result Result, why, by string) {
	st := &p.st
	st.History = appendRing(st.History, Outcome{
		Revision: st.Canary.Revision, From: st.Stable.Revision, Result: result, Why: why, By: by,
		Started: st.Started, Ended: p.now, Exposed: st.Exposed, Harmed: st.Harmed,
	}, 10)
}

// rest ends a rollout, whatever came of it.
func (p *pass) rest(result Result, why, by string) {
	st := &p.st
	p.remember(result, why, by)
	st.Phase, st.Canary, st.Move, st.Try = Idle, Object{}, MoveCanary, 0
	st.Started, st.Plan, st.Step, st.Entered = time.Time{}, nil, 0, false
	st.Full, st.Override, st.Unjudged, st.Closing, st.Ending = false, false, false, false, nil
	st.ZeroReady, st.ZeroFor, st.Confirmed, st.Source = 0, 0, 0, ""
	st.Exposed, st.Harmed = 0, 0
	st.Approvals, st.TestsRun, st.Said = nil, nil, nil
	st.Pauses = personPauses(st.Pauses)
	st.Drift = DriftState{Manager: st.Drift.Manager}
	st.LastPass, st.NextWake = time.Time{}, time.Time{}
	p.restart()
}

// rollBack takes the canary back. From here on nothing raises it.
func (p *pass) rollBack(what What, e Ending, condemn bool) {
	st := &p.st
	e.At, e.From = p.now, st.Granted
	to := Weight(0)
	held := st.Granted > 0 && !p.canZero()
	if held {
		to = st.Granted
	}
	n := p.event(what, e.By, st.Granted.String(), to.String(), e.Why)
	st.Phase, st.Ending = RollingBack, &e
	st.Full, st.Closing, st.Unjudged = false, false, false
	st.Pauses = personPauses(st.Pauses)
	st.Stalled = ""
	p.release(st.Stable.Revision)
	mark := MarkKind("")
	if condemn {
		mark = Condemned
		p.mark(Mark{Revision: st.Canary.Revision, Kind: Condemned, Tries: st.Try, At: p.now, Why: e.Why})
	}
	if e.Result == Abandoned && st.Move == MoveFast {
		p.mark(Mark{Revision: st.Canary.Revision, Kind: Retired, Promoted: true, GaveUp: true, At: p.now, Why: e.Why})
		p.marked(st.Canary.Revision).UID = st.Canary.UID
	}
	policy := p.spec.RollbackRetire
	switch {
	case e.Result == Withdrawn:
		policy = p.spec.Promotion.Retire
	case e.Result == Abandoned && st.Move == MoveFast:
		policy = Keep // Git asks for it, and it may be all that is left
	case e.Result == Abandoned && p.spec.Promotion.Retire != Keep:
		policy = ScaleToZero // as it was before the undo, and there for another
	case e.Result == Abandoned:
		policy = Keep
	}
	if e.Result == Withdrawn {
		mark = ""
	}
	st.Leaving = append(st.Leaving, Leaving{Revision: st.Canary.Revision, Name: st.Canary.Name, Policy: policy, Mark: mark})
	p.restart()
	if !held {
		p.grant(0, n)
	}
}

// decision gathers the answers.
func (p *pass) decision() Decision {
	st := &p.st
	// What was seen in force is not restated blindly: that would wipe out, unseen,
	// what somebody else wrote meanwhile.
	blind := p.obs.Route.Known == Unknown && !st.LiveAt.IsZero()
	p.quiet = p.quiet || blind || p.uncovered() || p.strands()
	if st.Phase == Idle && st.Drift.Foreign && !st.Drift.Restore && p.obs.Route.Known != Present {
		p.quiet = true // a hand's split is left, also while it cannot be read
	}
	d := Decision{Events: p.events, Tests: p.tests}
	if !p.quiet && st.Stable.Revision != "" && p.obs.Route.Known != Absent {
		d.Traffic = trafficFor(*st)
	}
	d.Scale = p.scale()
	look := p.drainMeasure()
	if p.active() {
		look, d.Measure = activeMeasure, activeMeasure
	}
	if look > 0 {
		p.wakes = append(p.wakes, p.now.Add(look))
	}
	if len(p.events) > 0 || p.pending() {
		p.wakes = append(p.wakes, p.now)
	}
	for _, t := range p.wakes {
		if d.Wake.IsZero() || t.Before(d.Wake) {
			d.Wake = t
		}
	}
	st.LastPass, st.NextWake = time.Time{}, time.Time{}
	if look > 0 || st.LiveAt.IsZero() && st.Stable.Revision != "" {
		st.LastPass, st.NextWake = p.now, d.Wake
	}
	p.status.Stalled = cmp.Or(p.status.Stalled, st.Stalled)
	if p.paused() {
		p.status.Paused = p.pausedText()
	}
	if p.status.Message == "" {
		p.status.Message = p.restMessage()
	}
	d.Status = p.status
	d.Next = *st
	d.Lowers = d.Traffic != nil && (lowers(*d.Traffic, p.obs.Route, p.was) || (st.Phase == RollingBack && p.was.Phase != RollingBack))
	if d.Save = saveFor(p.was, *st); d.Traffic != nil && p.rises(*d.Traffic) {
		// Restated over a lower split, maybe by a leader that is none any more:
		// the store's version is the fence.
		d.Save = SaveMust
	}
	return d
}

// uncovered: the split would give the canary more than it was last seen to
// have, and it cannot be known now that it could carry that. The decision may
// be older than the write (one that was lost, a crash in between), so that what
// was ready then has to be ready again: invariant I2. Until then the route is
// left alone.
func (p *pass) uncovered() bool {
	st, r := &p.st, p.obs.Route
	if !p.active() || (r.Known == Present && r.Weights[st.Canary.Revision] >= st.Granted) {
		return false
	}
	if st.Phase == RollingBack {
		return st.Granted > 0 // held where it is, and never up again
	}
	if st.Granted <= st.Confirmed {
		return false
	}
	if r.Known != Present {
		return true
	}
	least := p.need(st.Granted)
	if st.Unjudged {
		least = 1
	}
	n, ok := p.ready(st.Canary.Revision)
	return !ok || n < least
}

// recover waits for the capacity of a weight that was granted when it was there
// and is not in force yet.
func (p *pass) recover() bool {
	if p.obs.Route.Known != Present || !p.uncovered() {
		return false
	}
	n, ok := p.ready(p.st.Canary.Revision)
	need := p.need(p.st.Granted)
	p.capacity(n, need, ok)
	if d := p.spec.Capacity.Deadline; d > 0 && p.st.WaitFor >= d && !p.paused() {
		p.pausePolicy(fmt.Sprintf("%s is not in force, and %d of %d replicas of %s are ready after %s", p.st.Granted, n, need, p.st.Canary.Revision.Label(), short(p.st.WaitFor)))
	}
	return true
}

// rises: the split gives the canary more than the route was seen to give it.
func (p *pass) rises(t Traffic) bool {
	return t.Canary != "" && p.obs.Route.Known == Present && t.Weight > p.obs.Route.Weights[t.Canary]
}

// strands: the split would take traffic from somebody who answers and give it
// to stable, of which it is known that nobody is ready. The split is held as it
// is until somebody of stable is.
func (p *pass) strands() bool {
	st, r := &p.st, p.obs.Route
	if p.canZero() || r.Known != Present || st.Stable.Revision == "" {
		return false
	}
	want := trafficFor(*st).Weights()
	if r.Weights[st.Stable.Revision] >= want[st.Stable.Revision] {
		return false
	}
	for rev, w := range r.Weights {
		if rev != st.Stable.Revision && w > want[rev] && p.answers(rev) {
			p.status.Stalled = cmp.Or(p.status.Stalled, fmt.Sprintf("%s should get traffic back and has no ready replica%s; the split is held until it has.", st.Stable.Revision.Label(), p.whyNot(st.Stable.Revision)))
			return true
		}
	}
	return false
}

// trafficFor restates the split from the state alone.
func trafficFor(st State) *Traffic {
	t := &Traffic{N: st.TrafficN, Stable: st.Stable.Revision}
	if st.Canary.Revision != "" {
		t.Canary, t.Weight = st.Canary.Revision, st.Granted
		t.Match = matchFor(st)
	}
	for _, ls := range [][]Leaving{st.Leaving, st.Retiring} {
		for _, l := range ls {
			if !l.Gone && l.Revision != t.Canary && l.Revision != t.Stable {
				t.Keep = append(t.Keep, l.Revision)
			}
		}
	}
	for _, m := range st.Marks {
		if m.Kind == Condemned {
			t.Condemned = append(t.Condemned, m.Revision)
		}
	}
	if len(t.Condemned) > 10 {
		t.Condemned = t.Condemned[len(t.Condemned)-10:]
	}
	return t
}

// matchFor is the match step in force: the last one entered, until everything
// goes to the canary or nothing does.
func matchFor(st State) *Match {
	if (st.Phase != Progressing && st.Phase != Promoting) || st.Granted == Whole {
		return nil
	}
	for i := min(st.Step, len(st.Plan)-1); i >= 0; i-- {
		if st.Plan[i].Kind == StepMatch && (i < st.Step || st.Entered) {
			return st.Plan[i].Match
		}
	}
	return nil
}

// lowers: the canary has less in this split than it has in the route, or had
// in the state before.
func lowers(t Traffic, r Route, was State) bool {
	if r.Known == Present {
		for rev, w := range r.Weights {
			if rev != t.Stable && w > t.Weights()[rev] {
				return true
			}
		}
	}
	return was.Canary.Revision != "" && was.Granted > t.Weights()[was.Canary.Revision] && t.Stable != was.Canary.Revision
}

// scale says what each revision must be able to carry: floors only, and an end
// for what is owed one. At rest it is empty.
func (p *pass) scale() []Scale {
	st := &p.st
	var out []Scale
	floor := func(o Object, n int) {
		w := p.workload(o.Revision)
		if w == nil || w.Deleting || n <= 0 {
			return
		}
		s := Scale{Revision: o.Revision, Name: w.Name, Min: n, Unmark: w.Condemned || w.Retired}
		if w.HPA != nil && p.spec.Capacity.HPA == HoldMinimum {
			s.Min, s.HPA, s.HPAMin = 0, w.HPA.Name, max(w.HPA.Min, min(n, w.HPA.Max))
			if w.HPA.Min < s.HPAMin {
				p.holdHPA(w)
			}
			if w.Replicas == 0 {
				s.Min = n // an autoscaler does not wake a workload at zero
			}
		}
		out = append(out, s)
	}
	if p.active() {
		// Without headroom: R is learnt from stable's own count, and must not
		// grow by what we ask for ourselves.
		floor(st.Stable, max(1, st.R))
		if st.Phase != RollingBack || st.Granted > 0 {
			floor(st.Canary, p.need(p.target()))
		}
	}
	for i := range st.HPAs {
		h := st.HPAs[i]
		if p.active() && (h.Name == st.Stable.Name || h.Name == st.Canary.Name) || p.steadies(h) {
			continue
		}
		if w := p.named(h.Name); w != nil && w.HPA != nil && w.HPA.Name == h.HPA && w.HPA.Min != h.Min {
			out = append(out, Scale{Revision: w.Revision, Name: w.Name, HPA: h.HPA, HPAMin: h.Min})
		}
	}
	for _, l := range st.Retiring {
		if !p.mayRetire(l) {
			continue
		}
		w := p.workload(l.Revision)
		if w == nil {
			continue
		}
		switch l.Policy {
		case Delete:
			out = append(out, Scale{Revision: l.Revision, Name: w.Name, Delete: true, Mark: l.Mark})
		case ScaleToZero:
			out = append(out, Scale{Revision: l.Revision, Name: w.Name, Zero: true, Mark: l.Mark})
		}
	}
	return out
}

// autoscalerLag is how old the figures may be that an autoscaler goes by.
const autoscalerLag = 2 * time.Minute

// steadies: the version that has just got everything keeps its raised minimum
// until its autoscaler can have seen that. It would go by what the pods did
// before, which after a rollback or an undo is next to nothing, and scale them
// down under all the traffic.
func (p *pass) steadies(h HPAHold) bool {
	st := &p.st
	if p.active() || p.spec.Deleted || h.Name != st.Stable.Name {
		return false
	}
	if st.LiveAt.IsZero() {
		return true
	}
	until := st.LiveAt.Add(autoscalerLag)
	if st.LiveAt.After(p.now) || !p.now.Before(until) { // a clock that went back holds nothing for ever
		return false
	}
	p.wakes = append(p.wakes, until)
	return true
}

// target is the weight that the canary must be ready for.
func (p *pass) target() Weight {
	st := &p.st
	w := max(st.Granted, st.Confirmed)
	if st.Move != MoveCanary || st.Phase == Promoting || st.Phase == Baking {
		return Whole
	}
	if st.Step < len(st.Plan) && !st.Entered && st.Plan[st.Step].Kind == StepWeight && !p.paused() {
		w = max(w, st.Plan[st.Step].Weight)
	}
	return w
}

func (p *pass) holdHPA(w *Workload) {
	for _, h := range p.st.HPAs {
		if h.Name == w.Name && h.HPA == w.HPA.Name {
			return
		}
	}
	p.st.HPAs = append(p.st.HPAs, HPAHold{Revision: w.Revision, Name: w.Name, HPA: w.HPA.Name, Min: w.HPA.Min})
}

// mayRetire: invariant I3. Nobody is scaled down who has, or may have, traffic.
func (p *pass) mayRetire(l Leaving) bool {
	return l.Gone && !p.quiet && !p.now.Before(l.Due) && !p.paused() && !p.st.Drift.Foreign && p.foreign == nil && !p.obs.Route.Elsewhere[l.Revision] &&
		l.Revision != p.st.Stable.Revision && l.Revision != p.st.Canary.Revision && p.obs.Route.Known == Present
}

// drainMeasure is how soon those who leave are looked at again; 0: nobody is
// waited for, or about to be taken away.
func (p *pass) drainMeasure() (every time.Duration) {
	if len(p.st.Leaving) > 0 {
		return activeMeasure
	}
	for _, l := range p.st.Retiring {
		switch {
		case l.Gone && (l.Policy == Keep || !p.mayRetire(l)):
		case l.Gone, l.Waited < p.spec.DrainTimeout:
			return activeMeasure
		default:
			every = keptMeasure
		}
	}
	return every
}
