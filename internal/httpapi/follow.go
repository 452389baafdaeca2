package httpapi

import (
	"context"
	"errors"
	"io"
	"time"
)

// Patience is how a client that watches bears with a host that is away:
// restarted, upgraded, cut off.
type Patience struct {
	Away  func(error) bool // whether an error says that nobody is there
	For   time.Duration    // how long that may be so, from the first such error
	Pause time.Duration    // between two attempts then
}

// between two watches of a host that is there.
const rewatch = 200 * time.Millisecond

// Follow watches again whenever a watch ends. watch gives what is new, and
// calls alive at every sign of life. Follow returns what see returns (io.EOF
// counts as the end, nil), what was answered on purpose (a *[StatusError]), the
// end of ctx, or, when patience is over, that nobody is there.
func Follow(ctx context.Context, p Patience, see func(Update) error, watch func(see func(Update) error, alive func()) error) error {
	var away time.Time // since when; zero: it is there
	for {
		var over *overError
		err := watch(func(u Update) error {
			if err := see(u); err != nil {
				return &overError{err}
			}
			return nil
		}, func() { away = time.Time{} })
		pause := rewatch
		switch {
		case errors.As(err, &over):
			if errors.Is(over.err, io.EOF) {
				return nil
			}
			return over.err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, new(*StatusError)):
			return err
		case err == nil || !p.Away(err): // it was there until now
			away = time.Time{}
		case away.IsZero():
			away, pause = time.Now(), p.Pause
		case time.Since(away) > p.For:
			return err
		default:
			pause = p.Pause
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// overError is what see answered, as told from the trouble of a watch.
type overError struct{ err error }

func (e *overError) Error() string { return e.err.Error() }
