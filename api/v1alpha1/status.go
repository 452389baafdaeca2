package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Bounds of a status: with every string at its bound it stays below 256 KiB.
const (
	MaxDecisions = 50 // a ring: the oldest goes
	MaxHistory   = 10
)

// Condition types. Each condition carries its own observedGeneration.
const (
	// ConditionReady is True only at rest with the wanted revision stable.
	// After a rollback it is False with reason RolledBack.
	ConditionReady = "Ready"
	// ConditionAvailable is True while users are served by a healthy version.
	ConditionAvailable = "Available"
	// ConditionReconciling is present while there is something left to do.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is present while a person is needed.
	ConditionStalled = "Stalled"
	// ConditionAnalysisPassing is Unknown while there is no verdict.
	ConditionAnalysisPassing = "AnalysisPassing"
)

// Reasons of ConditionReady.
const (
	ReasonPromoted    = "Promoted"
	ReasonProgressing = "Progressing"
	ReasonRolledBack  = "RolledBack"
	ReasonAborted     = "Aborted"
	ReasonPaused      = "Paused"
	ReasonInvalid     = "Invalid"
)

// RolloutStatus is what is known and what was decided. It is written by Serin alone.
type RolloutStatus struct {
	// ObservedGeneration of the document that the status speaks about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// Stable is the version that everybody has.
	// +optional
	Stable *Revision `json:"stable,omitempty"`
	// Canary is the version on trial.
	// +optional
	Canary *Revision `json:"canary,omitempty"`
	// +optional
	Step *StepStatus `json:"step,omitempty"`
	// +optional
	Weight WeightStatus `json:"weight,omitzero"`
	// Verdict of the analysis.
	// +optional
	Verdict Verdict `json:"verdict,omitempty"`
	// Message is one sentence: what happened, on what evidence, what comes next.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Paused lists who paused; empty = not paused.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	Paused []PauseStatus `json:"paused,omitempty"`
	// Decisions are the newest ones, oldest first.
	// +optional
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	Decisions []Decision `json:"decisions,omitempty"`
	// +optional
	Evidence *Evidence `json:"evidence,omitempty"`
	// History are the newest rollouts, oldest first.
	// +optional
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	History []HistoryEntry `json:"history,omitempty"`
	// State is what the decisions follow from. It is nobody's interface.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	State *runtime.RawExtension `json:"state,omitempty"`
}

// Phase of a rollout.
//
// +kubebuilder:validation:Enum=Idle;Preparing;Progressing;Promoting;Baking;RollingBack
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
// +kubebuilder:validation:Enum=Pass;Fail;Undecided;Unavailable
type Verdict string

// The four verdicts.
const (
	VerdictPass        Verdict = "Pass"
	VerdictFail        Verdict = "Fail"
	VerdictUndecided   Verdict = "Undecided"   // data, and not enough of it
	VerdictUnavailable Verdict = "Unavailable" // no usable data
)

// Revision is a version's identity: its label and the hash of its pod template.
type Revision struct {
	// +kubebuilder:validation:MaxLength=63
	Label string `json:"label"`
	// +kubebuilder:validation:MaxLength=64
	Hash string `json:"hash"`
	// Workload is the name of the Deployment that runs it.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Workload string `json:"workload,omitempty"`
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// +optional
	Ready int32 `json:"ready,omitempty"`
}

// StepStatus is where the rollout stands.
type StepStatus struct {
	// Number counts from 1; Of is how many there are.
	Number int32 `json:"number"`
	Of     int32 `json:"of"`
	// Text is "2/5".
	// +kubebuilder:validation:MaxLength=16
	Text string `json:"text,omitempty"`
	// LiveAt is when the step's split was first seen in force.
	// +optional
	LiveAt *metav1.Time `json:"liveAt,omitempty"`
}

// WeightStatus keeps what was asked for apart from what is seen.
type WeightStatus struct {
	// Set is the new version's share as decided.
	Set Percent `json:"set"`
	// Seen is its share as observed; absent = not known.
	// +optional
	Seen *Percent `json:"seen,omitempty"`
}

// PauseStatus is one reason to be paused.
type PauseStatus struct {
	// +kubebuilder:validation:MaxLength=32
	Kind string `json:"kind"`
	// +optional
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Reason string `json:"reason,omitempty"`
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// Decision is one thing that was decided, with its reason.
type Decision struct {
	// N counts up by one for ever.
	N  int64       `json:"n"`
	At metav1.Time `json:"at"`
	// By is "rule" or who said it.
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
	// What happened, as a reason in CamelCase.
	// +kubebuilder:validation:MaxLength=64
	What string `json:"what"`
	// +optional
	// +kubebuilder:validation:MaxLength=253
	From string `json:"from,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=253
	To string `json:"to,omitempty"`
	// Why is one sentence with its figures.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`
	// Figures behind the sentence, by name.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Figures map[string]string `json:"figures,omitempty"`
}

// Evidence is a digest of what the analysis has so far.
type Evidence struct {
	// +kubebuilder:validation:MaxLength=128
	Digest string `json:"digest,omitempty"`
	// Rollback and Advance: how far the evidence has got, 0% to 100% of what
	// taking back and going on need.
	Rollback Percent `json:"rollback,omitempty"`
	Advance  Percent `json:"advance,omitempty"`
	// +optional
	SavedAt *metav1.Time `json:"savedAt,omitempty"`
}

// Outcome of a rollout.
//
// +kubebuilder:validation:Enum=Promoted;RolledBack;Aborted;Superseded;Withdrawn;Undone
type Outcome string

// How a rollout can end.
const (
	OutcomePromoted   Outcome = "Promoted"
	OutcomeRolledBack Outcome = "RolledBack"
	OutcomeAborted    Outcome = "Aborted"
	OutcomeSuperseded Outcome = "Superseded"
	OutcomeWithdrawn  Outcome = "Withdrawn"
	OutcomeUndone     Outcome = "Undone"
)

// HistoryEntry is one rollout that ended.
type HistoryEntry struct {
	Revision Revision    `json:"revision"`
	From     Revision    `json:"from"`
	Outcome  Outcome     `json:"outcome"`
	Started  metav1.Time `json:"started"`
	Ended    metav1.Time `json:"ended"`
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`
	// Exposed and Harmed are requests: answered by the new version, and those
	// of them that the old one would have answered well.
	Exposed int64 `json:"exposed"`
	Harmed  int64 `json:"harmed"`
}
