package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/serin-dev/serin/internal/gateway"
)

// BenchmarkRequest is one request through the gateway, with a back end that
// does next to nothing; the client's and the back end's work is in the figures.
func BenchmarkRequest(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nContent-Length: 17\r\n\r\n{\"hello\":\"world\"}")
	addr := rawBackend(b, func(n int, c net.Conn, br *bufio.Reader) {
		for {
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					break
				}
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	f := newFront(b, gateway.Options{Seed: 1})
	f.swap(b, table(1, share(500), version("v1", addr), version("v2", addr)))
	b.ReportAllocs()
	request := []byte("GET /api/items?page=1 HTTP/1.1\r\nHost: app\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: session=0123456789abcdef\r\n\r\n")
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", f.addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		body := make([]byte, 17)
		for pb.Next() {
			c.Write(request)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.ReadFull(resp.Body, body); err != nil {
				b.Error(err)
				return
			}
			resp.Body.Close()
		}
	})
}
