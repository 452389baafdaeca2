package process

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Options of a Supervisor; the zero value works.
type Options struct {
	Logger *slog.Logger // default: discards
	Dir    string       // what a Spec's Dir and relative commands are relative to; default: the working directory

	// Drain is asked before a replica that has been ready gets SIGTERM: it
	// returns when no request is on its way to addr ("127.0.0.1:4001") any more,
	// or when ctx ends. By then List has already reported the replica as not
	// Ready; making the routes follow List is up to Drain. Nil: nothing to wait for.
	Drain func(ctx context.Context, addr string)
	// DrainTimeout bounds one Drain; default 30 s.
	DrainTimeout time.Duration

	// A run that ends by itself is followed by another after BackoffBase
	// (default 250 ms), doubled with each further end up to BackoffMax (default
	// 30 s), and from the start again after a run that was ready for HealthyAfter
	// (default 10 s).
	BackoffBase, BackoffMax, HealthyAfter time.Duration

	SampleEvery time.Duration // how often CPU and memory are read; default 1 s

	LogLines    int // lines kept for each replica; default 1000
	LogBytes    int // and bytes; default 256 KiB
	LogLineSize int // bytes of a line that are kept, the rest is cut; default 4096

	// Environ is what a command inherits; default: this process's own.
	Environ []string

	// Held is what a supervisor of this same process, before it executed itself
	// again, gave by HandOver: its replicas go on.
	Held *Held

	// Executable is what shims are started from: a binary whose main calls
	// RunShimIfAsked. Default: the running one, also after its file was replaced.
	Executable string
}

// State is where a replica is; the package comment draws them.
type State uint8

const (
	Starting State = iota // runs, and has not been ready in this run
	Ready
	Unready  // was ready in this run, and the probe fails
	BackOff  // its process ended by itself; waits for the next run
	Draining // no longer wanted; waits until no traffic is on its way
	Stopping // has got SIGTERM or SIGKILL
)

var stateNames = [...]string{"Starting", "Ready", "Unready", "BackOff", "Draining", "Stopping"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText writes the state's word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Replica is what List knows about one replica.
type Replica struct {
	Key   string
	Name  string // "my-app-v2-0"; unique in a Supervisor, the same over restarts
	State State
	Ready bool   // State == Ready: may get traffic
	Addr  string // "127.0.0.1:4001" of this or the last run; another one after a restart
	PID   int    // of the command's own process; 0 while none runs

	// Current: belongs to the Spec that its set has now; false for the old ones
	// of a rolling change.
	Current bool

	Created   time.Time // when the replica was first asked for
	Started   time.Time // of this or the last run
	Restarts  int       // runs after the first
	NextStart time.Time // in BackOff only

	// Why says in one sentence why the replica is not ready; empty when it is.
	Why string

	CPUSeconds  float64 // user and system time of the whole tree, over all runs; never falls
	MemoryBytes int64   // resident memory of the whole tree; 0 while none runs
	// Sampled is when these two were read (see Options.SampleEvery); a rate is a
	// difference of CPUSeconds over a difference of Sampled. Zero: not yet.
	Sampled time.Time
}

// Stream tells a line's origin.
type Stream uint8

const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// MarshalText writes "stdout" or "stderr".
func (s Stream) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Line is one line of a replica's output.
type Line struct {
	Seq     uint64 // order over all replicas of a Supervisor
	Time    time.Time
	Replica string
	Stream  Stream
	Text    string // without its end of line, valid UTF-8
	Cut     bool   // the line was longer than Options.LogLineSize
	// Lost counts lines which were overwritten between the line before and this
	// one, before this reader came to them. Follow only.
	Lost uint64
}
