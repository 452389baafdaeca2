package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Bounds of a status. Whoever writes one clips to them; the schema states them
// too. They bound texts and lists and say nothing about values: a schema that
// knows the words of today would keep a later Serin from recording a decision,
// and what cannot be recorded cannot be acted on.
const (
	MaxConditions = 16
	MaxDecisions  = 50 // a ring: the oldest goes
	MaxHistory    = 10 // likewise
	MaxPaused     = 8
	MaxFigures    = 24
	MaxFindings   = 20

	MaxWord     = 64   // phases, reasons, verdicts
	MaxName     = 253  // objects, people
	MaxRevision = 512  // label@hash, wherever the label comes from
	MaxSentence = 1024 // messages, reasons in words

	// MaxStatusBytes bounds the whole status as JSON, State and Evidence too.
	MaxStatusBytes = 256 << 10
	// MaxEvidence bounds Evidence.Saved.
	MaxEvidence = 128 << 10
)

// Condition types. Each condition carries its own observedGeneration. Those of
// Reconciling and Stalled are there only while they are True.
const (
	// ConditionReady is True only at rest with the wanted revision stable.
	// After a rollback it is False with reason RolledBack.
	ConditionReady = "Ready"
	// ConditionAvailable is True while users are served by a healthy version.
	ConditionAvailable = "Available"
	// ConditionReconciling is there while there is something left to do.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is there while a person is needed.
	ConditionStalled = "Stalled"
	// ConditionAnalysisPassing is Unknown while there is no verdict.
	ConditionAnalysisPassing = "AnalysisPassing"
)

// Reasons of ConditionReady. While a rollout is under way it is the phase.
const (
	ReasonStable     = "Stable" // True
	ReasonRolledBack = "RolledBack"
	ReasonAborted    = "Aborted"
	ReasonUndone     = "Undone"
	ReasonStalled    = "Stalled"
	ReasonNotAdopted = "NotAdopted" // no version is known to be the stable one
	ReasonInvalid    = "Invalid"    // the document cannot be followed; see the message
)

// RolloutStatus is what is known and what was decided. It is written by Serin
// alone, whole, in one write: what people read never speaks of another pass
// than State does.
type RolloutStatus struct {
	// ObservedGeneration of the document that the status speaks about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Phase is Idle, Preparing, Progressing, Promoting, Baking or RollingBack.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// Message is one sentence: what happened, on what evidence, what comes next.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Stable is the version that everybody has.
	// +optional
	Stable *Version `json:"stable,omitempty"`
	// Canary is the version on trial.
	// +optional
	Canary *Version `json:"canary,omitempty"`
	// Previous is the revision that undo goes back to.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Previous string `json:"previous,omitempty"`
	// +optional
	Step *StepStatus `json:"step,omitempty"`
	// +optional
	Weight WeightStatus `json:"weight,omitzero"`
	// Verdict of the analysis: Pass, Fail, Undecided or Unavailable.
	// +optional
	Verdict Verdict `json:"verdict,omitempty"`
	// +optional
	Evidence *Evidence `json:"evidence,omitempty"`
	// Waiting names what is waited for; empty = nothing.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Waiting string `json:"waiting,omitempty"`
	// Until is when that wait ends at the latest, where it is known.
	// +optional
	Until *Time `json:"until,omitempty"`
	// Paused lists who paused; empty = not paused.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	Paused []PauseStatus `json:"paused,omitempty"`
	// Started is when the rollout under way began.
	// +optional
	Started *Time `json:"started,omitempty"`
	// Exposed and Harmed are requests of the rollout under way: answered by the
	// new version, and those of them that the old one would have answered well.
	// +optional
	Exposed Number `json:"exposed,omitempty"`
	// +optional
	Harmed Number `json:"harmed,omitempty"`
	// Findings of the last preflight.
	// +optional
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	Findings []Finding `json:"findings,omitempty"`
	// N is the number of the last decision.
	// +optional
	N int64 `json:"n,omitempty"`
	// Decisions are the newest ones, oldest first.
	// +optional
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	Decisions []Decision `json:"decisions,omitempty"`
	// History are the newest rollouts that ended, oldest first.
	// +optional
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	History []HistoryEntry `json:"history,omitempty"`

	// State is what the decisions follow from, without Decisions and History,
	// which stand beside it. It is nobody's interface.
	// +optional
	// +structType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=128
	State *runtime.RawExtension `json:"state,omitempty"`
	// Objects are spec.workload, spec.traffic and spec.analysis.source as the
	// rollout under way follows them. Where the document says others since, those
	// take effect at rest.
	// +optional
	// +structType=atomic
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MaxProperties=16
	Objects *runtime.RawExtension `json:"objects,omitempty"`
	// Told is the number of the last decision that people were told of.
	// +optional
	Told int64 `json:"told,omitempty"`
	// Copy names this copy of State, Evidence and Told; a write states the copy
	// that it follows from, so that of two writers one wins.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Copy string `json:"copy,omitempty"`
}

