package status

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// most that evidence may be once it is unpacked.
const maxUnpacked = 64 << 20

// StateOf is the state that a status holds; false when it holds none.
func StateOf(st v1alpha1.RolloutStatus) (rollout.State, bool, error) {
	if st.Copy == "" {
		return rollout.State{}, false, nil
	}
	saved, err := unpack(st)
	return saved.State, err == nil, err
}

// pack puts a copy into a status: what of it people read where they read it,
// the rest as it is. It gives the copy its name and sees to the bounds.
func pack(st *v1alpha1.RolloutStatus, saved engine.Saved) error {
	state := saved.State
	st.N = int64(state.N)
	st.Decisions = nil
	for _, e := range newest(state.Decisions, v1alpha1.MaxDecisions) {
		st.Decisions = append(st.Decisions, decisionOf(e))
	}
	st.History = nil
	for _, o := range newest(state.History, v1alpha1.MaxHistory) {
		st.History = append(st.History, historyOf(o))
	}
	state.Decisions, state.History = nil, nil
	raw, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encoding the state: %w", err)
	}
	st.State, st.Told = &runtime.RawExtension{Raw: raw}, int64(saved.Told)
	if st.Evidence == nil {
		st.Evidence = &v1alpha1.Evidence{}
	}
	ev := st.Evidence
	ev.Saved, ev.Digest, ev.SavedAt = "", "", nil
	if len(saved.Evidence) > 0 {
		if ev.Saved, err = squeeze(saved.Evidence); err != nil {
			return fmt.Errorf("encoding the evidence: %w", err)
		}
		sum := sha256.Sum256(saved.Evidence)
		ev.Digest = fmt.Sprintf("%x", sum[:6])
		ev.SavedAt = instant(saved.State.LastPass)
	}
	if err := fit(st); err != nil {
		return err
	}
	st.Copy = name(saved, raw)
	return nil
}

// name tells this copy from every other one: two that differ have two names,
// though both follow from the same.
func name(saved engine.Saved, state []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d %d\n", saved.Version, saved.Told, len(state), len(saved.Evidence))
	h.Write(state)
	h.Write(saved.Evidence)
	n := 0
	_, _ = fmt.Sscanf(saved.Version, "%d-", &n) // a name of another form counts as 0
	return fmt.Sprintf("%d-%x", n+1, h.Sum(nil)[:6])
}

// unpack is the inverse of pack.
func unpack(st v1alpha1.RolloutStatus) (engine.Saved, error) {
	if st.Copy == "" {
		return engine.Saved{}, nil
	}
	bad := func(format string, args ...any) (engine.Saved, error) {
		return engine.Saved{}, &DamagedError{Why: fmt.Sprintf(format, args...)}
	}
	if st.State == nil || len(st.State.Raw) == 0 {
		return bad("names copy %s and holds no state", st.Copy)
	}
	saved := engine.Saved{Told: int(st.Told), Version: st.Copy}
	if err := json.Unmarshal(st.State.Raw, &saved.State); err != nil {
		return bad("holds a state that cannot be understood: %v", err)
	}
	if have := saved.State.Schema; have > rollout.SchemaVersion {
		return engine.Saved{}, &DamagedError{
			Why:    fmt.Sprintf("holds a state of schema %d; this program knows schemas up to %d", have, rollout.SchemaVersion),
			Remedy: "Run the later Serin that wrote it.",
		}
	}
	for _, d := range st.Decisions {
		saved.State.Decisions = append(saved.State.Decisions, eventOf(d))
	}
	for _, h := range st.History {
		saved.State.History = append(saved.State.History, outcomeOf(h))
	}
	if st.Evidence != nil && len(st.Evidence.Saved) > 0 {
		evidence, err := unsqueeze(st.Evidence.Saved)
		if err != nil {
			return bad("holds evidence that cannot be unpacked: %v", err)
		}
		saved.Evidence = evidence
	}
	return saved, nil
}

// keep leaves in next what belongs to the copy.
func keep(next *v1alpha1.RolloutStatus, last v1alpha1.RolloutStatus) {
	next.State, next.Objects, next.Told, next.Copy = last.State, last.Objects, last.Told, last.Copy
	next.N, next.Decisions, next.History = last.N, last.Decisions, last.History
	if last.Evidence != nil {
		if next.Evidence == nil {
			next.Evidence = &v1alpha1.Evidence{}
		}
		next.Evidence.Saved, next.Evidence.Digest, next.Evidence.SavedAt = last.Evidence.Saved, last.Evidence.Digest, last.Evidence.SavedAt
	}
}

// fit brings a status below its bound. What people can best do without goes
// first; the evidence goes last, since without it a judge begins anew, and the
// state never.
func fit(st *v1alpha1.RolloutStatus) error {
	size := func() int {
		b, err := json.Marshal(st)
		if err != nil {
			return math.MaxInt
		}
		return len(b)
	}
	if st.Evidence != nil && len(st.Evidence.Saved) > v1alpha1.MaxEvidence {
		shedEvidence(st)
	}
	for _, shed := range []func(){
		func() { shedDecisions(st, 0.5, func(d *v1alpha1.Decision) { d.Figures = nil }) },
		func() { shedDecisions(st, 1, func(d *v1alpha1.Decision) { d.Figures = nil }) },
		func() { shedDecisions(st, 0.8, func(d *v1alpha1.Decision) { d.Why = clip(d.Why, 128) }) },
		func() { st.Findings = st.Findings[:min(len(st.Findings), 3)] },
		func() { st.Decisions = newest(st.Decisions, 20) },
		func() { shedDecisions(st, 1, func(d *v1alpha1.Decision) { d.Why = clip(d.Why, 128) }) },
		func() { shedHistory(st) },
		func() { shedEvidence(st) },
	} {
		if size() <= v1alpha1.MaxStatusBytes {
			return nil
		}
		shed()
	}
	if n := size(); n > v1alpha1.MaxStatusBytes {
		return fmt.Errorf("%w: it would have %d bytes, and more than %d are not written; fewer or simpler steps make it smaller", engine.ErrRefused, n, v1alpha1.MaxStatusBytes)
	}
	return nil
}

