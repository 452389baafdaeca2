package enginetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/serin-dev/serin/internal/engine"
)

// Strike is what befalls one call of a port.
type Strike uint8

const (
	None         Strike = iota
	CrashBefore         // the process is gone before the call did anything
	CrashAfter          // the process is gone after the call did its work
	ErrorBefore         // nothing was done, and an error says so
	ErrorAfter          // the work was done, and an error says otherwise
	Conflict            // somebody else was faster; nothing was done
	Timeout             // nothing was done in the time there was
	TimeoutAfter        // the work was done; the answer came too late
	NotPermitted        // nothing was done: forbidden
)

var strikeNames = [...]string{"none", "crash before", "crash after", "error before", "error after", "conflict", "timeout", "timeout after", "not permitted"}

func (s Strike) String() string { return strikeNames[s] }

// Strikes are all of them but None.
var Strikes = []Strike{CrashBefore, CrashAfter, ErrorBefore, ErrorAfter, Conflict, Timeout, TimeoutAfter, NotPermitted}

// Write says whether an operation changes something outside the process.
func Write(op string) bool {
	switch op {
	case "store.save", "workloads.apply", "router.apply", "inbox.done", "tests.start", "notifier.tell":
		return true
	}
	return false
}

// Crashed is what a port panics with when the process is gone. See [Survive].
type Crashed struct{ At string }

func (c Crashed) String() string { return "crashed at " + c.At }

// Survive runs f and says where it crashed; empty if it did not.
func Survive(f func()) (at string) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case Crashed:
			at = v.At
		default:
			panic(v)
		}
	}()
	f()
	return ""
}

// Faults counts the calls of all ports of a world, in order, and strikes some.
// The zero value strikes none. Operations are named "store.load", "store.save",
// "workloads.observe", "workloads.apply", "router.observe", "router.apply",
// "samples.look", "inbox.pending", "inbox.done", "tests.start", "tests.answers",
// "windows.closed", "declared.declared", "preflight.check", "notifier.tell".
type Faults struct {
	mu sync.Mutex
	n  int
	// Strike is asked for the n-th call, beginning with 0. nil strikes none.
	Strike func(n int, op string) Strike
}

// Calls is how many calls there were.
func (f *Faults) Calls() int { f.mu.Lock(); defer f.mu.Unlock(); return f.n }

// ErrStruck is the plain error of a struck call.
var ErrStruck = errors.New("struck")

// around does the work of one call, or not.
func (f *Faults) around(ctx context.Context, op string, work func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	strike := None
	if f != nil {
		f.mu.Lock()
		n := f.n
		f.n++
		if f.Strike != nil {
			strike = f.Strike(n, op)
		}
		f.mu.Unlock()
	}
	switch strike {
	case CrashBefore:
		panic(Crashed{op})
	case ErrorBefore:
		return fmt.Errorf("%s: %w", op, ErrStruck)
	case Conflict:
		return fmt.Errorf("%s: %w", op, engine.ErrConflict)
	case Timeout:
		return fmt.Errorf("%s: %w", op, context.DeadlineExceeded)
	case NotPermitted:
		return fmt.Errorf("%s: %w", op, engine.ErrForbidden)
	}
	err := work()
	switch strike {
	case CrashAfter:
		panic(Crashed{op})
	case ErrorAfter:
		return fmt.Errorf("%s: %w", op, ErrStruck)
	case TimeoutAfter:
		return fmt.Errorf("%s: %w", op, context.DeadlineExceeded)
	}
	return err
}
