package hook_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/engine/enginetest"
	"github.com/serin-dev/serin/internal/hook"
	"github.com/serin-dev/serin/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func lasting(d time.Duration) v1alpha1.Test {
	return v1alpha1.Test{Timeout: &v1alpha1.Duration{Duration: d}}
}

// host is one with the single test "smoke", tried as given.
func host(work *sync.WaitGroup, timeout time.Duration, try hook.Try) hook.Host {
	return hook.Host{
		Find:  func(name string) (v1alpha1.Test, bool) { return lasting(timeout), name == "smoke" },
		How:   func(string, v1alpha1.Test) (hook.Try, error) { return try, nil },
		Go:    work.Go,
		Ended: func() {},
		Log:   slog.New(slog.DiscardHandler),
	}
}

// A mistake of ours over a test is that test's: it has not passed, and the stack
// is in the log.
func TestAPanicIsAFailedTest(t *testing.T) {
	var work sync.WaitGroup
	var logged strings.Builder
	h := host(&work, time.Hour, func(context.Context, rollout.TestRun) (bool, string) {
		var none []string
		return none[0] == "", ""
	})
	h.Log = slog.New(slog.NewTextHandler(&logged, nil))
	r := hook.New(context.Background(), h)
	if err := r.Start(context.Background(), rollout.TestRun{ID: "1", Name: "smoke"}); err != nil {
		t.Fatal(err)
	}
	work.Wait()
	got, err := r.Answers(context.Background())
	if err != nil || len(got) != 1 || got[0].Passed || !strings.Contains(got[0].Detail, "its log says more") {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.Contains(logged.String(), "index out of range") || !strings.Contains(logged.String(), "hook_test.go") {
		t.Errorf("logged %q, want the stack", logged.String())
	}
}

func TestPromises(t *testing.T) {
	enginetest.TestTests(t, func(t *testing.T) (engine.Tests, string, func()) {
		var work sync.WaitGroup
		release := make(chan struct{})
		end := sync.OnceFunc(func() { close(release) })
		t.Cleanup(func() { end(); work.Wait() })
		return hook.New(context.Background(), host(&work, time.Hour, func(context.Context, rollout.TestRun) (bool, string) {
			<-release
			return true, "fine"
		})), "smoke", end
	})
}

func TestWhatCannotBeRunIsRefused(t *testing.T) {
	var work sync.WaitGroup
	h := host(&work, time.Hour, func(context.Context, rollout.TestRun) (bool, string) { t.Error("tried"); return false, "" })
	if err := hook.New(context.Background(), h).Start(context.Background(), rollout.TestRun{ID: "1", Name: "other"}); !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), `no test "other"`) {
		t.Errorf("a test that the document does not have: %v", err)
	}
	h.How = func(name string, _ v1alpha1.Test) (hook.Try, error) { return nil, errors.New(name + " not here") }
	if err := hook.New(context.Background(), h).Start(context.Background(), rollout.TestRun{ID: "1", Name: "smoke"}); !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), "smoke not here") {
		t.Errorf("a test that this host does not run: %v", err)
	}
	work.Wait()
}

// A test that takes too long has failed; one whose host ends has said nothing.
func TestHowRunsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		ends time.Duration // of the host
		want []rollout.TestAnswer
	}{
		"TooLong":     {time.Hour, []rollout.TestAnswer{{ID: "1", Detail: "given up after 10s"}}},
		"TheHostEnds": {5 * time.Second, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(context.Background(), c.ends)
				defer stop()
				var work sync.WaitGroup
				told := 0
				h := host(&work, 10*time.Second, func(ctx context.Context, _ rollout.TestRun) (bool, string) {
					begun := time.Now()
					<-ctx.Done()
					return false, "given up after " + time.Since(begun).String()
				})
				h.Ended = func() { told++ }
				r := hook.New(ctx, h)
				if err := r.Start(ctx, rollout.TestRun{ID: "1", Name: "smoke"}); err != nil {
					t.Fatal(err)
				}
				work.Wait()
				got, err := r.Answers(ctx)
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil || told != len(c.want) {
					t.Errorf("told %d times, error %v (-want +got):\n%s", told, err, diff)
				}
			})
		})
	}
}

func TestWebhook(t *testing.T) {
	var got map[string]any
	var key string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, got = r.Method+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("Idempotency-Key"), nil
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/no" {
			http.Error(w, "the password is swordfish", http.StatusTeapot)
		}
	}))
	defer s.Close()
	about := func(run rollout.TestRun) map[string]any {
		return map[string]any{"rollout": "my-app", "addresses": []string{"of " + string(run.Revision)}}
	}
	run := rollout.TestRun{ID: "7", Name: "smoke", Revision: "v2@abc"}
	for path, want := range map[string]string{"/yes": "200 OK", "/no": "418 I'm a teapot"} {
		passed, detail := hook.Webhook(s.Client(), s.URL+path, about)(context.Background(), run)
		if passed != (path == "/yes") || detail != s.URL+path+" answered "+want {
			t.Errorf("%s: %t, %q", path, passed, detail)
		}
		if diff := cmp.Diff(map[string]any{
			"id": "7", "test": "smoke", "version": "v2", "revision": "v2@abc", "rollout": "my-app", "addresses": []any{"of v2@abc"},
		}, got); diff != "" || key != "POST application/json 7" {
			t.Errorf("%s was asked by %s (-want +got):\n%s", path, key, diff)
		}
	}
	s.Close()
	if passed, detail := hook.Webhook(s.Client(), s.URL, about)(context.Background(), run); passed || !strings.HasPrefix(detail, "asking "+s.URL+": ") {
		t.Errorf("nobody there: %t, %q", passed, detail)
	}
}
