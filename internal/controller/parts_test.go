package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

func TestInbox(t *testing.T) {
	enginetest.TestInbox(t, func(t *testing.T) enginetest.InboxFixture {
		c := fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.RolloutCommand{}).Build()
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		return enginetest.InboxFixture{
			Inbox: &inbox{client: c, key: types.NamespacedName{Namespace: ns, Name: "my-app"}, events: func() []rollout.Event { return nil }, now: time.Now},
			Send: func(cmd rollout.Command) {
				at = at.Add(time.Second)
				for _, of := range []string{"my-app", "another"} { // whose commands are not ours
					err := c.Create(context.Background(), &v1alpha1.RolloutCommand{
						ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: strings.TrimPrefix(of+"-", "my-app-") + cmd.ID, CreationTimestamp: metav1.NewTime(at)},
						Spec: v1alpha1.RolloutCommandSpec{
							Rollout: of, Verb: v1alpha1.CommandVerb(cmd.Verb), By: cmd.By, Reason: cmd.Reason,
							Revision: string(cmd.Revision), N: int64(cmd.N), Full: cmd.Full, Override: cmd.Override, Groups: cmd.Groups,
						},
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			},
		}
	})
}

// lagging is a cache that has not heard of writes since it was frozen.
func lagging(t *testing.T) (own *ownClient, freeze func(), api client.Client) {
	base := fake.NewClientBuilder().WithScheme(Scheme()).Build()
	var then *corev1.ServiceList
	cached := interceptor.NewClient(base, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if then == nil {
				return c.Get(ctx, key, obj, opts...)
			}
			for i := range then.Items {
				if s, ok := obj.(*corev1.Service); ok && then.Items[i].Name == key.Name {
					then.Items[i].DeepCopyInto(s)
					return nil
				}
			}
			return c.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if l, ok := list.(*corev1.ServiceList); ok && then != nil {
				then.DeepCopyInto(l)
				return nil
			}
			return c.List(ctx, list, opts...)
		},
	})
	return newOwnClient(cached), func() {
		then = &corev1.ServiceList{}
		if err := base.List(context.Background(), then); err != nil {
			t.Fatal(err)
		}
	}, base
}

// A cache that lags gives back what was written through it, and no longer than
// it lags.
func TestOwnWritesAreReadBack(t *testing.T) {
	ctx := context.Background()
	own, freeze, api := lagging(t)
	key := types.NamespacedName{Namespace: ns, Name: "a"}
	for _, name := range []string{"a", "b"} {
		if err := api.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	freeze()
	patch := func(value string) {
		t.Helper()
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "a"}}
		body := fmt.Sprintf(`{"metadata":{"labels":{"x":%q}}}`, value)
		if err := own.Patch(ctx, s, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (got, listed string) {
		t.Helper()
		var s corev1.Service
		var l corev1.ServiceList
		if err := own.Get(ctx, key, &s); err != nil {
			t.Fatal(err)
		}
		if err := own.List(ctx, &l); err != nil || len(l.Items) != 2 {
			t.Fatalf("%d listed, error %v", len(l.Items), err)
		}
		for _, i := range l.Items {
			if i.Name == "a" {
				listed = i.Labels["x"]
			}
		}
		return s.Labels["x"], listed
	}
	for _, v := range []string{"1", "2"} {
		patch(v)
		if got, listed := read(); got != v || listed != v {
			t.Errorf("read %q and listed %q, want our own %q", got, listed, v)
		}
	}
	// Somebody else writes, and the cache hears of it.
	s := &corev1.Service{}
	if err := api.Get(ctx, key, s); err != nil {
		t.Fatal(err)
	}
	s.Labels["x"] = "theirs"
	if err := api.Update(ctx, s); err != nil {
		t.Fatal(err)
	}
	freeze()
	if got, listed := read(); got != "theirs" || listed != "theirs" {
		t.Errorf("read %q and listed %q, want the later write of somebody else", got, listed)
	}
	if len(own.wrote) != 0 {
		t.Errorf("%d writes are still kept", len(own.wrote))
	}
}

func TestIndex(t *testing.T) {
	x := newIndex()
	key := func(s string) types.NamespacedName {
		n, name, _ := strings.Cut(s, "/")
		return types.NamespacedName{Namespace: n, Name: name}
	}
	selector := func(app string) labels.Selector { return labels.SelectorFromSet(labels.Set{"app": app}) }
	x.set(key("a/one"), about{selector: selector("one"), routes: []types.NamespacedName{key("a/vs")}, services: []types.NamespacedName{key("b/svc")}})
	x.set(key("a/two"), about{selector: selector("two"), routes: []types.NamespacedName{key("a/vs")}, rules: []types.NamespacedName{key("a/dr")}})
	x.set(key("b/one"), about{selector: selector("one")})
	x.set(key("a/one"), about{selector: selector("one"), routes: []types.NamespacedName{key("a/vs")}}) // Services not known now
	for what, c := range map[string]struct {
		got  []types.NamespacedName
		want string
	}{
		"pods' labels":                       {x.byPodLabels("a", map[string]string{"app": "one"}), "[a/one]"},
		"a route of two":                     {x.byRoute(key("a/vs")), "[a/one a/two]"},
		"a route of the same name elsewhere": {x.byRoute(key("b/vs")), "[]"},
		"a rule":                             {x.byRule(key("a/dr")), "[a/two]"},
		"a Service in another namespace":     {x.byService(key("b/svc")), "[a/one]"},
	} {
		var s []string
		for _, k := range c.got {
			s = append(s, k.String())
		}
		slices.Sort(s)
		if got := fmt.Sprint(s); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	x.drop(key("a/one"))
	x.drop(key("a/two"))
	x.drop(key("b/one"))
	if len(x.all) != 0 {
		t.Errorf("left over: %v", x.all)
	}
}

func TestHostsAndServices(t *testing.T) {
	for host, want := range map[string]string{
		"my-app":                         "shop/my-app",
		"my-app.other.svc":               "other/my-app",
		"my-app.other.svc.cluster.local": "other/my-app",
		"api.example.com":                "",
		"*":                              "",
		"":                               "",
	} {
		got, ok := serviceOf(host, ns)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q is %s (%v), want %q", host, got, ok, want)
		}
	}
	odd := map[string]any{"spec": map[string]any{
		"http": []any{"no route", map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "a"}}, 7}}},
		"tcp":  []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "b"}}}}},
		"tls":  "nothing",
	}}
	if got := hostsOf(odd); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("hosts %v", got)
	}
}

