package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// second is another application's documents, in a file of its own.
func second(name string) string {
	one := strings.Join([]string{service, deploymentOf("v1", 1), destinationRule, virtualService(100, 0), quick(holding + unjudged)}, "\n---\n")
	return strings.ReplaceAll(one, "my-app", name)
}

// Documents that could not be put in force for a reason that is not theirs are
// tried again until they can; meanwhile it is said what failed, and nothing of
// them is half there.
func TestAReloadThatFailedIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	// Where bee's record should be is a folder; app, which comes first, can be opened.
	obstacle := filepath.Join(w.state, "records", "bee.jsonl")
	if err := os.MkdirAll(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("10-others.yaml", second("app")+"\n---\n"+second("bee"))
	v := w.until("my-app", "it is said", func(v httpapi.RolloutView) bool {
		return finds(v, "The folder's documents could not be put in force")
	})
	i := slices.IndexFunc(v.Findings, func(f rollout.Finding) bool { return strings.Contains(f.What, "opening bee: ") })
	if i < 0 || !strings.Contains(v.Findings[i].Remedy, "tried again") {
		t.Errorf("findings %+v", v.Findings)
	}
	if w.d.app("app") != nil {
		t.Error("half of the documents are in force")
	}
	w.d.loading.Lock() // it is tried again in between
	if links, err := filepath.Glob("/proc/self/fd/*"); err == nil {
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil && to == filepath.Join(w.state, "records", "app.jsonl") {
				t.Error("the record that was opened in vain is open still")
			}
		}
	}
	w.d.loading.Unlock()
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	w.until("bee", "its version is adopted", restsOn("v1"))
	w.until("app", "its version is adopted", restsOn("v1"))
	w.until("my-app", "the finding goes", func(v httpapi.RolloutView) bool { return len(v.Findings) == 0 })
	if n := strings.Count(w.log.String(), "the documents in the folder are not in force"); n != 1 {
		t.Errorf("said %d times in the log, want once", n)
	}
}

// So is a folder that could not be read.
func TestAFolderThatCouldNotBeReadIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	// What was deployed by command is read with the folder; nobody watches it.
	obstacle := filepath.Join(w.state, "deployed")
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1))
	v := w.until("my-app", "it is said", func(v httpapi.RolloutView) bool { return finds(v, "The folder cannot be read") })
	if !strings.Contains(v.Findings[0].Remedy, "tried again") {
		t.Errorf("findings %+v", v.Findings)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	v = w.until("my-app", "v2 gets its share", liveAt(2500))
	if len(v.Findings) > 0 {
		t.Errorf("findings %+v", v.Findings)
	}
}
