// Command demo-cluster tells the whole story on a real cluster: v1 serves, a
// good v2 takes over step by step, a bad v3 is taken back by itself; on the
// founding scenario's own objects, by the real `serin controller` with the
// rights that are shipped, under calls that istiod routes. Every call is
// accounted for at both ends. The exit code says whether it went as told.
//
//	go -C test/cluster run ./cmd/demo-cluster
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

//go:embed rollout.yaml
var document []byte

const (
	namespace = "default"
	bad       = 0.05 // share of calls that v3 fails
)

func main() {
	out := flag.String("out", "", "folder for both ends' logs of the calls; none if empty")
	rate := flag.Int("rate", 400, "calls per second")
	flag.Parse()
	lab.Main(func(ctx context.Context, w lab.World) int {
		t := &teller{begun: time.Now(), rate: *rate, out: *out}
		if err := t.tell(ctx, w); err != nil {
			fmt.Fprintln(os.Stderr, "demo-cluster:", err)
			return 1
		}
		return 0
	})
}

type teller struct {
	begun time.Time
	rate  int
	out   string

	mu      sync.Mutex
	told    int64
	history []v1alpha1.Decision
	status  v1alpha1.RolloutStatus
	wrong   []string
}

func (t *teller) say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(t.begun).Seconds(), fmt.Sprintf(format, args...))
}

// expect notes one thing that the story promises.
func (t *teller) expect(what string, met bool, format string, args ...any) {
	if met {
		fmt.Printf("  as told    %s\n", what)
		return
	}
	t.wrong = append(t.wrong, what)
	fmt.Printf("  NOT SO     %s: %s\n", what, fmt.Sprintf(format, args...))
}

func (t *teller) tell(ctx context.Context, w lab.World) error {
	c, err := lab.Start(ctx, w, lab.Options{})
	if err != nil {
		return err
	}
	defer c.Stop()
	t.say("etcd, kube-apiserver, kube-controller-manager, KWOK, istiod and Prometheus run")
	if err := c.Install(ctx, lab.ClusterWide); err != nil {
		return err
	}
	if _, err := c.Controller(ctx, lab.SerinUser, "--leader-elect"); err != nil {
		return err
	}
	t.say("serin controller runs with the rights of %s", lab.SerinUser)
	if err := c.Article(ctx, namespace); err != nil {
		return err
	}
	if err := c.Apply(ctx, namespace, document); err != nil {
		return err
	}
	watching, enough := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer enough()
	watcher.Go(func() { c.Follow(watching, namespace, "my-app", t.see) })

	if err := t.until(ctx, time.Minute, "v1 at rest", rest("v1")); err != nil {
		return err
	}
	stream, err := c.Send(ctx, namespace, "my-app-service", 80, t.rate)
	if err != nil {
		return err
	}
	t.say("%d calls a second begin, routed by istiod's own answers", t.rate)
	if err := stream.Wait(ctx, time.Minute, 4*t.rate); err != nil {
		return err
	}
	t.say("v2's Deployment is applied. Nobody does anything else.")
	if err := c.Version(ctx, namespace, "v2", 2); err != nil {
		return err
	}
	if err := t.until(ctx, 4*time.Minute, "the end of v2's rollout", func(s v1alpha1.RolloutStatus) bool {
		return outcome(s, "v2") != "" && s.Phase == v1alpha1.PhaseIdle && (outcome(s, "v2") != "promoted" || t.find("Retired", "v1") != nil)
	}); err != nil {
		return err
	}
	t.say("v3's Deployment is applied. It fails %g %% of what it is asked.", bad*100)
	c.Pods.Behave(namespace, "my-app", "v3", lab.Behaviour{Errors: bad})
	if err := c.Version(ctx, namespace, "v3", 2); err != nil {
		return err
	}
	if err := t.until(ctx, 4*time.Minute, "the end of v3's rollout", func(s v1alpha1.RolloutStatus) bool {
		return outcome(s, "v3") != "" && s.Phase == v1alpha1.PhaseIdle
	}); err != nil {
		return err
	}
	if err := stream.Wait(ctx, time.Minute, 3*t.rate); err != nil {
		return err
	}
	r, err := stream.Stop()
	if err != nil {
		return err
	}
	t.say("the calls end; every one is accounted for")
	enough()
	watcher.Wait()
	if t.out != "" {
		if err := leave(t.out, "client.jsonl", stream.Calls()); err != nil {
			return err
		}
		if err := leave(t.out, "pods.jsonl", c.Pods.Served(namespace)); err != nil {
			return err
		}
	}
	return t.account(r)
}

