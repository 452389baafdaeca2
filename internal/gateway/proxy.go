package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
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
	ctx   context.Context // ends when the client goes away
	start time.Time
	try   time.Time // when the attempt that goes on began; start for the first

	head   head
	body   []byte // a small body, whole
	stream bool   // the body is sent while it is read

	upload   *clientBody // that goes on beside the answer; nil = none
	rule     *rule
	cookie   string    // to be set in the answer
	capped   *room     // that this request has a place in
	deadline time.Time // of the rule's timeout; zero = none

	hold     bool // a 5xx is not passed on: the request will be repeated
	shielded bool // this attempt repeats what failed on another version
	begun    bool // the head of an answer has gone to the client
	counted  bool
}

// result is what came of one attempt.
type result struct {
	outcome outcome
	undone  bool // provably nothing was done: another attempt may be made
	status  int  // what to tell the client where no answer was begun; 0 = by outcome
}

// ServeHTTP routes one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer g.cutShort()
	if c := frontOf(r.Context()); c != nil {
		r.TLS = c.secured()
	}
	if g.o.Before != nil && g.o.Before(w, r) {
		return
	}
	now := time.Now()
	x := exchange{g: g, w: w, r: r, ctx: r.Context(), start: now, try: now}
	if r.ProtoMajor == 1 && x.ctx.Err() != nil {
		x.doubt()
	}
	if !x.admit() || !x.readSmallBody() {
		return
	}
	intact := x.carry()
	if r.ProtoMajor == 2 {
		countReset(r)
	}
	if !intact {
		// The answer cannot be given or finished: the client must see that.
		panic(http.ErrAbortHandler)
	}
}

// doubt looks into a context that was cancelled before the request began. Where
// the gateway itself may have caused that, see clientBody.stop, the request is
// served, and is the last one of its connection.
func (x *exchange) doubt() {
	if conn, ok := x.ctx.Value(guardKey{}).(*connGuard); ok && conn.unsure.Load() {
		x.ctx = context.WithoutCancel(x.ctx)
		x.w.Header()["Connection"] = []string{"close"}
	}
}

// admit refuses what no rule may let through.
func (x *exchange) admit() bool {
	r := x.r
	if r.Method == http.MethodConnect {
		x.refuse(http.StatusMethodNotAllowed, "CONNECT is not supported")
		return false
	}
	x.head.target, x.head.host = target(r), r.Host
	// HTTP/2 lets characters through that would end a field of HTTP/1's first line.
	if x.head.target == "" || strings.IndexByte(x.head.target, ' ') >= 0 {
		x.refuse(http.StatusBadRequest, "the request's target is not a path")
		return false
	}
	if r.ProtoMajor == 2 && (!httpguts.ValidHeaderFieldName(r.Method) || !httpguts.ValidHostHeader(r.Host)) {
		x.refuse(http.StatusBadRequest, "the request's method or authority is malformed")
		return false
	}
	switch up := upgradeAsked(r.Header); up {
	case "", "h2c": // an offer of h2c may be ignored; Java's client makes it with every request
	case "websocket":
		if r.ContentLength != 0 || r.Method != http.MethodGet {
			x.refuse(http.StatusBadRequest, "a websocket begins with a GET without a body")
			return false
		}
		x.head.upgrade = up
	default:
		x.refuse(http.StatusBadRequest, "upgrading to anything but websocket is not supported")
		return false
	}
	x.head.id = requestID(r.Header)
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
	x.head.expect = strings.EqualFold(x.r.Header.Get("Expect"), "100-continue")
	if n < 0 || n > smallBody || x.head.expect {
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
		x.leaveRoom()
		if e != nil { // a panic on the way must not keep e from draining
			e.release()
		}
	}()
	v.state.touch(x.start)
	if x.rule.mirrors != nil {
		x.mirror()
	}
	tries := x.rule.retries.Attempts
	x.hold = x.holds(v, tries)
	res := x.attempt(v, e)
	for again := true; ; {
		res.undone = res.undone && again // once is enough
		next := x.next(v, e, res, tries)
		if next == nil {
			break
		}
		if res.undone {
			again = false
			e.counters.retried.Add(1)
		} else {
			tries--
			x.countFailure(v, e, res.outcome)
		}
		e.release()
		e = next
		x.hold = x.holds(v, tries)
		res = x.attempt(v, e)
	}
	if sv, se := x.shield(v, res); se != nil {
		x.countFailure(v, e, res.outcome)
		e.release()
		v, e = sv, se
		x.shielded, x.hold = true, false
		res = x.attempt(v, e)
	}
	intact := x.conclude(v, e, res)
	e.release()
	e = nil
	return intact
}

