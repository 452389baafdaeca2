package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// LineOf is one pass of a live rollout as a line. Its replay decides the same.
func LineOf(res engine.Result) Line {
	l := Line{
		Time: res.At,
		Observation: &Observation{
			Workloads: res.Seen.Workloads, Route: res.Seen.Route, Declared: res.Seen.Declared,
			SaveError: res.Seen.SaveError, ApplyError: res.Seen.ApplyError,
		},
		Tests: res.Seen.Tests, Windows: res.Seen.Windows, Findings: res.Seen.Findings,
		Unsaved: !res.Taken,
	}
	o := l.Observation
	o.InFlight, o.Last, o.Route.InFlight, o.Route.Last = o.Route.InFlight, o.Route.Last, nil, nil
	if res.Loaded != nil {
		l.Start = &Start{State: res.Loaded.State, Evidence: res.Loaded.Evidence, JudgeKept: res.Loaded.JudgeKept}
		if l.Start.JudgeKept {
			l.Start.Evidence = nil
		}
	}
	for _, c := range res.Seen.Commands {
		l.Commands = append(l.Commands, Command{
			ID: c.ID, Verb: string(c.Verb), By: c.By, Groups: c.Groups, Reason: c.Reason,
			Revision: string(c.Revision), N: c.N, Full: c.Full, Override: c.Override,
		})
	}
	name := namer(res.Seen)
	if res.Seen.Route.Known == rollout.Present {
		sum := rollout.Weight(0)
		for _, w := range res.Seen.Route.Weights {
			sum += w
		}
		if sum == rollout.Whole { // what is no split is in Observation alone
			l.Traffic = map[string]float64{}
			for r, w := range res.Seen.Route.Weights {
				l.Traffic[name(r)] += percent(w)
			}
		}
	}
	if res.Seen.Workloads.Known != rollout.Unknown {
		l.Revisions = map[string]Revision{}
		for _, w := range res.Seen.Workloads.Items {
			rev := Revision{Replicas: &w.Replicas}
			if w.ReadyKnown {
				rev.Ready = &w.Ready
			}
			l.Revisions[name(w.Revision)] = rev
		}
	}
	if res.Sampled == nil {
		no := false
		l.Looked = &no
		return l
	}
	stable, canary := res.Before.Stable.Revision, res.Before.Canary.Revision
	l.pods(name(stable), res.Sampled.Stable)
	l.pods(name(canary), res.Sampled.Canary)
	for _, c := range res.Sampled.Custom {
		l.custom(c, name(stable), name(canary))
	}
	return l
}

// namer calls revisions by their label, and by their whole name where two of
// them have one label.
func namer(seen rollout.Observation) func(rollout.Revision) string {
	labels := map[string]rollout.Revision{}
	twice := map[string]bool{}
	note := func(r rollout.Revision) {
		if old, known := labels[r.Label()]; known && old != r {
			twice[r.Label()] = true
		}
		labels[r.Label()] = r
	}
	for _, w := range seen.Workloads.Items {
		note(w.Revision)
	}
	for r := range seen.Route.Weights {
		note(r)
	}
	return func(r rollout.Revision) string {
		if twice[r.Label()] || r.Label() == "" {
			return string(r)
		}
		return r.Label()
	}
}

func (l *Line) pods(version string, pods []analysis.Pod) {
	if version == "" || len(pods) == 0 {
		return
	}
	if l.Revisions == nil {
		l.Revisions = map[string]Revision{}
	}
	rev := l.Revisions[version]
	rev.Pods = map[string]Pod{}
	for _, p := range pods {
		var out Pod
		if !p.Started.IsZero() {
			out.Started = &p.Started
		}
		put := func(has analysis.Has, from float64, to **float64) {
			if p.Has&has != 0 && finite(from) {
				*to = &from
			}
		}
		put(analysis.HasRequests, p.Requests, &out.Requests)
		put(analysis.HasErrors, p.Errors, &out.Errors)
		put(analysis.HasCPU, p.CPUSeconds, &out.CPUSeconds)
		put(analysis.HasMemory, p.MemoryBytes, &out.MemoryBytes)
		put(analysis.HasRestarts, p.Restarts, &out.Restarts)
		if p.Has&analysis.HasRestarts != 0 && p.OOMKills != 0 {
			out.OOMKills = &p.OOMKills
		}
		if p.Has&analysis.HasLatency != 0 && finite(p.Latency.LE...) && finite(p.Latency.Count...) {
			out.Latency = &Latency{LE: p.Latency.LE, Count: p.Latency.Count}
		}
		rev.Pods[p.Name] = out
	}
	l.Revisions[version] = rev
}

