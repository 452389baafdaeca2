package metric

import (
	"math"
	"time"
)

// Native is a native histogram: exponential buckets, of which only those that
// are not empty are listed, by rising upper bound. A bucket of zero comes first,
// with the zero threshold as its bound.
type Native struct {
	// Schema: each bound is 2^(2^-Schema) times the one before.
	Schema int
	Upper  []float64
	Count  []float64 // of each bucket by itself
	Total  float64
}

// finest is the finest schema of the bounds that are given to the judge, which
// works with a couple of dozen: each is the square root of two times the one
// before.
const finest = 1

// bounds are the same for every histogram of a schema, whichever of its buckets
// are in use, so that the layout does not change with what was counted: about a
// millisecond to about a minute.
func (h *Native) bounds(unit time.Duration) []float64 {
	lo, hi := -10.0, 6.0 // powers of two, in seconds
	if unit == time.Millisecond {
		lo, hi = 0, 16
	}
	step := math.Exp2(-float64(min(h.Schema, finest)))
	var out []float64
	for x := math.Ceil(lo/step) * step; x <= hi; x += step {
		out = append(out, math.Exp2(x))
	}
	return out
}

// NativeFromSpans reads the form in which a histogram is exposed: spans of
// buckets, and either deltas between neighbours or, where deltas is empty,
// counts. It is nil for what no native histogram can be.
func NativeFromSpans(schema int, threshold, zero, total float64, offset []int32, length []uint32, deltas []int64, counts []float64) *Native {
	if schema < -4 || schema > 8 || len(offset) != len(length) {
		return nil
	}
	h := &Native{Schema: schema, Total: total}
	if zero > 0 {
		h.Upper, h.Count = append(h.Upper, threshold), append(h.Count, zero)
	}
	index, at, run := 0, 0, int64(0)
	for i := range offset {
		index += int(offset[i])
		for range length[i] {
			var n float64
			switch {
			case at < len(deltas):
				run += deltas[at]
				n = float64(run)
			case at < len(counts):
				n = counts[at]
			default:
				return nil
			}
			h.Upper = append(h.Upper, math.Exp2(float64(index)*math.Exp2(-float64(schema))))
			h.Count = append(h.Count, n)
			index++
			at++
		}
	}
	return h
}

// NativeFromBuckets reads the form in which Prometheus answers: every bucket
// with its bounds. It is nil for what is no native histogram of exponential
// buckets.
func NativeFromBuckets(lower, upper, count []float64, total float64) *Native {
	h := &Native{Schema: -100, Total: total}
	for i := range upper {
		if lower[i] > 0 && upper[i] > lower[i] && h.Schema == -100 {
			h.Schema = int(math.Round(-math.Log2(math.Log2(upper[i] / lower[i]))))
		}
		if upper[i] <= 0 {
			continue // below zero: no time
		}
		h.Upper, h.Count = append(h.Upper, upper[i]), append(h.Count, count[i])
	}
	if h.Schema == -100 && total == 0 || h.Schema == -100 && len(upper) > 0 {
		h.Schema = finest // nothing, or only the bucket of zero: fits every schema
	}
	if h.Schema < -4 || h.Schema > 8 {
		return nil
	}
	return h
}
