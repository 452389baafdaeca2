package daemon

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// Two applications whose names and versions run together do not write one file:
// the second would take the first one's version away.
func TestTwoDeploysOfOneName(t *testing.T) {
	t.Parallel()
	files := article(holding + unjudged)
	files["10-api.yaml"] = second("my-app-api")
	w := newWorld(t, files)
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	w.until("my-app-api", "v1 is adopted", restsOn("v1"))
	first, err := w.d.Deploy(context.Background(), httpapi.Ref{Name: "my-app"}, deployed("api-v2"))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(first.File)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.d.Deploy(context.Background(), httpapi.Ref{Name: "my-app-api"}, deployed("v2"))
	var refused *httpapi.Refusal
	if !errors.As(err, &refused) || !strings.Contains(refused.Why, "`serin deploy my-app --version api-v2`") || !strings.Contains(refused.Why, "another name") {
		t.Errorf("the second one: %v", err)
	}
	if now, err := os.ReadFile(first.File); err != nil || string(now) != string(kept) {
		t.Errorf("the first one's file was changed: %v\n%s", err, now)
	}
	// The same one may be deployed anew, with another command.
	again := deployed("api-v2")
	again.Command = append(again.Command, "-fail-every", "1000")
	if _, err := w.d.Deploy(context.Background(), httpapi.Ref{Name: "my-app"}, again); err != nil {
		t.Error(err)
	}
}

// What is deployed again as it was is told how that stands: a script that sees
// "nothing was changed" would wait for a rollout that nobody starts. And of a
// version that is in no file nobody is told to complete the files.
func TestDeployedAgainAfterItWasTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(holding+unjudged))
	w.up()
	w.open()
	w.until("my-app", "v1 is adopted", restsOn("v1"))
	deploy := func(version string) httpapi.Deployed {
		t.Helper()
		got, err := w.d.Deploy(context.Background(), myApp, deployed(version))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	deploy("v9") // no subset of the folder's DestinationRule has it
	w.until("my-app", "v9 is on trial", func(v httpapi.RolloutView) bool { return v.Canary != nil && v.Canary.Version == "v9" && v.Live })
	for _, f := range w.view("my-app").Findings {
		if strings.Contains(f.What, "v9") {
			t.Errorf("%s: %s Remedy: %s", f.Level, f.What, f.Remedy)
		}
	}
	if got := deploy("v9").Message; got != "v9 is deployed so already: nothing was changed." {
		t.Errorf("under way: %s", got)
	}
	w.command("my-app", rollout.Command{Verb: rollout.VerbAbort, Reason: "no"})
	w.until("my-app", "v1 has everything", restsOn("v1"))
	if got := deploy("v9").Message; !strings.Contains(got, "nothing was changed. It was taken back") || !strings.Contains(got, "`serin retry my-app --revision v9`") {
		t.Errorf("taken back: %s", got)
	}
}
