package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// The cluster of these tests: etcd and an API server with install.yaml applied,
// and kinds by Istio's names. Nobody aggregates roles there, so the tests bind
// each role itself.
var (
	cluster *rest.Config
	admin   client.Client
)

const istioKinds = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %s.networking.istio.io}
spec:
  group: networking.istio.io
  names: {kind: %s, plural: %s, singular: %s}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return m.Run()
	}
	env := &envtest.Environment{}
	cfg, err := env.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the API server of KUBEBUILDER_ASSETS does not start:", err)
		return 1
	}
	defer func() {
		if err := env.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		}
	}()
	cfg.QPS = -1
	cluster = cfg
	if err := setUp(cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func setUp(cfg *rest.Config) error {
	var err error
	if admin, err = client.New(cfg, client.Options{}); err != nil {
		return err
	}
	text, err := os.ReadFile(config + "/install.yaml")
	if err != nil {
		return err
	}
	kinds := fmt.Sprintf(istioKinds, "virtualservices", "VirtualService", "virtualservices", "virtualservice") +
		"---" + fmt.Sprintf(istioKinds, "destinationrules", "DestinationRule", "destinationrules", "destinationrule")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, doc := range strings.Split(kinds+"---\n"+string(text), "\n---\n") {
		if err := apply(ctx, admin, doc); err != nil {
			return fmt.Errorf("%w\n%s", err, doc[:min(len(doc), 400)])
		}
	}
	// In force once a policy denies what it is there to deny.
	return eventually(ctx, func() error {
		err := admin.Create(ctx, command("in-force", "somebody-else", "pause"), client.DryRunAll)
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("the policies are not in force: %w", orNone(err))
		}
		return nil
	})
}

func orNone(err error) error {
	if err == nil {
		return errors.New("nothing was refused")
	}
	return err
}

func eventually(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func object(text string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		panic(err)
	}
	return u
}

// apply creates what a document says. Kinds that were just defined are served
// after a moment; what is refused is refused at once.
func apply(ctx context.Context, c client.Client, doc string) error {
	u := object(doc)
	if len(u.Object) == 0 {
		return nil
	}
	var refused error
	err := eventually(ctx, func() error {
		err := c.Create(ctx, u.DeepCopy())
		if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
			refused = err
			return nil
		}
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	return errors.Join(err, refused)
}

// as is a client of somebody else.
func as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	cfg := rest.CopyConfig(cluster)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// live skips, or with CI=true fails, where there is no API server.
func live(t *testing.T) context.Context {
	t.Helper()
	if cluster == nil || os.Getenv("KUBEBUILDER_ASSETS") == "" { // asked here too, for the cache of go test
		const why = "no API server: KUBEBUILDER_ASSETS has to name the folder of etcd and kube-apiserver"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return t.Context()
}

// namespace makes one, with its service account's name for the controller.
func namespace(t *testing.T, name string) {
	t.Helper()
	if err := apply(t.Context(), admin, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}"); err != nil {
		t.Fatal(err)
	}
}

func bind(t *testing.T, namespace, role, user string) {
	t.Helper()
	err := apply(t.Context(), admin, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[2]s-%[3]s, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[2]s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[3]s}]
`, namespace, role, user))
	if err != nil {
		t.Fatal(err)
	}
}

func command(name, by, verb string) *unstructured.Unstructured {
	return object(fmt.Sprintf("{apiVersion: serin.dev/v1alpha1, kind: RolloutCommand, metadata: {name: %s, namespace: default}, spec: {rollout: my-app, by: %q, verb: %s}}", name, by, verb))
}
