package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// runningProgram is the program that runs, whatever became of its file.
const runningProgram = "/proc/self/exe"

// anonymousFile is a file without a name, in memory: a full disk does not matter.
func anonymousFile(string) (*os.File, error) {
	fd, err := unix.MemfdCreate("serin-handover", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "handover"), nil
}
