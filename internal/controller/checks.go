package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// checks runs the tests that steps ask for: webhooks. It is the engine's Tests
// port for one rollout.
type checks struct {
	a    *app
	hook *http.Client
	ctx  context.Context
	stop context.CancelFunc
	runs sync.WaitGroup

	mu      sync.Mutex
	tests   map[string]v1alpha1.Test
	begun   map[string]bool
	answers map[string]rollout.TestAnswer
}

func newChecks(c *Controller, a *app) *checks {
	ctx, stop := context.WithCancel(c.run)
	return &checks{a: a, hook: hookClient(), ctx: ctx, stop: stop, begun: map[string]bool{}, answers: map[string]rollout.TestAnswer{}}
}

// hookClient dials what a tenant may name and nothing of this machine's own: the
// address is looked at when it is dialled, so a name that changes its meaning
// does not help.
func hookClient() *http.Client {
	d := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		ip := at.Addr().Unmap()
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified() || ip == metadataV6 {
			return errors.New("an address of this kind is not called")
		}
		return nil
	}}
	return &http.Client{
		Transport:     &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var metadataV6 = netip.MustParseAddr("fd00:ec2::254")

func (c *checks) follow(doc *v1alpha1.Rollout) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tests = engine.TestsOf(doc)
}

// end stops the runs; what they would have said is asked for again.
func (c *checks) end() {
	c.stop()
	c.runs.Wait()
}

// Start implements engine.Tests.
func (c *checks) Start(_ context.Context, run rollout.TestRun) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	test, there := c.tests[run.Name]
	switch {
	case !there:
		return fmt.Errorf("%w: the document has no test %q", engine.ErrRefused, run.Name)
	case test.Webhook == nil:
		return fmt.Errorf("%w: test %q is no webhook", engine.ErrRefused, run.Name)
	case c.begun[run.ID]:
		return nil
	}
	c.begun[run.ID] = true
	timeout := 10 * time.Minute
	if test.Timeout != nil {
		timeout = test.Timeout.Duration
	}
	url := test.Webhook.URL
	c.runs.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		answer := rollout.TestAnswer{ID: run.ID}
		answer.Passed, answer.Detail = c.call(ctx, url, run)
		if c.ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.answers[run.ID] = answer
		c.mu.Unlock()
		c.a.wake()
	})
	return nil
}

// Answers implements engine.Tests.
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

// call passes when the answer's status is 2xx. Nothing of its body is told: it
// may hold what whoever reads a status should not see.
func (c *checks) call(ctx context.Context, url string, run rollout.TestRun) (bool, string) {
	body, err := json.Marshal(map[string]any{
		"namespace": c.a.key.Namespace, "rollout": c.a.key.Name, "id": run.ID, "test": run.Name,
		"version": run.Revision.Label(), "revision": run.Revision,
	})
	if err != nil {
		return false, err.Error()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, fmt.Sprintf("%s cannot be asked", url)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", run.ID)
	res, err := c.hook.Do(req)
	if err != nil {
		return false, fmt.Sprintf("asking %s: %v", url, err)
	}
	_ = res.Body.Close()
	return res.StatusCode/100 == 2, fmt.Sprintf("%s answered %s", url, res.Status)
}
