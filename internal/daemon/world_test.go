package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/process"
)

// patience bounds every wait for a condition; nothing is expected to need it.
const patience = 3 * time.Minute

func testOptions(dir, state string) Options {
	return Options{
		Dir: dir, StateDir: state, Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", Seed: 1,
		SaveEvery: 200 * time.Millisecond,
		Process:   process.Options{BackoffBase: 50 * time.Millisecond, SampleEvery: 200 * time.Millisecond},
	}
}

// world is a folder of documents, a state folder, and the daemon over them.
type world struct {
	t          *testing.T
	dir, state string
	d          *Daemon
	log        *logBuffer
	cancel     context.CancelFunc
	ended      chan struct{}
	err        error
	edit       func(*Options)
	prepare    func(*exec.Cmd) // of a daemon in a process of its own
	args       []string        // likewise
}

func newWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	// The API's socket wants a short path, which t.TempDir does not promise.
	root, err := os.MkdirTemp("", "serin")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: filepath.Join(root, "docs"), state: filepath.Join(root, "state"), log: &logBuffer{}}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		w.write(name, text)
	}
	t.Cleanup(func() {
		w.down()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", w.log)
		}
		os.RemoveAll(root)
	})
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

// up starts the daemon; it need not be open yet.
func (w *world) up() {
	w.t.Helper()
	o := testOptions(w.dir, w.state)
	o.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	if w.edit != nil {
		w.edit(&o)
	}
	d, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.d, w.cancel, w.ended = d, cancel, make(chan struct{})
	go func() {
		defer close(w.ended)
		w.err = d.Run(ctx)
	}()
}