// repeatable says whether the request may be made again though it may have been
// carried out.
func (x *exchange) repeatable() bool {
	return idempotent(x.r.Method) && x.body == nil && !x.stream && x.head.upgrade == ""
}

// holds says whether a 5xx of v is to be kept from the client because there
// will be another attempt.
func (x *exchange) holds(v *version, tries int) bool {
	if !x.repeatable() {
		return false
	}
	sv := x.rule.shield
	return (tries > 0 && x.rule.retries.On5xx) || (sv != nil && sv != v && len(sv.endpoints) > 0)
}

// over says whether the request has run out of time or out of a client.
func (x *exchange) over() bool {
	return x.begun || x.ctx.Err() != nil || (!x.deadline.IsZero() && !time.Now().Before(x.deadline))
}

// next begins the next attempt within the version, or gives nil.
func (x *exchange) next(v *version, e *endpoint, res result, tries int) *endpoint {
	switch {
	case x.over():
		return nil
	case res.undone:
	case tries <= 0 || !x.repeatable() || !(res.outcome.failed() || (x.rule.retries.On5xx && res.outcome.isError())):
		return nil
	}
	return x.another(v, e, res)
}

// shield begins the request again on the version that shields, or gives nil.
func (x *exchange) shield(v *version, res result) (*version, *endpoint) {
	sv := x.rule.shield
	if sv == nil || sv == v || len(sv.endpoints) == 0 || !res.outcome.isError() || !x.repeatable() || x.over() {
		return nil, nil
	}
	if e := sv.choose(nil, time.Now()); e.acquire() {
		return sv, e
	}
	return nil, nil
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
		v, user, cookie := ru.pick(x.r)
		if v = x.underCap(v, ru); v == nil {
			return nil, nil
		}
		x.cookie = cookie
		e := (*endpoint)(nil)
		if user != "" {
			e = v.replicaFor(user, x.start)
		} else {
			e = v.choose(nil, x.start)
		}
		if e.acquire() {
			x.follow(ru)
			return v, e
		}
		// Retired since we looked: the table in force has another one.
	}
}

// underCap gives v, or the version that takes what is too much for v; nil where
// nobody takes it and the client was told so.
func (x *exchange) underCap(v *version, ru *rule) *version {
	x.leaveRoom()
	if v.max == 0 {
		return v
	}
	if v.state.room.enter(v.max) {
		x.capped = &v.state.room
		return v
	}
	if o := v.overflow; o != nil && len(o.endpoints) > 0 && (o.max == 0 || o.state.room.enter(o.max)) {
		v.state.shed.Add(1)
		if o.max > 0 {
			x.capped = &o.state.room
		}
		return o
	}
	ctx := x.ctx
	if ru.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, x.start.Add(ru.timeout))
		defer cancel()
	}
	if v.state.room.wait(ctx, v.max, v.waiting) {
		x.capped = &v.state.room
		return v
	}
	if x.ctx.Err() == nil {
		v.state.shed.Add(1)
		x.w.Header().Set("Retry-After", "1")
		x.refuse(http.StatusServiceUnavailable, v.name+" has as many requests as it may have")
	}
	return nil
}

func (x *exchange) leaveRoom() {
	if x.capped != nil {
		x.capped.leave()
		x.capped = nil
	}
}

