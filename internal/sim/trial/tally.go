package trial

import (
	"math"
	"slices"
	"time"
)

// Share is K of N.
type Share struct {
	K int `json:"k"`
	N int `json:"n"`
}

// Value is the share as a fraction; 0 of nothing.
func (s Share) Value() float64 {
	if s.N == 0 {
		return 0
	}
	return float64(s.K) / float64(s.N)
}

// Interval is where the true probability lies with 95 % confidence (Wilson).
func (s Share) Interval() (low, high float64) {
	if s.N == 0 {
		return 0, 1
	}
	const z = 1.959964
	n, p := float64(s.N), s.Value()
	mid := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	low, high = math.Max(0, mid-half), math.Min(1, mid+half)
	if s.K == 0 {
		low = 0 // not the rounding error of the formula
	}
	if s.K == s.N {
		high = 1
	}
	return low, high
}

// Error is the standard error of the share, never 0: of nothing seen in n runs
// one may still come.
func (s Share) Error() float64 {
	n := float64(s.N)
	p := (float64(s.K) + 0.5) / (n + 1)
	return math.Sqrt(p * (1 - p) / n)
}

// Mean is an average with its standard error.
type Mean struct {
	Mean  float64 `json:"mean"`
	Error float64 `json:"error"`
}

func meanOf(xs []float64) Mean {
	if len(xs) == 0 {
		return Mean{}
	}
	n, sum, sq := float64(len(xs)), 0.0, 0.0
	for _, x := range xs {
		sum += x
	}
	for _, x := range xs {
		sq += (x - sum/n) * (x - sum/n)
	}
	m := Mean{Mean: sum / n}
	if n > 1 {
		m.Error = math.Sqrt(sq / (n - 1) / n)
	}
	return m
}

// Totals sums up the runs of one case.
type Totals struct {
	Runs   int   `json:"runs"`
	Wrong  bool  `json:"wrong"`  // the canary was worse
	Back   Share `json:"back"`   // taken back: falsely where it was not worse
	Early  int   `json:"early"`  // of them before it was worse
	Passed Share `json:"passed"` // got to 100 %
	Stuck  int   `json:"stuck"`  // waited for a person at the end

	// Of runs that were taken back: since the canary was first worse, or since
	// it came where it was not.
	Median time.Duration `json:"median"`
	P90    time.Duration `json:"p90"`
	// Of runs that got to 100 %, and to rest.
	Promote time.Duration `json:"promote"`
	Rest    time.Duration `json:"rest"`

	Exposed Mean `json:"exposed"`
	Harmed  Mean `json:"harmed"`
	Info    Mean `json:"info"` // nats, of runs that were caught

	// Example is one rollback, with the seed that shows it again.
	Example string `json:"example,omitempty"`
	Seed    uint64 `json:"exampleSeed,omitempty"`
	// Held says why a run did not end.
	Held string `json:"held,omitempty"`

	caught []time.Duration
}

// Caught is the share of runs in which a wrong canary was taken back.
func (t *Totals) Caught() Share { return Share{t.Back.K - t.Early, t.Runs} }

// Missed is the share of runs in which it was not.
func (t *Totals) Missed() Share { return Share{t.Runs - t.Back.K + t.Early, t.Runs} }

// Within is the share of runs in which it was within d of the onset.
func (t *Totals) Within(d time.Duration) Share {
	n := 0
	for _, c := range t.caught {
		if c <= d {
			n++
		}
	}
	return Share{n, t.Runs}
}

func total(results []Result) Totals {
	t := Totals{Runs: len(results)}
	t.Back.N, t.Passed.N = t.Runs, t.Runs
	var took, promote, rest []time.Duration
	var exposed, harmed, info []float64
	for _, r := range results {
		t.Wrong = t.Wrong || r.Wrong
		exposed, harmed = append(exposed, r.Exposed), append(harmed, r.Harmed)
		switch {
		case r.Back:
			t.Back.K++
			if t.Example == "" {
				t.Example, t.Seed = r.Why, r.Seed
			}
			if r.Wrong && r.Early {
				t.Early++
				break
			}
			if r.Wrong {
				took, info = append(took, r.Caught), append(info, r.Info)
			} else {
				took = append(took, r.Took)
			}
		case r.Promoted:
			promote = append(promote, r.Took)
		}
		if r.Promoted {
			t.Passed.K++
		}
		if r.Rested {
			rest = append(rest, r.Rest)
		}
		if !r.Back && !r.Rested {
			if r.Stuck {
				t.Stuck++
			}
			if t.Held == "" {
				t.Held = r.Why
			}
		}
	}
	t.caught = took
	t.Median, t.P90 = quantile(took, 0.5), quantile(took, 0.9)
	t.Promote, t.Rest = quantile(promote, 0.5), quantile(rest, 0.5)
	t.Exposed, t.Harmed, t.Info = meanOf(exposed), meanOf(harmed), meanOf(info)
	return t
}

// quantile of durations, by nearest rank; 0 of none.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Clone(d)
	slices.Sort(d)
	return d[max(0, int(math.Ceil(q*float64(len(d))))-1)]
}
