package sim

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// split is a set of weights, sorted by revision, without zeroes.
type split []share

type share struct {
	rev rollout.Revision
	w   rollout.Weight
}

func splitOf(m map[rollout.Revision]rollout.Weight) split {
	s := make(split, 0, len(m))
	for r, w := range m {
		if w > 0 {
			s = append(s, share{r, w})
		}
	}
	sort.Slice(s, func(i, j int) bool { return s[i].rev < s[j].rev })
	return s
}

func (s split) of(r rollout.Revision) rollout.Weight {
	for _, x := range s {
		if x.rev == r {
			return x.w
		}
	}
	return 0
}

func (s split) weights() map[rollout.Revision]rollout.Weight {
	m := make(map[rollout.Revision]rollout.Weight, len(s))
	for _, x := range s {
		m[x.rev] = x.w
	}
	return m
}

func (s split) String() string {
	if len(s) == 0 {
		return "nobody"
	}
	var ss []string
	for _, x := range s {
		ss = append(ss, fmt.Sprintf("%s %s", x.rev, x.w))
	}
	return strings.Join(ss, ", ")
}

// config is what a route says.
type config struct {
	split split
	note  *rollout.Note
	match *rollout.Match
	keep  []rollout.Revision
}

// read is the split as the adapters read it: what is written is a label, and it
// stands for the revision that the note beside it was made for, also when that
// one has got another name since.
func (c config) read() split {
	if c.note == nil {
		return c.split
	}
	m := make(map[rollout.Revision]rollout.Weight, len(c.split))
	for _, x := range c.split {
		for _, r := range []rollout.Revision{c.note.Canary, c.note.Stable} {
			if r.Label() == x.rev.Label() {
				x.rev = r
			}
		}
		m[x.rev] += x.w
	}
	return splitOf(m)
}

// proxy is one of those that carry the traffic. Each learns of a new
// configuration after a time of its own.
type proxy struct {
	inForce split
	n       int // of the decision that it holds
	queue   []queued
}

type queued struct {
	at    time.Time
	split split
	n     int
}

// versionTraffic is what a version has been sent.
type versionTraffic struct {
	requests float64
	last     time.Time // of the last request
	busyTill time.Time // when the last request is answered
	zeroAt   time.Time // when the route last began to give it nothing
	byHand   bool      // somebody else than Serin gave it its last first share
}

// counts are what was scraped of the traffic, and when.
type counts struct {
	at       time.Time
	requests map[rollout.Revision]float64
	last     map[rollout.Revision]time.Time // of the last request
}

// route is the routing object and the data plane behind it.
type route struct {
	exists  bool
	config  config
	manager string
	version int // of the object
	proxies []proxy
	traffic map[rollout.Revision]*versionTraffic
	served  time.Time

	// How this world's router is.
	receipt   bool          // it says itself what is in force, and what is in flight
	measured  bool          // requests are counted
	lag       time.Duration // the longest time until a proxy has a write
	perSecond float64
	answering time.Duration // how long a request takes
	every     time.Duration // between two scrapes of the counts; 0: they are read at each look
	outside   rollout.Revision
	// called directly, around the route, as long as somebody is there

	counts counts   // as last scraped
	last   []config // earlier contents, for tools that put them back
}

func (r *route) of(rev rollout.Revision) *versionTraffic {
	t := r.traffic[rev]
	if t == nil {
		t = &versionTraffic{}
		r.traffic[rev] = t
	}
	return t
}

// serve lets the traffic flow until an instant.
func (r *route) serve(until time.Time) {
	for r.served.Before(until) {
		to := until
		for i := range r.proxies {
			if q := r.proxies[i].queue; len(q) > 0 && q[0].at.Before(to) {
				to = q[0].at
			}
		}
		if to.After(r.served) {
			d := to.Sub(r.served).Seconds() * r.perSecond / float64(len(r.proxies))
			for i := range r.proxies {
				for _, x := range r.proxies[i].inForce {
					r.send(x.rev, d*float64(x.w)/float64(rollout.Whole), to)
				}
			}
			if r.outside != "" {
				t := r.of(r.outside) // counted where they arrive, and nothing to do with the route
				t.requests += to.Sub(r.served).Seconds() * 2
			}
			r.served = to
		}
		for i := range r.proxies {
			p := &r.proxies[i]
			for len(p.queue) > 0 && !p.queue[0].at.After(r.served) {
				p.inForce, p.n = p.queue[0].split, p.queue[0].n
				p.queue = p.queue[1:]
			}
		}
	}
}

func (r *route) send(rev rollout.Revision, n float64, at time.Time) {
	if n <= 0 {
		return
	}
	t := r.of(rev)
	if int(t.requests+n) == int(t.requests) {
		t.requests += n
		return // not a whole request yet
	}
	t.requests += n
	t.last = at
	t.busyTill = at.Add(r.answering)
}

