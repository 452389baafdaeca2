package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"

	"github.com/serin-dev/serin/internal/httpapi"
)

// dashboard is where browsers are answered: on loopback, and only who has one
// of the keys. The keys outlive a restart, so that an open page goes on.
type dashboard struct {
	net.Listener
	keys httpapi.Keys
}

// openDashboard takes the address. Nil: none is asked for.
func openDashboard(o Options) (*dashboard, error) {
	if o.Dashboard == "" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(o.Dashboard)
	if err != nil {
		return nil, fmt.Errorf("the dashboard's address %q is none: want 127.0.0.1:PORT: %w", o.Dashboard, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("the dashboard's address %s is not one of loopback, and what is sent there is not encrypted: want 127.0.0.1:PORT, and from elsewhere `ssh -L PORT:127.0.0.1:PORT HOST`", o.Dashboard)
	}
	keys, err := httpapi.OpenKeys(filepath.Join(o.StateDir, "dashboard.keys"), userName(o.User))
	if err != nil {
		return nil, err
	}
	l, err := o.Inherited.take("dashboard", o.Dashboard, "the dashboard", "--dashboard")
	if err != nil {
		return nil, err
	}
	return &dashboard{Listener: l, keys: keys}, nil
}

func userName(given string) string {
	if given != "" {
		return given
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

func (w *dashboard) serve(ctx context.Context, s *httpapi.Server, log *slog.Logger) {
	if w == nil {
		return
	}
	_, port, err := net.SplitHostPort(w.Addr().String())
	if err == nil {
		err = s.ServeWeb(ctx, w.Listener, httpapi.WebOptions{Authorizer: w.keys, Key: []byte(w.keys.Full + w.keys.Look), Port: port, Link: true})
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		log.Error("the dashboard ended", "err", err)
	}
}

func (w *dashboard) full() string {
	if w == nil {
		return ""
	}
	return w.keys.Full
}

func (w *dashboard) look() string {
	if w == nil {
		return ""
	}
	return w.keys.Look
}

// url is the address to open with a key; empty where there is none.
func (w *dashboard) url(key string) string {
	if w == nil {
		return ""
	}
	u := url.URL{Scheme: "http", Host: w.Addr().String(), Path: "/", RawQuery: url.Values{"token": {key}}.Encode()}
	return u.String()
}

// Dashboard is the address to open in a browser, with the key that lets its
// owner in; known since New. Empty: there is none.
func (d *Daemon) Dashboard() string { return d.web.url(d.web.full()) }
