package worlds

import (
	"flag"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
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
		t.Skip("asked for by -sets=healthy,weather,blind,latency,cold,clean,cleanblind,ugly,slow,onset")
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
