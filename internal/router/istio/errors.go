package istio

import (
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/internal/engine"
)

// kindOf gives an error of the API server the kind that the engine knows.
func kindOf(err error) error {
	wrap := func(kind error) error { return fmt.Errorf("%w: %v", kind, err) } // its kind alone counts
	switch {
	case err == nil:
		return nil
	case testFailed(err), apierrors.IsConflict(err):
		return wrap(engine.ErrConflict)
	case meta.IsNoMatchError(err):
		return fmt.Errorf("%w: the cluster does not know Istio's API: %v", engine.ErrRefused, err)
	case apierrors.IsNotFound(err):
		return wrap(engine.ErrNotFound)
	case apierrors.IsForbidden(err):
		return wrap(engine.ErrForbidden)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err), apierrors.IsRequestEntityTooLargeError(err):
		return wrap(engine.ErrRefused)
	}
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
		return &engine.ThrottledError{After: time.Duration(seconds) * time.Second, Err: err}
	}
	return err
}

// testFailed: the patch does not apply to the object as it is now. Every one of
// our patches tests the resourceVersion first, so that this can only mean that
// the object has changed. The API server says so as a bare 422, and tells
// nobody which operation it was; an object that breaks the schema, or a policy,
// is a 422 too, and says why.
func testFailed(err error) bool {
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
