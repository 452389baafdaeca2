package istio

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/serin-dev/serin/internal/rollout"
)

// Annotations on a VirtualService that are ours.
const (
	// NoteAnnotation holds the rollout.Note of our last write, as JSON.
	NoteAnnotation = "serin.dev/note"
	// KeptAnnotation holds what has to be undone at rest, as JSON: by slot, the
	// factor of its numbers, and whether its author wrote no number.
	KeptAnnotation = "serin.dev/kept"
)

// kept is what our numbers in a slot hide of its author's.
type kept struct {
	Scale int64 `json:"scale,omitempty"` // all numbers are multiplied by this
	Bare  bool  `json:"bare,omitempty"`  // the only destination had no number
}

func readNote(object map[string]any) *rollout.Note {
	raw := text(object, "metadata", "annotations", NoteAnnotation)
	if raw == "" {
		return nil
	}
	var n rollout.Note
	if json.Unmarshal([]byte(raw), &n) != nil || n.Stable == "" || n.N < 0 || n.Weight < 0 || n.Weight > rollout.Whole {
		return nil // a stranger's
	}
	return &n
}

func readKept(object map[string]any) map[string]kept {
	out := map[string]kept{}
	if json.Unmarshal([]byte(text(object, "metadata", "annotations", KeptAnnotation)), &out) != nil {
		return map[string]kept{}
	}
	return out
}

// part is one destination of a slot.
type part struct {
	raw        map[string]any
	value      string // the version it stands for, if it is ours and not undivided
	ours       bool
	undivided  bool
	weight     int64
	weightless bool // no number is given
}

// slot is one route of a VirtualService that has a destination of ours.
type slot struct {
	kind  string // http, tls, tcp
	index int    // in the list
	key   string // its name, or its place among those that are not ours: "http/api", "tcp/0"; no other has it
	raw   map[string]any
	parts []part
}

var kinds = []string{"http", "tls", "tcp"}

// frontPrefix begins the name of every http route that is ours.
const frontPrefix = "serin-match/"

// slots lists the routes with a destination of the application, in order.
func (v View) slots(object map[string]any) []slot {
	var out []slot
	for _, kind := range kinds {
		keys := keysOf(object, kind)
		for i, r := range list(object, "spec", kind) {
			if keys[i] == "" {
				continue
			}
			s := slot{kind: kind, index: i, key: keys[i]}
			s.raw, _ = r.(map[string]any)
			mine := false
			for _, d := range list(r, "route") {
				p := part{}
				p.raw, _ = d.(map[string]any)
				p.value, p.undivided, p.ours = v.whose(at(d, "destination"))
				var known bool
				p.weight, known = number(d, "weight")
				p.weightless = !known && at(d, "weight") == nil
				mine = mine || p.ours
				s.parts = append(s.parts, p)
			}
			if mine {
				out = append(out, s)
			}
		}
	}
	return out
}

// keysOf gives each route of a kind its key; the empty one to those of ours.
func keysOf(object map[string]any, kind string) []string {
	var out []string
	place := -1
	for _, r := range list(object, "spec", kind) {
		name := text(r, "name")
		if isFront(kind, name) {
			out = append(out, "")
			continue
		}
		place++
		key := kind + "/" + name
		if name == "" || kind != "http" || slices.Contains(out, key) {
			key = kind + "/" + strconv.Itoa(place)
		}
		for slices.Contains(out, key) {
			key += "'" // somebody calls a route by the number of another
		}
		out = append(out, key)
	}
	return out
}

func isFront(kind, name string) bool { return kind == "http" && strings.HasPrefix(name, frontPrefix) }

