package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Behaviour is how the pods of a version answer. The zero value answers well at
// once, with little memory and hardly any processor time.
type Behaviour struct {
	Errors   float64       `json:"errors,omitempty"`   // share of requests that fail, 0 to 1
	Latency  time.Duration `json:"latency,omitempty"`  // of each answer, in nanoseconds in JSON
	NotReady bool          `json:"notReady,omitempty"` // says so to its readiness probe
	Refuse   bool          `json:"refuse,omitempty"`   // takes no connections
	Mute     bool          `json:"mute,omitempty"`     // answers, but shows no metrics
	CPU      float64       `json:"cpu,omitempty"`      // cores in use; 0.05 if 0
	Memory   float64       `json:"memory,omitempty"`   // bytes in use; 64 MiB if 0
}

// BehaviourAnnotation on a pod is a Behaviour as JSON: how its version answers
// until [Pods.Behave] says otherwise.
const BehaviourAnnotation = "lab.serin.dev/behaviour"

// Served is one request that reached a pod.
type Served struct {
	ID, Version, Pod, Namespace string
	At                          time.Time
	Failed                      bool // as its Behaviour asked
	Gone                        bool // the pod was deleted already
}

// versionKey names a version: what has the same label "version" in a namespace,
// or the same app and version where several apps are in one.
type versionKey struct{ namespace, app, version string }

// Pods answers for every pod of the cluster.
type Pods struct {
	cluster *Cluster
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu       sync.Mutex
	byIP     map[string]*pod
	behaves  map[versionKey]Behaviour
	log      []Served
	firstBad map[string]time.Time // by namespace
	kubelet  *http.Server
	scraped  atomic.Int64
}

// linger is how long a deleted pod goes on answering, as one with a preStop
// hook would.
const linger = 3 * time.Second

func newPods(c *Cluster) (*Pods, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pods{cluster: c, cancel: cancel, byIP: map[string]*pod{}, behaves: map[versionKey]Behaviour{}, firstBad: map[string]time.Time{}}
	l, err := net.Listen("tcp", cadvisorAddress)
	if err != nil {
		cancel()
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics/cadvisor", p.cadvisor)
	mux.HandleFunc("/targets", p.targets)
	p.kubelet = &http.Server{Handler: mux}
	p.done.Go(func() { p.kubelet.Serve(l) })
	f := informers.NewSharedInformerFactory(c.Clients, 0)
	if _, err := f.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { p.seen(ctx, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { p.seen(ctx, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = d.Obj
			}
			p.gone(o.(*corev1.Pod))
		},
	}); err != nil {
		cancel()
		return nil, err
	}
	f.Start(ctx.Done())
	return p, nil
}

func (p *Pods) stop() {
	p.cancel()
	p.kubelet.Close()
	p.mu.Lock()
	all := p.byIP
	p.byIP = map[string]*pod{}
	p.mu.Unlock()
	for _, x := range all {
		x.close()
	}
	p.done.Wait()
}

// Behave sets how a version's pods answer from now on.
func (p *Pods) Behave(namespace, app, version string, b Behaviour) {
	p.mu.Lock()
	p.behaves[versionKey{namespace, app, version}] = b
	var touched []*pod
	for _, x := range p.byIP {
		if x.key == (versionKey{namespace, app, version}) {
			touched = append(touched, x)
		}
	}
	p.mu.Unlock()
	for _, x := range touched {
		x.behave(b)
	}
}

// Served lists what reached pods of a namespace, in order.
func (p *Pods) Served(namespace string) []Served {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Served
	for _, s := range p.log {
		if s.Namespace == namespace {
			out = append(out, s)
		}
	}
	return out
}

// FirstBad is when the first request of a namespace was failed on purpose.
func (p *Pods) FirstBad(namespace string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.firstBad[namespace]
	return t, ok
}

// Scraped is how often pods were asked for their figures, by whomever.
func (p *Pods) Scraped() int64 { return p.scraped.Load() }

func (p *Pods) seen(ctx context.Context, o *corev1.Pod) {
	if o.Status.PodIP == "" || o.DeletionTimestamp != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.byIP[o.Status.PodIP]
	if old != nil && old.uid == o.UID {
		return
	}
	x := newPod(p, o)
	if b, ok := p.behaves[x.key]; ok {
		x.b = b
	}
	p.byIP[o.Status.PodIP] = x
	p.done.Go(func() {
		if old != nil { // its address was given away again
			old.close()
		}
		x.run(ctx)
	})
}

func (p *Pods) gone(o *corev1.Pod) {
	p.mu.Lock()
	x := p.byIP[o.Status.PodIP]
	p.mu.Unlock()
	if x == nil || x.uid != o.UID {
		return
	}
	x.mu.Lock()
	x.deleted = true
	x.mu.Unlock()
	time.AfterFunc(linger, func() {
		x.close()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.byIP[o.Status.PodIP] == x {
			delete(p.byIP, o.Status.PodIP)
		}
	})
}

func (p *Pods) served(s Served) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, s)
	if _, ok := p.firstBad[s.Namespace]; s.Failed && !ok {
		p.firstBad[s.Namespace] = s.At
	}
}

