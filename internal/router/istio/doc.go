// Package istio puts a split in force in the user's own VirtualServices, over
// the subsets of the user's own DestinationRule or over one Service per version.
//
// # Nouns
//
// A [Target] is one VirtualService, and the DestinationRule whose host is split
// in it. What is read is a [View]: the rule, the Services, the versions there
// are. A *slot* is one entry of the VirtualService's http, tls or tcp lists with
// a destination that belongs to the application. In its list of destinations
// there are ours (a version of the application), undivided ones (the host
// without a subset: every version alike) and third ones, which are somebody
// else's.
//
// # Two pure functions for each object
//
//	Parse(vs, view)          -> who gets how much, and our note
//	Render(vs, split, view)  -> a JSON Patch, empty where nothing is to do
//	RenderRule(rule, ...)    -> the subsets that a split needs, as a JSON Patch
//
// A patch begins with tests of what was read (the resourceVersion, and every
// value that it replaces), so that it is refused as a whole where somebody else
// has written meanwhile. Nothing goes through structs: what this package does
// not know stays as it is.
//
// # Weights
//
// Istio 1.31 takes any whole numbers that are not negative and whose sum is not
// 0, and hands them to the proxies as they are: they are proportions, not per
// cent. A slot keeps the sum that its author gave it as long as the split can be
// said in it; else all its numbers, third ones too, are multiplied by 10, 100,
// ... (995 and 5 instead of 99.5 and 0.5): every proportion stays. The factor is
// kept in an annotation beside the note, and undone as soon as it is not needed.
//
// # Invariants
//
//   - parse(render(x, t)) == t; render twice changes nothing.
//   - The sum of a slot's numbers is never 0, the share of the third ones never changes.
//   - A rounding never gives the canary anything: what a slot cannot say exactly
//     (to 1/10000) is an error.
//   - A subset is in the rule, and has been for the settle time, before a route
//     gives traffic to it; so is a version's Service. A subset of ours goes only
//     when no route that we write refers to it and no version needs it. Services
//     are never written.
//   - A Service that was deleted while a route names it stands for the version
//     that it stood for, as far as its name tells.
//   - A write that lowers the canary's exposure is never held up by a settle
//     time, by an ambiguity, or by a name that is missing.
//   - Objects in other namespaces are never written, whoever refers to them.
//   - A destination that is at 0 stays referenced while its version drains
//     (rollout.Traffic.Keep) and as long as it is the canary; at rest the route
//     names stable only.
//
// # What Istio does not give
//
//   - There is no receipt: a step counts after the settle time, and the counted
//     share must not contradict it.
//   - Istiod leaves destinations at 0 out of what it sends to the proxies wherever
//     there is another one.
//   - tcp and tls routes split connections, not requests; a match step has no
//     effect on them.
//   - A match step may ask for exact headers, up to three cookies and a path; not
//     where the route itself matches the path or the cookie header by a regular
//     expression, nor, for a path, where the route rewrites it.
//   - A consistent hash keeps a caller on one pod of a version, not on one version.
//   - Callers without a sidecar or a gateway in their way do not see the split.
//
// # Example
//
//	r, err := istio.New(istio.Config{
//		Client:    mgr.GetClient(),
//		Namespace: "shop",
//		Label:     "version",
//		Targets:   []istio.Target{{VirtualService: "my-app-vs", DestinationRule: "my-app-dest", Settle: 10 * time.Second}},
//		Versions:  versions, // every Deployment's revision and the labels of its pods
//	})
//	eng, err := engine.New(spec, cfg, engine.Ports{Router: r, ...}, engine.Options{})
package istio
