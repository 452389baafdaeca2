package istio

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Version is one version of the application: its revision, and the labels of
// its pods.
type Version struct {
	Revision rollout.Revision
	Labels   map[string]string
}

// Service is what is known about one Service.
type Service struct {
	Name, Namespace string
	Selector        map[string]string
	Ports           []int32   // that callers use
	Created         time.Time // zero: long ago
}

// Subset is one subset of a DestinationRule.
type Subset struct {
	Name   string
	Labels map[string]string
	raw    map[string]any
}

// Rule is a DestinationRule as far as it matters here.
type Rule struct {
	Host    string // canonical
	Subsets []Subset
}

// ReadRule reads a DestinationRule.
func ReadRule(object map[string]any) Rule {
	r := Rule{Host: canonical(text(object, "spec", "host"), text(object, "metadata", "namespace"))}
	for _, s := range list(object, "spec", "subsets") {
		raw, _ := s.(map[string]any) // what is no subset keeps its place
		r.Subsets = append(r.Subsets, Subset{Name: text(raw, "name"), Labels: textMap(raw, "labels"), raw: raw})
	}
	return r
}

// View is what a VirtualService is read against. Whoever has the same view of
// the same object reads and writes the same.
type View struct {
	Namespace string    // of the VirtualService
	Routes    []string  // those that carry the split; empty: the only one that can
	Label     string    // of the pods, tells the versions apart
	Versions  []Version // those that are there
	Rule      *Rule     // nil: versions are told apart by Services of their own
	Services  []Service // of the namespace; needed for hosts other than the rule's
}

// value is what a revision's pods carry under the label.
func (v View) value(rev rollout.Revision) string {
	for _, one := range v.Versions {
		if one.Revision == rev {
			if val := one.Labels[v.Label]; val != "" {
				return val
			}
		}
	}
	return rev.Label()
}

// revision is whom a label's value stands for. The note comes first: a split
// is of the revisions that it was made for, also when one of them has got
// another template since.
func (v View) revision(value string, note *rollout.Note) rollout.Revision {
	if note != nil {
		for _, rev := range []rollout.Revision{note.Stable, note.Canary} {
			if rev != "" && v.value(rev) == value {
				return rev
			}
		}
	}
	for _, one := range v.Versions {
		if v.value(one.Revision) == value {
			return one.Revision
		}
	}
	return rollout.NewRevision(value, "")
}

// whose says what a destination is: a version's (value), undivided between all
// versions of the application, or a third one.
func (v View) whose(destination any) (value string, undivided, ours bool) {
	host, subset := canonical(text(destination, "host"), v.Namespace), text(destination, "subset")
	if v.Rule != nil && host == v.Rule.Host {
		if subset == "" {
			return "", true, true
		}
		value, ours = v.valueOf(subset)
		return value, false, ours
	}
	name, namespace, ok := serviceOf(host)
	if !ok || subset != "" || v.Rule != nil {
		return "", false, false
	}
	s := v.service(name, namespace)
	if s == nil {
		value = v.calledLike(name, namespace)
		return value, false, value != ""
	}
	if value := v.selected(s.Selector); value != "" {
		return value, false, true
	}
	undivided = v.ofTheApplication(s.Selector)
	return "", undivided, undivided
}

func (v View) service(name, namespace string) *Service {
	i := slices.IndexFunc(v.Services, func(s Service) bool { return s.Name == name && s.Namespace == namespace })
	if i < 0 {
		return nil
	}
	return &v.Services[i]
}

// calledLike is the version that a Service which is not there stands for: the
// one after which it is called as the Service of another version is called
// after that one. It was there, or its author means to add it; to take it for
// somebody else's would be to divide what is left over once more.
func (v View) calledLike(name, namespace string) string {
	for _, one := range v.Versions {
		value := v.value(one.Revision)
		for _, s := range v.Services {
			if had := v.selected(s.Selector); had != "" && had != value && s.Namespace == namespace && renamed(s.Name, had, value) == name {
				return value
			}
		}
	}
	return ""
}

