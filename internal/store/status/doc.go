// Package status keeps one rollout's state in the status of its Rollout, for
// the host in a cluster. It is an [engine.Store], and it is what makes of a
// pass the part of the status that people and their tools read.
//
// # Nouns
//
// A copy is State, Evidence and Told as one save wrote them, under a name in
// status.copy. The readable part is the rest: conditions, phase, weight,
// message. Decisions and history belong to both: they are kept once, in the
// form that people read, and put back into the State that is loaded.
//
// # What must stay true
//
//   - One write carries the copy and the readable part of the same pass, so
//     what people read never speaks of something that was not recorded.
//   - A write states the copy that it follows from and the object's uid, and
//     the API server checks both with the write. Of several writers one wins;
//     a Rollout that was deleted and made anew under the same name gets nothing
//     of the old one. The lock is on the copy and not on the object's
//     resourceVersion: an edit of the document, a label or a finalizer in
//     between is no conflict.
//   - Reads are never from a cache: what was saved is what is loaded.
//   - What is written fits the schema whatever the values are: texts are cut
//     to its bounds, the whole stays below v1alpha1.MaxStatusBytes.
//   - A copy that cannot be understood is an error, never an empty Saved, and
//     is not overwritten.
//
// # Example
//
//	s := status.New(mgr.GetAPIReader(), mgr.GetClient().Status(), key, uid)
//	s.Follow(doc.Generation)
//	e, err := engine.New(spec, cfg, engine.Ports{Store: s, ...}, engine.Options{Policy: s.Policy(rollout.Decide)})
//	res, err := e.Pass(ctx)        // saves, when there is something to save
//	_, perr := s.Publish(ctx, res) // writes, when people would read something else
package status
