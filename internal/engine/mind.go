package engine

import (
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Judge looks and remembers. It is what *analysis.Judge offers.
type Judge interface {
	Look(analysis.Look) analysis.Report
	Save() ([]byte, error)
}

// Mind is the pure middle of a pass: the judge with its last report, and
// Decide. It has no clock and does no I/O, so the replay of a record and the
// simulation run the very same one. It is not for concurrent use.
type Mind struct {
	spec   rollout.Spec
	cfg    analysis.Config
	judge  Judge
	report analysis.Report
	about  subject // what the report is about
	looked time.Time
}

// subject is what a report is about. A report about another subject says nothing.
type subject struct {
	stable, canary rollout.Revision
	try, step      int
	live, baking   bool
}
