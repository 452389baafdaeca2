package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// Tests that need a controller, or the whole cluster, to themselves. They run
// before those that share one.

// TestOwnControllers: each of these has controllers of its own, which watch its
// namespaces only; so they may run side by side.
func TestOwnControllers(t *testing.T) {
	for _, x := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"CrashAtEveryWrite", crashAtEveryWrite},
		{"KilledAtEachKindOfWrite", killedAtEachKindOfWrite},
		{"TwoControllers", twoControllers},
		{"ToldToEnd", toldToEnd},
		{"DamagedState", damagedState},
		{"Prometheus", prometheusFails},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.run(t)
		})
	}
}

// TestAPIServerAway: the API server is gone for a minute in the middle of a
// step. The split stays as it is, users notice nothing, and afterwards the
// rollout goes on; the minute counts for nothing.
func TestAPIServerAway(t *testing.T) {
	ns := namespace(t)
	k, err := the.Keep(context.WithoutCancel(t.Context()), lab.SerinUser, "-n", ns, "--leader-elect")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.End()
		if err := k.Wrong(); err != nil {
			t.Error(err)
		}
	})
	doc := document(t, quickText, "{weight: 20%, hold: 3s}", "{weight: 20%, hold: 20s}")
	h := settled(t, ns, doc)
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 100)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, ns, "04-deployment-v2.yaml")
	began := until(t, ns, "step 1 live", func(s v1alpha1.RolloutStatus) bool {
		return s.Step != nil && s.Step.Number == 1 && s.Step.LiveAt != nil
	}).Step.LiveAt.Time
	stopped := time.Now()
	the.StopAPI()
	away := time.NewTimer(time.Minute)
	defer away.Stop()
	<-away.C
	if err := the.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	s := until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool {
		return ended("v2", "promoted")(s) && atRest("v2")(s)
	})
	says(t, s, "Ready", "True", "")
	// What was not observed is not held: of the minute, only those seconds may
	// count in which the controller had not noticed yet.
	for _, d := range s.Decisions {
		if d.What != "StepStarted" || d.To != "60 %" || d.At.Time.Before(stopped) {
			continue
		}
		before := stopped.Sub(began)
		if held := before + d.At.Sub(back); held < 5*time.Second {
			t.Errorf("the first step was held for %s before the API server went and %s after it was back, which is not 20 s: the time without it was counted", before, d.At.Sub(back))
		}
	}
	r, err := stream.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", r)
	flawless(t, r)
	if got := h.weightsOf("v2"); !slices.Equal(got, []float64{20, 60, 100}) {
		t.Errorf("v2's weights were %v", got)
	}
}

// gate stands between one controller and the API server, and may end the
// controller at a write.
type gate struct {
	addr string
	mu   sync.Mutex
	seen map[string]int
	done map[string]int // of those, what was written
	at   string         // the kind of write at which to strike
	kill func()
}

func newGate(t *testing.T) *gate {
	t.Helper()
	cfg, err := the.ConfigOf(lab.SerinUser)
	if err != nil {
		t.Fatal(err)
	}
	// The token is added here: over plain HTTP a client keeps its own to itself.
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{seen: map[string]int{}, done: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: lab.APIAddress})
	proxy.Transport, proxy.FlushInterval = transport, -1
	proxy.ErrorLog = nil
	proxy.ModifyResponse = func(r *http.Response) error {
		if isWrite(r.Request) && r.StatusCode < 300 {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.done[whatOf(r.Request)]++
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() == nil {
			t.Logf("the gate: %s: %v", r.URL.Path, err)
		}
		w.WriteHeader(http.StatusBadGateway)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		strike := false
		if isWrite(r) {
			g.mu.Lock()
			what := whatOf(r)
			g.seen[what]++
			if strike = what == g.at && g.kill != nil; strike {
				g.at = ""
			}
			g.mu.Unlock()
		}
		if strike { // it arrives, and nobody is there any more to hear of it
			g.kill()
			r = r.WithContext(context.WithoutCancel(r.Context()))
		}
		proxy.ServeHTTP(w, r)
	})}
	l, err := listenLocal()
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return g
}

// writes are those that took effect so far, counted by kind. Events are left
// out: what was decided before may be told at any time.
func (g *gate) writes() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	done := maps.Clone(g.done)
	delete(done, "POST events")
	return jsonText(done)
}

