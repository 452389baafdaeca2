package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// list: every rollout in one line; who needs a person comes first.
func (a *app) list() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use:   "list",
		Short: "Every rollout in one line; who needs a person comes first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer h.Close()
			views, err := h.List(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return out.print(a.Stdout, views)
			}
			if len(views) == 0 {
				fmt.Fprintln(a.Stdout, oneLine(fmt.Sprintf("No rollout is known%s yet.", whereOf(h))))
				return nil
			}
			return table(a.Stdout, listRows(views, listOptions{namespace: a.cluster.All, wide: out.wide(), now: a.Now()}))
		},
	}
	c.Flags().BoolVarP(&a.cluster.All, "all-namespaces", "A", false, "in a cluster: every namespace")
	outputFlag(c, &out, "wide")
	return c
}

type listOptions struct {
	namespace bool // in a column of its own
	wide      bool
	now       time.Time
}

func listRows(views []httpapi.RolloutView, o listOptions) [][]string {
	head := []string{"NAME", "READY", "PHASE", "STEP", "WEIGHT", "SEEN", "VERDICT", "STABLE", "CANARY"}
	if o.wide {
		head = append(head, "EVIDENCE", "EXPOSED", "HARMED", "WAITS FOR", "LEFT", "AGE")
	}
	head = append(head, "MESSAGE")
	if o.namespace {
		head = append([]string{"NAMESPACE"}, head...)
	}
	rows := [][]string{head}
	sorted := slices.Clone(views)
	slices.SortStableFunc(sorted, func(x, y httpapi.RolloutView) int { return rank(x) - rank(y) })
	for _, v := range sorted {
		weight, seen, verdict, evidence, exposed, harmed, left := "-", "-", "-", "-", "-", "-", "-"
		if underWay(v) {
			weight, verdict = v.WeightSet.String(), v.Verdict.String()
			evidence, exposed, harmed = percent(v.Evidence.Advance), count(v.Exposed), count(v.Harmed)
			if v.WeightSeen != nil {
				seen = percent(*v.WeightSeen)
			}
		}
		if v.Until != nil {
			left = httpapi.Span(v.Until.Sub(o.now))
		}
		name := v.Name
		if !o.namespace && !oneNamespace(views) {
			name = httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String()
		}
		row := []string{name, readyOf(v), string(v.Phase), stepOf(v), weight, seen, verdict, label(v.Stable), label(v.Canary)}
		if o.wide {
			age := "-"
			if v.Started != nil && underWay(v) {
				age = httpapi.Span(o.now.Sub(*v.Started))
			}
			row = append(row, evidence, exposed, harmed, orDash(string(v.Waiting)), left, age)
		}
		row = append(row, v.Message)
		if o.namespace {
			row = append([]string{v.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return rows
}

// rank says who comes first: who needs a person, then what is going back, then
// what is under way.
func rank(v httpapi.RolloutView) int {
	switch {
	case v.Stalled != "" || v.Waiting == rollout.WaitApproval || v.Waiting == rollout.WaitPerson:
		return 0
	case v.Phase == rollout.RollingBack:
		return 1
	case underWay(v):
		return 2
	case v.Exit != httpapi.ExitPromoted:
		return 3
	}
	return 4
}

func oneNamespace(views []httpapi.RolloutView) bool {
	for _, v := range views {
		if v.Namespace != views[0].Namespace {
			return false
		}
	}
	return true
}

func readyOf(v httpapi.RolloutView) string {
	for _, c := range v.Conditions {
		if c.Type == "Ready" {
			return c.Status
		}
	}
	return "?"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func label(v *httpapi.VersionView) string {
	if v == nil {
		return "-"
	}
	return v.Version
}
