// Command stage is a dashboard with rollouts that nobody runs: as many as are
// asked for, of every kind, or with texts that are meant to hurt the page. The
// browser's tests and bench-dashboard look at it where a real host would not
// have so many, or would refuse such names.
//
//	stage -n 2000 -active 100 -every 1s    prints its address, and that of /stats
//	stage -hostile                         texts that look like markup
//	stage -viewers URL -count 100 -for 20s reads the list's stream as so many viewers would
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

func main() {
	n := flag.Int("n", 2000, "rollouts")
	active := flag.Int("active", 100, "of them under way")
	every := flag.Duration("every", time.Second, "how often each of these changes")
	lag := flag.Bool("lag", false, "lines say in `until` when they were made")
	hostile := flag.Bool("hostile", false, "texts that look like markup")
	viewers := flag.String("viewers", "", "look at this address instead")
	viewersCount := flag.Int("count", 100, "viewers")
	viewersFor := flag.Duration("for", 20*time.Second, "how long they look")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *viewers != "" {
		err = look(ctx, *viewers, *viewersCount, *viewersFor)
	} else {
		err = serve(ctx, *n, *active, *every, *hostile, *lag)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, n, active int, every time.Duration, hostile, lag bool) error {
	relay := httpapi.NewRelay(nobody{}, httpapi.Info{Version: "stage"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	stats, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var published atomic.Int64
	s := &scene{lag: lag, r: rand.New(rand.NewPCG(1, 1)), began: time.Now()}
	if hostile {
		for i, v := range s.hostile() {
			v.Name = fmt.Sprintf("%02d %s", i, v.Name)
			relay.Publish(v)
		}
		n = 0
	}
	// An hour of history of those under way, as a host that has run as long has it.
	for i := range n {
		if i < active {
			for at := time.Hour; at > 0; at -= 10 * time.Second {
				relay.Publish(s.view(i, active, time.Now().Add(-at)))
			}
		}
		relay.Publish(s.view(i, active, time.Now()))
	}
	debug.SetGCPercent(50) // as `serin dashboard` does
	debug.FreeOSMemory()   // what making an hour of history in a moment left behind is nobody's
	keys := httpapi.NewKeys("owner")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	fmt.Printf("http://%s/?token=%s\nhttp://%s/stats\n", l.Addr(), keys.Full, stats.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(map[string]any{"rss": rss(), "heap": m.HeapAlloc, "published": published.Load(), "goroutines": runtime.NumGoroutine()})
	})
	mux.HandleFunc("/heap", func(w http.ResponseWriter, _ *http.Request) { // for `go tool pprof`
		runtime.GC()
		_ = pprof.WriteHeapProfile(w)
	})
	control := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = control.Serve(stats) }()
	defer control.Close()
	if active > 0 && n > 0 {
		go func() {
			t := time.NewTicker(every / time.Duration(active))
			defer t.Stop()
			for i := 0; ; i = (i + 1) % active {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
					relay.Publish(s.view(i, active, time.Now()))
					published.Add(1)
				}
			}
		}()
	}
	return httpapi.NewServer(relay).ServeWeb(ctx, l, httpapi.WebOptions{Authorizer: keys, Port: port, Link: true})
}

// rss is the process's resident memory, in bytes; 0 where it cannot be told.
func rss() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

type nobody struct{}

func (nobody) List(context.Context) ([]httpapi.RolloutView, error) { return nil, nil }

