package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/apiserver"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/rollout/standing"
)

// Manager is the field manager of our writes.
const Manager = "serin-controller"

// numbersEvery is how old numbers in the readable part may get where nothing
// but numbers changes.
const numbersEvery = 30 * time.Second

// Store keeps one rollout's Saved in its Rollout's status.
type Store struct {
	live  client.Reader
	write client.SubResourceWriter
	key   types.NamespacedName
	uid   types.UID

	mu         sync.Mutex
	generation int64
	objects    []byte                 // what a rollout follows, as JSON; nil: not said
	trouble    standing.Trouble       // of the passes before
	pass       Pass                   // the last that was decided
	known      bool                   // last says something
	last       v1alpha1.RolloutStatus // as it stands, as far as we have read or written it
	numbersAt  time.Time              // when the readable part was last written
}

// New names the Rollout. live must not read from a cache. uid is the object's;
// it is never another object of the same name that is read or written.
// Nothing is read or written before the first call.
func New(live client.Reader, write client.SubResourceWriter, rollout types.NamespacedName, uid types.UID) *Store {
	return &Store{live: live, write: write, key: rollout, uid: uid}
}

// Follow says which generation of the document the passes from now on follow.
func (s *Store) Follow(generation int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation = generation
}

// Trouble says what trouble the passes have, which people read beside what was
// decided, from the next write on.
func (s *Store) Trouble(t standing.Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = t
}

// Objects says what the passes from now on are about, as a JSON object: it
// stands in the status as long as a rollout is under way, so that a process
// that starts in the middle of it knows, whatever the document says by then.
func (s *Store) Objects(raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects = raw
}

// Policy is decide, overheard: what it was given and what it said is what the
// next Save makes the readable part from.
func (s *Store) Policy(decide engine.Policy) engine.Policy {
	return func(spec rollout.Spec, st rollout.State, obs rollout.Observation, now time.Time) rollout.Decision {
		d := decide(spec, st, obs, now)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pass = Pass{Generation: s.generation, Spec: spec, State: d.Next, Seen: obs, Decision: d, Time: now}
		return d
	}
}

// DamagedError says that a status holds a copy that cannot be used, and what a
// person can do. Nothing overwrites it.
type DamagedError struct {
	Rollout types.NamespacedName
	Why     string
	Remedy  string
}

