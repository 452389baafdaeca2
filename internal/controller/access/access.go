package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/controller/remote"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

const (
	rollouts = "rollouts"
	commands = "rolloutcommands"

	remember    = 10 * time.Second
	rememberAll = 4096 // answers of a kind
	askFor      = 10 * time.Second
	maxAnswer   = 1 << 20
)

// Options of a Guard.
type Options struct {
	// Audiences that a token must be for; empty: the API server's own.
	Audiences []string
	Now       func() time.Time // time.Now if nil
}

// Guard is an [httpapi.Authorizer] that asks an API server.
type Guard struct {
	cfg  *rest.Config
	base *url.URL
	http *http.Client
	o    Options

	mu  sync.Mutex
	who map[[32]byte]answer[person]
	may map[question]answer[bool]
}

// person is somebody as the API server knows them.
type person struct {
	known bool
	info  authenticationv1.UserInfo
}

type question struct{ who, verb, resource, namespace, name string }

type answer[T any] struct {
	is    T
	until time.Time
}

// Connect makes a guard for the cluster that a kubeconfig names, as kubectl
// would find it; in a pod, for its own.
func Connect(kubeconfig, kubecontext string, o Options) (*Guard, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubecontext}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return New(cfg, o)
}

// New makes a guard. cfg's own rights are used for the reviews alone.
func New(cfg *rest.Config, o Options) (*Guard, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("the access to the API server: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("the address of the API server: %w", err)
	}
	return &Guard{cfg: cfg, base: base, http: h, o: o, who: map[[32]byte]answer[person]{}, may: map[question]answer[bool]{}}, nil
}

// Close gives connections back.
func (g *Guard) Close() { g.http.CloseIdleConnections() }

// recall gives what is remembered.
func recall[K comparable, T any](g *Guard, m map[K]answer[T], k K) (T, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := m[k]
	return a.is, ok && g.o.Now().Before(a.until)
}

func keep[K comparable, T any](g *Guard, m map[K]answer[T], k K, is T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(m) >= rememberAll {
		clear(m) // asked again, that is all
	}
	m[k] = answer[T]{is, g.o.Now().Add(remember)}
}

// Identify implements [httpapi.Authorizer].
func (g *Guard) Identify(ctx context.Context, credential string) (httpapi.Viewer, error) {
	p, err := g.person(ctx, credential)
	switch {
	case err != nil:
		return httpapi.Viewer{}, err
	case !p.known:
		return httpapi.Viewer{}, httpapi.ErrNobody
	}
	return httpapi.Viewer{Name: p.info.Username, Groups: p.info.Groups, Credential: credential}, nil
}

func (g *Guard) person(ctx context.Context, token string) (person, error) {
	if token == "" || strings.ContainsAny(token, " \t\r\n") || len(token) > 64<<10 {
		return person{}, nil
	}
	key := sha256.Sum256([]byte(token))
	if p, ok := recall(g, g.who, key); ok {
		return p, nil
	}
	var r authenticationv1.TokenReview
	r.Spec = authenticationv1.TokenReviewSpec{Token: token, Audiences: g.o.Audiences}
	r.APIVersion, r.Kind = "authentication.k8s.io/v1", "TokenReview"
	if err := g.review(ctx, "authentication.k8s.io/v1/tokenreviews", &r); err != nil {
		return person{}, fmt.Errorf("asking whose a token is: %w", err)
	}
	p := person{known: r.Status.Authenticated && r.Status.User.Username != "", info: r.Status.User}
	if len(g.o.Audiences) > 0 && len(r.Status.Audiences) == 0 {
		p.known = false // by an authenticator that does not know what it was asked
	}
	keep(g, g.who, key, p)
	return p, nil
}

// allowed asks one right of a viewer.
func (g *Guard) allowed(ctx context.Context, v httpapi.Viewer, verb, resource, namespace, name string) (bool, error) {
	p, err := g.person(ctx, v.Credential)
	if err != nil || !p.known {
		return false, err
	}
	q := question{p.info.Username + "\n" + strings.Join(p.info.Groups, "\n") + "\n" + fmt.Sprint(p.info.Extra), verb, resource, namespace, name}
	if is, ok := recall(g, g.may, q); ok {
		return is, nil
	}
	extra := map[string]authorizationv1.ExtraValue{}
	for k, x := range p.info.Extra {
		extra[k] = authorizationv1.ExtraValue(x)
	}
	var r authorizationv1.SubjectAccessReview
	r.APIVersion, r.Kind = "authorization.k8s.io/v1", "SubjectAccessReview"
	r.Spec = authorizationv1.SubjectAccessReviewSpec{
		User: p.info.Username, Groups: p.info.Groups, UID: p.info.UID, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: v1alpha1.GroupVersion.Group, Resource: resource, Name: name,
		},
	}
	if err := g.review(ctx, "authorization.k8s.io/v1/subjectaccessreviews", &r); err != nil {
		return false, fmt.Errorf("asking what %s may do: %w", p.info.Username, err)
	}
	is := r.Status.Allowed && !r.Status.Denied
	keep(g, g.may, q, is)
	return is, nil
}

// Sees implements [httpapi.Authorizer]: who may list the rollouts of a
// namespace sees them.
func (g *Guard) Sees(ctx context.Context, v httpapi.Viewer, namespace string) (bool, error) {
	return g.allowed(ctx, v, "list", rollouts, namespace, "")
}

// May implements [httpapi.Authorizer]: who may create RolloutCommands, and has
// the virtual verb on the rollout, as the admission policy asks it.
func (g *Guard) May(ctx context.Context, v httpapi.Viewer, ref httpapi.Ref) ([]rollout.Verb, error) {
	if create, err := g.allowed(ctx, v, "create", commands, ref.Namespace, ""); err != nil || !create {
		return nil, err
	}
	var out []rollout.Verb
	for _, verb := range httpapi.Verbs() {
		ok, err := g.allowed(ctx, v, string(verb), rollouts, ref.Namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, verb)
		}
	}
	return out, nil
}

// review posts a review and reads its answer back into it.
func (g *Guard) review(ctx context.Context, path string, r any) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.base.JoinPath("apis", path).String(), bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := g.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the dashboard's own account may not create %s: it needs the role system:auth-delegator", path)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		return fmt.Errorf("the API server answers with status %d", resp.StatusCode) // its text may hold the token
	}
	return json.Unmarshal(body, r)
}

// Host gives h with commands that are sent in their viewer's own name.
func (g *Guard) Host(h httpapi.Host) httpapi.Host { return acting{h, g} }

type acting struct {
	httpapi.Host
	g *Guard
}

// Command implements [httpapi.Host].
func (a acting) Command(ctx context.Context, ref httpapi.Ref, c rollout.Command) (httpapi.Answer, error) {
	v, ok := httpapi.ViewerOf(ctx)
	if !ok || v.Credential == "" {
		return httpapi.Answer{}, &httpapi.Refusal{Why: "nobody is signed in"}
	}
	cfg := rest.AnonymousClientConfig(a.g.cfg)
	cfg.BearerToken = v.Credential
	own, err := remote.New(cfg, "the cluster", ref.Namespace, remote.Options{})
	if err != nil {
		return httpapi.Answer{}, err
	}
	defer own.Close()
	return httpapi.NewRelay(own, httpapi.Info{}).Command(ctx, ref, c)
}
