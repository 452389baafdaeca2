package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/record"
	"github.com/serin-dev/serin/internal/rollout"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const document = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}}}
  traffic: [{istio: {virtualService: my-app, destinationRule: my-app}}]
  strategy:
    canary:
      steps: [{weight: 5%, hold: 10s}, {weight: 50%, hold: 10s}, {weight: 100%, hold: 10s}]
  analysis:
    skip: [latency]
    errorRate: {max: 1%, for: 10s}
    minRequests: 50
    deadline: 5m
  promotion: {bake: 20s}
`

func documentSpec(t testing.TB, doc string) (rollout.Spec, analysis.Config) {
	t.Helper()
	var r v1alpha1.Rollout
	if err := yaml.UnmarshalStrict([]byte(doc), &r); err != nil {
		t.Fatal(err)
	}
	spec, cfg, err := engine.SpecOf(&r)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Compare = false // these tests are about the record; limits decide
	return spec, cfg
}

type counts struct{ requests, errors float64 }

// world is another program: it applies the answered weights and scale, and
// says what it then sees, with bare labels, every five seconds.
type world struct {
	now      time.Time
	weights  map[string]float64
	replicas map[string]int
	counts   map[string][]counts // of each replica, since it started
	rate     map[string]float64  // share of failures
	late     bool                // weights come in force one look late
	pending  map[string]float64
	commands []record.Command
}

func newWorld() *world {
	return &world{
		now: start, weights: map[string]float64{"v1": 100}, replicas: map[string]int{"v1": 3},
		counts: map[string][]counts{}, rate: map[string]float64{},
	}
}

func (w *world) look() string {
	var revisions []string
	for _, v := range []string{"v1", "v2", "v3"} {
		n, there := w.replicas[v]
		if !there {
			continue
		}
		var pods []string
		for len(w.counts[v]) < n {
			w.counts[v] = append(w.counts[v], counts{})
		}
		for i, c := range w.counts[v][:n] {
			pods = append(pods, fmt.Sprintf(`"%s-%d":{"requests":%g,"errors":%g}`, v, i, c.requests, c.errors))
		}
		revisions = append(revisions, fmt.Sprintf(`%q:{"replicas":%d,"ready":%d,"pods":{%s}}`, v, n, n, strings.Join(pods, ",")))
	}
	traffic, _ := json.Marshal(w.weights)
	more := ""
	if len(w.commands) > 0 {
		commands, _ := json.Marshal(w.commands)
		more = `,"commands":` + string(commands)
		w.commands = nil
	}
	return fmt.Sprintf(`{"time":%q,"traffic":%s,"revisions":{%s}%s}`+"\n", w.now.Format(time.RFC3339Nano), traffic, strings.Join(revisions, ","), more)
}

func (w *world) apply(a record.Answer) {
	next := map[string]float64{}
	for v, p := range a.Weights {
		next[v] = p
	}
	if w.late {
		next, w.pending = w.pending, next
	}
	if next != nil {
		w.weights = next
	}
	for v, n := range a.Scale {
		if n == 0 || n > w.replicas[v] {
			w.replicas[v] = n
		}
	}
	w.now = w.now.Add(5 * time.Second)
	for v, p := range w.weights {
		for i := range min(w.replicas[v], len(w.counts[v])) {
			n := 5 * 100 * p / 100 / float64(w.replicas[v])
			w.counts[v][i].requests += n
			w.counts[v][i].errors += n * w.rate[v]
		}
	}
}

// play closes the loop through Replay, as another program would through pipes:
// the answer to a line must have come before the next one is sent.
func play(t *testing.T, w *world, looks int, each func(i int, a record.Answer)) (record.Summary, []record.Answer) {
	t.Helper()
	spec, cfg := documentSpec(t, document)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	type end struct {
		sum record.Summary
		err error
	}
	ended := make(chan end, 1)
	go func() {
		sum, err := record.Replay(spec, cfg, inR, outW, record.Hooks{Warn: func(s string) { t.Errorf("warned: %s", s) }})
		_ = outW.CloseWithError(io.EOF)
		_ = inR.CloseWithError(errors.New("the replay has ended"))
		ended <- end{sum, err}
	}()
	dec := json.NewDecoder(outR)
	var answers []record.Answer
	for i := range looks {
		if _, err := io.WriteString(inW, w.look()); err != nil {
			t.Fatalf("look %d: %v (%+v)", i, err, <-ended)
		}
		var a record.Answer
		if err := dec.Decode(&a); err != nil {
			t.Fatalf("look %d: %v", i, err)
		}
		answers = append(answers, a)
		w.apply(a)
		if each != nil {
			each(i, a)
		}
	}
	_ = inW.Close()
	e := <-ended
	if e.err != nil {
		t.Fatal(e.err)
	}
	return e.sum, answers
}

func dump(t *testing.T, answers []record.Answer) {
	for _, a := range answers {
		for _, d := range a.Decisions {
			t.Logf("%v %d %s by %s %s>%s: %s", d.At.Sub(start), d.N, d.What, d.By, d.From, d.To, d.Why)
		}
	}
	last := answers[len(answers)-1]
	t.Logf("%v %s %v %v %s", last.Time.Sub(start), last.Phase, last.Weights, last.Scale, last.Message)
}

func TestAnotherProgramClosesTheLoop(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		world  func(*world)
		each   func(*world, int, record.Answer)
		looks  int
		exit   int
		result rollout.Result
		stable string
	}{
		"Good": {
			reason: "a good version is promoted", looks: 60,
			exit: record.ExitPromoted, result: rollout.Promoted, stable: "v2",
		},
		"Late": {
			reason: "weights that come in force late are not taken for a hand", looks: 90,
			world: func(w *world) { w.late = true },
			exit:  record.ExitPromoted, result: rollout.Promoted, stable: "v2",
		},
		"Bad": {
			reason: "a bad version is taken back", looks: 60,
			world: func(w *world) { w.rate["v2"] = 0.2 },
			exit:  record.ExitRolledBack, result: rollout.RolledBack, stable: "v1",
		},
		"Abort": {
			reason: "commands pass through", looks: 60,
			each: func(w *world, i int, _ record.Answer) {
				if i == 10 {
					w.commands = []record.Command{{ID: "1", Verb: "abort", By: "alice", Reason: "lunch"}}
				}
			},
			exit: record.ExitRolledBack, result: rollout.Aborted, stable: "v1",
		},
		"Superseded": {
			reason: "the newest by first appearance is the canary", looks: 120,
			each: func(w *world, i int, _ record.Answer) {
				if i == 8 {
					w.replicas["v3"] = 1
				}
			},
			exit: record.ExitPromoted, result: rollout.Promoted, stable: "v3",
		},
		"Unfinished": {
			reason: "the record ends first", looks: 8,
			exit: record.ExitUnfinished,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			if c.world != nil {
				c.world(w)
			}
			sum, answers := play(t, w, c.looks, func(i int, a record.Answer) {
				if i == 2 {
					w.replicas["v2"] = 1
				}
				if c.each != nil {
					c.each(w, i, a)
				}
				total := 0.0
				for _, p := range a.Weights {
					total += p
				}
				if total != 100 {
					t.Errorf("look %d: the answered weights %v sum up to %v", i, a.Weights, total)
				}
			})
			last := answers[len(answers)-1]
			var result rollout.Result
			if n := len(sum.Rollouts); n > 0 {
				result = sum.Rollouts[n-1].Result
			}
			if sum.Exit != c.exit || result != c.result || c.stable != "" && last.Stable != c.stable || sum.Lines != c.looks {
				t.Errorf("%s: exit %d, result %q, stable %q, %d lines; want %d, %q, %q, %d\n%s", c.reason, sum.Exit, result, last.Stable, sum.Lines, c.exit, c.result, c.stable, c.looks, sum)
				dump(t, answers)
			}
			n := 0
			for _, a := range answers {
				for _, d := range a.Decisions {
					if n++; d.N != n || d.Why == "" || d.By == "" {
						t.Errorf("decision %+v is number %d", d, n)
					}
				}
			}
		})
	}
}

// The line of the contract's own example is understood whole, without a word.
func TestTheExampleLine(t *testing.T) {
	const line = `{"time":"2026-01-01T00:00:05Z",
     "traffic":{"v1":95,"v2":5},
     "revisions":{
       "v1":{"replicas":3,"ready":3,"pods":{
         "v1-a":{"started":"2025-12-31T20:00:00Z","requests":1200,"errors":3,
                 "latency":{"le":[5,10,25,50,100,250,500,1000],"count":[10,200,900,1100,1180,1195,1199,1200]},
                 "cpuSeconds":12.3,"memoryBytes":81264640,"restarts":0}}},
       "v2":{"replicas":1,"ready":1,"pods":{}}},
     "metrics":{"checkout-success":{"v1":99.1,"v2":99.0}},
     "commands":[{"id":"1","verb":"pause","by":"alice","reason":"lunch"}]}`
	l, err := record.NewReader(strings.NewReader(strings.ReplaceAll(line, "\n", " ")), func(s string) { t.Error(s) }).Next()
	if err != nil {
		t.Fatal(err)
	}
	pod := l.Revisions["v1"].Pods["v1-a"]
	if l.Traffic["v2"] != 5 || *pod.Errors != 3 || pod.Latency.Count[7] != 1200 || *pod.MemoryBytes != 81264640 || *pod.Restarts != 0 ||
		l.Metrics["checkout-success"]["v2"] != 99 || l.Commands[0].Reason != "lunch" || !pod.Started.Equal(start.Add(-4*time.Hour)) {
		t.Errorf("read %+v", l)
	}
}

func TestWrongLines(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		lines  string
		err    string // of the second line; "" = none
		warn   string
	}{
		"WrongTypes": {
			"all of them at once, each with its place",
			`{"time":"2026-01-01T00:00:05Z","traffic":{"v1":"95"},"revisions":{"v2":{"ready":"three","pods":{"v2-a":{"requests":[1]}}}}}`,
			`line 2: revisions.v2.pods.v2-a.requests: want a number, got [1]; revisions.v2.ready: want a whole number, got "three"; traffic.v1: want a number, got "95"`, "",
		},
		"HalfAReplica": {
			"counts are whole", `{"time":"2026-01-01T00:00:05Z","revisions":{"v2":{"ready":1.5}}}`,
			`line 2: revisions.v2.ready: want a whole number, got 1.5`, "",
		},
		"NoTime":  {"a look without a time says nothing", `{"traffic":{"v1":100}}`, `line 2: time: is missing`, ""},
		"BadTime": {"", `{"time":"yesterday"}`, `line 2: time: want a time such as`, ""},
		"BadSum":  {"a split is whole", `{"time":"2026-01-01T00:00:05Z","traffic":{"v1":95,"v2":6}}`, `line 2: traffic: the shares sum up to 101`, ""},
		"Negative": {
			"", `{"time":"2026-01-01T00:00:05Z","traffic":{"v1":101,"v2":-1},"revisions":{"v1":{"ready":-1}}}`,
			`line 2: revisions.v1.ready: -1 is not a number of replicas; traffic: `, "",
		},
		"Latency": {
			"as many counts as bounds", `{"time":"2026-01-01T00:00:05Z","revisions":{"v1":{"pods":{"a":{"latency":{"le":[1,2],"count":[1]}}}}}}`,
			`line 2: revisions.v1.pods.a.latency: 2 bounds in le and 1 counts`, "",
		},
		"UnknownVerb": {"", `{"time":"2026-01-01T00:00:05Z","commands":[{"id":"1","verb":"explode"}]}`, `line 2: commands[0].verb: "explode" is none of`, ""},
		"CommandWithoutID": {
			"it would be obeyed at every look", `{"time":"2026-01-01T00:00:05Z","commands":[{"verb":"pause"}]}`,
			`line 2: commands[0].id: is missing`, "",
		},
		"NotJSON":      {"", `{"time":`, `line 2: is not JSON`, ""},
		"NotAnObject":  {"", `[]`, `line 2: the line: want an object, got []`, ""},
		"TwoObjects":   {"", `{"time":"2026-01-01T00:00:05Z"}{}`, `line 2: holds more than one JSON object`, ""},
		"UnknownField": {"ignored, and said once", `{"time":"2026-01-01T00:00:05Z","weather":"fine","revisions":{"v1":{"colour":3}}}`, "", `line 2: unknown fields are ignored (said once): revisions.v1.colour, weather`},
		"NullIsAbsent": {"", `{"time":"2026-01-01T00:00:05Z","traffic":null,"revisions":{"v1":{"ready":null}}}`, "", ""},
		"Rounded":      {"thirds do not sum up to 100 exactly", `{"time":"2026-01-01T00:00:05Z","traffic":{"v1":33.33,"v2":66.66}}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var warned []string
			text := `{"time":"2026-01-01T00:00:00Z"}` + "\n" + c.lines + "\n" + c.lines + "\n"
			r := record.NewReader(strings.NewReader(text), func(s string) { warned = append(warned, s) })
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			_, err := r.Next()
			switch {
			case c.err == "" && err != nil:
				t.Errorf("%s: %v", c.reason, err)
			case c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)):
				t.Errorf("%s: error\n%v\nwant\n%s", c.reason, err, c.err)
			}
			_, _ = r.Next()
			if got := strings.Join(warned, "\n"); got != c.warn {
				t.Errorf("%s: warned\n%q\nwant once\n%q", c.reason, got, c.warn)
			}
		})
	}
}

