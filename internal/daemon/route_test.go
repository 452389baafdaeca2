package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/manifest"
	"github.com/serin-dev/serin/internal/rollout"
)

// asks are rules that ask for everything that a VirtualService can ask of this
// gateway; the last one carries the split.
const asks = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [my-app-service, Shop.Example]
  http:
  - name: rewritten
    match:
    - {uri: {prefix: /api/}}
    - {uri: {prefix: /old}, method: {exact: GET}}
    - {uri: {exact: /exactly}}
    rewrite: {uri: /echo/, authority: inner.example}
    headers:
      request: {set: {x-env: "100%%"}, add: {x-more: b}, remove: [x-drop]}
      response: {set: {cache-control: no-store}, remove: [x-secret]}
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: second
    match:
    - {uri: {prefix: /echo}, queryParams: {v: {exact: "2"}}}
    - {uri: {prefix: /ECHO/any}, ignoreUriCase: true}
    - {uri: {prefix: /echo}, method: {exact: PUT}, withoutHeaders: {x-first: {exact: "1"}}}
    route: [{destination: {host: my-app-service, subset: v2}}]
  - name: bounded
    match: [{uri: {exact: /never}}]
    timeout: 200ms
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: repeated
    match: [{uri: {exact: /every-second-fails}}]
    retries: {attempts: 1, retryOn: 5xx}
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: copied
    match: [{uri: {exact: /echo/copied}}]
    mirror: {host: my-app-service, subset: v2}
    mirrorPercentage: {value: 50}
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: main
    route:
    - {destination: {host: my-app-service, subset: v1}, weight: 100}
    - {destination: {host: my-app-service, subset: v2}, weight: 0}
