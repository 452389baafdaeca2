package analysis

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// restWords says what calibrating at rest has come to.
func (j *Judge) restWords() string {
	c := &j.s.Evidence.Cal
	if c.PodSeconds <= 0 {
		return "watching stable; its pods have not been compared with each other yet"
	}
	return fmt.Sprintf("watching stable; its pods were compared with each other for %s of pod time",
		words(time.Duration(c.PodSeconds*float64(time.Second))))
}

// evidenceWords says what was found worse, by how much, and how sure.
func (j *Judge) evidenceWords(now int64, r *Report) string {
	e := j.s.Evidence
	took := ""
	if j.s.Began != 0 {
		took = fmt.Sprintf(" - worse by evidence %s after its first request", ago(e.At-j.s.Began))
	}
	odds := fmt.Sprintf(" (odds of this on an equal release below 1 in %s)", number(math.Round(math.Exp(math.Min(j.threshold(), 30)))))
	switch e.Rule {
	case byErrors:
		w := j.s.Shown
		w.slide(now, shownSpan)
		t := w.total()
		s := fmt.Sprintf("Errors %s (%s of %s)", percent(t.canary()), number(t.CanaryK), number(t.CanaryN))
		if t.StableN > 0 && !j.noControl {
			lo, hi := band(t)
			s += fmt.Sprintf(" against %s (%s of %s) on stable: %s points, 95 %% band %s to %s", percent(t.stable()), number(t.StableK), number(t.StableN),
				points(t.canary()-t.stable()), points(lo), points(hi))
		} else if p, ok := e.base(); ok {
			s += fmt.Sprintf(" against the %s that stable had last", percent(p))
		}
		s += fmt.Sprintf(" over %s, worse counts from %s", words(j.shownFor(now)), points(j.cfg.ErrorRate.WorseBy))
		if j.noControl {
			return s + took
		}
		return s + took + odds
	case byLatency:
		s := j.latencyWords(now) + " over " + words(min(j.shownFor(now), 3*recentTau*time.Second))
		if !j.noControl {
			k := ""
			if e.R.CL > 0 {
				k = fmt.Sprintf("; %s of its requests lie beyond stable's p%s plus %s, where %s may", percent(ratio(e.R.CK, e.R.CL)),
					trim(short(j.cfg.Latency.Quantile*100)), percent(j.cfg.Latency.WorseBy), percent(1-j.cfg.Latency.Quantile))
			}
			return upper(s) + k + took + odds
		}
		return upper(s) + took
	}
	return "Most pods of the canary were killed for memory, twice" + took
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// points writes a difference of shares with its sign.
func points(x float64) string {
	s := strings.TrimSuffix(percent(math.Abs(x)), " %")
	if x < 0 {
		return "-" + s
	}
	return "+" + s
}

// proofWords says what is still needed before going on.
func (j *Judge) proofWords(f *finding) string {
	e := j.s.Evidence
	need := math.Log(1 / beta)
	switch {
	case e.Since != 0:
		where := ""
		if j.lonePod() {
			where = " on one pod of the canary, and not on the others"
		}
		return fmt.Sprintf("%s looks worse since %s%s, which counts when it has lasted %s", j.suspectWords(), ago(j.s.Last-e.Since), where, ago(int64(j.wait()*1e9)))
	case e.CPU.worse():
		return fmt.Sprintf("CPU a request is %s on the canary and %s on stable, more than %s worse: held, as that alone takes nothing back", short(e.CPU.C), short(e.CPU.S), percent(j.cfg.CPU.WorseBy))
	case e.Mem.worse():
		return fmt.Sprintf("memory a pod is %s on the canary and %s on stable, more than %s worse: held, as that alone takes nothing back", size(e.Mem.C), size(e.Mem.S), percent(j.cfg.Memory.WorseBy))
	case e.Ending:
		return fmt.Sprintf("the canary's pods were started anew about %.0f times lately, stable's about %.0f times: held, as that alone takes nothing back", e.Starts.C, e.Starts.S)
	case !f.calm:
		return fmt.Sprintf("something speaks against the canary: evidence %s of what takes it back", percent(f.rollback))
	}
	byErr, byLat := j.compares()
	what := "errors"
	got := e.ProofErrors
	if byLat && (!byErr || e.ProofLatency < e.ProofErrors) {
		what, got = "latency", e.ProofLatency
	}
	return fmt.Sprintf("not shown yet that %s are not worse: %s of the evidence that takes", plural(what), percent(math.Min(math.Max(got/need, 0), 0.99)))
}

func plural(what string) string {
	if what == "latency" {
		return "latencies"
	}
	return what
}

func (j *Judge) suspectWords() string {
	if j.s.Evidence.Suspect == byLatency {
		return "latency"
	}
	return "the share of errors"
}

// shownWords says why the step may be left.
func (j *Judge) shownWords(f *finding) string {
	if !j.cfg.Compare {
		return "every limit is kept and enough requests were seen"
	}
	if f.better {
		return "the canary fails less than a failing stable"
	}
	var what []string
	byErr, byLat := j.compares()
	if byErr {
		what = append(what, "errors by "+points(j.cfg.ErrorRate.WorseBy)+" points")
	}
	if byLat {
		what = append(what, "latency by "+percent(j.cfg.Latency.WorseBy))
	}
	if len(what) == 0 {
		return "every limit is kept and enough requests were seen"
	}
	return fmt.Sprintf("worse %s is ruled out at the %s level", strings.Join(what, " or "), percent(beta))
}

// mark puts what the comparison says into a figure's state.
func (j *Judge) mark(f *Figure, d *rule) {
	e := j.s.Evidence
	// A limit that is not broken for long enough yet does not hide what the
	// release was taken back for.
	if f.State == limitWords[limitPending] && e.Failed && e.Rule == d.name {
		f.State = "worse"
	}
	if !j.cfg.Compare || f.State != limitWords[limitOK] {
		return
	}
	switch d.kind {
	case ruleErrors:
		if e.Failed && e.Rule == byErrors || e.Suspect == byErrors {
			f.State = "worse"
		} else if j.better() {
			f.State = "better"
		}
	case ruleLatency:
		if e.Failed && e.Rule == byLatency || e.Suspect == byLatency {
			f.State = "worse"
		}
	case ruleCPU:
		if e.CPU.worse() {
			f.State = "worse"
		}
	case ruleMemory:
		if e.Mem.worse() || e.Failed && e.Rule == "memory" {
			f.State = "worse"
		}
	}
}

func (j *Judge) latencyFigure(f *Figure, m *limit, d *rule, now int64) {
	f.Unit = "ms"
	q := j.cfg.Latency.Quantile
	f.Canary, f.CanaryN = j.quantile(&j.s.Evidence.RecentC, q)
	f.Stable, f.StableN = j.quantile(&j.s.Evidence.RecentS, q)
	f.CanaryN, f.StableN = math.Round(f.CanaryN), math.Round(f.StableN)
	f.Limit = j.slowBound
	f.Window = min(j.shownFor(now), 3*recentTau*time.Second)
}

func (j *Judge) quantile(h *hist, q float64) (ms, n float64) {
	s := shapeOf(h, j.s.Layout)
	if s.n <= 0 {
		return 0, 0
	}
	return s.quantile(j.s.Layout, q), s.n
}

func (j *Judge) latencyWords(now int64) string {
	q := j.cfg.Latency.Quantile
	c, cn := j.quantile(&j.s.Evidence.RecentC, q)
	s, sn := j.quantile(&j.s.Evidence.RecentS, q)
	if cn <= 0 {
		return "no latency seen yet"
	}
	w := fmt.Sprintf("p%s latency %s", trim(short(q*100)), millis(c))
	if sn > 0 && !j.noControl {
		w += " against " + millis(s)
	}
	return w
}
