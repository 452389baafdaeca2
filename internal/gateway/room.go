package gateway

import (
	"context"
	"slices"
	"sync"
)

// room counts the requests in flight of a version that may only have so many,
// and keeps those that wait for a place in order. It outlives tables: most is
// what the table in force says. The zero room is empty.
type room struct {
	mu    sync.Mutex
	busy  int
	most  int // as enter or wait said last
	queue []chan struct{}
}

// enter takes a place, unless most are taken or others wait for one.
func (r *room) enter(most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = most
	if r.busy >= most || len(r.queue) > 0 {
		return false
	}
	r.busy++
	return true
}

// wait takes a place as soon as there is one and nobody came before. It gives
// false at once where so many wait already, and when ctx ends first.
func (r *room) wait(ctx context.Context, most, waiting int) bool {
	if r.enter(most) {
		return true
	}
	r.mu.Lock()
	if len(r.queue) >= waiting {
		r.mu.Unlock()
		return false
	}
	turn := make(chan struct{})
	r.queue = append(r.queue, turn)
	r.advance() // who had the last place may have left it meanwhile
	r.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	r.mu.Lock()
	i := slices.Index(r.queue, turn)
	if i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	r.mu.Unlock()
	if i < 0 { // it was this request's turn just now
		r.leave()
	}
	return false
}

// leave gives a place back, to who has waited longest.
func (r *room) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	r.advance()
}

func (r *room) advance() {
	for r.busy < r.most && len(r.queue) > 0 {
		r.busy++
		close(r.queue[0])
		r.queue = r.queue[1:]
	}
}
