package record

import (
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// Line is one look at the world. Only Time is needed; what is absent was not
// measured in this look, which is neither zero nor gone.
type Line struct {
	Time time.Time `json:"time"`
	// Traffic is the split in force, by version, in percent.
	Traffic map[string]float64 `json:"traffic,omitempty"`
	// Revisions are the versions that are there. A version that is missing,
	// beside others, is not there.
	Revisions map[string]Revision `json:"revisions,omitempty"`
	// Metrics are values of custom metrics: by name, then by version.
	Metrics  map[string]map[string]float64 `json:"metrics,omitempty"`
	Commands []Command                     `json:"commands,omitempty"`

	// Looked is false where no look at the replicas was taken: then the judge
	// is not asked, and its last word stands.
	Looked *bool `json:"looked,omitempty"`
	// Answers are a custom metric's answers that are no numbers.
	Answers map[string]Readings `json:"answers,omitempty"`
	// Tests have ended; Windows are closed; Findings are preflight's.
	Tests    []rollout.TestAnswer `json:"tests,omitempty"`
	Windows  []rollout.Window     `json:"windows,omitempty"`
	Findings []rollout.Finding    `json:"findings,omitempty"`

	Observation *Observation `json:"observation,omitempty"`
	Start       *Start       `json:"start,omitempty"`
	// Unsaved: the decision could not be saved, so it was not taken.
	Unsaved bool `json:"unsaved,omitempty"`
}

// Revision is one version as it stands.
type Revision struct {
	Replicas *int           `json:"replicas,omitempty"` // asked for
	Ready    *int           `json:"ready,omitempty"`    // that can answer
	Pods     map[string]Pod `json:"pods,omitempty"`
}

// Pod is what one replica has counted since it started.
type Pod struct {
	Started     *time.Time `json:"started,omitempty"`
	Requests    *float64   `json:"requests,omitempty"`
	Errors      *float64   `json:"errors,omitempty"`
	Latency     *Latency   `json:"latency,omitempty"`
	CPUSeconds  *float64   `json:"cpuSeconds,omitempty"`
	MemoryBytes *float64   `json:"memoryBytes,omitempty"`
	Restarts    *float64   `json:"restarts,omitempty"`
	OOMKills    *float64   `json:"oomKills,omitempty"`
}

// Latency is a histogram: Count[i] requests took at most LE[i] milliseconds.
type Latency struct {
	LE    []float64 `json:"le"`
	Count []float64 `json:"count"`
}

// Command is what a person asked for.
type Command struct {
	ID       string   `json:"id"`
	Verb     string   `json:"verb"`
	By       string   `json:"by,omitempty"`
	Groups   []string `json:"groups,omitempty"` // By's, as the host vouched for them
	Reason   string   `json:"reason,omitempty"`
	Revision string   `json:"revision,omitempty"`
	N        int      `json:"n,omitempty"`
	Full     bool     `json:"full,omitempty"`
	Override bool     `json:"override,omitempty"`
}

// Readings are a custom metric's answers for both versions.
type Readings struct {
	Stable *Reading `json:"stable,omitempty"`
	Canary *Reading `json:"canary,omitempty"`
}

// Reading is an answer that is no number.
type Reading struct {
	Answer string `json:"answer"` // empty | notANumber | several | failed
	Detail string `json:"detail,omitempty"`
}

var answerNames = map[analysis.Answer]string{
	analysis.Empty:        "empty",
	analysis.NotANumber:   "notANumber",
	analysis.Several:      "several",
	analysis.SourceFailed: "failed",
}

// Observation is what the engine of a live rollout saw, beyond the contract.
type Observation struct {
	Workloads rollout.Workloads `json:"workloads"`
	Route     rollout.Route     `json:"route"`
	// InFlight and Last are the route's own: not known (absent) and known to be
	// of nobody (empty) are two things, which the route's JSON does not tell apart.
	InFlight   map[rollout.Revision]int       `json:"inFlight,omitzero"`
	Last       map[rollout.Revision]time.Time `json:"last,omitzero"`
	Declared   *rollout.Declared              `json:"declared,omitempty"`
	SaveError  string                         `json:"saveError,omitempty"`
	ApplyError string                         `json:"applyError,omitempty"`
}

// Start is what a live rollout went on from: after its process started, and at
// the beginning of a file.
type Start struct {
	State    rollout.State `json:"state"`
	Evidence []byte        `json:"evidence,omitempty"`
	// JudgeKept: the judge goes on from the lines before, whatever Evidence says.
	JudgeKept bool `json:"judgeKept,omitempty"`
}

// Answer is what was decided about one line.
type Answer struct {
	Time    time.Time          `json:"time"`
	Phase   rollout.Phase      `json:"phase"`
	Step    int                `json:"step"` // 1-based; 0 while none is in force
	Stable  string             `json:"stable,omitempty"`
	Canary  string             `json:"canary,omitempty"`
	Weights map[string]float64 `json:"weights"` // the whole split that must be in force, percent
	// Scale is how many replicas each version must have at least; 0 = none.
	Scale     map[string]int    `json:"scale,omitempty"`
	Match     *rollout.Match    `json:"match,omitempty"` // requests that go to the canary whatever the weights
	Verdict   analysis.Verdict  `json:"verdict"`
	Evidence  Evidence          `json:"evidence"`
	Decisions []Decision        `json:"decisions,omitempty"`
	Tests     []rollout.TestRun `json:"tests,omitempty"` // to be started; answered in `tests` of a later line
	Message   string            `json:"message"`
	Wake      *time.Time        `json:"wake,omitempty"` // when to look again at the latest; absent = no need
}

// Evidence is how far the evidence has got, 0 to 1.
type Evidence struct {
	Rollback float64 `json:"rollback"`
	Advance  float64 `json:"advance"`
}

// Decision is one decision with its reason.
type Decision struct {
	N       int                        `json:"n"`
	At      time.Time                  `json:"at"`
	By      string                     `json:"by"`
	What    rollout.What               `json:"what"`
	From    string                     `json:"from,omitempty"`
	To      string                     `json:"to,omitempty"`
	Why     string                     `json:"why"`
	Figures map[string]analysis.Figure `json:"figures,omitempty"`
}

func decisionOf(e rollout.Event) Decision {
	d := Decision{N: e.N, At: e.At, By: e.By, What: e.What, From: e.From, To: e.To, Why: e.Why}
	for _, f := range e.Figures {
		if d.Figures == nil {
			d.Figures = map[string]analysis.Figure{}
		}
		d.Figures[f.Metric] = f
	}
	return d
}
