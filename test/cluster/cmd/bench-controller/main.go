// Command bench-controller measures what many Rollouts cost: hundreds at rest,
// and fifty that are carried out at the same time. It prints the controller's
// memory and processor time, and what it asked of the API server.
//
//	go -C test/cluster run ./cmd/bench-controller
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/serin-dev/serin/test/cluster/lab"
)

const document = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 1s}}]
  strategy: {canary: {steps: [{weight: 20%, hold: 5s}, {weight: 50%, hold: 5s}, {weight: 100%, hold: 5s}]}}
  analysis: {errorRate: {worseBy: 10pp}, latency: {quantile: 90, worseBy: 500%}, minRequests: 0, deadline: 2m}
  promotion: {bake: 5s}
`

var rollouts = schema.GroupVersionResource{Group: "serin.dev", Version: "v1alpha1", Resource: "rollouts"}

func main() {
	rest := flag.Int("rest", 500, "Rollouts at rest")
	active := flag.Int("active", 50, "of them, carried out at the same time")
	idle := flag.Duration("idle", time.Minute, "how long to look at them at rest")
	flag.Parse()
	lab.Main(func(ctx context.Context, w lab.World) int {
		if err := bench(ctx, w, *rest, *active, *idle); err != nil {
			fmt.Fprintln(os.Stderr, "bench-controller:", err)
			return 1
		}
		return 0
	})
}

func bench(ctx context.Context, w lab.World, rest, active int, idle time.Duration) error {
	c, err := lab.Start(ctx, w, lab.Options{NoPrometheus: true})
	if err != nil {
		return err
	}
	defer c.Stop()
	if err := c.Install(ctx, lab.ClusterWide); err != nil {
		return err
	}
	p, err := c.Keep(ctx, lab.SerinUser, "--leader-elect")
	if err != nil {
		return err
	}
	began := time.Now()
	var some errgroup.Group
	some.SetLimit(16)
	name := func(i int) string { return fmt.Sprintf("bench-%03d", i) }
	for i := range rest {
		some.Go(func() error {
			if err := c.Namespace(ctx, name(i)); err != nil {
				return err
			}
			if err := c.Article(ctx, name(i)); err != nil {
				return err
			}
			return c.Apply(ctx, name(i), []byte(document))
		})
	}
	if err := some.Wait(); err != nil {
		return err
	}
	// idle waits until so many have a version at rest, and says twice a minute
	// how far they are and what most of the others say.
	idles := func(want int, version string) error {
		said := time.Now()
		for {
			l, err := c.Dynamic.Resource(rollouts).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				return err
			}
			n, others := 0, map[string]int{}
			for _, u := range l.Items {
				status, _ := u.Object["status"].(map[string]any)
				stable, _ := status["stable"].(map[string]any)
				switch label := fmt.Sprint(stable["label"]); {
				case status["phase"] == "Idle" && label == version:
					n++
				case status["phase"] != "Idle" || label != "v1":
					message, _, _ := strings.Cut(fmt.Sprint(status["message"]), ":") // figures come after it
					others[fmt.Sprintf("%v: %v", status["phase"], message)]++
				}
			}
			if n >= want {
				return nil
			}
			if time.Since(said) > 30*time.Second {
				said = time.Now()
				fmt.Printf("  %d of %d have %s at rest", n, want, version)
				for _, text := range slices.SortedFunc(maps.Keys(others), func(a, b string) int { return others[b] - others[a] })[:min(3, len(others))] {
					fmt.Printf("; %d say %q", others[text], text)
				}
				fmt.Println()
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
	if err := idles(rest, "v1"); err != nil {
		return err
	}
	fmt.Printf("%d Rollouts, %d pods, adopted after %s\n", rest, 3*rest, time.Since(began).Round(time.Second))
	if err := lab.Await(ctx, 10*time.Minute, "quiet", func() (bool, error) {
		rs, err := asked(c, time.Now().Add(-5*time.Second))
		return len(rs) == 0, err
	}); err != nil {
		return err
	}
	if err := look(ctx, c, p, fmt.Sprintf("%d at rest, %s", rest, idle), func() error {
		timer := time.NewTimer(idle)
		defer timer.Stop()
		<-timer.C
		return nil
	}); err != nil {
		return err
	}
	// Without calls there is nothing to judge: ten a second for each.
	for i := range active {
		some.Go(func() error {
			_, err := c.Send(ctx, name(i), "my-app-service", 80, 10)
			return err
		})
	}
	if err := some.Wait(); err != nil {
		return err
	}
	return look(ctx, c, p, fmt.Sprintf("%d of them carried out, 10 calls a second each", active), func() error {
		for i := range active {
			some.Go(func() error { return c.Version(ctx, name(i), "v2", 2) })
		}
		if err := some.Wait(); err != nil {
			return err
		}
		return idles(active, "v2")
	})
}

// look measures what the controller does while something happens.
func look(ctx context.Context, c *lab.Cluster, p *lab.Kept, what string, happens func() error) error {
	began := time.Now()
	scraped := c.Pods.Scraped()
	_, before, ok := p.Usage()
	watching, enough := context.WithCancel(ctx)
	var most atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-watching.Done():
				return
			case <-tick.C:
				if rss, _, ok := p.Usage(); ok {
					most.Store(max(most.Load(), rss))
				}
			}
		}
	}()
	err := happens()
	enough()
	<-done
	if err != nil {
		return err
	}
	took := time.Since(began)
	rss, after, _ := p.Usage()
	rs, err := asked(c, began)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s: %s\n", what, took.Round(time.Second))
	if ok {
		fmt.Printf("  memory %d MiB at the end, %d MiB at most; processor time %s, %.1f %% of a core\n", rss>>20, most.Load()>>20, (after - before).Round(10*time.Millisecond), 100*(after-before).Seconds()/took.Seconds())
	} else {
		fmt.Println("  memory and processor time cannot be measured here: /proc is not ours")
	}
	if n := p.Restarts(); n > 0 {
		fmt.Printf("  the controller could not renew its lease and was started again: %d times so far\n", n)
	}
	fmt.Printf("  pods asked for their figures: %d times\n", c.Pods.Scraped()-scraped)
	fmt.Printf("  requests to the API server, leases and watches apart: %d\n%s", len(rs), lab.Count(rs))
	return nil
}

func asked(c *lab.Cluster, since time.Time) ([]lab.Request, error) {
	rs, err := c.Requests(lab.SerinUser, since)
	return slices.DeleteFunc(rs, func(r lab.Request) bool { return r.Lease() || r.Verb == "watch" }), err
}
