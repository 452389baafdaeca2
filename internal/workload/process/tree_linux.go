package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// self is the running binary, also when its file was replaced by an upgrade.
func self() (string, error) { return "/proc/self/exe", nil }

// becomeShim makes orphans of the tree come to this process, and keeps every
// descriptor that it has inherited out of the command.
func becomeShim() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming subreaper: %w", err)
	}
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		if err := closeOnExec("/proc/self/fd"); err != nil { // a kernel before 5.11
			return err
		}
	}
	// Not the daemon's name: somebody who kills all processes of that name by hand
	// must not take away what cleans up after it.
	_ = os.WriteFile("/proc/self/comm", []byte("replica-shim"), 0)
	return nil
}

// commandAttr gives the command a process group of its own, and lets the kernel
// kill it should the shim be killed.
func commandAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// reapStrays has nothing to do: a subreaper has seen them all.
func reapStrays(int) {}

// proc is one line of the process table, from /proc/PID/stat.
type proc struct {
	pid, parent int
	cpu         int64 // ticks: its own, and those of the children it has reaped
	reaped      int64 // ticks: of the children it has reaped
	pages       int64
}

// ticksPerSecond is the unit of /proc: 100 wherever Linux runs Go.
const ticksPerSecond = 100

func readProc(pid int) (proc, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	// The name, in parentheses, may hold anything: fields are counted after it.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return proc{}, false
	}
	f := strings.Fields(string(b[i+1:])) // f[0] is field 3 of proc(5), the state
	if len(f) < 22 {
		return proc{}, false
	}
	n := func(field int) int64 {
		v, _ := strconv.ParseInt(f[field-3], 10, 64)
		return v
	}
	reaped := n(16) + n(17)
	return proc{pid: pid, parent: int(n(4)), cpu: n(14) + n(15) + reaped, reaped: reaped, pages: n(24)}, true
}

// pids lists all processes.
func pids() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// children maps every process to those that it is the parent of.
func children() map[int][]int {
	m := map[int][]int{}
	for _, pid := range pids() {
		if p, ok := readProc(pid); ok {
			m[p.parent] = append(m[p.parent], pid)
		}
	}
	return m
}

// below lists the descendants of root, parents before children.
func below(children map[int][]int, root int) []int {
	order := slices.Clone(children[root])
	for i := 0; i < len(order); i++ {
		order = append(order, children[order[i]]...)
	}
	return order
}

func treeBelow(root int) []int { return below(children(), root) }

// sampler reads what trees use.
type sampler struct{}

// sample returns the use of the tree below each shim that is alive.
//
// A process's times count up in its parent when it is reaped, and all orphans
// are reaped by the shim: the shim's reaped times and those of the living
// descendants are together what the tree has ever used. Parents are read before
// children, so a child that ends in between is missed once and never counted
// twice.
func (sampler) sample(roots []treeRoot) map[int]usage {
	if len(roots) == 0 {
		return nil
	}
	children := children()
	uses := map[int]usage{}
	page := int64(os.Getpagesize())
	for _, root := range roots {
		shim, ok := readProc(root.shim)
		if !ok {
			continue
		}
		ticks, pages := shim.reaped, int64(0)
		for _, pid := range below(children, root.shim) {
			if p, ok := readProc(pid); ok {
				ticks += p.cpu
				pages += p.pages
			}
		}
		uses[root.shim] = usage{cpu: float64(ticks) / ticksPerSecond, memory: pages * page}
	}
	return uses
}

// killMarked kills what is left of a run whose shim has died, by the mark in
// the environment: such processes have no parent of ours any more.
func killMarked(mark string, _ int, patience time.Duration) {
	entry := []byte(markEnv + "=" + mark)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		left := false
		for _, pid := range pids() {
			env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
			if err != nil || !slices.ContainsFunc(bytes.Split(env, []byte{0}), func(kv []byte) bool { return bytes.Equal(kv, entry) }) {
				continue
			}
			left = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if !left {
			return
		}
	}
}

// listensBelow reports whether a process below root listens at the TCP port.
func listensBelow(root, port int) bool {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line) // local address f[1] ends in the port, f[3] is the state, f[9] the inode
			const listening = "0A"
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return false
	}
	for _, pid := range treeBelow(root) {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && inodes[to] {
				return true
			}
		}
	}
	return false
}
