package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Options name a cluster as kubectl's flags do. Empty parts are as the
// kubeconfig has them; without one, inside a pod, they are the pod's own.
type Options struct {
	Kubeconfig string // file; default: $KUBECONFIG, then ~/.kube/config
	Context    string
	Namespace  string
	All        bool   // every namespace
	UserAgent  string // for the API server's log
}

// Client asks one cluster. It may be used from several goroutines.
type Client struct {
	rest      *rest.RESTClient
	transport http.RoundTripper
	where     string // "cluster NAME"
	namespace string
	all       bool

	mu     sync.Mutex
	user   string
	groups []string
}

const (
	askFor   = 30 * time.Second // for one answer
	takenFor = 30 * time.Second // for a controller to take a command
	patience = time.Minute      // with an API server that is away, while watching
)

// Connect makes a client. Nobody is asked anything yet.
func Connect(o Options) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	over := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	over.Context.Namespace = o.Namespace
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, over)
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig (%s): %w", files(rules), err)
	}
	ns, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig (%s): %w", files(rules), err)
	}
	where := "the cluster at " + cfg.Host
	if raw, err := loader.RawConfig(); err == nil {
		if name := cmp.Or(o.Context, raw.CurrentContext); name != "" {
			where = "cluster " + name
		}
	}
	return New(cfg, where, ns, o)
}

func files(r *clientcmd.ClientConfigLoadingRules) string {
	if r.ExplicitPath != "" {
		return r.ExplicitPath
	}
	return strings.Join(r.GetLoadingPrecedence(), ", ")
}

// New makes a client for a cluster that is known already. where is how it is
// called in sentences.
func New(cfg *rest.Config, where, namespace string, o Options) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	gv := v1alpha1.GroupVersion
	cfg.GroupVersion, cfg.APIPath = &gv, "/apis"
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	cfg.QPS = -1 // the server has its own fairness
	if o.UserAgent != "" {
		cfg.UserAgent = o.UserAgent
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("the access to %s: %w", where, err)
	}
	c, err := rest.RESTClientForConfigAndClient(cfg, h)
	if err != nil {
		return nil, fmt.Errorf("the access to %s: %w", where, err)
	}
	return &Client{rest: c, transport: h.Transport, where: where, namespace: cmp.Or(namespace, metav1.NamespaceDefault), all: o.All}, nil
}

// Close gives connections back.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// String says where the client asks: "cluster prod, namespace shop".
func (c *Client) String() string {
	if c.all {
		return c.where + ", every namespace"
	}
	return c.where + ", namespace " + c.namespace
}

// ref fills in the namespace.
func (c *Client) ref(ref httpapi.Ref) httpapi.Ref {
	if ref.Namespace == "" {
		ref.Namespace = c.namespace
	}
	return ref
}

// listed is the namespace that is listed: empty for all.
func (c *Client) listed() string {
	if c.all {
		return ""
	}
	return c.namespace
}

const (
	rollouts = "rollouts"
	commands = "rolloutcommands"
)

