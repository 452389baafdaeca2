package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// What the document has no word for.
const (
	quiet        = 5 * time.Second  // no new request for so long: the traffic is gone
	drainTimeout = 60 * time.Second // requests in flight are waited for no longer
	staleAfter   = 60 * time.Second // after so long without data a limit's `for` begins anew
)

// SpecOf says the document in the core's and the judge's terms. The document is
// not changed; what it leaves out has its default. All its faults come back as
// one error, each with its field's path.
func SpecOf(doc *v1alpha1.Rollout) (rollout.Spec, analysis.Config, error) {
	doc = doc.DeepCopy()
	doc.Default()
	if problems := doc.Validate(); len(problems) > 0 {
		return rollout.Spec{}, analysis.Config{}, problems.ToAggregate()
	}
	s := &doc.Spec
	steps, err := stepsOf(s.Strategy.Plan())
	if err != nil {
		return rollout.Spec{}, analysis.Config{}, err
	}
	return rollout.Spec{
		Suspend:   s.Suspend,
		Deleted:   doc.DeletionTimestamp != nil,
		Steps:     steps,
		BlueGreen: s.Strategy.BlueGreen != nil,
		Revert:    revertOf(&s.Strategy),
		Capacity: rollout.Capacity{
			Headroom: rollout.Weight(s.Capacity.Headroom),
			HPA:      rollout.HPAPolicy(s.Capacity.HPA),
			Deadline: s.Capacity.Deadline.Duration,
		},
		Analysis: rollout.Policy{
			None:          s.Analysis.None != nil,
			Deadline:      s.Analysis.Deadline.Duration,
			OnUndecided:   rollout.Action(s.Analysis.OnUndecided),
			OnUnavailable: rollout.Action(s.Analysis.OnUnavailable),
		},
		Promotion: rollout.Promotion{
			Bake:        s.Promotion.Bake.Duration,
			Retire:      rollout.Retire(s.Promotion.Retire),
			RetireAfter: s.Promotion.RetireAfter.Duration,
			Control:     rollout.Weight(s.Promotion.Control),
		},
		RollbackRetire: rollout.Retire(s.Rollback.Retire),
		Drift:          rollout.Drift(s.Drift),
		Settle:         settleOf(s.Traffic),
		Quiet:          quiet,
		DrainTimeout:   drainTimeout,
		IgnoreRule:     ignoreRule(s.Traffic),
	}, configOf(&s.Analysis), nil
}

func revertOf(s *v1alpha1.Strategy) rollout.Revert {
	policy := v1alpha1.RevertFast
	switch {
	case s.BlueGreen != nil:
		policy = s.BlueGreen.Revert
	case s.Canary != nil:
		policy = s.Canary.Revert
	}
	return rollout.Revert(policy)
}

// settleOf is the longest time that one of the routes takes: a split is in
// force when all of them have it.
func settleOf(routes []v1alpha1.Traffic) time.Duration {
	var longest time.Duration
	for _, t := range routes {
		if t.Istio != nil {
			longest = max(longest, t.Istio.Settle.Duration)
		}
	}
	return longest
}

