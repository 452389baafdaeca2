package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
	"golang.org/x/net/http2"
)

// pipeListener gives connections that live in memory, so that time can be
// virtual.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (l *pipeListener) dial() net.Conn {
	a, b := net.Pipe()
	l.conns <- b
	return a
}

// inVirtualTime runs f beside a gateway without a table: what it answers comes
// from the listening side alone.
func inVirtualTime(t *testing.T, f func(t *testing.T, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		g := gateway.New(gateway.Options{})
		l := newPipeListener()
		served := make(chan struct{})
		go func() { defer close(served); g.Serve(l) }()
		f(t, l.dial)
		g.Close()
		<-served
	})
}

func TestHalfARequestHeadIsNotAwaitedForEver(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		begun := time.Now()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n")
		stop := make(chan struct{})
		go func() { // a byte now and then does not help
			for {
				select {
				case <-time.After(time.Second):
					io.WriteString(c, "X")
				case <-stop:
					return
				}
			}
		}()
		io.ReadAll(c)
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("closed after %v, want 10 s", took)
		}
		close(stop)
	})
}

func TestBodiesMustKeepAPace(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, dial func() net.Conn) {
		// Slowly, but faster than 1 KiB a second: for as long as it takes.
		c := dial()
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 16<<10)
			for range 16 {
				time.Sleep(2 * time.Second) // within the 30 s that everybody has
				io.WriteString(c, strings.Repeat("x", 1<<10))
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 404 {
			t.Errorf("at pace: %v %v", resp, err)
		}
		c.Close()
		// A byte every second is not enough.
		c = dial()
		begun := time.Now()
		stop := make(chan struct{})
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 16<<10)
			for {
				select {
				case <-time.After(time.Second):
					io.WriteString(c, "x")
				case <-stop:
					return
				}
			}
		}()
		resp, err = http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 408 {
			t.Errorf("below the pace: %v %v", resp, err)
		}
		if took := time.Since(begun); took < 29*time.Second || took > 33*time.Second {
			t.Errorf("given up after %v, want about 30 s", took)
		}
		close(stop)
		c.Close()
	})
}

// TestSlowloris holds many connections with half a head at a gateway in a
// process of its own. The others must be answered as if they were not there,
// and each must cost little.
func TestSlowloris(t *testing.T) {
	const conns = 10_000
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil || lim.Cur < conns+500 {
		t.Fatalf("needs %d descriptors, has %d (%v): raise ulimit -n", conns+500, lim.Cur, err)
	}
	b := newBackend(t, says("ok"))
	p := startProcess(t, fmt.Sprintf("gateway %d %s", conns+500, b.addr))
	defer p.stop(t)
	normal := &caller{addr: p.addr}
	defer normal.close()
	get := func(held int) {
		t.Helper()
		req, _ := http.NewRequest("GET", "http://"+p.addr, nil)
		if code, body, err := normal.do(req); code != 200 || body != "ok" || err != nil {
			t.Fatalf("with %d half-open connections: %d %q %v", held, code, body, err)
		}
	}
	get(0)
	before := residentKiB(p.cmd.Process.Pid)
	held := make([]net.Conn, 0, conns)
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for i := range conns {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
		held = append(held, c)
		if i%100 == 0 {
			get(i)
		}
	}
	get(conns)
	if after := residentKiB(p.cmd.Process.Pid); before > 0 {
		t.Logf("%d half-open connections cost %.1f KiB each", conns, float64(after-before)/conns)
		if (after-before)/conns > 64*memoryFactor {
			t.Errorf("from %d to %d KiB", before, after)
		}
	}
}

// residentKiB is the memory of a process, 0 where the system does not tell.
func residentKiB(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var n int
	fmt.Sscan(rest, &n)
	return n
}

