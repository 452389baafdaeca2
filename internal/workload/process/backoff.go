package process

import "time"

// backoff counts the runs of one replica that ended by themselves, and says how
// long to wait before the next.
type backoff struct {
	base, max time.Duration
	healthy   time.Duration
	ends      int // in a row
}

// after returns the wait that follows a run which had been ready for so long:
// base, doubled with each end in a row, at most max. A run that was ready for
// the healthy while ends the row.
func (b *backoff) after(ready time.Duration) time.Duration {
	if ready >= b.healthy {
		b.ends = 0
	}
	wait := b.base
	for range b.ends {
		if wait *= 2; wait >= b.max {
			break
		}
	}
	b.ends++
	return min(wait, b.max)
}
