package istio

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Op is one operation of a JSON Patch (RFC 6902).
type Op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"` // a removal has none
}

// Patch is a JSON Patch. An empty one changes nothing.
type Patch []Op

// JSON is the patch as it is sent.
func (p Patch) JSON() ([]byte, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding a JSON Patch: %w", err)
	}
	return raw, nil
}

// edit collects the tests and the changes of a patch.
type edit struct{ ops Patch }

// pointer is a path as JSON Pointer has it; numbers are positions.
func pointer(path ...any) string {
	var b strings.Builder
	for _, p := range path {
		b.WriteByte('/')
		switch p := p.(type) {
		case int:
			b.WriteString(strconv.Itoa(p))
		case string:
			b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(p))
		}
	}
	return b.String()
}

// test states what was read there; nothing where nothing was.
func (e *edit) test(v any, path ...any) {
	if v != nil {
		e.ops = append(e.ops, Op{"test", pointer(path...), v})
	}
}

// set makes a member what it is to be, after testing what it was.
func (e *edit) set(was, want any, path ...any) {
	switch {
	case was == nil:
		e.ops = append(e.ops, Op{"add", pointer(path...), want})
	case !same(was, want):
		e.test(was, path...)
		e.ops = append(e.ops, Op{"replace", pointer(path...), want})
	}
}

func (e *edit) insert(v any, path ...any) {
	e.ops = append(e.ops, Op{"add", pointer(path...), v})
}

func (e *edit) remove(path ...any) {
	e.ops = append(e.ops, Op{Op: "remove", Path: pointer(path...)})
}

// annotate sets annotations; an empty value takes one away.
func (e *edit) annotate(object map[string]any, values map[string]string) {
	all, _ := at(object, "metadata", "annotations").(map[string]any)
	fresh := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
		was, there := all[key]
		switch {
		case value == "" && !there:
		case value == "":
			e.test(was, "metadata", "annotations", key)
			e.remove("metadata", "annotations", key)
		case len(all) == 0:
			fresh[key] = value
		default:
			e.set(was, value, "metadata", "annotations", key)
		}
	}
	if len(fresh) > 0 {
		e.insert(fresh, "metadata", "annotations")
	}
}

// of is the patch for an object: empty where nothing changes, else fenced by
// the version that was read.
func (e *edit) of(object map[string]any) Patch {
	changes := false
	for _, op := range e.ops {
		changes = changes || op.Op != "test"
	}
	if !changes {
		return nil
	}
	if v := text(object, "metadata", "resourceVersion"); v != "" {
		return append(Patch{{"test", "/metadata/resourceVersion", v}}, e.ops...)
	}
	return e.ops
}
