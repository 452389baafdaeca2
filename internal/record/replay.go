package record

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Replayer puts the judge and the policy before a record, line by line.
type Replayer struct {
	spec  rollout.Spec
	mind  *engine.Mind
	state rollout.State
	// since says when a version first appeared. Of versions that appear in one
	// line those with less traffic come later, then those with the later name.
	since map[string]time.Time
	first time.Time
	last  time.Time
	// weights are the last ones that were answered.
	weights map[string]float64
	status  rollout.Status
}

// NewReplayer begins with nothing known.
func NewReplayer(spec rollout.Spec, cfg analysis.Config) *Replayer {
	return &Replayer{spec: spec, mind: engine.NewMind(spec, cfg), since: map[string]time.Time{}}
}

// State is what was decided so far.
func (r *Replayer) State() rollout.State { return r.state }

// maxPasses bounds how often one line is decided upon: a decision may open the
// way to the next one, and another program sends the next line only after it
// was answered.
const maxPasses = 16

// Next decides upon one line. An error says that the evidence in the line's
// Start cannot be used; the answer is valid all the same.
func (r *Replayer) Next(l Line) (Answer, error) {
	var err error
	if l.Start != nil {
		r.state = l.Start.State
		if l.Start.JudgeKept {
			// Nothing to do: what the judge knows is in the lines before.
		} else if rerr := r.mind.Restore(l.Start.Evidence); rerr != nil {
			err = fmt.Errorf("the evidence that the record starts with: %w", rerr)
		}
	}
	if r.first.IsZero() {
		r.first = l.Time
	}
	r.last = l.Time
	r.appear(l)

	look := l.Looked == nil || *l.Looked
	var all []rollout.Event
	var d rollout.Decision
	var obs rollout.Observation
	var rep analysis.Report
	for range maxPasses {
		var seen *engine.Sampled
		if look && r.state.Stable.Revision != "" {
			s := r.sampled(l)
			seen, look = &s, false // one look is one look
		}
		d, obs = r.mind.Think(r.state, r.observation(l), seen, l.Time)
		if seen != nil || rep.Verdict == analysis.Unavailable {
			rep = obs.Report // what this line was judged to say; a later pass of it has not looked
		}
		if broken := rollout.Check(r.spec, r.state, obs, d); broken != nil {
			d = rollout.Decision{Next: r.state, Status: rollout.Status{Message: "A decision was not carried out, because it breaks what must hold: " + broken.Error()}}
			break
		}
		if l.Unsaved {
			break
		}
		r.state = d.Next
		all = append(all, d.Events...)
		if l.Observation != nil || d.Wake.IsZero() || d.Wake.After(l.Time) || d.Save != rollout.SaveMust {
			break
		}
	}
	r.status = d.Status
	return r.answer(l, d, rep, all), err
}

