package metric

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Findings says what the document asks to be judged and what, by a look at
// stable's pods, cannot be: before any weight moves, not at a step's deadline.
// The document has its defaults. A look that gave no pods finds nothing: that
// is said by its error.
func Findings(a *v1alpha1.Analysis, seen engine.Sampled, hasPrometheus bool) []rollout.Finding {
	if a.None != nil {
		return nil
	}
	var out []rollout.Finding
	warn := func(what, remedy string) {
		out = append(out, rollout.Finding{Level: rollout.Warn, What: what, Remedy: remedy})
	}
	asks := slices.ContainsFunc(a.Metrics, func(m v1alpha1.Metric) bool { return m.Prometheus != nil })
	if asks && !hasPrometheus {
		warn("analysis.metrics asks a Prometheus, and the controller was given none, so that nothing can pass", "give the controller its address, or leave these metrics out")
	}
	if len(seen.Stable) == 0 {
		return out
	}
	has := analysis.Has(0)
	var le []float64
	for i := range seen.Stable {
		p := &seen.Stable[i]
		has |= p.Has
		if p.Has&analysis.HasLatency != 0 && le == nil {
			le = p.Latency.LE
		}
	}
	if has&analysis.HasRequests == 0 {
		warn("no pod counts its requests under a name that is known, so nothing can be judged",
			"let the pods have Istio's sidecar, or count "+strings.Join(spoken(), " or "))
		return out
	}
	if a.ErrorRate != nil && has&analysis.HasErrors == 0 {
		warn("requests are counted without their status, so that analysis.errorRate cannot be judged", "give the counter a label with the status, such as code")
	}
	// A histogram may have no series before the first request.
	counted := slices.ContainsFunc(seen.Stable, func(p analysis.Pod) bool { return p.Requests > 0 })
	switch l := a.Latency; {
	case l == nil:
	case le == nil && counted:
		warn("no pod has a histogram of latencies that counts the same requests, so that analysis.latency cannot be judged", "add one, or leave it out: analysis.skip: [latency]")
	case le != nil && l.Max != nil && !slices.ContainsFunc(le, func(b float64) bool { return same(b, l.Max.Duration) }):
		warn(fmt.Sprintf("no bound of the latency histogram lies at analysis.latency.max, %s, so that it cannot be judged", l.Max), "set it to a bound, "+near(le, l.Max.Duration)+", or give the histogram a bound there")
	}
	if a.CPU != nil && has&analysis.HasCPU == 0 {
		warn("no pod's processor time is measured, so that analysis.cpu cannot be judged", "export process_cpu_seconds_total, or take the figures from a Prometheus that scrapes cAdvisor")
	}
	if a.Memory != nil && has&analysis.HasMemory == 0 {
		warn("no pod's memory is measured, so that analysis.memory cannot be judged", "export process_resident_memory_bytes, or take the figures from a Prometheus that scrapes cAdvisor")
	}
	return out
}

func spoken() (out []string) {
	for _, n := range Known() {
		out = append(out, n.ID)
	}
	return out[1:]
}

func same(ms float64, d time.Duration) bool {
	want := float64(d) / float64(time.Millisecond)
	return math.Abs(ms-want) <= 1e-9*want
}

// near names the bounds on both sides.
func near(le []float64, d time.Duration) string {
	want := float64(d) / float64(time.Millisecond)
	i, _ := slices.BinarySearch(le, want)
	show := func(ms float64) string { return time.Duration(ms * float64(time.Millisecond)).String() }
	switch {
	case i == 0:
		return show(le[0])
	case i == len(le):
		return show(le[i-1])
	}
	return show(le[i-1]) + " or " + show(le[i])
}
