// Package tui is the screen of `serin watch`: one rollout on one terminal,
// with nothing scrolled off.
//
// # Nouns
//
// A [Model] is all that the screen depends on: the newest view, the trail of
// what was seen since the screen was opened, the page that is open, what is
// being typed, and the time. [Frame] is the screen: a pure function of a model
// and a size. Only [Run] touches a terminal.
//
// # Pages
//
//	main --e--> evidence   --o--> replicas   --l--> logs   --?--> help   (esc, or the key again: back)
//	main --p, P, a, y, r, t, u--> a reason is typed --enter--> the command is sent
//	                                               --esc----> main
//
// # Invariants
//
//   - A frame has exactly as many lines as the terminal, and none is wider,
//     wide characters counted as the terminal counts them.
//   - What is said by colour is said by a word or a shape, too. NO_COLOR leaves
//     no escape sequence in a frame.
//   - No data is never shown as good: it has a mark and a pattern of its own.
//   - Text from elsewhere cannot move the cursor.
//   - No command is sent without a reason and a second key.
//
// # Example
//
//	code, err := tui.Run(ctx, tui.Options{Host: client, Ref: ref, User: "alice", In: os.Stdin, Out: os.Stdout})
package tui
