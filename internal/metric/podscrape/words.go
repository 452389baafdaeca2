package podscrape

import (
	"bytes"
	"sync"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/serin-dev/serin/internal/metric"
)

// words are the series that were read before, by their text: pods of a kind say
// the same words at every look, only the numbers differ, so that each series is
// parsed once.
type words struct {
	wanted map[string]bool

	mu    sync.RWMutex
	known map[string]*series
	size  int // bytes of text
}

type series struct {
	name   string
	labels *pairs
}

const (
	maxWords  = 8 << 20 // bytes of text that are remembered
	maxPhrase = 4 << 10 // a longer one is not worth remembering
)

func newWords(names []metric.Names) *words {
	w := &words{wanted: map[string]bool{}, known: map[string]*series{}}
	for _, n := range metric.Wanted(names) {
		w.wanted[n] = true
	}
	return w
}

// series reads NAME{LABEL="VALUE",...}.
func (w *words) series(text []byte) (*series, error) {
	w.mu.RLock()
	s := w.known[string(text)]
	w.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(append(bytes.Clone(text), " 0\n"...)))
	if err != nil || len(families) != 1 {
		return nil, errUnreadable
	}
	for name, f := range families {
		if len(f.GetMetric()) != 1 {
			return nil, errUnreadable
		}
		s = &series{name: name, labels: &pairs{list: f.GetMetric()[0].GetLabel()}}
	}
	if len(text) > maxPhrase {
		return s, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size += len(text); w.size > maxWords {
		w.known, w.size = map[string]*series{}, len(text)
	}
	w.known[string(text)] = s
	return s, nil
}
