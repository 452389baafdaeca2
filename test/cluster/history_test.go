package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/serin-dev/serin/test/cluster/lab"
)

// history is every state that the objects of one namespace had, in the order in
// which the API server wrote them: all kinds share one sequence of resource
// versions.
type history struct {
	ns     string
	mu     sync.Mutex
	events []change
	stop   func()
}

type change struct {
	version uint64 // of the store: orders all changes
	at      time.Time
	deleted bool
	kind    string
	name    string
	obj     *unstructured.Unstructured
}

// recorded are the kinds that are watched.
var recorded = map[string]schema.GroupVersionResource{
	"VirtualService": virtualServices, "DestinationRule": destinationRules, "Deployment": deployments, "Rollout": rollouts, "EndpointSlice": endpointSlices,
}

// record watches a namespace from now on, until the test ends.
func record(t *testing.T, ns string) *history {
	t.Helper()
	h := &history{ns: ns}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	h.stop = func() { cancel(); all.Wait() }
	t.Cleanup(h.stop)
	for kind, gvr := range recorded {
		var ws []watch.Interface
		w, err := the.Dynamic.Resource(gvr).Namespace(ns).Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			t.Fatalf("watching %s: %v", kind, err)
		}
		ws = append(ws, w)
		all.Go(func() { h.follow(ctx, kind, gvr, ns, ws[0]) })
	}
	return h
}

