package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// mistakes logs panics with their stacks. A request of a kind over which we panic
// may come thousands of times a second: one of them is enough.
type mistakes struct{ last atomic.Int64 }

const mistakesEvery = 10 * time.Second

// say is given what recover gave.
func (m *mistakes) say(log *slog.Logger, over string, v any) {
	now, last := time.Now().UnixNano(), m.last.Load()
	if last != 0 && now-last < int64(mistakesEvery) || !m.last.CompareAndSwap(last, now) {
		return
	}
	log.Error("a mistake of this version of Serin over "+over, "what", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// cutShort ends a request over which we panicked as its server would, and says so
// where people look.
func (g *Gateway) cutShort() {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		g.mistakes.say(g.o.Logger, "a request", v)
	}
	panic(http.ErrAbortHandler)
}
