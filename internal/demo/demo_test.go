package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// quick is the demo's own document with shorter holds.
func quick(t *testing.T) []byte {
	t.Helper()
	b, err := objects.ReadFile("objects/" + rolloutFile)
	if err != nil {
		t.Fatal(err)
	}
	b = regexp.MustCompile(`hold: \d+s`).ReplaceAll(b, []byte("hold: 2s"))
	return regexp.MustCompile(`bake: \d+s`).ReplaceAll(b, []byte("bake: 3s"))
}

// timeline is where the story is printed; see is shown each piece of it.
type timeline struct {
	mu  sync.Mutex
	buf bytes.Buffer
	see func(string)
}

func (l *timeline) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.see != nil {
		l.see(string(b))
	}
	return l.buf.Write(b)
}

func (l *timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// program is this test binary, which main_test makes the application.
func program(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// The whole story, with another program on port 8080, checked from both ends;
// then again into the same folder.
func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute each; `make demo` tells it, too")
	}
	if other, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
		defer other.Close() // otherwise somebody else is there already
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", shortTemp(t))
	out := filepath.Join(tmp, "out")
	for round := range 2 {
		print := &timeline{}
		r, err := Run(t.Context(), Options{Out: out, Rate: 400, Program: program(t), Version: "test", Print: print, Rollout: quick(t)})
		if err != nil {
			t.Fatalf("round %d: %v\n%s", round+1, err, print)
		}
		if err := r.Err(); err != nil {
			t.Errorf("round %d: %v\n%s", round+1, err, print)
		}
		var again bytes.Buffer
		if err := Check(t.Context(), out, &again); err != nil {
			t.Errorf("round %d: %v", round+1, err)
		}
		if !strings.Contains(again.String(), "checked:") {
			t.Errorf("the checker says:\n%s", again.String())
		}
		nothingLeft(t, out)
	}
}

// Stopped in the middle, it takes everything along.
func TestStoppedInTheMiddle(t *testing.T) {
	tmp := shortTemp(t)
	t.Setenv("TMPDIR", tmp)
	out := filepath.Join(t.TempDir(), "out")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	print := &timeline{see: func(s string) {
		if strings.Contains(s, "StepStarted") {
			cancel()
		}
	}}
	_, err := Run(ctx, Options{Out: out, Rate: 200, Program: program(t), Print: print, Rollout: quick(t)})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was stopped\n%s", err, print)
	}
	nothingLeft(t, out)
	if left, _ := filepath.Glob(filepath.Join(tmp, "serin-*")); len(left) > 0 {
		t.Errorf("left in the temporary folder: %v", left)
	}
	// What was written down up to then is whole: no request looks lost.
	sums, _, err := sumUp(out, map[string]time.Time{"v1": {}})
	if err != nil {
		t.Fatal(err)
	}
	if sums.Sent == 0 || sums.FailedBySwitch > 0 || sums.Unlike > 0 {
		t.Errorf("after a stop in the middle: %+v", sums)
	}
}

func TestBadOptions(t *testing.T) {
	for rate, word := range map[int]string{0: "50 to 5000", -1: "50 to 5000", 10: "50 to 5000", 1000000: "50 to 5000"} {
		if _, err := Run(t.Context(), Options{Out: t.TempDir(), Rate: rate, Print: io.Discard}); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("rate %d: %v", rate, err)
		}
	}
}

// shortTemp is short enough for a socket.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// nothingLeft looks for the replicas that wrote logs: their names hold their
// process ids.
func nothingLeft(t *testing.T, out string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(out, backendsDir, "*.jsonl"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no logs of replicas: %v", err)
	}
	for _, l := range logs {
		_, pid, _ := strings.Cut(strings.TrimSuffix(filepath.Base(l), ".jsonl"), "-")
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(n, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d of %s runs on (%v)", n, filepath.Base(l), err)
		}
	}
}

// ---- the checker ----

// fixture writes the logs of both ends, and a story.json that agrees with them.
func fixture(t *testing.T, client []clientLine, apps []appLine) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, backendsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, clientFile), client)
	by := map[string][]appLine{}
	for _, a := range apps {
		by[a.Replica] = append(by[a.Replica], a)
	}
	for r, ls := range by {
		write(t, filepath.Join(dir, backendsDir, r+".jsonl"), ls)
	}
	tell(t, dir)
	return dir
}

func write[T any](t *testing.T, path string, lines []T) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// tell writes what an honest demo would say of these logs.
func tell(t *testing.T, dir string) {
	t.Helper()
	st := story{StableSince: map[string]time.Time{"v1": noon, "v2": noon.Add(time.Minute)}}
	var err error
	if st.Sums, _, err = sumUp(dir, st.StableSince); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, storyFile), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// world is 30 requests: ten to v1, ten to v2 (half of them before it was
