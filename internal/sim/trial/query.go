package trial

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// query is what a template's query asks a metrics server.
type query struct {
	kind   queryKind
	q      float64 // of a quantile
	times  float64 // the answer is multiplied by it: 100 for percent, 0.001 for seconds
	window time.Duration
	last   bool // irate: between the last two scrapes only
	perPod bool
	arm    arm
	zero   bool // "or vector(0)": no series of failures is 0
}

type queryKind uint8

const (
	successShare queryKind = iota
	errorShare
	latencyQuantile
)

// answer is the instant vector that comes back: empty where a series that the
// query needs was never scraped, NaN where it divides by nothing.
func (q *query) answer(t *tape) []float64 {
	w := q.window
	if q.last {
		w = 0
	}
	var out []float64
	for _, s := range t.window(q.arm, w, q.perPod) {
		switch q.kind {
		case latencyQuantile:
			if s.h != nil {
				out = append(out, q.times*s.quantileMs(q.q))
			}
		case errorShare:
			if s.failing || q.zero {
				out = append(out, q.times*s.e/s.n) // 0/0 is NaN
			}
		default:
			if s.answering || q.zero {
				out = append(out, q.times*(s.n-s.e)/s.n)
			}
		}
	}
	return out
}

func (q *query) String() string {
	what := map[queryKind]string{successShare: "share of answers that are no failures", errorShare: "share of failures", latencyQuantile: fmt.Sprintf("p%g latency", q.q*100)}[q.kind]
	who := "the canary"
	if q.arm == stableArm {
		who = "stable"
	}
	unit := ""
	switch {
	case q.kind == latencyQuantile && q.times == 1:
		unit = " in ms"
	case q.kind == latencyQuantile:
		unit = " in s"
	case q.times == 100:
		unit = " in %"
	}
	over := "over " + short(q.window)
	if q.last {
		over = "between two scrapes"
	}
	each := ""
	if q.perPod {
		each = ", one series for each pod"
	}
	return fmt.Sprintf("%s of %s%s %s%s", what, who, unit, over, each)
}

