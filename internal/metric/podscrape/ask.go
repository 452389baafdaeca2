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
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/serin-dev/serin/internal/metric"
)

const (
	acceptText   = "text/plain;version=0.0.4"
	acceptBinary = `application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.5`
)

// ask asks one pod, and writes the answer or the problem.
func (s *Scraper) ask(ctx context.Context, a *answer, native bool) {
	fail := func(r Reason, detail string) { a.problem = Problem{Pod: a.pod.Name, Reason: r, Detail: detail} }
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
	r := &reader{tally: metric.NewTally(s.o.Names), wanted: s.wanted}
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
	wanted    map[string]bool
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
	kept := buffers.Get().(*bytes.Buffer)
	in := lines.Get().(*bufio.Reader)
	kept.Reset()
	in.Reset(body)
	defer func() {
		in.Reset(nil)
		lines.Put(in)
		putBack(kept)
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
			return r.parse(kept)
		case err != nil:
			return err
		}
		line = bytes.TrimLeft(line, " \t")
		name, ok := nameOf(line)
		if !ok {
			continue
		}
		looksRight = true
		if r.wanted[string(name)] {
			kept.Write(line)
		} else {
			r.tally.Mark(name)
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

// parse takes the lines that were kept.
func (r *reader) parse(kept io.Reader) error {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(kept)
	if err != nil {
		return &answerError{Malformed, "a counter cannot be read"}
	}
	l := new(pairs)
	for name, f := range families {
		for _, m := range f.GetMetric() {
			l.list = m.GetLabel()
			r.note(name, l)
			r.tally.Add(name, l, m.GetUntyped().GetValue())
		}
	}
	return nil
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
	f := &dto.MetricFamily{}
	for kept.Len() > 0 {
		f.Reset()
		// What a message claims to be long is never allocated beyond what came.
		if err := (protodelim.UnmarshalOptions{MaxSize: int64(kept.Len())}).UnmarshalFrom(kept, f); err != nil {
			return &answerError{Malformed, "the binary format cannot be read"}
		}
		r.family(f)
	}
	return nil
}

func (r *reader) family(f *dto.MetricFamily) {
	name := f.GetName()
	if !r.wanted[name] && !r.wanted[name+"_bucket"] {
		r.tally.Mark([]byte(name))
		return
	}
	l := new(pairs)
	for _, m := range f.GetMetric() {
		l.list, l.le = m.GetLabel(), ""
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
