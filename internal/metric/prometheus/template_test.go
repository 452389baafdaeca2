package prometheus

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

func TestCheck(t *testing.T) {
	for query, want := range map[string]string{
		`sum(rate(http_requests_total{version="{{version}}",code!~"5.."}[1m])) / sum(rate(http_requests_total{version="{{version}}"}[1m])) * 100`: "",
		`orders_open`: "",
		`scalar(sum(a{v="{{version}}-{{namespace}}"}))`:     "",
		`max(a{pod=~"my-app-{{version}}-.*"}) or vector(0)`: "",
		"sum(a{\n  version=\"{{version}}\"\n}) +":           "[3:5: unexpected end of input]",
		`sum(a{version="{{version}}"}`:                      "[1:29: unclosed left parenthesis",
		`sum(a{v="{{tier}}"})`:                              "[1:10: {{tier}}: there are {{version}} and {{namespace}}]",
		`{{version}}_total`:                                 "[1:1: a placeholder stands for the value of a label, such as {version=\"{{version}}\"}, and for nothing else]",
		`a{ {{version}}="x"}`:                               "[1:4: a placeholder stands",
		`sum by ({{version}}) (a)`:                          "[1:9: a placeholder stands",
		`label_replace(a, "x", "{{version}}", "y", "z")`:    "[1:24: a placeholder stands",
		`{__name__="{{version}}"}`:                          "[1:12: a placeholder stands",
		"a # {{version}}":                                   "[1:5: a placeholder stands",
		`a{b="{{version}}"} + {{namespace}}`:                "[1:22: a placeholder stands",
		`vector(1)`:                                         "[1:1: the query asks for no metric]",
		`time()`:                                            "[1:1: the query asks for no metric]",
		`a[5m]`:                                             "[1:1: one number is meant, and this is a range vector]",
		`"a"`:                                               "asks for no metric",
		``:                                                  "no expression found in input",
		`nofunction(a)`:                                     `unknown function with name "nofunction"`,
		`a{b="{{version}}"} @`:                              "[1:21: unexpected end of input",
		strings.Repeat("a", 5000):                           "a query has at most 4096 characters",
		`a{b="serin_stands_for_version"}`:                   "is a word of ours",
	} {
		got := fmt.Sprint(Check(query))
		if got == "[]" {
			got = ""
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
}

func TestRender(t *testing.T) {
	v := Values{Version: `v1.2"} or vector(1) #`, Namespace: "shop"}
	for query, want := range map[string]string{
		`sum(a{version="{{version}}"})`:          `sum(a{namespace="shop",version="v1.2\"} or vector(1) #"})`,
		`a{p=~"x-{{version}}-.*"}`:               `a{namespace="shop",p=~"x-v1\\.2\"\\} or vector\\(1\\) #-.*"}`,
		`sum(rate(a[5m])) / sum(b offset 1h)`:    `sum(rate(a{namespace="shop"}[5m])) / sum(b{namespace="shop"} offset 1h)`,
		`a{namespace="other"}`:                   `a{namespace="other",namespace="shop"}`,
		`a{namespace=~".*"} or b{namespace!=""}`: `a{namespace="shop",namespace=~".*"} or b{namespace!="",namespace="shop"}`,
		`max_over_time(sum(a)[10m:1m])`:          `max_over_time(sum(a{namespace="shop"})[10m:1m])`,
		`absent(a)`:                              `absent(a{namespace="shop"})`,
		`{__name__=~"a|b"}`:                      `{__name__=~"a|b",namespace="shop"}`,
	} {
		tpl, err := ParseTemplate(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		got, err := tpl.Render(v, "namespace")
		if err != nil || got != want {
			t.Errorf("%s:\n got %s\nwant %s (%v)", query, got, want, err)
		}
	}
}

// FuzzRender: whatever the value of a label is, the query that comes out parses
// to the tree of the template, and differs from it in nothing but the values of
// the labels that have placeholders and the matchers for the namespace.
func FuzzRender(f *testing.F) {
	for _, v := range []string{"v1", `"} or vector(1) #`, "{{namespace}}", "serin_stands_for_namespace", "a\nb", "\\", "`", "'", "\x00", "é", "\xff", ".*", "", "${x}", "%s"} {
		f.Add(`sum(rate(a{version="{{version}}",x=~"{{version}}.*",n!="{{namespace}}"}[1m])) / b`, v, "shop")
		f.Add("a{v='{{version}}'} + c{v=`{{version}}`}", v, v)
	}
	f.Fuzz(func(t *testing.T, query, version, namespace string) {
		tpl, err := ParseTemplate(query)
		if err != nil {
			return
		}
		got, err := tpl.Render(Values{version, namespace}, "namespace")
		if err != nil {
			return
		}
		before, err := queries.ParseExpr(tpl.text)
		if err != nil {
			t.Fatal(err)
		}
		after, err := queries.ParseExpr(got)
		if err != nil {
			t.Fatalf("%s with %q became %s: %v", query, version, got, err)
		}
		a, b := selectorsOf(before), selectorsOf(after)
		if len(a) != len(b) {
			t.Fatalf("%s with %q became %s", query, version, got)
		}
		for i := range a {
			want := map[string]int{}
			for _, m := range a[i].LabelMatchers {
				if countMarks(m.Value) > 0 {
					if m, err = substitute(m, Values{version, namespace}); err != nil {
						t.Fatal(err)
					}
				}
				want[m.String()]++
			}
			want[labels.MustNewMatcher(labels.MatchEqual, "namespace", namespace).String()]++
			for _, m := range b[i].LabelMatchers {
				want[m.String()]--
			}
			for m, n := range want {
				if n != 0 {
					t.Fatalf("%s with %q became %s: %s %+d", query, version, got, m, n)
				}
			}
		}
		// With the matchers taken out, the trees are the same.
		if strip(before) != strip(after) {
			t.Fatalf("%s with %q became %s", query, version, got)
		}
	})
}

func selectorsOf(e parser.Expr) (out []*parser.VectorSelector) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			out = append(out, s)
		}
		return nil
	})
	return out
}

func strip(e parser.Expr) string {
	for _, s := range selectorsOf(e) {
		s.LabelMatchers, s.Name = nil, "x"
	}
	return e.String()
}
