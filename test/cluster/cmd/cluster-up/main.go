// Command cluster-up leaves a cluster running to play with: Kubernetes, Istio
// and Prometheus, Serin's own types and rights, and the founding scenario with
// v1 at rest. It prints the way in; Ctrl-C ends all of it.
//
//	go -C test/cluster run ./cmd/cluster-up
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/serin-dev/serin/test/cluster/lab"
)

func main() {
	lab.Main(func(ctx context.Context, w lab.World) int {
		if err := run(ctx, w); err != nil {
			fmt.Fprintln(os.Stderr, "cluster-up:", err)
			return 1
		}
		return 0
	}, "api", "prometheus")
}

func run(ctx context.Context, w lab.World) error {
	c, err := lab.Start(ctx, w, lab.Options{Print: os.Stdout})
	if err != nil {
		return err
	}
	defer c.Stop()
	kubeconfig, err := c.KubeconfigOutside("admin")
	if err != nil {
		return err
	}
	prometheus, err := w.Door("prometheus", lab.PrometheusAddress)
	if err != nil {
		return err
	}
	fmt.Printf("\n  export KUBECONFIG=%s\n  Prometheus: http://%s\n  logs: %s\n\nCtrl-C ends all of it.\n", kubeconfig, prometheus, c.Logs())
	<-ctx.Done()
	return nil
}
