package prometheus

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/serin-dev/serin/internal/metric"
)

// Secret is a value that is never shown: printed, logged or written as JSON it
// is a word that says so.
type Secret string

const hidden = "[hidden]"

func (Secret) String() string               { return hidden }
func (Secret) GoString() string             { return hidden }
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Config says which Prometheus is asked, and how. It is the controller's, never
// a Rollout's: who may write Rollouts must not choose whom the controller
// dials.
type Config struct {
	// Address, with a path where the API is below one: http://prometheus:9090
	Address string
	// Bearer token, or basic auth; either as a value or as a file that is read
	// again when it changes.
	Bearer       Secret
	BearerFile   string
	User         string
	Password     Secret
	PasswordFile string
	// Tenant is sent as X-Scope-OrgID, which Mimir, Cortex and Thanos tell
	// tenants by; "" = not sent.
	Tenant string
	// CAFile, CertFile and KeyFile are PEM files; ServerName is what the
	// server's certificate is checked for instead of the address.
	CAFile, CertFile, KeyFile, ServerName string

	// PodLabel and NamespaceLabel are the labels by which scraped series tell
	// pods apart. "pod" and "namespace".
	PodLabel, NamespaceLabel string
	// Names are the conventions that are asked for. metric.Known().
	Names []metric.Names

	// Every is how often one kind of figure is asked for at most. 5 s. Where
	// pods are scraped at longer intervals it is asked less often.
	Every time.Duration
	// Timeout of one question. 10 s.
	Timeout time.Duration
	// MaxAnswer bounds an answer, in bytes. 64 MiB.
	MaxAnswer int64
	// Batch is for how many rollouts one question is asked at most. 50.
	Batch int
	Log   *slog.Logger     // of our own mistakes, with their stacks; nil: nowhere
	Now   func() time.Time // time.Now
}

func (c Config) withDefaults() Config {
	c.PodLabel = cmp.Or(c.PodLabel, "pod")
	c.NamespaceLabel = cmp.Or(c.NamespaceLabel, "namespace")
	c.Every = cmp.Or(c.Every, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxAnswer = cmp.Or(c.MaxAnswer, 64<<20)
	c.Batch = cmp.Or(c.Batch, 50)
	if c.Names == nil {
		c.Names = metric.Known()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Check says everything that is wrong with it, by the fields' names.
func (c Config) Check() error {
	c = c.withDefaults()
	var errs []error
	no := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		no("address: an address is meant, such as http://prometheus.monitoring:9090")
	case u.User != nil:
		no("address: holds a user: give user and password by themselves")
	case u.RawQuery != "" || u.Fragment != "":
		no("address: ends at its path")
	}
	if (c.Bearer != "" || c.BearerFile != "") && c.User != "" {
		no("bearer, user: one way to sign in, not two")
	}
	if c.Bearer != "" && c.BearerFile != "" {
		no("bearerFile: bearer is given too")
	}
	if c.Password != "" && c.PasswordFile != "" {
		no("passwordFile: password is given too")
	}
	if c.User == "" && (c.Password != "" || c.PasswordFile != "") {
		no("user: a password is given without it")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		no("certFile, keyFile: both or none")
	}
	if strings.ContainsAny(c.Tenant, "\r\n") {
		no("tenant: holds a line break")
	}
	for _, l := range [...][2]string{{"podLabel", c.PodLabel}, {"namespaceLabel", c.NamespaceLabel}} {
		if !isLabel(l[1]) {
			no("%s: %q is no name of a label", l[0], l[1])
		}
	}
	if c.Batch < 0 || c.Every < 0 || c.Timeout < 0 || c.MaxAnswer < 0 {
		no("batch, every, timeout, maxAnswer: cannot be negative")
	}
	return errors.Join(errs...)
}

func isLabel(s string) bool {
	for i, r := range s {
		if !(r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || i > 0 && r >= '0' && r <= '9') {
			return false
		}
	}
	return s != ""
}

// transport makes the way to the server.
func (c *Config) transport() (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                  nil, // the address is who is asked
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    c.Timeout,
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName},
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile: %s holds no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		// Read at every handshake: certificates are renewed.
		cert, key := c.CertFile, c.KeyFile
		t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			return nil, fmt.Errorf("certFile, keyFile: %w", err)
		}
	}
	return t, nil
}

// credentials are read from their files when those are older than a moment.
type credentials struct {
	bearer, password Secret
	bearerFile, file string
	user             string

	mu   sync.Mutex
	read time.Time
	got  Secret
}

const rereadSecrets = 10 * time.Second

// current gives the secret in force.
func (c *credentials) current() (Secret, error) {
	file := cmp.Or(c.bearerFile, c.file)
	if file == "" {
		return cmp.Or(c.bearer, c.password), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got != "" && time.Since(c.read) < rereadSecrets {
		return c.got, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		if c.got != "" {
			return c.got, nil // while it is being exchanged
		}
		return "", fmt.Errorf("reading the secret: %w", err)
	}
	c.got, c.read = Secret(strings.TrimSpace(string(b))), time.Now()
	return c.got, nil
}

// sign adds them to the request, and gives the secret that must not be shown.
func (c *credentials) sign(r *http.Request) error {
	s, err := c.current()
	switch {
	case err != nil:
		return err
	case c.user != "":
		r.SetBasicAuth(c.user, string(s))
	case s != "":
		r.Header.Set("Authorization", "Bearer "+string(s))
	}
	return nil
}

// hide takes the secret out of a text.
func (c *credentials) hide(text string) string {
	if s, err := c.current(); err == nil && len(s) > 3 {
		return strings.ReplaceAll(text, string(s), hidden)
	}
	return text
}
