package cluster

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/serin-dev/serin/test/cluster/lab"
)

// TestOthersAreLeftAlone: what is installed bounds Serin's own service account.
// Everybody else does in a namespace without Rollouts what they always did.
func TestOthersAreLeftAlone(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, "00-service.yaml", "01-deployment-v1.yaml", "02-destinationrule.yaml", "03-virtualservice.yaml")
	bounded(t, ns)
	for _, p := range []struct{ what, patch string }{
		{"replicas", `{"spec":{"replicas":2}}`},
		{"a template", `{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`},
	} {
		if _, err := the.Clients.AppsV1().Deployments(ns).Patch(t.Context(), "my-app-v1", types.MergePatchType, []byte(p.patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("changing %s of a Deployment: %v", p.what, err)
		}
	}
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { // with what brings the pods up
		sc, err := the.Clients.AppsV1().Deployments(ns).GetScale(t.Context(), "my-app-v1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		sc.Spec.Replicas = 1
		_, err = the.Clients.AppsV1().Deployments(ns).UpdateScale(t.Context(), "my-app-v1", sc, metav1.UpdateOptions{})
		return err
	}); err != nil {
		t.Errorf("scaling a Deployment: %v", err)
	}
	if err := writeWeights(t.Context(), ns, "somebody", map[string]int{"v1": 50, "v2": 50}); err != nil {
		t.Errorf("changing a VirtualService: %v", err)
	}
	if _, err := the.Dynamic.Resource(destinationRules).Namespace(ns).Patch(t.Context(), "my-app-dest", types.MergePatchType, []byte(`{"spec":{"subsets":[]}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("changing a DestinationRule: %v", err)
	}
	if err := the.Delete(t.Context(), deployments, ns, "my-app-v1"); err != nil {
		t.Errorf("deleting a Deployment: %v", err)
	}
	if err := the.Delete(t.Context(), virtualServices, ns, "my-app-vs"); err != nil {
		t.Errorf("deleting a VirtualService: %v", err)
	}
}

// bounded waits until the bounds of Serin's own account are in force: it may not
// change a template.
func bounded(t *testing.T, ns string) {
	t.Helper()
	cfg, err := the.ConfigOf(lab.SerinUser)
	if err != nil {
		t.Fatal(err)
	}
	cfg.UserAgent = "lab-test" // not the controller's own doing
	serin, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bounds in force", func() (bool, error) {
		_, err := serin.AppsV1().Deployments(ns).Patch(t.Context(), "my-app-v1", types.MergePatchType,
			[]byte(`{"spec":{"template":{"metadata":{"annotations":{"stolen":"token"}}}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "serin-bounds"), err
	})
}
