package deployment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// why says in one sentence why not all replicas are ready: the first thing
// that a person would have to look at, with the words of who refused it.
// ready is what the mesh would send to; watched says that pods is the truth.
func why(o object, ready int, readyErr error, pods []*corev1.Pod, watched bool) string {
	s := o.status
	if readyErr != nil {
		return readyErr.Error()
	}
	if c := s.condition("ReplicaFailure"); c.status == "True" {
		return "pods cannot be created: " + short(c.message)
	}
	if w := worst(pods); w != "" {
		return w
	}
	if c := s.condition("Progressing"); c.status == "False" {
		return short(cmp.Or(c.message, c.reason))
	}
	want := o.workload.Replicas
	switch {
	case s.stale || s.surplus > 0:
		return fmt.Sprintf("pods of its older template are still there (%d of %d are new)", s.updated, max(want, s.replicas))
	case s.ready > ready:
		return fmt.Sprintf("%d of its pods are ready, and the Service that the route names sends to %d of them", s.ready, ready)
	case watched && len(pods) == 0 && want > 0:
		return "no pod was created yet"
	case want == 0:
		return "it is scaled to 0"
	}
	return fmt.Sprintf("%d of %d pods are ready", ready, want)
}

func (s status) condition(kind string) condition {
	for _, c := range s.conditions {
		if c.kind == kind {
			return c
		}
	}
	return condition{}
}

// trouble is one pod's reason; a larger rank is told first.
type trouble struct {
	rank int
	pod  string
	text string
}

// worst is the gravest of the pods' troubles, with how many have the like.
func worst(pods []*corev1.Pod) string {
	var all []trouble
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		if t := troubleOf(p); t.rank > 0 {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.SortFunc(all, func(a, b trouble) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), strings.Compare(a.pod, b.pod))
	})
	like := 0
	for _, t := range all {
		if t.rank == all[0].rank {
			like++
		}
	}
	if like > 1 {
		return fmt.Sprintf("%s (and %d more like it): %s", all[0].pod, like-1, all[0].text)
	}
	return all[0].pod + ": " + all[0].text
}

// Ranks: what will not get better by itself is told before what may.
const (
	starting = iota + 1
	notReady
	unschedulable
	failing
	unpullable
	crashing
)

func troubleOf(p *corev1.Pod) trouble {
	t := trouble{pod: p.Name}
	take := func(rank int, format string, args ...any) {
		if rank > t.rank {
			t.rank, t.text = rank, fmt.Sprintf(format, args...)
		}
	}
	if p.Status.Phase == corev1.PodFailed {
		take(failing, "it has failed: %s", short(cmp.Or(p.Status.Message, p.Status.Reason, "no reason given")))
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			take(unschedulable, "no node takes it: %s", short(cmp.Or(c.Message, c.Reason)))
		}
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil {
			switch w.Reason {
			case "CrashLoopBackOff":
				take(crashing, "container %s keeps crashing (%d restarts%s)", c.Name, c.RestartCount, lastWords(c))
			case "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable":
				take(unpullable, "container %s: image %s cannot be pulled (%s)", c.Name, c.Image, short(cmp.Or(w.Message, w.Reason)))
			case "", "ContainerCreating", "PodInitializing":
				take(starting, "container %s is being created", c.Name)
			default:
				take(failing, "container %s: %s", c.Name, short(strings.TrimSpace(w.Reason+" "+w.Message)))
			}
			continue
		}
		if e := c.State.Terminated; e != nil && e.ExitCode != 0 {
			take(crashing, "container %s ended with exit code %d%s", c.Name, e.ExitCode, reason(e))
			continue
		}
		if c.State.Running != nil && !c.Ready && !isInit(p, c.Name) {
			if c.RestartCount > 0 {
				take(failing, "container %s runs again and is not ready (%d restarts%s)", c.Name, c.RestartCount, lastWords(c))
				continue
			}
			take(notReady, "container %s runs and is not ready yet", c.Name)
		}
	}
	if t.rank == 0 && p.Status.Phase == corev1.PodPending {
		take(starting, "it is pending")
	}
	return t
}

func isInit(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(p.Status.InitContainerStatuses, func(c corev1.ContainerStatus) bool { return c.Name == name })
}

func lastWords(c corev1.ContainerStatus) string {
	e := c.LastTerminationState.Terminated
	if e == nil {
		return ""
	}
	return fmt.Sprintf(", last with exit code %d%s", e.ExitCode, reason(e))
}

func reason(e *corev1.ContainerStateTerminated) string {
	switch {
	case e.Reason == "" || e.Reason == "Error":
		return ""
	}
	return " " + e.Reason
}

// short bounds words of others: one line, 300 bytes.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:297], "") + "..."
	}
	return strings.TrimRight(s, ".")
}
