package cli

import (
	"fmt"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// next says what a person can do, most useful first.
func next(v httpapi.RolloutView) []string {
	name := httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String()
	switch {
	case v.Stable == nil:
		return []string{fmt.Sprintf("serin adopt %s --stable VERSION   says which version is the stable one", name)}
	case v.Phase == rollout.RollingBack:
		return []string{"nothing: the traffic is on its way back by itself"}
	case underWay(v) && v.Waiting == rollout.WaitApproval:
		return []string{
			fmt.Sprintf("serin approve %s --reason ...   lets it go on", name),
			fmt.Sprintf("serin abort %s --reason ...   takes it back", name),
		}
	case underWay(v) && v.Stalled != "":
		return []string{
			"put right what is said above: it goes on by itself, or once a person resumes",
			fmt.Sprintf("serin abort %s --reason ...   takes it back", name),
		}
	case underWay(v) && v.Paused != "":
		return []string{
			fmt.Sprintf("serin resume %s   goes on", name),
			fmt.Sprintf("serin abort %s --reason ...   takes it back", name),
		}
	case underWay(v):
		return []string{
			"nothing is needed: it goes on, or is taken back, by itself",
			fmt.Sprintf("serin pause %s | serin promote %s | serin abort %s", name, name, name),
		}
	case v.Exit == httpapi.ExitRolledBack:
		return []string{
			"a fixed version (a new revision) starts afresh",
			fmt.Sprintf("serin retry %s --reason ...   tries the same one again", name),
		}
	case v.Stalled != "":
		return []string{fmt.Sprintf("serin resume %s   goes on once that is settled", name)}
	case v.Previous != "":
		return []string{fmt.Sprintf("serin undo %s --reason ...   goes back to %s", name, v.Previous)}
	}
	return nil
}
