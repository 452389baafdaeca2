package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/sim/trial"
	"github.com/serin-dev/serin/internal/sim/worlds"
)

// Exit codes of simulate.
const (
	simulateBeyond = 2 // settings that do not hold what they promise, or a table that changed
)

// simulateFlags are the flags as they were typed.
type simulateFlags struct {
	out        format
	file, name string

	rps                 float64
	base                string
	regress, mustCatch  []string
	runs, pods, verify  int
	seed                uint64
	history, every      string
	horizon, within     string
	burst, unlike, lost string

	record     string
	prometheus trial.Prometheus
	window     string
	compare    string
	measures   []string

	scenarios, only     string
	golden, writeGolden bool
}

// simulate: what a document's settings would do, before they are trusted.
func (a *app) simulate() *cobra.Command {
	var f simulateFlags
	c := &cobra.Command{
		Use:   "simulate -f FILE --rps N [--base SHARE] [--regress WHAT]...",
		Short: "What these settings would do: false rollbacks, what is caught, how fast",
		Long: `Runs the document's own settings, with the real policy and the real judge, over
many releases of a service like yours, healthy and wrong, in virtual time. Prints how
often a healthy release would be taken back, and for each regression the chance that it
is caught, the time, the requests exposed and harmed, the least that any test would
need, and the smallest regression that is caught in time.

  serin simulate -f rollout.yaml --rps 40 --base 0.3% --regress error=2% --regress latency=x1.5
  serin simulate -f rollout.yaml --record record.jsonl --regress error=2%
  serin simulate -f rollout.yaml --prometheus http://localhost:9090 --query-selector 'destination_workload="my-app-v1"'
  serin simulate -f rollout.yaml --rps 40 --compare flagger-canary.yaml

A regression is error=2% (the share of requests that then fail), latency=x1.5 or tail=1%
(so many take 20 times as long), and behind it, by commas: after=15m, from=50%, over=30m.

With --record or --prometheus the service is a real one's past: each of its stable pods
in turn plays the canary, and harm is added to it.

Exit codes: 0 as promised; 1 an error; 2 healthy releases are taken back more often than
the document's falseRollback allows, beyond its interval, or a --must-catch regression is
missed in more than 5 % of runs (with --golden: the table has changed).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.scenarios != "" {
				return a.benchmark(c, &f)
			}
			return a.ask(c, &f)
		},
	}
	fs := c.Flags()
	fs.StringVarP(&f.file, "file", "f", "", "file or folder with the Rollout")
	fs.StringVar(&f.name, "name", "", "the Rollout's name, where there are several")
	fs.Float64Var(&f.rps, "rps", 0, "requests per second that users send")
	fs.StringVar(&f.base, "base", "0.1%", "share of requests that fail on the stable version")
	fs.StringArrayVar(&f.regress, "regress", nil, "error=2%, latency=x1.5 or tail=1%; may be repeated")
	fs.StringArrayVar(&f.mustCatch, "must-catch", nil, "a regression that must be caught in 95 % of runs: exit code 2 if it is not")
	fs.IntVar(&f.runs, "runs", 500, "releases of each kind")
	fs.Uint64Var(&f.seed, "seed", 1, "all chance comes from it")
	fs.IntVar(&f.pods, "pods", 0, "replicas of stable (default: as many as --rps suggests)")
	fs.StringVar(&f.history, "history", "1h", "how long stable is watched before the canary comes")
	fs.StringVar(&f.every, "every", "5s", "between looks")
	fs.StringVar(&f.burst, "burst", "", "how failures cluster: "+strings.Join(trial.Weathers, ", "))
	fs.StringVar(&f.unlike, "unlike", "", "by how much pods differ in their failures, such as 30%")
	fs.StringVar(&f.lost, "lost-scrapes", "", "share of pod readings that are missing, such as 5%")
	fs.StringVar(&f.horizon, "horizon", "", "a run ends so long after the canary came (default: as long as the document may take)")
	fs.StringVar(&f.within, "within", "10m", "the time for the smallest regression")
	fs.IntVar(&f.verify, "verify", 100, "runs that verify the smallest regression; 0 = none")
	fs.StringVar(&f.record, "record", "", "play a record of a real service instead")
	fs.StringVar(&f.prometheus.URL, "prometheus", "", "play what this Prometheus has of a real service instead")
	fs.StringVar(&f.window, "query-window", "2h", "how far back Prometheus is asked")
	fs.StringVar(&f.prometheus.Selector, "query-selector", "", `labels that select the stable pods' series, such as destination_workload="my-app-v1"`)
	fs.StringVar(&f.prometheus.Requests, "query-requests", "istio_requests_total", "the counter of requests")
	fs.StringVar(&f.prometheus.Latency, "query-latency", "istio_request_duration_milliseconds_bucket", `the histogram of latencies; "" for none`)
	fs.StringVar(&f.prometheus.Pod, "query-pod-label", "pod", "the label that tells pods apart")
	fs.StringVar(&f.prometheus.Code, "query-code-label", "response_code", "the label that tells failures")
	fs.StringVar(&f.prometheus.Failed, "query-failed", "5..|0", "regular expression of that label's values that are failures")
	fs.StringVar(&f.compare, "compare", "", "a Flagger Canary, or an Argo AnalysisTemplate with or without its Rollout, on the same releases")
	fs.StringArrayVar(&f.measures, "compare-metric", nil, "NAME=success:1m, errors:5m or p99:1m: what a metric of --compare measures, where its query cannot be understood")
	fs.StringVar(&f.scenarios, "scenarios", "", "folder of scenarios: the benchmark, beside the rules of other tools")
	fs.StringVar(&f.only, "only", "", "with --scenarios: only those whose name contains this")
	fs.BoolVar(&f.golden, "golden", false, "with --scenarios: compare with the folder's golden table, within its standard error")
	fs.BoolVar(&f.writeGolden, "write-golden", false, "with --scenarios: write the golden table anew")
	outputFlag(c, &f.out)
	return c
}

// wrongs gathers problems with flags: all are said at once.
type wrongs struct{ errs []error }

func (w *wrongs) add(format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf(format, args...))
}

