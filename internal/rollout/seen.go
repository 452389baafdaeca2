package rollout

import (
	"cmp"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"
)

// This file reads the observation: what is there, what the route holds, who
// has left. Nothing here decides about a rollout.

func objectOf(w Workload) Object {
	return Object{Revision: w.Revision, Name: w.Name, UID: w.UID, Generation: w.Generation, Since: w.Since}
}

// stableCount is what stable has because its author or its autoscaler wants
// it: what our own headroom gave it does not count, or every release would add
// to the one before.
func (p *pass) stableCount(w *Workload) int {
	n := w.Replicas
	if g := p.st.Given; g.Revision == w.Revision && g.Count == n {
		n = g.R
	}
	if w.HPA != nil {
		n = max(n, w.HPA.Desired)
	}
	return n
}

// inventory keeps the state's objects in step with what is there.
func (p *pass) inventory() {
	if !p.listed() {
		return
	}
	st := &p.st
	p.follow(&st.Stable, true) // first: a mark belongs to the object under its new name, too
	p.follow(&st.Canary, false)
	for _, w := range p.obs.Workloads.Items {
		if w.Condemned && !p.condemned(w.Revision) && p.marked(w.Revision) == nil && w.Revision != st.Stable.Revision && w.Revision != st.Canary.Revision {
			p.mark(Mark{Revision: w.Revision, Kind: Condemned, At: p.now, Why: "marked on the object"})
		} else if w.Retired && p.marked(w.Revision) == nil && w.Revision != st.Stable.Revision && w.Revision != st.Canary.Revision {
			p.mark(Mark{Revision: w.Revision, Kind: Retired, At: p.now, Why: "marked on the object"})
		}
	}
	p.followMarks()
	if w := p.workload(st.Stable.Revision); w != nil {
		if p.active() {
			st.R = max(st.R, p.stableCount(w))
		} else {
			st.R = max(1, p.stableCount(w))
		}
	}
	// An autoscaler that has its own minimum again is done with.
	kept := st.HPAs[:0:0]
	for _, h := range st.HPAs {
		w := p.named(h.Name)
		// One look without it is no end: the debt goes with the Deployment.
		gone := w == nil && len(p.obs.Workloads.Items) > 0
		restored := !p.active() && w != nil && w.HPA != nil && w.HPA.Name == h.HPA && w.HPA.Min == h.Min
		if !gone && !restored {
			kept = append(kept, h)
		}
	}
	if len(kept) != len(st.HPAs) {
		st.HPAs = kept
	}
}

// follow finds an object whose revision is not there any more under its name:
// the same object and generation is a rebind (a server defaulted a field), a
// later generation is an edit. A canary that was edited is left alone: it is
// superseded by what it became.
func (p *pass) follow(o *Object, stable bool) {
	if o.Revision == "" {
		return
	}
	if w := p.workload(o.Revision); w != nil {
		*o = objectOf(*w)
		return
	}
	heir := o.Name
	if stable && p.named(o.Name) == nil {
		heir = p.heir(o.Revision)
	}
	for i := range p.obs.Workloads.Items {
		w := &p.obs.Workloads.Items[i]
		if w.Name != heir || heir == "" || w.Deleting || w.Revision.Label() != o.Revision.Label() {
			continue
		}
		same := o.UID != "" && w.UID == o.UID && w.Generation == o.Generation
		switch {
		case same:
			n := p.event(EvStableChanged, "git", string(o.Revision), string(w.Revision),
				fmt.Sprintf("%s has another hash at the same generation: a field was defaulted, nothing was restarted.", w.Name))
			p.rename(o.Revision, w.Revision)
			*o = objectOf(*w)
			p.grant(p.st.Granted, n)
		case stable && w.Revision != p.st.Canary.Revision:
			why := fmt.Sprintf("the template of %s, which serves the users, was edited in place: every pod of it changes at once, unjudged. Evidence starts from zero.", w.Name)
			if w.Name != o.Name {
				why = fmt.Sprintf("%s is gone, and the pods of %s have the label that the users are sent to: it serves them now, unjudged. Evidence starts from zero.", o.Name, w.Name)
			}
			n := p.event(EvStableChanged, "git", string(o.Revision), string(w.Revision), why)
			if p.st.Given.Revision == o.Revision {
				p.st.Given.Revision = w.Revision
			}
			*o = objectOf(*w)
			p.water(w)
			p.grant(p.st.Granted, n)
			p.restart()
		}
		return
	}
}

