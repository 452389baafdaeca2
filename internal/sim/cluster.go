package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// deployment is one version as it truly stands.
type deployment struct {
	rev        rollout.Revision
	name, uid  string
	generation int64
	since      time.Time
	deleting   bool
	goneAt     time.Time // while deleting: when it is not there any more

	replicas int
	pods     []time.Time // when each replica is ready
	limit    int         // at most so many replicas ever get ready; below 0: all
	startup  time.Duration
	hpa      *rollout.HPA

	condemned, retired bool
}

func (d *deployment) ready(now time.Time) int {
	n := 0
	for _, at := range d.pods {
		if !at.After(now) {
			n++
		}
	}
	if d.limit >= 0 {
		n = min(n, d.limit)
	}
	return n
}

// scale sets the count; new replicas need their time.
func (d *deployment) scale(n int, now time.Time) {
	n = max(n, 0)
	for len(d.pods) < n {
		d.pods = append(d.pods, now.Add(d.startup))
	}
	d.pods = d.pods[:n]
	d.replicas = n
}

// cluster is all the versions that are there.
type cluster struct {
	all    []*deployment
	serial int // of uids and hashes
	most   int // replicas that an author or an autoscaler ever asked for
}

func (c *cluster) find(r rollout.Revision) *deployment {
	for _, d := range c.all {
		if d.rev == r {
			return d
		}
	}
	return nil
}

func (c *cluster) named(name string) *deployment {
	for _, d := range c.all {
		if d.name == name {
			return d
		}
	}
	return nil
}

// ready is the truth about a version; one that is not there has none.
func (c *cluster) ready(r rollout.Revision, now time.Time) int {
	if d := c.find(r); d != nil {
		return d.ready(now)
	}
	return 0
}

func (c *cluster) next() int { c.serial++; return c.serial }

// create adds a version that was made now.
func (c *cluster) create(r rollout.Revision, replicas int, startup time.Duration, now time.Time) *deployment {
	d := &deployment{
		rev: r, name: "app-" + r.Label(), uid: fmt.Sprintf("uid-%d", c.next()), generation: 1, since: now,
		limit: -1, startup: startup,
	}
	d.scale(replicas, now)
	c.most = max(c.most, replicas)
	c.all = append(c.all, d)
	return d
}

// tick takes away what was being deleted.
func (c *cluster) tick(now time.Time) {
	c.all = slices.DeleteFunc(c.all, func(d *deployment) bool { return d.deleting && !d.goneAt.After(now) })
}

// clusterSnap is what one look at the versions gives, with what is true about
// it: Ready is the truth even where ReadyKnown is not.
type clusterSnap struct {
	at    time.Time
	items []rollout.Workload
}

func (c *cluster) snap(now time.Time) *clusterSnap {
	s := &clusterSnap{at: now, items: make([]rollout.Workload, 0, len(c.all))}
	for _, d := range c.all {
		w := rollout.Workload{
			Revision: d.rev, Name: d.name, UID: d.uid, Generation: d.generation, Since: d.since,
			Deleting: d.deleting, Replicas: d.replicas, Ready: d.ready(now), ReadyKnown: true,
			Condemned: d.condemned, Retired: d.retired,
		}
		if w.Ready < w.Replicas {
			w.Why = "its readiness probe fails"
		}
		if d.hpa != nil {
			h := *d.hpa
			w.HPA = &h
		}
		s.items = append(s.items, w)
	}
	return s
}

func (s *clusterSnap) find(r rollout.Revision) *rollout.Workload {
	if s == nil {
		return nil
	}
	for i := range s.items {
		if s.items[i].Revision == r {
			return &s.items[i]
		}
	}
	return nil
}

// ready is what the look said; ok is false where it said nothing.
func (s *clusterSnap) ready(r rollout.Revision) (n int, ok bool) {
	if s == nil {
		return 0, false
	}
	w := s.find(r)
	if w == nil {
		return 0, true
	}
	return w.Ready, w.ReadyKnown
}

// observed is the look as the core is given it. What is not known is not told.
func (s *clusterSnap) observed() rollout.Workloads {
	out := rollout.Workloads{Known: rollout.Absent}
	if len(s.items) > 0 {
		out.Known = rollout.Present
	}
	out.Items = slices.Clone(s.items)
	for i := range out.Items {
		if !out.Items[i].ReadyKnown {
			out.Items[i].Ready = 0
		}
		if h := out.Items[i].HPA; h != nil {
			c := *h
			out.Items[i].HPA = &c
		}
	}
	return out
}

// apply does one thing that the engine asked for, as an API server and its
// controllers would.
func (c *cluster) apply(s rollout.Scale, now time.Time) (found bool) {
	d := c.find(s.Revision)
	if d == nil || (s.Name != "" && d.name != s.Name) {
		return false
	}
	switch s.Mark {
	case rollout.Condemned:
		d.condemned = true
	case rollout.Retired:
		d.retired = true
	}
	if s.HPA != "" && d.hpa != nil && d.hpa.Name == s.HPA && s.HPAMin > 0 {
		d.hpa.Min = s.HPAMin
		d.hpa.Desired = max(d.hpa.Desired, d.hpa.Min)
		if d.replicas > 0 && d.replicas < d.hpa.Min {
			d.scale(d.hpa.Min, now)
		}
	}
	switch {
	case s.Delete:
		if !d.deleting {
			d.deleting, d.goneAt = true, now.Add(time.Second)
		}
	case s.Zero:
		d.scale(0, now)
	case s.Min > d.replicas:
		d.scale(s.Min, now)
	}
	return true
}
