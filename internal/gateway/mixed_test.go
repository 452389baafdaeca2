package gateway_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
)

var (
	mixedSwitches = flag.Int("switches", 200, "switches in TestEveryProtocolOverSwitches")
	mixedChanges  = flag.Int("changes", 10, "version changes in TestEveryProtocolOverSwitches")
)

// session is one use of one protocol, with its id. It fails if anything that
// was begun does not come to its end.
type session func(addr string, c *http.Client, id string) error

func httpSession(addr string, c *http.Client, id string) error {
	req, err := http.NewRequest("POST", "http://"+addr+"/", io.MultiReader(strings.NewReader("0123456789")))
	if err != nil {
		return err
	}
	req.Header.Set("X-Request-Id", id)
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := " " + id + " 10"; err != nil || resp.StatusCode != 200 || !strings.HasSuffix(string(body), want) {
		return fmt.Errorf("status %d, %q, %v", resp.StatusCode, body, err)
	}
	return nil
}

func eventSession(addr string, c *http.Client, id string) error {
	req, err := http.NewRequest("GET", "http://"+addr+"/sse", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Request-Id", id)
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	want := ""
	for i := range events {
		want += fmt.Sprintf("data: %s %d\n\n", id, i)
	}
	if err != nil || resp.StatusCode != 200 || string(body) != want {
		return fmt.Errorf("status %d, %q, %v", resp.StatusCode, body, err)
	}
	return nil
}

func socketSession(addr string, _ *http.Client, id string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	fmt.Fprintf(nc, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-Id: %s\r\n\r\n", id)
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != 101 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	for i := range 20 {
		fmt.Fprintf(nc, "%s %d\n", id, i)
		line, err := br.ReadString('\n')
		if want := fmt.Sprintf("%s %d\n", id, i); err != nil || line != want {
			return fmt.Errorf("frame %d: %q %v", i, line, err)
		}
		time.Sleep(time.Millisecond) // a conversation takes time: switches come in between
	}
	return nil
}

func grpcSession(addr string, c *http.Client, id string) error {
	pr, pw := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+addr+"/grpc", pr)
	if err != nil {
		return err
	}
	req.Header.Set("X-Request-Id", id)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for i := range 10 {
		m := fmt.Sprintf("%s %d", id, i)
		if _, err := pw.Write(grpcMessage(m)); err != nil {
			return err
		}
		if got, err := readGRPC(resp.Body); err != nil || got != m {
			return fmt.Errorf("message %d: %q %v", i, got, err)
		}
	}
	pw.Close()
	rest, err := io.ReadAll(resp.Body)
	if s := resp.Trailer.Get("Grpc-Status"); err != nil || len(rest) > 0 || s != "0" {
		return fmt.Errorf("ended with %q, grpc-status %q, %v", rest, s, err)
	}
	return nil
}

// noRetry is a client that dials for itself and repeats nothing: bodies without
// a length cannot be sent again.
func noRetry(t *testing.T, h2 bool) *http.Client {
	if h2 {
		return h2Client(t)
	}
	tr := &http.Transport{DisableKeepAlives: true} // a kept-alive GET would be repeated
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestEveryProtocolOverSwitches is TestNothingFailsBecauseOfASwitch for all
// protocols at once. The long form:
//
//	go test ./internal/gateway -run EveryProtocol -switches=1000 -changes=50
func TestEveryProtocolOverSwitches(t *testing.T) {
	f := newFront(t, gateway.Options{Seed: 1})
	var number int64
	put := func(split []gateway.Destination, vs map[string]*process) {
		number++
		var versions []gateway.Version
		plain, grpc := gateway.Rule{Name: "plain"}, gateway.Rule{Name: "grpc",
			Match: []gateway.Match{{Headers: []gateway.NamedMatch{{Name: "Content-Type", Value: gateway.StringMatch{Kind: gateway.Prefix, Value: "application/grpc"}}}}}}
		for _, d := range split {
			v, w := version(d.Version, vs[d.Version].addr), version(d.Version+"-grpc", vs[d.Version].addr)
			w.H2C = true
			versions = append(versions, v, w)
			plain.Split = append(plain.Split, d)
			grpc.Split = append(grpc.Split, gateway.Destination{Version: w.Name, Weight: d.Weight})
		}
		f.swap(t, gateway.Table{Number: number, Services: []gateway.Service{{Name: "app", Default: true, Versions: versions, Rules: []gateway.Rule{grpc, plain}}}})
	}
	live := map[string]*process{"v0": startProcess(t, "v0")}
	oldName := "v0"
	put(all("v0"), live)

	tr := &traffic{stop: make(chan struct{})}
	h1, h2 := noRetry(t, false), noRetry(t, true)
	begun := time.Now()
	var kinds [6]atomic.Int64
	for i, k := range []struct {
		name    string
		do      session
		c       *http.Client
		workers int
	}{
		{"HTTP/1.1", httpSession, h1, 3}, {"HTTP/2", httpSession, h2, 3}, {"events", eventSession, h1, 3},
		{"events over HTTP/2", eventSession, h2, 2}, {"websocket", socketSession, nil, 4}, {"gRPC", grpcSession, h2, 3},
	} {
		for w := range k.workers {
			tr.wg.Add(1)
			go func() {
				defer tr.wg.Done()
				for n := 0; ; n++ {
					select {
					case <-tr.stop:
						return
					default:
					}
					id := fmt.Sprintf("k%d-w%d-%d", i, w, n)
					err := k.do(f.addr, k.c, id)
					kinds[i].Add(1)
					tr.sent.Add(1)
					tr.mu.Lock()
					tr.ids = append(tr.ids, id)
					if err != nil {
						tr.failed = append(tr.failed, fmt.Sprintf("%s %s: %v", k.name, id, err))
					}
					tr.mu.Unlock()
				}
			}()
		}
	}
	for w := range 3 { // kept-alive HTTP/1.1 with every kind of body
		tr.wg.Add(1)
		go tr.run(f.addr, 1000+w)
	}

	var served []string
	per := max(*mixedSwitches / *mixedChanges, 2)
	for change := 1; change <= *mixedChanges; change++ {
		name := fmt.Sprintf("v%d", change)
		live[name] = startProcess(t, name)
		for i := 1; i < per; i++ {
			w := gateway.FullWeight * i / (per - 1)
			put([]gateway.Destination{{Version: oldName, Weight: gateway.FullWeight - w}, {Version: name, Weight: w}}, live)
			tr.wait(20)
		}
		put(all(name), live)
		if err := f.Drain(context.Background(), live[oldName].addr); err != nil {
			t.Fatal(err)
		}
		served = append(served, live[oldName].stop(t)...)
		delete(live, oldName)
		oldName = name
	}
	tr.wait(50)
	close(tr.stop)
	tr.wg.Wait()
	took := time.Since(begun)
	h2.CloseIdleConnections()
	served = append(served, live[oldName].stop(t)...)
	var counts []int64
	for i := range kinds {
		counts = append(counts, kinds[i].Load())
	}
	t.Logf("%d switches, %d version changes in %v: %.0f requests/s; HTTP/1.1, HTTP/2, events, events over HTTP/2, websockets, gRPC: %d",
		number-1, *mixedChanges, took.Round(time.Millisecond), float64(len(tr.ids))/took.Seconds(), counts)
	tr.check(t, served)
	for _, v := range f.Stats().Services[0].Versions {
		for _, e := range v.Endpoints {
			if e.Errors != 0 {
				t.Errorf("%s counted %d errors", v.Name, e.Errors)
			}
		}
	}
}