func TestHeaderBombs(t *testing.T) {
	b := newSeen(t)
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	for why, c := range map[string]struct{ head, code string }{
		"60 KiB in one header":            {"X-A: " + strings.Repeat("x", 60<<10) + "\r\n", "200"},
		"10 000 headers within 64 KiB":    {strings.Repeat("a:b\r\n", 10_000), "200"},
		"more than 64 KiB in all":         {strings.Repeat("a:b\r\n", 20_000), "431"},
		"10 MiB":                          {"X-A: " + strings.Repeat("x", 10<<20) + "\r\n", "431"},
		"2 000 cookies":                   {"Cookie: " + strings.Repeat("a=b; ", 2_000) + "\r\n", "200"},
		"10 000 tokens in Connection":     {"Connection: " + strings.Repeat("a,", 10_000) + "close\r\n", "200"},
		"1 000 headers, all hop by hop":   {"Connection: " + strings.Repeat("a,", 1000) + "close\r\n" + strings.Repeat("a: b\r\n", 1000), "200"},
		"2 000 values of X-Forwarded-For": {strings.Repeat("X-Forwarded-For: 1.1.1.1\r\n", 2000), "200"},
	} {
		nc, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n"+c.head+"\r\n") // may be cut short
		line, _ := bufio.NewReader(nc).ReadString('\n')
		if !strings.Contains(line, " "+c.code+" ") {
			t.Errorf("%s: %q, want %s", why, line, c.code)
		}
		nc.Close()
		_, hs := b.take()
		for _, h := range hs {
			if len(h["A"]) > 0 && strings.Contains(why, "hop by hop") || len(h["X-Forwarded-For"]) != 1 {
				t.Errorf("%s: went on", why)
			}
		}
	}
}

// TestHTTP2RapidReset begins requests and cancels them at once. Most never
// become work, and a connection that has made work for nothing too often is
// closed: what reaches the endpoint stays within a few hundred.
func TestHTTP2RapidReset(t *testing.T) {
	for name, patient := range map[string]bool{"at once": false, "when they have arrived": true} {
		t.Run(name, func(t *testing.T) {
			var arrived atomic.Int64
			b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/reset" {
					arrived.Add(1)
					<-r.Context().Done() // cancelled work ends here too
				}
			})
			f := newFront(t, gateway.Options{})
			f.swap(t, table(1, all("v1"), version("v1", b.addr)))
			c := newH2Conn(t, f.addr)
			closed := make(chan struct{})
			go func() { // what the gateway says must be read, or it could not close
				defer close(closed)
				for {
					if _, err := c.fr.ReadFrame(); err != nil {
						return
					}
				}
			}()
			sent := 0
			over := func() bool {
				select {
				case <-closed:
					return true
				default:
					return false
				}
			}
			for ; sent < 50_000 && !over(); sent++ {
				id := uint32(2*sent + 1)
				if c.request(id, "GET", "/reset", "a") != nil {
					break
				}
				for patient && arrived.Load() <= int64(sent) && !over() {
					time.Sleep(10 * time.Microsecond)
				}
				if c.fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					break
				}
			}
			t.Logf("%d requests were begun and cancelled, %d had arrived; closed: %v", sent, arrived.Load(), over())
			if n := arrived.Load(); n > 1000 {
				t.Errorf("%d cancelled requests reached the endpoint", n)
			}
			if patient && sent > 1000 {
				t.Errorf("the connection was left open for %d cancelled requests", sent)
			}
			eventually(t, func() error {
				if n := f.version(t, "v1").InFlight; n != 0 {
					return fmt.Errorf("%d requests still in flight", n)
				}
				return nil
			})
			if e := f.version(t, "v1").Endpoints[0]; e.Errors != 0 {
				t.Errorf("cancelled requests were counted as errors: %+v", e)
			}
			if code, _ := f.get(t, "/"); code != 200 {
				t.Errorf("afterwards: %d", code)
			}
		})
	}
}

func TestHTTP2ContinuationFlood(t *testing.T) {
	b := newBackend(t, says("ok"))
	f := newFront(t, gateway.Options{})
	f.swap(t, table(1, all("v1"), version("v1", b.addr)))
	c := newH2Conn(t, f.addr)
	go io.Copy(io.Discard, c.nc)
	c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("GET", "/", "a")})
	// Each frame is a header of its own: literal, not indexed, "x: y".
	frame := []byte(strings.Repeat("\x00\x01x\x01y", 1000))
	sent := 0
	for ; sent < 64<<20; sent += len(frame) {
		if err := c.fr.WriteContinuation(1, false, frame); err != nil {
			break
		}
	}
	if sent >= 64<<20 {
		t.Error("64 MiB of CONTINUATION frames were taken")
	}
	t.Logf("the connection was closed after %d KiB", sent>>10)
	if code, _ := f.get(t, "/"); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

