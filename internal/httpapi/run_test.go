package httpapi

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/serin-dev/serin/internal/rollout"
)

var samePoints = cmp.Options{
	cmp.AllowUnexported(point{}, cell{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }),
	cmp.Comparer(func(a, b *frame) bool { return a == b }),
}

func drawPoint(rt *rapid.T, at int64, frames []*frame) point {
	number := rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{nan, 0, 1, float32(math.Inf(1))}))
	words := rapid.SampledFrom([]string{"", "Errors 0.31 % (38 of 12,204).", "\x00\u2028`x`"})
	p := point{
		at: at, set: rollout.Weight(rapid.IntRange(0, int(rollout.Whole)).Draw(rt, "set")), verdict: rapid.SampledFrom([]byte("PFUN-")).Draw(rt, "verdict"),
		seen: number.Draw(rt, "seen"), rollback: number.Draw(rt, "rollback"), advance: number.Draw(rt, "advance"), exposed: number.Draw(rt, "exposed"), harmed: number.Draw(rt, "harmed"),
		frame: rapid.SampledFrom(frames).Draw(rt, "frame"), sentence: words.Draw(rt, "sentence"), message: words.Draw(rt, "message"),
	}
	for i := range rapid.IntRange(0, 3).Draw(rt, "cells") {
		c := cell{metric: uint8(i), state: rapid.SampledFrom([]byte("nopfbw+")).Draw(rt, "state")}
		for _, col := range cellColumns {
			*col(&c) = number.Draw(rt, "figure")
		}
		p.cells = append(p.cells, c)
	}
	return p
}

// What goes into a run comes out of it, in order, from wherever it is asked for;
// what is dropped is the oldest.
func TestRunGivesWhatItTook(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		frames := []*frame{{}, {}, {}}
		var r run
		var want []point
		at := rapid.Int64Range(-1e12, 1e13).Draw(rt, "begin")
		for range rapid.IntRange(1, 4*blockSize).Draw(rt, "points") {
			at += rapid.Int64Range(1, 20000).Draw(rt, "later")
			p := drawPoint(rt, at, frames)
			r.add(p)
			want = append(want, p)
			switch rapid.IntRange(0, 40).Draw(rt, "then") {
			case 0:
				r.halve()
			case 1:
				n := rapid.IntRange(1, 3*blockSize).Draw(rt, "keep")
				if r.keep(n); len(want) >= n && r.n < n {
					rt.Fatalf("%d are left of %d, %d should be", r.n, len(want), n)
				}
			default:
				continue
			}
			want = want[len(want)-r.n:]
		}
		got := r.points(earliest)
		if d := cmp.Diff(want, got, samePoints); d != "" || r.n != len(want) {
			rt.Fatalf("%d of %d: %s", r.n, len(want), d)
		}
		if len(want) == 0 {
			return
		}
		if first, ok := r.first(); !ok || first != want[0].at {
			rt.Fatalf("the first is at %d, %v; want %d", first, ok, want[0].at)
		}
		from := rapid.Int64Range(want[0].at-1, at+1).Draw(rt, "from")
		some := r.points(from)
		if d := cmp.Diff(want[len(want)-len(some):], some, samePoints); d != "" {
			rt.Fatalf("from %d: %s", from, d)
		}
		if n := len(want) - len(some); n > 0 && want[n].at > from {
			rt.Fatalf("from %d: it begins at %d, and something is between", from, want[n].at)
		}
	})
}

// Bytes that are none of ours give nothing, and do no harm.
func TestBlockOfOtherBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := block{n: rapid.IntRange(1, blockSize).Draw(rt, "n"), frames: []*frame{{}}, b: deflate(rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(rt, "bytes"))}
		if got := b.open(); got != nil && len(got) != b.n {
			rt.Fatalf("%d points of %d", len(got), b.n)
		}
		b.b = rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(rt, "raw")
		b.open()
	})
}