// List implements the command line's host: one call.
func (c *Client) List(ctx context.Context) ([]httpapi.RolloutView, error) {
	docs, err := c.list(ctx, c.listed(), "")
	if err != nil {
		return nil, err
	}
	out := []httpapi.RolloutView{}
	for i := range docs.Items {
		out = append(out, View(&docs.Items[i]))
	}
	slices.SortFunc(out, func(a, b httpapi.RolloutView) int {
		if d := strings.Compare(a.Namespace, b.Namespace); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, nil
}

func (c *Client) list(ctx context.Context, namespace, name string) (*v1alpha1.RolloutList, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	req := c.rest.Get().NamespaceIfScoped(namespace, namespace != "").Resource(rollouts)
	if name != "" {
		req = req.Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", name).String())
	}
	var out v1alpha1.RolloutList
	if err := req.Do(ctx).Into(&out); err != nil {
		return nil, c.told("listing rollouts", err)
	}
	return &out, nil
}

// Get implements the command line's host: one call, and where there is no such
// rollout another one that says which there are.
func (c *Client) Get(ctx context.Context, ref httpapi.Ref) (httpapi.RolloutView, error) {
	ref = c.ref(ref)
	doc, err := c.get(ctx, ref)
	if err != nil {
		return httpapi.RolloutView{}, err
	}
	return View(doc), nil
}

func (c *Client) get(ctx context.Context, ref httpapi.Ref) (*v1alpha1.Rollout, error) {
	ask, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var doc v1alpha1.Rollout
	err := c.rest.Get().Namespace(ref.Namespace).Resource(rollouts).Name(ref.Name).Do(ask).Into(&doc)
	switch {
	case err == nil:
		return &doc, nil
	case apierrors.IsNotFound(err) && !notInstalled(err):
		return nil, c.absent(ctx, ref)
	}
	return nil, c.told("reading rollout "+ref.String(), err)
}

// Document is a Rollout as the cluster has it, and its view: one call.
func (c *Client) Document(ctx context.Context, ref httpapi.Ref) (*v1alpha1.Rollout, httpapi.RolloutView, error) {
	doc, err := c.get(ctx, c.ref(ref))
	if err != nil {
		return nil, httpapi.RolloutView{}, err
	}
	return doc, View(doc), nil
}

// absent says which rollouts there are instead.
func (c *Client) absent(ctx context.Context, ref httpapi.Ref) error {
	sentence := fmt.Sprintf("no such rollout: %s in %s", ref, c.where)
	if docs, err := c.list(ctx, ref.Namespace, ""); err == nil {
		var known []string
		for i := range docs.Items {
			known = append(known, docs.Items[i].Name)
		}
		slices.Sort(known)
		switch n := len(known); {
		case n == 0:
			sentence += fmt.Sprintf(" (namespace %s has none)", ref.Namespace)
		case n > 10:
			sentence += fmt.Sprintf(" (known: %s and %d more)", strings.Join(known[:10], ", "), n-10)
		default:
			sentence += fmt.Sprintf(" (known: %s)", strings.Join(known, ", "))
		}
	}
	return &httpapi.StatusError{Status: http.StatusNotFound, Sentence: sentence}
}

// notInstalled tells a missing kind from a missing object: only the latter is
// named in the answer.
func notInstalled(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s) && s.Status().Code == http.StatusNotFound && (s.Status().Details == nil || s.Status().Details.Name == "")
}

// told makes a sentence of an answer that is not a success; whoever did not
// answer at all is another error.
func (c *Client) told(doing string, err error) error {
	var s apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case notInstalled(err):
		return &httpapi.StatusError{Status: http.StatusNotFound, Sentence: fmt.Sprintf("%s does not know the kind Rollout (serin.dev/v1alpha1): Serin is not installed there", c.where)}
	case apierrors.IsUnauthorized(err):
		return &httpapi.StatusError{Status: http.StatusUnauthorized, Sentence: fmt.Sprintf("%s does not know who you are: the kubeconfig's credentials are not, or no longer, good", c.where)}
	case apierrors.IsForbidden(err):
		return &httpapi.StatusError{Status: http.StatusForbidden, Sentence: fmt.Sprintf("%s: %s", c.where, strings.TrimPrefix(err.Error(), "Error from server (Forbidden): "))}
	case errors.As(err, &s) && s.Status().Code >= 400 && s.Status().Code < 500 && !apierrors.IsTooManyRequests(err):
		e := &httpapi.StatusError{Status: int(s.Status().Code), Sentence: doing + ": " + err.Error()}
		if d := s.Status().Details; d != nil && len(d.Causes) > 1 {
			e.Sentence = doing + ": it is not right"
			for _, cause := range d.Causes {
				e.Problems = append(e.Problems, strings.TrimPrefix(cause.Field+": ", ": ")+cause.Message)
			}
		}
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %s did not answer within %s: %w", doing, c.where, askFor, err)
	}
	return fmt.Errorf("%s: asking %s: %w", doing, c.where, err)
}

