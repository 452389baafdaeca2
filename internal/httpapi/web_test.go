package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/analysis"
	"github.com/serin-dev/serin/internal/rollout"
)

// site is a dashboard behind a real address.
type site struct {
	t    *testing.T
	host *desk
	addr string
	keys Keys
	link bool // a token in the address signs in
}

func openSite(t *testing.T, a func(Keys) Authorizer) *site {
	t.Helper()
	return openSiteOf(t, a, true)
}

func openSiteOf(t *testing.T, a func(Keys) Authorizer, link bool) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, host: newDesk(progressing(0)), addr: l.Addr().String(), keys: NewKeys("owner"), link: link}
	var who Authorizer = s.keys
	if a != nil {
		who = a(s.keys)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- NewServer(s.host).ServeWeb(ctx, l, WebOptions{Authorizer: who, Port: "7", Link: s.link})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return s
}

// browser keeps cookies and follows nothing.
func (s *site) browser() *http.Client {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (s *site) do(c *http.Client, method, path, body string, change ...func(*http.Request)) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(b)
}

func header(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }

// The token goes out of the address into a cookie that no script sees and that
// no other site's page sends along.
func TestTokenBecomesACookie(t *testing.T) {
	s := openSite(t, nil)
	c := s.browser()
	resp, _ := s.do(c, "GET", "/_serin/v1/rollouts", "")
	if resp.StatusCode != 401 {
		t.Fatalf("without anything: %d, want 401", resp.StatusCode)
	}
	resp, _ = s.do(c, "GET", "/?token="+s.keys.Full+"&x=1", "")
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "./?x=1" {
		t.Errorf("%d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	cookies := resp.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	k := cookies[0]
	if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode || k.Path != "/_serin/" || k.Domain != "" || k.Name != "serin-7" || strings.Contains(k.Value, s.keys.Full) {
		t.Errorf("cookie %+v", k)
	}
	if resp, body := s.do(c, "GET", "/_serin/v1/rollouts/app", ""); resp.StatusCode != 200 || !strings.Contains(body, `"name":"app"`) {
		t.Errorf("with the cookie: %d %s", resp.StatusCode, body)
	}
	if resp, _ := s.do(s.browser(), "GET", "/?token=wrong", ""); resp.StatusCode != 303 || len(resp.Cookies()) != 0 {
		t.Errorf("a wrong token: %d, %d cookies", resp.StatusCode, len(resp.Cookies()))
	}
	other := "A"
	if k.Value[0] == 'A' {
		other = "B"
	}
	for name, value := range map[string]string{"Another": "serin-7=AAAA", "Shortened": k.Name + "=" + k.Value[:20], "Changed": k.Name + "=" + other + k.Value[1:], "UnderAnotherName": "serin-8=" + k.Value} {
		if resp, _ := s.do(s.browser(), "GET", "/_serin/v1/rollouts", "", header("Cookie", value)); resp.StatusCode != 401 {
			t.Errorf("%s cookie: %d, want 401", name, resp.StatusCode)
		}
	}
	if resp, _ := s.do(c, "DELETE", "/_serin/v1/session", ""); resp.StatusCode != 200 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("signing out: %d", resp.StatusCode)
	}
	if resp, _ := s.do(c, "GET", "/_serin/v1/rollouts", ""); resp.StatusCode != 401 {
		t.Errorf("signed out: %d", resp.StatusCode)
	}
	if resp, _ := s.do(c, "POST", "/_serin/v1/session", `{"token":"`+s.keys.Look+`"}`); resp.StatusCode != 200 {
		t.Errorf("signing in: %d", resp.StatusCode)
	}
	if _, body := s.do(c, "GET", "/_serin/v1/viewer?name=app", ""); !strings.Contains(body, `"look":true`) || strings.Contains(body, `"may"`) {
		t.Errorf("a guest is told %s", body)
	}
}

// Whatever another page makes a browser send is refused, and nothing is done.
func TestOtherPagesCannotAct(t *testing.T) {
	s := openSite(t, nil)
	c := s.browser()
	in, _ := s.do(c, "GET", "/?token="+s.keys.Full, "")
	// A browser sends the cookie to a name that was made to resolve to us only
	// if it got it from there. Here it always does.
	cookie := in.Cookies()[0]
	c.Jar = nil
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	both := func(fs ...func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			for _, f := range fs {
				f(r)
			}
		}
	}
	_, port, _ := net.SplitHostPort(s.addr)
	n := 0
	for name, x := range map[string]struct {
		change func(*http.Request)
		post   int
		get    int
	}{
		"OwnPage":             {header("Sec-Fetch-Site", "same-origin"), 200, 200},
		"NoBrowser":           {func(*http.Request) {}, 200, 200},
		"Localhost":           {host("localhost:" + port), 200, 200},
		"CrossSite":           {header("Sec-Fetch-Site", "cross-site"), 403, 403},
		"OtherPortOfThisHost": {header("Sec-Fetch-Site", "same-site"), 403, 403},
		"OldBrowser":          {header("Origin", "https://evil.example"), 403, 200},
		"OldBrowserOtherPort": {header("Origin", "http://127.0.0.1:1"), 403, 200},
		"NullOrigin":          {header("Origin", "null"), 403, 200},
		"Rebound":             {host("evil.example:" + port), 403, 403},
		"ReboundNoPort":       {host("evil.example"), 403, 403},
		"LooksLikeOurs":       {host("127.0.0.1.evil.example:" + port), 403, 403},
		"LocalhostInside":     {host("localhost.evil.example"), 403, 403},
		"ReboundOwnOrigin":    {both(host("evil.example:"+port), header("Origin", "http://evil.example:"+port), header("Sec-Fetch-Site", "same-origin")), 403, 403},
		"PlainText":           {header("Content-Type", "text/plain"), 415, 200},
		"Form":                {header("Content-Type", "application/x-www-form-urlencoded"), 415, 200},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			before, _ := s.host.Get(t.Context(), Ref{Name: "app"})
			body := fmt.Sprintf(`{"id":"c%d","verb":"pause","reason":"x"}`, n)
			resp, said := s.do(c, "POST", "/_serin/v1/rollouts/app/commands", body, both(x.change, header("Cookie", cookie.Name+"="+cookie.Value)))
			after, _ := s.host.Get(t.Context(), Ref{Name: "app"})
			if resp.StatusCode != x.post {
				t.Errorf("post: %d, want %d: %s", resp.StatusCode, x.post, said)
			}
			if resp.StatusCode != 200 && before.N != after.N {
				t.Error("it was refused and done all the same")
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("another origin may read the answer")
			}
			resp, said = s.do(c, "GET", "/_serin/v1/rollouts", "", both(x.change, header("Cookie", cookie.Name+"="+cookie.Value)))
			if resp.StatusCode != x.get {
				t.Errorf("get: %d, want %d: %s", resp.StatusCode, x.get, said)
			}
			if x.get == 403 && strings.Contains(said, "app") {
				t.Errorf("it is told all the same: %s", said)
			}
		})
	}
}

