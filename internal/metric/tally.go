package metric

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// Labels of one series.
type Labels interface {
	Get(name string) string // "" = the series has no such label
}

// Figures are what a pod has counted, as far as it was measured.
type Figures struct {
	Has         analysis.Has
	Requests    float64
	Errors      float64
	Latency     analysis.Histogram
	CPUSeconds  float64
	MemoryBytes float64
	// Bad says what cannot be right; then no requests are counted at all.
	// Lacks says what is not measured. "" = nothing.
	Bad, Lacks string
}

// Put writes the figures into what the judge gets.
func (f *Figures) Put(p *analysis.Pod) {
	p.Has |= f.Has
	p.Requests, p.Errors, p.Latency = f.Requests, f.Errors, f.Latency
	p.CPUSeconds, p.MemoryBytes = f.CPUSeconds, f.MemoryBytes
}

// Tally adds up the series of one pod under several conventions at once.
type Tally struct {
	names       []Names
	sums        []sums
	cpu, memory []gauge // by preference
	bad         string
}

type gauge struct {
	seen  bool
	value float64
}

// sums are the series of one convention.
type sums struct {
	marked           bool // spoken, though nothing may be counted
	requests, errors float64
	series, telling  int // series of requests, and those that tell failures
	buckets          []bucket
	last             int // where the last bucket went: they come in order
	total            float64
	totals           int // series of the histogram with an end
	crowded          bool
}

type bucket struct {
	le, count float64 // le in milliseconds
	series    int
}

// NewTally makes an empty one for these conventions.
func NewTally(names []Names) *Tally {
	return &Tally{names: names, sums: make([]sums, len(names)), cpu: make([]gauge, len(cpuNames)), memory: make([]gauge, len(memoryNames))}
}

// Wanted lists the names of the series that are counted under these
// conventions, for those who choose what to read.
func Wanted(names []Names) []string {
	var out []string
	for i := range names {
		n := &names[i]
		if n.Requests != "" {
			out = append(out, n.Requests)
		}
		if n.Latency != "" {
			out = append(out, n.Latency+"_bucket", n.Latency+"_count")
		}
	}
	out = append(append(out, cpuNames...), memoryNames...)
	slices.Sort(out)
	return slices.Compact(out)
}

// UsageNames are the series of processor time and memory alone.
func UsageNames() []string { return append(slices.Clone(cpuNames), memoryNames...) }

// Mark notes a name that is not counted: it may show which convention is
// spoken.
func (t *Tally) Mark(name []byte) {
	for i := range t.names {
		if t.sums[i].marked {
			continue
		}
		for _, m := range t.names[i].Marks {
			if len(name) >= len(m) && string(name[:len(m)]) == m {
				t.sums[i].marked = true
			}
		}
	}
}

// Declare notes that a metric of this name is told of, by its type, whether or
// not it has series.
func (t *Tally) Declare(name []byte) {
	for i := range t.names {
		if n := &t.names[i]; string(name) == n.Requests && n.Requests != "" || string(name) == n.Latency && n.Latency != "" {
			t.sums[i].marked = true
		}
	}
}

// Add takes one series with the value that it has now.
func (t *Tally) Add(name string, l Labels, v float64) {
	if i := slices.Index(cpuNames, name); i >= 0 {
		t.cpu[i].add(v, &t.bad, name)
		return
	}
	if i := slices.Index(memoryNames, name); i >= 0 {
		t.memory[i].add(v, &t.bad, name)
		return
	}
	for i := range t.names {
		n, s := &t.names[i], &t.sums[i]
		switch {
		case name == n.Requests && n.Requests != "":
			if n.counts(l) && t.sane(name, v) {
				s.count(n, l, v)
			}
		case n.Latency == "" || !strings.HasPrefix(name, n.Latency):
		case name[len(n.Latency):] == "_count":
			if n.Requests == "" && n.counts(l) && t.sane(name, v) {
				s.count(n, l, v)
			}
		case name[len(n.Latency):] == "_bucket":
			if n.counts(l) && t.sane(name, v) {
				t.bucket(s, n, l, v)
			}
		}
	}
}

func (g *gauge) add(v float64, bad *string, name string) {
	if !sane(v) {
		*bad = name + " is not a number that it can be"
		return
	}
	g.seen = true
	g.value += v
}

func sane(v float64) bool { return v >= 0 && v <= 1e18 } // false for NaN

func (t *Tally) sane(name string, v float64) bool {
	if !sane(v) {
		t.bad = name + " is not a number that it can be"
		return false
	}
	return true
}

func (s *sums) count(n *Names, l Labels, v float64) {
	s.marked = true
	s.series++
	s.requests += v
	failed, known := n.failed(l)
	if known {
		s.telling++
	}
	if failed {
		s.errors += v
	}
}

func (t *Tally) bucket(s *sums, n *Names, l Labels, v float64) {
	le, err := strconv.ParseFloat(l.Get("le"), 64)
	switch {
	case err != nil || math.IsNaN(le):
		t.bad = n.Latency + " has a bucket without a bound"
		return
	case math.IsInf(le, 1):
		s.totals++
		s.total += v
		return
	case le <= 0:
		return // no request takes less: such a bucket says nothing
	}
	s.add(milliseconds(le, n.Unit), v)
}

