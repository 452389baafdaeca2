package analysis

import (
	"errors"
	"math"
	"time"
)

// maxBounds is how many latency bounds the judge works with. Finer layouts are
// merged once, when the first histogram is seen.
const maxBounds = 23

// podMemory is how long the counters of a pod that is no longer seen are kept:
// when it comes back within it, nothing of what it counted is lost.
const podMemory = 10 * time.Minute

type podKey struct{ rev, name string }

// pod is the last reading of one replica.
type pod struct {
	Rev     string    `json:"r"`
	Name    string    `json:"p"`
	Seen    int64     `json:"t"`           // the last look that had it
	Started int64     `json:"b,omitempty"` // 0 = unknown
	First   int64     `json:"f,omitempty"` // its first request, as far as we saw
	Has     Has       `json:"h,omitempty"` // which readings below are baselines
	N       float64   `json:"n,omitempty"`
	E       float64   `json:"e,omitempty"`
	CPU     float64   `json:"c,omitempty"`
	CPUAt   int64     `json:"ca,omitempty"`
	Mem     float64   `json:"m,omitempty"`
	Restart float64   `json:"x,omitempty"`
	OOM     float64   `json:"o,omitempty"`
	LE      []float64 `json:"le,omitempty"` // only where it differs from the common layout
	Hist    []float64 `json:"l,omitempty"`
	HistN   float64   `json:"ln,omitempty"`

	// What it counted while stable, decayed: how unlike stable's pods are.
	SN float64 `json:"sn,omitempty"`
	SE float64 `json:"se,omitempty"`
	SL float64 `json:"sl,omitempty"`
	SK float64 `json:"sk,omitempty"`

	// Its bad minutes: the block in hand, and for how long blocks have been bad.
	BT     float64 `json:"bt,omitempty"`
	BN     float64 `json:"bn,omitempty"`
	BE     float64 `json:"be,omitempty"`
	BSN    float64 `json:"bsn,omitempty"` // the other pods in the same block
	BSE    float64 `json:"bse,omitempty"`
	Streak float64 `json:"bs,omitempty"`

	// What it answered as the canary lately: see Judge.follow.
	WN  float64 `json:"wn,omitempty"`
	WE  float64 `json:"we,omitempty"`
	WAt int64   `json:"wa,omitempty"`

	d delta // of this look; not remembered
}

func (p *pod) check() error {
	for _, x := range [...]float64{p.N, p.E, p.CPU, p.Mem, p.Restart, p.OOM, p.HistN, p.SN, p.SE, p.SL, p.SK, p.BT, p.BN, p.BE, p.BSN, p.BSE, p.Streak, p.WN, p.WE} {
		if !sane(x) {
			return errors.New("a counter is negative or out of range")
		}
	}
	for _, x := range p.Hist {
		if !sane(x) {
			return errors.New("a bucket is negative or out of range")
		}
	}
	if len(p.Hist) > maxRaw || len(p.LE) > maxRaw {
		return errors.New("too many buckets")
	}
	return nil
}

// maxRaw bounds the histogram that a pod may send.
const maxRaw = 1024

// delta is what one arm, or one pod, counted between two looks.
type delta struct {
	Has     Has     `json:"h,omitempty"`
	Pods    float64 `json:"p,omitempty"`
	N       float64 `json:"n,omitempty"`  // requests
	NE      float64 `json:"ne,omitempty"` // requests of pods that count errors too
	E       float64 `json:"e,omitempty"`
	NL      float64 `json:"nl,omitempty"` // requests with a known latency
	Slow    float64 `json:"s,omitempty"`  // those above the latency limit
	SlowN   float64 `json:"sn,omitempty"`
	Hist    hist    `json:"l"`            // per bucket of the common layout
	CPU     float64 `json:"c,omitempty"`  // seconds
	CPUTime float64 `json:"ct,omitempty"` // pod seconds over which CPU was used
	CPUN    float64 `json:"cn,omitempty"` // requests answered in them
	Mem     float64 `json:"m,omitempty"`  // sum over pods
	MemPods float64 `json:"mp,omitempty"`
	MemMax  float64 `json:"mx,omitempty"`
	Restart float64 `json:"x,omitempty"`
	OOM     float64 `json:"o,omitempty"`
	Young   hist    `json:"y"` // the part of Hist that came from pods still warming up
}

