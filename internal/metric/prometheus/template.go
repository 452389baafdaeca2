package prometheus

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
)

// Template is a query of the document. Its placeholders stand for values of
// labels and for nothing else: the query is parsed once, and a value is put
// into the parsed tree, never into text.
type Template struct {
	text string // with marks for placeholders
	// PerVersion says that the query has {{version}}: it is asked for each
	// version. Without it there is one number for both.
	PerVersion bool
}

// Values are what the placeholders stand for.
type Values struct {
	Version   string
	Namespace string
}

// Problem is what is wrong with a query, and where: the byte offset from its
// beginning, and line and column counted from 1.
type Problem struct {
	Offset, Line, Column int
	Message              string
}

func (p Problem) Error() string { return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message) }

// marks stand for the placeholders while the query is parsed.
var marks = []struct{ placeholder, mark string }{
	{"{{version}}", "serin_stands_for_version"},
	{"{{namespace}}", "serin_stands_for_namespace"},
}

var anyPlaceholder = regexp.MustCompile(`\{\{[^{}]*\}\}`)

const maxQuery = 4096

// queries parses as every Prometheus of the last years does: nothing that is
// experimental.
var queries = parser.NewParser(parser.Options{})

// Check says everything that is wrong with a query of the document; nil =
// nothing. It needs no Prometheus.
func Check(query string) []Problem {
	_, problems := parse(query)
	return problems
}

// ParseTemplate reads a query of the document. The error is a [Problem] or
// several of them joined.
func ParseTemplate(query string) (*Template, error) {
	t, problems := parse(query)
	if len(problems) > 0 {
		var errs []error
		for _, p := range problems {
			errs = append(errs, p)
		}
		return nil, errors.Join(errs...)
	}
	return t, nil
}

func parse(query string) (*Template, []Problem) {
	m := &marked{query: query}
	if len(query) > maxQuery {
		m.problem(maxQuery, "a query has at most %d characters", maxQuery)
		return nil, m.problems
	}
	m.mark()
	if len(m.problems) > 0 {
		return nil, m.problems
	}
	expr, err := queries.ParseExpr(m.text)
	if err != nil {
		m.parseErrors(err)
		return nil, m.problems
	}
	m.inspect(expr)
	if len(m.problems) > 0 {
		return nil, m.problems
	}
	return &Template{text: m.text, PerVersion: strings.Contains(query, marks[0].placeholder)}, nil
}

// marked is a query with marks in the places of its placeholders.
type marked struct {
	query, text string
	shifts      []shift
	problems    []Problem
}

// shift: from text offset at on, the query is that much longer than the text.
type shift struct{ at, by int }

func (m *marked) mark() {
	for _, known := range marks {
		if i := strings.Index(m.query, known.mark); i >= 0 {
			m.problem(i, "%s is a word of ours", known.mark)
		}
	}
	var b strings.Builder
	last, by := 0, 0
	for _, at := range anyPlaceholder.FindAllStringIndex(m.query, -1) {
		found := m.query[at[0]:at[1]]
		i := slices.IndexFunc(marks, func(k struct{ placeholder, mark string }) bool { return k.placeholder == found })
		if i < 0 {
			m.problem(at[0], "%s: there are {{version}} and {{namespace}}", found)
			continue
		}
		b.WriteString(m.query[last:at[0]])
		b.WriteString(marks[i].mark)
		last = at[1]
		by += len(found) - len(marks[i].mark)
		m.shifts = append(m.shifts, shift{b.Len(), by})
	}
	b.WriteString(m.query[last:])
	m.text = b.String()
}

// original is where in the query a place of the text is.
func (m *marked) original(at int) int {
	by := 0
	for _, s := range m.shifts {
		if s.at <= at {
			by = s.by
		}
	}
	return min(max(at+by, 0), len(m.query))
}

func (m *marked) problem(offset int, format string, args ...any) {
	before := m.query[:min(offset, len(m.query))]
	m.problems = append(m.problems, Problem{
		Offset:  offset,
		Line:    1 + strings.Count(before, "\n"),
		Column:  offset - strings.LastIndexByte(before, '\n'),
		Message: fmt.Sprintf(format, args...),
	})
}

