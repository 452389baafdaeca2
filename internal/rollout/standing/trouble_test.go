package standing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

func TestTrouble(t *testing.T) {
	disk, denied := errors.New("saving the state:\nno space left"), errors.New("applying the split: not permitted.")
	type pass struct {
		after  time.Duration
		err    error
		person bool
	}
	for name, c := range map[string]struct {
		reason string
		passes []pass
		want   string // first of the message; "" = nothing is added
		person bool
	}{
		"Hiccup":      {"what has gone wrong once may be over already", []pass{{0, disk, false}}, "", false},
		"HiccupAtOld": {"one failure after a long rest is one", []pass{{0, nil, false}, {time.Hour, disk, false}}, "", false},
		"ShortTime":   {"it may pass by itself", []pass{{0, disk, false}, {5 * time.Second, disk, false}}, "", false},
		"Lasts":       {"it has not passed by itself", []pass{{0, disk, false}, {10 * time.Second, disk, false}}, "Trouble since 12:00:00 UTC: saving the state: no space left. ", false},
		"Changes":     {"the newest words count, since when is the whole", []pass{{0, denied, false}, {20 * time.Second, disk, false}}, "Trouble since 12:00:00 UTC: saving the state: no space left. ", false},
		"Over":        {"what is over is not said", []pass{{0, disk, false}, {20 * time.Second, disk, false}, {time.Second, nil, false}}, "", false},
		"DeniedOnce":  {"a refusal may be about what has changed meanwhile", []pass{{0, denied, true}}, "", false},
		"Denied":      {"waiting does not help", []pass{{0, denied, true}, {time.Second, denied, true}}, "Trouble since 12:00:00 UTC: applying the split: not permitted. ", true},
	} {
		t.Run(name, func(t *testing.T) {
			var tr Trouble
			now := t0
			for _, p := range c.passes {
				now = now.Add(p.after)
				tr = tr.After(p.err, p.person, now)
			}
			said := rollout.Status{Message: "v2 has 5 %."}
			s := Of(rollout.Spec{}, on(rollout.Progressing), judged(workloads(3, 2), split, 0), said, "retry").With(tr, now)
			if s.Message != c.want+"v2 has 5 %." {
				t.Errorf("%s: message %q, want %q first", c.reason, s.Message, c.want)
			}
			if got := s.Conditions.Stalled; (got.Status == True) != c.person || (s.Stalled != "") != c.person || c.person && got.Message != strings.TrimSpace(c.want) {
				t.Errorf("%s: Stalled is %+v, %q", c.reason, got, s.Stalled)
			}
			if got := s.Conditions.Ready; got.Message != s.Message {
				t.Errorf("%s: Ready says %q", c.reason, got.Message)
			}
		})
	}
}

// At rest, too, and long words leave room for who has the traffic.
func TestTroubleAtRest(t *testing.T) {
	tr := Trouble{What: short(strings.Repeat("x", 10_000)), Since: t0, Passes: 2, Person: true}
	s := Of(rollout.Spec{}, resting(false), judged(workloads(3, 0), onStable, 0), rollout.Status{}, "retry").With(tr, t0)
	if c := s.Conditions.Ready; c.Status != "False" || c.Reason != "Stalled" {
		t.Errorf("Ready is %+v", c)
	}
	if len(s.Message) > 700 || !strings.HasSuffix(s.Message, "x. v1 is stable and has all the traffic.") {
		t.Errorf("%d bytes: %q", len(s.Message), s.Message)
	}
}

func TestUnreadable(t *testing.T) {
	s := Unreadable("the file is torn.")
	const want = "Idle, Ready False StateUnreadable, Reconciling False StateUnreadable, Stalled True StateUnreadable, Available Unknown ReadinessUnknown, AnalysisPassing Unknown StateUnreadable"
	if got := words(s); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if s.Message != "the file is torn." || s.Stalled != s.Message || s.Conditions.Ready.Message != s.Message {
		t.Errorf("%+v", s)
	}
}
