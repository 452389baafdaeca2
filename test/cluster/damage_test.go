package cluster

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
)

// damagedState: a saved state that cannot be read is said in the status, a person
// who asks or commands hears of it at once, the split stays, and the command that
// is named helps.
func damagedState(t *testing.T) {
	ns := namespace(t)
	one := process(t, "-n", ns)
	settled(t, ns, document(t, quickText, "{weight: 20%, hold: 3s}", "{weight: 20%, hold: 10m}"))
	binds(t, ns, "ann", "serin-view", "serin-edit", "serin-approve")
	ann := &person{t, "ann", ns, t.TempDir()}
	apply(t, ns, "04-deployment-v2.yaml")
	live(t, ns, 1)
	if err := one.End(); err != nil {
		t.Fatal(err)
	}
	patch := func(body string) {
		t.Helper()
		if _, err := the.Dynamic.Resource(rollouts).Namespace(ns).Patch(t.Context(), "my-app", types.MergePatchType, []byte(body), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	patch(`{"status":{"state":{"n":"four"}}}`)
	process(t, "-n", ns)
	s := until(t, ns, "it is said", func(s v1alpha1.RolloutStatus) bool {
		c := condition(s, v1alpha1.ConditionStalled)
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == "StateUnreadable"
	})
	if c := condition(s, v1alpha1.ConditionReady); c.Status != metav1.ConditionFalse || !strings.Contains(s.Message, "kubectl patch rollout my-app -n "+ns+" --subresource=status") {
		t.Errorf("Ready is %+v, the message %q", c, s.Message)
	}
	ann.types("status", "my-app").wants(t, 1, "Nothing is judged, moved or taken back", "next      do what is said above")
	ann.types("list").wants(t, 0, "my-app  False", "Nothing is judged")
	ann.types("abort", "my-app", "--reason", "smells").wants(t, 1, "refused: Nothing is judged, moved or taken back")
	eventually(t, "an event", func() (bool, error) {
		all, err := the.Clients.EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, e := range all.Items {
			if e.Reason == "StateUnreadable" && e.Type == "Warning" {
				return true, nil
			}
		}
		return false, nil
	})
	routed(t, ns, split{"v1": 80, "v2": 20})

	patch(`{"status":null}`)
	until(t, ns, "it goes on", func(s v1alpha1.RolloutStatus) bool { return s.Copy != "" && s.Stable != nil })
	ann.types("status", "my-app").wants(t, 3, "20 % set")
}