// down ends the daemon in order.
func (w *world) down() {
	if w.d == nil {
		return
	}
	w.cancel()
	<-w.ended
	w.d = nil
	if w.err != nil {
		w.t.Errorf("the daemon ended with %v", w.err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func (w *world) open() {
	w.t.Helper()
	select {
	case <-w.d.Opened():
	case <-w.ended:
		w.t.Fatalf("the daemon ended: %v", w.err)
	case <-time.After(patience):
		w.t.Fatalf("the gateway does not open: %+v", w.view("my-app"))
	}
}

func (w *world) view(app string) httpapi.RolloutView {
	v, _ := w.d.Get(context.Background(), httpapi.Ref{Name: app})
	return v
}

// until waits for a view of which something holds.
func (w *world) until(app, what string, holds func(httpapi.RolloutView) bool) httpapi.RolloutView {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last httpapi.RolloutView
	var cursor httpapi.Cursor
	for {
		updates, next, err := w.d.Next(ctx, cursor)
		if err != nil {
			w.t.Fatalf("still not so: %s; %s %s, %v at %s: %s\nfindings %v\ndecisions:\n%s", what, last.Name, last.Phase, last.WeightSet, last.Verdict, last.Message, last.Findings, told(last))
		}
		cursor = next
		for _, u := range updates {
			if u.View != nil && u.Ref.Name == app {
				last = *u.View
				if holds(last) {
					return last
				}
			}
		}
	}
}

func told(v httpapi.RolloutView) string {
	var b strings.Builder
	for _, e := range v.Decisions {
		fmt.Fprintf(&b, "  %d %s by %s: %s -> %s: %s\n", e.N, e.What, e.By, e.From, e.To, e.Why)
	}
	return b.String()
}

func decided(v httpapi.RolloutView, what rollout.What) bool {
	return slices.ContainsFunc(v.Decisions, func(e rollout.Event) bool { return e.What == what })
}

func restsOn(version string) func(httpapi.RolloutView) bool {
	return func(v httpapi.RolloutView) bool {
		return v.Phase == rollout.Idle && v.Stable != nil && v.Stable.Version == version && v.Live
	}
}

func (w *world) command(app string, c rollout.Command) httpapi.Answer {
	w.t.Helper()
	if c.By == "" {
		c.By = "alice"
	}
	a, err := w.d.Command(context.Background(), httpapi.Ref{Name: app}, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// load asks the gateway again and again until it is stopped, with no retries.
type load struct {
	stop  chan struct{}
	ended sync.WaitGroup

	mu     sync.Mutex
	status map[string]int // by version and status
	failed []string       // what was not an answer of a backend
}

func startLoad(addr, host string, clients int) *load {
	l := &load{stop: make(chan struct{}), status: map[string]int{}}
	for range clients {
		l.ended.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.note(get(client, addr, host))
				time.Sleep(500 * time.Microsecond) // a client's pace, not a wait for anything
			}
		})
	}
	return l
}

type answer struct {
	version string
	code    int
	err     error
}

func get(c *http.Client, addr, host string) answer {
	req, err := http.NewRequest("GET", "http://"+addr+"/x", nil)
	if err != nil {
		return answer{err: err}
	}
	if host != "" {
		req.Host = host
	}
	res, err := c.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return answer{res.Header.Get("X-Version"), res.StatusCode, err}
}

func (l *load) note(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.err != nil || a.version == "" {
		l.failed = append(l.failed, fmt.Sprintf("%d %v", a.code, a.err))
		return
	}
	l.status[fmt.Sprintf("%s %d", a.version, a.code)]++
}

func (l *load) end() (status map[string]int, failed []string) {
	close(l.stop)
	l.ended.Wait()
	return l.status, l.failed
}

// share asks n times and counts who answered.
func (w *world) share(n int, host string) map[string]int {
	w.t.Helper()
	out := map[string]int{}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range n {
		a := get(client, w.d.Addr(), host)
		if a.err != nil {
			w.t.Fatal(a.err)
		}
		if a.version == "" {
			a.version = fmt.Sprint(a.code)
		}
		out[a.version]++
	}
	return out
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The article's objects, with how a version starts and the test's short times.

const service = `
apiVersion: v1
kind: Service
metadata: {name: my-app-service}
spec:
  selector: {app: my-app}
  ports: [{protocol: TCP, port: 80, targetPort: 8080}]
`

const destinationRule = `
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: my-app-dest}
spec:
  host: my-app-service
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
`

func virtualService(v1, v2 int) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [my-app-service]
  http:
  - route:
    - {destination: {host: my-app-service, subset: v1}, weight: %d}
    - {destination: {host: my-app-service, subset: v2}, weight: %d}
`, v1, v2)
}

// quick is a Rollout whose steps take fractions of a second. more is added to
// its spec.
func quick(more string) string {
	return `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic:
  - istio: {virtualService: my-app-vs, destinationRule: my-app-dest}
` + more
}

const steps = `
  strategy:
    canary:
      steps:
      - {weight: 5%, hold: 300ms}
      - {weight: 25%, hold: 300ms}
      - {weight: 50%, hold: 300ms}
      - {weight: 100%, hold: 100ms}
  promotion: {bake: 500ms}
`

const limits = `
  analysis:
    skip: [latency] # of a machine that does other things too
    errorRate: {max: 20%, worseBy: 5pp, for: 1s} # half a point more would take some thousand requests to rule out
    minRequests: 10
    deadline: 10s
`

// unjudged is for stories that are not about the judge.
const unjudged = `
  analysis: {none: {reason: this story is not about the judge}}
`

// holding stays at 25 % until a person says more.
const holding = `
  strategy:
    canary:
      steps:
      - {weight: 25%, hold: 100ms}
      - {approval: {}}
      - {weight: 100%, hold: 100ms}
  promotion: {bake: 200ms}
`

// deployment of a version, run by the test binary with these arguments.
func deploymentOf(version string, replicas int, args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: my-app-%[1]s}
spec:
  replicas: %[2]d
  selector:
    matchLabels: {app: my-app, version: %[1]s}
  template:
    metadata:
      labels: {app: my-app, version: %[1]s}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: my-registry/my-app:%[1]s
        command:
`, version, replicas)
	for _, a := range append([]string{os.Args[0], "-version", version}, args...) {
		fmt.Fprintf(&b, "        - %q\n", a)
	}
	fmt.Fprintf(&b, `        env: [{name: %s, value: backend}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, timeoutSeconds: 60} # of a busy machine
`, playing)
	return b.String()
}

// article is the founding scenario's folder with v1 alone.
func article(more string) map[string]string {
	return map[string]string{
		"00-service.yaml":         service,
		"01-deployment-v1.yaml":   deploymentOf("v1", 3),
		"02-destinationrule.yaml": destinationRule,
		"03-virtualservice.yaml":  virtualService(100, 0),
		"05-rollout.yaml":         quick(more),
	}
}

// untilProcesses waits until so many processes of a version run and are ready.
func (w *world) untilProcesses(version string, want int) {
	w.t.Helper()
	count := func() int {
		n := 0
		for _, a := range w.d.allApps() {
			for rev, replicas := range a.versions.Replicas() {
				if rev.Label() == version {
					n += len(replicas)
				}
			}
		}
		return n
	}
	w.eventually(fmt.Sprintf("%s has %d processes", version, want), func() bool { return count() == want })
}

// eventually looks again and again until something holds.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not so: %s", what)
		}
	}
}
