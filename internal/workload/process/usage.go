package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// treeRoot names a run's tree: its shim, and the process group of its command.
type treeRoot struct{ shim, group int }

// usage is what a tree has used, and holds.
type usage struct {
	cpu    float64 // seconds since the run began
	memory int64   // resident bytes now
}

// psArgs ask ps for what parsePS reads; where there is no /proc.
var psArgs = []string{"-axo", "pid=,ppid=,pgid=,rss=,time="}

type psProc struct {
	pid, parent, group int
	memory             int64   // bytes
	cpu                float64 // seconds
}

// parsePS reads the answer to psArgs; a line that it does not understand is left out.
func parsePS(out string) []psProc {
	var table []psProc
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 5 {
			continue
		}
		var n [4]int
		ok := true
		for i := range n {
			v, err := strconv.Atoi(f[i])
			n[i], ok = v, ok && err == nil
		}
		cpu, err := parsePSTime(f[4])
		if ok && err == nil {
			table = append(table, psProc{pid: n[0], parent: n[1], group: n[2], memory: int64(n[3]) << 10, cpu: cpu})
		}
	}
	return table
}

// parsePSTime reads [days-][hours:]minutes:seconds[.hundredths].
func parsePSTime(s string) (seconds float64, err error) {
	if days, rest, found := strings.Cut(s, "-"); found {
		d, err := strconv.Atoi(days)
		if err != nil {
			return 0, err
		}
		seconds, s = float64(d)*86400, rest
	}
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, fmt.Errorf("time %q: want minutes:seconds", s)
	}
	clock := 0.0
	for _, p := range parts {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil {
			return 0, err
		}
		clock = clock*60 + v
	}
	return seconds + clock, nil
}

// psTree lists the processes that descend from the shim or are in the command's
// process group; the shim itself is not one of them.
func psTree(table []psProc, root treeRoot) []psProc {
	in := map[int]bool{root.shim: true}
	for grown := true; grown; {
		grown = false
		for _, p := range table {
			if !in[p.pid] && (in[p.parent] || p.group == root.group) {
				in[p.pid], grown = true, true
			}
		}
	}
	var tree []psProc
	for _, p := range table {
		if in[p.pid] && p.pid != root.shim {
			tree = append(tree, p)
		}
	}
	return tree
}

// closeOnExec marks all open descriptors but standard input, output and error;
// dir is where the system lists them.
func closeOnExec(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing open descriptors: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
