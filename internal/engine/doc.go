// Package engine does one pass over one rollout, on every host alike:
//
//	observe  ->  judge  ->  Decide  ->  save  ->  apply  ->  tell
//
// The policy is in package rollout and the judgement in package analysis; both
// are pure. This package carries values to them and from them. It owns the
// ports, because it is their only consumer: a host hands in one implementation
// of each and calls [Engine.Pass] whenever something changed or the time that
// the last pass asked for has come.
//
// # What a pass promises
//
//   - A read that failed is Unknown in the observation; never zero, never absent.
//   - A decision is in the store before any effect of it is visible. One
//     exception: when saving fails for any reason but a conflict, a pass that
//     lowers the canary's exposure still writes the route, whose note carries
//     the condemned revisions.
//   - Weight is lowered before anything else is done; capacity is given before
//     weight is raised; capacity is taken away last, and only after the split
//     was written.
//   - A decision that breaks an invariant raises nothing and takes nothing
//     away; it is neither saved nor applied, and the pass says which one.
//   - What is already as wanted is not written again.
//   - Events are told after they were saved, at least once each, in order.
//   - Decisions are restated in every pass, so a lost write and a crash between
//     any two steps need no code of their own.
//
// # Between the ports
//
// [Mind] is the pure middle: a judge, its last report and Decide. The replay
// of a record and the simulation run the same Mind over their own worlds.
//
// # Example
//
//	e, err := engine.New(spec, cfg, engine.Ports{
//		Store: store, Workloads: procs, Router: gw, Samples: stats, Inbox: inbox,
//	}, engine.Options{Now: time.Now})
//	for {
//		res, err := e.Pass(ctx)     // err: what went wrong; res is valid all the same
//		wait(res.Wake, somethingChanged)
//	}
package engine
