// Package apiserver says what the errors of a Kubernetes API server mean to the
// engine: somebody was faster, it is not there, we may not, it will never be
// accepted, come back later. Every other error is left as it is, and is tried
// again.
//
//	err := client.Patch(ctx, obj, patch)
//	return fmt.Errorf("patching %s: %w", name, apiserver.Kind(err))
package apiserver

import (
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/internal/engine"
)

// Kind gives an error the engine's word for it. The word is all that is
// wrapped: of several the engine would take the worst.
func Kind(err error) error {
	word := func(kind error) error { return fmt.Errorf("%w: %v", kind, err) }
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err), TestFailed(err):
		return word(engine.ErrConflict)
	case apierrors.IsNotFound(err):
		return word(engine.ErrNotFound)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return word(engine.ErrForbidden)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err), apierrors.IsRequestEntityTooLargeError(err):
		return word(engine.ErrRefused)
	}
	if seconds, asked := apierrors.SuggestsClientDelay(err); asked || apierrors.IsTooManyRequests(err) {
		return &engine.ThrottledError{After: time.Duration(max(1, seconds)) * time.Second, Err: err}
	}
	return err
}

// TestFailed: a JSON patch does not apply to the object as it is now, which for
// a patch that tests first what it follows from means that the object has
// changed. The API server says so as a bare 422, and tells nobody which
// operation it was; an object that breaks the schema, or a policy, is a 422 too,
// and says why.
func TestFailed(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		text := err.Error() // clients in memory give the patch library's own error
		return strings.Contains(text, "test failed") || strings.Contains(text, "operation does not apply")
	}
	s := status.Status()
	return s.Reason == metav1.StatusReasonInvalid && strings.HasPrefix(s.Message, bare422)
}

// bare422 begins what NewGenericServerResponse says of a 422.
const bare422 = "the server rejected our request due to an error in our request"
