package tui

import (
	"math"
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// Looks. The pair for the two versions, blue and orange, is told apart by all
// kinds of eyes; what is said by a colour is always said by a word or shape too.
type look int

const (
	plain look = iota
	strong
	faint
	stableLook
	canaryLook
	good
	bad
	nodata
	key
)

var looks = map[look]lipgloss.Style{
	plain:      lipgloss.NewStyle(),
	strong:     lipgloss.NewStyle().Bold(true),
	faint:      lipgloss.NewStyle().Foreground(lipgloss.Color("245")),
	stableLook: lipgloss.NewStyle().Foreground(lipgloss.Color("33")),
	canaryLook: lipgloss.NewStyle().Foreground(lipgloss.Color("208")),
	good:       lipgloss.NewStyle().Foreground(lipgloss.Color("36")),
	bad:        lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color("197")),
	nodata:     lipgloss.NewStyle().Foreground(lipgloss.Color("245")).Italic(true),
	key:        lipgloss.NewStyle().Bold(true).Underline(true),
}

// paint draws in a look, or without colours as it is.
func (m *Model) paint(l look, s string) string {
	if !m.Color || l == plain || s == "" {
		return s
	}
	return looks[l].Render(s)
}

// clean takes out what could move the cursor or turn the text around.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.Is(unicode.Bidi_Control, r) || r == '\ufeff' || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func width(s string) int { return ansi.StringWidth(s) }

// fit cuts to w cells.
func fit(s string, w int) string {
	if w <= 0 {
		return ""
	}
	return ansi.Truncate(s, w, "…")
}

// pad cuts or fills to exactly w cells, text at the left.
func pad(s string, w int) string {
	s = fit(s, w)
	return s + strings.Repeat(" ", max(0, w-width(s)))
}

// right is pad with the text at the right.
func right(s string, w int) string {
	s = fit(s, w)
	return strings.Repeat(" ", max(0, w-width(s))) + s
}

// ends puts one text at the left and one at the right end of w cells; the left
// one gives way.
func ends(l, r string, w int) string {
	r = fit(r, w)
	l = fit(l, max(0, w-width(r)-1))
	return l + strings.Repeat(" ", max(0, w-width(l)-width(r))) + r
}

// wrap breaks into at most n lines of w cells; the last one says that more follows.
func wrap(s string, w, n int) []string {
	if n <= 0 || w <= 0 || s == "" {
		return nil
	}
	lines := strings.Split(ansi.Wrap(s, w, ""), "\n")
	if len(lines) > n {
		rest := strings.Join(lines[n-1:], " ")
		lines = append(lines[:n-1], rest)
	}
	for i := range lines {
		lines[i] = fit(strings.TrimRight(lines[i], " "), w)
	}
	return lines
}

var ticks = []rune("▁▂▃▄▅▆▇█")

// spark draws values on one axis from lo to hi; what is missing is a dot of its own.
func spark(values []float64, lo, hi float64, w int) string {
	if w <= 0 {
		return ""
	}
	if len(values) > w {
		values = values[len(values)-w:]
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", w-len(values)))
	for _, v := range values {
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			b.WriteRune('░')
		case !(hi > lo):
			b.WriteRune(ticks[0])
		default:
			i := int((v - lo) / (hi - lo) * float64(len(ticks)))
			b.WriteRune(ticks[min(max(i, 0), len(ticks)-1)])
		}
	}
	return b.String()
}