// shedDecisions does something to the older share of the decisions.
func shedDecisions(st *v1alpha1.RolloutStatus, share float64, do func(*v1alpha1.Decision)) {
	st.Decisions = append([]v1alpha1.Decision(nil), st.Decisions...)
	for i := range int(share * float64(len(st.Decisions))) {
		do(&st.Decisions[i])
	}
}

func shedHistory(st *v1alpha1.RolloutStatus) {
	st.History = append([]v1alpha1.HistoryEntry(nil), st.History...)
	for i := range st.History {
		st.History[i].Why = clip(st.History[i].Why, 128)
	}
	if st.Evidence != nil {
		ev := *st.Evidence
		ev.Figures = nil
		st.Evidence = &ev
	}
}

func shedEvidence(st *v1alpha1.RolloutStatus) {
	if st.Evidence != nil {
		ev := *st.Evidence
		ev.Saved, ev.Digest, ev.SavedAt = "", "", nil
		st.Evidence = &ev
	}
}

func squeeze(b []byte) (string, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	return base64.StdEncoding.EncodeToString(out.Bytes()), err
}

func unsqueeze(s string) ([]byte, error) {
	r, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(s)))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err == nil && len(out) > maxUnpacked {
		err = fmt.Errorf("more than %d bytes", maxUnpacked)
	}
	return out, err
}

func newest[T any](list []T, most int) []T { return list[max(0, len(list)-most):] }

// clip cuts a text to so many characters, which is what a schema counts. What
// could not be shown, or would be written in six bytes, is a blank.
func clip(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// number is a number that can be written: one that is none is 0.
func number(f float64) v1alpha1.Number {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return v1alpha1.Number(f)
}

func instant(t time.Time) *v1alpha1.Time {
	if t.IsZero() {
		return nil
	}
	return &v1alpha1.Time{Time: t}
}

func decisionOf(e rollout.Event) v1alpha1.Decision {
	return v1alpha1.Decision{
		N: int64(e.N), At: v1alpha1.Time{Time: e.At}, By: clip(e.By, v1alpha1.MaxName), What: clip(string(e.What), v1alpha1.MaxWord),
		From: clip(e.From, v1alpha1.MaxRevision), To: clip(e.To, v1alpha1.MaxRevision), Why: clip(e.Why, v1alpha1.MaxSentence),
		Revision: clip(string(e.Rev), v1alpha1.MaxRevision), Figures: figuresOf(e.Figures),
	}
}

func eventOf(d v1alpha1.Decision) rollout.Event {
	e := rollout.Event{
		N: int(d.N), At: d.At.Time, By: d.By, What: rollout.What(d.What), From: d.From, To: d.To, Why: d.Why,
		Rev: rollout.Revision(d.Revision),
	}
	for _, f := range d.Figures {
		e.Figures = append(e.Figures, FigureOf(f))
	}
	return e
}

func figuresOf(figures []analysis.Figure) (out []v1alpha1.Figure) {
	for _, f := range figures[:min(len(figures), v1alpha1.MaxFigures)] {
		out = append(out, v1alpha1.Figure{
			Metric: clip(f.Metric, v1alpha1.MaxName), Unit: clip(f.Unit, v1alpha1.MaxWord), State: clip(f.State, v1alpha1.MaxWord),
			Canary: number(f.Canary), Stable: number(f.Stable), CanaryN: number(f.CanaryN), StableN: number(f.StableN),
			Low: number(f.Low), High: number(f.High), Limit: number(f.Limit), WindowSeconds: number(f.Window.Seconds()),
		})
	}
	return out
}

// FigureOf is the figure as the judge gave it.
func FigureOf(f v1alpha1.Figure) analysis.Figure {
	return analysis.Figure{
		Metric: f.Metric, Unit: f.Unit, State: f.State,
		Canary: float64(f.Canary), Stable: float64(f.Stable), CanaryN: float64(f.CanaryN), StableN: float64(f.StableN),
		Low: float64(f.Low), High: float64(f.High), Limit: float64(f.Limit),
		Window: time.Duration(math.Round(float64(f.WindowSeconds) * float64(time.Second))),
	}
}

func historyOf(o rollout.Outcome) v1alpha1.HistoryEntry {
	return v1alpha1.HistoryEntry{
		Revision: clip(string(o.Revision), v1alpha1.MaxRevision), From: clip(string(o.From), v1alpha1.MaxRevision),
		Outcome: clip(string(o.Result), v1alpha1.MaxWord), By: clip(o.By, v1alpha1.MaxName), Why: clip(o.Why, v1alpha1.MaxSentence),
		Started: v1alpha1.Time{Time: o.Started}, Ended: v1alpha1.Time{Time: o.Ended}, Exposed: number(o.Exposed), Harmed: number(o.Harmed),
	}
}

func outcomeOf(h v1alpha1.HistoryEntry) rollout.Outcome {
	return rollout.Outcome{
		Revision: rollout.Revision(h.Revision), From: rollout.Revision(h.From), Result: rollout.Result(h.Outcome), By: h.By, Why: h.Why,
		Started: h.Started.Time, Ended: h.Ended.Time, Exposed: float64(h.Exposed), Harmed: float64(h.Harmed),
	}
}
