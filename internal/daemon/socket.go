package daemon

import (
	"net"
	"os"
	"syscall"

	"github.com/serin-dev/serin/internal/httpapi"
)

// listenAPI opens the API's socket, or goes on with the one that this process
// had before.
func (d *Daemon) listenAPI() (net.Listener, error) {
	l, err := d.o.Inherited.listener("api")
	if err != nil {
		return nil, err
	}
	if l == nil {
		if l, err = httpapi.Listen(d.o.Socket); err != nil {
			return nil, err
		}
	} else if u, ok := l.(*net.UnixListener); ok {
		l = &keptSocket{UnixListener: u, path: d.o.Socket, lock: lockAgain(d.o.Socket + ".lock")}
	}
	return d.stand("api", l), nil
}

// keptSocket is an inherited unix socket. Like httpapi's it takes its file along
// when it is closed.
type keptSocket struct {
	*net.UnixListener
	path string
	lock *os.File // nil: somebody else was quicker, and finds that the socket answers
}

func (l *keptSocket) Close() error {
	_ = os.Remove(l.path)
	err := l.UnixListener.Close()
	if l.lock != nil {
		_ = l.lock.Close()
	}
	return err
}

// lockAgain takes the socket's lock, which the program before let go at exec.
func lockAgain(path string) *os.File {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil
	}
	return f
}
