package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
)

func TestZZRecord(t *testing.T) {
	together(t)
	ns := namespace(t)
	settled(t, ns, document(t, rolloutText))
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 150)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	type scrape []any
	var all []scrape
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Second):
			}
			resp, err := http.Get(shared.p.Metrics)
			if err != nil {
				continue
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			all = append(all, scrape{float64(time.Now().UnixMilli()) / 1000, string(b)})
		}
	}()
	time.Sleep(6 * time.Second)
	apply(t, ns, "04-deployment-v2.yaml")
	until(t, ns, 120*time.Second, "v2 promoted", func(s v1alpha1.RolloutStatus) bool { return ended("v2", "promoted")(s) && atRest("v2")(s) })
	the.Pods.Behave(ns, "my-app", "v3", behaviour{Errors: 0.5})
	deploy(t, ns, "v3", 2)
	until(t, ns, 60*time.Second, "v3 rolled back", func(s v1alpha1.RolloutStatus) bool { return ended("v3", "rolledBack")(s) && atRest("v2")(s) })
	time.Sleep(8 * time.Second)
	close(stop)
	<-done
	b, _ := json.Marshal(all)
	os.WriteFile("/tmp/serin/term/cluster-scrapes.json", b, 0o644)
	for _, m := range []string{"istio_requests_total", "istio_request_duration_milliseconds_bucket"} {
		resp, err := http.Get("http://127.0.0.1:9090/api/v1/query?" + url.Values{"query": {fmt.Sprintf("%s{namespace=%q}[5m]", m, ns)}}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		os.WriteFile("/tmp/serin/term/cluster-"+m+".json", b, 0o644)
	}
}
