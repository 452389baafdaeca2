package trial

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/sim/worlds"
	"github.com/serin-dev/serin/internal/strictyaml"
)

// scenarioFile is a file of scenarios, as people write it.
type scenarioFile struct {
	About     string         `json:"about"`
	Scenarios []scenarioText `json:"scenarios"`
}

type scenarioText struct {
	Name    string             `json:"name"`
	RPS     v1alpha1.Number    `json:"rps"`
	Pods    int                `json:"pods"`
	History *v1alpha1.Duration `json:"history"`
	Every   v1alpha1.Duration  `json:"every"`
	Base    v1alpha1.Percent   `json:"base"`
	Bad     v1alpha1.Percent   `json:"bad"`
	Onset   struct {
		After  v1alpha1.Duration `json:"after"`
		Weight v1alpha1.Percent  `json:"weight"`
		Over   v1alpha1.Duration `json:"over"`
	} `json:"onset"`
	Outage struct {
		At    v1alpha1.Duration `json:"at"`
		For   v1alpha1.Duration `json:"for"`
		Share v1alpha1.Percent  `json:"share"`
	} `json:"outage"`
	Weather string            `json:"weather"`
	Burst   v1alpha1.Duration `json:"burst"`
	Diurnal bool              `json:"diurnal"`
	Unlike  v1alpha1.Percent  `json:"unlike"`
	Latency *struct {
		Slower v1alpha1.Number   `json:"slower"`
		Tail   v1alpha1.Percent  `json:"tail"`
		Noise  v1alpha1.Percent  `json:"noise"`
		Unlike v1alpha1.Percent  `json:"unlike"`
		Cold   v1alpha1.Duration `json:"cold"`
		ColdBy v1alpha1.Number   `json:"coldBy"`
	} `json:"latency"`
	Lost   v1alpha1.Percent `json:"lost"`
	Skew   bool             `json:"skew"`
	Resets v1alpha1.Number  `json:"resets"`
	Sticky bool             `json:"sticky"`
}

// Weathers are the kinds of bursts that a synthetic service can have.
var Weathers = []string{worlds.BetaBinomial, worlds.RetryStorms, worlds.PodBursts, worlds.SharedBursts, worlds.HeavyBursts}

// ReadScenarios reads a file of scenarios, strictly. All problems come at once.
func ReadScenarios(data []byte) ([]worlds.Scenario, []strictyaml.Problem) {
	docs, problems := strictyaml.Parse(data)
	var out []worlds.Scenario
	seen := map[string]bool{}
	for _, d := range docs {
		var f scenarioFile
		problems = append(problems, d.Decode(&f, strictyaml.Refuse)...)
		for i := range f.Scenarios {
			path := fmt.Sprintf("scenarios[%d]", i)
			bad := func(field, format string, args ...any) {
				p := strictyaml.Join(path, field)
				problems = append(problems, strictyaml.Problem{Line: d.Position(p), Path: p, Message: fmt.Sprintf(format, args...)})
			}
			s := f.Scenarios[i].scenario(bad)
			if seen[s.Name] {
				bad("name", "%q is there twice", s.Name)
			}
			seen[s.Name] = true
			out = append(out, s)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

// shortHistory is shown of stable before the canary comes, unless a scenario
// says otherwise.
const shortHistory = time.Hour

func (x *scenarioText) scenario(bad func(field, format string, args ...any)) worlds.Scenario {
	s := worlds.Scenario{
		Name: x.Name, RPS: float64(x.RPS), Pods: x.Pods, History: shortHistory, Every: x.Every.Duration,
		Base: x.Base.Fraction(), Bad: x.Bad.Fraction(),
		OnsetAfter: x.Onset.After.Duration, OnsetWeight: x.Onset.Weight.Fraction(), Ramp: x.Onset.Over.Duration,
		OutageAt: x.Outage.At.Duration, OutageFor: x.Outage.For.Duration, OutageShare: x.Outage.Share.Fraction(),
		Weather: x.Weather, BurstTime: x.Burst.Duration, Diurnal: x.Diurnal, Unlike: x.Unlike.Fraction(),
		LostScrapes: x.Lost.Fraction(), Skew: x.Skew, Resets: float64(x.Resets), Sticky: x.Sticky,
	}
	if x.History != nil {
		s.History = x.History.Duration
	}
	if l := x.Latency; l != nil {
		s.Latency, s.Slower, s.Tail = true, float64(l.Slower), l.Tail.Fraction()
		s.LatNoise, s.LatUnlike = l.Noise.Fraction(), l.Unlike.Fraction()
		s.ColdFor, s.ColdBy = l.Cold.Duration, float64(l.ColdBy)
	}
	checkScenario(&s, bad)
	return s
}

// checkScenario says what a world could not be made of.
func checkScenario(s *worlds.Scenario, bad func(field, format string, args ...any)) {
	if s.Name == "" {
		bad("name", "is missing: results are shown under it, and its chance comes from it")
	}
	if !(s.RPS > 0 && s.RPS <= 1e5) {
		bad("rps", "%v: requests a second are meant, above 0 and at most 100000", s.RPS)
	}
	if s.Pods < 0 || s.Pods > 200 {
		bad("pods", "%d: 1 to 200 replicas are meant", s.Pods)
	}
	if s.Every != 0 && (s.Every < 100*time.Millisecond || s.Every > time.Minute) {
		bad("every", "%s: 100ms to 1m are meant", s.Every)
	}
	if s.History > 24*time.Hour {
		bad("history", "%s: at most 24h are shown", s.History)
	}
	for _, p := range []struct {
		field string
		x     float64
	}{{"base", s.Base}, {"bad", s.Bad}, {"onset.weight", s.OnsetWeight}, {"outage.share", s.OutageShare}, {"unlike", s.Unlike}, {"latency.tail", s.Tail}, {"latency.noise", s.LatNoise}, {"latency.unlike", s.LatUnlike}, {"lost", s.LostScrapes}} {
		if p.x > 1 {
			bad(p.field, "%g%%: more than all", p.x*100)
		}
	}
	if s.Slower < 0 || s.Slower > 100 || s.Slower > 0 && s.Slower < 1 {
		bad("latency.slower", "%v: how many times as long, 1 to 100", s.Slower)
	}
	if s.ColdBy < 0 || s.ColdBy > 100 {
		bad("latency.coldBy", "%v: how many times as long, 1 to 100", s.ColdBy)
	}
	if s.Resets < 0 || s.Resets > 60 {
		bad("resets", "%v: restarts of a pod in an hour, at most 60", s.Resets)
	}
	known := s.Weather == ""
	for _, w := range Weathers {
		known = known || w == s.Weather
	}
	if !known {
		bad("weather", "%q is none of %s", s.Weather, strings.Join(Weathers, ", "))
	}
}

// seedOf gives every scenario chance of its own: what is changed about one
// scenario changes no other.
func seedOf(name string, seed uint64) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", name, seed)
	return h.Sum64() &^ (1<<20 - 1)
}