// appear notes when versions are first seen.
func (r *Replayer) appear(l Line) {
	var fresh []string
	for name := range l.Revisions {
		if _, known := r.since[name]; !known {
			fresh = append(fresh, name)
		}
	}
	slices.SortFunc(fresh, func(a, b string) int {
		return cmp.Or(-cmp.Compare(l.Traffic[a], l.Traffic[b]), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for i, name := range fresh {
		r.since[name] = l.Time.Add(time.Duration(i))
	}
}

// observation is a line as Decide takes it.
func (r *Replayer) observation(l Line) rollout.Observation {
	obs := rollout.Observation{Tests: l.Tests, Windows: l.Windows, Findings: l.Findings}
	for _, c := range l.Commands {
		obs.Commands = append(obs.Commands, rollout.Command{
			ID: c.ID, Verb: rollout.Verb(c.Verb), By: cmp.Or(c.By, "somebody"), Groups: c.Groups, Reason: c.Reason,
			Revision: rollout.Revision(c.Revision), N: c.N, Full: c.Full, Override: c.Override,
		})
	}
	if o := l.Observation; o != nil {
		obs.Workloads, obs.Route, obs.Declared = o.Workloads, o.Route, o.Declared
		obs.Route.InFlight, obs.Route.Last = o.InFlight, o.Last
		obs.SaveError, obs.ApplyError = o.SaveError, o.ApplyError
		return obs
	}
	obs.Workloads = r.workloads(l)
	obs.Route = r.route(l)
	return obs
}

func (r *Replayer) workloads(l Line) rollout.Workloads {
	if l.Revisions == nil {
		return rollout.Workloads{}
	}
	all := rollout.Workloads{Known: rollout.Absent}
	for _, name := range slices.Sorted(maps.Keys(l.Revisions)) {
		rev := l.Revisions[name]
		w := rollout.Workload{Revision: rollout.Revision(name), Name: name, UID: name, Generation: 1, Since: r.since[name]}
		if rev.Replicas != nil {
			w.Replicas = *rev.Replicas
		}
		if rev.Ready != nil {
			w.Ready, w.ReadyKnown = *rev.Ready, true
			if rev.Replicas == nil {
				w.Replicas = *rev.Ready
			}
		}
		if !w.ReadyKnown && len(rev.Pods) > 0 {
			// A pod that is seen answers; how many were asked for is not said.
			w.Ready, w.ReadyKnown, w.Replicas = len(rev.Pods), true, max(w.Replicas, len(rev.Pods))
		}
		all.Known = rollout.Present
		all.Items = append(all.Items, w)
	}
	return all
}

// route reads the split in force as a route that gives receipts. A split that
// is not what was decided is an earlier one of ours, still or again in force:
// in a record nobody else writes.
func (r *Replayer) route(l Line) rollout.Route {
	if l.Traffic == nil {
		return rollout.Route{}
	}
	labels, err := weightsOf(l.Traffic)
	if err != nil {
		return rollout.Route{} // a Reader has refused such a line
	}
	st := r.state
	route := rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{}, HasReceipt: true}
	other := rollout.Revision("")
	for label, w := range labels {
		rev := r.named(label)
		route.Weights[rev] += w
		if rev != st.Stable.Revision && w > 0 && (other == "" || rev == st.Canary.Revision) {
			other = rev
		}
	}
	if st.Stable.Revision == "" {
		return route
	}
	want := rollout.Traffic{N: st.TrafficN, Stable: st.Stable.Revision, Canary: st.Canary.Revision, Weight: st.Granted}
	if same(route.Weights, want.Weights()) {
		note := want.Note()
		route.Note, route.Receipt = &note, want.N
		return route
	}
	route.Receipt = want.N - 1
	route.Note = &rollout.Note{N: want.N - 1, Stable: st.Stable.Revision, Canary: other, Weight: route.Weights[other]}
	return route
}

// named is the revision that the state knows by this label.
func (r *Replayer) named(label string) rollout.Revision {
	for _, known := range []rollout.Revision{r.state.Canary.Revision, r.state.Stable.Revision} {
		if known != "" && string(known) == label {
			return known
		}
	}
	for _, known := range []rollout.Revision{r.state.Canary.Revision, r.state.Stable.Revision} {
		if known != "" && known.Label() == label {
			return known
		}
	}
	return rollout.Revision(label)
}

func same(a, b map[rollout.Revision]rollout.Weight) bool {
	for k, w := range a {
		if b[k] != w {
			return false
		}
	}
	for k, w := range b {
		if a[k] != w {
			return false
		}
	}
	return true
}

// sampled is what the line says about the versions on trial.
func (r *Replayer) sampled(l Line) engine.Sampled {
	stable, canary := r.state.Stable.Revision, r.state.Canary.Revision
	s := engine.Sampled{Stable: podsOf(l, stable), Canary: podsOf(l, canary)}
	names := map[string]bool{}
	for name := range l.Metrics {
		names[name] = true
	}
	for name := range l.Answers {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s.Custom = append(s.Custom, analysis.Custom{
			Name:   name,
			Stable: readingOf(l, name, stable, l.Answers[name].Stable),
			Canary: readingOf(l, name, canary, l.Answers[name].Canary),
		})
	}
	return s
}

// of finds what a map by version holds for a revision: under its whole name,
// else under its label.
func of[T any](m map[string]T, rev rollout.Revision) (T, bool) {
	var none T
	if rev == "" {
		return none, false
	}
	if v, ok := m[string(rev)]; ok {
		return v, true
	}
	v, ok := m[rev.Label()]
	return v, ok
}

func readingOf(l Line, name string, rev rollout.Revision, other *Reading) analysis.Reading {
	if other != nil {
		for answer, word := range answerNames {
			if word == other.Answer {
				return analysis.Reading{Answer: answer, Detail: other.Detail}
			}
		}
	}
	if v, ok := of(l.Metrics[name], rev); ok {
		return analysis.Reading{Answer: analysis.Number, Value: v}
	}
	return analysis.Reading{}
}

func podsOf(l Line, rev rollout.Revision) []analysis.Pod {
	version, ok := of(l.Revisions, rev)
	if !ok {
		return nil
	}
	var pods []analysis.Pod
	for _, name := range slices.Sorted(maps.Keys(version.Pods)) {
		pods = append(pods, version.Pods[name].Sample(name))
	}
	return pods
}

// Sample is what a line says of a pod, as it was measured.
func (p Pod) Sample(name string) analysis.Pod {
	out := analysis.Pod{Name: name}
	if p.Started != nil {
		out.Started = *p.Started
	}
	take := func(has analysis.Has, from, to *float64) {
		if from != nil {
			*to = *from
			out.Has |= has
		}
	}
	take(analysis.HasRequests, p.Requests, &out.Requests)
	take(analysis.HasErrors, p.Errors, &out.Errors)
	take(analysis.HasCPU, p.CPUSeconds, &out.CPUSeconds)
	take(analysis.HasMemory, p.MemoryBytes, &out.MemoryBytes)
	take(analysis.HasRestarts, p.Restarts, &out.Restarts)
	take(analysis.HasRestarts, p.OOMKills, &out.OOMKills)
	if p.Latency != nil {
		out.Latency = analysis.Histogram{LE: p.Latency.LE, Count: p.Latency.Count}
		out.Has |= analysis.HasLatency
	}
	return out
}

func (r *Replayer) answer(l Line, d rollout.Decision, rep analysis.Report, events []rollout.Event) Answer {
	st := r.state
	a := Answer{
		Time: l.Time, Phase: cmp.Or(st.Phase, rollout.Idle),
		Stable: st.Stable.Revision.Label(), Canary: st.Canary.Revision.Label(),
		Verdict:  rep.Verdict,
		Evidence: Evidence{Rollback: rep.Rollback, Advance: rep.Advance},
		Tests:    d.Tests,
		Message:  d.Status.Message,
	}
	switch st.Phase {
	case rollout.Progressing, rollout.Promoting, rollout.Baking:
		a.Step = st.Step + 1
	}
	if t := d.Traffic; t != nil {
		r.weights = map[string]float64{t.Stable.Label(): percent(rollout.Whole - t.Weight)}
		if t.Canary != "" {
			r.weights[t.Canary.Label()] = percent(t.Weight)
		}
		a.Match = t.Match
	} else if r.weights == nil {
		r.weights = l.Traffic // nothing was decided yet: leave it as it is
	}
	a.Weights = r.weights
	for _, s := range d.Scale {
		if a.Scale == nil {
			a.Scale = map[string]int{}
		}
		switch label := s.Revision.Label(); {
		case s.Zero, s.Delete:
			a.Scale[label] = 0
		case s.Min > 0:
			a.Scale[label] = s.Min
		}
	}
	for _, e := range events {
		a.Decisions = append(a.Decisions, decisionOf(e))
	}
	if !d.Wake.IsZero() {
		wake := d.Wake
		a.Wake = &wake
	}
	return a
}

func percent(w rollout.Weight) float64 { return float64(w) / 100 }

// Exit codes: those of every verb that follows a rollout.
const (
	ExitPromoted   = 0 // at rest with the wanted version
	ExitError      = 1 // stalled, or the record cannot be read
	ExitRolledBack = 2
	ExitUnfinished = 3 // the record ends before the rollout does
	ExitApproval   = 4 // waits for approval
)

// Summary is how a record ended.
type Summary struct {
	Lines    int               `json:"lines"`
	From     time.Time         `json:"from"`
	To       time.Time         `json:"to"`
	Phase    rollout.Phase     `json:"phase"`
	Rollouts []rollout.Outcome `json:"rollouts,omitempty"` // that have ended
	Message  string            `json:"message"`
	Exit     int               `json:"exit"`
}

// String is one line for each rollout that ended, and one for where it stands.
func (s Summary) String() string {
	text := ""
	for _, o := range s.Rollouts {
		text += fmt.Sprintf("%s -> %s: %s after %v; exposed %.0f requests, harmed %.0f\n",
			o.From.Label(), o.Revision.Label(), outcomeWords[o.Result], o.Ended.Sub(o.Started).Round(time.Second), o.Exposed, o.Harmed)
	}
	switch {
	case s.Lines == 0:
		text += "the record is empty\n"
	case s.Phase != rollout.Idle:
		text += fmt.Sprintf("the record ends in %s: %s\n", s.Phase, s.Message)
	case len(s.Rollouts) == 0:
		text += fmt.Sprintf("no rollout in %d lines: %s\n", s.Lines, s.Message)
	}
	return text
}

var outcomeWords = map[rollout.Result]string{
	rollout.Promoted:   "promoted",
	rollout.RolledBack: "rolled back",
	rollout.Aborted:    "aborted",
	rollout.Superseded: "superseded",
	rollout.Withdrawn:  "withdrawn",
	rollout.Undone:     "gone back to by undo",
	rollout.Reverted:   "gone back to by Git",
	rollout.Abandoned:  "not gone back to: it never got ready",
}

// Summary says where it stands now. Lines is the caller's to count.
func (r *Replayer) Summary() Summary {
	s := Summary{
		From: r.first, To: r.last, Phase: cmp.Or(r.state.Phase, rollout.Idle),
		Rollouts: r.state.History, Message: r.status.Message,
	}
	underWay := s.Phase != rollout.Idle
	var last rollout.Result
	if n := len(s.Rollouts); n > 0 {
		last = s.Rollouts[n-1].Result
	}
	switch {
	case r.status.Waiting == rollout.WaitApproval:
		s.Exit = ExitApproval
	case underWay && r.status.Stalled != "" && s.Phase != rollout.RollingBack:
		s.Exit = ExitError
	case underWay:
		s.Exit = ExitUnfinished
	case last == rollout.RolledBack, last == rollout.Aborted, last == rollout.Withdrawn, last == rollout.Abandoned:
		s.Exit = ExitRolledBack
	case r.state.Stable.Revision == "", r.status.Stalled != "":
		s.Exit = ExitError
	}
	return s
}

// Hooks are what a caller may want to hear; each may be nil.
type Hooks struct {
	Warn func(string) // unknown fields, a last line that was cut off
}

// Replay answers every line of a record at once, one JSON object a line, and
// says at the end how it went. An error (a *LineError for a line that cannot be
// used) ends it; the summary then is about the lines before.
func Replay(spec rollout.Spec, cfg analysis.Config, in io.Reader, out io.Writer, hooks Hooks) (Summary, error) {
	reader, replayer := NewReader(in, hooks.Warn), NewReplayer(spec, cfg)
	flush := bufio.NewWriter(out)
	enc := json.NewEncoder(flush)
	enc.SetEscapeHTML(false)
	lines := 0
	end := func(err error) (Summary, error) {
		s := replayer.Summary()
		s.Lines = lines
		if err != nil || lines == 0 {
			s.Exit = ExitError
		}
		return s, err
	}
	for {
		l, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return end(nil)
		}
		if err != nil {
			return end(err)
		}
		lines++
		a, err := replayer.Next(l)
		if err != nil && hooks.Warn != nil {
			hooks.Warn(fmt.Sprintf("line %d: %v", reader.Number(), err))
		}
		if err := enc.Encode(a); err != nil {
			return end(fmt.Errorf("answering line %d: %w", reader.Number(), err))
		}
		if err := flush.Flush(); err != nil {
			return end(fmt.Errorf("answering line %d: %w", reader.Number(), err))
		}
	}
}
