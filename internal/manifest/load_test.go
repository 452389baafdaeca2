package manifest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/golden"
)

// Each case is one text file: a comment that says what it is about, the files
// of a folder, what --run says (one per line in "run"), and the answer in "want".
// "include: article/NAME" in the comment takes a file of the founding scenario
// as it stands.
func TestCases(t *testing.T) {
	cases, err := filepath.Glob("testdata/cases/*.txt")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			comment, sections := parseCase(string(data))
			files, o := caseInput(t, comment, sections)
			sections["want"] = describe(Load(files, o))
			golden.Same(t, file, formatCase(comment, string(data), sections))
		})
	}
}

func parseCase(text string) (comment string, sections map[string]string) {
	sections = map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(rest, " --\n") {
			name = strings.TrimSuffix(rest, " --\n")
			sections[name] = ""
			continue
		}
		if name == "" {
			comment += line
		} else {
			sections[name] += line
		}
	}
	return comment, sections
}

// formatCase keeps the order of the sections; the answer comes last.
func formatCase(comment, before string, sections map[string]string) string {
	var out strings.Builder
	out.WriteString(comment)
	for line := range strings.Lines(before) {
		rest, ok := strings.CutPrefix(line, "-- ")
		if name := strings.TrimSuffix(rest, " --\n"); ok && name != "want" && strings.HasSuffix(rest, " --\n") {
			fmt.Fprintf(&out, "-- %s --\n%s", name, sections[name])
		}
	}
	fmt.Fprintf(&out, "-- want --\n%s", sections["want"])
	return out.String()
}

func caseInput(t *testing.T, comment string, sections map[string]string) (map[string][]byte, Options) {
	t.Helper()
	files, o := map[string][]byte{}, Options{Run: map[string][]string{}}
	for line := range strings.Lines(comment) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "include: "); ok {
			data, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(name)] = data
		}
	}
	for name, text := range sections {
		if IsManifest(name) {
			files[name] = []byte(text)
		}
	}
	for line := range strings.Lines(sections["run"]) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		image, command, err := ParseRun(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		o.Run[image] = command
	}
	return files, o
}

// describe prints what people would want to know of a Set.
func describe(set *Set, problems Problems) string {
	var out strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&out, "problem: %s\n", p)
	}
	if set == nil {
		return out.String()
	}
	for _, a := range set.Apps {
		describeApp(&out, a)
	}
	for _, n := range set.Notes {
		fmt.Fprintf(&out, "note: %s\n", n)
	}
	return out.String()
}

func describeApp(out *strings.Builder, a App) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	p("app %s/%s rollout=%s inPlace=%t label=%q", a.Namespace, a.Name, a.Rollout.Name, a.InPlace, a.Label)
	if a.Derived != "" {
		p("  derived: %s", a.Derived)
	} else {
		p("  file: %s", a.File)
	}
	p("  service %s port=%d target=%s selector=%s", a.Service.Name, a.Service.Port, a.Service.TargetPort, pairs(a.Service.Selector))
	for _, s := range a.Subsets {
		p("  subset %s version=%q %s%s", s.Name, s.Version, pairs(s.Labels), limit(s.Limit))
	}
	if a.Service.HTTP2 {
		p("  its pods speak HTTP/2")
	}
	p("  route %s hosts=%v any=%t%s", a.Route.Name, a.Route.Hosts, a.Route.AnyHost, limit(a.Route.Limit))
	if a.Route.Sticky != nil {
		p("    sticky %+v", *a.Route.Sticky)
	}
	for _, r := range a.Route.Rules {
		p("    rule %q split=%t %v %s", r.Name, r.Split, r.To, matches(r.Match))
		if diff := cmp.Diff(Policy{}, r.Policy); diff != "" {
			rewrite := "as it is"
			if r.Rewrite != nil {
				rewrite = fmt.Sprintf("%+v", *r.Rewrite)
			}
			p("      timeout=%s retries=%+v mirrors=%+v rewrite=%s request=%+v response=%+v", r.Timeout, r.Retries, r.Mirrors, rewrite, r.Request, r.Response)
		}
	}
	for _, v := range a.Versions {
		p("  version %s by %s in %s: replicas=%d image=%s fromRun=%t port=%d grace=%s", v.Label, v.Deployment, v.File, v.Replicas, v.Image, v.FromRun, v.ContainerPort, v.Grace)
		p("    revision %s command=%q env=%v dir=%q", v.Revision, v.Command, v.Env, v.Dir)
		p("    ready http=%+v delay=%s every=%s timeout=%s thresholds=%d,%d", v.Ready.HTTP, v.Ready.InitialDelay, v.Ready.Period, v.Ready.Timeout, v.Ready.SuccessThreshold, v.Ready.FailureThreshold)
	}
	p("  declared=%v stable=%v", a.Declared, a.Stable)
	for _, f := range a.Findings {
		p("  %s(%s): %s\n    remedy: %s", f.Level, f.Version, f.What, f.Remedy)
	}
}