// renamed is what the Service of one version would be called if it were
// another's; empty where its name does not say whose it is.
func renamed(name, from, to string) string {
	from, to = strings.ToLower(from), strings.ToLower(to)
	if from == "" || !strings.Contains(name, from) {
		return ""
	}
	return strings.ReplaceAll(name, from, to)
}

// valueOf is the version that a subset of the rule stands for. A subset that
// the rule does not have stands for the version of its name: it was ours, or
// its author means to add it.
func (v View) valueOf(subset string) (value string, ours bool) {
	for _, s := range v.Rule.Subsets {
		if s.Name == subset {
			value = v.selected(s.Labels)
			return value, value != ""
		}
	}
	for _, one := range v.Versions {
		if value := v.value(one.Revision); subsetName(value) == subset {
			return value, true
		}
	}
	return strings.TrimPrefix(subset, ownPrefix), true
}

// selected is the one version whose pods labels select: the label's own value,
// or, without it, the only version with pods like that.
func (v View) selected(labels map[string]string) string {
	if value := labels[v.Label]; value != "" {
		if len(v.Versions) == 0 || v.consistent(labels) {
			return value
		}
		return ""
	}
	found := ""
	for _, one := range v.Versions {
		if len(labels) > 0 && contains(one.Labels, labels) {
			if found != "" && found != v.value(one.Revision) {
				return ""
			}
			found = v.value(one.Revision)
		}
	}
	return found
}

// consistent: apart from the version label there is nothing that the pods of
// every version contradict. Another application may use the same label.
func (v View) consistent(labels map[string]string) bool {
	for k, want := range labels {
		if k == v.Label {
			continue
		}
		contradicted := true
		for _, one := range v.Versions {
			if got, there := one.Labels[k]; !there || got == want {
				contradicted = false
			}
		}
		if contradicted {
			return false
		}
	}
	return true
}

// ofTheApplication: a selector that takes in pods of all versions.
func (v View) ofTheApplication(selector map[string]string) bool {
	if len(selector) == 0 || len(v.Versions) == 0 {
		return false
	}
	for _, one := range v.Versions {
		if !contains(one.Labels, selector) {
			return false
		}
	}
	return true
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return true
}

// ---- Subsets ----

// ownPrefix begins the name of every subset that is ours.
const ownPrefix = "serin-"

// subsetName is the name of our subset for a version: a DNS label, and another
// one for every value.
func subsetName(value string) string {
	name := ownPrefix + value
	if value == "" || len(name) > 63 || !isDNSLabel(name) {
		sum := sha256.Sum256([]byte(value))
		plain := strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
				return r
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return '-'
		}, value)
		name = ownPrefix + strings.Trim(plain[:min(len(plain), 40)], "-") + "-x" + hex.EncodeToString(sum[:5])
	}
	return name
}