// heir is the one object that is left under a revision's label and answers: what
// a route sends there it has by now. Empty where there is none, or more than one.
func (p *pass) heir(of Revision) string {
	name := ""
	for _, w := range p.obs.Workloads.Items {
		if w.Revision.Label() != of.Label() || w.Deleting || !w.ReadyKnown || w.Ready == 0 {
			continue
		}
		if name != "" {
			return ""
		}
		name = w.Name
	}
	return name
}

// followMarks keeps marks on objects that a server upgrade gave another hash.
func (p *pass) followMarks() {
	st := &p.st
	for i := range st.Marks {
		m := &st.Marks[i]
		if w := p.workload(m.Revision); w != nil {
			m.GaveUp = m.GaveUp && m.UID == w.UID
			m.UID, m.Generation = w.UID, w.Generation
			continue
		}
		for _, w := range p.obs.Workloads.Items {
			if m.UID != "" && w.UID == m.UID && w.Generation == m.Generation && w.Revision.Label() == m.Revision.Label() &&
				p.marked(w.Revision) == nil && w.Revision != st.Stable.Revision && w.Revision != st.Canary.Revision {
				p.rename(m.Revision, w.Revision)
				break
			}
		}
	}
}

func (p *pass) named(name string) *Workload {
	for i := range p.obs.Workloads.Items {
		if p.obs.Workloads.Items[i].Name == name {
			return &p.obs.Workloads.Items[i]
		}
	}
	return nil
}

func (p *pass) rename(from, to Revision) {
	for i := range p.st.Marks {
		if p.st.Marks[i].Revision == from {
			p.st.Marks[i].Revision = to
		}
	}
	if p.st.Given.Revision == from {
		p.st.Given.Revision = to
	}
	if p.st.Previous.Revision == from {
		p.st.Previous.Revision = to
	}
	for _, ls := range [][]Leaving{p.st.Leaving, p.st.Retiring} {
		for i := range ls {
			if ls[i].Revision == from {
				ls[i].Revision = to
			}
		}
	}
	for i := range p.st.HPAs {
		if p.st.HPAs[i].Revision == from {
			p.st.HPAs[i].Revision = to
		}
	}
	for i := range p.st.Approvals {
		if p.st.Approvals[i].Revision == from {
			p.st.Approvals[i].Revision = to
		}
	}
}

// readRoute tells our own split from a lost write, a hand and a stranger, and
// latches the moment at which the split was seen in force.
func (p *pass) readRoute() {
	st, r := &p.st, p.obs.Route
	if st.Stable.Revision == "" || r.Known != Present {
		if r.Known == Absent {
			p.unsee()
		}
		p.clock(false)
		return
	}
	want := trafficFor(*st)
	ours := r.Note != nil && noteMatches(*r.Note, r.Weights)
	switch {
	case ours && r.Note.N == want.N && sameSplit(r.Weights, want.Weights()):
		p.inForce = true
	case ours && r.Note.N <= st.N:
		// A lost or late write: restated by this pass.
	default:
		p.foreign = p.readForeign(r) // nil: exactly our split, and not our write; restated by this pass
	}
	p.clock(p.inForce)
	if p.foreign == nil && !p.newer {
		if st.Drift.Foreign {
			st.Drift.Foreign, st.Drift.Restore, st.Drift.Seen = false, false, ""
		}
		st.NewerSince = time.Time{}
	}
	if !p.inForce && !p.newer {
		p.unsee()
	}
	if !p.inForce || !st.LiveAt.IsZero() {
		return
	}
	sc, cc := r.Requests[st.Stable.Revision], r.Requests[st.Canary.Revision]
	if st.Asked.IsZero() {
		st.Asked = p.now
		st.Share = Share{At: p.now, Stable: sc, Canary: cc}
	} else {
		st.Settled += p.tick
	}
	switch {
	case r.HasReceipt:
		if r.Receipt < want.N {
			return
		}
	case st.Settled < p.spec.Settle:
		p.wakes = append(p.wakes, p.now.Add(min(p.spec.Settle-st.Settled, smallStep)))
		return
	case r.Measured && p.now.Sub(st.Share.At) < p.spec.Settle: // a fresh window has seen too little to agree or not
		p.wakes = append(p.wakes, st.Share.At.Add(p.spec.Settle))
		return
	case st.Granted == 0 && st.Settled >= p.spec.DrainTimeout:
		// Somebody calls the canary past the route: that must not hold up the end.
	case r.Measured && contradicts(sc-st.Share.Stable, cc-st.Share.Canary, st.Granted):
		// The window may still hold the old split.
		st.Share = Share{At: p.now, Stable: sc, Canary: cc, AgainstStable: sc - st.Share.Stable, AgainstCanary: cc - st.Share.Canary}
		return
	}
	st.LiveAt, st.Confirmed = p.now, st.Granted
}