func limit(l *Limit) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf(" inFlight<=%d waiting<=%d", l.InFlight, l.Waiting)
}

func pairs(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return "{" + strings.Join(all, ",") + "}"
}

func matches(all []Match) string {
	var words []string
	for _, m := range all {
		s := m.Method + m.Scheme
		if m.AnyCase {
			s += " any case"
		}
		if m.Path != nil {
			s += fmt.Sprintf(" path %s %q", m.Path.Kind, m.Path.Value)
		}
		for _, h := range m.Headers {
			s += fmt.Sprintf(" %s %s %q", h.Name, h.Value.Kind, h.Value.Value)
		}
		for _, h := range m.Without {
			s += fmt.Sprintf(" not(%s %s %q)", h.Name, h.Value.Kind, h.Value.Value)
		}
		for _, q := range m.Query {
			s += fmt.Sprintf(" ?%s %s %q", q.Name, q.Value.Kind, q.Value.Value)
		}
		words = append(words, strings.TrimSpace(s))
	}
	if len(words) == 0 {
		return "everything"
	}
	return strings.Join(words, " or ")
}

func article(t testing.TB, leaveOut ...string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/article/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no article: %v", err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if base := filepath.Base(name); !slices.Contains(leaveOut, base) {
			files[base] = data
		}
	}
	return files
}

var articleRun = Options{Run: map[string][]string{
	"my-registry/my-app:v1": {"./bin/my-app", "-version", "v1"},
	"my-registry/my-app:v2": {"./bin/my-app", "-version", "v2"},
}}

// The objects and the way in which they come are independent: one file or
// many, YAML or JSON, any order.
func TestTheSameObjectsGiveTheSameSet(t *testing.T) {
	files := article(t, "00-service-as-published.yaml")
	want, problems := Load(files, articleRun)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var one bytes.Buffer
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(files))) {
		one.WriteString("---\n")
		one.Write(files[name])
	}
	got, problems := Load(map[string][]byte{"all.yaml": one.Bytes()}, articleRun)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, s := range []*Set{want, got} {
		for i := range s.Apps[0].Versions {
			s.Apps[0].Versions[i].File = ""
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-many files +one):\n%s", diff)
	}
}

// One Deployment more is the only thing that a new version needs.
func TestAFurtherVersionChangesNothingElse(t *testing.T) {
	before, problems := Load(article(t, "00-service-as-published.yaml", "04-deployment-v2.yaml"), articleRun)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	after, problems := Load(article(t, "00-service-as-published.yaml"), articleRun)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(before.Apps[0].Versions) != 1 || len(after.Apps[0].Versions) != 2 {
		t.Fatalf("%d versions, then %d", len(before.Apps[0].Versions), len(after.Apps[0].Versions))
	}
	after.Apps[0].Versions = after.Apps[0].Versions[:1]
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-before +after, without the version):\n%s", diff)
	}
}

// Every cut of every file is either read or refused, and what is refused leaves
// no Set behind: the caller keeps the last good one.
func TestHalfSavedFilesAreRefusedWhole(t *testing.T) {
	files := article(t, "00-service-as-published.yaml")
	for name, data := range files {
		for cut := range data {
			half := maps.Clone(files)
			half[name] = data[:cut]
			set, problems := Load(half, articleRun)
			if (set == nil) == (len(problems) == 0) {
				t.Fatalf("%s cut at %d: set %v, problems %v", name, cut, set != nil, problems)
			}
			for _, p := range problems {
				if p.Message == "" || (p.File == "" && p.Object == "" && len(half[name]) > 0 && cut > 0 && p.Path != "") {
					t.Fatalf("%s cut at %d: a problem without a place: %+v", name, cut, p)
				}
			}
		}
	}
}

