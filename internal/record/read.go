package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// maxLine bounds one line: a thousand replicas with histograms fit many times.
const maxLine = 16 << 20

// LineError says what is wrong with one line, all of it at once.
type LineError struct {
	Line     int // 1-based
	Problems []string
}

func (e *LineError) Error() string {
	return fmt.Sprintf("line %d: %s", e.Line, strings.Join(e.Problems, "; "))
}

// Reader reads a record line by line.
type Reader struct {
	in     *bufio.Reader
	line   int
	warn   func(string)
	warned bool
}

// NewReader reads a record. warn is told, once, of the first unknown field, and
// of a last line that was cut off; nil = nobody is.
func NewReader(in io.Reader, warn func(string)) *Reader {
	if warn == nil {
		warn = func(string) {}
	}
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), warn: warn}
}

// Number is the number of the line that was read last, 1-based.
func (r *Reader) Number() int { return r.line }

// Next gives the next line; io.EOF after the last one; a *LineError for one
// that cannot be used. Empty lines are passed over.
func (r *Reader) Next() (Line, error) {
	for {
		text, err := r.text()
		if err != nil && (len(text) == 0 || !errors.Is(err, io.EOF)) {
			return Line{}, err
		}
		cut := errors.Is(err, io.EOF) // no newline at its end
		if len(bytes.TrimSpace(text)) == 0 {
			if cut {
				return Line{}, io.EOF
			}
			continue
		}
		l, unknown, problems := decode(text)
		if cut && len(problems) > 0 && !json.Valid(text) {
			r.warn(fmt.Sprintf("line %d, the last one, was cut off while it was written: left out", r.line))
			return Line{}, io.EOF
		}
		if len(unknown) > 0 && !r.warned {
			r.warned = true
			r.warn(fmt.Sprintf("line %d: unknown fields are ignored (said once): %s", r.line, strings.Join(unknown, ", ")))
		}
		if len(problems) > 0 {
			return Line{}, &LineError{Line: r.line, Problems: problems}
		}
		return l, nil
	}
}

// text gives one line without its newline; io.EOF beside it where that was
// missing.
func (r *Reader) text() ([]byte, error) {
	r.line++
	var text []byte
	for {
		part, err := r.in.ReadSlice('\n')
		text = append(text, part...)
		if len(text) > maxLine {
			return nil, &LineError{Line: r.line, Problems: []string{fmt.Sprintf("is longer than %d MiB", maxLine>>20)}}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("reading line %d: %w", r.line, err)
		}
		return bytes.TrimSuffix(text, []byte("\n")), err
	}
}

// decode reads one line. The quick way is encoding/json's; only where that
// finds something is the line walked through, to say where and what.
func decode(text []byte) (l Line, unknown, problems []string) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil || dec.More() {
		if unknown, problems = explain(text); len(problems) > 0 {
			return Line{}, unknown, problems
		}
		l = Line{}
		if err := json.Unmarshal(text, &l); err != nil {
			return Line{}, unknown, []string{err.Error()}
		}
	}
	return l, unknown, l.check()
}

// explain walks through a line beside its type.
func explain(text []byte) (unknown, problems []string) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, []string{"is not JSON: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	if dec.More() {
		return nil, []string{"holds more than one JSON object"}
	}
	w := walker{}
	w.walk(v, reflect.TypeFor[Line](), "")
	slices.Sort(w.unknown)
	slices.Sort(w.problems)
	return w.unknown, w.problems
}

type walker struct{ unknown, problems []string }

func (w *walker) want(path, what string, got any) {
	shown, _ := json.Marshal(got)
	if len(shown) > 40 {
		shown = append(shown[:40], "..."...)
	}
	if path == "" {
		path = "the line"
	}
	w.problems = append(w.problems, fmt.Sprintf("%s: want %s, got %s", path, what, shown))
}

// ours says whether a type reads its own text, so that only it can judge it.
func ours(t reflect.Type) bool {
	return t == reflect.TypeFor[time.Time]() || reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]())
}

