package trial

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/sim/worlds"
)

// Regression is what is wrong with a canary. One of Error, Slower and Tail is
// set.
type Regression struct {
	Text   string        `json:"text"`             // as it was asked for
	Error  float64       `json:"error,omitempty"`  // share of failures that it then has
	Slower float64       `json:"slower,omitempty"` // its requests take so many times as long
	Tail   float64       `json:"tail,omitempty"`   // share of requests that take 20 times as long
	After  time.Duration `json:"after,omitempty"`  // wrong only so long after it came
	From   float64       `json:"from,omitempty"`   // and only from this weight on
	Over   time.Duration `json:"over,omitempty"`   // growing for so long
}

const regressionForms = "error=2% (then has), latency=x1.5 or tail=1%, and behind it, by commas, after=15m, from=50% or over=30m"

// ParseRegression reads "error=2%", "latency=x1.5", "tail=1%", each with
// ",after=15m", ",from=50%" and ",over=30m".
func ParseRegression(text string) (Regression, error) {
	r := Regression{Text: text}
	var errs []error
	kinds := 0
	for i, part := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return r, fmt.Errorf("%q: want %s", text, regressionForms)
		}
		share := func() float64 {
			p, err := v1alpha1.ParsePercent(value)
			if err == nil && p > v1alpha1.Whole {
				err = fmt.Errorf("%s: more than all", value)
			}
			if err == nil && p == 0 {
				err = fmt.Errorf("%s: nothing would be wrong", value)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			}
			return p.Fraction()
		}
		span := func() time.Duration {
			d, err := v1alpha1.ParseDuration(value)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			}
			return d.Duration
		}
		switch {
		case key == "error" && i == 0:
			kinds++
			r.Error = share()
		case key == "tail" && i == 0:
			kinds++
			r.Tail = share()
		case key == "latency" && i == 0:
			kinds++
			number, isTimes := strings.CutPrefix(value, "x")
			x, err := strconv.ParseFloat(number, 64)
			if !isTimes || err != nil || !(x > 1 && x <= 100) || math.IsNaN(x) {
				errs = append(errs, fmt.Errorf("latency: %q: how many times as long is meant, above x1 and at most x100, such as x1.5", value))
			}
			r.Slower = x
		case key == "after":
			r.After = span()
		case key == "over":
			r.Over = span()
		case key == "from":
			r.From = share()
		default:
			errs = append(errs, fmt.Errorf("%q is not understood here: want %s", part, regressionForms))
		}
	}
	if kinds == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("want %s", regressionForms))
	}
	if len(errs) > 0 {
		return r, fmt.Errorf("%q: %w", text, errors.Join(errs...))
	}
	return r, nil
}

// Source makes worlds with and without something wrong.
type Source interface {
	// Worlds of a healthy canary (nil) or of one with the regression.
	Worlds(r *Regression) (Worlds, error)
	Rate() float64 // requests a second
	Base() float64 // stable's share of failures
	About() string // where its figures come from, for people
	// Measured says which figures there are of its pods.
	Measured() analysis.Has
	// bounds of its histograms, in milliseconds, where it has them of itself
	// and not of a real service.
	bounds() []float64
}

// SyntheticSource is a service as the scenario says; what is wrong with its
// canary is asked for apart.
func SyntheticSource(s worlds.Scenario) Source { return syntheticSource{s} }

type syntheticSource struct{ s worlds.Scenario }

// Measured is everything.
func (y syntheticSource) Measured() analysis.Has {
	has := analysis.HasRequests | analysis.HasErrors | analysis.HasCPU | analysis.HasMemory | analysis.HasRestarts
	if y.s.Latency {
		has |= analysis.HasLatency
	}
	return has
}

func (y syntheticSource) bounds() []float64 {
	s := y.s
	s.History, s.LostScrapes = 0, 0
	return firstPod(worlds.New(s, 1)).Latency.LE
}

func (y syntheticSource) Rate() float64 { return y.s.RPS }
func (y syntheticSource) Base() float64 { return y.s.Base }

func (y syntheticSource) About() string {
	w := synthetic{s: y.s}
	about := fmt.Sprintf("a synthetic service: %g requests/s on %d replicas, %s of them fail", y.s.RPS, w.Replicas(), percent(y.s.Base))
	if y.s.Weather != "" {
		about += ", " + y.s.Weather
	}
	if y.s.Unlike > 0 || y.s.LatUnlike > 0 {
		about += ", pods unlike each other"
	}
	return about + fmt.Sprintf("; %s of history, a look every %s", short(y.s.History), short(w.Every()))
}

func (y syntheticSource) Worlds(r *Regression) (Worlds, error) {
	s := y.s
	if r == nil {
		return Synthetic(s), nil
	}
	if r.Error > 0 && r.Error <= s.Base {
		return nil, fmt.Errorf("%s: stable fails %s already: more than that is meant", r.Text, percent(s.Base))
	}
	s.Bad, s.Slower, s.Tail = r.Error, r.Slower, r.Tail
	s.OnsetAfter, s.OnsetWeight, s.Ramp = r.After, r.From, r.Over
	return Synthetic(s), nil
}

func firstPod(w *worlds.World) analysis.Pod {
	w.Advance(0)
	return w.Stable()[0]
}

// percent writes a share as people read it.
func percent(share float64) string {
	p := share * 100
	digits := 2
	if p > 0 && p < 0.1 {
		digits = 3
	}
	if p >= 10 {
		digits = 1
	}
	text := strconv.FormatFloat(p, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " %"
}
