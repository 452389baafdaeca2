package controller

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// The evidence of a rollout is saved every half a minute. Who is told to end
// saves it once more, so that the next leader does not judge with less.

// farewellPatience bounds that; a pod has 15 s to end.
const farewellPatience = 8 * time.Second

// farewell makes one more pass over every rollout that is under way, which
// saves whatever it decides, and waits for them. It does nothing where another
// process may lead by now.
func (c *Controller) farewell(ctx context.Context) {
	if !c.leads() || !c.holdsLease() {
		return
	}
	var last []<-chan struct{}
	for _, a := range c.all() {
		if a.state().Moves() {
			last = append(last, a.lastPass())
			a.wake()
		}
	}
	late := time.NewTimer(farewellPatience)
	defer late.Stop()
	for i, done := range last {
		select {
		case <-done:
		case <-late.C:
			c.log.Warn("the latest evidence of some rollouts is not saved", "rollouts", len(last)-i)
			return
		case <-ctx.Done(): // the lease was lost meanwhile
			return
		}
	}
}

// holdsLease says whether nobody else can lead now: the lease was renewed so
// lately that it has not run out. A process that was stopped for a while does
// not know that otherwise.
func (c *Controller) holdsLease() bool {
	if !c.o.LeaderElect {
		return true
	}
	at := time.Duration(c.renewed.Load())
	return at > 0 && time.Since(c.began)-at < renewDeadline
}

// renewals notes when the lease was renewed, or taken.
type renewals struct {
	c    *Controller
	next http.RoundTripper
}

func (r renewals) RoundTrip(req *http.Request) (*http.Response, error) {
	at := time.Since(r.c.began)
	resp, err := r.next.RoundTrip(req)
	if err == nil && req.Method != http.MethodGet && strings.Contains(req.URL.Path, "/leases") && resp.StatusCode < 300 {
		r.c.renewed.Store(int64(at))
	}
	return resp, err
}

// lastPass asks for a pass that saves, and is closed after it.
func (a *app) lastPass() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = make(chan struct{})
	}
	return a.last
}

// saveLast makes the pass that is about to be done the last one, where it was
// asked for. What it gives is called after it.
func (a *app) saveLast() (done func()) {
	a.mu.Lock()
	last := a.last
	a.last = nil
	a.mu.Unlock()
	if last == nil {
		return func() {}
	}
	if a.engine != nil {
		a.engine.SaveNext()
	}
	return func() { close(last) }
}
