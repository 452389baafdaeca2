package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/rollout"
)

// desk is a host with one rollout whose commands are decided by the real
// policy; what it has no part for (processes, files) it refuses.
type desk struct {
	*Views
	mu    sync.Mutex
	st    rollout.State
	seen  rollout.Observation
	lines []LogLine
}

func newDesk(st rollout.State) *desk {
	d := &desk{Views: NewViews(t0), st: st, seen: rollout.Observation{
		Workloads: workloads(3, 2),
		Route:     rollout.Route{Known: rollout.Present, Weights: map[rollout.Revision]rollout.Weight{v1: 9500, v2: 500}},
	}}
	d.pass(nil)
	return d
}

var spec = rollout.Spec{Steps: steps, Promotion: rollout.Promotion{Bake: time.Minute}}

func (d *desk) pass(cs []rollout.Command) []rollout.Event {
	obs := d.seen
	obs.Commands = cs
	dec := rollout.Decide(spec, d.st, obs, t0)
	d.st = dec.Next
	d.Publish(BuildView(Pass{Ref: Ref{Name: "app"}, Spec: spec, State: d.st, Seen: obs, Decision: dec, Time: t0}))
	return dec.Events
}

func (d *desk) Command(ctx context.Context, ref Ref, c rollout.Command) (Answer, error) {
	if _, err := d.Get(ctx, ref); err != nil {
		return Answer{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.Reason == "panic" {
		panic("as asked")
	}
	return AnswerFor(c, d.pass([]rollout.Command{c})), nil
}

func (d *desk) Deploy(_ context.Context, ref Ref, q Deploy) (Deployed, error) {
	if q.Version == "v1" {
		return Deployed{}, &Refusal{"v1 is defined in a file: edit it there"}
	}
	return Deployed{Name: ref.Name + "-" + q.Version, Message: "there: " + strings.Join(q.Command, " ")}, nil
}

func (d *desk) Logs(ctx context.Context, _ Ref, q LogQuery, emit func(LogLine) error) error {
	for _, l := range d.lines {
		if q.Version == "" || q.Version == l.Version {
			if err := emit(l); err != nil {
				return err
			}
		}
	}
	if q.Replica == "broken" {
		return errors.New("the log is gone")
	}
	if q.Follow {
		<-ctx.Done()
	}
	return nil
}

func (d *desk) RecordPath(context.Context, Ref) (string, error) {
	return "/state/records/app.jsonl", nil
}
func (d *desk) Info() Info { return Info{Version: "test", PID: 42, Dir: "/docs"} }

// serve runs a server on a socket of its own and gives its path.
func serve(t *testing.T, h Host, path string) (stop func()) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(h).Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		_ = l.Close()
	})
	t.Cleanup(stop)
	return stop
}

// socketPath is short enough for every system.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "serin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func client(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRoundTrip(t *testing.T) {
	h := newDesk(progressing(0))
	h.lines = []LogLine{{Time: t0, Version: "v1", Replica: "app-v1-0", Stream: "stdout", Text: "<hello>\n"}, {Time: t0, Version: "v2", Replica: "app-v2-0", Text: "two", Lost: 3}}
	path := socketPath(t)
	serve(t, h, path)
	c := client(t, path)
	ctx := t.Context()
	ref := Ref{Name: "app"}

	want, _ := h.Get(ctx, ref)
	got, err := c.Get(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("a view changed on its way:\n%s", d)
	}
	if list, err := c.List(ctx); err != nil || len(list) != 1 || list[0].Name != "app" {
		t.Errorf("list: %v, %v", list, err)
	}
	if i, err := c.Info(ctx); err != nil || i.PID != 42 {
		t.Errorf("info: %v, %v", i, err)
	}
	if p, err := c.RecordPath(ctx, ref); err != nil || p != "/state/records/app.jsonl" {
		t.Errorf("record: %v, %v", p, err)
	}

	a, err := c.Command(ctx, ref, rollout.Command{ID: "1", Verb: rollout.VerbPause, By: "alice", Reason: "lunch", Revision: "v2", N: got.N})
	if err != nil || a.Refused || !strings.Contains(a.Message, "alice paused: lunch") {
		t.Errorf("pause: %+v, %v", a, err)
	}
	a, err = c.Command(ctx, ref, rollout.Command{ID: "2", Verb: rollout.VerbUndo, By: "alice"})
	if err != nil || !a.Refused || !strings.Contains(a.Message, "abort") {
		t.Errorf("undo in the middle: %+v, %v; want a refusal that says what to do instead", a, err)
	}
	a, err = c.Command(ctx, ref, rollout.Command{ID: "3", Verb: rollout.VerbPromote, By: "alice", N: 1, Revision: "v2"})
	if err != nil || !a.Refused {
		t.Errorf("promote by somebody who saw another decision: %+v, %v; want a refusal", a, err)
	}
	a, err = c.Command(ctx, ref, rollout.Command{ID: "4", Verb: rollout.VerbAbort, By: "alice", Revision: "v9"})
	if err != nil || !a.Refused || !strings.Contains(a.Message, "v9") {
		t.Errorf("abort of another canary: %+v, %v; want a refusal", a, err)
	}

	var lines []LogLine
	if err := c.Logs(ctx, ref, LogQuery{}, func(l LogLine) error { lines = append(lines, l); return nil }); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(h.lines, lines); d != "" {
		t.Errorf("logs:\n%s", d)
	}
	lines = nil
	err = c.Logs(ctx, ref, LogQuery{Replica: "broken", Version: "v2"}, func(l LogLine) error { lines = append(lines, l); return nil })
	if err == nil || err.Error() != "the log is gone" || len(lines) != 1 {
		t.Errorf("a log that breaks after its first line: %v after %d lines", err, len(lines))
	}

	d, err := c.Deploy(ctx, ref, Deploy{Version: "v3", Command: []string{"./app", "-x"}, By: "alice"})
	if err != nil || d.Name != "app-v3" || d.Message != "there: ./app -x" {
		t.Errorf("deploy: %+v, %v", d, err)
	}
}

