package access

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster answers reviews as an API server does, by a table of tokens and rights.
type cluster struct {
	mu     sync.Mutex
	tokens map[string]string // token -> user
	rights map[string]bool   // "user verb resource namespace/name"
	asked  []string
	broken int // status instead of an answer
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer own" {
		http.Error(w, "not the dashboard's account", http.StatusUnauthorized)
		return
	}
	if c.broken != 0 {
		http.Error(w, "the token secret-alice cannot be reviewed", c.broken)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/apis/authentication.k8s.io/v1/tokenreviews":
		var t authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&t)
		c.asked = append(c.asked, "token")
		user, ok := c.tokens[t.Spec.Token]
		t.Status.Authenticated = ok
		t.Status.User = authenticationv1.UserInfo{Username: user, Groups: []string{"people"}, UID: "u-" + user}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(t)
	case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
		var s authorizationv1.SubjectAccessReview
		_ = json.NewDecoder(r.Body).Decode(&s)
		a := s.Spec.ResourceAttributes
		q := s.Spec.User + " " + a.Verb + " " + a.Resource + " " + a.Namespace + "/" + a.Name
		c.asked = append(c.asked, q)
		s.Status.Allowed = c.rights[q] && a.Group == "serin.dev" && slices.Contains(s.Spec.Groups, "people") && s.Spec.UID != ""
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(s)
	default:
		http.NotFound(w, r)
	}
}

func (c *cluster) count(prefix string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.asked {
		if strings.HasPrefix(a, prefix) {
			n++
		}
	}
	return n
}

func open(t *testing.T) (*cluster, *Guard, *time.Time) {
	t.Helper()
	c := &cluster{
		tokens: map[string]string{"secret-alice": "alice", "secret-bob": "bob"},
		rights: map[string]bool{
			"alice list rollouts shop/": true, "alice create rolloutcommands shop/": true,
			"alice approve rollouts shop/cart": true, "alice pause rollouts shop/cart": true,
			"bob list rollouts shop/": true, "bob abort rollouts shop/cart": true, // and may create nothing
		},
	}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g, err := New(&rest.Config{Host: s.URL, BearerToken: "own"}, Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return c, g, &now
}

func TestEverybodyHasTheirOwnRights(t *testing.T) {
	_, g, _ := open(t)
	ctx := t.Context()
	cart := httpapi.Ref{Namespace: "shop", Name: "cart"}
	for name, x := range map[string]struct {
		token, who string
		shop, bank bool
		may        []rollout.Verb
	}{
		"Alice": {"secret-alice", "alice", true, false, []rollout.Verb{rollout.VerbPause, rollout.VerbApprove}},
		"Bob":   {"secret-bob", "bob", true, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := g.Identify(ctx, x.token)
			if err != nil || v.Name != x.who {
				t.Fatalf("%+v, %v", v, err)
			}
			if ok, err := g.Sees(ctx, v, "shop"); ok != x.shop || err != nil {
				t.Errorf("shop: %v, %v", ok, err)
			}
			if ok, err := g.Sees(ctx, v, "bank"); ok != x.bank || err != nil {
				t.Errorf("bank: %v, %v", ok, err)
			}
			may, err := g.May(ctx, v, cart)
			if !slices.Equal(may, x.may) || err != nil {
				t.Errorf("may %v, %v; want %v", may, err, x.may)
			}
		})
	}
	for _, token := range []string{"", "wrong", "secret-alice ", "a b", "x\r\nX: y", strings.Repeat("x", 1<<17)} {
		if _, err := g.Identify(ctx, token); !errors.Is(err, httpapi.ErrNobody) {
			t.Errorf("%.20q: %v", token, err)
		}
	}
	if ok, err := g.Sees(ctx, httpapi.Viewer{Name: "alice"}, "shop"); ok || err != nil {
		t.Errorf("a name without its token: %v, %v", ok, err)
	}
}

// An answer is remembered for seconds, and then asked anew: what was taken from
// somebody is gone.
func TestAnswersAreRememberedForSeconds(t *testing.T) {
	c, g, now := open(t)
	ctx := t.Context()
	for range 20 {
		v, err := g.Identify(ctx, "secret-alice")
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := g.Sees(ctx, v, "shop"); !ok {
			t.Fatal("she sees nothing")
		}
	}
	if n, m := c.count("token"), c.count("alice list"); n != 1 || m != 1 {
		t.Errorf("asked %d times who, %d times what; want once each", n, m)
	}
	c.mu.Lock()
	delete(c.tokens, "secret-alice")
	c.mu.Unlock()
	*now = now.Add(remember)
	if _, err := g.Identify(ctx, "secret-alice"); !errors.Is(err, httpapi.ErrNobody) {
		t.Errorf("a token that was taken back: %v", err)
	}
}

// No answer is no, and says nothing that it should not.
func TestNoAnswerIsNo(t *testing.T) {
	c, g, _ := open(t)
	v, err := g.Identify(t.Context(), "secret-alice")
	if err != nil {
		t.Fatal(err)
	}
	for status, says := range map[int]string{http.StatusInternalServerError: "status 500", http.StatusForbidden: "system:auth-delegator"} {
		c.mu.Lock()
		c.broken = status
		c.mu.Unlock()
		if ok, err := g.Sees(t.Context(), v, "shop"); ok || err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v, %v", status, ok, err)
		}
		if _, err := g.Identify(t.Context(), "secret-bob"); err == nil || errors.Is(err, httpapi.ErrNobody) {
			t.Errorf("%d: %v; want that it could not be found out", status, err)
		}
	}
}

// What is remembered is bounded.
func TestMemoryIsBounded(t *testing.T) {
	_, g, _ := open(t)
	for i := range 2 * rememberAll {
		keep(g, g.may, question{who: string(rune(i))}, true)
	}
	if len(g.may) > rememberAll {
		t.Errorf("%d answers are kept", len(g.may))
	}
}

// A command goes to the API server with the token of whoever sends it, never
// with the dashboard's own.
func TestCommandsCarryTheirSendersToken(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Header.Get("Authorization")] = true
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"alice cannot create rolloutcommands"}`))
	}))
	defer s.Close()
	g, err := New(&rest.Config{Host: s.URL, BearerToken: "own"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	h := g.Host(httpapi.NewRelay(nil, httpapi.Info{}))
	if _, err := h.Command(context.Background(), httpapi.Ref{Name: "cart"}, rollout.Command{ID: "1", Verb: rollout.VerbPause, By: "alice"}); err == nil {
		t.Error("a command of nobody was sent")
	}
	srv, err := httpapi.NewServer(h).Web(httpapi.WebOptions{Authorizer: token{}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "http://localhost/_serin/v1/rollouts/cart/commands?namespace=shop", strings.NewReader(`{"id":"1","verb":"pause","reason":"x"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer secret-alice")
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, r)
	mu.Lock()
	defer mu.Unlock()
	if !seen["Bearer secret-alice"] || seen["Bearer own"] || len(seen) != 1 {
		t.Errorf("the API server was asked as %v; %d %s", seen, w.Code, w.Body)
	}
	if w.Code == http.StatusOK || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// token lets everybody in with what they bring.
type token struct{}

func (token) Identify(_ context.Context, c string) (httpapi.Viewer, error) {
	return httpapi.Viewer{Name: "alice", Credential: c}, nil
}
func (token) Sees(context.Context, httpapi.Viewer, string) (bool, error) { return true, nil }
func (token) May(context.Context, httpapi.Viewer, httpapi.Ref) ([]rollout.Verb, error) {
	return httpapi.Verbs(), nil
}
