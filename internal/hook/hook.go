// Package hook runs the tests that a rollout's steps ask for: the engine's Tests
// port, once for both hosts.
//
// A test is what the document names; a run of it has an ID, is begun once in a
// Runner's life, and ends with an answer that does not change. The host says how
// a test is tried: a webhook the same way everywhere (see Webhook), anything else
// by its own means.
//
// Invariant: a run that is cut short because its host ends has no answer, so the
// next host runs it again; what a test took for too long is an answer.
//
//	r := hook.New(ctx, hook.Host{
//		Find:  find, // among engine.TestsOf(document)
//		How:   func(_ string, t v1alpha1.Test) (hook.Try, error) { return hook.Webhook(client, t.Webhook.URL, about), nil },
//		Go:    work.Go,
//		Ended: wake,
//		Log:   log,
//	})
package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Try tries once. It ends soon after ctx; detail is for people, and for whoever
// may read a status.
type Try func(ctx context.Context, run rollout.TestRun) (passed bool, detail string)

// Host is whose tests are run. All functions are needed.
type Host struct {
	Find  func(name string) (v1alpha1.Test, bool)         // in the document as it is now, with its defaults
	How   func(name string, _ v1alpha1.Test) (Try, error) // an error: not here, and why
	Go    func(func())                                    // starts a goroutine that the host waits for
	Ended func()                                          // there is another answer
	Log   *slog.Logger                                    // of our own mistakes
}

// Runner is the engine's Tests port for one rollout.
type Runner struct {
	host Host
	ctx  context.Context

	mu      sync.Mutex
	begun   map[string]bool
	answers map[string]rollout.TestAnswer
}

// New makes a Runner whose runs end with ctx.
func New(ctx context.Context, h Host) *Runner {
	return &Runner{host: h, ctx: ctx, begun: map[string]bool{}, answers: map[string]rollout.TestAnswer{}}
}

// Start implements engine.Tests. Its errors wrap engine.ErrRefused.
func (r *Runner) Start(_ context.Context, run rollout.TestRun) error {
	test, there := r.host.Find(run.Name)
	if !there {
		return fmt.Errorf("%w: the document has no test %q", engine.ErrRefused, run.Name)
	}
	try, err := r.host.How(run.Name, test)
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrRefused, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun[run.ID] {
		return nil
	}
	r.begun[run.ID] = true
	r.host.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, test.Timeout.Duration)
		defer cancel()
		answer := rollout.TestAnswer{ID: run.ID}
		answer.Passed, answer.Detail = r.safely(ctx, try, run)
		if r.ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.answers[run.ID] = answer
		r.mu.Unlock()
		r.host.Ended()
	})
	return nil
}

// safely keeps a panic to the run that it was about: in a goroutine of its own it
// would end everything. A run over which we made a mistake has not passed.
func (r *Runner) safely(ctx context.Context, try Try, run rollout.TestRun) (passed bool, detail string) {
	defer func() {
		if v := recover(); v != nil {
			passed, detail = false, "this version of Serin made a mistake over it; its log says more"
			r.host.Log.Error("a mistake of this version of Serin over a test: it counts as failed", "test", run.Name, "run", run.ID,
				"what", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	return try(ctx, run)
}

// Answers implements engine.Tests.
func (r *Runner) Answers(context.Context) ([]rollout.TestAnswer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.answers), func(a, b rollout.TestAnswer) int { return strings.Compare(a.ID, b.ID) }), nil
}

// Webhook posts to url what the run is about, with what the host adds to it. It
// passes when the answer's status is 2xx. Nothing of the answer's body is told:
// it may hold what whoever reads a status should not see. Who is asked twice
// knows by the header Idempotency-Key, the run's ID.
func Webhook(c *http.Client, url string, about func(rollout.TestRun) map[string]any) Try {
	return func(ctx context.Context, run rollout.TestRun) (bool, string) {
		what := about(run)
		what["id"], what["test"] = run.ID, run.Name
		what["version"], what["revision"] = run.Revision.Label(), run.Revision
		body, err := json.Marshal(what)
		if err != nil {
			return false, err.Error()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return false, err.Error()
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", run.ID)
		res, err := c.Do(req)
		if err != nil {
			return false, fmt.Sprintf("asking %s: %v", url, err)
		}
		_ = res.Body.Close()
		return res.StatusCode/100 == 2, fmt.Sprintf("%s answered %s", url, res.Status)
	}
}
