package strictyaml

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Field is one value of a document as Walk shows it.
type Field struct {
	Path    string // spec.http[0].match[1]
	Pattern string // spec.http[].match[]
	Key     string // the last name of the path; empty for a list's element
	Text    string // the value where it is a scalar
	Line    int
}

// Walk shows every value that is not null to visit, from above to below, in the
// order of the file. Where visit answers false, what is below is left out.
func (d *Document) Walk(visit func(Field) (below bool)) {
	walk(d.root, Field{Line: d.root.Line}, visit)
}

func walk(n *yaml.Node, at Field, visit func(Field) bool) {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := deref(n.Content[i])
			f := Field{
				Path: Join(at.Path, k.Value), Pattern: strings.TrimPrefix(at.Pattern+"."+k.Value, "."),
				Key: k.Value, Line: n.Content[i].Line,
			}
			step(n.Content[i+1], f, visit)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			step(e, Field{Path: index(at.Path, i), Pattern: at.Pattern + "[]", Line: e.Line}, visit)
		}
	}
}

func step(n *yaml.Node, f Field, visit func(Field) bool) {
	n = deref(n)
	if isNull(n) {
		return
	}
	if n.Kind == yaml.ScalarNode {
		f.Text = n.Value
	}
	if visit(f) {
		walk(n, f, visit)
	}
}
