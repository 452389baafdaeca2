package process

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func self() (string, error) { return os.Executable() }

// becomeShim keeps every descriptor that the shim has inherited out of the command.
func becomeShim() error { return closeOnExec("/dev/fd") }

// commandAttr gives the command a process group of its own.
func commandAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// treeBelow lists the processes of the shim's session (the shim leads it) and
// all descendants of any of them. What has left both is not found: there is no
// subreaper here.
func treeBelow(root int) []int {
	table, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil
	}
	member := map[int]bool{root: true}
	for _, p := range table {
		pid := int(p.Proc.P_pid)
		if sid, err := unix.Getsid(pid); err == nil && sid == root {
			member[pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range table {
			pid := int(p.Proc.P_pid)
			if !member[pid] && member[int(p.Eproc.Ppid)] {
				member[pid], grown = true, true
			}
		}
	}
	var pids []int
	for pid := range member {
		if pid != root {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// reapStrays kills what the command left behind: orphans go to launchd here, so
// the shim learns of them only by looking. It looks for two seconds at most.
func reapStrays(group int) {
	for range 200 {
		_ = syscall.Kill(-group, syscall.SIGKILL)
		left := treeBelow(os.Getpid())
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sampler reads what trees use from ps, and remembers what processes that have
// ended had used: nobody adds it up here.
type sampler struct {
	seen map[int]map[int]float64 // shim -> pid -> seconds
}

func (s *sampler) sample(roots []treeRoot) map[int]usage {
	if len(roots) == 0 {
		s.seen = nil
		return nil
	}
	out, err := exec.Command("/bin/ps", psArgs...).Output()
	if err != nil {
		return nil
	}
	table := parsePS(string(out))
	uses, seen := map[int]usage{}, map[int]map[int]float64{}
	for _, root := range roots {
		pids := s.seen[root.shim]
		if pids == nil {
			pids = map[int]float64{}
		}
		var use usage
		for _, p := range psTree(table, root) {
			pids[p.pid] = max(pids[p.pid], p.cpu)
			use.memory += p.memory
		}
		for _, cpu := range pids {
			use.cpu += cpu
		}
		uses[root.shim], seen[root.shim] = use, pids
	}
	s.seen = seen
	return uses
}

// killMarked kills what is left of a run whose shim has died: its process group.
func killMarked(_ string, group int, _ time.Duration) {
	if group > 0 {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}

// listensBelow cannot be known here without privileges, and is believed.
func listensBelow(int, int) bool { return true }
