// Bench-gateway measures the gateway beside other proxies on the same work:
// kept-alive connections, small bodies, a split of 95/5 over two back ends.
//
//	make bench-gateway                                  all that are installed
//	go run ./test/bench-gateway -proxies serin,nginx -duration 20s
//
// Each proxy runs as a process of its own, one after the other; what it costs
// is read from /proc for the process and its children. The back ends and the
// load generator are the same for all. It needs Linux.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/serin-dev/serin/internal/gateway"

	_ "net/http/pprof" // on the gateway's own address for -pprof
)

func main() {
	var (
		proxies  = flag.String("proxies", "direct,serin,serin-gogc400,nginx,haproxy,caddy,reverseproxy", "what to measure, in this order")
		duration = flag.Duration("duration", 10*time.Second, "measured time per round")
		warm     = flag.Duration("warm", 2*time.Second, "time before it")
		rounds   = flag.Int("rounds", 3, "rounds over all proxies; the medians are shown")
		conns    = flag.Int("conns", 64, "kept-alive connections")
		post     = flag.Int("post", 0, "send POSTs with a body of this many bytes; 0 sends GETs")
		role     = flag.String("role", "", "internal: backend, serin or reverseproxy")
		v1, v2   = flag.String("v1", "", "internal"), flag.String("v2", "", "internal")
		pprof    = flag.String("pprof", "", "address on which the gateway's profile is served")
	)
	flag.Parse()
	log.SetFlags(0)
	switch *role {
	case "backend":
		serveBackend()
		return
	case "serin":
		serveGateway(*v1, *v2, *pprof)
		return
	case "reverseproxy":
		serveReverseProxy(*v1, *v2)
		return
	}
	b := bench{duration: *duration, warm: *warm, conns: *conns, post: *post, pprof: *pprof}
	if err := b.run(strings.Split(*proxies, ","), *rounds); err != nil {
		log.Fatal(err)
	}
}

// serveBackend answers with a small body that names the version of which it is.
func serveBackend() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	body := []byte(`{"hello":"world","from":"` + os.Getenv("VERSION") + `","pad":"0123456789012345678901234567890123456789"}`)
	fmt.Println(l.Addr())
	log.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Type"] = []string{"application/json"}
		h["X-Version"] = []string{os.Getenv("VERSION")}
		w.Write(body)
	})))
}

