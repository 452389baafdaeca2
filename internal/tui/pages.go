package tui

import (
	"fmt"

	"github.com/serin-dev/serin/internal/httpapi"
)

// replicas is the page with both versions and the conditions.
func (m *Model) replicas(w int) []string {
	v := m.View
	out := []string{""}
	arm := func(role string, l look, x *httpapi.VersionView) {
		if x == nil {
			return
		}
		out = append(out, m.paint(l, role+" "+clean(x.Version))+"  "+m.paint(faint, clean(string(x.Revision))))
		ready := "not known"
		if x.Ready != nil {
			ready = fmt.Sprintf("%d of %d", *x.Ready, x.Replicas)
		}
		out = append(out, "  Deployment  "+clean(x.Name), "  ready       "+ready, "  weight      "+x.Weight.String())
		if x.Requests != nil {
			out = append(out, "  requests    "+httpapi.Count(*x.Requests))
		}
		for i, s := range wrap(clean(x.Why), w-14, 4) {
			head := "  why         "
			if i > 0 {
				head = "              "
			}
			out = append(out, head+s)
		}
		out = append(out, "")
	}
	arm("stable", stableLook, v.Stable)
	arm("canary", canaryLook, v.Canary)
	out = append(out, m.paint(strong, "conditions"))
	for _, c := range v.Conditions {
		out = append(out, fit(fmt.Sprintf("  %s %s  %s  %s", pad(c.Type, 16), pad(c.Status, 7), pad(clean(c.Reason), 16), clean(c.Message)), w))
	}
	return out
}

// logs is the page with what the replicas wrote.
func (m *Model) logs(w int) []string {
	if len(m.Lines) == 0 {
		return []string{"", "  no line yet"}
	}
	out := make([]string, 0, len(m.Lines))
	for _, l := range m.Lines {
		out = append(out, fit(clean(l), w))
	}
	return out
}

func (m *Model) help(int) []string {
	return []string{
		"",
		"  p  pause: nothing is raised until resume     r  resume",
		"  P  promote: end this step (tab: all the way) a  abort: take it back now",
		"  y  approve the step that waits for it        u  undo: back to the one before",
		"  t  retry what was taken back                 each asks why; enter sends it",
		"",
		"  e  evidence   o  replicas, conditions   l  logs   j/k  down, up   esc  back",
		"  q  quit; the rollout goes on",
		"",
		"  weight   █ set   ◆ where the share was seen   ╎ steps ahead",
		"  verdict  ● where the evidence stands, between taking it back at the left and",
		"           going on at the right; ░ NO DATA: nothing can be said, nothing goes on",
		"  metric   canary beside stable, the canary's past, the difference with its",
		"           95 % band, the limit; ✔ ok  ▲ beyond a limit, not yet for long enough",
		"           ✖ broken or worse  ≈ both versions break it  ░ no data",
	}
}
