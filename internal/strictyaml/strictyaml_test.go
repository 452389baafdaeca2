package strictyaml

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Text string            `json:"text"`
	Yes  bool              `json:"yes"`
	Some *int32            `json:"some"`
	Map  map[string]string `json:"map"`
	Own  upper             `json:"own"`
}

type Embedded struct {
	Kind string `json:"kind"`
}

type outer struct {
	Embedded `json:",inline"`
	One      inner    `json:"one"`
	List     []inner  `json:"list"`
	Words    []string `json:"words"`
	Hidden   string   `json:"-"`
}

// upper reads JSON itself.
type upper string

func (u *upper) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s: not text", b)
	}
	*u = upper(strings.ToUpper(s))
	return nil
}

func decodeAll(text string, unknown Unknown) (outer, []string) {
	var o outer
	var said []string
	docs, problems := Parse([]byte(text))
	for _, d := range docs {
		problems = append(problems, d.Decode(&o, unknown)...)
	}
	for _, p := range problems {
		said = append(said, p.String())
	}
	return o, said
}

func TestDecode(t *testing.T) {
	n := int32(0x10)
	got, said := decodeAll("kind: x\none: &a {text: \"1\", yes: on, some: 0x10, map: {a: b, c: null}, own: abc}\nlist: [*a, {}]\nwords: [a, 'yes', \"2\", 2026-01-01, ~]\n", Refuse)
	want := inner{Text: "1", Yes: true, Some: &n, Map: map[string]string{"a": "b", "c": ""}, Own: "ABC"}
	if diff := cmp.Diff(outer{Embedded: Embedded{"x"}, One: want, List: []inner{want, {}}, Words: []string{"a", "yes", "2", "2026-01-01", ""}}, got); diff != "" || said != nil {
		t.Errorf("%v\n%s", said, diff)
	}
}

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		why, text, want string
	}{
		{"a word that YAML 1.1 takes for a boolean", "one: {text: yes}", `line 1: one.text: text is meant, this is a boolean (yes): write it in quotes: "yes"`},
		{"a number where text is meant", "one: {text: 1.10}", `line 1: one.text: text is meant, this is a number (1.10): write it in quotes: "1.10"`},
		{"text where a boolean is meant", "one: {yes: 'yes'}", `line 1: one.yes: true or false is meant, this is text ("yes")`},
		{"a fraction", "one: {some: 1.5}", `line 1: one.some: a whole number is meant, this is a number (1.5)`},
		{"too large", "one: {some: 4294967296}", `line 1: one.some: 4294967296 is too large`},
		{"far too large", "one: {some: 99999999999999999999999}", `line 1: one.some: a whole number is meant, this is a number (99999999999999999999999)`},
		{"a list for fields", "one: []", `line 1: one: fields are meant, this is a list`},
		{"fields for a list", "list: {}", `line 1: list: a list is meant, this is a set of fields`},
		{"text for a map", "one: {map: a}", `line 1: one.map: names and values are meant, this is text ("a")`},
		{"a list for text", "words: [[a]]", `line 1: words[0]: text is meant, this is a list`},
		{"what reads itself", "one: {own: [1]}", `line 1: one.own: [1]: not text`},
		{"an unknown field", "list: [{txet: a}]", `line 1: list[0].txet: no such field; text?`},
		{"a hidden field", "Hidden: a", `line 1: Hidden: no such field; there are kind, list, one, words`},
		{"another case", "One: {}", `line 1: One: no such field; one?`},
		{"the same key twice", "kind: a\nwords: []\nkind: b", `line 3: kind: given twice, first on line 1`},
		{"a key that is no text", "{[a]: b}", `line 1: a key has to be text`},
		{"a merge key", "a: &a {}\none: {<<: *a}", `line 2: one: merge keys (<<) are not read here: write the fields out`},
		{"half a document", "one: {text: a", `line 1: is not YAML: did not find expected ',' or '}'`},
		{"a tab", "one:\n\ttext: a", `line 2: is not YAML: found character that cannot start any token`},
		{"an alias to nothing", "one: *a", `is not YAML: unknown anchor 'a' referenced`},
		{"an alias to what contains it", "one: &a {map: *a}", "nested deeper than 64 levels"},
		{"not a number", "one: {own: .nan}", `line 1: one.own: .nan: not a number that can be counted with`},
		{"bytes", "one: {own: !!binary aGk=}", `line 1: one.own: binary values are not read here`},
	} {
		_, said := decodeAll(c.text, Refuse)
		if len(said) == 0 || !strings.Contains(said[0], c.want) {
			t.Errorf("%s: %q gives %q, want %q", c.why, c.text, said, c.want)
		}
	}
}

func TestUnknownFieldsCanBeSkipped(t *testing.T) {
	if got, said := decodeAll("{kind: a, more: {b: c}}", Skip); got.Kind != "a" || said != nil {
		t.Errorf("%+v %v", got, said)
	}
}

func TestAllProblemsComeAtOnce(t *testing.T) {
	_, said := decodeAll("kind: 1\none: {text: 2, x: 3}\nwords: a\n", Refuse)
	if len(said) != 4 {
		t.Errorf("%q", said)
	}
}

func TestDocuments(t *testing.T) {
	docs, problems := Parse([]byte("# nothing\n---\nkind: a\n---\n~\n---\n{kind: b}\n---\n"))
	var kinds []string
	for _, d := range docs {
		kinds = append(kinds, fmt.Sprintf("%s@%d", d.Text("kind"), d.Line()))
	}
	if diff := cmp.Diff([]string{"a@3", "b@7"}, kinds); diff != "" || problems != nil {
		t.Error(problems, diff)
	}
}