// finite: JSON has no other numbers, and the judge takes no other for evidence.
func finite(all ...float64) bool {
	for _, x := range all {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}

func (l *Line) custom(c analysis.Custom, stable, canary string) {
	put := func(version string, r analysis.Reading) *Reading {
		switch {
		case r.Answer == analysis.Number && !finite(r.Value):
			return &Reading{Answer: answerNames[analysis.NotANumber]}
		case r.Answer == analysis.Number && version != "":
			if l.Metrics == nil {
				l.Metrics = map[string]map[string]float64{}
			}
			if l.Metrics[c.Name] == nil {
				l.Metrics[c.Name] = map[string]float64{}
			}
			l.Metrics[c.Name][version] = r.Value
		case answerNames[r.Answer] != "":
			return &Reading{Answer: answerNames[r.Answer], Detail: r.Detail}
		}
		return nil
	}
	var other Readings
	other.Stable, other.Canary = put(stable, c.Stable), put(canary, c.Canary)
	if other.Stable == nil && other.Canary == nil {
		return
	}
	if l.Answers == nil {
		l.Answers = map[string]Readings{}
	}
	l.Answers[c.Name] = other
}

// Writer writes the record of one live rollout to PATH. When that has grown to
// its size it becomes PATH.1, in place of an older one, and PATH begins anew
// with what the rollout goes on from; so both together are never more than
// twice the size and one line. It is not for concurrent use.
type Writer struct {
	path string
	most int64
	file *os.File
	size int64
	// next begins the next file; nil while there is room in this one.
	next *Start
}

// DefaultBytes is the size of one of a record's two files.
const DefaultBytes = 32 << 20

// OpenWriter goes on with the record at path; 0 bytes is the default size. A
// last line that was cut off is taken away.
func OpenWriter(path string, bytes int64) (*Writer, error) {
	if bytes <= 0 {
		bytes = DefaultBytes
	}
	w := &Writer{path: path, most: bytes}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening the record: %w", err)
	}
	size, err := whole(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("opening the record: %w", err), f.Close())
	}
	w.file, w.size = f, size
	return nil
}

// whole is how many bytes of a file are whole lines.
func whole(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const block = 64 << 10
	for end := info.Size(); end > 0; {
		from := max(0, end-block)
		part := make([]byte, end-from)
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// Write adds one pass. evidence gives the judge's memory after it, and is asked
// only where a new file is about to begin. Passes that decided nothing are left
// out. After an error the record has a gap, and nothing worse.
func (w *Writer) Write(res engine.Result, evidence func() ([]byte, error)) error {
	if !res.Decided {
		return nil
	}
	l := LineOf(res)
	// A new file begins with a look, so that it needs no report of an old one.
	if w.next != nil && (res.Sampled != nil || res.State.Phase == rollout.Idle) {
		if l.Start == nil {
			l.Start = w.next
		} else if l.Start.JudgeKept {
			l.Start.JudgeKept, l.Start.Evidence = false, w.next.Evidence
		}
		if err := w.rotate(); err != nil {
			return err
		}
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("writing the record: %w", err)
	}
	text = append(text, '\n')
	n, err := w.file.Write(text)
	if err != nil {
		// Not half a line: the next one would be damaged by it.
		if n > 0 {
			if terr := w.file.Truncate(w.size); terr == nil {
				_, _ = w.file.Seek(w.size, io.SeekStart)
			}
		}
		return fmt.Errorf("writing the record: %w", err)
	}
	w.size += int64(n)
	if w.size < w.most {
		return nil
	}
	begin := Start{State: res.State}
	if begin.Evidence, err = evidence(); err != nil {
		return fmt.Errorf("writing the record: %w", err)
	}
	w.next = &begin
	return nil
}

func (w *Writer) rotate() error {
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("closing the record: %w", err)
	}
	if err := os.Rename(w.path, w.path+".1"); err != nil {
		return errors.Join(fmt.Errorf("beginning a new record: %w", err), w.open())
	}
	w.next = nil
	return w.open()
}

// Close ends the record. The file stays.
func (w *Writer) Close() error { return w.file.Close() }

// OpenRing reads a record that a Writer has written: PATH.1, where it is there,
// and PATH, as one. Any other file is read as it is; "-" is not a file.
func OpenRing(path string) (io.ReadCloser, error) {
	now, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	before, err := os.Open(path + ".1")
	if err != nil || strings.HasSuffix(path, ".1") {
		return now, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(before, now), closers{before, now}}, nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}
