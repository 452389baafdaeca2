package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/test/cluster/lab"
)

// approvalText is a document with a person in it.
const approvalText = `
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {name: my-app}
spec:
  workload: {versions: {selector: {matchLabels: {app: my-app}}, label: version}}
  traffic: [{istio: {virtualService: my-app-vs, destinationRule: my-app-dest, settle: 500ms}}]
  strategy:
    canary:
      steps:
      - {weight: 20%, hold: 1s}
      - {approval: {}}
      - {weight: 100%, hold: 1s}
  analysis: {none: {reason: this is about what people type}}
  promotion: {bake: 1s}
`

// typed is what came of a command line.
type typed struct {
	out, err string
	code     int
	asked    []lab.Request // of the API server, by this command line
}

// person types command lines in a namespace, with their own rights.
type person struct {
	t        *testing.T
	name, ns string
	home     string
}

func (p *person) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=" + p.home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + the.Kubeconfig(p.name), "TZ=UTC"}
	return cmd
}

// types runs `serin ARGS -n NAMESPACE`.
func (p *person) types(args ...string) typed {
	p.t.Helper()
	return p.runs(the.Tools.Serin, append(args, "-n", p.ns)...)
}

func (p *person) runs(program string, args ...string) typed {
	p.t.Helper()
	begun := time.Now()
	var out, errs bytes.Buffer
	cmd := p.command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	x := typed{}
	var failed *exec.ExitError
	if err := cmd.Run(); errors.As(err, &failed) {
		x.code = failed.ExitCode()
	} else if err != nil {
		p.t.Fatal(err)
	}
	x.out, x.err = out.String(), errs.String()
	// The server writes a request down when its answer is on its way, which may
	// be later than the answer is here. What is asked afterwards, and written
	// down, is after it.
	mark := fmt.Sprintf("after-%d", time.Now().UnixNano())
	the.Clients.CoreV1().Namespaces().Get(p.t.Context(), mark, metav1.GetOptions{}) // it is not there
	eventually(p.t, "the server's log", func() (bool, error) {
		ours, err := the.Requests("lab", begun)
		return slices.ContainsFunc(ours, func(r lab.Request) bool { return r.Name == mark }), err
	})
	var err error
	if x.asked, err = the.Requests(p.name, begun); err != nil {
		p.t.Fatal(err)
	}
	return x
}

// wants checks an exit code and what was printed, on either stream.
func (x typed) wants(t *testing.T, code int, words ...string) typed {
	t.Helper()
	if x.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", x.code, code, x.out, x.err)
	}
	for _, w := range words {
		if !strings.Contains(x.out+x.err, w) {
			t.Errorf("%q was not said:\n%s%s", w, x.out, x.err)
		}
	}
	return x
}

