// Command cluster-up leaves a cluster running to play with: Kubernetes, Istio
// and Prometheus, Serin's own types and rights, `serin controller`, the founding
// scenario with v1 at rest, and calls to it. It prints the way in; Ctrl-C ends
// all of it.
//
//	go -C test/cluster run ./cmd/cluster-up
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"

	"github.com/serin-dev/serin/test/cluster/lab"
)

//go:embed rollout.yaml
var document []byte

func main() {
	rate := flag.Int("rate", 200, "calls per second; 0 for none")
	bare := flag.Bool("bare", false, "the cluster alone, without Serin and the scenario")
	flag.Parse()
	lab.Main(func(ctx context.Context, w lab.World) int {
		if err := run(ctx, w, *rate, *bare); err != nil {
			fmt.Fprintln(os.Stderr, "cluster-up:", err)
			return 1
		}
		return 0
	}, "api", "prometheus")
}

func run(ctx context.Context, w lab.World, rate int, bare bool) error {
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
	if !bare {
		if err := scenario(ctx, c, rate); err != nil {
			return err
		}
	}
	fmt.Printf("\n  export KUBECONFIG=%s\n  Prometheus: http://%s\n", kubeconfig, prometheus)
	if !bare {
		fmt.Printf(`
Release v2, and watch:

  kubectl apply -f %[1]s/lab/article/04-deployment-v2.yaml
  %[2]s watch my-app

Then v3, which fails a tenth of what it is asked (the annotation in the file says so):

  kubectl apply -f %[1]s/cmd/cluster-up/bad.yaml
  %[2]s wait my-app --revision v3
`, c.Root(), w.Tools.Serin)
	}
	fmt.Println("\nCtrl-C ends all of it.")
	<-ctx.Done()
	return nil
}

// scenario is the founding one at rest, with a controller that looks after it.
func scenario(ctx context.Context, c *lab.Cluster, rate int) error {
	if err := c.Install(ctx, lab.ClusterWide); err != nil {
		return err
	}
	if _, err := c.Controller(ctx, lab.SerinUser, "--leader-elect", "--prometheus", "http://"+lab.PrometheusAddress); err != nil {
		return err
	}
	if err := c.Article(ctx, "default"); err != nil {
		return err
	}
	if err := c.Apply(ctx, "default", document); err != nil {
		return err
	}
	if rate > 0 {
		if _, err := c.Send(ctx, "default", "my-app-service", 80, rate); err != nil {
			return err
		}
	}
	return nil
}
