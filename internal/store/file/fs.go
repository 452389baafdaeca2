package file

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// filesystem is what the store needs of one. Every method is one step that may
// fail, or after which the power may fail.
type filesystem interface {
	ReadFile(path string, most int64) ([]byte, error)
	// WriteSynced makes or replaces a file (mode 0600) and returns when its
	// bytes are on the disk.
	WriteSynced(path string, data []byte) error
	Link(old, fresh string) error
	Rename(old, fresh string) error
	Remove(path string) error
	// SyncDir returns when the names in a folder are on the disk.
	SyncDir(dir string) error
	// TryLock gives errLocked when another holds the lock.
	TryLock(path string) (unlock func(), err error)
}

var errLocked = errors.New("locked by another")

type osFS struct{}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) ReadFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return data, err
}

func (osFS) WriteSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (osFS) Link(old, fresh string) error   { return os.Link(old, fresh) }
func (osFS) Rename(old, fresh string) error { return os.Rename(old, fresh) }
func (osFS) Remove(path string) error       { return os.Remove(path) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
