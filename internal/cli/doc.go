// Package cli is the command line: one file per verb, over a [Host]: the client
// of package httpapi for a daemon, or a cluster's. It starts none and knows no
// cluster: both are handed in by cmd.
//
// # Promises
//
//   - Exit codes are the same for every verb that follows a rollout: 0 promoted
//     (at rest), 1 error or a person is needed, 2 rolled back, 3 not at an end
//     (yet, or in the time given), 4 waits for approval.
//   - What reads takes -o json, and prints there what the API gave, with lengths
//     of time in seconds under names that say so.
//   - Answers go to standard output, everything else to standard error.
//   - Nothing depends on a terminal: no colours, no cursor, no prompt.
//   - A message says what happened, on what evidence, and what comes next.
//
// # Example
//
//	os.Exit(cli.Main(ctx, cli.Program{Version: "v0.1.0", Up: up}, os.Args[1:]))
package cli