// Phase of a rollout.
//
// +kubebuilder:validation:MaxLength=64
type Phase string

// The phases; package rollout says what leads from one to another.
const (
	PhaseIdle        Phase = "Idle"
	PhasePreparing   Phase = "Preparing"
	PhaseProgressing Phase = "Progressing"
	PhasePromoting   Phase = "Promoting"
	PhaseBaking      Phase = "Baking"
	PhaseRollingBack Phase = "RollingBack"
)

// Verdict of the analysis.
//
// +kubebuilder:validation:MaxLength=64
type Verdict string

// The four verdicts.
const (
	VerdictPass        Verdict = "Pass"
	VerdictFail        Verdict = "Fail"
	VerdictUndecided   Verdict = "Undecided"   // data, and not enough of it
	VerdictUnavailable Verdict = "Unavailable" // no usable data
)

// Time is an instant as it was decided upon, to the nanosecond. (The API's own
// Time keeps seconds, which would make a stored decision another one.)
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:Format=date-time
// +kubebuilder:validation:MaxLength=64
type Time struct {
	time.Time `json:"-"`
}

// MarshalJSON writes RFC 3339 with as many digits as the time has.
func (t Time) MarshalJSON() ([]byte, error) { return t.Time.MarshalJSON() }

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Time) UnmarshalJSON(b []byte) error { return t.Time.UnmarshalJSON(b) }

// DeepCopyInto copies; an instant holds nothing that could be shared.
func (t *Time) DeepCopyInto(out *Time) { *out = *t }

// Equal says whether both are the same instant.
func (t *Time) Equal(u *Time) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Time.Equal(u.Time)
}

// Version is one version as it stands.
type Version struct {
	// Revision is its identity: label@hash of its pod template.
	// +kubebuilder:validation:MaxLength=512
	Revision string `json:"revision"`
	// Label is the version as people say it.
	// +kubebuilder:validation:MaxLength=512
	Label string `json:"label"`
	// Workload is the name of the Deployment that runs it.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Workload string `json:"workload,omitempty"`
	// Replicas are those asked for.
	// +optional
	Replicas int64 `json:"replicas,omitempty"`
	// Ready are those that the route would send to; absent = not known.
	// +optional
	Ready *int64 `json:"ready,omitempty"`
	// Weight is its share in the route as it stands; absent = not known.
	// +optional
	Weight *Percent `json:"weight,omitempty"`
	// Requests it has answered, since any fixed point; absent = not measured.
	// +optional
	Requests *Number `json:"requests,omitempty"`
	// Why it is not ready, in the words of the cluster.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`
}

// StepStatus is where the rollout stands.
type StepStatus struct {
	// Number counts from 1; Of is how many there are.
	Number int64 `json:"number"`
	Of     int64 `json:"of"`
	// Text is "2/5".
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Text string `json:"text,omitempty"`
	// LiveAt is when the step's split was first seen in force; absent = not yet.
	// +optional
	LiveAt *Time `json:"liveAt,omitempty"`
}