// account holds the story to what it promises.
func (t *teller) account(r lab.Report) error {
	fmt.Printf("\n%s\n", r)
	s := t.status
	var steps []string
	for _, d := range t.history {
		if d.What == "StepStarted" && strings.HasPrefix(d.Revision, "v2@") {
			steps = append(steps, d.To)
		}
	}
	t.expect("v2 is promoted by itself", outcome(s, "v2") == "promoted", "%s", s.Message)
	t.expect("v2 gets 5, 25, 50, 75 and then 100 % of the traffic", slices.Equal(steps, []string{"5 %", "25 %", "50 %", "75 %", "100 %"}), "it got %s", strings.Join(steps, ", "))
	promoted, retired := t.find("Promoted", "v2"), t.find("Retired", "v1")
	t.expect("v1 is retired, and only after v2 is the stable version", promoted != nil && retired != nil && promoted.N < retired.N, "promoted %v, retired %v", promoted, retired)
	t.expect("v3 is taken back by itself", outcome(s, "v3") == "rolledBack", "%s", s.Message)
	back := t.find("RolledBack", "")
	t.expect("v3 is taken back by evidence, beside v2 at the same time", back != nil && strings.Contains(back.Why, "on stable"), "%v", back)
	t.expect("v3 is taken back before half of the users have met it", back != nil && (back.From == "5 %" || back.From == "25 %"), "%v", back)
	t.expect("v2 is the stable version still", s.Stable != nil && s.Stable.Label == "v2" && s.Canary == nil, "%s", s.Message)
	t.expect("no call failed because of a switch", len(r.Failed) == 0, "%d did", len(r.Failed))
	t.expect("both ends tell the same of every call", len(r.Unlike) == 0 && r.AfterEnd == 0, "%d are told differently, %d reached pods that were gone", len(r.Unlike), r.AfterEnd)
	t.expect("nobody but users who met v3 saw a failure", r.Meant["v3"] > 0 && len(r.Meant) == 1, "failed on purpose: %v", r.Meant)
	if t.wrong != nil {
		return fmt.Errorf("the story did not go as told: %s", strings.Join(t.wrong, "; "))
	}
	return nil
}

func leave[T any](dir, name string, all []T) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, x := range all {
		err = errors.Join(err, enc.Encode(x))
	}
	return errors.Join(err, f.Close())
}

// see prints each decision once.
func (t *teller) see(s v1alpha1.RolloutStatus) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status = s
	for _, d := range s.Decisions {
		if d.N <= t.told {
			continue
		}
		t.told = d.N
		t.history = append(t.history, d)
		head := fmt.Sprintf("#%d %s", d.N, d.What)
		switch {
		case d.From != "" && d.To != "":
			head += fmt.Sprintf(" %s -> %s", d.From, d.To)
		case d.From != "" || d.To != "":
			head += " " + d.From + d.To
		}
		t.say("%s (%s)\n         %s", head, d.By, d.Why)
	}
	return false
}

func (t *teller) until(ctx context.Context, limit time.Duration, what string, ok func(v1alpha1.RolloutStatus) bool) error {
	return lab.Await(ctx, limit, what, func() (bool, error) {
		t.mu.Lock()
		s := t.status
		t.mu.Unlock()
		return ok(s), errors.New(s.Message)
	})
}

func (t *teller) find(what, version string) *v1alpha1.Decision {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range slices.Backward(t.history) {
		if d.What == what && (version == "" || strings.HasPrefix(d.Revision, version+"@") || d.From == version || d.To == version) {
			return &d
		}
	}
	return nil
}

func rest(version string) func(v1alpha1.RolloutStatus) bool {
	return func(s v1alpha1.RolloutStatus) bool {
		return s.Phase == v1alpha1.PhaseIdle && s.Stable != nil && s.Stable.Label == version && s.Stable.Ready != nil && *s.Stable.Ready > 0
	}
}

func outcome(s v1alpha1.RolloutStatus, version string) string {
	for _, h := range slices.Backward(s.History) {
		if strings.HasPrefix(h.Revision, version+"@") {
			return h.Outcome
		}
	}
	return ""
}
