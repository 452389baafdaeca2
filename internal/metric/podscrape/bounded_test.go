package podscrape

import (
	"bytes"
	"runtime"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/serin-dev/serin/internal/metric"
)

// A pod chooses the binary format itself, and an empty metric is two bytes there
// and eighty in memory: an answer must not take more than a few times its size.
func TestABinaryAnswerIsBounded(t *testing.T) {
	for _, name := range []string{"not_ours", "http_requests_total"} {
		var family []byte
		family = protowire.AppendTag(family, familyName, protowire.BytesType)
		family = protowire.AppendString(family, name)
		for len(family) < 1<<20 {
			family = protowire.AppendTag(family, familyMetric, protowire.BytesType)
			family = protowire.AppendBytes(family, nil)
		}
		body := append(protowire.AppendVarint(nil, uint64(len(family))), family...)
		s := New(Options{})
		r := &reader{tally: metric.NewTally(s.o.Names), words: s.words}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := r.binary(bytes.NewReader(body))
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err != nil || took > 10*uint64(len(body)) {
			t.Errorf("%s: %d bytes took %d bytes of memory, %v", name, len(body), took, err)
		}
	}
}
