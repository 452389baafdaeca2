package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// ruled is a table of one rule that says more than the split.
func ruled(n int64, r gateway.Rule, vs ...gateway.Version) gateway.Table {
	return gateway.Table{Number: n, Services: []gateway.Service{{Name: "app", Default: true, Versions: vs, Rules: []gateway.Rule{r}}}}
}

func (f *front) do(t testing.TB, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, f.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, readAll(t, resp.Body)
}

func (f *front) version(t testing.TB, name string) gateway.VersionStats {
	t.Helper()
	for _, v := range f.Stats().Services[0].Versions {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no version %s", name)
	return gateway.VersionStats{}
}

func TestRaisingTheWeightOnlyAddsUsers(t *testing.T) {
	b1, b2 := newBackend(t, says("v1")), newBackend(t, says("v2"))
	for kind, s := range map[string]gateway.Sticky{"header": {Header: "x-user"}, "cookie": {Cookie: "uid"}} {
		f := newFront(t, gateway.Options{Seed: 5})
		on := map[int]bool{}
		for _, w := range []int{0, 100, 500, 2500, 5000, 9000, 10000} {
			f.swap(t, ruled(int64(w), gateway.Rule{Split: share(w), Sticky: &s}, version("v1", b1.addr), version("v2", b2.addr)))
			n := 0
			for user := range 1000 {
				h := []string{"X-User", fmt.Sprint("u", user)}
				if kind == "cookie" {
					h = []string{"Cookie", fmt.Sprint("a=b; uid=u", user)}
				}
				_, body := f.do(t, "GET", "/", h...)
				if on[user] && body != "v2" {
					t.Fatalf("%s: user %d left v2 when its weight rose to %d", kind, user, w)
				}
				on[user] = body == "v2"
				if on[user] {
					n++
				}
			}
			// 1000 users dealt out independently: within 4.5 standard errors.
			p := float64(w) / 10000
			if d := float64(n) - 1000*p; d*d > 4.5*4.5*1000*p*(1-p)+1e-9 {
				t.Errorf("%s: %d of 1000 users at weight %d", kind, n, w)
			}
		}
	}
}

func TestOwnStickyCookie(t *testing.T) {
	b1, b2 := newBackend(t, says("v1")), newBackend(t, says("v2"))
	f := newFront(t, gateway.Options{StickyKey: []byte("k")})
	f.swap(t, ruled(1, gateway.Rule{Split: share(5000), Sticky: &gateway.Sticky{OwnCookie: "serin-user"}}, version("v1", b1.addr), version("v2", b2.addr)))
	seen := map[string]int{}
	for range 60 {
		resp, first := f.do(t, "GET", "/")
		cs := resp.Cookies()
		if len(cs) != 1 || cs[0].Name != "serin-user" || !cs[0].HttpOnly {
			t.Fatalf("cookies: %v", cs)
		}
		seen[first]++
		for range 3 {
			resp, again := f.do(t, "GET", "/", "Cookie", "serin-user="+cs[0].Value)
			if again != first || len(resp.Cookies()) != 0 {
				t.Fatalf("first %s, then %s with %v", first, again, resp.Cookies())
			}
		}
		// A forged value is nobody's.
		if resp, _ := f.do(t, "GET", "/", "Cookie", "serin-user="+strings.Repeat("0", 32)+cs[0].Value[32:]); len(resp.Cookies()) != 1 {
			t.Fatal("a forged cookie was taken for genuine")
		}
	}
	if seen["v1"] < 10 || seen["v2"] < 10 {
		t.Errorf("60 users were dealt out as %v", seen)
	}
}

func TestMirrorsAreNeverAwaited(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	var hosts, bodies []string
	b1 := newBackend(t, says("v1"))
	b2 := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		hosts, bodies = append(hosts, r.Host), append(bodies, string(b))
		mu.Unlock()
		<-release
		w.WriteHeader(500)
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, ruled(1, gateway.Rule{Split: all("v1"), Mirrors: []gateway.Mirror{{Version: "v2", Share: 2000}}}, version("v1", b1.addr), version("v2", b2.addr)))
	for range 1000 { // more than may be under way: the rest is dropped, and nobody waits
		resp, err := f.client.Post(f.url, "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); got != "v1" {
			t.Fatalf("answered by %q", got)
		}
		resp.Body.Close()
	}
	if n := f.version(t, "v2").InFlight; n != 64 {
		t.Errorf("%d copies under way, want 64", n)
	}
	close(release)
	eventually(t, func() error {
		if v := f.version(t, "v2"); v.InFlight != 0 {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	if e := f.version(t, "v2").Endpoints[0]; e.Mirrored != 64 || e.MirrorErrors != 64 || e.Requests != 0 || e.Errors != 0 {
		t.Errorf("%+v", e)
	}
	for i := range hosts {
		if hosts[i] != f.addr+"-shadow" || bodies[i] != "body" {
			t.Fatalf("copy for %s with %q", hosts[i], bodies[i])
		}
	}
}

func TestHeadersAndTargetsAreChanged(t *testing.T) {
	var got *http.Request
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("X-Internal", "secret")
		w.Header().Set("X-Kept", "1")
		io.WriteString(w, "ok")
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, ruled(1, gateway.Rule{Split: all("v1"),
		Rewrite:  &gateway.Rewrite{Authority: "inner.example", Prefix: "/api/", Path: "/v2/"},
		Request:  gateway.HeaderChange{Remove: []string{"x-debug"}, Set: []gateway.Header{{Name: "x-set", Value: "new"}}, Add: []gateway.Header{{Name: "x-add", Value: "more"}}},
		Response: gateway.HeaderChange{Remove: []string{"X-Internal"}, Set: []gateway.Header{{Name: "X-Kept", Value: "2"}}, Add: []gateway.Header{{Name: "X-New", Value: "3"}}},
	}, version("v1", b.addr)))
	resp, _ := f.do(t, "GET", "/api/a%2Fb?q=/api/", "X-Debug", "1", "X-Set", "old", "X-Add", "some")
	if got.RequestURI != "/v2/a%2Fb?q=/api/" || got.Host != "inner.example" || got.Header.Get("X-Forwarded-Host") != f.addr {
		t.Errorf("%s at %s, forwarded for %s", got.RequestURI, got.Host, got.Header.Get("X-Forwarded-Host"))
	}
	if h := got.Header; h.Get("X-Debug") != "" || strings.Join(h["X-Set"], "|") != "new" || strings.Join(h["X-Add"], "|") != "some|more" {
		t.Errorf("request headers: %v", h)
	}
	if h := resp.Header; h.Get("X-Internal") != "" || strings.Join(h["X-Kept"], "|") != "2" || h.Get("X-New") != "3" {
		t.Errorf("answer's headers: %v", h)
	}
	for _, bad := range []gateway.Rule{
		{Split: all("v1"), Request: gateway.HeaderChange{Set: []gateway.Header{{Name: "Host", Value: "x"}}}},
		{Split: all("v1"), Request: gateway.HeaderChange{Remove: []string{"Content-Length"}}},
		{Split: all("v1"), Response: gateway.HeaderChange{Add: []gateway.Header{{Name: "A", Value: "a\r\nB: c"}}}},
		{Split: all("v1"), Rewrite: &gateway.Rewrite{Path: "no-slash"}},
		{Split: all("v1"), Sticky: &gateway.Sticky{}},
		{Split: all("v1"), Mirrors: []gateway.Mirror{{Version: "v7", Share: 1}}},
		{Split: all("v1"), Shield: "v7"},
		{Split: all("v1"), Retries: gateway.Retries{Attempts: 11}},
	} {
		if err := f.Swap(ruled(2, bad, version("v1", b.addr))); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

func TestTimeouts(t *testing.T) {
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
		}
		if r.URL.Path != "/quick" {
			<-r.Context().Done()
		}
	})
	f := newFront(t, gateway.Options{})
	n := int64(0)
	limit := func(d time.Duration) {
		n++
		f.swap(t, ruled(n, gateway.Rule{Split: all("v1"), Timeout: d}, version("v1", b.addr)))
	}
	limit(100 * time.Millisecond)
	if resp, body := f.do(t, "GET", "/"); resp.StatusCode != 504 || !strings.Contains(body, "v1 gave no answer in time") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	failed := 1
	for d := 200 * time.Millisecond; ; d *= 2 { // on a busy machine the head itself may take too long
		limit(d)
		failed++
		resp, err := f.client.Get(f.url + "/begun")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == 504 && d < patience {
			continue
		}
		if resp.StatusCode != 200 || err == nil {
			t.Errorf("an answer that was cut reads as whole: %d %q", resp.StatusCode, b)
		}
		break
	}
	limit(patience)
	for range 5 { // a connection with a past limit is not kept
		if code, _ := f.get(t, "/quick"); code != 200 {
			t.Errorf("status %d", code)
		}
	}
	eventually(t, func() error {
		if e := f.version(t, "v1").Endpoints[0]; e.Requests != uint64(failed+5) || e.Failed != uint64(failed) {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
}

func TestRetries(t *testing.T) {
	var n atomic.Int64
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 != 0 { // two of three fail
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, "third")
	})
	f := newFront(t, gateway.Options{})
	f.swap(t, ruled(1, gateway.Rule{Split: all("v1"), Retries: gateway.Retries{Attempts: 2, On5xx: true}}, version("v1", b.addr)))
	for range 10 {
		if code, body := f.get(t, "/"); code != 200 || body != "third" {
			t.Fatalf("%d %q", code, body)
		}
	}
	if e := f.version(t, "v1").Endpoints[0]; e.Requests != 30 || e.Errors != 20 {
		t.Errorf("%+v: every failed attempt counts", e)
	}
	// What may have been carried out and is not idempotent, or has a body, is not repeated.
	for _, method := range []string{"POST", "PUT"} {
		n.Store(0)
		req, _ := http.NewRequest(method, f.url, strings.NewReader("x"))
		resp, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 503 || n.Load() != 1 {
			t.Errorf("%s: status %d after %d attempts", method, resp.StatusCode, n.Load())
		}
	}
}

func TestShield(t *testing.T) {
	stable, canary := newBackend(t, says("stable")), newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(500)
	})
	f := newFront(t, gateway.Options{Seed: 2})
	f.swap(t, ruled(1, gateway.Rule{Split: share(2000), Shield: "v1"}, version("v1", stable.addr), version("v2", canary.addr)))
	for i := range 100 {
		path := "/"
		if i%2 == 0 {
			path = "/cut"
		}
		if code, body := f.get(t, path); code != 200 || body != "stable" {
			t.Fatalf("a user saw the failure: %d %q", code, body)
		}
	}
	v1, v2 := f.version(t, "v1").Endpoints[0], f.version(t, "v2").Endpoints[0]
	if v2.Requests != 20 || v2.Errors != 20 || v1.Requests != 80 || v1.Shielded != 20 {
		t.Errorf("stable %+v\ncanary %+v", v1, v2)
	}
	failed := 0
	for range 100 {
		resp, err := f.client.Post(f.url, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 500 {
			failed++
		}
	}
	if failed != 20 {
		t.Errorf("%d of 100 POSTs failed, want the canary's 20: a POST is never made twice", failed)
	}
}

func TestOverflowGoesToStable(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 10)
	stable := newBackend(t, says("stable"))
	canary := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "canary")
	})
	f := newFront(t, gateway.Options{})
	v2 := version("v2", canary.addr)
	v2.MaxInFlight, v2.Overflow = 2, "v1"
	f.swap(t, ruled(1, gateway.Rule{Split: all("v2")}, version("v1", stable.addr), v2))
	got := make(chan string, 2)
	for range 2 {
		go func() {
			_, body := f.get(t, "/")
			got <- body
		}()
		<-arrived
	}
	for range 5 {
		if _, body := f.get(t, "/"); body != "stable" {
			t.Errorf("answered by %s", body)
		}
	}
	close(release)
	for range 2 {
		if body := <-got; body != "canary" {
			t.Errorf("answered by %s", body)
		}
	}
	if _, body := f.get(t, "/"); body != "canary" {
		t.Errorf("with room again: %s", body)
	}
	if v := f.version(t, "v2"); v.Shed != 5 || v.Endpoints[0].Requests != 3 {
		t.Errorf("%+v", v)
	}
}

