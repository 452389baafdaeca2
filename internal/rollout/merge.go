package rollout

// MergeRoutes sees several routes that are kept in step as one: the lowest
// share of the canary wins, so that a hand that lowers one lowers all; what is
// in force is in force only where all say so.
func MergeRoutes(canary Revision, routes []Route) Route {
	if len(routes) == 0 {
		return Route{}
	}
	out := routes[0]
	for _, r := range routes[1:] {
		switch {
		case out.Known == Present && r.Known == Present:
			lower, higher := out, r
			if r.Weights[canary] < out.Weights[canary] || (r.Weights[canary] == out.Weights[canary] && noteN(r) < noteN(out)) {
				lower, higher = r, out
			}
			lower.HasReceipt = lower.HasReceipt && higher.HasReceipt
			lower.Receipt = min(lower.Receipt, higher.Receipt)
			if !sameSplit(lower.Weights, higher.Weights) && lower.Note != nil {
				n := *lower.Note // not in force everywhere: a lost write, until all say so
				n.N = min(n.N-1, noteN(higher))
				lower.Note = &n
			}
			lower.Requests, lower.InFlight = sum(lower.Requests, higher.Requests), sum(lower.InFlight, higher.InFlight)
			out = lower
		case r.Known < out.Known: // not known beats known, missing beats there
			out = r
		}
	}
	return out
}

func noteN(r Route) int {
	if r.Note == nil {
		return -1
	}
	return r.Note.N
}

func sum[V int | float64](a, b map[Revision]V) map[Revision]V {
	if a == nil {
		return b
	}
	out := map[Revision]V{}
	for r, v := range a {
		out[r] = v
	}
	for r, v := range b {
		out[r] += v
	}
	return out
}
