package status

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// What a pass costs that has nothing to say, with a full ring of decisions.
func BenchmarkPublishNothing(b *testing.B) {
	p := pass()
	for i := range v1alpha1.MaxDecisions {
		p.State.Decisions = append(p.State.Decisions, rollout.Event{N: i, Why: "five hundred requests, none of which failed, against a thousand", Figures: p.Seen.Report.Figures})
	}
	s := New(nil, nil, types.NamespacedName{Namespace: "default", Name: "my-app"}, "uid")
	s.last, s.known = Readable(p, v1alpha1.RolloutStatus{}), true
	if err := pack(&s.last, engine.Saved{State: p.State}); err != nil {
		b.Fatal(err)
	}
	s.generation, s.numbersAt, s.pass = p.Generation, p.Time, p
	b.ReportAllocs()
	for b.Loop() {
		if wrote, err := s.Publish(b.Context(), p.result()); wrote || err != nil {
			b.Fatal(wrote, err)
		}
	}
}
