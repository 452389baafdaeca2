// Package deployment is the engine's Workloads port over the Deployments of a
// cluster: one Deployment per version, told apart by a label of its pod
// template.
//
// # Nouns
//
// A version is a Deployment whose pod template has the selector's labels and
// the version label. Its revision is that label with the hash of the pod
// template as the API server has it ([manifest.TemplateHash], the function that
// one machine uses on its files).
//
// Since is when the template came to be: the Deployment's creation, or the
// last time that somebody who owns a field of the template changed something,
// as the server itself notes it in metadata.managedFields. It survives this
// process; nothing of ours is written for it.
//
// Ready counts what the mesh would send to: pods of the version that an
// EndpointSlice of one of the route's Services has as ready. Without a Service
// it is the Deployment's own count.
//
// A mark is the annotation [MarkAnnotation]: what became of the revision that
// it names. It says nothing about another template under the same Deployment.
//
// # What is written
//
// spec.replicas and the mark, in one JSON Patch that tests the object's uid and
// the count it was decided upon; an autoscaler's spec.minReplicas with an
// annotation that remembers its author's. Nothing else, and nothing that is so
// already.
//
// # Invariants
//
//   - What could not be read is an error, or ReadyKnown is false; never zero.
//   - While a Deployment replaces its pods, only those are counted as ready of
//     which it is certain that they run the template; if that is none and some
//     pods are ready, readiness is unknown.
//   - Min is a floor: a larger count stays. A count that changed since it was
//     looked at is a conflict, and nothing is written.
//   - A Deployment is deleted only if it is still the one that was looked at.
//
// # Example
//
//	w := deployment.New(deployment.Options{
//		Client: c, Namespace: "default", Selector: selector, Label: "version",
//		Services: func(context.Context) ([]types.NamespacedName, error) { return route.Services(), nil },
//	})
//	seen, err := w.Observe(ctx)
//	err = w.Apply(ctx, []rollout.Scale{{Revision: "v2@6f1c2a9b01", Name: "my-app-v2", Min: 2}})
package deployment
