// Package prometheus is the judge's source in a cluster that has a Prometheus,
// or something that speaks its HTTP API (Thanos, Mimir, VictoriaMetrics).
//
// # Nouns
//
// A [Reader] asks one server for all rollouts of a tenant together: one question
// for each kind of figure (requests, latency, usage) and interval, for up to 50
// rollouts. A [Source] is one rollout's view and implements engine.Samples. A
// [Custom] asks the queries of one document; a [Template] is such a query, with
// placeholders for values of labels. An [Error] has a [Fault], which says what
// kind of answer came instead of figures.
//
// # How it reads
//
// It asks for raw samples of counters, series by series, with the instants at
// which they were scraped, and leaves the differences to the judge: nothing is
// interpolated or extrapolated, and no query language decides. Which series are
// a version's is said by the names of its pods, never by labels that an earlier
// version may have had too. Of a pod that is scraped twice one target counts.
//
// Pods are scraped one after another. Their figures are given together, once
// all have been scraped anew; until then a look says engine.ErrUnchanged. What
// is older than what was given before is never given: of two servers behind one
// address, the one that lags does not make a counter fall.
//
// # Invariants
//
//   - Empty, stale, partial (with warnings), several series, NaN, histograms and
//     every failure of the server are each an answer of their own; none is zero.
//   - A pod is zero only where its target is up and counts under the names that
//     the application counts under.
//   - Which server is asked, and as whom, is the controller's configuration. No
//     secret is in an error, and of an answer only the server's own error
//     message, clipped.
//   - A label's value is never text of a query. Every selector of a document's
//     query is bound to the rollout's namespace.
//   - Redirects are not followed; answers are bounded in size and time.
//   - A server that is down is asked again after a rest, not at every look.
//
// # Example
//
//	reader, err := prometheus.New(prometheus.Config{Address: "http://prometheus.monitoring:9090"})
//	defer reader.Close()
//	// for each rollout:
//	tpl, err := prometheus.ParseTemplate(m.Prometheus.Query)
//	ports.Samples = metric.Join(metric.Sources{
//		Asked:      doc.Spec.Analysis.Source,
//		Pods:       scraper.For(pods),
//		Prometheus: reader.For(doc.Namespace, pods),
//		Custom:     reader.Custom(doc.Namespace, []prometheus.Query{{Name: m.Name, Template: tpl}}),
//	})
package prometheus
