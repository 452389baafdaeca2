// Package trial puts release policies on trial: Serin's own, and those of
// other tools, over one and the same service.
//
// # Nouns
//
// A [World] is a service that answers requests on two versions: a synthetic one
// of package worlds, or a [Recording] of a real one whose own pods play the
// canary and to which harm is added. A [Policy] sets the canary's share after
// each look at a world, until it takes the canary back or is through. [Run]
// closes the loop between the two and gives a [Result]; a [Campaign] repeats
// that with one seed after another on all processors and sums it up as
// [Totals].
//
// [Serin] is the product itself: the document's rollout.Spec, rollout.Decide
// and the judge through engine.Mind, under virtual time. [Flagger], [Argo] and
// [Kayenta] follow the rules of those tools, as far as they decide by figures.
//
// [Power] is arithmetic, without any run: what the settings can tell, and when.
//
// # Invariants
//
//   - All chance comes from the seed: the same case and seed give the same
//     result, on any number of processors.
//   - A policy sees what a scraper sees and nothing of the truth.
//   - Whether a run was exposed or harmed is the world's truth and not the
//     judge's estimate.
//
// # Example
//
//	c := trial.Case{World: trial.Synthetic(scenario), Policy: trial.Serin(spec, cfg), Horizon: 90 * time.Minute}
//	t := trial.Campaign(ctx, c, 1, 500)
//	low, high := t.Caught().Interval()
package trial
