package istio

import (
	"slices"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Target is one VirtualService and what it splits.
type Target struct {
	VirtualService  string
	DestinationRule string        // empty: one Service for each version
	Routes          []string      // http routes by name; "tcp", "tcp:PORT", "tls", "tls:PORT", "tls:HOST". Empty: the only one
	Settle          time.Duration // how long proxies take to learn of a change
}

// Scene is one target as it was read.
type Scene struct {
	Target
	Root      map[string]any // the VirtualService; nil: there is none
	Delegates []Delegate
	Rule      map[string]any // the DestinationRule; nil: there is none, or none is named
	View      View
}

// Delegate is a VirtualService that an http route of the root hands over to.
type Delegate struct {
	Name, Namespace string
	Object          map[string]any // nil: there is none
	Foreign         bool           // of another namespace: neither read nor written
}

// objects lists the VirtualServices that there are: the root first.
func (s Scene) objects() []map[string]any {
	var out []map[string]any
	if s.Root != nil {
		out = append(out, s.Root)
	}
	for _, d := range s.Delegates {
		if d.Object != nil {
			out = append(out, d.Object)
		}
	}
	return out
}

// delegatesOf lists whom the root hands over to, each once.
func delegatesOf(root map[string]any, namespace string) []Delegate {
	var out []Delegate
	for _, h := range list(root, "spec", "http") {
		d := Delegate{Name: text(h, "delegate", "name"), Namespace: text(h, "delegate", "namespace")}
		if d.Namespace == "" {
			d.Namespace = namespace
		}
		d.Foreign = d.Namespace != namespace
		if d.Name != "" && !slices.ContainsFunc(out, func(o Delegate) bool { return o.Name == d.Name && o.Namespace == d.Namespace }) {
			out = append(out, d)
		}
	}
	return out
}

// holds says whether everything is there that a split asks for.
func (s Scene) holds(object map[string]any, want rollout.Traffic) bool {
	patch, err := Render(object, want, s.View)
	return err == nil && len(patch) == 0 && len(RenderRule(s.Rule, want, s.View)) == 0
}

// whole says whether all requests to the application that the VirtualService
// sees go through routes that carry the split.
func (s Scene) whole() bool {
	for _, object := range s.objects() {
		if len(s.View.slots(object)) != len(s.View.carrying(object)) {
			return false
		}
	}
	return true
}

// lowers: nowhere does the split give the canary more than it has.
func (s Scene) lowers(want rollout.Traffic) bool {
	for _, object := range s.objects() {
		note := want.Note()
		for _, slot := range s.View.carrying(object) {
			now := s.View.split(slot, &note)
			for rev, w := range want.Weights() {
				if rev != want.Stable && w > now[rev] {
					return false
				}
			}
		}
	}
	return true
}

// reads takes over a DestinationRule as it is now.
func (s *Scene) reads(object map[string]any) {
	rule := ReadRule(object)
	s.Rule, s.View.Rule = object, &rule
}

// ours: we have written here before.
func (s Scene) ours() bool {
	return slices.ContainsFunc(s.objects(), func(o map[string]any) bool { return readNote(o) != nil })
}

func (s *Scene) replace(name string, object map[string]any) {
	if text(s.Root, "metadata", "name") == name {
		s.Root = object
	}
	for i := range s.Delegates {
		if s.Delegates[i].Name == name && s.Delegates[i].Object != nil {
			s.Delegates[i].Object = object
		}
	}
}

// takes: somebody other than stable has more now than the split gives it, and
// nobody gains but stable.
func (s Scene) takes(object map[string]any, want rollout.Traffic) bool {
	if !s.lowers(want) {
		return false
	}
	note, weights := want.Note(), want.Weights()
	for _, slot := range s.View.carrying(object) {
		for rev, w := range s.View.split(slot, &note) {
			if rev != want.Stable && w > weights[rev] {
				return true
			}
		}
	}
	return false
}

// stands: the split takes traffic from others than stable, and gives to nobody
// for whom the rule has no subset.
func (s Scene) stands(want rollout.Traffic) bool {
	if !slices.ContainsFunc(s.objects(), func(o map[string]any) bool { return s.takes(o, want) }) {
		return false
	}
	for rev, w := range want.Weights() {
		if _, there := s.View.subset(s.View.value(rev), nil); w > 0 && !there {
			return false
		}
	}
	return true
}