// Every trouble reaches a person as a sentence, under the status of its kind.
func TestErrors(t *testing.T) {
	path := socketPath(t)
	serve(t, newDesk(progressing(0)), path)
	c := client(t, path)
	ctx := t.Context()
	for name, e := range map[string]struct {
		status int
		says   []string
		do     func() error
	}{
		"NotThere": {404, []string{"no such rollout", "other", "known: app"}, func() error { _, err := c.Get(ctx, Ref{Name: "other"}); return err }},
		"NotThereForACommand": {404, []string{"known: app"}, func() error {
			_, err := c.Command(ctx, Ref{Name: "a/b c"}, rollout.Command{ID: "1", Verb: rollout.VerbPause, By: "a"})
			return err
		}},
		"Refused": {409, []string{"edit it there"}, func() error {
			_, err := c.Deploy(ctx, Ref{Name: "app"}, Deploy{Version: "v1", Command: []string{"x"}, By: "a"})
			return err
		}},
		"AllProblemsOfACommandAtOnce": {422, []string{"verb:", "id:", "by:", "n:", "full"}, func() error {
			_, err := c.Command(ctx, Ref{Name: "app"}, rollout.Command{Verb: "explode", N: -1, Full: true})
			return err
		}},
		"AdoptWithoutAVersion": {422, []string{"revision:"}, func() error {
			_, err := c.Command(ctx, Ref{Name: "app"}, rollout.Command{ID: "1", By: "a", Verb: rollout.VerbAdopt})
			return err
		}},
		"AllProblemsOfADeployAtOnce": {422, []string{"version:", "command:", "replicas:", "by:"}, func() error {
			zero := 0
			_, err := c.Deploy(ctx, Ref{Name: "app"}, Deploy{Replicas: &zero})
			return err
		}},
		"AMistakeOfOurOwn": {500, []string{"mistake in Serin"}, func() error {
			_, err := c.Command(ctx, Ref{Name: "app"}, rollout.Command{ID: "p", By: "a", Verb: rollout.VerbPause, Reason: "panic"})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := e.do()
			var s *StatusError
			if !errors.As(err, &s) {
				t.Fatalf("got %v, want a status error", err)
			}
			if s.Status != e.status {
				t.Errorf("status %d, want %d", s.Status, e.status)
			}
			for _, word := range e.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
}

// What a page in a browser could be made to send is refused, whatever it is.
func TestRefusesWhatABrowserCouldSend(t *testing.T) {
	h := newDesk(progressing(0))
	srv := NewServer(h).Handler()
	body := `{"id":"1","verb":"abort","by":"mallory"}`
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"AsTheCommandLineSendsIt": {func(*http.Request) {}, 200},
		"Localhost":               {func(r *http.Request) { r.Host = "localhost:9999" }, 200},
		"Loopback6":               {func(r *http.Request) { r.Host = "[::1]:9999" }, 200},
		"ReboundName":             {func(r *http.Request) { r.Host = "evil.example" }, 403},
		"ReboundNameWithPort":     {func(r *http.Request) { r.Host = "evil.example:80" }, 403},
		"LooksLikeOurs":           {func(r *http.Request) { r.Host = "serin.evil.example" }, 403},
		"NoHost":                  {func(r *http.Request) { r.Host = "" }, 403},
		"CrossSite":               {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"SameSiteOtherOrigin":     {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		"OldBrowser":              {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"NullOrigin":              {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		"OwnPage":                 {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 200},
		"FormBody":                {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		"UrlencodedForm":          {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		"NoType":                  {func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		"TypeWithCharset":         {func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "http://serin/v1/rollouts/app/commands", strings.NewReader(strings.Replace(body, `"1"`, `"`+name+`"`, 1)))
			r.Header.Set("Content-Type", "application/json")
			c.change(r)
			before, _ := h.Get(t.Context(), Ref{Name: "app"})
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, r)
			after, _ := h.Get(t.Context(), Ref{Name: "app"})
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if w.Code != 200 && before.N != after.N {
				t.Error("it was refused and done all the same")
			}
			var e errorBody
			if w.Code != 200 && (json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Error == "") {
				t.Errorf("no sentence: %s", w.Body)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	srv := NewServer(newDesk(progressing(0))).Handler()
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"Empty":        {"", 400, "empty"},
		"NotJSON":      {"hello", 400, "not the document"},
		"UnknownField": {`{"id":"1","verb":"promote","by":"a","ful":true}`, 400, "ful"},
		"Two":          {`{"id":"1","verb":"pause","by":"a"} {"x":1}`, 400, "follows"},
		"WrongType":    {`{"id":1}`, 400, "id"},
		"Huge":         {`{"reason":"` + strings.Repeat("x", maxBody) + `"}`, 413, "larger"},
		"LongReason":   {`{"id":"1","verb":"pause","by":"a","reason":"` + strings.Repeat("x", 2000) + `"}`, 422, "reason"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "http://serin/v1/rollouts/app/commands", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s; want %d and %q", w.Code, w.Body, c.status, c.says)
			}
		})
	}
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, httptest.NewRequest("GET", "http://serin/elsewhere", nil))
	if w.Code != 404 || !strings.Contains(w.Body.String(), "/v1/rollouts") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// ---- the socket ----

func TestSocketIsForItsOwnerOnly(t *testing.T) {
	path := socketPath(t)
	serve(t, newDesk(progressing(0)), path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, want a socket with 0600", info.Mode())
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".s*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSocketFolderIsMadeForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(filepath.Dir(socketPath(t)), "run", "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v; want 0700", info.Mode(), err)
	}
}

func TestLiveSocketIsRefusedByName(t *testing.T) {
	path := socketPath(t)
	serve(t, newDesk(progressing(0)), path)
	_, err := Listen(path)
	if err == nil {
		t.Fatal("two daemons listen on one socket")
	}
	for _, word := range []string{path, "process 42", "/docs", "--socket"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	if _, err := client(t, path).Info(t.Context()); err != nil {
		t.Errorf("the first one does not answer any more: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close() // as a killed daemon leaves it
	serve(t, newDesk(progressing(0)), path)
	if _, err := client(t, path).Info(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFileThatIsNoSocketStays(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(path)
	if err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q now", b)
	}
}

func TestLongPathIsRefused(t *testing.T) {
	_, err := Listen(filepath.Join(filepath.Dir(socketPath(t)), strings.Repeat("x", 120)))
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
}

func TestOneOfManyGetsTheSocket(t *testing.T) {
	path := socketPath(t)
	var wg sync.WaitGroup
	got := make(chan *Listener, 20)
	for range 20 {
		wg.Go(func() {
			if l, err := Listen(path); err == nil {
				got <- l
			}
		})
	}
	wg.Wait()
	close(got)
	n := 0
	for l := range got {
		n++
		l.Close()
	}
	if n != 1 {
		t.Errorf("%d listen on one socket", n)
	}
}

func TestCloseTakesTheFileAlong(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestNobodyThere(t *testing.T) {
	path := socketPath(t)
	_, err := Dial(t.Context(), path)
	var absent *NotRunning
	if !errors.As(err, &absent) || !strings.Contains(err.Error(), "serin up -f DIR") || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v; want how to start one", err)
	}
}

func TestSomebodyElseThere(t *testing.T) {
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.NotFoundHandler()}
	var wg sync.WaitGroup
	wg.Go(func() { _ = other.Serve(l) })
	defer wg.Wait()
	defer other.Close()
	if _, err := Dial(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no daemon of this kind") {
		t.Errorf("got %v", err)
	}
}

// ---- the stream ----

// A reader that comes back says where it was and gets only what is newer; one
// that comes back to another run of the daemon gets everything.
func TestStreamGoesOnWhereItWas(t *testing.T) {
	h := newDesk(progressing(0))
	h.Publish(RolloutView{Name: "other", N: 1})
	srv := httptest.NewServer(rehost(NewServer(h).Handler()))
	defer srv.Close()
	first := readEvents(t, srv.URL, "", 2)
	if len(first) != 2 {
		t.Fatalf("got %v", first)
	}
	h.Publish(RolloutView{Name: "other", N: 2})
	h.Publish(RolloutView{Name: "other", N: 3})
	again := readEvents(t, srv.URL, first[1].id, 1)
	if len(again) != 1 || again[0].view.Name != "other" || again[0].view.N != 3 {
		t.Errorf("after %s came %+v; want the newest of other alone", first[1].id, again)
	}
	h.Remove(Ref{Name: "other"})
	gone := readEvents(t, srv.URL, again[0].id, 1)
	if len(gone) != 1 || gone[0].kind != "gone" {
		t.Errorf("got %+v, want that it is gone", gone)
	}
	for _, id := range []string{"", "garbage", "otherrun-7", "-5", "x-99999999999999999999"} {
		if all := readEvents(t, srv.URL, id, 1); len(all) != 1 || all[0].view.Name != "app" {
			t.Errorf("with id %q came %+v, want everything that is there", id, all)
		}
	}
}

// rehost lets an ordinary test server be asked as a socket's would be.
func rehost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "serin"
		next.ServeHTTP(w, r)
	})
}

type event struct {
	id, kind string
	view     RolloutView
}

func readEvents(t *testing.T, url, last string, n int) []event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", url+"/v1/events", nil)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("content type %q", ct)
	}
	var out []event
	var buf bytes.Buffer
	chunk := make([]byte, 4096)
	for len(out) < n {
		k, err := resp.Body.Read(chunk)
		buf.Write(chunk[:k])
		for {
			block, rest, ok := strings.Cut(buf.String(), "\n\n")
			if !ok {
				break
			}
			buf.Reset()
			buf.WriteString(rest)
			var e event
			for line := range strings.SplitSeq(block, "\n") {
				switch k, v, _ := strings.Cut(line, ": "); k {
				case "id":
					e.id = v
				case "event":
					e.kind = v
				case "data":
					if err := json.Unmarshal([]byte(v), &e.view); err != nil {
						t.Fatal(err)
					}
				}
			}
			if e.kind != "" {
				out = append(out, e)
			}
		}
		if err != nil {
			break
		}
	}
	return out
}

// A daemon that is started anew in the middle does not end a watch.
func TestWatchOutlivesTheDaemon(t *testing.T) {
	path := socketPath(t)
	h := newDesk(progressing(0))
	stop := serve(t, h, path)
	c := client(t, path)
	var seen []int
	err := c.Watch(t.Context(), Ref{Name: "app"}, func(u Update) error {
		seen = append(seen, u.View.N)
		switch len(seen) {
		case 1:
			stop()
			h2 := newDesk(progressing(0))
			h2.Views = NewViews(t0.Add(time.Second))
			h2.Publish(RolloutView{Name: "app", N: 100})
			serve(t, h2, path)
			return nil
		}
		return io.EOF
	})
	if err != nil || len(seen) != 2 || seen[1] != 100 {
		t.Errorf("saw %v, %v", seen, err)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	path := socketPath(t)
	serve(t, newDesk(progressing(0)), path)
	ctx, cancel := context.WithCancel(t.Context())
	err := client(t, path).Watch(ctx, Ref{Name: "app"}, func(Update) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWatchGivesBackTheReadersError(t *testing.T) {
	path := socketPath(t)
	serve(t, newDesk(progressing(0)), path)
	mine := errors.New("enough")
	if err := client(t, path).Watch(t.Context(), Ref{Name: "app"}, func(Update) error { return mine }); err != mine {
		t.Errorf("got %v", err)
	}
}

// Many publish, some read slowly: everybody ends at the newest, nobody waits
// for anybody.
func TestViewsUnderLoad(t *testing.T) {
	vs := NewViews(t0)
	const last = 500
	var wg sync.WaitGroup
	for a := range 4 {
		wg.Go(func() {
			for n := 1; n <= last; n++ {
				vs.Publish(RolloutView{Name: fmt.Sprint(a), N: n})
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			newest := map[string]int{}
			var at Cursor
			for done := 0; done < 4; {
				us, next, err := vs.Next(t.Context(), at)
				if err != nil {
					t.Error(err)
					return
				}
				for _, u := range us {
					if u.View.N <= newest[u.Ref.Name] {
						t.Errorf("%s went from %d to %d", u.Ref.Name, newest[u.Ref.Name], u.View.N)
					}
					if newest[u.Ref.Name] = u.View.N; u.View.N == last {
						done++
					}
				}
				at = next
			}
		})
	}
	wg.Wait()
}
