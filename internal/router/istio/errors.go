package istio

import (
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

// testFailed: the patch does not apply to the object as it is now. The API
// server says so as 422, as it does of an object that breaks the schema; only
// the former is a bare answer without a field.
func testFailed(err error) bool {
	if status, ok := err.(apierrors.APIStatus); ok {
		s := status.Status()
		if s.Reason != metav1.StatusReasonInvalid || s.Details == nil {
			return false
		}
		for _, c := range s.Details.Causes {
			if c.Type == metav1.CauseTypeUnexpectedServerResponse && c.Field == "" && applyError(c.Message) {
				return true
			}
		}
		return false
	}
	return applyError(err.Error())
}

// applyError knows the texts of the library that the API server applies JSON
// Patches with. Every one of our patches tests the resourceVersion first, so
// that none of them is about anything but an object that has changed.
func applyError(text string) bool {
	for _, known := range []string{"test failed", "testing value ", "error in test for path", "operation does not apply", "Unable to access invalid index", "missing value"} {
		if strings.Contains(text, known) {
			return true
		}
	}
	return false
}
