package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// halfClosed is how long one direction of an upgraded connection may go on
// after the other has ended.
const halfClosed = 10 * time.Second

// holdEventStream registers an event stream with its endpoint; stop ends what
// comes of it. ended says whether Drain or Close has done so.
func (x *exchange) holdEventStream(e *endpoint, stop func()) (ended func() bool, letGo func()) {
	var over atomic.Bool
	x.streams()
	end := func() {
		over.Store(true)
		stop()
	}
	s := e.hold(end)
	if x.g.leaving.Load() { // the streams before this one have been ended
		end()
	}
	return over.Load, func() { e.letGo(s) }
}

// tunnel joins the client and the endpoint after a 101, until one of them ends
// it. The bytes are not looked at.
func (x *exchange) tunnel(c *conn, e *endpoint, v *version, resp *http.Response) result {
	if !strings.EqualFold(strings.TrimSpace(resp.Header.Get("Upgrade")), x.head.upgrade) {
		return result{outcome: cut} // switched to something that nobody asked for
	}
	x.g.upgraded.Add(1)
	defer x.g.upgraded.Done()
	client, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.g.o.Logger.Warn("taking over a connection for a websocket", "error", err)
		return result{outcome: cut}
	}
	defer client.Close()
	x.begun = true
	x.count(v, e, http.StatusSwitchingProtocols)

	// Whoever ends it early ends it after the 101: a client that sees the tunnel
	// end comes again, one that gets no answer has failed.
	var mu sync.Mutex
	var open, over bool
	end := func() {
		mu.Lock()
		defer mu.Unlock()
		if over = true; open {
			client.Close()
			c.nc.SetDeadline(aborted)
		}
	}
	s := e.hold(end)
	defer e.letGo(s)

	client.SetDeadline(time.Time{})
	if _, err := client.Write(x.switching(v, resp)); err != nil {
		return result{outcome: clientGone}
	}
	mu.Lock()
	open = true
	early := over
	mu.Unlock()
	if early || x.g.leaving.Load() { // the streams before this one have been ended
		end()
	}
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		defer both.Done()
		pump(c.nc, client, buffered.Reader)
	}()
	go func() {
		defer both.Done()
		pump(client, c.nc, c.br)
	}()
	both.Wait()
	return result{outcome: http.StatusSwitchingProtocols}
}

// pump copies src to dst, first what was buffered of it, and passes its end on.
func pump(dst, src net.Conn, buffered interface {
	io.Reader
	Buffered() int
}) {
	_, err := io.CopyN(dst, buffered, int64(buffered.Buffered()))
	if err == nil {
		_, err = io.Copy(dst, src)
	}
	if err != nil {
		dst.Close()
		src.Close()
		return
	}
	closeWrite(dst)
	dst.SetReadDeadline(time.Now().Add(halfClosed))
}

// switching is the head of a 101 for the client.
func (x *exchange) switching(v *version, resp *http.Response) []byte {
	h := http.Header{}
	copyAnswer(h, resp.Header)
	x.rule.response.apply(h)
	if x.cookie != "" {
		h.Add("Set-Cookie", x.cookie)
	}
	b := []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + x.head.upgrade + crlf)
	for k, vv := range h {
		for _, s := range vv {
			b = appendField(b, k, s)
		}
	}
	if k := x.g.o.VersionHeader; k != "" {
		b = appendField(b, k, v.name)
	}
	return append(b, crlf...)
}
