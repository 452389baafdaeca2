package v1alpha1

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/internal/golden"
	"github.com/serin-dev/serin/internal/strictyaml"
)

// Every document under testdata/documents, as it is after Default, or
// everything that is wrong with it.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/documents/*.[yj]*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden.Same(t, strings.TrimSuffix(file, filepath.Ext(file))+".golden", describe(t, data))
		})
	}
}

// describe does what a host does with a file: read, fill in, check, together.
func describe(t *testing.T, data []byte) string {
	var out strings.Builder
	docs, problems := strictyaml.Parse(data)
	for _, p := range problems {
		fmt.Fprintln(&out, p)
	}
	for _, d := range docs {
		if !IsRollout(d.Text("apiVersion"), d.Text("kind")) {
			fmt.Fprintf(&out, "--- line %d is another kind\n", d.Line())
			continue
		}
		p, unread := ParseDocument(d)
		wrong := p.Check(unread)
		if len(wrong) == 0 {
			b, err := yaml.Marshal(p.Rollout)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s", b)
			continue
		}
		fmt.Fprintf(&out, "--- line %d\n", d.Line())
		for _, w := range wrong {
			fmt.Fprintln(&out, w)
		}
	}
	return out.String()
}

func everything(t testing.TB) *Rollout {
	t.Helper()
	data, err := os.ReadFile("testdata/documents/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, errs := Parse(data)
	if len(errs) > 0 || len(parsed) != 1 {
		t.Fatal(errs)
	}
	return parsed[0].Rollout
}

func TestDefaultLeavesWhatWasSaid(t *testing.T) {
	said := everything(t)
	got := said.DeepCopy()
	got.Default()
	// What is in the document and did not have to be filled in: the hold of
	// the weights without one, the time of tests without one.
	for i, s := range said.Spec.Strategy.Canary.Steps {
		g := got.Spec.Strategy.Canary.Steps[i]
		if s.Hold == nil && s.Weight != nil {
			g.Hold = nil
		}
		if s.Test != nil && s.Test.Timeout == nil {
			g.Test.Timeout = nil
		}
		got.Spec.Strategy.Canary.Steps[i] = g
	}
	if diff := cmp.Diff(said, got); diff != "" {
		t.Errorf("Default changed (-said +got):\n%s", diff)
	}
}

func TestEverythingSaysEverything(t *testing.T) {
	// Otherwise the test above and the one of DeepCopy prove less than they say.
	empty := emptyFields(reflect.ValueOf(everything(t).Spec), "spec")
	want := []string{"spec.Workload.InPlace", "spec.Strategy.BlueGreen", "spec.Analysis.None", "spec.Analysis.Skip"}
	if diff := cmp.Diff(want, empty); diff != "" {
		t.Errorf("fields that everything.yaml leaves empty, and the ones that exclude others (-want +got):\n%s", diff)
	}
}

// emptyFields lists the fields that are zero in every element of the value.
func emptyFields(v reflect.Value, path string) []string {
	switch v.Kind() {
	case reflect.Pointer:
		return emptyFields(v.Elem(), path)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return nil
		}
		counts, order := map[string]int{}, []string{}
		for i := range v.Len() {
			for _, e := range emptyFields(v.Index(i), path+"[]") {
				if counts[e]++; counts[e] == 1 {
					order = append(order, e)
				}
			}
		}
		var all []string
		for _, e := range order {
			if counts[e] == v.Len() {
				all = append(all, e)
			}
		}
		return all
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeFor[Rollout]().PkgPath() || v.Type() == reflect.TypeFor[Duration]() {
			return nil
		}
		var all []string
		for i := range v.NumField() {
			at := path + "." + v.Type().Field(i).Name
			if v.Field(i).IsZero() {
				all = append(all, at)
			} else {
				all = append(all, emptyFields(v.Field(i), at)...)
			}
		}
		return all
	}
	return nil
}

func TestDefaultTwiceIsDefaultOnce(t *testing.T) {
	for _, r := range []*Rollout{{}, everything(t), {Spec: RolloutSpec{Strategy: Strategy{BlueGreen: &BlueGreenStrategy{Preview: &Match{Path: "/"}, Test: &Test{}}}}}} {
		r.Default()
		once := r.DeepCopy()
		r.Default()
		if diff := cmp.Diff(once, r); diff != "" {
			t.Errorf("the second Default changed (-once +twice):\n%s", diff)
		}
	}
}

