// Command bench-rollback measures how fast a bad version is taken back on a real
// cluster: half of its answers are errors, it gets 5 % of 200 calls a second,
// the figures come from the pods. Ten runs, each with a version of its own.
//
//	go -C test/cluster run ./cmd/bench-rollback
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

const document = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 1s}}]
  strategy: {canary: {steps: [{weight: 5%, hold: 5m}, {weight: 50%, hold: 5m}]}}
  analysis: {source: pods}
`

func main() {
	runs := flag.Int("runs", 10, "how often")
	rate := flag.Int("rate", 200, "calls per second")
	share := flag.Float64("errors", 0.5, "share of the bad version's answers that are errors")
	served := flag.Duration("served", 30*time.Second, "how long stable has answered calls before the bad version comes; a service in use has for days")
	records := flag.String("records", "", "folder for the observation records, which serin replay reads")
	flag.Parse()
	lab.Main(func(ctx context.Context, w lab.World) int {
		if err := bench(ctx, w, *runs, *rate, *share, *served, *records); err != nil {
			fmt.Fprintln(os.Stderr, "bench-rollback:", err)
			return 1
		}
		return 0
	})
}

// result is one run.
type result struct {
	toZero  time.Duration // from the first bad answer to weight 0 in the API
	toLast  time.Duration // from the first bad answer to the last answer of the bad version
	exposed int           // calls that the bad version answered
	harmed  int           // of these, with an error
	highest float64       // weight, in percent
	failed  int           // calls that failed for another reason

	served   time.Duration // how long stable had answered before
	answered int           // and how many calls
}

func bench(ctx context.Context, w lab.World, runs, rate int, share float64, served time.Duration, records string) error {
	c, err := lab.Start(ctx, w, lab.Options{NoPrometheus: true})
	if err != nil {
		return err
	}
	defer c.Stop()
	if err := c.Install(ctx, lab.ClusterWide); err != nil {
		return err
	}
	args := []string{"--leader-elect"}
	if records != "" {
		if err := os.MkdirAll(records, 0o755); err != nil {
			return err
		}
		args = append(args, "--record-dir", records)
	}
	if _, err := c.Controller(ctx, lab.SerinUser, args...); err != nil {
		return err
	}
	var all []result
	for i := range runs {
		r, err := run(ctx, c, fmt.Sprintf("bench-%d", i), rate, share, served)
		if err != nil {
			return err
		}
		fmt.Printf("run %2d: weight 0 after %5.2f s, last answer of it after %5.2f s; %3d exposed, %3d harmed; highest weight %g %%; %d failed otherwise; stable had answered %d calls in %.0f s\n",
			i+1, r.toZero.Seconds(), r.toLast.Seconds(), r.exposed, r.harmed, r.highest, r.failed, r.answered, r.served.Seconds())
		all = append(all, r)
	}
	fmt.Printf("\n%d runs, %g %% errors at 5 %% of %d calls/s, figures from the pods      median   worst\n", runs, share*100, rate)
	row := func(what string, of func(result) float64) {
		x := make([]float64, len(all))
		for i, r := range all {
			x[i] = of(r)
		}
		slices.Sort(x)
		fmt.Printf("  %-58s %8.2f %7.2f\n", what, (x[(len(x)-1)/2]+x[len(x)/2])/2, x[len(x)-1])
	}
	row("first bad answer to weight 0 in the API, seconds", func(r result) float64 { return r.toZero.Seconds() })
	row("first bad answer to the bad version's last answer, seconds", func(r result) float64 { return r.toLast.Seconds() })
	row("calls exposed", func(r result) float64 { return float64(r.exposed) })
	row("calls harmed", func(r result) float64 { return float64(r.harmed) })
	row("highest weight, percent", func(r result) float64 { return r.highest })
	row("calls that failed for another reason", func(r result) float64 { return float64(r.failed) })
	row("for so long had stable answered before, seconds", func(r result) float64 { return r.served.Seconds() })
	row("and so many calls", func(r result) float64 { return float64(r.answered) })
	return nil
}

func run(ctx context.Context, c *lab.Cluster, ns string, rate int, share float64, served time.Duration) (result, error) {
	if err := c.Namespace(ctx, ns); err != nil {
		return result{}, err
	}
	if err := c.Article(ctx, ns); err != nil {
		return result{}, err
	}
	if err := c.Apply(ctx, ns, []byte(document)); err != nil {
		return result{}, err
	}
	if err := wait(ctx, c, ns, "v1 at rest", func(s v1alpha1.RolloutStatus) bool {
		return s.Phase == v1alpha1.PhaseIdle && s.Stable != nil && s.Stable.Ready != nil && *s.Stable.Ready == 3
	}); err != nil {
		return result{}, err
	}
	stream, err := c.Send(ctx, ns, "my-app-service", 80, rate)
	if err != nil {
		return result{}, err
	}
	watching, enough := context.WithCancel(ctx)
	defer enough()
	weights := make(chan lab.Weights, 256)
	go c.FollowWeights(watching, ns, "my-app-vs", weights)
	began := time.Now()
	if err := stream.Wait(ctx, served+2*time.Minute, max(1, int(served.Seconds()*float64(rate)))); err != nil {
		return result{}, err
	}
	had, answered := time.Since(began), stream.Len()
	c.Pods.Behave(ns, "my-app", "v2", lab.Behaviour{Errors: share})
	if err := c.Version(ctx, ns, "v2", 2); err != nil {
		return result{}, err
	}
	if err := wait(ctx, c, ns, "v2 rolled back", func(s v1alpha1.RolloutStatus) bool {
		for _, h := range s.History {
			if strings.HasPrefix(h.Revision, "v2@") && h.Outcome == "rolledBack" {
				return true
			}
		}
		return false
	}); err != nil {
		return result{}, err
	}
	if err := stream.Wait(ctx, time.Minute, rate); err != nil {
		return result{}, err
	}
	rep, err := stream.Stop()
	if err != nil {
		return result{}, err
	}
	enough()
	first, ok := c.Pods.FirstBad(ns)
	if !ok {
		return result{}, errors.New("no call was failed")
	}
	r := result{exposed: rep.ByPods["v2"], harmed: rep.Meant["v2"], failed: len(rep.Failed), served: had, answered: answered}
	for x := range weights {
		canary := x.Of["v2"]
		r.highest = max(r.highest, canary)
		if canary == 0 && r.highest > 0 && r.toZero == 0 {
			r.toZero = x.At.Sub(first)
		}
	}
	for _, s := range c.Pods.Served(ns) {
		if s.Version == "v2" {
			r.toLast = max(r.toLast, s.At.Sub(first))
		}
	}
	if len(rep.Unlike) > 0 {
		return r, fmt.Errorf("both ends disagree: %v", rep.Unlike)
	}
	return r, nil
}

func wait(ctx context.Context, c *lab.Cluster, ns, what string, ok func(v1alpha1.RolloutStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	last := ""
	if err := c.Follow(ctx, ns, "my-app", func(s v1alpha1.RolloutStatus) bool { last = s.Message; return ok(s) }); err != nil {
		return fmt.Errorf("waiting for %s: %w; the last message was: %s", what, err, last)
	}
	return nil
}
