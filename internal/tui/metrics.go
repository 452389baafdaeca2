package tui

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/httpapi"
)

// rankOf says which metric is looked at first.
func rankOf(f analysis.Figure) int {
	switch {
	case f.State == "firing":
		return 0
	case f.State == "worse":
		return 1
	case f.State == "pending" || f.State == "over":
		return 2
	case noData(f):
		return 3
	case f.State == "both":
		return 4
	}
	return 5
}

// mark is a metric's state as a shape and a word.
func (m *Model) mark(f analysis.Figure) (string, look) {
	switch {
	case f.State == "firing":
		return "✖ broken", bad
	case f.State == "worse":
		return "✖ worse", bad
	case noData(f):
		return "░ no data", nodata
	case f.State == "pending" || f.State == "over":
		return "▲ pending", strong
	case f.State == "both":
		return "≈ both", strong
	case f.State == "better":
		return "✔ better", good
	}
	return "✔ " + f.State, good
}

// metrics is a heading and a line for each metric, those in trouble first.
func (m *Model) metrics(w int) []string {
	figures := slices.Clone(m.View.Figures)
	if len(figures) == 0 {
		return nil
	}
	slices.SortStableFunc(figures, func(a, b analysis.Figure) int { return rankOf(a) - rankOf(b) })
	c := columnsOf(w)
	out := []string{m.paint(faint, c.line("metric", "canary", "stable", "past", "difference [95 %]", "limit", ""))}
	for _, f := range figures {
		out = append(out, m.metric(f, c))
	}
	return out
}

// columns share a line among the parts of a metric.
type columns struct{ name, value, spark, diff, limit, state int }

func columnsOf(w int) columns {
	c := columns{name: 9, value: 8, spark: 8, diff: 21, limit: 7, state: 9}
	switch extra := w - (c.name + 2*c.value + c.spark + c.diff + c.limit + c.state + 6); {
	case extra >= 0:
		c.name += min(extra/3, 14)
		c.spark += extra - min(extra/3, 14)
		c.spark = min(c.spark, 60)
	default: // narrow: the trail goes first, then the limit, then the band
		for _, part := range []*int{&c.spark, &c.limit, &c.diff} {
			if extra < 0 {
				extra += *part + 1
				*part = 0
			}
		}
	}
	return c
}

func (c columns) line(name, canary, stable, spark, diff, limit, state string) string {
	parts := []string{pad(name, c.name), right(canary, c.value), right(stable, c.value)}
	for _, x := range []struct {
		text string
		w    int
	}{{spark, c.spark}, {diff, c.diff}, {limit, c.limit}} {
		if x.w > 0 {
			parts = append(parts, pad(x.text, x.w))
		}
	}
	return strings.Join(append(parts, pad(state, c.state)), " ")
}

func (m *Model) metric(f analysis.Figure, c columns) string {
	state, l := m.mark(f)
	unit := unitOf(f.Unit)
	limit := ""
	if f.Limit != 0 {
		limit = unit.value(f.Limit)
	}
	if noData(f) {
		return c.line(clean(f.Metric), m.paint(nodata, "no data"), stableValue(f, unit), m.paint(nodata, strings.Repeat("░", min(c.spark, 10))), "", limit, m.paint(l, state))
	}
	diff := unit.signed(f.Canary - f.Stable)
	if f.Low != 0 || f.High != 0 { // the unit is that of the values
		diff = unit.bare(f.Canary-f.Stable) + " [" + unit.bare(f.Low) + " " + unit.bare(f.High) + "]"
	}
	return c.line(clean(f.Metric), m.paint(canaryLook, unit.value(f.Canary)), m.paint(stableLook, unit.value(f.Stable)),
		m.paint(canaryLook, m.sparkOf(f, c.spark)), diff, limit, m.paint(l, state))
}

func stableValue(f analysis.Figure, u unit) string {
	if f.StableN == 0 && (f.Unit == "share" || f.Unit == "ms") {
		return "no data"
	}
	return u.value(f.Stable)
}

