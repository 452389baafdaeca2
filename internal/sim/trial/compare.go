package trial

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/strictyaml"
)

// Compared is what a file of another tool says, ready to run, with what it says
// that a simulation cannot do.
type Compared struct {
	Maker Maker
	Notes []string

	flagger *Flagger
	argo    *Argo
}

// withoutLatency is the same for a service whose latencies are not measured.
func (c *Compared) withoutLatency() Maker {
	keep := func(ms []ArgoMetric) []ArgoMetric {
		return slices.DeleteFunc(slices.Clone(ms), func(m ArgoMetric) bool { return m.query.kind == latencyQuantile })
	}
	switch {
	case c.flagger != nil:
		f := *c.flagger
		f.Metrics = slices.DeleteFunc(slices.Clone(f.Metrics), func(m FlaggerMetric) bool { return m.query.kind == latencyQuantile })
		return f.Maker()
	case c.argo != nil:
		a := *c.argo
		a.Background = keep(a.Background)
		a.Steps = slices.Clone(a.Steps)
		for i := range a.Steps {
			a.Steps[i].Analysis = keep(a.Steps[i].Analysis)
		}
		return a.Maker()
	}
	return c.Maker
}

// Hints say by a metric's name what its query measures, where that cannot be
// told from the query: "success:1m", "errors:5m", "p99:1m".
type Hints map[string]string

// Compare reads a Flagger Canary, or an Argo AnalysisTemplate with or without
// its Rollout, with the templates that they refer to in the same file. steps
// are those of the document on trial: they stand in for a Rollout that is not
// there. All problems come at once, each with its line and field.
func Compare(data []byte, steps []rollout.Step, hints Hints) (Compared, []strictyaml.Problem) {
	docs, problems := strictyaml.Parse(data)
	if len(problems) > 0 {
		return Compared{}, problems
	}
	c := &comparing{hints: hints, used: map[string]bool{}, flaggerTemplates: map[string]found{}, argoTemplates: map[string]found{}}
	var canaries, rollouts []found
	for _, d := range docs {
		f := found{d, d.Text("metadata", "name")}
		switch kind := d.Text("kind"); kind {
		case "Canary":
			canaries = append(canaries, f)
		case "MetricTemplate":
			c.flaggerTemplates[f.name] = f
		case "AnalysisTemplate", "ClusterAnalysisTemplate":
			c.argoTemplates[f.name] = f
			c.argoOrder = append(c.argoOrder, f.name)
		case "Rollout":
			rollouts = append(rollouts, f)
		default:
			c.note("%s %s is left out", firstWord(kind, "a document without kind"), f.name)
		}
	}
	var out Compared
	switch {
	case len(canaries) == 1 && len(rollouts)+len(c.argoTemplates) == 0:
		out.flagger = c.flagger(canaries[0])
		out.Maker = out.flagger.Maker()
	case len(canaries) == 0 && len(rollouts) <= 1 && len(c.argoTemplates) > 0:
		var r *found
		if len(rollouts) == 1 {
			r = &rollouts[0]
		}
		out.argo = c.argo(r, steps)
		out.Maker = out.argo.Maker()
	default:
		c.problems = append(c.problems, strictyaml.Problem{Line: 1, Message: "one Flagger Canary is meant, or Argo AnalysisTemplates with at most one Rollout"})
	}
	for name := range hints {
		if !c.used[name] && len(c.problems) == 0 {
			c.problems = append(c.problems, strictyaml.Problem{Line: 1, Message: fmt.Sprintf("no metric is called %s", name)})
		}
	}
	if len(c.problems) > 0 {
		return Compared{}, c.problems
	}
	out.Notes = c.notes
	return out, nil
}

type found struct {
	*strictyaml.Document
	name string
}

type comparing struct {
	hints            Hints
	used             map[string]bool
	flaggerTemplates map[string]found
	argoTemplates    map[string]found
	argoOrder        []string
	problems         []strictyaml.Problem
	notes            []string
}

func (c *comparing) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *comparing) bad(d found, path, format string, args ...any) {
	c.problems = append(c.problems, strictyaml.Problem{Line: d.Position(path), Path: path, Message: fmt.Sprintf(format, args...)})
}

