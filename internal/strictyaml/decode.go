package strictyaml

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Unknown says what happens to fields that the Go type does not have.
type Unknown bool

// What happens to unknown fields.
const (
	Refuse Unknown = false
	Skip   Unknown = true // the caller has looked at them
)

// Decode fills into, a pointer to a struct, from the document by its json tags.
func (d *Document) Decode(into any, unknown Unknown) []Problem {
	dec := decoder{unknown: unknown}
	dec.value(d.root, reflect.ValueOf(into).Elem(), "")
	return dec.problems
}

type decoder struct {
	unknown  Unknown
	problems []Problem
}

func (d *decoder) add(n *yaml.Node, path, format string, args ...any) {
	if len(d.problems) < MaxProblems {
		d.problems = append(d.problems, Problem{Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	n = deref(n)
	if isNull(n) {
		return // as in Kubernetes: null is "not given"
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		before := len(d.problems)
		d.value(n, p.Elem(), path)
		if len(d.problems) == before || p.Elem().Kind() == reflect.Struct {
			v.Set(p)
		}
		return
	}
	if v.CanAddr() && v.Addr().Type().Implements(unmarshaler) {
		d.own(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.add(n, path, "a list is meant, this is %s", describe(n))
			return
		}
		s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, e := range n.Content {
			d.value(e, s.Index(i), index(path, i))
		}
		v.Set(s)
	default:
		d.scalar(n, v, path)
	}
}

// own lets a type that reads JSON read its part.
func (d *decoder) own(n *yaml.Node, v reflect.Value, path string) {
	var b strings.Builder
	if err := writeJSON(&b, n); err != nil {
		d.add(n, path, "%s", err)
		return
	}
	if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON([]byte(b.String())); err != nil {
		v.SetZero()
		d.add(n, path, "%s", err)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.add(n, path, "fields are meant, this is %s", describe(n))
		return
	}
	fields := map[string][]int{}
	fieldsOf(v.Type(), nil, fields)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := deref(n.Content[i]).Value
		at, ok := fields[key]
		if !ok {
			if d.unknown == Refuse {
				d.add(n.Content[i], Join(path, key), "%s", UnknownField(keys(fields), key))
				if near := Nearest(keys(fields), key); near != "" {
					d.problems[len(d.problems)-1].Meant = Join(path, near)
				}
			}
			continue
		}
		d.value(n.Content[i+1], v.FieldByIndex(at), Join(path, key))
	}
}

// fieldsOf collects the json names of a struct; embedded structs without a
// name of their own are part of it.
func fieldsOf(t reflect.Type, at []int, into map[string][]int) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		here := append(append([]int{}, at...), i)
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			fieldsOf(f.Type, here, into)
		case name != "":
			into[name] = here
		}
	}
}

func keys(fields map[string][]int) []string {
	names := make([]string, 0, len(fields))
	for k := range fields {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.add(n, path, "names and values are meant, this is %s", describe(n))
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := deref(n.Content[i])
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[i+1], e, Join(path, k.Value))
		m.SetMapIndex(reflect.ValueOf(k.Value).Convert(v.Type().Key()), e)
	}
	v.Set(m)
}

