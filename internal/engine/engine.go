package engine

import (
	"context"
	"errors"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Options are the engine's own settings; the zero value of each means its default.
type Options struct {
	Now func() time.Time // time.Now

	// ReadTimeout bounds each read of a pass; a read that takes longer is
	// Unknown. 2 s, so that a dead source of figures does not delay the way to 0 %.
	ReadTimeout time.Duration
	// WriteTimeout bounds each write of a pass. 10 s.
	WriteTimeout time.Duration
	// SaveEvery is how much evidence and how many clocks a crash may lose. 30 s.
	SaveEvery time.Duration
	// InOrder makes the reads of a pass one after another in a fixed order,
	// which simulations need. Otherwise they run at the same time.
	InOrder bool
}

// Result is what one pass saw, decided and did. It is valid beside an error.
type Result struct {
	At       time.Time
	Saved    Saved // after the pass: what the next pass starts from
	Before   rollout.State
	Seen     rollout.Observation // with the judge's report
	Sampled  *Sampled            // nil: no look was due
	Decision rollout.Decision
	// Decided is false when the pass ended before a decision (nothing could be
	// loaded); then only At, Wake and the error mean anything.
	Decided bool
	// Wrote says what was written.
	Wrote Wrote
	// Wake is when to pass again if nothing happens; zero = no need.
	Wake time.Time
}

// Wrote says which writes a pass made.
type Wrote struct {
	State   bool
	Traffic bool
	Scale   []rollout.Scale
}

// Engine passes over one rollout. Its methods are not for concurrent use.
type Engine struct {
	ports Ports
	opts  Options
	mind  *Mind
}

// New makes an engine for one rollout. Nothing is read or written before the
// first pass. It is an error to leave out Store, Workloads or Router.
func New(spec rollout.Spec, cfg analysis.Config, ports Ports, opts Options) (*Engine, error) {
	return nil, errors.New("the engine is being written")
}

// Respec takes an edited document. It counts from the next pass.
func (e *Engine) Respec(spec rollout.Spec, cfg analysis.Config) {}

// Pass does one pass. The error joins everything that went wrong; the result
// is valid all the same, and Wake says when to try again.
func (e *Engine) Pass(ctx context.Context) (Result, error) {
	return Result{}, errors.New("the engine is being written")
}