// pod is one pod's containers: its application and the proxy beside it.
type pod struct {
	owner    *Pods
	uid      types.UID
	name, ip string
	key      versionKey
	workload string
	waiting  bool
	statuses []corev1.ContainerStatus // as KWOK made them; ready or not is ours to say

	closing   chan struct{}
	closeOnce sync.Once
	changed   chan struct{} // buffered: the behaviour may have another readiness

	mu       sync.Mutex
	b        Behaviour
	deleted  bool
	rand     *rand.Rand
	codes    map[[3]string]int // protocol, HTTP code, gRPC code
	buckets  [len(bounds) + 1]int
	sumMs    float64
	cpu      float64 // core-seconds up to cpuAt
	cpuAt    time.Time
	begun    time.Time
	requests int
}

// bounds are Istio's, in milliseconds.
var bounds = [...]float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}

func newPod(p *Pods, o *corev1.Pod) *pod {
	x := &pod{
		owner: p, uid: o.UID, name: o.Name, ip: o.Status.PodIP, closing: make(chan struct{}), changed: make(chan struct{}, 1),
		key:      versionKey{o.Namespace, o.Labels["app"], o.Labels["version"]},
		workload: o.Name, codes: map[[3]string]int{}, begun: time.Now(), cpuAt: time.Now(),
	}
	for _, r := range o.OwnerReferences {
		if r.Kind == "ReplicaSet" {
			x.workload = strings.TrimSuffix(r.Name, "-"+o.Labels["pod-template-hash"])
		}
	}
	x.statuses = slices.Clone(o.Status.ContainerStatuses)
	for _, c := range o.Status.ContainerStatuses {
		x.waiting = x.waiting || c.State.Waiting != nil
	}
	json.Unmarshal([]byte(o.Annotations[BehaviourAnnotation]), &x.b) // none, or one that is no JSON: the zero value
	seed := uint64(0)
	for _, r := range o.Name {
		seed = seed*131 + uint64(r)
	}
	x.rand = rand.New(rand.NewPCG(seed, 1))
	return x
}

// run answers until the pod is closed.
func (x *pod) run(ctx context.Context) {
	if x.waiting { // its containers never start
		<-x.closing
		return
	}
	var ls []net.Listener
	for _, port := range []string{"8080", "9090", "15020"} {
		l, err := listen(net.JoinHostPort(x.ip, port), x.closing)
		if err != nil {
			return
		}
		ls = append(ls, l)
	}
	g := grpc.NewServer()
	g.RegisterService(&echo, x)
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", x.metrics)
	mux.HandleFunc("/stats/prometheus", x.metrics)
	mux.HandleFunc("/", x.http)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	// One port for both protocols, as the founding Service has it.
	h := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		refuse := x.b.Refuse
		x.mu.Unlock()
		switch {
		case refuse:
			panic(http.ErrAbortHandler)
		case r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			g.ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})}
	var serving sync.WaitGroup
	for _, l := range ls {
		serving.Go(func() { h.Serve(l) })
	}
	x.ready(ctx)
	for open := true; open; {
		select {
		case <-x.changed:
			x.ready(ctx)
		case <-x.closing:
			open = false
		}
	}
	bounded, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if h.Shutdown(bounded) != nil {
		h.Close()
	}
	g.Stop()
	serving.Wait()
}

