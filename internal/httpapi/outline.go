package httpapi

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// outline is how a rollout went as its decisions tell it, of which the newest
// 50 are in its state: the weight from each to the next, and the figures that
// each rests on, one place with none after each of them. A host that started
// later, and a cluster, whose controller keeps no history, know no more.
func outline(decisions []rollout.Event) []point {
	var out []point
	set := rollout.Weight(0)
	for _, d := range decisions {
		w, moves := weightAfter(d)
		if moves {
			set = w
		}
		if !moves && len(d.Figures) == 0 {
			continue
		}
		at := d.At.UnixMilli()
		if n := len(out); n > 0 && at <= out[n-1].at {
			at = out[n-1].at + 1 // decided in the same pass
		}
		f := &frame{}
		p := point{at: at, set: set, seen: nan, rollback: nan, advance: nan, exposed: nan, harmed: nan, verdict: '-', frame: f, cells: cellsOf(d.Figures)}
		for _, x := range d.Figures {
			f.metrics = append(f.metrics, metricName{x.Metric, x.Unit})
		}
		out = append(out, p)
		if len(p.cells) > 0 {
			p.at, p.cells = at+1, nil
			out = append(out, p)
		}
	}
	return out
}

// weightAfter is the canary's share that a decision left behind; false: it
// changed none.
func weightAfter(d rollout.Event) (rollout.Weight, bool) {
	switch d.What {
	case rollout.EvRolloutStarted, rollout.EvUndoStarted, rollout.EvRevertStarted,
		rollout.EvPromoted, rollout.EvUndone, rollout.EvReverted, rollout.EvAborted, rollout.EvWithdrawn, rollout.EvRolledBack, rollout.EvTrafficBack:
		return 0, true // at the beginning, and at the end, where nothing is on trial
	case rollout.EvStepStarted, rollout.EvBakeStarted, rollout.EvDriftObeyed:
		text, is := strings.CutSuffix(d.To, " %")
		x, err := strconv.ParseFloat(text, 64)
		if is && err == nil && x >= 0 && x <= 100 {
			return rollout.Weight(math.Round(x * float64(rollout.Whole) / 100)), true
		}
	}
	return 0, false
}

func cellsOf(fs []analysis.Figure) []cell {
	cells := make([]cell, 0, len(fs))
	for i, x := range fs {
		cells = append(cells, cell{
			canary: float32(x.Canary), stable: float32(x.Stable), low: float32(x.Low), high: float32(x.High), limit: float32(x.Limit),
			canaryN: float32(x.CanaryN), stableN: float32(x.StableN), metric: uint8(min(i, 255)), state: stateLetter[x.State],
		})
	}
	return cells
}

// outlined puts in front of what was seen what the decisions before it tell,
// and says how many points those are.
func outlined(pts []point, decisions []rollout.Event) (all []point, told int) {
	o := outline(decisions)
	if len(pts) > 0 {
		n, _ := slices.BinarySearchFunc(o, pts[0].at, func(p point, at int64) int {
			if p.at < at {
				return -1
			}
			return 1
		})
		o = o[:n]
	}
	return append(o, pts...), len(o)
}
