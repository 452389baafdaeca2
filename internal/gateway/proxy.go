package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// smallBody is up to how many bytes of known length a body is read before an
// endpoint is chosen: it goes out in one write with the head, and can be sent
// again where nothing of it was written.
const smallBody = 16 << 10

// suspectFor is how long an endpoint is left alone after a failed dial, while
// its version has others.
const suspectFor = time.Second

// exchange is one request on its way through the gateway.
type exchange struct {
	g     *Gateway
	w     http.ResponseWriter
	r     *http.Request
	start time.Time

	id      string
	upgrade string // "" or "websocket"
	body    []byte // a small body, whole
	stream  bool   // the body is sent while it is read
	expect  bool   // the client waits for 100 before it sends the body

	begun   bool // the head of an answer has gone to the client
	counted bool
}

// result is what came of one attempt.
type result struct {
	outcome outcome
	undone  bool // provably nothing was done: another attempt may be made
	status  int  // what to tell the client where no answer was begun; 0 = by outcome
}

// ServeHTTP routes one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{g: g, w: w, r: r, start: time.Now()}
	if !x.admit() || !x.readSmallBody() {
		return
	}
	if !x.carry() {
		// The answer cannot be given or finished: the client must see that.
		panic(http.ErrAbortHandler)
	}
}

// admit refuses what no rule may let through.
func (x *exchange) admit() bool {
	if x.r.Method == http.MethodConnect {
		x.refuse(http.StatusMethodNotAllowed, "CONNECT is not supported")
		return false
	}
	if target(x.r) == "" {
		x.refuse(http.StatusBadRequest, "the request's target is not a path")
		return false
	}
	switch up := upgradeAsked(x.r.Header); up {
	case "", "h2c": // an offer of h2c may be ignored; Java's client makes it with every request
	case "websocket":
		if x.r.ContentLength != 0 || x.r.Method != http.MethodGet {
			x.refuse(http.StatusBadRequest, "a websocket begins with a GET without a body")
			return false
		}
		x.upgrade = up
	default:
		x.refuse(http.StatusBadRequest, "upgrading to anything but websocket is not supported")
		return false
	}
	x.id = requestID(x.r.Header)
	return true
}

// refuse answers in the gateway's own words.
func (x *exchange) refuse(code int, why string) {
	h := x.w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	x.w.WriteHeader(code)
	io.WriteString(x.w, "serin gateway: "+why+"\n")
}

// readSmallBody reads a small body, or notes that the body is to be streamed.
func (x *exchange) readSmallBody() bool {
	n := x.r.ContentLength
	if n == 0 || x.r.Body == nil || x.r.Body == http.NoBody {
		return true
	}
	x.expect = strings.EqualFold(x.r.Header.Get("Expect"), "100-continue")
	if n < 0 || n > smallBody || x.expect {
		x.stream = true
		return true
	}
	x.body = make([]byte, n)
	if _, err := io.ReadFull(newClientBody(x.w, x.r), x.body); err != nil {
		if isTimeout(err) {
			x.w.Header().Set("Connection", "close")
			x.refuse(http.StatusRequestTimeout, "the request's body came too slowly")
		} else {
			x.refuse(http.StatusBadRequest, "the request's body could not be read")
		}
		return false
	}
	return true
}

// carry takes the request to an endpoint and the answer back. It gives false
// when the client's connection must be cut.
func (x *exchange) carry() bool {
	v, e := x.place()
	if v == nil {
		return true
	}
	defer func() {
		if e != nil { // a panic on the way must not keep e from draining
			e.release()
		}
	}()
	v.state.touch(x.start)
	res := x.attempt(v, e)
	if res.undone {
		if other := x.another(v, e, res); other != nil {
			e.counters.retried.Add(1)
			e.release()
			e = other
			res = x.attempt(v, e)
		}
	}
	intact := x.conclude(v, e, res)
	e.release()
	e = nil
	return intact
}

// place finds the version and begins the request on one of its endpoints. It
// gives nil where the gateway itself has answered.
func (x *exchange) place() (*version, *endpoint) {
	for {
		s := x.g.routing.Load().lookup(x.r.Host)
		if s == nil {
			x.refuse(http.StatusNotFound, "no service answers for this host")
			return nil, nil
		}
		ru := s.route(x.r)
		if ru == nil {
			s.stats.notFound.Add(1)
			x.refuse(http.StatusNotFound, "no rule of "+s.name+" matches this request")
			return nil, nil
		}
		if ru.none {
			s.stats.noEndpoint.Add(1)
			x.w.Header().Set("Retry-After", "1")
			x.refuse(http.StatusServiceUnavailable, "no version of "+s.name+" that this request may go to has an endpoint")
			return nil, nil
		}
		v := ru.pick()
		if e := v.choose(nil, x.start); e.acquire() {
			return v, e
		}
		// Retired since we looked: the table in force has another one.
	}
}

// another begins the request again, within the same version; nil where that
// would be of no use.
func (x *exchange) another(v *version, failed *endpoint, res result) *endpoint {
	for v != nil && len(v.endpoints) > 0 && x.r.Context().Err() == nil {
		e := v.choose(failed, time.Now())
		if e == failed && res.outcome == noConnection {
			return nil
		}
		if e.acquire() {
			return e
		}
		v = x.g.routing.Load().version(v.state.service.name, v.name)
	}
	return nil
}

