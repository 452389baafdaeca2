package httpapi

import (
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Pass is what one pass knows about its rollout.
type Pass struct {
	Ref      Ref
	Spec     rollout.Spec
	State    rollout.State // as it stands after the pass: Decision.Next where it was saved
	Seen     rollout.Observation
	Decision rollout.Decision
	Time     time.Time
}
