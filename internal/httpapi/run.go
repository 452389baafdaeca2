package httpapi

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"math"
	"sync"

	"github.com/serin-dev/serin/internal/rollout"
)

// run is points in the order of their time. All but the newest are kept in
// blocks of bytes, about a third as large: most of what is kept is looked at
// never, or once.
type run struct {
	blocks []block // oldest first; never changed, so that readers need no lock
	tail   []point
	n      int // points in all
}

// block is blockSize points.
type block struct {
	n      int
	first  int64 // when its oldest was, in milliseconds
	frames []*frame
	b      []byte
}

const blockSize = 30

func (r *run) add(p point) {
	r.n++
	r.tail = append(r.tail, p)
	if len(r.tail) == blockSize {
		r.blocks = append(r.blocks[:len(r.blocks):len(r.blocks)], seal(r.tail))
		r.tail = nil
	}
}

// keep drops the oldest beyond n, by whole blocks.
func (r *run) keep(n int) {
	k, m := 0, 0
	for k < len(r.blocks) && r.n-m-r.blocks[k].n >= n {
		m += r.blocks[k].n
		k++
	}
	r.blocks, r.n = r.blocks[k:], r.n-m
}

// halve drops the older half, or as much as comes next to it.
func (r *run) halve() {
	if half := (r.n + 1) / 2; len(r.blocks) > 0 {
		k, m := 0, 0
		for k < len(r.blocks) && (k == 0 || m+r.blocks[k].n <= half) {
			m += r.blocks[k].n
			k++
		}
		r.blocks, r.n = append([]block(nil), r.blocks[k:]...), r.n-m
		return
	}
	k := (len(r.tail) + 1) / 2
	r.tail = append([]point(nil), r.tail[k:]...)
	r.n -= k
}

// copied is the run as it is now; it does not change with the original.
func (r *run) copied() run {
	return run{blocks: r.blocks, tail: append([]point(nil), r.tail...), n: r.n}
}

// points gives all of them, from the block on in which from is.
func (r *run) points(from int64) []point {
	k := 0
	for k+1 < len(r.blocks) && r.blocks[k+1].first <= from {
		k++
	}
	if k+1 == len(r.blocks) && len(r.tail) > 0 && r.tail[0].at <= from {
		k++
	}
	out := make([]point, 0, r.n)
	for _, b := range r.blocks[k:] {
		out = append(out, b.open()...)
	}
	return append(out, r.tail...)
}

// first is when the oldest was.
func (r *run) first() (at int64, ok bool) {
	switch {
	case len(r.blocks) > 0:
		return r.blocks[0].first, true
	case len(r.tail) > 0:
		return r.tail[0].at, true
	}
	return 0, false
}

func seal(ps []point) block {
	b := block{n: len(ps), first: ps[0].at}
	index := map[*frame]uint64{}
	for i := range ps {
		f := ps[i].frame
		if _, known := index[f]; !known {
			index[f] = uint64(len(b.frames))
			b.frames = append(b.frames, f)
		}
	}
	c := codec{writing: true}
	for i := range ps {
		n := index[ps[i].frame]
		c.uint(&n)
	}
	c.points(ps)
	b.b = deflate(c.b)
	return b
}

// open gives a block's points; nil where its bytes are not what this process wrote.
func (b block) open() []point {
	raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(b.b)))
	if err != nil {
		return nil
	}
	c := codec{b: raw}
	ps := make([]point, b.n)
	for i := range ps {
		var n uint64
		if c.uint(&n); n >= uint64(len(b.frames)) {
			return nil
		}
		ps[i].frame = b.frames[n]
	}
	c.points(ps)
	if c.short {
		return nil
	}
	return ps
}

// codec writes and reads in one description: each method takes what is there
// when it writes, and fills it when it reads.
type codec struct {
	writing bool
	b       []byte
	short   bool // reading: there was less than there should be
}

