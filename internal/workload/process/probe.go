package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// newProbeClient returns the client of all HTTP probes: a connection for each
// check, since a kept one would say nothing about whether a new one is accepted.
func newProbeClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:  true,
			DisableCompression: true,
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see HTTPGet.HTTPS
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// check probes addr once. The error is a sentence of what was asked, where, and what came.
func (p Probe) check(ctx context.Context, client *http.Client, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if p.HTTP == nil {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("connect to %s: %s", addr, p.inWords(err))
		}
		return c.Close()
	}
	scheme := "http"
	if p.HTTP.HTTPS {
		scheme = "https"
	}
	asked := fmt.Sprintf("GET %s on %s", p.HTTP.Path, addr)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+p.HTTP.Path, nil)
	if err != nil {
		return fmt.Errorf("%s: %s", asked, inWords(err))
	}
	req.Header.Set("User-Agent", "serin-probe")
	for _, h := range p.HTTP.Headers {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %s", asked, p.inWords(err))
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s: %s", asked, resp.Status)
	}
	return nil
}

func (p Probe) inWords(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + inSeconds(p.Timeout)
	}
	return inWords(err)
}

// firstProbeWait is the pause after the first failed check of a run; it doubles
// up to the period, so that a quick start is seen quickly and a slow one is not
// hammered.
const firstProbeWait = 25 * time.Millisecond

// watch checks until ctx ends and reports after each check whether the replica is
// ready, and what the check met. ready: it was found so before.
func (p Probe) watch(ctx context.Context, ready bool, check func(context.Context) error, report func(ready bool, met error)) {
	everReady := ready
	var good, bad int
	quick := min(firstProbeWait, p.Period)
	first := p.InitialDelay
	if ready {
		first = p.Period
	}
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := check(ctx)
		if ctx.Err() != nil {
			return // the check was cut short by us: it says nothing
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		switch {
		case !ready && good >= p.SuccessThreshold:
			ready, everReady = true, true
		case ready && bad >= p.FailureThreshold:
			ready = false
		}
		report(ready, err)
		wait := p.Period
		if !everReady {
			wait, quick = quick, min(2*quick, p.Period)
		}
		timer.Reset(wait)
	}
}
