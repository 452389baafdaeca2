package istio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// One Service for each version: what is peculiar to it.

// byHosts makes of subsets of the one Service Services of the versions.
func byHosts(o map[string]any) map[string]any {
	for _, kind := range kinds {
		for _, r := range list(o, "spec", kind) {
			for _, d := range list(r, "route") {
				destination := d.(map[string]any)["destination"].(map[string]any)
				if subset := text(destination, "subset"); subset != "" {
					destination["host"] = strings.Replace(text(destination, "host"), "-service", "-"+subset, 1)
					delete(destination, "subset")
				}
			}
		}
	}
	return o
}

// As TestAnyRouteAnySplit, with Services for subsets, some of which are not
// there.
func TestAnyRouteAnySplitByHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := byHosts(drawVirtualService(t))
		view := View{Namespace: "default", Label: "version", Versions: versions, Services: []Service{
			{Name: "my-app-service", Namespace: "default", Selector: map[string]string{"app": "my-app"}},
			{Name: "third0", Namespace: "default", Selector: map[string]string{"app": "third", "version": "v1"}},
		}}
		there := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"v1", "v2", "v3", "v7"}), 0, 4, rapid.ID).Draw(t, "services")
		for _, v := range there {
			view.Services = append(view.Services, Service{Name: "my-app-" + v, Namespace: "default", Selector: pods(v)})
		}
		if rapid.Bool().Draw(t, "named routes") {
			view.Routes = []string{"api", "tcp", "tls:x"}
		}
		original := skeleton(vs, view)
		noted := false
		for n := range rapid.IntRange(1, 4).Draw(t, "splits") {
			want := drawTraffic(t, n+1)
			after, wrote, carried := renders(t, vs, want, view)
			vs, noted = after, noted || wrote
			if !carried {
				continue
			}
			for _, s := range view.carrying(vs) {
				for _, p := range s.parts {
					if p.undivided || p.ours && want.Canary == "" && len(want.Keep) == 0 && p.value != view.value(want.Stable) {
						t.Fatalf("at rest %s names %v", s, p.raw)
					}
				}
			}
		}
		if after := skeleton(vs, view); after != original && noted {
			t.Fatalf("what is not ours was\n%s\nand is\n%s", original, after)
		}
	})
}

// hosts is a cluster with Services for these versions, made at a time.
func hosts(t *testing.T, made time.Time, of ...string) *cluster {
	t.Helper()
	objects := []map[string]any{object(t, `
kind: VirtualService
metadata: {name: my-app-vs}
spec: {hosts: [my-app], http: [{route: [{destination: {host: my-app-v1}}]}]}`)}
	c := newCluster(t, objects...)
	for _, v := range of {
		c.serve(t, made, v)
	}
	return c
}

// serve gives a version a Service.
func (c *cluster) serve(t *testing.T, made time.Time, version string) {
	t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "my-app-" + version, Namespace: "default", CreationTimestamp: metav1.NewTime(made)}}
	s.Spec.Selector = pods(version)
	if err := c.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func byService(cfg *Config) {
	cfg.Targets[0].DestinationRule = ""
	cfg.Versions = func(context.Context) ([]Version, error) {
		return append(slices.Clone(versions), Version{v3, pods("v3")}), nil
	}
}

func waits(t *testing.T, r *Router, want rollout.Traffic, after time.Duration) {
	t.Helper()
	observe(t, r)
	err := r.Apply(bg, want)
	var wait *engine.ThrottledError
	if !errors.As(err, &wait) || wait.After != after || engine.KindOf(err) != engine.Retry {
		t.Fatalf("error %v, want to be told to come back in %v", err, after)
	}
}

