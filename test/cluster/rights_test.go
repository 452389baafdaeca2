package cluster

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/serin-dev/serin/test/cluster/lab"
)

// unasked are rights that these tests have no use for, with the reason. Every
// other right that is shipped has to be used by some test.
var unasked = map[string]string{
	"delete serin.dev/rolloutcommands":  "answered commands go after a day",
	"get /configmaps":                   "asked only where both versions use one that was changed",
	"patch apps/deployments/scale":      "the way to scale where Deployments may not be patched (routes-only)",
	"update coordination.k8s.io/leases": "needs a leader that renews for longer than the tests last; see get",
}

// checkRights compares what Serin's account was allowed to do with what it did
// in all of the tests: nothing may have been refused, and nothing that is
// allowed may be of no use. The error says what.
func checkRights(ctx context.Context) error {
	rs, err := the.Requests(lab.SerinUser, time.Time{})
	if err != nil {
		return err
	}
	used := map[string]bool{}
	var wrong []string
	for _, r := range rs {
		resource := r.Resource
		if r.Subresource != "" {
			resource += "/" + r.Subresource
		}
		used[r.Verb+" "+r.Group+"/"+resource] = true
		// What is no resource is discovery, which an API server that has just come
		// back forbids to everybody for a moment.
		if r.Forbidden && r.Group+r.Namespace != "" && !strings.HasPrefix(r.Resource, "/") && !strings.Contains(r.Agent, "lab-test") {
			wrong = append(wrong, fmt.Sprintf("was refused: %s %s/%s in %s", r.What(), r.Namespace, r.Name, r.Group))
		}
	}
	var rules []rbacv1.PolicyRule
	role, err := the.Clients.RbacV1().ClusterRoles().Get(ctx, "serin-controller", metav1.GetOptions{})
	if err != nil {
		return err
	}
	rules = append(rules, role.Rules...)
	lease, err := the.Clients.RbacV1().Roles(lab.SerinNamespace).Get(ctx, "serin-controller-lease", metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, r := range append(rules, lease.Rules...) {
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				for _, v := range r.Verbs {
					// Where the API server streams lists, a watch is a list too.
					streamed := v == "list" && used["watch "+g+"/"+res]
					if right := v + " " + g + "/" + res; !used[right] && !streamed && unasked[right] == "" {
						wrong = append(wrong, "was never used: "+right)
					}
				}
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("the rights that are shipped and what was done with them:\n  %s", strings.Join(slices.Compact(wrong), "\n  "))
}

// finish is what follows the last test.
func finish(ctx context.Context, code int, whole bool) int {
	if !whole || code != 0 {
		return code
	}
	if err := checkRights(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
