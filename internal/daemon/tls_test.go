package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/httpapi"
)

// selfSigned writes a certificate for a host and gives its pool.
func selfSigned(t *testing.T, dir, host string) (gateway.KeyPair, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := gateway.KeyPair{CertFile: filepath.Join(dir, host+".crt"), KeyFile: filepath.Join(dir, host+".key")}
	for file, block := range map[string]*pem.Block{pair.CertFile: {Type: "CERTIFICATE", Bytes: der}, pair.KeyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return pair, pool
}

func TestUsersOverTLS(t *testing.T) {
	t.Parallel()
	pair, pool := selfSigned(t, t.TempDir(), "shop.example")
	w := newWorld(t, article(unjudged))
	w.edit = func(o *Options) { o.TLS = TLS{Listen: "127.0.0.1:0", Certs: []gateway.KeyPair{pair}} }
	w.up()
	w.open()
	for _, h2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "shop.example"}, ForceAttemptHTTP2: h2}
		a := get2(&http.Client{Transport: tr}, "https://"+w.d.SecureAddr()+"/echo")
		if a.err != nil || a.code != 200 || (a.proto == 2) != h2 {
			t.Errorf("HTTP/2 %t: %+v", h2, a)
		}
		tr.CloseIdleConnections()
	}
	if got := w.share(10, "my-app-service"); got["v1"] != 10 {
		t.Errorf("and without TLS: %v", got)
	}
}

type secureAnswer struct {
	code, proto int
	err         error
}

func get2(c *http.Client, url string) secureAnswer {
	res, err := c.Get(url)
	if err != nil {
		return secureAnswer{err: err}
	}
	res.Body.Close()
	return secureAnswer{res.StatusCode, res.ProtoMajor, nil}
}

func TestTLSThatCannotBeIsSaidBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair, _ := selfSigned(t, dir, "shop.example")
	for want, given := range map[string]TLS{
		"--tls-cert and --tls-key belong together":     {Certs: []gateway.KeyPair{{CertFile: pair.CertFile}}},
		"needs a certificate":                          {Listen: "127.0.0.1:0"},
		"one of --tls-cert and --acme-domain is meant": {Certs: []gateway.KeyPair{pair}, ACME: ACME{Domains: []string{"a.example"}}},
		"give --acme-domain":                           {ACME: ACME{Email: "me@a.example"}},
		"--acme-root":                                  {ACME: ACME{Domains: []string{"a.example"}, RootFile: pair.KeyFile}},
		"missing.crt":                                  {Certs: []gateway.KeyPair{{CertFile: dir + "/missing.crt", KeyFile: pair.KeyFile}}},
	} {
		w := newWorld(t, article(unjudged))
		o := testOptions(w.dir, w.state)
		o.TLS = given
		d, err := New(o)
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", given, err, want)
		}
	}
}

// What is wrong with certificates is said in the views, too: the log is read when
// the last good one has run out.
func TestTroubleWithCertificatesIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair, pool := selfSigned(t, dir, "shop.example")
	w := newWorld(t, article(unjudged))
	w.edit = func(o *Options) { o.TLS = TLS{Listen: "127.0.0.1:0", Certs: []gateway.KeyPair{pair}} }
	w.up()
	w.open()
	w.d.certified("cert_failed", map[string]any{"identifier": "api.example", "error": "no route to host"})
	w.until("my-app", "it is said", func(v httpapi.RolloutView) bool {
		return finds(v, "No certificate for api.example could be had, first or anew: no route to host.")
	})
	w.d.certified("cert_obtained", map[string]any{"identifier": "api.example"})
	w.until("my-app", "it is said no more", func(v httpapi.RolloutView) bool { return !finds(v, "No certificate for") })

	whole, err := os.ReadFile(pair.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "shop.example"}, DisableKeepAlives: true}
	says := func(is bool) func(httpapi.RolloutView) bool {
		return func(v httpapi.RolloutView) bool {
			if a := get2(&http.Client{Transport: tr}, "https://"+w.d.SecureAddr()+"/echo"); a.err != nil || a.code != 200 {
				t.Fatalf("%+v", a)
			}
			w.d.app("my-app").wake()
			return finds(v, "The certificates' files have changed and cannot be read") == is
		}
	}
	if err := os.WriteFile(pair.CertFile, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	w.until("my-app", "files that cannot be read are said", says(true))
	if err := os.WriteFile(pair.CertFile, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	w.until("my-app", "they are read again", says(false))
}