// listen waits for an address that another pod has not let go of yet.
func listen(addr string, closing <-chan struct{}) (net.Listener, error) {
	for {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l, nil
		}
		select {
		case <-closing:
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (x *pod) close() { x.closeOnce.Do(func() { close(x.closing) }) }

func (x *pod) behave(b Behaviour) {
	x.mu.Lock()
	x.chargeCPU()
	x.b = b
	x.mu.Unlock()
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// ready tells the API server what the readiness probe found, as a kubelet does.
func (x *pod) ready(ctx context.Context) {
	x.mu.Lock()
	is, why := "True", ""
	if x.b.NotReady || x.b.Refuse {
		is, why = "False", "ContainersNotReady"
	}
	x.mu.Unlock()
	now := metav1.Now().UTC().Format(time.RFC3339)
	cond := func(kind string) map[string]any {
		c := map[string]any{"type": kind, "status": is, "lastTransitionTime": now, "reason": nil}
		if why != "" {
			c["reason"] = why
		}
		return c
	}
	for i := range x.statuses {
		x.statuses[i].Ready = is == "True"
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{cond("Ready"), cond("ContainersReady")}, "containerStatuses": x.statuses}})
	if err != nil {
		panic(err) // plain data
	}
	for {
		_, err := x.owner.cluster.Clients.CoreV1().Pods(x.key.namespace).Patch(ctx, x.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err == nil || apierrors.IsNotFound(err) || ctx.Err() != nil {
			return
		}
		select {
		case <-x.closing:
			return
		case <-time.After(100 * time.Millisecond): // the API server may be away
		}
	}
}

// answer decides how one request ends, after the time it takes.
func (x *pod) answer(ctx context.Context, id string) (failed bool) {
	at := time.Now()
	x.mu.Lock()
	b, gone := x.b, x.deleted
	failed = b.Errors > 0 && x.rand.Float64() < b.Errors
	x.mu.Unlock()
	x.owner.served(Served{ID: id, Version: x.key.version, Pod: x.name, Namespace: x.key.namespace, At: at, Failed: failed, Gone: gone})
	if b.Latency > 0 {
		select {
		case <-time.After(b.Latency):
		case <-ctx.Done():
		}
	}
	return failed
}

func (x *pod) count(began time.Time, protocol, code, grpcCode string) {
	ms := float64(time.Since(began).Microseconds()) / 1000
	x.mu.Lock()
	defer x.mu.Unlock()
	x.codes[[3]string{protocol, code, grpcCode}]++
	x.sumMs += ms
	x.requests++
	i := 0
	for i < len(bounds) && ms > bounds[i] {
		i++
	}
	x.buckets[i]++
}

func (x *pod) http(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	code := http.StatusOK
	if x.answer(r.Context(), r.Header.Get("X-Request-Id")) {
		code = http.StatusInternalServerError
	}
	w.Header().Set("X-Version", x.key.version)
	w.Header().Set("X-Pod", x.name)
	w.WriteHeader(code)
	fmt.Fprintf(w, "%s %s\n", x.key.version, x.name)
	x.count(began, "http", fmt.Sprint(code), "")
}

// Echo answers a gRPC call with the version and the pod.
func (x *pod) Echo(ctx context.Context) (*wrapperspb.StringValue, error) {
	began := time.Now()
	var id string
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("x-request-id")) > 0 {
		id = md.Get("x-request-id")[0]
	}
	grpc.SetTrailer(ctx, metadata.Pairs("x-version", x.key.version, "x-pod", x.name))
	if x.answer(ctx, id) {
		x.count(began, "grpc", "200", fmt.Sprint(uint32(codes.Internal)))
		return nil, status.Error(codes.Internal, "this version fails on purpose")
	}
	x.count(began, "grpc", "200", "0")
	return wrapperspb.String(x.key.version + " " + x.name), nil
}

var echo = grpc.ServiceDesc{
	ServiceName: "lab.Echo", HandlerType: (*interface {
		Echo(context.Context) (*wrapperspb.StringValue, error)
	})(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(s any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := dec(&emptypb.Empty{}); err != nil {
			return nil, err
		}
		return s.(*pod).Echo(ctx)
	}}},
}

