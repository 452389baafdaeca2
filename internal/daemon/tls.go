package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/rollout"
)

// TLS says how users' requests come encrypted; the zero TLS: not at all.
type TLS struct {
	Listen string            // 127.0.0.1:8443 if empty
	Certs  []gateway.KeyPair // read again when they change
	ACME   ACME              // instead of Certs
}

// ACME asks a certificate authority for certificates and renews them. Giving
// Domains accepts the authority's terms of service.
type ACME struct {
	Domains   []string
	Email     string // where the authority writes to; may be empty
	Directory string // Let's Encrypt's if empty
	// RootFile is a PEM file with the root that the authority's own server is
	// known by, for private ones; the system's roots if empty.
	RootFile string
}

// asked says whether there is anything to encrypt with.
func (t TLS) asked() bool { return len(t.Certs) > 0 || len(t.ACME.Domains) > 0 }

func (t TLS) validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	a := t.ACME
	switch {
	case len(t.Certs) > 0 && len(a.Domains) > 0:
		add("certificates are given as files and asked for by ACME: one of --tls-cert and --acme-domain is meant")
	case len(a.Domains) == 0 && (a.Email != "" || a.Directory != "" || a.RootFile != ""):
		add("ACME needs to know for what: give --acme-domain")
	case t.Listen != "" && !t.asked():
		add("--listen-tls %s needs a certificate: give --tls-cert and --tls-key, or --acme-domain", t.Listen)
	}
	for _, k := range t.Certs {
		if k.CertFile == "" || k.KeyFile == "" {
			add("--tls-cert and --tls-key belong together, as often as they are given")
		}
	}
	return errors.Join(errs...)
}

// front is what encrypts.
type front struct {
	config *tls.Config
	files  *gateway.Certificates // nil: ACME
	magic  *certmagic.Config     // nil: files
	issuer *certmagic.ACMEIssuer
	cache  *certmagic.Cache
	names  []string
}

// openTLS reads the certificates; nil where none are asked for. Nothing is asked
// of anybody yet.
func (d *Daemon) openTLS() (*front, error) {
	t := d.o.TLS
	if err := t.validate(); err != nil || !t.asked() {
		return nil, err
	}
	if len(t.Certs) > 0 {
		certs, err := gateway.LoadCertificates(d.log, t.Certs...)
		if err != nil {
			return nil, err
		}
		return &front{config: certs.Config(), files: certs}, nil
	}
	var roots *x509.CertPool
	if t.ACME.RootFile != "" {
		b, err := os.ReadFile(t.ACME.RootFile)
		if err != nil {
			return nil, fmt.Errorf("--acme-root: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("--acme-root: %s holds no certificate", t.ACME.RootFile)
		}
	}
	f := &front{names: t.ACME.Domains}
	f.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return f.magic, nil },
		Logger:           zap.NewNop(), // what matters is told by OnEvent
	})
	f.magic = certmagic.New(f.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: filepath.Join(d.o.StateDir, "acme")},
		Logger:  zap.NewNop(),
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			tell(d.log, event, data)
			d.certified(event, data)
			return nil
		},
	})
	f.issuer = certmagic.NewACMEIssuer(f.magic, certmagic.ACMEIssuer{
		CA: t.ACME.Directory, TestCA: t.ACME.Directory, Email: t.ACME.Email, Agreed: true, TrustedRoots: roots, Logger: zap.NewNop(),
	})
	f.magic.Issuers = []certmagic.Issuer{f.issuer}
	f.config = f.magic.TLSConfig()
	return f, nil
}

// tell logs what became of a certificate.
func tell(log *slog.Logger, event string, data map[string]any) {
	switch event {
	case "cert_obtained":
		log.Info("a certificate was issued", "for", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		log.Error("no certificate was issued; it is asked for again, with growing pauses", "for", data["identifier"], "err", data["error"])
	}
}

// certified notes for whom there is no certificate, so that it is not only in a
// log when the last one runs out.
func (d *Daemon) certified(event string, data map[string]any) {
	d.mu.Lock()
	who := fmt.Sprint(data["identifier"])
	switch event {
	case "cert_obtained":
		delete(d.uncertified, who)
	case "cert_failed":
		if d.uncertified == nil {
			d.uncertified = map[string]string{}
		}
		d.uncertified[who] = oneLine(fmt.Sprint(data["error"]))
	}
	d.mu.Unlock()
	for _, a := range d.allApps() {
		a.wake()
	}
}

// certificateFindings say what is wrong with what users are shown. The caller
// holds mu.
func (d *Daemon) certificateFindings() (out []rollout.Finding) {
	for _, who := range slices.Sorted(maps.Keys(d.uncertified)) {
		out = append(out, rollout.Finding{
			Level: rollout.Warn, What: fmt.Sprintf("No certificate for %s could be had, first or anew: %s.", who, strings.TrimRight(d.uncertified[who], ".")),
			Remedy: "it is asked for again, with growing pauses; the authority has to reach this machine under that name",
		})
	}
	if d.tls != nil && d.tls.files != nil {
		if err := d.tls.files.Err(); err != nil {
			out = append(out, rollout.Finding{
				Level: rollout.Warn, What: "The certificates' files have changed and cannot be read, so users are shown the ones before: " + oneLine(err.Error()) + ".",
				Remedy: "put them right; they are looked at again with the next connection",
			})
		}
	}
	return out
}

// challenged answers an authority that looks whether this is the host that it
// issues a certificate for.
func (f *front) challenged(w http.ResponseWriter, r *http.Request) bool {
	return f.issuer.HandleHTTPChallenge(w, r)
}

// reachable tells the issuer where the gateway answers challenges: the
// authority asks at ports 80 and 443, which must lead here.
func (f *front) reachable(plain, encrypted net.Addr) {
	if f.issuer == nil {
		return
	}
	port := func(a net.Addr) int {
		_, p, _ := net.SplitHostPort(a.String())
		n, _ := strconv.Atoi(p)
		return n
	}
	f.issuer.AltHTTPPort, f.issuer.AltTLSALPNPort = port(plain), port(encrypted)
	if host, _, err := net.SplitHostPort(plain.String()); err == nil {
		f.issuer.ListenHost = host
	}
}

// manage loads the certificates that there are, and asks for the others until
// ctx ends.
func (f *front) manage(ctx context.Context, log *slog.Logger) {
	if f.magic == nil {
		return
	}
	if err := f.magic.ManageAsync(ctx, f.names); err != nil {
		log.Error("managing certificates", "err", err)
	}
}

func (f *front) close() {
	if f != nil && f.cache != nil {
		f.cache.Stop()
	}
}
