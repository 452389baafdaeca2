package analysis

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"time"
)

// stateVersion is raised when a saved state can no longer be read as it was.
const stateVersion = 1

// state is everything that the judge remembers between two looks. It holds
// finite numbers, strings and instants in nanoseconds since 1970 (0 = never),
// so that JSON gives back exactly what it was given.
type state struct {
	Version int    `json:"serinJudge"`
	Canary  string `json:"canary,omitempty"`
	Stable  string `json:"stable,omitempty"`
	Tries   int    `json:"tries,omitempty"`

	Last    int64 `json:"last"`              // the last look
	Scored  int64 `json:"scored"`            // the last look that was scored
	Began   int64 `json:"began,omitempty"`   // the canary's first request
	StableN int64 `json:"stableN,omitempty"` // stable's last request

	Step      int   `json:"step"`
	LiveSince int64 `json:"liveSince,omitempty"` // since when this step has been live
	StepSums  sums  `json:"stepSums"`
	// ScoredNs is the part of the step's live time that was scored.
	ScoredNs int64 `json:"scoredNs,omitempty"`

	Exposed float64 `json:"exposed,omitempty"`
	Harmed  float64 `json:"harmed,omitempty"` // signed: luck on one tick pays for another

	Pending [2]delta  `json:"pending"` // looks that saw one arm only, carried over
	Layout  []float64 `json:"layout,omitempty"`
	Shown   window    `json:"shown"`
	// SlowShown is the same window for requests slower than the latency limit.
	SlowShown window  `json:"slowShown"`
	Limits    []limit `json:"limits,omitempty"`
	Pods      []pod   `json:"pods,omitempty"`

	Evidence *evidence `json:"evidence,omitempty"`
}

// sums counts what was scored on each version.
type sums struct {
	CanaryN float64 `json:"c,omitempty"`
	StableN float64 `json:"s,omitempty"`
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Save gives the judge's memory as JSON. Restore with the same configuration
// gives a judge that answers every further look alike. Its size is some
// kilobytes and about 150 bytes for each pod.
func (j *Judge) Save() ([]byte, error) {
	s := j.s
	s.Pods = make([]pod, 0, len(j.pods))
	for _, p := range j.pods {
		s.Pods = append(s.Pods, *p)
	}
	sort.Slice(s.Pods, func(a, b int) bool {
		if s.Pods[a].Rev != s.Pods[b].Rev {
			return s.Pods[a].Rev < s.Pods[b].Rev
		}
		return s.Pods[a].Name < s.Pods[b].Name
	})
	b, err := json.Marshal(&s)
	if err != nil {
		return nil, fmt.Errorf("saving the judge's state: %w", err)
	}
	return b, nil
}

// Restore gives a judge with the memory that Save wrote. Bytes that are not
// such a state are an error. The configuration may differ from the one the
// state was saved under (a document edited in mid-rollout): limits that are
// asked for no more are forgotten, new ones start from nothing.
func Restore(cfg Config, saved []byte) (*Judge, error) {
	j := New(cfg)
	fresh := j.s
	dec := json.NewDecoder(bytes.NewReader(saved))
	dec.DisallowUnknownFields()
	var s state
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("restoring the judge's state: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("restoring the judge's state: something follows it")
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("restoring the judge's state: version %d, want %d", s.Version, stateVersion)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("restoring the judge's state: %w", err)
	}
	j.s = s
	j.s.Limits = fresh.Limits
	for i := range j.s.Limits {
		for _, old := range s.Limits {
			if old.Rule == j.s.Limits[i].Rule {
				j.s.Limits[i] = old
			}
		}
	}
	if j.s.Evidence == nil {
		j.s.Evidence = newEvidence()
	}
	j.s.Pods = nil
	for _, p := range s.Pods {
		q := p
		j.pods[podKey{p.Rev, p.Name}] = &q
	}
	j.refresh()
	return j, nil
}

// check refuses a state that would lead the judge astray: it may come from
// another program, or from a file that was damaged.
func (s *state) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validLayout(s.Layout) {
		bad("layout: want at most %d rising bounds above 0", maxBounds)
	}
	for i := range s.Pending {
		if err := s.Pending[i].check(); err != nil {
			bad("pending[%d]: %w", i, err)
		}
	}
	for i := range s.Pods {
		if err := s.Pods[i].check(); err != nil {
			bad("pods[%d]: %w", i, err)
		}
	}
	if s.Tries < 0 {
		bad("tries: %d is negative", s.Tries)
	}
	for _, x := range []float64{s.Exposed, s.StepSums.CanaryN, s.StepSums.StableN} {
		if !sane(x) {
			bad("sums: %v is not a count", x)
		}
	}
	if math.Abs(s.Harmed) > maxCount {
		bad("harmed: %v is out of range", s.Harmed)
	}
	for _, w := range []*window{&s.Shown, &s.SlowShown} {
		if err := w.check(); err != nil {
			bad("window: %w", err)
		}
	}
	for i := range s.Limits {
		if err := s.Limits[i].check(); err != nil {
			bad("limits[%d]: %w", i, err)
		}
	}
	if s.Evidence != nil {
		if err := s.Evidence.check(); err != nil {
			bad("evidence: %w", err)
		}
	}
	return errors.Join(errs...)
}

// maxCount is beyond any honest counter; up to it sums of counters are exact.
const maxCount = 1 << 52

// sane reports whether x can be a counter: finite, not negative, not absurd.
func sane(x float64) bool { return x >= 0 && x <= maxCount }

func validLayout(le []float64) bool {
	if len(le) > maxBounds {
		return false
	}
	for i, b := range le {
		if !(b > 0) || math.IsInf(b, 0) || i > 0 && b <= le[i-1] {
			return false
		}
	}
	return true
}
