package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// story is what a demo says of itself, in story.json.
type story struct {
	Sums         Sums                 `json:"sums"`
	StableSince  map[string]time.Time `json:"stableSince"`
	Expectations []Expectation        `json:"expectations"`
}

// Check computes a demo's sums again from the request ids in both ends' logs,
// and compares them with what the demo said. The error names what differs, and
// every request that failed because of a switch.
func Check(_ context.Context, dir string, out io.Writer) error {
	b, err := os.ReadFile(filepath.Join(dir, storyFile))
	if err != nil {
		return fmt.Errorf("%s is not what a demo has left: %w", dir, err)
	}
	var told story
	if err := json.Unmarshal(b, &told); err != nil {
		return fmt.Errorf("%s: %w", storyFile, err)
	}
	sums, _, err := sumUp(dir, told.StableSince)
	if err != nil {
		return err
	}
	var wrong []string
	same := func(what string, counted, said int) {
		if counted == said {
			return
		}
		wrong = append(wrong, fmt.Sprintf("%s: the logs say %d, the demo said %d", what, counted, said))
	}
	same("requests sent", sums.Sent, told.Sums.Sent)
	same("requests served", sums.Served, told.Sums.Served)
	same("requests failed", sums.Failed, told.Sums.Failed)
	same("requests harmed", sums.Harmed, told.Sums.Harmed)
	same("requests failed because of a switch", sums.FailedBySwitch, told.Sums.FailedBySwitch)
	same("requests answered twice", sums.Doubled, told.Sums.Doubled)
	same("requests told differently by both ends", sums.Unlike, told.Sums.Unlike)
	labels := map[string]bool{}
	for _, m := range []map[string]VersionSum{sums.Versions, told.Sums.Versions} {
		for v := range m {
			labels[v] = true
		}
	}
	for _, v := range slices.Sorted(maps.Keys(labels)) {
		c, s := sums.Versions[v], told.Sums.Versions[v]
		same(v+" served", c.Served, s.Served)
		same(v+" failed", c.Failed, s.Failed)
		same(v+" on trial", c.OnTrial, s.OnTrial)
	}
	for _, n := range []struct {
		what string
		n    int
	}{
		{"failed because of a switch", sums.FailedBySwitch},
		{"were answered twice", sums.Doubled},
		{"are told differently by both ends", sums.Unlike},
	} {
		if n.n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d requests %s", n.n, n.what))
		}
	}
	if sums.Sent == 0 {
		wrong = append(wrong, "no request was sent: nothing was shown")
	}
	printSums(out, sums)
	for _, e := range told.Expectations {
		if !e.Met {
			wrong = append(wrong, "the demo itself said that this did not come true: "+e.What)
		}
	}
	if wrong != nil {
		return fmt.Errorf("the demo in %s does not hold up:\n  %s", dir, strings.Join(wrong, "\n  "))
	}
	fmt.Fprintf(out, "checked: %d requests by their ids at both ends, the same sums as the demo told\n", sums.Sent)
	return nil
}

func printSums(w io.Writer, s Sums) {
	fmt.Fprintf(w, "  %-34s %7d\n", "requests sent", s.Sent)
	fmt.Fprintf(w, "  %-34s %7d\n", "served", s.Served)
	fmt.Fprintf(w, "  %-34s %7d\n", "failed", s.Failed)
	for _, v := range slices.Sorted(maps.Keys(s.Versions)) {
		x := s.Versions[v]
		fmt.Fprintf(w, "  %-34s %7d   %d failed, %d while on trial\n", "answered by "+v, x.Served, x.Failed, x.OnTrial)
	}
	fmt.Fprintf(w, "  %-34s %7d\n", "harmed by a version on trial", s.Harmed)
	fmt.Fprintf(w, "  %-34s %7d\n", "failed because of a switch", s.FailedBySwitch)
	for _, b := range s.Broken {
		fmt.Fprintf(w, "    %s\n", b)
	}
}