// carrying lists the slots that carry the split: those that are named, or all.
// Where none has such a name and our note says that one had, it is those that
// are split between versions still: a route that was renamed in mid-rollout
// must be found on the way down.
func (v View) carrying(object map[string]any) []slot {
	all := v.slots(object)
	if len(v.Routes) == 0 {
		return all
	}
	isNamed := func(s slot) bool { return slices.ContainsFunc(v.Routes, s.called) }
	if readNote(object) != nil && !slices.ContainsFunc(all, isNamed) {
		isNamed = slot.isSplit
	}
	return slices.DeleteFunc(all, func(s slot) bool { return !isNamed(s) })
}

// elsewhere adds the versions that routes which do not carry the split send to.
func (v View) elsewhere(object map[string]any, to map[rollout.Revision]bool) map[rollout.Revision]bool {
	carrying := v.carrying(object)
	note := readNote(object)
	for _, s := range v.slots(object) {
		if slices.ContainsFunc(carrying, func(c slot) bool { return c.key == s.key && c.kind == s.kind }) {
			continue
		}
		for _, p := range s.parts {
			if !p.ours || p.value == "" || p.weight == 0 && len(s.parts) > 1 {
				continue
			}
			if to == nil {
				to = map[rollout.Revision]bool{}
			}
			to[v.revision(p.value, note)] = true
		}
	}
	return to
}

// isSplit: more than one version has a place in it.
func (s slot) isSplit() bool {
	first := ""
	for _, p := range s.parts {
		if p.value != "" && first != "" && p.value != first {
			return true
		}
		if first == "" {
			first = p.value
		}
	}
	return false
}

// called says whether a slot answers to a name: an http route's own; "tcp",
// "tcp:PORT", "tls", "tls:PORT" or "tls:HOST" for those that have none.
func (s slot) called(name string) bool {
	if s.kind == "http" {
		return text(s.raw, "name") == name && name != ""
	}
	kind, rest, precise := strings.Cut(name, ":")
	if kind != s.kind {
		return false
	}
	if !precise {
		return true
	}
	for _, m := range list(s.raw, "match") {
		if p, ok := number(m, "port"); ok && strconv.FormatInt(p, 10) == rest || slices.Contains(texts(m, "sniHosts"), rest) {
			return true
		}
	}
	return false
}

// String is the slot as people find it.
func (s slot) String() string {
	name := text(s.raw, "name")
	if s.kind == "http" && name != "" {
		return fmt.Sprintf("http route %q", name)
	}
	for _, m := range list(s.raw, "match") {
		if p, ok := number(m, "port"); ok && s.kind != "http" {
			return fmt.Sprintf("%s route on port %d", s.kind, p)
		}
		if hosts := texts(m, "sniHosts"); len(hosts) > 0 {
			return fmt.Sprintf("%s route for %s", s.kind, hosts[0])
		}
	}
	_, place, _ := strings.Cut(s.key, "/")
	if n, err := strconv.Atoi(place); err == nil {
		return fmt.Sprintf("%s route %d", s.kind, n+1)
	}
	return fmt.Sprintf("%s route %q", s.kind, place)
}

// sums gives what is ours and what is others'. A lone destination has
// everything, whatever its number says.
func (s slot) sums() (own, third int64) {
	if len(s.parts) == 1 {
		return max(s.parts[0].weight, 1), 0
	}
	for _, p := range s.parts {
		if p.ours {
			own += p.weight
		} else {
			third += p.weight
		}
	}
	return own, third
}

// lone: the only destination, written without a number.
func (s slot) lone() bool { return len(s.parts) == 1 && s.parts[0].weightless }

