package prometheus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Fault says what kind of answer it was instead of figures.
type Fault string

// The faults.
const (
	Unreachable   Fault = "Unreachable"   // no connection, or it ended early
	NotTrusted    Fault = "NotTrusted"    // the certificate is not the expected one
	NotSignedIn   Fault = "NotSignedIn"   // 401 or 403
	Throttled     Fault = "Throttled"     // 429; see Error.After
	ServerFailed  Fault = "ServerFailed"  // 5xx
	Redirected    Fault = "Redirected"    // redirects are not followed
	Slow          Fault = "Slow"          // no answer in time; a late one is thrown away
	TooLarge      Fault = "TooLarge"      // more than is read
	QueryFailed   Fault = "QueryFailed"   // the server could not carry it out: too much, or it makes no sense
	BadQuery      Fault = "BadQuery"      // the server does not understand the question
	NotPrometheus Fault = "NotPrometheus" // the answer is something else
	Partial       Fault = "Partial"       // the answer came with warnings: it may not be whole
	NoSeries      Fault = "NoSeries"      // the answer is whole, and there is nothing for these pods
	Mistake       Fault = "Mistake"       // our own: reading the answer panicked
	Stale         Fault = "Stale"         // there were samples, and no newer ones have come
)

// Error is one fault in words. It holds nothing of an answer but the server's
// own error message, clipped and without secrets.
type Error struct {
	Fault  Fault
	Detail string
	// After is when the server asked to come back, where it did.
	After time.Duration
	cause error // of the context, for errors.Is
}

var faultWords = map[Fault]string{
	Unreachable:   "cannot be reached",
	NotTrusted:    "shows a certificate that is not trusted",
	NotSignedIn:   "does not let us in",
	Throttled:     "asks to be asked less",
	ServerFailed:  "failed",
	Redirected:    "sends us elsewhere, where we do not go",
	Slow:          "did not answer in time",
	TooLarge:      "answered with more than is read",
	QueryFailed:   "could not carry out the query",
	BadQuery:      "does not understand the query",
	NotPrometheus: "answered with something that is no answer of Prometheus",
	Partial:       "answered with warnings, so that the answer may not be whole",
	Mistake:       "was read wrongly by this version of Serin; its log says more",
	NoSeries:      "has no series of these pods",
	Stale:         "has nothing newer of these pods",
}

func (e *Error) Error() string {
	s := "Prometheus " + faultWords[e.Fault]
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *Error) Unwrap() error { return e.cause }

// splits says whether asking for fewer rollouts at once may help. Where the
// server is down or overloaded it would make things worse.
func (e *Error) splits() bool {
	switch e.Fault {
	case TooLarge, QueryFailed, BadQuery:
		return true
	}
	return false
}

// statusError is an HTTP status that is no answer of the API.
type statusError struct {
	code  int
	after time.Duration
}

func (e *statusError) Error() string { return fmt.Sprint("status ", e.code) }

var errTooLarge = errors.New("the answer is too large")

// door is the way to the server: it signs, bounds and sorts out what is no
// answer of the API before anybody reads it.
type door struct {
	next      http.RoundTripper
	sign      *credentials
	tenant    string
	maxAnswer int64
}

func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if err := d.sign.sign(r); err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "serin")
	if d.tenant != "" {
		r.Header.Set("X-Scope-OrgID", d.tenant)
	}
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > d.maxAnswer {
		resp.Body.Close()
		return nil, errTooLarge
	}
	resp.Body = &bounded{resp.Body, d.maxAnswer}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusBadRequest, http.StatusUnprocessableEntity:
		return resp, nil // the API's own words are in it
	case http.StatusServiceUnavailable:
		// The API says of a query that took it too long that it is unavailable.
		head, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		resp.Body.Close()
		if strings.Contains(string(head), `"errorType":"timeout"`) {
			return nil, &statusError{code: http.StatusGatewayTimeout}
		}
	default:
		resp.Body.Close()
	}
	return nil, &statusError{resp.StatusCode, retryAfter(resp.Header)}
}

func retryAfter(h http.Header) time.Duration {
	d, err := time.ParseDuration(h.Get("Retry-After") + "s")
	if err != nil || d < 0 {
		return 0
	}
	return min(d, time.Minute)
}

type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// sort says what an error of the client is.
func (d *door) sort(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var status *statusError
	var cut *cutError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errTooLarge):
		return &Error{Fault: TooLarge}
	case errors.As(err, &status):
		return status.sort()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Fault: Slow, cause: err}
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid), errors.As(err, &verify), errors.As(err, &record):
		return &Error{Fault: NotTrusted}
	case errors.As(err, &cut):
		return &Error{Fault: Unreachable, Detail: "the answer was cut off"}
	}
	var network *url.Error
	if errors.As(err, &network) {
		return &Error{Fault: Unreachable, Detail: d.clip(network.Err.Error())}
	}
	return &Error{Fault: NotPrometheus}
}

func (e *statusError) sort() *Error {
	detail := fmt.Sprintf("status %d", e.code)
	switch {
	case e.code == http.StatusUnauthorized, e.code == http.StatusForbidden:
		return &Error{Fault: NotSignedIn, Detail: detail}
	case e.code == http.StatusTooManyRequests:
		return &Error{Fault: Throttled, Detail: detail, After: e.after}
	case e.code == http.StatusGatewayTimeout:
		return &Error{Fault: Slow}
	case e.code >= 500:
		return &Error{Fault: ServerFailed, Detail: detail, After: e.after}
	case e.code >= 300 && e.code < 400:
		return &Error{Fault: Redirected, Detail: detail}
	}
	return &Error{Fault: NotPrometheus, Detail: detail}
}

// refusal is what the API says went wrong.
func (d *door) refusal(kind, said string) *Error {
	switch kind {
	case "bad_data":
		return &Error{Fault: BadQuery, Detail: d.clip(said)}
	case "execution":
		return &Error{Fault: QueryFailed, Detail: d.clip(said)}
	case "timeout", "canceled":
		return &Error{Fault: Slow}
	case "internal", "unavailable":
		return &Error{Fault: ServerFailed, Detail: d.clip(said)}
	}
	return &Error{Fault: NotPrometheus}
}

// clip makes a server's words fit to be shown.
func (d *door) clip(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, d.sign.hide(strings.ToValidUTF8(s, "?")))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
