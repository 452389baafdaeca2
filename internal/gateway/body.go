package gateway

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A client may take its time to send a body, but not for ever: this long, and
// a second for every KiB that it has sent.
const (
	bodyGrace        = 30 * time.Second
	bodyBytesPerUnit = 1 << 10
	bodyUnit         = time.Second
)

// expectWait is how long an endpoint may take to say 100 before the body is
// sent anyway.
const expectWait = time.Second

// lateUpload is how long the end of an upload may lag behind the end of the
// answer before the upload counts as abandoned.
const lateUpload = 20 * time.Millisecond

// errClient says that it was the client's side that failed.
var errClient = errors.New("the client's connection failed")

// clientBody reads a request's body at no less than the pace above. Only time
// spent in Read counts: an endpoint that takes the body slowly is not the
// client's fault.
type clientBody struct {
	body    io.Reader
	ctl     *http.ResponseController
	spent   time.Duration
	read    int64
	stopped atomic.Bool
	patient bool        // no pace is asked
	over    atomic.Bool // was read to its end
	conn    *connGuard  // of the client; may be nil
}

func newClientBody(w http.ResponseWriter, r *http.Request) *clientBody {
	conn, _ := r.Context().Value(guardKey{}).(*connGuard)
	return &clientBody{body: r.Body, ctl: http.NewResponseController(w), conn: conn}
}

func (b *clientBody) Read(p []byte) (int, error) {
	begun := time.Now()
	left := bodyGrace + time.Duration(b.read/bodyBytesPerUnit)*bodyUnit - b.spent
	if !b.patient {
		b.ctl.SetReadDeadline(begun.Add(left)) // where it is not supported there is no such rule
	}
	if b.stopped.Load() {
		b.ctl.SetReadDeadline(aborted)
	}
	n, err := b.body.Read(p)
	b.spent += time.Since(begun)
	b.read += int64(n)
	if err == io.EOF {
		b.over.Store(true)
		b.ctl.SetReadDeadline(time.Time{}) // the connection is watched from now on, without a limit
	}
	return n, err
}

// stop ends a Read that is going on, and all later ones. A body that was read to
// its end is left alone: the connection is being watched for the client's going
// away, and a deadline would look like that.
func (b *clientBody) stop() {
	if b.over.Load() {
		return
	}
	// The end may come just now. Then net/http takes the deadline for the client's
	// going away, for this and all later requests of the connection: these must
	// not believe it.
	if b.conn != nil {
		b.conn.unsure.Store(true)
	}
	b.stopped.Store(true)
	b.ctl.SetReadDeadline(aborted)
}

// leave gives the client's connection back to net/http, which reads a little
// more of the body to keep the connection usable.
func (b *clientBody) leave() {
	if b.stopped.Load() {
		b.ctl.SetReadDeadline(time.Now().Add(bodyGrace))
	}
}

// upload sends a body while it is read, beside the answer.
type upload struct {
	src   *clientBody
	start chan bool // the endpoint wants the body, or not; nil = do not wait
	asked bool      // start was answered
	done  chan struct{}

	// Written before done is closed.
	err        error
	fromClient bool
}

// beginUpload starts sending the request's body to c.
func (x *exchange) beginUpload(c *conn) *upload {
	u := &upload{src: newClientBody(x.w, x.r), done: make(chan struct{})}
	u.src.ctl.EnableFullDuplex() // HTTP/1: the answer may begin before the body has ended
	if x.head.expect {
		u.start = make(chan bool, 1)
	}
	go func() {
		defer close(u.done)
		defer func() { // in a goroutine of its own it would end everything
			if v := recover(); v != nil {
				x.g.mistakes.say(x.g.o.Logger, "a body that is sent while it is read", v)
				u.err = errors.New("the body could not be sent")
				c.nc.SetDeadline(aborted)
			}
		}()
		if u.start != nil && !<-u.start {
			u.err = errors.New("the body was not asked for")
			return
		}
		u.err = u.send(c, x.r)
		if u.fromClient {
			c.nc.SetDeadline(aborted) // nobody waits for an answer to half a request
		}
	}()
	return u
}

// allow tells a waiting upload whether the body is wanted. Called by the
// goroutine that reads the answer.
func (u *upload) allow(ok bool) {
	if u != nil && u.start != nil && !u.asked {
		u.asked = true
		u.start <- ok
	}
}

func (u *upload) waiting() bool { return u != nil && u.start != nil && !u.asked }

