package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file takes commands. Each is recorded when it is taken, by its id; one
// that does not fit what its author saw is refused, and that is recorded too.

// commandsPerPass bounds what one pass answers, so that no flood pushes
// decisions out of the ring before they were told. The rest is the next pass's.
const commandsPerPass = 20

// admitted are the oldest commands that wait, and an abort wherever it stands.
func (p *pass) admitted() []Command {
	if p.admits != nil {
		return p.admits
	}
	p.admits = []Command{}
	aborts := 0
	for _, c := range p.obs.Commands {
		if slices.Contains(p.st.Taken, c.ID) {
			continue
		}
		if abort := c.Verb == VerbAbort && aborts < commandsPerPass; len(p.admits) < commandsPerPass || abort {
			p.admits = append(p.admits, c)
			if abort {
				aborts++
			}
		}
	}
	return p.admits
}

// fresh are the admitted commands of a verb that have not been taken.
func (p *pass) fresh(v Verb) []Command {
	var out []Command
	for _, c := range p.admitted() {
		if c.Verb == v && !slices.Contains(p.st.Taken, c.ID) {
			out = append(out, c)
		}
	}
	return out
}

// pending: something was asked for that this pass did not get to.
func (p *pass) pending() bool {
	for _, c := range p.obs.Commands {
		if !slices.Contains(p.st.Taken, c.ID) {
			return p.st.Stable.Revision != "" && !p.spec.Deleted && p.listed() && !(p.newer && p.quiet)
		}
	}
	return false
}

func (p *pass) take(c Command) { p.st.Taken = appendRing(p.st.Taken, c.ID, 200) }

func (p *pass) refuse(c Command, why string) {
	p.event(EvRefused, c.By, string(c.Verb), "", fmt.Sprintf("%s was not done: %s", c.Verb, why))
}

// matches: a command may name a whole revision or a bare label; none fits all.
func matches(want, have Revision) bool {
	return want == "" || want == have || (want.Hash() == "" && want.Label() == have.Label())
}

// fits: the command was meant for this canary and, where it raises exposure,
// for what its author saw.
func (p *pass) fits(c Command) bool {
	if !matches(c.Revision, p.st.Canary.Revision) {
		p.refuse(c, fmt.Sprintf("it was meant for %s; the canary is %s.", c.Revision.Label(), labelOr(p.st.Canary.Revision, "none")))
		return false
	}
	if c.N != 0 && c.N != p.was.N {
		p.refuse(c, fmt.Sprintf("decision %d was the last its author saw; %d has been made since. Look again.", c.N, p.was.N))
		return false
	}
	return true
}

func labelOr(r Revision, s string) string {
	if r == "" {
		return s
	}
	return r.Label()
}

// aborts: wins over everything else within one pass.
func (p *pass) aborts() bool {
	st := &p.st
	for _, c := range p.fresh(VerbAbort) {
		p.take(c)
		switch {
		case !p.active():
			p.refuse(c, fmt.Sprintf("nothing is in progress; %s is promoted. `serin undo` goes back.", st.Stable.Revision.Label()))
			continue
		case !matches(c.Revision, st.Canary.Revision):
			p.refuse(c, fmt.Sprintf("it was meant for %s; the canary is %s.", c.Revision.Label(), st.Canary.Revision.Label()))
			continue
		case st.Phase == RollingBack:
			p.refuse(c, fmt.Sprintf("%s is being taken back already.", st.Canary.Revision.Label()))
			continue
		}
		result, condemn := Aborted, true
		if st.Move == MoveUndo {
			result, condemn = Abandoned, false
		}
		p.rollBack(EvAborted, Ending{Result: result, By: c.By, Why: fmt.Sprintf("%s aborted %s%s.", c.By, st.Canary.Revision.Label(), reason(c))}, condemn)
		return true
	}
	return false
}

func reason(c Command) string {
	if c.Reason == "" {
		return ""
	}
	return ": " + strings.TrimRight(c.Reason, ".")
}

