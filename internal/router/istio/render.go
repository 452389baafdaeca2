package istio

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// Render is the patch that puts the split in force in every route of the
// VirtualService that carries it, with its note. It is empty where all that is
// so already, and where no route carries a split.
//
// It is an error of kind engine.ErrRefused, and nothing is written, where the
// split cannot be said: two of its versions have the same label, a version has
// no Service of its own, the share is too small to be divided, a match cannot be
// joined with the route's own.
func Render(object map[string]any, want rollout.Traffic, v View) (Patch, error) {
	carrying := v.carrying(object)
	if len(carrying) == 0 {
		return nil, nil
	}
	if want.Canary != "" && v.value(want.Canary) == v.value(want.Stable) {
		return nil, fmt.Errorf("%w: %s and %s both have pods with %s=%s, so no route can tell them apart", engine.ErrRefused, want.Stable, want.Canary, v.Label, v.value(want.Stable))
	}
	if want.Weight < 0 || want.Weight > rollout.Whole {
		return nil, fmt.Errorf("%w: the canary's weight %d is not between 0 and %d", engine.ErrRefused, want.Weight, rollout.Whole)
	}
	var e edit
	keep := readKept(object)
	maps.DeleteFunc(keep, func(key string, _ kept) bool { // what is gone hides nothing
		return !slices.ContainsFunc(carrying, func(s slot) bool { return s.key == key })
	})
	fronts := map[string]map[string]any{} // by the key of the slot behind it
	for _, s := range carrying {
		done, k, err := v.divide(s, want, keep[s.key])
		if err == nil {
			e.route(s, done)
		}
		if err == nil && want.Match != nil && s.kind == "http" && want.Canary != "" {
			fronts[s.key], err = v.front(s, done, want)
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", s, text(object, "metadata", "name"), err)
		}
		delete(keep, s.key)
		if k != (kept{}) {
			keep[s.key] = k
		}
	}
	e.fronts(object, fronts)

	note, err := json.Marshal(want.Note())
	if err != nil {
		return nil, fmt.Errorf("encoding the note: %w", err)
	}
	hidden := ""
	if len(keep) > 0 {
		raw, err := json.Marshal(keep)
		if err != nil {
			return nil, fmt.Errorf("encoding what is kept: %w", err)
		}
		hidden = string(raw)
	}
	if sameNote(readNote(object), want.Note()) { // whatever the order of its members
		note = []byte(text(object, "metadata", "annotations", NoteAnnotation))
	}
	e.annotate(object, map[string]string{NoteAnnotation: string(note), KeptAnnotation: hidden})
	return e.of(object), nil
}

func sameNote(a *rollout.Note, b rollout.Note) bool {
	return a != nil && a.N == b.N && a.Stable == b.Stable && a.Canary == b.Canary && a.Weight == b.Weight && slices.Equal(a.Condemned, b.Condemned)
}

// placed is a destination as it is to be.
type placed struct {
	from   int            // position in the slot; -1: new
	raw    map[string]any // as it was, or what a new one is made of
	weight int64
	bare   bool   // without a number
	subset string // to be set; empty: as it is
	host   string // the same
	third  bool
	value  string
}

