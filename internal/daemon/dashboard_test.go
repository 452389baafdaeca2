package daemon

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/serin-dev/serin/internal/httpapi"
)

func TestDashboardIsOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:80", "example.com:80", "nonsense"} {
		w, err := openDashboard(Options{Dashboard: address, StateDir: t.TempDir()})
		if err == nil {
			w.Close()
			t.Errorf("%s is listened on", address)
			continue
		}
		if !strings.Contains(err.Error(), "127.0.0.1:PORT") {
			t.Errorf("%s: %q does not say what would be right", address, err)
		}
	}
	if w, err := openDashboard(Options{}); w != nil || err != nil {
		t.Errorf("none is asked for: %v, %v", w, err)
	}
}

// The address that is printed lets its owner in, after a restart too; nobody
// else, and no more than the dashboard asks for.
func TestDashboardOfADaemon(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	first, err := openDashboard(Options{Dashboard: "127.0.0.1:0", StateDir: state, User: "me"})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	again, err := openDashboard(Options{Dashboard: "127.0.0.1:0", StateDir: state, User: "me"})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if first.keys != again.keys || first.url(first.full()) == first.url(first.look()) {
		t.Errorf("keys %v and %v", first.keys, again.keys)
	}
	var none *dashboard
	if none.url(none.full()) != "" {
		t.Error("there is none, and it has an address")
	}
}

func TestDashboardShowsWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(steps))
	w.edit = func(o *Options) { o.Dashboard = "127.0.0.1:0" }
	w.up()
	w.until("my-app", "it rests on v1", restsOn("v1"))
	root, token, ok := strings.Cut(w.d.Dashboard(), "/?token=")
	if !ok {
		t.Fatalf("the address is %q", w.d.Dashboard())
	}
	ask := func(path, token string) (int, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", root+"/_serin/v1"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	if code, b := ask("/rollouts/my-app", "x"); code != http.StatusUnauthorized {
		t.Errorf("a stranger: %d %s", code, b)
	}
	code, b := ask("/rollouts/my-app", token)
	var v httpapi.RolloutView
	if err := json.Unmarshal(b, &v); code != http.StatusOK || err != nil || v.Stable == nil || v.Stable.Version != "v1" {
		t.Errorf("%d %s, %v", code, b, err)
	}
	if i := w.d.Info(); i.Dashboard != w.d.Dashboard() || i.DashboardLook == i.Dashboard {
		t.Errorf("the socket tells %+v", i)
	}
}