// split reads who gets how much of what is ours. What goes to all versions
// alike is nobody's, unless there is only one version.
func (v View) split(s slot, note *rollout.Note) map[rollout.Revision]rollout.Weight {
	own, _ := s.sums()
	by := map[string]int64{}
	var values []string
	for _, p := range s.parts {
		value := p.value
		if p.undivided {
			value = v.only()
		}
		if !p.ours || value == "" {
			continue
		}
		if _, met := by[value]; !met {
			values = append(values, value)
		}
		if len(s.parts) == 1 {
			by[value] = own
			continue
		}
		by[value] += p.weight
	}
	out := map[rollout.Revision]rollout.Weight{}
	if own == 0 { // others have everything: how nothing is split cannot be seen
		switch {
		case note != nil:
			return rollout.Traffic{Stable: note.Stable, Canary: note.Canary, Weight: note.Weight}.Weights()
		case len(values) == 1:
			out[v.revision(values[0], note)] = rollout.Whole
		}
		return out
	}
	// Rounded to the nearest, and what rounding leaves goes to whoever has most,
	// so that shares of everything make everything.
	rest, given, most := rollout.Weight(0), int64(0), ""
	for _, value := range values {
		n := by[value]
		w := rollout.Weight((2*n*int64(rollout.Whole) + own) / (2 * own))
		given += n
		rest -= w
		if most == "" || n > by[most] {
			most = value
		}
		if w > 0 {
			out[v.revision(value, note)] += w
		}
	}
	if given == own {
		if rest += rollout.Whole; rest != 0 && most != "" {
			out[v.revision(most, note)] += rest
		}
	}
	return out
}

// only is the value of the one version there is; empty where there are more.
func (v View) only() string {
	if len(v.Versions) != 1 {
		return ""
	}
	return v.value(v.Versions[0].Revision)
}

// Parse reads what a VirtualService gives each version, with our note. ok is
// false where no route of it carries the split. Where several do and do not
// agree, the one that gives the canary least counts (rollout.MergeRoutes);
// without a note, nobody knows who the canary is, and the mean of them says
// that the split is not clear.
func Parse(object map[string]any, v View) (route rollout.Route, ok bool) {
	note := readNote(object)
	carrying := v.carrying(object)
	if len(carrying) == 0 {
		return rollout.Route{}, false
	}
	var all []rollout.Route
	for _, s := range carrying {
		all = append(all, rollout.Route{Known: rollout.Present, Weights: v.split(s, note), Note: note})
	}
	route = merge(all)
	route.Manager = lastForeignWriter(object)
	return route, true
}

// merge sees several routes as one.
func merge(all []rollout.Route) rollout.Route {
	if len(all) == 0 {
		return rollout.Route{}
	}
	var canary rollout.Revision
	noted := false
	for _, r := range all {
		if r.Note != nil {
			noted = true
			if canary == "" {
				canary = r.Note.Canary
			}
		}
	}
	present := !slices.ContainsFunc(all, func(r rollout.Route) bool { return r.Known != rollout.Present })
	if noted || !present {
		return rollout.MergeRoutes(canary, all)
	}
	out := all[0]
	mean := map[rollout.Revision]rollout.Weight{}
	for _, r := range all {
		for rev, w := range r.Weights {
			mean[rev] += w
		}
		if out.Manager == "" {
			out.Manager = r.Manager
		}
	}
	for rev := range mean {
		mean[rev] /= rollout.Weight(len(all))
	}
	out.Weights = mean
	return out
}

// FieldManager is the name under which we write.
const FieldManager = "serin"

// lastForeignWriter is the manager of the newest write to the routes, where it
// was not ours and managedFields are there; else empty.
func lastForeignWriter(object map[string]any) string {
	manager, newest := "", ""
	for _, f := range list(object, "metadata", "managedFields") {
		spec, ok := at(f, "fieldsV1", "f:spec").(map[string]any)
		if !ok || text(f, "subresource") != "" {
			continue
		}
		owns := false
		for _, kind := range kinds {
			_, there := spec["f:"+kind]
			owns = owns || there
		}
		when, who := text(f, "time"), text(f, "manager") // RFC 3339 in UTC: sorts as text
		if owns && (when > newest || when == newest && manager == FieldManager || manager == "") {
			manager, newest = who, when
		}
	}
	if manager == FieldManager {
		return ""
	}
	return manager
}