// divide says what the destinations of a slot are to be, and what its numbers
// then hide.
func (v View) divide(s slot, want rollout.Traffic, hidden kept) ([]placed, kept, error) {
	own, third := s.sums()
	switch {
	case s.lone():
		own, hidden = 100, kept{Bare: true}
	case len(s.parts) == 1 && s.parts[0].weight == 0, own == 0 && third == 0:
		own = 100
	}
	own, third, before := base(s, own, third, hidden.Scale)
	scale, err := scaleFor(own, third, want)
	if err != nil {
		return nil, kept{}, err
	}
	total := own * scale
	canary := int64(0)
	if want.Canary != "" {
		canary = units(total, want.Weight)
	}
	numbers := map[string]int64{v.value(want.Stable): total - canary}
	if want.Canary != "" {
		numbers[v.value(want.Canary)] = canary
	}
	wanted := v.named(want)

	// What is there already stays where it is.
	var out []placed
	found := map[string]bool{}
	stable := v.value(want.Stable)
	hasStable := slices.ContainsFunc(s.parts, func(p part) bool { return p.ours && p.value == stable })
	last := -1 // after whom new ones come
	for i, p := range s.parts {
		d := placed{from: i, raw: p.raw, value: p.value}
		switch {
		case !p.ours:
			d.third, d.weight = true, p.weight/before*scale
		case p.undivided && !hasStable && !found[stable]:
			d.value = stable
			if d.host, d.subset, err = v.address(stable, stable, p.raw); err != nil {
				return nil, kept{}, err
			}
			found[stable], d.weight = true, numbers[stable]
		case p.undivided, !slices.Contains(wanted, p.value):
			continue
		case found[p.value]:
			d.weight = 0 // a second one for the same version
		default:
			found[p.value], d.weight = true, numbers[p.value]
			if v.Rule != nil && !v.taken(text(p.raw, "destination", "subset")) {
				// The rule has lost it, or never had it: the one that stands for
				// the version is the one to name.
				d.subset, _ = v.subset(p.value, v.neighbour(stable))
			}
		}
		out = append(out, d)
		if p.ours {
			last = len(out) - 1
		}
	}
	model := v.model(s, stable)
	for _, d := range out {
		if d.value == stable {
			model = d.raw
			break
		}
	}
	for _, value := range wanted {
		left := slices.ContainsFunc(out, func(d placed) bool { return !d.third })
		if found[value] || numbers[value] == 0 && (value != stable || left) {
			continue // at 0, and not there: need not be named; but one of ours keeps our place
		}
		d := placed{from: -1, raw: model, value: value, weight: numbers[value]}
		if d.host, d.subset, err = v.address(value, stable, model); err != nil {
			return nil, kept{}, err
		}
		last++
		out = slices.Insert(out, last, d)
	}

	hidden = kept{Bare: hidden.Bare}
	if scale > 1 {
		hidden.Scale = scale
	}
	if len(out) == 1 && hidden.Bare {
		out[0].bare, hidden.Bare = true, false
	}
	return out, hidden, nil
}

// model is the destination of ours that new ones are made like: stable's, else
// the one with most.
func (v View) model(s slot, stable string) map[string]any {
	best := part{weight: -1}
	for _, p := range s.parts {
		if p.ours && p.value == stable {
			return p.raw
		}
		if p.ours && p.weight > best.weight {
			best = p
		}
	}
	return best.raw
}

// address is how a destination that is made like another names a version. What
// need not change is empty.
func (v View) address(value, stable string, like map[string]any) (host, subset string, err error) {
	if v.Rule != nil {
		subset, _ = v.subset(value, v.neighbour(stable))
		return "", subset, nil
	}
	found := v.own(value)
	old := text(like, "destination", "host")
	name, _, _ := serviceOf(canonical(old, v.Namespace))
	if had, _, _ := v.whose(at(like, "destination")); had != "" && len(found) > 1 {
		if wish := renamed(name, had, value); slices.Contains(found, wish) {
			found = []string{wish}
		}
	}
	switch len(found) {
	case 1:
		_, domain, _ := strings.Cut(old, ".")
		if host = found[0]; domain != "" {
			host += "." + domain
		}
		return host, "", nil
	case 0:
		return "", "", fmt.Errorf("%w: no Service in %s selects the pods with %s=%s and no others", engine.ErrRefused, v.Namespace, v.Label, value)
	}
	return "", "", fmt.Errorf("%w: the Services %s all select the pods with %s=%s, and none of them is called as %s is", engine.ErrRefused, strings.Join(found, ", "), v.Label, value, name)
}

// own lists the Services that stand for a version and for no other.
func (v View) own(value string) []string {
	var out []string
	for _, s := range v.Services {
		if s.Namespace == v.Namespace && value != "" && v.selected(s.Selector) == value {
			out = append(out, s.Name)
		}
	}
	return out
}