func (m *marked) parseErrors(err error) {
	var list parser.ParseErrors
	if !errors.As(err, &list) || len(list) == 0 {
		m.problem(0, "%s", m.unmark(err.Error()))
		return
	}
	for _, e := range list {
		m.problem(m.original(int(e.PositionRange.Start)), "%s", m.unmark(e.Err.Error()))
	}
}

// unmark writes a message in the words of the query.
func (m *marked) unmark(s string) string {
	for _, k := range marks {
		s = strings.ReplaceAll(s, k.mark, k.placeholder)
	}
	return s
}

// inspect finds what parses and is refused.
func (m *marked) inspect(expr parser.Expr) {
	selectors, placed := 0, 0
	at := func(r posrange.PositionRange) int { return m.original(int(r.Start)) }
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		selectors++
		for _, l := range s.LabelMatchers {
			if l.Name != model.MetricNameLabel {
				placed += countMarks(l.Value)
			}
		}
		return nil
	})
	if selectors == 0 {
		m.problem(at(expr.PositionRange()), "the query asks for no metric")
	}
	// Every mark has to be in the value of a label; where one is not, say which.
	if total := countMarks(m.text); total != placed {
		for _, i := range m.loose(expr) {
			m.problem(m.original(i), "a placeholder stands for the value of a label, such as {version=\"{{version}}\"}, and for nothing else")
		}
	}
	switch expr.Type() {
	case parser.ValueTypeVector, parser.ValueTypeScalar:
	default:
		m.problem(at(expr.PositionRange()), "one number is meant, and this is a %s", parser.DocumentedType(expr.Type()))
	}
}

// loose are the marks that are outside of selectors, or in them and not in the
// value of a label.
func (m *marked) loose(expr parser.Expr) []int {
	var inside []posrange.PositionRange
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			want := 0
			for _, l := range s.LabelMatchers {
				if l.Name != model.MetricNameLabel {
					want += countMarks(l.Value)
				}
			}
			if r := s.PosRange; countMarks(m.text[r.Start:min(int(r.End), len(m.text))]) == want {
				inside = append(inside, r)
			}
		}
		return nil
	})
	var out []int
	for _, k := range marks {
		for from := 0; ; {
			i := strings.Index(m.text[from:], k.mark)
			if i < 0 {
				break
			}
			i += from
			from = i + len(k.mark)
			if !slices.ContainsFunc(inside, func(r posrange.PositionRange) bool { return int(r.Start) <= i && i < int(r.End) }) {
				out = append(out, i)
			}
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		out = append(out, 0)
	}
	return out
}

func countMarks(s string) int {
	n := 0
	for _, k := range marks {
		n += strings.Count(s, k.mark)
	}
	return n
}

// Render gives the query with the values in their places, and with every
// selector bound to the namespace by the label of that name. Values may be any
// text: where the query compares with a regular expression they are matched
// literally.
func (t *Template) Render(v Values, namespaceLabel string) (string, error) {
	if !utf8.ValidString(v.Version) || !utf8.ValidString(v.Namespace) {
		return "", errors.New("a label's value is not UTF-8")
	}
	expr, err := queries.ParseExpr(t.text)
	if err != nil {
		return "", err // it parsed before
	}
	var failed error
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok || failed != nil {
			return nil
		}
		for i, m := range s.LabelMatchers {
			if countMarks(m.Value) == 0 {
				continue
			}
			if s.LabelMatchers[i], err = substitute(m, v); err != nil {
				failed = err
			}
		}
		bound, err := labels.NewMatcher(labels.MatchEqual, namespaceLabel, v.Namespace)
		if err != nil {
			failed = err
			return nil
		}
		s.LabelMatchers = append(s.LabelMatchers, bound)
		return nil
	})
	if failed != nil {
		return "", failed
	}
	return expr.String(), nil
}

func substitute(m *labels.Matcher, v Values) (*labels.Matcher, error) {
	version, namespace := v.Version, v.Namespace
	if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
		version, namespace = regexp.QuoteMeta(version), regexp.QuoteMeta(namespace)
	}
	// Both at once: a value that looks like a mark is only a value.
	value := strings.NewReplacer(marks[0].mark, version, marks[1].mark, namespace).Replace(m.Value)
	return labels.NewMatcher(m.Type, m.Name, value)
}
