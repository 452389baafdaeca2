package daemon

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
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