// A version that may have two requests at a time and has nowhere to send the
// rest lets three wait in order, and refuses what is more.
func TestAFullVersionLetsSomeWait(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 20)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "done")
	})
	f := newFront(t, gateway.Options{})
	v := version("v1", b.addr)
	v.MaxInFlight, v.MaxWaiting = 2, 3
	f.swap(t, ruled(1, gateway.Rule{Split: all("v1")}, v))
	codes := make(chan int, 6)
	for range 6 {
		go func() {
			resp, _ := f.do(t, "GET", "/")
			codes <- resp.StatusCode
		}()
	}
	if code := <-codes; code != 503 {
		t.Fatalf("the sixth is answered with %d before anybody left, want 503", code)
	}
	for range 2 {
		<-arrived
	}
	select {
	case <-arrived:
		t.Error("a third request is in flight")
	default:
	}
	close(release)
	for range 5 {
		if code := <-codes; code != 200 {
			t.Errorf("%d after waiting", code)
		}
	}
	if v := f.version(t, "v1"); v.Shed != 1 || v.Endpoints[0].Requests != 5 || v.Endpoints[0].Errors != 0 {
		t.Errorf("%+v", v)
	}
	// Who goes away while waiting leaves no hole: there is room for two again.
	if resp, _ := f.do(t, "GET", "/"); resp.StatusCode != 200 {
		t.Errorf("with room again: %d", resp.StatusCode)
	}
}

