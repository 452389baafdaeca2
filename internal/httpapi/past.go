package httpapi

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Series is how one rollout went: a column for each thing, a place in every
// column for each instant, oldest first. Instants are a second apart or more
// in the last minutes and ten seconds or more before, and only while a release
// is under way. A number that was not known is NaN, null in JSON.
type Series struct {
	T        []float64 `json:"t"`    // seconds since 1970
	Set      Column    `json:"set"`  // canary's share as decided, 0..1
	Seen     Column    `json:"seen"` // as counted
	Rollback Column    `json:"rollback"`
	Advance  Column    `json:"advance"`
	Exposed  Column    `json:"exposed"`
	Harmed   Column    `json:"harmed"`
	// Verdict has a letter for each instant: P(ass), F(ail), U(ndecided),
	// N(one to be had), and "-" where nothing was on trial: at rest, and before
	// a split was seen in force.
	Verdict string         `json:"verdict"`
	Metrics []MetricSeries `json:"metrics"`
	// Sparse: what comes before this instant, in seconds since 1970, is what
	// decisions tell, and no more was kept of it. 0: nothing does.
	Sparse float64 `json:"sparse,omitempty"`
}

// MetricSeries is how both versions did by one metric.
type MetricSeries struct {
	Metric string `json:"metric"`
	Unit   string `json:"unit"`
	Canary Column `json:"canary"`
	Stable Column `json:"stable"`
	Low    Column `json:"low"` // 95 % band of the difference
	High   Column `json:"high"`
	Limit  Column `json:"limit"`
	// State has a letter for each instant, those of [stateLetter]; "-" where
	// the metric was not judged.
	State string `json:"state"`
}

// Column is numbers of which NaN is null.
type Column []float32

// MarshalJSON writes NaN and infinities as null.
func (c Column) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 2+8*len(c))
	b = append(b, '[')
	for i, x := range c {
		if i > 0 {
			b = append(b, ',')
		}
		if x != x || math.IsInf(float64(x), 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, float64(x), 'g', 6, 32)
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Column) UnmarshalJSON(b []byte) error {
	text := strings.Trim(strings.TrimSpace(string(b)), "[]")
	*c = Column{}
	if text == "" || text == "null" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "null" {
			*c = append(*c, nan)
			continue
		}
		x, err := strconv.ParseFloat(part, 32)
		if err != nil {
			return fmt.Errorf("a column holds %q: want a number or null", part)
		}
		*c = append(*c, float32(x))
	}
	return nil
}

var nan = float32(math.NaN())

var stateLetter = map[string]byte{
	"noData": 'n', "ok": 'o', "pending": 'p', "firing": 'f', "both": 'b', "worse": 'w', "better": '+',
}

var letterState = func() map[byte]string {
	m := map[byte]string{}
	for s, l := range stateLetter {
		m[l] = s
	}
	return m
}()

var verdictLetter = map[analysis.Verdict]byte{
	analysis.Pass: 'P', analysis.Fail: 'F', analysis.Undecided: 'U', analysis.Unavailable: 'N',
}

// Bounds of what is kept.
const (
	earliest = math.MinInt64 // milliseconds

	fineStep, fineKept     = time.Second, 300
	coarseStep, coarseKept = 10 * time.Second, 8640 // a day
	// pointBudget bounds the points of all rollouts together, of about 100 bytes
	// each once they are a block. Who has the most gives first.
	pointBudget = 60000
	sparkPoints = 24
)

// past is what the views were: a second by second for some minutes, then ten
// by ten for a day, of rollouts that were under way.
type past struct {
	budget int
	mu     sync.Mutex
	by     map[Ref]*track
	points int // in all tracks
}

// track is one rollout's. coarse is older than fine, or the same age: a point
// of coarse is one of fine.
type track struct {
	fine, coarse run
	last         *frame // of the newest view
	moving       bool   // it was under way at the newest point

	fineAt, coarseAt int64 // when the newest of each was; of no meaning while there is none
	coarseN          int   // the last decision by then
	rise             rise
}

// rise is the canary's weight over the release that is under way.
type rise struct {
	started *time.Time
	points  int // of coarse
	last    int64
	steps   []riseStep // where it changed
}

type riseStep struct {
	at  int64
	set rollout.Weight
}

