package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/serin-dev/serin/internal/rollout"
)

// Viewer is the person behind a browser's request.
type Viewer struct {
	Name string // as decisions record it
	// Credential is what it was told by. A host that acts with its viewer's own
	// rights uses it; nobody shows or logs it.
	Credential string
	Groups     []string // where the authorizer knows them
	Look       bool     // may look and nothing else, whatever else is true
}

// Authorizer says who asks and what they may. Every answer is about this
// moment: a server asks again with each request, and with a stream every few
// minutes. Implementations may remember answers for seconds.
type Authorizer interface {
	// Identify gives the person behind a credential; [ErrNobody] where it is
	// none's. Any other error says that it could not be found out.
	Identify(ctx context.Context, credential string) (Viewer, error)
	// Sees says whether the viewer may look at the rollouts of a namespace.
	Sees(ctx context.Context, v Viewer, namespace string) (bool, error)
	// May gives the commands that the viewer may send to a rollout, whatever it
	// does at the moment.
	May(ctx context.Context, v Viewer, ref Ref) ([]rollout.Verb, error)
}

// ErrNobody: a credential that nobody has.
var ErrNobody = errors.New("this token lets nobody in")

// Verbs are all commands.
func Verbs() []rollout.Verb {
	return []rollout.Verb{
		rollout.VerbAbort, rollout.VerbUndo, rollout.VerbPause, rollout.VerbApprove,
		rollout.VerbResume, rollout.VerbPromote, rollout.VerbRetry, rollout.VerbAdopt,
	}
}

// Keys let the owner of one machine in: who has Full may do everything, who has
// Look may look. It is an [Authorizer].
type Keys struct {
	Full string `json:"full"`
	Look string `json:"look"`
	User string `json:"-"` // in whose name Full acts
}

// NewKeys makes keys that last as long as the process.
func NewKeys(user string) Keys { return Keys{Full: rand.Text(), Look: rand.Text(), User: user} }

// OpenKeys reads the keys of a file, which it makes for its owner alone where
// it is not there: they outlive a restart, and so does who was let in.
func OpenKeys(path, user string) (Keys, error) {
	k := Keys{User: user}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k = NewKeys(user)
		if b, err = json.Marshal(k); err != nil {
			return k, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return k, fmt.Errorf("keeping the dashboard's keys: %w", err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return k, fmt.Errorf("keeping the dashboard's keys: %w", err)
		}
		return k, nil
	case err != nil:
		return k, fmt.Errorf("reading the dashboard's keys: %w", err)
	}
	if err := json.Unmarshal(b, &k); err != nil || len(k.Full) < 16 || len(k.Look) < 16 || k.Full == k.Look {
		return k, fmt.Errorf("%s does not hold the dashboard's keys: remove it, and new ones are made", path)
	}
	return k, os.Chmod(path, 0o600)
}

// Identify implements [Authorizer].
func (k Keys) Identify(_ context.Context, credential string) (Viewer, error) {
	switch {
	case sameSecret(credential, k.Full):
		return Viewer{Name: k.User, Credential: credential}, nil
	case sameSecret(credential, k.Look):
		return Viewer{Name: "a guest of " + k.User, Credential: credential, Look: true}, nil
	}
	return Viewer{}, ErrNobody
}

// Sees implements [Authorizer].
func (k Keys) Sees(context.Context, Viewer, string) (bool, error) { return true, nil }

// May implements [Authorizer].
func (k Keys) May(_ context.Context, v Viewer, _ Ref) ([]rollout.Verb, error) {
	if v.Look {
		return nil, nil
	}
	return Verbs(), nil
}

func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return b != "" && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

type viewerKey struct{}

// ViewerOf is who a host acts for: false on the socket, whose caller is the
// owner and says so.
func ViewerOf(ctx context.Context) (Viewer, bool) {
	v, ok := ctx.Value(viewerKey{}).(Viewer)
	return v, ok
}

type seesKey struct{}

// seesOf tells which namespaces a request may look at: on the socket, all.
func seesOf(r *http.Request) func(namespace string) bool {
	if sees, ok := r.Context().Value(seesKey{}).(func(string) bool); ok {
		return sees
	}
	return func(string) bool { return true }
}

// sees asks an authorizer once for each namespace. What it cannot say is no.
func (s *Server) sees(ctx context.Context, a Authorizer, v Viewer) func(string) bool {
	known := map[string]bool{}
	return func(namespace string) bool {
		if _, asked := known[namespace]; !asked {
			ok, err := a.Sees(ctx, v, namespace)
			if err != nil {
				s.log.Warn("asking who may look", "namespace", namespace, "err", err)
			}
			known[namespace] = ok && err == nil
		}
		return known[namespace]
	}
}

func may(verbs []rollout.Verb, v rollout.Verb) bool { return slices.Contains(verbs, v) }