// unsee: the route does not hold our last write. What was seen in force, and
// who was seen gone, is a latch per write: somebody may have sent traffic
// anywhere meanwhile, and what is written again has to be seen again.
func (p *pass) unsee() {
	st := &p.st
	st.Asked, st.Settled, st.LiveAt, st.Share = time.Time{}, 0, time.Time{}, Share{}
	for _, ls := range [][]Leaving{st.Leaving, st.Retiring} {
		for i := range ls {
			ls[i].unsee()
		}
	}
}

func (l *Leaving) unsee() {
	l.ZeroSince, l.Waited, l.Quiet, l.Unread, l.Gone = time.Time{}, 0, 0, 0, false
}

// clock lets observed time count: live, not paused, no gap.
func (p *pass) clock(live bool) {
	st := &p.st
	if p.dt == 0 || !p.active() || p.paused() || !live || st.LiveAt.IsZero() {
		return
	}
	st.LiveFor += p.dt
	st.DeadFor += p.dt
}

func noteMatches(n Note, weights map[Revision]Weight) bool {
	t := Traffic{Stable: n.Stable, Canary: n.Canary, Weight: n.Weight}
	return sameSplit(weights, t.Weights())
}

// sameSplit compares splits; a missing version has weight 0.
func sameSplit(a, b map[Revision]Weight) bool {
	for r, w := range a {
		if w != b[r] {
			return false
		}
	}
	for r, w := range b {
		if w != a[r] {
			return false
		}
	}
	return true
}

func (p *pass) readForeign(r Route) *foreign {
	st := &p.st
	f := &foreign{manager: cmp.Or(r.Manager, "somebody")}
	total := Weight(0)
	for _, w := range r.Weights {
		total += w
	}
	for rev, w := range r.Weights {
		switch rev {
		case st.Stable.Revision:
			f.stable = w
		case st.Canary.Revision:
			f.canary = w
		default:
			f.others = f.others || w > 0
		}
	}
	if total != Whole {
		f.others = true
	}
	if !f.others && f.canary == st.Granted && f.stable == Whole-st.Granted {
		return nil
	}
	f.print = printSplit(r.Weights)
	return f
}

func printSplit(m map[Revision]Weight) string {
	var ss []string
	for r, w := range m {
		ss = append(ss, fmt.Sprintf("%s %s", r.Label(), w))
	}
	sort.Strings(ss)
	if len(ss) == 0 {
		return "nobody"
	}
	return strings.Join(ss, ", ")
}

// contradicts: the counted share is more than four standard errors from the
// split, so the split cannot be in force yet.
func contradicts(stable, canary float64, w Weight) bool {
	n := stable + canary
	if n <= 0 || stable < 0 || canary < 0 {
		return false
	}
	share := float64(w) / float64(Whole)
	return math.Abs(canary-n*share) > 4*math.Sqrt(n*share*(1-share))+1
}