func isDNSLabel(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (r != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// subset is the name that a route gives a version, and whether the rule has it.
// Of several subsets for the version it is the one that differs from the
// neighbour's least.
func (v View) subset(value string, neighbour *Subset) (name string, there bool) {
	best := -1
	for _, s := range v.Rule.Subsets {
		if s.Name == "" || v.selected(s.Labels) != value {
			continue
		}
		likeness := 0
		if neighbour != nil {
			if v.alike(s.Labels, neighbour.Labels) {
				likeness += 2
			}
			if same(s.raw["trafficPolicy"], neighbour.raw["trafficPolicy"]) {
				likeness++
			}
		}
		if likeness > best {
			name, best = s.Name, likeness
		}
	}
	if best >= 0 {
		return name, true
	}
	name = subsetName(value)
	for n := 2; v.taken(name); n++ {
		name = fmt.Sprintf("%s-%d", subsetName(value)[:min(len(subsetName(value)), 60)], n)
	}
	return name, false
}

// taken: a subset of that name is there and stands for something else.
func (v View) taken(name string) bool {
	return slices.ContainsFunc(v.Rule.Subsets, func(s Subset) bool { return s.Name == name })
}

// alike: the same labels, the version apart.
func (v View) alike(a, b map[string]string) bool {
	a, b = maps.Clone(a), maps.Clone(b)
	delete(a, v.Label)
	delete(b, v.Label)
	return maps.Equal(a, b)
}

// neighbour is the subset that a new one is made like: the first of the
// version.
func (v View) neighbour(value string) *Subset {
	for i, s := range v.Rule.Subsets {
		if s.Name != "" && v.selected(s.Labels) == value {
			return &v.Rule.Subsets[i]
		}
	}
	return nil
}

// fresh is the subset of ours for a version: like the neighbour in all that is
// not the version, its traffic policy too, so that like is compared with like.
func (v View) fresh(value string, neighbour *Subset) map[string]any {
	out := map[string]any{}
	if neighbour != nil {
		out, _ = clone(neighbour.raw).(map[string]any)
	}
	labels := map[string]any{}
	if neighbour != nil && neighbour.Labels[v.Label] != "" {
		for k, val := range neighbour.Labels {
			if k == v.Label || v.carries(value, k, val) {
				labels[k] = val
			}
		}
	}
	labels[v.Label] = value
	out["labels"] = labels
	out["name"], _ = v.subset(value, neighbour)
	return out
}

// carries: the version's pods have this label, as far as is known.
func (v View) carries(value, key, want string) bool {
	for _, one := range v.Versions {
		if v.value(one.Revision) == value {
			return one.Labels[key] == want
		}
	}
	return true
}

// RenderRule is the patch that gives the rule the subsets which a split needs,
// made like stable's. Nothing that is there is changed or moved.
func RenderRule(object map[string]any, want rollout.Traffic, v View) Patch {
	if v.Rule == nil {
		return nil
	}
	var e edit
	n := len(v.Rule.Subsets)
	neighbour := v.neighbour(v.value(want.Stable))
	var added []any
	for _, value := range v.named(want) {
		if _, there := v.subset(value, neighbour); !there {
			added = append(added, v.fresh(value, neighbour))
		}
	}
	switch {
	case len(added) == 0:
	case n == 0:
		e.insert(added, "spec", "subsets")
	default:
		for _, s := range added {
			e.insert(s, "spec", "subsets", n)
			n++
		}
	}
	return e.of(object)
}

// named lists the versions that a route may name under a split: stable, the
// canary and, as long as they drain, those that are kept.
func (v View) named(t rollout.Traffic) []string {
	var out []string
	for _, rev := range append([]rollout.Revision{t.Stable, t.Canary}, t.Keep...) {
		if value := v.value(rev); rev != "" && !slices.Contains(out, value) {
			out = append(out, value)
		}
	}
	return out
}

// PruneRule is the patch that takes away the subsets of ours that stand for
// nobody any more: no version there is, none of the split, and no reference in
// the routes.
func PruneRule(object map[string]any, want rollout.Traffic, v View, routes ...map[string]any) Patch {
	if v.Rule == nil {
		return nil
	}
	needed := map[string]bool{}
	for _, value := range v.named(want) {
		needed[value] = true
	}
	for _, one := range v.Versions {
		needed[v.value(one.Revision)] = true
	}
	var e edit
	for i := len(v.Rule.Subsets) - 1; i >= 0; i-- {
		s := v.Rule.Subsets[i]
		value := s.Labels[v.Label]
		mine := value != "" && (s.Name == subsetName(value) || strings.HasPrefix(s.Name, subsetName(value)+"-"))
		if !mine || needed[value] || slices.ContainsFunc(routes, func(r map[string]any) bool { return mentions(r, s.Name) }) {
			continue
		}
		e.test(s.Name, "spec", "subsets", i, "name")
		e.remove("spec", "subsets", i)
	}
	return e.of(object)
}

// mentions: somewhere in the object a subset of that name is referred to.
func mentions(o any, subset string) bool {
	switch o := o.(type) {
	case map[string]any:
		for k, v := range o {
			if s, ok := v.(string); ok && k == "subset" && s == subset || mentions(v, subset) {
				return true
			}
		}
	case []any:
		for _, v := range o {
			if mentions(v, subset) {
				return true
			}
		}
	}
	return false
}
