package trial

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
)

// View is what a policy sees at one look.
type View struct {
	Now     time.Time
	Elapsed time.Duration // since the canary came; negative before
	Weight  float64       // in force during the time that this look ends
	Stable  []analysis.Pod
	Canary  []analysis.Pod
}

// Move is a policy's answer to a look.
type Move struct {
	Weight   float64 // the canary's share from now on
	Back     bool    // it was taken back
	Promoted bool    // everything goes to it (but for a control)
	Done     bool    // nobody looks any more
	Stuck    bool    // waits for a person
	Why      string
}

// Policy decides about one release. It is not for concurrent use.
type Policy interface {
	Look(View) Move
}

// Maker makes a policy for one run.
type Maker struct {
	Name string
	// Learns: the policy looks at stable before the canary comes.
	Learns bool
	New    func(replicas int) Policy
}

// Case is one world under one policy.
type Case struct {
	Worlds  Worlds
	Policy  Maker
	Horizon time.Duration // after the canary came the run ends
}

// Result is what came of one run.
type Result struct {
	Seed     uint64        `json:"seed"`
	Back     bool          `json:"rolledBack"`
	Promoted bool          `json:"promoted"`
	Rested   bool          `json:"rested"` // and nobody looks any more
	Stuck    bool          `json:"stuck"`  // it waited for a person when the run ended
	Why      string        `json:"why,omitempty"`
	Took     time.Duration `json:"took"`   // to the rollback, else to 100 %
	Rest     time.Duration `json:"rest"`   // to rest, where it got there
	Caught   time.Duration `json:"caught"` // from the onset to the rollback
	Wrong    bool          `json:"wrong"`  // the canary was worse, or would have become so
	Early    bool          `json:"early"`  // taken back before it was worse
	Exposed  float64       `json:"exposed"`
	Harmed   float64       `json:"harmed"`
	Info     float64       `json:"info"`
}

// Run closes the loop between a world of this seed and the policy.
func Run(c Case, seed uint64) Result {
	history := time.Duration(0)
	if c.Policy.Learns {
		history = c.Worlds.History()
	}
	w := c.Worlds.New(seed, history)
	p := c.Policy.New(c.Worlds.Replicas())
	res := Result{Seed: seed}
	var m Move
	for w.Elapsed() < c.Horizon {
		w.Advance(m.Weight)
		before := m.Weight
		m = p.Look(View{Now: w.Now(), Elapsed: w.Elapsed(), Weight: before, Stable: w.Stable(), Canary: w.Canary()})
		if m.Promoted && !res.Promoted {
			res.Promoted, res.Took = true, w.Elapsed()
		}
		if m.Back {
			res.Back, res.Took, res.Why = true, w.Elapsed(), m.Why
			break
		}
		if m.Done {
			res.Rested, res.Rest = true, w.Elapsed()
			break
		}
	}
	if !res.Back {
		res.Stuck, res.Why = m.Stuck, m.Why
	}
	t := w.Truth()
	res.Wrong, res.Exposed, res.Harmed, res.Info = t.Wrong, t.Exposed, t.Harmed, t.Info
	res.Early = res.Back && t.Onset < 0
	if res.Back && t.Onset >= 0 {
		res.Caught = res.Took - t.Onset
	}
	if res.Rested && t.Wrong {
		// Nobody watches any more: it goes on to the horizon.
		left := (c.Horizon - w.Elapsed()).Seconds()
		res.Harmed += left * t.Rate
	}
	return res
}

// Campaign runs the case with seeds seed, seed+1, ... on all processors. It
// ends early, with what there is, only if ctx is done.
func Campaign(ctx context.Context, c Case, seed uint64, runs int) (Totals, error) {
	results := make([]Result, runs)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runs, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := range next {
				results[i] = Run(c, seed+uint64(i))
			}
		})
	}
	var err error
feed:
	for i := range runs {
		select {
		case next <- i:
		case <-ctx.Done():
			err = ctx.Err()
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err != nil {
		return Totals{}, err
	}
	return total(results), nil
}