// Every line of the table does what it says: used and silent fields are read
// without a word, noted ones are noted, refused ones are refused by name.
func TestEveryCapabilityIsWhatTheTableSays(t *testing.T) {
	for kind, table := range capabilities {
		for pattern, c := range table {
			doc, path := documentWith(kind, pattern, c)
			_, problems := Load(map[string][]byte{"x.yaml": []byte(doc)}, Options{})
			l := &loader{notes: map[[2]string]*Note{}, seen: map[string]where{}}
			l.file("x.yaml", []byte(doc))
			about := slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Path == path && p.Message == c.why })
			_, said := l.notes[[2]string{kind, pattern}]
			if (c.how == refused) != about || (c.how == noted) != said {
				t.Errorf("%s %s: refused=%t noted=%t\n%s%v", kind, pattern, about, said, doc, l.problems)
			}
			if c.how == refused && len(problems) == 0 {
				t.Errorf("%s %s is refused and there is a Set", kind, pattern)
			}
			if (c.how == refused || c.how == noted) && c.why == "" {
				t.Errorf("%s %s has no reason", kind, pattern)
			}
		}
	}
}

// documentWith makes a document of a kind that has one field.
func documentWith(kind, pattern string, c capability) (doc, path string) {
	value := "{}"
	if c.values != nil {
		value = c.values[0]
	}
	path = strings.ReplaceAll(strings.ReplaceAll(pattern, "[]", "[0]"), "*", "x")
	var nested strings.Builder
	closers := ""
	for _, part := range strings.Split(pattern, ".") {
		name, list := strings.CutSuffix(part, "[]")
		name = strings.ReplaceAll(name, "*", "x")
		nested.WriteString("{" + name + ": ")
		closers = "}" + closers
		if list {
			nested.WriteString("[")
			closers = "]" + closers
		}
	}
	whole := nested.String() + value + closers
	head := map[string]string{"apiVersion": groups[kind][0], "kind": kind}
	top, _, _ := strings.Cut(pattern, ".")
	switch {
	case head[top] != "":
		whole = "{}"
	case top == "metadata":
		field := strings.TrimPrefix(pattern, "metadata.")
		if field == "name" || field == "namespace" {
			value = "a"
		}
		whole = "{metadata: {" + field + ": " + value + "}}"
		if field != "name" {
			whole = strings.Replace(whole, "{metadata: {", "{metadata: {name: a, ", 1)
		}
	default:
		whole = "{metadata: {name: a}, " + strings.TrimPrefix(whole, "{")
	}
	body := strings.TrimSuffix(strings.TrimPrefix(whole, "{"), "}")
	if body == "" {
		body = "metadata: {name: a}"
	}
	return fmt.Sprintf("{apiVersion: %s, kind: %s, %s}\n", groups[kind][0], kind, body), path
}

func TestBounds(t *testing.T) {
	many := map[string][]byte{}
	for i := range MaxFiles + 1 {
		many[fmt.Sprintf("%d.yaml", i)] = nil
	}
	var objects bytes.Buffer
	for i := range 200 {
		fmt.Fprintf(&objects, "---\n{apiVersion: v1, kind: Namespace, metadata: {name: n%d}}\n", i)
	}
	lots := map[string][]byte{}
	for i := range 4 {
		lots[fmt.Sprintf("%d.yaml", i)] = bytes.ReplaceAll(objects.Bytes(), []byte("name: n"), fmt.Appendf(nil, "name: m%d-", i))
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"files":   {many, "201 files: 200 can be read"},
		"bytes":   {map[string][]byte{"a.yaml": make([]byte, MaxTotal+1)}, "4194305 bytes in all files: 4194304 can be read"},
		"a file":  {map[string][]byte{"a.yaml": bytes.Repeat([]byte("#"), 600<<10)}, "a.yaml: 614400 bytes: a file may have 524288"},
		"objects": {lots, "2.yaml:202: more than 500 objects"},
	} {
		set, problems := Load(c.files, Options{})
		if set != nil || len(problems) == 0 || !strings.Contains(problems.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, problems, c.want)
		}
	}
}

func TestProportionsSumUp(t *testing.T) {
	for _, c := range []struct {
		in, want []int
	}{
		{[]int{95, 5}, []int{9500, 500}},
		{[]int{1, 1, 1}, []int{3334, 3333, 3333}},
		{[]int{0, 7}, []int{0, 10000}},
		{[]int{1, 999999}, []int{0, 10000}},
		{[]int{2, 1}, []int{6667, 3333}},
	} {
		if got, ok := proportions(c.in); !ok || !slices.Equal(got, c.want) {
			t.Errorf("proportions(%v) = %v, %t; want %v", c.in, got, ok, c.want)
		}
	}
	if _, ok := proportions([]int{0, 0}); ok {
		t.Error("nobody answers, and nobody says so")
	}
}

