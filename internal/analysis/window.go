package analysis

import "errors"

// slots is how finely a window slides.
const slots = 12

// count is what a window adds up: of CanaryN things CanaryK were bad.
type count struct {
	CanaryN float64 `json:"cn,omitempty"`
	CanaryK float64 `json:"ck,omitempty"`
	StableN float64 `json:"sn,omitempty"`
	StableK float64 `json:"sk,omitempty"`
}

func (c *count) add(o count) {
	c.CanaryN += o.CanaryN
	c.CanaryK += o.CanaryK
	c.StableN += o.StableN
	c.StableK += o.StableK
}

func (c count) canary() float64 { return ratio(c.CanaryK, c.CanaryN) }
func (c count) stable() float64 { return ratio(c.StableK, c.StableN) }

func ratio(k, n float64) float64 {
	if n <= 0 {
		return 0
	}
	return k / n
}

// window holds sums over the last span: it slides by a twelfth of it.
type window struct {
	Newest int64        `json:"at"` // the newest slot's number since 1970
	Slot   [slots]count `json:"slots"`
}

func (w *window) check() error {
	for i := range w.Slot {
		s := &w.Slot[i]
		for _, x := range [...]float64{s.CanaryN, s.CanaryK, s.StableN, s.StableK} {
			if !sane(x) {
				return errors.New("a count is negative or out of range")
			}
		}
	}
	return nil
}

// slide forgets what is older than span.
func (w *window) slide(now, span int64) {
	at := now / max(1, span/slots)
	if at <= w.Newest {
		return
	}
	for i := max(w.Newest+1, at-slots+1); i <= at; i++ {
		w.Slot[mod(i)] = count{}
	}
	w.Newest = at
}

func mod(i int64) int64 {
	if i %= slots; i < 0 {
		i += slots
	}
	return i
}

func (w *window) add(now, span int64, c count) {
	w.slide(now, span)
	w.Slot[mod(w.Newest)].add(c)
}

func (w *window) total() (t count) {
	for i := range w.Slot {
		t.add(w.Slot[i])
	}
	return t
}
