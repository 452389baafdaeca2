package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

func finds(v httpapi.RolloutView, what string) bool {
	return slices.ContainsFunc(v.Findings, func(f rollout.Finding) bool { return strings.Contains(f.What, what) })
}

// A Rollout that is given another name is another application: it takes over
// Service and hosts as soon as it can answer for them, and nobody is left
// without an answer meanwhile. Back again is the same.
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
	w.write("05-rollout.yaml", strings.Replace(files["05-rollout.yaml"], "{name: my-app}", "{name: other}", 1))
	w.eventually("the renamed one answers", func() bool { return a.by() != old })
	v := w.until("other", "v1 is adopted", restsOn("v1"))
	if finds(v, "not in force") {
		t.Errorf("findings %+v", v.Findings)
	}
	if got := w.share(20, "a.host.that.nobody.names"); got["v1"] != 20 {
		t.Errorf("other hosts are answered by %v: the only application answers for all", got)
	}
	w.until("my-app", "it is said that it is asked nothing", func(v httpapi.RolloutView) bool {
		return finds(v, "another application answers for its Service or host now")
	})
	w.write("05-rollout.yaml", files["05-rollout.yaml"])
	w.eventually("the first one answers again", func() bool { return a.by() == old })
	w.until("my-app", "its documents are there again", func(v httpapi.RolloutView) bool { return !finds(v, "are gone") })
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
