package controller

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/metric/prometheus"
	"github.com/serin-dev/serin/internal/rollout"
)

// The hard cases, followed from what the cluster shows to what is done in it.

func (w *world) command(verb v1alpha1.CommandVerb) {
	w.t.Helper()
	w.must(w.api.Create(context.Background(), &v1alpha1.RolloutCommand{
		ObjectMeta: metav1.ObjectMeta{Name: "alice-" + string(verb), Namespace: ns, CreationTimestamp: metav1.Now()},
		Spec:       v1alpha1.RolloutCommandSpec{Rollout: "my-app", Verb: verb, By: "alice"},
	}))
}

// promoted brings v2 to rest, with v1 retired.
func (w *world) promoted() {
	w.t.Helper()
	w.canary()
	w.until("v2 is stable and v1 is retired", func() bool { return w.idle() && w.stable() == "v2" && w.replicas("my-app-v1") == 0 })
}

// during passes for so long.
func (w *world) during(d time.Duration, always func()) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(min(max(w.wake, time.Millisecond), time.Second)) {
		w.pass()
		always()
		if w.wake == 0 {
			w.wake = time.Second
		}
	}
}

// part makes a Deployment that shares a version's label with another one.
func (w *world) part(name, version string, replicas int32) {
	w.t.Helper()
	set := map[string]string{"app": "my-app", "version": version, "part": name}
	w.must(w.api.Create(context.Background(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, UID: types.UID("uid-" + name), Generation: 1, CreationTimestamp: metav1.Now()},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: set}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: set},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "my-registry/my-app:" + version}}},
		}},
	}))
	w.step()
}

// Two Deployments under one version label: no route can tell them apart. It is
// said before traffic moves, and none of them is scaled away.
func TestTwoDeploymentsOfOneVersion(t *testing.T) {
	bubble(t, func(w *world) {
		w.adopt()
		time.Sleep(time.Second)
		w.part("my-app-v1-b", "v1", 4)
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Capacity.Deadline = &v1alpha1.Duration{Duration: 30 * time.Second} })
		w.deploy("v2", 2)
		w.step()
		w.during(time.Minute, func() { // well past the deadline
			if n := w.replicas("my-app-v1-b"); n != 4 {
				t.Fatalf("half of v1 has %d replicas, while it serves", n)
			}
		})
		c := w.condition(v1alpha1.ConditionStalled)
		if !strings.Contains(c.Message, "my-app-v1 and my-app-v1-b all have pods of version v1") || w.weights()["v2"] != 0 {
			t.Errorf("Stalled is %+v, and the route sends %v", c, w.weights())
		}
		w.must(w.api.Delete(context.Background(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "my-app-v1-b"}}))
		w.step()
		w.until("v2 goes on", func() bool { return w.weights()["v2"] == 5 })
	})
}

