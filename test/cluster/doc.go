// Package cluster holds the tests of `serin controller` on a real cluster: a
// real API server, controller-manager and istiod, with real calls through
// Istio's data plane (see package lab; docs/CLUSTER-TESTS.md for what it does
// not show).
//
// All tests share one cluster and have a namespace each. The founding
// scenario's objects (testdata) are used as they were published.
//
//	go -C test/cluster test .
package cluster