// booleanWords are text to YAML 1.2 and booleans to YAML 1.1, which Kubernetes reads.
var booleanWords = map[string]bool{
	"y": true, "Y": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"n": false, "N": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

func plain(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
}

func isText(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	if _, word := booleanWords[n.Value]; word && plain(n) {
		return false
	}
	switch n.ShortTag() {
	case "!!str", "!!timestamp": // 2026-01-01 is text to JSON
		return true
	}
	return false
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		switch {
		case isText(n):
			v.SetString(n.Value)
		case n.Kind == yaml.ScalarNode:
			d.add(n, path, "text is meant, this is %s: write it in quotes: %q", describe(n), clip(n.Value))
		default:
			d.add(n, path, "text is meant, this is %s", describe(n))
		}
	case reflect.Bool:
		b, word := booleanWords[n.Value]
		switch {
		case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool":
			v.SetBool(strings.EqualFold(n.Value, "true"))
		case n.Kind == yaml.ScalarNode && plain(n) && word:
			v.SetBool(b)
		default:
			d.add(n, path, "true or false is meant, this is %s", describe(n))
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, ok := integer(n)
		switch {
		case !ok:
			d.add(n, path, "a whole number is meant, this is %s", describe(n))
		case v.OverflowInt(i):
			d.add(n, path, "%s is too large", clip(n.Value))
		default:
			v.SetInt(i)
		}
	default:
		// A Go type that no document needs yet; its author sees it in the first test.
		d.add(n, path, "cannot be read into %s", v.Type())
	}
}

func integer(n *yaml.Node) (int64, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		return 0, false
	}
	i, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
	return i, err == nil
}

// describe says what a node is, for a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a set of fields"
	case yaml.SequenceNode:
		return "a list"
	}
	if _, word := booleanWords[n.Value]; word && plain(n) {
		return "a boolean (" + n.Value + ")"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number (" + clip(n.Value) + ")"
	case "!!bool":
		return "a boolean (" + n.Value + ")"
	}
	return fmt.Sprintf("text (%q)", clip(n.Value))
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// JSON gives the document as compact JSON with its keys in order: two
// documents that say the same give the same bytes.
func (d *Document) JSON() ([]byte, error) { return nodeJSON(d.root) }

// JSONAt gives what stands at a path of plain field names; nil if nothing does.
func (d *Document) JSONAt(fields ...string) ([]byte, error) {
	n := deref(d.root)
	for _, f := range fields {
		if n = child(n, f); n == nil {
			return nil, nil
		}
	}
	return nodeJSON(n)
}

func nodeJSON(n *yaml.Node) ([]byte, error) {
	var b strings.Builder
	err := writeJSON(&b, n)
	return []byte(b.String()), err
}

func writeJSON(b *strings.Builder, n *yaml.Node) error {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		return writeObject(b, n)
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, e := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, e); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	}
	return writeScalar(b, n)
}

func writeObject(b *strings.Builder, n *yaml.Node) error {
	order := make([]int, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		order = append(order, i)
	}
	sort.Slice(order, func(a, c int) bool {
		return deref(n.Content[order[a]]).Value < deref(n.Content[order[c]]).Value
	})
	b.WriteByte('{')
	for i, at := range order {
		if i > 0 {
			b.WriteByte(',')
		}
		quote(b, deref(n.Content[at]).Value)
		b.WriteByte(':')
		if err := writeJSON(b, n.Content[at+1]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func quote(b *strings.Builder, s string) {
	q, _ := json.Marshal(s) // a string always can
	b.Write(q)
}

func writeScalar(b *strings.Builder, n *yaml.Node) error {
	if word, ok := booleanWords[n.Value]; ok && plain(n) {
		fmt.Fprint(b, word)
		return nil
	}
	switch n.ShortTag() {
	case "!!null":
		b.WriteString("null")
	case "!!bool":
		fmt.Fprint(b, strings.EqualFold(n.Value, "true"))
	case "!!int":
		i, ok := integer(n)
		if !ok {
			return fmt.Errorf("%s: not a whole number of 64 bits", clip(n.Value))
		}
		b.WriteString(strconv.FormatInt(i, 10))
	case "!!float":
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s: not a number that can be counted with", clip(n.Value))
		}
		b.WriteString(decimal(f))
	case "!!binary":
		return fmt.Errorf("binary values are not read here")
	default:
		quote(b, n.Value)
	}
	return nil
}

// decimal writes a number without an exponent where it would be read back as
// the same number.
func decimal(f float64) string {
	switch {
	case f == 0:
		return "0" // and not -0
	case math.Abs(f) < 1e15:
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}
