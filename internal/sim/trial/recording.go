package trial

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/record"
)

// Recording is what the pods of one version counted for a while, as increases
// from look to look. Played again, some of its pods are shown as the canary:
// they answered like the others, so a rollback is a false one, unless harm was
// added.
type Recording struct {
	from  string
	pods  []string
	le    []float64 // bounds of the histograms; nil = none
	ticks []recordedTick
	every time.Duration

	total float64 // requests
	fails float64
	span  time.Duration
}

type recordedTick struct {
	dt   time.Duration
	pods []recordedPod // by index in Recording.pods
}

// recordedPod is one pod's increase; not seen where n is negative.
type recordedPod struct {
	n, e     float64
	cpu, mem float64
	has      analysis.Has
	restarts float64
	h        []float64 // by bucket, the overflow last
}

const (
	mostTicks = 200_000
	mostPods  = 200
	// longestGap between looks is played again as if it had not been.
	longestGap = 5 * time.Minute
	// leastSpan is the shortest recording that says something.
	leastSpan = 10 * time.Minute
)

// recorder makes a Recording from looks in the order of time.
type recorder struct {
	r    Recording
	at   map[string]int
	last map[string]analysis.Pod
	when time.Time

	least time.Duration
}

func newRecorder(from string) *recorder {
	return &recorder{least: leastSpan, r: Recording{from: from}, at: map[string]int{}, last: map[string]analysis.Pod{}}
}

func (b *recorder) look(now time.Time, pods []analysis.Pod) error {
	if !b.when.IsZero() && !now.After(b.when) {
		return nil
	}
	t := recordedTick{}
	if !b.when.IsZero() {
		t.dt = now.Sub(b.when)
	}
	for _, p := range pods {
		i, known := b.at[p.Name]
		if !known {
			if i = len(b.r.pods); i >= mostPods {
				return fmt.Errorf("more than %d pods", mostPods)
			}
			b.at[p.Name] = i
			b.r.pods = append(b.r.pods, p.Name)
		}
		for len(t.pods) <= i {
			t.pods = append(t.pods, recordedPod{n: -1})
		}
		if before, ok := b.last[p.Name]; ok && p.Has&analysis.HasRequests != 0 {
			t.pods[i] = b.increase(&before, &p)
		}
		b.last[p.Name] = p
	}
	if b.when = now; t.dt == 0 || t.dt > longestGap {
		return nil
	}
	if len(b.r.ticks) >= mostTicks {
		return fmt.Errorf("more than %d looks", mostTicks)
	}
	for i := range t.pods {
		if p := &t.pods[i]; p.n >= 0 {
			b.r.total += p.n
			b.r.fails += p.e
		}
	}
	b.r.span += t.dt
	b.r.ticks = append(b.r.ticks, t)
	return nil
}

func (b *recorder) increase(before, p *analysis.Pod) recordedPod {
	restarted := p.Requests < before.Requests
	from := func(now, before float64) float64 {
		if restarted || now < before {
			return now
		}
		return now - before
	}
	d := recordedPod{n: math.Round(from(p.Requests, before.Requests)), has: p.Has, mem: p.MemoryBytes}
	d.e = math.Min(d.n, math.Round(from(p.Errors, before.Errors)))
	d.cpu, d.restarts = from(p.CPUSeconds, before.CPUSeconds), math.Max(0, p.Restarts-before.Restarts)
	if p.Has&analysis.HasLatency == 0 {
		return d
	}
	if b.r.le == nil {
		b.r.le = slices.Clone(p.Latency.LE)
	}
	if !slices.Equal(b.r.le, p.Latency.LE) || len(p.Latency.Count) != len(b.r.le) {
		d.has &^= analysis.HasLatency // another layout for a while
		return d
	}
	d.h = make([]float64, len(b.r.le)+1)
	below := 0.0
	for i, c := range p.Latency.Count {
		was := 0.0
		if len(before.Latency.Count) == len(b.r.le) {
			was = before.Latency.Count[i]
		}
		upTo := math.Max(below, math.Round(from(c, was)))
		d.h[i] = upTo - below
		below = upTo
	}
	d.h[len(b.r.le)] = math.Max(0, d.n-below)
	return d
}

