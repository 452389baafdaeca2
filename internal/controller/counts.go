package controller

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/router/istio"
)

// counts adds up, by version, how many requests its pods say they have
// answered: from one look to the next, so that a pod that comes, goes or starts
// again takes nothing away.
type counts struct {
	mu     sync.Mutex
	at     time.Time     // of the last look that everybody who was asked answered
	every  time.Duration // from the one before to that
	pods   map[string]float64
	totals map[rollout.Revision]float64
	last   map[rollout.Revision]time.Time
	read   map[rollout.Revision]time.Time // when its pods answered last
}

func newCounts() *counts {
	return &counts{pods: map[string]float64{}, totals: map[rollout.Revision]float64{}, last: map[rollout.Revision]time.Time{}, read: map[rollout.Revision]time.Time{}}
}

// How old a look may be and still say something about the split: two of the
// intervals at which looks come, which from Prometheus are scrapes.
const (
	minFresh = 5 * time.Second
	maxFresh = 2 * time.Minute
)

func (c *counts) add(res engine.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if res.Sampled == nil {
		return
	}
	stable, canary := res.Before.Stable.Revision, res.Before.Canary.Revision
	known := c.arm(stable, res.Sampled.Stable, res.At)
	if canary != "" {
		known = c.arm(canary, res.Sampled.Canary, res.At) && known
	}
	if known {
		c.renewed(res.At)
	}
	for r := range c.totals {
		if r != stable && r != canary && res.At.Sub(c.last[r]) > time.Hour {
			delete(c.totals, r)
			delete(c.last, r)
			delete(c.read, r)
		}
	}
	if len(c.pods) > 10000 {
		clear(c.pods)
	}
}

// left adds what a version that has lost its traffic is still asked. At rest
// nobody else is looked at.
func (c *counts) left(rev rollout.Revision, pods []analysis.Pod, at time.Time, atRest bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arm(rev, pods, at) && atRest {
		c.renewed(at)
	}
}

func (c *counts) renewed(at time.Time) {
	if !c.at.IsZero() {
		c.every = at.Sub(c.at)
	}
	c.at = at
}

// arm takes one version's pods; false if none of them counted.
func (c *counts) arm(rev rollout.Revision, pods []analysis.Pod, at time.Time) bool {
	known := false
	for _, p := range pods {
		if p.Has&analysis.HasRequests == 0 {
			continue
		}
		known = true
		c.read[rev] = at
		key := string(rev) + "/" + p.Name
		was, seen := c.pods[key]
		c.pods[key] = p.Requests
		more := p.Requests - was
		if more < 0 {
			more = p.Requests // its counter began anew
		}
		if !seen {
			more = 0 // from before we looked
		}
		c.totals[rev] += more
		if more > 0 {
			c.last[rev] = at
		} else if _, ever := c.last[rev]; !ever {
			c.last[rev] = at
		}
	}
	return known
}

// measured is what is known now; false where the last look is too old.
func (c *counts) measured(context.Context) (istio.Measured, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) > min(maxFresh, max(minFresh, 2*c.every)) {
		return istio.Measured{}, false
	}
	m := istio.Measured{Requests: map[rollout.Revision]float64{}, Last: map[rollout.Revision]time.Time{}, At: maps.Clone(c.read)}
	for r, n := range c.totals {
		m.Requests[r], m.Last[r] = n, c.last[r]
	}
	return m, true
}
