//go:build !linux

package daemon

import "os"

// runningProgram is where the program was started from; it may have been replaced.
var runningProgram = os.Args[0]

// anonymousFile is a file without a name.
func anonymousFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".handover")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
