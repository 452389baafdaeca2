package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// recheck is how often, at most, the files of certificates are looked at.
const recheck = 10 * time.Second

// KeyPair names the PEM files of a certificate chain and its key.
type KeyPair struct{ CertFile, KeyFile string }

// Certificates are what ServeTLS shows to clients. The files are read again
// when they have changed; connections that exist are not touched, and files that
// cannot be read leave the last good certificates in use.
type Certificates struct {
	pairs  []KeyPair
	log    *slog.Logger
	loaded atomic.Pointer[certificates]

	mu      sync.Mutex
	checked time.Time
	err     error // why the files as they are now are not in use
}

type certificates struct {
	certs []tls.Certificate
	stamp []fileStamp
}

type fileStamp struct {
	size int64
	mod  time.Time
}

// LoadCertificates reads the pairs. The first one is shown to clients that ask
// for no name, or for one that no pair has. log may be nil.
func LoadCertificates(log *slog.Logger, pairs ...KeyPair) (*Certificates, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(pairs) == 0 {
		return nil, errors.New("gateway: no certificate given")
	}
	c := &Certificates{pairs: append([]KeyPair(nil), pairs...), log: log, checked: time.Now()}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files now, all or nothing.
func (c *Certificates) Reload() error {
	next := &certificates{stamp: c.stamps()} // before reading: a change in between is read again
	var errs []error
	for _, p := range c.pairs {
		cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", p.CertFile, err))
			continue
		}
		next.certs = append(next.certs, cert)
	}
	if len(errs) > 0 {
		return fmt.Errorf("gateway: reading certificates: %w", errors.Join(errs...))
	}
	c.loaded.Store(next)
	return nil
}

func (c *Certificates) stamps() []fileStamp {
	var out []fileStamp
	for _, p := range c.pairs {
		for _, f := range []string{p.CertFile, p.KeyFile} {
			var s fileStamp
			if fi, err := os.Stat(f); err == nil {
				s = fileStamp{fi.Size(), fi.ModTime()}
			}
			out = append(out, s)
		}
	}
	return out
}

// Err is why the files as they were last looked at are not in use; nil: they are.
func (c *Certificates) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Config shows the certificates.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// get is the server's GetCertificate.
func (c *Certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.check(time.Now())
	certs := c.loaded.Load().certs
	for i := range certs {
		if hello.SupportsCertificate(&certs[i]) == nil {
			return &certs[i], nil
		}
	}
	return &certs[0], nil
}

// check reads the files again if they have changed, at most once per recheck.
func (c *Certificates) check(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.checked) < recheck {
		return
	}
	c.checked = now
	old := c.loaded.Load().stamp
	for i, s := range c.stamps() {
		if s != old[i] {
			err := c.Reload()
			c.err = err
			if err != nil {
				c.log.Warn("certificates have changed and cannot be read; the last good ones stay in use", "error", err)
			}
			return
		}
	}
}
