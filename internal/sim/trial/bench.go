package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/sim/worlds"
)

// Benchmark is a folder of scenarios and the policies that are tried on them:
// rollout.yaml is the document of Serin, peers/*.yaml are the other tools', and
// every other file holds scenarios.
type Benchmark struct {
	Spec    rollout.Spec
	Config  analysis.Config
	Groups  []Group
	Peers   []Compared
	Runs    int
	Seed    uint64
	Only    string // part of a scenario's name
	Horizon time.Duration
}

// Group is one file of scenarios.
type Group struct {
	Name      string
	Scenarios []worlds.Scenario
}

// Defaults of the benchmark.
const (
	benchRuns    = 40
	benchHorizon = 90 * time.Minute
	goldenData   = "golden.json"
	goldenTable  = "golden.md"
)

// ReadBenchmark reads the folder. All problems come at once. What it returns
// beside an error is not nil and cannot be run.
func ReadBenchmark(dir fs.FS) (*Benchmark, error) {
	b := &Benchmark{Runs: benchRuns, Seed: 1, Horizon: benchHorizon}
	var errs []error
	data, err := fs.ReadFile(dir, "rollout.yaml")
	if err != nil {
		return b, err
	}
	docs, problems := v1alpha1.Parse(data)
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("rollout.yaml: %w", p))
	}
	if len(docs) != 1 && problems == nil {
		errs = append(errs, fmt.Errorf("rollout.yaml: one Rollout is meant, this has %d", len(docs)))
	}
	if len(errs) == 0 {
		if b.Spec, b.Config, err = engine.SpecOf(docs[0].Rollout); err != nil {
			errs = append(errs, fmt.Errorf("rollout.yaml: %w", err))
		}
	}
	peers, err := fs.Glob(dir, "peers/*.yaml")
	errs = append(errs, err)
	for _, name := range peers {
		data, err := fs.ReadFile(dir, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c, problems := Compare(data, b.Spec.Steps, nil)
		for _, p := range problems {
			errs = append(errs, fmt.Errorf("%s: %s", name, p))
		}
		b.Peers = append(b.Peers, c)
	}
	files, err := fs.Glob(dir, "*.yaml")
	errs = append(errs, err)
	seen := map[string]string{}
	for _, name := range files {
		if name == "rollout.yaml" {
			continue
		}
		data, err := fs.ReadFile(dir, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ss, problems := ReadScenarios(data)
		for _, p := range problems {
			errs = append(errs, fmt.Errorf("%s: %s", name, p))
		}
		for _, s := range ss {
			if other := seen[s.Name]; other != "" {
				errs = append(errs, fmt.Errorf("%s: %s is in %s too", name, s.Name, other))
			}
			seen[s.Name] = name
		}
		b.Groups = append(b.Groups, Group{strings.TrimSuffix(path.Base(name), ".yaml"), ss})
	}
	if len(b.Groups) == 0 {
		errs = append(errs, errors.New("no file of scenarios"))
	}
	return b, errors.Join(errs...)
}

// Table is what came of the benchmark.
type Table struct {
	Runs     int      `json:"runs"`
	Seed     uint64   `json:"seed"`
	Alpha    float64  `json:"falseRollback"`
	Policies []string `json:"policies"`
	Rows     []Row    `json:"rows"`
}

// Row is one scenario.
type Row struct {
	Group    string  `json:"group"`
	Scenario string  `json:"scenario"`
	Wrong    bool    `json:"wrong"`
	Bound    float64 `json:"boundSeconds,omitempty"` // 0 = not known
	Harm     float64 `json:"boundHarm,omitempty"`    // requests harmed by then
	Cells    []Cell  `json:"cells"`                  // by policy
}

// Cell is one scenario under one policy.
type Cell struct {
	Runs   int     `json:"runs"`
	Back   int     `json:"back"`
	Early  int     `json:"early,omitempty"`
	Passed int     `json:"passed"`
	Median float64 `json:"medianSeconds,omitempty"`
	Harm   Mean    `json:"harmed"`
	Ratio  float64 `json:"ratio,omitempty"`
	To100  float64 `json:"promoteSeconds,omitempty"`
}

func (c *Cell) caught() Share { return Share{c.Back - c.Early, c.Runs} }
func (c *Cell) back() Share   { return Share{c.Back, c.Runs} }

// Run runs it. told hears of every scenario before it begins.
func (b *Benchmark) Run(ctx context.Context, told func(name string, done, of int)) (*Table, error) {
	t := &Table{Runs: b.Runs, Seed: b.Seed, Alpha: b.Config.FalseRollback, Policies: []string{"Serin"}}
	for _, p := range b.Peers {
		t.Policies = append(t.Policies, p.Maker.Name)
	}
	t.Policies = append(t.Policies, "Kayenta")
	type job struct {
		group string
		s     worlds.Scenario
	}
	var jobs []job
	for _, g := range b.Groups {
		for _, s := range g.Scenarios {
			if strings.Contains(s.Name, b.Only) {
				jobs = append(jobs, job{g.Name, s})
			}
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("no scenario's name contains %q", b.Only)
	}
	for i, j := range jobs {
		if told != nil {
			told(j.s.Name, i+1, len(jobs))
		}
		row, err := b.row(ctx, j.group, j.s)
		if err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func (b *Benchmark) row(ctx context.Context, group string, s worlds.Scenario) (Row, error) {
	row := Row{Group: group, Scenario: s.Name, Wrong: !s.Healthy()}
	alpha := b.Config.FalseRollback
	w := Synthetic(s)
	weight := firstWeight(b.Spec, s.OnsetWeight)
	if row.Wrong && weight < 1 && s.Ramp == 0 {
		d := Bound(alpha, weight, s.RPS, s.Base, math.Max(s.Bad, s.Base))
		if slow := w.(synthetic).slow; slow != nil {
			d = boundSlow(alpha, weight, s.RPS, slow)
		}
		if d < math.MaxInt64 {
			row.Bound = d.Seconds()
			row.Harm = row.Bound * weight * rateOfHarm(&s)
		}
	}
	cfg := b.Config
	if !s.Latency {
		cfg.Latency = nil
	}
	makers := []Maker{Serin(b.Spec, cfg)}
	for i := range b.Peers {
		if p := &b.Peers[i]; s.Latency {
			makers = append(makers, p.Maker)
		} else {
			makers = append(makers, p.withoutLatency())
		}
	}
	makers = append(makers, DefaultKayenta(s.Latency).Maker())
	for _, m := range makers {
		t, err := Campaign(ctx, Case{w, m, b.Horizon + s.OnsetAfter}, seedOf(s.Name, b.Seed), b.Runs)
		if err != nil {
			return row, err
		}
		c := Cell{Runs: t.Runs, Back: t.Back.K, Early: t.Early, Passed: t.Passed.K, Median: t.Median.Seconds(), Harm: t.Harmed, To100: t.Promote.Seconds()}
		if t.Caught().K > 0 && row.Wrong {
			c.Ratio = t.Info.Mean / math.Log(1/alpha)
		}
		c.Harm.Mean, c.Harm.Error, c.Ratio = round4(c.Harm.Mean), round4(c.Harm.Error), round4(c.Ratio)
		row.Cells = append(row.Cells, c)
	}
	row.Bound, row.Harm = round4(row.Bound), round4(row.Harm)
	return row, nil
}

func round4(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	u := math.Pow(10, math.Floor(math.Log10(math.Abs(x)))-3)
	return math.Round(x/u) * u
}

// Markdown is the table as people read it.
func (t *Table) Markdown() string {
	var s strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&s, format, args...) }
	p("# The judge beside other tools' rules\n\n")
	p("Written by `serin simulate --scenarios`: %d scenarios, %d runs of each, seed %d. What the columns mean is in\n", len(t.Rows), t.Runs, t.Seed)
	p("docs/SIMULATE.md. The other tools' rules run with the settings in the folder peers.\n\n")
	t.summary(p)
	p("\n## Healthy releases: taken back falsely, of %d\n\n", t.Runs)
	t.head(p, "group", "scenario", "Serin: to 100 %")
	for _, r := range t.Rows {
		if r.Wrong {
			continue
		}
		p("| %s | %s |", r.Group, r.Scenario)
		for i := range r.Cells {
			p(" %d |", r.Cells[i].Back)
		}
		p(" %s |\n", dash(r.Cells[0].To100 > 0, clock(r.Cells[0].To100)))
	}
	p("\n## Wrong releases: share missed, median time to the rollback, mean of the requests harmed\n\n")
	t.head(p, "group", "scenario", "bound", "harm by then", "Serin: used/bound")
	for _, r := range t.Rows {
		if !r.Wrong {
			continue
		}
		p("| %s | %s |", r.Group, r.Scenario)
		for i := range r.Cells {
			c := &r.Cells[i]
			caught := c.caught()
			missed := ""
			if k := c.Runs - caught.K; k > 0 {
				missed = fmt.Sprintf("%.0f %% missed, ", 100*float64(k)/float64(c.Runs))
			}
			p(" %s%s, %s |", missed, dash(caught.K > 0, clock(c.Median)), amount(c.Harm.Mean))
		}
		p(" %s | %s | %s |\n", dash(r.Bound > 0, clock(r.Bound)), dash(r.Bound > 0, amount(r.Harm)), dash(r.Bound > 0 && r.Cells[0].Ratio > 0, fmt.Sprintf("%.2f", r.Cells[0].Ratio)))
	}
	return s.String()
}

func (t *Table) head(p func(string, ...any), first, second string, last ...string) {
	cols := append([]string{first, second}, t.Policies...)
	cols = append(cols, last...)
	p("| %s |\n|%s\n", strings.Join(cols, " | "), strings.Repeat("---|", len(cols)))
}

// summary is by classes of how hard a thing is to tell.
func (t *Table) summary(p func(string, ...any)) {
	cols := append([]string{"", "scenarios"}, t.Policies...)
	p("| %s |\n|%s\n", strings.Join(cols, " | "), strings.Repeat("---|", len(cols)))
	line := func(title string, rows []Row, cell func(i int, rows []Row) string) {
		if len(rows) == 0 {
			return
		}
		p("| %s | %d |", title, len(rows))
		for i := range t.Policies {
			p(" %s |", cell(i, rows))
		}
		p("\n")
	}
	pick := func(f func(*Row) bool) (out []Row) {
		for i := range t.Rows {
			if f(&t.Rows[i]) {
				out = append(out, t.Rows[i])
			}
		}
		return out
	}
	line("healthy: taken back (worst scenario)", pick(func(r *Row) bool { return !r.Wrong }), func(i int, rows []Row) string {
		sum, worst := Share{}, Share{}
		for k := range rows {
			s := rows[k].Cells[i].back()
			sum.K, sum.N = sum.K+s.K, sum.N+s.N
			if s.Value() >= worst.Value() {
				worst = s
			}
		}
		return fmt.Sprintf("%.1f %% (%.0f %%)", 100*sum.Value(), 100*worst.Value())
	})
	classes := []struct {
		title    string
		from, to float64
	}{{"bound below 10 s", 1e-9, 10}, {"bound 10 to 60 s", 10, 60}, {"bound 1 to 10 min", 60, 600}, {"bound above 10 min", 600, math.Inf(1)}, {"no bound", -1, 1e-9}}
	for _, set := range []struct {
		title string
		fair  bool
	}{{"errors in fair weather, ", true}, {"all else, ", false}} {
		for _, c := range classes {
			rows := pick(func(r *Row) bool {
				return r.Wrong && (r.Group == fairGroup) == set.fair && r.Bound >= c.from && r.Bound < c.to
			})
			line(set.title+c.title+": caught, harm over the bound's", rows, caughtAndHarm)
			if c.to > 1 {
				line(set.title+c.title+": information used over the bound's", rows, informationUsed)
			}
		}
	}
}

// fairGroup is the file of scenarios that differ in traffic, base rate and size
// of the regression alone.
const fairGroup = "errors"

func caughtAndHarm(i int, rows []Row) string {
	sum := Share{}
	logs, n := 0.0, 0.0
	for k := range rows {
		x := &rows[k].Cells[i]
		s := x.caught()
		sum.K, sum.N = sum.K+s.K, sum.N+s.N
		if rows[k].Harm > 0 && x.Harm.Mean > 0 {
			logs, n = logs+math.Log(x.Harm.Mean/rows[k].Harm), n+1
		}
	}
	if n == 0 {
		return fmt.Sprintf("%.0f %%", 100*sum.Value())
	}
	return fmt.Sprintf("%.0f %%, %s", 100*sum.Value(), amount(math.Exp(logs/n)))
}

// informationUsed is the geometric mean over scenarios that are caught in 95 % of
// runs.
func informationUsed(i int, rows []Row) string {
	logs, n := 0.0, 0.0
	for k := range rows {
		if x := &rows[k].Cells[i]; x.Ratio > 0 && x.caught().Value() >= 0.95 {
			logs, n = logs+math.Log(x.Ratio), n+1
		}
	}
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (of %.0f)", amount(math.Exp(logs/n)), n)
}

func dash(ok bool, text string) string {
	if !ok {
		return "-"
	}
	return text
}

func clock(s float64) string {
	switch {
	case s < 10:
		return fmt.Sprintf("%.1fs", s)
	case s < 600:
		return fmt.Sprintf("%.0fs", s)
	case s < 36000:
		return fmt.Sprintf("%.0fm", s/60)
	}
	return fmt.Sprintf("%.0fh", s/3600)
}

func amount(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	case x < 10000:
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.0fk", x/1000)
}

// Golden are the files that hold the table, by name.
func (t *Table) Golden() map[string][]byte {
	var data strings.Builder
	data.WriteString("{\n")
	fmt.Fprintf(&data, "  \"runs\": %d, \"seed\": %d, \"falseRollback\": %v,\n  \"policies\": %s,\n  \"rows\": [\n", t.Runs, t.Seed, t.Alpha, line(t.Policies))
	for i, r := range t.Rows {
		comma := ","
		if i == len(t.Rows)-1 {
			comma = ""
		}
		fmt.Fprintf(&data, "    %s%s\n", line(r), comma)
	}
	data.WriteString("  ]\n}\n")
	return map[string][]byte{goldenData: []byte(data.String()), goldenTable: []byte(t.Markdown())}
}

func line(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values
	}
	return string(b)
}

// beyond is how many standard errors a figure may be from the golden one. With
// several hundred of them, fewer would differ by chance alone.
const beyond = 4.0

// Check compares with the golden table of the folder: shares and harms, each
// within the standard error of both. What was not run is not compared.
func (t *Table) Check(dir fs.FS) (changed []string, err error) {
	data, err := fs.ReadFile(dir, goldenData)
	if err != nil {
		return nil, err
	}
	var want Table
	if err := json.Unmarshal(data, &want); err != nil {
		return nil, fmt.Errorf("%s: %w", goldenData, err)
	}
	if !slices.Equal(want.Policies, t.Policies) {
		return nil, fmt.Errorf("%s holds %s, this is %s", goldenData, strings.Join(want.Policies, ", "), strings.Join(t.Policies, ", "))
	}
	golden := map[string]*Row{}
	for i := range want.Rows {
		golden[want.Rows[i].Scenario] = &want.Rows[i]
	}
	for i := range t.Rows {
		r := &t.Rows[i]
		g := golden[r.Scenario]
		if g == nil || len(g.Cells) != len(r.Cells) {
			changed = append(changed, fmt.Sprintf("%s is not in %s", r.Scenario, goldenData))
			continue
		}
		for k := range r.Cells {
			changed = append(changed, differ(r.Scenario+", "+t.Policies[k], &r.Cells[k], &g.Cells[k])...)
		}
	}
	return changed, nil
}

func differ(name string, now, then *Cell) (out []string) {
	share := func(what string, a, b Share) {
		if d := a.Value() - b.Value(); math.Abs(d) > beyond*math.Hypot(a.Error(), b.Error()) {
			out = append(out, fmt.Sprintf("%s: %s %s, golden %s", name, what, percent(a.Value()), percent(b.Value())))
		}
	}
	share("taken back", now.back(), then.back())
	share("got to 100 %", Share{now.Passed, now.Runs}, Share{then.Passed, then.Runs})
	if d := now.Harm.Mean - then.Harm.Mean; math.Abs(d) > beyond*math.Hypot(now.Harm.Error, then.Harm.Error)+0.1*math.Max(now.Harm.Mean, then.Harm.Mean)/math.Sqrt(float64(max(1, min(now.Runs, then.Runs)))) {
		out = append(out, fmt.Sprintf("%s: harmed %s, golden %s", name, amount(now.Harm.Mean), amount(then.Harm.Mean)))
	}
	return out
}
