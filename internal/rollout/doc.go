// Package rollout is the policy: which version gets how much traffic, when the
// next step is taken, when a release is taken back.
//
// It is one pure, total function. [Decide] takes the document ([Spec]), what
// was decided before ([State]), what is seen now ([Observation]) and the time,
// and answers with a [Decision]: the state to save, the whole split that must
// be in force, what every revision must be able to carry, what to tell people,
// when to look again. There is no clock, no network and no error in it, and it
// imports nothing but the standard library and the judge's vocabulary.
//
// # States
//
//	Idle -> Preparing -> Progressing(step i) -> Promoting -> Baking -> Idle (promoted)
//	             \____________\________________\__________\--> RollingBack -> Idle (rolled back | aborted | withdrawn)
//	a newer revision: -> Preparing(newer), while the old canary is Leaving (to 0, drained)
//	nobody of stable answers: -> Promoting(canary; or a newer one where that is RollingBack), Unjudged and Stalled
//
// Paused is a set on any of them (who paused, at which weight); Waiting says
// for what the rollout waits and for whom. Stalled says that a person is
// needed, and never stops a write that lowers exposure or ends an outage.
//
// # Desired, requested, observed
//
// State.Granted is the weight that is decided. [Traffic] restates it in every
// pass with the number of the decision that granted it; the route carries that
// number and its own weights back as a [Note]. What the route says against the
// note tells a lost write (older number with its own weights: write again)
// from a hand (other weights than its note) from a stranger (no note).
// State.Confirmed and State.LiveAt latch the moment at which the split was
// seen in force; holds, deadlines and evidence for going on count from there.
//
// # Invariants
//
// Checked by [Check] before every write in the product, and by the simulation
// in every step of every world. The numbers are those of docs/INVARIANTS.md.
//
//   - I1 weights of a split sum to exactly [Whole], each within it.
//   - I2 a weight above the last confirmed one is granted only while the
//     canary's ready replicas can carry it.
//   - I3 a version is scaled to zero only when its weight is 0 and that was
//     seen gone.
//   - I4, I5 stable keeps what it needs for all the traffic until the new one
//     is promoted and baked; it is never scaled to 0 and never renamed but by
//     a recorded decision.
//   - I6 at most one revision beside stable has weight; a superseded one
//     reaches 0 and is gone before the next gets any.
//   - I7 a condemned revision has weight 0 until a person says retry.
//   - I8, I9 the weight rises only with a decision that names its reason, and
//     never because something is unknown.
//   - I10 nothing advances without samples, or without a person or a document
//     that says so.
//   - I15 decisions are numbered without gaps, and every split refers to one.
//   - I17 a revision that failed or was aborted stays so (condemned).
//   - I18 the same input twice: the second answer writes nothing.
//   - I19 when inputs stop changing, every rollout comes to rest.
//
// # Example
//
//	d := rollout.Decide(spec, saved, seen, now)
//	store(d.Next)    // first: what was decided
//	apply(d.Traffic) // second: restated whole, idempotent
//	tell(d.Events)   // third: numbered, may be told twice
package rollout