// follow takes from the rule what holds for the whole request.
func (x *exchange) follow(ru *rule) {
	x.rule = ru
	x.head.change = ru.request
	if rw := ru.rewrite; rw != nil {
		x.head.target = rw.rewriteTarget(x.head.target)
		if rw.Authority != "" {
			x.head.host = rw.Authority
		}
	}
	if ru.timeout > 0 {
		x.deadline = x.start.Add(ru.timeout)
	}
}

// another begins the request again, within the same version; nil where that
// would be of no use.
func (x *exchange) another(v *version, failed *endpoint, res result) *endpoint {
	for v != nil && len(v.endpoints) > 0 {
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
	case x.begun:
		return res.outcome < clientGone || res.outcome >= grpcFailed
	case res.outcome == clientGone && res.status == 0:
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
	case res.outcome < clientGone: // held back, and then there was nowhere to go
		x.refuse(int(res.outcome), v.name+" failed")
	default:
		x.refuse(http.StatusBadGateway, v.name+" closed the connection without an answer")
	}
	return true
}

// countFailure counts an attempt that will be repeated, and begins the next one.
func (x *exchange) countFailure(v *version, e *endpoint, o outcome) {
	now := time.Now()
	e.counters.add(o, now.Sub(x.try))
	v.state.touch(now)
	x.try = now
}

// count counts the request once: at its end, or at the head of an answer that
// has no foreseeable end.
func (x *exchange) count(v *version, e *endpoint, o outcome) {
	now := time.Now()
	v.state.touch(now)
	switch {
	case x.counted:
	case x.shielded: // not a sample of what users ask for
		e.counters.shielded.Add(1)
	default:
		e.counters.add(o, now.Sub(x.try))
	}
	x.counted = true
}

func (x *exchange) nameVersion(v *version) {
	if h := x.g.o.VersionHeader; h != "" {
		x.w.Header()[h] = v.header
	}
}

// attempt sends the request to e once.
func (x *exchange) attempt(v *version, e *endpoint) result {
	if v.h2c {
		return x.attemptH2(v, e)
	}
	ctx := x.ctx
	young := x.g.o.UpstreamIdle
	if !x.repeatable() {
		young = youngIdle
	}
	c := e.pool.get(time.Now(), x.g.o.UpstreamIdle, young)
	if c == nil {
		var err error
		if c, err = dial(ctx, e.Address, x.dialTimeout()); err != nil {
			return x.undialled(v, e, err)
		}
	}
	stop := context.AfterFunc(ctx, func() { c.nc.SetDeadline(aborted) })
	limited := !x.deadline.IsZero() || x.rule.retries.PerTry > 0
	if limited {
		x.limit(c, x.headDeadline())
	}
	res, reusable := x.converse(c, v, e)
	if limited && reusable {
		c.nc.SetDeadline(time.Time{})
	}
	if stop() && reusable {
		e.pool.put(c, time.Now())
	} else {
		c.close()
	}
	return res
}

// undialled says what a failed dial means.
func (x *exchange) undialled(v *version, e *endpoint, err error) result {
	if x.ctx.Err() != nil {
		return result{outcome: clientGone}
	}
	e.suspect.Store(time.Now().Add(suspectFor).UnixNano())
	x.g.o.Logger.Debug("connecting to an endpoint", "version", v.name, "replica", e.Replica, "error", err)
	return result{outcome: noConnection, undone: true}
}

func (x *exchange) dialTimeout() time.Duration {
	d := x.g.o.DialTimeout
	if t := x.headDeadline(); !t.IsZero() {
		d = max(min(d, time.Until(t)), time.Millisecond)
	}
	return d
}

// headDeadline is until when this attempt may wait for the answer's head; zero
// = without a limit.
func (x *exchange) headDeadline() time.Time {
	if d := x.rule.retries.PerTry; d > 0 {
		if t := x.try.Add(d); x.deadline.IsZero() || t.Before(x.deadline) {
			return t
		}
	}
	return x.deadline
}

