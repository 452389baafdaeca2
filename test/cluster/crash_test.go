package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/controller"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// What may happen to one write.
const (
	crashBefore    = "crash before"      // the controller ends, nothing was written
	crashAfter     = "crash after"       // it was written, and the controller ends
	failedApplied  = "error, applied"    // it was written; the controller is told that it was not
	conflict       = "conflict"          // 409, not written
	throttled      = "throttled"         // 429 with Retry-After, not written
	timeOut        = "time-out"          // no answer, not written
	timeOutApplied = "time-out, applied" // no answer, written
	refused        = "server error"      // 500, not written
)

var modes = []string{crashBefore, crashAfter, failedApplied, conflict, throttled, timeOut, timeOutApplied, refused}

// fault is what happens to the n-th write, counted from 1; 0 is none.
type fault struct {
	n    int
	mode string
}

// wire carries one controller's requests, and breaks one of them. The count of
// writes goes on from one controller to the next.
type wire struct {
	next  http.RoundTripper
	plan  *plan
	crash context.CancelFunc
	ended context.Context
}

// plan is a fault, and what came of it.
type plan struct {
	fault
	mu     sync.Mutex
	writes []string
	hit    string // the write that the fault met
}

// isWrite tells writes that can change something; leases and questions about
// permissions are none.
func isWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/leases") && !strings.Contains(r.URL.Path, "authorization.k8s.io")
}

// whatOf is a write in words: "PATCH rollouts/status".
func whatOf(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for i, p := range parts {
		if p != "namespaces" || i+2 >= len(parts) {
			continue
		}
		what := parts[i+2]
		if len(parts) > i+4 {
			what += "/" + parts[i+4]
		}
		return r.Method + " " + what
	}
	return r.Method + " " + r.URL.Path
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.ended.Err() != nil {
		return nil, errors.New("this controller is dead")
	}
	if !isWrite(r) {
		return w.next.RoundTrip(r)
	}
	w.plan.mu.Lock()
	w.plan.writes = append(w.plan.writes, whatOf(r))
	mode := ""
	if len(w.plan.writes) == w.plan.n {
		mode, w.plan.hit = w.plan.mode, whatOf(r)
	}
	w.plan.mu.Unlock()
	switch mode {
	case crashBefore:
		w.crash()
		return nil, errors.New("crashed before the write")
	case crashAfter:
		resp, err := w.next.RoundTrip(r)
		w.crash()
		if err == nil {
			resp.Body.Close()
		}
		return nil, errors.New("crashed after the write")
	case failedApplied:
		resp, err := w.next.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		return nil, errors.New("connection reset by peer")
	case conflict:
		return answer(r, http.StatusConflict, metav1.StatusReasonConflict), nil
	case throttled:
		resp := answer(r, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
		resp.Header.Set("Retry-After", "1")
		return resp, nil
	case refused:
		return answer(r, http.StatusInternalServerError, metav1.StatusReasonInternalError), nil
	case timeOut, timeOutApplied:
		if mode == timeOutApplied {
			resp, err := w.next.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
		}
		late := time.NewTimer(3 * time.Second)
		defer late.Stop()
		select {
		case <-r.Context().Done():
		case <-late.C:
		}
		return nil, context.DeadlineExceeded
	}
	return w.next.RoundTrip(r)
}

// answer is an API server's refusal.
func answer(r *http.Request, code int, reason metav1.StatusReason) *http.Response {
	b, err := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "the test says so"})
	if err != nil {
		panic(err) // strings only
	}
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b)),
	}
}

// inProcess runs controllers for one namespace in this process, one after the
// other: each time one has crashed, the next starts with an empty memory.
func inProcess(t *testing.T, ns string, p *plan) (stop func()) {
	t.Helper()
	cfg, err := the.ConfigOf(lab.SerinUser)
	if err != nil {
		t.Fatal(err)
	}
	all, end := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for all.Err() == nil {
			ended, crash := context.WithCancel(all)
			c := rest.CopyConfig(cfg)
			c.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return &wire{next: next, plan: p, crash: crash, ended: ended}
			})
			x, err := controller.New(c, controller.Options{Namespaces: []string{ns}})
			if err == nil {
				err = x.Run(ended)
			}
			if err != nil && ended.Err() == nil {
				t.Errorf("a controller ended by itself: %v", err)
				crash()
				return
			}
			crash()
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { end(); <-done }) }
	t.Cleanup(stop)
	return stop
}

// shortText is a story as short as it may be: two steps, nothing held.
const shortText = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 200ms}}]
  strategy: {canary: {steps: [{weight: 50%, hold: 300ms}, {weight: 100%, hold: 200ms}]}}
  analysis: {none: {reason: this is about writes}}
  promotion: {bake: 300ms}
