package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// host is where every replica listens: this machine, and nobody else's.
const host = "127.0.0.1"

// Ports are taken from below the range that kernels pick from for outgoing
// connections (32768 up on Linux, 49152 up on macOS): a process may need seconds
// until it listens, and a busy gateway's own connections would take the port
// from it meanwhile.
const firstPort, lastPort = 20000, 30000

// freePort returns a port on host that nobody listens at and that is not in
// use by another replica. Somebody may still take it before the process does;
// the process fails then, and its next run gets another.
func freePort(used func(int) bool) (int, error) {
	low := ephemeralStart()
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if port >= low {
			break
		}
		if !used(port) && free(port) {
			return port, nil
		}
	}
	for range 20 { // this machine's range is another: let the kernel choose
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return 0, fmt.Errorf("no free port on %s: %s", host, inWords(err))
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if !used(port) {
			return port, nil
		}
	}
	return 0, errors.New("no free port on " + host)
}

func free(port int) bool {
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	// Where a listener on all addresses does not keep us from binding (macOS),
	// it still answers.
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		return false
	}
	return true
}

// ephemeralStart is the lowest port that the kernel gives to outgoing connections.
func ephemeralStart() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 1 << 16
	}
	var low, high int
	if _, err := fmt.Sscan(string(b), &low, &high); err != nil || high < firstPort {
		return 1 << 16
	}
	return low
}
