package controller

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serin-dev/serin/api/v1alpha1"
	"github.com/serin-dev/serin/internal/engine"
	"github.com/serin-dev/serin/internal/rollout"
)

// What a tenant's document names cannot be this machine's own: nobody listens
// to a webhook at an address of loopback or of a link, by whatever name.
func TestAWebhookDoesNotReachThisMachine(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("was asked") }))
	defer s.Close()
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "224.0.0.1"} {
		res, err := hookClient().Post("http://"+host+port, "", nil)
		if err == nil {
			res.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "an address of this kind is not called") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// Webhooks alone are tried here, as the document has them now.
func TestTestsOfADocument(t *testing.T) {
	a := &app{c: &Controller{run: t.Context()}, key: types.NamespacedName{Namespace: ns, Name: "my-app"}}
	k := newChecks(a.c, a)
	defer k.end()
	asks := v1alpha1.Test{Webhook: &v1alpha1.WebhookTest{URL: "http://127.0.0.1/"}, Timeout: &v1alpha1.Duration{Duration: time.Minute}}
	runs := v1alpha1.Test{Command: []string{"true"}, Timeout: asks.Timeout}
	start := func(test v1alpha1.Test) error {
		name := engine.TestName(&test)
		return k.Start(context.Background(), rollout.TestRun{ID: "of " + name, Name: name})
	}
	refused := func(err error, why string) {
		t.Helper()
		if !errors.Is(err, engine.ErrRefused) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want refused: %s", err, why)
		}
	}
	refused(start(asks), "the document has no test")
	doc := &v1alpha1.Rollout{}
	doc.Spec.Strategy.Canary = &v1alpha1.CanaryStrategy{Steps: []v1alpha1.Step{{Test: &asks}, {Test: &runs}}}
	k.follow(doc)
	refused(start(runs), "is no webhook")
	if err := start(asks); err != nil {
		t.Fatal(err)
	}
	k.runs.Wait()
	got, err := k.Answers(context.Background())
	if err != nil || len(got) != 1 || got[0].Passed || !strings.Contains(got[0].Detail, "an address of this kind is not called") {
		t.Errorf("%+v, %v", got, err)
	}
}