// Counts go up with what the pods say they have answered, whatever pods do.
func TestCounts(t *testing.T) {
	c := newCounts()
	at := time.Now()
	look := func(stable, canary []analysis.Pod) {
		at = at.Add(time.Second)
		res := engine.Result{At: at, Sampled: &engine.Sampled{Stable: stable, Canary: canary}}
		res.Before.Stable.Revision, res.Before.Canary.Revision = "v1@1", "v2@2"
		c.add(res)
	}
	pod := func(name string, n float64) analysis.Pod {
		return analysis.Pod{Name: name, Has: analysis.HasRequests, Requests: n}
	}
	if _, known := c.measured(context.Background()); known {
		t.Error("something is measured before anybody looked")
	}
	look([]analysis.Pod{pod("a", 1000)}, []analysis.Pod{pod("x", 0)})
	look([]analysis.Pod{pod("a", 1095), pod("b", 500)}, []analysis.Pod{pod("x", 5)}) // b was not looked at before
	look([]analysis.Pod{pod("a", 10), pod("b", 505)}, []analysis.Pod{pod("x", 7)})   // a began anew
	look([]analysis.Pod{pod("b", 505)}, []analysis.Pod{{Name: "x"}})                 // a is gone, x does not count
	m, _ := c.measured(context.Background())
	if got := fmt.Sprint(c.totals["v1@1"], c.totals["v2@2"]); got != "110 7" {
		t.Errorf("counted %s, want 95+10+5 and 7 (%v)", got, m)
	}
	c.at = at.Add(-time.Minute)
	if _, known := c.measured(context.Background()); known {
		t.Error("a look of a minute ago still says something")
	}
}

