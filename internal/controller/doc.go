// Package controller is the host in a cluster: it watches the objects that a
// Rollout is about and does one engine.Pass whenever one of them has changed or
// the time that the last pass asked for has come. It holds no rule about
// rollouts.
//
// # Nouns
//
// A [Controller] runs everything. An app is one Rollout with its engine and the
// adapters under it; it lives in memory from the first event about the Rollout
// to its deletion, and everything in it can be lost. The index says which
// Rollouts an object is about. The meter is what /metrics tells.
//
// # One pass
//
//	event -> index -> queue (by priority) -> Reconcile:
//	    the document changed?       Follow it, at rest with new adapters
//	    engine.Pass                 observe, judge, decide, save, apply, tell
//	    publish                     the status, if people would read something else
//	    finalizer, pods, metrics    what hangs on the state
//	    RequeueAfter = Wake - now
//
// # What must stay true
//
//   - Event handlers enqueue and do nothing else; foreign bytes are parsed
//     inside Reconcile, where a panic ends one pass and is said on that Rollout.
//   - Passes come from events and from the engine's Wake. Nothing polls: a
//     Rollout at rest causes no request.
//   - Reads come from caches that give back what this process wrote (ownClient);
//     the state comes from the API server itself.
//   - What lowers a canary's exposure is not kept waiting by what raises one:
//     the queue is ordered by what the last pass had to do.
//   - The finalizer is there before traffic is changed and gone at rest. While
//     it cannot be written nothing is raised.
//   - Two processes may believe that they lead. The state's copy, the route's
//     resourceVersion and a Deployment's count are tested with every write, so
//     that the later writer is told.
//
// # Example
//
//	c, err := controller.New(config, controller.Options{Version: "1.0", MetricsAddr: ":8080"})
//	err = c.Run(ctx) // until ctx ends or the lease is lost
package controller
