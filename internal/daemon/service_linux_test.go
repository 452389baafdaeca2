package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager plays systemd's part with systemd's own means: a datagram socket that
// services tell their state to, and a listening socket that is handed over as
// descriptor 3. (The program itself is not needed for that, and does not run in
// a test.)
type manager struct {
	t     *testing.T
	at    string
	users *net.TCPListener

	mu   sync.Mutex
	said []notice
}

// notice is one line that a process told, which the kernel says the id of.
type notice struct {
	pid  int
	line string
}

func newManager(t *testing.T, w *world) *manager {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, at: filepath.Join(w.dir, "..", "notify"), users: l.(*net.TCPListener)}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, on, _, _, err := c.ReadMsgUnix(buf, oob)
			if err != nil {
				return
			}
			pid := 0
			if all, err := unix.ParseSocketControlMessage(oob[:on]); err == nil && len(all) == 1 {
				if cred, err := unix.ParseUnixCredentials(&all[0]); err == nil {
					pid = int(cred.Pid)
				}
			}
			m.mu.Lock()
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				m.said = append(m.said, notice{pid, line})
			}
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		c.Close()
		l.Close()
		<-ended
	})
	w.prepare = m.prepare
	return m
}

// prepare starts a daemon as systemd starts a service: $LISTEN_PID is its own id.
func (m *manager) prepare(cmd *exec.Cmd) {
	f, err := m.users.File()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { f.Close() })
	cmd.ExtraFiles = []*os.File{f}
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"`, "sh"}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=http", "NOTIFY_SOCKET="+m.at, "WATCHDOG_USEC=300000")
}

// heard waits for a line, counted from the beginning, and gives where it was.
func (m *manager) heard(from int, prefix string) int {
	m.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		m.mu.Lock()
		i := slices.IndexFunc(m.said[min(from, len(m.said)):], func(n notice) bool { return strings.HasPrefix(n.line, prefix) })
		m.mu.Unlock()
		if i >= 0 {
			return from + i
		}
		if time.Now().After(end) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.t.Fatalf("no %s after the first %d of %v", prefix, from, m.said)
		}
	}
}

// A service manager's sockets and words: users wait in its socket while nobody
// runs; it hears that the service is there, what it does, that it lives, that
// its program is replaced and that it ends, all from one process; and none of
// that reaches the replicas.
func TestUnderAServiceManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(unjudged))
	m := newManager(t, w)
	asks := func() chan string {
		got := make(chan string, 1)
		go func() {
			res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Get("http://" + m.users.Addr().String() + "/")
			if err != nil {
				got <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			got <- string(b)
		}()
		return got
	}
	early := asks() // before there is anybody
	o := w.start("127.0.0.1:0")
	if o.addr != m.users.Addr().String() {
		t.Errorf("listens on %s, not on the socket that it was given", o.addr)
	}
	if got := <-early; got != "v1" {
		t.Errorf("who was early: %q", got)
	}
	ready := m.heard(0, "READY=1")
	status := m.heard(ready, "STATUS="+o.addr)
	alive := m.heard(m.heard(ready, "WATCHDOG=1")+1, "WATCHDOG=1")
	m.heard(status, "STATUS="+o.addr+"; my-app: Idle on v1")

	o.again(1)
	reloading := m.heard(alive, "RELOADING=1")
	m.heard(reloading, "MONOTONIC_USEC=")
	back := m.heard(reloading, "READY=1")
	m.heard(back, "WATCHDOG=1")
	if got := <-asks(); got != "v1" {
		t.Errorf("after the program was replaced: %q", got)
	}

	var pids []string
	w.eventually("three replicas have said who they are", func() bool { pids = o.replicaPIDs(); return len(pids) == 3 })
	for _, pid := range pids {
		env, err := os.ReadFile("/proc/" + pid + "/environ")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range forDaemon {
			if strings.Contains("\x00"+string(env), "\x00"+name+"=") {
				t.Errorf("a replica sees %s", name)
			}
		}
	}

	// Killed and started again: who asks meanwhile waits.
	o.kill()
	late := asks()
	o = w.start("127.0.0.1:0")
	if got := <-late; got != "v1" {
		t.Errorf("who asked while nobody ran: %q", got)
	}
	second := m.heard(back+1, "READY=1")
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.heard(second, "STOPPING=1")
	<-o.waited
	if o.outcome != nil {
		t.Errorf("ended with %v", o.outcome)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	mains := map[int]bool{}
	for _, n := range m.said {
		mains[n.pid] = true
	}
	if len(mains) != 2 || !mains[o.cmd.Process.Pid] {
		t.Errorf("told by %v, want the two daemons' main processes alone", mains)
	}
}

func TestSocketsOfAServiceManager(t *testing.T) {
	t.Parallel()
	file := func(name string) *os.File {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), name)
	}
	in, err := Given([]*os.File{file("https"), file("whatever.socket"), file("metrics")})
	if err != nil {
		t.Fatal(err)
	}
	for name, there := range map[string]bool{"users": true, "tls": true, "metrics": true, "dashboard": false, "api": false} {
		l, err := in.listener(name)
		if err != nil || (l != nil) != there {
			t.Errorf("%s: %v %v", name, l, err)
		}
		if l != nil {
			l.Close()
		}
	}
	if _, err := Given([]*os.File{file("http"), file("a.socket")}); err == nil || !strings.Contains(err.Error(), "two sockets for users") {
		t.Errorf("two sockets for one thing: %v", err)
	}
	env := map[string]string{"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": fmt.Sprint(os.Getpid())}
	if d := WatchdogOf(func(k string) string { return env[k] }, os.Getpid()); d != 2*time.Second {
		t.Errorf("watchdog %s", d)
	}
	if d := WatchdogOf(func(k string) string { return env[k] }, 1); d != 0 {
		t.Errorf("somebody else's watchdog: %s", d)
	}
}

// The units that we show are understood by systemd itself, where it is installed.
func TestUnitsAreUnderstood(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-analyze is not installed, and everything must run")
		}
		t.Skip("no systemd-analyze here")
	}
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"serin.service", "serin.socket"} {
		b, err := os.ReadFile(filepath.Join("../../examples/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "/usr/local/bin/serin", os.Args[0]) // it wants a program that is there
		units = append(units, filepath.Join(dir, name))
		if err := os.WriteFile(units[len(units)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(analyze, append([]string{"verify"}, units...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
