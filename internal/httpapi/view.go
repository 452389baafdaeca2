package httpapi

import (
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// RolloutView is one rollout as people see it.
type RolloutView struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace,omitempty"`
	Time      time.Time `json:"time"` // of the pass that this shows

	Phase     rollout.Phase `json:"phase"`
	Message   string        `json:"message"` // one sentence: what, on what evidence, what next
	Step      int           `json:"step"`    // 1-based; 0 while none is in force
	Steps     int           `json:"steps"`
	StepsList []StepView    `json:"stepsList,omitempty"`

	Stable   *VersionView `json:"stable,omitempty"`
	Canary   *VersionView `json:"canary,omitempty"`
	Previous string       `json:"previous,omitempty"` // what undo goes back to

	WeightSet  rollout.Weight `json:"weightSet"`  // canary's, decided; 1/10000
	WeightSeen *float64       `json:"weightSeen"` // canary's share as counted since the split was written, 0..1; null = not measured
	Live       bool           `json:"live"`       // the split was seen in force

	Verdict  analysis.Verdict  `json:"verdict"`
	Evidence EvidenceView      `json:"evidence"`
	Sentence string            `json:"sentence,omitempty"` // the judge's
	Figures  []analysis.Figure `json:"figures,omitempty"`
	Exposed  float64           `json:"exposed"`
	Harmed   float64           `json:"harmed"`
	Worst    *float64          `json:"worst,omitempty"` // harmed at most, by the upper end of the error rate's band

	Waiting rollout.WaitFor `json:"waiting,omitempty"`
	Until   *time.Time      `json:"until,omitempty"`
	Paused  string          `json:"paused,omitempty"`
	Stalled string          `json:"stalled,omitempty"`

	Started    *time.Time         `json:"started,omitempty"`
	Conditions []ConditionView    `json:"conditions,omitempty"`
	Findings   []rollout.Finding  `json:"findings,omitempty"`
	Decisions  []rollout.Event    `json:"decisions,omitempty"` // oldest first, at most 50
	History    []rollout.Outcome  `json:"history,omitempty"`   // oldest first, at most 10
	Condemned  []rollout.Revision `json:"condemned,omitempty"`
	Drift      *DriftView         `json:"drift,omitempty"`
	Offers     []Offer            `json:"offers,omitempty"` // commands that would do something now
	N          int                `json:"n"`                // last decision
	Exit       int                `json:"exit"`             // what `serin status` exits with
}

// EvidenceView is how far the evidence has got, 0 to 1.
type EvidenceView struct {
	Rollback float64 `json:"rollback"`
	Advance  float64 `json:"advance"`
}

// VersionView is one version.
type VersionView struct {
	Revision rollout.Revision `json:"revision"`
	Version  string           `json:"version"` // the label
	Name     string           `json:"name"`    // the Deployment
	Replicas int              `json:"replicas"`
	Ready    *int             `json:"ready"` // null = not known
	Why      string           `json:"why,omitempty"`
	Weight   rollout.Weight   `json:"weight"`
	Requests *float64         `json:"requests,omitempty"`
}

// StepView is one step of the plan in force.
type StepView struct {
	Kind   rollout.StepKind `json:"kind"`
	Text   string           `json:"text"` // "25 %, hold 5m"
	Weight rollout.Weight   `json:"weight,omitempty"`
	State  string           `json:"state"` // done | current | ahead

	By       []string `json:"by,omitempty"`       // approval: who may; empty = anybody who may approve
	Approved string   `json:"approved,omitempty"` // approval: who did
}

// DriftView is what somebody else did to the route.
type DriftView struct {
	Manager  string `json:"manager"`
	Split    string `json:"split,omitempty"`  // theirs
	Foreign  bool   `json:"foreign"`          // it is in force
	Flips    int    `json:"flips"`            // in the last ten minutes
	Fighting bool   `json:"fighting"`         // it goes on
	Remedy   string `json:"remedy,omitempty"` // to be pasted into the tool that does it
}

// ConditionView is a Kubernetes-style condition, on both hosts.
type ConditionView struct {
	Type    string `json:"type"`   // Ready, Available, Reconciling, Stalled, AnalysisPassing
	Status  string `json:"status"` // True | False | Unknown
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// Exit codes, the same for every verb that follows a rollout.
const (
	ExitPromoted   = 0
	ExitError      = 1
	ExitRolledBack = 2
	ExitTimeout    = 3
	ExitApproval   = 4 // waits for approval
)
