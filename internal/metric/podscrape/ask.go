package podscrape

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/metric"
)

const (
	acceptText   = "text/plain;version=0.0.4"
	acceptBinary = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.5`
)

// ask asks one pod, and writes the answer or the problem.
func (s *Scraper) ask(ctx context.Context, a *answer, native bool) {
	fail := func(r Reason, detail string) { a.problem = Problem{Pod: a.pod.Name, Reason: r, Detail: detail} }
	defer func() { // in a goroutine of its own it would end everything
		if v := recover(); v != nil {
			a.mistake = &engine.PortPanic{Reading: "a pod's answer", Value: v, Stack: debug.Stack()}
			fail(Mistake, "of this version of Serin over the answer; the log says more")
		}
	}()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		fail(TimedOut, "too many pods were asked at once")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: netip.AddrPortFrom(a.pod.Address, a.pod.Scrape.Port).String(), Path: a.pod.Scrape.Path}
	if path, query, ok := strings.Cut(u.Path, "?"); ok {
		u.Path, u.RawQuery = path, query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		fail(NotScraped, "its annotations do not make an address")
		return
	}
	req.Header.Set("User-Agent", "serin")
	req.Header.Set("Accept", acceptText)
	if native {
		req.Header.Set("Accept", acceptBinary)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		fail(reasonOf(err), "")
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		fail(BadStatus, fmt.Sprint(resp.StatusCode))
		return
	}
	a.at = s.o.Now()
	r := &reader{tally: metric.NewTally(s.o.Names), words: s.words}
	body := &limited{r: resp.Body, left: s.o.MaxBody}
	binary := expfmt.ResponseFormat(resp.Header).FormatType() == expfmt.TypeProtoDelim
	if binary {
		err = r.binary(body)
	} else {
		err = r.text(body)
	}
	if err != nil {
		var e *answerError
		if errors.As(err, &e) {
			fail(e.reason, e.detail)
		} else {
			fail(reasonOf(err), "in the middle of the answer")
		}
		return
	}
	a.tally = r.tally
	a.native = binary && r.sawNative || !binary && r.boundless()
}

// reasonOf sorts what the network says.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, errAddress):
		return AddressRefused
	case errors.Is(err, errTooLarge):
		return TooLarge
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	}
	return Refused
}

// answerError is what is wrong with an answer.
type answerError struct {
	reason Reason
	detail string
}

func (e *answerError) Error() string { return string(e.reason) + " " + e.detail }

var errTooLarge = errors.New("the answer is too large")

// limited fails when more is read than it allows, instead of seeming to end.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// reader reads one answer into a tally.
type reader struct {
	tally     *metric.Tally
	words     *words
	sawNative bool
	infinite  map[string]bool // histograms with their total, of which
	bounded   map[string]bool // these have bounds
}

var (
	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	lines   = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, maxLine) }}
)

// putBack keeps no buffer that one talkative pod made large.
func putBack(b *bytes.Buffer) {
	if b.Cap() <= 1<<20 {
		buffers.Put(b)
	}
}

// maxLine bounds one line of the text format.
const maxLine = 64 << 10

// text reads the text format. Only the lines that are counted are parsed: a
// proxy tells thousands of others, and what another exporter gets wrong in them
// is not our business.
func (r *reader) text(body io.Reader) error {
	in := lines.Get().(*bufio.Reader)
	in.Reset(body)
	defer func() {
		in.Reset(nil)
		lines.Put(in)
	}()
	looksRight := false
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return &answerError{Malformed, "a line is too long"}
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) > 0:
			return &answerError{Malformed, "it ends in the middle of a line"}
		case errors.Is(err, io.EOF):
			if !looksRight {
				return &answerError{NotMetrics, "no line of it is a metric"}
			}
			return nil
		case err != nil:
			return err
		}
		line = bytes.TrimLeft(line, " \t")
		name, ok := nameOf(line)
		if !ok {
			if rest, ok := bytes.CutPrefix(line, []byte("# TYPE ")); ok {
				if name, ok = nameOf(rest); ok {
					r.tally.Declare(name)
				}
			}
			continue
		}
		looksRight = true
		if !r.words.wanted[string(name)] {
			r.tally.Mark(name)
		} else if err := r.line(line, name); err != nil {
			return err
		}
	}
}

// nameOf is the name of the metric that the line is of.
func nameOf(line []byte) ([]byte, bool) {
	for i, c := range line {
		switch {
		case c == '{' || c == ' ' || c == '\t':
			return line[:i], i > 0
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':', i > 0 && c >= '0' && c <= '9':
		default:
			return nil, false
		}
	}
	return nil, false
}

// line takes one line that is counted: a series, a value, and maybe a time.
func (r *reader) line(line []byte, name []byte) error {
	end := len(name)
	if end < len(line) && line[end] == '{' {
		if end = closing(line, end); end < 0 {
			return errUnreadable
		}
	}
	series, err := r.words.series(line[:end])
	if err != nil {
		return err
	}
	fields := bytes.Fields(line[end:])
	if len(fields) == 0 || len(fields) > 2 {
		return errUnreadable
	}
	v, err := strconv.ParseFloat(string(fields[0]), 64)
	if err != nil || bytes.ContainsAny(fields[0], "xX_pP") {
		return errUnreadable
	}
	r.note(series.name, series.labels)
	r.tally.Add(series.name, series.labels, v)
	return nil
}

var errUnreadable = &answerError{Malformed, "a counter cannot be read"}

// closing is where the labels that open at i end, or -1.
func closing(line []byte, i int) int {
	quoted := false
	for ; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '}' && !quoted:
			return i + 1
		}
	}
	return -1
}

// note remembers which histograms have no bounds but infinity.
func (r *reader) note(name string, l *pairs) {
	base, ok := strings.CutSuffix(name, "_bucket")
	if !ok {
		return
	}
	which := &r.bounded
	if l.Get("le") == "+Inf" {
		which = &r.infinite
	}
	if *which == nil {
		*which = map[string]bool{}
	}
	(*which)[base] = true
}

// boundless says that there is a histogram whose bounds are not in the text
// format: a native one.
func (r *reader) boundless() bool {
	for name := range r.infinite {
		if !r.bounded[name] {
			return true
		}
	}
	return false
}

// binary reads the delimited binary format, which has the native histograms.
func (r *reader) binary(body io.Reader) error {
	kept := buffers.Get().(*bytes.Buffer)
	kept.Reset()
	defer putBack(kept)
	if _, err := kept.ReadFrom(body); err != nil {
		return err
	}
	for left := kept.Bytes(); len(left) > 0; {
		family, n := protowire.ConsumeBytes(left) // a length, and so many bytes of those that came
		if n < 0 || !r.family(family) {
			return errBinary
		}
		left = left[n:]
	}
	return nil
}

var errBinary = &answerError{Malformed, "the binary format cannot be read"}

// The fields of a MetricFamily that are read.
const (
	familyName   = 1
	familyMetric = 4
)

// family reads a family metric by metric, each no larger than a line of text may
// be: in memory a message can be a hundred times as large as it came.
func (r *reader) family(b []byte) bool {
	name, wanted, m, l := "", false, new(dto.Metric), new(pairs)
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		value := b[n:]
		size := protowire.ConsumeFieldValue(field, kind, value)
		if size < 0 {
			return false
		}
		b = value[size:]
		if kind != protowire.BytesType || field != familyName && field != familyMetric {
			continue
		}
		text, _ := protowire.ConsumeBytes(value)
		switch {
		case field == familyName:
			name = string(text)
			if wanted = r.words.wanted[name] || r.words.wanted[name+"_bucket"]; !wanted {
				r.tally.Mark(text)
			}
		case !wanted:
		case len(text) > maxLine || proto.Unmarshal(text, m) != nil:
			return false
		default:
			l.list, l.le = m.GetLabel(), ""
			r.metric(name, l, m)
		}
	}
	return true
}

func (r *reader) metric(name string, l *pairs, m *dto.Metric) {
	switch {
	case m.Counter != nil:
		r.tally.Add(name, l, m.Counter.GetValue())
	case m.Gauge != nil:
		r.tally.Add(name, l, m.Gauge.GetValue())
	case m.Untyped != nil:
		r.tally.Add(name, l, m.Untyped.GetValue())
	case m.Histogram != nil:
		r.histogram(name, l, m.Histogram)
	}
}

func (r *reader) histogram(name string, l *pairs, h *dto.Histogram) {
	total := float64(h.GetSampleCount())
	if h.GetSampleCountFloat() > 0 {
		total = h.GetSampleCountFloat()
	}
	if h.Schema != nil && len(h.GetBucket()) == 0 {
		r.sawNative = true
		var offset []int32
		var length []uint32
		for _, s := range h.GetPositiveSpan() {
			offset, length = append(offset, s.GetOffset()), append(length, s.GetLength())
		}
		zero := float64(h.GetZeroCount()) + h.GetZeroCountFloat()
		if n := metric.NativeFromSpans(int(h.GetSchema()), h.GetZeroThreshold(), zero, total, offset, length, h.GetPositiveDelta(), h.GetPositiveCount()); n != nil {
			r.tally.AddNative(name, l, n)
		}
		return
	}
	r.tally.Add(name+"_count", l, total)
	infinite := false
	for _, b := range h.GetBucket() {
		l.le = formatBound(b.GetUpperBound())
		infinite = infinite || l.le == "+Inf"
		n := float64(b.GetCumulativeCount())
		if b.GetCumulativeCountFloat() > 0 {
			n = b.GetCumulativeCountFloat()
		}
		r.tally.Add(name+"_bucket", l, n)
	}
	if !infinite {
		l.le = "+Inf"
		r.tally.Add(name+"_bucket", l, total)
	}
}

func formatBound(x float64) string { return model.SampleValue(x).String() }

// pairs are labels as the parser has them; le beside them where the format
// keeps it apart.
type pairs struct {
	list []*dto.LabelPair
	le   string
}

func (p *pairs) Get(name string) string {
	if name == "le" && p.le != "" {
		return p.le
	}
	for _, l := range p.list {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
