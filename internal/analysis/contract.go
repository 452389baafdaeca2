package analysis

import (
	"fmt"
	"time"
)

// Verdict is the judge's answer to one look. The zero value is Unavailable.
type Verdict uint8

const (
	Unavailable Verdict = iota // no usable data
	Undecided                  // data, and not enough of it
	Pass                       // what this step asks for has been shown
	Fail                       // worse than it may be
)

var verdictNames = [...]string{"Unavailable", "Undecided", "Pass", "Fail"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText writes the verdict's word, as the record and the API have it.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads one of the four words.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, n := range verdictNames {
		if n == string(b) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q: want Pass, Fail, Undecided or Unavailable", b)
}

// Config is what the document's `analysis` section asks for, in plain numbers:
// shares are fractions of one (0.005 is half a percentage point), times are
// durations. The zero value of an optional part means that it was not asked for.
type Config struct {
	// None switches judging off, with the reason that the document must give.
	None       bool
	NoneReason string

	ErrorRate *RateRule
	Latency   *LatencyRule
	CPU       *GaugeRule
	Memory    *GaugeRule
	Custom    []CustomRule // at most 10

	MinRequests   float64       // per version and step, before anything may pass
	FalseRollback float64       // alpha of the whole rollout, over all metrics together
	StaleAfter    time.Duration // after so long without data a `for` is broken; 60 s

	// Compare switches the comparison of canary with stable on. Without it the
	// limits alone decide.
	Compare bool
}

// RateRule bounds the share of failed requests.
type RateRule struct {
	WorseBy float64       // how much worse than stable counts as worse, absolute share; 0 = not compared
	Max     *float64      // limit on the share; nil = none
	For     time.Duration // the limit must be broken for so long, attributably to the canary
}

// LatencyRule bounds the share of requests slower than Max to 1-Quantile.
type LatencyRule struct {
	Quantile float64       // 0.99 for the 99th percentile
	WorseBy  float64       // 0.2: stable's histogram stretched by 1.2 is still not worse; 0 = not compared
	Max      time.Duration // a histogram bound must lie there; 0 = none
	For      time.Duration
}

// GaugeRule bounds CPU (cores per pod for Max, CPU seconds per request for
// WorseBy) or memory (bytes per pod for Max, relative growth for WorseBy).
type GaugeRule struct {
	WorseBy float64
	Max     *float64
	For     time.Duration
}

// CustomRule bounds a number that a source gives per version.
type CustomRule struct {
	Name     string
	Min, Max *float64
	For      time.Duration
}

// Has says which of a pod's figures were measured in this look.
type Has uint8

const (
	HasRequests Has = 1 << iota
	HasErrors
	HasLatency
	HasCPU
	HasMemory
	HasRestarts
)

// Pod is what one replica has counted since it started. All counters are
// cumulative and may be reset by a restart.
type Pod struct {
	Name        string
	Started     time.Time // zero = unknown
	Has         Has
	Requests    float64
	Errors      float64
	Latency     Histogram
	CPUSeconds  float64
	MemoryBytes float64
	Restarts    float64
	OOMKills    float64
}

// Histogram is a classic one: Count[i] requests took at most LE[i]
// milliseconds, cumulative over the bounds. The overflow bucket is the pod's
// Requests. LE and Count have one length.
type Histogram struct {
	LE    []float64
	Count []float64
}

// Answer says what kind of answer a custom metric's source gave.
type Answer uint8

const (
	NoAnswer     Answer = iota // not asked, or not answered in this look
	Number                     // Value holds the number
	Empty                      // the source answered, with no series
	NotANumber                 // NaN or an infinity
	Several                    // more than one series where one was wanted
	SourceFailed               // the source did not answer, or answered with an error
)

// Reading is one answer for one version.
type Reading struct {
	Answer Answer
	Value  float64
	Detail string // the source's words where the answer is not a number
}

// Custom holds the readings of one custom metric in one look.
type Custom struct {
	Name           string
	Stable, Canary Reading
}

// Look is what was seen at one instant. Looks come in order of time; a look
// that is not later than the one before scores nothing.
type Look struct {
	Time time.Time

	// Canary is the revision on trial, empty at rest: then the look is history
	// of the stable version, which calibrates. Evidence never mixes revisions:
	// another Canary starts from nothing.
	Canary string
	// Stable is the revision it is compared with.
	Stable string
	// Tries is how often this revision has been retried; a try k spends
	// FalseRollback/2^k.
	Tries int

	// Step is the index of the step in force, and Live whether its split has
	// been seen in force: evidence for going on counts from there, evidence
	// for taking back from the canary's first request.
	Step   int
	Live   bool
	Weight float64 // canary's share in force, 0..1
	// NextWeight is the share that the next step asks for; 0 if there is none.
	NextWeight float64
	// Baking is true once the canary has everything that it will get: judged
	// against the frozen reference where no stable arm has traffic.
	Baking bool

	StablePods []Pod
	CanaryPods []Pod
	Custom     []Custom
}

// Report is the answer to one look. Look gives its numbers; Sentence and Figures
// are empty until Explain.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// Sentence says what was compared, the figures with their window and
	// sample sizes, how sure it is, what is still needed.
	Sentence string `json:"sentence,omitempty"`
	// Rule names the metric that decided: "errorRate", "latency", "cpu",
	// "memory" or the custom metric's name.
	Rule string `json:"rule,omitempty"`

	// Rollback and Advance are the evidence towards taking back and towards
	// going on, as a share of what is needed, 0 to 1.
	Rollback float64 `json:"rollback"`
	Advance  float64 `json:"advance"`
	// Calm: nothing speaks against the canary. Advancing at a deadline
	// without proof needs it.
	Calm bool `json:"calm"`
	// BothBreak: both versions break a limit, which is not the canary's doing.
	BothBreak bool `json:"bothBreak,omitempty"`
	// Better: the canary is significantly better than a failing stable.
	Better bool `json:"better,omitempty"`

	// CanaryRequests and StableRequests were scored since the step was live.
	CanaryRequests float64 `json:"canaryRequests"`
	StableRequests float64 `json:"stableRequests"`
	// Scored is how much of the step's live time was scored on both versions.
	Scored time.Duration `json:"scored"`
	// Exposed and Harmed are sums over the whole rollout: requests that the
	// canary answered, and those among them that stable would have answered
	// well, by its own rate at the same time.
	Exposed float64 `json:"exposed"`
	Harmed  float64 `json:"harmed"`

	Figures []Figure `json:"figures,omitempty"`
}

// Figure is one comparison as shown to people.
type Figure struct {
	Metric  string        `json:"metric"`
	Unit    string        `json:"unit"` // "share", "ms", "cores", "bytes" or ""
	Canary  float64       `json:"canary"`
	Stable  float64       `json:"stable"`
	CanaryN float64       `json:"canaryN"`
	StableN float64       `json:"stableN"`
	Low     float64       `json:"low"`  // 95 % band of the difference, for showing
	High    float64       `json:"high"` // not for deciding
	Limit   float64       `json:"limit"`
	Window  time.Duration `json:"window"`
	State   string        `json:"state"` // ok | pending | firing | noData | both | worse | better
}