// Defaults are not shared: what one document's owner changes stays there.
func TestDefaultsAreNotShared(t *testing.T) {
	a, b := &Rollout{}, &Rollout{}
	a.Default()
	b.Default()
	*a.Spec.Strategy.Canary.Steps[0].Weight = 1
	a.Spec.Analysis.Deadline.Duration = 1
	if *b.Spec.Strategy.Canary.Steps[0].Weight != 500 || b.Spec.Analysis.Deadline.Duration != 30*time.Minute {
		t.Error("two documents share a default")
	}
}

func TestAnEmptyRolloutIsRefusedAndNothingPanics(t *testing.T) {
	r := &Rollout{}
	if len(r.Validate()) == 0 {
		t.Error("no problem with nothing at all")
	}
	r.Default()
	if len(r.Validate()) == 0 {
		t.Error("no problem with nothing but defaults")
	}
}

func TestPrintedDocumentIsReadAsTheSame(t *testing.T) {
	r := everything(t)
	r.Default()
	b, err := yaml.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, errs := Parse(b)
	if len(errs) > 0 {
		t.Fatalf("%v\n%s", errs, b)
	}
	if diff := cmp.Diff(r, again[0].Rollout); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
}

func TestPlanOfBlueGreen(t *testing.T) {
	data, err := os.ReadFile("testdata/documents/bluegreen.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, errs := Parse(data)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	parsed[0].Rollout.Default()
	var kinds []string
	plan := parsed[0].Rollout.Spec.Strategy.Plan()
	for i := range plan {
		kinds = append(kinds, plan[i].kind())
	}
	if diff := cmp.Diff([]string{"test", "match", "approval", "weight"}, kinds); diff != "" {
		t.Error(diff)
	}
	if last := plan[len(plan)-1]; *last.Weight != Whole {
		t.Errorf("the switch is to %s", last.Weight)
	}
}

func TestProblemsKnowTheirLine(t *testing.T) {
	data := []byte("apiVersion: serin.dev/v1alpha1\nkind: Rollout\nmetadata: {name: a}\nspec:\n  workload: {inPlace: {name: a}}\n  traffic:\n  - istio:\n      virtualService: a\n")
	parsed, errs := Parse(data)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for path, want := range map[string]int{
		"spec.traffic[0].istio.virtualService": 8, "spec.traffic[0].istio.destinationRule": 7,
		"spec.traffic[3]": 6, "spec.drift": 4, "metadata.name": 3, "": 1,
	} {
		if got := parsed[0].Line(path); got != want {
			t.Errorf("Line(%q) = %d, want %d", path, got, want)
		}
	}
}

// The written DeepCopy is current: it gives an equal value that shares nothing.
func TestDeepCopySharesNothing(t *testing.T) {
	for _, in := range []runtime.Object{&Rollout{}, &RolloutList{}, &RolloutCommand{}, &RolloutCommandList{}} {
		fill(reflect.ValueOf(in).Elem(), 0)
		out := in.DeepCopyObject()
		if diff := cmp.Diff(in, out); diff != "" {
			t.Errorf("DeepCopy of %T differs:\n%s", in, diff)
		}
		if path := shared(reflect.ValueOf(in).Elem(), reflect.ValueOf(out).Elem(), reflect.TypeOf(in).Elem().Name()); path != "" {
			t.Errorf("%s is shared between a value and its copy: make generate", path)
		}
	}
}

// fill gives every pointer, slice and map something to point at.
func fill(v reflect.Value, depth int) {
	if !v.CanSet() || depth > 12 || v.Type() == reflect.TypeFor[metav1.Time]() || v.Type() == reflect.TypeFor[Time]() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e, depth+1)
		v.SetMapIndex(reflect.ValueOf("k").Convert(v.Type().Key()), e)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	case reflect.String:
		v.SetString("s")
	case reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// shared gives the path of the first memory that two values have in common.
func shared(a, b reflect.Value, path string) string {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() {
			return ""
		}
		if a.Pointer() == b.Pointer() && a.Type().Elem().Size() > 0 {
			return path
		}
		return shared(a.Elem(), b.Elem(), path)
	case reflect.Slice:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			return path
		}
		for i := range a.Len() {
			if p := shared(a.Index(i), b.Index(i), path+"[]"); p != "" {
				return p
			}
		}
	case reflect.Map:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			return path
		}
	case reflect.Struct:
		for i := range a.NumField() {
			if !a.Type().Field(i).IsExported() {
				continue
			}
			if p := shared(a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name); p != "" {
				return p
			}
		}
	}
	return ""
}

