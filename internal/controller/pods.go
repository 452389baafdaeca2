package controller

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/internal/metric"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/deployment"
)

// podSource gives the pods of one Rollout's versions while it is under way.
type podSource interface {
	start(ctx context.Context) error    // begins to look, if that was not begun
	end()                               // stops, and waits for it
	list() (all []*corev1.Pod, ok bool) // false until all of them are known
}

// podWatch watches the pods of one Rollout's versions while it is under way: at
// rest nobody asks about pods, and clusters have many.
type podWatch struct {
	config *rest.Config
	client *http.Client
	scheme *runtime.Scheme
	mapper meta.RESTMapper

	namespace string
	selector  labels.Selector
	changed   func()

	mu    sync.Mutex
	stop  context.CancelFunc
	done  chan struct{}
	cache cache.Cache
}

// start begins to watch, if that was not begun; it does not wait.
func (w *podWatch) start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		return nil
	}
	c, err := cache.New(w.config, cache.Options{
		HTTPClient: w.client, Scheme: w.scheme, Mapper: w.mapper,
		DefaultNamespaces:    map[string]cache.Config{w.namespace: {LabelSelector: w.selector}},
		DefaultTransform:     slimPod,
		DefaultLabelSelector: w.selector,
	})
	if err != nil {
		return fmt.Errorf("watching the pods of %s: %w", w.selector, err)
	}
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	informer, err := c.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		w.stop()
		w.stop = nil
		return fmt.Errorf("watching the pods of %s: %w", w.selector, err)
	}
	tell := func(any) { w.changed() }
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: tell, DeleteFunc: tell, UpdateFunc: func(_, o any) { tell(o) },
	}); err != nil {
		w.stop()
		w.stop = nil
		return fmt.Errorf("watching the pods of %s: %w", w.selector, err)
	}
	w.cache, w.done = c, make(chan struct{})
	done := w.done
	go func() {
		defer close(done)
		_ = c.Start(ctx) // ends with ctx, and only then
	}()
	return nil
}

// end stops watching and waits until nothing of it runs any more.
func (w *podWatch) end() {
	w.mu.Lock()
	stop, done := w.stop, w.done
	w.stop, w.done, w.cache = nil, nil, nil
	w.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// list gives the pods; false until all of them are known.
func (w *podWatch) list() ([]*corev1.Pod, bool) {
	w.mu.Lock()
	c := w.cache
	w.mu.Unlock()
	if c == nil {
		return nil, false
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	informer, err := c.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil || !informer.HasSynced() {
		return nil, false
	}
	var all corev1.PodList
	if err := c.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, false
	}
	out := make([]*corev1.Pod, 0, len(all.Items))
	for i := range all.Items {
		out = append(out, &all.Items[i])
	}
	return out, true
}

// slimPod keeps of a pod what is asked about it.
func slimPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	p.ManagedFields, p.Spec = nil, corev1.PodSpec{}
	for k := range p.Annotations {
		if len(k) < 14 || k[:14] != "prometheus.io/" {
			delete(p.Annotations, k)
		}
	}
	return p, nil
}

// metricPods lists a revision's pods for whoever asks them for figures.
type metricPods struct{ workloads *deployment.Workloads }

func (m metricPods) Pods(ctx context.Context, of rollout.Revision) ([]metric.Pod, error) {
	pods, err := m.workloads.PodsOf(ctx, of)
	if err != nil {
		return nil, err
	}
	var out []metric.Pod
	for _, p := range pods {
		x := metric.Pod{Namespace: p.Namespace, Name: p.Name}
		x.Address, _ = netip.ParseAddr(p.Status.PodIP)
		if x.Scrape, err = metric.EndpointOf(p.Annotations); err != nil {
			x.Scrape = metric.Endpoint{Off: true} // what cannot be understood is not asked
		}
		if p.Status.StartTime != nil {
			x.Started = p.Status.StartTime.Time
		}
		for _, c := range p.Status.ContainerStatuses {
			x.Restarts += int(c.RestartCount)
			if e := c.LastTerminationState.Terminated; e != nil && e.Reason == "OOMKilled" {
				x.OOMKills++
			}
		}
		out = append(out, x)
	}
	return out, nil
}
