package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// The cases of docs/CLUSTER-TESTS.md, each with its end: the weights, the
// condition and the message.

// onTrial brings v2 to its first step: 20 % in force.
func onTrial(t *testing.T, ns string, doc []byte) *history {
	t.Helper()
	h := settled(t, ns, doc)
	apply(t, ns, "04-deployment-v2.yaml")
	live(t, ns, 1)
	return h
}

// live waits until a step is in force, or a later one is.
func live(t *testing.T, ns string, step int64) {
	t.Helper()
	until(t, ns, fmt.Sprintf("step %d live", step), func(s v1alpha1.RolloutStatus) bool {
		return s.Step != nil && (s.Step.Number == step && s.Step.LiveAt != nil || s.Step.Number > step)
	})
}

// says checks a condition and that the message has each of the words.
func says(t *testing.T, s v1alpha1.RolloutStatus, kind, status, reason string, words ...string) {
	t.Helper()
	c := condition(s, kind)
	if c == nil || string(c.Status) != status || reason != "" && c.Reason != reason {
		t.Errorf("%s is %+v, want %s %s", kind, c, status, reason)
	}
	for _, w := range words {
		if !strings.Contains(s.Message, w) {
			t.Errorf("the message does not say %q: %s", w, s.Message)
		}
	}
	if t.Failed() {
		t.Logf("status: %s\nconditions: %s\n%s", describe(s), jsonText(s.Conditions), decisions(s))
	}
}

// long holds v2 at its first step for as long as a test may take.
func long(t *testing.T, replace ...string) []byte {
	return document(t, quickText, append([]string{"{weight: 20%, hold: 3s}", "{weight: 20%, hold: 10m}"}, replace...)...)
}

func TestHandLowersTheCanary(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := onTrial(t, ns, long(t))
	setWeights(t, ns, map[string]int{"v1": 100, "v2": 0})
	s := until(t, ns, "paused by a hand, and said so", func(s v1alpha1.RolloutStatus) bool {
		return len(s.Paused) > 0 && strings.HasPrefix(s.Message, "Paused")
	})
	if s.Paused[0].Kind != "hand" || s.Paused[0].By != "hand" {
		t.Errorf("paused by %+v", s.Paused)
	}
	says(t, s, "Ready", "False", "", "hand")
	quiet(t, ns, h, 3*time.Second)
	if got := lastSplit(h); got["v2"] != 0 || got["v1"] != 100 {
		t.Errorf("the hand's split did not stay: %s", got)
	}
	command(t, ns, "resume", "")
	until(t, ns, "live again after resume", func(s v1alpha1.RolloutStatus) bool {
		return len(s.Paused) == 0 && s.Step != nil && s.Step.LiveAt != nil && lastSplit(h)["v2"] > 0
	})
	h.check(t, 3, 500*time.Millisecond, allow{foreignRoutes: true})
}

func lastSplit(h *history) split {
	all := h.splits()
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1].split
}

func count(s v1alpha1.RolloutStatus, what string) int {
	n := 0
	for _, d := range s.Decisions {
		if d.What == what {
			n++
		}
	}
	return n
}

// quiet shows that the route is left alone for a while.
func quiet(t *testing.T, ns string, h *history, d time.Duration) {
	t.Helper()
	h.catchUp(t)
	was := len(h.splits())
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
	h.catchUp(t)
	if now := h.splits(); len(now) != was {
		t.Errorf("the route was written although nothing was to be done: %v", now[was:])
	}
}

func TestHandSendsAllToAVersionWithoutPods(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := onTrial(t, ns, long(t))
	// v2 has two pods, of three that all of the traffic needs; none of them ready.
	the.Pods.Behave(ns, "my-app", "v2", behaviour{NotReady: true})
	ready(t, ns, "my-app-v2", 0)
	setWeights(t, ns, map[string]int{"v1": 0, "v2": 100})
	s := until(t, ns, "what the hand did undone", func(s v1alpha1.RolloutStatus) bool { return decided(s, "DriftUndone", "") != nil })
	if d := decided(s, "DriftUndone", ""); !strings.Contains(d.Why, "hand") {
		t.Errorf("what was done about the hand: %+v\n%s", d, decisions(s))
	}
	eventually(t, "the split taken back", func() (bool, error) {
		s := lastSplit(h)
		return s["v1"] > 0 && s["v2"] < 100, fmt.Errorf("it is %s", s)
	})
}

// resetter writes the route every second, as a tool that believes in its file.
func resetter(t *testing.T, ns string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				writeWeights(ctx, ns, "gitops", map[string]int{"v1": 100})
			}
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); done.Wait() }) }
	t.Cleanup(stop)
	return stop
}

