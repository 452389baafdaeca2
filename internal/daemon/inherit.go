package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// inherit lets a descriptor survive exec.
func inherit(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	return os.NewSyscallError("fcntl", err)
}
