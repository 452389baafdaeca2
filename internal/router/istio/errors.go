package istio

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serin-dev/serin/internal/apiserver"
	"github.com/serin-dev/serin/internal/engine"
)

// kindOf gives an error of the API server the kind that the engine knows.
func kindOf(err error) error {
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("%w: the cluster does not know Istio's API: %v", engine.ErrRefused, err)
	}
	return apiserver.Kind(err)
}
