package demo

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/daemon"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
)

//go:embed objects
var objects embed.FS

// Options of a demo.
type Options struct {
	Out     string    // folder for what it leaves; made if it is not there
	Rate    int       // requests per second, 50 to 5000
	Program string    // whose `demo-app` are the back ends
	Version string    // of the program
	Print   io.Writer // the timeline and the sums
	Rollout []byte    // the document with the steps; the demo's own if nil
}

// Expectation is one thing that the story promises.
type Expectation struct {
	What   string `json:"what"`
	Met    bool   `json:"met"`
	Detail string `json:"detail,omitempty"` // what was seen instead
}

// Result is how the story went.
type Result struct {
	Expectations []Expectation
	Sums         Sums
}

// Err names the expectations that were not met; nil if all were.
func (r *Result) Err() error {
	var wrong []string
	for _, e := range r.Expectations {
		if !e.Met {
			wrong = append(wrong, e.What+": "+e.Detail)
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("the story did not go as told:\n  %s", strings.Join(wrong, "\n  "))
}

const (
	appName = "my-app"
	bad     = 0.05 // share of requests that v3 fails
)

// Run tells the story. An error means that it could not be told to its end; a
// story that ended another way is in the Result. Either way nothing of it runs
// any more when Run returns.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	if o.Rate < 50 || o.Rate > 5000 {
		return nil, fmt.Errorf("a rate of %d requests per second cannot tell this story: want 50 to 5000", o.Rate)
	}
	if err := prepare(o.Out); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "serin-demo-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	if o.Rollout == nil {
		if o.Rollout, err = objects.ReadFile("objects/" + rolloutFile); err != nil {
			return nil, err
		}
	}
	t := &teller{o: o, begun: time.Now(), docs: filepath.Join(tmp, "docs"), changed: make(chan struct{})}
	if err := os.Mkdir(t.docs, 0o755); err != nil {
		return nil, err
	}
	for _, f := range []string{"00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml", rolloutFile} {
		if err := t.add(f); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(o.Out, daemonLog))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d, err := daemon.New(daemon.Options{
		Dir: t.docs, StateDir: filepath.Join(tmp, "state"), Socket: filepath.Join(tmp, "s"),
		Listen: "127.0.0.1:0", Dashboard: "127.0.0.1:0", Version: o.Version, Seed: 1,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Run: map[string][]string{
			"my-registry/my-app:v1": t.command("v1", 0),
			"my-registry/my-app:v2": t.command("v2", 0),
			"my-registry/my-app:v3": t.command("v3", bad),
		},
	})
	if err != nil {
		return nil, err
	}
	// The daemon outlives ctx until the load has ended: a Ctrl-C must not look
	// like failed requests.
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(serve) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	return t.tell(ctx, d)
}

