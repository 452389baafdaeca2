package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
	"go.uber.org/goleak"
)

// backendEnv makes this test binary a back-end process instead of running tests.
const backendEnv = "SERIN_GATEWAY_TEST_BACKEND"

func TestMain(m *testing.M) {
	if role := os.Getenv(backendEnv); role != "" {
		var limit uint64
		var upstream string
		if n, _ := fmt.Sscanf(role, "gateway %d %s", &limit, &upstream); n == 2 {
			serveAsGateway(limit, upstream)
		}
		serveAsBackend(role)
		return
	}
	goleak.VerifyTestMain(m)
}

// serveAsBackend answers every request with its id and the version, and writes
// each id to standard output. On SIGTERM it exits at once, without any grace: a
// request that is still there then is lost, and the test sees it.
func serveAsBackend(version string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		os.Exit(0)
	}()
	var mu sync.Mutex
	say := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(os.Stdout, s+"\n")
	}
	say(l.Addr().String())
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		say(id)
		switch {
		case r.URL.Path == "/ws":
			echoSocket(w)
			return
		case r.URL.Path == "/sse":
			sendEvents(w, r, id)
			return
		case r.URL.Path == "/grpc":
			echoMessages(w, r)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/slow") { // work that a careless stop would cut
			fmt.Fprintf(w, "%s %s ", version, id)
			w.(http.Flusher).Flush()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.Context().Done():
			}
			fmt.Fprintf(w, "%d", n)
			return
		}
		fmt.Fprintf(w, "%s %s %d", version, id, n)
	})
	srv.Serve(l)
}

// echoSocket upgrades and sends back what it gets, until the client ends it.
func echoSocket(w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	io.Copy(c, rw)
}

// events is how many an event stream has; it ends by itself after the last.
const events = 5

func sendEvents(w http.ResponseWriter, r *http.Request, id string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range events {
		fmt.Fprintf(w, "data: %s %d\n\n", id, i)
		w.(http.Flusher).Flush()
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// echoMessages is a gRPC method that sends back each message.
func echoMessages(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.WriteHeader(200)
	w.(http.Flusher).Flush()
	for {
		m, err := readGRPC(r.Body)
		if err != nil {
			break
		}
		w.Write(grpcMessage(m))
		w.(http.Flusher).Flush()
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

// process is one running back-end process.
type process struct {
	cmd  *exec.Cmd
	addr string
	read chan struct{} // closed when all it said has been read
	mu   sync.Mutex
	ids  []string
}

func startProcess(t *testing.T, version string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), read: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), backendEnv+"="+version, "GORACE=atexit_sleep_ms=0") // the race detector would wait a second at exit
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("back end %s did not start", version)
	}
	p.addr = lines.Text()
	go func() {
		defer close(p.read)
		for lines.Scan() {
			p.mu.Lock()
			p.ids = append(p.ids, lines.Text())
			p.mu.Unlock()
		}
	}()
	return p
}

// stop terminates the process and gives the ids that it has served.
func (p *process) stop(t *testing.T) []string {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.read
	p.cmd.Wait()
	return p.ids
}

// caller is one client on one kept-alive connection. It makes no second attempt
// of anything: what fails is counted.
type caller struct {
	addr string
	nc   net.Conn
	br   *bufio.Reader
}

func (c *caller) do(req *http.Request) (int, string, error) {
	if c.nc == nil {
		nc, err := net.Dial("tcp", c.addr)
		if err != nil {
			return 0, "", err
		}
		c.nc, c.br = nc, bufio.NewReader(nc)
	}
	if err := req.Write(c.nc); err != nil {
		c.close()
		return 0, "", fmt.Errorf("writing: %w", err)
	}
	resp, err := http.ReadResponse(c.br, req)
	if err != nil {
		c.close()
		return 0, "", fmt.Errorf("reading the head: %w", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Close {
		c.close()
	}
	return resp.StatusCode, string(b), err
}

func (c *caller) close() {
	if c.nc != nil {
		c.nc.Close()
	}
	c.nc = nil
}

// traffic is continuous load with an id on every request.
type traffic struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	sent   atomic.Int64
	mu     sync.Mutex
	ids    []string
	failed []string
}

func startTraffic(addr string, callers int) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	for i := range callers {
		tr.wg.Add(1)
		go tr.run(addr, i)
	}
	return tr
}

func (tr *traffic) run(addr string, worker int) {
	defer tr.wg.Done()
	c := &caller{addr: addr}
	defer c.close()
	rng := rand.New(rand.NewPCG(uint64(worker), 1))
	for n := 0; ; n++ {
		select {
		case <-tr.stop:
			return
		default:
		}
		id := fmt.Sprintf("w%d-%d", worker, n)
		req, size := makeRequest(rng, addr, id)
		code, body, err := c.do(req)
		var version, gotID string
		var gotSize int
		fmt.Sscan(body, &version, &gotID, &gotSize)
		tr.sent.Add(1)
		tr.mu.Lock()
		tr.ids = append(tr.ids, id)
		if err != nil || code != 200 || gotID != id || gotSize != size {
			tr.failed = append(tr.failed, fmt.Sprintf("%s %s %s: status %d, error %v, body %q", id, req.Method, req.URL.Path, code, err, body))
		}
		tr.mu.Unlock()
	}
}

