package analysis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// sentence says why the verdict is what it is: what was compared, the figures
// with their window and sample sizes, and what is still needed.
func (j *Judge) sentence(now int64, f *finding, r *Report) string {
	var b strings.Builder
	switch f.why {
	case becauseNothingAsked:
		b.WriteString("No metric is declared: nothing can be shown")
	case becauseLimit:
		b.WriteString(j.limitWords(f.limit, f.def, now))
		fmt.Fprintf(&b, " - broken by the canary alone since %s, as long as the rule allows", ago(now-f.limit.Since))
		harmWords(&b, r)
	case becauseEvidence:
		b.WriteString(j.evidenceWords(now, r))
		harmWords(&b, r)
	case becauseNoCanary:
		if j.s.StepSums.CanaryN <= 0 && j.seenRecently(canaryArm, now) {
			b.WriteString("No request has reached the canary at this step yet")
		} else {
			fmt.Fprintf(&b, "No data from the canary%s", lastSeen(now, j.s.Scored))
		}
	case becauseNoStable:
		if j.seenRecently(stableArm, now) {
			b.WriteString("No request has reached stable at this step yet: nothing to compare with")
		} else {
			fmt.Fprintf(&b, "No data from stable%s: nothing to compare with", lastSeen(now, j.s.Scored))
		}
	case becauseNoMetric:
		b.WriteString(j.missingWords(f.limit, f.def, now))
	case becauseBoth:
		b.WriteString(j.limitWords(f.limit, f.def, now))
		b.WriteString(": both versions break it, so it is not the canary's doing, and nothing goes on")
	case becausePending:
		b.WriteString(j.limitWords(f.limit, f.def, now))
		switch {
		case f.limit.Since == 0 && j.stableKnown(f.limit, f.def, now):
			b.WriteString(": over it, and not clearly beyond stable, so it does not count against the canary yet")
		case f.limit.Since == 0:
			b.WriteString(": over it, and nothing is known of stable, so nobody can say whose doing it is")
		case f.limit.Bad < minBad:
			fmt.Fprintf(&b, ": over it since %s, %s of the %d that it takes", ago(now-f.limit.Since), number(f.limit.Bad), minBad)
		default:
			fmt.Fprintf(&b, ": over it since %s, taken back after %s", ago(now-f.limit.Since), words(f.def.hold))
		}
	case becauseNotLive:
		b.WriteString(j.comparedWords(now))
		b.WriteString("; the split has not been seen in force yet, so nothing counts towards going on")
	case becauseFew:
		b.WriteString(j.comparedWords(now))
		fmt.Fprintf(&b, "; %s", j.fewWords())
	case becauseProof:
		b.WriteString(j.comparedWords(now))
		fmt.Fprintf(&b, "; %s", j.proofWords(f))
	case becauseShown:
		b.WriteString(j.comparedWords(now))
		b.WriteString("; " + j.shownWords(f))
	}
	b.WriteString(".")
	if got, want, odd := j.s.Evidence.oddShare(); odd && !j.noControl {
		fmt.Fprintf(&b, " The canary got %s of the requests where its weight explains %s: what it answers may be no fair sample.", percent(got), percent(want))
	}
	if j.fault.n > 0 {
		fmt.Fprintf(&b, " Left out: pod %s %s", j.fault.pod, faultWords[j.fault.kind])
		if j.fault.n > 1 {
			fmt.Fprintf(&b, ", and %d more", j.fault.n-1)
		}
		b.WriteString(".")
	}
	return b.String()
}

func harmWords(b *strings.Builder, r *Report) {
	if r.Harmed >= 0.5 {
		fmt.Fprintf(b, ", about %s of %s requests harmed", number(math.Round(r.Harmed)), number(r.Exposed))
	}
}

func lastSeen(now, at int64) string {
	if at == 0 {
		return " yet"
	}
	return " for " + words(time.Duration(now-at))
}

func (j *Judge) stableKnown(m *limit, d *rule, now int64) bool {
	if m.Window != nil && d.kind != ruleCPU {
		return m.Window.total().StableN > 0
	}
	return m.StaData != 0 && now-m.StaData <= int64(j.cfg.StaleAfter)
}

// limitWords states a limit and both figures, with window and sample sizes.
func (j *Judge) limitWords(m *limit, d *rule, now int64) string {
	var t count
	if m.Window != nil {
		t = m.Window.total()
	}
	within := words(time.Duration(span(d.hold)))
	stable := func(s string) string {
		if j.noControl || !j.stableKnown(m, d, now) {
			return ""
		}
		return ", " + s + " on stable"
	}
	switch d.kind {
	case ruleErrors:
		return fmt.Sprintf("Errors %s (%s of %s)%s over %s, limit %s", percent(m.Canary), number(t.CanaryK), number(t.CanaryN),
			stable(fmt.Sprintf("%s (%s of %s)", percent(m.Stable), number(t.StableK), number(t.StableN))), within, percent(*d.hi))
	case ruleLatency:
		return fmt.Sprintf("Requests slower than %s: %s (%s of %s)%s over %s, limit %s", millis(j.slowBound), percent(m.Canary), number(t.CanaryK), number(t.CanaryN),
			stable(fmt.Sprintf("%s (%s of %s)", percent(m.Stable), number(t.StableK), number(t.StableN))), within, percent(*d.hi))
	case ruleCPU:
		return fmt.Sprintf("CPU %s cores a pod%s over %s, limit %s", short(m.Canary), stable(short(m.Stable)), within, short(*d.hi))
	case ruleMemory:
		return fmt.Sprintf("Memory %s in the largest pod%s, limit %s", size(m.Canary), stable(size(m.Stable)), size(*d.hi))
	}
	limit := ""
	if d.lo != nil {
		limit += ", at least " + short(*d.lo)
	}
	if d.hi != nil {
		limit += ", at most " + short(*d.hi)
	}
	return fmt.Sprintf("%s is %s%s, wanted%s", d.name, short(m.Canary), stable(short(m.Stable)), strings.TrimPrefix(limit, ","))
}

