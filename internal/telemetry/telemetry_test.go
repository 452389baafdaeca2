package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host tells of one rollout.
type host struct {
	view      httpapi.RolloutView
	workloads []rollout.Workload
}

func (host) Describe(chan<- *prometheus.Desc) {}

func (h host) Collect(ch chan<- prometheus.Metric) {
	tell := Sink(ch)
	tell.Info("1.2")
	tell.Rollout(h.view, h.workloads)
}

// served is what a client reads, our own series only.
func served(t *testing.T, h host) []string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, l, NewRegistry(h)) }()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", res.Status, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the end of its context ended it with %v", err)
	}
	if !strings.Contains(string(body), "\ngo_goroutines ") {
		t.Error("nothing of the process is told")
	}
	var ours []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "serin_") {
			ours = append(ours, strings.TrimSpace(line))
		}
	}
	return ours
}

func TestRollout(t *testing.T) {
	seen := 0.04
	v := httpapi.RolloutView{
		Namespace: "shop", Name: "cart", Phase: rollout.Progressing, WeightSet: 500, WeightSeen: &seen,
		Verdict: analysis.Undecided, Evidence: httpapi.EvidenceView{Rollback: 0.25, Advance: 0.5},
		Exposed: 120, Harmed: 1.5, Stalled: "a person is needed",
	}
	got := served(t, host{v, []rollout.Workload{
		{Revision: "v1@a", Replicas: 3, Ready: 2}, {Revision: "v2@b", Replicas: 1, Ready: 1}, {Revision: "v2@c", Replicas: 2},
	}})
	want := []string{
		`serin_evidence_ratio{app="shop/cart",towards="advance"} 0.5`,
		`serin_evidence_ratio{app="shop/cart",towards="rollback"} 0.25`,
		`serin_info{version="1.2"} 1`,
		`serin_phase{app="shop/cart",phase="Baking"} 0`,
		`serin_phase{app="shop/cart",phase="Idle"} 0`,
		`serin_phase{app="shop/cart",phase="Preparing"} 0`,
		`serin_phase{app="shop/cart",phase="Progressing"} 1`,
		`serin_phase{app="shop/cart",phase="Promoting"} 0`,
		`serin_phase{app="shop/cart",phase="RollingBack"} 0`,
		`serin_replicas{app="shop/cart",kind="asked",version="v1"} 3`,
		`serin_replicas{app="shop/cart",kind="asked",version="v2"} 3`,
		`serin_replicas{app="shop/cart",kind="ready",version="v1"} 2`,
		`serin_replicas{app="shop/cart",kind="ready",version="v2"} 1`,
		`serin_requests_exposed{app="shop/cart"} 120`,
		`serin_requests_harmed{app="shop/cart"} 1.5`,
		`serin_stalled{app="shop/cart"} 1`,
		`serin_verdict{app="shop/cart",verdict="Fail"} 0`,
		`serin_verdict{app="shop/cart",verdict="Pass"} 0`,
		`serin_verdict{app="shop/cart",verdict="Unavailable"} 0`,
		`serin_verdict{app="shop/cart",verdict="Undecided"} 1`,
		`serin_weight_ratio{app="shop/cart",kind="seen"} 0.04`,
		`serin_weight_ratio{app="shop/cart",kind="set"} 0.05`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Of a rollout whose saved state cannot be read nothing is known: neither its
// phase nor its weight is 0.
func TestUnreadable(t *testing.T) {
	v := httpapi.UnreadableView(httpapi.Ref{Name: "cart"}, rollout.Spec{}, "the file is torn", time.Now())
	if diff := cmp.Diff([]string{`serin_info{version="1.2"} 1`, `serin_stalled{app="cart"} 1`}, served(t, host{view: v})); diff != "" {
		t.Error(diff)
	}
}

// What is not known is no series: a drawn 0 would say that it was measured.
func TestNothingIsMadeUp(t *testing.T) {
	for _, line := range served(t, host{view: httpapi.RolloutView{Name: "cart", Phase: rollout.Idle}}) {
		if strings.Contains(line, `kind="seen"`) || strings.HasPrefix(line, "serin_replicas") {
			t.Errorf("%s", line)
		}
		if strings.Contains(line, `app="`) && !strings.Contains(line, `app="cart"`) {
			t.Errorf("%s: without a namespace the app is the name", line)
		}
	}
}

// A version whose label is no text costs its own series and no others.
func TestBadLabel(t *testing.T) {
	got := served(t, host{httpapi.RolloutView{Name: "cart"}, []rollout.Workload{{Revision: "v\xff@a", Replicas: 1}, {Revision: "v2@b", Replicas: 1}}})
	var of []string
	for _, line := range got {
		if strings.HasPrefix(line, "serin_replicas") && strings.Contains(line, "asked") {
			of = append(of, line)
		}
	}
	if diff := cmp.Diff([]string{`serin_replicas{app="cart",kind="asked",version="v2"} 1`}, of); diff != "" {
		t.Error(diff)
	}
}

func TestLabels(t *testing.T) {
	for by, want := range map[string]string{"rule": "rule", "deadline": "deadline", "git": "git", "alice": "person", "": "person"} {
		if got := Author(by); got != want {
			t.Errorf("the author %q is told as %q, want %q", by, got, want)
		}
	}
	if Result(nil) != "ok" || Result(errors.New("x")) != "trouble" {
		t.Error("how a pass ended")
	}
}
