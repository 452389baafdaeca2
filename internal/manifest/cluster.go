package manifest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/strictyaml"
)

// Document is one Rollout of a file. It has its defaults filled in.
type Document struct {
	Rollout *v1alpha1.Rollout
	File    string
}

// Rollouts reads the Rollouts of files that are meant for a cluster, by file and
// place. Other objects are not judged; the Deployments among them tell whether
// two Rollouts would take the same one. As with [Load], there are Rollouts or
// Problems, never both.
func Rollouts(files map[string][]byte) ([]Document, Problems) {
	l := &loader{notes: map[[2]string]*Note{}, seen: map[string]where{}}
	if !l.bounded(files) {
		return nil, l.problems
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		docs, problems := strictyaml.Parse(files[name])
		for _, p := range problems {
			l.add(Problem{File: name, Line: p.Line, Path: p.Path, Message: p.Message})
		}
		for _, d := range docs {
			l.clusters(name, d)
		}
	}
	if len(l.problems) == 0 {
		l.apart()
	}
	if len(l.problems) > 0 {
		l.order()
		return nil, l.problems
	}
	var out []Document
	for i, p := range l.rollouts {
		out = append(out, Document{Rollout: p.Rollout, File: l.rolloutAt[i].file})
	}
	return out, nil
}

// order puts problems in the order of files and lines.
func (l *loader) order() {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
}

// clusters reads one document as far as it matters to a cluster's Rollouts.
func (l *loader) clusters(file string, d *strictyaml.Document) {
	w := where{file: file, doc: d, kind: d.Text("kind")}
	w.Name, w.Namespace = d.Text("metadata", "name"), cmp.Or(d.Text("metadata", "namespace"), defaultNamespace)
	version := d.Text("apiVersion")
	group, _, _ := strings.Cut(version, "/")
	switch {
	case w.kind == "List":
		l.aList(w)
	case v1alpha1.IsRollout(version, w.kind):
		l.identity(w, version)
		l.rollout(w)
		l.rollouts[len(l.rollouts)-1].Rollout.Namespace = d.Text("metadata", "namespace") // the context's, if none
	case group == v1alpha1.GroupVersion.Group && w.kind != v1alpha1.CommandKind:
		l.wrong(w, "kind", "there is no such kind in %s; %s", group, thereAre([]string{v1alpha1.Kind, v1alpha1.CommandKind}, w.kind))
	case w.kind == "Deployment" && group == "apps":
		o := read[deploymentObject]{where: w}
		_ = d.Decode(&o.body, strictyaml.Skip) // the API server says what is wrong with it
		l.deployments = append(l.deployments, o)
	}
}

// apart wants every VirtualService and every Deployment to have one Rollout.
func (l *loader) apart() {
	routes, taken := map[string]parts{}, map[string]parts{}
	for i := range l.rollouts {
		r, w := l.rollouts[i].Rollout, l.rolloutAt[i]
		p := parts{where: w, rollout: r}
		for j := range r.Spec.Traffic {
			if t := r.Spec.Traffic[j].Istio; t != nil && t.VirtualService != "" {
				l.oneSplit(routes, p, where{kind: "VirtualService", objectMeta: objectMeta{t.VirtualService, w.Namespace}}, j)
			}
		}
		v := r.Spec.Workload.Versions
		if v == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&v.Selector)
		if err != nil || selector.Empty() { // said
			selector = labels.Nothing()
		}
		for _, d := range l.selected(w.Namespace, selector) {
			l.oneOwner(taken, p, d.where)
		}
	}
}
