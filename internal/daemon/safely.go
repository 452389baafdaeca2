package daemon

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/serin-dev/serin/internal/engine"
)

// This process is the users' gateway too. A mistake of ours over one application,
// or over a document, must not end it: everything stays as it is, the stack is in
// the log, and it is tried again.

// afterPanic is when an application is passed over again whose last pass ended in
// a panic.
const afterPanic = 30 * time.Second

// safely passes, and keeps a panic to this application. Its engine is thrown away:
// what it held in memory may be half of something.
func (a *app) safely(ctx context.Context) (wake time.Time) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		what, stack := fmt.Sprint(v), debug.Stack()
		if port, ok := v.(*engine.PortPanic); ok {
			what, stack = port.What(), port.Stack
		}
		a.log.Error("a mistake of this version of Serin: nothing is changed, and it is tried again", "after", afterPanic, "what", what, "stack", string(stack))
		a.mistaken(fmt.Errorf("this version of Serin made a mistake over it (%s); nothing is changed, and it is tried again in %s. the log says more", what, afterPanic))
		wake = time.Now().Add(afterPanic)
	}()
	return a.pass(ctx)
}

// mistaken makes a new engine and shows what happened to the last one.
func (a *app) mistaken(why error) {
	p := a.planNow()
	fresh, err := a.newEngine(p)
	if err != nil { // the one before was made so, too
		a.log.Warn("making an engine", "err", err)
	} else {
		a.engine = fresh
	}
	a.mu.Lock()
	now := seen{spec: p.spec}
	if a.seen != nil {
		now = *a.seen
	}
	now.err = why
	now.passes++
	a.seen, a.respec = &now, true
	a.mu.Unlock()
	a.d.meter.passed(a.name, why)
	a.d.changed(a)
}

// safely makes an error of a panic over the documents.
func (d *Daemon) safely(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			d.log.Error("a mistake of this version of Serin over the documents", "what", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("%w:\nthis version of Serin made a mistake over them (%v); its log says more", ErrDocuments, v)
		}
	}()
	return do()
}