const maxRiseSteps = 64

func (r *rise) add(started *time.Time, at int64, set rollout.Weight) {
	if !sameInstant(r.started, started) {
		*r = rise{started: started}
	}
	r.points++
	r.last = at
	if n := len(r.steps); n == 0 || r.steps[n-1].set != set {
		r.steps = append(r.steps[max(0, n+1-maxRiseSteps):], riseStep{at, set})
	}
}

// spark is some of it, evenly in time, in percent.
func (r *rise) spark() []int {
	if len(r.steps) == 0 {
		return nil
	}
	out := make([]int, min(sparkPoints, r.points))
	from, k := r.steps[0].at, 0
	for i := range out {
		at := from + (r.last-from)*int64(i+1)/int64(len(out))
		for k+1 < len(r.steps) && r.steps[k+1].at <= at {
			k++
		}
		out[i] = int(r.steps[k].set) / 100
	}
	return out
}

// point is one instant.
type point struct {
	at                int64 // milliseconds
	set               rollout.Weight
	seen              float32
	rollback, advance float32
	exposed, harmed   float32
	verdict           byte
	frame             *frame // what changes seldom, shared with the neighbours
	sentence, message string // of points ten seconds apart; "" elsewhere
	cells             []cell
}

// cell is one metric at one instant.
type cell struct {
	canary, stable, low, high, limit, canaryN, stableN float32
	metric                                             uint8 // index in the frame's metrics
	state                                              byte
}

// frame is what a view holds beside its figures. It is a copy without the
// parts that grow: decisions and history are numbered and dated themselves.
type frame struct {
	view    RolloutView
	metrics []metricName
}

type metricName struct{ name, unit string }

func newPast() *past { return &past{budget: pointBudget, by: map[Ref]*track{}} }

func (p *past) remove(ref Ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.by[ref]; t != nil {
		p.points -= t.size()
		delete(p.by, ref)
	}
}

// add takes a view. Views come in the order of their time; one that is older
// than the newest (a clock that was set back) starts the track anew.
func (p *past) add(ref Ref, v RolloutView) {
	moving := v.Canary != nil && v.Phase != rollout.Idle
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.by[ref]
	if t == nil {
		if !moving {
			return
		}
		t = &track{}
		p.by[ref] = t
	}
	if !moving && !t.moving {
		return // at rest, and that is known
	}
	now := v.Time.UnixMilli()
	last := int64(earliest)
	if t.fine.n > 0 {
		last = t.fineAt
	}
	switch {
	case t.fine.n > 0 && now < last-1000: // not what its writers round
		last = earliest
		p.points -= t.size()
		t.fine, t.coarse, t.rise = run{}, run{}, rise{}
	case now < last+fineStep.Milliseconds()*9/10 && moving == t.moving && t.last != nil && sameFrame(t.last.view, v):
		return
	}
	if now <= last {
		now = last + 1 // two things in one millisecond are one after the other
	}
	t.moving = moving
	if t.last == nil || !sameFrame(t.last.view, v) || !sameMetrics(t.last.metrics, v.Figures) {
		t.last = frameOf(v)
	}
	pt := pointOf(v, t.last, now)
	p.points -= t.size()
	if t.coarse.n == 0 || now >= t.coarseAt+coarseStep.Milliseconds() || !moving || t.coarseN != v.N {
		pt.sentence, pt.message = v.Sentence, v.Message
		t.coarse.add(pt)
		t.coarse.keep(coarseKept)
		t.coarseAt, t.coarseN = now, v.N
		t.rise.add(v.Started, now, pt.set)
	}
	t.fine.add(pt)
	t.fine.keep(fineKept)
	t.fineAt = now
	p.points += t.size()
	for p.points > p.budget {
		p.forget()
	}
}

func (t *track) size() int { return t.fine.n + t.coarse.n }

// forget takes the older half of the longest track.
func (p *past) forget() {
	var longest *track
	for _, t := range p.by {
		if longest == nil || t.size() > longest.size() {
			longest = t
		}
	}
	if longest == nil {
		p.points = 0
		return
	}
	p.points -= longest.size()
	longest.fine.halve()
	longest.coarse.halve()
	p.points += longest.size()
}