// A line that was being written when the power failed is left out, and said; in
// the middle of a record it is an error.
func TestCutOff(t *testing.T) {
	spec, cfg := documentSpec(t, document)
	whole := newWorld().look()
	for _, c := range []struct {
		text  string
		lines int
		err   bool
		warns int
	}{
		{whole + whole[:40], 1, false, 1},
		{whole + whole[:40] + "\n" + whole, 1, true, 0},
		{whole + strings.TrimSuffix(whole, "\n"), 2, false, 0},
		{whole + "\n\n" + whole + "\n", 2, false, 0},
		{"", 0, false, 0},
	} {
		warns := 0
		var out bytes.Buffer
		sum, err := record.Replay(spec, cfg, strings.NewReader(c.text), &out, record.Hooks{Warn: func(string) { warns++ }})
		if (err != nil) != c.err || sum.Lines != c.lines || warns != c.warns || bytes.Count(out.Bytes(), []byte("\n")) != c.lines {
			t.Errorf("%q: %d lines, %d answers, %d warnings, error %v; want %d, %d, %v", c.text, sum.Lines, bytes.Count(out.Bytes(), []byte("\n")), warns, err, c.lines, c.warns, c.err)
		}
		if err != nil && sum.Exit != record.ExitError {
			t.Errorf("a record that cannot be read exits with %d", sum.Exit)
		}
	}
}

