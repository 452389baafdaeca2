package httpapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Source is a host that is somewhere else: a daemon behind its socket, or a
// cluster with its user's rights.
type Source interface {
	// List gives every rollout that is in view.
	List(ctx context.Context) ([]RolloutView, error)
	// Watch calls see with each update of one rollout, or of all where ref has
	// no name, beginning with what there is, until ctx ends or see fails.
	Watch(ctx context.Context, ref Ref, see func(Update) error) error
	// Command sends a command and waits for what became of it.
	Command(ctx context.Context, ref Ref, c rollout.Command) (Answer, error)
}

// Relay is a [Host] that shows what a source has, and keeps the history of it
// from when it began. It runs nothing itself: versions, logs and records are
// the source's own.
type Relay struct {
	*Views
	from Source
	info Info
}

// NewRelay makes one; [Relay.Follow] fills it.
func NewRelay(from Source, info Info) *Relay {
	return &Relay{Views: NewViews(time.Now()), from: from, info: info}
}

// Follow keeps the relay as its source is, until ctx ends. trouble is told what
// keeps it from that; it goes on trying.
func (r *Relay) Follow(ctx context.Context, trouble func(error)) {
	for again := false; ; again = true {
		if again { // what went while nobody looked is not said by a new watch
			r.keepOnly(ctx)
		}
		err := r.from.Watch(ctx, Ref{}, func(u Update) error {
			if u.View == nil {
				r.Remove(u.Ref)
			} else {
				r.Publish(*u.View)
			}
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			trouble(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}

// keepOnly removes what its source does not list.
func (r *Relay) keepOnly(ctx context.Context) {
	there, err := r.from.List(ctx)
	if err != nil {
		return // the watch says so
	}
	listed := map[Ref]bool{}
	for _, v := range there {
		listed[Ref{v.Namespace, v.Name}] = true
	}
	here, _ := r.Views.List(ctx) // never fails
	for _, v := range here {
		if ref := (Ref{v.Namespace, v.Name}); !listed[ref] {
			r.Remove(ref)
		}
	}
}

// Command implements [Host].
func (r *Relay) Command(ctx context.Context, ref Ref, c rollout.Command) (Answer, error) {
	a, err := r.from.Command(ctx, ref, c)
	var told *StatusError
	if errors.As(err, &told) { // the source has said it in words
		switch told.Status {
		case 404:
			err = fmt.Errorf("%w: %s", ErrNotFound, told)
		case 403, 409:
			err = &Refusal{Why: told.Error()}
		}
	}
	return a, err
}

// Deploy implements [Host].
func (r *Relay) Deploy(context.Context, Ref, Deploy) (Deployed, error) {
	return Deployed{}, &Refusal{Why: "nothing is run from here"}
}

// Logs implements [Host].
func (r *Relay) Logs(context.Context, Ref, LogQuery, func(LogLine) error) error {
	return &Refusal{Why: "no logs are kept here"}
}

// RecordPath implements [Host].
func (r *Relay) RecordPath(context.Context, Ref) (string, error) {
	return "", &Refusal{Why: "no record is written here"}
}

// Info implements [Host].
func (r *Relay) Info() Info { return r.info }