// conclude counts the request and, where no answer was begun, gives one.
func (x *exchange) conclude(v *version, e *endpoint, res result) (intact bool) {
	x.count(v, e, res.outcome)
	switch {
	case res.outcome < clientGone:
		return true
	case x.begun || (res.outcome == clientGone && res.status == 0):
		return false
	}
	x.nameVersion(v)
	switch {
	case res.status != 0:
		x.w.Header().Set("Connection", "close")
		x.refuse(res.status, "the request's body could not be read")
	case res.outcome == timedOut:
		x.refuse(http.StatusGatewayTimeout, v.name+" gave no answer in time")
	case res.outcome == noConnection:
		x.refuse(http.StatusBadGateway, v.name+" could not be connected to")
	default:
		x.refuse(http.StatusBadGateway, v.name+" closed the connection without an answer")
	}
	return true
}

// count counts the request once: at its end, or at the head of an answer that
// has no foreseeable end.
func (x *exchange) count(v *version, e *endpoint, o outcome) {
	now := time.Now()
	v.state.touch(now)
	if !x.counted {
		x.counted = true
		e.counters.add(o, now.Sub(x.start))
	}
}

func (x *exchange) nameVersion(v *version) {
	if h := x.g.o.VersionHeader; h != "" {
		x.w.Header()[h] = v.header
	}
}

// attempt sends the request to e once.
func (x *exchange) attempt(v *version, e *endpoint) result {
	ctx := x.r.Context()
	c := e.pool.get(time.Now(), x.g.o.UpstreamIdle)
	if c == nil {
		var err error
		if c, err = dial(ctx, e.Address, x.g.o.DialTimeout); err != nil {
			if ctx.Err() != nil {
				return result{outcome: clientGone}
			}
			e.suspect.Store(time.Now().Add(suspectFor).UnixNano())
			x.g.o.Logger.Debug("connecting to an endpoint", "version", v.name, "replica", e.Replica, "error", err)
			return result{outcome: noConnection, undone: true}
		}
	}
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(aborted) })
	res, reusable := x.converse(c, v, e)
	if stop() && reusable {
		e.pool.put(c, time.Now())
	} else {
		c.close()
	}
	return res
}

// converse writes the request to c and relays the answer. reusable says that
// both were read and written to their ends and that c can carry another one.
func (x *exchange) converse(c *conn, v *version, e *endpoint) (res result, reusable bool) {
	n, err := x.writeHead(c)
	if n == 0 && err != nil {
		return x.broken(err, true), false
	}
	// After a failed write of a part the other side may have answered before it
	// closed, so an answer is looked for in any case.
	var up *upload
	if x.stream && err == nil {
		up = x.beginUpload(c)
		defer func() {
			if !up.finish(c, res.outcome < clientGone) {
				reusable = false
			}
		}()
	}
	resp, err := x.awaitAnswer(c, up)
	if err != nil {
		if up.clientFailed() {
			return result{outcome: clientGone, status: up.status()}, false
		}
		// A connection that was kept alive may have been closed by the other side
		// just when the request was sent.
		lost := c.used && c.headLeft == maxResponseHead && idempotent(x.r.Method) && !x.stream && x.body == nil
		return x.broken(err, lost), false
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return x.tunnel(c, e, v, resp), false
	}
	return x.relay(c, e, v, resp)
}

// broken says what a failure to get an answer means.
func (x *exchange) broken(err error, undone bool) result {
	switch {
	case x.r.Context().Err() != nil:
		return result{outcome: clientGone}
	case isTimeout(err):
		return result{outcome: timedOut}
	}
	x.g.o.Logger.Debug("awaiting an answer", "error", err)
	return result{outcome: cut, undone: undone}
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// writeHead writes the head, with a small body.
func (x *exchange) writeHead(c *conn) (int, error) {
	p := buffers.Get().(*[]byte)
	b := appendHead((*p)[:0], x.r, x.id, x.upgrade, x.expect)
	b = append(b, x.body...)
	n, err := c.nc.Write(b)
	if cap(b) <= 64<<10 {
		*p = b[:cap(b)]
	}
	buffers.Put(p)
	return n, err
}

// relay gives the client the answer whose head is resp.
func (x *exchange) relay(c *conn, e *endpoint, v *version, resp *http.Response) (res result, reusable bool) {
	h := x.w.Header()
	copyAnswer(h, resp.Header)
	x.nameVersion(v)
	for k := range resp.Trailer {
		h.Add("Trailer", k)
	}
	res.outcome = outcome(resp.StatusCode)
	x.begun = true
	x.w.WriteHeader(resp.StatusCode)
	if resp.Body == http.NoBody {
		return res, !resp.Close && c.br.Buffered() == 0
	}
	var ended func() bool
	if isEventStream(resp) {
		x.count(v, e, res.outcome)
		var letGo func()
		ended, letGo = x.holdEventStream(c, e)
		defer letGo()
	}
	switch end := x.copyBody(c, resp); {
	case end == nil:
		for k, vv := range resp.Trailer {
			h[http.TrailerPrefix+k] = vv
		}
		return res, !resp.Close && c.br.Buffered() == 0
	case ended != nil && ended(): // drained: the client sees the stream end and comes again
	case end == errClient || x.r.Context().Err() != nil:
		res.outcome = clientGone
	default:
		x.g.o.Logger.Debug("relaying an answer", "version", v.name, "replica", e.Replica, "error", end)
		res.outcome = cut
		if isTimeout(end) {
			res.outcome = timedOut
		}
	}
	return res, false
}

func isEventStream(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
}