// send copies the body. Every piece goes on at once.
func (u *upload) send(c *conn, r *http.Request) error {
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	buf := (*p)[:cap(*p)]
	bw := bufio.NewWriterSize(c.nc, 4<<10)
	var dst io.Writer = bw
	var chunks io.WriteCloser
	if r.ContentLength < 0 {
		chunks = httputil.NewChunkedWriter(bw)
		dst = chunks
	}
	for {
		n, rerr := u.src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			if err := bw.Flush(); err != nil {
				return err
			}
		}
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			u.fromClient = true
			return rerr
		}
	}
	if chunks != nil {
		if err := chunks.Close(); err != nil {
			return err
		}
		writeTrailers(bw, r.Trailer)
	}
	return bw.Flush()
}

// writeTrailers writes trailers and the empty line after a chunked body. They
// come from the client unchecked.
func writeTrailers(w io.Writer, t http.Header) {
	for k, vv := range t {
		k = textproto.CanonicalMIMEHeaderKey(k)
		if !httpguts.ValidHeaderFieldName(k) || !httpguts.ValidTrailerHeader(k) || ours(k) || strings.IndexByte(k, '_') >= 0 {
			continue
		}
		for _, v := range vv {
			if httpguts.ValidHeaderFieldValue(v) {
				io.WriteString(w, k+": "+v+crlf)
			}
		}
	}
	io.WriteString(w, crlf)
}

// finish waits for the upload to end, or ends it when the answer is there and
// the rest of the body is not wanted. It says whether the whole body was sent.
func (u *upload) finish(c *conn, answered bool) bool {
	u.allow(false)
	if answered {
		t := time.NewTimer(lateUpload)
		defer t.Stop()
		select {
		case <-u.done:
			return u.err == nil
		case <-t.C:
		}
	}
	c.nc.SetDeadline(aborted)
	u.src.stop()
	<-u.done
	u.src.leave()
	return false
}

// clientFailed says that the upload has ended because of the client.
func (u *upload) clientFailed() bool {
	if u == nil {
		return false
	}
	select {
	case <-u.done:
		return u.fromClient
	default:
		return false
	}
}

// status is what to tell a client whose body could not be read.
func (u *upload) status() int {
	if isTimeout(u.err) {
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// awaitAnswer reads the head of the answer, passing on what comes before it.
func (x *exchange) awaitAnswer(c *conn, up *upload) (*http.Response, error) {
	c.headLeft = maxResponseHead
	defer func() {
		if c.headLeft != maxResponseHead { // equal: not a byte came, which the caller must see
			c.headLeft = -1
		}
	}()
	for {
		if up.waiting() {
			x.awaitWord(c, up)
		}
		resp, err := http.ReadResponse(c.br, x.r)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.StatusCode < 100 || (resp.StatusCode == http.StatusSwitchingProtocols && x.head.upgrade == ""):
			return nil, errors.New("the answer's status makes no sense")
		case resp.StatusCode == http.StatusContinue:
			up.allow(true)
		case resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols:
			x.passInformation(resp)
		default:
			up.allow(false)
			return resp, nil
		}
	}
}

// awaitWord waits for the first byte of any answer, for a while; then the body
// is sent unasked.
func (x *exchange) awaitWord(c *conn, up *upload) {
	c.nc.SetReadDeadline(time.Now().Add(expectWait))
	_, err := c.br.Peek(1)
	x.limit(c, x.headDeadline())
	if isTimeout(err) {
		up.allow(true)
	}
}

// passInformation sends a 1xx answer to the client.
func (x *exchange) passInformation(resp *http.Response) {
	if !x.r.ProtoAtLeast(1, 1) {
		return
	}
	h := x.w.Header()
	copyAnswer(h, resp.Header)
	x.w.WriteHeader(resp.StatusCode)
	clear(h)
}

// copyBody copies the answer's body. It flushes whenever nothing more is there
// yet, so that what an endpoint says reaches the client when it is said; pending
// says how much has come that was not read.
func (x *exchange) copyBody(resp *http.Response, pending func() int) error {
	left := resp.ContentLength // negative: unknown
	pool := &buffers
	if left >= 0 && left <= smallBuffer {
		pool = &smallBuffers
	}
	p := pool.Get().(*[]byte)
	defer pool.Put(p)
	buf := (*p)[:cap(*p)]
	if left < 0 && pending() == 0 {
		x.flush()
	}
	for {
		n, rerr := resp.Body.Read(buf)
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				return errClient
			}
			left -= int64(n)
		}
		switch {
		case rerr == io.EOF:
			return nil
		case rerr != nil:
			return rerr
		case left != 0 && pending() == 0:
			x.flush()
		}
	}
}

func (x *exchange) flush() {
	if f, ok := x.w.(http.Flusher); ok {
		f.Flush()
	}
}
