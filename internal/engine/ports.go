package engine

import (
	"context"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// All ports: a call returns soon after its context is done, with the context's
// error. What a call is given and what it returned is not changed afterwards by
// either side. Calls of different ports may run at the same time; those of one
// port come one after another.
//
// An error may carry one of this package's kinds (see [KindOf]); an error that
// carries none is worth trying again.

// Saved is everything that outlives a crash.
type Saved struct {
	State rollout.State
	// Evidence is the judge's memory as it wrote it; nil = none.
	Evidence []byte
	// Told is the number of the last decision that the notifier has accepted.
	Told int
	// Version names the stored copy that this was read from. Empty: nothing was
	// stored. Its meaning is the store's own.
	Version string
}

// Store keeps one rollout's Saved.
//
// Load gives what the last successful Save was given, with the version of the
// stored copy; the zero Saved and no error when nothing was ever stored. A copy
// that cannot be understood is an error, never an empty Saved.
//
// Save replaces the whole copy, atomically and durably, if the stored version
// is still s.Version, and returns the new version. If it is another one, the
// error is [ErrConflict] and nothing is changed. After any other error the copy
// is either the old or the new one, whole.
type Store interface {
	Load(ctx context.Context) (Saved, error)
	Save(ctx context.Context, s Saved) (version string, err error)
}

// Workloads are the versions and their replicas.
//
// Observe lists every version that is there, whoever made it, with
// Known = Present; a list that was read and is empty is Absent. What could not
// be read about one of them (ReadyKnown) is said there; if the list itself
// could not be read, that is an error.
//
// Apply makes every revision able to carry what is asked. Min is a floor: a
// larger count stays. Zero takes all replicas away, letting requests in flight
// end first; Delete removes the object too. Mark is written on the object in
// the same write. It is idempotent: what is already so is not written. A
// revision that is not there is an error of kind [ErrNotFound]; the others are
// done all the same.
type Workloads interface {
	Observe(ctx context.Context) (rollout.Workloads, error)
	Apply(ctx context.Context, want []rollout.Scale) error
}

// Router puts a split in force.
//
// Observe reports the split as it stands, whoever wrote it, with the note that
// our last write carries; a route that does not exist is Absent.
//
// Apply writes the whole split together with its note in one write, keeps every
// byte that is not ours, and is idempotent: what is already so is not written.
// If the route was changed since it was last observed, the error is
// [ErrConflict] and nothing is written.
type Router interface {
	Observe(ctx context.Context) (rollout.Route, error)
	Apply(ctx context.Context, want rollout.Traffic) error
}

// Sampled is what one look at the versions gave.
type Sampled struct {
	Stable []analysis.Pod
	Canary []analysis.Pod
	Custom []analysis.Custom
}

// Samples reads what the replicas have counted.
//
// Look reads the counters of both versions at one instant, as near as it can.
// canary is empty at rest. A replica that did not answer is left out, a figure
// that was not measured is missing in its Has; neither is zero. A look that
// gave nothing at all is an error. Where nothing is newer than what was given
// before, the error is [ErrUnchanged], and the judge is not asked.
type Samples interface {
	Look(ctx context.Context, stable, canary rollout.Revision) (Sampled, error)
}

// Chooser is offered by Samples that may come from more than one source. Choose
// is asked before each Look, with the source that this rollout keeps ("" = none
// yet), and gives the one that Look will use. Sources that are kept are never
// exchanged: "" means that the kept one is not to be had.
type Chooser interface {
	Choose(ctx context.Context, stable rollout.Revision, kept string) string
}

// Historian is offered by Samples that know what was counted before anybody
// looked. History gives what the pods that stable has now had counted at some
// moments before this one, oldest first, under the names that Look gives them;
// none where the source that Choose gave has nothing to tell. It is asked once
// for each canary, before that has any traffic, so that the judge knows then how
// unlike the pods are and need not learn it while users wait. Where it cannot be
// said yet, the error is [ErrUnchanged], and it is asked again.
type Historian interface {
	History(ctx context.Context, stable rollout.Revision) ([]Moment, error)
}

// Moment is what the pods of one version had counted at one instant.
type Moment struct {
	At   time.Time
	Pods []analysis.Pod
}

// Inbox holds what people asked for.
//
// Pending lists the commands that are not done, oldest first, as often as it is
// asked. Done takes commands off the list; ids that are not on it are ignored.
// A command is done when the decision about it is saved: then it will not be
// obeyed twice, whether Done arrives or not.
type Inbox interface {
	Pending(ctx context.Context) ([]rollout.Command, error)
	Done(ctx context.Context, ids []string) error
}

// Preflight looks for what would go wrong before any weight moves. It is asked
// at rest and while preparing; canary is empty at rest. Findings come in a
// stable order and say nothing about readiness, which the core sees itself.
type Preflight interface {
	Check(ctx context.Context, stable, canary rollout.Revision) ([]rollout.Finding, error)
}

// Tests runs what a step asks to be run before it is over.
//
// Start begins a run unless one with its ID was begun before, and returns
// without waiting for its end. Answers lists the runs that have ended, as often
// as it is asked, until the process ends; an answer never changes.
type Tests interface {
	Start(ctx context.Context, run rollout.TestRun) error
	Answers(ctx context.Context) ([]rollout.TestAnswer, error)
}

// Windows knows when nothing may be raised.
//
// Closed lists what is closed at the instant now; an empty list means that
// everything is open.
type Windows interface {
	Closed(ctx context.Context, now time.Time) ([]rollout.Window, error)
}

// Declared reads the weights that the user's files ask for, on hosts where the
// files and not the route are the declaration.
//
// Declared gives the last version of the files that could be understood; nil
// when they say nothing about weights.
type Declared interface {
	Declared(ctx context.Context) (*rollout.Declared, error)
}

// Notifier tells people what was decided.
//
// Tell takes decisions in the order of their numbers. It may be given the same
// decision again (after a crash, after an error); the number identifies it.
// An error means that none of them may be taken as told.
type Notifier interface {
	Tell(ctx context.Context, events []rollout.Event) error
}

// Ports are the implementations that a host hands in. Store, Workloads and
// Router are needed; each of the others may be nil.
type Ports struct {
	Store     Store
	Workloads Workloads
	Router    Router

	Samples   Samples   // nil: nothing is measured
	Inbox     Inbox     // nil: nobody commands
	Preflight Preflight // nil: nothing is found
	Tests     Tests     // nil: a step that asks for a test waits
	Windows   Windows   // nil: always open
	Declared  Declared  // nil: the route is the declaration
	Notifier  Notifier  // nil: nobody is told
}