// stable), ten to v3 of which the first two fail.
func world() (client []clientLine, apps []appLine) {
	for i := range 30 {
		v := fmt.Sprintf("v%d", i/10+1)
		status := 200
		if i == 20 || i == 21 {
			status = 500
		}
		at := noon.Add(time.Duration(i) * 4 * time.Second)
		id := fmt.Sprintf("r%d", i)
		client = append(client, clientLine{ID: id, Status: status, Version: v, Replica: v + "-1", Start: at})
		apps = append(apps, appLine{ID: id, Status: status, Version: v, Replica: v + "-1", At: at})
	}
	return client, apps
}

func TestSums(t *testing.T) {
	dir := fixture2(t)
	got, _, err := sumUp(dir, map[string]time.Time{"v1": noon, "v2": noon.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	want := Sums{Sent: 30, Served: 28, Failed: 2, Harmed: 2, Versions: map[string]VersionSum{
		"v1": {Served: 10}, "v2": {Served: 10, OnTrial: 5}, "v3": {Served: 10, Failed: 2, OnTrial: 10},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := Check(t.Context(), dir, io.Discard); err != nil {
		t.Error(err)
	}
}

func fixture2(t *testing.T) string {
	c, a := world()
	return fixture(t, c, a)
}

// Each of these is a demo that does not hold up; what is told is honest about
// the logs in some and not in others.
func TestCheckerFinds(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]clientLine, []appLine) ([]clientLine, []appLine)
		says   string
	}{
		"ARequestThatNobodyAnswered": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			c[3].Status, c[3].Version, c[3].Replica, c[3].Error = 0, "", "", "connection reset"
			return c, append(a[:3:3], a[4:]...)
		}, "1 requests failed because of a switch"},
		"AGatewaysOwnError": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			c[3].Status = 502
			return c, a
		}, "1 requests failed because of a switch"},
		"AnAnswerThatWasCut": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			c[3].Status, c[3].Error = 0, "unexpected EOF"
			return c, a
		}, "1 requests failed because of a switch"},
		"ARequestAnsweredTwice": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			again := a[5]
			again.Replica = "v1-2"
			return c, append(a, again)
		}, "1 requests were answered twice"},
		"ASuccessThatNobodyWroteDown": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			return c, append(a[:7:7], a[8:]...)
		}, "1 requests are told differently"},
		"AnotherVersionThanItSays": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			c[2].Version = "v2"
			return c, a
		}, "1 requests are told differently"},
		"AnAnswerNobodyAskedFor": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			return c[:29], a
		}, "1 requests are told differently"},
		"TheSameIDTwice": {func(c []clientLine, a []appLine) ([]clientLine, []appLine) {
			return append(c, c[0]), a
		}, "1 requests are told differently"},
		"NoRequestAtAll": {func([]clientLine, []appLine) ([]clientLine, []appLine) {
			_, a := world()
			return nil, a[:1]
		}, "no request was sent"},
	} {
		t.Run(name, func(t *testing.T) {
			client, apps := c.change(world())
			dir := fixture(t, client, apps)
			if err := Check(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// What was printed is not believed.
func TestCheckerBelievesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		from, to, says string
	}{
		"FewerFailures":     {`"failed":2,"versions"`, `"failed":1,"versions"`, "requests failed: the logs say 2, the demo said 1"},
		"MoreServed":        {`"served":28`, `"served":29`, "requests served"},
		"LessHarm":          {`"harmed":2`, `"harmed":0`, "requests harmed"},
		"AVersionThatIsNot": {`"v3":`, `"v4":`, "v4 served: the logs say 0, the demo said 10"},
		"NotMet":            {`"expectations":null`, `"expectations":[{"what":"x","met":false}]`, "did not come true: x"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fixture2(t)
			path := filepath.Join(dir, storyFile)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(b, []byte(c.from)) {
				t.Fatalf("%s is not in %s", c.from, b)
			}
			if err := os.WriteFile(path, bytes.Replace(b, []byte(c.from), []byte(c.to), 1), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := Check(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestCheckerNeedsWholeLogs(t *testing.T) {
	if err := Check(t.Context(), t.TempDir(), io.Discard); err == nil || !strings.Contains(err.Error(), "not what a demo has left") {
		t.Errorf("an empty folder: %v", err)
	}
	for name, cut := range map[string]func(string) string{
		"Client":  func(dir string) string { return filepath.Join(dir, clientFile) },
		"BackEnd": func(dir string) string { return filepath.Join(dir, backendsDir, "v2-1.jsonl") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := fixture2(t)
			path := cut(dir)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b[:len(b)-10], 0o644); err != nil {
				t.Fatal(err)
			}
			if err := Check(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), filepath.Base(path)+", line 10") && !strings.Contains(err.Error(), filepath.Base(path)+", line 30") {
				t.Errorf("got %v, want the file and the line", err)
			}
		})
	}
}

// The application fails the share that it is told to, and nothing else.
func TestUnlucky(t *testing.T) {
	for _, share := range []float64{0, 0.01, 0.05, 0.5, 1} {
		n := 0
		for i := range 100000 {
			if unlucky("v3", fmt.Sprintf("r%06d", i+1), share) {
				n++
			}
		}
		if got := float64(n) / 100000; got < share*0.93-1e-9 || got > share*1.07+1e-9 {
			t.Errorf("of %v failed %v", share, got)
		}
	}
}
