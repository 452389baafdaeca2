// Package worlds makes synthetic services to put the judge on trial: pods of
// two versions with counters, healthy or not, in fair and in ugly weather.
//
// # Nouns
//
// A [Scenario] says what a service is like and what, if anything, is wrong
// with its canary. A [World] is one seeded run of it: [World.Advance] lets time
// pass at a weight, [World.Stable] and [World.Canary] show the pods as a
// scraper would see them, and the world keeps the truth: how many requests were
// exposed and harmed. A [Policy] is a plain list of steps; [Run] closes the
// loop between a world, the judge and the policy, and [Campaign] repeats that.
//
// # Invariants
//
//   - All chance comes from the seed: the same scenario, seed, policy and
//     configuration give the same run.
//   - A scenario is healthy exactly if its canary answers like its stable, up to
//     what pods do of themselves: [Scenario.Healthy].
//
// For example, Run(Scenario{RPS: 100, Base: 0.001, Bad: 0.05}, Document(),
// DefaultPolicy(), 7) is the seventh run of a release that fails one request in
// twenty.
package worlds
