package daemon

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/internal/workload/versions"
)

// byLabel is a route with rules that the rollout does not move: they name their
// versions.
const byLabel = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: my-app-vs}
spec:
  hosts: [my-app-service]
  http:
  - name: one
    match: [{uri: {prefix: /echo/one}}]
    route: [{destination: {host: my-app-service, subset: v1}}]
  - name: two
    match: [{uri: {prefix: /echo/two}}]
    route: [{destination: {host: my-app-service, subset: v2}}]
  - name: main
    route:
    - {destination: {host: my-app-service, subset: v1}, weight: 100}
    - {destination: {host: my-app-service, subset: v2}, weight: 0}
`

// asked asks for a path all the time, and remembers what was no answer.
type asked struct {
	w    *world
	path string
	stop chan struct{}
	all  sync.WaitGroup

	mu     sync.Mutex
	pid    int
	failed map[int]int
}

func (w *world) keepAsking(path string) *asked {
	a := &asked{w: w, path: path, stop: make(chan struct{}), failed: map[int]int{}}
	a.all.Go(func() {
		for {
			select {
			case <-a.stop:
				return
			default:
			}
			res, e := w.ask("GET", "my-app-service", path)
			a.mu.Lock()
			if a.pid = e.PID; res.StatusCode != http.StatusOK {
				a.failed[res.StatusCode]++
			}
			a.mu.Unlock()
		}
	})
	return a
}

// by is the process that answered last.
func (a *asked) by() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pid
}

func (a *asked) end() {
	a.w.t.Helper()
	close(a.stop)
	a.all.Wait()
	if len(a.failed) > 0 {
		a.w.t.Errorf("%s was answered with %v", a.path, a.failed)
	}
}

// A rule that names a version by its label is answered all through an edit of
// that version: by the old one until the new one can, then by the new one. That
// holds for stable and for a canary that the edit supersedes and to which the
// rollout owes nothing any more.
func TestARuleThatNamesAnEditedVersionIsAlwaysAnswered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ label, file, path string }{
		"stable": {"v1", "01-deployment-v1.yaml", "/echo/one"},
		"canary": {"v2", "04-deployment-v2.yaml", "/echo/two"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, asking(byLabel, destinationRule, ""))
			w.up()
			w.open()
			w.until("my-app", "v1 is adopted", restsOn("v1"))
			if c.label == "v2" {
				w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
				w.until("my-app", "v2 gets its share", liveAt(2500))
			}
			before := w.d.app("my-app").versions.Book().Entries
			a := w.keepAsking(c.path)
			w.eventually("it is answered", func() bool { return a.by() != 0 })
			old := a.by()

			flag := filepath.Join(w.dir, "go-on")
			w.write(c.file, strings.Replace(deploymentOf(c.label, 1, "-wait-for", flag), "my-app:"+c.label, "my-app:edited", 1))
			w.eventually("the edit is read", func() bool { return len(w.d.app("my-app").versions.Book().Entries) == len(before)+1 })
			if c.label == "v2" {
				w.until("my-app", "the old canary is superseded and has no traffic by weight", func(v httpapi.RolloutView) bool {
					return decided(v, rollout.EvSuperseded) && v.WeightSet == 0 && v.Live
				})
			}
			w.passes("my-app", 3)
			if now := a.by(); now != old {
				t.Errorf("answered by process %d, want still %d: the new one is not ready", now, old)
			}
			if err := os.WriteFile(flag, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			w.eventually("the new one answers", func() bool { pid := a.by(); return pid != old && pid != 0 })
			if c.label == "v2" {
				w.eventually("the old one is let go", func() bool {
					return len(w.d.app("my-app").versions.Book().Entries) == len(before)
				})
			}
			a.end()
		})
	}
}

// passes waits until the application was passed over so many times more.
func (w *world) passes(app string, n uint64) {
	w.t.Helper()
	a := w.d.app(app)
	count := func() uint64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.seen.passes
	}
	from := count()
	w.eventually("it is passed over", func() bool { a.wake(); return count() >= from+n })
}

func TestWhomALabelMeans(t *testing.T) {
	t.Parallel()
	ready := []versions.Replica{{Ready: true}}
	starting := []versions.Replica{{}}
	a, b, c := versions.Entry{Revision: "v1@a", Gone: true}, versions.Entry{Revision: "v1@b", Gone: true}, versions.Entry{Revision: "v1@c"}
	deleted := versions.Entry{Revision: "v1@c", Deleted: true}
	for why, c := range map[string]struct {
		entries  []versions.Entry
		replicas map[rollout.Revision][]versions.Replica
		want     rollout.Revision
	}{
		"the documents', when all can answer":         {[]versions.Entry{a, b, c}, map[rollout.Revision][]versions.Replica{"v1@a": ready, "v1@b": ready, "v1@c": ready}, "v1@c"},
		"the newest that can answer, while it cannot": {[]versions.Entry{a, b, c}, map[rollout.Revision][]versions.Replica{"v1@a": ready, "v1@b": ready, "v1@c": starting}, "v1@b"},
		"the only one that can answer":                {[]versions.Entry{a, b, c}, map[rollout.Revision][]versions.Replica{"v1@a": ready, "v1@b": starting}, "v1@a"},
		"the documents', when nobody can":             {[]versions.Entry{a, b, c}, nil, "v1@c"},
		"one of the documents may stand first":        {[]versions.Entry{c, a}, map[rollout.Revision][]versions.Replica{"v1@a": ready, "v1@c": ready}, "v1@c"},
		"what is deleted is nobody":                   {[]versions.Entry{a, deleted}, map[rollout.Revision][]versions.Replica{"v1@c": ready}, "v1@a"},
		"one that is not asked for, when it is alone": {[]versions.Entry{a}, nil, "v1@a"},
	} {
		want := map[string]rollout.Revision{"v1": c.want}
		if diff := cmp.Diff(want, meant(c.entries, c.replicas)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", why, diff)
		}
	}
}
