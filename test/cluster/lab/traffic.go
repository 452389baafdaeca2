package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Call is one call that has ended, as the client wrote it down.
type Call struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"` // when it began
	Ms      float64   `json:"ms"`
	Code    string    `json:"code"`
	Version string    `json:"version,omitempty"`
	Pod     string    `json:"pod,omitempty"`
	Err     string    `json:"err,omitempty"`
	Retries int       `json:"retries,omitempty"` // of calls that grpc-go never sent
}

// OK tells whether the call was answered well.
func (c Call) OK() bool { return c.Code == "OK" }

// Traffic is a stream of calls to one Service.
type Traffic struct {
	Namespace string

	cluster *Cluster
	cmd     *exec.Cmd
	stdin   io.Closer
	log     string
	done    chan struct{}
	mu      sync.Mutex
	calls   []Call
	err     error
}

var streams struct {
	sync.Mutex
	n int
}

// Send begins a stream of calls to a Service and returns when the first one is
// answered.
func (c *Cluster) Send(ctx context.Context, namespace, service string, port, rate int) (*Traffic, error) {
	streams.Lock()
	streams.n++
	name := fmt.Sprintf("c%d", streams.n)
	streams.Unlock()
	t := &Traffic{Namespace: namespace, cluster: c, log: filepath.Join(c.dir, "xds-"+name+".log"), done: make(chan struct{})}
	t.cmd = exec.Command(c.Tools.XDS, "-istiod", IstiodAddress, "-target", fmt.Sprintf("%s.%s.svc.cluster.local:%d", service, namespace, port),
		"-namespace", namespace, "-rate", fmt.Sprint(rate), "-name", name)
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(t.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	t.cmd.Stderr = log
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if t.stdin, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the client: %w", err)
	}
	go t.read(out)
	if err := t.Wait(ctx, Patience, 1); err != nil {
		t.stdin.Close()
		t.cmd.Process.Kill()
		<-t.done
		b, _ := os.ReadFile(t.log)
		return nil, fmt.Errorf("no call to %s was answered: %w\n%s", service, err, bytes.TrimSpace(b))
	}
	return t, nil
}

func (t *Traffic) read(out io.Reader) {
	defer close(t.done)
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	var err error
	for sc.Scan() {
		var c Call
		if err = json.Unmarshal(sc.Bytes(), &c); err != nil {
			break
		}
		t.mu.Lock()
		t.calls = append(t.calls, c)
		t.mu.Unlock()
	}
	t.mu.Lock()
	t.err = errors.Join(err, sc.Err(), t.cmd.Wait())
	t.mu.Unlock()
}

// Calls lists those that have ended so far.
func (t *Traffic) Calls() []Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.calls)
}

// Len is how many calls have ended.
func (t *Traffic) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.calls)
}

// Wait waits until so many calls more than now have ended.
func (t *Traffic) Wait(ctx context.Context, limit time.Duration, more int) error {
	want := t.Len() + more
	return Await(ctx, limit, fmt.Sprintf("%d calls", more), func() (bool, error) {
		select {
		case <-t.done:
			return false, errors.New("the client has ended")
		default:
		}
		return t.Len() >= want, nil
	})
}

// Share is how the next n calls are shared out among versions.
func (t *Traffic) Share(ctx context.Context, n int) (map[string]int, error) {
	from := t.Len()
	if err := t.Wait(ctx, Patience, n); err != nil {
		return nil, err
	}
	share := map[string]int{}
	for _, c := range t.Calls()[from : from+n] {
		share[c.Version]++
	}
	return share, nil
}

// Report is what both ends say of a stream together.
type Report struct {
	Calls    int
	ByPods   map[string]int // answered, by version, well or badly
	Meant    map[string]int // failed by their version on purpose
	Failed   []Call         // failed for any other reason
	Retried  int            // attempts that grpc-go never sent and made again
	Unlike   []string       // what one end has and the other has not
	AfterEnd int            // answered by pods that were deleted already
}

// Stop ends the stream, waits for the calls in flight and compares both ends.
func (t *Traffic) Stop() (Report, error) {
	t.stdin.Close() // again, in vain, if it was stopped before
	select {
	case <-t.done:
	case <-time.After(Patience):
		t.cmd.Process.Kill()
		<-t.done
	}
	t.mu.Lock()
	err := t.err
	t.mu.Unlock()
	if err != nil {
		b, _ := os.ReadFile(t.log)
		return Report{}, fmt.Errorf("the client: %w\n%s", err, bytes.TrimSpace(b))
	}
	return t.compare(), nil
}

func (t *Traffic) compare() Report {
	r := Report{ByPods: map[string]int{}, Meant: map[string]int{}}
	pods := map[string]Served{}
	for _, s := range t.cluster.Pods.Served(t.Namespace) {
		if _, twice := pods[s.ID]; twice {
			r.Unlike = append(r.Unlike, s.ID+" reached pods twice")
		}
		pods[s.ID] = s
		if s.Gone {
			r.AfterEnd++
		}
	}
	for _, c := range t.Calls() {
		r.Calls++
		r.Retried += c.Retries
		s, reached := pods[c.ID]
		switch {
		case reached && c.Version != "" && (s.Version != c.Version || s.Pod != c.Pod):
			r.Unlike = append(r.Unlike, fmt.Sprintf("%s was answered by %s, but reached %s", c.ID, c.Pod, s.Pod))
		case !reached && c.OK():
			r.Unlike = append(r.Unlike, c.ID+" was answered, but reached no pod")
		}
		if reached {
			r.ByPods[s.Version]++
		}
		switch {
		case c.OK():
		case reached && s.Failed:
			r.Meant[s.Version]++
		default:
			r.Failed = append(r.Failed, c)
		}
	}
	return r
}

// String is the report in a few lines.
func (r Report) String() string {
	var b strings.Builder
	versions := make([]string, 0, len(r.ByPods))
	for v := range r.ByPods {
		versions = append(versions, v)
	}
	slices.Sort(versions)
	fmt.Fprintf(&b, "%d calls; %d failed for another reason than a bad version; %d attempts never sent by grpc-go and repeated\n", r.Calls, len(r.Failed), r.Retried)
	for _, v := range versions {
		fmt.Fprintf(&b, "  %-8s answered %6d, of them failed on purpose %d\n", v, r.ByPods[v], r.Meant[v])
	}
	for i, c := range r.Failed {
		if i == 10 {
			fmt.Fprintf(&b, "  ... and %d more\n", len(r.Failed)-i)
			break
		}
		fmt.Fprintf(&b, "  FAILED %s at %s after %.0f ms: %s %s\n", c.ID, c.At.Format("15:04:05.000"), c.Ms, c.Code, c.Err)
	}
	for i, u := range r.Unlike {
		if i == 10 {
			break
		}
		fmt.Fprintf(&b, "  UNLIKE %s\n", u)
	}
	return b.String()
}