// A user who is kept on a replica stays there while others come and go.
func TestAUserStaysOnAReplica(t *testing.T) {
	var backs []gateway.Endpoint
	for i := range 4 {
		backs = append(backs, gateway.Endpoint{Replica: fmt.Sprint("r", i), Address: newBackend(t, says(fmt.Sprint("r", i))).addr})
	}
	f := newFront(t, gateway.Options{})
	use := func(n int64, es ...gateway.Endpoint) {
		f.swap(t, ruled(n, gateway.Rule{Split: all("v1"), Sticky: &gateway.Sticky{Header: "x-user", Replica: true}},
			gateway.Version{Name: "v1", Endpoints: es}))
	}
	on := func(user int) string {
		_, body := f.do(t, "GET", "/", "X-User", fmt.Sprint(user))
		return body
	}
	use(1, backs...)
	first, seen := map[int]string{}, map[string]int{}
	for user := range 80 {
		first[user] = on(user)
		seen[first[user]]++
		if again := on(user); again != first[user] {
			t.Fatalf("user %d: %s, then %s", user, first[user], again)
		}
	}
	if len(seen) != 4 {
		t.Errorf("80 users are on %v", seen)
	}
	use(2, backs[0], backs[1], backs[3])
	for user, was := range first {
		if now := on(user); was != "r2" && now != was {
			t.Errorf("user %d moved from %s to %s because r2 went", user, was, now)
		}
	}
}

func TestOwnCookieAsAsked(t *testing.T) {
	b := newBackend(t, says("v1"))
	f := newFront(t, gateway.Options{})
	for _, c := range []struct {
		sticky gateway.Sticky
		want   string
	}{
		{gateway.Sticky{OwnCookie: "u"}, "; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"},
		{gateway.Sticky{OwnCookie: "u", Path: "/shop", Age: time.Hour}, "; Path=/shop; Max-Age=3600; HttpOnly; SameSite=Lax"},
		{gateway.Sticky{OwnCookie: "u", Age: -1}, "; Path=/; HttpOnly; SameSite=Lax"},
	} {
		f.swap(t, ruled(1, gateway.Rule{Split: all("v1"), Sticky: &c.sticky}, version("v1", b.addr)))
		resp, _ := f.do(t, "GET", "/")
		if _, rest, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";"); ";"+rest != c.want {
			t.Errorf("%+v sets %q", c.sticky, resp.Header.Get("Set-Cookie"))
		}
	}
}