// What is read is bounded whatever it says, and reading it costs what its size
// does, not what it could be blown up to.
func TestBombs(t *testing.T) {
	laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	for name, c := range map[string]struct{ text, want string }{
		"billion laughs": {laughs, "more than 200000 values"},
		"deep flow":      {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested deeper than 64 levels"},
		"deeper flow":    {strings.Repeat("[", 200_000), "is not YAML"},
		"deep block":     {strings.Repeat("- ", 100_000) + "a", "is not YAML"},
		"too large":      {strings.Repeat("#", MaxBytes+1), "a file may have 524288"},
		"wide":           {"a: [" + strings.Repeat("1,", 250_000) + "]", "more than 200000 values"},
		"documents":      {strings.Repeat("--- a\n", MaxDocuments+1), "more than 256 documents"},
		"long keys":      {strings.Repeat("{"+strings.Repeat("k", 5000)+": ", 60) + "a" + strings.Repeat("}", 60), ""},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		docs, problems := Parse([]byte(c.text))
		var o outer
		for _, d := range docs {
			problems = append(problems, d.Decode(&o, Refuse)...)
		}
		runtime.ReadMemStats(&after)
		if c.want != "" && (len(problems) == 0 || !strings.Contains(problems[0].String(), c.want)) {
			t.Errorf("%s: %v, want %s", name, problems, c.want)
		}
		for _, p := range problems {
			if len(p.String()) > 2000 {
				t.Errorf("%s: a problem of %d bytes", name, len(p.String()))
			}
		}
		// 512 KiB of the densest YAML there is; allocated in all, not at once.
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
			t.Errorf("%s: %d MiB for %d bytes", name, grown>>20, len(c.text))
		}
	}
}

func TestProblemsAreBounded(t *testing.T) {
	docs, _ := Parse([]byte("words: [" + strings.Repeat("1,", 5000) + "]"))
	var o outer
	if n := len(docs[0].Decode(&o, Refuse)); n != MaxProblems {
		t.Errorf("%d problems", n)
	}
}

func TestJSONIsCanonical(t *testing.T) {
	a, _ := Parse([]byte("b: [1, 0x10, 1_000, 1.50, yes, 'yes', ~, \"\"]\na: {z: *x, y: &x q}"))
	if a != nil {
		t.Error("an alias before its anchor was read")
	}
	a, _ = Parse([]byte("b: [1, 0x10, 1_000, 1.50, yes, 'yes', ~, \"\"]\na: {y: &x q, z: *x}"))
	b, _ := Parse([]byte(`{"a": {"z": "q", "y": "q"}, "b": [1, 16, 1000, 1.5, true, "yes", null, ""]}`))
	x, err := a[0].JSON()
	y, err2 := b[0].JSON()
	want := `{"a":{"y":"q","z":"q"},"b":[1,16,1000,1.5,true,"yes",null,""]}`
	if string(x) != want || string(y) != want || err != nil || err2 != nil {
		t.Errorf("%s %v\n%s %v", x, err, y, err2)
	}
	if at, err := a[0].JSONAt("a", "z"); string(at) != `"q"` || err != nil {
		t.Errorf("%s %v", at, err)
	}
	if at, err := a[0].JSONAt("a", "no"); at != nil || err != nil {
		t.Errorf("%s %v", at, err)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"errorRate", "latency", "minRequests", "onUndecided", "for", "max"}
	for key, want := range map[string]string{
		"errorrate": "errorRate", "error-rate": "errorRate", "eror_rate": "errorRate", "latencies": "latency",
		"latnecy": "latency", "min_requests": "minRequests", "fro": "for", "mxa": "max", "bake": "", "x": "",
		strings.Repeat("a", 10_000): "",
	} {
		if got := Nearest(words, key); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", key, got, want)
		}
	}
}

func TestPosition(t *testing.T) {
	docs, _ := Parse([]byte("a:\n  b.c/d:\n  - x\n  - y: 1\n"))
	for path, want := range map[string]int{"": 1, "a": 1, "a[b.c/d]": 2, "a[b.c/d][1]": 4, "a[b.c/d][1].y": 4, "a[b.c/d][7].y": 2, "z": 1, "a[": 1, "[[[": 1} {
		if got := docs[0].Position(path); got != want {
			t.Errorf("Position(%q) = %d, want %d", path, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"kind: x", "one: &a {text: b, map: *a}", "{list: [{some: 1}], words: [a]}", "--- a\n--- b", "? [a]\n: b", "!!binary a: !!set {a}", "<<: {a: b}", "%YAML 1.1\n---\na: |\n  b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, problems := Parse(data)
		if docs != nil && problems != nil {
			t.Fatal("half a file was read")
		}
		for _, d := range docs {
			var o outer
			for _, p := range d.Decode(&o, Refuse) {
				d.Position(p.Path)
			}
			d.Walk(func(Field) bool { return true })
			b, err := d.JSON()
			if err != nil {
				continue
			}
			if !json.Valid(b) {
				t.Fatalf("%q is written as %s, which is not JSON", data, b)
			}
			again, problems := Parse(b)
			if len(problems) > 0 || len(again) > 1 {
				t.Fatalf("%s, written from %q, cannot be read: %v", b, data, problems)
			}
			if len(again) == 1 {
				if c, err := again[0].JSON(); err != nil || string(c) != string(b) {
					t.Fatalf("%s became %s, %v", b, c, err)
				}
			}
		}
	})
}
