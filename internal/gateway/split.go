package gateway

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// splitter deals requests out to destinations so that every aligned block of
// requests holds exactly the shares that were asked for, in an order that no
// client's own rhythm can meet.
//
// The block's places are shuffled once per cycle into order; the j-th block of
// a cycle reads that order turned by turn[j]. The turns of one cycle are all
// different and chosen so that after a whole cycle every place of the block has
// been given to every destination exactly as often as its weight says: a client
// that repeats the same list of URLs sees each of them split alike, and not
// only in the long run.
//
// pick is safe for concurrent use; all but one in block*turns calls take one
// atomic addition.
type splitter struct {
	slots []uint8 // slot -> destination; len is the block
	step  int     // greatest common divisor of the destinations' slots
	only  int     // the one destination that has everything, or -1

	cur atomic.Pointer[cycle]
	mu  sync.Mutex // guards rng
	rng *rand.Rand
}

// cycle is a run of block*len(turn) requests.
type cycle struct {
	next  atomic.Uint64
	order []uint16
	turn  []uint16
}

// newSplitter makes a splitter for weights in 1/10000, which sum up to
// FullWeight. A destination is told by its index in weights.
func newSplitter(weights []int, seed1, seed2 uint64) *splitter {
	block := blockFor(weights)
	s := &splitter{only: -1, step: block, rng: rand.New(rand.NewPCG(seed1, seed2))}
	for i, w := range weights {
		n := w * block / FullWeight
		if n == block {
			s.only = i
		}
		s.step = gcd(s.step, n)
		for range n {
			s.slots = append(s.slots, uint8(i))
		}
	}
	if s.only < 0 {
		s.cur.Store(s.newCycle())
	}
	return s
}

// blockFor is the smallest block in which every weight is a whole number of
// requests, of the three that people think in.
func blockFor(weights []int) int {
	block := 100
	for _, w := range weights {
		switch {
		case w%10 != 0:
			return FullWeight
		case w%100 != 0:
			block = 1000
		}
	}
	return block
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// pick takes the next ticket and gives its destination.
func (s *splitter) pick() int {
	if s.only >= 0 {
		return s.only
	}
	for {
		c := s.cur.Load()
		n := c.next.Add(1) - 1
		block := uint64(len(c.order))
		if j := n / block; j < uint64(len(c.turn)) {
			slot := uint64(c.order[n%block]) + uint64(c.turn[j])
			if slot >= block {
				slot -= block
			}
			return int(s.slots[slot])
		}
		s.renew(c)
	}
}

// renew replaces an exhausted cycle, once.
func (s *splitter) renew(old *cycle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.Load() == old {
		s.cur.Store(s.newCycle())
	}
}

func (s *splitter) newCycle() *cycle {
	c := &cycle{order: make([]uint16, len(s.slots)), turn: make([]uint16, len(s.slots)/s.step)}
	for i := range c.order {
		c.order[i] = uint16(i)
	}
	for i := range c.turn {
		c.turn[i] = uint16(i * s.step)
	}
	s.rng.Shuffle(len(c.order), func(i, j int) { c.order[i], c.order[j] = c.order[j], c.order[i] })
	s.rng.Shuffle(len(c.turn), func(i, j int) { c.turn[i], c.turn[j] = c.turn[j], c.turn[i] })
	return c
}

// clip gives the shares of the destinations that have is true for, in
// proportion to their weights, by the largest remainder; nil when these have no
// weight at all.
func clip(weights []int, have func(int) bool) []int {
	total := 0
	for i, w := range weights {
		if have(i) {
			total += w
		}
	}
	if total == 0 {
		return nil
	}
	out := make([]int, len(weights))
	rest := make([]int, len(weights))
	left := FullWeight
	for i, w := range weights {
		rest[i] = -1
		if have(i) && w > 0 {
			out[i] = w * FullWeight / total
			rest[i] = w * FullWeight % total
			left -= out[i]
		}
	}
	for ; left > 0; left-- {
		best := 0
		for i := range rest {
			if rest[i] > rest[best] {
				best = i
			}
		}
		out[best]++
		rest[best] = -1
	}
	return out
}