// TestDescriptorExhaustion runs a gateway that may have few descriptors, takes
// them all, and gives them back.
func TestDescriptorExhaustion(t *testing.T) {
	b := newBackend(t, says("ok"))
	p := startProcess(t, "gateway 128 "+b.addr)
	defer p.stop(t)
	get := func() error {
		c := &caller{addr: p.addr}
		defer c.close()
		req, _ := http.NewRequest("GET", "http://"+p.addr, nil)
		req.Close = true
		code, body, err := c.do(req)
		if err == nil && (code != 200 || body != "ok") {
			err = fmt.Errorf("%d %q", code, body)
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	var held []net.Conn
	for range 300 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			break
		}
		held = append(held, c)
	}
	if len(held) < 128 {
		t.Fatalf("only %d connections were made", len(held))
	}
	for _, c := range held {
		c.Close()
	}
	eventually(t, get)
	for range 20 {
		if err := get(); err != nil {
			t.Error(err)
		}
	}
}

// serveAsGateway is the gateway of TestDescriptorExhaustion: it may have limit
// descriptors.
func serveAsGateway(limit uint64, upstream string) {
	lim := syscall.Rlimit{Cur: limit, Max: limit}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	g := gateway.New(gateway.Options{})
	if err := g.Swap(table(1, all("v1"), version("v1", upstream))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	fmt.Fprintln(os.Stderr, g.Serve(l))
	os.Exit(1)
}

// TestSmugglingAgainstOtherServers sends everything that TestSmuggling has, and
// more that another reader could misunderstand, through the gateway to servers
// that are not Go's. Every victim must get its own answer.
func TestSmugglingAgainstOtherServers(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string) string{"nginx": startNginx, "node": startNode} {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("%s is not installed, and everything must run", name)
				}
				t.Skipf("%s is not installed", name)
			}
			addr := start(t, path)
			f := newFront(t, gateway.Options{})
			f.swap(t, table(1, all("v1"), version("v1", addr)))
			victim := func(why string) {
				for i := range 3 {
					want := fmt.Sprintf("answer to /victim%d", i)
					if code, body := f.get(t, fmt.Sprintf("/victim%d", i)); code != 200 || body != want {
						t.Fatalf("%s: a victim got %d %q, want %q", why, code, body, want)
					}
				}
			}
			victim("at first")
			for why, c := range smuggling {
				exchange(t, f.addr, c.sent)
				victim(why)
			}
			evil := "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
			for i, h := range []string{
				"Content-Length: 0\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4",
				"Content-Length: %d\r\nTransfer_Encoding: chunked", "Content-Length: %d\r\nContent_Length: 0",
				"Content-Length: %d\r\nX: y\r\n Transfer-Encoding: chunked", "Content-Length: %d\r\nConnection: Content-Length",
				"Content-Length: %d\r\nConnection: close, Content-Length\r\nContent-Length: %d", "Content-Length: %d\r\nUpgrade: h2c\r\nConnection: Upgrade",
				"Content-Length: %d\r\nExpect: 100-continue", "Content-Length: %d\r\nExpect: 200-ok", "Content-Length: 0%d", "Content-Length: %dx",
				"Content-Length:\t%d", "Content-Length: %d\r\nTrailer: Content-Length", "Content-Length: %d\r\nTE: chunked", "Content-Length: %d\r\nKeep-Alive: chunked",
			} {
				for _, method := range []string{"POST", "GET", "DELETE", "HEAD", "OPTIONS", "FOO"} {
					n := strings.Count(h, "%d")
					args := make([]any, n)
					for j := range args {
						args[j] = len(evil)
					}
					body := evil
					if strings.Contains(h, "Transfer-Encoding: chunked") && n == 0 {
						body = fmt.Sprintf("0\r\n\r\n%s", evil)
					}
					exchange(t, f.addr, method+" /attack HTTP/1.1\r\nHost: a\r\n"+fmt.Sprintf(h, args...)+"\r\n\r\n"+body)
					victim(fmt.Sprintf("attack %d %s %q", i, method, h))
				}
			}
		})
	}
}

func startNode(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.Command(path, "-e", `
const s = require('http').createServer((q, r) => { q.resume(); q.on('end', () => r.end('answer to ' + q.url)) });
s.keepAliveTimeout = 5000;
s.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + s.address().port));`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		t.Fatal(err)
	}
	return addr
}

func startNginx(t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/err;
events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; location / { return 200 "answer to $request_uri"; } } }`, dir, addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf, "-e", filepath.Join(dir, "err"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	eventually(t, func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return addr
}
