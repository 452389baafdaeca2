package metric

import "fmt"

// Agree settles under which convention an application is counted: the one in
// force (-1 = none yet) as long as a pod of stable counts under it; else the
// first that pods of stable count under, else the first of any pod. Tallies of
// pods that gave nothing are nil.
func Agree(inForce int, stable, all []*Tally) int {
	for _, group := range [...][]*Tally{stable, all} {
		first := -1
		for _, t := range group {
			if t == nil {
				continue
			}
			if inForce >= 0 && t.SpeaksToo(inForce) {
				return inForce
			}
			if k := t.Speaks(); k >= 0 && (first < 0 || k < first) {
				first = k
			}
		}
		if first >= 0 {
			return first
		}
	}
	return inForce
}

// Lack says what is missing of a pod's figures.
type Lack uint8

// What may be missing.
const (
	Nothing    Lack = iota
	OtherNames      // it counts under another convention than the application
	NoCounters      // nobody counts requests under a convention that we know
	Malformed       // a figure cannot be right: no requests are counted
	Incomplete      // some figures are not measured
)

// Read gives the pod's figures under the convention in force, and what is
// missing of them, in words.
func (t *Tally) Read(inForce int) (Figures, Lack, string) {
	own := t.Speaks()
	if inForce >= 0 && own >= 0 && !t.SpeaksToo(inForce) {
		return t.Figures(-1), OtherNames, fmt.Sprintf("it counts under %s, the application under %s", t.names[own].ID, t.names[inForce].ID)
	}
	f := t.Figures(inForce)
	switch {
	case f.Bad != "":
		return f, Malformed, f.Bad
	case inForce < 0:
		return f, NoCounters, "no counter of requests that we know"
	case f.Lacks != "":
		return f, Incomplete, f.Lacks
	}
	return f, Nothing, ""
}

// Identity is the pod's name for the judge, which takes counters of one name
// for one series. Counts that were made by other means are another series: via
// is the source where it is not the pod itself.
func Identity(pod, via string, names []Names, inForce int) string {
	if via != "" {
		pod += "@" + via
	}
	if inForce > 0 {
		pod += "@" + names[inForce].ID
	}
	return pod
}
