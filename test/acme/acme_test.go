package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/serin-dev/serin/internal/daemon"
	"github.com/serin-dev/serin/internal/workload/process"
)

const (
	playing  = "SERIN_ACME_TEST_PLAYS"
	host     = "shop.example"
	patience = 2 * time.Minute // for a machine that is busy; nothing is judged by it
)

func TestMain(m *testing.M) {
	process.RunShimIfAsked()
	if os.Getenv(playing) != "" {
		_ = http.ListenAndServe(net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "the application")
		}))
		return
	}
	os.Exit(m.Run())
}

// The authority asks at one of the two ports only: the challenge that leads there
// is answered, the certificate is obtained, shown to users, and still there after
// a restart without asking anybody.
func TestCertificatesByACME(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "pebble")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/letsencrypt/pebble/v2/cmd/pebble").CombinedOutput(); err != nil {
		t.Fatalf("building the authority: %v\n%s", err, out)
	}
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			users, secure := listen(t), listen(t)
			plainPort, tlsPort := port(users), port(secure)
			if challenge == "http-01" {
				tlsPort = closedPort(t)
			} else {
				plainPort = closedPort(t)
			}
			ca := startPebble(t, binary, plainPort, tlsPort)
			d := newDaemon(t, ca, users, secure)
			run, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- d.Run(run) }()
			roots := ca.roots(t)
			serial := waitForCertificate(t, secure.Addr().String(), roots)
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the daemon ended with %v", err)
			}

			ca.stop() // whoever would ask again, would ask nobody
			users, secure = listen(t), listen(t)
			d = newDaemonIn(t, d.state, ca, users, secure)
			run, stop = context.WithCancel(context.Background())
			go func() { ended <- d.Run(run) }()
			if again := waitForCertificate(t, secure.Addr().String(), roots); again != serial {
				t.Errorf("certificate %s after a restart, was %s", again, serial)
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
		})
	}
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// closedPort is one that nobody listens on: it could be bound, and that is all.
// It is below those that kernels give to outgoing connections, of which a busy
// machine has many.
func closedPort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		p := 10000 + mathrand.IntN(10000)
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p)); err == nil {
			l.Close()
			return p
		}
	}
	t.Fatal("no free port")
	return 0
}

// serving is a daemon and where it keeps its state.
type serving struct {
	*daemon.Daemon
	state string
}

func newDaemon(t *testing.T, ca *pebble, users, secure *net.TCPListener) *serving {
	t.Helper()
	state, err := os.MkdirTemp("", "serin") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	return newDaemonIn(t, state, ca, users, secure)
}

func newDaemonIn(t *testing.T, state string, ca *pebble, users, secure *net.TCPListener) *serving {
	t.Helper()
	docs := t.TempDir()
	if err := os.WriteFile(filepath.Join(docs, "all.yaml"), []byte(strings.ReplaceAll(documents, "PROGRAM", os.Args[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	given, err := daemon.Given([]*os.File{handed(t, users, "http"), handed(t, secure, "https")})
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", log.text())
		}
	})
	d, err := daemon.New(daemon.Options{
		Dir: docs, StateDir: state, Inherited: given, Logger: slog.New(slog.NewTextHandler(log, nil)),
		TLS: daemon.TLS{ACME: daemon.ACME{Domains: []string{host}, Email: "me@" + host, Directory: ca.directory, RootFile: ca.rootFile}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &serving{d, state}
}

// handed is a listener as a service manager hands it over.
func handed(t *testing.T, l *net.TCPListener, name string) *os.File {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	_ = raw.Control(func(n uintptr) { fd, err = dup(int(n)) })
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return os.NewFile(uintptr(fd), name)
}

type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// waitForCertificate asks as a user does until the certificate is there, and
// gives its serial number.
func waitForCertificate(t *testing.T, addr string, roots *x509.CertPool) string {
	t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}, ForceAttemptHTTP2: true}
		res, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("https://" + addr + "/")
		if last = err; err != nil {
			continue
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		tr.CloseIdleConnections()
		if string(b) != "the application" || res.ProtoMajor != 2 {
			t.Fatalf("answered %s %q", res.Proto, b)
		}
		return res.TLS.PeerCertificates[0].SerialNumber.String()
	}
	t.Fatalf("no certificate: %v", last)
	return ""
}

// pebble is the authority.
type pebble struct {
	directory, management string
	rootFile              string
	cmd                   *exec.Cmd
	client                *http.Client
}

func startPebble(t *testing.T, binary string, httpPort, tlsPort int) *pebble {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "api.crt"), filepath.Join(dir, "api.key")
	ownCertificate(t, certFile, keyFile)
	api, management := closedPort(t), closedPort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprint("127.0.0.1:", api), "managementListenAddress": fmt.Sprint("127.0.0.1:", management),
		"certificate": certFile, "privateKey": keyFile, "httpPort": httpPort, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	configFile := filepath.Join(dir, "config.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &pebble{directory: fmt.Sprintf("https://127.0.0.1:%d/dir", api), management: fmt.Sprintf("https://127.0.0.1:%d", management), rootFile: certFile}
	out := &logged{}
	p.cmd = exec.Command(binary, "-config", configFile, "-dnsserver", names(t))
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("the authority's log:\n%s", out.text())
		}
	})
	pem, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		res, err := p.client.Get(p.directory)
		if err == nil {
			res.Body.Close()
			return p
		}
		if time.Now().After(end) {
			t.Fatalf("the authority does not answer: %v", err)
		}
	}
}

func (p *pebble) stop() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// roots are what the authority signs with in the end.
func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	res, err := p.client.Get(p.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatalf("no root: %s", b)
	}
	return pool
}

// ownCertificate is what the authority's own server shows.
func ownCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// names is a name server for which every host is this machine.
func names(t *testing.T) string {
	t.Helper()
	l := listen(t) // Pebble asks over TCP
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		for _, q := range r.Question {
			if q.Qtype == dns.TypeA {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	go func() { _ = srv.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = srv.Shutdown() })
	return l.Addr().String()
}

const documents = `
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec: {host: shop, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec: {hosts: [shop, shop.example], http: [{route: [{destination: {host: shop, subset: v1}}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v1}
spec:
  selector: {matchLabels: {app: shop, version: v1}}
  template:
    metadata: {labels: {app: shop, version: v1}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: shop, image: shop, command: [PROGRAM], env: [{name: SERIN_ACME_TEST_PLAYS, value: application}], ports: [{containerPort: 8080}]}
`
