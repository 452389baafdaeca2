package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// VersionSum is what one version did.
type VersionSum struct {
	Served int `json:"served"` // requests that it answered, well or not
	Failed int `json:"failed"` // of these, that it meant to fail
	// OnTrial are those that it answered before it was the stable version.
	OnTrial int `json:"onTrial"`
}

// Sums account for every request, from the logs of both ends.
type Sums struct {
	Sent     int                   `json:"sent"`
	Served   int                   `json:"served"` // answered with success
	Failed   int                   `json:"failed"` // the client got anything else
	Versions map[string]VersionSum `json:"versions"`
	// Harmed are requests that failed on a version on trial, and that no version
	// which was stable at the time would have failed.
	Harmed int `json:"harmed"`
	// FailedBySwitch are those that failed although no replica meant them to.
	FailedBySwitch int `json:"failedBySwitch"`
	// Broken are the first of them, as the client wrote them down.
	Broken []string `json:"broken,omitempty"`
	// Doubled were answered by more than one replica, or twice by one.
	Doubled int `json:"doubled"`
	// Unlike are those for which the two ends say different things, and answers
	// that nobody asked for.
	Unlike int `json:"unlike"`
}

// files of an out folder.
const (
	clientFile  = "client.jsonl"
	backendsDir = "backends"
	recordFile  = "record.jsonl"
	storyFile   = "story.json"
	rolloutFile = "rollout.yaml"
	daemonLog   = "daemon.log"
)

// sumUp reads both ends' logs. stableSince says from when on a version was the
// stable one; a version that is not in it never was.
func sumUp(dir string, stableSince map[string]time.Time) (Sums, []appLine, error) {
	s := Sums{Versions: map[string]VersionSum{}}
	answers := map[string][]appLine{}
	var all []appLine
	logs, err := filepath.Glob(filepath.Join(dir, backendsDir, "*.jsonl"))
	if err != nil {
		return s, nil, err
	}
	if len(logs) == 0 {
		return s, nil, fmt.Errorf("%s holds no request log of a replica", filepath.Join(dir, backendsDir))
	}
	for _, name := range logs {
		err := lines(name, func(l appLine) {
			answers[l.ID] = append(answers[l.ID], l)
			all = append(all, l)
		})
		if err != nil {
			return s, nil, err
		}
	}
	// Who failed a request while another version was stable: only what that one
	// would have done well is harm. The stable versions here fail nothing, so
	// any failure of theirs shows in the sums.
	for _, l := range all {
		v := s.Versions[l.Version]
		v.Served++
		since, ever := stableSince[l.Version]
		trial := !ever || l.At.Before(since)
		if trial {
			v.OnTrial++
		}
		if l.Status > 299 {
			v.Failed++
			if trial {
				s.Harmed++
			}
		}
		s.Versions[l.Version] = v
	}
	seen := map[string]bool{}
	err = lines(filepath.Join(dir, clientFile), func(c clientLine) {
		s.Sent++
		if seen[c.ID] {
			s.Unlike++
		}
		seen[c.ID] = true
		if c.failed() {
			s.Failed++
		} else {
			s.Served++
		}
		as := answers[c.ID]
		if len(as) > 1 {
			s.Doubled++
		}
		meant := slices.ContainsFunc(as, func(a appLine) bool {
			return a.Status == c.Status && a.Version == c.Version && a.Replica == c.Replica
		})
		switch {
		case meant:
		case c.failed():
			s.FailedBySwitch++
			if len(s.Broken) < 20 {
				s.Broken = append(s.Broken, fmt.Sprintf("%s at %s: status %d after %.1f ms, %d replicas say that they answered. %s", c.ID, c.Start.Format("15:04:05.000"), c.Status, c.Ms, len(as), c.Error+c.Body))
			}
		default:
			s.Unlike++
		}
	})
	if err != nil {
		return s, nil, err
	}
	for id := range answers {
		if !seen[id] {
			s.Unlike++
		}
	}
	return s, all, nil
}

// lines reads one JSON object per line. A line that is cut off is an error: it
// is a request that cannot be accounted for.
func lines[T any](name string, each func(T)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<16))
	for n := 1; ; n++ {
		var v T
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		each(v)
	}
}