func frameOf(v RolloutView) *frame {
	f := &frame{view: v}
	for _, x := range v.Figures {
		f.metrics = append(f.metrics, metricName{x.Metric, x.Unit})
	}
	f.view.Decisions, f.view.History, f.view.Figures = nil, nil, nil
	f.view.Sentence, f.view.Message = "", ""
	f.view.Offers = nil
	return f
}

// sameFrame: nothing but numbers and sentences has changed.
func sameFrame(a, b RolloutView) bool {
	return a.N == b.N && a.Phase == b.Phase && a.Step == b.Step && a.Waiting == b.Waiting && a.Paused == b.Paused && a.Stalled == b.Stalled &&
		a.Live == b.Live && a.WeightSet == b.WeightSet && len(a.Findings) == len(b.Findings) && sameVersion(a.Stable, b.Stable) && sameVersion(a.Canary, b.Canary)
}

func sameVersion(a, b *VersionView) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Revision == b.Revision && a.Replicas == b.Replicas && (a.Ready == nil) == (b.Ready == nil) && (a.Ready == nil || *a.Ready == *b.Ready)
}

func sameMetrics(ms []metricName, fs []analysis.Figure) bool {
	return slices.EqualFunc(ms, fs, func(m metricName, f analysis.Figure) bool { return m.name == f.Metric && m.unit == f.Unit })
}

func pointOf(v RolloutView, f *frame, now int64) point {
	pt := point{
		at: now, set: v.WeightSet, seen: nan, frame: f, verdict: '-',
		rollback: float32(v.Evidence.Rollback), advance: float32(v.Evidence.Advance),
		exposed: float32(v.Exposed), harmed: float32(v.Harmed),
	}
	if v.WeightSeen != nil {
		pt.seen = float32(*v.WeightSeen)
	}
	if v.Phase != rollout.Idle {
		if v.Live || v.Verdict != analysis.Unavailable {
			pt.verdict = verdictLetter[v.Verdict]
		}
	} else {
		pt.set = 0
	}
	if v.Phase != rollout.Idle {
		pt.cells = cellsOf(v.Figures)
	}
	return pt
}

// points1 gives a rollout's points, oldest first and each once: all that there
// are from an instant on, and perhaps some before it.
func (p *past) points1(ref Ref, from int64) []point {
	p.mu.Lock()
	t := p.by[ref]
	if t == nil {
		p.mu.Unlock()
		return nil
	}
	fine, coarse := t.fine.copied(), t.coarse.copied()
	p.mu.Unlock()
	newest := fine.points(from)
	first, ok := fine.first()
	if !ok {
		return coarse.points(from)
	}
	if len(newest) > 0 && newest[0].at <= from {
		return newest
	}
	out := coarse.points(from)
	i := 0
	for i < len(out) && out[i].at < first {
		i++
	}
	return append(out[:i], newest...)
}

// series gives what is known since an instant; the zero time is all, and what
// the decisions tell of the time before.
func (p *past) series(ref Ref, since time.Time, decisions []rollout.Event) Series {
	if !since.IsZero() {
		pts := p.points1(ref, since.UnixMilli())
		from, _ := slices.BinarySearchFunc(pts, since.UnixMilli(), func(pt point, at int64) int {
			if pt.at < at {
				return -1
			}
			return 1
		})
		return seriesOf(pts[from:])
	}
	pts, told := outlined(p.points1(ref, earliest), decisions)
	s := seriesOf(pts)
	switch {
	case told > 0 && told < len(pts):
		s.Sparse = s.T[told]
	case told > 0:
		s.Sparse = s.T[told-1] + 1e-3
	}
	return s
}

