package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The label sets are bounded: one set per version and status code. An endpoint
// has no label of its own.
var (
	versionLabels = []string{"reporter", "source_workload", "destination_service", "destination_service_name",
		"destination_service_namespace", "destination_workload", "destination_workload_namespace", "destination_version",
		"request_protocol"}
	requestsDesc = prometheus.NewDesc("istio_requests_total", "Requests that have ended.",
		append(append([]string(nil), versionLabels...), "response_code", "response_flags", "grpc_response_status"), nil)
	durationDesc = prometheus.NewDesc("istio_request_duration_milliseconds",
		"Time from a request's head to the end of its answer (to its beginning for streams).", versionLabels, nil)
	inFlightDesc = prometheus.NewDesc("serin_gateway_requests_in_flight", "Requests begun and not ended.", versionLabels, nil)
	retriedDesc  = prometheus.NewDesc("serin_gateway_attempts_retried_total",
		"Attempts that provably did nothing and were made again.", versionLabels, nil)
	shieldedDesc = prometheus.NewDesc("serin_gateway_shielded_total",
		"Repetitions here of requests that failed on another version.", versionLabels, nil)
	mirroredDesc = prometheus.NewDesc("serin_gateway_mirrored_total", "Copies of requests sent here.",
		append(append([]string(nil), versionLabels...), "result"), nil)
	shedDesc = prometheus.NewDesc("serin_gateway_shed_total",
		"Requests that went elsewhere because the version had as many as it may have.", versionLabels, nil)
	unroutedDesc = prometheus.NewDesc("serin_gateway_unrouted_total",
		"Requests answered by the gateway because no rule matched (404) or no version had an endpoint (503).",
		[]string{"destination_service_name", "response_code"}, nil)
	tableDesc = prometheus.NewDesc("serin_gateway_table_number", "Number of the routing table in force.", nil, nil)
)

// Metrics serves the same figures as Stats in Prometheus' text format, under
// the names and labels of Istio's standard metrics (istio_requests_total,
// istio_request_duration_milliseconds). It belongs on a listener of its own.
func (g *Gateway) Metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{g})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Collector gives the same metrics for a registry of the caller's.
func (g *Gateway) Collector() prometheus.Collector { return collector{g} }

type collector struct{ g *Gateway }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, durationDesc, inFlightDesc, retriedDesc, shieldedDesc, mirroredDesc, shedDesc, unroutedDesc, tableDesc} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	send := func(m prometheus.Metric, err error) {
		if err == nil { // a label that is not UTF-8: the series is left out, the others are told
			ch <- m
		}
	}
	send(prometheus.NewConstMetric(tableDesc, prometheus.GaugeValue, float64(c.g.routing.Load().number)))
	for _, s := range c.g.known(time.Now()) {
		send(prometheus.NewConstMetric(unroutedDesc, prometheus.CounterValue, float64(s.notFound.Load()), s.name, "404"))
		send(prometheus.NewConstMetric(unroutedDesc, prometheus.CounterValue, float64(s.noEndpoint.Load()), s.name, "503"))
		for _, v := range s.sorted() {
			v.collect(send)
		}
	}
}

func (v *versionState) collect(send func(prometheus.Metric, error)) {
	s := v.service
	at := s.place.Load()
	labels := []string{"source", "serin-gateway", at.host, s.name, at.namespace, *v.workload.Load(), at.namespace, v.name, "http"}
	t, inFlight := v.sum()
	for o, n := range t.codes {
		code, flags, grpc := o.labels()
		send(prometheus.NewConstMetric(requestsDesc, prometheus.CounterValue, float64(n), append(labels[:len(labels):len(labels)], code, flags, grpc)...))
	}
	counts, total := t.cumulative()
	buckets := make(map[float64]uint64, len(counts))
	for i, n := range counts {
		buckets[boundsMs[i]] = n
	}
	send(prometheus.NewConstHistogram(durationDesc, total, float64(t.sumUs)/1000, buckets, labels...))
	send(prometheus.NewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(inFlight), labels...))
	send(prometheus.NewConstMetric(retriedDesc, prometheus.CounterValue, float64(t.retried), labels...))
	send(prometheus.NewConstMetric(shieldedDesc, prometheus.CounterValue, float64(t.shielded), labels...))
	send(prometheus.NewConstMetric(shedDesc, prometheus.CounterValue, float64(v.shed.Load()), labels...))
	with := func(s string) []string { return append(labels[:len(labels):len(labels)], s) }
	send(prometheus.NewConstMetric(mirroredDesc, prometheus.CounterValue, float64(t.mirrored-t.mirrorErrors), with("ok")...))
	send(prometheus.NewConstMetric(mirroredDesc, prometheus.CounterValue, float64(t.mirrorErrors), with("failed")...))
}

// sum adds up what all endpoints of v have done, the forgotten ones too, so
// that no counter ever falls.
func (v *versionState) sum() (t tally, inFlight int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t.addTally(v.folded)
	for _, e := range v.endpoints {
		t.addTally(e.counters.read())
		inFlight += e.inflight.Load()
	}
	for _, e := range v.old {
		t.addTally(e.counters.read())
		inFlight += e.inflight.Load()
	}
	return t, inFlight
}

// labels are response_code, response_flags and grpc_response_status as Istio's
// proxies have them.
func (o outcome) labels() (code, flags, grpc string) {
	switch {
	case o == clientGone:
		return "0", "DC", ""
	case o == noConnection:
		return "502", "UF", ""
	case o == cut:
		return "502", "UC", ""
	case o == timedOut:
		return "504", "UT", ""
	case o >= grpcFailed:
		return "200", "-", strconv.Itoa(int(o - grpcFailed))
	}
	return strconv.Itoa(int(o)), "-", ""
}
