package worlds

import (
	"fmt"
	"time"
)

// Sets gives the scenarios of a family: healthy, weather, blind, latency, cold,
// clean, cleanblind, ugly, slow,
// tail, onset. An unknown name gives none.
func Sets(name string) []Scenario {
	var out []Scenario
	hours := func(rps float64) time.Duration {
		if rps >= 500 {
			return time.Hour
		}
		return 2 * time.Hour
	}
	add := func(s Scenario, format string, args ...any) {
		s.Name = fmt.Sprintf(format, args...)
		out = append(out, s)
	}
	bases := []float64{0, 0.001, 0.005, 0.01}
	rates := []float64{1, 10, 100, 1000}
	weathers := []Scenario{
		{Name: "outage 20% 3m", Base: 0.001, OutageAt: 70 * time.Second, OutageFor: 3 * time.Minute, OutageShare: 0.2},
		{Name: "outage 100% 1m", Base: 0.001, OutageAt: 30 * time.Second, OutageFor: time.Minute, OutageShare: 1},
		{Name: "outage late", Base: 0.001, OutageAt: 17 * time.Minute, OutageFor: 3 * time.Minute, OutageShare: 0.2},
		{Name: BetaBinomial, Base: 0.005, Weather: BetaBinomial},
		{Name: RetryStorms, Base: 0.005, Weather: RetryStorms},
		{Name: PodBursts, Base: 0.005, Weather: PodBursts},
		{Name: HeavyBursts, Base: 0.005, Weather: HeavyBursts, BurstTime: 2 * time.Minute},
		{Name: SharedBursts, Base: 0.005, Weather: SharedBursts},
		{Name: "diurnal", Base: 0.005, Diurnal: true},
		{Name: "unlike 30%", Base: 0.005, Unlike: 0.3},
		{Name: "sticky", Base: 0.002, Sticky: true},
		{Name: "lost scrapes", Base: 0.005, LostScrapes: 0.2},
		{Name: "skew, outage", Base: 0.001, Skew: true, OutageAt: 100 * time.Second, OutageFor: 2 * time.Minute, OutageShare: 0.3},
		{Name: "resets", Base: 0.005, Resets: 6},
	}
	switch name {
	case "healthy":
		for _, r := range rates {
			for _, b := range bases {
				add(Scenario{RPS: r, Base: b, History: hours(r) / 2}, "rps %g base %g%%", r, b*100)
			}
			add(Scenario{RPS: r, Base: 0.02, Bad: 0.002, History: hours(r) / 2}, "rps %g improvement 2%% -> 0.2%%", r)
		}
	case "weather":
		for _, r := range []float64{10, 100, 1000} {
			for _, x := range weathers {
				x.RPS, x.History = r, hours(r)
				add(x, "%s rps %g", x.Name, r)
			}
		}
	case "blind": // no history or little, few pods
		for _, r := range []float64{10, 100} {
			for _, pods := range []int{1, 3} {
				for _, h := range []time.Duration{0, 5 * time.Minute} {
					for _, x := range append([]Scenario{{Name: "plain", Base: 0.005}}, weathers[:12]...) {
						x.RPS, x.Pods, x.History = r, pods, h
						add(x, "%s rps %g, %d pods, %v", x.Name, r, pods, h)
					}
				}
			}
		}
	case "latency":
		for _, r := range []float64{10, 100, 1000} {
			for _, x := range []Scenario{{Name: "plain"}, {Name: "noise 10%", LatNoise: 0.1}, {Name: "unlike 5%", LatUnlike: 0.05}} {
				for _, h := range []time.Duration{0, time.Hour} {
					x.RPS, x.Base, x.Latency, x.History = r, 0.001, true, h
					add(x, "%s rps %g, %v", x.Name, r, h)
				}
			}
		}
	case "cold":
		for _, r := range []float64{10, 100, 1000} {
			for _, f := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
				add(Scenario{RPS: r, Base: 0.001, Latency: true, ColdFor: f, ColdBy: 3, History: 20 * time.Minute}, "cold x3 %v rps %g", f, r)
			}
		}
	case "clean":
		for _, r := range rates {
			for _, b := range bases {
				for _, g := range []float64{0.005, 0.01, 0.02, 0.05, 0.2, 1} {
					if g > b {
						add(Scenario{RPS: r, Base: b, Bad: g, History: hours(r) / 2}, "rps %g %g%% -> %g%%", r, b*100, g*100)
					}
				}
			}
		}
	case "cleanblind":
		for _, s := range Sets("clean") {
			s.History, s.Pods = 0, 1
			out = append(out, s)
		}
	case "ugly":
		for _, r := range []float64{10, 100, 1000} {
			for _, x := range weathers {
				for _, g := range []float64{0.05, 0.2} {
					y := x
					y.RPS, y.History, y.Bad = r, hours(r), g
					if y.OutageShare > 0 {
						y.OutageShare = 0.2
					}
					add(y, "%s -> %g%% rps %g", x.Name, g*100, r)
				}
			}
			for _, g := range []float64{0.5, 0.75, 1} {
				add(Scenario{RPS: r, Base: 0.001, Bad: 0.05, OnsetWeight: g, History: hours(r)}, "only at %g%% -> 5%% rps %g", g*100, r)
			}
			add(Scenario{RPS: r, Base: 0.001, Bad: 0.05, Ramp: 30 * time.Minute, History: hours(r)}, "slow leak -> 5%% rps %g", r)
		}
	case "slow":
		for _, r := range []float64{10, 100, 1000} {
			for _, x := range []Scenario{{Name: "plain"}, {Name: "noise 10%", LatNoise: 0.1}, {Name: "unlike 5%", LatUnlike: 0.05}} {
				for _, f := range []float64{1.2, 1.5, 2} {
					x.RPS, x.Base, x.Latency, x.History, x.Slower = r, 0.001, true, time.Hour, f
					add(x, "%s x%g rps %g", x.Name, f, r)
				}
			}
			add(Scenario{RPS: r, Base: 0.001, Latency: true, History: time.Hour, Tail: 0.03}, "tail 3%% rps %g", r)
		}
	case "tail":
		for _, r := range []float64{100, 1000} {
			for _, x := range []float64{0, 0.002, 0.004, 0.008} {
				add(Scenario{RPS: r, Base: 0.001, Latency: true, History: time.Hour, Quantile: 0.999, Tail: x}, "p99.9, tail %g%% rps %g", x*100, r)
			}
		}
	case "onset":
		for _, t := range []time.Duration{0, 15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour} {
			add(Scenario{RPS: 100, Base: 0.005, Bad: 0.03, OnsetAfter: t, History: time.Hour}, "onset %v", t)
		}
	}
	return out
}