// WeightStatus keeps what was decided apart from what is seen.
type WeightStatus struct {
	// Set is the new version's share as decided.
	Set Percent `json:"set"`
	// Seen is its share of the requests since the split was written; absent =
	// not measured.
	// +optional
	Seen *Percent `json:"seen,omitempty"`
}

// PauseStatus is one reason to be paused.
type PauseStatus struct {
	// Kind is person, hand, policy, step or document.
	// +kubebuilder:validation:MaxLength=64
	Kind string `json:"kind"`
	// +optional
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`
	// +optional
	At *Time `json:"at,omitempty"`
}

// Finding is what the preflight found, with its remedy.
type Finding struct {
	// Level is Refuse, Wait or Warn.
	// +kubebuilder:validation:MaxLength=64
	Level string `json:"level"`
	// +kubebuilder:validation:MaxLength=1024
	What string `json:"what"`
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Remedy string `json:"remedy,omitempty"`
}

// Decision is one thing that was decided, with its reason.
type Decision struct {
	// N counts up by one for ever.
	N  int64 `json:"n"`
	At Time  `json:"at"`
	// By is "rule", "deadline", "git" or who said it.
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
	// What happened, as a reason in CamelCase.
	// +kubebuilder:validation:MaxLength=64
	What string `json:"what"`
	// +optional
	// +kubebuilder:validation:MaxLength=512
	From string `json:"from,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=512
	To string `json:"to,omitempty"`
	// Why is one sentence with its figures.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`
	// Revision that it is about.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Revision string `json:"revision,omitempty"`
	// Figures behind the sentence.
	// +optional
	// +kubebuilder:validation:MaxItems=24
	// +listType=atomic
	Figures []Figure `json:"figures,omitempty"`
}

// Figure is one measured number of both versions, with its limit.
type Figure struct {
	// +kubebuilder:validation:MaxLength=253
	Metric string `json:"metric"`
	// Unit is share, ms, cores, bytes or empty.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Unit   string `json:"unit,omitempty"`
	Canary Number `json:"canary"`
	Stable Number `json:"stable"`
	// CanaryN and StableN are the sizes of the samples.
	CanaryN Number `json:"canaryN"`
	StableN Number `json:"stableN"`
	// Low and High are a band of the difference, for showing.
	Low   Number `json:"low"`
	High  Number `json:"high"`
	Limit Number `json:"limit"`
	// WindowSeconds is the time that the figures span.
	WindowSeconds Number `json:"windowSeconds"`
	// State is ok, pending, firing, noData, both, worse or better.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	State string `json:"state,omitempty"`
}

// Evidence is how far the analysis has got.
type Evidence struct {
	// Rollback and Advance: what there is of the evidence that taking back and
	// going on need.
	Rollback Percent `json:"rollback"`
	Advance  Percent `json:"advance"`
	// Sentence is the judge's.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Sentence string `json:"sentence,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=24
	// +listType=atomic
	Figures []Figure `json:"figures,omitempty"`
	// SavedAt is when Saved was written.
	// +optional
	SavedAt *Time `json:"savedAt,omitempty"`
	// Digest of Saved, so that a verdict can be traced to what it follows from.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Digest string `json:"digest,omitempty"`
	// Saved is the judge's memory, compressed and in base64. It is nobody's
	// interface.
	// +optional
	// +kubebuilder:validation:MaxLength=131072
	Saved string `json:"saved,omitempty"`
}

// HistoryEntry is one rollout that ended.
type HistoryEntry struct {
	// +kubebuilder:validation:MaxLength=512
	Revision string `json:"revision"`
	// +optional
	// +kubebuilder:validation:MaxLength=512
	From string `json:"from,omitempty"`
	// Outcome is promoted, rolledBack, aborted, superseded, withdrawn, undone,
	// reverted or abandoned.
	// +kubebuilder:validation:MaxLength=64
	Outcome string `json:"outcome"`
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why     string `json:"why,omitempty"`
	Started Time   `json:"started"`
	Ended   Time   `json:"ended"`
	// Exposed and Harmed are requests: answered by the new version, and those
	// of them that the old one would have answered well.
	Exposed Number `json:"exposed"`
	Harmed  Number `json:"harmed"`
}
