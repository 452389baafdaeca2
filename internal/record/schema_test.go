package record_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
)

type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"`
	Enum                 []any              `json:"enum"`
	Required             []string           `json:"required"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Defs                 map[string]*schema `json:"$defs"`
}

func loadSchema(t *testing.T) schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/record.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The schema names what the types name, no more and no less.
func TestSchemaMatchesTheTypes(t *testing.T) {
	s := loadSchema(t)
	types := map[string]reflect.Type{
		"line":        reflect.TypeFor[record.Line](),
		"revision":    reflect.TypeFor[record.Revision](),
		"pod":         reflect.TypeFor[record.Pod](),
		"latency":     reflect.TypeFor[record.Latency](),
		"command":     reflect.TypeFor[record.Command](),
		"readings":    reflect.TypeFor[record.Readings](),
		"reading":     reflect.TypeFor[record.Reading](),
		"observation": reflect.TypeFor[record.Observation](),
		"start":       reflect.TypeFor[record.Start](),
		"answer":      reflect.TypeFor[record.Answer](),
		"evidence":    reflect.TypeFor[record.Evidence](),
		"decision":    reflect.TypeFor[record.Decision](),
	}
	for name := range s.Defs {
		if types[name] == nil {
			t.Errorf("the schema defines %s, which no type here is", name)
		}
	}
	for name, typ := range types {
		def := s.Defs[name]
		if def == nil {
			t.Errorf("the schema does not define %s", name)
			continue
		}
		match(t, name, def, typ)
	}
	for name, typ := range map[string]reflect.Type{
		"tests":    reflect.TypeFor[rollout.TestAnswer](),
		"windows":  reflect.TypeFor[rollout.Window](),
		"findings": reflect.TypeFor[rollout.Finding](),
	} {
		match(t, "line."+name, s.Defs["line"].Properties[name].Items, typ)
	}
	match(t, "answer.tests", s.Defs["answer"].Properties["tests"].Items, reflect.TypeFor[rollout.TestRun]())
	match(t, "answer.match", s.Defs["answer"].Properties["match"], reflect.TypeFor[rollout.Match]())
}

func match(t *testing.T, path string, s *schema, typ reflect.Type) {
	t.Helper()
	var want, have, needed []string
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		want = append(want, name)
		if !strings.Contains(options, "omit") {
			needed = append(needed, name)
		}
	}
	for name := range s.Properties {
		have = append(have, name)
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		t.Errorf("%s: the schema has %v, the type %v", path, have, want)
	}
	for _, r := range s.Required {
		if !slices.Contains(needed, r) && r != "state" {
			t.Errorf("%s: %s is required, and may be left out by the type", path, r)
		}
	}
}

// keepsToTheSchema checks the lines that a live rollout has written.
func keepsToTheSchema(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := loadSchema(t)
	for i, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		if i%20 == 0 {
			conforms(t, s, fmt.Sprintf("line %d", i+1), s.Defs["line"], line)
		}
	}
}

// What is answered keeps to the schema, and so do the lines that are answered,
// by the part of JSON Schema that the schema uses. The lines of live rollouts
// are looked at where they are written, in TestReplayEqualsLive.
func TestWhatIsWrittenKeepsToTheSchema(t *testing.T) {
	s := loadSchema(t)
	w := newWorld()
	var lines bytes.Buffer
	_, answers := play(t, w, 40, func(i int, _ record.Answer) {
		if i == 1 {
			w.replicas["v2"] = 1
		}
		if i == 20 {
			w.commands = []record.Command{{ID: "1", Verb: "abort", By: "alice"}}
		}
		lines.WriteString(w.look())
	})
	for i, a := range answers {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		conforms(t, s, fmt.Sprintf("answer %d", i), s.Defs["answer"], text)
	}
	for i, text := range bytes.Split(bytes.TrimSpace(lines.Bytes()), []byte("\n")) {
		conforms(t, s, fmt.Sprintf("line %d", i), s.Defs["line"], text)
	}
	if problem := s.check("x", s.Defs["answer"], map[string]any{"phase": "Dreaming"}); problem == "" {
		t.Error("nonsense keeps to the schema: it is not checked")
	}
}

func conforms(t *testing.T, root schema, what string, s *schema, text []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if problem := root.check(what, s, v); problem != "" {
		t.Errorf("%s\n%s", problem, text)
	}
}

func (root schema) check(path string, s *schema, v any) string {
	if s.Ref != "" {
		s = root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Sprintf("%s: %v is none of %v", path, v, s.Enum)
	}
	var kinds []any
	switch k := s.Type.(type) {
	case string:
		kinds = []any{k}
	case []any:
		kinds = k
	}
	kind := map[bool]string{true: "integer"}[v == float64(int64(asFloat(v)))]
	switch v.(type) {
	case nil:
		kind = "null"
	case map[string]any:
		kind = "object"
	case []any:
		kind = "array"
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case float64:
		if kind == "" || !slices.Contains(kinds, any("integer")) {
			kind = "number"
		}
	}
	if len(kinds) > 0 && !slices.Contains(kinds, any(kind)) {
		return fmt.Sprintf("%s: is %s, want %v", path, kind, kinds)
	}
	m, isObject := v.(map[string]any)
	if isObject {
		for _, r := range s.Required {
			if _, there := m[r]; !there {
				return fmt.Sprintf("%s: %s is missing", path, r)
			}
		}
		for name, e := range m {
			sub := s.Properties[name]
			if sub == nil {
				sub = s.AdditionalProperties
			}
			if sub == nil {
				continue
			}
			if problem := root.check(path+"."+name, sub, e); problem != "" {
				return problem
			}
		}
	}
	if list, ok := v.([]any); ok && s.Items != nil {
		for i, e := range list {
			if problem := root.check(fmt.Sprintf("%s[%d]", path, i), s.Items, e); problem != "" {
				return problem
			}
		}
	}
	return ""
}

func asFloat(v any) float64 {
	f, _ := v.(float64)
	return f
}
