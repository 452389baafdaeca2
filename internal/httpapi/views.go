package httpapi

import (
	"cmp"
	"container/list"
	"context"
	"encoding/json"
	"fmt"
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

	text *text
}

// text is an update as JSON, made once for all its readers.
type text struct {
	once sync.Once
	b    []byte
	err  error
}

func (t *text) of(v any) ([]byte, error) {
	t.once.Do(func() { t.b, t.err = json.Marshal(v) })
	return t.b, t.err
}

// JSON is the view, or where it is gone the ref, as JSON.
func (u Update) JSON() ([]byte, error) {
	if u.View == nil {
		return json.Marshal(u.Ref)
	}
	if u.text == nil {
		return json.Marshal(u.View)
	}
	return u.text.of(u.View)
}

// Brief is one rollout's line of the list, or that it is gone.
type Brief struct {
	Ref  Ref
	Text []byte // a [Summary] as JSON; nil: gone
	Seq  uint64
}

// Views holds the newest view of every rollout, what it was in the last day
// ([Series]), and lets readers wait for the next. Memory is bounded by the
// number of rollouts that ever were and by the budget of points. No reader can
// hold up a publisher, and a reader costs what has changed since it last asked,
// not what there is. Make one with [NewViews].
type Views struct {
	epoch string
	past  *past

	mu     sync.Mutex
	seq    uint64
	by     map[Ref]*entry
	views  feed // every publication
	briefs feed // those that change a line of the list
}

type entry struct {
	update Update  // its View without what is packed
	packed *packed // nil: nothing is
	brief  Brief
	inAll  *list.Element // its places in the two feeds
	inList *list.Element
}

// whole gives an entry's update with nothing packed.
func (e *entry) whole() Update {
	u := e.update
	u.View = e.packed.unpack(u.View)
	return u
}

// feed is entries in the order of their last change, newest last.
type feed struct {
	order   *list.List
	changed chan struct{} // closed and replaced with each change
}

func newFeed() feed { return feed{order: list.New(), changed: make(chan struct{})} }