func (e *DamagedError) Error() string {
	what := "the status"
	if e.Rollout.Name != "" {
		what += " of rollout " + e.Rollout.String()
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s. %s", what, e.Why, e.Remedy))
}

// Unwrap says that trying again does not help.
func (e *DamagedError) Unwrap() error { return engine.ErrRefused }

// Load implements [engine.Store]. It asks the API server itself.
func (s *Store) Load(ctx context.Context) (engine.Saved, error) {
	if err := ctx.Err(); err != nil {
		return engine.Saved{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.read(ctx); err != nil {
		return engine.Saved{}, err
	}
	return s.saved()
}

// saved is the copy in the status as it was last read or written.
func (s *Store) saved() (engine.Saved, error) {
	saved, err := unpack(s.last)
	return saved, s.named(err)
}

// named tells whose copy it is that is damaged, and what that person types who
// wants to go on without it.
func (s *Store) named(err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		damaged.Rollout = s.key
		if damaged.Remedy == "" {
			damaged.Remedy = fmt.Sprintf("`kubectl patch rollout %s -n %s --subresource=status --type=merge -p '{\"status\":null}'` empties the status: the rollout then goes on from what the route says, with no evidence and no history.", s.key.Name, s.key.Namespace)
		}
	}
	return err
}

// read takes over the status as it stands and returns its resourceVersion.
func (s *Store) read(ctx context.Context) (resourceVersion string, err error) {
	u, err := s.object(ctx)
	if err != nil {
		return "", err
	}
	if err := s.take(u); err != nil {
		return "", err
	}
	return u.GetResourceVersion(), nil
}

// object is the Rollout as the API server has it now.
func (s *Store) object(ctx context.Context) (*unstructured.Unstructured, error) {
	u := object(s.key)
	if err := s.live.Get(ctx, s.key, u); err != nil {
		return nil, fmt.Errorf("reading rollout %s: %w", s.key, apiserver.Kind(err))
	}
	if u.GetUID() != s.uid {
		return nil, fmt.Errorf("rollout %s is another object by now: %w", s.key, engine.ErrNotFound)
	}
	return u, nil
}

// object is unstructured on purpose: a document that this program cannot read
// must not keep a state from being read, and a state not from being written.
func object(key types.NamespacedName) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	u.SetNamespace(key.Namespace)
	u.SetName(key.Name)
	return u
}

// take remembers the status of an object as the API server gave it.
func (s *Store) take(u *unstructured.Unstructured) error {
	raw, err := json.Marshal(u.Object["status"])
	if err != nil {
		return fmt.Errorf("reading the status of rollout %s: %w", s.key, err)
	}
	var st v1alpha1.RolloutStatus
	if err := json.Unmarshal(raw, &st); err != nil {
		return s.named(&DamagedError{Why: "cannot be understood: " + err.Error()})
	}
	s.last, s.known = st, true
	return nil
}

// Save implements [engine.Store]: it writes the copy, and with it the readable
// part of the pass that it comes from.
func (s *Store) Save(ctx context.Context, saved engine.Saved) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	locked := test{"/status/copy", saved.Version}
	if saved.Version == "" || !s.known {
		resourceVersion, err := s.read(ctx)
		if err != nil {
			return "", err
		}
		if saved.Version == "" {
			// There may be no status yet whose copy could be tested.
			locked = test{"/metadata/resourceVersion", resourceVersion}
		}
	}
	if saved.Version == "" && s.last.Copy != "" {
		return "", fmt.Errorf("rollout %s holds copy %q already: %w", s.key, s.last.Copy, engine.ErrConflict)
	}
	pass := s.pass
	pass.State, pass.Trouble = saved.State, s.trouble
	if pass.Time.IsZero() {
		pass.Time = time.Now().UTC()
	}
	next := Readable(pass, s.last)
	if saved.State.Moves() && len(s.objects) > 0 {
		next.Objects = &runtime.RawExtension{Raw: s.objects}
	}
	if err := pack(&next, saved); err != nil {
		return "", fmt.Errorf("the status of rollout %s: %w", s.key, err)
	}
	if err := s.put(ctx, next, locked, pass.Time); err != nil {
		return "", err
	}
	return next.Copy, nil
}

