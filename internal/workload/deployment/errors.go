package deployment

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/serin-dev/serin/internal/apiserver"
	"github.com/serin-dev/serin/internal/engine"
)

// kindOf gives an API server's answer the engine's kind; a kind that the
// cluster does not know is one of which there is nothing.
func kindOf(err error) error {
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("%w: %v", engine.ErrNotFound, err)
	}
	return apiserver.Kind(err)
}