func TestToolResetsTheRoute(t *testing.T) {
	for _, drift := range []string{"Obey", "Restore"} {
		t.Run(drift, func(t *testing.T) {
			together(t)
			ns := namespace(t)
			h := onTrial(t, ns, long(t, "promotion:", "drift: "+drift+"\n  promotion:"))
			stop := resetter(t, ns)
			// Obey: at once. Restore: after the third time in ten minutes.
			s := until(t, ns, "paused, and said so", func(s v1alpha1.RolloutStatus) bool {
				return len(s.Paused) > 0 && strings.Contains(s.Message, "gitops")
			})
			says(t, s, "Ready", "False", "", "gitops")
			if n := count(s, "DriftUndone"); drift == "Obey" && n > 0 || drift == "Restore" && n != 2 {
				t.Errorf("the tool's write was undone %d times:\n%s", n, decisions(s))
			}
			if drift == "Obey" {
				// A person who resumes meets the tool again: that is a fight.
				command(t, ns, "resume", "")
			}
			s = until(t, ns, "stalled", func(s v1alpha1.RolloutStatus) bool {
				c := condition(s, "Stalled")
				return c != nil && c.Status == "True"
			})
			for _, w := range []string{"gitops", "ignoreDifferences", "spec.http"} {
				if c := condition(s, "Stalled"); !strings.Contains(c.Message, w) {
					t.Errorf("the fight is not said with the rule that ends it: %q is missing in %s", w, c.Message)
				}
			}
			stop()
			eventually(t, "everything on v1", func() (bool, error) { return lastSplit(h)["v1"] == 100, nil })
			quiet(t, ns, h, 3*time.Second)
			if n := len(h.splits()); n > 20 {
				t.Errorf("the route changed %d times in the fight", n)
			}
			h.check(t, 3, 500*time.Millisecond, allow{foreignRoutes: true})
		})
	}
}

func TestCanaryDeploymentDeleted(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := onTrial(t, ns, long(t))
	if err := the.Delete(t.Context(), deployments, ns, "my-app-v2"); err != nil {
		t.Fatal(err)
	}
	s := until(t, ns, "withdrawn", func(s v1alpha1.RolloutStatus) bool {
		return ended("v2", "withdrawn")(s) && atRest("v1")(s)
	})
	says(t, s, "Ready", "True", "")
	eventually(t, "everything on v1", func() (bool, error) { return lastSplit(h)["v1"] == 100, nil })
}

func TestRolloutDeleted(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := onTrial(t, ns, long(t))
	if err := the.Delete(t.Context(), rollouts, ns, "my-app"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Rollout gone", func() (bool, error) {
		_, err := get(t, ns)
		return apierrors.IsNotFound(err), err
	})
	h.catchUp(t)
	if got := lastSplit(h); got["v1"] != 100 || got["v2"] != 0 {
		t.Errorf("traffic was not given back to v1: %s", got)
	}
	h.check(t, 3, 500*time.Millisecond, allow{})
}

func TestNamespaceDeleted(t *testing.T) {
	together(t)
	ns := namespace(t)
	onTrial(t, ns, long(t))
	begun := time.Now()
	if err := the.Clients.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// An object that cannot be given back may hold it for two minutes.
	if err := lab.Await(t.Context(), 2*lab.Patience, "the namespace gone", func() (bool, error) {
		n, err := the.Clients.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		return false, fmt.Errorf("%s", jsonText(n.Status))
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("the namespace was gone after %s", time.Since(begun).Round(100*time.Millisecond))
}

// TestAutoscalerFights: an autoscaler that wants the canary at one pod, while
// its share needs two and then three.
func TestAutoscalerFights(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := settled(t, ns, document(t, quickText, "promotion: {bake: 1s}", "promotion: {bake: 1s, retire: Delete}"))
	for _, v := range []string{"v1", "v2"} {
		doc := fmt.Sprintf(`{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: my-app-%[1]s}, spec: {minReplicas: 1, maxReplicas: 5,
			scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: my-app-%[1]s}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}`, v)
		if err := the.Apply(t.Context(), ns, []byte(doc)); err != nil {
			t.Fatal(err)
		}
	}
	// What an autoscaler does that sees little load: it writes the scale, again
	// and again. (Without metrics the real one only keeps to its bounds.)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	done.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// The scale is read first: what it is written by is younger, so that no
			// minimum is broken that was there before the pods were.
			sc, err := the.Clients.AppsV1().Deployments(ns).GetScale(ctx, "my-app-v2", metav1.GetOptions{})
			if err != nil {
				continue
			}
			hpa, err := the.Clients.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(ctx, "my-app-v2", metav1.GetOptions{})
			if err != nil || hpa.Spec.MinReplicas == nil || sc.Spec.Replicas <= *hpa.Spec.MinReplicas {
				continue
			}
			sc.Spec.Replicas = *hpa.Spec.MinReplicas
			the.Clients.AppsV1().Deployments(ns).UpdateScale(ctx, "my-app-v2", sc, metav1.UpdateOptions{})
		}
	})
	apply(t, ns, "04-deployment-v2.yaml")
	s := until(t, ns, "v2 promoted", func(s v1alpha1.RolloutStatus) bool {
		return ended("v2", "promoted")(s) && atRest("v2")(s)
	})
	says(t, s, "Ready", "True", "")
	cancel()
	done.Wait()
	eventually(t, "the autoscaler's own minimum back", func() (bool, error) {
		hpa, err := the.Clients.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(t.Context(), "my-app-v2", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return *hpa.Spec.MinReplicas == 1, fmt.Errorf("it is %d", *hpa.Spec.MinReplicas)
	})
	h.check(t, 3, 500*time.Millisecond, allow{foreignScale: true})
}

