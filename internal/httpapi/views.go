package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Cursor marks a place in the stream of updates of one run of a host. Another
// run has another Epoch, and begins again with everything.
type Cursor struct {
	Epoch string
	Seq   uint64
}

// String is the event id of the stream; the zero cursor is "".
func (c Cursor) String() string {
	if c == (Cursor{}) {
		return ""
	}
	return c.Epoch + "-" + strconv.FormatUint(c.Seq, 10)
}

// ParseCursor reads an event id. What is not one is the zero cursor: its sender
// gets everything.
func ParseCursor(s string) Cursor {
	epoch, seq, ok := strings.Cut(s, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if !ok || err != nil || epoch == "" {
		return Cursor{}
	}
	return Cursor{Epoch: epoch, Seq: n}
}

// Update is one rollout's newest view, or that it is gone.
type Update struct {
	Ref  Ref
	View *RolloutView // nil: gone
	Seq  uint64
}

// Views holds the newest view of every rollout and lets readers wait for the
// next. Memory is bounded by the number of rollouts that ever were, and no
// reader can hold up a publisher. Make one with [NewViews].
type Views struct {
	epoch string

	mu      sync.Mutex
	seq     uint64
	entries map[Ref]Update
	changed chan struct{} // closed and replaced with each publication
}

// NewViews makes an empty set. started tells this run from others.
func NewViews(started time.Time) *Views {
	return &Views{
		epoch:   strconv.FormatInt(started.UnixNano(), 36),
		entries: map[Ref]Update{},
		changed: make(chan struct{}),
	}
}

// Publish makes v its rollout's newest view. v is not changed afterwards.
func (s *Views) Publish(v RolloutView) {
	s.put(Ref{v.Namespace, v.Name}, &v)
}

// Remove says that a rollout is gone.
func (s *Views) Remove(ref Ref) {
	s.mu.Lock()
	_, known := s.entries[ref]
	s.mu.Unlock()
	if known {
		s.put(ref, nil)
	}
}

func (s *Views) put(ref Ref, v *RolloutView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.entries[ref] = Update{Ref: ref, View: v, Seq: s.seq}
	close(s.changed)
	s.changed = make(chan struct{})
}

// List implements [Host].
func (s *Views) List(context.Context) ([]RolloutView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []RolloutView{}
	for _, u := range s.entries {
		if u.View != nil {
			out = append(out, *u.View)
		}
	}
	slices.SortFunc(out, func(a, b RolloutView) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Get implements [Host].
func (s *Views) Get(_ context.Context, ref Ref) (RolloutView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.entries[ref]; u.View != nil {
		return *u.View, nil
	}
	var known []string
	for r, u := range s.entries {
		if u.View != nil {
			known = append(known, r.String())
		}
	}
	slices.Sort(known)
	if len(known) == 0 {
		return RolloutView{}, fmt.Errorf("%w: %s (none is known yet)", ErrNotFound, ref)
	}
	return RolloutView{}, fmt.Errorf("%w: %s (known: %s)", ErrNotFound, ref, strings.Join(known, ", "))
}

// Next implements [Host]. An update that says "gone" is only given to readers
// that may have seen the rollout.
func (s *Views) Next(ctx context.Context, after Cursor) ([]Update, Cursor, error) {
	fresh := after.Epoch != s.epoch
	if fresh {
		after = Cursor{Epoch: s.epoch}
	}
	for {
		s.mu.Lock()
		var out []Update
		for u := range maps.Values(s.entries) {
			if u.Seq > after.Seq && !(fresh && u.View == nil) {
				out = append(out, u)
			}
		}
		now, changed := Cursor{s.epoch, s.seq}, s.changed
		s.mu.Unlock()
		if len(out) > 0 {
			slices.SortFunc(out, func(a, b Update) int { return cmp.Compare(a.Seq, b.Seq) })
			return out, now, nil
		}
		select {
		case <-ctx.Done():
			return nil, after, ctx.Err()
		case <-changed:
		}
	}
}
