package gateway_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// h2Events is a replica that speaks HTTP/2, and streams events until its client
// goes away.
func h2Events(t *testing.T) gateway.Version {
	v := version("v1", h2Backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	v.H2C = true
	return v
}

// An event stream of a replica that speaks HTTP/2 is one: counted when it
// begins, by the time to its head, and ended in order when its replica drains.
func TestDrainEndsEventStreamsOfH2CReplicas(t *testing.T) {
	v := h2Events(t)
	f := newFront(t, gateway.Options{DrainTimeout: patience, StreamDrainTimeout: 100 * time.Millisecond})
	f.swap(t, table(1, all("v1"), v))
	streams := map[string]io.Reader{}
	for name, c := range map[string]*http.Client{"HTTP/1.1": f.client, "HTTP/2": h2Client(t)} {
		resp, err := c.Get(f.url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		expect(t, resp.Body, "data: 1\n\n")
		streams[name] = resp.Body
	}
	if e := f.version(t, "v1").Endpoints[0]; e.Requests != 2 || e.InFlight != 2 {
		t.Errorf("streams are counted when they begin: %+v", e)
	}
	f.swap(t, gateway.Table{Number: 2})
	if err := f.Drain(context.Background(), v.Endpoints[0].Address); err != nil {
		t.Fatal(err)
	}
	for name, stream := range streams {
		if rest, err := io.ReadAll(stream); err != nil || len(rest) != 0 {
			t.Errorf("%s: the stream ended with %q, %v; want a clean end, so that the client comes again", name, rest, err)
		}
	}
	if e := f.version(t, "v1").Endpoints[0]; e.Requests != 2 || e.Errors != 0 {
		t.Errorf("ending them is no failure, and no second request: %+v", e)
	}
}

func TestLeavingEndsEventStreamsOfH2CReplicas(t *testing.T) {
	r := newRelayed(t, table(1, all("v1"), h2Events(t)))
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + r.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	expect(t, resp.Body, "data: 1\n\n")
	if err := r.leave(patience); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	r.next()
}
