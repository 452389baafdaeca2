package daemon

import (
	"context"
	"slices"
	"sync"

	"github.com/serin-dev/serin/internal/rollout"
)

// inbox holds the commands of one rollout until a pass has saved what became of
// them. Who sent one waits for that: a command that was answered is in the
// state, so it need not outlive the process here.
type inbox struct {
	mu      sync.Mutex
	pending []rollout.Command
}

func (b *inbox) add(c rollout.Command) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.ContainsFunc(b.pending, func(p rollout.Command) bool { return p.ID == c.ID }) {
		b.pending = append(b.pending, c)
	}
}

// take gives up on a command; false if a pass has dealt with it already.
func (b *inbox) take(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.pending)
	b.pending = slices.DeleteFunc(b.pending, func(p rollout.Command) bool { return p.ID == id })
	return len(b.pending) < n
}

func (b *inbox) Pending(context.Context) ([]rollout.Command, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pending), nil
}

func (b *inbox) Done(_ context.Context, ids []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = slices.DeleteFunc(b.pending, func(p rollout.Command) bool { return slices.Contains(ids, p.ID) })
	return nil
}
