package cluster

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// liar stands before Prometheus. Told how, it answers as one that was stopped,
// that hangs, or that has lost its mind.
func liar(t *testing.T) (addr string, how *atomic.Value) {
	t.Helper()
	l, err := listenLocal()
	if err != nil {
		t.Fatal(err)
	}
	how = &atomic.Value{}
	how.Store("")
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: lab.PrometheusAddress})
	n := atomic.Int64{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch how.Load() {
		case "":
			proxy.ServeHTTP(w, r)
			return
		case "Stopped":
			panic(http.ErrAbortHandler) // the connection goes, without an answer
		case "Slow":
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch n.Add(1) % 4 {
		case 0:
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
		case 1:
			fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"version":"v2"},"value":[%d,"NaN"]},{"metric":{"version":"v2"},"value":[%d,"+Inf"]}]}}`, time.Now().Unix(), time.Now().Unix())
		case 2:
			fmt.Fprint(w, `<html>Sign in to continue</html>`)
		case 3:
			fmt.Fprint(w, `{"status":"success","warnings":["some of the stores did not answer"],"data":{"resultType":"string","result":[0,"v2"]}}`)
		}
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String(), how
}

// prometheusFails: figures come from Prometheus; in the middle of a step it stops,
// hangs, or answers nonsense. Nothing is raised without figures: at the deadline
// the rollout pauses and says why; once it is back, a person lets it go on.
func prometheusFails(t *testing.T) {
	for _, how := range []string{"Stopped", "Slow", "Nonsense"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			addr, way := liar(t)
			process(t, "-n", ns, "--prometheus", "http://"+addr, "--prometheus-every", "1s")
			h := settled(t, ns, document(t, rolloutText, "source: pods", "source: prometheus", "{weight: 5%, hold: 2s}", "{weight: 20%, hold: 15s}",
				"deadline: 60s", "deadline: 20s", "    latency: {quantile: 90, worseBy: 500%}\n", "    skip: [latency]\n"))
			stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 200)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Stop()
			if err := stream.Wait(t.Context(), lab.Patience, 1000); err != nil {
				t.Fatal(err)
			}
			apply(t, ns, "04-deployment-v2.yaml")
			live(t, ns, 1)
			way.Store(how)
			s := until(t, ns, "paused for want of figures", func(s v1alpha1.RolloutStatus) bool {
				return slices.ContainsFunc(s.Paused, func(p v1alpha1.PauseStatus) bool { return p.Kind == "policy" })
			})
			t.Logf("%s", describe(s))
			if s.Verdict != v1alpha1.VerdictUnavailable {
				t.Errorf("the verdict is %s", s.Verdict)
			}
			h.catchUp(t)
			if got := lastSplit(h); got["v2"] != 20 {
				t.Errorf("the split is %s", got)
			}
			says(t, s, "AnalysisPassing", "Unknown", "")
			way.Store("")
			command(t, ns, "resume", "")
			s = until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool {
				return ended("v2", "promoted")(s) && atRest("v2")(s)
			})
			h.check(t, 3, settle, allow{})
			r, err := stream.Stop()
			if err != nil {
				t.Fatal(err)
			}
			flawless(t, r)
		})
	}
}
