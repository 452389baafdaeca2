package deployment

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serin-dev/serin/internal/engine"
)

// kindOf gives an API server's answer the engine's kind. A `test` of a patch
// that fails is a conflict, which the server calls unprocessable.
func kindOf(err error) error {
	seconds, asked := apierrors.SuggestsClientDelay(err)
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err), isFailedTest(err):
		return fmt.Errorf("%w: %v", engine.ErrConflict, err)
	case apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) && asked:
		return &engine.ThrottledError{After: time.Duration(max(1, seconds)) * time.Second, Err: err}
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w: %v", engine.ErrForbidden, err)
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return fmt.Errorf("%w: %v", engine.ErrNotFound, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		return fmt.Errorf("%w: %v", engine.ErrRefused, err)
	}
	return err
}

// isFailedTest tells a failed test from a value that is refused: the server has
// no word for the former but this status without the object's name.
func isFailedTest(err error) bool {
	if s, ok := err.(apierrors.APIStatus); ok {
		st := s.Status()
		return st.Code == http.StatusUnprocessableEntity && (st.Details == nil || st.Details.Name == "")
	}
	return err != nil && strings.HasSuffix(err.Error(), "test failed")
}
