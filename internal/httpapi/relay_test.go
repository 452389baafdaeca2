package httpapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// away is a source whose rollout b is deleted while nobody watches it.
type away struct{ watches int }

func (s *away) names() []string {
	if s.watches > 1 {
		return []string{"a"}
	}
	return []string{"a", "b"}
}

func (s *away) List(context.Context) (out []RolloutView, err error) {
	s.watches++ // it is back
	for _, n := range s.names() {
		out = append(out, RolloutView{Name: n})
	}
	return out, nil
}

func (s *away) Watch(ctx context.Context, _ Ref, see func(Update) error) error {
	if s.watches == 0 {
		s.watches = 1
	}
	for _, n := range s.names() {
		if err := see(Update{Ref: Ref{Name: n}, View: &RolloutView{Name: n, Time: time.Now()}}); err != nil {
			return err
		}
	}
	if s.watches > 1 {
		<-ctx.Done()
	}
	return errors.New("away")
}

func (s *away) Command(context.Context, Ref, rollout.Command) (Answer, error) { return Answer{}, nil }

// What went while the source was away is gone afterwards.
func TestRelayForgetsWhatWentUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := NewRelay(&away{}, Info{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Follow(ctx, func(error) {})
		}()
		time.Sleep(time.Minute)
		there, err := r.List(ctx)
		if err != nil || len(there) != 1 || there[0].Name != "a" {
			t.Errorf("%+v, %v; want a alone", there, err)
		}
		cancel()
		<-done
	})
}
