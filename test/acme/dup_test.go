package acme

import "syscall"

// dup gives a descriptor of its own for an open file.
func dup(fd int) (int, error) {
	n, err := syscall.Dup(fd)
	if err == nil {
		syscall.CloseOnExec(n)
	}
	return n, err
}
