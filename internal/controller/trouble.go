package controller

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// What goes wrong is said on the Rollout, where people look, and not only in a
// log that nobody reads at night.

// Reasons of events that are about no decision.
const (
	evUnreadable = "StateUnreadable"
	evUnwritten  = "StatusNotWritten"
)

// lookAgain is how soon a state that could not be read is looked at again: who
// has repaired it changes only the status, which wakes nobody.
const lookAgain = 10 * time.Second

// noState says of a Rollout whose saved state cannot be read that nothing is
// decided about it, and answers those who command it. It says when to look again.
func (a *app) noState(ctx context.Context, err error, wake time.Time) time.Duration {
	if engine.KindOf(err) != engine.Stall { // the API server is away, or the object is gone
		a.log.Warn("a pass had no state to go on from", "err", err)
		return until(wake)
	}
	a.mu.Lock()
	a.unreadable = err
	a.mu.Unlock()
	wrote, perr := a.store.PublishUnreadable(ctx, a.generation, err, time.Now().UTC())
	if wrote || perr != nil && a.news(perr) {
		a.log.Error("the saved state cannot be read: nothing is decided", "err", err, "saying so", perr)
	}
	note := "Nothing is judged, moved or taken back: " + err.Error()
	a.warn(ctx, "unreadable", evUnreadable, note)
	if err := a.inbox.refuse(ctx, note); err != nil {
		a.log.Warn("answering commands", "err", err)
	}
	return lookAgain
}

// note keeps the trouble of a pass, so that it is said with what was decided. It
// gives the time after which the next pass shows whether it lasts; 0 = whenever.
func (a *app) note(err error) time.Duration {
	var v *rollout.Violation
	if errors.As(err, &v) || engine.KindOf(err) == engine.Ignore {
		err = nil // said in words of its own; or the next pass sees it
	}
	a.mu.Lock()
	a.unreadable = nil
	a.trouble = a.trouble.After(err, engine.KindOf(err) == engine.Stall, time.Now())
	t := a.trouble
	a.mu.Unlock()
	a.store.Trouble(t)
	if t.Passes == 1 {
		return time.Second
	}
	return 0
}

// unwritten says as an event what the status cannot say.
func (a *app) unwritten(ctx context.Context, why string) {
	a.warn(ctx, "status", evUnwritten, "What was decided cannot be recorded, so nothing is raised, and the status shows how it was before: "+why)
}

// warn makes an event that is about no decision. One that is there is not made
// again until the API server has forgotten it, after an hour.
func (a *app) warn(ctx context.Context, id, reason, note string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := a.event(ctx, id, corev1.EventTypeWarning, reason, note, time.Now()); err != nil && a.news(err) {
		a.log.Warn("making an event", "err", err)
	}
}

// sayHeld says why there is no pass at all; what the last one saw stays beside it.
func (a *app) sayHeld(ctx context.Context, err error) {
	a.note(err)
	a.mu.Lock()
	last := a.passed.result
	a.mu.Unlock()
	last.Wrote, last.At = engine.Wrote{}, time.Now().UTC()
	if a.wrong == nil {
		a.publish(ctx, last)
	}
}

// unreadableView is the Rollout as metrics show it while its state cannot be
// read; false while it can.
func (a *app) unreadableView() (httpapi.RolloutView, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unreadable == nil {
		return httpapi.RolloutView{}, false
	}
	return httpapi.UnreadableView(httpapi.Ref{Namespace: a.key.Namespace, Name: a.key.Name}, rollout.Spec{}, a.unreadable.Error(), time.Now().UTC()), true
}