func TestMissingRights(t *testing.T) {
	asked, incomplete := 0, false
	rules := []authorizationv1.ResourceRule{
		{Verbs: []string{"get", "list", "watch", "patch"}, APIGroups: []string{"serin.dev"}, Resources: []string{"*"}},
		{Verbs: []string{"*"}, APIGroups: []string{"networking.istio.io", "", "events.k8s.io", "autoscaling"}, Resources: []string{"*"}},
		{Verbs: []string{"patch"}, APIGroups: []string{"apps"}, Resources: []string{"deployments"}},
		{Verbs: []string{"delete"}, APIGroups: []string{"apps"}, Resources: []string{"deployments"}, ResourceNames: []string{"one"}},
	}
	c := interceptor.NewClient(fake.NewClientBuilder().WithScheme(Scheme()).Build(), interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			asked++
			status := &obj.(*authorizationv1.SelfSubjectRulesReview).Status
			status.ResourceRules, status.Incomplete = rules, incomplete
			return nil
		},
	})
	r := newRights(c)
	doc := &v1alpha1.Rollout{}
	find := func(autoscaled bool) (out []string) {
		for _, f := range rightFindings(r.lacks(context.Background(), ns), doc, autoscaled) {
			out = append(out, string(f.Level)+": "+f.What+" "+f.Remedy)
		}
		return out
	}
	for range 3 {
		if got := find(true); len(got) != 0 {
			t.Errorf("missing %v, want nothing", got)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	doc.Spec.Promotion.Retire = v1alpha1.RetireDelete
	if got := find(true); len(got) != 1 || !strings.HasPrefix(got[0], "Refuse: Serin's service account may not delete deployments (apps)") {
		t.Errorf("missing %v, want delete on deployments", got)
	}
	doc.Spec.Promotion.Retire = ""
	r.known[ns] = granted{at: time.Now(), rules: []authorizationv1.ResourceRule{
		rules[0], {Verbs: []string{"*"}, APIGroups: []string{"networking.istio.io", "", "events.k8s.io"}, Resources: []string{"*"}},
		{Verbs: []string{"patch"}, APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"}},
	}}
	if got := find(false); len(got) != 0 {
		t.Errorf("with the right to scale alone, missing %v", got)
	}
	if got := find(true); len(got) != 1 || !strings.Contains(got[0], "capacity.hpa: Ignore") {
		t.Errorf("with autoscalers, missing %v", got)
	}

	// Managed clusters have an authorizer that lists nothing: then nothing is
	// missing as far as is known, and that is not asked with every pass.
	asked, incomplete, rules = 0, true, nil
	delete(r.known, ns)
	for range 3 {
		if got := find(true); len(got) != 0 || asked != 1 {
			t.Errorf("where the list is not whole, missing %v, asked %d times", got, asked)
		}
	}
}

func TestConfigMapsOfATemplate(t *testing.T) {
	template := map[string]any{"spec": map[string]any{
		"volumes": []any{
			map[string]any{"configMap": map[string]any{"name": "files"}},
			map[string]any{"projected": map[string]any{"sources": []any{map[string]any{"configMap": map[string]any{"name": "projected"}}, map[string]any{"secret": map[string]any{"name": "secret"}}}}},
		},
		"containers": []any{map[string]any{
			"envFrom": []any{map[string]any{"configMapRef": map[string]any{"name": "all"}}},
			"env":     []any{map[string]any{"valueFrom": map[string]any{"configMapKeyRef": map[string]any{"name": "one", "key": "k"}}}},
		}},
	}}
	if got := configMaps(template); !slices.Equal(got, []string{"all", "files", "one", "projected"}) {
		t.Errorf("ConfigMaps %v", got)
	}
}

// A ConfigMap that both versions use and that was changed for the new one is
// said before traffic moves.
func TestSharedConfigurationIsSaid(t *testing.T) {
	bubble(t, func(w *world) {
		ctx := context.Background()
		refer := func(name string) {
			d := raw(deployment.Kind)
			w.must(w.api.Get(ctx, types.NamespacedName{Namespace: ns, Name: name}, d))
			w.must(unstructured.SetNestedSlice(d.Object, []any{map[string]any{"name": "c", "configMap": map[string]any{"name": "settings"}}}, "spec", "template", "spec", "volumes"))
			w.must(w.api.Update(ctx, d))
		}
		refer("my-app-v1")
		w.adopt()
		time.Sleep(time.Hour)
		w.must(w.api.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "settings", CreationTimestamp: metav1.Now()}}))
		w.deploy("v2", 2)
		refer("my-app-v2")
		w.step()
		w.until("v2 has 5 %", func() bool { return w.weights()["v2"] == 5 })
		found := func() bool {
			for _, f := range w.c.app(w.key()).shared.findings {
				if strings.Contains(f.What, "ConfigMap settings is used by v1 and v2") && f.Level == rollout.Warn {
					return true
				}
			}
			return false
		}
		if !found() {
			t.Errorf("findings %+v", w.c.app(w.key()).shared.findings)
		}
	})
}

