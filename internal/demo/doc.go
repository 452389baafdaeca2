// Package demo tells the whole story on one machine, with real processes and
// real requests: v1 serves, a good v2 takes over step by step, a bad v3 is
// taken back by itself.
//
// # Nouns
//
// The app is the back end: this same program, started again as `serin demo-app`,
// so that nothing but Go is needed. The load is a steady stream of requests,
// each with an id of its own and none of them ever repeated. Both ends write
// down every request: the load what it got (client.jsonl), each replica what it
// answered (backends/). An [Expectation] is one thing that the story promises.
//
// # Invariants
//
//   - What is printed at the end is computed from the two ends' own logs, and
//     [Check] computes it again from the files alone.
//   - A failed request counts as the switching's doing unless the replica that
//     answered it wrote down that it meant to fail.
//   - Whatever ends the demo, no process of it stays behind.
//
// # Example
//
//	result, err := demo.Run(ctx, demo.Options{Out: "demo-out", Rate: 400, Program: exe, Print: os.Stdout})
//	if err == nil && result.Err() != nil { ... }   // it did not go as told: which expectation, why
package demo