// AddNative takes one series of a native histogram as it is now. Its count is
// counted as the series NAME_count would be.
func (t *Tally) AddNative(name string, l Labels, h *Native) {
	for i := range t.names {
		n, s := &t.names[i], &t.sums[i]
		if name != n.Latency || !n.counts(l) || !t.sane(name, h.Total) {
			continue
		}
		if n.Requests == "" {
			s.count(n, l, h.Total)
		}
		s.totals++
		s.total += h.Total
		below := 0.0
		at := 0
		for _, le := range h.bounds(n.Unit) {
			for at < len(h.Upper) && h.Upper[at] <= le*(1+1e-9) {
				below += h.Count[at]
				at++
			}
			if !t.sane(name, below) {
				return
			}
			s.add(milliseconds(le, n.Unit), below)
		}
	}
}

// milliseconds turns a bound into milliseconds without leaving traces of the
// multiplication: 0.3 s is 300, not 299.99999999999994.
func milliseconds(le float64, unit time.Duration) float64 {
	ms := le * (float64(unit) / float64(time.Millisecond))
	if r := math.Round(ms*1e6) / 1e6; r > 0 {
		return r
	}
	return ms
}

// maxBuckets bounds what a pod can make us keep.
const maxBuckets = 512

// add counts in the bucket le; bounds mostly come in order.
func (s *sums) add(le, v float64) {
	if next := s.last + 1; next < len(s.buckets) && s.buckets[next].le == le {
		s.last = next
	} else if s.last >= len(s.buckets) || s.buckets[s.last].le != le {
		i, found := slices.BinarySearchFunc(s.buckets, le, func(b bucket, le float64) int { return cmp.Compare(b.le, le) })
		if !found {
			if len(s.buckets) >= maxBuckets {
				s.crowded = true
				return
			}
			s.buckets = slices.Insert(s.buckets, i, bucket{le: le})
		}
		s.last = i
	}
	b := &s.buckets[s.last]
	b.count += v
	b.series++
}

// Speaks says which convention this pod counts under: the index of the first,
// or -1.
func (t *Tally) Speaks() int {
	return slices.IndexFunc(t.sums, func(s sums) bool { return s.marked || s.totals > 0 })
}

// SpeaksToo says whether the pod counts under this convention, the first or not.
func (t *Tally) SpeaksToo(i int) bool { return t.sums[i].marked || t.sums[i].totals > 0 }

// Figures gives what was counted under the convention i; -1 = none is in force,
// then there is only what the process says of itself. The caller vouches that
// all series of the pod were added, and that i is this pod's convention, or
// another's of the same application while this pod speaks none: then nothing
// was counted yet.
func (t *Tally) Figures(i int) Figures {
	f := Figures{Bad: t.bad}
	if g := firstSeen(t.cpu); g != nil {
		f.Has |= analysis.HasCPU
		f.CPUSeconds = g.value
	}
	if g := firstSeen(t.memory); g != nil {
		f.Has |= analysis.HasMemory
		f.MemoryBytes = g.value
	}
	if i < 0 || t.bad != "" {
		return f
	}
	n, s := &t.names[i], &t.sums[i]
	f.Has |= analysis.HasRequests
	f.Requests = s.requests
	switch {
	case s.series == 0 || s.telling == s.series:
		f.Has |= analysis.HasErrors
		f.Errors = s.errors
	default:
		f.lack("not every series of " + cmp.Or(n.Requests, n.Latency) + " has a label with the status")
	}
	if n.Latency != "" {
		s.latency(n, &f)
	}
	return f
}

func (f *Figures) lack(what string) {
	if f.Lacks != "" {
		f.Lacks += ", "
	}
	f.Lacks += what
}

func firstSeen(list []gauge) *gauge {
	for i := range list {
		if list[i].seen {
			return &list[i]
		}
	}
	return nil
}

// latency gives the histogram, if it counted the same requests as the counter.
func (s *sums) latency(n *Names, f *Figures) {
	switch {
	case s.totals == 0 && s.requests == 0:
		return // no bounds are known before the first request
	case s.totals == 0:
		f.lack(n.Latency + " has no buckets")
		return
	case s.crowded:
		f.lack(n.Latency + " has too many bounds")
		return
	case math.Abs(s.total-s.requests) > 2+0.02*math.Max(s.total, s.requests):
		// The judge takes what is in no bucket for slow.
		f.lack(n.Latency + " counts other requests than " + n.Requests)
		return
	}
	h := analysis.Histogram{LE: make([]float64, 0, len(s.buckets)), Count: make([]float64, 0, len(s.buckets))}
	highest := 0.0
	for _, b := range s.buckets {
		// A bound that some series lack cannot be summed.
		if b.series != s.totals {
			continue
		}
		highest = math.Max(highest, b.count)
		h.LE = append(h.LE, b.le)
		h.Count = append(h.Count, math.Min(highest, s.requests))
	}
	if len(h.LE) == 0 {
		f.lack(n.Latency + " has no bound that all its series share")
		return
	}
	f.Latency = h
	f.Has |= analysis.HasLatency
}

// Blank completes the figures of the pods that have counted nothing yet: under
// the bounds of the others, nothing took any time.
func Blank(all []*Figures) {
	var le []float64
	for _, f := range all {
		if f.Has&analysis.HasLatency != 0 {
			le = f.Latency.LE
			break
		}
	}
	if le == nil {
		return
	}
	for _, f := range all {
		if f.Has&(analysis.HasRequests|analysis.HasLatency) == analysis.HasRequests && f.Requests == 0 {
			f.Has |= analysis.HasLatency
			f.Latency = analysis.Histogram{LE: slices.Clone(le), Count: make([]float64, len(le))}
		}
	}
}
