package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

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

// MetricsAddr is where the n-th controller serves its metrics.
func (c *Cluster) MetricsAddr(n int) string { return fmt.Sprintf("127.0.0.1:%d", 20001+2*n) }
