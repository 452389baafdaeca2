package daemon

import "syscall"

// ownGroup gives a test's command a process group of its own, which ends with
// the daemon.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