// chargeCPU brings the processor time up to now. x.mu is held.
func (x *pod) chargeCPU() {
	cores := x.b.CPU
	if cores == 0 {
		cores = 0.05
	}
	now := time.Now()
	x.cpu += cores * now.Sub(x.cpuAt).Seconds()
	x.cpuAt = now
}

func (x *pod) memory() float64 {
	if x.b.Memory == 0 {
		return 64 << 20
	}
	return x.b.Memory
}

// metrics is what the proxy beside the application shows, under Istio's names,
// and what the application's own process does.
func (x *pod) metrics(w http.ResponseWriter, _ *http.Request) {
	x.owner.scraped.Add(1)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.b.Mute {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	x.chargeCPU()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	service := x.key.app + "-service"
	labels := fmt.Sprintf(`reporter="destination",source_workload="client",source_workload_namespace=%[1]q,destination_workload=%[2]q,destination_workload_namespace=%[1]q,destination_app=%[3]q,destination_version=%[4]q,`+
		`destination_canonical_service=%[3]q,destination_canonical_revision=%[4]q,destination_service="%[5]s.%[6]s.svc.cluster.local",destination_service_name=%[5]q,destination_service_namespace=%[1]q`,
		x.key.namespace, x.workload, x.key.app, x.key.version, service, x.key.namespace)
	fmt.Fprintln(w, "# TYPE istio_requests_total counter")
	for k, n := range x.codes {
		fmt.Fprintf(w, "istio_requests_total{%s,request_protocol=%q,response_code=%q,grpc_response_status=%q,response_flags=\"-\"} %d\n", labels, k[0], k[1], k[2], n)
	}
	fmt.Fprintln(w, "# TYPE istio_request_duration_milliseconds histogram")
	if x.requests > 0 {
		sum := 0
		for i, n := range x.buckets {
			sum += n
			le := "+Inf"
			if i < len(bounds) {
				le = fmt.Sprint(bounds[i])
			}
			fmt.Fprintf(w, "istio_request_duration_milliseconds_bucket{%s,le=%q} %d\n", labels, le, sum)
		}
		fmt.Fprintf(w, "istio_request_duration_milliseconds_sum{%s} %g\nistio_request_duration_milliseconds_count{%s} %d\n", labels, x.sumMs, labels, x.requests)
	}
	fmt.Fprintf(w, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %g\n", x.cpu)
	fmt.Fprintf(w, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %g\n", x.memory())
	fmt.Fprintf(w, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n", x.begun.Unix())
}

// cadvisor is what a kubelet shows of the containers of its node.
func (p *Pods) cadvisor(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	all := make([]*pod, 0, len(p.byIP))
	for _, x := range p.byIP {
		all = append(all, x)
	}
	p.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var cpu, memory strings.Builder
	for _, x := range all {
		x.mu.Lock()
		x.chargeCPU()
		labels := fmt.Sprintf(`namespace=%q,pod=%q,container="app"`, x.key.namespace, x.name)
		fmt.Fprintf(&cpu, "container_cpu_usage_seconds_total{%s} %g\n", labels, x.cpu)
		fmt.Fprintf(&memory, "container_memory_working_set_bytes{%s} %g\n", labels, x.memory())
		x.mu.Unlock()
	}
	fmt.Fprintf(w, "# TYPE container_cpu_usage_seconds_total counter\n%s# TYPE container_memory_working_set_bytes gauge\n%s", cpu.String(), memory.String())
}

// targets lists the pods that run, for Prometheus.
func (p *Pods) targets(w http.ResponseWriter, _ *http.Request) {
	type target struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	out := []target{}
	p.mu.Lock()
	for _, x := range p.byIP {
		if !x.waiting {
			out = append(out, target{[]string{net.JoinHostPort(x.ip, "15020")}, map[string]string{"namespace": x.key.namespace, "pod": x.name}})
		}
	}
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(out)
}
