package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// server is an API server as far as the client talks to one. What it cannot
// show (admission, rights, etcd) the tests of the cluster do.
type server struct {
	t  *testing.T
	mu sync.Mutex

	docs    map[string]*v1alpha1.Rollout
	cmds    map[string]*v1alpha1.RolloutCommand
	calls   []string
	watches []*openWatch
	opened  int
	refuse  func(r *http.Request) (code int, reason metav1.StatusReason)
	take    bool   // a controller is there
	says    string // what it answers to every command; "" = as if it had decided
	drop    int    // answers to creations that are lost
}

type openWatch struct {
	kind string
	out  chan metav1.WatchEvent
}

func newServer(t *testing.T) (*server, *Client) {
	s := &server{t: t, docs: map[string]*v1alpha1.Rollout{}, cmds: map[string]*v1alpha1.RolloutCommand{}, take: true}
	srv := httptest.NewServer(s)
	c, err := New(&rest.Config{Host: srv.URL}, "cluster test", "shop", Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.closeWatches(); c.Close(); srv.Close() })
	return s, c
}

func (s *server) put(doc *v1alpha1.Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "ADDED"
	if s.docs[doc.Name] != nil {
		kind = "MODIFIED"
	}
	doc.ResourceVersion = fmt.Sprint(len(s.calls) + 100)
	doc.APIVersion, doc.Kind = v1alpha1.GroupVersion.String(), v1alpha1.Kind
	s.docs[doc.Name] = doc
	s.tell(rollouts, kind, doc)
}

func (s *server) tell(kind, event string, o any) {
	b, err := json.Marshal(o)
	if err != nil {
		s.t.Error(err)
	}
	for _, w := range s.watches {
		if w.kind == kind {
			e := metav1.WatchEvent{Type: event}
			e.Object.Raw = b
			w.out <- e
		}
	}
}

func (s *server) closeWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watches {
		close(w.out)
	}
	s.watches = nil
}

func (s *server) called() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *server) fail(w http.ResponseWriter, code int, reason metav1.StatusReason, message string, details *metav1.StatusDetails) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: int32(code), Reason: reason, Message: message, Details: details})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/apis/serin.dev/v1alpha1/")
	watching := r.URL.Query().Get("watch") == "true"
	what := r.Method + " " + path
	if watching {
		what = "WATCH " + path
	}
	s.mu.Lock()
	s.calls = append(s.calls, what)
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		if code, reason := refuse(r); code != 0 {
			s.fail(w, code, reason, "no: "+string(reason), nil)
			return
		}
	}
	send := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(path, "namespaces/"), "/")
	kind, name, _ := strings.Cut(rest, "/")
	if kind == "" {
		kind = path
	}
	only := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	switch {
	case strings.HasSuffix(path, "selfsubjectreviews"):
		send(map[string]any{"status": map[string]any{"userInfo": map[string]any{"username": "alice@example.org"}}})
	case strings.HasSuffix(path, "selfsubjectaccessreviews"):
		var in struct {
			Spec struct{ ResourceAttributes map[string]string }
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		verb := in.Spec.ResourceAttributes["verb"]
		send(map[string]any{"status": map[string]any{"allowed": verb == "create" || verb == "pause" || verb == "abort" && in.Spec.ResourceAttributes["name"] == "my-app"}})
	case watching:
		s.watch(w, r, kind)
	case r.Method == http.MethodPost && kind == commands:
		s.create(w, r, send)
	case kind == rollouts && name != "":
		s.mu.Lock()
		doc := s.docs[name]
		s.mu.Unlock()
		if doc == nil {
			s.fail(w, 404, metav1.StatusReasonNotFound, "not found", &metav1.StatusDetails{Name: name})
			return
		}
		send(doc)
	case kind == rollouts:
		out := v1alpha1.RolloutList{ListMeta: metav1.ListMeta{ResourceVersion: "1000"}, Items: []v1alpha1.Rollout{}}
		out.APIVersion, out.Kind = v1alpha1.GroupVersion.String(), "RolloutList"
		s.mu.Lock()
		for _, d := range s.docs {
			if only == "" || only == d.Name {
				out.Items = append(out.Items, *d)
			}
		}
		s.mu.Unlock()
		send(out)
	default:
		s.fail(w, 404, metav1.StatusReasonNotFound, "the server could not find the requested resource", nil)
	}
}