// follow keeps watching also when the API server goes and comes back.
func (h *history) follow(ctx context.Context, kind string, gvr schema.GroupVersionResource, ns string, w watch.Interface) {
	last := "0"
	for {
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				last = "0"
				break
			}
			v, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
			if err != nil {
				continue
			}
			last = u.GetResourceVersion()
			h.mu.Lock()
			h.events = append(h.events, change{version: v, at: time.Now(), deleted: e.Type == watch.Deleted, kind: kind, name: u.GetName(), obj: u})
			h.mu.Unlock()
		}
		w.Stop()
		for {
			if ctx.Err() != nil {
				return
			}
			var err error
			if w, err = the.Dynamic.Resource(gvr).Namespace(ns).Watch(ctx, metav1.ListOptions{ResourceVersion: last}); err == nil {
				break
			}
			last = "0"
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// catchUp waits until everything that the API server has now was heard of: on a
// busy machine a watch is late, and each of them by another time.
func (h *history) catchUp(t *testing.T) {
	t.Helper()
	for kind, gvr := range recorded {
		l, err := the.Dynamic.Resource(gvr).Namespace(h.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range l.Items {
			v, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "word of "+kind+" "+u.GetName(), func() (bool, error) {
				h.mu.Lock()
				defer h.mu.Unlock()
				return slices.ContainsFunc(h.events, func(c change) bool { return c.kind == kind && c.name == u.GetName() && c.version >= v }), nil
			})
		}
	}
}

// clock tells when the API server took in a write to a route or a Deployment.
// The watch hears of each at a time of its own, which says nothing about the time
// between two of them. What is not in the server's log was written by the
// cluster's own components; there it is when we heard of it.
func (h *history) clock(t *testing.T) func(change) time.Time {
	t.Helper()
	all, err := the.Requests("", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	at := map[uint64]time.Time{}
	gone := map[string]time.Time{} // Deployments that somebody deleted
	for _, r := range all {
		if r.Namespace != h.ns {
			continue
		}
		// A write that changes nothing is answered with the version that was there.
		if first, ok := at[r.Version]; r.Version > 0 && r.Verb != "delete" && (!ok || r.At.Before(first)) {
			at[r.Version] = r.At
		}
		if r.Verb == "delete" && r.Resource == "deployments" && r.Code == 200 {
			gone[r.Name] = r.At
		}
	}
	return func(c change) time.Time {
		if when, ok := gone[c.name]; ok && c.deleted {
			return when
		}
		if when, ok := at[c.version]; ok && !c.deleted {
			return when
		}
		return c.at
	}
}

// changes lists what happened so far, in the store's order, each change once.
func (h *history) changes() []change {
	h.mu.Lock()
	all := slices.Clone(h.events)
	h.mu.Unlock()
	slices.SortStableFunc(all, func(a, b change) int { return cmp.Compare(a.version, b.version) })
	return slices.CompactFunc(all, func(a, b change) bool { return a.version == b.version && a.kind == b.kind && a.name == b.name })
}

// split is a route's weights by subset, in percent.
type split map[string]float64

func (s split) String() string {
	var out []string
	for k, w := range s {
		out = append(out, fmt.Sprintf("%s %g", k, w))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func splitOf(vs *unstructured.Unstructured) split { return lab.Split(vs) }

// splits lists the splits that the route had, in order, with when; equal
// neighbours are one.
type moment struct {
	at    time.Time
	split split
	note  string
}

func (h *history) splits() []moment {
	var out []moment
	for _, c := range h.changes() {
		if c.kind != "VirtualService" || c.deleted {
			continue
		}
		s := splitOf(c.obj)
		if n := len(out); n > 0 && out[n-1].split.String() == s.String() {
			continue
		}
		out = append(out, moment{c.at, s, c.obj.GetAnnotations()["serin.dev/note"]})
	}
	return out
}

// said tells whether any status of the Rollout had these words, in its message
// or about its canary.
func (h *history) said(words string) bool {
	return slices.ContainsFunc(h.changes(), func(c change) bool {
		message, _, _ := unstructured.NestedString(c.obj.Object, "status", "message")
		why, _, _ := unstructured.NestedString(c.obj.Object, "status", "canary", "why")
		return c.kind == "Rollout" && (strings.Contains(message, words) || strings.Contains(why, words))
	})
}

// weightsOf lists the weights that a version had, in order.
func (h *history) weightsOf(version string) []float64 {
	var out []float64
	for _, m := range h.splits() {
		w := m.split[version]
		if len(out) == 0 && w == 0 {
			continue
		}
		if len(out) == 0 || out[len(out)-1] != w {
			out = append(out, w)
		}
	}
	return out
}

// rules of a check that a story breaks on purpose.
type allow struct {
	foreignRoutes bool // somebody else writes the route
	foreignScale  bool // somebody else scales
}

// check holds every recorded write to the invariants of traffic: whole sums, no
// share without a subset and ready pods, nothing taken away that has a share or
// had one a moment ago, at most two versions with a share.
func (h *history) check(t *testing.T, stableReplicas int, settle time.Duration, allowed allow) {
	t.Helper()
	h.catchUp(t)
	when := h.clock(t)
	versions := map[string]int64{}         // pods wanted, by version
	slices := map[string]map[string]bool{} // ready pods, by slice
	readyOf := func(version string) (n int64) {
		for _, pods := range slices {
			for p, ok := range pods {
				if ok && strings.HasPrefix(p, "my-app-"+version+"-") {
					n++
				}
			}
		}
		return n
	}
	subsets := map[string]bool{}
	var now split
	zeroAt := map[string]time.Time{} // when a version lost its share
	for _, c := range h.changes() {
		switch c.kind {
		case "DestinationRule":
			subsets = map[string]bool{}
			list, _, _ := unstructured.NestedSlice(c.obj.Object, "spec", "subsets")
			for _, s := range list {
				name, _, _ := unstructured.NestedString(s.(map[string]any), "name")
				name = strings.TrimPrefix(name, "serin-")
				subsets[name] = !c.deleted
			}
			for v, w := range now {
				if w > 0 && !subsets[v] && !c.deleted {
					t.Errorf("subset %s was taken away while it had %g %%", v, w)
				}
			}
		case "Deployment":
			label, _, _ := unstructured.NestedString(c.obj.Object, "spec", "template", "metadata", "labels", "version")
			was := versions[label]
			want, _, _ := unstructured.NestedInt64(c.obj.Object, "spec", "replicas")
			fell := want < was || c.deleted
			if fell && now[label] > 0 && !allowed.foreignScale {
				t.Errorf("%s was scaled from %d to %d (deleted: %v) while it had %g %%", c.name, was, want, c.deleted, now[label])
			}
			if z, ok := zeroAt[label]; ok && fell && !allowed.foreignScale && when(c).Sub(z) < settle {
				t.Errorf("%s was scaled from %d to %d %s after it lost its share, settle is %s", c.name, was, want, when(c).Sub(z), settle)
			}
			versions[label] = want
		case "EndpointSlice":
			pods := map[string]bool{}
			list, _, _ := unstructured.NestedSlice(c.obj.Object, "endpoints")
			for _, e := range list {
				name, _, _ := unstructured.NestedString(e.(map[string]any), "targetRef", "name")
				pods[name], _, _ = unstructured.NestedBool(e.(map[string]any), "conditions", "ready")
			}
			if c.deleted {
				pods = nil
			}
			slices[c.name] = pods
		case "VirtualService":
			if c.deleted {
				now = nil
				continue
			}
			s := splitOf(c.obj)
			sum, sharing := 0.0, 0
			for v, w := range s {
				sum += w
				if w > 0 {
					sharing++
				}
				if !subsets[v] {
					t.Errorf("the route names subset %s (%g %%), which is not there", v, w)
				}
				need := int64(math.Max(1, math.Ceil(w/100*float64(stableReplicas)-1e-9)))
				if n := readyOf(v); w > now[v] && now != nil && !allowed.foreignRoutes && n < need {
					t.Errorf("%s was given %g %%, which needs %d ready pods; %d are ready", v, w, need, n)
				}
			}
			if sum != 100 {
				t.Errorf("the weights are %s: a sum of %g", s, sum)
			}
			if sharing > 2 {
				t.Errorf("%d versions share: %s", sharing, s)
			}
			for v, w := range now {
				if w > 0 && s[v] == 0 {
					zeroAt[v] = when(c)
				}
			}
			for v, w := range s {
				if w > 0 {
					delete(zeroAt, v)
				}
			}
			now = s
		}
	}
	if t.Failed() {
		t.Logf("what the API server wrote:\n%s", h)
	}
}

// String is the history for people.
func (h *history) String() string {
	var b strings.Builder
	all := h.changes()
	if len(all) == 0 {
		return "nothing"
	}
	begun := all[0].at
	for _, c := range all {
		what := ""
		switch c.kind {
		case "VirtualService":
			what = splitOf(c.obj).String()
		case "Deployment":
			want, _, _ := unstructured.NestedInt64(c.obj.Object, "spec", "replicas")
			ready, _, _ := unstructured.NestedInt64(c.obj.Object, "status", "readyReplicas")
			what = fmt.Sprintf("%d wanted, %d ready", want, ready)
		case "Rollout":
			phase, _, _ := unstructured.NestedString(c.obj.Object, "status", "phase")
			message, _, _ := unstructured.NestedString(c.obj.Object, "status", "message")
			what = phase + ": " + message
		case "EndpointSlice":
			list, _, _ := unstructured.NestedSlice(c.obj.Object, "endpoints")
			what = fmt.Sprintf("%d endpoints", len(list))
		default:
			list, _, _ := unstructured.NestedSlice(c.obj.Object, "spec", "subsets")
			what = fmt.Sprintf("%d subsets", len(list))
		}
		if c.deleted {
			what = "deleted"
		}
		fmt.Fprintf(&b, "%7.2fs %6d %-16s %-14s %s\n", c.at.Sub(begun).Seconds(), c.version, c.kind, c.name, what)
	}
	return b.String()
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