// Watch implements the command line's host: one list, then one watch for as
// long as it lives. Where ref has no name it follows every rollout in view. It
// goes on over restarts of the API server that take less than a minute.
func (c *Client) Watch(ctx context.Context, ref httpapi.Ref, see func(httpapi.Update) error) error {
	namespace := c.listed()
	if ref.Name != "" {
		ref = c.ref(ref)
		namespace = ref.Namespace
	}
	f := &follower{c: c, namespace: namespace, ref: ref, known: map[httpapi.Ref]bool{}}
	p := httpapi.Patience{Away: func(error) bool { return true }, For: patience, Pause: time.Second}
	return httpapi.Follow(ctx, p, see, func(see func(httpapi.Update) error, alive func()) error {
		f.see = see
		return f.follow(ctx, alive)
	})
}

// follower is one Watch: what it has given so far.
type follower struct {
	c         *Client
	namespace string
	ref       httpapi.Ref
	see       func(httpapi.Update) error
	known     map[httpapi.Ref]bool
	version   string // of the list or event last seen; "" = list first
	any       bool   // it has been answered once
}

// follow lists where it has to, and watches until the watch ends. nil: watch
// again.
func (f *follower) follow(ctx context.Context, alive func()) error {
	if f.version == "" {
		docs, err := f.c.list(ctx, f.namespace, f.ref.Name)
		if err != nil {
			return err
		}
		alive()
		if f.ref.Name != "" && len(docs.Items) == 0 && !f.any {
			return f.c.absent(ctx, f.ref)
		}
		f.any = true
		if err := f.all(docs); err != nil {
			return err
		}
		f.version = docs.ResourceVersion
	}
	req := f.c.rest.Get().NamespaceIfScoped(f.namespace, f.namespace != "").Resource(rollouts).
		Param("watch", "true").Param("allowWatchBookmarks", "true").Param("resourceVersion", f.version).Param("timeoutSeconds", "300")
	if f.ref.Name != "" {
		req = req.Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", f.ref.Name).String())
	}
	w, err := req.Watch(ctx)
	if err != nil {
		return f.lost(f.c.told("watching rollouts", err))
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.ResultChan():
			if !open {
				return nil
			}
			alive()
			if err := f.event(e); err != nil || f.version == "" {
				return err
			}
		}
	}
}

// lost: a version that the server has forgotten is listed anew.
func (f *follower) lost(err error) error {
	var told *httpapi.StatusError
	if errors.As(err, &told) && told.Status == http.StatusGone {
		f.version = ""
		return nil
	}
	return err
}