func serveGateway(v1, v2, pprof string) {
	g := gateway.New(gateway.Options{Seed: 1})
	one := func(name, addr string) gateway.Version {
		return gateway.Version{Name: name, Endpoints: []gateway.Endpoint{{Replica: name + "-0", Address: addr}}}
	}
	err := g.Swap(gateway.Table{Number: 1, Services: []gateway.Service{{Name: "app", Hosts: []string{"app"}, Default: true,
		Versions: []gateway.Version{one("v1", v1), one("v2", v2)},
		Rules:    []gateway.Rule{{Split: []gateway.Destination{{Version: "v1", Weight: 9500}, {Version: "v2", Weight: 500}}}}}}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if pprof != "" {
		go func() { log.Print(http.ListenAndServe(pprof, nil)) }()
	}
	fmt.Println(l.Addr())
	log.Fatal(g.Serve(l))
}

// serveReverseProxy is the standard library's proxy with a random split and
// nothing else: what a few lines of Go cost.
func serveReverseProxy(v1, v2 string) {
	tr := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	rp := &httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) {
		host := v1
		if rand.IntN(100) < 5 {
			host = v2
		}
		r.SetURL(&url.URL{Scheme: "http", Host: host})
		r.SetXForwarded()
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	log.Fatal(http.Serve(l, rp))
}

type bench struct {
	duration, warm time.Duration
	conns, post    int
	pprof          string
	dir            string
	v1, v2         string
}

func (b *bench) run(proxies []string, rounds int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if b.dir, err = os.MkdirTemp("", "bench-gateway"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for _, v := range []*string{&b.v1, &b.v2} {
		p, addr, err := b.startSelf(ctx, []string{"-role", "backend"}, "VERSION="+map[bool]string{true: "v1", false: "v2"}[v == &b.v1])
		if err != nil {
			return err
		}
		defer end(p)
		*v = addr
	}
	results := map[string][]result{}
	var order []string
	for round := range rounds {
		for _, name := range proxies {
			if round == 0 && missing(name) {
				fmt.Fprintf(os.Stderr, "%s is not installed: left out\n", name)
				continue
			}
			if round > 0 && results[name] == nil {
				continue
			}
			r, err := b.measure(ctx, name)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", name, err)
			}
			if round == 0 {
				order = append(order, name)
			}
			results[name] = append(results[name], r)
			fmt.Fprintf(os.Stderr, "round %d %-8s %8.0f requests/s %6.1f us CPU/request  p99 %6.2f ms  %d failed\n", round+1, name, r.rate, r.cpuUs, r.p99ms, r.failed)
		}
	}
	fmt.Printf("%d connections, %s per round, median of %d rounds, %d CPUs, %s\n\n", b.conns, b.duration, rounds, runtime.NumCPU(), runtime.Version())
	fmt.Println("| proxy | requests/s | CPU us/request | p50 ms | p99 ms | KiB/connection | split (v2) | failed |")
	fmt.Println("|---|--:|--:|--:|--:|--:|--:|--:|")
	for _, name := range order {
		r := median(results[name])
		fmt.Printf("| %s | %.0f | %.1f | %.2f | %.2f | %.1f | %.3f %% | %d |\n", version(name), r.rate, r.cpuUs, r.p50ms, r.p99ms, r.kibPerConn, 100*r.share, r.failed)
	}
	return nil
}

func missing(name string) bool {
	switch name {
	case "direct", "serin", "serin-gogc400", "reverseproxy":
		return false
	}
	_, err := exec.LookPath(name)
	return err != nil
}

// version gives the name with the installed version.
func version(name string) string {
	arg := map[string]string{"nginx": "-v", "haproxy": "-v", "caddy": "version"}[name]
	if arg == "" {
		return name
	}
	out, _ := exec.Command(name, arg).CombinedOutput()
	for _, w := range strings.FieldsFunc(string(out), func(r rune) bool { return r == ' ' || r == '/' || r == '\n' }) {
		if w = strings.TrimPrefix(w, "v"); w != "" && w[0] >= '0' && w[0] <= '9' {
			return name + " " + w
		}
	}
	return name
}

// startSelf starts this program in another role and reads its address.
func (b *bench) startSelf(ctx context.Context, args []string, env ...string) (*exec.Cmd, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		end(cmd)
		return nil, "", err
	}
	return cmd, addr, nil
}

func end(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
}

// start starts a proxy and gives its address.
func (b *bench) start(ctx context.Context, name string) (*exec.Cmd, string, error) {
	switch name {
	case "direct":
		return nil, b.v1, nil
	case "serin", "serin-gogc400", "reverseproxy":
		role, gogc, _ := strings.Cut(name, "-gogc")
		if gogc == "" {
			gogc = "100"
		}
		return b.startSelf(ctx, []string{"-role", role, "-v1", b.v1, "-v2", b.v2, "-pprof", b.pprof}, "GOGC="+gogc)
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	conf := filepath.Join(b.dir, name+".conf")
	if err := render(conf, configs[name], map[string]any{"Addr": addr, "Port": addr[strings.LastIndexByte(addr, ':')+1:], "V1": b.v1, "V2": b.v2, "Dir": b.dir, "CPUs": runtime.NumCPU()}); err != nil {
		return nil, "", err
	}
	args := map[string][]string{
		"nginx":   {"-c", conf, "-e", filepath.Join(b.dir, "nginx.err"), "-g", "daemon off;"},
		"haproxy": {"-f", conf, "-db"},
		"caddy":   {"run", "--adapter", "caddyfile", "--config", conf},
	}[name]
	if args == nil {
		return nil, "", fmt.Errorf("%q is not a proxy that I know", name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	logs, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, "", err
	}
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return cmd, addr, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	end(cmd)
	text, _ := os.ReadFile(logs.Name())
	return nil, "", fmt.Errorf("does not listen: %s", text)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func render(path, text string, data any) error {
	t, err := template.New("").Parse(text)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.Execute(f, data)
}

// configs give every proxy the same work: HTTP/1.1 kept alive on both sides, no
// access log, a split of 95/5, forwarded headers set.
var configs = map[string]string{
	"nginx": `worker_processes {{.CPUs}};
pid {{.Dir}}/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {{.Dir}}/b; proxy_temp_path {{.Dir}}/p; fastcgi_temp_path {{.Dir}}/f; uwsgi_temp_path {{.Dir}}/u; scgi_temp_path {{.Dir}}/s;
  upstream app { server {{.V1}} weight=95; server {{.V2}} weight=5; keepalive 128; keepalive_requests 100000000; }
  server {
    listen {{.Addr}};
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
    }
  }
}
`,
	"haproxy": `global
  nbthread {{.CPUs}}
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option forwardfor
frontend in
  bind {{.Addr}}
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  default_backend app
backend app
  balance roundrobin
  server v1 {{.V1}} weight 95 pool-max-conn -1
  server v2 {{.V2}} weight 5 pool-max-conn -1
`,
	"caddy": `{
  admin off
  auto_https off
}
http://:{{.Port}} {
  bind 127.0.0.1
  reverse_proxy {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V1}} {{.V2}} {
    lb_policy round_robin
  }
}
`,
}
