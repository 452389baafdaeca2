package trial

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Question is what a user wants to know about a document's settings.
type Question struct {
	Spec    rollout.Spec
	Config  analysis.Config
	Source  Source
	Regress []Regression
	Compare *Compared
	Runs    int
	Seed    uint64
	Horizon time.Duration // 0: as long as the document may take
	Within  time.Duration // for the smallest regression
	Verify  int           // runs that verify it; 0 = none
	// Told hears of what is run before it is; nil = nobody does.
	Told func(what string)
}

func (q *Question) tell(format string, args ...any) {
	if q.Told != nil {
		q.Told(fmt.Sprintf(format, args...))
	}
}

// Report answers it.
type Report struct {
	Source   string        `json:"source"`
	Rate     float64       `json:"rps"`
	Base     float64       `json:"base"`
	Runs     int           `json:"runs"`
	Seed     uint64        `json:"seed"`
	Horizon  time.Duration `json:"horizon"`
	Bound    float64       `json:"falseRollback"` // what the document allows
	Policies []Answer      `json:"policies"`      // Serin first
	Power    []StepPower   `json:"power"`
	Smallest *Smallest     `json:"smallest,omitempty"`
	Notes    []string      `json:"notes,omitempty"`
}

// Answer is what one policy does.
type Answer struct {
	Name    string      `json:"name"`
	Healthy Totals      `json:"healthy"`
	False   [2]float64  `json:"falseInterval"` // of the probability of a false rollback, 95 %
	Wrong   []WrongCase `json:"regressions"`
}

// WrongCase is one regression under one policy.
type WrongCase struct {
	Regression Regression `json:"regression"`
	Totals     Totals     `json:"totals"`
	Caught     Share      `json:"caught"`
	Interval   [2]float64 `json:"caughtInterval"`
	// Bound is the least mean time in which any test can tell, at the first
	// weight that shows it; -1 where it has none.
	Bound time.Duration `json:"bound"`
	// BoundRequests is the same in requests of the canary.
	BoundRequests float64 `json:"boundRequests"`
	// Ratio is the information used over what the bound needs; 0 = not known.
	Ratio float64 `json:"ratio"`
}

// Smallest is the smallest share of failures that is caught in time.
type Smallest struct {
	Weight   float64       `json:"weight"`
	Within   time.Duration `json:"within"`
	Computed float64       `json:"computed"` // by the power calculation; 0 = none is
	Share    float64       `json:"share"`    // for which the runs below hold
	Seen     Share         `json:"seen"`     // runs in which it was caught in time
}