func (f *feed) touch(at **list.Element, e *entry) {
	if *at == nil {
		*at = f.order.PushBack(e)
	} else {
		f.order.MoveToBack(*at)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// after gives the entries whose seq is above n, oldest change first.
func (f *feed) after(n uint64, seq func(*entry) uint64) []*entry {
	var out []*entry
	for el := f.order.Back(); el != nil; el = el.Prev() {
		e := el.Value.(*entry)
		if seq(e) <= n {
			break
		}
		out = append(out, e)
	}
	slices.Reverse(out)
	return out
}

// NewViews makes an empty set. started tells this run from others.
func NewViews(started time.Time) *Views {
	return &Views{
		epoch: strconv.FormatInt(started.UnixNano(), 36),
		past:  newPast(),
		by:    map[Ref]*entry{}, views: newFeed(), briefs: newFeed(),
	}
}

// Publish makes v its rollout's newest view. v is not changed afterwards.
func (s *Views) Publish(v RolloutView) {
	ref := Ref{v.Namespace, v.Name}
	s.past.add(ref, v)
	line, err := json.Marshal(SummaryOf(v, s.past.spark(ref)))
	if err != nil {
		line = nil // a number that is none: the list keeps the line it has
	}
	s.put(ref, &v, line)
}

// Remove says that a rollout is gone.
func (s *Views) Remove(ref Ref) {
	s.mu.Lock()
	_, known := s.by[ref]
	s.mu.Unlock()
	if known {
		s.past.remove(ref)
		s.put(ref, nil, nil)
	}
}

func (s *Views) put(ref Ref, v *RolloutView, line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.by[ref]
	if e == nil {
		e = &entry{}
		s.by[ref] = e
	}
	s.seq++
	if v != nil && len(s.by) > packAbove {
		v, e.packed = pack(v, e.packed)
	} else {
		e.packed = nil
	}
	e.update = Update{Ref: ref, View: v, Seq: s.seq, text: &text{}}
	s.views.touch(&e.inAll, e)
	if v != nil && line == nil || v != nil && string(line) == string(e.brief.Text) {
		return
	}
	e.brief = Brief{Ref: ref, Text: line, Seq: s.seq}
	s.briefs.touch(&e.inList, e)
}

// List implements [Host].
func (s *Views) List(context.Context) ([]RolloutView, error) {
	s.mu.Lock()
	entries := make([]entry, 0, len(s.by))
	for _, e := range s.by {
		if e.update.View != nil {
			entries = append(entries, *e)
		}
	}
	s.mu.Unlock()
	out := make([]RolloutView, 0, len(entries))
	for _, e := range entries {
		out = append(out, *e.whole().View)
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
	if e := s.by[ref]; e != nil && e.update.View != nil {
		return *e.whole().View, nil
	}
	var known []string
	for r, e := range s.by {
		// No other namespace's: who asks may not be allowed to see those.
		if e.update.View != nil && (ref.Namespace == "" || r.Namespace == "" || r.Namespace == ref.Namespace) {
			known = append(known, r.String())
		}
	}
	slices.Sort(known)
	if len(known) == 0 {
		return RolloutView{}, fmt.Errorf("%w: %s (none is known yet)", ErrNotFound, ref)
	}
	if more := len(known) - maxNamed; more > 0 {
		known = append(known[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	return RolloutView{}, fmt.Errorf("%w: %s (known: %s)", ErrNotFound, ref, strings.Join(known, ", "))
}

// maxNamed is how many rollouts an error names.
const maxNamed = 20

// Next implements [Host]. An update that says "gone" is only given to readers
// that may have seen the rollout.
func (s *Views) Next(ctx context.Context, after Cursor) ([]Update, Cursor, error) {
	return s.next(ctx, after, func(n uint64) []*entry {
		return s.views.after(n, func(e *entry) uint64 { return e.update.Seq })
	})
}

// NextOf implements [Host].
func (s *Views) NextOf(ctx context.Context, after Cursor, ref Ref) ([]Update, Cursor, error) {
	return s.next(ctx, after, func(n uint64) []*entry {
		if e := s.by[ref]; e != nil && e.update.Seq > n {
			return []*entry{e}
		}
		return nil
	})
}

// next waits until some entries are newer. pick is called with mu held.
func (s *Views) next(ctx context.Context, after Cursor, pick func(after uint64) []*entry) ([]Update, Cursor, error) {
	fresh := after.Epoch != s.epoch
	if fresh {
		after = Cursor{Epoch: s.epoch}
	}
	for {
		s.mu.Lock()
		var newer []entry
		for _, e := range pick(after.Seq) {
			if !fresh || e.update.View != nil {
				newer = append(newer, *e)
			}
		}
		now, changed := Cursor{s.epoch, s.seq}, s.views.changed
		s.mu.Unlock()
		if len(newer) > 0 {
			out := make([]Update, 0, len(newer))
			for _, e := range newer {
				out = append(out, e.whole())
			}
			return out, now, nil
		}
		select {
		case <-ctx.Done():
			return nil, after, ctx.Err()
		case <-changed:
		}
	}
}

// Briefs implements [Host].
func (s *Views) Briefs(ctx context.Context, after Cursor) ([]Brief, Cursor, error) {
	fresh := after.Epoch != s.epoch
	if fresh {
		after = Cursor{Epoch: s.epoch}
	}
	for {
		s.mu.Lock()
		var out []Brief
		for _, e := range s.briefs.after(after.Seq, func(e *entry) uint64 { return e.brief.Seq }) {
			if !fresh || e.brief.Text != nil {
				out = append(out, e.brief)
			}
		}
		now, changed := Cursor{s.epoch, s.seq}, s.briefs.changed
		s.mu.Unlock()
		if len(out) > 0 || fresh {
			return out, now, nil
		}
		select {
		case <-ctx.Done():
			return nil, after, ctx.Err()
		case <-changed:
		}
	}
}

// Series implements [Host].
func (s *Views) Series(ctx context.Context, ref Ref, since time.Time) (Series, error) {
	v, err := s.Get(ctx, ref)
	if err != nil {
		return Series{}, err
	}
	return s.past.series(ref, since, v.Decisions), nil
}

// At implements [Host].
func (s *Views) At(ctx context.Context, ref Ref, at time.Time) (RolloutView, error) {
	v, err := s.Get(ctx, ref)
	if err != nil {
		return v, err
	}
	return s.past.at(ref, v, at)
}