func (s *server) watch(w http.ResponseWriter, r *http.Request, kind string) {
	ow := &openWatch{kind: kind, out: make(chan metav1.WatchEvent, 100)}
	s.mu.Lock()
	s.watches = append(s.watches, ow)
	s.opened++
	if kind == commands {
		only := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
		if c := s.cmds[only]; c != nil { // what is newer than the version that was asked for
			b, _ := json.Marshal(c)
			e := metav1.WatchEvent{Type: "MODIFIED"}
			e.Object.Raw = b
			ow.out <- e
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.watches = slices.DeleteFunc(s.watches, func(o *openWatch) bool { return o == ow })
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, open := <-ow.out:
			if !open {
				return
			}
			_ = json.NewEncoder(w).Encode(e)
			_ = rc.Flush()
		}
	}
}

func (s *server) create(w http.ResponseWriter, r *http.Request, send func(any)) {
	var c v1alpha1.RolloutCommand
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmds[c.Name] != nil {
		s.fail(w, 409, metav1.StatusReasonAlreadyExists, "it is there", &metav1.StatusDetails{Name: c.Name})
		return
	}
	c.ResourceVersion = "7"
	if s.take {
		c.Status = v1alpha1.RolloutCommandStatus{Taken: true, Message: cmp.Or(s.says, "alice@example.org paused: lunch.")}
		if c.Spec.Verb == "promote" {
			c.Status.Message = "promote was refused: v2 waits for an approval."
		}
		if doc := s.docs[c.Spec.Rollout]; doc != nil && s.says == "" { // the pass that took it
			d := v1alpha1.Decision{N: c.Spec.N + 1, By: c.Spec.By, What: "Paused", Why: "lunch"}
			if c.Spec.Verb == "promote" {
				d.What, d.From = string(rollout.EvRefused), "promote"
			}
			doc = doc.DeepCopy()
			doc.Status.Decisions = append(doc.Status.Decisions, d)
			s.docs[doc.Name] = doc
		}
	}
	s.cmds[c.Name] = &c
	if s.drop > 0 {
		s.drop--
		panic(http.ErrAbortHandler) // done, and the answer is lost
	}
	send(c)
}

func someDoc(t *testing.T, name string) *v1alpha1.Rollout {
	spec, _, err := engine.SpecOf(parse(t))
	if err != nil {
		t.Fatal(err)
	}
	doc := written(t, httpapi.Pass{Spec: spec, State: progressing(spec), Time: noon, Decision: rollout.Decision{Status: rollout.Status{Message: "Step 1 of 3."}}})
	doc.Name = name
	return doc
}

// One object, one call.
func TestGetIsOneCall(t *testing.T) {
	s, c := newServer(t)
	s.put(someDoc(t, "my-app"))
	v, err := c.Get(t.Context(), httpapi.Ref{Name: "my-app"})
	if err != nil || v.Name != "my-app" || v.Namespace != "shop" || v.Phase != rollout.Progressing {
		t.Fatalf("%+v, %v", v, err)
	}
	if got := s.called(); len(got) != 1 || got[0] != "GET namespaces/shop/rollouts/my-app" {
		t.Errorf("calls: %q", got)
	}
	if vs, err := c.List(t.Context()); err != nil || len(vs) != 1 {
		t.Errorf("%d, %v", len(vs), err)
	}
	if got := s.called(); len(got) != 2 || got[1] != "GET namespaces/shop/rollouts" {
		t.Errorf("calls: %q", got)
	}
}

