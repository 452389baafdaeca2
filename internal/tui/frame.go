package tui

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Frame is the screen: height lines of at most w cells each, joined by line
// breaks. It depends on nothing but its arguments.
func Frame(m Model, w, height int) string {
	w, height = max(w, 1), max(height, 1)
	var lines []string
	switch {
	case m.View == nil:
		lines = []string{"waiting for the first word of the rollout ..."}
	default:
		lines = m.body(w, height-len(m.bottom(w, height)))
	}
	lines = lines[:min(len(lines), height)]
	if bottom := m.bottom(w, height); len(bottom) > 0 {
		for len(lines) < height-len(bottom) {
			lines = append(lines, "")
		}
		lines = append(lines[:height-len(bottom)], bottom...)
	}
	for len(lines) < height {
		lines = append(lines, "")
	}
	for i := range lines {
		lines[i] = strings.TrimRight(fit(lines[i], w), " ")
	}
	return strings.Join(lines, "\n")
}

// bottom is the footer: none where the screen is too low for one, but for what
// is being typed.
func (m *Model) bottom(w, height int) []string {
	f := m.footer(w)
	switch {
	case m.Asked != nil:
		return f[max(0, len(f)-max(1, height-1)):]
	case height < 6:
		return nil
	}
	return f
}

func (m *Model) body(w, height int) []string {
	head := m.head(w)
	var page []string
	switch m.Page {
	case Evidence:
		page = m.evidence(w)
	case Replicas:
		page = m.replicas(w)
	case Logs:
		page = m.logs(w)
	case Help:
		page = m.help(w)
	default:
		return append(head, m.main(w, height-len(head))...)
	}
	room := max(1, height-len(head))
	top := min(max(0, m.Top), max(0, len(page)-room))
	if m.Page == Logs && m.Top == 0 { // the newest is what is wanted
		top = max(0, len(page)-room)
	}
	return append(head, page[top:min(len(page), top+room)]...)
}

// head is one line that is on every page.
func (m *Model) head(w int) []string {
	v := m.View
	state := string(v.Phase)
	if v.Step > 0 {
		state += fmt.Sprintf(" · step %d of %d", v.Step, v.Steps)
	}
	if v.Paused != "" {
		state += " · paused"
	}
	at := clock(v.Time)
	if late := m.Now.Sub(v.Time); late > 10*time.Second {
		at += " (" + httpapi.Short(late.Truncate(time.Second)) + " ago)"
	}
	name := m.paint(strong, clean(v.Name))
	if v.Namespace != "" {
		name += "  " + m.paint(faint, clean(v.Namespace))
	}
	return []string{ends(name, state+"   "+at, w)}
}

// section is a part of the main page. What has least rank goes first where
// there is not room for all.
type section struct {
	rank  int
	least int // lines that it is cut down to before it goes altogether
	lines []string
}

func (m *Model) main(w, height int) []string {
	v := m.View
	under := httpapi.UnderWay(*v)
	all := []section{
		{9, 1, m.versions(w)},
		{8, 1, []string{m.weightBar(w)}},
		{3, 1, m.steps(w)},
		{0, 1, []string{""}},
		{7, 1, m.banner(w)},
	}
	if under {
		all = append(all,
			section{6, 1, []string{m.gauge(w)}},
			section{5, 1, m.sentence(w)},
			section{6, 2, m.metrics(w)},
			section{4, 1, []string{m.cost(w)}},
		)
	} else {
		all = append(all, section{6, 1, m.rest(w)})
	}
	all = append(all,
		section{8, 1, m.waits(w)},
		section{1, 1, []string{""}},
	)
	// Cut down, least rank first; then leave out, least rank first. What is left
	// over is for the decisions, which are never fewer than two.
	const decisions = 3 // with their heading
	total := func() (n int) {
		for _, s := range all {
			n += len(s.lines)
		}
		return n
	}
	for _, drop := range []bool{false, true} {
		for rank := 0; rank < 10; rank++ {
			for i := range all {
				s := &all[i]
				for s.rank == rank && total() > height-decisions && (len(s.lines) > s.least || drop && len(s.lines) > 0) {
					if keep := len(s.lines) - 1; drop {
						s.lines = nil
					} else {
						s.lines = s.lines[:keep]
					}
				}
			}
			if !drop && rank == 1 { // blank lines have nothing to be cut down to
				for i := range all {
					if all[i].rank <= 1 && total() > height-decisions {
						all[i].lines = nil
					}
				}
			}
		}
	}
	var out []string
	for _, s := range all {
		out = append(out, s.lines...)
	}
	return append(out, m.decisions(w, height-len(out))...)
}