// In a browser's name nobody runs programs, reads logs or learns paths.
func TestOnlyTheSocketReachesTheMachine(t *testing.T) {
	s := openSite(t, nil)
	c := s.browser()
	s.do(c, "GET", "/?token="+s.keys.Full, "")
	for _, x := range [][2]string{
		{"POST", "/_serin/v1/rollouts/app/versions"}, {"GET", "/_serin/v1/rollouts/app/logs"}, {"GET", "/_serin/v1/rollouts/app/record"}, {"GET", "/_serin/v1/info"},
		{"GET", "/v1/rollouts"}, {"POST", "/v1/rollouts/app/commands"}, {"GET", "/v1/info"},
	} {
		body := ""
		if x[0] == "POST" {
			body = `{"version":"v9","command":["sh"],"by":"me","id":"1","verb":"abort"}`
		}
		resp, said := s.do(c, x[0], x[1], body)
		if resp.StatusCode != 404 && resp.StatusCode != 405 {
			t.Errorf("%s %s: %d %s", x[0], x[1], resp.StatusCode, said)
		}
	}
}

// The author is who asks, whatever the page writes; who may only look sends
// nothing; a step that names who approves is no other's to approve.
func TestCommandsAreTheViewersOwn(t *testing.T) {
	s := openSite(t, nil)
	owner, guest := s.browser(), s.browser()
	s.do(owner, "GET", "/?token="+s.keys.Full, "")
	s.do(guest, "GET", "/?token="+s.keys.Look, "")
	if resp, said := s.do(guest, "POST", "/_serin/v1/rollouts/app/commands", `{"id":"1","verb":"abort","by":"owner"}`); resp.StatusCode != 403 || !strings.Contains(said, "may not abort") {
		t.Errorf("a guest's abort: %d %s", resp.StatusCode, said)
	}
	if resp, said := s.do(owner, "POST", "/_serin/v1/rollouts/app/commands", `{"id":"2","verb":"pause","by":"somebody else","reason":"lunch"}`); resp.StatusCode != 200 || !strings.Contains(said, "owner paused: lunch") {
		t.Errorf("%d %s", resp.StatusCode, said)
	}
	s.host.mu.Lock()
	s.host.st = progressing(1) // waits for alice or bob
	s.host.pass(nil)
	s.host.mu.Unlock()
	if _, body := s.do(owner, "GET", "/_serin/v1/viewer?name=app", ""); strings.Contains(body, "approve") || !strings.Contains(body, "abort") {
		t.Errorf("who is not named may approve: %s", body)
	}
	if resp, _ := s.do(owner, "POST", "/_serin/v1/rollouts/app/commands", `{"id":"3","verb":"approve"}`); resp.StatusCode != 403 {
		t.Errorf("approving all the same: %d", resp.StatusCode)
	}
}