// prepare makes the out folder and takes away what an earlier demo left there,
// and nothing else.
func prepare(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, f := range []string{clientFile, recordFile, storyFile, rolloutFile, daemonLog} {
		if err := os.Remove(filepath.Join(out, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	old, err := filepath.Glob(filepath.Join(out, backendsDir, "v*-*.jsonl"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(out, backendsDir), 0o755)
}

// teller tells one story.
type teller struct {
	o     Options
	begun time.Time
	docs  string

	mu      sync.Mutex
	view    httpapi.RolloutView
	history []rollout.Event // every decision, also those that left the view
	changed chan struct{}
	lost    error // why views no longer come
}

func (t *teller) command(version string, errors float64) []string {
	return []string{t.o.Program, "demo-app", "-version", version, "-errors", fmt.Sprint(errors), "-log", filepath.Join(t.o.Out, backendsDir)}
}

// add puts a document into the folder, whole or not at all.
func (t *teller) add(name string) error {
	b, err := objects.ReadFile("objects/" + name)
	if err != nil {
		return err
	}
	if name == rolloutFile {
		b = t.o.Rollout
	}
	tmp := filepath.Join(t.docs, ".new")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(t.docs, name))
}

func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.o.Print, "%6.1fs  %s\n", time.Since(t.begun).Seconds(), fmt.Sprintf(format, args...))
}

// tell is the story.
func (t *teller) tell(ctx context.Context, d *daemon.Daemon) (*Result, error) {
	c, err := dial(ctx, d.Socket())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	watching, enough := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { t.watch(watching, c) })
	defer watcher.Wait()
	defer enough()

	r := &Result{}
	expect := func(what string, met bool, detail string, args ...any) {
		e := Expectation{What: what, Met: met}
		if !met {
			e.Detail = fmt.Sprintf(detail, args...)
		}
		r.Expectations = append(r.Expectations, e)
	}

	t.say("v1 starts, three replicas; users' requests come to http://%s", d.Addr())
	t.say("watch it at %s", d.Dashboard())
	v, err := t.until(ctx, 30*time.Second, func(v httpapi.RolloutView) bool {
		return v.Phase == rollout.Idle && v.Stable != nil && v.Stable.Version == "v1" && v.Stable.Ready != nil && *v.Stable.Ready == 3
	})
	expect("v1 is the stable version, with three replicas ready", err == nil, "%v: %s", err, v.Message)
	if err == nil {
		select {
		case <-d.Opened():
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(30 * time.Second):
			err = errors.New("no request was let in")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("v1 did not come up: %w (%s)", err, v.Message)
	}
	load, stop, err := startLoad(ctx, d.Addr(), t.o.Rate, filepath.Join(t.o.Out, clientFile))
	if err != nil {
		return nil, err
	}
	defer stop()
	t.say("%d requests a second begin; none is ever repeated by its client", t.o.Rate)
	if err := t.sent(ctx, load, 4*t.o.Rate); err != nil {
		return nil, err
	}

	t.say("v2's Deployment appears in the folder. Nobody does anything else.")
	if err := t.add("04-deployment-v2.yaml"); err != nil {
		return nil, err
	}
	v, _ = t.until(ctx, 2*time.Minute, func(v httpapi.RolloutView) bool {
		return outcome(v, "v2") != nil && v.Phase == rollout.Idle
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	o := outcome(v, "v2")
	expect("v2 is promoted by itself", o != nil && o.Result == rollout.Promoted && o.By == "rule" || o != nil && o.Result == rollout.Promoted && o.By == "deadline", "%s", ending(o, v))
	got := t.steps("v2")
	expect("v2 gets 5, 25, 50, 75 and then 100 % of the traffic", slices.Equal(got, []string{"5 %", "25 %", "50 %", "75 %", "100 %"}), "it got %s", strings.Join(got, ", "))
	if o != nil && o.Result == rollout.Promoted {
		_, err = t.until(ctx, 90*time.Second, func(httpapi.RolloutView) bool { return t.at(rollout.EvRetired, "v1") != nil })
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		promoted, retired := t.at(rollout.EvPromoted, "v2"), t.at(rollout.EvRetired, "v1")
		expect("v1 is retired, and only after v2 is the stable version", promoted != nil && retired != nil && promoted.N < retired.N, "promoted: %s, retired: %s (%v)", eventText(promoted), eventText(retired), err)

		t.say("v3's Deployment appears. It fails 5 %% of what it is asked.")
		if err := t.add("05-deployment-v3.yaml"); err != nil {
			return nil, err
		}
		v, _ = t.until(ctx, 90*time.Second, func(v httpapi.RolloutView) bool {
			return outcome(v, "v3") != nil && v.Phase == rollout.Idle
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		o = outcome(v, "v3")
		expect("v3 is taken back by itself", o != nil && o.Result == rollout.RolledBack && o.By == "rule", "%s", ending(o, v))
		back := t.at(rollout.EvRolledBack, "")
		expect("v3 is taken back by evidence, beside v2 at the same time", back != nil && strings.Contains(back.Why, "by evidence") && strings.Contains(back.Why, "on stable"), "it was not: %s", eventText(back))
		expect("v3 is taken back before half of the users have met it", back != nil && (back.From == "5 %" || back.From == "25 %"), "it was not, or too late: %s", eventText(back))
		expect("v2 is the stable version still, and has everything", v.Stable != nil && v.Stable.Version == "v2" && v.Canary == nil && v.WeightSet == 0, "%s", v.Message)
		expect("what asks about it is told that it was rolled back", v.Exit == httpapi.ExitRolledBack && condition(v, "Ready") == "False", "exit code %d, Ready %s", v.Exit, condition(v, "Ready"))
		was, _ := load.counts()
		if err := t.sent(ctx, load, was+3*t.o.Rate); err != nil {
			return nil, err
		}
	}
	if err := stop(); err != nil {
		return nil, err
	}
	t.say("the load ends; every request is accounted for")
	return r, t.account(ctx, c, r, expect)
}

// account sums up, from the logs of both ends, and leaves everything in Out.
func (t *teller) account(ctx context.Context, c *httpapi.Client, r *Result, expect func(string, bool, string, ...any)) error {
	st := story{StableSince: map[string]time.Time{"v1": t.begun}}
	if p := t.at(rollout.EvPromoted, "v2"); p != nil {
		st.StableSince["v2"] = p.At
	}
	sums, answers, err := sumUp(t.o.Out, st.StableSince)
	if err != nil {
		return err
	}
	r.Sums = sums
	expect("no request failed because of a switch", sums.FailedBySwitch == 0, "%d did", sums.FailedBySwitch)
	expect("both ends tell the same of every request, and none was answered twice", sums.Unlike == 0 && sums.Doubled == 0, "%d are told differently, %d were answered twice", sums.Unlike, sums.Doubled)
	expect("nobody but users who met v3 saw a failure", sums.Failed == sums.Versions["v3"].Failed && sums.Failed > 0, "%d failed, %d of them on v3", sums.Failed, sums.Versions["v3"].Failed)
	if back := t.at(rollout.EvTrafficBack, ""); back != nil {
		late := 0
		for _, a := range answers {
			if a.Version == "v3" && a.At.After(back.At) {
				late++
			}
		}
		expect("v3 answers nothing after its traffic was seen gone", late == 0, "%d requests", late)
	}
	path, err := c.RecordPath(ctx, httpapi.Ref{Name: appName})
	if err == nil {
		err = copyRecord(path, filepath.Join(t.o.Out, recordFile))
	}
	if err == nil {
		err = t.decideAgain(filepath.Join(t.o.Out, recordFile))
	}
	expect("deciding it all again from the record gives the same decisions", err == nil, "%v", err)
	if err := os.WriteFile(filepath.Join(t.o.Out, rolloutFile), t.o.Rollout, 0o644); err != nil {
		return err
	}
	st.Sums, st.Expectations = sums, r.Expectations
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.o.Out, storyFile), append(b, '\n'), 0o644); err != nil {
		return err
	}
	t.print(r)
	return nil
}

func (t *teller) print(r *Result) {
	w := t.o.Print
	fmt.Fprintln(w)
	printSums(w, r.Sums)
	for _, o := range t.last().History {
		fmt.Fprintf(w, "  %-34s %7.0f   about %.1f of them harmed, as the judge estimates it\n", "exposed to "+o.Revision.Label()+" by the judge's count", o.Exposed, o.Harmed)
	}
	fmt.Fprintln(w)
	for _, e := range r.Expectations {
		if e.Met {
			fmt.Fprintf(w, "  as told    %s\n", e.What)
		} else {
			fmt.Fprintf(w, "  NOT SO     %s: %s\n", e.What, e.Detail)
		}
	}
	fmt.Fprintf(w, "\nLeft in %s: the record, the client's log, the back ends' logs.\n", t.o.Out)
	fmt.Fprintf(w, "  serin demo --check %s     computes the sums again\n", t.o.Out)
	fmt.Fprintf(w, "  serin replay -f %s %s     decides it all again\n", filepath.Join(t.o.Out, rolloutFile), filepath.Join(t.o.Out, recordFile))
}

func dial(ctx context.Context, socket string) (*httpapi.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		c, err := httpapi.Dial(ctx, socket)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watch prints each decision once and keeps the newest view.
func (t *teller) watch(ctx context.Context, c *httpapi.Client) {
	told := 0
	err := c.Watch(ctx, httpapi.Ref{Name: appName}, func(u httpapi.Update) error {
		if u.View == nil {
			return errors.New("the rollout is gone")
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, e := range u.View.Decisions {
			if e.N <= told {
				continue
			}
			told = e.N
			t.history = append(t.history, e)
			t.say("%s", decision(e))
		}
		t.view = *u.View
		close(t.changed)
		t.changed = make(chan struct{})
		return nil
	})
	t.mu.Lock()
	t.lost = err
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()
}

func eventText(e *rollout.Event) string {
	if e == nil {
		return "there is no such decision"
	}
	return strings.ReplaceAll(decision(*e), "\n         ", ": ")
}

// decision is one decision in two lines: what, and why.
func decision(e rollout.Event) string {
	head := fmt.Sprintf("#%d %s", e.N, e.What)
	switch {
	case e.From != "" && e.To != "":
		head += fmt.Sprintf(" %s -> %s", e.From, e.To)
	case e.From != "" || e.To != "":
		head += " " + e.From + e.To
	}
	return fmt.Sprintf("%s (%s)\n         %s", head, e.By, e.Why)
}

func (t *teller) last() httpapi.RolloutView {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.view
}

// until waits for a view that pleases, and gives the newest one.
func (t *teller) until(ctx context.Context, limit time.Duration, pleases func(httpapi.RolloutView) bool) (httpapi.RolloutView, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		t.mu.Lock()
		v, changed, lost := t.view, t.changed, t.lost
		t.mu.Unlock()
		switch {
		case pleases(v):
			return v, nil
		case lost != nil:
			return v, lost
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-late.C:
			return v, fmt.Errorf("not after %s", limit)
		case <-changed:
		}
	}
}

// sent waits until the load has sent so many.
func (t *teller) sent(ctx context.Context, l *load, n int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if sent, _ := l.counts(); sent >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// at finds the newest decision of a kind that is about a version; "" is any.
// pleases functions of until may call it: the view's lock is not held there.
func (t *teller) at(what rollout.What, version string) *rollout.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range slices.Backward(t.history) {
		if e.What == what && (version == "" || e.Rev.Label() == version || e.To == version || e.From == version || strings.HasPrefix(e.Why, version+" ")) {
			return &e
		}
	}
	return nil
}

// steps are the shares that a version was given, in order.
func (t *teller) steps(version string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, e := range t.history {
		if e.What == rollout.EvStepStarted && e.Rev.Label() == version {
			out = append(out, e.To)
		}
	}
	return out
}

func outcome(v httpapi.RolloutView, version string) *rollout.Outcome {
	for _, o := range slices.Backward(v.History) {
		if o.Revision.Label() == version {
			return &o
		}
	}
	return nil
}

func ending(o *rollout.Outcome, v httpapi.RolloutView) string {
	if o == nil {
		return "it has not ended: " + v.Message
	}
	return fmt.Sprintf("%s by %s: %s", o.Result, o.By, o.Why)
}

func condition(v httpapi.RolloutView, kind string) string {
	for _, c := range v.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return "missing"
}

// decideAgain replays the record and compares each decision with the live one.
func (t *teller) decideAgain(path string) error {
	parsed, problems := v1alpha1.Parse(t.o.Rollout)
	if len(problems) > 0 || len(parsed) != 1 {
		return fmt.Errorf("the Rollout cannot be read: %v", problems)
	}
	spec, cfg, err := engine.SpecOf(parsed[0].Rollout)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var answers bytes.Buffer
	if _, err := record.Replay(spec, cfg, f, &answers, record.Hooks{}); err != nil {
		return err
	}
	t.mu.Lock()
	live := slices.Clone(t.history)
	t.mu.Unlock()
	n := 0
	for dec := json.NewDecoder(&answers); ; {
		var a record.Answer
		switch err := dec.Decode(&a); {
		case errors.Is(err, io.EOF):
			if n != len(live) {
				return fmt.Errorf("%d decisions were made, %d come out of the record", len(live), n)
			}
			return nil
		case err != nil:
			return err
		}
		for _, d := range a.Decisions {
			if n == len(live) {
				return fmt.Errorf("the record has decision %d (%s), which was not made", d.N, d.What)
			}
			if e := live[n]; e.N != d.N || e.What != d.What || e.From != d.From || e.To != d.To || e.Why != d.Why {
				return fmt.Errorf("decision %d was %s %s -> %s (%s); out of the record comes %d, %s %s -> %s (%s)", e.N, e.What, e.From, e.To, e.Why, d.N, d.What, d.From, d.To, d.Why)
			}
			n++
		}
	}
}

// copyRecord copies both files of a record into one.
func copyRecord(from, to string) error {
	in, err := record.OpenRing(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
