package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// The API's answers are read here and not by the usual client, which takes a
// sample without a value for a zero.

// result is an answer that is whole.
type result struct {
	kind   string // matrix, vector, scalar, string
	matrix model.Matrix
	values []value // of a vector or scalar
}

// value is one of an instant's answers.
type value struct {
	v         float64
	histogram bool
}

type apiAnswer struct {
	Status    string   `json:"status"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	Data      *struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// sample is a time and a value, both of which are there.
type sample struct {
	set bool
	at  model.Time
	v   float64
}

var errSample = errors.New("not a sample")

// UnmarshalJSON reads [SECONDS,"VALUE"].
func (s *sample) UnmarshalJSON(b []byte) error {
	inner, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte("["))
	if !ok {
		return errSample
	}
	if inner, ok = bytes.CutSuffix(inner, []byte("]")); !ok {
		return errSample
	}
	at, v, ok := bytes.Cut(inner, []byte(","))
	if !ok {
		return errSample
	}
	v = bytes.TrimSpace(v)
	if len(v) < 3 || v[0] != '"' || v[len(v)-1] != '"' {
		return errSample
	}
	if err := s.at.UnmarshalJSON(bytes.TrimSpace(at)); err != nil {
		return errSample
	}
	x, err := strconv.ParseFloat(string(v[1:len(v)-1]), 64)
	if err != nil {
		return errSample
	}
	s.v, s.set = x, true
	return nil
}

// query asks one question: now, with these parameters. What comes with warnings
// may not be whole, and is no answer.
func (r *Reader) query(ctx context.Context, query string, parameters url.Values) (*result, *Error) {
	ctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
	defer cancel()
	r.mu.Lock()
	r.asked++
	r.mu.Unlock()
	form := url.Values{"query": {query}, "timeout": {model.Duration(r.c.Timeout).String()}}
	for k, v := range parameters {
		form[k] = v
	}
	body, err := r.post(ctx, form.Encode())
	if err != nil {
		return nil, r.door.sort(err)
	}
	var a apiAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, &Error{Fault: NotPrometheus}
	}
	switch {
	case a.Status == "error":
		return nil, r.door.refusal(a.ErrorType, a.Error)
	case a.Status != "success" || a.Data == nil:
		return nil, &Error{Fault: NotPrometheus}
	case len(a.Warnings) > 0:
		return nil, &Error{Fault: Partial, Detail: r.door.clip(a.Warnings[0])}
	}
	out := &result{kind: a.Data.ResultType}
	if err := out.decode(a.Data.Result); err != nil {
		return nil, &Error{Fault: NotPrometheus}
	}
	return out, nil
}

// post asks by POST, since queries may be long; by GET where that is all that
// is let through.
func (r *Reader) post(ctx context.Context, form string) ([]byte, error) {
	address := strings.TrimSuffix(r.c.Address, "/") + "/api/v1/query"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body, err := r.do(req)
	var status *statusError
	if errors.As(err, &status) && (status.code == http.StatusMethodNotAllowed || status.code == http.StatusNotImplemented) {
		if req, err = http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+form, nil); err != nil {
			return nil, err
		}
		return r.do(req)
	}
	return body, err
}

func (r *Reader) do(req *http.Request) ([]byte, error) {
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if resp.ContentLength > 0 {
		b.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return nil, &cutError{err}
	}
	return b.Bytes(), nil
}

// cutError: the answer ended before it was whole.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

func (r *result) decode(raw json.RawMessage) error {
	switch r.kind {
	case "matrix":
		var list []*struct {
			Metric     model.Metric                `json:"metric"`
			Values     []sample                    `json:"values"`
			Histograms []model.SampleHistogramPair `json:"histograms"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		r.matrix = make(model.Matrix, 0, len(list))
		for _, s := range list {
			if s == nil || len(s.Values)+len(s.Histograms) == 0 {
				continue
			}
			stream := &model.SampleStream{Metric: s.Metric, Histograms: s.Histograms, Values: make([]model.SamplePair, len(s.Values))}
			for i, v := range s.Values {
				if !v.set {
					return errSample
				}
				stream.Values[i] = model.SamplePair{Timestamp: v.at, Value: model.SampleValue(v.v)}
			}
			r.matrix = append(r.matrix, stream)
		}
	case "vector":
		var list []*struct {
			Value     sample          `json:"value"`
			Histogram json.RawMessage `json:"histogram"`
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		for _, s := range list {
			if s == nil || !s.Value.set && s.Histogram == nil {
				return errSample
			}
			r.values = append(r.values, value{s.Value.v, s.Histogram != nil})
		}
	case "scalar":
		var s sample
		if err := json.Unmarshal(raw, &s); err != nil || !s.set {
			return errSample
		}
		r.values = []value{{v: s.v}}
	case "string":
	default:
		return fmt.Errorf("unknown kind")
	}
	return nil
}

// raw asks for raw samples.
func (r *Reader) raw(ctx context.Context, query string) (model.Matrix, *Error) {
	got, err := r.query(ctx, query, nil)
	switch {
	case err != nil:
		return nil, err
	case got.kind != "matrix":
		return nil, &Error{Fault: NotPrometheus, Detail: fmt.Sprintf("a %s instead of samples", got.kind)}
	}
	return got.matrix, nil
}

// lookbackDelta is the parameter that says how old a sample may be.
func lookbackDelta(d time.Duration) url.Values {
	return url.Values{"lookback_delta": {model.Duration(d).String()}}
}
