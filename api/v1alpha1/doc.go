// Package v1alpha1 is the user's document: what a Rollout says, what it means
// where it is silent, and what is wrong with it.
//
// # Nouns
//
// A [Rollout] names a workload (who the versions are), one or more routes (where
// their traffic is split), a strategy (how a new version gets its share), an
// analysis (how it is judged), and what becomes of the old version afterwards.
// The same document is read on one machine and in a cluster.
//
// Values with a unit are strings: a share is a [Percent] ("5%"), a difference
// of shares is [Points] ("0.5pp"), a time is a [Duration] ("500ms", "1m30s").
// Each is parsed once, at the edge, and printed in one canonical form.
//
// # The way of a document
//
// [Parse] decodes strictly: a field that does not exist is an error that names
// its path and the nearest field that does. [Rollout.Default] fills in what was
// left out. [Rollout.Validate] gives everything that is wrong, all at once, each
// with the path, what is wrong and what would be right.
//
// # Invariants
//
//   - Default changes nothing that was said, and a second Default changes nothing.
//   - After Default and a Validate without problems, every pointer whose comment
//     says "never nil after Default" may be followed.
//   - Every list and every string has a bound, so a document has one too.
//   - Printing and parsing a value gives the value back.
//
// # Example
//
// The smallest useful document:
//
//	apiVersion: serin.dev/v1alpha1
//	kind: Rollout
//	metadata: {name: my-app}
//	spec:
//	  workload:
//	    versions:
//	      selector: {matchLabels: {app: my-app}}
//	  traffic:
//	  - istio: {virtualService: my-app-vs, destinationRule: my-app-dest}
//
// +kubebuilder:object:generate=true
// +groupName=serin.dev
package v1alpha1
