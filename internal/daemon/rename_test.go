package daemon

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

func finds(v httpapi.RolloutView, what string) bool {
	return slices.ContainsFunc(v.Findings, func(f rollout.Finding) bool { return strings.Contains(f.What, what) })
}

// A Rollout that is given another name is another application: it takes over
// Service and hosts as soon as it can answer for them, and nobody is left
// without an answer meanwhile. The one before ends when what it has begun is
// answered. Back again is the same, and goes on from what was saved.
func TestARenamedRolloutTakesOver(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 1)
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	a := w.keepAsking("/echo")
	defer a.end()
	w.eventually("it is answered", func() bool { return a.by() != 0 })
	old := a.by()
	flag := filepath.Join(t.TempDir(), "answer")
	begun := make(chan answer, 1)
	go func() {
		c := &http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		res, err := c.Get("http://" + w.d.Addr() + "/wait-for" + flag)
		if err != nil {
			begun <- answer{err: err}
			return
		}
		res.Body.Close()
		begun <- answer{version: res.Header.Get("X-Version"), code: res.StatusCode}
	}()
	w.eventually("a long request is with it", func() bool {
		route, err := w.d.app("my-app").router.Observe(t.Context())
		n := 0
		for _, of := range route.InFlight {
			n += of
		}
		return err == nil && n > 1 // beside the one of keepAsking
	})
	w.write("05-rollout.yaml", strings.Replace(files["05-rollout.yaml"], "{name: my-app}", "{name: other}", 1))
	w.eventually("the renamed one answers", func() bool { return a.by() != old })
	v := w.until("other", "v1 is adopted", restsOn("v1"))
	if finds(v, "not in force") {
		t.Errorf("findings %+v", v.Findings)
	}
	if got := w.share(20, "a.host.that.nobody.names"); got["v1"] != 20 {
		t.Errorf("other hosts are answered by %v: the only application answers for all", got)
	}
	w.eventually("it is said that the first one is ended", func() bool {
		return strings.Contains(w.log.String(), "another application answers in its place: it is ended\" app=my-app")
	})
	w.eventually("it is shown no more", func() bool { return w.view("my-app").Name == "" && w.d.app("my-app") == nil })
	if err := syscall.Kill(old, 0); err != nil {
		t.Errorf("its process has a request to answer, and: %v", err)
	}
	w.put(flag)
	if got := <-begun; got.err != nil || got.code != http.StatusOK || got.version != "v1" {
		t.Errorf("the long request: %+v", got)
	}
	w.untilProcesses("v1", 1)
	w.eventually("its process is gone", func() bool { return syscall.Kill(old, 0) != nil })

	now := a.by()
	w.write("05-rollout.yaml", files["05-rollout.yaml"])
	w.eventually("the first one answers again", func() bool { return a.by() != now })
	v = w.until("my-app", "it goes on from what was saved", restsOn("v1"))
	if n := len(v.Decisions); n != 1 || !decided(v, rollout.EvAdopted) {
		t.Errorf("%d decisions, want the one from before:\n%s", n, told(v))
	}
	if finds(v, "are gone") {
		t.Errorf("findings %+v", v.Findings)
	}
	w.eventually("the other one is ended", func() bool { return w.d.app("other") == nil && len(w.d.sup.List()) == 1 })
}

// An application whose documents are gone serves whoever asks it, and ends when
// nobody does. Put back, it is there again.
func TestAnApplicationWithoutDocumentsEndsWhenNobodyAsksIt(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["10-bee.yaml"] = second("bee")
	w := newWorld(t, files)
	w.edit = func(o *Options) { o.Linger = time.Millisecond }
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.until("bee", "v1 is adopted", restsOn("v1"))
	w.eventually("bee answers", func() bool { res, _ := w.ask("GET", "bee-service", "/"); return res.StatusCode == http.StatusOK })
	flag := filepath.Join(t.TempDir(), "answer")
	begun := make(chan int, 1)
	go func() {
		req, _ := http.NewRequest("GET", "http://"+w.d.Addr()+"/wait-for"+flag, nil)
		req.Host = "bee-service"
		c := &http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		res, err := c.Do(req)
		if err != nil {
			begun <- 0
			return
		}
		res.Body.Close()
		begun <- res.StatusCode
	}()
	w.eventually("somebody is with bee", func() bool {
		route, err := w.d.app("bee").router.Observe(t.Context())
		for _, n := range route.InFlight {
			if n > 0 {
				return err == nil
			}
		}
		return false
	})
	w.remove("10-bee.yaml")
	w.until("bee", "what becomes of it is said", func(v httpapi.RolloutView) bool {
		return finds(v, "is ended after 1ms without a request")
	})
	w.passes("bee", 3)
	if res, e := w.ask("GET", "bee-service", "/echo"); e.Version != "v1" {
		t.Errorf("%s from %q: it is asked, so it goes on", res.Status, e.Version)
	}
	w.put(flag)
	if code := <-begun; code != http.StatusOK {
		t.Errorf("the request that it had begun: %d", code)
	}
	w.eventually("it is ended", func() bool { return w.d.app("bee") == nil && w.view("bee").Name == "" && len(w.d.sup.List()) == 3 })
	if !strings.Contains(w.log.String(), "and it was asked nothing for 1ms: it is ended\" app=bee") {
		t.Error("it is not in the log")
	}
	// As after a restart, who is alone answers for every host.
	if got := w.share(20, "bee-service"); got["v1"] != 20 {
		t.Errorf("answers %v", got)
	}
	w.write("10-bee.yaml", second("bee"))
	v := w.until("bee", "it is there again", restsOn("v1"))
	if len(v.Decisions) != 1 {
		t.Errorf("decisions, want the one from before:\n%s", told(v))
	}
	w.untilProcesses("v1", 4)
}

