package daemon

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/httpapi"
	"github.com/serin-dev/serin/internal/rollout"
)

// keeper is a client that keeps its connection and never asks twice.
type keeper struct {
	addr    string
	host    string // that is asked for; addr if empty
	nc      net.Conn
	br      *bufio.Reader
	dialled int
}

func (u *keeper) ask(method, path, body string) (answer, error) {
	return u.send(method, path, "", body)
}

func (u *keeper) send(method, path, id, body string) (answer, error) {
	if u.nc == nil {
		nc, err := net.Dial("tcp", u.addr)
		if err != nil {
			return answer{}, err
		}
		u.nc, u.br = nc, bufio.NewReader(nc)
		u.dialled++
	}
	req, err := http.NewRequest(method, "http://"+u.addr+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if req.Host = cmp.Or(u.host, u.addr); id != "" {
		req.Header.Set("X-Request-Id", id)
	}
	if err := req.Write(u.nc); err != nil {
		u.leave()
		return answer{}, err
	}
	res, err := http.ReadResponse(u.br, req)
	if err != nil {
		u.leave()
		return answer{}, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err != nil || res.Close {
		u.leave()
	}
	return answer{version: res.Header.Get("X-Version"), code: res.StatusCode, err: err}, err
}

func (u *keeper) leave() {
	if u.nc != nil {
		u.nc.Close()
		u.nc = nil
	}
}

// again asks a daemon to execute itself again and waits until it has.
func (o *other) again(n int) {
	o.t.Helper()
	if err := o.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		o.t.Fatal(err)
	}
	o.untilLogged(fmt.Sprintf("times=%d ", n))
}

func (o *other) untilLogged(what string) {
	o.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(o.log.String(), what); time.Sleep(2 * time.Millisecond) {
		select {
		case <-o.waited:
			o.t.Fatalf("the daemon has ended: %v", o.outcome)
		default:
		}
		if time.Now().After(end) {
			o.t.Fatalf("the daemon does not log %q", what)
		}
	}
}

// counters reads /metrics: the sum of a metric over its series.
func (o *other) counter(name string) float64 {
	o.t.Helper()
	info, err := o.client.Info(context.Background())
	if err != nil {
		o.t.Fatal(err)
	}
	res, err := http.Get("http://" + info.Metrics + "/metrics")
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{.*\})? (\S+)$`).FindAllStringSubmatch(string(b), -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		sum += n
	}
	return sum
}

// replicaPIDs are the processes of the application, by the daemon's own log.
func (o *other) replicaPIDs() []string {
	o.t.Helper()
	var pids []string
	var out bytes.Buffer
	err := o.client.Logs(context.Background(), httpapi.Ref{Name: "my-app"}, httpapi.LogQuery{}, func(l httpapi.LogLine) error {
		fmt.Fprintln(&out, l.Text)
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`backend \w+ pid (\d+)`).FindAllStringSubmatch(out.String(), -1) {
		pids = append(pids, m[1])
	}
	slices.Sort(pids)
	return pids
}

// TestExecutedAgainUnderLoad: twenty times, in the middle of a rollout, the
// daemon's program is replaced in its process, while users of every protocol
// ask, with TLS and without, and nobody asks twice. None of them sees a failure,
// and each request arrives once; replicas, rollout and counters go on; killed
// afterwards, the daemon takes its replicas along.
func TestExecutedAgainUnderLoad(t *testing.T) {
	t.Parallel()
	users := newCrowd(t)
	files := article(holding + unjudged)
	files["01-deployment-v1.yaml"] = deploymentOf("v1", 3, "-ids", users.journal)
	for name, text := range article(holding + unjudged) {
		files["rpc-"+name] = strings.ReplaceAll(text, "my-app", "rpc")
	}
	files["rpc-00-service.yaml"] = strings.Replace(files["rpc-00-service.yaml"], "{protocol: TCP,", "{name: grpc, protocol: TCP,", 1)
	files["rpc-01-deployment-v1.yaml"] = strings.ReplaceAll(grpcDeployment("v1", "-ids", users.journal), "my-app", "rpc")
	w := newWorld(t, files)
	pair, roots := selfSigned(t, t.TempDir(), "rpc-service")
	w.args = []string{"-tls-cert", pair.CertFile, "-tls-key", pair.KeyFile}
	o := w.start("127.0.0.1:0")
	o.until("v1 is adopted", restsOn("v1"))
	w.write("04-deployment-v2.yaml", deploymentOf("v2", 1, "-ids", users.journal))
	o.until("v2 gets its share", liveAt(2500))
	var before []string
	w.eventually("four replicas have said who they are", func() bool { before = o.replicaPIDs(); return len(before) == 4 })

	kept := users.everybody(o.addr, o.secure, roots)
	const times = 20
	users.enough(200)
	counted := o.counter("istio_requests_total")
	begun := time.Now()
	for n := range times {
		users.enough(200)
		o.again(n + 1)
	}
	took := time.Since(begun)
	users.enough(200)
	o.until("the split is in force still", liveAt(2500))
	if now := o.counter("istio_requests_total"); now < counted+50*times { // the messages of a conversation are one request
		t.Errorf("the counter stands at %.0f, was %.0f before %d requests and more", now, counted, 200*times)
	}
	users.home()
	t.Logf("%d requests and %d streams, %d failed, over %d times in %s", users.sent.Load(), users.streams.Load(), users.failed.Load(), times, took.Round(time.Millisecond))
	users.compare()
	for i, u := range kept {
		u.leave()
		if u.dialled != 1 {
			t.Errorf("user %d needed %d connections", i, u.dialled)
		}
	}
	if users.streams.Load() < times {
		t.Errorf("%d streams ended", users.streams.Load())
	}
	if v2 := float64(users.seen["v2"]) / float64(users.seen["v1"]+users.seen["v2"]); v2 < 0.2 || v2 > 0.3 {
		t.Errorf("v2 had %.3f of the requests: %v", v2, users.seen)
	}
	if after := o.replicaPIDs(); !slices.Equal(before, after) {
		t.Errorf("replicas %v, were %v", after, before)
	}

	// The rollout goes to its end as if nothing had been.
	if _, err := o.client.Command(context.Background(), httpapi.Ref{Name: "my-app"}, rollout.Command{ID: "go-on", Verb: rollout.VerbApprove, By: "alice"}); err != nil {
		t.Fatal(err)
	}
	o.until("v2 is stable", restsOn("v2"))
	v2 := o.replicaPIDs()
	o.kill()
	for _, pid := range v2 {
		n, _ := strconv.Atoi(pid)
		for end := time.Now().Add(patience); !errors.Is(syscall.Kill(n, 0), syscall.ESRCH); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d is still there", n)
			}
		}
	}
}

// A new program that cannot take over is found out before anything is given up.
func TestAProgramThatCannotTakeOverChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, article(unjudged))
	exe := filepath.Join(w.dir, "..", "program")
	real, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	install := func(b []byte) { // as an upgrade does it: another file under the same name
		t.Helper()
		if err := errors.Join(os.WriteFile(exe+".new", b, 0o700), os.Rename(exe+".new", exe)); err != nil {
			t.Fatal(err)
		}
	}
	install(real)
	o := w.startProgram(exe, "127.0.0.1:0")
	o.until("v1 is adopted", restsOn("v1"))
	var pids []string
	w.eventually("three replicas have said who they are", func() bool { pids = o.replicaPIDs(); return len(pids) == 3 })
	u := &keeper{addr: o.addr}
	defer u.leave()
	asks := func(when string) {
		t.Helper()
		if a, err := u.ask("GET", "/", ""); err != nil || a.code != 200 {
			t.Errorf("%s: %d %v", when, a.code, err)
		}
	}
	asks("at first")
	install([]byte("#!/bin/sh\necho this is not serin >&2\nexit 3\n"))
	_ = o.cmd.Process.Signal(syscall.SIGUSR2)
	o.untilLogged("this is not serin")
	asks("after a program that cannot")
	install(real)
	o.again(1)
	asks("after one that can")
	if now := o.replicaPIDs(); !slices.Equal(now, pids) || u.dialled != 1 {
		t.Errorf("replicas %v, were %v; %d connections", now, pids, u.dialled)
	}
	// What is installed now runs: the file is what /proc says.
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", o.cmd.Process.Pid)); err == nil && link != exe {
		if resolved, _ := filepath.EvalSymlinks(exe); link != resolved {
			t.Errorf("the process runs %s, want %s", link, exe)
		}
	}
}