// Ask answers the question. It ends early only with ctx.
func Ask(ctx context.Context, q Question) (Report, error) {
	if q.Horizon == 0 {
		q.Horizon = longest(q.Spec)
	}
	r := Report{Source: q.Source.About(), Rate: q.Source.Rate(), Base: q.Source.Base(), Runs: q.Runs, Seed: q.Seed,
		Horizon: q.Horizon, Bound: q.Config.FalseRollback, Notes: assumptions(q.Spec, q.Config)}
	r.Notes = append(r.Notes, q.leaveOut()...)
	healthy, err := q.Source.Worlds(nil)
	if err != nil {
		return r, err
	}
	var wrong []Worlds
	var errs []error
	for i := range q.Regress {
		w, err := q.Source.Worlds(&q.Regress[i])
		wrong, errs = append(wrong, w), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	makers := []Maker{Serin(q.Spec, q.Config)}
	if q.Compare != nil {
		makers = append(makers, q.Compare.Maker)
		for _, n := range q.Compare.Notes {
			r.Notes = append(r.Notes, q.Compare.Maker.Name+": "+n)
		}
	}
	for _, m := range makers {
		a := Answer{Name: m.Name}
		q.tell("%s: %d healthy releases", m.Name, q.Runs)
		if a.Healthy, err = Campaign(ctx, Case{healthy, m, q.Horizon}, q.Seed, q.Runs); err != nil {
			return r, err
		}
		a.False[0], a.False[1] = a.Healthy.Back.Interval()
		for i, w := range wrong {
			q.tell("%s: %d with %s", m.Name, q.Runs, q.Regress[i].Text)
			t, err := Campaign(ctx, Case{w, m, q.Horizon}, q.Seed, q.Runs)
			if err != nil {
				return r, err
			}
			a.Wrong = append(a.Wrong, q.wrongCase(q.Regress[i], w, t))
		}
		r.Policies = append(r.Policies, a)
	}
	r.Power = Power(q.Spec, q.Config, r.Rate, r.Base, q.Within)
	r.Smallest, err = q.smallest(ctx)
	return r, err
}

// leaveOut takes out of the analysis what the source has not measured: it would
// be told of as missing, and nothing would advance.
func (q *Question) leaveOut() (notes []string) {
	has := q.Source.Measured()
	out := func(what string) {
		notes = append(notes, what+" was not measured there: that part of the analysis is left out")
	}
	if q.Config.Latency != nil && has&analysis.HasLatency == 0 {
		q.Config.Latency = nil
		out("latency")
	}
	if q.Config.CPU != nil && has&analysis.HasCPU == 0 {
		q.Config.CPU = nil
		out("CPU")
	}
	if q.Config.Memory != nil && has&analysis.HasMemory == 0 {
		q.Config.Memory = nil
		out("memory")
	}
	if l, at := q.Config.Latency, q.Source.bounds(); l != nil && l.Max > 0 && len(at) > 0 {
		max := float64(l.Max) / float64(time.Millisecond)
		i := slices.IndexFunc(at, func(le float64) bool { return le >= max-1e-9 })
		if i < 0 {
			i = len(at) - 1
		}
		if math.Abs(at[i]-max) > 1e-9 {
			moved := *l
			moved.Max = time.Duration(at[i] * float64(time.Millisecond))
			q.Config.Latency = &moved
			notes = append(notes, fmt.Sprintf("the synthetic service has no histogram bound at the latency limit %s: %s is taken instead", short(l.Max), short(moved.Max)))
		}
	}
	return notes
}

func (q *Question) wrongCase(g Regression, w Worlds, t Totals) WrongCase {
	c := WrongCase{Regression: g, Totals: t, Caught: t.Caught(), Bound: -1}
	c.Interval[0], c.Interval[1] = c.Caught.Interval()
	weight := firstWeight(q.Spec, g.From)
	alpha := q.Config.FalseRollback
	d := time.Duration(math.MaxInt64)
	switch y, isSynthetic := w.(synthetic); {
	case weight <= 0 || weight >= 1 || alpha <= 0 || g.Over > 0:
	case g.Error > 0:
		d = Bound(alpha, weight, q.Source.Rate(), q.Source.Base(), g.Error)
	case isSynthetic && y.slow != nil:
		d = boundSlow(alpha, weight, q.Source.Rate(), y.slow)
	}
	if d < math.MaxInt64 {
		c.Bound, c.BoundRequests = d, d.Seconds()*weight*q.Source.Rate()
	}
	if c.Caught.K > 0 && t.Info.Mean > 0 {
		c.Ratio = t.Info.Mean / math.Log(1/alpha)
	}
	return c
}

// firstWeight is the first weight of the plan that is not below from.
func firstWeight(spec rollout.Spec, from float64) float64 {
	for _, s := range spec.Steps {
		if w := float64(s.Weight) / float64(rollout.Whole); s.Kind == rollout.StepWeight && w > 0 && w+1e-9 >= from {
			return w
		}
	}
	return 1
}

// longest is how long the document may take where every step lasts until its
// deadline, and a little more.
func longest(spec rollout.Spec) time.Duration {
	d := spec.Promotion.Bake + spec.Analysis.Deadline
	for _, s := range spec.Steps {
		if s.Kind == rollout.StepWeight {
			d += max(s.Hold, spec.Analysis.Deadline) + 2*spec.Settle
		} else {
			d += s.Hold
		}
	}
	return min(d+10*time.Minute, 24*time.Hour)
}

// assumptions says what the simulation takes for granted about this document.
func assumptions(spec rollout.Spec, cfg analysis.Config) []string {
	var out []string
	kinds := map[rollout.StepKind]bool{}
	for _, s := range spec.Steps {
		kinds[s.Kind] = true
	}
	if kinds[rollout.StepApproval] {
		out = append(out, "approvals are given at once")
	}
	if kinds[rollout.StepPause] {
		out = append(out, "a pause for a person is ended at once")
	}
	if kinds[rollout.StepTest] {
		out = append(out, "tests pass at once")
	}
	if kinds[rollout.StepMatch] {
		out = append(out, "nobody asks for the canary by header: a match step only takes its time")
	}
	if len(cfg.Custom) > 0 {
		names := []string{}
		for _, c := range cfg.Custom {
			names = append(names, c.Name)
		}
		out = append(out, "custom metrics stay within their limits: "+strings.Join(names, ", "))
	}
	if cfg.None {
		out = append(out, "the document switches the analysis off ("+cfg.NoneReason+"): nothing is caught")
	}
	if spec.Suspend {
		out = append(out, "the document says suspend: nothing moves")
	}
	return out
}

// smallest computes the smallest share of failures that is caught in time at
// the first weight, and verifies it by runs that stay there. Where too few of
// them catch it, a larger one is tried.
func (q *Question) smallest(ctx context.Context) (*Smallest, error) {
	w := firstWeight(q.Spec, 0)
	if q.Config.None || q.Config.ErrorRate == nil || !(w < 1) || q.Within <= 0 {
		return nil, nil
	}
	x := &Smallest{Weight: w, Within: q.Within}
	p, ok := SmallestError(q.Config, w, q.Source.Rate(), q.Source.Base(), q.Within)
	if !ok {
		return x, nil
	}
	p = math.Min(1, roundUp(p))
	x.Computed, x.Share = p, p
	if q.Verify == 0 {
		return x, nil
	}
	spec := q.Spec
	spec.Steps = []rollout.Step{
		{Kind: rollout.StepWeight, Weight: rollout.Weight(math.Round(w * float64(rollout.Whole))), Hold: 2 * q.Within, ID: "verify"},
		{Kind: rollout.StepWeight, Weight: rollout.Whole, ID: "whole"},
	}
	for range 5 {
		q.tell("the smallest regression: %d with %s failing", q.Verify, percent(p))
		worlds, err := q.Source.Worlds(&Regression{Text: "error=" + percent(p), Error: p})
		if err != nil {
			return x, err
		}
		t, err := Campaign(ctx, Case{worlds, Serin(spec, q.Config), q.Within + spec.Settle + time.Minute}, q.Seed, q.Verify)
		if err != nil {
			return x, err
		}
		x.Share, x.Seen = p, t.Within(q.Within)
		if x.Seen.Value() >= 0.88 || p >= 1 {
			break
		}
		p = math.Min(1, roundUp(p*1.2))
	}
	return x, nil
}

// roundUp keeps two digits, at least a hundredth of a percent.
func roundUp(p float64) float64 {
	unit := math.Max(1e-4, math.Pow(10, math.Floor(math.Log10(p))-1))
	return math.Ceil(p/unit-1e-9) * unit
}

// Sentence says the smallest regression in words.
func (r *Report) Sentence() string {
	s := r.Smallest
	if s == nil {
		return ""
	}
	lead := fmt.Sprintf("With %g requests/s the smallest regression caught within %s at %s", round3(r.Rate), people(s.Within), percent(s.Weight))
	if s.Computed == 0 {
		return fmt.Sprintf("With %g requests/s no regression is caught within %s at %s, not even one that fails every request.", round3(r.Rate), people(s.Within), percent(s.Weight))
	}
	text := fmt.Sprintf("%s is %s of requests failing", lead, percent(s.Share))
	if s.Seen.N > 0 {
		text += fmt.Sprintf(" (caught in time in %d of %d runs", s.Seen.K, s.Seen.N)
		if s.Share != s.Computed {
			text += fmt.Sprintf("; the power calculation says %s", percent(s.Computed))
		}
		text += ")"
	}
	return text + "."
}

func round3(x float64) float64 {
	if x == 0 {
		return 0
	}
	u := math.Pow(10, math.Floor(math.Log10(math.Abs(x)))-2)
	return math.Round(x/u) * u
}

func people(d time.Duration) string {
	switch {
	case d%time.Hour == 0 && d > time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d%time.Minute == 0 && d > time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return short(d)
}

// FalseBeyond says whether Serin's false rollbacks exceed what the document
// allows beyond doubt.
func (r *Report) FalseBeyond() bool {
	return len(r.Policies) > 0 && r.Policies[0].False[0] > r.Bound
}

// MissedBeyond are the regressions that Serin misses in more than this share of
// runs.
func (r *Report) MissedBeyond(share float64) []string {
	var out []string
	for _, w := range r.Policies[0].Wrong {
		if float64(w.Caught.N-w.Caught.K) > share*float64(w.Caught.N)+1e-9 {
			out = append(out, w.Regression.Text)
		}
	}
	return out
}
