package standing

import (
	"fmt"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// StateUnreadable is the reason of Ready and Stalled while the saved state
// cannot be read.
const StateUnreadable = "StateUnreadable"

// Unreadable is how a rollout stands of which nothing can be decided, because
// its saved state cannot be read. why says that, and what helps.
func Unreadable(why string) Standing {
	return Standing{
		Phase: rollout.Idle, Stalled: why, Message: why,
		Conditions: Conditions{
			Ready:           Condition{Type: "Ready", Status: "False", Reason: StateUnreadable, Message: why},
			Available:       Condition{Type: "Available", Status: "Unknown", Reason: "ReadinessUnknown", Message: "nobody looks while the saved state cannot be read"},
			Reconciling:     Condition{Type: "Reconciling", Status: "False", Reason: StateUnreadable},
			Stalled:         Condition{Type: "Stalled", Status: True, Reason: StateUnreadable, Message: why},
			AnalysisPassing: Condition{Type: "AnalysisPassing", Status: "Unknown", Reason: StateUnreadable, Message: "nothing is judged while the saved state cannot be read"},
		},
	}
}

// Trouble is what passes in a row have ended with; the zero Trouble is none. It
// is the host's and not the rollout's: it changes nothing that is decided.
type Trouble struct {
	What   string
	Since  time.Time // the end of the first of those passes
	Passes int
	Person bool // as far as is known it does not pass by itself
}

// hiccup is for how long trouble that may pass by itself is nobody's business.
const hiccup = 10 * time.Second

// After is the trouble after one more pass, which ended at now with err. person:
// trying again does not help.
func (t Trouble) After(err error, person bool, now time.Time) Trouble {
	if err == nil {
		return Trouble{}
	}
	if t.Passes == 0 {
		t.Since = now
	}
	return Trouble{What: short(strings.Join(strings.Fields(err.Error()), " ")), Since: t.Since, Passes: t.Passes + 1, Person: person}
}

// short leaves room for the sentence beside it.
func short(s string) string {
	const most = 600
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Lasts says whether people should hear of it before everything else: it has
// gone on for a while, or it came again and will not pass by itself.
func (t Trouble) Lasts(now time.Time) bool {
	return t.Passes > 1 && (t.Person || now.Sub(t.Since) >= hiccup)
}

// With is s with trouble that lasts said first; where it does not pass by itself
// a person is needed.
func (s Standing) With(t Trouble, now time.Time) Standing {
	if !t.Lasts(now) {
		return s
	}
	what := fmt.Sprintf("Trouble since %s: %s.", t.Since.UTC().Format("15:04:05 UTC"), strings.TrimRight(t.What, "."))
	s.Message = what + " " + s.Message
	if t.Person && s.Stalled == "" {
		s.Stalled = what
	}
	s.Conditions.Ready, s.Conditions.Stalled = s.ready(), s.stalled()
	if s.Conditions.Reconciling.Status == True {
		s.Conditions.Reconciling.Message = s.Message
	}
	return s
}
