package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/record"
)

// replay: the policy and the judge over what was recorded.
func (a *app) replay() *cobra.Command {
	var file, name string
	var decisions bool
	c := &cobra.Command{
		Use:   "replay -f FILE RECORD|-",
		Short: "Decide again over a record, or over what another program sends",
		Long: `Runs the judge and the policy over an observation record, one JSON object per
line, and answers each line at once with one on standard output. With - the lines
come from standard input, so that any program can close the loop: it applies the
answered weights to its world and sends what it then sees. Time is the record's.

Ends with a summary on standard error. Exit codes: 0 promoted, 1 error or a person
is needed, 2 rolled back, 3 the record ends before the rollout, 4 waits for approval.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := rolloutIn(file, name)
			if err != nil {
				return err
			}
			spec, cfg, err := engine.SpecOf(doc)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			in := io.NopCloser(a.Stdin)
			if args[0] != "-" {
				if in, err = record.OpenRing(args[0]); err != nil {
					return err
				}
			}
			out := a.Stdout
			if decisions {
				out = &decisionsOnly{w: a.Stdout}
			}
			var sum record.Summary
			ended := make(chan struct{})
			go func() { // the next line may never come
				defer close(ended)
				sum, err = record.Replay(spec, cfg, in, out, record.Hooks{
					Warn: func(s string) { fmt.Fprintln(a.Stderr, oneLine("serin: "+s)) },
				})
			}()
			select {
			case <-ended:
			case <-cmd.Context().Done():
				return errors.New("stopped before the record ended")
			}
			for l := range strings.Lines(sum.String()) {
				fmt.Fprintln(a.Stderr, oneLine(strings.TrimSuffix(l, "\n")))
			}
			if err != nil {
				return err
			}
			return exit(sum.Exit)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file or folder with the Rollout")
	_ = c.MarkFlagRequired("file")
	c.Flags().StringVar(&name, "name", "", "the Rollout's name, where there are several")
	c.Flags().BoolVar(&decisions, "decisions", false, "print the decisions as text instead of an answer to every line")
	return c
}

// rolloutIn finds the Rollout in a file or folder; other kinds are not looked at.
func rolloutIn(path, name string) (*v1alpha1.Rollout, error) {
	files, err := documents(path)
	if err != nil {
		return nil, err
	}
	found := map[string]*v1alpha1.Rollout{}
	var wrong []error
	for _, f := range slices.Sorted(maps.Keys(files)) {
		parsed, problems := v1alpha1.Parse(files[f])
		for _, p := range problems {
			wrong = append(wrong, fmt.Errorf("%s: %w", f, p))
		}
		for _, p := range parsed {
			found[p.Rollout.Name] = p.Rollout
		}
	}
	names := slices.Sorted(maps.Keys(found))
	switch {
	case wrong != nil:
		return nil, errors.Join(wrong...)
	case len(found) == 0:
		return nil, fmt.Errorf("%s holds no Rollout (apiVersion %s)", path, v1alpha1.GroupVersion)
	case name != "" && found[name] == nil:
		return nil, fmt.Errorf("%s holds no Rollout %s: it has %s", path, name, strings.Join(names, ", "))
	case name != "":
		return found[name], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%s holds %d Rollouts: say with --name which of %s", path, len(found), strings.Join(names, ", "))
	}
	return found[names[0]], nil
}

// decisionsOnly takes answers, one a line and whole in one write, and prints
// what was decided.
type decisionsOnly struct{ w io.Writer }

func (d *decisionsOnly) Write(b []byte) (int, error) {
	var a record.Answer
	if err := json.Unmarshal(b, &a); err != nil {
		return 0, err
	}
	for _, e := range a.Decisions {
		move := e.From
		if e.To != "" {
			move = strings.TrimSpace(e.From + " -> " + e.To)
		}
		if _, err := fmt.Fprintln(d.w, oneLine(fmt.Sprintf("%s  #%-3d %-14s %s  by %s: %s", clock(e.At), e.N, e.What, move, e.By, e.Why))); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
