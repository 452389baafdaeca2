package process

import (
	"context"
	"iter"
)

// RunShimIfAsked must be the first thing that main calls. In a process that a
// Supervisor started as a shim it does the shim's work and never returns; in
// any other it returns at once.
func RunShimIfAsked() {}

// Supervisor keeps the sets that it was asked for running. Its methods may be
// called from several goroutines.
type Supervisor struct{}

// New returns a Supervisor without sets. Close must be called in the end.
func New(o Options) *Supervisor { panic("being written") }

// Set states what must run under key and returns at once; saying it again
// changes nothing. A different number starts or stops replicas (those that are
// not ready first, then the newest); a different Spec starts new ones and stops
// old ones as the new ones become ready. Errors: a Spec that cannot work, with
// all its problems; a closed Supervisor. Nothing is changed then. A command that
// cannot be started is no error here: Replica.Why says so.
func (s *Supervisor) Set(key string, spec Spec, replicas int) error { panic("being written") }

// Remove stops all replicas of key and forgets the key when they are gone. An
// unknown key is already gone.
func (s *Supervisor) Remove(key string) { panic("being written") }

// List returns every replica, also those that are being stopped, by key and
// name. It costs no system call.
func (s *Supervisor) List() []Replica { panic("being written") }

// Changed receives a value after List has come to differ in anything but CPU,
// memory and the words of Why. Changes which nobody waited for are one value;
// there is one channel, for one reader. It is never closed.
func (s *Supervisor) Changed() <-chan struct{} { panic("being written") }

// Logs returns the last tail lines (all that are kept for tail < 0) of the
// replicas of key in their order; "" means every key. Some replicas that are
// gone are still remembered.
func (s *Supervisor) Logs(key string, tail int) []Line { panic("being written") }

// Follow is Logs that goes on with new lines until ctx ends, the loop is left or
// the Supervisor is closed. A reader that is too slow loses lines and learns how
// many; it never holds up a process.
func (s *Supervisor) Follow(ctx context.Context, key string, tail int) iter.Seq[Line] {
	panic("being written")
}

// Close drains and stops everything, whole trees included, and returns when
// nothing is left. When ctx ends first, the rest is killed at once; the error
// says so.
func (s *Supervisor) Close(ctx context.Context) error { panic("being written") }
