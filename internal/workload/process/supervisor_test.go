package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func names(rs []Replica) (s []string) {
	for _, r := range rs {
		s = append(s, r.Name)
	}
	return s
}

func pidsOf(rs []Replica) map[string]int {
	m := map[string]int{}
	for _, r := range rs {
		m[r.Name] = r.PID
	}
	return m
}

func TestReplicasServeOnTheirOwnPorts(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("my-app/v2@3f9c", spec(mark, "-say=$(HOST)/$(PORT)/$(UNKNOWN)/$$(PORT)"), 3); err != nil {
		t.Fatal(err)
	}
	rs := until(t, sup, "my-app/v2@3f9c", "3 ready", ready(3))
	if want := []string{"my-app-v2-0", "my-app-v2-1", "my-app-v2-2"}; !slices.Equal(names(rs), want) {
		t.Errorf("names %q, want %q", names(rs), want)
	}
	ports := map[string]bool{}
	for _, r := range rs {
		var echo struct {
			PID  int
			Args []string
			Env  []string
		}
		if err := json.Unmarshal([]byte(mustGet(t, r, "/echo")), &echo); err != nil {
			t.Fatal(err)
		}
		port := lookupEnv(echo.Env, "PORT")
		if echo.PID != r.PID || r.Addr != "127.0.0.1:"+port || lookupEnv(echo.Env, "HOST") != "127.0.0.1" {
			t.Errorf("%s: listed as %d at %s, answers as %d with HOST=%s PORT=%s",
				r.Name, r.PID, r.Addr, echo.PID, lookupEnv(echo.Env, "HOST"), port)
		}
		if want := fmt.Sprintf("-say=127.0.0.1/%s/$(UNKNOWN)/$(PORT)", port); echo.Args[2] != want {
			t.Errorf("argument %q, want %q", echo.Args[2], want)
		}
		if lookupEnv(echo.Env, shimEnv) != "" {
			t.Error("the command sees the shim's mark: its own children would become shims")
		}
		if r.Why != "" || r.State != Ready || !r.Current || r.Restarts != 0 {
			t.Errorf("a ready replica is listed as %+v", r)
		}
		ports[port] = true
	}
	if len(ports) != 3 {
		t.Errorf("%d ports for 3 replicas", len(ports))
	}
}