// done checks that there is enough to play with.
func (b *recorder) done() (*Recording, error) {
	r := &b.r
	for i := range r.ticks {
		for len(r.ticks[i].pods) < len(r.pods) {
			r.ticks[i].pods = append(r.ticks[i].pods, recordedPod{n: -1})
		}
	}
	var errs []error
	if len(r.pods) < 2 {
		errs = append(errs, fmt.Errorf("%s: %d pods: at least 2 are needed, one of which plays the canary", r.from, len(r.pods)))
	}
	if r.span < b.least {
		errs = append(errs, fmt.Errorf("%s: %s in all: at least %s are needed", r.from, short(r.span), short(b.least)))
	}
	if r.total <= 0 {
		errs = append(errs, fmt.Errorf("%s: no request was counted", r.from))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	gaps := make([]time.Duration, len(r.ticks))
	for i, t := range r.ticks {
		gaps[i] = t.dt
	}
	r.every = quantile(gaps, 0.5)
	return r, nil
}

// ReadRecord reads a record of a rollout or of a service at rest. The pods of
// the version that has the most traffic in the first line are taken.
func ReadRecord(in io.Reader, name string, warn func(string)) (*Recording, error) {
	reader := record.NewReader(in, warn)
	b := newRecorder(name)
	version := ""
	for {
		l, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return b.done()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if version == "" {
			for v := range l.Revisions {
				if version == "" || l.Traffic[v] > l.Traffic[version] || l.Traffic[v] == l.Traffic[version] && v < version {
					version = v
				}
			}
		}
		if l.Looked != nil && !*l.Looked {
			continue
		}
		var pods []analysis.Pod
		for n, p := range l.Revisions[version].Pods {
			pods = append(pods, p.Sample(n))
		}
		slices.SortFunc(pods, func(a, b analysis.Pod) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		})
		if err := b.look(l.Time, pods); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", name, reader.Number(), err)
		}
	}
}

// Rate is requests a second of all its pods.
func (r *Recording) Rate() float64 { return r.total / r.span.Seconds() }

// Base is the share of its requests that failed.
func (r *Recording) Base() float64 { return r.fails / r.total }

// Measured is what any of its pods had.
func (r *Recording) Measured() (has analysis.Has) {
	for i := range r.ticks {
		for _, p := range r.ticks[i].pods {
			has |= p.has
		}
	}
	return has
}

func (r *Recording) bounds() []float64 { return nil }

// About says what it is.
func (r *Recording) About() string {
	return fmt.Sprintf("%s: %s of %d pods, %.3g requests/s, %s of them failed, a look every %s; each pod in turn plays the canary",
		r.from, short(r.span), len(r.pods), r.Rate(), percent(r.Base()), short(r.every))
}

// Worlds plays it with the regression added to the pods that play the canary.
func (r *Recording) Worlds(g *Regression) (Worlds, error) {
	w := &recordedWorlds{r: r}
	if g == nil {
		return w, nil
	}
	w.g = g
	switch {
	case g.Error > 0 && g.Error <= r.Base():
		return nil, fmt.Errorf("%s: %s of the recorded requests failed already: more than that is meant", g.Text, percent(r.Base()))
	case g.Error > 0:
		w.inject = (g.Error - r.Base()) / (1 - r.Base())
	case r.le == nil:
		return nil, fmt.Errorf("%s: the recording has no latencies", g.Text)
	default:
		all := make([]float64, len(r.le)+1)
		for i := range r.ticks {
			for _, p := range r.ticks[i].pods {
				for k, c := range p.h {
					all[k] += c
				}
			}
		}
		sum := 0.0
		for _, c := range all {
			sum += c
		}
		if sum == 0 {
			return nil, fmt.Errorf("%s: the recording has no latencies", g.Text)
		}
		times, part := g.Slower, 1.0
		if g.Tail > 0 {
			times, part = 20, g.Tail
		}
		w.moves = stretch(r.le, times)
		w.slow = &shape{make([]float64, len(all)), make([]float64, len(all))}
		for j, c := range all {
			w.slow.stable[j] += c / sum
			w.slow.canary[j] += (1 - part) * c / sum
			for k, m := range w.moves[j] {
				w.slow.canary[k] += part * m * c / sum
			}
		}
	}
	return w, nil
}

