package analysis

import (
	"slices"
	"testing"
)

// A layout that is too fine is merged before anything is known of the service:
// the first look often has no traffic. What is left must still tell 5 ms from
// 20 ms, and half a second from five.
func TestMergedLayoutServesAnyService(t *testing.T) {
	fine := []float64{0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600, 750, 800, 1000,
		1250, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10000, 15000, 20000, 30000, 60000, 120000, 300000, 600000, 1.8e6, 3.6e6}
	for name, count := range map[string]float64{"no traffic yet": 0, "one request": 1, "a thousand": 1000} {
		h := &Histogram{LE: fine, Count: make([]float64, len(fine))}
		for i := range h.Count {
			h.Count[i] = count
		}
		le := mergeLayout(h, maxBounds, 350)
		if len(le) != maxBounds || !slices.IsSorted(le) || !slices.Contains(le, 350) {
			t.Fatalf("%s: %v", name, le)
		}
		for i := range le {
			if le[i] < 2 || le[i] > 10_000 || i+1 == len(le) {
				continue
			}
			if le[i+1]/le[i] > 2.01 {
				t.Errorf("%s: nothing between %g and %g ms: %v", name, le[i], le[i+1], le)
			}
		}
	}
}