// leaving follows versions that have lost their traffic until it is seen gone,
// and ends what was owed them.
func (p *pass) leaving() {
	st := &p.st
	live := p.inForce && !st.LiveAt.IsZero()
	kept := st.Leaving[:0:0]
	for _, l := range st.Leaving {
		p.drain(&l, live, true)
		if l.Gone && l.Revision != st.Stable.Revision && !(st.Phase == RollingBack && l.Revision == st.Canary.Revision) {
			if l.Policy != "" {
				st.Retiring = append(st.Retiring, l)
			}
			continue
		}
		kept = append(kept, l)
	}
	st.Leaving = kept
	kept = st.Retiring[:0:0]
	for _, l := range st.Retiring {
		p.drain(&l, live, false)
		w := p.workload(l.Revision)
		done := l.Gone && p.listed() && (w == nil || l.Policy == Keep || (l.Policy == ScaleToZero && w.Replicas == 0))
		if done && l.Policy != Keep && w == nil && len(p.obs.Workloads.Items) == 0 {
			done = false // an empty list is more likely a fault than an end
		}
		if done {
			if l.Policy != Keep && !p.replaced(l) {
				if m := p.marked(l.Revision); m != nil {
					m.Ended = true
				}
				p.event(EvRetired, "rule", l.Revision.Label(), "", fmt.Sprintf("%s has no traffic any more and was retired (%s).", l.Revision.Label(), l.Policy))
			}
			continue
		}
		if l.Gone && p.now.Before(l.Due) {
			p.wakes = append(p.wakes, l.Due)
		}
		if l.Policy != Keep && p.obs.Route.Elsewhere[l.Revision] && p.once("routed elsewhere "+string(l.Revision)) {
			p.event(EvMentioned, "rule", "", "", fmt.Sprintf("%s is at weight 0, and another route, which does not carry the split, sends to it: it is kept until that does not any more.", l.Revision.Label()))
		}
		kept = append(kept, l)
	}
	st.Retiring = kept
}

// replaced: its object has another template now, and is not ours to end.
func (p *pass) replaced(l Leaving) bool {
	if p.workload(l.Revision) != nil {
		return false
	}
	for _, w := range p.obs.Workloads.Items {
		if w.Name == l.Name {
			return true
		}
	}
	return false
}

// drain watches one version's traffic end. bounded: after the drain timeout it
// counts as gone whatever still comes (a superseded canary must not hold up
// its successor); an old stable that is still called is kept, and said so.
func (p *pass) drain(l *Leaving, live, bounded bool) {
	r := p.obs.Route
	if r.Known == Present && r.Weights[l.Revision] > 0 { // somebody gave it traffic again, or the write was lost
		l.unsee()
	}
	if c := r.Requests[l.Revision]; l.Gone && r.Known == Present && r.Measured && !r.HasReceipt && c != l.LastCount {
		l.Gone, l.Quiet, l.Unread, l.LastCount = false, 0, 0, c // quiet for a while is not gone
	}
	if l.Gone {
		return
	}
	if r.Known != Present || !live || trafficFor(p.st).Weights()[l.Revision] > 0 {
		return
	}
	if l.ZeroSince.IsZero() {
		l.ZeroSince, l.LastCount, l.Counted = p.now, r.Requests[l.Revision], r.Counted[l.Revision]
	} else {
		l.Waited += p.tick
		l.Unread += p.tick
	}
	// A count that was not renewed says nothing of the time since: scrapes may be
	// half a minute apart.
	if at := r.Counted[l.Revision]; r.Measured && (at.IsZero() || !at.Equal(l.Counted)) {
		l.Quiet, l.Unread, l.Counted = l.Quiet+l.Unread, 0, at
	}
	// After a while of no renewal there is nothing to measure by any more.
	unread := l.Unread >= 2*p.spec.DrainTimeout
	idle := r.InFlight == nil || r.InFlight[l.Revision] == 0
	switch {
	case r.HasReceipt && r.InFlight != nil:
		l.Gone = idle
	case r.Measured:
		if c := r.Requests[l.Revision]; c != l.LastCount {
			l.LastCount, l.Quiet = c, 0
		}
		l.Gone = idle && (l.Quiet >= p.spec.Quiet || unread)
	default: // settled, and nothing to measure by
		l.Gone = l.Counted.IsZero() || unread
	}
	if l.Gone || l.Waited < p.spec.DrainTimeout {
		return
	}
	if bounded || (r.HasReceipt && l.Quiet >= p.spec.DrainTimeout) {
		l.Gone = true
	} else if p.once("still called " + string(l.Revision)) {
		p.event(EvMentioned, "rule", "", "", fmt.Sprintf("%s is at weight 0 and still gets requests from somewhere else (a caller outside the route?): it is kept.", l.Revision.Label()))
	}
}
