// Package analysis judges a canary against the version it replaces: samples in,
// a verdict and the evidence for it out.
//
// It is pure: no clock, no I/O, standard library only. It knows no query
// language and no rollout policy. What a verdict leads to is decided in
// package rollout; where samples come from is the business of the metric
// adapters.
//
// # Nouns
//
// A [Look] is what was seen at one instant: for each of the two arms (stable
// and canary) the cumulative counters of every pod, and the readings of custom
// metrics. A [Judge] takes looks in order of time, turns counters into deltas
// and answers each look with a [Report]: one of four verdicts, how far the
// evidence has got towards taking the release back and towards going on, and
// one sentence with the figures.
//
// # Verdicts
//
// Fail: the release is worse than it may be. Pass: what this step asks for has
// been shown. Undecided: there is data, and not enough of it. Unavailable:
// there is no usable data. Unavailable is the zero value, because silence must
// be harmless: nothing advances on it, and nothing is taken back by it.
//
// # Invariants
//
//   - No Pass without a positive count of samples on the canary, and on stable
//     too while it has traffic.
//   - A metric that is declared and gave no usable number makes the verdict
//     Unavailable, never Pass: a typo is not a success.
//   - NaN, infinities, several series, partial and stale answers are each an
//     answer of their own and never a number.
//   - The verdict is a function of the configuration, the saved state and the
//     look alone: replay gives what the live run gave.
package analysis
