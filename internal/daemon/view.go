package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/versions"
)

// view is what the last pass looks like, with what the daemon itself has to say
// in front of the pass's own findings. False before the first pass.
func (a *app) view() (httpapi.RolloutView, bool) {
	a.mu.Lock()
	s, p, unrouted, unreadable, trouble := a.seen, a.plan, a.unrouted, a.unreadable, a.trouble
	a.mu.Unlock()
	if unreadable == nil && s != nil && !s.result.Decided {
		unreadable = s.err
	}
	switch {
	case unreadable != nil:
		return a.heldView(p, unreadable), true
	case s == nil || !s.result.Decided:
		return httpapi.RolloutView{}, false
	}
	v := httpapi.BuildView(httpapi.Pass{
		Ref: p.ref, Spec: s.spec, State: s.result.State, Seen: s.result.Seen, Decision: s.result.Decision, Time: s.result.At, Trouble: trouble,
	})
	v.Findings = a.d.findings(a.name)
	if unrouted != nil {
		v.Findings = append(v.Findings, rollout.Finding{Level: rollout.Warn, What: "The route of the documents is not in force: " + oneLine(unrouted.Error()) + "."})
	}
	v.Findings = append(v.Findings, p.standing(s.result.State.Stable.Revision != "")...)
	if s.err != nil && !trouble.Lasts(s.result.At) { // then the message says it
		v.Findings = append(v.Findings, rollout.Finding{Level: rollout.Warn, What: "The last pass had trouble: " + oneLine(s.err.Error()) + "."})
	}
	if !a.d.isOpen() {
		what := fmt.Sprintf("%s is not answered yet: it waits for a ready replica of the stable version.", a.d.Addr())
		if why := a.whyNotReady(s.result); why != "" {
			what = fmt.Sprintf("%s is not answered yet: %s.", a.d.Addr(), strings.TrimRight(why, "."))
		}
		v.Findings = append(v.Findings, rollout.Finding{Level: rollout.Wait, What: what})
		v.Message = what + " " + v.Message
	}
	return v, true
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// findings are what is wrong with the documents as they are in the folder, and
// with the certificates.
func (d *Daemon) findings(app string) []rollout.Finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []rollout.Finding
	if d.problem != nil {
		what := strings.TrimPrefix(d.problem.Error(), ErrDocuments.Error()+":\n")
		lines := strings.Split(what, "\n")
		if len(lines) > 5 {
			lines = append(lines[:5], fmt.Sprintf("and %d more", len(lines)-5))
		}
		head, remedy := "The folder cannot be read", "make it readable; it is tried again every few seconds"
		var failed notInForce
		switch {
		case errors.Is(d.problem, ErrDocuments):
			head, remedy = "The folder's documents are not understood", "correct the file; it is read again as soon as it is saved"
		case errors.As(d.problem, &failed):
			head, remedy = "The folder's documents could not be put in force", "see to what failed; it is tried again every few seconds"
		}
		out = append(out, rollout.Finding{
			Level:  rollout.Warn,
			What:   fmt.Sprintf("%s, so the last good ones stay in force: %s", head, strings.Join(lines, "; ")),
			Remedy: remedy,
		})
	}
	if _, absent := d.absent[app]; absent {
		out = append(out, d.absentFinding(app))
	}
	return append(out, d.certificateFindings()...)
}

// whyNotReady is the first reason that a version with traffic gives.
func (a *app) whyNotReady(res engine.Result) string {
	for _, w := range res.Seen.Workloads.Items {
		if res.Seen.Route.Weights[w.Revision] > 0 && w.Ready == 0 {
			return fmt.Sprintf("no replica of %s is ready (%s)", w.Revision.Label(), cmp.Or(w.Why, "it is starting"))
		}
	}
	return ""
}

// answers says whether users can be let in on this application's account: who
// gets the requests is ready. hopeless: nobody who would get some can be waited
// for.
func (a *app) answers() (can, hopeless bool) {
	a.mu.Lock()
	s, held := a.seen, a.unreadable
	a.mu.Unlock()
	if s == nil || !s.result.Decided && s.err == nil {
		return false, held != nil
	}
	if !s.result.Decided { // what was saved, or declared, is in force
		for _, replicas := range a.versions.Replicas() {
			can = can || ready(replicas)
		}
		return can, !can
	}
	stable, weights := s.result.State.Stable.Revision, s.result.Seen.Route.Weights
	var main, others muster
	for rev, replicas := range a.versions.Replicas() {
		switch {
		case stable != "" && weights[rev] == 0:
		case stable == "" || rev == stable || weights[rev] == rollout.Whole:
			main.add(replicas)
		default:
			others.add(replicas)
		}
	}
	// Where stable cannot start, its share is the others': the gateway sends it
	// to whoever can answer.
	can = main.ready || others.ready && !main.coming
	return can, main.failed || others.failed || !main.coming && !others.coming
}

// muster is how some replicas stand.
type muster struct{ ready, failed, coming bool }

func (s *muster) add(replicas []versions.Replica) {
	for _, r := range replicas {
		s.ready = s.ready || r.Ready
		s.failed = s.failed || r.Failed
		s.coming = s.coming || !r.Ready && !r.Failed && !r.Ending
	}
}