// binds gives a person one of the roles that are shipped, in one namespace.
func binds(t *testing.T, ns, user string, roles ...string) {
	t.Helper()
	for _, r := range roles {
		doc := fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: %s-%s}, subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: %s}], roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: %s}}", user, r, user, r)
		if err := the.Apply(t.Context(), ns, []byte(doc)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVerbs is what people type, with the rights that are shipped: who may edit
// and approve, and who may look.
func TestVerbs(t *testing.T) {
	together(t)
	ns := namespace(t)
	settled(t, ns, document(t, approvalText))
	binds(t, ns, "ann", "serin-view", "serin-edit", "serin-approve")
	binds(t, ns, "ben", "serin-view")
	home := t.TempDir()
	ann, ben := &person{t, "ann", ns, home}, &person{t, "ben", ns, home}
	eventually(t, "the rights in force", func() (bool, error) {
		x := ben.types("list")
		return x.code == 0, errors.New(x.err)
	})

	t.Log("at rest: one call for each object that is shown")
	for _, c := range []struct {
		args []string
		code int
		want string
		call string
	}{
		{[]string{"list"}, 0, "my-app  True   Idle", "list rollouts"},
		{[]string{"list", "-o", "wide"}, 0, "WAITS FOR", "list rollouts"},
		{[]string{"status", "my-app"}, 0, "v1  3/3 ready  100 % of the traffic", "get rollouts"},
		{[]string{"status"}, 0, "my-app  Idle", "list rollouts"},
		{[]string{"why", "my-app"}, 0, "ADOPTED", "get rollouts"},
		{[]string{"history", "my-app"}, 0, "No rollout of my-app has ended yet", "get rollouts"},
		{[]string{"watch", "my-app", "--once"}, 0, "Adopted", "get rollouts"},
	} {
		x := ben.types(c.args...).wants(t, c.code, c.want)
		if len(x.asked) != 1 || x.asked[0].What() != c.call {
			t.Errorf("serin %s asked for\n%swant one %s", strings.Join(c.args, " "), lab.Count(x.asked), c.call)
		}
	}
	ben.types("status", "nope").wants(t, 1, "no such rollout: "+ns+"/nope", "known: my-app")
	ben.runs(the.Tools.Serin, "list", "-A").wants(t, 1, "ben", "cannot list")
	ann.types("promote", "my-app").wants(t, 1, "no rollout is in progress")
	ann.types("logs", "my-app").wants(t, 1, "kubectl logs deployment/my-app-v1 --all-pods --prefix -n "+ns)
	ann.types("deploy", "my-app", "--version", "v9", "--", "x").wants(t, 1)
	var view struct {
		Name, Namespace string
		Exit            int
	}
	if err := json.Unmarshal([]byte(ben.types("status", "my-app", "-o", "json").out), &view); err != nil || view.Name != "my-app" || view.Namespace != ns {
		t.Errorf("%+v, %v", view, err)
	}
	view.Name = ""
	if err := yaml.Unmarshal([]byte(ben.types("status", "my-app", "-o", "yaml").out), &view); err != nil || view.Name != "my-app" {
		t.Errorf("%+v, %v", view, err)
	}

	ben.types("lint", "my-app").wants(t, 0, "my-app is right")
	ben.types("plan", "my-app").wants(t, 0, "my-app: from v1 (3 replicas) to the next version", "approval")

	t.Log("v2 waits for an approval")
	deploy(t, ns, "v2", 2)
	ann.types("wait", "my-app", "--revision", "v2", "--timeout", "3m").wants(t, 4)
	ann.types("status", "my-app").wants(t, 4, "20 % set", "waits for approval", "next      serin approve")
	ann.types("why", "my-app").wants(t, 0, "APPROVAL REQUESTED  v2")
	ben.types("approve", "my-app", "--reason", "I like it").wants(t, 1, "ben")
	ann.types("pause", "my-app", "--reason", "lunch").wants(t, 0, "ann paused: lunch")
	ann.types("resume", "my-app").wants(t, 0, "ann resumed")
	x := ann.types("approve", "my-app", "--reason", "OPS-1").wants(t, 0, "ann approved v2")
	// Who they are, the command, until it is taken, and what was decided about it.
	if n := len(x.asked); n > 5 {
		t.Errorf("approving took %d calls:\n%s", n, lab.Count(x.asked))
	}
	ann.types("wait", "my-app", "--revision", "v2", "--timeout", "3m").wants(t, 0)
	ann.types("history", "my-app").wants(t, 0, "v1    v2  promoted")

	t.Log("v3 is watched, and aborted")
	until(t, ns, "v2 at rest", atRest("v2"))
	deploy(t, ns, "v3", 2)
	ann.types("wait", "my-app", "--revision", "v3", "--timeout", "3m").wants(t, 4)
	var watched bytes.Buffer
	watch := ben.command(the.Tools.Serin, "watch", "my-app", "-n", ns)
	watch.Stdout, watch.Stderr = &watched, &watched
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, "a watch", func() (bool, error) {
		asked, err := the.Requests("ben", begun)
		return len(asked) > 0, err
	})
	ann.types("abort", "my-app", "--reason", "blank page").wants(t, 0, "ann aborted v3: blank page")
	var failed *exec.ExitError
	if err := watch.Wait(); !errors.As(err, &failed) || failed.ExitCode() != 2 || !strings.Contains(watched.String(), "ann aborted v3: blank page") {
		t.Errorf("the watch ended with %v:\n%s", err, watched.String())
	}
	ann.types("status", "my-app").wants(t, 2, "ann aborted v3: blank page", "serin retry")
	s := until(t, ns, "v2 at rest", atRest("v2"))
	if d := decided(s, "Aborted", "v3"); d == nil || d.By != "ann" {
		t.Errorf("the abort has no author: %+v", d)
	}

	t.Log("as kubectl's plugin")
	dir := t.TempDir()
	for _, n := range []string{"kubectl-serin", "kubectl_complete-serin"} {
		if err := os.Symlink(the.Tools.Serin, filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	ben.runs(filepath.Join(dir, "kubectl-serin"), "status", "my-app", "-n", ns).wants(t, 2, "my-app  Idle")
	ben.runs(filepath.Join(dir, "kubectl_complete-serin"), "status", "-n", ns, "").wants(t, 0, "my-app\t")

	t.Log("nobody decides any more: a document that cannot be followed")
	if err := the.Apply(t.Context(), ns, document(t, approvalText, "my-app-vs", "another-vs")); err != nil {
		t.Fatal(err)
	}
	until(t, ns, "words about the route", func(s v1alpha1.RolloutStatus) bool { return strings.Contains(fmt.Sprint(s), "another-vs") })
	if x := ben.types("status", "my-app"); !strings.Contains(x.out, "another-vs") {
		t.Errorf("the status does not name the route that is missing (exit %d):\n%s", x.code, x.out)
	}
}