// limit sets c's deadline, and leaves one that the client's going away has set.
func (x *exchange) limit(c *conn, t time.Time) {
	c.nc.SetDeadline(t)
	if x.ctx.Err() != nil {
		c.nc.SetDeadline(aborted)
	}
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
		x.upload = up.src
		defer func() {
			if !up.finish(c, res.outcome < clientGone) {
				reusable = false
			}
			x.leaveEarly() // for an answer of the gateway's own
		}()
	}
	resp, err := x.awaitAnswer(c, up)
	if err != nil {
		if up.clientFailed() {
			return result{outcome: clientGone, status: up.status()}, false
		}
		// A connection that was kept alive may have been closed by the other side
		// just when the request was sent.
		lost := c.used && c.headLeft == maxResponseHead && x.repeatable()
		return x.broken(err, lost), false
	}
	if x.rule.retries.PerTry > 0 || resp.StatusCode == http.StatusSwitchingProtocols {
		t := x.deadline
		if resp.StatusCode == http.StatusSwitchingProtocols {
			t = time.Time{}
		}
		x.limit(c, t)
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return x.tunnel(c, e, v, resp), false
	case x.hold && resp.StatusCode >= 500:
		return result{outcome: answered(resp.StatusCode)}, false
	}
	return x.relay(c, e, v, resp)
}

// broken says what a failure to get an answer means.
func (x *exchange) broken(err error, undone bool) result {
	switch {
	case x.ctx.Err() != nil:
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
	p := smallBuffers.Get().(*[]byte)
	b := appendHead((*p)[:0], x.r, &x.head)
	b = append(b, x.body...)
	n, err := c.nc.Write(b)
	if cap(b) <= 4*smallBuffer {
		*p = b
	}
	smallBuffers.Put(p)
	return n, err
}

// sendHead sends the head of an answer to the client.
func (x *exchange) sendHead(v *version, resp *http.Response) {
	h := x.w.Header()
	copyAnswer(h, resp.Header)
	x.rule.response.apply(h)
	x.nameVersion(v)
	if x.cookie != "" {
		h["Set-Cookie"] = append(h["Set-Cookie"][:len(h["Set-Cookie"]):len(h["Set-Cookie"])], x.cookie)
	}
	for k := range resp.Trailer {
		h.Add("Trailer", k)
	}
	x.leaveEarly()
	if x.leaves() {
		h["Connection"] = []string{"close"}
	}
	x.begun = true
	x.w.WriteHeader(resp.StatusCode)
}

// leaveEarly tells an HTTP/1 client that its connection ends with this answer,
// if the answer comes before the request's body has ended: what is left of the
// body is not wanted.
func (x *exchange) leaveEarly() {
	if x.upload != nil && !x.begun && !x.upload.over.Load() && x.r.ProtoMajor == 1 {
		x.w.Header()["Connection"] = []string{"close"}
	}
}

// relay gives the client the answer whose head is resp.
func (x *exchange) relay(c *conn, e *endpoint, v *version, resp *http.Response) (res result, reusable bool) {
	res.outcome = answered(resp.StatusCode)
	x.sendHead(v, resp)
	if resp.Body == http.NoBody {
		return res, !resp.Close && c.br.Buffered() == 0
	}
	var ended func() bool
	if isEventStream(resp) {
		x.count(v, e, res.outcome)
		var letGo func()
		ended, letGo = x.holdEventStream(e, func() { c.nc.SetDeadline(aborted) })
		defer letGo()
	}
	switch end := x.copyBody(resp, c.br.Buffered); {
	case end == nil:
		x.sendTrailers(resp)
		return res, !resp.Close && c.br.Buffered() == 0
	case ended != nil && ended(): // drained: the client sees the stream end and comes again
	case end == errClient || x.ctx.Err() != nil:
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

func (x *exchange) sendTrailers(resp *http.Response) {
	if len(resp.Trailer) == 0 {
		return
	}
	h := x.w.Header()
	for k, vv := range resp.Trailer {
		h[http.TrailerPrefix+k] = vv
	}
}

func isEventStream(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
}
