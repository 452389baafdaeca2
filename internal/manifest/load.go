package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/strictyaml"
)

// Options say what the files cannot.
type Options struct {
	// Run gives the command line for an image, as ParseRun reads it. It wins
	// over what the container says.
	Run map[string][]string
	// Unstarted: nothing is started, so nobody has to say how.
	Unstarted bool
}

// IsManifest says whether a file's name is that of a document.
func IsManifest(name string) bool {
	base := path.Base(name)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "#") || strings.HasSuffix(base, "~") {
		return false // an editor's own files
	}
	switch path.Ext(base) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// Load reads files, by name, into a Set. Either there is a Set or there are
// Problems, never both.
func Load(files map[string][]byte, o Options) (*Set, Problems) {
	l := &loader{options: o, notes: map[[2]string]*Note{}, seen: map[string]where{}}
	if !l.bounded(files) {
		return nil, l.problems
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l.file(name, files[name])
	}
	// What does not stand by itself is not put together: the problems would
	// repeat themselves.
	var set *Set
	if len(l.problems) == 0 {
		set = l.assemble()
	}
	if len(l.problems) > 0 {
		l.order()
		return nil, l.problems
	}
	return set, nil
}

// where says in which file and document an object stands.
type where struct {
	file string
	doc  *strictyaml.Document
	kind string
	objectMeta
}

func (w where) object() string {
	if w.Namespace != defaultNamespace {
		return w.kind + "/" + w.Namespace + "/" + w.Name
	}
	return w.kind + "/" + w.Name
}

// at gives "file:line" of a field.
func (w where) at(path string) string {
	return fmt.Sprintf("%s:%d", w.file, w.doc.Position(path))
}

const defaultNamespace = "default"

// read is one object and where it stands.
type read[T any] struct {
	where
	body T
}

type loader struct {
	options  Options
	problems Problems
	notes    map[[2]string]*Note
	seen     map[string]where

	rollouts        []v1alpha1.Parsed
	rolloutAt       []where
	deployments     []read[deploymentObject]
	services        []read[serviceObject]
	destinations    []read[destinationRuleObject]
	virtualServices []read[virtualServiceObject]
}

const maxProblems = 200

func (l *loader) add(p Problem) {
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, p)
	}
}

// wrong adds a problem with a field of an object.
func (l *loader) wrong(w where, path, format string, args ...any) {
	l.add(Problem{File: w.file, Line: w.doc.Position(path), Object: w.object(), Path: path, Message: fmt.Sprintf(format, args...)})
}

func (l *loader) bounded(files map[string][]byte) bool {
	total := 0
	for _, b := range files {
		total += len(b)
	}
	if len(files) > MaxFiles {
		l.add(Problem{Message: fmt.Sprintf("%d files: %d can be read", len(files), MaxFiles)})
	}
	if total > MaxTotal {
		l.add(Problem{Message: fmt.Sprintf("%d bytes in all files: %d can be read", total, MaxTotal)})
	}
	return len(l.problems) == 0
}

func (l *loader) file(name string, data []byte) {
	if len(data) == 0 {
		// Many programs empty a file before they write it anew: taken at its
		// word it would withdraw the version that it held a moment ago.
		l.add(Problem{File: name, Message: "is empty: it is being written, or it can be removed"})
		return
	}
	docs, problems := strictyaml.Parse(data)
	for _, p := range problems {
		l.add(Problem{File: name, Line: p.Line, Path: p.Path, Message: p.Message})
	}
	for _, d := range docs {
		if len(l.seen) >= MaxObjects {
			l.add(Problem{File: name, Line: d.Line(), Message: fmt.Sprintf("more than %d objects", MaxObjects)})
			return
		}
		l.document(name, d)
	}
}

// groups are the apiVersions that each kind is read in.
var groups = map[string][]string{
	"Deployment":      {"apps/v1"},
	"Service":         {"v1"},
	"DestinationRule": {"networking.istio.io/v1alpha3", "networking.istio.io/v1beta1", "networking.istio.io/v1"},
	"VirtualService":  {"networking.istio.io/v1alpha3", "networking.istio.io/v1beta1", "networking.istio.io/v1"},
}

func (l *loader) document(file string, d *strictyaml.Document) {
	w := where{file: file, doc: d, kind: d.Text("kind")}
	w.Name, w.Namespace = d.Text("metadata", "name"), cmp.Or(d.Text("metadata", "namespace"), defaultNamespace)
	version := d.Text("apiVersion")
	if w.kind == "List" {
		l.aList(w)
		return
	}
	if !l.identity(w, version) && (w.kind == "" || version == "") {
		return
	}
	switch {
	case v1alpha1.IsRollout(version, w.kind):
		l.rollout(w)
	case w.kind == v1alpha1.Kind:
		l.wrong(w, "apiVersion", "%q is another project's Rollout; this one is %s", clip(version), v1alpha1.GroupVersion)
	case groups[w.kind] != nil && !slices.Contains(groups[w.kind], version):
		verb := "is"
		if len(groups[w.kind]) > 1 {
			verb = "are"
		}
		l.wrong(w, "apiVersion", "%q is not read; %s %s", clip(version), strings.Join(groups[w.kind], ", "), verb)
	case groups[w.kind] != nil:
		l.object(w)
	case ignoredKinds[w.kind] != "":
		l.note(w, "", ignoredKinds[w.kind])
	default:
		kinds := append(slices.Sorted(maps.Keys(groups)), v1alpha1.Kind)
		if near := strictyaml.Nearest(kinds, w.kind); near != "" {
			l.wrong(w, "kind", "is not understood; is %s meant?", near)
			return
		}
		l.wrong(w, "kind", "is not understood on one machine; %s are; %s", strings.Join(kinds, ", "), keepApart)
	}
}

