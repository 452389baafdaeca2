package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/metric/prometheus"
	"github.com/serin-dev/serin/internal/rollout"
)

// lintReport is what is wrong, and what people should know.
type lintReport struct {
	Problems []lintProblem `json:"problems"`
	Warnings []string      `json:"warnings"`
	Notes    []string      `json:"notes"`
}

type lintProblem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Object  string `json:"object,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// lint: everything that is wrong with documents, at once.
func (a *app) lint() *cobra.Command {
	var out format
	var dir string
	var run []string
	var forCluster bool
	c := &cobra.Command{
		Use:   "lint (-f DIR | NAME)",
		Short: "Everything that is wrong with the documents, at once",
		Long: `With -f it reads the documents and says everything that is wrong with them: the
file and line, the field's path, what is wrong and what would be right. Nothing is
asked of any server. With --cluster they are meant for one: only the Rollouts are
looked at, and not how one machine would run the rest; what their routes and
Services lack the controller says before any traffic moves (serin lint NAME).

With the NAME of a rollout in a cluster it is that one's document, and what the
controller's preflight has found.

Exit code 1 if a rollout could not start.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.names,
		RunE: func(cmd *cobra.Command, args []string) error {
			var r lintReport
			var right string
			switch {
			case dir != "" && len(args) > 0:
				return fmt.Errorf("-f names documents and %s a rollout in a cluster: one of them is meant", args[0])
			case dir == "" && given(cmd, "run", "cluster") != nil:
				return fmt.Errorf("%s: only with -f", strings.Join(given(cmd, "run", "cluster"), ", "))
			case dir == "" && len(args) == 0 && !a.Plugin && a.clusterFlags() == nil:
				return errors.New("want -f DIR, or the NAME of a rollout in a cluster")
			case dir == "":
				doc, v, err := a.document(cmd.Context(), args)
				if err != nil {
					return err
				}
				r, right = lintRemote(doc, v), doc.Name+" is right, and nothing is known that would go wrong"
			default:
				commands, err := parseRun(run)
				if err != nil {
					return err
				}
				files, err := documents(dir)
				if err != nil {
					return err
				}
				var l linted
				if forCluster {
					r, l = lintForCluster(files)
					right = fmt.Sprintf("%s in %s right: %s", plural(len(l.names), "Rollout"), plural(len(files), "file"), strings.Join(l.names, ", "))
				} else {
					r, l = lintFiles(files, commands)
					verb := "are"
					if l.versions == 1 {
						verb = "is"
					}
					right = fmt.Sprintf("%s in %s %s right: %s", plural(l.versions, "version"), plural(len(files), "file"), verb, strings.Join(l.names, ", "))
				}
			}
			if out.json() {
				if err := out.print(a.Stdout, r); err != nil {
					return err
				}
			} else {
				for _, p := range r.Problems {
					fmt.Fprintln(a.Stdout, oneLine(manifest.Problem(p).String()))
				}
				for _, w := range r.Warnings {
					fmt.Fprintln(a.Stdout, oneLine("warning: "+w))
				}
				for _, n := range r.Notes {
					fmt.Fprintln(a.Stdout, oneLine("note: "+n))
				}
			}
			switch n := len(r.Problems); {
			case n > 0:
				return &Exit{Code: httpapi.ExitError, Err: errors.New(plural(n, "problem"))}
			case !out.json():
				fmt.Fprintln(a.Stdout, oneLine(right))
			}
			return nil
		},
	}
	c.Flags().StringVarP(&dir, "file", "f", "", "folder of documents, or one file")
	c.Flags().StringArrayVar(&run, "run", nil, "IMAGE=COMMAND, as for up; may be repeated")
	c.Flags().BoolVar(&forCluster, "cluster", false, "with -f: the documents are for a cluster")
	outputFlag(c, &out)
	return c
}

