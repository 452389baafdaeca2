package sim

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// verdicts is what a version's figures lead to.
type verdicts uint8

const (
	healthy   verdicts = iota
	bad                // Fail soon after its first request
	badLater           // healthy until it has everything, Fail while baking
	silent             // no data at all
	vague              // data, never enough, nothing speaks against it
	nervous            // data, never enough, something speaks against it
	bothBreak          // stable breaks the limit too
	better             // better than a failing stable
	moody              // a different answer at every look, no Fail
	flash              // Fail at one single look, before and after all is well
)

var verdictWords = [...]string{"healthy", "bad", "bad later", "silent", "vague", "nervous", "both break", "better", "moody", "flash"}

func (v verdicts) String() string { return verdictWords[v] }

// kind is what a revision truly is.
type kind struct {
	verdict   verdicts
	sure      time.Duration // how long the judge needs
	failsTest bool
	errors    float64 // share, for the real judge
}

func (w *World) kind(r rollout.Revision) kind {
	if k, ok := w.kinds[r]; ok {
		return k
	}
	return kind{sure: 5 * time.Second}
}

// judge answers as the versions are: cheap, and as fickle as a script wants.
type judge struct {
	w *World
	m judgeMemory
}

// judgeMemory is what outlives a crash.
type judgeMemory struct {
	Canary  string    `json:"canary"`
	Tries   int       `json:"tries"`
	Step    int       `json:"step"`
	Baking  bool      `json:"baking"`
	LiveAt  time.Time `json:"liveAt"`
	First   time.Time `json:"first"` // first look at which the canary had been asked anything
	Base    float64   `json:"base"`
	Flashed bool      `json:"flashed"`
	Last    time.Time `json:"last"`
	Scored  time.Duration
}

func (w *World) recall(_ analysis.Config, evidence []byte) (engine.Judge, error) {
	j := &judge{w: w}
	if len(evidence) > 0 {
		if err := json.Unmarshal(evidence, &j.m); err != nil {
			return nil, err
		}
	}
	return j, nil
}

func (j *judge) Save() ([]byte, error) { return json.Marshal(j.m) }

// Explain has nothing to add.
func (j *judge) Explain(*analysis.Report) {}

func (j *judge) Look(l analysis.Look) analysis.Report {
	w, m := j.w, &j.m
	if l.Canary != m.Canary || l.Tries != m.Tries {
		*m = judgeMemory{Canary: l.Canary, Tries: l.Tries, Base: w.route.of(rollout.Revision(l.Canary)).requests}
	}
	if l.Canary == "" {
		return analysis.Report{}
	}
	if l.Step != m.Step || l.Baking != m.Baking || !l.Live {
		m.Step, m.Baking, m.LiveAt, m.Scored = l.Step, l.Baking, time.Time{}, 0
	}
	if l.Live && m.LiveAt.IsZero() {
		m.LiveAt = l.Time
	}
	asked := w.route.of(rollout.Revision(l.Canary)).requests - m.Base
	if asked >= 1 && m.First.IsZero() {
		m.First = l.Time
	}
	k := w.kind(rollout.Revision(l.Canary))
	looked := w.who.looked
	if d := l.Time.Sub(m.Last); looked && l.Live && d > 0 && d < time.Minute && k.verdict != silent {
		m.Scored += d
	}
	m.Last = l.Time
	since := max(0, l.Time.Sub(m.First))
	r := analysis.Report{Exposed: max(0, asked), Scored: m.Scored}
	if !looked || k.verdict == silent || m.First.IsZero() {
		r.Sentence = "no usable figures."
		return r
	}
	r.CanaryRequests, r.StableRequests = asked, asked
	sure := l.Live && m.Scored >= k.sure
	r.Verdict, r.Calm = analysis.Undecided, true
	r.Sentence = fmt.Sprintf("%d requests say nothing for certain.", int(asked))
	pass := func() {
		if sure {
			r.Verdict, r.Sentence = analysis.Pass, fmt.Sprintf("not worse in %d requests.", int(asked))
		}
	}
	fail := func() {
		r.Verdict, r.Calm, r.Rule = analysis.Fail, false, "errorRate"
		r.Sentence = fmt.Sprintf("5 %% of %d requests failed, 0.1 %% of stable's.", int(asked))
	}
	switch k.verdict {
	case bad:
		if r.Calm = since < k.sure/2; since >= k.sure {
			fail()
		}
	case badLater:
		if pass(); l.Baking && l.Live && m.Scored >= k.sure {
			fail()
		}
	case vague:
	case nervous:
		r.Calm = false
	case bothBreak:
		r.Calm, r.BothBreak = false, true
	case better:
		pass()
		r.Better = sure
	case moody:
		switch w.rng.IntN(4) {
		case 0:
			r = analysis.Report{Exposed: r.Exposed, Scored: r.Scored, Sentence: "no usable figures."}
		case 1:
			r.Calm = false
		default:
			pass()
		}
	case flash:
		if pass(); since >= k.sure && !m.Flashed {
			m.Flashed = true
			fail()
		}
	default:
		pass()
	}
	return r
}