// points, column by column: neighbours in time are alike.
func (c *codec) points(ps []point) {
	last := int64(0)
	for i := range ps {
		d := uint64(ps[i].at - last) // they ascend
		c.uint(&d)
		ps[i].at = last + int64(d)
		last = ps[i].at
	}
	most := 0
	for i := range ps {
		p := &ps[i]
		set, cells := uint64(p.set), uint64(len(p.cells))
		c.uint(&set)
		c.byte(&p.verdict)
		c.uint(&cells)
		if p.set = rollout.Weight(set); !c.writing {
			p.cells = make([]cell, min(cells, 256))
		}
		most = max(most, len(p.cells))
	}
	for _, col := range pointColumns {
		c.floats(len(ps), func(i int) *float32 { return col(&ps[i]) })
	}
	for k := range most {
		var cells []*cell
		for i := range ps {
			if k < len(ps[i].cells) {
				cells = append(cells, &ps[i].cells[k])
			}
		}
		for _, x := range cells {
			c.byte(&x.metric)
		}
		for _, x := range cells {
			c.byte(&x.state)
		}
		for _, col := range cellColumns {
			c.floats(len(cells), func(i int) *float32 { return col(cells[i]) })
		}
	}
	for i := range ps {
		c.text(&ps[i].sentence)
		c.text(&ps[i].message)
	}
}

var (
	pointColumns = []func(*point) *float32{
		func(p *point) *float32 { return &p.seen }, func(p *point) *float32 { return &p.rollback }, func(p *point) *float32 { return &p.advance },
		func(p *point) *float32 { return &p.exposed }, func(p *point) *float32 { return &p.harmed },
	}
	cellColumns = []func(*cell) *float32{
		func(c *cell) *float32 { return &c.canary }, func(c *cell) *float32 { return &c.stable }, func(c *cell) *float32 { return &c.low }, func(c *cell) *float32 { return &c.high },
		func(c *cell) *float32 { return &c.limit }, func(c *cell) *float32 { return &c.canaryN }, func(c *cell) *float32 { return &c.stableN },
	}
)

func (c *codec) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.short = true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *codec) uint(x *uint64) {
	if c.writing {
		c.b = binary.AppendUvarint(c.b, *x)
		return
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.short, n = true, 0
	}
	*x, c.b = v, c.b[n:]
}

func (c *codec) byte(x *byte) {
	if c.writing {
		c.b = append(c.b, *x)
	} else if b := c.take(1); b != nil {
		*x = b[0]
	}
}

func (c *codec) text(s *string) {
	n := uint64(len(*s))
	c.uint(&n)
	if c.writing {
		c.b = append(c.b, *s...)
		return
	}
	*s = string(c.take(int(min(n, math.MaxInt32))))
}

// floats are written as how each differs from the one before it, all first
// bytes, then all second ones: what does not change is zeros, and takes nothing.
func (c *codec) floats(n int, at func(int) *float32) {
	const planes = 4
	if !c.writing {
		b := c.take(planes * n)
		last := uint32(0)
		for i := range n {
			for k := range planes {
				if b != nil {
					last ^= uint32(b[k*n+i]) << (8 * k)
				}
			}
			*at(i) = math.Float32frombits(last)
		}
		return
	}
	from := len(c.b)
	c.b = append(c.b, make([]byte, planes*n)...)
	last := uint32(0)
	for i := range n {
		bits := math.Float32bits(*at(i))
		for k := range planes {
			c.b[from+k*n+i] = byte((bits ^ last) >> (8 * k))
		}
		last = bits
	}
}

// writers are made seldom: one takes a megabyte.
var writers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err) // of a level that there is not
	}
	return w
}}

// deflate makes bytes small.
func deflate(b []byte) []byte {
	w := writers.Get().(*flate.Writer)
	defer writers.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	_, _ = w.Write(b) // a buffer takes everything
	_ = w.Close()
	return bytes.Clone(out.Bytes())
}
