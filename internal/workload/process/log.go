package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// rememberedLogs is how many replicas that are gone keep their log.
const rememberedLogs = 16

// logs holds the output of all replicas. One mutex guards all of it: an order
// over all lines is worth more than the contention costs.
type logs struct {
	maxLines, maxBytes, maxLine int

	mu     sync.Mutex
	seq    uint64
	rings  []*ring // in order of creation
	wake   chan struct{}
	closed bool
}

// ring is the bounded log of one replica.
type ring struct {
	key, replica string
	first        uint64 // how many lines have been dropped from the front
	lines        []Line
	bytes        int
	gone         bool
}

func newLogs(o Options) *logs {
	return &logs{maxLines: o.LogLines, maxBytes: o.LogBytes, maxLine: o.LogLineSize, wake: make(chan struct{})}
}

func (l *logs) open(key, replica string) *ring {
	r := &ring{key: key, replica: replica}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rings = append(l.rings, r)
	return r
}

// retire keeps the ring of a replica that is gone until enough others are.
func (l *logs) retire(r *ring) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.gone = true
	gone := 0
	for _, r := range l.rings {
		if r.gone {
			gone++
		}
	}
	l.rings = slices.DeleteFunc(l.rings, func(r *ring) bool {
		if r.gone && gone > rememberedLogs {
			gone--
			return true
		}
		return false
	})
}

// close ends every Follow.
func (l *logs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
}

func (l *logs) add(r *ring, words *lastWords, batch []Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range batch {
		l.seq++
		line.Seq, line.Replica = l.seq, r.replica
		words.hear(line.Stream, line.Text)
		r.lines = append(r.lines, line)
		r.bytes += len(line.Text)
		for len(r.lines) > l.maxLines || (r.bytes > l.maxBytes && len(r.lines) > 1) {
			r.bytes -= len(r.lines[0].Text)
			r.lines[0] = Line{} // the array behind the slice must not keep the text
			r.lines = r.lines[1:]
			r.first++
		}
	}
	if !l.closed {
		close(l.wake)
		l.wake = make(chan struct{})
	}
}

// words returns what a run said last.
func (l *logs) words(w *lastWords) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return w.best()
}

// reader is one reader's place in every ring.
type reader map[*ring]uint64

// next returns, in order, the lines of key that the reader has not had.
func (l *logs) next(at reader, key string) (lines []Line, wake <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.rings {
		if key != "" && r.key != key {
			continue
		}
		from := max(at[r], r.first)
		lost := from - at[r]
		for i, line := range r.lines[from-r.first:] {
			if i == 0 {
				line.Lost = lost
			}
			lines = append(lines, line)
		}
		at[r] = r.first + uint64(len(r.lines))
	}
	for r := range at {
		if r.gone && !slices.Contains(l.rings, r) {
			delete(at, r)
		}
	}
	slices.SortFunc(lines, func(a, b Line) int {
		if a.Seq < b.Seq {
			return -1
		}
		return 1
	})
	return lines, l.wake, l.closed
}

func (l *logs) last(at reader, key string, tail int) (lines []Line, wake <-chan struct{}, closed bool) {
	lines, wake, closed = l.next(at, key)
	for i := range lines {
		lines[i].Lost = 0 // nobody was reading yet
	}
	if tail >= 0 && len(lines) > tail {
		lines = lines[len(lines)-tail:]
	}
	return lines, wake, closed
}

func (l *logs) follow(ctx context.Context, key string, tail int) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		at := reader{}
		lines, wake, closed := l.last(at, key, tail)
		for {
			for _, line := range lines {
				if ctx.Err() != nil || !yield(line) {
					return
				}
			}
			if closed {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-wake:
			}
			lines, wake, closed = l.next(at, key)
		}
	}
}

// pump is where the reader of one stream is.
type pump struct {
	line []byte // read of a line that has not ended
}

// pump reads a stream to its end into a ring. It never waits for anybody but
// the writer, so the writer never waits for long. It gives false when it was
// stopped by a deadline, before the end; p is what it has read of a line then.
func (l *logs) pump(from io.Reader, stream Stream, r *ring, words *lastWords, p *pump) (ended bool) {
	var (
		line  = append(make([]byte, 0, 256), p.line...)
		cut   bool
		batch []Line
		buf   = make([]byte, 32<<10)
	)
	p.line = nil
	end := func() {
		text := strings.ToValidUTF8(strings.TrimSuffix(string(line), "\r"), "\uFFFD")
		batch = append(batch, Line{Time: time.Now(), Stream: stream, Text: text, Cut: cut})
		line, cut = line[:0], false
	}
	for {
		n, err := from.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			i := bytes.IndexByte(rest, '\n')
			part := rest
			if i >= 0 {
				part = rest[:i]
			}
			if room := l.maxLine - len(line); len(part) > room {
				part, cut = part[:room], true
			}
			line = append(line, part...)
			if i < 0 {
				break
			}
			end()
			rest = rest[i+1:]
		}
		stopped := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !stopped && (len(line) > 0 || cut) {
			end()
		}
		if len(batch) > 0 {
			l.add(r, words, batch)
			clear(batch)
			batch = batch[:0]
		}
		if stopped {
			p.line = line
			return false
		}
		if err != nil {
			return true
		}
	}
}