// base is what the numbers of a slot were before we multiplied them by the
// factor. A hand may have written others since: then these count.
func base(s slot, own, third, scale int64) (ownBase, thirdBase, factor int64) {
	if scale <= 1 || own%scale != 0 {
		return own, third, 1
	}
	for _, p := range s.parts {
		if !p.ours && p.weight%scale != 0 {
			return own, third, 1
		}
	}
	return own / scale, third / scale, scale
}

// units is the canary's number out of a total, to the nearest; never more where
// two are as near.
func units(total int64, w rollout.Weight) int64 {
	return (2*total*int64(w) + int64(rollout.Whole) - 1) / (2 * int64(rollout.Whole))
}

// scaleFor is the least power of ten by which the numbers must be multiplied
// for the split to be exact, or, where they are large anyway, to be exact to
// 1/10000.
func scaleFor(own, third int64, want rollout.Traffic) (int64, error) {
	if own == 0 || want.Canary == "" {
		return 1, nil
	}
	for scale := int64(1); scale <= int64(rollout.Whole) && (own+third)*scale <= maxWeight; scale *= 10 {
		if own*scale*int64(want.Weight)%int64(rollout.Whole) == 0 {
			return scale, nil
		}
	}
	n := units(own, want.Weight)
	seen := (2*n*int64(rollout.Whole) + own) / (2 * own)
	if seen != int64(want.Weight) || n == 0 || n == own {
		return 0, fmt.Errorf("%w: %s of %d parts among %d cannot be said in whole numbers up to %d: write smaller numbers for the other destinations", engine.ErrRefused, want.Weight, own, own+third, maxWeight)
	}
	return 1, nil
}

// route makes the destinations of a slot what they are to be.
func (e *edit) route(s slot, want []placed) {
	stays := map[int]bool{}
	for _, d := range want {
		if d.from < 0 {
			continue
		}
		stays[d.from] = true
		p := s.parts[d.from]
		path := func(more ...any) []any { return append([]any{"spec", s.kind, s.index, "route", d.from}, more...) }
		touched := d.host != "" || d.subset != "" || d.weight != p.weight || d.bare != p.weightless
		if !touched {
			continue
		}
		e.identify(p, path)
		if d.subset != "" {
			e.set(at(p.raw, "destination", "subset"), d.subset, path("destination", "subset")...)
		}
		if d.host != "" {
			e.set(at(p.raw, "destination", "host"), d.host, path("destination", "host")...)
		}
		switch was := p.raw["weight"]; {
		case d.bare && was != nil:
			e.test(was, path("weight")...)
			e.remove(path("weight")...)
		case !d.bare && (d.weight != p.weight || p.weightless && d.weight != 0):
			e.set(was, d.weight, path("weight")...)
		}
	}
	for i := len(s.parts) - 1; i >= 0; i-- {
		if !stays[i] {
			path := func(more ...any) []any { return append([]any{"spec", s.kind, s.index, "route", i}, more...) }
			e.identify(s.parts[i], path)
			e.test(s.parts[i].raw["weight"], path("weight")...)
			e.remove(path()...)
		}
	}
	for i, d := range want {
		if d.from < 0 {
			e.insert(d.object(), "spec", s.kind, s.index, "route", i)
		}
	}
}

// identify tests that a destination is still the one that was read.
func (e *edit) identify(p part, path func(...any) []any) {
	e.test(at(p.raw, "destination", "host"), path("destination", "host")...)
	e.test(at(p.raw, "destination", "subset"), path("destination", "subset")...)
}

// object is a destination as it is written: like its model in all that is not
// host, subset or number.
func (d placed) object() map[string]any {
	out, _ := clone(d.raw).(map[string]any)
	if out == nil {
		out = map[string]any{}
	}
	destination, _ := out["destination"].(map[string]any)
	if destination == nil {
		destination = map[string]any{}
		out["destination"] = destination
	}
	if d.host != "" {
		destination["host"] = d.host
	}
	if d.subset != "" {
		destination["subset"] = d.subset
	}
	if out["weight"] = d.weight; d.bare {
		delete(out, "weight")
	}
	return out
}
