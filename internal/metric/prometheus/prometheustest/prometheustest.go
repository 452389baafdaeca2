// Package prometheustest runs the real Prometheus, of the Debian package of
// that name, for tests. Where it is not installed a test is skipped; where
// everything must run (CI=true) it fails.
//
//	s := prometheustest.Start(t, t.TempDir(), "scrape_configs: []\n")
//	resp, err := http.Get(s.URL + "/api/v1/query?query=up")
package prometheustest

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Program finds one of the package's programs: prometheus or promtool.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: the Debian package prometheus is needed", err)
		}
		t.Skipf("%v: install the Debian package prometheus", err)
	}
	return path
}

// Fill puts a past into dir: the text of the file, in the OpenMetrics format.
func Fill(t testing.TB, dir, file string) {
	t.Helper()
	if out, err := exec.Command(Program(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", file, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Server is one that runs until the test ends.
type Server struct {
	URL string

	cmd *exec.Cmd
	end chan struct{}
}

// Start runs one over dir, which may be filled, and waits until it answers.
func Start(t testing.TB, dir, config string, args ...string) *Server {
	t.Helper()
	path := Program(t, "prometheus")
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// The port is chosen by the kernel; another program may take it before the
	// server does, so it is tried again.
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		var log bytes.Buffer
		s := &Server{URL: "http://" + addr, end: make(chan struct{})}
		s.cmd = exec.Command(path, append([]string{"--config.file", file, "--storage.tsdb.path", dir, "--web.listen-address", addr, "--log.level", "warn"}, args...)...)
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		s.cmd.Stdout, s.cmd.Stderr = &log, &log
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.cmd.Wait(); close(s.end) }()
		if s.ready() {
			t.Cleanup(s.Stop)
			return s
		}
		s.Stop()
		if !strings.Contains(log.String(), "address already in use") {
			t.Fatalf("prometheus did not start:\n%s", log.String())
		}
	}
	t.Fatal("no port is free")
	return nil
}

func (s *Server) ready() bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		resp, err := client.Get(s.URL + "/-/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-tick.C:
		case <-s.end:
			return false
		case <-deadline:
			return false
		}
	}
}

// Freeze makes it hang, or go on.
func (s *Server) Freeze(on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	_ = s.cmd.Process.Signal(sig)
}

// Stop ends it and waits for that. It may have ended already.
func (s *Server) Stop() {
	s.Freeze(false)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.end:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.end
	}
}