// hist holds counts per bucket; the last one in use is the overflow.
type hist [maxBounds + 1]float64

func (d *delta) check() error {
	for _, x := range [...]float64{d.Pods, d.N, d.NE, d.E, d.NL, d.Slow, d.SlowN, d.CPU, d.CPUTime, d.CPUN, d.Mem, d.MemPods, d.MemMax, d.Restart, d.OOM} {
		if !sane(x) {
			return errors.New("a count is negative or out of range")
		}
	}
	for i := range d.Hist {
		if !sane(d.Hist[i]) || !sane(d.Young[i]) {
			return errors.New("a bucket is negative or out of range")
		}
	}
	return nil
}

func (d *delta) add(o *delta) {
	d.Has |= o.Has
	d.N += o.N
	d.NE += o.NE
	d.E += o.E
	d.NL += o.NL
	d.Slow += o.Slow
	d.SlowN += o.SlowN
	if o.NL > 0 {
		for i := range d.Hist {
			d.Hist[i] += o.Hist[i]
			d.Young[i] += o.Young[i]
		}
	}
	d.CPU += o.CPU
	d.CPUTime += o.CPUTime
	d.CPUN += o.CPUN
	d.Restart += o.Restart
	d.OOM += o.OOM
	if o.Has&HasMemory != 0 { // a level, not a count: the latest look stands
		if o.Pods > 0 && d.Pods > 0 {
			d.Mem, d.MemPods, d.MemMax = 0, 0, 0
		}
		d.Mem += o.Mem
		d.MemPods += o.MemPods
		d.MemMax = math.Max(d.MemMax, o.MemMax)
	}
	d.Pods = math.Max(d.Pods, o.Pods)
}

// hasBound says that a histogram has a bound at the latency limit.
const hasBound Has = 1 << 7

// faultKind says what was wrong with a reading that was left out.
type faultKind uint8

const (
	noFault faultKind = iota
	notFinite
	negative
	tooManyErrors
	brokenHistogram
	foreignLayout
)

var faultWords = [...]string{"", "is not a number", "is negative", "has more errors than requests", "has a broken histogram", "has a histogram with no bound in common"}

// fault names the first reading that was dropped in a look, and counts them.
type fault struct {
	kind faultKind
	rev  string
	pod  string
	n    int
}

func (f *fault) note(k faultKind, rev, pod string) {
	if f.n == 0 {
		f.kind, f.rev, f.pod = k, rev, pod
	}
	f.n++
}

// ingest turns the cumulative counters of one arm's pods into what they counted
// since the judge last saw them.
//
// A pod's first reading is a baseline and counts nothing, unless the pod
// started after the look before: then all that it counted is new. A counter
// that fell, or a start later than the last reading, is a restart: what it
// shows was counted since. A reading that cannot be true is left out and named,
// and the next honest one covers its time too.
func (j *Judge) ingest(arm int, rev string, pods []Pod, now int64) {
	out := &j.arms[arm]
	*out = delta{}
	list := j.seenPods[arm][:0]
	for i := range pods {
		in := &pods[i]
		key := podKey{rev, in.Name}
		p := j.pods[key]
		isNew := p == nil
		if isNew {
			p = &pod{Rev: rev, Name: in.Name}
			j.pods[key] = p
		} else if p.Seen == now {
			continue // the same name twice in one look
		}
		k := j.podDelta(p, in, isNew, now)
		if k != noFault {
			j.fault.note(k, rev, in.Name)
		} else if arm == stableArm && isNew && p.d.N == 0 && p.Has&HasErrors != 0 {
			j.s.Evidence.learnPast(p.N, p.E) // a baseline: it counts nothing, and tells something
		}
		p.Seen = now
		p.d.Pods = 0
		out.add(&p.d)
		if p.d.Has != 0 {
			out.Pods++
		}
		list = append(list, p)
	}
	j.seenPods[arm] = list
}