// What is written is read again as it was.
func TestLinesComeBack(t *testing.T) {
	res := engine.Result{
		Decided: true, Taken: true, At: start,
		Before: rollout.State{Stable: rollout.Object{Revision: "v1@1"}, Canary: rollout.Object{Revision: "v2@2"}},
		Seen: rollout.Observation{
			Workloads: rollout.Workloads{Known: rollout.Present, Items: []rollout.Workload{
				{Revision: "v1@1", Name: "a", Replicas: 3, Ready: 2, ReadyKnown: true, Since: start},
				{Revision: "v2@2", Name: "b", Replicas: 1, Since: start},
			}},
			Route:    rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{"v1@1": 9950, "v2@2": 50}, Note: &rollout.Note{N: 3}},
			Commands: []rollout.Command{{ID: "1", Verb: rollout.VerbPromote, By: "bob", Revision: "v2", N: 3, Full: true, Override: true}},
			Tests:    []rollout.TestAnswer{{ID: "t", Passed: true}},
		},
		Sampled: &engine.Sampled{
			Stable: []analysis.Pod{{Name: "x", Has: analysis.HasRequests, Requests: 5, Errors: 99}},
			Canary: []analysis.Pod{{Name: "y", Has: analysis.HasRequests | analysis.HasErrors | analysis.HasRestarts, Requests: 7, Errors: math.NaN(), OOMKills: 2}},
			Custom: []analysis.Custom{
				{Name: "m", Stable: analysis.Reading{Answer: analysis.Number, Value: 1.5}, Canary: analysis.Reading{Answer: analysis.Several, Detail: "3 series"}},
				{Name: "n", Stable: analysis.Reading{Answer: analysis.Number, Value: math.Inf(1)}},
			},
		},
	}
	want := record.LineOf(res)
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := record.NewReader(bytes.NewReader(text), func(s string) { t.Error(s) }).Next()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Traffic["v2"] != 0.5 || got.Revisions["v2"].Ready != nil || *got.Revisions["v1"].Ready != 2 {
		t.Errorf("written as %s", text)
	}
	if got.Revisions["v1"].Pods["x"].Errors != nil {
		t.Error("a figure that was not measured was written")
	}
	if got.Revisions["v2"].Pods["y"].Errors != nil {
		t.Error("a figure that is no number was written")
	}
	if a := got.Answers["n"].Stable; a == nil || a.Answer != "notANumber" || got.Answers["m"].Canary.Detail != "3 series" {
		t.Errorf("answers %+v", got.Answers)
	}
}

