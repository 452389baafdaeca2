package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/manifest"
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

// lint: everything that is wrong with documents, at once, offline.
func (a *app) lint() *cobra.Command {
	var out format
	var dir string
	var run []string
	c := &cobra.Command{
		Use:   "lint -f DIR",
		Short: "Everything that is wrong with the documents, at once, offline",
		Long: `Reads the documents and says everything that is wrong with them: the file and
line, the field's path, what is wrong and what would be right. Exit code 1 if a
rollout could not start. Nothing is asked of any server.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			commands, err := parseRun(run)
			if err != nil {
				return err
			}
			files, err := documents(dir)
			if err != nil {
				return err
			}
			r, apps := lintFiles(files, commands)
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
			case n == 1:
				return &Exit{Code: httpapi.ExitError, Err: fmt.Errorf("1 problem")}
			case n > 1:
				return &Exit{Code: httpapi.ExitError, Err: fmt.Errorf("%d problems", n)}
			case !out.json():
				fmt.Fprintf(a.Stdout, "%d versions in %d files are right: %s\n", apps.versions, len(files), strings.Join(apps.names, ", "))
			}
			return nil
		},
	}
	c.Flags().StringVarP(&dir, "file", "f", "", "folder of documents, or one file")
	_ = c.MarkFlagRequired("file")
	c.Flags().StringArrayVar(&run, "run", nil, "IMAGE=COMMAND, as for up; may be repeated")
	outputFlag(c, &out)
	return c
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
	}
	for _, n := range set.Notes {
		r.Notes = append(r.Notes, n.String())
	}
	return r, l
}
