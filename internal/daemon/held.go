package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// An application whose saved state cannot be read is held back: nobody knows
// which version its users should get. None of it runs and nothing of it is
// routed, its view says why and what helps, and its commands are refused; the
// others are served. Once the state can be read it goes on by itself.

// lookAgain is how soon a state that could not be read is looked at again.
const lookAgain = time.Second

// held is why an application is held back; nil: it is not.
func (a *app) held() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unreadable
}

// hold keeps an application back.
func (a *app) hold(err error) {
	a.mu.Lock()
	was := a.unreadable
	a.unreadable = err
	a.mu.Unlock()
	if err != nil && text(err) != text(was) {
		a.log.Error("the saved state cannot be read: this application does not run and is not answered", "err", err)
	}
}

// untilReadable waits until the saved state can be read, and then starts what the
// documents ask for. False: the loop is over before that.
func (a *app) untilReadable(ctx context.Context) bool {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for a.held() != nil {
		a.d.changed(a)
		select {
		case <-ctx.Done():
			return false
		case <-a.last:
			close(a.finished)
			return false
		case <-a.poke:
		case <-again.C:
		}
		err := a.resume(ctx)
		if ctx.Err() != nil {
			return false
		}
		if a.hold(err); err == nil {
			a.log.Info("the saved state can be read again")
			a.d.readable(a)
		}
	}
	return true
}

// readable starts what an application's documents ask for after it was held back.
func (d *Daemon) readable(a *app) {
	d.loading.Lock()
	defer d.loading.Unlock()
	if err := a.follow(a.planNow()); err != nil {
		a.log.Warn("following the documents", "err", err)
	}
}

// heldView is a view of an application about which nothing can be decided, why
// is; and what the daemon itself has to say.
func (a *app) heldView(p plan, err error) httpapi.RolloutView {
	what := "Nothing is judged, moved or taken back: "
	if a.held() != nil {
		what = "Nothing of it runs and its users are not answered: "
	}
	v := httpapi.UnreadableView(p.ref, p.spec, what+oneLine(err.Error()), time.Now().UTC())
	v.Findings = append([]rollout.Finding{{Level: rollout.Refuse, What: v.Message}}, a.d.findings(a.name)...)
	return v
}

// note keeps the trouble of the passes, which people read before everything else
// once it lasts. The caller holds mu.
func (a *app) note(err error) {
	if engine.KindOf(err) == engine.Ignore {
		err = nil
	}
	a.trouble = a.trouble.After(err, engine.KindOf(err) == engine.Stall, time.Now())
}

// refused is the answer to a command about an application that is held back.
func (a *app) refused(verb rollout.Verb) error {
	err := a.held()
	if err == nil {
		return nil
	}
	return &httpapi.Refusal{Why: fmt.Sprintf("%s was not done, because nothing can be decided: %s", verb, oneLine(err.Error()))}
}

// readableStates says which saved states could not be gone on from.
func (d *Daemon) readableStates(ctx context.Context) error {
	var errs []error
	for _, p := range d.first.plans {
		store, err := d.openStore(p.name)
		if err == nil {
			_, err = store.Load(ctx)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("the state of %s cannot be read: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}