func TestWhenAnApplicationWithoutDocumentsIsMissed(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return since.Add(time.Duration(minutes) * time.Minute) }
	for why, c := range map[string]struct {
		routed bool
		seen   rollout.Route
		want   time.Time
	}{
		"without a route it can be asked nothing": {false, rollout.Route{}, since},
		"never asked":                              {true, rollout.Route{}, at(10)},
		"asked before its documents went":          {true, rollout.Route{Last: map[rollout.Revision]time.Time{"v1": at(-5)}}, at(10)},
		"asked since: the latest of all versions":  {true, rollout.Route{Last: map[rollout.Revision]time.Time{"v1": at(3), "v2": at(7)}}, at(17)},
		"somebody waits for an answer: not at all": {true, rollout.Route{InFlight: map[rollout.Revision]int{"v1": 0, "v2": 1}, Last: map[rollout.Revision]time.Time{"v2": at(1)}}, time.Time{}},
	} {
		if got := missed(since, c.routed, c.seen, 10*time.Minute); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", why, got, c.want)
		}
	}
}

// Executed again, a daemon ends replicas that no documents ask for any more.
func TestExecutedAgainWithoutAnApplicationsDocuments(t *testing.T) {
	t.Parallel()
	files := article(unjudged)
	files["10-bee.yaml"] = second("bee")
	w := newWorld(t, files)
	o := w.startProgram(os.Args[0], "127.0.0.1:0")
	o.until("v1 is adopted", restsOn("v1"))
	replica := regexp.MustCompile(`msg="replica ready" replica=(bee-v1\S*)`)
	w.eventually("bee is ready", func() bool { return replica.MatchString(o.log.String()) })
	w.remove("10-bee.yaml")
	o.untilLogged("its documents are gone from the folder")
	name := replica.FindStringSubmatch(o.log.String())[1]
	o.again(1)
	o.untilLogged("replica ended\" replica=" + name)
}

// A route that the gateway refuses, for a reason that nobody foresaw, is said
// where people look, for as long as it is so; the one before stays in force.
func TestARouteThatIsNotInForceIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, asking(byLabel, destinationRule, ""))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	// What the first becomes in the gateway has the second one's name.
	w.write("03-virtualservice.yaml", strings.Replace(byLabel, "  - name: main\n", `  - name: three
    match: [{uri: {prefix: /a}}, {uri: {prefix: /b}}]
    rewrite: {uri: /c}
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: three (match 2)
    match: [{uri: {prefix: /d}}]
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: main
`, 1))
	v := w.until("my-app", "it is said", func(v httpapi.RolloutView) bool {
		return finds(v, "The route of the documents is not in force: ")
	})
	if !finds(v, `"three (match 2)" is there twice`) {
		t.Errorf("findings %+v", v.Findings)
	}
	if res, e := w.ask("GET", "my-app-service", "/echo/one"); e.Version != "v1" {
		t.Errorf("%s from %q, want v1 as before", res.Status, e.Version)
	}
	w.write("03-virtualservice.yaml", byLabel)
	w.until("my-app", "it is in force again", func(v httpapi.RolloutView) bool { return !finds(v, "not in force") })
	if n := strings.Count(w.log.String(), "the route of the documents is not in force"); n != 1 {
		t.Errorf("said %d times in the log, want once", n)
	}
}
