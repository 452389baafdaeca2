package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// list: every rollout in one line; who needs a person comes first.
func (a *app) list() *cobra.Command {
	var out format
	c := &cobra.Command{
		Use:   "list",
		Short: "Every rollout in one line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer cl.Close()
			views, err := cl.List(cmd.Context())
			if err != nil {
				return err
			}
			if out.json() {
				return printJSON(a.Stdout, views)
			}
			if len(views) == 0 {
				fmt.Fprintln(a.Stdout, "No rollout is known yet.")
				return nil
			}
			return table(a.Stdout, listRows(views))
		},
	}
	outputFlag(c, &out)
	return c
}

func listRows(views []httpapi.RolloutView) [][]string {
	rows := [][]string{{"NAME", "READY", "PHASE", "STEP", "WEIGHT", "STABLE", "CANARY", "VERDICT", "MESSAGE"}}
	urgent := func(v httpapi.RolloutView) bool {
		return v.Stalled != "" || v.Waiting == rollout.WaitApproval || v.Waiting == rollout.WaitPerson
	}
	for _, first := range []bool{true, false} {
		for _, v := range views {
			if urgent(v) != first {
				continue
			}
			ready := "?"
			for _, c := range v.Conditions {
				if c.Type == "Ready" {
					ready = c.Status
				}
			}
			weight, verdict := "-", "-"
			if underWay(v) {
				weight, verdict = v.WeightSet.String(), v.Verdict.String()
			}
			rows = append(rows, []string{
				httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String(), ready, string(v.Phase), stepOf(v), weight,
				label(v.Stable), label(v.Canary), verdict, v.Message,
			})
		}
	}
	return rows
}

func label(v *httpapi.VersionView) string {
	if v == nil {
		return "-"
	}
	return v.Version
}