func TestEveryNamespace(t *testing.T) {
	s, _ := newServer(t)
	s.put(someDoc(t, "my-app"))
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := New(&rest.Config{Host: srv.URL}, "cluster test", "shop", Options{All: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if vs, err := c.List(t.Context()); err != nil || len(vs) != 1 {
		t.Errorf("%d, %v", len(vs), err)
	}
	if got := s.called(); got[0] != "GET rollouts" {
		t.Errorf("calls: %q", got)
	}
	if c.String() != "cluster test, every namespace" {
		t.Error(c.String())
	}
}

// Trouble is told in sentences that say what would be right.
func TestTrouble(t *testing.T) {
	for name, x := range map[string]struct {
		code   int
		reason metav1.StatusReason
		want   string
	}{
		"NotThere":     {0, "", "no such rollout: shop/nope in cluster test (known: my-app)"},
		"NotInstalled": {404, metav1.StatusReasonNotFound, "Serin is not installed there"},
		"Forbidden":    {403, metav1.StatusReasonForbidden, "cluster test: no: Forbidden"},
		"Unauthorized": {401, metav1.StatusReasonUnauthorized, "does not know who you are"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newServer(t)
			s.put(someDoc(t, "my-app"))
			if x.code != 0 {
				s.refuse = func(*http.Request) (int, metav1.StatusReason) { return x.code, x.reason }
			}
			_, err := c.Get(t.Context(), httpapi.Ref{Name: "nope"})
			var told *httpapi.StatusError
			if !errors.As(err, &told) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v: want %q as a sentence", err, x.want)
			}
			if err := c.Watch(t.Context(), httpapi.Ref{Name: "nope"}, func(httpapi.Update) error { return nil }); !errors.As(err, &told) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("watching: %v: want %q as a sentence", err, x.want)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"}, "cluster gone", "shop", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context()); err == nil || !strings.Contains(err.Error(), "cluster gone") || errors.As(err, new(*httpapi.StatusError)) {
		t.Errorf("%v", err)
	}
}

// Watching goes on over ends of the watch, over a version that the server has
// forgotten, and tells what is gone.
func TestWatch(t *testing.T) {
	s, c := newServer(t)
	s.put(someDoc(t, "my-app"))
	updates := make(chan httpapi.Update)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- c.Watch(ctx, httpapi.Ref{Name: "my-app"}, func(u httpapi.Update) error {
			select {
			case updates <- u:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	opened := 0
	watching := func() { // so that nothing falls between list and watch in this server, which keeps no past
		t.Helper()
		opened++
		for {
			n := 0
			s.mu.Lock()
			if len(s.watches) > 0 {
				n = s.opened
			}
			s.mu.Unlock()
			if n >= opened {
				return
			}
			if t.Context().Err() != nil {
				t.Fatal("nobody watches")
			}
			runtime.Gosched()
		}
	}
	next := func(want string) {
		t.Helper()
		u := <-updates
		got := "gone"
		if u.View != nil {
			got = u.View.Message
		}
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	say := func(message string) *v1alpha1.Rollout {
		d := someDoc(t, "my-app")
		d.Status.Message = message
		return d
	}
	next("Step 1 of 3.")
	watching()
	s.put(say("two"))
	next("two")
	s.closeWatches() // as the server does every few minutes
	watching()
	s.put(say("three"))
	next("three")
	s.mu.Lock() // forgotten: it lists anew
	s.tell(rollouts, "ERROR", metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: 410, Reason: metav1.StatusReasonExpired, Message: "too old"})
	s.mu.Unlock()
	next("three")
	watching()
	s.mu.Lock()
	s.tell(rollouts, "DELETED", s.docs["my-app"])
	s.mu.Unlock()
	next("gone")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestWatchEndsWithItsReader(t *testing.T) {
	s, c := newServer(t)
	s.put(someDoc(t, "my-app"))
	if err := c.Watch(t.Context(), httpapi.Ref{Name: "my-app"}, func(httpapi.Update) error { return io.EOF }); err != nil {
		t.Errorf("%v: io.EOF is the end", err)
	}
	mine := errors.New("mine")
	if err := c.Watch(t.Context(), httpapi.Ref{}, func(httpapi.Update) error { return mine }); err != mine {
		t.Errorf("%v: want the reader's", err)
	}
}

// A command's author is who the API server says, and what became of it is told.
func TestCommand(t *testing.T) {
	s, c := newServer(t)
	s.put(someDoc(t, "my-app"))
	cmd := rollout.Command{ID: "pause-1", Verb: rollout.VerbPause, By: "root", Reason: "lunch", N: 4}
	a, err := c.Command(t.Context(), httpapi.Ref{Name: "my-app"}, cmd)
	if err != nil || a.Refused || a.Message != "alice@example.org paused: lunch." || a.ID != "pause-1" {
		t.Fatalf("%+v, %v", a, err)
	}
	if got := s.cmds["pause-1"]; got.Spec.By != "alice@example.org" || got.Spec.Rollout != "my-app" || got.Spec.N != 4 || got.Namespace != "shop" {
		t.Errorf("%+v", got.Spec)
	}
	a, err = c.Command(t.Context(), httpapi.Ref{Name: "my-app"}, rollout.Command{ID: "promote-1", Verb: rollout.VerbPromote, N: 5})
	if err != nil || !a.Refused || !strings.Contains(a.Message, "waits for an approval") {
		t.Errorf("%+v, %v", a, err)
	}
	// Sent again under its id it is the same command.
	before := len(s.cmds)
	if a, err := c.Command(t.Context(), httpapi.Ref{Name: "my-app"}, cmd); err != nil || a.Message != "alice@example.org paused: lunch." || len(s.cmds) != before {
		t.Errorf("%+v, %v, %d commands", a, err, len(s.cmds))
	}
	a, err = c.Command(t.Context(), httpapi.Ref{Name: "my-app"}, rollout.Command{ID: "adopt-1", Verb: rollout.VerbAdopt, Revision: "v1"})
	if got := s.cmds["adopt-1"].Spec; err != nil || got.Stable != "v1" || got.Revision != "" {
		t.Errorf("%+v, %v, %+v", a, err, got)
	}
}

// Nobody takes it: that is said, with what happens next. (The wait is cut short
// by the caller here.)
func TestCommandThatNobodyTakes(t *testing.T) {
	s, c := newServer(t)
	s.take = false
	s.put(someDoc(t, "my-app"))
	ctx, cancel := context.WithTimeout(t.Context(), 300e6)
	defer cancel()
	_, err := c.Command(ctx, httpapi.Ref{Name: "my-app"}, rollout.Command{ID: "pause-1", Verb: rollout.VerbPause})
	var told *httpapi.StatusError
	if !errors.As(err, &told) || !strings.Contains(err.Error(), "no controller took it") || !strings.Contains(err.Error(), "kubectl delete rolloutcommand -n shop pause-1") {
		t.Errorf("%v", err)
	}
}

// A refusal need not be a decision: where nothing can be decided, none is.
func TestCommandThatIsRefusedWithoutADecision(t *testing.T) {
	s, c := newServer(t)
	s.put(someDoc(t, "my-app"))
	s.says = "refused: the document of my-app cannot be followed"
	a, err := c.Command(t.Context(), httpapi.Ref{Name: "my-app"}, rollout.Command{ID: "pause-1", Verb: rollout.VerbPause, N: 9})
	if err != nil || !a.Refused || a.Message != s.says {
		t.Errorf("%+v, %v", a, err)
	}
}

// Where the controller has said what keeps it from that, that is said, too.
func TestCommandThatCannotBeTaken(t *testing.T) {
	s, c := newServer(t)
	s.take = false
	doc := someDoc(t, "my-app")
	doc.Status.Conditions = []metav1.Condition{{Type: "Stalled", Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInvalid, Message: "this version of Serin made a mistake over it (nil map)."}}
	s.put(doc)
	ctx, cancel := context.WithTimeout(t.Context(), 300e6)
	defer cancel()
	_, err := c.Command(ctx, httpapi.Ref{Name: "my-app"}, rollout.Command{ID: "abort-1", Verb: rollout.VerbAbort})
	if err == nil || !strings.Contains(err.Error(), "It says of shop/my-app: this version of Serin made a mistake over it (nil map);") {
		t.Errorf("%v", err)
	}
}

func TestMay(t *testing.T) {
	_, c := newServer(t)
	verbs, err := c.May(t.Context(), httpapi.Ref{Name: "my-app"})
	if err != nil || !slices.Equal(verbs, []rollout.Verb{rollout.VerbAbort, rollout.VerbPause}) {
		t.Errorf("%v, %v", verbs, err)
	}
}

// A kubeconfig says where, who and which namespace, as kubectl reads it.
func TestConnect(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	text := `
apiVersion: v1
kind: Config
clusters: [{name: one, cluster: {server: "http://127.0.0.1:1"}}, {name: two, cluster: {server: "http://127.0.0.1:2"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: a, context: {cluster: one, user: u, namespace: shop}}, {name: b, context: {cluster: two, user: u}}]
current-context: a
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		o    Options
		want string
	}{
		"Current":   {Options{Kubeconfig: file}, "cluster a, namespace shop"},
		"Context":   {Options{Kubeconfig: file, Context: "b"}, "cluster b, namespace default"},
		"Namespace": {Options{Kubeconfig: file, Context: "b", Namespace: "x"}, "cluster b, namespace x"},
		"All":       {Options{Kubeconfig: file, All: true}, "cluster a, every namespace"},
		"NoContext": {Options{Kubeconfig: file, Context: "zzz"}, `context "zzz" does not exist`},
		"NoFile":    {Options{Kubeconfig: filepath.Join(dir, "nope")}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Connect(x.o)
			got := fmt.Sprint(err)
			if err == nil {
				got = c.String()
				c.Close()
			}
			if !strings.Contains(got, x.want) {
				t.Errorf("%q, want %q", got, x.want)
			}
		})
	}
}
