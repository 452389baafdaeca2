package v1alpha1

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/serin-dev/serin/internal/strictyaml"
)

// Parsed is one Rollout of a file, and where its parts stand in it.
//
// +kubebuilder:object:generate=false
type Parsed struct {
	Rollout *Rollout
	doc     *strictyaml.Document
}

// Line gives the line of a field's path ("spec.traffic[0].istio") in the file,
// or that of the nearest thing above it that is there.
func (p Parsed) Line(path string) int { return p.doc.Position(path) }

// ParseError is one thing that could not be read. Line counts from 1, 0 is unknown.
//
// +kubebuilder:object:generate=false
type ParseError struct {
	Line    int
	Path    string
	Message string
}

func (e *ParseError) Error() string {
	return strictyaml.Problem{Line: e.Line, Path: e.Path, Message: e.Message}.String()
}

// Parse reads the Rollouts of a YAML or JSON file, strictly: see package doc.
// Documents of other kinds are left out. All problems come at once, in the
// order of the file; with a problem nothing is returned, because half of what
// was asked for is not what was asked for. Neither Default nor Validate has
// been called on what is returned.
func Parse(data []byte) ([]Parsed, []*ParseError) {
	docs, problems := strictyaml.Parse(data)
	var parsed []Parsed
	var errs []*ParseError
	for _, d := range docs {
		if !IsRollout(d.Text("apiVersion"), d.Text("kind")) {
			continue
		}
		p, wrong := ParseDocument(d)
		parsed, problems = append(parsed, p), append(problems, wrong...)
	}
	for _, p := range problems {
		errs = append(errs, &ParseError{Line: p.Line, Path: p.Path, Message: p.Message})
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return parsed, nil
}

// IsRollout says whether a document with this apiVersion and kind is meant to
// be a Rollout of ours, in whatever version. Argo and Kruise have the kind too.
func IsRollout(apiVersion, kind string) bool {
	group, _, _ := cutLast(apiVersion, '/')
	return kind == Kind && (group == GroupVersion.Group || apiVersion == "")
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// ParseDocument reads one document that IsRollout.
func ParseDocument(d *strictyaml.Document) (Parsed, []strictyaml.Problem) {
	r := &Rollout{}
	problems := d.Decode(r, strictyaml.Refuse)
	for i := range problems {
		if problems[i].Message == resource.ErrFormatWrong.Error() {
			problems[i].Message = "a quantity is meant, such as 2, 500m or 300Mi"
		}
	}
	if v := d.Text("apiVersion"); v != GroupVersion.String() {
		problems = append(problems, strictyaml.Problem{
			Line: d.Position("apiVersion"), Path: "apiVersion",
			Message: fmt.Sprintf("%q: this program reads %s", v, GroupVersion),
		})
	}
	return Parsed{Rollout: r, doc: d}, problems
}

// Check calls Default and Validate on what ParseDocument gave, and gives its
// problems together with the new ones, each with its line. What Validate says
// about a field that could not be read or was misspelt, or about one above or
// below it, is left out: it would follow from the first problem.
func (p Parsed) Check(unread []strictyaml.Problem) []strictyaml.Problem {
	p.Rollout.Default()
	problems := unread
	for _, e := range p.Rollout.Validate() {
		if !followsFrom(unread, e.Field) {
			problems = append(problems, strictyaml.Problem{
				Line: p.Line(e.Field), Path: e.Field, Message: e.ErrorBody(),
			})
		}
	}
	return problems
}

func followsFrom(unread []strictyaml.Problem, path string) bool {
	for _, u := range unread {
		if within(u.Path, path) || within(path, u.Path) || (u.Meant != "" && within(path, u.Meant)) {
			return true
		}
	}
	return false
}

// within says whether path is at or below above.
func within(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