// stretch says into which buckets the requests of a bucket go when each takes
// so many times as long. Within a bucket they are taken to lie evenly in
// proportion, the first bucket to begin at half its bound.
func stretch(le []float64, times float64) [][]float64 {
	moves := make([][]float64, len(le)+1)
	for j := range moves {
		moves[j] = make([]float64, len(le)+1)
		if j == len(le) {
			moves[j][j] = 1
			continue
		}
		low, high := le[j]/2, le[j]
		if j > 0 {
			low = le[j-1]
		}
		below := 0.0
		for k := range le {
			upTo := math.Min(1, math.Max(0, math.Log(le[k]/times/low)/math.Log(high/low)))
			moves[j][k] = math.Max(0, upTo-below)
			below = math.Max(below, upTo)
		}
		moves[j][len(le)] = 1 - below
	}
	return moves
}

type recordedWorlds struct {
	r      *Recording
	g      *Regression
	inject float64
	moves  [][]float64
	slow   *shape
}

func (w *recordedWorlds) Every() time.Duration { return w.r.every }
func (w *recordedWorlds) Replicas() int        { return len(w.r.pods) }

// History is a third of the recording, at most an hour.
func (w *recordedWorlds) History() time.Duration { return min(time.Hour, w.r.span/3) }

// New begins anywhere in the recording and plays it round: what comes after its
// end is its beginning. Which pods play the canary goes on from seed to seed.
func (w *recordedWorlds) New(seed uint64, history time.Duration) World {
	x := &recordedWorld{recordedWorlds: w, dice: rand.New(rand.NewPCG(seed, 0x5ec0)), onset: -1, t: -history}
	x.at = x.dice.IntN(len(w.r.ticks))
	n := len(w.r.pods)
	for i := range n {
		x.order = append(x.order, (i+int(seed%uint64(n)))%n)
	}
	x.start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(history)
	x.stable, x.canary = make([]player, n), make([]player, n)
	for i := range x.stable {
		x.stable[i].pod.Started = x.Now().Add(-4 * time.Hour)
	}
	return x
}

// player is a pod as it is shown.
type player struct {
	pod  analysis.Pod
	seen bool
}

type recordedWorld struct {
	*recordedWorlds
	dice           *rand.Rand
	at             int
	t              time.Duration
	start          time.Time
	order          []int // pods in the order in which they become the canary's
	stable, canary []player
	onset          time.Duration
	truth          Truth
}

func (w *recordedWorld) Now() time.Time         { return w.start.Add(w.t) }
func (w *recordedWorld) Elapsed() time.Duration { return w.t }
func (w *recordedWorld) Stable() []analysis.Pod { return shown(w.stable) }
func (w *recordedWorld) Canary() []analysis.Pod { return shown(w.canary) }

func shown(ps []player) []analysis.Pod {
	var out []analysis.Pod
	for i := range ps {
		if ps[i].seen {
			p := ps[i].pod
			p.Latency.Count = slices.Clone(p.Latency.Count)
			out = append(out, p)
		}
	}
	return out
}

// Truth has what was added by us: what the recording had of itself harms both.
func (w *recordedWorld) Truth() Truth {
	t := w.truth
	t.Wrong, t.Onset = w.g != nil, w.onset
	if w.g != nil {
		switch {
		case w.g.Slower > 0:
			t.Rate = w.r.Rate()
		case w.g.Tail > 0:
			t.Rate = w.r.Rate() * w.g.Tail
		default:
			t.Rate = w.r.Rate() * (w.g.Error - w.r.Base())
		}
	}
	return t
}

// Advance plays the next look. Of the pods, as many play the canary as the
// weight needs, and of both versions' requests as many are left out, by chance,
// as make the share exact.
func (w *recordedWorld) Advance(weight float64) {
	tick := &w.r.ticks[w.at]
	w.at = (w.at + 1) % len(w.r.ticks)
	k := 0
	if weight > 0 {
		k = min(len(w.order), max(1, int(math.Ceil(weight*float64(len(w.order))-1e-9))))
		if weight < 1 {
			k = min(k, len(w.order)-1)
		}
	}
	f := float64(k) / float64(len(w.order))
	keepC, keepS := 1.0, 1.0
	if f > 0 && f < 1 && weight < 1 {
		all := math.Min(f/weight, (1-f)/(1-weight))
		keepC, keepS = weight*all/f, (1-weight)*all/(1-f)
	}
	part := w.part(weight)
	if part > 0 && w.onset < 0 {
		w.onset = w.t
	}
	cn, sn := 0.0, 0.0
	for i, pod := range w.order {
		in := &tick.pods[pod]
		if i < k {
			cn += w.play(&w.canary[pod], "canary-"+w.r.pods[pod], in, keepC, part)
			w.stable[pod] = player{}
		} else {
			sn += w.play(&w.stable[pod], w.r.pods[pod], in, keepS, 0)
			w.canary[pod].seen = false
		}
	}
	w.truth.Exposed += cn
	if part > 0 {
		if w.slow != nil {
			if w.g.Over == 0 && cn > 0 && sn > 0 {
				w.truth.Info += w.slow.information(cn, sn)
			}
		} else {
			base := w.r.Base()
			w.truth.Info += information(cn, sn, base+(1-base)*w.inject*part, base)
		}
	}
	w.t += tick.dt
}

