//go:build unix && !linux

package gateway

import "golang.org/x/sys/unix"

// quiet says whether fd is open and has nothing to read: the only state in
// which an idle connection may be used again.
func quiet(fd uintptr) bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == unix.EAGAIN || err == unix.EWOULDBLOCK
}
