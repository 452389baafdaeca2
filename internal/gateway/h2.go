package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// http2 gives the client of an endpoint that speaks HTTP/2 without TLS. It has
// its own connections; the endpoint's pool is for HTTP/1.
func (e *endpoint) http2(dialTimeout time.Duration) *http.Transport {
	e.h2Once.Do(func() {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		e.h2 = &http.Transport{
			Protocols:          &p,
			DisableCompression: true,
			DialContext:        (&net.Dialer{Timeout: dialTimeout}).DialContext,
			IdleConnTimeout:    time.Minute,
		}
		e.h2Made.Store(true)
	})
	return e.h2
}

// closeHTTP2 closes idle HTTP/2 connections.
func (e *endpoint) closeHTTP2() {
	if e.h2Made.Load() {
		e.h2.CloseIdleConnections()
	}
}

// attemptH2 sends the request to e once, over HTTP/2.
func (x *exchange) attemptH2(v *version, e *endpoint) (res result) {
	ctx, cancel := context.WithCancel(x.ctx)
	defer cancel()
	inTime := cancelAt(x.headDeadline(), cancel)
	defer inTime()
	out := x.outgoing(ctx, e)
	if b, ok := out.Body.(uploadBody); ok {
		x.upload = b.clientBody
		defer func() {
			// Where nothing of it was read it may be sent again; over HTTP/2 a body that
			// was stopped once cannot be read any more.
			if !res.undone {
				b.stop()
				b.leave()
			}
		}()
	}
	resp, err := e.http2(x.g.o.DialTimeout).RoundTrip(out)
	if err != nil {
		var op *net.OpError
		switch {
		case x.ctx.Err() != nil:
			return result{outcome: clientGone}
		case ctx.Err() != nil:
			return result{outcome: timedOut}
		case errors.As(err, &op) && op.Op == "dial":
			return x.undialled(v, e, err)
		}
		return x.broken(err, false)
	}
	defer resp.Body.Close()
	if !inTime() {
		return result{outcome: timedOut}
	}
	defer cancelAt(x.deadline, cancel)()
	if x.hold && resp.StatusCode >= 500 {
		return result{outcome: answered(resp.StatusCode)}
	}
	res.outcome = answered(resp.StatusCode)
	x.sendHead(v, resp)
	var ended func() bool
	if isEventStream(resp) {
		x.count(v, e, res.outcome)
		var letGo func()
		ended, letGo = x.holdEventStream(e, cancel)
		defer letGo()
	}
	switch err := x.copyBody(resp, func() int { return 0 }); {
	case err == nil:
		x.sendTrailers(resp)
		res.outcome = grpcOutcome(res.outcome, resp)
	case ended != nil && ended(): // drained: the client sees the stream end and comes again
	case err == errClient || x.ctx.Err() != nil:
		res.outcome = clientGone
	case ctx.Err() != nil:
		res.outcome = timedOut
	default:
		x.g.o.Logger.Debug("relaying an answer", "version", v.name, "replica", e.Replica, "error", err)
		res.outcome = cut
	}
	return res
}

// cancelAt calls cancel at t, unless inTime is called before and says so. Zero:
// there is no limit.
func cancelAt(t time.Time, cancel func()) (inTime func() bool) {
	if t.IsZero() {
		return func() bool { return true }
	}
	return time.AfterFunc(time.Until(t), cancel).Stop
}

// outgoing is the request as it goes to an HTTP/2 endpoint.
func (x *exchange) outgoing(ctx context.Context, e *endpoint) *http.Request {
	h := http.Header{}
	drop := listed(x.r.Header)
	for k, vv := range x.r.Header {
		if x.head.passes(k, drop) {
			h[k] = vv
		}
	}
	if c := x.head.change; c != nil {
		for _, p := range c.put {
			h[p.Name] = append(h[p.Name][:len(h[p.Name]):len(h[p.Name])], p.Value)
		}
	}
	ip := remoteIP(x.r)
	proto := "http"
	if x.r.TLS != nil {
		proto = "https"
	}
	h["X-Forwarded-For"], h["X-Real-Ip"] = []string{ip}, []string{ip}
	h["X-Forwarded-Host"], h["X-Forwarded-Proto"] = []string{x.r.Host}, []string{proto}
	h["X-Request-Id"] = []string{x.head.id}
	if httpguts.HeaderValuesContainsToken(x.r.Header["Te"], "trailers") {
		h["Te"] = []string{"trailers"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // net/http must not make one up
	}
	out := &http.Request{
		Method: x.r.Method, Host: x.head.host, Header: h, Trailer: x.r.Trailer, ContentLength: x.r.ContentLength,
		// Opaque keeps the target as it was sent.
		URL:        &url.URL{Scheme: "http", Host: e.Address, Opaque: "//" + x.head.host + x.head.target},
		ProtoMajor: 2,
	}
	switch {
	case x.stream:
		out.Body = x.clientBody()
	case x.body != nil:
		out.Body = io.NopCloser(strings.NewReader(string(x.body)))
	}
	return out.WithContext(ctx)
}

// uploadBody is the client's body for a transport that reads it beside the
// answer, and may still be reading it when the answer has ended. Close keeps it
// open: after a failed dial it is sent again.
type uploadBody struct{ *clientBody }

func (b uploadBody) Close() error { return nil }

// clientBody is the client's body. One of a call in both directions may rest
// for as long as the two like, so the pace of uploads is not asked of it.
func (x *exchange) clientBody() io.ReadCloser {
	src := newClientBody(x.w, x.r)
	src.ctl.EnableFullDuplex()
	src.patient = isGRPC(x.r.Header)
	return uploadBody{src}
}

func isGRPC(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "application/grpc")
}

// grpcOutcome looks into an answer of a gRPC call: its status says whether it
// failed, and HTTP's 200 does not.
func grpcOutcome(o outcome, resp *http.Response) outcome {
	if o != http.StatusOK || !isGRPC(resp.Header) {
		return o
	}
	text := resp.Trailer.Get("Grpc-Status")
	if text == "" {
		text = resp.Header.Get("Grpc-Status") // an answer of trailers alone
	}
	status, err := strconv.Atoi(text)
	if err != nil || status < 0 || status > 16 {
		status = 2 // unknown, as gRPC's clients see it
	}
	switch status {
	case 2, 4, 12, 13, 14, 15: // Unknown, DeadlineExceeded, Unimplemented, Internal, Unavailable, DataLoss
		return grpcFailed + outcome(status)
	}
	return o
}

// maxResets is how many requests one HTTP/2 connection may cancel within
// resetWindow. Beyond that it is closed: it makes work and wants no answers.
const (
	maxResets   = 200
	resetWindow = 10 * time.Second
)

// connGuard counts what one client connection cancels.
type connGuard struct {
	nc     net.Conn
	resets atomic.Int64
	since  atomic.Int64 // Unix ns, begin of the window
	unsure atomic.Bool  // HTTP/1: the contexts of its requests may be cancelled though the client is there
}

type guardKey struct{}

// guard is the server's ConnContext.
func guard(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, guardKey{}, &connGuard{nc: nc})
}

// countReset counts r if its client has cancelled it.
func countReset(r *http.Request) {
	if r.Context().Err() == nil {
		return
	}
	g, ok := r.Context().Value(guardKey{}).(*connGuard)
	if !ok {
		return
	}
	now := time.Now().UnixNano()
	if since := g.since.Load(); now-since > int64(resetWindow) && g.since.CompareAndSwap(since, now) {
		g.resets.Store(0)
	}
	if g.resets.Add(1) > maxResets {
		g.nc.Close()
	}
}
