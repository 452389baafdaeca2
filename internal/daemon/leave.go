package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// What becomes of an application whose documents are gone from the folder:
//
//	serves  as before, with what it has; nobody's traffic is cut because a file is gone
//	ends    once nobody misses it: another application answers in its place, or it
//	        was asked nothing for Options.Linger
//
// An end is what a restart would make of it: no loop, no route, no processes.
// What is saved stays, so that documents which come back go on from there.

// missed says when an application may end whose documents have been gone since
// then; zero: not as things are. It is looked at again whenever routes or
// documents change, and after linger.
func missed(since time.Time, routed bool, seen rollout.Route, linger time.Duration) time.Time {
	if !routed {
		return since
	}
	for _, n := range seen.InFlight {
		if n > 0 {
			return time.Time{}
		}
	}
	last := since
	for _, at := range seen.Last {
		if at.After(last) {
			last = at
		}
	}
	return last.Add(linger)
}

// followAbsent ends applications whose documents are gone when nobody misses them.
func (d *Daemon) followAbsent() {
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-d.running.Done():
			return
		case <-d.parting:
		case <-look.C:
		}
		look.Stop()
		if next := d.endAbsent(time.Now()); !next.IsZero() {
			look.Reset(max(0, time.Until(next)))
		}
	}
}

// lookAtAbsent makes followAbsent look now.
func (d *Daemon) lookAtAbsent() {
	select {
	case d.parting <- struct{}{}:
	default: // it will
	}
}

// endAbsent ends who may end, and says when to look again; zero: nobody is left
// that it could be about.
func (d *Daemon) endAbsent(now time.Time) (next time.Time) {
	d.loading.Lock()
	defer d.loading.Unlock()
	ended := false
	for _, a := range d.allApps() {
		since, absent := d.absentSince(a.name)
		if !absent {
			continue
		}
		due, why := d.due(a, since)
		switch {
		case due.IsZero() || !d.isOpen(): // nobody could ask yet
			due = now.Add(d.o.Linger)
		case !due.After(now):
			if err := d.endApp(a, why); err == nil {
				ended = true
				continue
			} else if d.running.Err() == nil {
				a.log.Warn("an application whose documents are gone cannot be ended yet", "err", err)
			}
			due = now.Add(d.o.Linger)
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if ended {
		d.followAll(d.plansInForce()) // who is left alone answers for every host
	}
	return next
}

// due is when an application may end, and why.
func (d *Daemon) due(a *app, since time.Time) (due time.Time, why string) {
	routed := a.router.Service() != ""
	seen, err := a.router.Observe(d.running)
	if err != nil {
		return time.Time{}, ""
	}
	why = fmt.Sprintf("and it was asked nothing for %s", d.o.Linger)
	if !routed {
		why = "and another application answers in its place"
	}
	return missed(since, routed, seen, d.o.Linger), why
}

// endApp ends one application; its replicas end by themselves after what they
// have begun. It is called with loading held. An error means that nothing was done.
func (d *Daemon) endApp(a *app, why string) error {
	d.routing.Lock()
	err := d.board.Remove(a.name)
	if err == nil {
		a.stop() // whose routes follow nothing any more
	}
	d.routing.Unlock()
	if err != nil {
		return err
	}
	<-a.ended
	d.mu.Lock()
	delete(d.apps, a.name)
	delete(d.absent, a.name)
	d.mu.Unlock()
	replicas := 0
	for _, all := range a.versions.Replicas() {
		replicas += len(all)
	}
	a.log.Info("its documents are gone, "+why+": it is ended", "replicas", replicas)
	for _, e := range a.versions.Book().Entries {
		d.sup.Remove(a.versions.Key(e.Revision))
	}
	if err := a.record.Close(); err != nil {
		a.log.Warn("closing the observation record", "err", err)
	}
	d.Views.Remove(a.planNow().ref)
	return nil
}

// endStrangers ends replicas of applications that there are none of: those whose
// documents were gone when the program was executed again.
func (d *Daemon) endStrangers() {
	strangers := map[string]bool{}
	for _, r := range d.sup.List() {
		if name := r.Key[:max(0, strings.LastIndex(r.Key, "/"))]; d.app(name) == nil {
			strangers[r.Key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(strangers)) {
		d.log.Info("no documents in the folder ask for this version, and no rollout knows it: it is ended", "version", key)
		d.sup.Remove(key)
	}
}

// absentFinding says what becomes of an application whose documents are gone.
func (d *Daemon) absentFinding(app string) rollout.Finding {
	return rollout.Finding{
		Level: rollout.Warn,
		What: fmt.Sprintf("The documents of %s are gone from %s: it goes on as it was for as long as it is asked, and is ended after %s without a request, or when serin is started again.",
			app, d.o.Dir, d.o.Linger),
		Remedy: "put them back to keep it",
	}
}

// plansInForce are those of the applications that have documents.
func (d *Daemon) plansInForce() []plan {
	var out []plan
	for _, a := range d.allApps() {
		if !d.isAbsent(a.name) {
			out = append(out, a.planNow())
		}
	}
	return out
}

// absentSince says since when an application's documents have been gone.
func (d *Daemon) absentSince(app string) (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, absent := d.absent[app]
	return since, absent
}

func (d *Daemon) isAbsent(app string) bool {
	_, absent := d.absentSince(app)
	return absent
}

// missing notes which applications have no documents any more, and says so. The
// caller holds mu.
func (d *Daemon) missing(there map[string]bool, now time.Time) {
	for name, a := range d.apps {
		_, known := d.absent[name]
		switch {
		case there[name]:
			delete(d.absent, name)
		case !known:
			d.absent[name] = now
			a.log.Warn("its documents are gone from the folder: it goes on as it was for as long as it is asked", "dir", d.o.Dir, "ends", "after "+d.o.Linger.String()+" without a request")
		}
	}
}

// run is the application's loop, until it or the daemon is ended.
func (a *app) run() {
	defer close(a.ended)
	a.loop(a.living)
}
