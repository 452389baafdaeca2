//go:build !linux

package daemon

import "syscall"

// ownGroup gives a test's command a process group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