// What keeps a release from starting does not keep users on what a person, or
// Git, goes back from.
func TestGoingBackIsNotHeldUp(t *testing.T) {
	for name, then := range map[string]func(w *world){
		"Undo": func(w *world) { w.command(v1alpha1.VerbUndo) },
		"ByGit": func(w *world) {
			w.must(w.api.Delete(context.Background(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "my-app-v2"}}))
			w.broken["my-app-v1"] = true // so that it is prepared
			w.step()
			w.during(5*time.Second, func() {})
			delete(w.broken, "my-app-v1")
			w.step()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.promoted()
				w.edit(func(d *v1alpha1.Rollout) {
					d.Spec.Analysis.None, d.Spec.Analysis.Source = nil, v1alpha1.SourcePrometheus // there is none
				})
				then(w)
				began := time.Now()
				w.until("v1 is stable", func() bool { return w.idle() && w.stable() == "v1" && w.weights()["v1"] == 100 })
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// A query that was put right while a rollout waits for its answers is asked at
// once; where the figures come from stays, for a new process, too.
func TestEditedQueriesAreAskedAtOnce(t *testing.T) {
	bubble(t, func(w *world) {
		reader, err := prometheus.New(prometheus.Config{Address: "http://127.0.0.1:1"})
		w.must(err)
		defer reader.Close()
		w.c.prom = reader
		least := v1alpha1.Number(98)
		ask := func(query string) {
			w.edit(func(d *v1alpha1.Rollout) {
				d.Spec.Analysis = v1alpha1.Analysis{Metrics: []v1alpha1.Metric{{Name: "success", Min: &least, Prometheus: &v1alpha1.PrometheusMetric{Query: query}}}}
			})
		}
		ask(`sum(rate(wrong{version="{{version}}"}[1m]))`)
		w.adopt()
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		// Nobody's figures can be had: users are not shown what cannot be judged,
		// unless a person says so.
		w.during(time.Minute, func() {
			if got := w.weights(); got["v2"] != 0 {
				t.Fatalf("the route sends %v, and nothing can be judged", got)
			}
		})
		if got := w.rollout().Status.Message; !strings.Contains(got, "the pods of v1 have given no figures yet") {
			t.Errorf("the message is %q", got)
		}
		before := w.c.app(w.key()).custom
		ask(`sum(rate(right{version="{{version}}"}[1m]))`)
		w.pass()
		a := w.c.app(w.key())
		if a.custom == before || a.custom == nil {
			t.Error("the query that was put right is not asked")
		}
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Analysis.Source = v1alpha1.SourcePrometheus })
		w.c.forget(w.key())
		w.pass()
		if got := w.c.app(w.key()).pending; got == nil {
			t.Error("a new process takes the figures from elsewhere, in the middle of a rollout")
		}
		w.must(w.api.Create(context.Background(), &v1alpha1.RolloutCommand{
			ObjectMeta: metav1.ObjectMeta{Name: "alice-full", Namespace: ns, CreationTimestamp: metav1.Now()},
			Spec:       v1alpha1.RolloutCommandSpec{Rollout: "my-app", Verb: v1alpha1.VerbPromote, By: "alice", Full: true},
		}))
		w.until("v2 has everything", func() bool { return w.weights()["v2"] == 100 })
	})
}

// A Rollout that is made anew, after others have moved the traffic, does not
// take the note of its former life for the truth.
func TestAnOldNoteMovesNobody(t *testing.T) {
	bubble(t, func(w *world) {
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Promotion.Retire = v1alpha1.RetireKeep })
		w.canary()
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" && len(w.rollout().Finalizers) == 0 })
		w.must(w.api.Delete(context.Background(), w.rollout()))
		w.pass()
		time.Sleep(time.Hour)
		w.deploy("v3", 3)
		w.step()
		dr, vs := raw(ruleKind), raw(routeKind)
		w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "my-app-dest"}, dr))
		dr.Object["spec"].(map[string]any)["subsets"] = []any{map[string]any{"name": "v3", "labels": map[string]any{"version": "v3"}}}
		w.must(w.api.Update(context.Background(), dr))
		w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "my-app-vs"}, vs))
		vs.Object["spec"].(map[string]any)["http"] = []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "my-app-service", "subset": "v3"}, "weight": int64(100)}}}}
		w.must(w.api.Update(context.Background(), vs))
		w.document(quickDocument)
		w.during(time.Minute, func() {
			if got := w.weights(); got["v3"] != 100 {
				t.Fatalf("the route sends %v, and everything went to v3", got)
			}
		})
		if w.stable() != "v3" {
			t.Errorf("stable is %s: %v", w.stable(), w.told())
		}
	})
}

