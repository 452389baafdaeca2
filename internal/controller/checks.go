package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/hook"
	"github.com/serin-dev/serin/internal/rollout"
)

// checks runs the tests that the steps of one rollout ask for: webhooks.
type checks struct {
	*hook.Runner
	ctx  context.Context
	stop context.CancelFunc
	runs sync.WaitGroup

	mu    sync.Mutex
	tests map[string]v1alpha1.Test
}

func newChecks(c *Controller, a *app) *checks {
	k, client := &checks{}, hookClient()
	k.ctx, k.stop = context.WithCancel(c.run)
	about := func(rollout.TestRun) map[string]any {
		return map[string]any{"namespace": a.key.Namespace, "rollout": a.key.Name}
	}
	k.Runner = hook.New(k.ctx, hook.Host{
		Find: k.find, Go: k.runs.Go, Ended: a.wake, Log: a.log,
		How: func(name string, t v1alpha1.Test) (hook.Try, error) {
			if t.Webhook == nil {
				return nil, fmt.Errorf("test %q is no webhook", name)
			}
			return hook.Webhook(client, t.Webhook.URL, about), nil
		},
	})
	return k
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

func (c *checks) find(name string) (v1alpha1.Test, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, there := c.tests[name]
	return t, there
}

// end stops the runs; what they would have said is asked for again.
func (c *checks) end() {
	c.stop()
	c.runs.Wait()
}
