package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is what the smallest of our systems takes (macOS: 104 bytes
// with the final zero).
const maxSocketPath = 103

// Listener is a unix socket that takes its file along when it is closed.
type Listener struct {
	*net.UnixListener
	path string
	own  os.FileInfo
	lock *os.File
}

// Listen opens a unix socket that only this user can connect to: there is no
// moment at which it has another mode. A socket that nobody answers on any more
// is replaced; one that somebody answers on, and a file that is no socket, is
// refused by name.
func Listen(path string) (*Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the socket's folder: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if errors.Is(err, errLocked) {
		return nil, inUse(path)
	} else if err != nil {
		return nil, fmt.Errorf("locking the socket: %w", err)
	}
	l, err := listen(path, dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	l.lock = lock
	return l, nil
}

func listen(path, dir string) (*Listener, error) {
	if err := clear(path); err != nil {
		return nil, err
	}
	// Bound in a folder that nobody else can enter, then moved into place.
	tmp, err := os.MkdirTemp(dir, ".s")
	if err != nil {
		return nil, fmt.Errorf("making the socket: %w", err)
	}
	defer os.RemoveAll(tmp)
	name := filepath.Join(tmp, "s")
	if n := max(len(name), len(path)); n > maxSocketPath {
		return nil, fmt.Errorf("the socket's path %s is too long for a unix socket by %d bytes: choose a shorter one with --socket", path, n-maxSocketPath)
	}
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	ul.SetUnlinkOnClose(false)
	own, err := func() (os.FileInfo, error) {
		if err := os.Chmod(name, 0o600); err != nil {
			return nil, err
		}
		if err := os.Rename(name, path); err != nil {
			return nil, err
		}
		return os.Lstat(path)
	}()
	if err != nil {
		ul.Close()
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	return &Listener{UnixListener: ul, path: path, own: own}, nil
}

// clear takes away what a dead daemon left.
func clear(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is not a socket: remove it, or choose another with --socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return inUse(path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("asking who listens on %s: %w", path, err)
}

// inUse says who is there, where that can be told.
func inUse(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	who := "another daemon"
	if c, err := Dial(ctx, path); err == nil {
		defer c.Close()
		if i, err := c.Info(ctx); err == nil {
			who = fmt.Sprintf("a daemon (process %d, folder %s)", i.PID, i.Dir)
		}
	}
	return fmt.Errorf("%s answers on %s already: stop it, or give this one a --state-dir or --socket of its own", who, path)
}

// Path is where the socket is.
func (l *Listener) Path() string { return l.path }

// Close stops listening and removes the file, if it is still this listener's.
func (l *Listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
		_ = os.Remove(l.path)
	}
	err := l.UnixListener.Close()
	_ = l.lock.Close()
	return err
}