func TestHashKnowsWhatRuns(t *testing.T) {
	base := `{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"a:1"}]}}`
	for _, same := range []string{
		`{"spec":{"containers":[{"image":"a:1"}]},"metadata":{"labels":{"app":"a"},"creationTimestamp":null}}`,
		`{"metadata":{"labels":{"app":"a"},"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}},"spec":{"containers":[{"image":"a:1"}]}}`,
		`{"metadata":{"labels":{"app":"a"},"annotations":{}},"spec":{"containers":[{"image":"a:1","env":null}]}}`,
	} {
		if TemplateHash([]byte(same)) != TemplateHash([]byte(base)) {
			t.Errorf("%s is another revision than %s", same, base)
		}
	}
	seen := map[string]string{TemplateHash([]byte(base)): base}
	for _, other := range []string{
		`{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"a:2"}]}}`,
		`{"metadata":{"labels":{"app":"a"},"annotations":{"x":"y"}},"spec":{"containers":[{"image":"a:1"}]}}`,
		`{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"a:1","args":["x"]}]}}`,
		`{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"a:1","args":["x","y"]}]}}`,
		`{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"a:1","args":["y","x"]}]}}`,
	} {
		h := TemplateHash([]byte(other))
		if twin, twice := seen[h]; twice {
			t.Errorf("%s and %s are one revision", other, twin)
		}
		seen[h] = other
	}
	// Kept in states: another value needs another HashVersion.
	if got := TemplateHash([]byte(base)); got != "2562c6adc8" || HashVersion != 1 {
		t.Errorf("hash version %d gives %s", HashVersion, got)
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		``:                            nil,
		`  a	b  `:                     {"a", "b"},
		`./bin/my-app -version v1`:    {"./bin/my-app", "-version", "v1"},
		`a 'b c' "d e"`:               {"a", "b c", "d e"},
		`a'b'"c"d`:                    {"abcd"},
		`a '' ""`:                     {"a", "", ""},
		`a\ b \'c`:                    {"a b", "'c"},
		`"a\"b\\c\$d\n"`:              {`a"b\c$d\n`},
		`'a\b "c"'`:                   {`a\b "c"`},
		`sh -c 'a | b > c; d && e'`:   {"sh", "-c", "a | b > c; d && e"},
		`app -port $(PORT) *.txt ~ #`: {"app", "-port", "$(PORT)", "*.txt", "~", "#"},
		`app "über" naïve`:            {"app", "über", "naïve"},
	} {
		if got, err := SplitWords(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("SplitWords(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		`a | b`:   `'|': no shell is involved here: put it in quotes if it is meant literally, or run sh -c '...'`,
		`a > b`:   `'>': no shell`,
		`a; b`:    `';': no shell`,
		`a &`:     `'&': no shell`,
		"a `b`":   "'`': no shell",
		`a 'b`:    `a quote (') is opened and never closed`,
		`a "b`:    `a quote (") is opened and never closed`,
		`a "b\"`:  `a quote (") is opened and never closed`,
		`a \`:     `a backslash at the end`,
		"a\x00b":  `a zero byte`,
		"'a\x00'": `a zero byte`,
	} {
		if got, err := SplitWords(in); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("SplitWords(%q) = %q, %v; want error %s", in, got, err, want)
		}
	}
}

func TestParseRun(t *testing.T) {
	image, command, err := ParseRun(`my-registry:5000/my-app@sha256:00=./app -set a=b`)
	if err != nil || image != "my-registry:5000/my-app@sha256:00" || !slices.Equal(command, []string{"./app", "-set", "a=b"}) {
		t.Errorf("%q %q %v", image, command, err)
	}
	for in, want := range map[string]string{
		"my-app:v1": `"my-app:v1": want IMAGE=COMMAND`,
		"=./app":    `"=./app": want IMAGE=COMMAND`,
		"my-app=":   `my-app: no command after =`,
		"my-app=''": `my-app: no command after =`,
		"my-app=a|": `my-app: '|': no shell`,
	} {
		if _, _, err := ParseRun(in); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("ParseRun(%q): %v; want %s", in, err, want)
		}
	}
}

func TestIsManifest(t *testing.T) {
	for name, want := range map[string]bool{
		"a.yaml": true, "dir/a.yml": true, "a.json": true, "README.md": false, ".a.yaml": false,
		"dir/.a.yaml.swp": false, "a.yaml~": false, "#a.yaml": false, "yaml": false,
	} {
		if IsManifest(name) != want {
			t.Errorf("IsManifest(%q) = %t", name, !want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, data := range article(f) {
		f.Add(data, []byte(nil))
	}
	var all []byte
	for _, data := range article(f, "00-service.yaml") {
		all = append(append(all, "\n---\n"...), data...)
	}
	f.Add(all, []byte("apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {name: a}\n"))
	cases, _ := filepath.Glob("testdata/cases/*.txt")
	for _, file := range cases {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, sections := parseCase(string(data))
		whole := ""
		for _, name := range slices.Sorted(maps.Keys(sections)) {
			f.Add([]byte(sections[name]), all)
			if IsManifest(name) {
				whole += "\n---\n" + sections[name]
			}
		}
		f.Add([]byte(whole), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		files := map[string][]byte{"a.yaml": a}
		if len(b) > 0 {
			files["b.yaml"] = b
		}
		for _, d := range rolloutsOf(t, files) {
			if errs := d.Rollout.Validate(); len(errs) > 0 {
				t.Fatalf("a Rollout that is not valid: %v", errs)
			}
		}
		set, problems := Load(files, articleRun)
		if (set == nil) == (len(problems) == 0) {
			t.Fatalf("set %v beside %d problems", set != nil, len(problems))
		}
		if set == nil {
			return
		}
		for _, app := range set.Apps {
			if errs := app.Rollout.Validate(); len(errs) > 0 {
				t.Fatalf("an App with a Rollout that is not valid: %v", errs)
			}
			for _, r := range app.Route.Rules {
				sum := 0
				for _, d := range r.To {
					sum += d.Weight
				}
				if sum != 10000 {
					t.Fatalf("weights sum up to %d", sum)
				}
			}
			for _, v := range app.Versions {
				if v.Label == "" || len(v.Command) == 0 || v.Hash == "" || v.Replicas < 0 {
					t.Fatalf("half a version: %+v", v)
				}
			}
		}
	})
}

// rolloutsOf reads the Rollouts as for a cluster: they or problems, never both.
func rolloutsOf(t *testing.T, files map[string][]byte) []Document {
	docs, problems := Rollouts(files)
	if len(docs) > 0 && len(problems) > 0 {
		t.Fatalf("%d Rollouts beside %d problems", len(docs), len(problems))
	}
	return docs
}

func FuzzSplitWords(f *testing.F) {
	f.Add(`a 'b c' "d\"e" f\ g`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := SplitWords(line)
		if err != nil {
			return
		}
		// Quoting each word again gives the same words.
		var again []string
		for _, w := range words {
			again = append(again, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		got, err := SplitWords(strings.Join(again, " "))
		if err != nil || !slices.Equal(got, words) {
			t.Fatalf("%q splits into %q, quoted again into %q, %v", line, words, got, err)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	files := article(b, "00-service-as-published.yaml")
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := Load(files, articleRun); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

// docs/GATEWAY.md holds the table of what is understood, written from the table
// that decides it.
func TestDocumentedTable(t *testing.T) {
	const path, from, to = "../../docs/GATEWAY.md", "<!-- table: go test ./internal/manifest -run Documented -update -->\n", "<!-- end of table -->\n"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), from)
	_, after, closed := strings.Cut(rest, to)
	if !ok || !closed {
		t.Fatalf("%s has no table", path)
	}
	golden.Same(t, path, before+from+documentedTable()+to+after)
}

func documentedTable() string {
	var b strings.Builder
	for _, kind := range []string{"VirtualService", "DestinationRule", "Service"} {
		table := capabilities[kind]
		fmt.Fprintf(&b, "\n### %s\n", kind)
		for _, part := range []struct {
			how   support
			title string
		}{{used, "Done"}, {noted, "Harmless, without effect (said once)"}, {refused, "Refused by name"}} {
			fmt.Fprintf(&b, "\n| %s | |\n|---|---|\n", part.title)
			for _, field := range slices.Sorted(maps.Keys(table)) {
				c := table[field]
				if c.how != part.how || metadata[field].how != 0 {
					continue
				}
				why := strings.TrimSuffix(strings.ReplaceAll(c.why, "|", `\|`), "; "+keepApart)
				if c.values != nil {
					why = strings.TrimPrefix(why+"; knows "+strings.Join(c.values, ", "), "; ")
				}
				fmt.Fprintf(&b, "| `%s` | %s |\n", field, why)
			}
		}
	}
	b.WriteString("\n")
	return b.String()
}
