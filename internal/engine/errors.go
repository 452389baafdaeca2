package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Errors that ports give where the engine treats them differently. Adapters
// wrap them: fmt.Errorf("patching route web: %w", engine.ErrConflict).
var (
	// ErrConflict: somebody else has written since this was read. Nothing was
	// changed.
	ErrConflict = errors.New("changed by somebody else since it was read")
	// ErrNotFound: the object is not there.
	ErrNotFound = errors.New("not found")
	// ErrForbidden: we may not do that.
	ErrForbidden = errors.New("not permitted")
	// ErrRefused: the other side understood and will never accept it as it is.
	ErrRefused = errors.New("refused")
	// ErrUnchanged: a source of samples that is filled less often than it is
	// looked at has nothing newer than it gave before. That is no look at all,
	// neither a good one nor one that gave nothing.
	ErrUnchanged = errors.New("nothing newer than before")
)

// ThrottledError asks to come back no sooner than After from now.
type ThrottledError struct {
	After time.Duration
	Err   error
}

func (e *ThrottledError) Error() string { return fmt.Sprintf("come back in %v: %v", e.After, e.Err) }
func (e *ThrottledError) Unwrap() error { return e.Err }

// PortPanic is what Pass panics with when a port did so in a goroutine of the
// pass: there it would end the whole process, while whoever called Pass may keep
// it to this rollout.
type PortPanic struct {
	Reading string // what was being read: "the route"
	Value   any
	Stack   []byte // where
}

// What says it in a line.
func (p *PortPanic) What() string { return fmt.Sprintf("reading %s: %v", p.Reading, p.Value) }

// String is what a process ends with that nobody keeps from it.
func (p *PortPanic) String() string { return fmt.Sprintf("%s\n\n%s", p.What(), p.Stack) }

// Kind says what an error calls for.
type Kind uint8

const (
	// Ignore: there is no error, or the next pass sees what became of it.
	Ignore Kind = iota
	// Retry: may pass by itself; the next pass tries again.
	Retry
	// Stall: does not pass by itself; a person is told, and it is tried again
	// at long intervals.
	Stall
)

func (k Kind) String() string {
	switch k {
	case Ignore:
		return "ignore"
	case Retry:
		return "retry"
	}
	return "stall"
}

// KindOf is the one place that maps errors to what they call for. Of several
// joined errors the worst counts, wherever they are joined.
func KindOf(err error) Kind {
	if err == nil {
		return Ignore
	}
	switch err {
	case ErrForbidden, ErrRefused:
		return Stall
	case ErrNotFound:
		return Ignore // seen as absent by the next look
	case ErrConflict, context.DeadlineExceeded, context.Canceled:
		return Retry
	}
	switch e := err.(type) {
	case *rollout.Violation:
		return Stall
	case interface{ Unwrap() []error }:
		worst := Ignore
		for _, one := range e.Unwrap() {
			worst = max(worst, KindOf(one))
		}
		return worst
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return KindOf(inner)
		}
	}
	return Retry
}