// kubeconfig leads through the gate.
func (g *gate) kubeconfig(t *testing.T) string {
	t.Helper()
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["gate"] = &clientcmdapi.Cluster{Server: "http://" + g.addr}
	cfg.AuthInfos["serin"] = &clientcmdapi.AuthInfo{}
	cfg.Contexts["gate"] = &clientcmdapi.Context{Cluster: "gate", AuthInfo: "serin"}
	cfg.CurrentContext = "gate"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// killedAtEachKindOfWrite ends the real program by SIGKILL at the first
// write of each kind, just as the write arrives, and starts it again.
func killedAtEachKindOfWrite(t *testing.T) {
	kinds := []string{"PATCH rollouts", "PATCH rollouts/status", "PATCH virtualservices", "PATCH destinationrules", "PATCH deployments", "POST events", "PATCH rolloutcommands/status"}
	for _, kind := range kinds {
		t.Run(strings.ReplaceAll(kind, " ", "-"), func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			h := record(t, ns)
			apply(t, ns, "00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml")
			ready(t, ns, "my-app-v1", 3)
			if err := the.Apply(t.Context(), ns, document(t, quickText)); err != nil {
				t.Fatal(err)
			}
			g := newGate(t)
			file := g.kubeconfig(t)
			first, err := the.ControllerWith(t.Context(), file, "-n", ns)
			if err != nil {
				t.Fatal(err)
			}
			killed := make(chan struct{})
			g.mu.Lock()
			g.kill = func() { first.Kill(); close(killed) }
			g.mu.Unlock()
			until(t, ns, "v1 at rest", atRest("v1"))
			g.mu.Lock()
			g.at = kind
			g.mu.Unlock()
			deploy(t, ns, "v9", 2)
			if strings.Contains(kind, "rolloutcommands") {
				live(t, ns, 1)
				command(t, ns, "promote", "")
			}
			select {
			case <-killed:
			case <-time.After(lab.Patience):
				t.Fatalf("there was no %s; there were %v", kind, g.seen)
			}
			second, err := the.ControllerWith(t.Context(), file, "-n", ns)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { second.End() })
			s := until(t, ns, "v9 promoted", func(s v1alpha1.RolloutStatus) bool {
				return ended("v9", "promoted")(s) && atRest("v9")(s)
			})
			ready(t, ns, "my-app-v1", 0)
			routed(t, ns, split{"v9": 100})
			got := h.weightsOf("v9")
			if !slices.IsSorted(got) || len(got) > 4 || got[len(got)-1] != 100 {
				t.Errorf("v9's weights were %v\n%s", got, decisions(s))
			}
			h.check(t, 3, 500*time.Millisecond, allow{})
		})
	}
}

// twoControllers: the leader is stopped in the middle of a step, past its
// lease; the other one carries on; then the first one is let go on, with all that
// it believes. Nothing happens twice. If it was told to end meanwhile, it ends
// without a word: what it would save is not its own any more.
func twoControllers(t *testing.T) {
	for name, told := range map[string]bool{"LetGoOn": false, "ToldToEnd": true} {
		t.Run(name, func(t *testing.T) { deposed(t, told) }) // they share a lease: one after the other
	}
}

func deposed(t *testing.T, told bool) {
	ns := namespace(t)
	g := newGate(t)
	one, err := the.ControllerWith(t.Context(), g.kubeconfig(t), "-n", ns, "--leader-elect")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.End() })
	h := settled(t, ns, document(t, quickText, "{weight: 60%, hold: 2s}", "{weight: 60%, hold: 4s}"))
	two, err := the.Keep(context.WithoutCancel(t.Context()), lab.SerinUser, "-n", ns, "--leader-elect")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(two.End)
	apply(t, ns, "04-deployment-v2.yaml")
	live(t, ns, 1)
	thaw := one.Freeze()
	defer thaw()
	// The other one leads after six seconds, and gets to the second step.
	until(t, ns, "step 2 live", func(s v1alpha1.RolloutStatus) bool {
		return s.Step != nil && (s.Step.Number == 2 && s.Step.LiveAt != nil || s.Step.Number > 2) || ended("v2", "promoted")(s)
	})
	if told {
		one.Signal(syscall.SIGTERM)
	}
	before := g.writes()
	thaw()
	s := until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool {
		return ended("v2", "promoted")(s) && atRest("v2")(s)
	})
	ready(t, ns, "my-app-v1", 0)
	routed(t, ns, split{"v2": 100})
	if got := h.weightsOf("v2"); !slices.Equal(got, []float64{20, 60, 100}) {
		t.Errorf("v2's weights were %v\n%s", got, decisions(s))
	}
	for i, d := range s.Decisions {
		if d.N != int64(i+1) {
			t.Errorf("decision %d has the number %d", i+1, d.N)
		}
	}
	select {
	case <-one.Done():
	case <-time.After(lab.Patience):
		t.Errorf("the controller that lost its lease goes on:\n%s", one.Tail(10))
	}
	if after := g.writes(); told && after != before {
		t.Errorf("the controller that lost its lease has written, when it was told to end: %s before, %s after\n%s", before, after, one.Tail(20))
	}
	h.check(t, 3, 500*time.Millisecond, allow{})
}