func TestAutoscalersThatWouldFight(t *testing.T) {
	seen := rollout.Workloads{Items: []rollout.Workload{
		{Revision: "v1@1", Name: "my-app-v1", Replicas: 8, HPA: &rollout.HPA{Name: "one", Min: 2, Max: 10}},
		{Revision: "v2@2", Name: "my-app-v2", Replicas: 2},
	}}
	if got := autoscalerFindings(seen, v1alpha1.HPAHoldMinimum, "v1@1", "v2@2"); len(got) != 1 || !strings.Contains(got[0].What, "my-app-v2 by none") {
		t.Errorf("stable alone has one: %+v", got)
	}
	seen.Items[1].HPA = &rollout.HPA{Name: "two", Min: 1, Max: 5}
	if got := autoscalerFindings(seen, v1alpha1.HPAHoldMinimum, "v1@1", "v2@2"); len(got) != 1 || !strings.Contains(got[0].What, "allows 5 replicas of my-app-v2, and my-app-v1 has 8") {
		t.Errorf("the canary's is too small: %+v", got)
	}
	seen.Items[1].HPA.Max = 10
	if got := autoscalerFindings(seen, v1alpha1.HPAHoldMinimum, "v1@1", "v2@2"); len(got) != 0 {
		t.Errorf("nothing is wrong: %+v", got)
	}
	if got := autoscalerFindings(seen, v1alpha1.HPAIgnore, "v1@1", "v2@2"); len(got) != 2 {
		t.Errorf("both are let alone: %+v", got)
	}
}

func TestPruningIsWarnedOf(t *testing.T) {
	argo, flux := "argocd.argoproj.io/tracking-id", "kustomize.toolkit.fluxcd.io/name"
	for name, c := range map[string]struct {
		notes map[string]string
		want  string
	}{
		"nobody applies it": {map[string]string{"app": "x"}, ""},
		"Argo CD":           {map[string]string{argo: "shop:apps/Deployment:shop/a"}, "applied by Argo CD"},
		"Argo CD, kept":     {map[string]string{argo: "x", "argocd.argoproj.io/sync-options": "Replace=true,Prune=false"}, ""},
		"Flux":              {map[string]string{flux: "apps"}, "applied by Flux"},
		"Flux, kept":        {map[string]string{flux: "apps", "kustomize.toolkit.fluxcd.io/prune": "disabled"}, ""},
	} {
		got := pruneFindings([]deployment.Version{{Revision: "v2@2", Notes: map[string]string{argo: "x"}}, {Revision: "v1@1", Name: "a", Notes: c.notes}}, "v1@1")
		if (c.want == "") != (len(got) == 0) || len(got) > 0 && !strings.Contains(got[0].What, c.want) {
			t.Errorf("%s: %+v, want %q", name, got, c.want)
		}
	}
}

// After a start, when nothing is in memory yet, the status says who goes first;
// later the last pass does.
func TestWhoGoesFirst(t *testing.T) {
	q := priorityqueue.New[reconcile.Request]("test")
	defer q.ShutDown()
	c := &Controller{apps: map[types.NamespacedName]*app{}}
	w := watcher{c: c, whom: func(o client.Object) []types.NamespacedName {
		return []types.NamespacedName{client.ObjectKeyFromObject(o)}
	}}
	for name, phase := range map[string]v1alpha1.Phase{"rests": v1alpha1.PhaseIdle, "goes-on": v1alpha1.PhaseProgressing, "goes-back": v1alpha1.PhaseRollingBack, "never-seen": ""} {
		r := &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Status: v1alpha1.RolloutStatus{Phase: phase}}
		w.Create(context.Background(), event.CreateEvent{Object: r, IsInInitialList: true}, q)
	}
	turned := &app{key: types.NamespacedName{Namespace: ns, Name: "turned"}, passed: &passed{}}
	turned.passed.result.Seen.Report.Verdict = analysis.Fail
	c.apps[turned.key] = turned
	w.Update(context.Background(), event.UpdateEvent{
		ObjectOld: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "turned", ResourceVersion: "1"}},
		ObjectNew: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "turned", ResourceVersion: "2"}},
	}, q)
	watcher{c: c, whom: func(client.Object) []types.NamespacedName {
		return []types.NamespacedName{{Namespace: ns, Name: "aborted"}}
	}}.Create(context.Background(), event.CreateEvent{Object: &v1alpha1.RolloutCommand{Spec: v1alpha1.RolloutCommandSpec{Verb: v1alpha1.VerbAbort}}}, q)
	got := map[string]int{}
	for range 6 {
		r, p, _ := q.GetWithPriority()
		got[r.Name] = p
		q.Done(r)
	}
	want := map[string]int{"rests": atRest, "goes-on": underWay, "goes-back": lowering, "never-seen": atRest, "turned": lowering, "aborted": lowering}
	if !maps.Equal(got, want) {
		t.Errorf("priorities %v, want %v", got, want)
	}
}