// podDelta writes p.d and takes in's counters as the new baseline.
func (j *Judge) podDelta(p *pod, in *Pod, isNew bool, now int64) faultKind {
	p.d = delta{}
	started := nanos(in.Started)
	// fresh: everything this pod shows was counted since the last look.
	fresh := started != 0 && j.s.Last != 0 && started >= j.s.Last && isNew
	reborn := !isNew && started != 0 && p.Started != 0 && started > p.Started && started >= p.Seen
	p.Started = started
	worst := noFault
	if in.Has&HasRequests != 0 {
		worst = j.requests(p, in, fresh, reborn, now)
	}
	if k := cpuDelta(p, in, fresh, reborn, now); k != noFault {
		worst = k
	}
	if in.Has&HasMemory != 0 {
		if sane(in.MemoryBytes) {
			p.d.Has |= HasMemory
			p.d.Mem, p.d.MemPods, p.d.MemMax = in.MemoryBytes, 1, in.MemoryBytes
			p.Mem = in.MemoryBytes
		} else {
			worst = faultOf(in.MemoryBytes)
		}
	}
	if in.Has&HasRestarts != 0 {
		if !sane(in.Restarts) || !sane(in.OOMKills) {
			return faultOf(math.Min(in.Restarts, in.OOMKills))
		}
		p.d.Has |= HasRestarts
		if p.Has&HasRestarts != 0 || fresh {
			p.d.Restart = math.Max(0, in.Restarts-p.Restart)
			p.d.OOM = math.Max(0, in.OOMKills-p.OOM)
		}
		p.Has |= HasRestarts
		p.Restart, p.OOM = in.Restarts, in.OOMKills
	}
	return worst
}

func faultOf(x float64) faultKind {
	if x < 0 {
		return negative
	}
	return notFinite
}

func cpuDelta(p *pod, in *Pod, fresh, reborn bool, now int64) faultKind {
	if in.Has&HasCPU == 0 {
		return noFault
	}
	if !sane(in.CPUSeconds) {
		return faultOf(in.CPUSeconds)
	}
	from := p.CPUAt
	switch {
	case p.Has&HasCPU == 0 && !fresh:
		from = 0
	case p.Has&HasCPU == 0 || reborn || in.CPUSeconds < p.CPU:
		p.d.CPU = in.CPUSeconds
		from = max(from, p.Started)
	default:
		p.d.CPU = in.CPUSeconds - p.CPU
	}
	if from != 0 && now > from {
		p.d.Has |= HasCPU
		p.d.CPUTime = float64(now-from) / 1e9
		p.d.CPUN = p.d.N
	} else {
		p.d.CPU = 0
	}
	p.Has |= HasCPU
	p.CPU, p.CPUAt = in.CPUSeconds, now
	return noFault
}