func (w *walker) walk(v any, t reflect.Type, path string) {
	if v == nil { // null is absent
		return
	}
	switch {
	case t.Kind() == reflect.Pointer:
		w.walk(v, t.Elem(), path)
		return
	case ours(t):
		into := reflect.New(t)
		text, isText := v.(string)
		if quoted, _ := json.Marshal(text); !isText || json.Unmarshal(quoted, into.Interface()) != nil {
			what := "a known word"
			if t == reflect.TypeFor[time.Time]() {
				what = `a time such as "2026-01-01T00:00:05Z"`
			}
			w.want(path, what, v)
		}
		return
	case t == reflect.TypeFor[[]byte]():
		if _, ok := v.(string); !ok {
			w.want(path, "base64 text", v)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		w.object(v, t, path)
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			w.want(path, "an object", v)
			return
		}
		for k, e := range m {
			w.walk(e, t.Elem(), join(path, k))
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			w.want(path, "a list", v)
			return
		}
		for i, e := range list {
			if e == nil && t.Elem().Kind() == reflect.Float64 {
				w.want(fmt.Sprintf("%s[%d]", path, i), "a number", e)
			}
			w.walk(e, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			w.want(path, "a text", v)
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			w.want(path, "true or false", v)
		}
	case reflect.Float64:
		n, ok := v.(json.Number)
		if _, err := strconv.ParseFloat(n.String(), 64); !ok || err != nil {
			w.want(path, "a number", v)
		}
	default: // whole numbers
		n, ok := v.(json.Number)
		if _, err := strconv.ParseInt(n.String(), 10, 64); !ok || err != nil {
			w.want(path, "a whole number", v)
		}
	}
}

func (w *walker) object(v any, t reflect.Type, path string) {
	m, ok := v.(map[string]any)
	if !ok {
		w.want(path, "an object", v)
		return
	}
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	for k, e := range m {
		f, known := fields[k]
		if !known {
			w.unknown = append(w.unknown, join(path, k))
			continue
		}
		w.walk(e, f, join(path, k))
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// check says what is wrong with values whose types are right.
func (l *Line) check() (problems []string) {
	bad := func(path, format string, args ...any) {
		problems = append(problems, path+": "+fmt.Sprintf(format, args...))
	}
	if l.Time.IsZero() {
		bad("time", `is missing: when was this seen, such as "2026-01-01T00:00:05Z"?`)
	}
	if l.Traffic != nil {
		if _, err := weightsOf(l.Traffic); err != nil {
			bad("traffic", "%v", err)
		}
	}
	for name, r := range l.Revisions {
		path := "revisions." + name
		if name == "" {
			bad("revisions", "a version has no name")
		}
		for field, n := range map[string]*int{"replicas": r.Replicas, "ready": r.Ready} {
			if n != nil && (*n < 0 || *n > 1e6) {
				bad(path+"."+field, "%d is not a number of replicas", *n)
			}
		}
		for pod, p := range r.Pods {
			if h := p.Latency; h != nil && len(h.LE) != len(h.Count) {
				bad(path+".pods."+pod+".latency", "%d bounds in le and %d counts: there must be as many", len(h.LE), len(h.Count))
			}
		}
	}
	for i, c := range l.Commands {
		path := fmt.Sprintf("commands[%d]", i)
		if c.ID == "" {
			bad(path+".id", "is missing: a command is obeyed once by its id")
		}
		if !slices.Contains(verbs, rollout.Verb(c.Verb)) {
			bad(path+".verb", "%q is none of %v", c.Verb, verbs)
		}
	}
	for name, r := range l.Answers {
		for _, one := range []*Reading{r.Stable, r.Canary} {
			if one != nil && !knownAnswer(one.Answer) {
				bad("answers."+name, "%q is none of empty, notANumber, several, failed", one.Answer)
			}
		}
	}
	slices.Sort(problems)
	return problems
}

var verbs = []rollout.Verb{
	rollout.VerbAbort, rollout.VerbUndo, rollout.VerbPause, rollout.VerbApprove,
	rollout.VerbResume, rollout.VerbPromote, rollout.VerbRetry, rollout.VerbAdopt,
}

func knownAnswer(word string) bool {
	for _, known := range answerNames {
		if word == known {
			return true
		}
	}
	return false
}

// weightsOf reads a split in percent. Its parts may be rounded; their sum may
// be off by as much as that makes.
func weightsOf(percent map[string]float64) (map[string]rollout.Weight, error) {
	weights := map[string]rollout.Weight{}
	sum, largest := rollout.Weight(0), ""
	for name, p := range percent {
		if !(p >= 0 && p <= 100) {
			return nil, fmt.Errorf("%s has %v; a share is 0 to 100", name, p)
		}
		w := rollout.Weight(math.Round(p * 100))
		weights[name] = w
		sum += w
		if largest == "" || w > weights[largest] || w == weights[largest] && name < largest {
			largest = name
		}
	}
	off := rollout.Whole - sum
	if len(percent) == 0 || off > rollout.Weight(len(percent)) || -off > rollout.Weight(len(percent)) {
		return nil, fmt.Errorf("the shares sum up to %g, not to 100", float64(sum)/100)
	}
	weights[largest] += off
	return weights, nil
}