func stepsOf(plan []v1alpha1.Step) ([]rollout.Step, error) {
	var steps []rollout.Step
	repeats := map[string]int{}
	for i, p := range plan {
		content, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		id := stepID(content)
		if repeats[id]++; repeats[id] > 1 { // two approvals that say the same are two
			id = fmt.Sprintf("%s#%d", id, repeats[id])
		}
		step := rollout.Step{ID: id}
		switch {
		case p.Weight != nil:
			step.Kind, step.Weight = rollout.StepWeight, rollout.Weight(*p.Weight)
		case p.Match != nil:
			step.Kind = rollout.StepMatch
			step.Match = &rollout.Match{Header: p.Match.Header, Cookie: p.Match.Cookie, Path: p.Match.Path}
		case p.Approval != nil:
			step.Kind, step.By = rollout.StepApproval, p.Approval.By
			if p.Approval.Until != nil {
				step.Until = p.Approval.Until.Duration
			}
		case p.Pause != nil:
			step.Kind = rollout.StepPause
			if p.Pause.For != nil {
				step.Hold = p.Pause.For.Duration
			}
		case p.Test != nil:
			step.Kind, step.Test = rollout.StepTest, TestName(p.Test)
		}
		if p.Hold != nil {
			step.Hold = p.Hold.Duration
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// stepID is short for the step's content: a step that says the same keeps its
// ID when the steps around it are edited.
func stepID(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:4])
}

// TestName is what a test is called in a plan and in what is run: its kind, and
// short for its content.
func TestName(t *v1alpha1.Test) string {
	content, _ := json.Marshal(t) // strings and a duration; cannot fail
	kind := "job"
	switch {
	case t.Command != nil:
		kind = "command"
	case t.Webhook != nil:
		kind = "webhook"
	}
	return kind + "-" + stepID(content)
}

// TestsOf finds the tests of the document's plan by their name, for the host
// that runs them. The document is not changed.
func TestsOf(doc *v1alpha1.Rollout) map[string]v1alpha1.Test {
	doc = doc.DeepCopy()
	doc.Default()
	tests := map[string]v1alpha1.Test{}
	for _, s := range doc.Spec.Strategy.Plan() {
		if s.Test != nil {
			tests[TestName(s.Test)] = *s.Test
		}
	}
	return tests
}

// configOf needs an analysis with its defaults.
func configOf(a *v1alpha1.Analysis) analysis.Config {
	if a.None != nil {
		return analysis.Config{None: true, NoneReason: a.None.Reason, StaleAfter: staleAfter}
	}
	cfg := analysis.Config{
		MinRequests:   float64(*a.MinRequests),
		FalseRollback: a.FalseRollback.Fraction(),
		StaleAfter:    staleAfter,
		Compare:       true,
	}
	if e := a.ErrorRate; e != nil {
		cfg.ErrorRate = &analysis.RateRule{WorseBy: e.WorseBy.Fraction(), For: lasting(e.For)}
		if e.Max != nil {
			most := e.Max.Fraction()
			cfg.ErrorRate.Max = &most
		}
	}
	if l := a.Latency; l != nil {
		cfg.Latency = &analysis.LatencyRule{Quantile: float64(*l.Quantile) / 100, WorseBy: l.WorseBy.Fraction(), For: lasting(l.For)}
		if l.Max != nil {
			cfg.Latency.Max = l.Max.Duration
		}
	}
	cfg.CPU, cfg.Memory = gaugeOf(a.CPU), gaugeOf(a.Memory)
	for _, m := range a.Metrics {
		cfg.Custom = append(cfg.Custom, analysis.CustomRule{
			Name: m.Name, Min: (*float64)(m.Min), Max: (*float64)(m.Max), For: lasting(m.For),
		})
	}
	return cfg
}

func gaugeOf(u *v1alpha1.ResourceUse) *analysis.GaugeRule {
	if u == nil {
		return nil
	}
	rule := &analysis.GaugeRule{WorseBy: u.WorseBy.Fraction(), For: lasting(u.For)}
	if u.Max != nil {
		most := u.Max.AsApproximateFloat64()
		rule.Max = &most
	}
	return rule
}

func lasting(d *v1alpha1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}

// ignoreRule is what keeps Argo CD from writing the split back: destinations and
// their weights, the route of a match step, subsets of ours. It takes effect on
// a sync only with the option RespectIgnoreDifferences=true.
func ignoreRule(routes []v1alpha1.Traffic) string {
	var b strings.Builder
	b.WriteString("ignoreDifferences:\n")
	for _, t := range routes {
		switch {
		case t.Istio != nil:
			fmt.Fprintf(&b, "- {group: networking.istio.io, kind: VirtualService, name: %s, jqPathExpressions: ['.spec.http[]?.route', '.spec.tcp[]?.route', '.spec.tls[]?.route', '.spec.http[]? | select((.name // \"\") | startswith(\"serin-match/\"))']}\n", t.Istio.VirtualService)
			if t.Istio.DestinationRule == "" {
				continue // one Service for each version: they are not written
			}
			fmt.Fprintf(&b, "- {group: networking.istio.io, kind: DestinationRule, name: %s, jqPathExpressions: ['.spec.subsets[]? | select(.name | startswith(\"serin-\"))']}\n", t.Istio.DestinationRule)
		case t.GatewayAPI != nil:
			fmt.Fprintf(&b, "- {group: gateway.networking.k8s.io, kind: %s, name: %s, jqPathExpressions: ['.spec.rules[]?.backendRefs[]?.weight']}\n", t.GatewayAPI.Kind, t.GatewayAPI.Name)
		}
	}
	return b.String()
}
