package cli

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
)

// A daemon that is there and cannot be asked is not one that was killed.
func TestADaemonThatDoesNotAnswer(t *testing.T) {
	dir, err := os.MkdirTemp("", "serin") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "serin"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "serin", "shop.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	a := &app{}
	a.Env = func(name string) string { return map[string]string{"XDG_RUNTIME_DIR": dir}[name] }
	_, err = a.daemon(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nobody answers on "+l.Addr().String()+" (asking the daemon: ") {
		t.Errorf("%v", err)
	}
	denied := &httpapi.NotRunning{Socket: "shop.sock", Cause: fs.ErrPermission}
	if got := denied.Error(); !strings.Contains(got, "no daemon answers on shop.sock for this user, who may not open it: ") {
		t.Error(got)
	}
}