// Groups approve as the policy says, and a name may be as long as the cluster's.
func TestGroupsApprove(t *testing.T) {
	for name, c := range map[string]struct {
		by   []string
		v    Viewer
		want bool
	}{
		"anybody":                   {nil, Viewer{Name: "alice"}, true},
		"by name":                   {[]string{"bob", "alice"}, Viewer{Name: "alice", Groups: []string{}}, true},
		"by group":                  {[]string{"group:sre"}, Viewer{Name: "alice", Groups: []string{"dev", "sre"}}, true},
		"another group":             {[]string{"group:sre"}, Viewer{Name: "alice", Groups: []string{"dev"}}, false},
		"nobody knows the groups":   {[]string{"group:sre"}, Viewer{Name: "alice"}, true},
		"nor is that a name":        {[]string{"bob"}, Viewer{Name: "alice"}, false},
		"a user named like a group": {[]string{"group:sre"}, Viewer{Name: "group:sre", Groups: []string{}}, false},
	} {
		if got := mayApprove(c.by, c.v); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if p := checkCommand(rollout.Command{ID: "1", Verb: rollout.VerbPause, By: strings.Repeat("a", 253)}); len(p) > 0 {
		t.Errorf("an author's name of 253 bytes: %v", p)
	}
	if p := checkCommand(rollout.Command{ID: "1", Verb: rollout.VerbPause, By: strings.Repeat("a", 254)}); len(p) != 1 {
		t.Errorf("one of 254: %v", p)
	}
}

// Where people have names, a link in a mail signs nobody in as its sender.
func TestNoLinkSignsIn(t *testing.T) {
	s := openSiteOf(t, nil, false)
	c := s.browser()
	if resp, _ := s.do(c, "GET", "/?token="+s.keys.Full, ""); resp.StatusCode != 303 || len(resp.Cookies()) != 0 {
		t.Errorf("%d, %d cookies", resp.StatusCode, len(resp.Cookies()))
	}
	if resp, _ := s.do(c, "POST", "/_serin/v1/session", `{"token":"`+s.keys.Full+`"}`); resp.StatusCode != 200 {
		t.Errorf("signing in: %d", resp.StatusCode)
	}
}

// guard lets some see some namespaces and do some things.
type guard struct{ Keys }

func (g guard) Sees(_ context.Context, v Viewer, ns string) (bool, error) {
	switch {
	case ns == "broken":
		return true, errors.New("the API server is away")
	case v.Look:
		return ns == "shop", nil
	}
	return true, nil
}

func (g guard) May(_ context.Context, v Viewer, ref Ref) ([]rollout.Verb, error) {
	if ref.Namespace != "shop" {
		return nil, nil
	}
	return []rollout.Verb{rollout.VerbApprove}, nil
}

// What a viewer may not see is not there: in no list, no stream, no error.
func TestNamespacesAreApart(t *testing.T) {
	s := openSite(t, func(k Keys) Authorizer { return guard{k} })
	for _, ns := range []string{"shop", "bank", "broken"} {
		s.host.Publish(RolloutView{Namespace: ns, Name: "secret-" + ns})
	}
	c := s.browser()
	s.do(c, "GET", "/?token="+s.keys.Look, "")
	for _, path := range []string{"/rollouts", "/briefs"} {
		_, body := s.do(c, "GET", "/_serin/v1"+path, "")
		if !strings.Contains(body, "secret-shop") || strings.Contains(body, "bank") || strings.Contains(body, "broken") || strings.Contains(body, `"app"`) {
			t.Errorf("%s shows %s", path, body)
		}
	}
	for _, path := range []string{"", "/series", "/export"} {
		resp, body := s.do(c, "GET", "/_serin/v1/rollouts/secret-bank"+path+"?namespace=bank", "")
		if resp.StatusCode != 404 || strings.Contains(body, "known:") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"", "/series", "/export"} {
		resp, body := s.do(c, "GET", "/_serin/v1/rollouts/nosuch"+path+"?namespace=shop", "")
		if resp.StatusCode != 404 || !strings.Contains(body, "shop/secret-shop") || strings.Contains(body, "bank") || strings.Contains(body, "broken") {
			t.Errorf("a wrong name, %s: %d %s", path, resp.StatusCode, body)
		}
	}
	if resp, _ := s.do(c, "POST", "/_serin/v1/rollouts/secret-bank/commands?namespace=bank", `{"id":"1","verb":"approve"}`); resp.StatusCode != 404 {
		t.Errorf("a command there: %d", resp.StatusCode)
	}
	for _, q := range []string{"", "?briefs=true"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.addr+"/_serin/v1/events"+q, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		buf := make([]byte, 4096)
		for !strings.Contains(got.String(), "secret-shop") {
			n, err := resp.Body.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				t.Fatalf("%v after %q", err, got.String())
			}
		}
		s.host.Publish(RolloutView{Namespace: "bank", Name: "secret-bank", N: 7})
		s.host.Publish(RolloutView{Namespace: "shop", Name: "secret-shop", N: 7, Verdict: analysis.Pass, Phase: rollout.Baking})
		for !strings.Contains(got.String(), "Baking") {
			n, err := resp.Body.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				t.Fatalf("%v after %q", err, got.String())
			}
		}
		if strings.Contains(got.String(), "secret-bank") {
			t.Errorf("the stream%s tells %s", q, got.String())
		}
		cancel()
		resp.Body.Close()
	}
}

