package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/serin-dev/serin/internal/engine"
)

func TestKind(t *testing.T) {
	things := schema.GroupResource{Group: "example.org", Resource: "things"}
	bare := func(message string) error {
		return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", message, 0, false)
	}
	for name, c := range map[string]struct {
		err  error
		is   error
		kind engine.Kind
	}{
		"TestFailed": {bare("testing value /metadata/resourceVersion failed: test failed"), engine.ErrConflict, engine.Retry},
		"IndexGone":  {bare("replace operation does not apply: doc is missing path: /spec/http/3/route: missing value"), engine.ErrConflict, engine.Retry},
		"InMemory":   {errors.New("testing value /metadata/resourceVersion failed: test failed"), engine.ErrConflict, engine.Retry},
		"Conflict":   {apierrors.NewConflict(things, "x", errors.New("newer")), engine.ErrConflict, engine.Retry},
		"Invalid": {apierrors.NewInvalid(schema.GroupKind{Kind: "Thing"}, "x", field.ErrorList{
			field.Invalid(field.NewPath("spec"), "testing value ", "no")}), engine.ErrRefused, engine.Stall},
		"Webhook":      {apierrors.NewBadRequest(`admission webhook "x" denied the request: configuration is invalid`), engine.ErrRefused, engine.Stall},
		"TooLarge":     {apierrors.NewRequestEntityTooLargeError("3 MiB"), engine.ErrRefused, engine.Stall},
		"NoSuchVerb":   {apierrors.NewMethodNotSupported(things, "patch"), engine.ErrRefused, engine.Stall},
		"Forbidden":    {apierrors.NewForbidden(things, "x", errors.New("no")), engine.ErrForbidden, engine.Stall},
		"Unauthorized": {apierrors.NewUnauthorized("who?"), engine.ErrForbidden, engine.Stall},
		"NotFound":     {apierrors.NewNotFound(things, "x"), engine.ErrNotFound, engine.Ignore},
		"Internal":     {apierrors.NewInternalError(errors.New("x")), nil, engine.Retry},
		"TimedOut":     {context.DeadlineExceeded, context.DeadlineExceeded, engine.Retry},
	} {
		t.Run(name, func(t *testing.T) {
			got := Kind(fmt.Errorf("sending: %w", c.err))
			if got == nil || c.is != nil && !errors.Is(got, c.is) || engine.KindOf(got) != c.kind {
				t.Errorf("%v has kind %v, want %v and to be %v", got, engine.KindOf(got), c.kind, c.is)
			}
		})
	}
	if Kind(nil) != nil {
		t.Error("no error is one")
	}
}

// Who asks to be left alone for a while is; a second where it does not say.
func TestThrottled(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want time.Duration
	}{
		"AsAsked":       {apierrors.NewTooManyRequests("slow down", 7), 7 * time.Second},
		"WithoutATime":  {apierrors.NewTooManyRequests("slow down", 0), time.Second},
		"ServerTimeout": {apierrors.NewServerTimeout(schema.GroupResource{Resource: "things"}, "patch", 3), 3 * time.Second},
	} {
		var wait *engine.ThrottledError
		if err := Kind(c.err); !errors.As(err, &wait) || wait.After != c.want || engine.KindOf(err) != engine.Retry {
			t.Errorf("%s: %v, want to come back in %s", name, err, c.want)
		}
	}
}
