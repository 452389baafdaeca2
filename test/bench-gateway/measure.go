package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// result is what one round gave.
type result struct {
	rate, cpuUs, p50ms, p99ms, kibPerConn, share float64
	failed                                       int64
}

func median(rs []result) result {
	sort.Slice(rs, func(i, j int) bool { return rs[i].cpuUs < rs[j].cpuUs })
	return rs[len(rs)/2]
}

// measure starts a proxy, loads it and stops it.
func (b *bench) measure(ctx context.Context, name string) (result, error) {
	cmd, addr, err := b.start(ctx, name)
	if err != nil {
		return result{}, err
	}
	var pids []int
	if cmd != nil {
		defer end(cmd)
		pids = family(cmd.Process.Pid)
	}
	l := newLoad(addr, b.conns, b.post)
	time.Sleep(b.warm)
	if cmd != nil {
		pids = family(cmd.Process.Pid)
	}
	l.measuring.Store(true)
	cpu, begun := cpuTime(pids), time.Now()
	time.Sleep(b.duration)
	l.measuring.Store(false)
	took := time.Since(begun)
	used := cpuTime(pids) - cpu
	l.end()
	perConn, err := memoryPerConnection(pids, addr, l.request)
	if err != nil {
		return result{}, err
	}
	if len(l.times) == 0 {
		return result{}, fmt.Errorf("no request was answered: %v", l.lastErr.Load())
	}
	sort.Slice(l.times, func(i, j int) bool { return l.times[i] < l.times[j] })
	n := float64(len(l.times))
	return result{
		rate:       n / took.Seconds(),
		cpuUs:      float64(used.Microseconds()) / n,
		p50ms:      l.times[len(l.times)/2].Seconds() * 1000,
		p99ms:      l.times[len(l.times)*99/100].Seconds() * 1000,
		kibPerConn: perConn,
		share:      float64(l.canary.Load()) / n,
		failed:     l.failed.Load(),
	}, ctx.Err()
}

// load keeps conns connections busy, each with one request after the other.
type load struct {
	measuring, over atomic.Bool
	wg              sync.WaitGroup
	canary, failed  atomic.Int64
	lastErr         atomic.Value
	mu              sync.Mutex
	times           []time.Duration
	request         []byte
}

func newLoad(addr string, conns, post int) *load {
	l := &load{}
	request := "GET /api/items?page=1 HTTP/1.1\r\nHost: app\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: identity\r\nCookie: session=0123456789abcdef\r\n\r\n"
	if post > 0 {
		request = strings.Replace(request, "GET", "POST", 1)
		request = strings.Replace(request, "\r\n\r\n", fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", post, strings.Repeat("x", post)), 1)
	}
	l.request = []byte(request)
	for range conns {
		l.wg.Add(1)
		go l.keepBusy(addr, l.request)
	}
	return l
}

// memoryPerConnection is what a client connection costs in KiB that has had one
// answer and rests, by the growth over a thousand of them.
func memoryPerConnection(pids []int, addr string, request []byte) (float64, error) {
	const conns = 1000
	before := memoryKiB(pids)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return 0, err
		}
		held = append(held, c)
		if _, err := oneRequest(c, bufio.NewReader(c), request); err != nil {
			return 0, err
		}
	}
	return (memoryKiB(pids) - before) / conns, nil
}

func (l *load) end() {
	l.over.Store(true)
	l.wg.Wait()
}

func (l *load) keepBusy(addr string, request []byte) {
	defer l.wg.Done()
	var times []time.Duration
	defer func() {
		l.mu.Lock()
		l.times = append(l.times, times...)
		l.mu.Unlock()
	}()
	for !l.over.Load() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			l.failed.Add(1)
			l.lastErr.Store(err.Error())
			return
		}
		br := bufio.NewReader(c)
		for !l.over.Load() {
			begun := time.Now()
			canary, err := oneRequest(c, br, request)
			measuring := l.measuring.Load()
			if err != nil {
				if measuring {
					l.failed.Add(1)
				}
				l.lastErr.Store(err.Error())
				break
			}
			if measuring {
				times = append(times, time.Since(begun))
				if canary {
					l.canary.Add(1)
				}
			}
		}
		c.Close()
	}
}

var from, v2 = []byte(`"from":"v`), []byte(`"from":"v2"`)

func oneRequest(c net.Conn, br *bufio.Reader, request []byte) (canary bool, err error) {
	if _, err := c.Write(request); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return false, err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || !bytes.Contains(body, from)) {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return bytes.Contains(body, v2), err
}

// family gives a process and all its descendants.
func family(pid int) []int {
	pids := []int{pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for _, w := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(w); err == nil {
				pids = append(pids, family(child)...)
			}
		}
	}
	return pids
}

// cpuTime is the CPU time of the processes, user and system. /proc counts in
// ticks of 10 ms.
func cpuTime(pids []int) time.Duration {
	var ticks int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, i := range []int{11, 12} { // utime, stime
			n, _ := strconv.ParseInt(f[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memoryKiB is the resident memory of the processes.
func memoryKiB(pids []int) float64 {
	var kib float64
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.SplitSeq(string(text), "\n") {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmRSS:" {
				n, _ := strconv.ParseFloat(f[1], 64)
				kib += n
			}
		}
	}
	return kib
}