var (
	placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_.-]+)\s*\}\}`)
	inner       = `\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^{}]*\})?\s*\[\s*([0-9]+(?:ms|s|m|h))\s*\]\s*`
	rates       = regexp.MustCompile(`(?:sum\s*(?:by\s*\(([^()]*)\)\s*)?\(\s*)?\b(rate|irate|increase)\s*\(` + inner + `\)(?:\s*\)(?:\s*by\s*\(([^()]*)\))?)?`)
	quantiles   = regexp.MustCompile(`^histogram_quantile\(\s*([01]?\.[0-9]+|0|1)\s*,\s*sum\s*(?:by\s*\(([^()]*)\)\s*)?\(\s*(rate|irate|increase)\s*\(` + inner + `\)\s*\)\s*(?:by\s*\(([^()]*)\)\s*)?\)\s*([*/]\s*1000)?$`)
	orZero      = regexp.MustCompile(`\bor\s*(?:on\s*\(\s*\)\s*)?vector\(\s*0\s*\)`)
	failures    = regexp.MustCompile(`(=~|!~)\s*"[^"]*5[^"]*"`)
)

// parseQuery understands the common forms: a quantile of a histogram, and the
// share of answers that are failures or are none. values replace
// {{placeholders}}.
func parseQuery(text string, values map[string]string) (query, error) {
	arg := "canary"
	text = placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := placeholder.FindStringSubmatch(m)[1]
		if v, ok := values[strings.TrimPrefix(name, "args.")]; ok {
			return v
		}
		return arg
	})
	text = strings.Join(strings.Fields(text), " ")
	q := query{times: 1}
	// Flagger's own word for the stable version.
	if strings.Contains(text, "-primary") {
		q.arm = stableArm
	}
	if m := quantiles.FindStringSubmatch(text); m != nil {
		q.kind = latencyQuantile
		q.q, _ = strconv.ParseFloat(m[1], 64)
		q.last = m[3] == "irate"
		q.perPod = perPod(m[2]) || perPod(m[7])
		var err error
		if q.window, err = time.ParseDuration(m[6]); err != nil {
			return q, err
		}
		switch name := m[4]; {
		case strings.Contains(name, "millisecond"):
		case strings.Contains(name, "second"):
			q.times = 0.001
		default:
			return q, fmt.Errorf("cannot tell whether %s counts seconds or milliseconds: its name should say so", name)
		}
		switch op := strings.ReplaceAll(m[8], " ", ""); op {
		case "*1000":
			q.times *= 1000
		case "/1000":
			q.times /= 1000
		}
		return q, nil
	}
	q.zero = orZero.MatchString(text)
	text = orZero.ReplaceAllString(text, "")
	found := rates.FindAllStringSubmatch(text, -1)
	rest := rates.ReplaceAllString(text, "@")
	rest = strings.NewReplacer(" ", "", "(", "", ")", "").Replace(rest)
	if len(found) != 2 {
		return q, fmt.Errorf("only the share of failed answers (a rate divided by a rate) and histogram_quantile are understood")
	}
	match := failures.FindStringSubmatch(found[0][4])
	if match == nil || failures.MatchString(found[1][4]) {
		return q, fmt.Errorf(`the rate above the line should select answers by =~"5.." or !~"5..", the one below it all of them`)
	}
	if found[0][3] != found[1][3] || found[0][5] != found[1][5] {
		return q, fmt.Errorf("the two rates are of different metrics or windows")
	}
	var err error
	if q.window, err = time.ParseDuration(found[0][5]); err != nil {
		return q, err
	}
	q.last = found[0][2] == "irate"
	q.perPod = perPod(found[0][1]) || perPod(found[0][6])
	failing := match[1] == "=~"
	switch rest {
	case "@/@":
	case "@/@*100", "100*@/@":
		q.times = 100
	case "1-@/@":
		failing = !failing
	case "100-@/@*100", "100-100*@/@", "1-@/@*100", "100*1-@/@":
		q.times, failing = 100, !failing
	default:
		return q, fmt.Errorf("beside the two rates there is %q, which is not understood", rest)
	}
	if failing {
		q.kind = errorShare
	}
	return q, nil
}

func perPod(by string) bool {
	for _, l := range strings.Split(by, ",") {
		switch strings.TrimSpace(l) {
		case "pod", "instance", "pod_name", "kubernetes_pod_name":
			return true
		}
	}
	return false
}

// namedQuery reads what a user says a metric measures: "success:1m",
// "errors:5m" (shares), "p99:1m" (milliseconds), with % or s behind the kind.
func namedQuery(text string) (query, error) {
	kind, window, ok := strings.Cut(text, ":")
	d, err := time.ParseDuration(window)
	if !ok || err != nil || d <= 0 {
		return query{}, fmt.Errorf("%q: say what it measures and over how long: success:1m, success%%:1m, errors:5m, errors%%:5m, p99:1m (in ms) or p99s:1m", text)
	}
	q := query{times: 1, window: d}
	switch {
	case strings.HasPrefix(kind, "success"):
	case strings.HasPrefix(kind, "errors"):
		q.kind, q.zero = errorShare, true
	case strings.HasPrefix(kind, "p"):
		q.kind = latencyQuantile
		number := strings.TrimSuffix(kind[1:], "s")
		x, err := strconv.ParseFloat(number, 64)
		if err != nil || !(x > 0 && x < 100) || math.IsNaN(x) {
			return query{}, fmt.Errorf("%q: a quantile is meant, such as p99", kind)
		}
		q.q = x / 100
		if strings.HasSuffix(kind, "s") {
			q.times = 0.001
		}
		return q, nil
	default:
		return query{}, fmt.Errorf("%q: success, errors or a quantile such as p99 is meant", kind)
	}
	switch strings.TrimPrefix(strings.TrimPrefix(kind, "success"), "errors") {
	case "":
	case "%":
		q.times = 100
	default:
		return query{}, fmt.Errorf("%q: success, errors or a quantile such as p99 is meant", kind)
	}
	return q, nil
}

// short writes a duration without parts that are zero.
func short(d time.Duration) string {
	if d >= 10*time.Second {
		d = d.Round(time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