// Publish writes the readable part of a pass that had nothing to save, if
// people would read something else in it: another phase, another condition,
// other words. Where only numbers differ, it writes at most every 30 s. It
// leaves the copy as it is, and its name too, so that it is in nobody's way.
func (s *Store) Publish(ctx context.Context, res engine.Result) (wrote bool, err error) {
	if !res.Decided {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publish(ctx, res.At, func(last v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
		return Readable(Pass{Generation: s.generation, Spec: s.pass.Spec, State: res.State, Seen: res.Seen, Decision: res.Decision, Time: res.At, Trouble: s.trouble}, last)
	})
}

// PublishInvalid says of a document that cannot be followed what is wrong with
// it. What was decided before stays as it is, and so does what people read of
// it.
func (s *Store) PublishInvalid(ctx context.Context, generation int64, problem error, now time.Time) (wrote bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publish(ctx, now, func(last v1alpha1.RolloutStatus) v1alpha1.RolloutStatus {
		return invalid(last, generation, problem, now)
	})
}

// PublishUnreadable says of a copy that cannot be read why, and what helps. It
// writes the message and the conditions and nothing beside them: of the rest
// nobody knows what it is worth, and the copy is kept for whoever can read it.
func (s *Store) PublishUnreadable(ctx context.Context, generation int64, problem error, now time.Time) (wrote bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.object(ctx)
	if err != nil {
		return false, err
	}
	last, there := u.Object["status"].(map[string]any)
	if !there {
		return false, nil // nothing is there any more that could not be read
	}
	message, conditions := unreadable(problem, conditionsOf(last), generation, now)
	if said, _ := last["message"].(string); said == message && reflect.DeepEqual(conditions, conditionsOf(last)) {
		return false, nil
	}
	patch, err := json.Marshal([]operation{
		{"test", "/metadata/uid", s.uid},
		{"test", "/metadata/resourceVersion", u.GetResourceVersion()},
		{"add", "/status/observedGeneration", generation},
		{"add", "/status/message", message},
		{"add", "/status/conditions", conditions},
	})
	if err != nil {
		return false, fmt.Errorf("writing the status of rollout %s: %w", s.key, err)
	}
	s.known = false // what was read of it is not what is there now
	if err := s.write.Patch(ctx, object(s.key), client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(Manager)); err != nil {
		return false, fmt.Errorf("writing the status of rollout %s: %w", s.key, apiserver.Kind(err))
	}
	return true, nil
}

// conditionsOf reads the conditions of a status that may be anything; none where
// they cannot be understood.
func conditionsOf(status map[string]any) (out []metav1.Condition) {
	raw, err := json.Marshal(status["conditions"])
	if err != nil || json.Unmarshal(raw, &out) != nil {
		return nil
	}
	return out
}

func (s *Store) publish(ctx context.Context, now time.Time, render func(v1alpha1.RolloutStatus) v1alpha1.RolloutStatus) (bool, error) {
	resourceVersion := ""
	if !s.known || s.last.Copy == "" {
		var err error
		if resourceVersion, err = s.read(ctx); err != nil {
			return false, err
		}
	}
	next := render(s.last)
	keep(&next, s.last)
	if same(next, s.last) || alike(next, s.last) && now.Sub(s.numbersAt) < numbersEvery {
		return false, nil
	}
	if err := fit(&next); err != nil {
		return false, fmt.Errorf("the status of rollout %s: %w", s.key, err)
	}
	locked := test{"/status/copy", s.last.Copy}
	if s.last.Copy == "" {
		locked = test{"/metadata/resourceVersion", resourceVersion}
	}
	return true, s.put(ctx, next, locked, now)
}

// test is what has to hold for a write to be made.
type test struct{ path, value string }

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// put writes the whole status, if it is still our object and the test holds.
func (s *Store) put(ctx context.Context, next v1alpha1.RolloutStatus, locked test, now time.Time) error {
	patch, err := json.Marshal([]operation{
		{"test", "/metadata/uid", s.uid},
		{"test", locked.path, locked.value},
		{"add", "/status", next}, // "add" replaces what is there
	})
	if err != nil {
		return fmt.Errorf("writing the status of rollout %s: %w", s.key, err)
	}
	u := object(s.key)
	err = s.write.Patch(ctx, u, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(Manager))
	if err != nil {
		return fmt.Errorf("writing the status of rollout %s: %w", s.key, s.why(ctx, err, locked))
	}
	s.last, s.known, s.numbersAt = next, true, now
	return nil
}

// why tells a test that failed from a status that the schema refuses: to the
// API server both are 422.
func (s *Store) why(ctx context.Context, err error, locked test) error {
	if !unprocessable(err) {
		return apiserver.Kind(err)
	}
	resourceVersion, readErr := s.read(ctx)
	switch {
	case readErr != nil:
		return fmt.Errorf("%w (after: %v)", readErr, err) // what it is now is what counts
	case locked.path == "/metadata/resourceVersion" && resourceVersion != locked.value:
		return fmt.Errorf("it was changed in between: %w", engine.ErrConflict)
	case locked.path == "/status/copy" && s.last.Copy != locked.value:
		return fmt.Errorf("it holds copy %q, not %q: %w", s.last.Copy, locked.value, engine.ErrConflict)
	}
	return fmt.Errorf("%w: %v", engine.ErrRefused, err)
}

func unprocessable(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code == http.StatusUnprocessableEntity
}
