package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"
)

// Limits of the listening side. There is no ReadTimeout and no WriteTimeout:
// they would end event streams and long downloads. Bodies have their own rule,
// see progressBody.
const (
	readHeaderTimeout = 10 * time.Second
	clientIdle        = 120 * time.Second
	maxRequestHead    = 64 << 10
	maxStreams        = 128 // at one time on one HTTP/2 connection
)

// Serve accepts connections on l until Shutdown or Close; it then returns
// http.ErrServerClosed. It may be called for several listeners. Clients may
// speak HTTP/1.1, or HTTP/2 without TLS if they know beforehand (as gRPC does).
func (g *Gateway) Serve(l net.Listener) error { return g.Continue(l, nil) }

// ErrNotBegun is what Continue gives when the gateway has left or was closed
// before: nothing was done with l, and nobody serves the kept connections.
var ErrNotBegun = fmt.Errorf("gateway: nothing is served any more: %w", http.ErrServerClosed)

// Continue is Serve that begins with connections that another gateway kept, see
// Leave.
func (g *Gateway) Continue(l net.Listener, kept []Kept) error {
	return g.serve(g.newFront(l, kept, nil))
}

func (g *Gateway) serve(f *front) error {
	srv, err := g.newServer(f)
	if err != nil {
		return err
	}
	defer close(f.done)
	err = srv.Serve(f)
	if g.leaving.Load() {
		return http.ErrServerClosed
	}
	return err
}

// ServeTLS is Serve with TLS 1.2 or newer, for HTTP/1.1 and HTTP/2.
func (g *Gateway) ServeTLS(l net.Listener, certs *Certificates) error {
	return g.ServeTLSConfig(l, certs.Config())
}

// ServeTLSConfig is ServeTLS for who has certificates of another kind. Protocols
// in NextProtos beyond HTTP's are spoken as far as c itself does.
//
// The server is given what was decrypted: it knows HTTP/2 by its first bytes.
func (g *Gateway) ServeTLSConfig(l net.Listener, c *tls.Config) error {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	for _, p := range []string{"h2", "http/1.1"} {
		if !slices.Contains(c.NextProtos, p) {
			c.NextProtos = append(c.NextProtos[:len(c.NextProtos):len(c.NextProtos)], p)
		}
	}
	return g.serve(g.newFront(l, nil, c))
}

func (g *Gateway) newServer(l *front) (*http.Server, error) {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:                      g,
		Protocols:                    &p,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  clientIdle,
		MaxHeaderBytes:               maxRequestHead,
		ConnContext:                  guard,
		ConnState:                    stateChanged,
		ErrorLog:                     slog.NewLogLogger(g.o.Logger.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true, // OPTIONS * is the application's
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leaving.Load() {
		return nil, ErrNotBegun
	}
	if g.closed {
		l.Close()
		return nil, ErrNotBegun
	}
	g.servers, g.listening = append(g.servers, srv), append(g.listening, l)
	return srv, nil
}

// Shutdown stops accepting, waits for the requests in flight (upgraded
// connections included) until ctx ends, and frees everything.
func (g *Gateway) Shutdown(ctx context.Context) error {
	var err error
	for _, srv := range g.closing() {
		if e := srv.Shutdown(ctx); e != nil {
			err = e
		}
	}
	done := make(chan struct{})
	go func() {
		g.upgraded.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.Close()
	<-done
	return err
}

// Close ends everything at once.
func (g *Gateway) Close() error {
	for _, srv := range g.closing() {
		srv.Close()
	}
	g.eachEndpoint(func(e *endpoint) {
		e.endStreams()
		e.pool.close()
		e.closeHTTP2()
	})
	g.mirrors.close()
	<-g.swept
	return nil
}

// closing marks g as closed and gives its servers.
func (g *Gateway) closing() []*http.Server {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		close(g.stop)
	}
	return append([]*http.Server(nil), g.servers...)
}
