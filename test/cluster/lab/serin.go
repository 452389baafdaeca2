package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Profiles are the ways in which Serin is installed: files of config/.
const (
	ClusterWide = "install.yaml"
	RoutesOnly  = "install-routes-only.yaml"
)

// Install applies what Serin ships for a cluster: its types, service account,
// roles and admission policies. What would run there (the Deployment, what guards
// it and what shows it) is left out: the lab starts the controller itself. The variable SERIN_LAB_INSTALL names another file.
func (c *Cluster) Install(ctx context.Context, profile string) error {
	root, err := clusterDir()
	if err != nil {
		return err
	}
	file := cmp.Or(os.Getenv("SERIN_LAB_INSTALL"), filepath.Join(root, "../../config", profile))
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	objs, err := Parse(b)
	if err != nil {
		return err
	}
	objs = slices.DeleteFunc(objs, func(u *unstructured.Unstructured) bool {
		return slices.Contains([]string{"Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service"}, u.GetKind())
	})
	return c.ApplyObjects(ctx, SerinNamespace, objs...)
}

var controllers atomic.Int32

// Controller starts `serin controller` as a process, with the rights of a user,
// and returns when it works.
func (c *Cluster) Controller(ctx context.Context, user string, args ...string) (*Process, error) {
	return c.ControllerWith(ctx, c.Kubeconfig(user), args...)
}

// ControllerWith is Controller with a kubeconfig.
func (c *Cluster) ControllerWith(ctx context.Context, kubeconfig string, args ...string) (*Process, error) {
	n := controllers.Add(1)
	health := fmt.Sprintf("127.0.0.1:%d", 20000+2*n)
	all := append([]string{"controller", "--kubeconfig", kubeconfig, "--health-addr", health, "--metrics-addr", c.MetricsAddr(int(n)),
		"--lease-namespace", SerinNamespace, "--scrape-allow", pods, "-v"}, args...)
	p, err := c.run(fmt.Sprintf("serin-%d", n), nil, c.Tools.Serin, all...)
	if err != nil {
		return nil, err
	}
	p.Metrics = "http://" + c.MetricsAddr(int(n)) + "/metrics"
	return p, c.up(ctx, p, func() error { return answers(ctx, "http://"+health+"/readyz") })
}

// Kept is `serin controller` under somebody who starts it again whenever it has
// ended, as a kubelet does: a leader that cannot renew its lease ends.
type Kept struct {
	end  context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	now    *Process
	ends   []string      // the last words of those that worked and have ended
	before time.Duration // processor time of those that have ended
}

// Keep starts it, and returns when it works for the first time. It ends with ctx
// or [Kept.End].
func (c *Cluster) Keep(ctx context.Context, user string, args ...string) (*Kept, error) {
	ctx, end := context.WithCancel(ctx)
	k := &Kept{end: end, done: make(chan struct{})}
	p, err := c.Controller(ctx, user, args...)
	if err != nil {
		end()
		return nil, err
	}
	k.now = p
	go func() {
		defer close(k.done)
		for worked := true; ; {
			select {
			case <-ctx.Done():
				p.End()
				return
			case <-p.Done():
			}
			k.mu.Lock()
			if worked {
				k.ends = append(k.ends, p.Tail(40))
			}
			k.before += p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
			k.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			// Without an API server it does not get to work, and ends again.
			next, err := c.Controller(ctx, user, args...)
			if worked = err == nil; next != nil {
				p = next
				k.mu.Lock()
				k.now = p
				k.mu.Unlock()
			}
		}
	}()
	return k, nil
}

// End ends it for good.
func (k *Kept) End() { k.end(); <-k.done }

// Restarts is how often one that worked had to be started again.
func (k *Kept) Restarts() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.ends)
}

// Wrong tells of one that ended for another reason than that its lease was lost,
// which is what happens to a leader on a machine that stands still for 4 s.
func (k *Kept) Wrong() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, words := range k.ends {
		if !strings.Contains(words, "leader election lost") {
			return fmt.Errorf("the controller ended by itself:\n%s", words)
		}
	}
	return nil
}

// Usage is what it uses: memory now, and processor time of all that there were.
func (k *Kept) Usage() (rss int64, cpu time.Duration, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	rss, cpu, ok = k.now.Usage()
	return rss, cpu + k.before, ok
}

// MetricsAddr is where the n-th controller serves its metrics.
func (c *Cluster) MetricsAddr(n int) string { return fmt.Sprintf("127.0.0.1:%d", 20001+2*n) }
