// Package embedded is the router of one machine: it turns the split that the
// core decides, on top of the routes that the user's documents state, into the
// table of this process's own gateway.
//
// # Nouns
//
// A [Board] keeps one gateway's table. Each application has a [Router] on it,
// which is the engine's port for that application. A [Route] is what the user's
// documents say about the application: hosts and ordered rules, and what holds
// for all of them (who stays on a version, how much a version may have). The
// shares of a rule that go to the application itself follow the split;
// everything else in it stays as it was written.
//
// # Where a split comes from
//
//	declared  nothing of ours is in force: the weights of the documents, no note
//	primed    what was in force before this process started, from the saved state
//	applied   what the core asked for last
//
// All three are put in force in the same way; only the first has no note, which
// is how the core tells an adoption from a split of its own.
//
// # Invariants
//
//   - The table holds one split for each application, whole: a table that the
//     gateway refuses changes nothing, and the receipt stays with the last good one.
//   - The receipt names a decision only after no request follows an older one.
//   - Routes, endpoints and splits may change in any order; each change is one
//     new table, made from the latest of all three.
//   - A version without an endpoint keeps its weight and gets no request: the
//     gateway gives its share to the others of the rule, and to stable where none
//     of them can answer. What a rule of the documents alone names is left to it.
//   - Counts of requests never fall while the board lives, also when endpoints
//     come and go.
//
// # Example
//
//	b := embedded.NewBoard(gw)
//	r := b.Router("my-app")
//	r.SetRoute(route)
//	r.Prime(lastSplit)             // after a restart; before the gateway opens
//	b.SetEndpoints(ready)          // whenever a replica becomes ready or goes
//	eng := engine.New(spec, cfg, engine.Ports{Router: r, ...}, ...)
package embedded
