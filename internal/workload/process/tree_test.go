package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// everywhere is the number of processes of a server with -family: itself, and
// the three that it leaves behind.
const everywhere = 4

// family leaves children behind, of which one shares its process group and is
// deaf to SIGTERM: such a group has its whole grace, so that is short.
func family(mark string) Spec {
	s := spec(mark, "-family")
	s.TerminationGracePeriod = 200 * time.Millisecond
	return s
}

func waitAlive(t *testing.T, mark string, n int) []int {
	t.Helper()
	var pids []int
	eventually(t, fmt.Sprintf("%d processes", n), func() bool { pids = alive(t, mark); return len(pids) == n },
		func() any { return pids })
	return pids
}

// linuxTree skips what needs a subreaper.
func linuxTree(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a daemonised process cannot be found again on " + runtime.GOOS + ": the package comment says so")
	}
}

func TestStoppingEndsTheWholeTree(t *testing.T) {
	linuxTree(t)
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("app/v1", family(mark), 2); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "app/v1", "2 ready", ready(2))
	waitAlive(t, mark, 2*everywhere)
	sup.Remove("app/v1")
	until(t, sup, "app/v1", "gone", ready(0))
	if left := alive(t, mark); len(left) > 0 {
		t.Errorf("the replica is gone, and these are not: %v", left)
	}
}

func TestCrashEndsTheWholeTreeBeforeTheNextRun(t *testing.T) {
	linuxTree(t)
	sup, mark := newSupervisor(t, Options{BackoffBase: time.Hour})
	if err := sup.Set("app/v1", family(mark), 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "ready", ready(1))[0]
	waitAlive(t, mark, everywhere)
	_, _ = get(t, r, "/exit?code=4")
	r = until(t, sup, "app/v1", "back-off", func(rs []Replica) bool { return rs[0].State == BackOff })[0]
	if left := alive(t, mark); len(left) > 0 {
		t.Errorf("in back-off, and these are left: %v", left)
	}
	if !strings.HasPrefix(r.Why, "exited with 4 after ") || r.PID != 0 || r.MemoryBytes != 0 {
		t.Errorf("in back-off: %+v", r)
	}
}

func TestDeafReplicaIsKilledAfterItsGrace(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	s := spec(mark, "-deaf")
	s.TerminationGracePeriod = 200 * time.Millisecond
	if err := sup.Set("app/v1", s, 1); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "app/v1", "ready", ready(1))
	told := time.Now()
	sup.Remove("app/v1")
	until(t, sup, "app/v1", "gone", ready(0))
	if had := time.Since(told); had < s.TerminationGracePeriod {
		t.Errorf("it had %s of its %s", had, s.TerminationGracePeriod)
	}
}

// The case that matters most: nobody is left to clean up.
func TestKilledDaemonLeavesNothing(t *testing.T) {
	linuxTree(t)
	_, mark := newSupervisor(t, Options{})
	cmd, _ := daemon(t, spec(mark, "-family", "-deaf"))
	waitAlive(t, mark, 2*everywhere)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	waitAlive(t, mark, 0)
	t.Logf("all %d processes were gone %s after the SIGKILL", 2*everywhere, time.Since(began))
}

func TestKilledDaemonLeavesNoServer(t *testing.T) { // what holds on every system
	_, mark := newSupervisor(t, Options{})
	cmd, _ := daemon(t, spec(mark, "-deaf"))
	waitAlive(t, mark, 2)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitAlive(t, mark, 0)
}

func TestKilledDaemonLeavesNothingOfAStartingReplica(t *testing.T) {
	linuxTree(t)
	_, mark := newSupervisor(t, Options{})
	cmd, _ := daemon(t, family(mark))
	pids := waitAlive(t, mark, 2*everywhere)
	// One replica crashes and is being started again when the daemon dies.
	_ = syscall.Kill(pids[0], syscall.SIGKILL)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitAlive(t, mark, 0)
}

