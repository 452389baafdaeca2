// Package file keeps one rollout's state in one file, for the host without a
// cluster. It is an [engine.Store].
//
// # The file
//
// One line that says what follows, then JSON that people may read:
//
//	serin-state 1 sha256=2c26b46b... bytes=5123
//	{"copy":17,"state":{...},"evidence":"...","told":12}
//
// Beside PATH stand PATH.prev, the copy before, and PATH.lock, which is empty
// and held while a copy is replaced.
//
// # What must stay true
//
//   - PATH is at every instant absent, the old copy or the new one, whole,
//     whenever the power fails: the new copy is written beside it, synced,
//     renamed over it, and the folder is synced.
//   - A Save that returned without an error is there after any crash.
//   - A file that is torn, foreign or newer than this program is an error that
//     says what to do. It is never taken for an empty state and never
//     overwritten.
//   - Of several programs that save on the same version, one wins.
//
// # Example
//
//	s, err := file.Open("/var/lib/serin/my-app.state")
//	saved, err := s.Load(ctx)
//	saved.State = next
//	saved.Version, err = s.Save(ctx, saved)
package file
