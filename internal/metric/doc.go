// Package metric holds what the sources of figures on a cluster have in common:
// what they know of a pod, under which names applications and meshes count, and
// how series become the counters of a pod. It does no I/O. The sources
// themselves are below it: podscrape asks the pods, prometheus asks Prometheus,
// gatewaystats (one machine) asks our own gateway.
//
// # Nouns
//
// A [Pod] is a replica as the API server tells of it: the part that its own
// figures cannot tell. [Pods] is the host's list of them. [Names] is one
// convention of naming (Istio's, client_golang's, OpenTelemetry's ...), as data.
// A [Tally] takes the series of one pod, in any order, and gives its [Figures]
// under the convention that is in force.
//
// # Invariants
//
//   - What was not measured is missing in Has; it is never zero. There is one
//     case in which a missing series is a count of zero: the pod answered in
//     whole, and it or another pod of the same application counts under these
//     names. Counters with labels have no series before the first request.
//   - Figures of two conventions are never mixed: versions that count under
//     different names are not compared.
//   - NaN, infinities and negative values are no figures.
//
// # Example
//
//	t := metric.NewTally(metric.Known())
//	t.Add("istio_requests_total", labels, 17)
//	f := t.Figures(0) // under the first of the conventions
package metric
