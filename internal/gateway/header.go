package gateway

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ours says whether a header of a request is one that clients may not set:
// the gateway says itself where a request came from.
func ours(k string) bool {
	switch k {
	case "Forwarded", "X-Real-Ip":
		return true
	}
	return strings.HasPrefix(k, "X-Forwarded-")
}

// hopByHop says whether a header belongs to one connection.
func hopByHop(k string) bool {
	switch k {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

// listed gives the headers that Connection declares to belong to the
// connection, beyond those that do anyway.
func listed(h http.Header) []string {
	vv, ok := h["Connection"]
	if !ok {
		return nil
	}
	var out []string
	for _, v := range vv {
		for part := range strings.SplitSeq(v, ",") {
			k := textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(part))
			switch k {
			case "", "Close", "Host", "Content-Length", "X-Request-Id":
				continue // of the message, whatever Connection says
			}
			if !hopByHop(k) {
				out = append(out, k)
			}
		}
	}
	return out
}

func contains(list []string, k string) bool {
	for _, s := range list {
		if s == k {
			return true
		}
	}
	return false
}

// upgradeAsked gives what a request asks to upgrade to, in lower case; "" for
// none.
func upgradeAsked(h http.Header) string {
	vv, ok := h["Upgrade"]
	if !ok || !httpguts.HeaderValuesContainsToken(h["Connection"], "upgrade") {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(strings.Join(vv, ",")))
}

// target is the request line's target as it is sent upstream: what the client
// sent, without a scheme and an authority; "" where it names no path.
func target(r *http.Request) string {
	u := r.RequestURI
	if u == "" || u[0] != '/' {
		if u == "*" && r.Method == http.MethodOptions {
			return u
		}
		if u = r.URL.RequestURI(); u == "" || u[0] != '/' {
			return ""
		}
	}
	return u
}

// head is what the gateway decides about the head of a request that goes to an
// endpoint; the rest is as the client sent it.
type head struct {
	target, host string
	id           string
	upgrade      string // "" or "websocket"
	expect       bool
	change       *change // of the rule; may be nil
}

// passes says whether a header of the client's goes on.
func (h *head) passes(k string, drop []string) bool {
	return !hopByHop(k) && !ours(k) && k != "X-Request-Id" && k != "Content-Length" && k != "Expect" &&
		strings.IndexByte(k, '_') < 0 && (drop == nil || !contains(drop, k)) && !h.change.drops(k)
}

// appendHead appends the head of r as it goes to an endpoint, up to and with
// the empty line. r was read by net/http, which has validated names and values.
func appendHead(b []byte, r *http.Request, h *head) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, h.target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, h.host...)
	b = append(b, crlf...)
	drop := listed(r.Header)
	for k, vv := range r.Header {
		if !h.passes(k, drop) {
			continue
		}
		for _, v := range vv {
			b = appendField(b, k, v)
		}
	}
	if h.change != nil {
		for _, p := range h.change.put {
			b = appendField(b, p.Name, p.Value)
		}
	}
	b = appendForwarded(b, r)
	b = appendField(b, "X-Request-Id", h.id)
	b = appendFraming(b, r)
	if h.expect {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		b = append(b, "Te: trailers\r\n"...)
	}
	if h.upgrade != "" {
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, h.upgrade...)
		b = append(b, crlf...)
	}
	return append(b, crlf...)
}

const crlf = "\r\n"

func appendField(b []byte, k, v string) []byte {
	b = append(b, k...)
	b = append(b, ':', ' ')
	b = append(b, v...)
	return append(b, crlf...)
}

// remoteIP is the client's address without its port.
func remoteIP(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// appendForwarded says where the request came from.
func appendForwarded(b []byte, r *http.Request) []byte {
	ip := remoteIP(r)
	b = appendField(b, "X-Forwarded-For", ip)
	b = appendField(b, "X-Real-Ip", ip)
	b = appendField(b, "X-Forwarded-Host", r.Host)
	if r.TLS != nil {
		return append(b, "X-Forwarded-Proto: https\r\n"...)
	}
	return append(b, "X-Forwarded-Proto: http\r\n"...)
}

// appendFraming says how the body is delimited, and which trailers follow it.
func appendFraming(b []byte, r *http.Request) []byte {
	switch {
	case r.ContentLength > 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, crlf...)
	case r.ContentLength < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for k := range r.Trailer {
			if httpguts.ValidTrailerHeader(k) && strings.IndexByte(k, '_') < 0 {
				b = appendField(b, "Trailer", k)
			}
		}
	default:
		switch r.Method { // methods for which a server may wait for a length
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			b = append(b, "Content-Length: 0\r\n"...)
		}
	}
	return b
}

// requestID gives the request's id: the client's own where it is one line of
// printable text, else a new one.
func requestID(h http.Header) string {
	if vv := h["X-Request-Id"]; len(vv) == 1 && printable(vv[0]) {
		return vv[0]
	}
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < len(b); i += 16 {
		n := rand.Uint64()
		for j := range 16 {
			b[i+j] = digits[n&15]
			n >>= 4
		}
	}
	return string(b[:])
}

func printable(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// copyAnswer copies the head of an answer to the client's.
func copyAnswer(dst, src http.Header) {
	drop := listed(src)
	for k, vv := range src {
		if hopByHop(k) || (drop != nil && contains(drop, k)) {
			continue
		}
		dst[k] = vv
	}
	if _, ok := src["Content-Type"]; !ok {
		dst["Content-Type"] = nil // net/http must not guess one
	}
}
