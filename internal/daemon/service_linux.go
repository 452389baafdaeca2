package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// monotonic is the time that a service manager wants to hear beside RELOADING.
func monotonic() string {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return fmt.Sprintf("MONOTONIC_USEC=%d", t.Nano()/1000)
}