// Two revisions with one label are told apart.
func TestOneLabelTwice(t *testing.T) {
	res := engine.Result{Decided: true, At: start, Seen: rollout.Observation{Workloads: rollout.Workloads{
		Known: rollout.Present, Items: []rollout.Workload{{Revision: "v1@1", Replicas: 3}, {Revision: "v1@2", Replicas: 1}},
	}}}
	if l := record.LineOf(res); len(l.Revisions) != 2 || *l.Revisions["v1@2"].Replicas != 1 {
		t.Errorf("revisions %+v", l.Revisions)
	}
}

func TestWriterIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "my-app.jsonl")
	const most = 8 << 10
	w, err := record.OpenWriter(path, most)
	if err != nil {
		t.Fatal(err)
	}
	res := engine.Result{Decided: true, Taken: true, At: start, Sampled: &engine.Sampled{}}
	asked := 0
	for range 300 {
		res.At = res.At.Add(time.Second)
		if err := w.Write(res, func() ([]byte, error) { asked++; return []byte("{}"), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > most+2<<10 {
			t.Errorf("%s has %d bytes, the bound is %d and one line", filepath.Base(name), info.Size(), most)
		}
	}
	if asked == 0 {
		t.Error("no file was begun anew")
	}
	in, err := record.OpenRing(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	r := record.NewReader(in, func(s string) { t.Error(s) })
	var last time.Time
	first := true
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if first && l.Start == nil {
			t.Error("the record's first line does not say what it goes on from")
		}
		if !first && !l.Time.Equal(last.Add(time.Second)) {
			t.Errorf("%v follows %v", l.Time, last)
		}
		first, last = false, l.Time
	}
	if !last.Equal(res.At) {
		t.Errorf("the last line is of %v, want %v", last, res.At)
	}
}

// A writer goes on with a record whose last line was cut off.
func TestWriterGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	if err := os.WriteFile(path, []byte(`{"time":"2026-01-01T00:00:00Z"}`+"\n"+`{"time":"2026-`), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := record.OpenWriter(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(engine.Result{Decided: true, At: start}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := record.NewReader(must(os.Open(path)), func(s string) { t.Error(s) })
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after two lines: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// FuzzReplay: whatever the bytes, there is an answer for every line that is
// read, its weights are a whole split or what the line said, and nothing panics.
func FuzzReplay(f *testing.F) {
	w := newWorld()
	for i := range 6 {
		if i == 2 {
			w.replicas["v2"] = 1
		}
		f.Add([]byte(w.look()))
		w.apply(record.Answer{Weights: map[string]float64{"v1": 95, "v2": 5}})
	}
	f.Add([]byte(`{"time":"2026-01-01T00:00:05Z","observation":{"workloads":{"known":2,"items":[{"revision":"v1@1","replicas":1}]},"route":{"known":2,"weights":{"v1@1":10000}}}}`))
	f.Add([]byte(`{"time":"2026-01-01T00:00:05Z","start":{"state":{"phase":"Baking","step":3,"stable":{"revision":"v1"}}}}`))
	f.Add([]byte(`{"time":"2026-01-01T00:00:05Z","traffic":{"v1":50,"v2":25,"v3":25},"metrics":{"m":{"v1":1e308}}}`))
	spec, cfg := documentSpec(f, document)
	f.Fuzz(func(t *testing.T, data []byte) {
		text := append(append(bytes.Clone(data), '\n'), data...)
		var out bytes.Buffer
		sum, err := record.Replay(spec, cfg, bytes.NewReader(text), &out, record.Hooks{})
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != sum.Lines {
			t.Fatalf("%d answers to %d lines (%v)", n, sum.Lines, err)
		}
		var wrong *record.LineError
		if err != nil && (!errors.As(err, &wrong) || len(wrong.Problems) == 0) {
			t.Fatalf("an error without a place: %v", err)
		}
		dec := json.NewDecoder(&out)
		for dec.More() {
			var a record.Answer
			if err := dec.Decode(&a); err != nil {
				t.Fatal(err)
			}
			if a.Phase == "" || a.Message == "" {
				t.Fatalf("an answer without a phase or a message: %+v", a)
			}
		}
	})
}