func TestSetAgainChangesNothing(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	const key = "app/v1"
	s := spec(mark)
	set := func() {
		t.Helper()
		if err := sup.Set(key, s, 2); err != nil {
			t.Fatal(err)
		}
	}
	set()
	before := pidsOf(until(t, sup, key, "2 ready", ready(2)))
	drain(sup.Changed())
	set()
	// A default that is spelled out is the same Spec.
	s.PortEnv, s.StartTimeout = "PORT", 30*time.Second
	set()
	if after := pidsOf(of(sup, key)); !maps.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
	select {
	case <-sup.Changed():
		t.Error("Changed, and nothing has")
	default:
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func TestScaleDownTakesTheUnreadyThenTheNewest(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	const key = "app/v1"
	s := spec(mark)
	scale := func(n int) []Replica {
		t.Helper()
		if err := sup.Set(key, s, n); err != nil {
			t.Fatal(err)
		}
		return until(t, sup, key, fmt.Sprintf("%d ready", n), ready(n))
	}
	scale(2)
	five := scale(5)
	pids := pidsOf(five)
	// The second of the old ones is sick: it goes before the three newer ones.
	mustGet(t, five[1], "/sicken")
	until(t, sup, key, "app-v1-1 not ready", func(rs []Replica) bool { return rs[1].State == Unready })
	if why := of(sup, key)[1].Why; !strings.Contains(why, "GET /healthz on 127.0.0.1:") || !strings.Contains(why, "503 Service Unavailable") {
		t.Errorf("why %q, want the probe and what it met", why)
	}
	four := scale(4)
	if want := []string{"app-v1-0", "app-v1-2", "app-v1-3", "app-v1-4"}; !slices.Equal(names(four), want) {
		t.Errorf("left after the sick one went: %q, want %q", names(four), want)
	}
	two := scale(2)
	for _, r := range two {
		if r.PID != pids[r.Name] {
			t.Errorf("%s was restarted: pid %d, was %d", r.Name, r.PID, pids[r.Name])
		}
	}
	if !slices.Contains(names(two), "app-v1-0") {
		t.Errorf("left: %q; the oldest has to be among them", names(two))
	}
	sup.Remove(key)
	until(t, sup, key, "none", ready(0))
	if left := alive(t, mark); len(left) > 0 {
		t.Errorf("removed, and processes are left: %v", left)
	}
	sup.Remove(key) // already gone
	sup.Remove("never/heard-of")
}

func TestUnreadyReplicaRecovers(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("app/v1", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "ready", ready(1))[0]
	mustGet(t, r, "/sicken")
	until(t, sup, "app/v1", "unready", func(rs []Replica) bool { return rs[0].State == Unready && !rs[0].Ready })
	mustGet(t, r, "/heal")
	again := until(t, sup, "app/v1", "ready again", ready(1))[0]
	if again.PID != r.PID || again.Restarts != 0 {
		t.Errorf("a replica whose readiness came back was restarted: %+v", again)
	}
}

// The order that keeps requests whole: not ready for everybody, then drained,
// then SIGTERM.
func TestStoppedReplicaIsUnreadyBeforeItIsDrained(t *testing.T) {
	type drained struct {
		addr    string
		listed  []Replica
		answers error
	}
	asked, goOn := make(chan drained, 1), make(chan struct{})
	var sup *Supervisor
	sup, mark := newSupervisor(t, Options{Drain: func(ctx context.Context, addr string) {
		_, err := get(t, Replica{Addr: addr}, "/healthz")
		asked <- drained{addr, sup.List(), err}
		<-goOn
	}})
	if err := sup.Set("app/v1", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "ready", ready(1))[0]
	sup.Remove("app/v1")
	if now := of(sup, "app/v1"); len(now) != 1 || now[0].Ready || now[0].State != Draining {
		t.Errorf("as soon as Remove has returned it must not be ready: %+v", now)
	}
	d := <-asked
	if d.addr != r.Addr || d.listed[0].Ready || d.listed[0].State != Draining || d.answers != nil {
		t.Errorf("while draining: %+v", d)
	}
	if now := of(sup, "app/v1"); len(now) != 1 || now[0].PID != r.PID {
		t.Errorf("ended before it was drained: %+v", now)
	}
	close(goOn)
	until(t, sup, "app/v1", "gone", ready(0))
}

func TestDrainIsBoundedAndOnlyForWhoServed(t *testing.T) {
	var drains atomic.Int32
	sup, mark := newSupervisor(t, Options{
		DrainTimeout: 50 * time.Millisecond,
		Drain:        func(ctx context.Context, _ string) { drains.Add(1); <-ctx.Done() },
	})
	if err := sup.Set("served", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	if err := sup.Set("never", spec(mark, "-slow=1h"), 1); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "served", "ready", ready(1))
	until(t, sup, "never", "running", func(rs []Replica) bool { return rs[0].PID != 0 })
	sup.Remove("served")
	sup.Remove("never")
	until(t, sup, "served", "gone", ready(0))
	until(t, sup, "never", "gone", ready(0))
	if n := drains.Load(); n != 1 {
		t.Errorf("%d drains, want 1: nobody can be talking to what was never ready", n)
	}
}

func TestChangedSpecRollsWithoutLosingReadyReplicas(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	const key = "app/v1"
	if err := sup.Set(key, spec(mark), 3); err != nil {
		t.Fatal(err)
	}
	old := pidsOf(until(t, sup, key, "3 ready", ready(3)))
	stop, least := make(chan struct{}), make(chan int)
	go func() {
		low := 3
		for {
			select {
			case <-stop:
				least <- low
				return
			default:
			}
			n := 0
			for _, r := range of(sup, key) {
				if r.Ready {
					n++
				}
			}
			low = min(low, n)
			runtime.Gosched()
		}
	}()
	changed := spec(mark, "-slow=50ms")
	if err := sup.Set(key, changed, 3); err != nil {
		t.Fatal(err)
	}
	rs := until(t, sup, key, "3 ready of the new Spec", func(rs []Replica) bool {
		return ready(3)(rs) && !slices.ContainsFunc(rs, func(r Replica) bool { return !r.Current })
	})
	close(stop)
	if low := <-least; low < 3 {
		t.Errorf("at one moment only %d replicas were ready", low)
	}
	for name, pid := range pidsOf(rs) {
		for _, was := range old {
			if pid == was {
				t.Errorf("%s is still the old process", name)
			}
		}
	}
}

func TestSpecThatNeverGetsReadyKeepsTheOldReplicas(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	const key = "app/v1"
	good := spec(mark)
	if err := sup.Set(key, good, 2); err != nil {
		t.Fatal(err)
	}
	old := pidsOf(until(t, sup, key, "2 ready", ready(2)))
	if err := sup.Set(key, spec(mark, "-exit=7"), 2); err != nil {
		t.Fatal(err)
	}
	rs := until(t, sup, key, "two new ones that crash beside the two old ones", func(rs []Replica) bool {
		crashed := 0
		for _, r := range rs {
			if r.Current && r.Restarts >= 2 {
				crashed++
			}
		}
		return crashed == 2
	})
	for _, r := range rs {
		if pid, isOld := old[r.Name]; isOld && (!r.Ready || r.PID != pid || r.Current) {
			t.Errorf("an old replica was touched: %+v", r)
		}
	}
	// The crashing ones are replaced by others at once: nobody is waited for.
	if err := sup.Set(key, spec(mark, "-slow=1h"), 2); err != nil {
		t.Fatal(err)
	}
	until(t, sup, key, "the crashing ones gone, before their successors are ready", func(rs []Replica) bool {
		return len(rs) == 4 && !slices.ContainsFunc(rs, func(r Replica) bool { return r.Restarts > 0 })
	})
	// Back to what worked: the new ones go, the old ones were right all along.
	if err := sup.Set(key, good, 2); err != nil {
		t.Fatal(err)
	}
	if back := pidsOf(until(t, sup, key, "the old two", ready(2))); !maps.Equal(back, old) {
		t.Errorf("after going back %v, before %v", back, old)
	}
}

func TestBadInputIsRefusedWhole(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("app/v1", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	before := pidsOf(until(t, sup, "app/v1", "ready", ready(1)))
	err := sup.Set("app/v1", Spec{
		Command: []string{"a", "b\x00"},
		Env:     []EnvVar{{"A=B", ""}, {"C", "\x00"}},
		Ready:   Probe{Port: 70000, Period: -1, FailureThreshold: -1},
	}, -1)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, path := range []string{"command[1]:", "env[0].name:", "env[1].value:", "ready.port:", "ready.period:", "ready.failureThreshold:", "replicas:"} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("no word about %s in:\n%v", path, err)
		}
	}
	if err := sup.Set("", Spec{}, 0); err == nil || !strings.Contains(err.Error(), "key:") || !strings.Contains(err.Error(), "command:") {
		t.Errorf("got %v, want both problems", err)
	}
	if after := pidsOf(of(sup, "app/v1")); !maps.Equal(before, after) {
		t.Errorf("a refused Set changed %v to %v", before, after)
	}
}

func TestTwoKeysOfOneNameGetDifferentReplicas(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	for _, key := range []string{"app/v2@aaaa", "app/v2@bbbb"} {
		if err := sup.Set(key, spec(mark), 1); err != nil {
			t.Fatal(err)
		}
	}
	a := until(t, sup, "app/v2@aaaa", "ready", ready(1))
	b := until(t, sup, "app/v2@bbbb", "ready", ready(1))
	if a[0].Name != "app-v2-0" || b[0].Name != "app-v2-1" {
		t.Errorf("names %q and %q", a[0].Name, b[0].Name)
	}
}

func TestCloseKillsWhenPatienceEnds(t *testing.T) {
	sup, mark := newSupervisor(t, Options{Drain: func(ctx context.Context, _ string) { <-ctx.Done() }})
	if err := sup.Set("app/v1", spec(mark, "-deaf", "-family"), 2); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "app/v1", "2 ready", ready(2))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := sup.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want to be told that they were killed", err)
	}
	if left := alive(t, mark); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := sup.Set("app/v1", spec(mark), 1); err == nil {
		t.Error("a closed Supervisor accepts work")
	}
}