// TestServiceAsPublished: the Service of the founding text selects v1 only. That
// is said before any traffic moves, and none does.
func TestServiceAsPublished(t *testing.T) {
	together(t)
	ns := namespace(t)
	h := record(t, ns)
	apply(t, ns, "00-service-as-published.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml")
	ready(t, ns, "my-app-v1", 3)
	if err := the.Apply(t.Context(), ns, document(t, quickText)); err != nil {
		t.Fatal(err)
	}
	until(t, ns, "v1 at rest", atRest("v1"))
	apply(t, ns, "04-deployment-v2.yaml")
	ready(t, ns, "my-app-v2", 2)
	s := until(t, ns, "the finding", func(s v1alpha1.RolloutStatus) bool {
		for _, f := range s.Findings {
			if f.Level == "Refuse" && strings.Contains(f.What, "my-app-service") {
				return true
			}
		}
		return false
	})
	t.Logf("findings: %s", jsonText(s.Findings))
	quiet(t, ns, h, 4*time.Second)
	if got := lastSplit(h); got["v1"] != 100 || len(got) != 1 {
		t.Errorf("traffic moved: %s", got)
	}
	// The remedy is the Service that the story uses; then it goes on by itself.
	apply(t, ns, "00-service.yaml")
	if err := dropVersionFromSelector(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	until(t, ns, "v2 promoted", ended("v2", "promoted"))
	h.check(t, 3, 500*time.Millisecond, allow{})
}

func dropVersionFromSelector(ctx context.Context, ns string) error {
	_, err := the.Clients.CoreV1().Services(ns).Patch(ctx, "my-app-service", types.MergePatchType, []byte(`{"spec":{"selector":{"version":null}}}`), metav1.PatchOptions{})
	return err
}

// TestNeverReady: what keeps a canary from being ready is said in its words, and
// no traffic moves.
func TestNeverReady(t *testing.T) {
	for name, c := range map[string]struct {
		annotation string
		says       string
	}{
		"ImagePull":     {"lab.serin.dev/waiting: ImagePullBackOff", "cannot be pulled"},
		"CrashLoop":     {"lab.serin.dev/waiting: CrashLoopBackOff", "keeps crashing"},
		"Unschedulable": {"lab.serin.dev/unschedulable: 'yes'", ""},
	} {
		t.Run(name, func(t *testing.T) {
			together(t)
			ns := namespace(t)
			h := settled(t, ns, document(t, quickText, "  strategy:", "  capacity: {deadline: 12s}\n  strategy:"))
			b := strings.Replace(string(file(t, "04-deployment-v2.yaml")), "      labels: {app: my-app, version: v2}", "      labels: {app: my-app, version: v2}\n      annotations: {"+c.annotation+"}", 1)
			if err := the.Apply(t.Context(), ns, []byte(b)); err != nil {
				t.Fatal(err)
			}
			s := until(t, ns, "rolled back", func(s v1alpha1.RolloutStatus) bool {
				return ended("v2", "rolledBack")(s) && atRest("v1")(s)
			})
			says(t, s, "Ready", "False", "RolledBack")
			h.catchUp(t)
			if !h.said(c.says) {
				t.Errorf("that it %s was never said:\n%s", c.says, h)
			}
			if got := h.weightsOf("v2"); len(got) > 0 {
				t.Errorf("v2 was given %v", got)
			}
		})
	}
}
