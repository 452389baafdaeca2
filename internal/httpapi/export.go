package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/serin-dev/serin/ui"
)

// frozenPage is what an export is made from.
const frozenPage = "frozen.html"

// Frozen is a rollout as it was, with all that the detail page shows.
type Frozen struct {
	View    RolloutView `json:"view"`
	Series  Series      `json:"series"`
	Version string      `json:"version"` // of the program
}

// Export makes one HTML file of a view: it needs no network and no program, and
// it may use none, by the policy that is written into it. Every text of v is
// data in it, never markup.
func Export(v RolloutView, s Series, version string) ([]byte, error) {
	v.Offers = nil // nothing can be sent from a file
	if len(s.T) == 0 {
		s = newPast().series(Ref{}, time.Time{}, v.Decisions) // its host keeps no history
	}
	s = s.until(v.Time)
	data, err := json.Marshal(Frozen{View: v, Series: s, Version: version}) // < and > and & are escaped
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", v.Name, err)
	}
	files := ui.Files()
	read := func(name string) (b []byte) {
		if err == nil {
			b, err = fs.ReadFile(files, name)
		}
		return b
	}
	page, script, style := read(frozenPage), read("app.js"), read("app.css")
	if err != nil {
		return nil, fmt.Errorf("reading the dashboard's files: %w", err)
	}
	if bytes.Contains(bytes.ToLower(script), []byte("</script")) || bytes.Contains(bytes.ToLower(style), []byte("</style")) {
		return nil, fmt.Errorf("the dashboard's files cannot be written into a page")
	}
	policy := fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; base-uri 'none'; form-action 'none'", hashOf(script), hashOf(style))
	return []byte(strings.NewReplacer(
		"%POLICY%", policy, "%STYLE%", string(style), "%SCRIPT%", string(script), "%DATA%", string(data),
	).Replace(string(page))), nil
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// until cuts what came later.
func (s Series) until(at time.Time) Series {
	n := 0
	for n < len(s.T) && s.T[n] <= float64(at.UnixMilli())/1000 {
		n++
	}
	s.T, s.Verdict = s.T[:n], s.Verdict[:n]
	for _, c := range []*Column{&s.Set, &s.Seen, &s.Rollback, &s.Advance, &s.Exposed, &s.Harmed} {
		*c = (*c)[:n]
	}
	ms := s.Metrics
	s.Metrics = make([]MetricSeries, 0, len(ms))
	for _, m := range ms {
		for _, c := range m.columns() {
			*c = (*c)[:n]
		}
		m.State = m.State[:n]
		s.Metrics = append(s.Metrics, m)
	}
	return s
}

// FileName is what an export is saved as: letters that every system takes.
func FileName(v RolloutView) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, Ref{v.Namespace, v.Name}.String())
	return fmt.Sprintf("serin-%s-%s.html", name, v.Time.UTC().Format("20060102-150405"))
}