// all gives every object of a list, and says of what was given before and is
// not there that it is gone.
func (f *follower) all(docs *v1alpha1.RolloutList) error {
	here := map[httpapi.Ref]bool{}
	for i := range docs.Items {
		v := View(&docs.Items[i])
		here[httpapi.Ref{Namespace: v.Namespace, Name: v.Name}] = true
		if err := f.give(v); err != nil {
			return err
		}
	}
	for ref := range f.known {
		if !here[ref] {
			if err := f.gone(ref); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *follower) event(e watch.Event) error {
	if e.Type == watch.Error {
		err := apierrors.FromObject(e.Object)
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			f.version = ""
			return nil
		}
		return f.lost(f.c.told("watching rollouts", err))
	}
	doc, ok := e.Object.(*v1alpha1.Rollout)
	if !ok {
		return fmt.Errorf("watching rollouts: %s answered with a %T", f.c.where, e.Object)
	}
	f.version = doc.ResourceVersion
	switch e.Type {
	case watch.Added, watch.Modified:
		return f.give(View(doc))
	case watch.Deleted:
		return f.gone(httpapi.Ref{Namespace: doc.Namespace, Name: doc.Name})
	}
	return nil
}

func (f *follower) give(v httpapi.RolloutView) error {
	ref := httpapi.Ref{Namespace: v.Namespace, Name: v.Name}
	f.known[ref] = true
	return f.see(httpapi.Update{Ref: ref, View: &v})
}

func (f *follower) gone(ref httpapi.Ref) error {
	delete(f.known, ref)
	return f.see(httpapi.Update{Ref: ref})
}

// who is the user as the API server knows them, and their groups; it is asked
// once.
func (c *Client) who(ctx context.Context) (string, []string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user != "" {
		return c.user, c.groups, nil
	}
	var answer struct {
		Status struct {
			UserInfo struct {
				Username string   `json:"username"`
				Groups   []string `json:"groups"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	if err := c.review(ctx, "authentication.k8s.io", "SelfSubjectReview", nil, &answer); err != nil {
		return "", nil, fmt.Errorf("asking who you are: %w", err)
	}
	if c.user = answer.Status.UserInfo.Username; c.user == "" {
		return "", nil, fmt.Errorf("%s does not say who you are", c.where)
	}
	c.groups = answer.Status.UserInfo.Groups
	return c.user, c.groups, nil
}

// review asks the API server about the user themselves.
func (c *Client) review(ctx context.Context, group, kind string, spec, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	body := map[string]any{"apiVersion": group + "/v1", "kind": kind}
	if spec != nil {
		body["spec"] = spec
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	raw, err := c.rest.Post().AbsPath("/apis", group, "v1", strings.ToLower(kind)+"s").
		SetHeader("Content-Type", runtime.ContentTypeJSON).Body(b).Do(ctx).Raw()
	if err != nil {
		return c.told("reviewing your rights", err)
	}
	return json.Unmarshal(raw, into)
}

// May gives the commands that the user may send to a rollout, in the order of
// httpapi.Verbs.
func (c *Client) May(ctx context.Context, ref httpapi.Ref) ([]rollout.Verb, error) {
	ref = c.ref(ref)
	ask := func(verb, resource, name string) (bool, error) {
		var answer struct {
			Status struct {
				Allowed bool `json:"allowed"`
			} `json:"status"`
		}
		err := c.review(ctx, "authorization.k8s.io", "SelfSubjectAccessReview", map[string]any{"resourceAttributes": map[string]string{
			"namespace": ref.Namespace, "group": v1alpha1.GroupVersion.Group, "resource": resource, "verb": verb, "name": name,
		}}, &answer)
		return answer.Status.Allowed, err
	}
	if create, err := ask("create", commands, ""); err != nil || !create {
		return nil, err
	}
	var out []rollout.Verb
	for _, v := range httpapi.Verbs() {
		ok, err := ask(string(v), rollouts, ref.Name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// Command implements the command line's host. The command's author becomes the
// user whom the API server knows. It waits for a controller to take the command
// for half a minute.
func (c *Client) Command(ctx context.Context, ref httpapi.Ref, cmd rollout.Command) (httpapi.Answer, error) {
	ref = c.ref(ref)
	by, groups, err := c.who(ctx)
	if err != nil {
		return httpapi.Answer{}, err
	}
	cmd.By, cmd.Groups = by, nil
	if cmd.Verb == rollout.VerbApprove { // nobody else asks for them
		cmd.Groups = groups[:min(len(groups), 64)]
	}
	want, err := commandOf(ref, cmd)
	if err != nil {
		return httpapi.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, takenFor)
	defer cancel()
	doing := fmt.Sprintf("asking for %s of %s", cmd.Verb, ref)
	var made v1alpha1.RolloutCommand
	err = c.rest.Post().Namespace(ref.Namespace).Resource(commands).Body(want).Do(ctx).Into(&made)
	version := made.ResourceVersion
	switch {
	case apierrors.IsAlreadyExists(err): // sent before, and the answer was lost on its way
		version = "0"
	case err != nil:
		return httpapi.Answer{}, c.told(doing, err)
	}
	status, err := c.taken(ctx, ref.Namespace, cmd.ID, version)
	switch {
	case err != nil && ctx.Err() == context.DeadlineExceeded:
		return httpapi.Answer{}, &httpapi.StatusError{Status: http.StatusGatewayTimeout, Sentence: fmt.Sprintf(
			"%s is written down as RolloutCommand %s, and no controller took it within %s: it is obeyed when `serin controller` %s; `kubectl delete rolloutcommand -n %s %s` takes it back",
			cmd.Verb, cmd.ID, takenFor, c.whyNot(ref), ref.Namespace, cmd.ID)}
	case err != nil:
		return httpapi.Answer{}, c.told(doing, err)
	}
	return c.answer(ctx, ref, cmd, status), nil
}

// whyNot is what keeps a controller from taking a command, as far as the rollout
// itself says: one that runs and cannot says there why.
func (c *Client) whyNot(ref httpapi.Ref) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if doc, err := c.get(ctx, ref); err == nil {
		if v := View(doc); v.Stalled != "" {
			return fmt.Sprintf("can go on, or runs again. It says of %s: %s", ref, strings.TrimRight(v.Stalled, "."))
		}
	}
	return "runs again"
}

// taken waits until a controller has taken the command.
func (c *Client) taken(ctx context.Context, namespace, name, version string) (v1alpha1.RolloutCommandStatus, error) {
	for {
		w, err := c.rest.Get().Namespace(namespace).Resource(commands).Param("watch", "true").Param("resourceVersion", version).
			Param("fieldSelector", fields.OneTermEqualSelector("metadata.name", name).String()).Watch(ctx)
		if err != nil {
			return v1alpha1.RolloutCommandStatus{}, err
		}
		status, done, err := untilTaken(ctx, w)
		w.Stop()
		if done || err != nil {
			return status, err
		}
		version = "0" // the watch ended by itself: from what there is
	}
}

func untilTaken(ctx context.Context, w watch.Interface) (v1alpha1.RolloutCommandStatus, bool, error) {
	var none v1alpha1.RolloutCommandStatus
	for {
		select {
		case <-ctx.Done():
			return none, false, ctx.Err()
		case e, open := <-w.ResultChan():
			if !open {
				return none, false, nil
			}
			cmd, ok := e.Object.(*v1alpha1.RolloutCommand)
			switch {
			case e.Type == watch.Error:
				if err := apierrors.FromObject(e.Object); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
					return none, false, err
				}
				return none, false, nil
			case !ok:
				return none, false, fmt.Errorf("a %T came instead of a RolloutCommand", e.Object)
			case cmd.Status.Taken:
				return cmd.Status, true, nil
			case e.Type == watch.Deleted:
				return none, false, &httpapi.StatusError{Status: http.StatusGone, Sentence: fmt.Sprintf("RolloutCommand %s was deleted before a controller took it: nothing was done", cmd.Name)}
			}
		}
	}
}

// answer finds the decisions that followed from a command; where the rollout
// cannot be read any more, what the controller said of it is enough.
func (c *Client) answer(ctx context.Context, ref httpapi.Ref, cmd rollout.Command, status v1alpha1.RolloutCommandStatus) httpapi.Answer {
	refused := strings.HasPrefix(status.Message, "refused: ") // which need not be a decision: there may be nothing to decide upon
	fallback := httpapi.Answer{ID: cmd.ID, Refused: refused, Message: cmp.Or(status.Message, string(cmd.Verb)+" was taken")}
	doc, err := c.get(ctx, ref)
	if err != nil {
		return fallback
	}
	var after []rollout.Event
	for _, e := range View(doc).Decisions {
		if e.N > cmd.N {
			after = append(after, e)
		}
	}
	a := httpapi.AnswerFor(cmd, after)
	a.Refused = a.Refused || refused
	if status.Message != "" {
		a.Message = status.Message
	}
	return a
}
