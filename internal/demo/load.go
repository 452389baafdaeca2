package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// clientLine is what the load writes about one request, after it ended.
type clientLine struct {
	ID      string    `json:"id"`
	Start   time.Time `json:"start"`
	Ms      float64   `json:"ms"`
	Status  int       `json:"status"`            // 0: no answer
	Version string    `json:"version,omitempty"` // as the answer says
	Replica string    `json:"replica,omitempty"`
	Error   string    `json:"error,omitempty"`
	Body    string    `json:"body,omitempty"` // what it begins with, where it is no version's
}

func (l clientLine) failed() bool { return l.Status < 200 || l.Status > 299 }

// load is a steady stream of requests. Each is sent once: no connection that
// breaks makes the client send it again.
type load struct {
	url  string
	rate int

	out  *bufio.Writer
	file *os.File
	mu   sync.Mutex // guards out, sent and err
	sent int
	bad  int
	err  error

	kept, fresh *http.Client
}

// startLoad begins at once and goes on until stop is called, which waits for
// the requests in flight and closes the log.
func startLoad(ctx context.Context, addr string, rate int, path string) (l *load, stop func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, err
	}
	dial := (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	l = &load{
		url: "http://" + addr + "/", rate: rate, file: f, out: bufio.NewWriter(f),
		kept:  &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second}},
		fresh: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	return l, sync.OnceValue(func() error {
		cancel()
		<-done
		l.kept.CloseIdleConnections()
		l.fresh.CloseIdleConnections()
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := l.out.Flush(); l.err == nil {
			l.err = err
		}
		if err := l.file.Close(); l.err == nil {
			l.err = err
		}
		return l.err
	}), nil
}

// run sends by the clock, whatever the answers do: a slow answer delays no
// other request.
func (l *load) run(ctx context.Context) {
	var flying sync.WaitGroup
	defer flying.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begun, n := time.Now(), 0
	slots := make(chan struct{}, 512)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := int(time.Since(begun).Seconds() * float64(l.rate))
		for ; n < due; n++ {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			id, fresh := fmt.Sprintf("r%06d", n+1), n%8 == 0
			flying.Go(func() {
				defer func() { <-slots }()
				l.write(l.send(id, fresh))
			})
		}
	}
}

// send sends one request: mostly as a POST on a kept connection, which Go's
// client does not repeat because it cannot rewind the body, else as a GET on a
// connection of its own, which it does not repeat because it was not used before.
func (l *load) send(id string, fresh bool) clientLine {
	line := clientLine{ID: id, Start: time.Now()}
	client, method := l.kept, http.MethodPost
	var body io.Reader
	order := "order=" + id
	if fresh {
		client, method, order = l.fresh, http.MethodGet, ""
	} else {
		body = io.MultiReader(strings.NewReader(order)) // of a kind that NewRequest cannot rewind
	}
	req, err := http.NewRequest(method, l.url, body)
	if err != nil {
		line.Error = err.Error()
		return line
	}
	req.ContentLength = int64(len(order))
	req.Host = "my-app-service"
	req.Header.Set(idHeader, id)
	resp, err := client.Do(req)
	if err == nil {
		line.Status = resp.StatusCode
		var a appAnswer
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10)); err == nil && json.Unmarshal(b, &a) == nil {
			line.Version, line.Replica = a.Version, a.Replica
		} else if err == nil {
			line.Body = string(b[:min(len(b), 200)])
		}
		resp.Body.Close()
	}
	line.Ms = float64(time.Since(line.Start).Microseconds()) / 1000
	if err != nil {
		line.Status, line.Error = 0, err.Error()
	}
	return line
}

func (l *load) write(line clientLine) {
	b, err := json.Marshal(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.out.Write(append(b, '\n'))
	}
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("writing down a request: %w", err)
	}
	l.sent++
	if line.failed() {
		l.bad++
	}
}

func (l *load) counts() (sent, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent, l.bad
}