// sparkOf draws the canary's past on an axis that stable's values are on, too.
func (m *Model) sparkOf(f analysis.Figure, w int) string {
	w = max(w, 0)
	points := m.Trail.points[f.Metric]
	lo, hi := 0.0, 0.0
	values := make([]float64, 0, len(points))
	for _, p := range points[max(0, len(points)-w):] {
		values = append(values, p.canary)
		for _, x := range []float64{p.canary, p.stable} {
			if !math.IsNaN(x) {
				lo, hi = min(lo, x), max(hi, x)
			}
		}
	}
	return spark(values, lo, hi, w)
}

// unit writes a metric's numbers.
type unit struct {
	scale  float64
	suffix string // of a value
	diff   string // of a difference
}

func unitOf(name string) unit {
	switch name {
	case "share":
		return unit{100, " %", " pp"}
	case "ms":
		return unit{1, " ms", " ms"}
	case "cores":
		return unit{1, " c", " c"}
	case "bytes":
		return unit{1. / (1 << 20), " MiB", " MiB"}
	}
	return unit{1, "", ""}
}

// digits keeps about three of them.
func digits(x float64) string {
	places := 0
	switch a := math.Abs(x); {
	case a == 0:
		return "0"
	case a >= 1e6 || a < 0.001:
		return fmt.Sprintf("%.1g", x)
	case a >= 100:
	case a >= 10:
		places = 1
	case a >= 0.01:
		places = 2
	default:
		places = 3
	}
	s := fmt.Sprintf("%.*f", places, x)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func (u unit) value(x float64) string { return digits(x*u.scale) + u.suffix }

func (u unit) bare(x float64) string {
	if x > 0 {
		return "+" + digits(x*u.scale)
	}
	return digits(x * u.scale)
}

func (u unit) signed(x float64) string { return u.bare(x) + u.diff }

// evidence is the page with every figure and what it was made of.
func (m *Model) evidence(w int) []string {
	v := m.View
	out := []string{"", m.gauge(w)}
	for _, l := range wrap(clean(v.Sentence), w-2, 8) {
		out = append(out, "  "+l)
	}
	out = append(out, fmt.Sprintf("  to go on %s, to take it back %s of what that needs", httpapi.Percent(v.Evidence.Advance), httpapi.Percent(v.Evidence.Rollback)), "")
	figures := slices.Clone(v.Figures)
	slices.SortStableFunc(figures, func(a, b analysis.Figure) int { return rankOf(a) - rankOf(b) })
	for _, f := range figures {
		u := unitOf(f.Unit)
		state, l := m.mark(f)
		out = append(out, pad(m.paint(strong, clean(f.Metric)), 24)+m.paint(l, state))
		arm := func(name string, lk look, x, n float64) string {
			s := "  " + m.paint(lk, pad(name, 8)) + u.value(x)
			switch {
			case n > 0 && f.Unit == "share":
				s += fmt.Sprintf("  (%s of %s)", httpapi.Count(x*n), httpapi.Count(n))
			case n > 0:
				s += fmt.Sprintf("  (of %s requests)", httpapi.Count(n))
			case f.Unit == "share" || f.Unit == "ms":
				s = "  " + m.paint(lk, pad(name, 8)) + m.paint(nodata, "no data")
			}
			return s
		}
		out = append(out, arm("canary", canaryLook, f.Canary, f.CanaryN), arm("stable", stableLook, f.Stable, f.StableN))
		if !noData(f) {
			s := "  difference " + u.signed(f.Canary-f.Stable)
			if f.Low != 0 || f.High != 0 {
				s += fmt.Sprintf(", 95 %% between %s and %s", u.signed(f.Low), u.signed(f.High))
			}
			if f.Limit != 0 {
				s += ", limit " + u.value(f.Limit)
			}
			if f.Window > 0 {
				s += ", over " + httpapi.Short(f.Window)
			}
			out = append(out, s)
		}
		if c := m.sparkOf(f, w-12); strings.TrimSpace(c) != "" {
			out = append(out, "  "+m.paint(canaryLook, strings.TrimLeft(c, " ")))
		}
		out = append(out, "")
	}
	if len(figures) == 0 {
		out = append(out, "  There are no figures.")
	}
	return out
}