// versions is both in one line, stable first.
func (m *Model) versions(w int) []string {
	v := m.View
	known := v.Canary != nil && v.Canary.Weight > 0 || v.Stable != nil && v.Stable.Weight > 0 // else the route is not
	arm := func(l look, role string, x *httpapi.VersionView) string {
		weight := x.Weight.String()
		if !known {
			weight = "? %"
		}
		s := m.paint(l, clean(x.Version)) + " " + role + " " + weight
		if x.Ready != nil {
			s += fmt.Sprintf(", %d/%d ready", *x.Ready, x.Replicas)
		} else {
			s += fmt.Sprintf(", ?/%d ready", x.Replicas)
		}
		return s
	}
	if v.Stable == nil {
		return []string{m.paint(bad, "no version is known to be the stable one")}
	}
	line := arm(stableLook, "stable", v.Stable)
	if v.Canary != nil && httpapi.UnderWay(*v) {
		line += "   →   " + arm(canaryLook, "canary", v.Canary)
	}
	out := []string{fit(line, w)}
	for _, x := range []*httpapi.VersionView{v.Stable, v.Canary} {
		if x != nil && x.Why != "" && (x.Ready == nil || *x.Ready < x.Replicas) {
			out = append(out, fit("  "+clean(x.Version)+": "+clean(x.Why), w))
		}
	}
	return out
}

// weightBar: filled as far as was set, a mark where the share was seen, ticks
// where the plan goes on.
func (m *Model) weightBar(w int) string {
	v := m.View
	said := v.WeightSet.String() + " set"
	if v.WeightSeen != nil {
		said += ", " + httpapi.Percent(*v.WeightSeen) + " seen"
	} else if httpapi.UnderWay(*v) {
		said += ", not measured"
	}
	if httpapi.UnderWay(*v) && !v.Live && v.WeightSet > 0 {
		said += ", not in force yet"
	}
	room := w - 9 - width(said) - 3
	if room < 10 {
		return "weight   " + said
	}
	bar := make([]rune, room)
	place := func(share float64) int { return min(max(int(math.Round(share*float64(room))), 0), room) }
	for i := range bar {
		bar[i] = '·'
	}
	for _, s := range v.StepsList {
		if i := place(float64(s.Weight) / float64(rollout.Whole)); s.State == "ahead" && s.Weight > 0 && i > 0 {
			bar[i-1] = '╎'
		}
	}
	filled := place(float64(v.WeightSet) / float64(rollout.Whole))
	if v.WeightSet > 0 {
		filled = max(filled, 1)
	}
	for i := range filled {
		bar[i] = '█'
	}
	if v.WeightSeen != nil {
		if i := place(*v.WeightSeen); i > 0 && (i < filled-1 || i > filled+1) {
			bar[i-1] = '◆'
		}
	}
	return "weight   " + m.paint(canaryLook, string(bar[:filled])) + string(bar[filled:]) + "   " + said
}

// steps is the plan in one line; around the step in force where it is long.
func (m *Model) steps(w int) []string {
	v := m.View
	if len(v.StepsList) == 0 {
		return nil
	}
	var parts []string
	at := 0
	for i, s := range v.StepsList {
		text := clean(s.Text)
		switch s.State {
		case "done":
			text = "✔ " + text
		case "current":
			text, at = "▶ "+text, i
		}
		parts = append(parts, text)
	}
	line := "steps    " + strings.Join(parts, " | ")
	for first := 1; width(line) > w && first <= at; first++ {
		line = "steps    … " + strings.Join(parts[first:], " | ")
	}
	return []string{fit(line, w)}
}

// banner is what a person should know first.
func (m *Model) banner(w int) []string {
	v := m.View
	var out []string
	said := func(l look, head, text string) {
		for i, s := range wrap(head+clean(text), w-2, 2) {
			if i > 0 {
				s = "  " + s
			}
			out = append(out, m.paint(l, s))
		}
	}
	if v.Stalled != "" {
		said(bad, "▲ A PERSON IS NEEDED: ", v.Stalled)
	}
	if v.Paused != "" && !strings.Contains(v.Message, v.Paused) {
		said(strong, "‖ PAUSED: ", v.Paused)
	}
	if d := v.Drift; d != nil && (d.Foreign || d.Fighting) {
		who := d.Manager
		if who == "" {
			who = "somebody"
		}
		text := who + " wrote the route"
		if d.Split != "" {
			text += ": " + d.Split
		}
		if d.Flips > 0 {
			text += fmt.Sprintf(", %d times in ten minutes", d.Flips)
		}
		if d.Fighting && d.Remedy != "" {
			text += ". Remedy: " + d.Remedy
		}
		said(bad, "≠ DRIFT: ", text)
	}
	for _, f := range v.Findings {
		if !strings.Contains(v.Message, f.What) {
			said(strong, "! ", f.String())
		}
	}
	return out
}

