package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// stickyKey gives the key that signs the gateway's own cookies, made at the
// first start and kept in the state folder: with another one every user would
// be dealt out anew.
func stickyKey(stateDir string) ([]byte, error) {
	const size = 32
	path := filepath.Join(stateDir, "sticky.key")
	key, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		key = make([]byte, size)
		rand.Read(key)
		if err := writeDurably(path, key); err != nil { // CreateTemp: nobody else may read it
			return nil, fmt.Errorf("keeping the key of sticky cookies: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("reading the key of sticky cookies: %w", err)
	case len(key) != size:
		return nil, fmt.Errorf("%s has %d bytes, %d are meant: remove it, and users will be dealt out to the versions anew", path, len(key), size)
	}
	return key, nil
}

// affordable is how many connections of users this process can hold: each may
// need a second descriptor for its replica, and some are for everything else.
// 0: the limit is not known.
func affordable() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return connectionsFor(r.Cur)
}

func connectionsFor(descriptors uint64) int {
	const others = 128 // pipes of replicas, files, the API; beyond that they share the half
	if descriptors >= 1<<30 {
		return 0 // without a limit worth the name
	}
	return max(16, (int(descriptors)-others)/2)
}
