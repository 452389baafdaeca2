package gateway_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

// A replica that cannot be connected to is passed over, also for a body that is
// sent while it is read, and its failure is nobody else's.
func TestAnH2CReplicaThatIsDownIsPassedOver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := l.Addr().String()
	l.Close()
	for name, client := range map[string]func(testing.TB) *http.Client{
		"HTTP/2": h2Client,
		"HTTP/1.1": func(t testing.TB) *http.Client {
			tr := &http.Transport{DisableCompression: true}
			t.Cleanup(tr.CloseIdleConnections)
			return &http.Client{Transport: tr}
		},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{}, 1)
			up := h2Backend(t, func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				_, _ = w.Write(body)
			})
			f := newFront(t, gateway.Options{})
			v := version("v1", down, up)
			v.H2C = true
			f.swap(t, table(1, all("v1"), v))
			c := client(t)
			const n = 6 // the replicas are asked in turn: one of the first two comes to the one that is down
			for i := range n {
				pr, pw := io.Pipe()
				go func() { // the body goes on when a replica is there to read it
					_, _ = io.WriteString(pw, "stre")
					<-arrived
					_, _ = io.WriteString(pw, "amed")
					pw.Close()
				}()
				resp, err := c.Post(f.url, "application/grpc", pr)
				if err != nil {
					t.Fatal(err)
				}
				body := readAll(t, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK || body != "streamed" {
					t.Errorf("request %d: %s, %q", i, resp.Status, body)
				}
			}
			tried := uint64(0)
			for _, e := range f.version(t, "v1").Endpoints {
				tried += e.Retried
				if e.Address == up && (e.Errors != 0 || e.Requests != n) {
					t.Errorf("the replica that is up: %d requests, %d errors, want %d and none", e.Requests, e.Errors, n)
				}
			}
			if tried == 0 {
				t.Error("the replica that is down was never tried")
			}
		})
	}
}

// perTryTimeout bounds the wait for an answer's head, not the answer.
func TestPerTryTimeoutDoesNotCutAnH2CAnswer(t *testing.T) {
	release := make(chan struct{}, 1)
	addr := h2Backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		select {
		case <-release:
			io.WriteString(w, ", ended")
		case <-r.Context().Done():
		}
	})
	f := newFront(t, gateway.Options{})
	v := version("v1", addr)
	v.H2C = true
	// A machine may be too busy for the head to come in time: then with more time.
	for perTry := 50 * time.Millisecond; perTry < patience; perTry *= 2 {
		tb := table(1, all("v1"), v)
		tb.Services[0].Rules[0].Retries = gateway.Retries{Attempts: 1, PerTry: perTry}
		f.swap(t, tb)
		resp, err := f.client.Get(f.url)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusGatewayTimeout {
			resp.Body.Close()
			continue
		}
		time.Sleep(2 * perTry) // what would cut it cuts it now
		release <- struct{}{}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(body) != "begun, ended" || err != nil {
			t.Errorf("%s, %q, %v", resp.Status, body, err)
		}
		return
	}
	t.Error("no head came in any time")
}

// The rule's timeout goes on after the head.
func TestTheRulesTimeoutCutsAnH2CAnswer(t *testing.T) {
	addr := h2Backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	f := newFront(t, gateway.Options{})
	v := version("v1", addr)
	v.H2C = true
	tb := table(1, all("v1"), v)
	tb.Services[0].Rules[0].Timeout = 50 * time.Millisecond
	tb.Services[0].Rules[0].Retries = gateway.Retries{Attempts: 1, PerTry: 20 * time.Millisecond}
	f.swap(t, tb)
	resp, err := f.client.Get(f.url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK && err == nil {
		t.Error("an answer without an end came to one")
	}
}