func (nobody) Watch(ctx context.Context, _ httpapi.Ref, _ func(httpapi.Update) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func (nobody) Command(context.Context, httpapi.Ref, rollout.Command) (httpapi.Answer, error) {
	return httpapi.Answer{}, &httpapi.Refusal{Why: "nobody runs this"}
}

// scene makes views that look like a company's.
type scene struct {
	lag   bool
	r     *rand.Rand
	began time.Time
}

var (
	teams = []string{"shop", "search", "payments", "accounts", "media", "ads", "platform", "data", "mobile", "logistics"}
	parts = []string{"api", "web", "worker", "gateway", "cache", "index", "ledger", "mailer", "images", "cart", "checkout", "feed", "rank", "auth"}
)

func (s *scene) view(i, active int, now time.Time) httpapi.RolloutView {
	v := httpapi.RolloutView{
		Namespace: teams[i%len(teams)], Name: fmt.Sprintf("%s-%03d", parts[(i/len(teams))%len(parts)], i), Time: now,
		Phase: rollout.Idle, N: 20, Message: "v1 is stable and has all the traffic.",
		Stable: version(fmt.Sprintf("v1.%d.0", i%40), 3, 3),
	}
	for k := range 50 { // as full as it gets
		at := s.began.Add(-time.Duration(50-k) * time.Minute)
		e := rollout.Event{
			N: k + 1, At: at, By: "rule", What: rollout.EvStepStarted, From: "5 %", To: "25 %",
			Why: fmt.Sprintf("Errors 0.31 %% (%d of 12,204) against 0.29 %% (310 of 109,911) on stable over 5 min, p90 latency 7.26 ms against 5.11 ms.", k),
		}
		if k%2 == 0 { // as many as in a real release of five steps
			e.Figures = figures(s.r, 0.003, 0.003)
		}
		v.Decisions = append(v.Decisions, e)
	}
	for k := range 10 {
		at := s.began.Add(-time.Duration(10-k) * 26 * time.Hour)
		v.History = append(v.History, rollout.Outcome{
			Revision: rollout.NewRevision(fmt.Sprintf("v1.%d.%d", i%40, k), "aa"), Result: rollout.Promoted, By: "rule", Started: at.Add(-40 * time.Minute), Ended: at, Exposed: 182000, Harmed: 0,
		})
	}
	if i%97 == 5 && i >= active {
		o := &v.History[len(v.History)-1]
		o.Result, o.Why, o.Harmed = rollout.RolledBack, "Errors 3.16 % (38 of 1,204), 0.28 % (31 of 10,911) on stable.", 35
		v.Condemned = []rollout.Revision{o.Revision}
	}
	if i >= active {
		return v
	}
	started := s.began.Add(-time.Duration(20+i%30) * time.Minute)
	w := []rollout.Weight{500, 2500, 5000, 7500}[min(3, int(max(0, now.Sub(started))/(time.Duration(8+i%7)*time.Minute)))]
	seen := float64(w)/10000 + s.r.NormFloat64()*0.002
	until := now.Truncate(time.Minute).Add(time.Duration(2+i%9) * time.Minute)
	if s.lag { // the bench tells by it how old a line is
		until = now
	}
	v.Phase, v.Step, v.Steps, v.Started, v.Live = rollout.Progressing, 2, 5, &started, true
	v.Canary = version(fmt.Sprintf("v1.%d.0", i%40+1), 2, 2)
	v.WeightSet, v.WeightSeen = w, &seen
	v.Verdict, v.Evidence = analysis.Undecided, httpapi.EvidenceView{Rollback: 0.02, Advance: 0.2 + 0.7*s.r.Float64()}
	v.Exposed, v.Harmed = 12000+float64(i)*37, float64(i%4)*0.7
	v.Waiting, v.Until = rollout.WaitEvidence, &until
	k := 30 + s.r.IntN(9)
	v.Sentence = fmt.Sprintf("Errors %.2f %% (%d of 12,2%02d) against 0.%02d %% (%d of 109,9%02d) on stable over 5 min; %.0f %% of the evidence that takes.",
		float64(k)/122.04, k, s.r.IntN(100), 25+s.r.IntN(9), 280+s.r.IntN(60), s.r.IntN(100), 100*v.Evidence.Advance)
	v.Message = fmt.Sprintf("v1.%d.0 gets %s until there is evidence, at the latest in %d s.", i%40+1, w, 30+s.r.IntN(90))
	bad := 0.003
	switch i % 25 {
	case 3:
		v.Waiting, v.Verdict, v.Until = rollout.WaitApproval, analysis.Pass, nil
	case 8:
		v.Verdict, v.Evidence, bad = analysis.Fail, httpapi.EvidenceView{Rollback: 1}, 0.04
	case 13:
		v.Verdict, v.Evidence, v.Waiting = analysis.Unavailable, httpapi.EvidenceView{}, rollout.WaitData
	case 18:
		v.Drift = &httpapi.DriftView{Manager: "argocd-controller", Flips: 3, Fighting: true, Foreign: true, Split: "v1.3.0 100 %", Remedy: "ignoreDifferences:\n- group: networking.istio.io\n  kind: VirtualService\n  jqPathExpressions: [.spec.http[].route[].weight]"}
	case 21:
		v.Verdict, v.Evidence.Advance = analysis.Pass, 1
	}
	v.Figures = figures(s.r, bad, 0.003)
	return v
}

func version(label string, replicas, ready int) *httpapi.VersionView {
	return &httpapi.VersionView{Revision: rollout.NewRevision(label, "aa"), Version: label, Name: "app-" + label, Replicas: replicas, Ready: &ready}
}

func figures(r *rand.Rand, canary, stable float64) []analysis.Figure {
	c, st := canary*(0.8+0.4*r.Float64()), stable*(0.9+0.2*r.Float64())
	state := "ok"
	if c > 0.02 {
		state = "firing"
	}
	return []analysis.Figure{
		{Metric: "errorRate", Unit: "share", Canary: c, Stable: st, CanaryN: 12204, StableN: 109911, Low: c - st - 0.002, High: c - st + 0.003, Limit: 0.01, Window: 5 * time.Minute, State: state},
		{Metric: "latency", Unit: "ms", Canary: 7.2 + r.Float64(), Stable: 6.9 + r.Float64()/4, CanaryN: 12204, StableN: 109911, Window: 5 * time.Minute, State: "ok"},
		{Metric: "memory", Unit: "bytes", Canary: 81e6, Stable: 79e6, State: "ok"},
	}
}

// hostile gives a view for each text that a page might take for markup, with
// that text wherever a text from outside can stand.
func (s *scene) hostile() (out []httpapi.RolloutView) {
	for i, x := range []string{
		`<script>window.hurt=1</script>`, `</script><script>window.hurt=1</script>`, `"><img src=x onerror="window.hurt=1">`, `'-(window.hurt=1)-'`,
		`<svg onload=window.hurt=1>`, `javascript:window.hurt=1`, `<!--<script>`, `{{constructor.constructor('window.hurt=1')()}}`,
		`<iframe srcdoc='<script>parent.hurt=1</script>'></iframe>`, "\u2028window.hurt=1\u2029", `&lt;script&gt;window.hurt=1`, `<a href="javascript:window.hurt=1" autofocus onfocus="window.hurt=1">x</a>`,
		`<style>*{display:none}</style>`, `" style="position:fixed;inset:0`, "\x00\x1b[31m\u202eturned", `constructor`, `__proto__`, strings.Repeat("W", 300),
	} {
		v := s.view(i, 100, time.Now())
		v.Phase, v.Waiting, v.Verdict = rollout.Progressing, rollout.WaitFor(x), analysis.Undecided
		v.Namespace, v.Name, v.Message, v.Sentence, v.Stalled, v.Paused, v.Previous = x, x, x, x, x, x, x
		v.Canary, v.Stable = version(x, 2, 1), version(x, 2, 1)
		v.Canary.Why, v.Stable.Why, v.Canary.Name = x, x, x
		v.StepsList = []httpapi.StepView{{Kind: rollout.StepKind(x), Text: x, State: "current", By: []string{x}, Approved: x}}
		v.Decisions = []rollout.Event{{N: 1, At: time.Now(), By: x, What: rollout.What(x), From: x, To: x, Why: x, Figures: []analysis.Figure{{Metric: x, Unit: x, State: x, Canary: 1, Stable: 2, Limit: 3, Low: -1, High: 1}}}}
		v.Figures = []analysis.Figure{{Metric: x, Unit: x, State: x, Canary: 1, Stable: 2, Limit: 3, Low: -1, High: 1}, {Metric: "errorRate", Unit: "share", Canary: 0.1, Stable: 0.1, State: "ok"}}
		v.Findings = []rollout.Finding{{Level: rollout.Level(x), What: x, Remedy: x}}
		v.History = []rollout.Outcome{{Revision: rollout.Revision(x), From: rollout.Revision(x), Result: rollout.Result(x), By: x, Why: x}}
		v.Condemned = []rollout.Revision{rollout.Revision(x)}
		v.Drift = &httpapi.DriftView{Manager: x, Split: x, Remedy: x, Foreign: true, Fighting: true, Flips: 3}
		v.Offers = []httpapi.Offer{{Verb: rollout.VerbAbort, Effect: x}}
		out = append(out, v)
	}
	return out
}

// look reads the list's stream as many viewers, and says how late its lines are.
func look(ctx context.Context, url string, count int, length time.Duration) error {
	base, token, ok := strings.Cut(url, "/?token=")
	if !ok {
		return fmt.Errorf("want the address with its token")
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var mu sync.Mutex
	var lags []float64
	var events, bytes int64
	var wg sync.WaitGroup
	var failed error
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: count + 1}}
	for range count {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "GET", base+"/_serin/v1/events?briefs=true", nil)
			if err != nil {
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := client.Do(req)
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
				return
			}
			defer resp.Body.Close()
			in := bufio.NewReaderSize(resp.Body, 64<<10)
			begun := time.Now()
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				data, is := strings.CutPrefix(line, "data: ")
				if !is {
					continue
				}
				now := time.Now()
				var s struct {
					Until *time.Time `json:"until"`
				}
				if json.Unmarshal([]byte(data), &s) != nil {
					continue
				}
				mu.Lock()
				events++
				bytes += int64(len(line))
				if s.Until != nil && s.Until.After(begun.Add(2*time.Second)) { // not what was there at first
					lags = append(lags, float64(now.Sub(*s.Until))/1e6)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed != nil || len(lags) == 0 {
		return fmt.Errorf("nothing was read: %v", failed)
	}
	slices.Sort(lags)
	at := func(q float64) float64 { return lags[min(len(lags)-1, int(q*float64(len(lags))))] }
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"viewers": count, "seconds": length.Seconds(), "events": events, "bytes": bytes, "p50ms": at(0.5), "p99ms": at(0.99), "maxms": lags[len(lags)-1],
	})
}
