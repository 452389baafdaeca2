package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/hook"
	"github.com/serin-dev/serin/internal/rollout"
)

// checks are the tests that the steps of one rollout ask for: commands of this
// machine and webhooks.
type checks struct {
	app   string
	dir   string                          // where commands run
	about func(rollout.Revision) []string // addresses of a revision's ready replicas
	hook  *http.Client
}

// how gives how a test is tried on one machine.
func (c *checks) how(_ string, t v1alpha1.Test) (hook.Try, error) {
	switch {
	case t.Job != nil:
		return nil, errors.New("a job needs a cluster; on one machine give the test a command or a webhook")
	case t.Command != nil:
		return func(ctx context.Context, run rollout.TestRun) (bool, string) { return c.command(ctx, t.Command, run) }, nil
	}
	return hook.Webhook(c.hook, t.Webhook.URL, func(run rollout.TestRun) map[string]any {
		return map[string]any{"rollout": c.app, "addresses": c.about(run.Revision)}
	}), nil
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
