package worlds

import (
	"flag"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

var (
	setFlag  = flag.String("sets", "", "campaign: sets of scenarios, by comma")
	runsFlag = flag.Int("runs", 100, "campaign: runs of each scenario")
	seedFlag = flag.Uint64("seed", 1, "campaign: first seed")
	onlyFlag = flag.String("only", "", "campaign: only names that contain this")
	lookFlag = flag.Duration("every", 0, "campaign: time between looks")
)

// TestCampaign prints a table of the sets that were asked for.
func TestCampaign(t *testing.T) {
	if *setFlag == "" {
		t.Skip("asked for by -sets=healthy,weather,blind,latency,cold,clean,cleanblind,ugly,slow,tail,onset")
	}
	for _, set := range strings.Split(*setFlag, ",") {
		falses, total := 0, 0
		var classes [4]struct{ cells, caught, ratio, ratios, harm float64 }
		for _, s := range Sets(set) {
			if !strings.Contains(s.Name, *onlyFlag) {
				continue
			}
			if *lookFlag > 0 {
				s.Every = *lookFlag
			}
			p := DefaultPolicy()
			if set == "onset" {
				// A long first step, to be caught in.
				p.Weights = []float64{0.25, 1}
				p.Hold = 30 * time.Hour
				p.Deadline = 30 * time.Hour
				p.Horizon = s.OnsetAfter + 90*time.Minute
			}
			began := time.Now()
			c := Campaign(s, Document(), p, *seedFlag, *runsFlag)
			if s.Healthy() {
				falses += c.RolledBack
				total += c.Runs
				fmt.Printf("%-8s %-34s false %5.2f%%  promoted %5.1f%% in %v  %v (%.0f ms a run)\n", set, s.Name, 100*float64(c.RolledBack)/float64(c.Runs), 100*float64(c.Promoted)/float64(c.Runs), Median(c.Promotion), c.Rules, time.Since(began).Seconds()*1000/float64(c.Runs))
			} else {
				b := s.Bound(0.05, 0.01)
				k := &classes[0]
				switch {
				case b > 10*time.Minute:
					k = &classes[3]
				case b > time.Minute:
					k = &classes[2]
				case b > 10*time.Second:
					k = &classes[1]
				}
				k.cells++
				k.caught += float64(c.RolledBack) / float64(c.Runs)
				k.harm += math.Log(c.Harmed / (b.Seconds() * 0.05 * s.RPS * (s.Bad - s.Base)))
				if c.RolledBack*100 >= 95*c.Runs && c.Info > 0 {
					k.ratio += math.Log(c.Info / math.Log(100))
					k.ratios++
				}
				fmt.Printf("%-8s %-34s caught %5.1f%%  median %v  bound %v  info %.2f harmed %.0f %v (%.0f ms a run)\n", set, s.Name, 100*float64(c.RolledBack)/float64(c.Runs), Median(c.Took), b.Round(time.Second), c.Info/4.605, c.Harmed, c.Rules, time.Since(began).Seconds()*1000/float64(c.Runs))
			}
			if testing.Verbose() && c.First != "" && testing.CoverMode() == "" && *onlyFlag != "" {
				fmt.Printf("         seed %d: %s\n", c.FirstSeed, c.First)
			}
		}
		if total == 0 && strings.HasPrefix(set, "clean") {
			for i, name := range []string{"< 10 s", "10-60 s", "1-10 min", "> 10 min"} {
				k := classes[i]
				fmt.Printf("%-8s bound %-9s %2.0f cells, caught %5.1f%%, information / bound %.2f (%.0f cells), harm / bound %.1f\n", set, name, k.cells, 100*k.caught/k.cells, math.Exp(k.ratio/k.ratios), k.ratios, math.Exp(k.harm/k.cells))
			}
		}
		if total > 0 {
			fmt.Printf("%-8s pooled false rollbacks %.2f%% of %d\n", set, 100*float64(falses)/float64(total), total)
		}
	}
}

// seeds of the quick tests: -seed gives the first.
func replayWith(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: go test ./internal/sim/worlds -run %s -seed=%d", t.Name(), *seedFlag)
		}
	})
}

// TestHealthyReleasesGoOn is the quick version of the campaign: few runs of
// plain and of ugly weather. Its bound is generous, since its runs are few: the
// campaign has the figures.
func TestHealthyReleasesGoOn(t *testing.T) {
	replayWith(t)
	falses, runs := 0, 0
	for _, set := range []string{"healthy", "weather", "latency", "cold"} {
		for _, s := range Sets(set) {
			c := Campaign(s, Document(), DefaultPolicy(), *seedFlag, 3)
			falses, runs = falses+c.RolledBack, runs+c.Runs
			if c.RolledBack > 1 {
				t.Errorf("%s: %d of %d taken back, for instance seed %d: %s", s.Name, c.RolledBack, c.Runs, c.FirstSeed, c.First)
			}
		}
	}
	t.Logf("%d of %d healthy releases taken back", falses, runs)
	if falses > 8 {
		t.Errorf("%d of %d healthy releases taken back", falses, runs)
	}
}