// Ctrl-C goes to a terminal's whole foreground group. The daemon decides what
// it means: nothing else may die of it.
func TestInterruptOfTheDaemonsGroupReachesNoReplica(t *testing.T) {
	_, mark := newSupervisor(t, Options{})
	cmd, pids := daemon(t, spec(mark), "-ignore-interrupt")
	for _, sig := range []syscall.Signal{syscall.SIGINT} {
		if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids {
		for _, other := range []int{cmd.Process.Pid, os.Getpid()} {
			a, _ := unix.Getsid(pid)
			b, _ := unix.Getsid(other)
			if a == b {
				t.Errorf("command %d is in the session of %d: a terminal's signals reach it", pid, other)
			}
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("command %d is gone: %v", pid, err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitAlive(t, mark, 0)
}

func TestKilledShimTakesItsTreeAlongAndTheReplicaStartsAgain(t *testing.T) {
	linuxTree(t)
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("app/v1", family(mark), 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "ready", ready(1))[0]
	before := waitAlive(t, mark, everywhere)
	shim := parentOf(t, r.PID)
	// All its signals but SIGKILL are for the daemon to answer.
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(shim, sig); err != nil {
			t.Fatal(err)
		}
	}
	mustGet(t, r, "/healthz")
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := until(t, sup, "app/v1", "a second run", func(rs []Replica) bool { return rs[0].Restarts == 1 && rs[0].Ready })[0]
	for _, pid := range alive(t, mark) {
		if slices.Contains(before, pid) {
			t.Errorf("process %d of the first run is left", pid)
		}
	}
	if again.PID == r.PID {
		t.Error("the same process")
	}
}

// Daemon and shims killed in one blow (a hand, an out-of-memory killer): the
// kernel still ends the commands themselves.
func TestDaemonAndShimsKilledTogether(t *testing.T) {
	linuxTree(t)
	_, mark := newSupervisor(t, Options{})
	cmd, pids := daemon(t, spec(mark))
	var shims []int
	for _, pid := range pids {
		shims = append(shims, parentOf(t, pid))
	}
	for _, pid := range shims {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = cmd.Process.Kill()
	waitAlive(t, mark, 0)
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var state string
	var parent int
	if _, err := fmt.Sscan(string(b[strings.LastIndexByte(string(b), ')')+1:]), &state, &parent); err != nil {
		t.Fatal(err)
	}
	return parent
}

func TestCommandInheritsNoDescriptor(t *testing.T) {
	// A descriptor that is not close-on-exec, as a careless parent of the daemon
	// leaves it open.
	f, err := os.Create(filepath.Join(t.TempDir(), "leak"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	leak, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	sup, mark := newSupervisor(t, Options{})
	if err := sup.Set("app/v1", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "ready", ready(1))[0]
	if got := mustGet(t, r, "/fds"); got != "0\n1\n2" {
		t.Errorf("descriptors of the command:\n%s\nwant 0, 1 and 2", got)
	}
}

func TestProcessorTimeAndMemoryOfTheWholeTree(t *testing.T) {
	const burners = 5                   // children of 100 ms each that are gone when the server becomes ready
	const lost = 600 * time.Millisecond // of an orphan, which only the shim sees end
	sup, mark := newSupervisor(t, Options{SampleEvery: 10 * time.Millisecond})
	if err := sup.Set("app/v1", spec(mark, fmt.Sprintf("-burners=%d", burners), "-lost-burner="+lost.String()), 1); err != nil {
		t.Fatal(err)
	}
	last := 0.0
	used := func(rs []Replica) Replica {
		if len(rs) != 1 {
			t.Fatalf("%d replicas", len(rs))
		}
		if rs[0].CPUSeconds < last {
			t.Fatalf("CPUSeconds fell from %v to %v", last, rs[0].CPUSeconds)
		}
		last = rs[0].CPUSeconds
		return rs[0]
	}
	want := 0.1 * burners
	if runtime.GOOS == "linux" {
		want += lost.Seconds()
	}
	r := until(t, sup, "app/v1", "the burners' time, and that they are gone", func(rs []Replica) bool {
		return used(rs).Ready && last >= want && len(alive(t, mark)) == 1
	})[0]
	// What has ended stays counted: read again when only the server is left. (An
	// idle server adds little; what it adds is not what is looked for.)
	seen := r.Sampled
	r = until(t, sup, "app/v1", "another sample", func(rs []Replica) bool { return used(rs).Sampled.After(seen) })[0]
	var live usage
	eventually(t, "a fresh reading without memory of earlier ones", func() bool {
		var fresh sampler
		shim := 0
		sup.mu.Lock()
		for r := range sup.all {
			shim = r.run.shim
		}
		sup.mu.Unlock()
		live = fresh.sample([]treeRoot{{shim: shim, group: r.PID}})[shim]
		return live.memory > 0
	}, func() any { return live })
	if runtime.GOOS == "linux" && live.cpu < want {
		t.Errorf("a fresh reading counts %v s, at least %v s were used", live.cpu, want)
	}
	if r.MemoryBytes < 1<<20 || r.MemoryBytes > 1<<32 {
		t.Errorf("memory %d bytes: not that of a Go program", r.MemoryBytes)
	}
	if r.CPUSeconds > 20*want {
		t.Errorf("%v s are far more than the %v s that were burnt", r.CPUSeconds, want)
	}
	// What a run has used stays counted when it ends.
	_, _ = get(t, r, "/exit?code=1")
	until(t, sup, "app/v1", "the next run's burners on top", func(rs []Replica) bool {
		return used(rs).Restarts == 1 && rs[0].Ready && last >= 2*want
	})
}

// A shell dies of SIGTERM at once; the server that it started is still
// answering then, and has its grace.
func TestWrappedServerHasItsGraceToo(t *testing.T) {
	sup, _ := newSupervisor(t, Options{})
	dir := t.TempDir()
	server := `trap 'while [ ! -e go-on ]; do sleep 0.01; done; : > finished; exit 0' TERM; : > up; while :; do sleep 0.01; done`
	s := Spec{
		Command:                []string{"/bin/sh", "-c", "sh -c \"$SERVER\"; true"},
		Env:                    []EnvVar{{"SERVER", server}},
		Dir:                    dir,
		TerminationGracePeriod: time.Minute,
	}
	if err := sup.Set("app/v1", s, 1); err != nil {
		t.Fatal(err)
	}
	exists := func(name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	eventually(t, "the server is up", func() bool { return exists("up") }, func() any { return sup.Logs("", -1) })
	// The shell runs; that the supervisor has heard its id, too, is another matter.
	r := until(t, sup, "app/v1", "the shell's id is known", func(rs []Replica) bool { return rs[0].PID != 0 })[0]
	sup.Remove("app/v1")
	eventually(t, "the shell is gone", func() bool { return errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH) }, func() any { return sup.List() })
	if rs := of(sup, "app/v1"); len(rs) != 1 || rs[0].State != Stopping {
		t.Errorf("the replica is not waited for: %+v", rs)
	}
	if err := os.WriteFile(filepath.Join(dir, "go-on"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "app/v1", "gone", ready(0))
	if !exists("finished") {
		t.Error("the server was killed before it had finished")
	}
}
