//go:build !linux

package daemon

// monotonic has nothing to say where there is no systemd.
func monotonic() string { return "" }
