package prometheus

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/serin-dev/serin/internal/metric"
)

// kind is one kind of figure: what is asked for it is one question for many
// rollouts.
type kind uint8

const (
	requests kind = iota // and whether the pods answer at all
	latency
	usage // processor and memory
	kinds
)

// selection is what a question selects: names of metrics.
type selection struct{ names []string }

// up says of every target whether it answered.
const up = "up"

// selectionOf says what is asked for a kind, under the conventions that are in
// use among the pods.
func selectionOf(k kind, names []metric.Names) selection {
	var s selection
	switch k {
	case requests:
		s.names = append(s.names, up)
		for i := range names {
			n := &names[i]
			if n.Requests != "" {
				s.names = append(s.names, n.Requests)
			} else {
				s.names = append(s.names, n.Latency+"_count")
			}
		}
	case latency:
		for i := range names {
			if n := names[i].Latency; n != "" {
				s.names = append(s.names, n+"_bucket", n)
			}
		}
	case usage:
		s.names = metric.UsageNames()
	}
	return s
}

// query asks for the raw samples of a span of time up to now, of these pods.
// Raw samples have the instant at which they were scraped, and nothing in them
// is extrapolated.
func (c *Config) query(s selection, pods map[podKey]bool, span time.Duration) string {
	namespaces, names := map[string]bool{}, map[string]bool{}
	for p := range pods {
		namespaces[p.namespace], names[p.name] = true, true
	}
	m := []*labels.Matcher{
		oneOf(model.MetricNameLabel, s.names),
		oneOf(c.NamespaceLabel, sorted(namespaces)),
		oneOf(c.PodLabel, sorted(names)),
	}
	return fmt.Sprintf("%s[%s]", &parser.VectorSelector{LabelMatchers: m}, model.Duration(span.Round(time.Millisecond)))
}

func sorted(set map[string]bool) []string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// oneOf matches any of the values, literally.
func oneOf(label string, values []string) *labels.Matcher {
	if len(values) == 1 {
		return labels.MustNewMatcher(labels.MatchEqual, label, values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return labels.MustNewMatcher(labels.MatchRegexp, label, strings.Join(quoted, "|"))
}