func firstWord(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// duration reads Go's notation; "" is the default. Argo also takes a bare
// number of seconds.
func (c *comparing) duration(d found, path string, text anyText, standard time.Duration) time.Duration {
	if text == "" {
		return standard
	}
	if n, err := strconv.Atoi(string(text)); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	x, err := time.ParseDuration(string(text))
	if err != nil || x < 0 || x > 365*24*time.Hour {
		c.bad(d, path, "%q: a time is meant, such as 30s or 5m", string(text))
		return standard
	}
	return x
}

// anyText is a scalar that may be written as a text or as a number.
type anyText string

// UnmarshalJSON takes both.
func (t *anyText) UnmarshalJSON(b []byte) error {
	s := string(b)
	if strings.HasPrefix(s, `"`) {
		u, err := strconv.Unquote(s)
		if err != nil {
			return err
		}
		s = u
	} else if strings.ContainsAny(s, "{[") {
		return fmt.Errorf("a text or a number is meant")
	}
	*t = anyText(s)
	return nil
}

// anything is there or is not.
type anything struct{}

// UnmarshalJSON takes it.
func (*anything) UnmarshalJSON([]byte) error { return nil }

func (c *comparing) whole(d found, path string, text anyText, standard int) int {
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		c.bad(d, path, "%q: a whole number is meant", string(text))
		return standard
	}
	return n
}

// hinted is what the user said about a metric.
func (c *comparing) hinted(d found, path, name string) (query, bool) {
	text, ok := c.hints[name]
	if !ok {
		return query{}, false
	}
	c.used[name] = true
	q, err := namedQuery(text)
	if err != nil {
		c.bad(d, path, "%v", err)
	}
	return q, true
}

func (c *comparing) query(d found, path, name, text string, values map[string]string) query {
	if q, ok := c.hinted(d, path, name); ok {
		return q
	}
	q, err := parseQuery(text, values)
	if err != nil {
		c.bad(d, path, "metric %s: %v; say what it measures with --compare-metric %s=success:1m (or errors:5m, p99:1m)", name, err, name)
		return q
	}
	c.note("metric %s is taken as the %s", name, q.String())
	return q
}

// ---- Flagger ----

type flaggerCanary struct {
	Spec struct {
		SkipAnalysis bool             `json:"skipAnalysis"`
		Analysis     *flaggerAnalysis `json:"analysis"`
		Old          *flaggerAnalysis `json:"canaryAnalysis"`
	} `json:"spec"`
}