// lintForCluster looks at the Rollouts of documents, and at nothing else but
// whether two of them would take the same objects.
func lintForCluster(files map[string][]byte) (lintReport, linted) {
	r := lintReport{Problems: []lintProblem{}, Warnings: []string{}, Notes: []string{}}
	var l linted
	docs, problems := manifest.Rollouts(files)
	for _, p := range problems {
		r.Problems = append(r.Problems, lintProblem(p))
	}
	for _, d := range docs {
		name := d.Rollout.Name
		if ns := d.Rollout.Namespace; ns != "" {
			name = ns + "/" + name
		}
		l.names = append(l.names, name)
		if _, _, err := engine.SpecOf(d.Rollout); err != nil {
			r.Problems = append(r.Problems, lintProblem{File: d.File, Object: "Rollout/" + name, Message: err.Error()})
		}
		r.Problems = append(r.Problems, lintQueries(d.File, "Rollout/"+name, d.Rollout)...)
	}
	if len(l.names) == 0 && len(r.Problems) == 0 {
		r.Problems = append(r.Problems, lintProblem{Message: "there is no Rollout (apiVersion " + v1alpha1.GroupVersion.String() + ")"})
	}
	return r, l
}

// lintQueries says what is wrong with the document's own queries, by
// Prometheus' parser: the place is the query's, line and column.
func lintQueries(file, object string, doc *v1alpha1.Rollout) []lintProblem {
	var found []lintProblem
	for i, m := range doc.Spec.Analysis.Metrics {
		if m.Prometheus == nil {
			continue
		}
		for _, p := range prometheus.Check(m.Prometheus.Query) {
			found = append(found, lintProblem{File: file, Object: object,
				Path: fmt.Sprintf("spec.analysis.metrics[%d].prometheus.query", i), Message: p.Error()})
		}
	}
	return found
}

// lintRemote is a cluster's own document, and what preflight found.
func lintRemote(doc *v1alpha1.Rollout, v httpapi.RolloutView) lintReport {
	r := lintReport{Problems: []lintProblem{}, Warnings: []string{}, Notes: []string{}}
	object := "Rollout/" + doc.Namespace + "/" + doc.Name
	valid := doc.DeepCopy()
	valid.Default()
	for _, e := range valid.Validate() {
		r.Problems = append(r.Problems, lintProblem{Object: object, Path: e.Field, Message: e.ErrorBody()})
	}
	r.Problems = append(r.Problems, lintQueries("", object, doc)...)
	for _, f := range v.Findings {
		if f.Level == rollout.Refuse {
			r.Problems = append(r.Problems, lintProblem{Object: object, Message: remedied(f.What, f.Remedy)})
			continue
		}
		r.Warnings = append(r.Warnings, remedied(f.What, f.Remedy))
	}
	if v.Stalled != "" {
		r.Warnings = append(r.Warnings, "a person is needed: "+v.Stalled)
	}
	return r
}

type linted struct {
	versions int
	names    []string
}

func lintFiles(files map[string][]byte, run map[string][]string) (lintReport, linted) {
	r := lintReport{Problems: []lintProblem{}, Warnings: []string{}, Notes: []string{}}
	var l linted
	set, problems := manifest.Load(files, manifest.Options{Run: run})
	for _, p := range problems {
		r.Problems = append(r.Problems, lintProblem(p))
	}
	if set == nil {
		return r, l
	}
	for _, app := range set.Apps {
		l.names = append(l.names, app.Name)
		l.versions += len(app.Versions)
		if app.Derived != "" {
			r.Notes = append(r.Notes, app.Derived)
		}
		for _, f := range app.Findings {
			text := remedied(f.What, f.Remedy)
			if f.Level == manifest.Refuse {
				r.Problems = append(r.Problems, lintProblem{Object: "Rollout/" + app.Name, Message: text})
			} else {
				r.Warnings = append(r.Warnings, app.Name+": "+text)
			}
		}
		if _, _, err := engine.SpecOf(app.Rollout); err != nil {
			r.Problems = append(r.Problems, lintProblem{File: app.File, Object: "Rollout/" + app.Name, Message: err.Error()})
		}
		r.Problems = append(r.Problems, lintQueries(app.File, "Rollout/"+app.Name, app.Rollout)...)
	}
	for _, n := range set.Notes {
		r.Notes = append(r.Notes, n.String())
	}
	return r, l
}