// gauge is the judge's answer: from "take it back" at the left to "go on" at
// the right. Without data there is no needle.
func (m *Model) gauge(w int) string {
	v := m.View
	word := strings.ToUpper(v.Verdict.String())
	l := plain
	switch v.Verdict {
	case analysis.Pass:
		l, word = good, "✔ "+word
	case analysis.Fail:
		l, word = bad, "✖ "+word
	case analysis.Undecided:
		word = "… " + word
	default:
		l, word = nodata, "░ "+word
	}
	left, end := pad(m.paint(l, word), 15)+"take back ◀", "▶ go on"
	evidence := v.Evidence.Advance
	if v.Verdict == analysis.Fail {
		evidence = v.Evidence.Rollback
	}
	said := fmt.Sprintf("  %s of the evidence", httpapi.Percent(math.Round(clamp(evidence)*100)/100))
	room := w - width(left) - width(end) - width(said)
	if room < 11 {
		return fit(m.paint(l, word)+said+" to go on", w)
	}
	bar := []rune(strings.Repeat("━", room))
	if v.Verdict == analysis.Unavailable {
		return left + m.paint(nodata, center("NO DATA", '░', room)) + end + said
	}
	bar[room/2] = '┃'
	at := clamp(v.Evidence.Advance) - clamp(v.Evidence.Rollback)
	if v.Verdict == analysis.Fail {
		at = -1
	}
	bar[min(max(int(math.Round((at+1)/2*float64(room-1))), 0), room-1)] = '●'
	return left + m.paint(l, string(bar)) + end + said
}

func clamp(x float64) float64 {
	if !(x > 0) {
		return 0
	}
	return min(x, 1)
}

func center(s string, fill rune, w int) string {
	s = fit(" "+s+" ", w)
	l := (w - width(s)) / 2
	return strings.Repeat(string(fill), l) + s + strings.Repeat(string(fill), max(0, w-width(s)-l))
}

func (m *Model) sentence(w int) []string {
	s := clean(m.View.Sentence)
	if s == "" {
		s = "The judge has not said anything yet."
	}
	var out []string
	for _, l := range wrap(s, w-2, 3) {
		out = append(out, "  "+l)
	}
	return out
}

func (m *Model) cost(w int) string {
	v := m.View
	s := fmt.Sprintf("cost     %s requests exposed · ≈ %s harmed", httpapi.Count(v.Exposed), httpapi.Count(v.Harmed))
	if v.Worst != nil && *v.Worst >= 1 {
		s += fmt.Sprintf(", at most %s", httpapi.Count(*v.Worst))
	}
	if v.Started != nil {
		s += " · " + httpapi.Span(m.Now.Sub(*v.Started)) + " so far"
	}
	return fit(s, w)
}

func (m *Model) waits(w int) []string {
	v := m.View
	head := "now      "
	if v.Waiting != "" {
		head = "waits    for " + waitWord(v.Waiting)
		if v.Until != nil {
			if left := v.Until.Sub(m.Now); left > 0 {
				head += ", " + httpapi.Span(left) + " left"
			} else {
				head += ", due now"
			}
			head += " (" + clock(*v.Until) + ")"
		}
		head += ": "
	}
	said := v.Message
	if s := strings.TrimSpace(strings.Replace(said, v.Sentence, "", 1)); v.Sentence != "" && httpapi.UnderWay(*v) && s != "" {
		said = s // the judge's sentence has a place of its own
	}
	text := m.paint(strong, head) + clean(said)
	lines := wrap(text, w, 2)
	if indented := wrap(text, w-9, 2); len(lines) > 1 && len(indented) > 1 && w > 30 {
		lines = indented
		lines[1] = strings.Repeat(" ", 9) + lines[1]
	}
	return lines
}

