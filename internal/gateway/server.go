package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
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

// Continue is Serve that begins with connections that another gateway kept, see
// Leave.
func (g *Gateway) Continue(l net.Listener, kept []Kept) error {
	f := g.newFront(l, kept, false)
	srv, err := g.newServer(f)
	if err != nil {
		return err
	}
	return g.served(srv.Serve(f))
}

// ServeTLS is Serve with TLS 1.2 or newer, for HTTP/1.1 and HTTP/2.
func (g *Gateway) ServeTLS(l net.Listener, certs *Certificates) error {
	return g.ServeTLSConfig(l, &tls.Config{GetCertificate: certs.get})
}

// ServeTLSConfig is ServeTLS for who has certificates of another kind. Protocols
// in NextProtos beyond HTTP's are spoken as far as c itself does.
func (g *Gateway) ServeTLSConfig(l net.Listener, c *tls.Config) error {
	f := g.newFront(l, nil, true)
	srv, err := g.newServer(f)
	if err != nil {
		return err
	}
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	srv.TLSConfig = c
	return g.served(srv.ServeTLS(f, "", ""))
}

// served says how a server ended.
func (g *Gateway) served(err error) error {
	if g.leaving.Load() {
		return http.ErrServerClosed
	}
	return err
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
	if g.closed {
		l.Close()
		return nil, http.ErrServerClosed
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