func (w *wrongs) duration(flag, text string, least, most time.Duration) time.Duration {
	d, err := v1alpha1.ParseDuration(text)
	switch {
	case err != nil:
		w.add("--%s: %w", flag, err)
	case d.Duration < least || d.Duration > most:
		w.add("--%s: %s: %s to %s is meant", flag, text, v1alpha1.Duration{Duration: least}, v1alpha1.Duration{Duration: most})
	}
	return d.Duration
}

func (w *wrongs) share(flag, text string) float64 {
	if text == "" {
		return 0
	}
	p, err := v1alpha1.ParsePercent(text)
	switch {
	case err != nil:
		w.add("--%s: %w", flag, err)
	case p > v1alpha1.Whole:
		w.add("--%s: %s: more than all", flag, text)
	}
	return p.Fraction()
}

func (w *wrongs) err() error { return errors.Join(w.errs...) }

// given says whether a flag was typed.
func given(c *cobra.Command, names ...string) (out []string) {
	for _, n := range names {
		if c.Flags().Changed(n) {
			out = append(out, "--"+n)
		}
	}
	return out
}

// ask answers a question about one document.
func (a *app) ask(c *cobra.Command, f *simulateFlags) error {
	var w wrongs
	if odd := given(c, "only", "golden", "write-golden"); odd != nil {
		w.add("%s: only with --scenarios", strings.Join(odd, ", "))
	}
	q := trial.Question{Runs: f.runs, Seed: f.seed, Verify: f.verify,
		Told: func(what string) { fmt.Fprintln(a.Stderr, oneLine("serin: "+what)) }}
	if f.file == "" {
		w.add("-f: say which document, such as -f rollout.yaml")
	} else if doc, err := rolloutIn(f.file, f.name); err != nil {
		w.add("%w", err)
	} else if q.Spec, q.Config, err = engine.SpecOf(doc); err != nil {
		w.add("%s: %w", f.file, err)
	}
	if f.runs < 1 || f.runs > 1e6 {
		w.add("--runs: %d: 1 to 1000000 are meant", f.runs)
	}
	if f.verify < 0 || f.verify > 1e5 {
		w.add("--verify: %d: 0 to 100000 are meant", f.verify)
	}
	if f.horizon != "" {
		q.Horizon = w.duration("horizon", f.horizon, time.Minute, 7*24*time.Hour)
	}
	q.Within = w.duration("within", f.within, time.Second, 24*time.Hour)
	must := map[string]bool{}
	for _, r := range [...]struct {
		flag  string
		texts []string
	}{{"regress", f.regress}, {"must-catch", f.mustCatch}} {
		for _, text := range r.texts {
			g, err := trial.ParseRegression(text)
			if err != nil {
				w.add("--%s %w", r.flag, err)
			}
			if must[text] = must[text] || r.flag == "must-catch"; !slices.ContainsFunc(q.Regress, func(o trial.Regression) bool { return o.Text == text }) {
				q.Regress = append(q.Regress, g)
			}
		}
	}
	q.Source = a.source(c, f, &w)
	if f.compare != "" {
		q.Compare = compared(f, &q, &w)
	} else if len(f.measures) > 0 {
		w.add("--compare-metric: only with --compare")
	}
	if err := w.err(); err != nil {
		return err
	}
	if f.record == "" && f.prometheus.URL == "" && len(q.Regress) == 0 {
		fmt.Fprintln(a.Stderr, "serin: no --regress: only healthy releases are run")
	}
	r, err := trial.Ask(c.Context(), q)
	if err != nil {
		return err
	}
	if f.out.json() {
		err = f.out.print(a.Stdout, r)
	} else {
		err = printReport(a.Stdout, &r)
	}
	if err != nil {
		return err
	}
	var beyond []error
	if r.FalseBeyond() {
		beyond = append(beyond, fmt.Errorf("healthy releases are taken back more often than falseRollback %s allows", percent(r.Bound)))
	}
	for _, text := range r.MissedBeyond(0.05) {
		if must[text] {
			beyond = append(beyond, fmt.Errorf("%s is missed in more than 5 %% of runs", text))
		}
	}
	if beyond != nil {
		return &Exit{Code: simulateBeyond, Err: errors.Join(beyond...)}
	}
	return nil
}