`

// ending is what a story leaves behind, without names and times.
func ending(t *testing.T, ns string) (string, error) {
	r, err := get(t, ns)
	if err != nil {
		return "", err
	}
	vs, err := the.Dynamic.Resource(virtualServices).Namespace(ns).Get(t.Context(), "my-app-vs", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	dr, err := the.Dynamic.Resource(destinationRules).Namespace(ns).Get(t.Context(), "my-app-dest", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	subsets, _, _ := unstructured.NestedSlice(dr.Object, "spec", "subsets")
	var b strings.Builder
	stable := ""
	if r.Status.Stable != nil {
		stable = r.Status.Stable.Label
	}
	fmt.Fprintf(&b, "%s, stable %s, canary %v, route %s, finalizers %v, subsets", r.Status.Phase, stable, r.Status.Canary != nil, splitOf(vs), r.Finalizers)
	for _, s := range subsets {
		name, _, _ := unstructured.NestedString(s.(map[string]any), "name")
		b.WriteString(" " + name)
	}
	for _, v := range []string{"v1", "v9"} {
		d, err := the.Clients.AppsV1().Deployments(ns).Get(t.Context(), "my-app-"+v, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, ", %s wants %d", v, *d.Spec.Replicas)
	}
	for _, h := range r.Status.History {
		fmt.Fprintf(&b, ", %s %s", strings.SplitN(h.Revision, "@", 2)[0], h.Outcome)
	}
	return b.String(), nil
}

// tell tells one short story in a namespace of its own, good (v9 is promoted) or
// bad (v9 loses its pods at its first step and is taken back), with one fault,
// and gives its end and how often the split was changed.
func tell(t *testing.T, good bool, f fault) (end string, turns int, p *plan) {
	t.Helper()
	ns := namespace(t)
	h := record(t, ns)
	apply(t, ns, "00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml")
	ready(t, ns, "my-app-v1", 3)
	text := shortText
	if !good {
		text = strings.ReplaceAll(text, "{weight: 50%, hold: 300ms}", "{weight: 50%, hold: 10m}")
	}
	if err := the.Apply(t.Context(), ns, []byte(text)); err != nil {
		t.Fatal(err)
	}
	p = &plan{fault: f}
	stop := inProcess(t, ns, p)
	defer stop()
	until(t, ns, "v1 at rest", atRest("v1"))
	deploy(t, ns, "v9", 2)
	outcome, last := "promoted", "v9"
	if !good {
		outcome, last = "rolledBack", "v1"
		eventually(t, "v9 at 50 %", func() (bool, error) { return lastSplit(h)["v9"] == 50, nil })
		the.Pods.Behave(ns, "my-app", "v9", behaviour{NotReady: true})
	}
	until(t, ns, "the end", func(s v1alpha1.RolloutStatus) bool {
		return ended("v9", outcome)(s) && atRest(last)(s)
	})
	// What is owed after the end, too: the loser retired, the finalizer gone.
	loser := map[string]string{"v9": "my-app-v1", "v1": "my-app-v9"}[last]
	eventually(t, "the end of what is owed", func() (bool, error) {
		d, err := the.Clients.AppsV1().Deployments(ns).Get(t.Context(), loser, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		r, err := get(t, ns)
		if err != nil {
			return false, err
		}
		return *d.Spec.Replicas == 0 && len(r.Finalizers) == 0 && decided(r.Status, "Retired", "") != nil, fmt.Errorf("%s wants %d, finalizers %v", loser, *d.Spec.Replicas, r.Finalizers)
	})
	// Two looks that are the same are the end.
	eventually(t, "rest", func() (bool, error) {
		a, err := ending(t, ns)
		if err != nil {
			return false, err
		}
		timer := time.NewTimer(300 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		end, err = ending(t, ns)
		return err == nil && a == end, err
	})
	stop()
	h.check(t, 3, 200*time.Millisecond, allow{})
	return end, len(h.splits()), p
}

// crashAtEveryWrite breaks each write of both stories, one at a time: the end
// is the same, the invariants hold, and the split is changed at most once more
// than without the fault. Each write is broken in one of the ways, another one
// from run to run; with SERIN_CRASHES=all in every way.
func crashAtEveryWrite(t *testing.T) {
	first := int(time.Now().UnixNano() % int64(len(modes)))
	if s := os.Getenv("SERIN_CRASHES"); s != "" && s != "all" {
		var err error
		if first, err = strconv.Atoi(s); err != nil {
			t.Fatalf("SERIN_CRASHES is %q: a number or \"all\" is meant", s)
		}
	}
	t.Logf("the same again: SERIN_CRASHES=%d go -C test/cluster test -run %s .", first, t.Name())
	for _, good := range []bool{true, false} {
		name := "RolledBack"
		if good {
			name = "Promoted"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, turns, p := tell(t, good, fault{})
			n := len(p.writes)
			t.Logf("without a fault: %d writes, the split changes %d times, at the end: %s\n  %s", n, turns, want, strings.Join(p.writes, "\n  "))
			if n < 8 {
				t.Fatalf("only %d writes: this is not the story", n)
			}
			for i := 1; i <= n; i++ {
				for k, m := range modes {
					if os.Getenv("SERIN_CRASHES") != "all" && k != (i+first)%len(modes) {
						continue
					}
					t.Run(fmt.Sprintf("%02d/%s", i, m), func(t *testing.T) {
						t.Parallel()
						end, more, p := tell(t, good, fault{i, m})
						if p.hit == "" && len(p.writes) >= i {
							t.Errorf("the fault met no write")
						}
						if end != want {
							t.Errorf("%s of %s: the end is\n  %s, want\n  %s", m, p.hit, end, want)
						}
						if more > turns+1 {
							t.Errorf("%s of %s: the split changed %d times, %d without", m, p.hit, more, turns)
						}
					})
				}
			}
		})
	}
}
