package manifest

import (
	"fmt"
	"strings"
	"testing"
)

const inCluster = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  workload: {versions: {selector: {matchLabels: {app: %[3]s}}}}
  traffic: [{istio: {virtualService: %[4]s, destinationRule: dest}}]
---
`

const ofVersion = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec: {template: {metadata: {labels: {app: %[3]s}}, spec: {anything: [1]}}}
---
`

// What is for a cluster is not held to what one machine can do; Rollouts are
// held to everything that can be known of them here, all at once.
func TestRollouts(t *testing.T) {
	one := fmt.Sprintf(inCluster, "one", "shop", "a", "vs")
	for name, c := range map[string]struct {
		files string // one file
		want  string // names, or problems
	}{
		"AnythingElse": {one + "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}\n---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: z}\n", "shop/one"},
		"Apart":        {one + fmt.Sprintf(inCluster, "two", "shop", "b", "vs2") + fmt.Sprintf(inCluster, "one", "other", "a", "vs") + fmt.Sprintf(ofVersion, "d", "shop", "a"), "shop/one shop/two other/one"},
		"OneRoute": {one + fmt.Sprintf(inCluster, "two", "shop", "b", "vs"),
			"f.yaml:15: Rollout/shop/two: spec.traffic[0].istio.virtualService: VirtualService/shop/vs carries the split of Rollout/shop/one (f.yaml:7) already: one Rollout moves the weights of a VirtualService"},
		"OneDeployment": {one + fmt.Sprintf(ofVersion, "d", "shop", "a") + fmt.Sprintf(inCluster, "two", "shop", "a", "vs2"),
			"f.yaml:20: Rollout/shop/two: spec.workload: selects Deployment/shop/d (f.yaml:13), which belongs to Rollout/shop/one (f.yaml:5) already: each version belongs to one Rollout"},
		"List":  {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: serin.dev/v1alpha1, kind: Rollout}\n", "f.yaml:3: List: items: lists are not read: write each item as a document of its own, with --- between them"},
		"Twice": {one + one, "f.yaml:12: Rollout/shop/one: metadata.name: is given twice, first in f.yaml:4"},
		"AllAtOnce": {strings.Replace(strings.Replace(one, "destinationRule", "destRule", 1), "name: one", "name: One", 1) + "apiVersion: serin.dev/v1alpha1\nkind: Rolout\nmetadata: {name: z}\n---\n" + strings.Replace(one, "app: a", "version: v1", 1),
			`f.yaml:4: Rollout: metadata.name: "One": small letters, digits, - and . are meant
f.yaml:7: Rollout/shop/One: spec.traffic[0].istio.destRule: no such field; there are destinationRule, routes, settle, virtualService
f.yaml:10: Rolout/z: kind: there is no such kind in serin.dev; Rollout?
f.yaml:18: Rollout/shop/one: spec.workload.versions.selector.matchLabels[version]: Invalid value: "v1": selects one version only, and "version" is the label that tells versions apart: leave it out here`},
	} {
		t.Run(name, func(t *testing.T) {
			docs, problems := Rollouts(map[string][]byte{"f.yaml": []byte(c.files)})
			got := problems.Error()
			if len(problems) == 0 {
				var names []string
				for _, d := range docs {
					names = append(names, d.Rollout.Namespace+"/"+d.Rollout.Name)
					if d.File != "f.yaml" || d.Rollout.Spec.Drift == "" {
						t.Errorf("%+v has no file or no defaults", d)
					}
				}
				got = strings.Join(names, " ")
			}
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Where nothing is started nobody has to say how: a plan can be made of what is
// for a cluster.
func TestUnstarted(t *testing.T) {
	files := readDir(t, "../../examples/hosts")
	if _, problems := Load(files, Options{}); !strings.Contains(problems.Error(), "say how it starts") {
		t.Errorf("%v", problems)
	}
	set, problems := Load(files, Options{Unstarted: true})
	if len(problems) > 0 || len(set.Apps) != 1 || set.Apps[0].Versions[0].Replicas != 3 || len(set.Apps[0].Versions[0].Command) > 0 {
		t.Errorf("%v", problems)
	}
}
