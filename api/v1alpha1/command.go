package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CommandKind is the kind of what people ask for in a cluster.
const CommandKind = "RolloutCommand"

// RolloutCommand is what a person asks of one Rollout in the same namespace.
// Its name identifies it: a command is obeyed once, however often it is seen.
// It cannot be changed; one that was taken goes after a while.
//
// Whoever may create one may still not give every command: an admission policy
// asks the authorizer whether its author may do the verb on that Rollout
// (`kubectl auth can-i promote rollouts.serin.dev/my-app`), and whether the
// author is who By says.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=srocmd
// +kubebuilder:printcolumn:name="Rollout",type=string,JSONPath=`.spec.rollout`
// +kubebuilder:printcolumn:name="Verb",type=string,JSONPath=`.spec.verb`
// +kubebuilder:printcolumn:name="By",type=string,JSONPath=`.spec.by`
// +kubebuilder:printcolumn:name="Taken",type=boolean,JSONPath=`.status.taken`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="the name is the command's identifier: at most 63 characters"
type RolloutCommand struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec RolloutCommandSpec `json:"spec"`
	// +optional
	Status RolloutCommandStatus `json:"status,omitzero"`
}

// RolloutCommandList is a list of commands, as the API server gives it.
//
// +kubebuilder:object:root=true
type RolloutCommandList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RolloutCommand `json:"items"`
}

// RolloutCommandSpec is what is asked for, and by whom.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a command cannot be changed: create another one"
// +kubebuilder:validation:XValidation:rule="self.verb == 'promote' || !(has(self.full) && self.full)",message="full belongs to promote"
// +kubebuilder:validation:XValidation:rule="self.verb == 'promote' || !(has(self.override) && self.override)",message="override belongs to promote"
// +kubebuilder:validation:XValidation:rule="(self.verb == 'adopt') == (has(self.stable) && size(self.stable) > 0)",message="adopt names the version that is stable; no other verb does"
type RolloutCommandSpec struct {
	// Rollout is the name of the Rollout in this namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Rollout string `json:"rollout"`
	// Verb is what is asked for.
	Verb CommandVerb `json:"verb"`
	// By is the user that asks: the name under which the API server knows them.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
	// Groups of that user, where an approval asks for one ("group:NAME").
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	Groups []string `json:"groups,omitempty"`
	// Reason in words.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// Revision is the canary that the author saw; a bare label is enough. When
	// another one is there by then, the command is refused. Retry names the
	// revision to try again.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Revision string `json:"revision,omitempty"`
	// N is the last decision that the author saw; 0 = not said. When later
	// ones matter to the command, it is refused.
	// +optional
	// +kubebuilder:validation:Minimum=0
	N int64 `json:"n,omitempty"`
	// Full, with promote: all the way, through capacity and bake.
	// +optional
	Full bool `json:"full,omitempty"`
	// Override, with promote: past a Fail.
	// +optional
	Override bool `json:"override,omitempty"`
	// Stable, with adopt: the version that is to be taken for the stable one.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Stable string `json:"stable,omitempty"`
}

// CommandVerb names a command. The API server is asked for the same verb on
// the Rollout before a command is let in.
//
// +kubebuilder:validation:Enum=abort;undo;pause;approve;resume;promote;retry;adopt
type CommandVerb string

// The verbs.
const (
	VerbAbort   CommandVerb = "abort"
	VerbUndo    CommandVerb = "undo"
	VerbPause   CommandVerb = "pause"
	VerbApprove CommandVerb = "approve"
	VerbResume  CommandVerb = "resume"
	VerbPromote CommandVerb = "promote"
	VerbRetry   CommandVerb = "retry"
	VerbAdopt   CommandVerb = "adopt"
)

// VerbOverride is asked for, beside promote, where a promotion goes past a Fail.
// It is no command.
const VerbOverride = "override"

// RolloutCommandStatus says what became of a command.
type RolloutCommandStatus struct {
	// Taken: the decision about it is recorded; it will not be obeyed again.
	// +optional
	Taken bool `json:"taken,omitempty"`
	// +optional
	At *Time `json:"at,omitempty"`
	// Message is what was decided about it.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}