// The readable part of a status with every list and every text at its bound,
// all at once, which nothing real comes near: it stays within what a store that
// leaves out the oldest figures and texts can bring below MaxStatusBytes.
func TestStatusIsBounded(t *testing.T) {
	full := fullStatus()
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(b))
	if len(b) > MaxStatusBytes*5/4 {
		t.Errorf("a status at all of its bounds is %d bytes", len(b))
	}
	var again RolloutStatus
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, again); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
}

func fullStatus() RolloutStatus {
	s := strings.Repeat
	at := Time{time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)}
	ready, weight, n := int64(1000), Percent(1234), Number(123456789.25)
	v := Version{Revision: s("r", MaxRevision), Label: s("l", MaxRevision), Workload: s("w", MaxName), Replicas: 1000, Ready: &ready, Weight: &weight, Requests: &n, Why: s("y", MaxSentence)}
	figure := Figure{Metric: s("m", 63), Unit: "share", Canary: 0.0123456789, Stable: 0.00123456789, CanaryN: 123456, StableN: 1234567, Low: -0.0123456, High: 0.0234567, Limit: 0.01, WindowSeconds: 300.25, State: "pending"}
	st := RolloutStatus{
		ObservedGeneration: 1 << 40, Phase: PhaseProgressing, Message: s("m", MaxSentence), Stable: &v, Canary: &v, Previous: s("p", MaxRevision),
		Step: &StepStatus{Number: 2, Of: 5, Text: "2/5", LiveAt: &at}, Weight: WeightStatus{Set: weight, Seen: &weight}, Verdict: VerdictUndecided,
		Evidence: &Evidence{Rollback: 1, Advance: 2, Sentence: s("s", MaxSentence), Figures: []Figure{figure}, SavedAt: &at, Digest: s("d", 64), Saved: "e30="},
		Waiting:  "evidence", Until: &at, Started: &at, Exposed: n, Harmed: n, N: 1 << 40, Told: 1 << 40, Copy: s("c", MaxWord),
	}
	for range MaxConditions {
		st.Conditions = append(st.Conditions, metav1.Condition{Type: s("t", 64), Reason: s("r", 64), Message: s("m", MaxSentence)})
	}
	for range MaxPaused {
		st.Paused = append(st.Paused, PauseStatus{Kind: "person", By: s("b", MaxName), Why: s("y", MaxSentence), At: &at})
	}
	for range MaxFindings {
		st.Findings = append(st.Findings, Finding{Level: "Refuse", What: s("w", MaxSentence), Remedy: s("r", MaxSentence)})
	}
	for range MaxDecisions {
		st.Decisions = append(st.Decisions, Decision{N: 1 << 40, At: at, By: s("b", MaxName), What: s("w", MaxWord), From: s("f", MaxRevision), To: s("t", MaxRevision), Why: s("y", MaxSentence), Revision: s("r", MaxRevision), Figures: []Figure{figure, figure, figure, figure}})
	}
	for range MaxHistory {
		st.History = append(st.History, HistoryEntry{Revision: s("r", MaxRevision), From: s("f", MaxRevision), Outcome: "rolledBack", By: s("b", MaxName), Why: s("y", MaxSentence), Started: at, Ended: at, Exposed: n, Harmed: n})
	}
	return st
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/documents/*.[yj]*")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, errs := Parse(data)
		if len(errs) > 0 && parsed != nil {
			t.Fatal("half a file was returned")
		}
		for _, p := range parsed {
			p.Check(nil)
			once := p.Rollout.DeepCopy()
			p.Rollout.Default()
			if diff := cmp.Diff(once, p.Rollout); diff != "" {
				t.Fatalf("a second Default changed:\n%s", diff)
			}
			if len(p.Rollout.Validate()) > 0 {
				continue
			}
			b, err := yaml.Marshal(p.Rollout)
			if err != nil {
				t.Fatal(err)
			}
			again, errs := Parse(b)
			if len(errs) > 0 || len(again) != 1 {
				t.Fatalf("a valid document cannot be read back: %v\n%s", errs, b)
			}
		}
	})
}