func waitWord(x rollout.WaitFor) string {
	switch x {
	case rollout.WaitHold:
		return "the hold"
	case rollout.WaitApproval:
		return "an approval (y)"
	case rollout.WaitPerson:
		return "a person"
	case rollout.WaitTest:
		return "a test"
	case rollout.WaitWindow:
		return "the window"
	case rollout.WaitLeaving:
		return "the old canary to leave"
	case rollout.WaitRoute:
		return "the route"
	case rollout.WaitFinding:
		return "what preflight found"
	}
	return string(x)
}

// rest is what there is to say while no rollout is under way.
func (m *Model) rest(w int) []string {
	h := m.View.History
	if len(h) == 0 {
		return []string{"No rollout has ended yet."}
	}
	out := []string{m.paint(strong, "past rollouts")}
	for i := len(h) - 1; i >= 0 && len(out) <= 5; i-- {
		o := h[i]
		l := plain
		if httpapi.ExitOf(o.Result) == httpapi.ExitRolledBack {
			l = bad
		}
		out = append(out, fit(fmt.Sprintf("  %s  %s → %s  %s after %s · %s exposed, ≈ %s harmed · %s", clock(o.Ended), clean(o.From.Label()), clean(o.Revision.Label()),
			m.paint(l, httpapi.ResultWord(o.Result)), httpapi.Span(o.Ended.Sub(o.Started)), httpapi.Count(o.Exposed), httpapi.Count(o.Harmed), clean(o.Why)), w))
	}
	return out
}

// decisions are the newest that fit, oldest first.
func (m *Model) decisions(w, room int) []string {
	d := m.View.Decisions
	if room < 2 || len(d) == 0 {
		return nil
	}
	out := []string{m.paint(strong, "decisions")}
	d = d[max(0, len(d)-(room-1)):]
	for _, e := range d {
		move := ""
		switch {
		case e.From != "" && e.To != "":
			move = " " + e.From + " → " + e.To
		case e.To != "":
			move = " → " + e.To
		case e.From != "":
			move = " " + e.From
		}
		l := plain
		switch e.What {
		case rollout.EvRolledBack, rollout.EvAborted, rollout.EvStalled, rollout.EvDriftFight:
			l = bad
		case rollout.EvPromoted:
			l = good
		}
		out = append(out, fit(fmt.Sprintf("  %s #%d %s%s · %s: %s", clock(e.At), e.N, m.paint(l, string(e.What)), clean(move), clean(e.By), clean(e.Why)), w))
	}
	return out
}

// footer is what was said last, or what is being typed, above the keys.
func (m *Model) footer(w int) []string {
	switch {
	case m.Asked != nil:
		what := string(m.Asked.Verb)
		if m.Asked.Full {
			what += ", all the way"
		}
		keys := "enter sends it · esc does not"
		if m.Asked.full != nil {
			keys += " · tab: one step or all the way"
		}
		lines := wrap(m.paint(strong, what)+": "+clean(m.Asked.Effect), w, 2)
		return append(lines, fit("why? "+lastCells(clean(m.Typed), w-8)+"▏", w), fit(m.paint(faint, keys), w))
	case m.Busy:
		return []string{"sending ...", m.keys(w)}
	case m.Said != "":
		l := plain
		if m.Bad {
			l = bad
		}
		return []string{m.paint(l, fit(clean(m.Said), w)), m.keys(w)}
	}
	return []string{"", m.keys(w)}
}

// lastCells is the end of what is typed, where the cursor is.
func lastCells(s string, w int) string {
	r := []rune(s)
	for len(r) > 0 && width(string(r)) > w {
		r = r[1:]
	}
	return string(r)
}

// keys that do something as things stand, as many as fit, most wanted first.
func (m *Model) keys(w int) string {
	type k struct{ key, word string }
	var keys []k
	if m.Page != Main {
		keys = []k{{"esc", "back"}, {"j/k", "down, up"}}
	} else if m.View != nil {
		for _, a := range Actions(*m.View) {
			keys = append(keys, k{a.Key, string(a.Verb)})
		}
	}
	keys = append(keys, []k{{"q", "quit"}, {"?", "help"}, {"e", "evidence"}, {"l", "logs"}, {"o", "replicas"}}...)
	out := ""
	for _, x := range keys {
		next := m.paint(key, x.key) + " " + x.word
		if out != "" {
			next = "  " + next
		}
		if width(out)+width(next) > w {
			break
		}
		out += next
	}
	return out
}

func clock(t time.Time) string { return t.Local().Format("15:04:05") }
