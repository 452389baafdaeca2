package sim

import (
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// This file is I19: when nothing changes any more, every world comes to rest,
// and what it rests in is right.

const (
	restBound   = 5 * time.Hour   // no world may need longer
	restStretch = 7 * time.Minute // longer than any one wait that the documents here ask for
)

// calm ends all that goes wrong and waits for rest.
func (w *World) calm() {
	w.logf("world", "from here on nothing goes wrong any more")
	w.nemesis, w.actors.tool = false, nil
	w.deaf, w.former = time.Time{}, nil
	w.pace = w.between(5*time.Second, 20*time.Second)
	if w.told {
		w.pace = 0
	}
	if w.opens.After(w.now) {
		w.opens = w.now
	}
	if w.chance(0.9) {
		w.findings = nil
	}
	if w.told {
		w.settle()
		return
	}
	if w.spec.Suspend && w.chance(0.5) {
		w.spec.Suspend = false
		w.respec()
	}
	if s := w.store.saved.State.Stable.Revision; !w.route.exists && s != "" && w.chance(0.8) {
		w.foreign(config{split: split{{s, rollout.Whole}}}, "kubectl")
	}
	w.changed()
	if w.chance(0.1) {
		w.nextPass = w.now.Add(w.between(time.Minute, 3*time.Hour))
		w.poked = time.Time{}
	}
	w.settle()
}

// settle lets time pass until nothing happens any more.
func (w *World) settle() {
	end := w.now.Add(restBound)
	w.checks.quietSince, w.checks.quietPasses = w.now, 0
	why := "it never kept still"
	for w.fail == nil && w.now.Before(end) {
		w.until(w.now.Add(time.Minute))
		if w.now.Sub(w.checks.quietSince) < restStretch || w.checks.quietPasses < 3 {
			continue
		}
		if why = w.restless(); why == "" {
			w.logf("world", "rests")
			return
		}
	}
	w.failf("I19", "no rest after %s: %s", restBound, why)
}

// stir notes whether a pass did anything.
func (w *World) stir(res engine.Result, err error) {
	c := &w.checks
	c.lastResult, c.lastErr = res, err
	wrote := res.Wrote.Traffic || len(res.Wrote.Scale) > 0 || (res.Wrote.State && res.Decision.Save == rollout.SaveMust)
	if err != nil || wrote || len(res.Decision.Events) > 0 {
		c.quietSince, c.quietPasses = w.now, 0
		return
	}
	c.quietPasses++
}

// restless says why this is no place to rest; empty if it is one.
func (w *World) restless() string {
	c, st := &w.checks, w.store.saved.State
	res := c.lastResult
	if c.lastErr != nil {
		return "the last pass failed: " + c.lastErr.Error()
	}
	if w.led && res.State.N != st.N {
		return "" // what the former leader saved last is learnt at the next save
	}
	status := res.Decision.Status
	if status.Message == "" {
		return "it has no message"
	}
	if len(w.inbox) > 0 && st.Stable.Revision != "" && !w.spec.Deleted && len(w.cluster.all) > 0 {
		return "commands are not answered"
	}
	if c.told != st.N && !w.led {
		return "decisions were not told"
	}
	if st.Stable.Revision == "" {
		if status.Waiting == "" && !w.spec.Deleted {
			return "nothing is adopted and it does not say why"
		}
		return ""
	}
	if st.Phase == rollout.Idle {
		return w.restlessIdle(st, status)
	}
	if len(w.cluster.all) == 0 {
		return "" // there is nothing
	}
	if !w.route.exists {
		if status.Stalled == "" {
			return "the route is missing and it does not say so"
		}
		return ""
	}
	switch {
	case st.Phase == rollout.RollingBack:
		if n := w.cluster.ready(st.Stable.Revision, w.now); n > 0 && w.route.exists {
			return "it never ends taking back: " + status.Message
		}
		return ""
	case paused(w.spec, st), status.Stalled != "":
		return ""
	case status.Waiting == rollout.WaitApproval, status.Waiting == rollout.WaitFinding, status.Waiting == rollout.WaitData && len(w.findings) > 0:
		return ""
	case status.Waiting == rollout.WaitRoute && !w.route.exists:
		return ""
	case status.Waiting == rollout.WaitCapacity:
		if d := w.cluster.find(st.Canary.Revision); d == nil || d.ready(w.now) >= w.need(rollout.Whole, st.R) {
			return "it waits for capacity that is there"
		}
		return ""
	}
	return "it waits for nobody: " + string(st.Phase) + ": " + status.Message
}

func (w *World) restlessIdle(st rollout.State, status rollout.Status) string {
	left := st.Drift.Foreign || !w.route.exists || (w.spec.Deleted && w.route.manager != "serin")
	if len(st.Leaving) > 0 && !left {
		return "somebody is still leaving"
	}
	for _, l := range st.Retiring {
		d := w.cluster.find(l.Revision)
		if d == nil && len(w.cluster.all) == 0 {
			continue
		}
		if !left && !paused(w.spec, st) && w.route.outside != l.Revision {
			return "the end of " + string(l.Revision) + " is still owed"
		}
	}
	if left || w.spec.Deleted {
		return ""
	}
	if x := w.route.config.read(); len(x) != 1 || x[0].rev != st.Stable.Revision {
		if status.Stalled != "" {
			return ""
		}
		return "the route sends " + x.String() + " at rest"
	}
	if w.route.config.note == nil || w.route.config.note.N != st.TrafficN {
		return "the route does not carry the last note"
	}
	if len(st.HPAs) > 0 {
		for _, h := range st.HPAs {
			if d := w.cluster.find(h.Revision); d != nil && d.hpa != nil && d.hpa.Min != h.Min {
				return "the autoscaler of " + string(h.Revision) + " was not given its minimum back"
			}
		}
	}
	if w.spec.Deleted {
		return ""
	}
	for _, d := range w.cluster.all {
		if d.deleting || d.rev == st.Stable.Revision || !d.since.After(st.Watermark) {
			continue
		}
		marked := false
		for _, m := range st.Marks {
			marked = marked || m.Revision == d.rev
		}
		if !marked {
			return "nobody looks after " + string(d.rev)
		}
	}
	return ""
}
