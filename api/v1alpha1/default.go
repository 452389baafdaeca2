package v1alpha1

import "time"

// Default fills in what was left out, with what a careful operator would
// choose. It changes nothing that was said, and a second call changes nothing.
func (r *Rollout) Default() {
	if r.APIVersion == "" {
		r.APIVersion = GroupVersion.String()
	}
	if r.Kind == "" {
		r.Kind = Kind
	}
	s := &r.Spec
	s.Workload.setDefaults()
	for i := range s.Traffic {
		s.Traffic[i].setDefaults()
	}
	orValue(&s.Capacity.HPA, HPAHoldMinimum)
	orDuration(&s.Capacity.Deadline, 10*time.Minute)
	s.Strategy.setDefaults()
	s.Analysis.setDefaults(s.Strategy.longestHold())
	orDuration(&s.Promotion.Bake, 10*time.Minute)
	orDuration(&s.Promotion.RetireAfter, 0)
	orValue(&s.Promotion.Retire, RetireScaleToZero)
	orValue(&s.Rollback.Retire, RetireScaleToZero)
	orValue(&s.Drift, DriftObey)
}

func (w *Workload) setDefaults() {
	if w.Versions != nil {
		orValue(&w.Versions.Label, "version")
	}
	if w.InPlace != nil {
		orValue(&w.InPlace.Kind, InPlaceDeployment)
	}
}

func (t *Traffic) setDefaults() {
	if t.Istio != nil {
		orDuration(&t.Istio.Settle, 10*time.Second)
	}
	if t.GatewayAPI != nil {
		orValue(&t.GatewayAPI.Kind, GatewayAPIHTTPRoute)
	}
}

func (s *Strategy) setDefaults() {
	if b := s.BlueGreen; b != nil {
		orValue(&b.Revert, RevertFast)
		b.Test.setDefaults()
		if b.Preview != nil {
			orDuration(&b.Hold, time.Minute)
		}
		return
	}
	if s.Canary == nil {
		s.Canary = &CanaryStrategy{}
	}
	orValue(&s.Canary.Revert, RevertFast)
	s.Canary.Steps = defaultSteps(s.Canary.Steps)
}

// defaultSteps gives the usual steps for none, and ends any others with 100%.
func defaultSteps(steps []Step) []Step {
	if len(steps) == 0 {
		for _, w := range []Percent{500, 2500, 5000, 7500, Whole} {
			steps = append(steps, Step{Weight: &w})
		}
	}
	if last := lastWeight(steps); last == nil || *last < Whole {
		whole := Whole
		steps = append(steps, Step{Weight: &whole})
	}
	for i := range steps {
		steps[i].Test.setDefaults()
		// What is watched at 100% is the bake.
		if w := steps[i].Weight; w != nil && *w < Whole || steps[i].Match != nil {
			orDuration(&steps[i].Hold, time.Minute)
		}
	}
	return steps
}

func lastWeight(steps []Step) *Percent {
	for i := len(steps) - 1; i >= 0; i-- {
		if w := steps[i].Weight; w != nil {
			return w
		}
	}
	return nil
}

func (t *Test) setDefaults() {
	if t != nil {
		orDuration(&t.Timeout, 10*time.Minute)
	}
}

func (a *Analysis) setDefaults(longestHold time.Duration) {
	orValue(&a.Source, SourceAuto)
	orPointer(&a.MinRequests, 200)
	// A deadline that ends before the hold does would decide for it.
	orDuration(&a.Deadline, max(30*time.Minute, 2*longestHold))
	orValue(&a.OnUndecided, UndecidedAdvance)
	orValue(&a.OnUnavailable, UnavailablePause)
	orPointer(&a.FalseRollback, 100)
	if a.None == nil {
		if a.ErrorRate == nil && !a.skips(MetricErrorRate) {
			a.ErrorRate = &ErrorRate{}
		}
		if a.Latency == nil && !a.skips(MetricLatency) {
			a.Latency = &Latency{}
		}
	}
	a.setMetricDefaults()
}

func (a *Analysis) setMetricDefaults() {
	const usual = time.Minute
	if e := a.ErrorRate; e != nil {
		orPointer(&e.WorseBy, 50)
		if e.Max != nil {
			orDuration(&e.For, usual)
		}
	}
	if l := a.Latency; l != nil {
		orPointer(&l.WorseBy, 2000)
		if l.Max != nil {
			orDuration(&l.For, usual)
		} else {
			// With a limit the quantile is part of what is asked for: not guessed.
			orPointer(&l.Quantile, 99)
		}
	}
	for _, u := range []*ResourceUse{a.CPU, a.Memory} {
		if u == nil {
			continue
		}
		orPointer(&u.WorseBy, 3000)
		if u.Max != nil {
			orDuration(&u.For, usual)
		}
	}
	for i := range a.Metrics {
		orDuration(&a.Metrics[i].For, usual)
	}
}

func (a *Analysis) skips(m DefaultMetric) bool {
	for _, s := range a.Skip {
		if s == m {
			return true
		}
	}
	return false
}

// Plan gives a strategy as steps, the last of which is the weight 100%: those
// of a canary as they are, blue/green as test, preview, approval, switch.
func (s *Strategy) Plan() []Step {
	if s.BlueGreen == nil {
		if s.Canary == nil {
			return nil
		}
		return s.Canary.DeepCopy().Steps
	}
	b := s.BlueGreen.DeepCopy()
	var steps []Step
	if b.Test != nil {
		steps = append(steps, Step{Test: b.Test})
	}
	if b.Preview != nil {
		steps = append(steps, Step{Match: b.Preview, Hold: b.Hold})
	}
	if b.Approval != nil {
		steps = append(steps, Step{Approval: b.Approval})
	}
	whole := Whole
	return append(steps, Step{Weight: &whole, Hold: &Duration{}})
}

func (s *Strategy) longestHold() time.Duration {
	var longest time.Duration
	for _, step := range s.Plan() {
		if step.Hold != nil && (step.Weight == nil || *step.Weight < Whole) { // at 100% the hold is a part of the bake
			longest = max(longest, step.Hold.Duration)
		}
	}
	return longest
}

func orValue[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

func orPointer[T any](field **T, otherwise T) {
	if *field == nil {
		*field = &otherwise
	}
}

func orDuration(field **Duration, otherwise time.Duration) {
	orPointer(field, Duration{otherwise})
}