// aList refuses what has no name of its own: what is in it would be left out.
func (l *loader) aList(w where) {
	l.add(Problem{File: w.file, Line: w.doc.Position("items"), Object: w.kind, Path: "items",
		Message: "lists are not read: write each item as a document of its own, with --- between them"})
}

// identity wants every object to be named, once.
func (l *loader) identity(w where, version string) bool {
	bare := Problem{File: w.file, Line: w.doc.Line()}
	switch {
	case w.kind == "" || version == "":
		bare.Message = "is no Kubernetes object: apiVersion and kind are missing"
	case w.Name == "":
		bare.Object, bare.Path, bare.Message = clip(w.kind), "metadata.name", "is missing"
	case len(w.Name) > 253 || len(validation.IsDNS1123Subdomain(w.Name)) > 0:
		bare.Object, bare.Path, bare.Message = clip(w.kind), "metadata.name", fmt.Sprintf("%q: small letters, digits, - and . are meant", clip(w.Name))
	case len(validation.IsDNS1123Label(w.Namespace)) > 0:
		bare.Object, bare.Path, bare.Message = w.kind+"/"+w.Name, "metadata.namespace", fmt.Sprintf("%q: small letters, digits and - are meant", clip(w.Namespace))
	}
	if bare.Message != "" {
		if bare.Path != "" {
			bare.Line = w.doc.Position(bare.Path)
		}
		l.add(bare)
		return false
	}
	group, _, _ := strings.Cut(version, "/")
	key := group + "/" + w.object()
	if first, twice := l.seen[key]; twice {
		l.wrong(w, "metadata.name", "is given twice, first in %s", first.at("metadata.name"))
		return false
	}
	l.seen[key] = w
	return true
}

func (l *loader) note(w where, field, why string) {
	key := [2]string{w.kind, field}
	n := l.notes[key]
	if n == nil {
		n = &Note{Kind: w.kind, Field: field, Why: why}
		l.notes[key] = n
	}
	if !slices.Contains(n.Objects, w.object()) {
		n.Objects = append(n.Objects, w.object())
	}
}

func (l *loader) rollout(w where) {
	p, unread := v1alpha1.ParseDocument(w.doc)
	for _, problem := range p.Check(unread) {
		if problem.Path == "metadata.name" || problem.Path == "metadata.namespace" {
			continue // identity has said so
		}
		l.add(Problem{File: w.file, Line: problem.Line, Object: w.object(), Path: problem.Path, Message: problem.Message})
	}
	p.Rollout.Namespace = w.Namespace
	l.rollouts, l.rolloutAt = append(l.rollouts, p), append(l.rolloutAt, w)
}

// object holds a document against the table and reads what is used of it.
func (l *loader) object(w where) {
	table := capabilities[w.kind]
	w.doc.Walk(func(f strictyaml.Field) bool {
		c, known := lookup(table, f)
		if !known {
			if near := strictyaml.Nearest(siblings(table, f), f.Key); near != "" {
				l.wrong(w, f.Path, "is not understood; is %s meant?", near)
			} else {
				l.wrong(w, f.Path, "is not understood on one machine; %s", keepApart)
			}
			return false
		}
		if c.values != nil && !slices.Contains(c.values, f.Text) {
			l.wrong(w, f.Path, "%q is not done on one machine, which knows %s; %s", clip(f.Text), strings.Join(c.values, ", "), keepApart)
			return false
		}
		switch c.how {
		case refused:
			l.wrong(w, f.Path, "%s", c.why)
		case noted:
			l.note(w, f.Pattern, c.why)
		}
		return c.how == 0
	})
	switch w.kind {
	case "Deployment":
		l.deployments = append(l.deployments, decode[deploymentObject](l, w))
	case "Service":
		l.services = append(l.services, decode[serviceObject](l, w))
	case "DestinationRule":
		d := decode[destinationRuleObject](l, w)
		l.destinationPolicies(d)
		l.destinations = append(l.destinations, d)
	case "VirtualService":
		v := decode[virtualServiceObject](l, w)
		l.policies(v)
		l.virtualServices = append(l.virtualServices, v)
	}
}

func decode[T any](l *loader, w where) read[T] {
	r := read[T]{where: w}
	for _, p := range w.doc.Decode(&r.body, strictyaml.Skip) {
		l.add(Problem{File: w.file, Line: p.Line, Object: w.object(), Path: p.Path, Message: p.Message})
	}
	return r
}