// makeRequest gives requests of every kind that fails in its own way: without
// a body, with a small one, a streamed one, one without a length, slow ones,
// and ones after which the connection is closed.
func makeRequest(rng *rand.Rand, addr, id string) (*http.Request, int) {
	path := "/"
	if rng.IntN(10) == 0 {
		path = "/slow"
	}
	method, size := "GET", 0
	var body io.Reader
	switch rng.IntN(4) {
	case 1:
		method, size = "POST", 1+rng.IntN(2000)
		body = bytes.NewReader(make([]byte, size))
	case 2:
		method, size = "PUT", 20_000+rng.IntN(60_000)
		body = bytes.NewReader(make([]byte, size))
	case 3:
		if rng.IntN(4) == 0 {
			method, size = "POST", rng.IntN(40_000)
			body = io.MultiReader(bytes.NewReader(make([]byte, size))) // hides the length: chunked
		}
	}
	req, err := http.NewRequest(method, "http://"+addr+path, body)
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-Request-Id", id)
	req.Close = rng.IntN(50) == 0
	return req, size
}

// wait lets n more requests end.
func (tr *traffic) wait(n int64) {
	for until := tr.sent.Load() + n; tr.sent.Load() < until; {
		time.Sleep(time.Millisecond)
	}
}

// check compares what the clients sent with what the back ends served.
func (tr *traffic) check(t *testing.T, served []string) {
	t.Helper()
	for i, f := range tr.failed {
		if i == 20 {
			t.Errorf("... and %d more", len(tr.failed)-i)
			break
		}
		t.Errorf("failed: %s", f)
	}
	times := map[string]int{}
	for _, id := range served {
		times[id]++
	}
	lost, doubled := 0, 0
	for _, id := range tr.ids {
		switch n := times[id]; {
		case n == 0:
			lost++
		case n > 1:
			doubled++
		}
		delete(times, id)
	}
	if lost > 0 || doubled > 0 || len(times) > 0 {
		t.Errorf("of %d requests %d never reached a back end, %d did so more than once; %d ids were seen that nobody sent",
			len(tr.ids), lost, doubled, len(times))
	}
	t.Logf("%d requests, %d failed, %d lost, %d doubled", len(tr.ids), len(tr.failed), lost, doubled)
}

// TestNothingFailsBecauseOfASwitch is the promise: continuous load without
// retries over 20 version changes of 10 switches each. Each old version is
// taken out of the table, drained and killed; what was still there would be
// seen as failed.
func TestNothingFailsBecauseOfASwitch(t *testing.T) {
	const changes, replicas = 20, 2
	f := newFront(t, gateway.Options{Seed: 1})
	start := func(name string) (ps []*process) {
		for range replicas {
			ps = append(ps, startProcess(t, name))
		}
		return ps
	}
	of := func(name string, ps []*process) gateway.Version {
		var addrs []string
		for _, p := range ps {
			addrs = append(addrs, p.addr)
		}
		return version(name, addrs...)
	}
	oldName, old := "v0", start("v0")
	number := int64(1)
	f.swap(t, table(number, all(oldName), of(oldName, old)))

	tr := startTraffic(f.addr, 16)
	var served []string
	switches := 0
	for change := 1; change <= changes; change++ {
		name := fmt.Sprintf("v%d", change)
		ps := start(name)
		for _, w := range []int{0, 10, 100, 500, 2500, 5000, 7500, 9900, 10000} {
			number++
			switches++
			f.swap(t, table(number, []gateway.Destination{{Version: oldName, Weight: 10000 - w}, {Version: name, Weight: w}},
				of(oldName, old), of(name, ps)))
			tr.wait(60)
		}
		number++
		switches++
		f.swap(t, table(number, all(name), of(name, ps)))
		for _, p := range old {
			if err := f.Drain(context.Background(), p.addr); err != nil {
				t.Fatal(err)
			}
			served = append(served, p.stop(t)...)
		}
		oldName, old = name, ps
	}
	tr.wait(100)
	close(tr.stop)
	tr.wg.Wait()
	for _, p := range old {
		served = append(served, p.stop(t)...)
	}
	t.Logf("%d switches, %d version changes", switches, changes)
	tr.check(t, served)

	var counted, errors uint64
	for _, v := range f.Stats().Services[0].Versions {
		for _, e := range v.Endpoints {
			counted += e.Requests
			errors += e.Errors
		}
	}
	if counted != uint64(len(tr.ids)) || errors != 0 {
		t.Errorf("the gateway counted %d requests and %d errors, the clients sent %d", counted, errors, len(tr.ids))
	}
}