// Pages are given with a policy that lets nothing in from elsewhere, and are
// what was built.
func TestPages(t *testing.T) {
	s := openSite(t, nil)
	c := s.browser()
	for path, kind := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/app.css": "text/css", "/inter.woff2": "font/woff2", "/serin.svg": "image/svg+xml"} {
		resp, body := s.do(c, "GET", path, "")
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || len(body) < 100 {
			t.Errorf("%s: %d, %s, %d bytes", path, resp.StatusCode, resp.Header.Get("Content-Type"), len(body))
		}
		policy := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: %q is not in its policy %q", path, want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		again, _ := s.do(c, "GET", path, "", header("If-None-Match", resp.Header.Get("ETag")))
		if again.StatusCode != 304 {
			t.Errorf("%s asked about again: %d", path, again.StatusCode)
		}
	}
	_, page := s.do(c, "GET", "/", "")
	for _, out := range []string{"http://", "https://", "//"} {
		if strings.Contains(page, out) {
			t.Errorf("the page names %s", out)
		}
	}
	for _, path := range []string{"/../web.go", "/embed.go", "/%2e%2e/embed.go", "/frozen.html", "/nothing"} {
		if resp, _ := s.do(c, "GET", path, ""); resp.StatusCode != 404 && resp.StatusCode != 307 && resp.StatusCode != 301 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if resp, _ := s.do(c, "POST", "/", "{}"); resp.StatusCode != 405 {
		t.Errorf("POST to a page: %d", resp.StatusCode)
	}
}

// hostile is every kind of text that a page might take for markup.
var hostile = []string{
	`<script>window.hurt=1</script>`, `</script><script>window.hurt=1</script>`, `"><img src=x onerror="window.hurt=1">`, `'-window.hurt=1-'`,
	`<svg/onload=window.hurt=1>`, `javascript:window.hurt=1`, `<!--<script>`, `]]><script>window.hurt=1</script>`, `{{constructor.constructor('window.hurt=1')()}}`,
	"<iframe srcdoc='<script>parent.hurt=1</script>'>", "\u2028window.hurt=1\u2029", "&lt;script&gt;window.hurt=1", "<a href=\"javascript:hurt=1\">x</a>", "<style>*{display:none}</style>",
}

