// Package podscrape is the judge's source in a cluster that needs no metrics
// server: every look asks the pods of both versions for their counters, all at
// the same time. It sees trouble within a look (1-2 s), before the next scrape
// of a metrics server would.
//
// # Nouns
//
// A [Scraper] is what all rollouts of a controller share: connections, and a
// bound on how many pods are asked at once. A [Source] is one rollout's view: it
// implements engine.Samples over the host's list of pods. A [Problem] says for
// one pod why there are no figures, by a [Reason].
//
// # Invariants
//
//   - A pod that does not answer in whole and in time gives no figures; it is
//     never zero. What the API server knows of it (restarts, kills for memory)
//     is still told.
//   - Only the address that the API server has for the pod is dialled, by
//     number, without a proxy, and no redirect is followed; addresses that no
//     pod of its own network has (loopback, link-local, metadata services,
//     multicast) are refused unless the host allows them.
//   - Answers are bounded in time and size. Nothing of an answer but numbers,
//     and nothing of its text, gets into an error.
//   - A panic over one pod's answer is that pod's Problem, of that look.
//   - A pod that hung is not asked at every look, so that one sick pod does not
//     slow the looks at the others.
//   - When Look returns, nothing that it began is still running.
//
// # Example
//
//	scraper := podscrape.New(podscrape.Options{})
//	defer scraper.Close()
//	ports.Samples = scraper.For(pods) // pods: metric.Pods of one rollout
package podscrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
)

