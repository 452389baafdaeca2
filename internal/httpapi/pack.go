package httpapi

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"

	"github.com/serin-dev/serin/internal/rollout"
)

// packAbove is from how many rollouts on they are kept packed: what they
// decided is most of a view, and nobody looks at most of them.
const packAbove = 256

// packed is what a rollout decided and how its releases ended, small.
type packed struct {
	n, decisions, history int // of what was packed: the same means the same
	b                     []byte
}

type unpacked struct {
	Decisions []rollout.Event   `json:"d"`
	History   []rollout.Outcome `json:"h"`
}

// pack takes those parts out of a view. Nil: it is kept as it is.
func pack(v *RolloutView, old *packed) (*RolloutView, *packed) {
	if len(v.Decisions) == 0 {
		return v, nil
	}
	lean := *v
	lean.Decisions, lean.History = nil, nil
	if old != nil && old.n == v.N && old.decisions == len(v.Decisions) && old.history == len(v.History) {
		return &lean, old // decisions are numbered and never change
	}
	text, err := json.Marshal(unpacked{v.Decisions, v.History})
	if err != nil { // a number that is none
		return v, nil
	}
	return &lean, &packed{n: v.N, decisions: len(v.Decisions), history: len(v.History), b: deflate(text)}
}

// unpack puts them back into a copy.
func (p *packed) unpack(v *RolloutView) *RolloutView {
	if p == nil || v == nil {
		return v
	}
	var u unpacked
	r := flate.NewReader(bytes.NewReader(p.b))
	if b, err := io.ReadAll(r); err != nil || json.Unmarshal(b, &u) != nil {
		return v // it was written a moment ago, by this process
	}
	whole := *v
	whole.Decisions, whole.History = u.Decisions, u.History
	return &whole
}
