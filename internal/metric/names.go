package metric

import (
	"strconv"
	"strings"
	"time"
)

// Names is one convention under which requests are counted.
type Names struct {
	// ID is short for it, in messages.
	ID string
	// Requests is the counter of requests. Empty: the count of the latency
	// histogram.
	Requests string
	// Latency is the histogram's name without _bucket; empty = none.
	Latency string
	// Unit of the histogram's bounds.
	Unit time.Duration
	// Having are the labels that a series must carry to be counted.
	Having []Label
	// Code are the labels that may hold the HTTP status, or its class ("5xx").
	// The first that a series has counts.
	Code []string
	// Flags is the label in which a proxy says how a request ended.
	Flags string
	// GRPC are the labels that may hold gRPC's status, as a number or a word.
	GRPC []string
	// Marks are beginnings of the names of other metrics. Where there is one,
	// this convention is spoken, though no request was counted yet.
	Marks []string
}

// Label is one label with its value.
type Label struct{ Name, Value string }

// Istio is what Istio's proxies count for the requests that a pod receives.
// The same proxy counts what the pod sends under reporter="source".
var Istio = Names{
	ID:       "istio",
	Requests: "istio_requests_total",
	Latency:  "istio_request_duration_milliseconds",
	Unit:     time.Millisecond,
	Having:   []Label{{"reporter", "destination"}},
	Code:     []string{"response_code"},
	Flags:    "response_flags",
	GRPC:     []string{"grpc_response_status"},
	Marks:    []string{"istio_agent_", "istio_build", "envoy_"},
}

// Known are the conventions that are understood without being told, the
// trusted first: a proxy counts what the application cannot.
func Known() []Names {
	return []Names{
		Istio,
		{
			ID: "http_requests_total", Requests: "http_requests_total",
			Latency: "http_request_duration_seconds", Unit: time.Second,
			Code: []string{"code", "status", "status_code"},
		},
		{
			ID:      "http_server_request_duration_seconds", // OpenTelemetry
			Latency: "http_server_request_duration_seconds", Unit: time.Second,
			Code: []string{"http_response_status_code", "http_status_code"},
		},
		{
			ID:      "http_server_requests_seconds", // Micrometer
			Latency: "http_server_requests_seconds", Unit: time.Second,
			Code: []string{"status"},
		},
		{
			ID: "grpc_server_handled_total", Requests: "grpc_server_handled_total",
			Latency: "grpc_server_handling_seconds", Unit: time.Second,
			GRPC: []string{"grpc_code"},
		},
	}
}

// Processor time and memory, in order of preference: what cAdvisor says of the
// containers, what a process says of itself.
var (
	cpuNames    = []string{"container_cpu_usage_seconds_total", "process_cpu_seconds_total"}
	memoryNames = []string{"container_memory_working_set_bytes", "process_resident_memory_bytes"}
)

// counts says whether a series is one of this convention.
func (n *Names) counts(l Labels) bool {
	for _, h := range n.Having {
		if l.Get(h.Name) != h.Value {
			return false
		}
	}
	return true
}

// failed says whether the series counts requests that failed by the server's
// fault; known is false where the series does not tell.
func (n *Names) failed(l Labels) (failed, known bool) {
	code := first(l, n.Code)
	status := first(l, n.GRPC)
	if code == "" && status == "" {
		return false, false
	}
	if serversFault(status) {
		return true, true
	}
	switch {
	case code == "0":
		// No answer was sent. Where it was the client that went away, that is
		// nobody's failure.
		flags := ""
		if n.Flags != "" {
			flags = l.Get(n.Flags)
		}
		return !strings.Contains(","+flags+",", ",DC,"), true
	case len(code) == 3:
		return code[0] == '5', true
	case code == "":
		return false, true
	}
	x, err := strconv.Atoi(code)
	return err == nil && x >= 500, err == nil
}

func first(l Labels, names []string) string {
	for _, n := range names {
		if v := l.Get(n); v != "" {
			return v
		}
	}
	return ""
}

// serversFault knows gRPC's statuses that are the server's: Unknown,
// DeadlineExceeded, Unimplemented, Internal, Unavailable, DataLoss.
func serversFault(status string) bool {
	switch strings.ToLower(strings.ReplaceAll(status, "_", "")) {
	case "2", "4", "12", "13", "14", "15",
		"unknown", "deadlineexceeded", "unimplemented", "internal", "unavailable", "dataloss":
		return true
	}
	return false
}
