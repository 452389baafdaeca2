package gateway

import "time"

// Counted is what a gateway has counted for one version of a service, or, with
// an empty Version, for a service, in a form that another process can read.
type Counted struct {
	Service, Version string

	NotFound, NoEndpoint uint64 `json:",omitempty"` // of the service

	Shed                             uint64         `json:",omitempty"`
	Codes                            map[int]uint64 `json:",omitempty"` // by outcome
	Buckets                          map[int]uint64 `json:",omitempty"` // by index, not cumulative
	SumUs                            uint64         `json:",omitempty"`
	Retried                          uint64         `json:",omitempty"`
	Shielded, Mirrored, MirrorErrors uint64         `json:",omitempty"`
}

// Counted gives the figures of all services, for a gateway that goes on where
// this one ends.
func (g *Gateway) Counted() []Counted {
	var out []Counted
	for _, s := range g.known(time.Now()) {
		out = append(out, Counted{Service: s.name, NotFound: s.notFound.Load(), NoEndpoint: s.noEndpoint.Load()})
		for _, v := range s.sorted() {
			t, _ := v.sum()
			c := Counted{Service: s.name, Version: v.name, Shed: v.shed.Load(), SumUs: t.sumUs, Retried: t.retried,
				Shielded: t.shielded, Mirrored: t.mirrored, MirrorErrors: t.mirrorErrors, Codes: map[int]uint64{}, Buckets: map[int]uint64{}}
			for o, n := range t.codes {
				c.Codes[int(o)] = n
			}
			for i, n := range t.count {
				if n > 0 {
					c.Buckets[i] = n
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// goOn puts figures of before where those of forgotten endpoints are. What
// another gateway's counters do not mean here is left out.
func (g *Gateway) goOn(from []Counted) {
	now := time.Now()
	for _, c := range from {
		s := g.services[c.Service]
		if s == nil {
			s = g.serviceState(Service{Name: c.Service})
			s.goneSince = now
		}
		if c.Version == "" {
			s.notFound.Store(c.NotFound)
			s.noEndpoint.Store(c.NoEndpoint)
			continue
		}
		v := s.versionState(Version{Name: c.Version})
		v.goneSince = now
		v.shed.Store(c.Shed)
		t := tally{codes: map[outcome]uint64{}, sumUs: c.SumUs, retried: c.Retried,
			shielded: c.Shielded, mirrored: c.Mirrored, mirrorErrors: c.MirrorErrors}
		for o, n := range c.Codes {
			if o >= 0 && o < int(outcomes) {
				t.codes[outcome(o)] = n
			}
		}
		for i, n := range c.Buckets {
			if i >= 0 && i < len(t.count) {
				t.count[i] = n
			}
		}
		v.folded.addTally(t)
	}
}
