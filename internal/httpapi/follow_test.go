package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("nobody is there")

// What ends a watch that goes on and on, and after how long.
func TestFollow(t *testing.T) {
	mine := errors.New("the reader's own")
	told := &StatusError{Status: 403, Sentence: "no"}
	type step = func(see func(Update) error, alive func()) error
	away := func(func(Update) error, func()) error { return errAway }
	idle := func(d time.Duration, end error) step {
		return func(func(Update) error, func()) error { time.Sleep(d); return end }
	}
	gives := func(see func(Update) error, _ func()) error { return see(Update{}) }
	for name, c := range map[string]struct {
		reason string
		steps  []step // the last one again and again
		see    error
		want   error
		took   time.Duration
	}{
		"TheReadersEnd":  {"io.EOF is how a reader says that it has seen enough", []step{gives}, io.EOF, nil, 0},
		"TheReadersErr":  {"what a reader answers is given back as it is", []step{gives}, mine, mine, 0},
		"AnAnswer":       {"what was said on purpose is not asked for again", []step{away, idle(0, fmt.Errorf("watching: %w", told))}, nil, told, time.Second},
		"NeverThere":     {"patience is over", []step{away}, nil, errAway, 16 * time.Second},
		"AwayForAMoment": {"a restart is borne with, and forgotten", []step{away, away, idle(time.Hour, nil), away, away, gives}, io.EOF, nil, time.Hour + 4*time.Second + rewatch},
		"QuietForLong":   {"an hour without news is no absence", []step{idle(time.Hour, nil), away, away, gives}, io.EOF, nil, time.Hour + 2*time.Second + rewatch},
		"BrokeOff":       {"nor is a stream that broke off: it was there until then", []step{idle(time.Hour, io.ErrUnexpectedEOF), away, gives}, io.EOF, nil, time.Hour + time.Second + rewatch},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, n := time.Now(), 0
				p := Patience{Away: func(err error) bool { return errors.Is(err, errAway) }, For: 15 * time.Second, Pause: time.Second}
				err := Follow(t.Context(), p, func(Update) error { return c.see }, func(see func(Update) error, alive func()) error {
					n++
					return c.steps[min(n, len(c.steps))-1](see, alive)
				})
				if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
					t.Errorf("%v, want %v: %s", err, c.want, c.reason)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %v, want %v: %s", took, c.took, c.reason)
				}
			})
		})
	}
}

// Every error of one kind of host says that it is away: a sign of life is what
// tells a new absence from an old one.
func TestFollowSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Patience{Away: func(error) bool { return true }, For: 15 * time.Second, Pause: time.Second}
		n := 0
		err := Follow(t.Context(), p, func(Update) error { return io.EOF }, func(see func(Update) error, alive func()) error {
			switch n++; n {
			case 1, 3:
				return errAway
			case 2:
				alive()
				time.Sleep(time.Hour)
				return errAway
			}
			return see(Update{})
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p := Patience{Away: func(error) bool { return true }, For: time.Hour, Pause: time.Second}
		if err := Follow(ctx, p, nil, func(func(Update) error, func()) error { return errAway }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