// TestRegressionsAreCaught where the information bound is below ten minutes.
func TestRegressionsAreCaught(t *testing.T) {
	replayWith(t)
	missed, runs := 0, 0
	for _, s := range Sets("clean") {
		if s.Bound(0.05, 0.01) > 10*time.Minute {
			continue
		}
		c := Campaign(s, Document(), DefaultPolicy(), *seedFlag, 3)
		missed, runs = missed+c.Runs-c.RolledBack, runs+c.Runs
		if c.RolledBack < 2 {
			t.Errorf("%s: %d of %d caught", s.Name, c.RolledBack, c.Runs)
		}
	}
	t.Logf("%d of %d missed", missed, runs)
	if missed*50 > runs {
		t.Errorf("%d of %d missed", missed, runs)
	}
}

// TestReplayGivesWhatTheLiveRunGave: the same looks, with the judge saved and
// restored at every one of them, give the same reports to the last digit.
func TestReplayGivesWhatTheLiveRunGave(t *testing.T) {
	replayWith(t)
	for _, s := range []Scenario{
		{RPS: 50, Base: 0.005, Weather: PodBursts, Latency: true, History: 10 * time.Minute},
		{RPS: 50, Base: 0.005, Bad: 0.05, Latency: true, LostScrapes: 0.2, Resets: 20, Skew: true, History: 5 * time.Minute},
	} {
		w := New(s, *seedFlag)
		live := analysis.New(Document())
		replayed := analysis.New(Document())
		for i := range 300 {
			weight := 0.0
			l := analysis.Look{Stable: "v1"}
			if w.Elapsed() >= 0 {
				weight = 0.25
				l.Canary, l.Weight, l.NextWeight, l.Live, l.Step = "v2", 0.25, 0.5, true, i/150
			}
			w.Advance(weight)
			l.Time, l.StablePods, l.CanaryPods = w.Now(), w.Stable(), w.Canary()
			saved, err := replayed.Save()
			if err != nil {
				t.Fatal(err)
			}
			if replayed, err = analysis.Restore(Document(), saved); err != nil {
				t.Fatal(err)
			}
			a, b := live.Look(l), replayed.Look(l)
			live.Explain(&a)
			replayed.Explain(&b)
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("look %d: live %+v, replayed %+v", i, a, b)
			}
			if i == 299 {
				t.Logf("state of %d bytes with %d pods", len(saved), len(l.StablePods)+len(l.CanaryPods))
			}
		}
	}
}

// A world is a function of its seed.
func TestWorldsComeFromTheirSeed(t *testing.T) {
	s := Scenario{RPS: 20, Base: 0.01, Weather: HeavyBursts, Latency: true, History: time.Minute}
	run := func(seed uint64) Result { return Run(s, Document(), DefaultPolicy(), seed) }
	if a, b := run(*seedFlag), run(*seedFlag); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v and %+v", a, b)
	}
	if a, b := run(*seedFlag), run(*seedFlag+1); reflect.DeepEqual(a, b) {
		t.Error("another seed gives the same run")
	}
}

// The draws have the means and variances that they should have.
func TestDraws(t *testing.T) {
	d := newDice(3)
	check := func(name string, draw func() float64, mean, variance float64) {
		const n = 100000
		var s, s2 float64
		for range n {
			x := draw()
			s, s2 = s+x, s2+x*x
		}
		m := s / n
		v := s2/n - m*m
		if math.Abs(m-mean) > 5*math.Sqrt(variance/n) || math.Abs(v/variance-1) > 0.05 {
			t.Errorf("%s: mean %v, want %v; variance %v, want %v", name, m, mean, v, variance)
		}
	}
	for _, m := range []float64{0.3, 5, 45, 2000} {
		check("poisson", func() float64 { return d.poisson(m) }, m, m)
	}
	for _, c := range []struct{ n, p float64 }{{10, 0.1}, {100, 0.4}, {1000, 0.01}, {5000, 0.3}, {300, 0.9}} {
		check("binomial", func() float64 { return d.binomial(c.n, c.p) }, c.n*c.p, c.n*c.p*(1-c.p))
	}
	check("beta", func() float64 { return d.beta(0.245, 48.755) }, 0.005, 0.005*0.995/50)
	check("geometric", func() float64 { return d.geometric(5) }, 5, 20)
}
