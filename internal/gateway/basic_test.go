package gateway_test

import (
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/gateway"
)

func TestRoutesAndCounts(t *testing.T) {
	b1, b2 := newBackend(t, says("one")), newBackend(t, says("two"))
	f := newFront(t, gateway.Options{Seed: 1, VersionHeader: "x-serin-version"})
	f.swap(t, table(7, share(500), version("v1", b1.addr), version("v2", b2.addr)))
	got := map[string]int{}
	for range 1000 {
		code, body := f.get(t, "/")
		if code != 200 {
			t.Fatalf("status %d: %s", code, body)
		}
		got[body]++
	}
	if got["one"] != 950 || got["two"] != 50 {
		t.Errorf("split: %v, want 950 one and 50 two", got)
	}
	s := f.Stats()
	if len(s.Services) != 1 || len(s.Services[0].Versions) != 2 {
		t.Fatalf("stats: %+v", s)
	}
	for i, want := range []uint64{950, 50} {
		e := s.Services[0].Versions[i].Endpoints[0]
		if e.Requests != want || e.Errors != 0 || e.Count[len(e.Count)-1] != want {
			t.Errorf("endpoint %d: %+v, want %d requests", i, e, want)
		}
	}
	if r := f.InForce(); r.Number != 7 || r.Since.IsZero() || len(r.Routes) != 1 {
		t.Errorf("receipt: %+v", r)
	}
	m := newBackend(t, f.Metrics().ServeHTTP)
	resp, err := f.client.Get(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text := readAll(t, resp.Body)
	for _, want := range []string{
		`istio_requests_total{destination_service="app",destination_service_name="app",destination_service_namespace="default",destination_version="v2",destination_workload="app-v2",destination_workload_namespace="default",grpc_response_status="",reporter="source",request_protocol="http",response_code="200",response_flags="-",source_workload="serin-gateway"} 50`,
		`istio_request_duration_milliseconds_bucket{destination_service="app",destination_service_name="app",destination_service_namespace="default",destination_version="v2",destination_workload="app-v2",destination_workload_namespace="default",reporter="source",request_protocol="http",source_workload="serin-gateway",le="+Inf"} 50`,
		"serin_gateway_table_number 7",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s\n%s", want, text)
		}
	}
}
