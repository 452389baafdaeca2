// Package record writes down what a rollout saw, and plays it again.
//
// A record is a text: one JSON object ([Line]) for each look at the world, in
// the order of time. A live rollout writes it with a [Writer]; a [Replayer]
// puts the same judge and the same policy before it and gives one [Answer] for
// each line, with the record's own time. Nothing waits for a clock, so a day is
// replayed in a moment, and any program can close the loop: it applies the
// answered weights to its world and sends what it then sees.
//
// docs/RECORD.md is the contract for other programs, docs/record.schema.json
// the same for machines.
//
// # Two kinds of line
//
// A line of another program holds the contract's fields and says versions by
// their bare label. Its traffic is what is in force: equal to what was decided,
// it is the receipt; different, it is not in force yet, and never a hand.
//
// A line of a live rollout also holds the observation as the engine had it, so
// that its replay decides the very same: [Line.Observation], and [Line.Start]
// where the rollout went on from something that is not in the record.
//
// # What must stay true
//
//   - Reading is strict about types and tolerant about names: a wrong type is
//     an error with the line and the field, an unknown field one warning.
//   - One line in, one answer out, at once.
//   - A record is bounded: the writer keeps two files of a given size.
//
// # Example
//
//	sum, err := record.Replay(spec, cfg, in, out, record.Hooks{Warn: log.Print})
//	os.Exit(sum.Exit)
package record
