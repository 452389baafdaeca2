package deployment_test

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(i string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "my-app-v2-5d8b7c9f6b-x" + i + "klm", Labels: map[string]string{"app": "my-app", "version": "v2", "pod-template-hash": "5d8b7c9f6b"},
	}}
	p.Status.Phase = corev1.PodRunning
	change(p)
	return p
}

func waiting(reason, message string, restarts int32, last *corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "app", Image: "my-registry/my-app:v2", RestartCount: restarts,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
			LastTerminationState: corev1.ContainerState{Terminated: last},
		}}
	}
}

// Each reason for not being ready is one sentence with the words of who knows.
func TestWhy(t *testing.T) {
	crash := waiting("CrashLoopBackOff", "back-off 10s restarting failed container", 3, &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error"})
	pull := waiting("ImagePullBackOff", "Back-off pulling image: not found", 0, nil)
	unschedulable := func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodPending
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available: 3 Insufficient cpu."}}
	}
	for name, c := range map[string]struct {
		pods       []*corev1.Pod
		conditions []appsv1.DeploymentCondition
		want       string
	}{
		"crash loop": {
			pods: []*corev1.Pod{pod("2", crash)},
			want: "my-app-v2-5d8b7c9f6b-x2klm: container app keeps crashing (3 restarts, last with exit code 2)",
		},
		"killed for memory": {
			pods: []*corev1.Pod{pod("2", waiting("CrashLoopBackOff", "", 1, &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}))},
			want: "my-app-v2-5d8b7c9f6b-x2klm: container app keeps crashing (1 restarts, last with exit code 137 OOMKilled)",
		},
		"image": {
			pods: []*corev1.Pod{pod("2", pull)},
			want: "my-app-v2-5d8b7c9f6b-x2klm: container app: image my-registry/my-app:v2 cannot be pulled (Back-off pulling image: not found)",
		},
		"the gravest first, and how many": {
			pods: []*corev1.Pod{pod("2", pull), pod("3", crash), pod("4", crash)},
			want: "my-app-v2-5d8b7c9f6b-x3klm (and 1 more like it): container app keeps crashing (3 restarts, last with exit code 2)",
		},
		"unschedulable": {
			pods: []*corev1.Pod{pod("2", unschedulable)},
			want: "my-app-v2-5d8b7c9f6b-x2klm: no node takes it: 0/3 nodes are available: 3 Insufficient cpu",
		},
		"probe": {
			pods: []*corev1.Pod{pod("2", func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
			})},
			want: "my-app-v2-5d8b7c9f6b-x2klm: container app runs and is not ready yet",
		},
		"configuration": {
			pods: []*corev1.Pod{pod("2", waiting("CreateContainerConfigError", `configmap "x" not found`, 0, nil))},
			want: `my-app-v2-5d8b7c9f6b-x2klm: container app: CreateContainerConfigError configmap "x" not found`,
		},
		"quota": {
			conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: `pods "my-app-v2-x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3`}},
			want:       `pods cannot be created: pods "my-app-v2-x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3`,
		},
		"too late": {
			conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: `ReplicaSet "my-app-v2-5d8b7c9f6b" has timed out progressing.`}},
			want:       `ReplicaSet "my-app-v2-5d8b7c9f6b" has timed out progressing`,
		},
		"nothing known":     {want: "0 of 2 pods are ready"},
		"another's trouble": {pods: []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "my-app-v1-5d8b7c9f6b-x2klm", Labels: map[string]string{"app": "my-app", "version": "v1"}}, Status: pod("2", crash).Status}}, want: "no pod was created yet"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.make("my-app-v2", "v2", 2)
			p.broken["my-app-v2"] = true
			p.step()
			p.pods = c.pods
			d := p.get("my-app-v2")
			d.Status.Conditions = c.conditions
			p.must(p.c.Status().Update(context.Background(), d))
			if w := p.look("my-app-v2"); w.Why != c.want || w.Ready != 0 || !w.ReadyKnown {
				t.Errorf("ready %d (known %v), why\n%s\nwant\n%s", w.Ready, w.ReadyKnown, w.Why, c.want)
			}
		})
	}
}

// Whose pods are asked for figures: those of the revision alone, also while a
// Deployment replaces them, and nobody's while pods are not looked at.
func TestPodsOfARevision(t *testing.T) {
	p := newPlace(t)
	p.make("my-app-v2", "v2", 2)
	p.step()
	rev := p.look("my-app-v2").Revision
	at := metav1.Now()
	of := func(name, hash string, age int) *corev1.Pod {
		x := pod("2", func(x *corev1.Pod) {})
		x.Name, x.Labels["pod-template-hash"] = name, hash
		x.CreationTimestamp = metav1.NewTime(at.Add(-time.Duration(age) * time.Second))
		return x
	}
	names := func() string {
		t.Helper()
		pods, err := p.w.PodsOf(context.Background(), rev)
		if err != nil {
			return "error"
		}
		var out []string
		for _, x := range pods {
			out = append(out, x.Name)
		}
		return strings.Join(out, " ")
	}
	if got := names(); got != "error" {
		t.Errorf("pods that nobody looks at are %q", got)
	}
	ended, other := of("ended", "new", 9), of("other", "new", 9)
	ended.Status.Phase = corev1.PodFailed
	other.Labels["version"] = "v1"
	p.pods = []*corev1.Pod{of("a-name-that-was-cut", "old", 60), ended, other, of("b", "new", 1)}
	if got := names(); got != "a-name-that-was-cut b" {
		t.Errorf("pods are %q", got)
	}
	d := p.get("my-app-v2")
	d.Status.Replicas, d.Status.UpdatedReplicas = 2, 1
	p.must(p.c.Status().Update(context.Background(), d))
	if got := names(); got != "b" {
		t.Errorf("while they are replaced, pods are %q, want those of the newest template", got)
	}
	rev = "v9@none"
	if got := names(); got != "" {
		t.Errorf("pods of a revision that is not there are %q", got)
	}
}

// A selector that does not name the version, which cannot be changed any more,
// takes in the pods of every version: each version's figures, and why it is not
// ready, are its own pods' all the same.
func TestSelectorsThatTakeInAllVersions(t *testing.T) {
	p := newPlace(t)
	for _, v := range []string{"v1", "v2"} {
		d := p.make("my-app-"+v, v, 1)
		d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "my-app"}}
		p.must(p.c.Update(context.Background(), d))
	}
	p.broken["my-app-v1"], p.broken["my-app-v2"] = true, true
	p.step()
	one := pod("2", func(x *corev1.Pod) { x.Name, x.Labels["version"] = "my-app-v1-5d8b7c9f6b-x2klm", "v1" })
	two := pod("2", waiting("CrashLoopBackOff", "", 3, nil))
	p.pods = []*corev1.Pod{one, two}
	for name, want := range map[string]*corev1.Pod{"my-app-v1": one, "my-app-v2": two} {
		seen := p.look(name)
		pods, err := p.w.PodsOf(context.Background(), seen.Revision)
		if err != nil || len(pods) != 1 || pods[0] != want {
			t.Errorf("%d pods of %s, error %v, want its own", len(pods), name, err)
		}
		if crashes := strings.Contains(seen.Why, "crashing"); crashes != (name == "my-app-v2") {
			t.Errorf("%s is not ready because %q", name, seen.Why)
		}
	}
}