// write changes the object, whoever does it. lags says when each proxy has it.
func (r *route) write(c config, by string, now time.Time, lags func() time.Duration) {
	r.serve(now)
	was := r.config
	r.exists, r.config, r.manager = true, c, by
	r.version++
	for _, x := range was.split {
		if c.split.of(x.rev) == 0 {
			r.of(x.rev).zeroAt = now
		}
	}
	for _, x := range c.split {
		if was.split.of(x.rev) == 0 {
			r.of(x.rev).byHand = by != "serin"
		}
	}
	n := 0
	if c.note != nil {
		n = c.note.N
	}
	for i := range r.proxies {
		p := &r.proxies[i]
		at := now.Add(lags())
		if k := len(p.queue); k > 0 && at.Before(p.queue[k-1].at) {
			at = p.queue[k-1].at
		}
		p.queue = append(p.queue, queued{at, c.split, n})
		if !at.After(now) { // at once
			for len(p.queue) > 0 && !p.queue[0].at.After(now) {
				p.inForce, p.n = p.queue[0].split, p.queue[0].n
				p.queue = p.queue[1:]
			}
		}
	}
	if r.last = append(r.last, c); len(r.last) > 6 {
		r.last = r.last[1:]
	}
}

// remove deletes the object. The data plane keeps the last thing it was told,
// as one that has lost its control plane does.
func (r *route) remove() { r.exists = false; r.version++ }

// sends says whether any proxy gives the version a share.
func (r *route) sends(rev rollout.Revision) bool {
	for i := range r.proxies {
		if r.proxies[i].inForce.of(rev) > 0 {
			return true
		}
	}
	return false
}

// routeSnap is one look at the route, with what was true at that instant.
type routeSnap struct {
	at       time.Time
	counted  time.Time
	version  int
	seen     rollout.Route
	written  split
	sending  map[rollout.Revision]bool // by any proxy
	inFlight map[rollout.Revision]bool
	lastSent map[rollout.Revision]time.Time
	zeroAt   map[rollout.Revision]time.Time
}

func (r *route) snap(now time.Time) *routeSnap {
	r.serve(now)
	s := &routeSnap{at: now, version: r.version}
	s.sending, s.inFlight = map[rollout.Revision]bool{}, map[rollout.Revision]bool{}
	s.zeroAt = map[rollout.Revision]time.Time{}
	for i := range r.proxies {
		for _, x := range r.proxies[i].inForce {
			s.sending[x.rev] = true
		}
	}
	inFlight, requests, last := map[rollout.Revision]int{}, map[rollout.Revision]float64{}, map[rollout.Revision]time.Time{}
	for rev, t := range r.traffic {
		s.inFlight[rev] = t.busyTill.After(now)
		s.zeroAt[rev] = t.zeroAt
		requests[rev] = float64(int(t.requests))
		if s.inFlight[rev] {
			inFlight[rev] = 1
		}
		if !t.last.IsZero() {
			last[rev] = t.last
		}
	}
	if r.counts.at.IsZero() || now.Sub(r.counts.at) >= r.every {
		r.counts = counts{now, requests, last}
	}
	s.counted, s.lastSent = r.counts.at, r.counts.last
	if !r.exists {
		s.seen = rollout.Route{Known: rollout.Absent}
		return s
	}
	s.written = r.config.split
	s.seen = rollout.Route{Known: rollout.Present, Weights: r.config.split.weights(), Manager: r.manager}
	if r.config.note != nil {
		n := *r.config.note
		n.Condemned = slices.Clone(n.Condemned)
		s.seen.Note, s.seen.Weights = &n, r.config.read().weights()
	}
	if r.measured {
		s.seen.Measured, s.seen.Requests, s.seen.Last = true, r.counts.requests, r.counts.last
		if r.every > 0 {
			s.seen.Counted = map[rollout.Revision]time.Time{}
			for rev := range r.counts.requests {
				s.seen.Counted[rev] = r.counts.at
			}
		}
	}
	if r.receipt {
		s.seen.HasReceipt, s.seen.InFlight = true, inFlight
		n := r.proxies[0].n
		for i := range r.proxies {
			n = min(n, r.proxies[i].n)
		}
		s.seen.Receipt = n
	}
	return s
}

// observed is the look as the core is given it, in maps of its own.
func (s *routeSnap) observed() rollout.Route {
	out := s.seen
	out.Weights, out.Requests = maps.Clone(out.Weights), maps.Clone(out.Requests)
	out.InFlight, out.Last = maps.Clone(out.InFlight), maps.Clone(out.Last)
	return out
}

// rename: a revision that is the same thing has another name from now on, as
// the adapters tell it.
func (r *route) rename(from, to rollout.Revision) {
	if t := r.traffic[from]; t != nil {
		r.traffic[to] = t
		delete(r.traffic, from)
	}
	r.counts = counts{} // scraped by label, and read under the new name
	change := func(s split) split {
		m := s.weights()
		if x, ok := m[from]; ok {
			delete(m, from)
			m[to] = x
		}
		return splitOf(m)
	}
	r.config.split = change(r.config.split)
	for i := range r.proxies {
		r.proxies[i].inForce = change(r.proxies[i].inForce)
		for j := range r.proxies[i].queue {
			r.proxies[i].queue[j].split = change(r.proxies[i].queue[j].split)
		}
	}
	if r.outside == from {
		r.outside = to
	}
}
