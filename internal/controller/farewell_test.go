package controller

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// The last pass saves although it decides nothing, and the one who asked for it
// hears of its end; the passes before and after it do not.
func TestTheLastPassSaves(t *testing.T) {
	bubble(t, func(w *world) {
		w.canary()
		const save = "patch status Rollout"
		quiet := func() {
			t.Helper()
			for n := -1; n != w.calls[save]; {
				n = w.calls[save]
				w.pass()
			}
		}
		quiet()
		before, n := w.rollout().Status, w.calls[save]
		done := w.c.app(w.key()).lastPass()
		select {
		case <-done:
			t.Fatal("the last pass is said to be done before it was")
		default:
		}
		w.pass()
		select {
		case <-done:
		default:
			t.Fatal("nobody is told that the last pass was done")
		}
		if got := w.calls[save] - n; got != 1 {
			t.Errorf("the last pass wrote the status %d times: %v", got, w.calls)
		}
		if after := w.rollout().Status; after.Copy == before.Copy || after.N != before.N {
			t.Errorf("copy %q was followed by %q, decision %d by %d", before.Copy, after.Copy, before.N, after.N)
		}
		n = w.calls[save]
		if w.pass(); w.calls[save] != n {
			t.Error("the pass after the last one saved again")
		}
	})
}

type answers int

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(time.Second) // virtual: it counts from when it was asked
	return &http.Response{StatusCode: int(a)}, nil
}

// Who was stopped for longer than the lease lasts does not hold it any more,
// whatever it remembers.
func TestHoldsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Controller{began: time.Now(), o: Options{LeaderElect: true}}
		ask := func(method, path string, code int) {
			req, err := http.NewRequest(method, "http://api/apis/coordination.k8s.io/v1/namespaces/x/"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (renewals{c, answers(code)}).RoundTrip(req); err != nil {
				t.Fatal(err)
			}
		}
		want := func(want bool, when string) {
			t.Helper()
			if got := c.holdsLease(); got != want {
				t.Errorf("%s the lease is held: %v", when, got)
			}
		}
		time.Sleep(time.Second)
		want(false, "before it was taken")
		ask("GET", "leases/serin-controller", 200)
		ask("PUT", "leases/serin-controller", 409)
		ask("POST", "events", 201)
		want(false, "after requests that do not renew it")
		ask("PUT", "leases/serin-controller", 200)
		want(true, "just renewed")
		time.Sleep(renewDeadline - 1500*time.Millisecond)
		want(true, "a moment before it has to be renewed")
		time.Sleep(500 * time.Millisecond)
		want(false, "when its renewal is overdue")
		ask("PUT", "leases/serin-controller", 200)
		want(true, "renewed again")
		c.o.LeaderElect = false
		c.renewed.Store(0)
		want(true, "where nobody else can lead")
	})
}