// toldToEnd: a controller that is told to end in the middle of a step saves what
// was seen since the last save; the next one judges with it.
func toldToEnd(t *testing.T) {
	ns := namespace(t)
	one := process(t, "-n", ns)
	settled(t, ns, document(t, rolloutText, "{weight: 5%, hold: 2s}", "{weight: 20%, hold: 10m}", "deadline: 60s", "deadline: 30m"))
	stream, err := the.Send(t.Context(), ns, "my-app-service", 80, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Stop()
	apply(t, ns, "04-deployment-v2.yaml")
	live(t, ns, 1)
	// Something must have been seen that is not saved: the pods are looked at every
	// second or two, and saved is every half a minute.
	if err := stream.Wait(t.Context(), lab.Patience, 500); err != nil {
		t.Fatal(err)
	}
	before, err := get(t, ns)
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	if err := one.End(); err != nil {
		t.Fatalf("the controller that was told to end: %v\n%s", err, one.Tail(20))
	}
	after, err := get(t, ns)
	if err != nil {
		t.Fatal(err)
	}
	if after.Status.Copy == before.Status.Copy || jsonText(after.Status.Evidence) == jsonText(before.Status.Evidence) {
		t.Errorf("the evidence is as it was: %s\n%s", jsonText(after.Status.Evidence), one.Tail(20))
	}
	rs, err := the.Requests(lab.SerinUser, asked)
	if err != nil {
		t.Fatal(err)
	}
	rs = slices.DeleteFunc(rs, func(r lab.Request) bool { return r.Namespace != ns || r.Subresource != "status" || r.Verb != "patch" })
	if len(rs) == 0 {
		t.Error("nothing was saved at the end")
	}
	// The next one takes it up: the step goes on, and is decided upon.
	process(t, "-n", ns)
	command(t, ns, "promote", "")
	until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool { return ended("v2", "promoted")(s) && atRest("v2")(s) })
}

// TestCost: what a rollout without judging and holding costs the API server, and
// that one at rest costs nothing.
func TestCost(t *testing.T) {
	ns := namespace(t)
	p := process(t, "-n", ns)
	doc := document(t, shortText, "settle: 200ms", "settle: 500ms",
		"strategy: {canary: {steps: [{weight: 50%, hold: 300ms}, {weight: 100%, hold: 200ms}]}}",
		"strategy: {canary: {steps: [{weight: 5%, hold: 0s}, {weight: 25%, hold: 0s}, {weight: 50%, hold: 0s}, {weight: 75%, hold: 0s}, {weight: 100%, hold: 0s}]}}",
		"promotion: {bake: 300ms}", "promotion: {bake: 0s}")
	settled(t, ns, doc)
	begun := time.Now()
	apply(t, ns, "04-deployment-v2.yaml")
	s := until(t, ns, "v2 promoted", ended("v2", "promoted"))
	took := decided(s, "Promoted", "").At.Sub(begun)
	until(t, ns, "v1 retired", func(s v1alpha1.RolloutStatus) bool { return decided(s, "Retired", "") != nil && atRest("v2")(s) })
	all, err := the.Requests(lab.SerinUser, begun)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, lab.Request.Lease)
	t.Logf("apply to promoted: %s; %d requests to the API server up to v1's retirement:\n%s", took.Round(time.Millisecond), len(all), lab.Count(all))
	for _, r := range all {
		t.Logf("%6.2f s  %s %s", r.At.Sub(begun).Seconds(), r.What(), r.Name)
	}
	if len(all) > 100 {
		t.Errorf("%d requests for one rollout", len(all))
	}
	// At rest. What is left of the events may still come.
	eventually(t, "no request for five seconds", func() (bool, error) {
		rs, err := the.Requests(lab.SerinUser, time.Now().Add(-5*time.Second))
		rs = slices.DeleteFunc(rs, lab.Request.Lease)
		if err != nil || len(rs) > 0 {
			return false, fmt.Errorf("%v: %s", err, lab.Count(rs))
		}
		// That people were told is saved with the next decision, or half a minute
		// later; that is not the rest that is meant.
		r, err := get(t, ns)
		if err != nil {
			return false, err
		}
		n := r.Status.Decisions[len(r.Status.Decisions)-1].N
		return r.Status.Told == n, fmt.Errorf("told of %d, decided %d", r.Status.Told, n)
	})
	idle := 10 * time.Second
	if s := os.Getenv("SERIN_IDLE"); s != "" {
		if idle, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	from := time.Now()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	<-timer.C
	rs, err := the.Requests(lab.SerinUser, from)
	if err != nil {
		t.Fatal(err)
	}
	rs = slices.DeleteFunc(rs, func(r lab.Request) bool { return r.Lease() || r.Verb == "watch" })
	if len(rs) > 0 {
		t.Errorf("at rest, in %s:\n%s", idle, lab.Count(rs))
	}
	if rss, cpu, ok := p.Usage(); ok {
		t.Logf("the controller: %d MiB, %s of processor time", rss>>20, cpu)
	}
}
