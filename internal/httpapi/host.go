package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Ref names a rollout. Namespace is empty on one machine.
type Ref struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is how people write it: "name" or "namespace/name".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Namespace + "/" + r.Name
}

// ParseRef reads what String wrote.
func ParseRef(s string) Ref {
	if ns, name, ok := strings.Cut(s, "/"); ok {
		return Ref{Namespace: ns, Name: name}
	}
	return Ref{Name: s}
}

// Host is what a server needs of the thing that runs rollouts. Both hosts are
// one: the daemon of one machine and the controller of a cluster. All methods
// may be called at the same time. A rollout that is not there is [ErrNotFound],
// what is against the rules at this moment a *[Refusal], what is malformed an
// *[Invalid]; any other error is the host's own trouble.
//
// List, Get, Next, NextOf, Briefs, Series and At are those of [Views]: a host embeds one
// and publishes into it after each pass; everything else follows.
type Host interface {
	// List gives every rollout, sorted by name.
	List(ctx context.Context) ([]RolloutView, error)
	// Get gives one rollout.
	Get(ctx context.Context, ref Ref) (RolloutView, error)
	// Next waits until something was published after the cursor, and gives it.
	// The zero cursor gives everything that there is. Only the newest view of
	// each rollout is given: a slow reader misses passes, never the present.
	Next(ctx context.Context, after Cursor) ([]Update, Cursor, error)

	// NextOf is Next for one rollout.
	NextOf(ctx context.Context, after Cursor, ref Ref) ([]Update, Cursor, error)
	// Briefs is Next for lines of a list: only those that say something new.
	// Asked with a cursor of another run it answers at once, be it with nothing.
	Briefs(ctx context.Context, after Cursor) ([]Brief, Cursor, error)
	// Series is how a rollout went since an instant; the zero time is all that
	// is kept.
	Series(ctx context.Context, ref Ref, since time.Time) (Series, error)
	// At is a view as it was. What is not kept is a *Refusal.
	At(ctx context.Context, ref Ref, at time.Time) (RolloutView, error)

	// Command hands a command to the next pass, runs that pass, and says what
	// became of it. A command whose ID was taken before changes nothing and gets
	// the same answer. A refusal by the rules is an Answer with Refused set,
	// because it is a recorded decision like any other.
	Command(ctx context.Context, ref Ref, c rollout.Command) (Answer, error)
	// Deploy makes a new version known, as an added Deployment would.
	Deploy(ctx context.Context, ref Ref, d Deploy) (Deployed, error)
	// Logs calls emit for each line, oldest first; with Follow it goes on until
	// ctx ends or emit fails.
	Logs(ctx context.Context, ref Ref, q LogQuery, emit func(LogLine) error) error
	// RecordPath is the file of the observation record that is being written.
	RecordPath(ctx context.Context, ref Ref) (string, error)
	// Info says who answers.
	Info() Info
}

// Answer says what became of a command.
type Answer struct {
	ID      string `json:"id"`
	Refused bool   `json:"refused,omitempty"`
	// Message is one sentence: the decision's, or why it was refused and what
	// to do instead.
	Message string `json:"message"`
	// Decisions are those of the pass that took it, oldest first.
	Decisions []rollout.Event `json:"decisions,omitempty"`
}

// AnswerFor makes the answer to c from the events of the pass that took it.
func AnswerFor(c rollout.Command, events []rollout.Event) Answer {
	a := Answer{ID: c.ID, Decisions: events}
	for _, e := range events {
		switch {
		case e.By != c.By:
		case e.What == rollout.EvRefused:
			if e.From == string(c.Verb) { // and not another command of the same person
				a.Message, a.Refused = e.Why, true
				return a
			}
		case a.Message == "": // what follows from it comes after it
			a.Message = e.Why
		}
	}
	if a.Message == "" {
		a.Message = string(c.Verb) + " changed nothing: it was so already"
	}
	return a
}

// Deploy describes a new version that is run from a command.
type Deploy struct {
	Version  string            `json:"version"`            // label
	Command  []string          `json:"command"`            // program and arguments
	Dir      string            `json:"dir,omitempty"`      // absolute; where its author stood
	Env      map[string]string `json:"env,omitempty"`      // added to the template's
	Replicas *int              `json:"replicas,omitempty"` // nil: as many as stable has
	By       string            `json:"by"`
	Reason   string            `json:"reason,omitempty"`
}

// Deployed says what came of it.
type Deployed struct {
	Name    string `json:"name"`           // the Deployment's
	File    string `json:"file,omitempty"` // where it was written
	Message string `json:"message"`        // one sentence: what was done, what comes next
}

// LogQuery selects lines. Empty parts select everything.
type LogQuery struct {
	Version string `json:"version,omitempty"` // label
	Replica string `json:"replica,omitempty"`
	Tail    int    `json:"tail,omitempty"` // last lines of each replica; 0 = all that is kept
	Follow  bool   `json:"follow,omitempty"`
}

// LogLine is one line of one replica.
type LogLine struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"`
	Replica string    `json:"replica"`
	Stream  string    `json:"stream"` // stdout | stderr
	Text    string    `json:"text"`
	Cut     bool      `json:"cut,omitempty"`  // the line was longer
	Lost    uint64    `json:"lost,omitempty"` // lines that were overwritten before this one was read
}

// Info says who answers.
type Info struct {
	Version  string    `json:"version"` // of the program
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Dir      string    `json:"dir,omitempty"`      // folder of documents
	StateDir string    `json:"stateDir,omitempty"` // state, records
	Gateway  string    `json:"gateway,omitempty"`  // address that users' requests come to
	Metrics  string    `json:"metrics,omitempty"`  // address of /metrics
	// Dashboard is where a browser finds it, with the token that lets it in, and
	// DashboardLook the same for who may only look. Only the socket tells.
	Dashboard     string `json:"dashboard,omitempty"`
	DashboardLook string `json:"dashboardLook,omitempty"`
}

// ErrNotFound: there is no such rollout.
var ErrNotFound = errors.New("no such rollout")

// Refusal is a "not now" or "not this way", in one sentence that says what
// would be right.
type Refusal struct{ Why string }

func (r *Refusal) Error() string { return r.Why }

// Invalid lists what is wrong with a request, "path: problem" each.
type Invalid struct{ Problems []string }

func (e *Invalid) Error() string { return strings.Join(e.Problems, "; ") }
