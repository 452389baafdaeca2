package controller

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
)

// drains lists who has lost his traffic and is waited for until his last request
// is answered, beside stable and the canary.
func drains(st rollout.State) (out []rollout.Revision) {
	for _, ls := range [][]rollout.Leaving{st.Leaving, st.Retiring} {
		for _, l := range ls {
			if !l.Gone && l.Revision != st.Stable.Revision && l.Revision != st.Canary.Revision {
				out = append(out, l.Revision)
			}
		}
	}
	return out
}

// leavingPatience bounds what asking may add to a pass.
const leavingPatience = 2 * time.Second

// askLeaving asks the pods of those who drain whether anybody calls them still,
// beside a pass, which it must not hold up; the next one reads the counts. The
// judge does not look at them: they are nobody's arm. Each has a source of its
// own, since a source remembers what it looked at. What is returned waits for
// the answers, and panics with what an asking one did.
func (a *app) askLeaving(ctx context.Context) (wait func()) {
	st := a.state()
	if _, known := a.pods.list(); !known {
		return func() {}
	}
	was := a.leaving
	a.leaving = map[rollout.Revision]*metric.Joined{}
	ctx, cancel := context.WithTimeout(ctx, leavingPatience)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var mistake *engine.PortPanic
	for _, rev := range drains(st) {
		source, asked := was[rev]
		if !asked {
			source = metric.Join(a.c.ownFigures(a.doc, metricPods{a.workloads}))
		}
		a.leaving[rev] = source
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					mu.Lock()
					mistake = &engine.PortPanic{Reading: "a version that leaves", Value: v, Stack: debug.Stack()}
					mu.Unlock()
				}
			}()
			if !asked {
				source.Choose(ctx, rev, "")
			}
			seen, err := source.Look(ctx, rev, "")
			switch {
			case err == nil:
				a.count.left(rev, seen.Stable, time.Now(), !st.Moves())
			case !errors.Is(err, engine.ErrUnchanged):
				a.log.Debug("asking a version that leaves", "version", rev, "err", err)
			}
		})
	}
	return func() {
		wg.Wait()
		cancel()
		if mistake != nil {
			panic(mistake)
		}
	}
}
