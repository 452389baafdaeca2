package process

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhyACommandCannotStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("plain.txt", "hello", 0o644)
	write("garbage", "\x01\x02\x03", 0o755)
	write("orphaned", "#!/no/such/interpreter\n", 0o755)
	write("fails", "#!/bin/sh\necho one >&2\necho 'two: \033[31mred' >&2\necho >&2\nexit 3\n", 0o755)
	write("quiet", "#!/bin/sh\necho only to stdout\nexit 0\n", 0o755)
	write("killed", "#!/bin/sh\nkill -9 $$\n", 0o755)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		command, dir string
		prefix, last string
	}{
		"missing":        {command: "./bin/my-app", prefix: "./bin/my-app: no such file"},
		"folder":         {command: "./folder", prefix: "./folder: is a directory"},
		"not executable": {command: "./plain.txt", prefix: "./plain.txt: is not executable"},
		"no program":     {command: "./garbage", prefix: "./garbage: is neither a program"},
		"no interpreter": {command: "./orphaned", prefix: "./orphaned: the interpreter"},
		"not in PATH":    {command: "no-such-program-anywhere", prefix: "no-such-program-anywhere: not found in PATH"},
		"forgot ./":      {command: "fails", prefix: "fails: not found in PATH (there is one in the working directory: ./fails)"},
		"no directory":   {command: "/bin/sh", dir: "nowhere", prefix: "working directory " + dir + "/nowhere: no such file"},
		"exit code":      {command: "./fails", prefix: "exited with 3 after ", last: ": two: [31mred"},
		"exit with 0":    {command: "./quiet", prefix: "exited with 0 after ", last: ": only to stdout"},
		"signal":         {command: "./killed", prefix: "was killed by signal 9 (killed) after "},
	} {
		t.Run(name, func(t *testing.T) {
			sup, _ := newSupervisor(t, Options{Dir: dir, BackoffBase: time.Hour})
			if err := sup.Set("app/v1", Spec{Command: []string{c.command}, Dir: c.dir}, 1); err != nil {
				t.Fatal(err)
			}
			r := until(t, sup, "app/v1", "back-off", func(rs []Replica) bool { return rs[0].State == BackOff })[0]
			if !strings.HasPrefix(r.Why, c.prefix) || !strings.HasSuffix(r.Why, c.last) {
				t.Errorf("why %q, want %q … %q", r.Why, c.prefix, c.last)
			}
			if r.Ready || r.NextStart.Before(time.Now().Add(30*time.Minute)) {
				t.Errorf("listed as %+v", r)
			}
		})
	}
}

func TestPanicIsWhatIsQuoted(t *testing.T) {
	sup, mark := newSupervisor(t, Options{BackoffBase: time.Hour})
	if err := sup.Set("app/v1", spec(mark), 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "ready", ready(1))[0]
	_, _ = get(t, r, "/panic")
	r = until(t, sup, "app/v1", "back-off", func(rs []Replica) bool { return rs[0].State == BackOff })[0]
	if !strings.HasPrefix(r.Why, "exited with 2 after ") || !strings.HasSuffix(r.Why, ": panic: the end is near") {
		t.Errorf("why %q: want the panic, not the last line of the stack", r.Why)
	}
}

func TestCrashLoopBacksOffAndKeepsItsReason(t *testing.T) {
	sup, mark := newSupervisor(t, Options{BackoffBase: time.Millisecond, BackoffMax: 16 * time.Millisecond})
	if err := sup.Set("app/v1", spec(mark, "-say=no database", "-exit=5"), 1); err != nil {
		t.Fatal(err)
	}
	until(t, sup, "app/v1", "five restarts", func(rs []Replica) bool {
		r := rs[0]
		if r.Restarts > 0 && (!strings.Contains(r.Why, "exited with 5 after ") || !strings.Contains(r.Why, "no database")) {
			t.Fatalf("in state %d the reason is lost: %q", r.State, r.Why)
		}
		return r.Restarts >= 5
	})
	for _, line := range sup.Logs("app/v1", -1) {
		if line.Text != "no database" || line.Stream != Stderr || line.Replica != "app-v1-0" {
			t.Errorf("logged %+v", line)
		}
	}
}

func TestSlowStartIsSaidAndThenForgiven(t *testing.T) {
	sup, mark := newSupervisor(t, Options{})
	read := filepath.Join(t.TempDir(), "read")
	s := spec(mark, "-after="+read, "-say=reading the catalogue")
	s.StartTimeout = 300 * time.Millisecond
	if err := sup.Set("app/v1", s, 1); err != nil {
		t.Fatal(err)
	}
	r := until(t, sup, "app/v1", "late, with the probe's words and its own", func(rs []Replica) bool {
		why := rs[0].Why
		return strings.HasPrefix(why, "not ready after ") && strings.Contains(why, "reading the catalogue") &&
			strings.Contains(why, "GET /healthz on "+rs[0].Addr+": connection refused")
	})[0]
	if err := os.WriteFile(read, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r.State != Starting || r.Ready {
		t.Errorf("listed as %+v", r)
	}
	if again := until(t, sup, "app/v1", "ready", ready(1))[0]; again.PID != r.PID {
		t.Error("it was restarted for being slow")
	}
}

// Somebody takes the port between our choice and the command's bind.
func TestLostPortIsNotBelievedAndAnotherIsTried(t *testing.T) {
	linuxTree(t) // who listens is not known elsewhere
	sup, mark := newSupervisor(t, Options{})
	s := spec(mark, "-slow=300ms")
	s.Ready.HTTP = nil // the stranger answers a connect
	if err := sup.Set("app/v1", s, 1); err != nil {
		t.Fatal(err)
	}
	var thief net.Listener
	first := until(t, sup, "app/v1", "a port", func(rs []Replica) bool { return rs[0].Addr != "" })[0]
	thief, err := net.Listen("tcp", first.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	r := until(t, sup, "app/v1", "ready on another port", func(rs []Replica) bool {
		if rs[0].Ready && rs[0].Addr == first.Addr {
			t.Fatal("ready on a port that a stranger answers")
		}
		return rs[0].Ready
	})[0]
	if r.Restarts != 1 {
		t.Errorf("%d restarts, want 1", r.Restarts)
	}
	said := ""
	for _, line := range sup.Logs("app/v1", -1) {
		said += line.Text
	}
	if !strings.Contains(said, "address already in use") {
		t.Errorf("the first run said %q: the test did not test what it should", said)
	}
}

func TestTCPProbeAndPortsOfOthers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sup, mark := newSupervisor(t, Options{})
	own, other := spec(mark), spec(mark, "-slow=1h")
	own.Ready.HTTP, other.Ready.HTTP = nil, nil
	other.Ready.Port = l.Addr().(*net.TCPAddr).Port // says where to probe: believed
	redirect := spec(mark)
	redirect.Ready.HTTP = &HTTPGet{Path: "/moved"}
	for key, s := range map[string]Spec{"own": own, "other": other, "redirect": redirect} {
		if err := sup.Set(key, s, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"own", "other", "redirect"} {
		until(t, sup, key, key+" ready", ready(1))
	}
}