func TestTwins(t *testing.T) {
	seen := rollout.Workloads{Items: []rollout.Workload{
		{Revision: "v1@1", Name: "web-v1", Replicas: 3}, {Revision: "v1@2", Name: "worker-v1", Replicas: 1},
		{Revision: "v2@1", Name: "web-v2", Replicas: 3}, {Revision: "v2@2", Name: "old-v2"},
	}}
	levels := func(stable, canary rollout.Revision) (out []rollout.Level) {
		for _, f := range twinFindings(seen, stable, canary) {
			out = append(out, f.Level)
		}
		return out
	}
	for i, c := range []struct {
		stable, canary rollout.Revision
		want           []rollout.Level
	}{
		{"v1@1", "", []rollout.Level{rollout.Warn}},
		{"v1@1", "v2@1", []rollout.Level{rollout.Refuse}},
		{"v2@1", "", nil}, // what has no replicas is in nobody's way
		{"v2@1", "v1@1", []rollout.Level{rollout.Refuse}},
	} {
		if got := levels(c.stable, c.canary); !slices.Equal(got, c.want) {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
}

// An autoscaler keeps its raised minimum for a while after the traffic came
// back, and has it no longer than the Rollout is there.
func TestAnAutoscalerHasItsMinimumBackInTime(t *testing.T) {
	for name, gone := range map[string]bool{"AtRest": false, "Deleted": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.must(w.api.Create(context.Background(), &autoscalingv2.HorizontalPodAutoscaler{
					ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: ns, UID: "one"},
					Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
						MinReplicas: new(int32(1)), MaxReplicas: 10,
						ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "my-app-v1"},
					},
				}))
				least := func() int32 {
					h := &autoscalingv2.HorizontalPodAutoscaler{}
					w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "one"}, h))
					return *h.Spec.MinReplicas
				}
				w.canary()
				w.command(v1alpha1.VerbAbort)
				w.until("v2 is taken back", w.idle)
				w.during(time.Minute, func() {
					if n := least(); n != 3 {
						t.Fatalf("a moment after v1 got everything again its autoscaler may go down to %d", n)
					}
				})
				if gone {
					w.must(w.api.Delete(context.Background(), w.rollout()))
					w.until("the Rollout is gone", func() bool {
						return apierrors.IsNotFound(w.api.Get(context.Background(), w.key(), &v1alpha1.Rollout{}))
					})
				} else {
					w.during(2*time.Minute, func() {})
					if f := w.rollout().Finalizers; len(f) != 0 {
						t.Errorf("finalizers %v, and nothing is owed", f)
					}
				}
				if n := least(); n != 1 {
					t.Errorf("the minimum is %d, and its author's was 1", n)
				}
			})
		})
	}
}

// A process that was stopped for longer than the lease lasts, in the middle of a
// pass, takes no version away: by now users may have been sent back to it.
func TestNothingIsTakenAwayWithoutTheLease(t *testing.T) {
	bubble(t, func(w *world) {
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Promotion.RetireAfter = &v1alpha1.Duration{Duration: time.Minute} })
		w.canary()
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
		w.c.began, w.c.o.LeaderElect = time.Now(), true
		w.c.renewed.Store(1)
		w.during(2*time.Minute, func() {
			if n := w.replicas("my-app-v1"); n != 3 {
				t.Fatalf("v1 has %d replicas", n)
			}
		})
		w.c.o.LeaderElect = false
		w.until("v1 is retired", func() bool { return w.replicas("my-app-v1") == 0 })
	})
}

// A route that does not carry the split, and sends to the old version, keeps it:
// its users would have nobody.
func TestAVersionThatAnotherRouteSendsToIsKept(t *testing.T) {
	bubble(t, func(w *world) {
		to := func(name, subset string) map[string]any {
			return map[string]any{"name": name, "route": []any{map[string]any{"destination": map[string]any{"host": "my-app-service", "subset": subset}}}}
		}
		legacy := to("legacy", "v1")
		legacy["match"] = []any{map[string]any{"uri": map[string]any{"prefix": "/legacy"}}}
		route := func(others ...any) {
			vs := raw(routeKind)
			w.must(w.api.Get(context.Background(), types.NamespacedName{Namespace: ns, Name: "my-app-vs"}, vs))
			http, _ := vs.Object["spec"].(map[string]any)["http"].([]any)
			if len(http) == 0 || len(others) > 0 {
				http = []any{to("api", "v1")}
			}
			vs.Object["spec"].(map[string]any)["http"] = append(others, http[len(http)-1])
			w.must(w.api.Update(context.Background(), vs))
		}
		route(legacy)
		w.edit(func(d *v1alpha1.Rollout) { d.Spec.Traffic[0].Istio.Routes = []string{"api"} })
		w.adopt()
		time.Sleep(time.Second)
		w.deploy("v2", 2)
		w.step()
		w.until("v2 is stable", func() bool { return w.idle() && w.stable() == "v2" })
		w.during(5*time.Minute, func() {
			if n := w.replicas("my-app-v1"); n != 3 {
				t.Fatalf("v1 has %d replicas, and a route sends to it", n)
			}
		})
		if got := w.told(); !slices.Contains(got, "Mentioned") {
			t.Errorf("nobody is told: %v", got)
		}
		route()
		w.until("v1 is retired", func() bool { return w.replicas("my-app-v1") == 0 })
	})
}