`

func asking(vs, dr, more string) map[string]string {
	files := article(holding + unjudged + more)
	files["03-virtualservice.yaml"] = vs
	files["02-destinationrule.yaml"] = dr
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 1)
	files["05-rollout.yaml"] = strings.Replace(files["05-rollout.yaml"], "destinationRule: my-app-dest}", "destinationRule: my-app-dest, routes: [main]}", 1)
	return files
}

// ask sends one request to the gateway.
func (w *world) ask(method, host, path string, header ...string) (*http.Response, echo) {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://"+w.d.Addr()+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var e echo
	_ = json.Unmarshal(b, &e)
	return res, e
}

// What the documents ask of the gateway is done, from a file to an answer.
func TestTheGatewayDoesWhatTheDocumentsAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, asking(asks, destinationRule, ""))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	w.until("my-app", "v2 gets its share", liveAt(2500))

	for why, c := range map[string]struct{ method, path, header, version, target string }{
		"a prefix is replaced":               {path: "/api/x?q=1", version: "v1", target: "/echo/x?q=1"},
		"each alternative replaces its own":  {path: "/old/y", version: "v1", target: "/echo//y"},
		"an exact path is replaced whole":    {path: "/exactly", version: "v1", target: "/echo/"},
		"a parameter chooses":                {path: "/echo/p?v=2", version: "v2", target: "/echo/p?v=2"},
		"a path in any case chooses":         {path: "/echo/ANY", version: "v2", target: "/echo/ANY"},
		"a header that is not there chooses": {method: "PUT", path: "/echo/w", version: "v2", target: "/echo/w"},
	} {
		method := c.method
		if method == "" {
			method = "GET"
		}
		_, e := w.ask(method, "shop.example", c.path)
		if e.Version != c.version || e.Target != c.target {
			t.Errorf("%s: %s by %s, want %s by %s", why, e.Target, e.Version, c.target, c.version)
		}
	}

	res, e := w.ask("GET", "shop.example", "/api/h", "X-Env", "theirs", "X-More", "a", "X-Drop", "1")
	if e.Host != "inner.example" || e.Header.Get("X-Forwarded-Host") != "shop.example" {
		t.Errorf("Host %q, X-Forwarded-Host %q", e.Host, e.Header.Get("X-Forwarded-Host"))
	}
	if diff := cmp.Diff(map[string][]string{"X-Env": {"100%"}, "X-More": {"a", "b"}, "X-Drop": nil},
		map[string][]string{"X-Env": e.Header["X-Env"], "X-More": e.Header["X-More"], "X-Drop": e.Header["X-Drop"]}); diff != "" {
		t.Errorf("headers on the way there (-want +got):\n%s", diff)
	}
	if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("X-Secret") != "" {
		t.Errorf("headers on the way back: %v", res.Header)
	}

	if res, _ := w.ask("GET", "my-app-service", "/never"); res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("what takes too long: %s", res.Status)
	}
	for range 5 {
		if res, _ := w.ask("GET", "my-app-service", "/every-second-fails"); res.StatusCode != http.StatusOK {
			t.Errorf("what fails once: %s", res.Status)
		}
	}
	if res, _ := w.ask("POST", "my-app-service", "/every-second-fails"); res.StatusCode != http.StatusInternalServerError {
		t.Errorf("a POST that fails: %s; it is never made twice", res.Status)
	}

	for range 100 {
		if _, e := w.ask("GET", "my-app-service", "/echo/copied"); e.Version != "v1" {
			t.Fatalf("answered by the mirror: %s", e.Version)
		}
	}
	w.eventually("50 of 100 requests are copied to v2", func() bool {
		_, v2 := w.figures("v2")
		return v2.Mirrored == 50
	})
	if share := w.share(400, "shop.example"); share["v2"] != 100 {
		t.Errorf("the split of the rule that carries it: %v", share)
	}
}

// figures sums what the gateway counted for a version.
func (w *world) figures(version string) (v gateway.VersionStats, sum gateway.EndpointStats) {
	for _, s := range w.d.gw.Stats().Services {
		for _, x := range s.Versions {
			if x.Name == version {
				v = x
			}
		}
	}
	for _, e := range v.Endpoints {
		sum.Requests += e.Requests
		sum.Errors += e.Errors
		sum.Mirrored += e.Mirrored
	}
	return v, sum
}

// A user stays on a version and on a replica; raising the weight adds users to
// the new version and takes none away; the cookie that the gateway sets holds
// over a restart of the daemon.
func TestUsersStayOverARestart(t *testing.T) {
	t.Parallel()
	hash := strings.Replace(destinationRule, "  subsets:", "  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: who, ttl: 1h}}}}\n  subsets:", 1)
	files := asking(strings.Replace(virtualService(100, 0), "  - route:", "  - name: main\n    route:", 1), hash, "")
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 2)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	w.until("my-app", "v2 gets its share", liveAt(2500))
	all := func() bool {
		n := 0
		for _, v := range []string{"v1", "v2"} {
			stats, _ := w.figures(v)
			for _, e := range stats.Endpoints {
				if e.InForce {
					n++
				}
			}
		}
		return n == 3
	}
	w.eventually("all replicas are in force", all)

	type user struct {
		cookie, version string
		pid             int
	}
	var users []user
	seen := map[string]int{}
	for range 60 {
		res, e := w.ask("GET", "my-app-service", "/echo")
		if len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge != 3600 {
			t.Fatalf("cookies %v", res.Cookies())
		}
		users = append(users, user{"who=" + res.Cookies()[0].Value, e.Version, e.PID})
		seen[fmt.Sprint(e.PID)]++
	}
	if len(seen) != 3 {
		t.Errorf("60 users are on %v, want all three replicas", seen)
	}
	same := func(when string, pids bool) {
		t.Helper()
		for i, u := range users {
			res, e := w.ask("GET", "my-app-service", "/echo", "Cookie", u.cookie)
			if e.Version != u.version || pids && e.PID != u.pid || len(res.Cookies()) != 0 {
				t.Errorf("%s: user %d is on %s (%d), was on %s (%d); cookies %v", when, i, e.Version, e.PID, u.version, u.pid, res.Cookies())
			}
		}
	}
	same("again", true)
	w.down()
	w.up()
	w.open()
	w.until("my-app", "the split is in force again", liveAt(2500))
	w.eventually("all replicas are in force again", all)
	same("after a restart", false)
	w.command("my-app", rollout.Command{Verb: rollout.VerbApprove})
	w.until("my-app", "v2 is stable", restsOn("v2"))
	for i := range users {
		users[i].version = "v2"
	}
	same("when v2 has everything", false)
}

// A version may have so many requests: a canary's go to stable then, stable's
// wait or are refused, and none of that is evidence.
func TestFullVersions(t *testing.T) {
	t.Parallel()
	bounds := strings.Replace(destinationRule, "  subsets:", "  trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 1}}}\n  subsets:", 1)
	vs := strings.Replace(asks, "    timeout: 200ms\n", "", 1)
	vs = strings.Replace(vs, "match: [{uri: {exact: /never}}]", "match: [{uri: {prefix: /wait-for}, headers: {x-only: {exact: v2}}}]", 1)
	vs = strings.Replace(vs, "    route: [{destination: {host: my-app-service, subset: v1}}]\n  - name: repeated", "    route: [{destination: {host: my-app-service, subset: v2}}]\n  - name: repeated", 1)
	w := newWorld(t, asking(vs, bounds, ""))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	w.until("my-app", "v2 gets its share", liveAt(2500))

	flag := w.dir + "/go-on"
	versions := make(chan string, 6)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			res, _ := w.ask("GET", "my-app-service", "/wait-for"+flag, "X-Only", "v2")
			versions <- fmt.Sprint(res.Header.Get("X-Version"), " ", res.StatusCode)
		})
	}
	// Two on v2, two go to stable, one waits, one is refused; the flag is
	// written only then.
	if got := <-versions; got != " 503" {
		t.Errorf("the first to be answered: %q, want 503", got)
	}
	v2, _ := w.figures("v2")
	if v2.InFlight != 2 || v2.Shed != 3 {
		t.Errorf("v2 has %d in flight and has shed %d, want 2 and 3", v2.InFlight, v2.Shed)
	}
	w.write("go-on", "")
	all.Wait()
	close(versions)
	got := map[string]int{}
	for v := range versions {
		got[v]++
	}
	if diff := cmp.Diff(map[string]int{"v1 200": 2, "v2 200": 3}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// lint and the gateway agree on what a document may say about headers.
func TestHeadersThatTheGatewayRefusesAreRefusedInDocuments(t *testing.T) {
	t.Parallel()
	names := []string{"Host", "Connection", "Content-Length", "Expect", "Forwarded", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Forwarded-For", "X-Forwarded-New",
		"X-Real-Ip", "X-Request-Id", "x_y", "X-Ordinary", "Cache-Control", "x-lower", "Set-Cookie", "Authorization"}
	for _, name := range names {
		doc := strings.Replace(asks, "x-env:", name+":", 1)
		_, problems := manifest.Load(raw(asking(doc, destinationRule, "")), manifest.Options{})
		table := gateway.Table{Services: []gateway.Service{{
			Name: "s", Default: true, Versions: []gateway.Version{{Name: "v1"}},
			Rules: []gateway.Rule{{Split: []gateway.Destination{{Version: "v1", Weight: gateway.FullWeight}},
				Request: gateway.HeaderChange{Set: []gateway.Header{{Name: name, Value: "1"}}}}},
		}}}
		refused := table.Validate() != nil
		if (len(problems) > 0) != refused {
			t.Errorf("%s: the gateway refuses it: %t; documents: %v", textproto.CanonicalMIMEHeaderKey(name), refused, problems)
		}
	}
}

func raw(files map[string]string) map[string][]byte {
	out := map[string][]byte{}
	for name, text := range files {
		out[name] = []byte(text)
	}
	return out
}

// Everything that cannot be done is said at once, before anything runs.
func TestWhatTheGatewayCannotDoIsRefusedAtUp(t *testing.T) {
	t.Parallel()
	bad := strings.Replace(asks, "    timeout: 200ms\n", "    timeout: soon\n    fault: {abort: {httpStatus: 500}}\n    corsPolicy: {}\n", 1)
	dr := strings.Replace(destinationRule, "  subsets:", "  trafficPolicy: {outlierDetection: {}}\n  subsets:", 1)
	w := newWorld(t, asking(bad, dr, ""))
	_, err := New(testOptions(w.dir, w.state))
	if err == nil {
		t.Fatal("taken")
	}
	for _, path := range []string{"spec.http[2].timeout", "spec.http[2].fault", "spec.http[2].corsPolicy", "spec.trafficPolicy.outlierDetection"} {
		if !strings.Contains(err.Error(), path+": ") {
			t.Errorf("%s is not among\n%v", path, err)
		}
	}
}

// The key of sticky cookies is this machine's secret, the same at every start.
func TestStickyKeyIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := stickyKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir + "/sticky.key")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if again, err := stickyKey(dir); err != nil || !bytes.Equal(first, again) {
		t.Errorf("another key at the second start: %v", err)
	}
	if other, _ := stickyKey(t.TempDir()); bytes.Equal(first, other) {
		t.Error("two machines have one key")
	}
	if err := os.WriteFile(dir+"/sticky.key", []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stickyKey(dir); err == nil || !strings.Contains(err.Error(), "sticky.key has 5 bytes") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestConnectionsThatDescriptorsAllow(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{64: 16, 256: 64, 1024: 448, 1 << 20: (1<<20 - 128) / 2, 1 << 40: 0} {
		if got := connectionsFor(descriptors); got != want {
			t.Errorf("%d descriptors: %d connections, want %d", descriptors, got, want)
		}
	}
}

// With the shield users do not see what a canary fails; the judge does.
func TestShieldedUsersSeeNoFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.edit = func(o *Options) { o.Shield = true }
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1, "-fail-every", "1"))
	w.until("my-app", "v2 gets its share", liveAt(2500))
	if got := w.share(200, "my-app-service"); got["v1"] != 200 {
		t.Errorf("users were answered by %v", got)
	}
	if _, v2 := w.figures("v2"); v2.Errors != 50 {
		t.Errorf("v2 is counted %d errors, want 50", v2.Errors)
	}
}
