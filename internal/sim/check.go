package sim

import (
	"reflect"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// This file holds what must hold, by what is true and not by what the product
// believes. "As of the look that was used" means that nobody can know better
// than what the ports told in this pass; what was true at the instant of that
// look is what counts.

// checks is what the checker remembers.
type checks struct {
	events    map[int]rollout.Event
	last      int                       // number of the last decision that was ever saved
	condemned map[rollout.Revision]bool // true: by this very name
	told      int
	ahead     int // the highest number on the route that was never saved

	// R as the looks told it, in this rollout.
	canary  rollout.Revision
	started time.Time
	most    int

	failing int // passes in a row after which a canary that is taken back still has weight
	struck  int // faults before this pass

	// rest
	quietSince  time.Time
	quietPasses int
	lastResult  engine.Result
	lastErr     error
}

func (c *checks) init() {
	c.events, c.condemned = map[int]rollout.Event{}, map[rollout.Revision]bool{}
}

func active(st rollout.State) bool {
	return st.Canary.Revision != "" && st.Phase != rollout.Idle && st.Phase != ""
}

// need is how many replicas carry a weight, reckoned anew.
func (w *World) need(weight rollout.Weight, r int) int {
	full := (max(r, 1)*int(rollout.Whole+w.spec.Capacity.Headroom) + int(rollout.Whole) - 1) / int(rollout.Whole)
	return max(1, (full*int(weight)+int(rollout.Whole)-1)/int(rollout.Whole))
}

// checkTraffic looks at a split before it is written.
func (v *view) checkTraffic(want rollout.Traffic) {
	w := v.w
	weights := want.Weights()
	sum := rollout.Weight(0)
	for rev, x := range weights {
		if x < 0 || x > rollout.Whole {
			w.failf("I1", "%s is to have %d", rev, x)
		}
		sum += x
	}
	if sum != rollout.Whole {
		w.failf("I1", "the weights sum to %d", sum)
	}
	st := w.store.saved.State
	had := map[rollout.Revision]rollout.Weight{}
	if v.route != nil {
		had = v.route.seen.Weights
	} else if st.Canary.Revision != "" {
		had[st.Canary.Revision] = st.Granted
	}
	lowers := true
	for rev, x := range weights {
		if rev != want.Stable && x > had[rev] {
			lowers = false
		}
	}

	// I16: recorded first. Only what lowers may be written without.
	recorded := st.Stable.Revision == want.Stable && st.TrafficN == want.N
	if recorded && want.Canary != "" {
		recorded = st.Canary.Revision == want.Canary && st.Granted == want.Weight
	}
	if !recorded && !lowers {
		w.failf("I16", "decision %d (%s to %s) is written before it is saved: stored are %d and %s to %s",
			want.N, want.Weight, want.Canary, st.TrafficN, st.Granted, st.Canary.Revision)
	}
	if !recorded && want.N > st.N {
		w.checks.ahead = max(w.checks.ahead, want.N)
	}

	for rev := range weights {
		if _, ok := w.checks.condemned[rev]; ok && rev != want.Stable && weights[rev] > had[rev] {
			w.failf("I7", "%s is condemned and is to have %s", rev, weights[rev])
		}
	}
	c := want.Canary
	if c != "" && want.Weight > had[c] {
		v.checkRaise(want, had[c], st)
	}
	// Who is known to have nobody gets no more than it had, as long as the
	// others could answer.
	if n, ok := v.cluster.ready(want.Stable); ok && n == 0 && v.route != nil && weights[want.Stable] > had[want.Stable] {
		for rev, x := range had {
			if m, known := v.cluster.ready(rev); (rev == st.Canary.Revision || !active(st)) && rev != want.Stable && x > weights[rev] && known && m > 0 {
				if d := v.cluster.find(rev); d != nil && !d.Deleting {
					w.failf("I2", "%s has no ready replica and is to have %s instead of %s; %s has %d", want.Stable, weights[want.Stable], had[want.Stable], rev, m)
				}
			}
		}
	}
}

// checkRaise looks at a split that gives the canary more than the route was
// seen to give it.
func (v *view) checkRaise(want rollout.Traffic, had rollout.Weight, st rollout.State) {
	w, c := v.w, want.Canary
	if st.Canary.Revision == c && want.Weight <= st.Confirmed {
		return // what was seen in force already may be restated
	}
	if v.route == nil {
		w.failf("I9", "%s is to have %s while the route is not known", c, want.Weight)
		return
	}
	ready, known := v.cluster.ready(c)
	if !known {
		w.failf("I9", "%s is to have %s (had %s) while its readiness is not known", c, want.Weight, had)
		return
	}
	r := 0
	if w.checks.canary == c && w.checks.started.Equal(st.Started) {
		r = w.checks.most
	}
	if s := v.cluster.find(want.Stable); s != nil {
		n := s.Replicas
		if g := st.Given; g.Revision == want.Stable && g.Count == n {
			n = g.R
		}
		r = max(r, n)
	}
	least := w.need(want.Weight, r)
	if st.Unjudged {
		least = 1
	}
	if ready < least {
		w.failf("I2", "%s is to have %s (had %s) with %d ready replicas; %d carry it", c, want.Weight, had, ready, least)
	}
	named := false
	for _, e := range st.Decisions {
		named = named || e.N == want.N
	}
	if !named {
		w.failf("I8", "%s rises from %s to %s under number %d, which is no decision", c, had, want.Weight, want.N)
	}
	if had > 0 || st.Unjudged {
		return
	}
	// I6: the first weight of this one comes after the last of another.
	for rev := range v.route.zeroAt {
		t := w.route.of(rev)
		switch {
		case rev == c, rev == want.Stable, t.byHand, v.cluster.find(rev) == nil:
			continue
		case v.route.version != w.route.version || v.route.seen.Manager != "serin":
			continue // an older look, or somebody else's doing: the fence is the version
		}
		retiring := false // it was stable, and is not a canary that was superseded
		for _, l := range st.Retiring {
			retiring = retiring || l.Revision == rev
		}
		// A proxy that is slower than the document says shows by its requests.
		waited := w.now.Sub(v.route.zeroAt[rev])
		shown := waited < w.spec.Settle || (w.route.lag <= w.spec.Settle && v.route.counted.Sub(v.route.lastSent[rev]) < w.spec.Quiet)
		early := waited < w.spec.DrainTimeout && !retiring
		switch {
		case v.route.written.of(rev) > 0, early && v.route.sending[rev] && shown:
			w.failf("I6", "%s gets its first weight while %s is still sent to", c, rev)
		case early && w.route.receipt && v.route.inFlight[rev] && t.busyTill.After(w.now) && len(w.jumps) == 0 && !w.stateLost: // a lost state forgets who was leaving
			w.failf("I6", "%s gets its first weight while %s still answers requests", c, rev)
		}
	}
}

// checkScale looks at what capacity is to be given and taken.
func (v *view) checkScale(want []rollout.Scale) {
	w, st := v.w, v.w.store.saved.State
	for _, s := range want {
		if most := w.cluster.most * 2; s.Min > most || s.HPAMin > most {
			w.failf("I4", "%s is to have %d replicas (its autoscaler %d): nobody ever asked for more than %d", s.Revision, s.Min, s.HPAMin, w.cluster.most)
		}
		stable := s.Revision == st.Stable.Revision
		if s.HPA != "" && stable && active(st) && s.HPAMin > 0 {
			if d := v.cluster.find(s.Revision); d != nil && d.HPA != nil && s.HPAMin < d.HPA.Min && s.HPAMin < w.need(rollout.Whole, st.R) {
				w.failf("I4", "the autoscaler of stable %s may go down to %d during a rollout that needs %d", s.Revision, s.HPAMin, w.need(rollout.Whole, st.R))
			}
		}
		if !s.Zero && !s.Delete {
			continue
		}
		if v.former { // what it does not know yet may bring a version down that has nothing, and no more
			v.checkGone(s.Revision)
			continue
		}
		if stable || (s.Revision == st.Canary.Revision && active(st)) {
			w.failf("I5", "%s is stable or canary and is to be taken away", s.Revision)
			continue
		}
		recorded := false
		for _, l := range st.Retiring {
			recorded = recorded || l.Revision == s.Revision
		}
		if !recorded {
			w.failf("I16", "%s is to be taken away and no saved state owes it that", s.Revision)
		}
		v.checkGone(s.Revision)
	}
}

// checkGone is I3: nobody is taken away whom somebody still sends to.
func (v *view) checkGone(rev rollout.Revision) {
	w, r := v.w, v.route
	if r == nil {
		w.failf("I3", "%s is to be taken away while the route is not known", rev)
		return
	}
	if r.written.of(rev) > 0 {
		w.failf("I3", "%s has weight %s and is to be taken away", rev, r.written.of(rev))
		return
	}
	waited := w.now.Sub(r.zeroAt[rev])
	for _, at := range w.jumps {
		if at.After(r.zeroAt[rev]) {
			waited += 6 * time.Second // as much as a jump of the clock may be taken for
		}
	}
	if waited >= w.spec.DrainTimeout {
		return
	}
	switch {
	case r.sending[rev] && w.route.sends(rev) && (waited < w.spec.Settle || (w.route.measured && r.counted.Sub(r.lastSent[rev]) < w.spec.Quiet)):
		w.failf("I3", "%s is to be taken away %s after its weight became 0, and a proxy still sends to it", rev, waited)
	case w.route.outside == rev && w.route.measured:
		w.failf("I3", "%s is to be taken away %s after its weight became 0, and somebody calls it around the route", rev, waited)
	case w.route.receipt && r.inFlight[rev] && w.route.of(rev).busyTill.After(w.now):
		w.failf("I3", "%s is to be taken away %s after its weight became 0, and requests are in flight", rev, waited)
	}
}

// checkSaved looks at a state on its way to the disk.
func (w *World) checkSaved(s engine.Saved) {
	c, st := &w.checks, s.State
	was := w.store.saved.State
	for _, e := range st.Decisions {
		old, seen := c.events[e.N]
		if seen {
			if !reflect.DeepEqual(plain(old), plain(e)) {
				w.failf("I15", "decision %d was %s (%s) and is %s (%s)", e.N, old.What, old.Why, e.What, e.Why)
			}
			continue
		}
		if e.N <= c.last {
			w.failf("I15", "decision %d (%s) appears after %d", e.N, e.What, c.last)
		}
		if e.N != c.last+1 && c.ahead == 0 && !w.checks.jumps() {
			w.failf("I15", "decision %d (%s) follows %d", e.N, e.What, c.last)
		}
		if e.By == "" || e.Why == "" {
			w.failf("I15", "decision %d has no author or no reason", e.N)
		}
		c.events[e.N], c.last = e, e.N
		w.met["decision "+string(e.What)]++
		w.follow(e, was, st)
	}
	if st.N < was.N {
		w.failf("I15", "the number of the last decision falls from %d to %d", was.N, st.N)
	}
	if n := len(st.Decisions); n > 0 && st.Decisions[n-1].N != st.N {
		w.failf("I15", "the last decision is %d, the state says %d", st.Decisions[n-1].N, st.N)
	}
	for rev := range c.condemned {
		marked := !c.condemned[rev] // it has another name now, under which it is no candidate
		for _, m := range st.Marks {
			d := w.cluster.find(rev) // an older look may have shown it under an older name
			same := m.Revision == rev || (d != nil && m.UID == d.uid)
			marked = marked || (same && m.Kind == rollout.Condemned)
		}
		if !marked && len(st.Marks) < 50 {
			w.failf("I17", "%s is not condemned any more", rev)
		}
	}
	if r := st.Stable.Revision; r != was.Stable.Revision && was.Stable.Revision != "" {
		named := false
		for _, e := range st.Decisions {
			if e.N > was.N {
				switch e.What {
				case rollout.EvPromoted, rollout.EvUndone, rollout.EvReverted, rollout.EvStableChanged, rollout.EvAdopted, rollout.EvStateRebuilt:
					named = true
				}
			}
		}
		if !named {
			w.failf("I5", "stable becomes %s without a decision", r)
		}
	}
}

// jumps: numbers may jump only where the route was ahead of the state.
func (c *checks) jumps() bool { return c.ahead > c.last }

// plain is an event without what JSON does not keep.
func plain(e rollout.Event) rollout.Event {
	e.At = e.At.UTC().Round(0)
	if len(e.Figures) == 0 {
		e.Figures = nil
	}
	return e
}

// follow learns from a decision who is condemned.
func (w *World) follow(e rollout.Event, was, st rollout.State) {
	c := &w.checks
	switch e.What {
	case rollout.EvRolledBack, rollout.EvAborted:
		if st.Ending != nil && (st.Ending.Result == rollout.RolledBack || st.Ending.Result == rollout.Aborted) && st.Canary.Revision == e.Rev {
			c.condemned[e.Rev] = true
		}
	case rollout.EvUndone:
		c.condemned[was.Stable.Revision] = true
		delete(c.condemned, st.Stable.Revision)
	case rollout.EvStableChanged:
		if _, ok := c.condemned[rollout.Revision(e.From)]; ok {
			delete(c.condemned, rollout.Revision(e.From))
			c.condemned[rollout.Revision(e.To)] = false
		}
		delete(c.condemned, st.Stable.Revision)
	case rollout.EvRetryStarted:
		delete(c.condemned, st.Canary.Revision)
	case rollout.EvPromoted, rollout.EvReverted, rollout.EvAdopted:
		delete(c.condemned, st.Stable.Revision)
	}
	if e.What == rollout.EvUndoStarted {
		delete(c.condemned, st.Canary.Revision)
	}
}

// phases says which follows which.
var phases = map[rollout.Phase][]rollout.Phase{
	"":                  {rollout.Idle, rollout.Preparing, rollout.Progressing, rollout.Promoting},
	rollout.Idle:        {rollout.Preparing},
	rollout.Preparing:   {rollout.Progressing, rollout.Promoting, rollout.RollingBack},
	rollout.Progressing: {rollout.Preparing, rollout.Promoting, rollout.RollingBack},
	rollout.Promoting:   {rollout.Preparing, rollout.Progressing, rollout.Baking, rollout.RollingBack, rollout.Idle},
	rollout.Baking:      {rollout.Preparing, rollout.Progressing, rollout.Promoting, rollout.RollingBack, rollout.Idle},
	rollout.RollingBack: {rollout.Idle},
}

func (w *World) checkPhase(was, next rollout.State) {
	from, to := was.Phase, next.Phase
	if from == to || slices.Contains(phases[from], to) {
		return
	}
	if was.Stable.Revision == "" {
		return // the state was lost: it goes on where the route stands
	}
	switch {
	case was.Unjudged && to == rollout.Idle:
		return // a person accepts what took over from a lost stable
	case from == rollout.RollingBack && next.Unjudged && next.Canary.Revision != was.Canary.Revision:
		return // held for want of a stable: a newer version ends the outage
	}
	w.failf("I17", "phase %s follows %s", to, from)
}

// checkTold: decisions are told in order, and only those that were saved.
func (w *World) checkTold(es []rollout.Event) {
	n := 0
	for _, e := range es {
		if e.N <= n {
			w.failf("I15", "decision %d is told after %d", e.N, n)
		}
		n = e.N
		saved, ok := w.checks.events[e.N]
		if !ok {
			w.failf("I16", "decision %d is told and was never saved", e.N)
		} else if !reflect.DeepEqual(plain(saved), plain(e)) {
			w.failf("I15", "decision %d is told otherwise than it was saved", e.N)
		}
	}
	w.checks.told = max(w.checks.told, n)
}

// checkPass looks at what a pass decided.
func (w *World) checkPass(res engine.Result, err error) {
	w.stir(res, err)
	if v := isViolation(err); v != nil {
		w.failf("refused", "%s", v.Error())
		return
	}
	if !res.Decided {
		return
	}
	d, st := res.Decision, res.Before
	if v := rollout.Check(w.spec, st, res.Seen, d); v != nil {
		w.failf(v.Invariant, "Check: %s", v.Why)
		return
	}
	w.met["phase "+string(d.Next.Phase)]++
	if n := len(d.Next.History); d.Next.Phase != st.Phase && n > 0 {
		w.met["ended "+string(d.Next.History[n-1].Result)]++
	}
	w.checkPhase(st, d.Next)
	w.learnR(d.Next, res.Seen)
	w.checkProtects(res)
	w.checkBack(res, err)
	w.checkAdvance(res)
	w.checkPromoted(res)
	if w.chance(0.03) {
		w.checkFixedPoint(res)
	}
}

// learnR keeps the largest count of stable in this rollout.
func (w *World) learnR(st rollout.State, obs rollout.Observation) {
	c := &w.checks
	if st.Canary.Revision != c.canary || !st.Started.Equal(c.started) {
		c.canary, c.started, c.most = st.Canary.Revision, st.Started, 0
	}
	if !active(st) {
		return
	}
	for _, x := range obs.Workloads.Items {
		if g := st.Given; x.Revision == st.Stable.Revision && (g.Revision != x.Revision || g.Count != x.Replicas) {
			c.most = max(c.most, x.Replicas)
		}
	}
}

// checkProtects: what must be taken back is taken back within the pass.
func (w *World) checkProtects(res engine.Result) {
	st, next := res.Before, res.Decision.Next
	if !active(st) || st.Phase == rollout.RollingBack {
		return
	}
	gone := next.Phase == rollout.RollingBack || next.Canary.Revision != st.Canary.Revision
	for _, c := range res.Seen.Commands {
		if c.Verb == rollout.VerbAbort && !slices.Contains(st.Taken, c.ID) && (c.Revision == "" || c.Revision == st.Canary.Revision) &&
			st.Stable.Revision != "" && !gone && !newerNote(st, res.Seen.Route) {
			w.failf("I7", "an abort of %s was seen and it goes on (%s)", st.Canary.Revision, next.Phase)
		}
	}
	if res.Seen.Report.Verdict == analysis.Fail && st.Move == rollout.MoveCanary && !st.Override && st.Phase != rollout.Preparing &&
		!gone && !newerNote(st, res.Seen.Route) {
		w.failf("I7", "the judge says Fail of %s and it goes on (%s)", st.Canary.Revision, next.Phase)
	}
	if next.Phase != rollout.RollingBack || next.Canary.Revision == "" || next.Granted == 0 {
		return
	}
	if n, ok := ready(res.Seen.Workloads, st.Stable.Revision); !ok || n > 0 {
		w.failf("I7", "%s is taken back, stable may answer, and it keeps %s", next.Canary.Revision, next.Granted)
	}
}

// checkBack: a pass that nothing befell leaves a canary that is taken back with
// no weight, as long as somebody of stable may answer.
func (w *World) checkBack(res engine.Result, err error) {
	c, st := &w.checks, res.State
	clean := err == nil && w.struck == c.struck && w.former == nil
	c.struck = w.struck
	n, ok := ready(res.Seen.Workloads, st.Stable.Revision)
	if st.Phase != rollout.RollingBack || !clean || !w.route.exists || newerNote(res.Before, res.Seen.Route) || (ok && n == 0) ||
		w.route.config.split.of(st.Canary.Revision) == 0 {
		c.failing = 0
		return
	}
	if c.failing++; c.failing >= 3 {
		w.failf("I7", "%s is being taken back and still has %s after %d passes that nothing befell", st.Canary.Revision, w.route.config.split.of(st.Canary.Revision), c.failing)
	}
}

func newerNote(st rollout.State, r rollout.Route) bool { return r.Note != nil && r.Note.N > st.N }

func ready(ws rollout.Workloads, r rollout.Revision) (int, bool) {
	if ws.Known == rollout.Unknown {
		return 0, false
	}
	for _, x := range ws.Items {
		if x.Revision == r {
			return x.Ready, x.ReadyKnown
		}
	}
	return 0, true
}

// checkAdvance is I10: nothing goes on by itself without data.
func (w *World) checkAdvance(res engine.Result) {
	st, next, rep := res.Before, res.Decision.Next, res.Seen.Report
	if w.spec.Analysis.None || st.Move != rollout.MoveCanary || st.Full || next.Full || st.Unjudged || next.Unjudged {
		return
	}
	// I8: by rule never more than the step in force asks for.
	if next.Canary.Revision == st.Canary.Revision && next.Granted > st.Granted && next.Step < len(next.Plan) {
		if most := max(next.Plan[next.Step].Weight, st.Granted); next.Granted > most {
			w.failf("I8", "step %d asks for %s and %s is granted", next.Step+1, most, next.Granted)
		}
	}
	for _, p := range st.Pauses {
		if p.Kind == rollout.PauseHand && !paused(w.spec, next) {
			return // a person resumed above the weight that a hand had set
		}
	}
	for _, e := range res.Decision.Events {
		went := (e.What == rollout.EvPromoted || (e.What == rollout.EvStepStarted && st.Phase == rollout.Progressing && st.Entered &&
			st.Step < len(st.Plan) && st.Plan[st.Step].Kind == rollout.StepWeight)) && next.Canary.Revision != "" || e.What == rollout.EvPromoted && !st.Closing
		if !went {
			continue
		}
		switch {
		case e.By == "rule" && rep.Verdict != analysis.Pass:
			w.failf("I10", "decision %d (%s) by rule, with verdict %s", e.N, e.What, rep.Verdict)
		case e.By == "deadline" && (rep.Verdict == analysis.Unavailable || rep.Verdict == analysis.Fail || !rep.Calm || rep.BothBreak || rep.CanaryRequests < 1):
			w.failf("I10", "decision %d (%s) at the deadline, with verdict %s, calm %v", e.N, e.What, rep.Verdict, rep.Calm)
		case e.By == "rule" || e.By == "deadline":
			if paused(w.spec, st) && paused(w.spec, next) {
				w.failf("I8", "decision %d (%s) while paused", e.N, e.What)
			}
		}
	}
}

// checkPromoted is I4: what was stable is let go only when its successor carries
// everything.
func (w *World) checkPromoted(res engine.Result) {
	st := res.Before
	for _, e := range res.Decision.Events {
		if e.What != rollout.EvPromoted || e.By != "rule" && e.By != "deadline" || st.Closing {
			continue
		}
		n, ok := ready(res.Seen.Workloads, st.Canary.Revision)
		if !ok || n < w.need(rollout.Whole, st.R) {
			w.failf("I4", "%s is promoted with %d ready replicas (known: %v); %d carry everything", st.Canary.Revision, n, ok, w.need(rollout.Whole, st.R))
		}
	}
}

func paused(spec rollout.Spec, st rollout.State) bool { return spec.Suspend || len(st.Pauses) > 0 }

// checkFixedPoint is I18: the same input twice gives the same answer, and what
// was decided is not decided again.
func (w *World) checkFixedPoint(res engine.Result) {
	if w.opts.Policy != nil {
		return
	}
	again := rollout.Decide(w.spec, res.Before, res.Seen, res.At)
	if !reflect.DeepEqual(again, res.Decision) {
		w.failf("I18", "the same input has two answers: %+v and %+v", again, res.Decision)
		return
	}
	st := res.Decision.Next
	for range 12 {
		d := rollout.Decide(w.spec, st, res.Seen, res.At)
		if len(d.Events) == 0 {
			return
		}
		st = d.Next
	}
	w.failf("I18", "the same observation is decided upon again and again: %s %+v", st.Phase, lastEvents(st))
}

func lastEvents(st rollout.State) []rollout.Event {
	return st.Decisions[max(0, len(st.Decisions)-2):]
}
