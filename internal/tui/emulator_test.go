//go:build linux

package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// emulator is the screen of a terminal: what a person sees after everything
// that was written. The program sends only the cells that changed, so what it
// wrote says little about what stands there. It knows the sequences that the
// renderer uses; unknown keeps the first that it does not know.
type emulator struct {
	parser  *ansi.Parser
	cells   [][]rune
	w, x, y int
	top     int  // of the rows that scroll
	end     int  // the first row below them
	wrap    bool // the last column is full: the next rune goes to the next row
	last    rune
	unknown string
}

func newEmulator() *emulator {
	e := &emulator{parser: ansi.NewParser()}
	e.parser.SetHandler(ansi.Handler{Print: e.print, Execute: e.control, HandleCsi: e.csi, HandleEsc: e.esc})
	return e
}

func (e *emulator) Write(b []byte) (int, error) {
	e.parser.Parse(b)
	return len(b), nil
}

func (e *emulator) String() string {
	var s strings.Builder
	for _, row := range e.cells {
		s.WriteString(strings.TrimRight(string(row), " ") + "\n")
	}
	return s.String()
}

func blank(w int) []rune { return slices.Repeat([]rune{' '}, w) }

func (e *emulator) resize(w, h int) {
	cells := make([][]rune, h)
	for y := range cells {
		cells[y] = blank(w)
		if y < len(e.cells) {
			copy(cells[y], e.cells[y])
		}
	}
	e.cells, e.w, e.top, e.end = cells, w, 0, h
	e.at(e.x, e.y)
}

func (e *emulator) at(x, y int) {
	e.x, e.y, e.wrap = min(max(x, 0), e.w-1), min(max(y, 0), len(e.cells)-1), false
}

func (e *emulator) print(r rune) {
	if e.wrap {
		e.control('\n')
		e.at(0, e.y)
	}
	e.cells[e.y][e.x], e.last = r, r
	if e.x == e.w-1 {
		e.wrap = true
		return
	}
	e.x++
}

func (e *emulator) control(b byte) {
	switch b {
	case '\r':
		e.at(0, e.y)
	case '\n':
		if e.y == e.end-1 {
			e.shift(e.top, 1)
			return
		}
		e.at(e.x, e.y+1)
	case '\b':
		e.at(e.x-1, e.y)
	case '\t':
		e.at((e.x/8+1)*8, e.y)
	}
}

// shift deletes n rows at y and moves those below, as far as rows scroll, up;
// a negative n inserts.
func (e *emulator) shift(y, n int) {
	if y < e.top || y >= e.end {
		return
	}
	rows := e.cells[y:e.end]
	for ; n > 0; n-- {
		copy(rows, rows[1:])
		rows[len(rows)-1] = blank(e.w)
	}
	for ; n < 0; n++ {
		copy(rows[1:], rows)
		rows[0] = blank(e.w)
	}
}

func (e *emulator) erase(y, from, to int) {
	copy(e.cells[y][from:to], blank(to-from))
}

func (e *emulator) csi(c ansi.Cmd, p ansi.Params) {
	n := func(i, def int) int { v, _, _ := p.Param(i, def); return v }
	if c.Prefix() != 0 || c.Intermediate() != 0 {
		return // modes and questions: nothing that is seen
	}
	one := max(n(0, 1), 1)
	row := e.cells[e.y]
	switch c.Final() {
	case 'A':
		e.at(e.x, e.y-one)
	case 'B':
		e.at(e.x, e.y+one)
	case 'C':
		e.at(e.x+one, e.y)
	case 'D':
		e.at(e.x-one, e.y)
	case 'G', '`':
		e.at(one-1, e.y)
	case 'H', 'f':
		e.at(n(1, 1)-1, n(0, 1)-1)
	case 'd':
		e.at(e.x, one-1)
	case 'J':
		for y := range e.cells {
			if n(0, 0) == 2 || y > e.y {
				e.erase(y, 0, e.w)
			}
		}
		e.erase(e.y, e.x, e.w)
	case 'K':
		switch n(0, 0) {
		case 0:
			e.erase(e.y, e.x, e.w)
		case 1:
			e.erase(e.y, 0, e.x+1)
		default:
			e.erase(e.y, 0, e.w)
		}
	case 'X':
		e.erase(e.y, e.x, min(e.x+one, e.w))
	case 'M':
		e.shift(e.y, one)
	case 'L':
		e.shift(e.y, -one)
	case 'S':
		e.shift(e.top, one)
	case 'T':
		e.shift(e.top, -one)
	case 'P':
		row = append(slices.Delete(row, e.x, min(e.x+one, e.w)), blank(e.w)...)
		e.cells[e.y] = row[:e.w:e.w]
	case '@':
		e.cells[e.y] = slices.Insert(row, e.x, blank(one)...)[:e.w:e.w]
	case 'b':
		for range one {
			e.print(e.last)
		}
	case 'm', 'h', 'l', 'n', 'c', 't':
	case 'r':
		e.top, e.end = one-1, min(n(1, len(e.cells)), len(e.cells))
		e.at(0, 0)
	default:
		e.fail("CSI", c)
	}
}

func (e *emulator) esc(c ansi.Cmd) {
	switch {
	case c.Final() != 'M':
		e.fail("ESC", c)
	case e.y == e.top:
		e.shift(e.top, -1)
	default:
		e.at(e.x, e.y-1)
	}
}

func (e *emulator) fail(kind string, c ansi.Cmd) {
	if e.unknown == "" {
		e.unknown = fmt.Sprintf("%s %q", kind, c.Final())
	}
}