func seriesOf(pts []point) Series {
	n := len(pts)
	s := Series{T: make([]float64, n), Metrics: []MetricSeries{}}
	for _, c := range []*Column{&s.Set, &s.Seen, &s.Rollback, &s.Advance, &s.Exposed, &s.Harmed} {
		*c = make(Column, n)
	}
	verdicts := make([]byte, n)
	index := map[metricName]int{}
	var states [][]byte
	for i, pt := range pts {
		s.T[i] = float64(pt.at) / 1000
		s.Set[i], s.Seen[i] = float32(pt.set)/float32(rollout.Whole), pt.seen
		s.Rollback[i], s.Advance[i], s.Exposed[i], s.Harmed[i] = pt.rollback, pt.advance, pt.exposed, pt.harmed
		verdicts[i] = pt.verdict
		for _, c := range pt.cells {
			if int(c.metric) >= len(pt.frame.metrics) {
				continue
			}
			name := pt.frame.metrics[c.metric]
			at, known := index[name]
			if !known {
				at = len(s.Metrics)
				index[name] = at
				m := MetricSeries{Metric: name.name, Unit: name.unit}
				for _, col := range m.columns() {
					*col = slices.Repeat(Column{nan}, n)
				}
				s.Metrics = append(s.Metrics, m)
				states = append(states, []byte(strings.Repeat("-", n)))
			}
			m := &s.Metrics[at]
			states[at][i] = c.state
			if c.state == 'n' {
				continue // what is there is no number
			}
			// Of no request there is neither a share nor a latency.
			of := name.unit == "share" || name.unit == "ms"
			if !of || c.canaryN > 0 {
				m.Canary[i] = c.canary
			}
			if !of || c.stableN > 0 {
				m.Stable[i] = c.stable
			}
			if c.low != 0 || c.high != 0 {
				m.Low[i], m.High[i] = c.low, c.high
			}
			if c.limit != 0 {
				m.Limit[i] = c.limit
			}
		}
	}
	s.Verdict = string(verdicts)
	for i := range s.Metrics {
		s.Metrics[i].State = string(states[i])
	}
	return s
}

func (m *MetricSeries) columns() []*Column {
	return []*Column{&m.Canary, &m.Stable, &m.Low, &m.High, &m.Limit}
}

// at puts a view together as it was: what is kept of that instant, and of the
// newest view what had been decided by then.
func (p *past) at(ref Ref, now RolloutView, at time.Time) (RolloutView, error) {
	if !at.Before(now.Time) {
		return now, nil
	}
	pts := p.points1(ref, earliest)
	i, _ := slices.BinarySearchFunc(pts, at.UnixMilli(), func(pt point, at int64) int {
		if pt.at <= at {
			return -1
		}
		return 1
	})
	if i == 0 {
		return RolloutView{}, &Refusal{Why: fmt.Sprintf("nothing is kept of %s at %s; a day of its releases is kept, since this host started", ref, at.UTC().Format(time.RFC3339))}
	}
	pt := pts[i-1]
	v := pt.frame.view
	v.Time, v.WeightSet = time.UnixMilli(pt.at).In(now.Time.Location()), pt.set
	v.Exposed, v.Harmed = float64(pt.exposed), float64(pt.harmed)
	v.Evidence = EvidenceView{Rollback: float64(pt.rollback), Advance: float64(pt.advance)}
	v.WeightSeen = nil
	if pt.seen == pt.seen {
		seen := float64(pt.seen)
		v.WeightSeen = &seen
	}
	for verdict, letter := range verdictLetter {
		if letter == pt.verdict {
			v.Verdict = verdict
		}
	}
	for j := i - 1; j >= 0 && (v.Message == "" && v.Sentence == ""); j-- {
		v.Message, v.Sentence = pts[j].message, pts[j].sentence
	}
	for _, c := range pt.cells {
		name := pt.frame.metrics[c.metric]
		v.Figures = append(v.Figures, analysis.Figure{
			Metric: name.name, Unit: name.unit, State: letterState[c.state],
			Canary: float64(c.canary), Stable: float64(c.stable), Low: float64(c.low), High: float64(c.high), Limit: float64(c.limit),
			CanaryN: float64(c.canaryN), StableN: float64(c.stableN),
		})
	}
	v.Worst = worst(v)
	for _, d := range now.Decisions {
		if !d.At.After(at) {
			v.Decisions = append(v.Decisions, d)
			v.N = d.N
		}
	}
	for _, o := range now.History {
		if !o.Ended.After(at) {
			v.History = append(v.History, o)
		}
	}
	v.Offers = nil
	return v, nil
}

// spark is the canary's weight over the release that is under way, in percent.
func (p *past) spark(ref Ref) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.by[ref]
	if t == nil || !t.moving {
		return nil
	}
	return t.rise.spark()
}

func sameInstant(a, b *time.Time) bool { return a != nil && b != nil && a.Equal(*b) }