// Options of a Scraper. The zero value is good for a cluster.
type Options struct {
	// Timeout of one pod's answer, the whole of it. 1 s.
	Timeout time.Duration
	// MaxBody is how many bytes of an answer are read. 16 MiB: a proxy with many
	// clusters tells a lot.
	MaxBody int64
	// Concurrency is how many pods of all rollouts are asked at once. 64.
	Concurrency int
	// Allow are ranges that are dialled although they are refused otherwise.
	Allow []netip.Prefix
	// Names are the conventions that are understood. metric.Known().
	Names []metric.Names
	Log   *slog.Logger     // of our own mistakes, with their stacks; nil: nowhere
	Now   func() time.Time // time.Now
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 16 << 20
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 64
	}
	if o.Names == nil {
		o.Names = metric.Known()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Scraper asks pods. Its methods may be called from several goroutines.
type Scraper struct {
	o      Options
	client *http.Client
	slots  chan struct{}
	words  *words
}

// New makes a scraper without connections.
func New(o Options) *Scraper {
	o = o.withDefaults()
	s := &Scraper{o: o, slots: make(chan struct{}, o.Concurrency), words: newWords(o.Names)}
	dialer := &net.Dialer{Timeout: o.Timeout, Control: s.control}
	s.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // never: a pod is asked itself
			DialContext:            dialer.DialContext,
			MaxIdleConnsPerHost:    1,
			MaxIdleConns:           4096,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // it would cost the pods more than the network
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// Close closes the connections that are not in use.
func (s *Scraper) Close() { s.client.CloseIdleConnections() }

// For gives one rollout's view.
func (s *Scraper) For(pods metric.Pods) *Source {
	return &Source{scraper: s, pods: pods, minds: map[string]*mind{}, names: -1}
}

// Source implements engine.Samples for one rollout.
type Source struct {
	scraper *Scraper
	pods    metric.Pods

	mu    sync.Mutex
	minds map[string]*mind // by pod
	names int              // the convention in force; -1 = none was seen yet
	last  Summary
}

// mind is what is remembered of a pod between looks.
type mind struct {
	address netip.Addr
	fails   int       // looks in a row in which it hung
	until   time.Time // it is not asked before
	native  bool      // its histogram is whole only in the binary format
	seen    bool      // in this look

	mistaken time.Time // when a mistake of our own over its answer was logged
}

// Summary says how the last look went.
type Summary struct {
	At       time.Time
	Took     time.Duration
	Spread   time.Duration // between the first and the last pod's answer
	Asked    int
	Answered int
	Names    string // the convention in force; "" = none was seen yet
	Problems []Problem
}

// Last tells of the last look.
func (s *Source) Last() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Problems says in words what was wrong in the last look.
func (s *Source) Problems() (out []string) {
	for _, p := range s.Last().Problems {
		out = append(out, p.String())
	}
	return out
}

// answer is what one pod gave.
type answer struct {
	pod     metric.Pod
	tally   *metric.Tally // nil = nothing
	at      time.Time
	native  bool
	problem Problem
	figures metric.Figures
	mistake *engine.PortPanic // over it
}

// Look asks every pod of both versions at once. The error is a [LookError] if
// no pod gave any figures.
func (s *Source) Look(ctx context.Context, stable, canary rollout.Revision) (engine.Sampled, error) {
	if err := ctx.Err(); err != nil {
		return engine.Sampled{}, err
	}
	began := s.scraper.o.Now()
	pods, arms, err := metric.Both(ctx, s.pods, stable, canary)
	if err != nil {
		return engine.Sampled{}, err
	}
	all := make([]answer, len(pods))
	for i, p := range pods {
		all[i].pod = p
	}
	s.ask(ctx, all, began)
	if err := ctx.Err(); err != nil {
		return engine.Sampled{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(all, arms[0])
	s.summarise(all, began)
	out := engine.Sampled{Stable: s.judged(all[:arms[0]]), Canary: s.judged(all[arms[0]:])}
	if s.last.Answered == 0 {
		return out, &LookError{Problems: s.last.Problems, Pods: len(all)}
	}
	return out, nil
}

// ask fills in the answers, all at once as far as there are slots.
func (s *Source) ask(ctx context.Context, all []answer, now time.Time) {
	var wg sync.WaitGroup
	for i := range all {
		a := &all[i]
		m, ask := s.mayAsk(&a.pod, now, &a.problem)
		if !ask {
			continue
		}
		wg.Go(func() { s.scraper.ask(ctx, a, m.native) })
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range all {
		s.remember(&all[i], now)
	}
	for name, m := range s.minds {
		if !m.seen {
			delete(s.minds, name)
		}
		m.seen = false
	}
}

// mayAsk says whether this pod is asked in this look.
func (s *Source) mayAsk(p *metric.Pod, now time.Time, problem *Problem) (mind, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.minds[p.Name]
	if m == nil || m.address != p.Address {
		m = &mind{address: p.Address}
		s.minds[p.Name] = m
	}
	m.seen = true
	no := func(r Reason, detail string) (mind, bool) {
		*problem = Problem{Pod: p.Name, Reason: r, Detail: detail}
		return *m, false
	}
	switch {
	case !p.Address.IsValid():
		return no(NoAddress, "")
	case p.Scrape.Off:
		return no(NotScraped, "its annotation prometheus.io/scrape is false")
	case p.Scrape.Port == 0 || !strings.HasPrefix(p.Scrape.Path, "/"):
		return no(NotScraped, "its annotations do not say where")
	case !s.scraper.allowed(p.Address):
		return no(AddressRefused, p.Address.String())
	case now.Before(m.until):
		return no(Hung, fmt.Sprintf("%d looks in a row; asked again soon", m.fails))
	}
	return *m, true
}

// mistakesEvery is how often a mistake of our own over a pod's answer is logged:
// it may come again at every look.
const mistakesEvery = 10 * time.Minute

// longestRest is how long a pod that hangs is left alone at most.
const longestRest = 5 * time.Second

func (s *Source) remember(a *answer, now time.Time) {
	m := s.minds[a.pod.Name]
	if a.mistake != nil && (m.mistaken.IsZero() || now.Sub(m.mistaken) >= mistakesEvery) {
		m.mistaken = now
		s.scraper.o.Log.Error("a mistake of this version of Serin: a pod gives no figures because of it", "pod", a.pod.Name,
			"what", a.mistake.What(), "stack", string(a.mistake.Stack))
	}
	switch {
	case a.tally != nil:
		m.fails, m.until = 0, time.Time{}
		m.native = a.native
	case a.problem.Reason == TimedOut:
		m.fails++
		if m.fails > 1 { // once may be chance
			m.until = now.Add(min(longestRest, time.Second<<min(m.fails-2, 8)))
		}
	}
}

// count turns tallies into figures, under the convention that is in force.
func (s *Source) count(all []answer, stable int) {
	tallies := make([]*metric.Tally, len(all))
	for i := range all {
		tallies[i] = all[i].tally
	}
	s.names = metric.Agree(s.names, tallies[:stable], tallies)
	var list []*metric.Figures
	for i := range all {
		a := &all[i]
		if a.tally == nil {
			continue
		}
		var lack metric.Lack
		var detail string
		if a.figures, lack, detail = a.tally.Read(s.names); lack != metric.Nothing {
			a.problem = Problem{Pod: a.pod.Name, Reason: reasons[lack], Detail: detail}
		}
		list = append(list, &a.figures)
	}
	metric.Blank(list)
}

var reasons = map[metric.Lack]Reason{
	metric.OtherNames: OtherNames, metric.NoCounters: NoCounters, metric.Malformed: Malformed, metric.Incomplete: Incomplete,
}

func (s *Source) judged(arm []answer) []analysis.Pod {
	var out []analysis.Pod
	for i := range arm {
		p := arm[i].pod.Judged()
		p.Name = metric.Identity(p.Name, "", s.scraper.o.Names, s.names)
		arm[i].figures.Put(&p)
		out = append(out, p)
	}
	return out
}

func (s *Source) summarise(all []answer, began time.Time) {
	sum := Summary{At: began, Took: s.scraper.o.Now().Sub(began), Asked: len(all)}
	if s.names >= 0 {
		sum.Names = s.scraper.o.Names[s.names].ID
	}
	var from, to time.Time
	for i := range all {
		a := &all[i]
		if a.problem.Reason != "" {
			sum.Problems = append(sum.Problems, a.problem)
		}
		if a.tally == nil {
			continue
		}
		if a.figures.Has != 0 {
			sum.Answered++
		}
		if from.IsZero() || a.at.Before(from) {
			from = a.at
		}
		if a.at.After(to) {
			to = a.at
		}
	}
	sum.Spread = to.Sub(from)
	s.last = sum
}

// control is asked before every connection, with the address as it is dialled.
func (s *Scraper) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !s.allowed(at.Addr()) {
		return errAddress
	}
	return nil
}

var errAddress = errors.New("this address is not dialled")

// allowed refuses what no pod of the cluster's own network has.
func (s *Scraper) allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if slices.ContainsFunc(s.o.Allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !slices.Contains(metadata, a)
}

// metadata are addresses of clouds' metadata services that are not link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("100.100.100.200"),
}
