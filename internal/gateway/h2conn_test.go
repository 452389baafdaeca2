package gateway_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Conn speaks HTTP/2 frame by frame, so that it can say what no client would.
type h2Conn struct {
	t   testing.TB
	nc  net.Conn
	fr  *http2.Framer
	buf bytes.Buffer
	enc *hpack.Encoder
}

func newH2Conn(t testing.TB, addr string) *h2Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newH2ConnOn(t, nc)
}

// newH2ConnOn begins to speak HTTP/2 on a connection.
func newH2ConnOn(t testing.TB, nc net.Conn) *h2Conn {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	c := &h2Conn{t: t, nc: nc, fr: http2.NewFramer(nc, nc)}
	c.enc = hpack.NewEncoder(&c.buf)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	io.WriteString(nc, http2.ClientPreface)
	c.fr.WriteSettings()
	return c
}

func (c *h2Conn) block(method, path, authority string) []byte {
	c.buf.Reset()
	c.enc.WriteField(hpack.HeaderField{Name: ":method", Value: method})
	if method != "CONNECT" {
		c.enc.WriteField(hpack.HeaderField{Name: ":scheme", Value: "http"})
		c.enc.WriteField(hpack.HeaderField{Name: ":path", Value: path})
	}
	c.enc.WriteField(hpack.HeaderField{Name: ":authority", Value: authority})
	return c.buf.Bytes()
}

func (c *h2Conn) request(stream uint32, method, path, authority string) error {
	return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block(method, path, authority), EndStream: true, EndHeaders: true})
}

// status reads up to the head of the answer on a stream: its status, "reset" or
// "closed".
func (c *h2Conn) status(stream uint32) string {
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return "reset"
			}
		case *http2.GoAwayFrame:
			return "closed"
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.fr.WriteSettingsAck()
			}
		}
	}
}