// An export's texts are data: nothing of them ends the place where they stand.
func TestExportHoldsTextsAsData(t *testing.T) {
	for _, x := range hostile {
		v := onTrial(time.Minute, 500)
		v.Name, v.Message, v.Sentence, v.Stalled, v.Paused = x, x, x, x, x
		v.Canary.Version, v.Stable.Why = x, x
		v.Decisions = []rollout.Event{{N: 1, By: x, Why: x, From: x, To: x, What: rollout.What(x)}}
		v.Figures[0].Metric, v.Figures[0].Unit = x, x
		v.Findings = []rollout.Finding{{What: x, Remedy: x}}
		page, err := Export(v, Series{}, x)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{"<script", "</script", "<style", "<svg", "<img", "<iframe"} {
			empty, _ := Export(RolloutView{}, Series{}, "")
			if bytes.Count(page, []byte(tag)) != bytes.Count(empty, []byte(tag)) {
				t.Errorf("%q adds %s to the page", x, tag)
			}
		}
		_, rest, _ := strings.Cut(string(page), `id="frozen">`)
		data, _, _ := strings.Cut(rest, "</script>")
		var f Frozen
		if err := json.Unmarshal([]byte(data), &f); err != nil || f.View.Name != x || f.View.Decisions[0].Why != x {
			t.Errorf("%q came back as %q, %v", x, f.View.Name, err)
		}
		if name := FileName(v); strings.ContainsAny(name, "<>/\\\"'\n") {
			t.Errorf("the file would be called %q", name)
		}
	}
}

// An export is refused nothing that it needs: its script and its style are the
// ones that its policy names.
func TestExportsPolicyNamesItsScript(t *testing.T) {
	page, err := Export(onTrial(0, 500), Series{}, "1")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	between := func(a, b string) string {
		_, rest, _ := strings.Cut(text, a)
		in, _, _ := strings.Cut(rest, b)
		return in
	}
	for _, part := range []string{between(`<script type="module">`, "</script>"), between("<style>", "</style>")} {
		if len(part) < 1000 || !strings.Contains(text, hashOf([]byte(part))) {
			t.Errorf("a part of %d bytes is not in the policy", len(part))
		}
	}
	if strings.Contains(text, "%DATA%") || strings.Contains(text, "%SCRIPT%") {
		t.Error("a place was not filled in")
	}
}

func TestKeysOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x", "keys")
	a, err := OpenKeys(path, "me")
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenKeys(path, "me")
	if err != nil || a != b || len(a.Full) < 20 || a.Full == a.Look {
		t.Errorf("%v, %v, %v", a, b, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte(`{"full":"","look":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(path, "me"); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("keys that let everybody in: %v", err)
	}
	for _, c := range []string{"", "x", a.Full + " ", a.Full[:10]} {
		if _, err := a.Identify(t.Context(), c); !errors.Is(err, ErrNobody) {
			t.Errorf("%q lets in: %v", c, err)
		}
	}
	if _, err := (Keys{}).Identify(t.Context(), ""); !errors.Is(err, ErrNobody) {
		t.Errorf("no keys, no token: %v", err)
	}
}

func TestLargeAndWrongBodiesOfBrowsers(t *testing.T) {
	s := openSite(t, nil)
	c := s.browser()
	s.do(c, "GET", "/?token="+s.keys.Full, "")
	for name, x := range map[string]struct {
		path, body string
		status     int
	}{
		"HugeCommand": {"/_serin/v1/rollouts/app/commands", `{"reason":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		"HugeToken":   {"/_serin/v1/session", `{"token":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		"NoJSON":      {"/_serin/v1/session", `hello`, 400},
		"Unknown":     {"/_serin/v1/rollouts/app/commands", `{"verb":"pause","id":"1","ful":true}`, 400},
		"NoVerb":      {"/_serin/v1/rollouts/app/commands", `{"id":"1"}`, 422},
	} {
		if resp, said := s.do(c, "POST", x.path, x.body); resp.StatusCode != x.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, said)
		}
	}
	if resp, _ := s.do(c, "GET", "/_serin/v1/rollouts/app?at=yesterday", ""); resp.StatusCode != 422 {
		t.Errorf("at=yesterday: %d", resp.StatusCode)
	}
	if resp, _ := s.do(c, "GET", "/_serin/v1/rollouts/app/series?since=x", ""); resp.StatusCode != 422 {
		t.Errorf("since=x: %d", resp.StatusCode)
	}
}

// deadlines notes until when a body is waited for.
type deadlines struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }

// A body that never comes whole does not hold its connection; what has none is
// not cut, for streams have none.
func TestBodiesComeInTime(t *testing.T) {
	h := inTime(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(d, httptest.NewRequest("GET", "/", nil))
	if !d.read.IsZero() {
		t.Error("a request without a body is cut")
	}
	h.ServeHTTP(d, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
	if d.read.IsZero() {
		t.Error("a body is waited for without end")
	}
}
