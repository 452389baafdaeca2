package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// checks runs the tests that steps ask for: commands of this machine and
// webhooks. It is the engine's Tests port for one rollout.
type checks struct {
	app   string
	dir   string                           // where commands run
	about func(rollout.Revision) []string  // addresses of a revision's ready replicas
	tests func(name string) *v1alpha1.Test // by name, from the document
	ended func()                           // a run has ended
	run   func(func())                     // starts a goroutine that the daemon waits for
	hook  *http.Client
	ctx   context.Context // ends with the daemon

	mu      sync.Mutex
	begun   map[string]bool
	answers map[string]rollout.TestAnswer
}

func (c *checks) Start(_ context.Context, run rollout.TestRun) error {
	test := c.tests(run.Name)
	if test == nil {
		return fmt.Errorf("%w: the document has no test %q", engine.ErrRefused, run.Name)
	}
	if test.Job != nil {
		return fmt.Errorf("%w: a job needs a cluster; on one machine give the test a command or a webhook", engine.ErrRefused)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun[run.ID] {
		return nil
	}
	c.begun[run.ID] = true
	c.run(func() {
		ctx, cancel := context.WithTimeout(c.ctx, timeoutOf(test))
		defer cancel()
		a := rollout.TestAnswer{ID: run.ID}
		if test.Command != nil {
			a.Passed, a.Detail = c.command(ctx, test.Command, run)
		} else {
			a.Passed, a.Detail = c.webhook(ctx, test.Webhook.URL, run)
		}
		if c.ctx.Err() != nil {
			return // the daemon ends: the test says nothing, and is run again
		}
		c.mu.Lock()
		c.answers[run.ID] = a
		c.mu.Unlock()
		c.ended()
	})
	return nil
}

func timeoutOf(t *v1alpha1.Test) time.Duration {
	if t.Timeout == nil {
		return 10 * time.Minute
	}
	return t.Timeout.Duration
}

func (c *checks) Answers(context.Context) ([]rollout.TestAnswer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []rollout.TestAnswer
	for _, a := range c.answers {
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// command passes when it exits with 0. It is told whom to try: SERIN_VERSION,
// SERIN_REVISION and SERIN_ADDRESSES, the addresses of the ready replicas.
func (c *checks) command(ctx context.Context, argv []string, run rollout.TestRun) (bool, string) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = c.dir
	addresses := c.about(run.Revision)
	cmd.Env = append(environment(),
		"SERIN_ROLLOUT="+c.app,
		"SERIN_VERSION="+run.Revision.Label(),
		"SERIN_REVISION="+string(run.Revision),
		"SERIN_ADDRESSES="+strings.Join(addresses, " "),
	)
	if len(addresses) > 0 {
		cmd.Env = append(cmd.Env, "SERIN_URL=http://"+addresses[0])
	}
	tail := &tailWriter{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = tail, tail
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	// The kernel ends the command when the thread that started it ends, so the
	// thread must not be used for anything else meanwhile.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	}
	words := strings.TrimSpace(tail.String())
	switch {
	case ctx.Err() != nil:
		return false, fmt.Sprintf("%s took longer than it may and was ended; it said: %s", argv[0], words)
	case err != nil:
		return false, fmt.Sprintf("%s: %v; it said: %s", argv[0], err, words)
	}
	return true, lastLine(words)
}

// webhook passes when the answer's status is 2xx.
func (c *checks) webhook(ctx context.Context, url string, run rollout.TestRun) (bool, string) {
	body, err := json.Marshal(map[string]any{
		"rollout": c.app, "id": run.ID, "test": run.Name,
		"version": run.Revision.Label(), "revision": run.Revision, "addresses": c.about(run.Revision),
	})
	if err != nil {
		return false, err.Error()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", run.ID)
	res, err := c.hook.Do(req)
	if err != nil {
		return false, fmt.Sprintf("asking %s: %v", url, err)
	}
	res.Body.Close() // what it says may hold secrets; the status is the answer
	return res.StatusCode/100 == 2, fmt.Sprintf("%s answered %s", url, res.Status)
}

func lastLine(s string) string {
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		return s[i+1:]
	}
	return s
}

// tailWriter keeps the last bytes that were written to it.
type tailWriter struct {
	limit int
	mu    sync.Mutex
	b     []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	if over := len(w.b) - w.limit; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(string(w.b), "?")
}