// undoes: back to the previous stable version, at rest only.
func (p *pass) undoes() bool {
	st := &p.st
	for _, c := range p.fresh(VerbUndo) {
		if !p.listed() {
			return false // not now: nothing is known
		}
		p.take(c)
		prev := p.workload(st.Previous.Revision)
		switch {
		case p.active():
			p.refuse(c, fmt.Sprintf("%s is in progress; `serin abort` takes it back.", st.Canary.Revision.Label()))
			continue
		case !matches(c.Revision, st.Stable.Revision):
			p.refuse(c, fmt.Sprintf("it was meant to leave %s; stable is %s.", c.Revision.Label(), st.Stable.Revision.Label()))
			continue
		case st.Previous.Revision == "":
			p.refuse(c, "there is no previous version to go back to.")
			continue
		case prev == nil || prev.Deleting:
			p.refuse(c, fmt.Sprintf("the Deployment of %s has been deleted.", st.Previous.Revision.Label()))
			continue
		}
		p.unmark(prev.Revision) // whatever was held against it: a person asks for it by name
		n := p.event(EvUndoStarted, c.By, st.Stable.Revision.Label(), prev.Revision.Label(),
			fmt.Sprintf("%s goes back to %s%s: capacity first, then one switch.", c.By, prev.Revision.Label(), reason(c)))
		held := Weight(0)
		if p.foreign != nil && !p.foreign.others { // a hand has done a part of it already
			held = p.obs.Route.Weights[prev.Revision]
		}
		p.begin(prev, MoveUndo, 0, n)
		p.grant(held, n)
		return true
	}
	return false
}

// people takes what raises nothing by itself, then what does.
func (p *pass) people() {
	for _, c := range p.fresh(VerbPause) {
		p.take(c)
		p.st.Pauses = append(p.st.Pauses, Pause{Kind: PausePerson, By: c.By, Why: c.Reason, At: p.now})
		if len(p.st.Pauses) > 20 {
			p.st.Pauses = p.st.Pauses[1:]
		}
		p.event(EvPaused, c.By, "", "", fmt.Sprintf("%s paused%s: nothing is raised, a failure still rolls back.", c.By, reason(c)))
	}
	for _, c := range p.fresh(VerbApprove) {
		p.take(c)
		p.approve(c)
	}
	for _, c := range p.fresh(VerbResume) {
		p.take(c)
		p.resume(c)
	}
	for _, c := range p.fresh(VerbPromote) {
		p.take(c)
		p.promote(c)
	}
	for _, c := range p.fresh(VerbRetry) {
		if !p.listed() {
			break
		}
		p.take(c)
		p.retry(c)
	}
	for _, c := range p.fresh(VerbAdopt) {
		p.take(c)
		p.refuse(c, fmt.Sprintf("%s is the stable version already.", p.st.Stable.Revision.Label()))
	}
	for _, c := range p.admitted() {
		switch c.Verb {
		case VerbAbort, VerbUndo, VerbPause, VerbApprove, VerbResume, VerbPromote, VerbRetry, VerbAdopt:
		default:
			if !slices.Contains(p.st.Taken, c.ID) {
				p.take(c)
				p.refuse(c, "there is no such command.")
			}
		}
	}
}

// mayApprove: by lists users, and groups as "group:NAME"; empty is whoever may
// send commands.
func mayApprove(by []string, c Command) bool {
	if len(by) == 0 || slices.Contains(by, c.By) && !strings.HasPrefix(c.By, "group:") {
		return true
	}
	return slices.ContainsFunc(c.Groups, func(g string) bool { return slices.Contains(by, "group:"+g) })
}

func (p *pass) approve(c Command) {
	st := &p.st
	if !p.active() || st.Phase == RollingBack {
		p.refuse(c, "no rollout waits for an approval.")
		return
	}
	if !p.fits(c) {
		return
	}
	for i := st.Step; i < len(st.Plan); i++ {
		s := st.Plan[i]
		if s.Kind != StepApproval || p.approved(s) {
			continue
		}
		if !mayApprove(s.By, c) {
			p.refuse(c, fmt.Sprintf("%s may not approve; who may: %s.", c.By, strings.Join(s.By, ", ")))
			return
		}
		st.Approvals = appendRing(st.Approvals, Approval{Revision: st.Canary.Revision, Step: s.ID, By: c.By, At: p.now}, 50)
		p.event(EvApproved, c.By, "", "", fmt.Sprintf("%s approved %s (step %d)%s.", c.By, st.Canary.Revision.Label(), i+1, reason(c)))
		return
	}
	p.refuse(c, "no step of this rollout asks for an approval that is missing.")
}

func (p *pass) approved(s Step) bool {
	for _, a := range p.st.Approvals {
		if a.Step == s.ID && a.Revision == p.st.Canary.Revision {
			return true
		}
	}
	return false
}