type flaggerAnalysis struct {
	Interval    anyText         `json:"interval"`
	Threshold   anyText         `json:"threshold"`
	MaxWeight   anyText         `json:"maxWeight"`
	StepWeight  anyText         `json:"stepWeight"`
	StepWeights []anyText       `json:"stepWeights"`
	Iterations  anyText         `json:"iterations"`
	Mirror      bool            `json:"mirror"`
	Match       []anything      `json:"match"`
	Metrics     []flaggerMetric `json:"metrics"`
	Webhooks    []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"webhooks"`
}

type flaggerMetric struct {
	Name           string  `json:"name"`
	Interval       anyText `json:"interval"`
	Threshold      anyText `json:"threshold"`
	ThresholdRange *struct {
		Min anyText `json:"min"`
		Max anyText `json:"max"`
	} `json:"thresholdRange"`
	Query       string `json:"query"`
	TemplateRef *struct {
		Name string `json:"name"`
	} `json:"templateRef"`
	Variables map[string]string `json:"templateVariables"`
}

// flaggerFloor is the shortest interval that Flagger takes.
const flaggerFloor = 10 * time.Second

func (c *comparing) flagger(d found) *Flagger {
	var doc flaggerCanary
	c.problems = append(c.problems, d.Decode(&doc, strictyaml.Skip)...)
	a, at := doc.Spec.Analysis, "spec.analysis"
	if a == nil {
		a, at = doc.Spec.Old, "spec.canaryAnalysis"
	}
	if a == nil {
		c.bad(d, "spec.analysis", "is missing: it says how a canary is judged")
		return &Flagger{}
	}
	f := &Flagger{Interval: max(flaggerFloor, c.duration(d, at+".interval", a.Interval, time.Minute)),
		Threshold: c.whole(d, at+".threshold", a.Threshold, 1), Skip: doc.Spec.SkipAnalysis}
	if a.Mirror {
		c.bad(d, at+".mirror", "mirrored requests are not simulated")
	}
	if len(a.Match) > 0 {
		c.bad(d, at+".match", "an A/B test by headers is not simulated")
	}
	if a.Iterations != "" {
		c.bad(d, at+".iterations", "a blue/green analysis looks at a load test's requests, which are not simulated")
	}
	f.Weights = c.flaggerWeights(d, at, a)
	for i, m := range a.Metrics {
		c.flaggerMetric(d, fmt.Sprintf("%s.metrics[%d]", at, i), m, f)
	}
	if len(a.Metrics) == 0 {
		c.note("no metrics are listed: every check passes")
	}
	for _, w := range a.Webhooks {
		c.note("webhook %s is taken to answer well", firstWord(w.Name, w.Type))
	}
	return f
}

func (c *comparing) flaggerWeights(d found, at string, a *flaggerAnalysis) []float64 {
	var out []float64
	percent := func(path string, t anyText, standard int) int {
		n := c.whole(d, path, t, standard)
		if n < 0 || n > 100 {
			c.bad(d, path, "%d: a share of 0 to 100 is meant", n)
			return standard
		}
		return n
	}
	most := percent(at+".maxWeight", a.MaxWeight, 100)
	if len(a.StepWeights) > 0 {
		before := 0
		for i, t := range a.StepWeights {
			path := fmt.Sprintf("%s.stepWeights[%d]", at, i)
			w := percent(path, t, before+1)
			if w <= before {
				c.bad(d, path, "%d: the weights must rise", w)
			}
			before = w
			out = append(out, float64(w)/100)
		}
		return out
	}
	step := percent(at+".stepWeight", a.StepWeight, 0)
	if step == 0 {
		if a.Iterations == "" && len(a.Match) == 0 {
			c.bad(d, at+".stepWeight", "is missing: by how much the canary's share grows, such as 5")
		}
		return []float64{1}
	}
	for w := step; ; w += step {
		out = append(out, float64(min(w, 100))/100)
		if w >= most || w >= 100 {
			return out
		}
	}
}

func (c *comparing) flaggerMetric(d found, path string, m flaggerMetric, f *Flagger) {
	number := func(p string, t anyText) *float64 {
		if t == "" {
			return nil
		}
		x, err := strconv.ParseFloat(string(t), 64)
		if err != nil {
			c.bad(d, p, "%q: a number is meant", string(t))
		}
		return &x
	}
	window := c.duration(d, path+".interval", m.Interval, time.Minute)
	out := FlaggerMetric{Name: m.Name}
	success := false
	values := map[string]string{"interval": short(window), "target": "canary", "namespace": "default"}
	for k, v := range m.Variables {
		values["variables."+k] = v
	}
	switch q, ok := c.hinted(d, path, m.Name); {
	case ok:
		out.query = q
	case m.TemplateRef != nil:
		t, ok := c.flaggerTemplates[m.TemplateRef.Name]
		if !ok {
			c.bad(d, path+".templateRef", "the MetricTemplate %s is not in this file: add it, or say what it measures with --compare-metric %s=success:1m", m.TemplateRef.Name, m.Name)
			return
		}
		out.query = c.query(t, "spec.query", m.Name, t.Text("spec", "query"), values)
	case m.Query != "":
		out.query = c.query(d, path+".query", m.Name, m.Query, values)
	case m.Name == "request-success-rate":
		out.query, success = query{kind: successShare, times: 100, window: window}, true
	case m.Name == "request-duration":
		out.query = query{kind: latencyQuantile, q: 0.99, times: 1, window: window}
	default:
		c.bad(d, path+".name", "%q is neither request-success-rate nor request-duration and has no templateRef", m.Name)
		return
	}
	switch r, limit := m.ThresholdRange, number(path+".threshold", m.Threshold); {
	case r != nil:
		out.Min, out.Max = number(path+".thresholdRange.min", r.Min), number(path+".thresholdRange.max", r.Max)
	case limit == nil:
		c.bad(d, path+".thresholdRange", "is missing: {min: 99} or {max: 500}")
	case success:
		out.Min = limit
	default:
		out.Max = limit
	}
	f.Metrics = append(f.Metrics, out)
}

// ---- Argo Rollouts ----

type argoTemplate struct {
	Spec struct {
		Args []struct {
			Name  string  `json:"name"`
			Value anyText `json:"value"`
		} `json:"args"`
		Metrics []argoMetric `json:"metrics"`
	} `json:"spec"`
}

type argoMetric struct {
	Name                  string  `json:"name"`
	Interval              anyText `json:"interval"`
	InitialDelay          anyText `json:"initialDelay"`
	Count                 anyText `json:"count"`
	SuccessCondition      string  `json:"successCondition"`
	FailureCondition      string  `json:"failureCondition"`
	FailureLimit          anyText `json:"failureLimit"`
	InconclusiveLimit     anyText `json:"inconclusiveLimit"`
	ConsecutiveErrorLimit anyText `json:"consecutiveErrorLimit"`
	ConsecutiveSuccess    anyText `json:"consecutiveSuccessLimit"`
	Provider              struct {
		Prometheus *struct {
			Query string `json:"query"`
		} `json:"prometheus"`
	} `json:"provider"`
}

type argoRef struct {
	Templates []struct {
		TemplateName string `json:"templateName"`
	} `json:"templates"`
	TemplateName string  `json:"templateName"`
	StartingStep anyText `json:"startingStep"`
	Args         []struct {
		Name  string  `json:"name"`
		Value anyText `json:"value"`
	} `json:"args"`
}

type argoRollout struct {
	Spec struct {
		Strategy struct {
			Canary *struct {
				Steps    []argoStep `json:"steps"`
				Analysis *argoRef   `json:"analysis"`
			} `json:"canary"`
		} `json:"strategy"`
	} `json:"spec"`
}

type argoStep struct {
	SetWeight *anyText `json:"setWeight"`
	Pause     *struct {
		Duration anyText `json:"duration"`
	} `json:"pause"`
	Analysis *argoRef `json:"analysis"`
}

func (c *comparing) argo(r *found, steps []rollout.Step) *Argo {
	a := &Argo{}
	if r == nil {
		c.note("there is no Rollout in this file: the steps are those of the document, the analysis runs in the background")
		for _, s := range steps {
			if s.Kind != rollout.StepWeight || s.Weight == rollout.Whole {
				continue
			}
			w := float64(s.Weight) / float64(rollout.Whole)
			a.Steps = append(a.Steps, ArgoStep{Weight: &w, Pause: s.Hold})
		}
		for _, name := range c.argoOrder {
			a.Background = append(a.Background, c.argoMetrics(c.argoTemplates[name], nil)...)
		}
		return a
	}
	var doc argoRollout
	c.problems = append(c.problems, r.Decode(&doc, strictyaml.Skip)...)
	canary := doc.Spec.Strategy.Canary
	if canary == nil {
		c.bad(*r, "spec.strategy.canary", "is missing: only a canary is simulated")
		return a
	}
	at := "spec.strategy.canary"
	if canary.Analysis != nil {
		a.From = c.whole(*r, at+".analysis.startingStep", canary.Analysis.StartingStep, 0)
		a.Background = c.argoRefs(*r, at+".analysis", canary.Analysis)
	}
	for i, s := range canary.Steps {
		path := fmt.Sprintf("%s.steps[%d]", at, i)
		switch {
		case s.SetWeight != nil:
			n := c.whole(*r, path+".setWeight", *s.SetWeight, 0)
			if n < 0 || n > 100 {
				c.bad(*r, path+".setWeight", "%d: a share of 0 to 100 is meant", n)
			}
			w := float64(n) / 100
			a.Steps = append(a.Steps, ArgoStep{Weight: &w})
		case s.Pause != nil:
			if s.Pause.Duration == "" {
				c.note("step %d waits for a person: ended at once", i+1)
			}
			a.Steps = append(a.Steps, ArgoStep{Pause: c.duration(*r, path+".pause.duration", s.Pause.Duration, 0)})
		case s.Analysis != nil:
			ms := c.argoRefs(*r, path+".analysis", s.Analysis)
			for _, m := range ms {
				if m.Count == 0 && m.SuccessLimit == 0 {
					c.bad(*r, path+".analysis", "metric %s has no count: as a step it would never end", m.Name)
				}
			}
			a.Steps = append(a.Steps, ArgoStep{Analysis: ms})
		default:
			c.note("step %d is neither setWeight, pause nor analysis: left out", i+1)
			a.Steps = append(a.Steps, ArgoStep{})
		}
	}
	return a
}

func (c *comparing) argoRefs(r found, path string, ref *argoRef) []ArgoMetric {
	names := []string{}
	if ref.TemplateName != "" {
		names = append(names, ref.TemplateName)
	}
	for _, t := range ref.Templates {
		names = append(names, t.TemplateName)
	}
	if len(names) == 0 {
		c.bad(r, path+".templates", "is missing: which AnalysisTemplate")
	}
	values := map[string]string{}
	for _, v := range ref.Args {
		if v.Value != "" {
			values[v.Name] = string(v.Value)
		}
	}
	var out []ArgoMetric
	for _, n := range names {
		t, ok := c.argoTemplates[n]
		if !ok {
			c.bad(r, path+".templates", "the AnalysisTemplate %s is not in this file", n)
			continue
		}
		out = append(out, c.argoMetrics(t, values)...)
	}
	return out
}

func (c *comparing) argoMetrics(d found, given map[string]string) []ArgoMetric {
	var doc argoTemplate
	c.problems = append(c.problems, d.Decode(&doc, strictyaml.Skip)...)
	values := map[string]string{}
	for _, v := range doc.Spec.Args {
		if v.Value != "" {
			values[v.Name] = string(v.Value)
		}
	}
	for k, v := range given {
		values[k] = v
	}
	if len(doc.Spec.Metrics) == 0 {
		c.bad(d, "spec.metrics", "is missing: what is measured")
	}
	var out []ArgoMetric
	for i, m := range doc.Spec.Metrics {
		path := fmt.Sprintf("spec.metrics[%d]", i)
		x := ArgoMetric{
			Name:              m.Name,
			Interval:          c.duration(d, path+".interval", m.Interval, 0),
			Delay:             c.duration(d, path+".initialDelay", m.InitialDelay, 0),
			FailureLimit:      c.whole(d, path+".failureLimit", m.FailureLimit, 0),
			InconclusiveLimit: c.whole(d, path+".inconclusiveLimit", m.InconclusiveLimit, 0),
			ErrorLimit:        c.whole(d, path+".consecutiveErrorLimit", m.ConsecutiveErrorLimit, 4),
			SuccessLimit:      c.whole(d, path+".consecutiveSuccessLimit", m.ConsecutiveSuccess, 0),
		}
		x.Count = 0
		if x.Interval == 0 {
			x.Count = 1
		}
		x.Count = c.whole(d, path+".count", m.Count, x.Count)
		if x.Interval == 0 && x.Count != 1 {
			c.bad(d, path+".interval", "is missing: count %d needs an interval", x.Count)
		}
		x.Success = c.condition(d, path+".successCondition", m.SuccessCondition, values)
		x.Failure = c.condition(d, path+".failureCondition", m.FailureCondition, values)
		if p := m.Provider.Prometheus; p != nil {
			x.query = c.query(d, path+".provider.prometheus.query", m.Name, p.Query, values)
		} else if q, ok := c.hinted(d, path, m.Name); ok {
			x.query = q
		} else {
			c.bad(d, path+".provider", "metric %s: only prometheus is understood; say what it measures with --compare-metric %s=success:1m", m.Name, m.Name)
		}
		out = append(out, x)
	}
	return out
}

func (c *comparing) condition(d found, path, text string, values map[string]string) *condition {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	missing := ""
	text = placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := strings.TrimPrefix(placeholder.FindStringSubmatch(m)[1], "args.")
		if v, ok := values[name]; ok {
			return v
		}
		missing = name
		return "0"
	})
	if missing != "" {
		c.bad(d, path, "the argument %s has no value in this file", missing)
		return nil
	}
	parsed, err := parseCondition(text)
	if err != nil {
		c.bad(d, path, "%q: %v", text, err)
	}
	return parsed
}