// A Service that the proxies may not know yet gets nothing; how old it is, is
// what counts, also for a controller that was started just now. One that selects
// other pods since is as good as new.
func TestAServiceSettlesBeforeItIsRoutedTo(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := hosts(t, now.Add(-time.Hour), "v1", "v2")
	at := func(cfg *Config) {
		cfg.Targets[0].Settle = 10 * time.Second
		cfg.Now = func() time.Time { return now }
	}
	r := c.router(t, byService, at)
	put(t, r, split(1, v2, 500)) // v2's was there long ago
	put(t, r, split(2, v2, 0))
	c.serve(t, now, "v3")
	now = now.Add(4 * time.Second)
	put(t, r, split(3, v3, 0))
	waits(t, r, split(4, v3, 500), 6*time.Second)
	waits(t, c.router(t, byService, at), split(4, v3, 500), 6*time.Second)
	now = now.Add(6 * time.Second)
	put(t, r, split(4, v3, 500))
	put(t, r, split(5, v3, 5000)) // it has traffic: no wait
	put(t, r, split(6, v3, 0))

	var s corev1.Service
	key := types.NamespacedName{Namespace: "default", Name: "my-app-v3"}
	if err := c.Get(bg, key, &s); err != nil {
		t.Fatal(err)
	}
	s.Spec.Selector = map[string]string{"version": "v3"}
	if err := c.Update(bg, &s); err != nil {
		t.Fatal(err)
	}
	waits(t, r, split(7, v3, 500), 10*time.Second)
}

// A Service that was deleted in mid-rollout: the share that still goes there is
// known, the canary is taken back, and nothing is raised.
func TestAServiceGoesInMidRollout(t *testing.T) {
	for _, gone := range []string{"v1", "v2"} {
		t.Run(gone, func(t *testing.T) {
			c := hosts(t, time.Time{}, "v1", "v2")
			r := c.router(t, byService, func(cfg *Config) { cfg.Targets[0].Settle = time.Minute })
			put(t, r, split(1, v2, 1000))
			if err := c.Delete(bg, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "my-app-" + gone, Namespace: "default"}}); err != nil {
				t.Fatal(err)
			}
			for _, r := range []*Router{r, c.router(t, byService)} { // and for one that never saw it
				if got := observe(t, r); !maps.Equal(got.Weights, split(1, v2, 1000).Weights()) {
					t.Fatalf("seen %v", got.Weights)
				}
			}
			found, err := r.Check(bg, v1, v2, nil)
			if err != nil || !slices.ContainsFunc(found, func(f rollout.Finding) bool {
				return f.Level == rollout.Refuse && strings.Contains(f.What, "sends to my-app-"+gone+", and there is no such Service")
			}) {
				t.Errorf("found %+v, error %v", found, err)
			}
			put(t, r, split(2, v2, 0))
			put(t, r, rollout.Traffic{N: 3, Stable: v1, Condemned: []rollout.Revision{v2}})
			if gone == "v2" {
				observe(t, r)
				if err := r.Apply(bg, split(4, v2, 1000)); !errors.Is(err, engine.ErrRefused) {
					t.Errorf("error %v", err)
				}
			}
		})
	}
}

// Readiness is counted behind the Services that stand for one version, also for
// one that no route names yet; the Service of all versions says nothing.
func TestServicesOfVersions(t *testing.T) {
	c := hosts(t, time.Time{}, "v1", "v2")
	for name, selector := range map[string]string{"my-app": "my-app", "shop": "shop"} {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
		s.Spec.Selector = map[string]string{"app": selector}
		if err := c.Create(bg, s); err != nil {
			t.Fatal(err)
		}
	}
	r := c.router(t, byService)
	got, err := r.Services(bg)
	if fmt.Sprint(got) != "[default/my-app-v1 default/my-app-v2]" || err != nil || !r.ByService() {
		t.Errorf("%v, error %v", got, err)
	}
	subsets := newCluster(t, file(t, "03-virtualservice.yaml"), file(t, "02-destinationrule.yaml")).router(t)
	if got, err := subsets.Services(bg); len(got) > 0 || err != nil || subsets.ByService() {
		t.Errorf("with subsets: %v, error %v", got, err)
	}
}