func (p *pass) resume(c Command) {
	st := &p.st
	switch {
	case !p.active() && st.Drift.Foreign:
		n := p.event(EvDriftUndone, c.By, st.Drift.Seen, "100 % "+st.Stable.Revision.Label(), fmt.Sprintf("%s put the traffic back on %s%s.", c.By, st.Stable.Revision.Label(), reason(c)))
		p.status.Stalled = ""
		p.quiet, st.Drift.Restore = false, true
		p.grant(0, n)
		st.Pauses = nil
		return
	case len(st.Pauses) == 0 && p.spec.Suspend:
		p.refuse(c, "`suspend: true` is set in the document.")
		return
	case len(st.Pauses) == 0 && (st.Stalled == "" || !p.active()):
		p.refuse(c, "nothing is paused.")
		return
	case !matches(c.Revision, st.Canary.Revision):
		p.refuse(c, fmt.Sprintf("it was meant for %s; the canary is %s.", c.Revision.Label(), labelOr(st.Canary.Revision, "none")))
		return
	case c.N != 0 && c.N != p.was.N:
		p.refuse(c, fmt.Sprintf("decision %d was the last its author saw; %d has been made since. Look again.", c.N, p.was.N))
		return
	}
	p.unpause()
	p.event(EvResumed, c.By, "", "", fmt.Sprintf("%s resumed%s.", c.By, reason(c)))
}

// unpause ends every pause. After a hand's (true), the rollout goes on at the
// first step above the held weight.
func (p *pass) unpause() (hand bool) {
	st := &p.st
	for _, x := range st.Pauses {
		hand = hand || x.Kind == PauseHand
	}
	st.Pauses = nil
	if !st.Unjudged {
		st.Stalled = ""
	}
	st.DeadFor, st.WaitFor = 0, 0
	if st.LiveAt.IsZero() {
		st.Asked, st.Settled, st.Share = time.Time{}, 0, Share{}
	}
	if hand && exposedPhase(st.Phase) {
		p.restart()
		for i, s := range st.Plan {
			if s.Kind == StepWeight && s.Weight > st.Granted {
				st.Phase, st.Step, st.Entered = Progressing, i, false
				if i == len(st.Plan)-1 {
					st.Phase = Promoting
				}
				break
			}
		}
	}
	return hand
}

func (p *pass) promote(c Command) {
	st := &p.st
	switch {
	case !p.active():
		p.refuse(c, "no rollout is in progress.")
		return
	case st.Phase == RollingBack:
		p.refuse(c, fmt.Sprintf("%s is being taken back.", st.Canary.Revision.Label()))
		return
	case p.spec.Suspend:
		p.refuse(c, "`suspend: true` is set in the document.")
		return
	case !p.fits(c):
		return
	}
	if c.Override && !st.Override && (c.Full || (st.Phase != Preparing && st.Entered && !(st.Phase != Baking && st.Plan[st.Step].Kind == StepApproval && !p.approved(st.Plan[st.Step])))) {
		st.Override = true
		p.event(EvOverridden, c.By, "", "", fmt.Sprintf("%s lets %s pass whatever the judge says, until this rollout ends%s.", c.By, st.Canary.Revision.Label(), reason(c)))
	}
	switch {
	case c.Full:
		p.unpause()
		st.Full = true
		p.event(EvResumed, c.By, st.Granted.String(), Whole.String(), fmt.Sprintf("%s promotes %s in full%s: capacity first, then 100 %%, then the bake.", c.By, st.Canary.Revision.Label(), reason(c)))
	case st.Phase == Preparing || !st.Entered:
		p.refuse(c, "no step is in force yet that could be ended; it waits for capacity. `serin promote --full` goes on as soon as that is there.")
	case st.Phase != Baking && st.Plan[st.Step].Kind == StepApproval && !p.approved(st.Plan[st.Step]):
		p.refuse(c, "this step waits for an approval, which a promote does not replace: `serin approve`.")
	case p.unpause():
		p.event(EvResumed, c.By, "", "", fmt.Sprintf("%s goes on from the %s that a hand had set%s.", c.By, st.Granted, reason(c)))
	default:
		p.forced = &c
	}
}

func (p *pass) retry(c Command) {
	st := &p.st
	if p.active() {
		p.refuse(c, fmt.Sprintf("%s is in progress.", st.Canary.Revision.Label()))
		return
	}
	var newest *Mark
	for i := range st.Marks {
		if m := &st.Marks[i]; m.Kind == Condemned && (newest == nil || !m.At.Before(newest.At)) {
			newest = m
		}
	}
	switch {
	case newest == nil:
		p.refuse(c, "no revision is condemned.")
		return
	case !matches(c.Revision, newest.Revision):
		p.refuse(c, fmt.Sprintf("only the newest condemned revision may be tried again, which is %s.", newest.Revision.Label()))
		return
	}
	w := p.workload(newest.Revision)
	if w == nil || w.Deleting {
		p.refuse(c, fmt.Sprintf("the Deployment of %s is not there any more.", newest.Revision.Label()))
		return
	}
	try := newest.Tries + 1
	p.unmark(w.Revision)
	n := p.event(EvRetryStarted, c.By, "", w.Revision.Label(), fmt.Sprintf("%s tries %s again%s (try %d; the judge asks for more evidence each time).", c.By, w.Revision.Label(), reason(c), try+1))
	p.begin(w, MoveCanary, try, n)
}