// requests takes the counters that belong together: requests, errors and the
// histogram come from one process and are reset together.
func (j *Judge) requests(p *pod, in *Pod, fresh, reborn bool, now int64) faultKind {
	if !sane(in.Requests) {
		return faultOf(in.Requests)
	}
	hasE, hasL := in.Has&HasErrors != 0, in.Has&HasLatency != 0
	if hasE && !sane(in.Errors) {
		return faultOf(in.Errors)
	}
	if hasE && in.Errors > in.Requests+skew(in.Requests) {
		return tooManyErrors
	}
	if hasL {
		if k := checkHistogram(&in.Latency, in.Requests); k != noFault {
			return k
		}
	}
	known := p.Has&HasRequests != 0
	reset := reborn || known && (in.Requests < p.N || hasE && p.Has&HasErrors != 0 && in.Errors < p.E)
	if known && !reset && hasL && p.Has&HasLatency != 0 && j.sameLayout(p, &in.Latency) {
		for i, c := range in.Latency.Count {
			if c < p.Hist[i] {
				reset = true
				break
			}
		}
	}
	if reset {
		p.N, p.E, p.HistN = 0, 0, 0
		clear(p.Hist)
		p.First = 0
	}
	count := known || fresh
	d := &p.d
	kind := noFault
	if count {
		d.Has |= HasRequests
		d.N = in.Requests - p.N
	} else {
		d.Has |= HasRequests // it reports; there is nothing to count yet
	}
	base := in.Errors
	if hasE {
		d.Has |= HasErrors
		if count && (p.Has&HasErrors != 0 || fresh || reset) {
			d.NE, d.E = d.N, in.Errors-p.E
			switch over := d.E - d.N; {
			case over > skew(d.N):
				// The two counters do not belong together: nothing of
				// this tick can be believed.
				d.NE, d.E, d.N = 0, 0, 0
				kind = tooManyErrors
			case over > 0:
				// Read a moment apart: the rest belongs to the next tick.
				d.E = d.N
				base = in.Errors - over
			}
		}
		p.E = base
	}
	if hasL && kind == noFault {
		kind = j.latency(p, in, count && (p.Has&HasLatency != 0 || fresh || reset), now)
	}
	if p.First == 0 && in.Requests > 0 {
		p.First = now
		if j.s.Last == 0 {
			// It was there before we were.
			p.First = max(1, p.Started)
		}
	}
	p.Has = p.Has&^(HasRequests|HasErrors|HasLatency) | in.Has&(HasRequests|HasErrors|HasLatency)
	p.N = in.Requests
	return kind
}

// skew is by how much two counters of one process may disagree because they
// were not read at one instant.
func skew(n float64) float64 { return 2 + 0.02*n }

func checkHistogram(h *Histogram, n float64) faultKind {
	if len(h.LE) != len(h.Count) || len(h.LE) == 0 || len(h.LE) > maxRaw {
		return brokenHistogram
	}
	for i := range h.LE {
		if !sane(h.Count[i]) || !(h.LE[i] > 0) || math.IsInf(h.LE[i], 0) {
			return brokenHistogram
		}
		if i > 0 && (h.LE[i] <= h.LE[i-1] || h.Count[i] < h.Count[i-1]) {
			return brokenHistogram
		}
	}
	if h.Count[len(h.Count)-1] > n+skew(n) {
		return brokenHistogram
	}
	return noFault
}

// bounds gives the pod's layout as last seen.
func (j *Judge) bounds(p *pod) []float64 {
	if len(p.LE) > 0 {
		return p.LE
	}
	return j.s.Layout
}

func (j *Judge) sameLayout(p *pod, h *Histogram) bool {
	return len(p.Hist) == len(h.LE) && equalFloats(j.bounds(p), h.LE)
}

// sameBound compares bounds that may have come through other units.
func sameBound(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Abs(b) && b != 0 }

