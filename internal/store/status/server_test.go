package status

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/serin-dev/serin/api/v1alpha1"
)

// cluster is where a test's Rollouts are: a real API server where one is given
// (KUBEBUILDER_ASSETS names the folder with etcd and kube-apiserver), and
// always a small one that speaks the same protocol over HTTP.
type cluster struct {
	client client.Client
	fault  func(*http.Request) *metav1.Status // only with the small one
}

var (
	real     *cluster
	rollouts atomic.Int64
)

func TestMain(m *testing.M) {
	stop := func() error { return nil }
	if os.Getenv("KUBEBUILDER_ASSETS") != "" {
		env := &envtest.Environment{
			CRDDirectoryPaths: []string{filepath.Join("..", "..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true,
		}
		cfg, err := env.Start()
		if err != nil {
			fmt.Fprintln(os.Stderr, "the API server of KUBEBUILDER_ASSETS does not start:", err)
			os.Exit(1)
		}
		stop = env.Stop
		if real, err = connect(cfg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		code = 1
	}
	if real == nil && code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func connect(cfg *rest.Config) (*cluster, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.AddSpecific(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind), v1alpha1.GroupVersion.WithResource("rollouts"), v1alpha1.GroupVersion.WithResource("rollout"), meta.RESTScopeNamespace)
	cfg.QPS = -1
	c, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper})
	return &cluster{client: c}, err
}

// everywhere runs a test on each kind of cluster there is.
func everywhere(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Run("small", func(t *testing.T) { test(t, small(t)) })
	t.Run("real", func(t *testing.T) {
		if real == nil || os.Getenv("KUBEBUILDER_ASSETS") == "" { // asked here too, for the cache of go test
			if os.Getenv("CI") == "true" {
				t.Fatal("no API server: KUBEBUILDER_ASSETS has to name the folder of etcd and kube-apiserver")
			}
			t.Skip("no API server: KUBEBUILDER_ASSETS names the folder of etcd and kube-apiserver")
		}
		test(t, real)
	})
}

// rollout makes one, with a name of its own.
func (c *cluster) rollout(t *testing.T) (types.NamespacedName, types.UID) {
	t.Helper()
	r := &v1alpha1.Rollout{}
	r.Namespace, r.Name = "default", fmt.Sprintf("my-app-%d", rollouts.Add(1))
	r.Spec.Workload.Versions = &v1alpha1.VersionsWorkload{Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "my-app"}}, Label: "version"}
	r.Spec.Traffic = []v1alpha1.Traffic{{Istio: &v1alpha1.IstioTraffic{VirtualService: "vs", DestinationRule: "dr"}}}
	r.Spec.Drift = v1alpha1.DriftObey
	if err := c.client.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return client.ObjectKeyFromObject(r), r.UID
}

func (c *cluster) open(t *testing.T) *Store {
	key, uid := c.rollout(t)
	return c.store(key, uid)
}

func (c *cluster) store(key types.NamespacedName, uid types.UID) *Store {
	return New(c.client, c.client.Status(), key, uid)
}

// small starts a server that keeps Rollouts and knows JSON Patch.
func small(t *testing.T) *cluster {
	t.Helper()
	var c *cluster
	s := &server{objects: map[string]map[string]any{}}
	http := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.fault != nil {
			if st := c.fault(r); st != nil {
				refuse(w, st)
				return
			}
		}
		s.serve(w, r)
	}))
	cfg := &rest.Config{Host: http.URL}
	c, err := connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.CloseClientConnections()
		http.Close()
	})
	return c
}

type server struct {
	mu      sync.Mutex
	version int
	objects map[string]map[string]any
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	path := r.URL.Path
	switch r.Method {
	case http.MethodPost:
		var o map[string]any
		if err := json.Unmarshal(body, &o); err != nil {
			refuse(w, &metav1.Status{Code: 400, Reason: metav1.StatusReasonBadRequest, Message: err.Error()})
			return
		}
		md := o["metadata"].(map[string]any)
		delete(o, "status")
		s.version++
		md["uid"], md["resourceVersion"] = fmt.Sprintf("uid-%d", s.version), strconv.Itoa(s.version)
		s.objects[path+"/"+md["name"].(string)] = o
		answer(w, o)
	case http.MethodGet:
		o, ok := s.objects[path]
		if !ok {
			refuse(w, &metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound})
			return
		}
		answer(w, o)
	case http.MethodDelete:
		delete(s.objects, path)
		answer(w, map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Success"})
	case http.MethodPatch:
		s.patch(w, r, path, body)
	}
}

func (s *server) patch(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	status := filepath.Base(path) == "status"
	if status {
		path = filepath.Dir(path)
	}
	o, ok := s.objects[path]
	if !ok {
		refuse(w, &metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound})
		return
	}
	was, _ := json.Marshal(o)
	var is []byte
	var err error
	if r.Header.Get("Content-Type") == string(types.JSONPatchType) {
		var p jsonpatch.Patch
		if p, err = jsonpatch.DecodePatch(body); err == nil {
			is, err = p.Apply(was)
		}
	} else {
		is, err = jsonpatch.MergePatch(was, body)
	}
	if err != nil {
		refuse(w, &metav1.Status{Code: 422, Reason: metav1.StatusReasonInvalid, Message: "the server rejected our request due to an error in our request: " + err.Error()})
		return
	}
	var next map[string]any
	if err := json.Unmarshal(is, &next); err != nil {
		refuse(w, &metav1.Status{Code: 400, Reason: metav1.StatusReasonBadRequest, Message: err.Error()})
		return
	}
	kept := map[string]any{}
	for k, v := range o {
		kept[k] = v
	}
	if status {
		kept["status"] = next["status"]
	} else {
		kept = next
		kept["status"] = o["status"]
	}
	s.version++
	md := map[string]any{}
	for k, v := range kept["metadata"].(map[string]any) {
		md[k] = v
	}
	md["resourceVersion"] = strconv.Itoa(s.version)
	kept["metadata"] = md
	s.objects[path] = kept
	answer(w, kept)
}

func answer(w http.ResponseWriter, o any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(o)
}

func refuse(w http.ResponseWriter, st *metav1.Status) {
	st.Status, st.Kind, st.APIVersion = "Failure", "Status", "v1"
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(st.Code))
	_ = json.NewEncoder(w).Encode(st)
}