// part says how much of the regression is there now, 0 to 1.
func (w *recordedWorld) part(weight float64) float64 {
	g := w.g
	if g == nil || weight <= 0 || weight+1e-9 < g.From || w.t < g.After {
		return 0
	}
	if g.Over > 0 {
		return math.Min(1, math.Max(1e-9, float64(w.t-g.After)/float64(g.Over)))
	}
	return 1
}

// play adds a pod's increase to what is shown of it, and gives the requests.
func (w *recordedWorld) play(p *player, name string, in *recordedPod, keep, part float64) float64 {
	if p.seen = in.n >= 0; !p.seen {
		return 0
	}
	out := &p.pod
	if out.Started.IsZero() {
		out.Started = w.Now() // before this look's time has passed
	}
	out.Name, out.Has, out.MemoryBytes = name, in.has, in.mem
	e := w.binomial(in.e, keep)
	h := in.h
	good := 0.0
	if h == nil {
		good = w.binomial(in.n-in.e, keep)
	} else {
		// The histogram holds failures too: thin it, and take the count from it.
		h = make([]float64, len(in.h))
		n := 0.0
		for j, c := range in.h {
			h[j] = w.binomial(c, keep)
			n += h[j]
		}
		e = math.Min(e, n)
		good = n - e
	}
	if part > 0 && w.inject > 0 {
		bad := w.binomial(good, math.Min(1, w.inject*part))
		e, good = e+bad, good-bad
		w.truth.Harmed += bad
	}
	if part > 0 && w.moves != nil && h != nil {
		h = w.slower(h, part)
	}
	n := good + e
	out.Requests += n
	out.Errors += e
	out.CPUSeconds += in.cpu * keep
	out.Restarts += in.restarts
	if h != nil {
		if out.Latency.Count == nil {
			out.Latency = analysis.Histogram{LE: w.r.le, Count: make([]float64, len(w.r.le))}
		}
		sum := 0.0
		for j := range w.r.le {
			sum += h[j]
			out.Latency.Count[j] += sum
		}
	}
	return n
}

// slower moves requests into later buckets.
func (w *recordedWorld) slower(h []float64, part float64) []float64 {
	moves, share := w.moves, 1.0
	if w.g.Slower > 0 && part < 1 {
		moves = stretch(w.r.le, math.Pow(w.g.Slower, part))
	}
	if w.g.Tail > 0 {
		share = w.g.Tail * part
	}
	out := make([]float64, len(h))
	for j, c := range h {
		moved := w.binomial(c, share)
		out[j] += c - moved
		w.truth.Harmed += moved
		rest := 1.0
		for k, m := range moves[j] {
			if moved <= 0 || rest <= 1e-12 {
				break
			}
			x := w.binomial(moved, math.Min(1, m/rest))
			out[k] += x
			moved -= x
			rest -= m
		}
		out[len(out)-1] += moved
	}
	return out
}

// binomial draws how many of n are kept, each with probability p: exactly where
// few are, by a rounded normal where the two cannot be told apart.
func (w *recordedWorld) binomial(n, p float64) float64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - w.binomial(n, 1-p)
	case n*p > 60:
		return math.Min(n, math.Max(0, math.Round(n*p+math.Sqrt(n*p*(1-p))*w.dice.NormFloat64())))
	}
	// Gaps between those that are kept are geometric.
	lq, at, k := math.Log1p(-p), 0.0, 0.0
	for {
		at += math.Floor(math.Log(1-w.dice.Float64())/lq) + 1
		if at > n {
			return k
		}
		k++
	}
}