// missingWords says which declared metric gave no number, and what it gave.
func (j *Judge) missingWords(m *limit, d *rule, now int64) string {
	since := "has given no number yet"
	if m.Data != 0 {
		since = "has given no number for " + words(time.Duration(now-m.Data))
	}
	switch d.kind {
	case ruleCustom:
		who, a := "the canary", m.Answer
		if a == Number || a == NoAnswer {
			if m.SAnswer != Number && m.SAnswer != NoAnswer {
				who, a = "stable", m.SAnswer
			}
		}
		switch a {
		case Empty:
			return fmt.Sprintf("Metric %s: the query answers with no series for %s", d.name, who)
		case NotANumber:
			return fmt.Sprintf("Metric %s: the answer for %s is not a number", d.name, who)
		case Several:
			return fmt.Sprintf("Metric %s: several series for %s where one is wanted", d.name, who)
		case SourceFailed:
			return fmt.Sprintf("Metric %s: the source did not answer for %s", d.name, who)
		}
		return fmt.Sprintf("Metric %s %s", d.name, since)
	case ruleLatency:
		c, s := &j.tick[canaryArm], &j.tick[stableArm]
		if j.slowBound > 0 && (c.Has|s.Has)&HasLatency != 0 && (c.Has&hasBound == 0 || s.Has&hasBound == 0 && !j.noControl) {
			return fmt.Sprintf("Metric latency: no histogram bound lies at %s, so the limit cannot be counted", millis(j.slowBound))
		}
		return "Metric latency " + since + ": no histogram from both versions"
	}
	if j.noControl {
		return fmt.Sprintf("Metric %s %s on the canary", d.name, since)
	}
	return fmt.Sprintf("Metric %s %s on both versions", d.name, since)
}

// comparedWords gives the figures of what was compared.
func (j *Judge) comparedWords(now int64) string {
	var b strings.Builder
	for i := range j.rules {
		m, d := &j.s.Limits[i], &j.rules[i]
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		switch d.kind {
		case ruleErrors:
			w := j.s.Shown
			w.slide(now, shownSpan)
			t := w.total()
			fmt.Fprintf(&b, "errors %s (%s of %s)", percent(t.canary()), number(t.CanaryK), number(t.CanaryN))
			if t.StableN > 0 {
				fmt.Fprintf(&b, " against %s (%s of %s) on stable", percent(t.stable()), number(t.StableK), number(t.StableN))
			}
			fmt.Fprintf(&b, " over %s", words(j.shownFor(now)))
		case ruleLatency:
			b.WriteString(j.latencyWords(now))
		case ruleCPU:
			fmt.Fprintf(&b, "CPU %s cores a pod", short(m.Canary))
			if m.StaData != 0 && !j.noControl {
				fmt.Fprintf(&b, " against %s", short(m.Stable))
			}
		case ruleMemory:
			fmt.Fprintf(&b, "memory %s", size(m.Canary))
			if m.StaData != 0 && !j.noControl {
				fmt.Fprintf(&b, " against %s", size(m.Stable))
			}
		case ruleCustom:
			fmt.Fprintf(&b, "%s %s", d.name, short(m.Canary))
			if m.SAnswer == Number && !j.noControl {
				fmt.Fprintf(&b, " against %s", short(m.Stable))
			}
		}
	}
	s := b.String()
	if s != "" && j.rules[0].kind != ruleCustom {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

func (j *Judge) fewWords() string {
	want := math.Max(1, j.cfg.MinRequests)
	if j.s.StepSums.CanaryN < want {
		return fmt.Sprintf("%s of the %s requests that the canary must have answered at this step", number(j.s.StepSums.CanaryN), number(want))
	}
	return fmt.Sprintf("%s of the %s requests that stable must have answered at this step", number(j.s.StepSums.StableN), number(want))
}

// percent writes a share with three digits that matter.
func percent(x float64) string {
	p := x * 100
	switch a := math.Abs(p); {
	case a == 0:
		return "0 %"
	case a < 0.1:
		return strconv.FormatFloat(p, 'g', 2, 64) + " %"
	case a < 10:
		return trim(strconv.FormatFloat(p, 'f', 2, 64)) + " %"
	}
	return trim(strconv.FormatFloat(p, 'f', 1, 64)) + " %"
}

func trim(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// number writes a count with its thousands apart.
func number(x float64) string {
	s := strconv.FormatFloat(math.Round(x), 'f', 0, 64)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		s = "-" + s
	}
	return s
}

func short(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func millis(x float64) string {
	if x >= 1000 {
		return trim(strconv.FormatFloat(x/1000, 'f', 2, 64)) + " s"
	}
	return strconv.FormatFloat(x, 'g', 3, 64) + " ms"
}

func size(x float64) string {
	const unit = 1024
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if x < unit {
			return trim(strconv.FormatFloat(x, 'f', 1, 64)) + " " + u
		}
		x /= unit
	}
	return trim(strconv.FormatFloat(x, 'f', 1, 64)) + " TiB"
}

func ago(ns int64) string { return words(time.Duration(ns)) }

// words writes a duration as people say it, to the second.
func words(d time.Duration) string {
	s := int64(math.Round(d.Seconds()))
	switch {
	case d > 0 && d < time.Second:
		return trim(strconv.FormatFloat(d.Seconds(), 'f', 2, 64)) + " s"
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600 && s%60 == 0:
		return fmt.Sprintf("%d min", s/60)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
}
