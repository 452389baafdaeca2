package gateway

import (
	"context"
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
)

// Serve accepts connections on l until Shutdown or Close; it then returns
// http.ErrServerClosed. It may be called for several listeners.
func (g *Gateway) Serve(l net.Listener) error {
	srv := &http.Server{
		Handler:                      g,
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  clientIdle,
		MaxHeaderBytes:               maxRequestHead,
		ErrorLog:                     slog.NewLogLogger(g.o.Logger.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true, // OPTIONS * is the application's
	}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		l.Close()
		return http.ErrServerClosed
	}
	g.servers = append(g.servers, srv)
	g.mu.Unlock()
	return srv.Serve(l)
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
	})
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
