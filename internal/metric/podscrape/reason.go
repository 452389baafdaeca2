package podscrape

import (
	"fmt"
	"strings"

	"github.com/serin-dev/serin/internal/engine"
)

// Reason says why a pod gave no figures, or not all.
type Reason string

// The reasons.
const (
	NoAddress      Reason = "NoAddress"      // the pod has no address yet
	NotScraped     Reason = "NotScraped"     // the pod asks not to be
	AddressRefused Reason = "AddressRefused" // its address is none that is dialled
	Refused        Reason = "Refused"        // nobody listens there, or the connection ended early
	TimedOut       Reason = "TimedOut"       // no whole answer in time
	Hung           Reason = "Hung"           // has timed out before and is left alone for a moment
	BadStatus      Reason = "BadStatus"      // answered with something else than 200
	TooLarge       Reason = "TooLarge"       // the answer was larger than is read
	NotMetrics     Reason = "NotMetrics"     // the answer is something else
	Malformed      Reason = "Malformed"      // figures that cannot be understood or cannot be right
	Incomplete     Reason = "Incomplete"     // some figures are there, others are not measured
	NoCounters     Reason = "NoCounters"     // answers, and counts no requests under names that we know
	Mistake        Reason = "Mistake"        // our own: reading the answer panicked
	OtherNames     Reason = "OtherNames"     // counts requests under other names than the other pods
)

// Problem is what is wrong with one pod's figures. Detail holds nothing of what
// the pod answered.
type Problem struct {
	Pod    string
	Reason Reason
	Detail string
}

func (p Problem) String() string {
	if p.Detail == "" {
		return fmt.Sprintf("%s: %s", p.Pod, p.Reason)
	}
	return fmt.Sprintf("%s: %s (%s)", p.Pod, p.Reason, p.Detail)
}

// LookError: no pod gave any figures.
type LookError struct {
	Pods     int
	Problems []Problem
}

func (e *LookError) Error() string {
	if e.Pods == 0 {
		return "there are no pods to ask"
	}
	const shown = 3
	var b strings.Builder
	fmt.Fprintf(&b, "none of %d pods gave figures", e.Pods)
	for i, p := range e.Problems[:min(len(e.Problems), shown)] {
		b.WriteString([...]string{": ", "; ", "; "}[i])
		b.WriteString(p.String())
	}
	if n := len(e.Problems) - shown; n > 0 {
		fmt.Fprintf(&b, "; and %d more", n)
	}
	return b.String()
}

var _ engine.Samples = (*Source)(nil)
