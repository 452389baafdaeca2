// Package gateway is the data plane of one machine: it accepts HTTP, decides
// by Host, rule and split which version of a service answers, sends the
// request to one of that version's endpoints and counts what came of it. It
// knows tables, not rollouts: who writes the weights, and why, is not its
// business.
//
// # Nouns
//
// A [Table] is the whole routing at one instant: services, each with its hosts,
// ordered rules, and versions with their endpoints. A rule sends what it
// matches to destinations; a destination is a version and its weight in 1/10000.
// An endpoint is one replica that listens on one address. The table that new
// requests follow is in force; its [Receipt] says which one that is.
//
// # States of an endpoint
//
//	absent -> in force -> retired -> gone
//
// An endpoint that is in the table in force may be chosen. One that the next
// table leaves out is retired: it gets no new request, its requests in flight
// go on. It is gone when the last of them ended; only then may its process be
// stopped. [Gateway.Drain] waits for that. The same address in a later table is
// a new endpoint.
//
// # Invariants
//
//   - A table is put in force whole or not at all; a refused table leaves the
//     last good one in force.
//   - After Swap has returned, no request begins on an endpoint that the new
//     table leaves out.
//   - A request follows one table from beginning to end.
//   - Every aligned block of requests that a rule matches is split exactly as
//     the weights say: blocks of 100 for whole per cents, of 1,000 for tenths,
//     of 10,000 for hundredths. Swapping endpoints does not restart a block.
//   - A request gets one upstream attempt. It gets a second one, within the same
//     version, only where the first provably did nothing: the dial failed, not a
//     byte of it was written, or it is idempotent, has no body, and a
//     kept-alive connection ended without a byte of answer. Only a rule's Retries
//     and Shield repeat more, and only what is idempotent and has no body.
//   - An upstream connection carries the next request only after the answer of
//     the one before was read to its end and its body was sent to its end.
//   - What a request costs in memory does not depend on the size of its body.
//   - Every request that was sent to an endpoint is counted there once.
//
// # Protocols
//
// Clients speak HTTP/1.1, HTTP/2 over TLS, or HTTP/2 without TLS. Endpoints speak
// HTTP/1.1, over a pool of connections that need no goroutines of their own, or
// HTTP/2 without TLS where their version says so (gRPC). Messages are parsed by
// net/http on both sides. Of upgrades only websocket passes; CONNECT does not.
// What clients say about where a request came from is replaced.
//
// # What counts as evidence
//
// [EndpointStats].Requests holds what users asked for, each attempt where it was
// made. Repetitions by a shield, copies for a mirror and what a full version
// passed on are counted apart: they are no fair sample.
//
// # Example
//
//	g := gateway.New(gateway.Options{Seed: 1})
//	err := g.Swap(gateway.Table{Number: 7, Services: []gateway.Service{{
//		Name: "my-app", Hosts: []string{"my-app"}, Default: true,
//		Versions: []gateway.Version{
//			{Name: "v1", Endpoints: []gateway.Endpoint{{Replica: "v1-0", Address: "127.0.0.1:9001"}}},
//			{Name: "v2", Endpoints: []gateway.Endpoint{{Replica: "v2-0", Address: "127.0.0.1:9002"}}},
//		},
//		Rules: []gateway.Rule{{Split: []gateway.Destination{{Version: "v1", Weight: 9500}, {Version: "v2", Weight: 500}}}},
//	}}})
//	go g.Serve(listener)
package gateway
