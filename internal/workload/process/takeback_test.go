package process

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Where nobody could take over, the Supervisor goes on as before: with the same
// processes, every line of their output, and what became of them meanwhile.
func TestTakeBack(t *testing.T) {
	linuxTree(t)
	sup, mark := newSupervisor(t, Options{})
	counter := spec(mark)
	counter.Command = []string{"sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done", "-mark=" + mark}
	for key, s := range map[string]Spec{"web": spec(mark), "counter": counter} {
		if err := sup.Set(key, s, 1); err != nil {
			t.Fatal(err)
		}
	}
	until(t, sup, "web", "ready", ready(1))
	said := func() []string {
		var out []string
		for _, l := range sup.Logs("counter", -1) {
			out = append(out, l.Text)
		}
		return out
	}
	for range 5 {
		n := len(said())
		before := append(of(sup, "web"), of(sup, "counter")...)
		sup.HandOver()
		sup.TakeBack()
		eventually(t, "it is heard again", func() bool { return len(said()) > n+3 }, func() any { return said() })
		for i, r := range append(of(sup, "web"), of(sup, "counter")...) {
			if r.PID != before[i].PID || r.Restarts != 0 || r.Ready != before[i].Ready {
				t.Errorf("%+v, was %+v", r, before[i])
			}
		}
	}
	for i, line := range said() {
		if line != strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}

	// One that ends while nobody looks is missed afterwards.
	pid := of(sup, "web")[0].PID
	sup.HandOver()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sup.TakeBack()
	until(t, sup, "web", "started again", func(rs []Replica) bool {
		return len(rs) == 1 && rs[0].Ready && rs[0].Restarts == 1 && rs[0].PID != pid
	})
	if why := of(sup, "counter")[0].Why; strings.Contains(why, "ended") {
		t.Errorf("the other one: %s", why)
	}
}

// A Supervisor that was taken back can be closed; its replicas end with it.
func TestTakenBackAndClosed(t *testing.T) {
	linuxTree(t)
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("web", spec(mark), 2); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "web", "2 ready", ready(2))
	sup.HandOver()
	sup.TakeBack()
	closed := make(chan error, 1)
	go func() { closed <- sup.Close(t.Context()) }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patient):
		t.Fatal("Close hangs")
	}
	waitAlive(t, mark, 0)
}
