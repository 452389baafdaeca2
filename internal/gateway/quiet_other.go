//go:build !unix

package gateway

// quiet cannot be told here without reading; the first write or read tells.
func quiet(uintptr) bool { return true }