// source is the service on trial: a synthetic one, or a real one's past.
func (a *app) source(c *cobra.Command, f *simulateFlags, w *wrongs) trial.Source {
	synthetic := given(c, "rps", "base", "pods", "history", "every", "burst", "unlike", "lost-scrapes")
	asked := given(c, "query-window", "query-selector", "query-requests", "query-latency", "query-pod-label", "query-code-label", "query-failed")
	if f.prometheus.URL == "" && asked != nil {
		w.add("%s: only with --prometheus", strings.Join(asked, ", "))
	}
	switch {
	case f.record != "" && f.prometheus.URL != "":
		w.add("--record and --prometheus: one of them is meant")
		return nil
	case f.record != "" || f.prometheus.URL != "":
		if synthetic != nil {
			w.add("%s: a real service's past has its own", strings.Join(synthetic, ", "))
		}
		if f.record != "" {
			return a.recorded(f.record, w)
		}
		f.prometheus.Window = w.duration("query-window", f.window, 10*time.Minute, 7*24*time.Hour)
		if len(w.errs) > 0 {
			return nil // nobody is asked for nothing
		}
		r, err := f.prometheus.Fetch(c.Context(), a.Now())
		if err != nil {
			w.add("--prometheus: %w", err)
			return nil
		}
		return r
	}
	if !(f.rps > 0 && f.rps <= 1e5) || math.IsNaN(f.rps) {
		w.add("--rps: %v: how many requests per second users send, above 0 and at most 100000, such as --rps 40", f.rps)
	}
	s := worlds.Scenario{Name: "simulate", RPS: f.rps, Base: w.share("base", f.base), Latency: true, Pods: f.pods, Weather: f.burst,
		History: w.duration("history", f.history, 0, 24*time.Hour), Every: w.duration("every", f.every, 100*time.Millisecond, time.Minute),
		Unlike: w.share("unlike", f.unlike), LatUnlike: w.share("unlike", f.unlike) / 6, LostScrapes: w.share("lost-scrapes", f.lost)}
	if s.Base > 0.9 {
		w.add("--base: %s: a stable version that fails more than 90%% cannot be compared with", f.base)
	}
	if f.pods < 0 || f.pods > 200 {
		w.add("--pods: %d: 1 to 200 replicas are meant", f.pods)
	}
	if f.burst != "" && !slices.Contains(trial.Weathers, f.burst) {
		w.add("--burst: %q is none of %s", f.burst, strings.Join(trial.Weathers, ", "))
	}
	return trial.SyntheticSource(s)
}

