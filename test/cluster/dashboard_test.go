package cluster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// page is a dashboard that somebody started, and what a browser would bring.
type page struct {
	t     *testing.T
	root  string
	token string
}

// opens runs `serin dashboard ARGS` until the test ends.
func (p *person) opens(args ...string) page {
	p.t.Helper()
	cmd := p.command(the.Tools.Serin, append([]string{"dashboard", "--listen", "127.0.0.1:0"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			p.t.Errorf("the dashboard of %s ended with %v: %s", p.name, err, errs.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.t.Fatalf("the dashboard of %s says no address: %v %s", p.name, err, errs.String())
	}
	root, token, _ := strings.Cut(strings.TrimSpace(line), "/?token=")
	return page{p.t, strings.TrimSuffix(root, "/"), token}
}

func (p page) as(token string) page { p.token = token; return p }

func (p page) asks(method, path, body string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.root+"/_serin/v1"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// may is what the page is told that its viewer may send.
func (p page) may(ns string) (name, verbs string) {
	p.t.Helper()
	_, body := p.asks("GET", "/viewer?name=my-app&namespace="+ns, "")
	var who struct {
		Name string
		May  []string
	}
	if err := json.Unmarshal([]byte(body), &who); err != nil {
		p.t.Fatalf("%v: %s", err, body)
	}
	return who.Name, strings.Join(who.May, " ")
}

func tokenOf(t *testing.T, ns, account string) string {
	t.Helper()
	got, err := the.Clients.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Status.Token
}

// withToken is the way to the cluster with a token and nothing else.
func withToken(t *testing.T, token string) string {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(the.Kubeconfig("alice"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range cfg.AuthInfos {
		cfg.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDashboard is what people do in a browser, with the rights that are
// shipped: with their own kubeconfig, and signed in where one dashboard serves
// everybody.
func TestDashboard(t *testing.T) {
	together(t)
	ns := namespace(t)
	settled(t, ns, document(t, approvalText))
	binds(t, ns, "alice", "serin-view", "serin-edit", "serin-approve")
	binds(t, ns, "bob", "serin-view")
	home := t.TempDir()
	alice, bob := &person{t, "alice", ns, home}, &person{t, "bob", ns, home}

	// One dashboard for everybody runs as an account that may look and ask, and no more.
	account := "{kind: ServiceAccount, name: window, namespace: " + ns + "}"
	for _, doc := range []string{
		`{apiVersion: v1, kind: ServiceAccount, metadata: {name: window}}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: test-window}, rules: [{apiGroups: [serin.dev], resources: [rollouts], verbs: [get, list, watch]}]}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: test-window}, subjects: [` + account + `], roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: test-window}}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: test-window-asks}, subjects: [` + account + `], roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: "system:auth-delegator"}}`,
	} {
		if err := the.Apply(t.Context(), ns, []byte(doc)); err != nil {
			t.Fatal(err)
		}
	}
	tokens := map[string]string{"window": tokenOf(t, ns, "window")}
	for name, roles := range map[string][]string{"carol": {"serin-view", "serin-edit", "serin-approve"}, "dave": {"serin-view"}, "eve": nil} {
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := the.Clients.CoreV1().ServiceAccounts(ns).Create(t.Context(), sa, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, r := range roles {
			doc := fmt.Sprintf("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: %s-%s}, subjects: [{kind: ServiceAccount, name: %s, namespace: %s}], roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: %s}}", name, r, name, ns, r)
			if err := the.Apply(t.Context(), ns, []byte(doc)); err != nil {
				t.Fatal(err)
			}
		}
		tokens[name] = tokenOf(t, ns, name)
	}

	hers, his := alice.opens("-n", ns), bob.opens("-n", ns)
	window := alice.opens("-A", "--sign-in", "--kubeconfig", withToken(t, tokens["window"]))
	see := "/rollouts/my-app?namespace=" + ns
	eventually(t, "all of them show the rollout", func() (bool, error) {
		a, _ := hers.asks("GET", see, "")
		b, _ := his.asks("GET", see, "")
		c, body := window.as(tokens["carol"]).asks("GET", see, "")
		return a == 200 && b == 200 && c == 200, fmt.Errorf("%d, %d, %d %s", a, b, c, body)
	})

	t.Log("who is who, and who may what")
	prefix := "system:serviceaccount:" + ns + ":"
	const all = "abort undo pause approve resume promote retry adopt"
	for _, x := range []struct {
		p          page
		name, want string
	}{
		{hers, "alice", all}, {his, "bob", ""},
		{window.as(tokens["carol"]), prefix + "carol", all}, {window.as(tokens["dave"]), prefix + "dave", ""},
	} {
		if name, may := x.p.may(ns); name != x.name || may != x.want {
			t.Errorf("%s may %q; want %s and %q", name, may, x.name, x.want)
		}
	}
	for name, token := range map[string]string{"eve sees nothing": tokens["eve"], "nobody is let in": "x", "no token": ""} {
		want := http.StatusUnauthorized
		if token == tokens["eve"] {
			want = http.StatusNotFound
		}
		if code, body := window.as(token).asks("GET", see, ""); code != want || strings.Contains(body, "stable") {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if _, body := window.as(tokens["eve"]).asks("GET", "/briefs", ""); strings.Contains(body, "my-app") {
		t.Errorf("eve's list: %s", body)
	}

	t.Log("v2 waits for an approval")
	deploy(t, ns, "v2", 2)
	waits := func(p page) func() (bool, error) {
		return func() (bool, error) {
			_, body := p.asks("GET", see, "")
			return strings.Contains(body, `"waiting":"approval"`), fmt.Errorf("%.400s", body)
		}
	}
	eventually(t, "alice is shown that it waits", waits(hers))
	eventually(t, "carol is shown that it waits", waits(window.as(tokens["carol"])))
	sends := "/rollouts/my-app/commands?namespace=" + ns
	for name, p := range map[string]page{"bob": his, "dave": window.as(tokens["dave"]), "eve": window.as(tokens["eve"])} {
		if code, body := p.asks("POST", sends, `{"id":"d-`+name+`","verb":"approve","by":"alice","reason":"I like it"}`); code == 200 {
			t.Errorf("%s approved: %s", name, body)
		}
	}
	if code, body := window.as(tokens["carol"]).asks("POST", sends, `{"id":"d-carol","verb":"pause","by":"alice","reason":"a look"}`); code != 200 || !strings.Contains(body, prefix+"carol paused: a look") {
		t.Errorf("carol's pause: %d %s", code, body)
	}
	if code, body := hers.asks("POST", sends, `{"id":"d-alice-1","verb":"resume","reason":"seen"}`); code != 200 || !strings.Contains(body, "alice resumed") {
		t.Errorf("alice's resume: %d %s", code, body)
	}

	t.Log("the rest is done in a browser")
	browses(t, "approval", map[string]string{
		"alice": hers.root + "/?token=" + hers.token, "bob": his.root + "/?token=" + his.token,
		"window": window.root + "/", "token": tokens["carol"], "ns": ns,
	}, nil)
}
