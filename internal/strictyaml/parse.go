package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong, and where. Line and Column count from 1;
// 0 means not known. Path is empty for the document as a whole.
type Problem struct {
	Line, Column int
	Path         string
	Message      string
	Meant        string // path of the field that an unknown one was probably meant to be
}

func (p Problem) String() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// Document is one document of a file, checked against the bounds.
type Document struct {
	root *yaml.Node
}

// Line is the document's first line.
func (d *Document) Line() int { return d.root.Line }

// Parse splits a file into its documents. Empty documents are left out. With
// problems there are no documents: half a file is not a file.
func Parse(data []byte) (docs []*Document, problems []Problem) {
	if len(data) > MaxBytes {
		return nil, []Problem{{Message: fmt.Sprintf("%d bytes: a file may have %d", len(data), MaxBytes)}}
	}
	// The library has had inputs that made it panic; here that would end the
	// daemon, which serves users.
	defer func() {
		if r := recover(); r != nil {
			docs, problems = nil, []Problem{{Message: fmt.Sprintf("cannot be read as YAML: %v", r)}}
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, []Problem{syntax(err)}
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || isNull(n.Content[0]) {
			continue
		}
		if len(docs) == MaxDocuments {
			return nil, []Problem{{Line: n.Line, Message: fmt.Sprintf("more than %d documents in one file", MaxDocuments)}}
		}
		c := checker{left: MaxNodes}
		c.walk(n.Content[0], "", 0)
		if len(c.problems) > 0 {
			return nil, c.problems
		}
		docs = append(docs, &Document{root: n.Content[0]})
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?`)

// syntax turns the library's error into a problem with its line.
func syntax(err error) Problem {
	s := err.Error()
	p := Problem{}
	if m := yamlLine.FindStringSubmatch(s); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		s = s[len(m[0]):]
	}
	p.Message = "is not YAML: " + s
	switch {
	case strings.Contains(s, "cannot start any token"):
		p.Message += "; a tab is none: indent with spaces"
	case strings.Contains(s, "mapping values are not allowed"):
		p.Message += ": a key stands where its indentation does not fit those above it, or a text with a colon needs quotes"
	}
	return p
}

// checker walks a document once, as if every alias were written out.
type checker struct {
	left     int
	stopped  bool
	problems []Problem
}

func (c *checker) add(n *yaml.Node, path, format string, args ...any) {
	if len(c.problems) < MaxProblems {
		c.problems = append(c.problems, Problem{Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) walk(n *yaml.Node, path string, depth int) {
	if c.stopped {
		return
	}
	c.left--
	switch {
	case c.left < 0:
		c.stopped = true
		c.add(n, path, "more than %d values, aliases written out", MaxNodes)
		return
	case depth > MaxDepth:
		// An alias to what contains it ends here too.
		c.stopped = true
		c.add(n, path, "nested deeper than %d levels", MaxDepth)
		return
	}
	switch n.Kind {
	case yaml.AliasNode:
		c.walk(n.Alias, path, depth+1)
	case yaml.SequenceNode:
		for i, e := range n.Content {
			c.walk(e, index(path, i), depth+1)
		}
	case yaml.MappingNode:
		seen := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := deref(n.Content[i])
			if k.Kind != yaml.ScalarNode {
				c.add(n.Content[i], path, "a key has to be text")
				continue
			}
			if k.Tag == "!!merge" {
				c.add(k, path, "merge keys (<<) are not read here: write the fields out")
				continue
			}
			if first, twice := seen[k.Value]; twice {
				c.add(k, Join(path, k.Value), "given twice, first on line %d", first)
				continue
			}
			seen[k.Value] = k.Line
			c.walk(n.Content[i+1], Join(path, k.Value), depth+1)
		}
	}
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = deref(n)
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// maxPath keeps paths, which repeat the document's own keys, short enough to print.
const maxPath = 512

// Join adds a field to a path. A key that is not a plain name is put in
// brackets: metadata.labels[app.kubernetes.io/name].
func Join(path, key string) string {
	if len(key) > 128 {
		key = key[:128] + "..."
	}
	if len(path) > maxPath {
		return path
	}
	if !plainKey.MatchString(key) {
		return path + "[" + key + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_<-][A-Za-z0-9_<-]*$`)

func index(path string, i int) string {
	if len(path) > maxPath {
		return path
	}
	return path + "[" + strconv.Itoa(i) + "]"
}

// Position gives the line of the value at path, or of the nearest thing above
// it that is there.
func (d *Document) Position(path string) int {
	n := d.root
	line := n.Line
	for _, part := range split(path) {
		n = deref(n)
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if deref(n.Content[i]).Value == part {
					next, line = n.Content[i+1], n.Content[i].Line
					break
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.Content) {
				next, line = n.Content[i], n.Content[i].Line
			}
		}
		if next == nil {
			return line
		}
		n = next
	}
	return line
}

// split takes a path apart: a.b[2].c[d.e/f] is a, b, 2, c, d.e/f.
func split(path string) []string {
	var parts []string
	for path != "" {
		switch {
		case path[0] == '.':
			path = path[1:]
		case path[0] == '[':
			in, rest, ok := strings.Cut(path[1:], "]")
			if !ok {
				return append(parts, in)
			}
			parts, path = append(parts, in), rest
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			parts, path = append(parts, path[:end]), path[end:]
		}
	}
	return parts
}

// Text gives the scalar at a path of plain field names, or "".
func (d *Document) Text(fields ...string) string {
	n := deref(d.root)
	for _, f := range fields {
		n = child(n, f)
		if n == nil {
			return ""
		}
	}
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if deref(n.Content[i]).Value == key {
			return deref(n.Content[i+1])
		}
	}
	return nil
}