func (a *app) recorded(path string, w *wrongs) trial.Source {
	in, err := record.OpenRing(path)
	if err != nil {
		w.add("--record: %w", err)
		return nil
	}
	defer in.Close()
	r, err := trial.ReadRecord(in, filepath.Base(path), func(s string) { fmt.Fprintln(a.Stderr, oneLine("serin: "+s)) })
	if err != nil {
		w.add("--record: %w", err)
		return nil
	}
	return r
}

func compared(f *simulateFlags, q *trial.Question, w *wrongs) *trial.Compared {
	hints := trial.Hints{}
	for _, m := range f.measures {
		name, what, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			w.add("--compare-metric: %q: want NAME=success:1m", m)
			continue
		}
		hints[name] = what
	}
	data, err := readBounded(f.compare)
	if err != nil {
		w.add("--compare: %w", err)
		return nil
	}
	cmp, problems := trial.Compare(data, q.Spec.Steps, hints)
	for _, p := range problems {
		w.add("--compare %s: %s", filepath.Base(f.compare), p)
	}
	return &cmp
}

// printReport writes the answer as people read it.
func printReport(w io.Writer, r *trial.Report) error {
	fmt.Fprintln(w, oneLine(fmt.Sprintf("%s runs of each on %s", count(float64(r.Runs)), r.Source)))
	for _, p := range r.Policies {
		if len(r.Policies) > 1 {
			fmt.Fprintf(w, "\n%s\n", p.Name)
		}
		h := &p.Healthy
		fmt.Fprintf(w, "  a healthy release is taken back in %d of %d runs: %s, 95 %% interval %s to %s",
			h.Back.K, h.Back.N, percent(h.Back.Value()), percent(p.False[0]), percent(p.False[1]))
		if p.Name == "Serin" {
			fmt.Fprintf(w, " (falseRollback %s)", percent(r.Bound))
		}
		fmt.Fprintln(w)
		fmt.Fprintf(w, "  it gets to 100 %% in %d of them", h.Passed.K)
		if h.Passed.K > 0 {
			fmt.Fprintf(w, ", typically after %s", span(h.Promote))
		}
		if h.Rest > h.Promote && h.Passed.K > 0 {
			fmt.Fprintf(w, ", and is the new stable after %s", span(h.Rest))
		}
		fmt.Fprintln(w)
		if left := h.Runs - h.Back.K - h.Passed.K; left > 0 || h.Stuck > 0 {
			fmt.Fprintln(w, oneLine(fmt.Sprintf("  %d were not there when the run ended after %s, %d waited for a person: %s", left, span(r.Horizon), h.Stuck, h.Held)))
		}
		if h.Example != "" {
			fmt.Fprintln(w, oneLine(fmt.Sprintf("  for example (seed %d): %s", h.Seed, h.Example)))
		}
		if len(p.Wrong) == 0 {
			continue
		}
		fmt.Fprintln(w)
		rows := [][]string{{"  REGRESSION", "CAUGHT", "95 % INTERVAL", "MEDIAN", "P90", "EXPOSED", "HARMED", "BOUND", "USED/BOUND"}}
		for _, x := range p.Wrong {
			bound, ratio, median, p90 := "-", "-", "-", "-"
			if x.Bound >= 0 {
				bound = fmt.Sprintf("%s, %s requests", span(x.Bound), atLeastOne(x.BoundRequests))
			}
			if x.Ratio > 0 {
				ratio = fmt.Sprintf("%.1f", x.Ratio)
			}
			if x.Caught.K > 0 {
				median, p90 = span(x.Totals.Median), span(x.Totals.P90)
			}
			rows = append(rows, []string{"  " + x.Regression.Text, percent(x.Caught.Value()), fmt.Sprintf("%s to %s", percent(x.Interval[0]), percent(x.Interval[1])),
				median, p90, count(x.Totals.Exposed.Mean), count(x.Totals.Harmed.Mean), bound, ratio})
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	if len(r.Policies[0].Wrong) > 0 {
		fmt.Fprintf(w, "  times count from when the canary is first worse; exposed and harmed are requests, the mean of all runs, to the end of the run where it is missed\n")
		fmt.Fprintln(w, "  bound: the least mean time in which any test can tell, at the first weight; used/bound: the information that was used over that")
	}
	if s := r.Sentence(); s != "" {
		fmt.Fprintf(w, "\n%s\n", oneLine(s))
	}
	for _, p := range r.Power {
		if p.By == "" {
			continue
		}
		smallest := "no failures are told"
		if p.Smallest != nil {
			smallest = fmt.Sprintf("from %s failing is told within the time", percent(*p.Smallest))
		}
		if p.Weight >= 1 {
			smallest = "no stable is beside it"
		}
		fmt.Fprintf(w, "  at %s: %s; a healthy release stays about %s (%s)\n", percent(p.Weight), smallest, span(p.Advance), waitsFor(p))
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, oneLine("  note: "+n))
	}
	return nil
}

func waitsFor(p trial.StepPower) string {
	switch {
	case p.Advance > p.Evidence:
		return "its hold"
	case p.Advance < p.Evidence:
		return fmt.Sprintf("the deadline; its %s would need %s", p.By, span(p.Evidence))
	}
	return "the evidence on " + p.By
}

func atLeastOne(n float64) string {
	if n < 1 {
		return "less than 1"
	}
	return count(n)
}

// span writes a duration as people say it.
func span(d time.Duration) string {
	switch {
	case d == math.MaxInt64:
		return "never"
	case d <= 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		d = d.Round(time.Second)
	default:
		d = d.Round(time.Minute)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// benchmark runs a folder of scenarios.
func (a *app) benchmark(c *cobra.Command, f *simulateFlags) error {
	var w wrongs
	if odd := given(c, "rps", "base", "regress", "must-catch", "pods", "history", "every", "burst", "unlike", "lost-scrapes", "horizon", "within", "verify", "record", "prometheus", "compare", "compare-metric",
		"query-window", "query-selector", "query-requests", "query-latency", "query-pod-label", "query-code-label", "query-failed"); odd != nil {
		w.add("%s: not with --scenarios, which says that itself", strings.Join(odd, ", "))
	}
	if f.golden && f.writeGolden {
		w.add("--golden and --write-golden: one of them is meant")
	}
	if f.writeGolden && f.only != "" {
		w.add("--write-golden and --only: the golden table holds all scenarios")
	}
	b, err := trial.ReadBenchmark(os.DirFS(f.scenarios))
	if err != nil {
		w.add("--scenarios %s: %w", f.scenarios, err)
	}
	if given(c, "runs") != nil {
		b.Runs = f.runs
	}
	if b.Runs < 1 || b.Runs > 1e6 {
		w.add("--runs: %d: 1 to 1000000 are meant", b.Runs)
	}
	b.Seed, b.Only = f.seed, f.only
	if err == nil && f.file != "" {
		doc, err := rolloutIn(f.file, f.name)
		if err == nil {
			b.Spec, b.Config, err = engine.SpecOf(doc)
		}
		if err != nil {
			w.add("%s: %w", f.file, err)
		}
	}
	if err := w.err(); err != nil {
		return err
	}
	began := time.Now()
	t, err := b.Run(c.Context(), func(name string, done, of int) {
		fmt.Fprintf(a.Stderr, "%3d/%d %s\n", done, of, name)
	})
	if err != nil {
		return err
	}
	if f.out.json() {
		err = f.out.print(a.Stdout, t)
	} else {
		_, err = io.WriteString(a.Stdout, t.Markdown())
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Stderr, "%d scenarios, %d runs of each, in %s\n", len(t.Rows), t.Runs, time.Since(began).Round(time.Second))
	switch {
	case f.writeGolden:
		for name, data := range t.Golden() {
			if err := os.WriteFile(filepath.Join(f.scenarios, name), data, 0o644); err != nil {
				return err
			}
		}
	case f.golden:
		changed, err := t.Check(os.DirFS(f.scenarios))
		if err != nil {
			return err
		}
		if len(changed) > 0 {
			for _, x := range changed {
				fmt.Fprintln(a.Stderr, oneLine(x))
			}
			return &Exit{Code: simulateBeyond, Err: fmt.Errorf("%d figures are beyond the golden table's standard error (to accept them: --write-golden)", len(changed))}
		}
		fmt.Fprintln(a.Stderr, "every figure is within the golden table's standard error")
	}
	return nil
}
