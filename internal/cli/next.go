package cli

import (
	"fmt"
	"strings"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// next says what a person can do, most useful first. as is how the program is
// called here: "serin" or "kubectl serin".
func next(v httpapi.RolloutView, as string) []string {
	if httpapi.Unreadable(v) {
		return []string{"do what is said above: it goes on by itself then"}
	}
	name := httpapi.Ref{Namespace: v.Namespace, Name: v.Name}.String()
	if v.Paused != "" && v.Stable != nil && v.Phase == rollout.Idle { // it outlives the rollout that it was meant for
		how := fmt.Sprintf(as+" resume %s   ends the pause: till then a new version waits at 0 %%", name)
		if strings.Contains(v.Paused, "`suspend: true`") {
			how = "take `suspend: true` out of the document: till then a new version waits at 0 %"
		}
		v.Paused = ""
		return append([]string{how}, next(v, as)...)
	}
	switch {
	case v.Stable == nil:
		return []string{fmt.Sprintf(as+" adopt %s --stable VERSION   says which version is the stable one", name)}
	case v.Phase == rollout.RollingBack:
		return []string{"nothing: the traffic is on its way back by itself"}
	case underWay(v) && v.Waiting == rollout.WaitApproval:
		return []string{
			fmt.Sprintf(as+" approve %s --reason ...   lets it go on", name),
			fmt.Sprintf(as+" abort %s --reason ...   takes it back", name),
		}
	case underWay(v) && v.Stalled != "":
		return []string{
			"put right what is said above: it goes on by itself, or once a person resumes",
			fmt.Sprintf(as+" abort %s --reason ...   takes it back", name),
		}
	case underWay(v) && v.Paused != "":
		return []string{
			fmt.Sprintf(as+" resume %s   goes on", name),
			fmt.Sprintf(as+" abort %s --reason ...   takes it back", name),
		}
	case underWay(v):
		return []string{
			"nothing is needed: it goes on, or is taken back, by itself",
			fmt.Sprintf(as+" pause %s | promote %s | abort %s", name, name, name),
		}
	case v.Exit == httpapi.ExitRolledBack:
		return []string{
			asked(v),
			fmt.Sprintf(as+" retry %s --reason ...   tries the same one again", name),
		}
	case v.Stalled != "":
		return []string{fmt.Sprintf(as+" resume %s   goes on once that is settled", name)}
	case v.Previous != "":
		return []string{fmt.Sprintf(as+" undo %s --reason ...   goes back to %s", name, v.Previous)}
	}
	return nil
}

// asked says what is still asked for after a version was taken back.
func asked(v httpapi.RolloutView) string {
	if n := len(v.Condemned); n > 0 {
		return fmt.Sprintf("%s is still asked for: take it back in Git, or release a fixed version (a new revision), which starts afresh", v.Condemned[n-1].Label())
	}
	return "a fixed version (a new revision) starts afresh"
}