func equalFloats(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// latency adds the pod's histogram to d, in the common layout.
func (j *Judge) latency(p *pod, in *Pod, count bool, now int64) faultKind {
	h := &in.Latency
	d := &p.d
	if !equalFloats(j.s.Layout, h.LE) && !j.fitLayout(h) {
		return foreignLayout
	}
	if !j.sameLayout(p, h) {
		// Another layout: its counts do not continue the ones before.
		p.Hist = append(p.Hist[:0], h.Count...)
		p.HistN = in.Requests
		p.LE = p.LE[:0]
		if !equalFloats(j.s.Layout, h.LE) {
			p.LE = append(p.LE, h.LE...)
		}
		if count && p.N == 0 { // all of it is new
			clear(p.Hist)
			p.HistN = 0
		} else {
			count = false
		}
	}
	d.Has |= HasLatency
	for _, le := range h.LE {
		if sameBound(le, j.slowBound) {
			d.Has |= hasBound
			break
		}
	}
	if count {
		// Both layouts rise; every common bound lies in the pod's layout.
		n := math.Max(in.Requests-p.HistN, 0)
		prev, k, last := 0.0, 0, 0.0
		slowLE := j.slowBound
		for i, le := range h.LE {
			c := math.Min(h.Count[i]-p.Hist[i], n)
			if c < last {
				c = last
			}
			last = c
			if sameBound(le, slowLE) {
				d.Slow, d.SlowN = n-c, n
			}
			if k < len(j.s.Layout) && le == j.s.Layout[k] {
				d.Hist[k] = c - prev
				prev = c
				k++
			}
		}
		d.Hist[len(j.s.Layout)] = n - prev
		d.NL = n
		if p.young(now) {
			d.Young = d.Hist
		}
	}
	copy(p.Hist, h.Count)
	p.HistN = in.Requests
	return noFault
}

// fitLayout makes the common layout one that every bound of it has in h, and
// reports whether any is left. The first histogram seen sets the layout.
func (j *Judge) fitLayout(h *Histogram) bool {
	if len(j.s.Layout) == 0 {
		if len(h.LE) > maxBounds {
			j.s.Layout = mergeLayout(h, maxBounds, j.slowBound)
			return true
		}
		j.s.Layout = append([]float64(nil), h.LE...)
		return true
	}
	k := 0
	for _, le := range h.LE {
		if k < len(j.s.Layout) && le == j.s.Layout[k] {
			k++
		}
	}
	if k == len(j.s.Layout) {
		return true
	}
	var common []float64
	for _, b := range j.s.Layout {
		for _, le := range h.LE {
			if le == b {
				common = append(common, b)
				break
			}
		}
	}
	if len(common) == 0 {
		return false
	}
	j.coarsen(common)
	return true
}

// mergeLayout leaves n bounds of h, spread evenly over the logarithm of the
// time; keep stays. What the counts are does not matter: a layout is chosen
// once, often before there is any traffic, and has to serve for what a later
// version may do. Bounds outside of a millisecond to half a minute, where few
// services live, count for little.
func mergeLayout(h *Histogram, n int, keep float64) []float64 {
	le := append([]float64(nil), h.LE...)
	for len(le) > n {
		best, at := math.Inf(1), len(le)-1
		for i := range le {
			if sameBound(le[i], keep) {
				continue
			}
			lo, hi := le[i]/2, le[i]*2
			if i > 0 {
				lo = le[i-1]
			}
			if i+1 < len(le) {
				hi = le[i+1]
			}
			w := math.Log(hi / lo)
			if le[i] < 1 || le[i] > 30_000 {
				w /= 20
			}
			if w < best {
				best, at = w, i
			}
		}
		le = append(le[:at], le[at+1:]...)
	}
	return le
}

// coarsen moves everything that is kept per bucket to fewer bounds.
func (j *Judge) coarsen(to []float64) {
	from := j.s.Layout
	for _, p := range j.pods {
		if len(p.Hist) == len(from) && len(p.LE) == 0 {
			p.LE = append([]float64(nil), from...)
		}
		if equalFloats(p.LE, to) {
			p.LE = nil
		}
		p.d.Hist = rebin(p.d.Hist, from, to)
		p.d.Young = rebin(p.d.Young, from, to)
	}
	for i := range j.s.Pending {
		j.s.Pending[i].Hist = rebin(j.s.Pending[i].Hist, from, to)
		j.s.Pending[i].Young = rebin(j.s.Pending[i].Young, from, to)
		j.arms[i].Hist = rebin(j.arms[i].Hist, from, to)
		j.arms[i].Young = rebin(j.arms[i].Young, from, to)
	}
	j.s.Evidence.coarsen(from, to)
	j.s.Layout = to
	j.refresh()
}

// rebin adds up buckets of the layout from into those of its subset to.
func rebin(h hist, from, to []float64) (out hist) {
	k := 0
	for i := 0; i <= len(from); i++ {
		out[k] += h[i]
		if i < len(from) && k < len(to) && from[i] == to[k] {
			k++
		}
	}
	return out
}

// forget drops the pods that have not been seen for long.
func (j *Judge) forget(now int64) {
	for k, p := range j.pods {
		if now-p.Seen > int64(podMemory) {
			delete(j.pods, k)
		}
	}
}
