package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

// Client talks to the host behind one socket.
type Client struct {
	socket string
	http   *http.Client
}

// NotRunning: nobody answers on the socket.
type NotRunning struct {
	Socket string
	Cause  error
}

func (e *NotRunning) Error() string {
	why := ""
	if errors.Is(e.Cause, fs.ErrPermission) {
		why = " for this user, who may not open it"
	}
	return fmt.Sprintf("no daemon answers on %s%s: start one with `serin up -f DIR`, or name its socket with --socket or SERIN_SOCKET", e.Socket, why)
}

func (e *NotRunning) Unwrap() error { return e.Cause }

// Dial makes a client, and asks once whether somebody answers.
func Dial(ctx context.Context, socket string) (*Client, error) {
	c := &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}}}
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := c.Info(ask); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close gives connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Info says who answers.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	return i, c.call(ctx, http.MethodGet, "/v1/info", nil, nil, &i)
}

// List gives every rollout.
func (c *Client) List(ctx context.Context) ([]RolloutView, error) {
	var out []RolloutView
	return out, c.call(ctx, http.MethodGet, "/v1/rollouts", nil, nil, &out)
}

// Get gives one rollout.
func (c *Client) Get(ctx context.Context, ref Ref) (RolloutView, error) {
	var v RolloutView
	return v, c.call(ctx, http.MethodGet, pathOf(ref, ""), query(ref), nil, &v)
}

// Command sends a command and waits for the pass that takes it.
func (c *Client) Command(ctx context.Context, ref Ref, cmd rollout.Command) (Answer, error) {
	var a Answer
	return a, c.call(ctx, http.MethodPost, pathOf(ref, "/commands"), query(ref), cmd, &a)
}

// Deploy makes a new version known.
func (c *Client) Deploy(ctx context.Context, ref Ref, d Deploy) (Deployed, error) {
	var out Deployed
	return out, c.call(ctx, http.MethodPost, pathOf(ref, "/versions"), query(ref), d, &out)
}

// RecordPath is the file of the observation record.
func (c *Client) RecordPath(ctx context.Context, ref Ref) (string, error) {
	var out recordBody
	return out.Path, c.call(ctx, http.MethodGet, pathOf(ref, "/record"), query(ref), nil, &out)
}

// Series is how a rollout went since an instant; the zero time is all that is kept.
func (c *Client) Series(ctx context.Context, ref Ref, since time.Time) (Series, error) {
	var out Series
	q := query(ref)
	if !since.IsZero() {
		q.Set("since", since.Format(time.RFC3339Nano))
	}
	return out, c.call(ctx, http.MethodGet, pathOf(ref, "/series"), q, nil, &out)
}

// At gives one rollout as it was.
func (c *Client) At(ctx context.Context, ref Ref, at time.Time) (RolloutView, error) {
	var v RolloutView
	q := query(ref)
	q.Set("at", at.Format(time.RFC3339Nano))
	return v, c.call(ctx, http.MethodGet, pathOf(ref, ""), q, nil, &v)
}

// Logs calls emit for each line, oldest first.
func (c *Client) Logs(ctx context.Context, ref Ref, q LogQuery, emit func(LogLine) error) error {
	v := query(ref)
	for k, s := range map[string]string{"version": q.Version, "replica": q.Replica} {
		if s != "" {
			v.Set(k, s)
		}
	}
	if q.Tail > 0 {
		v.Set("tail", strconv.Itoa(q.Tail))
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	resp, err := c.do(ctx, http.MethodGet, pathOf(ref, "/logs"), v, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var item logItem
		switch err := dec.Decode(&item); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.lost(ctx, "reading logs", err)
		case item.Error != "":
			return errors.New(item.Error)
		case item.Line != nil:
			if err := emit(*item.Line); err != nil {
				return err
			}
		}
	}
}

// patience is how long a daemon may be away (restarted, upgraded) before
// Watch gives up on it.
const patience = 15 * time.Second

// Watch calls see with each update of one rollout, or of all where ref has no
// name, beginning with what there is. It goes on over restarts of the daemon
// and returns what see returns (io.EOF counts as the end, nil), or when ctx
// ends, or when nobody has been there for 15 seconds.
func (c *Client) Watch(ctx context.Context, ref Ref, see func(Update) error) error {
	var cursor Cursor
	p := Patience{Away: func(err error) bool { return errors.As(err, new(*NotRunning)) }, For: patience, Pause: rewatch}
	return Follow(ctx, p, see, func(see func(Update) error, alive func()) error { return c.watch(ctx, ref, &cursor, see, alive) })
}

func (c *Client) watch(ctx context.Context, ref Ref, cursor *Cursor, see func(Update) error, alive func()) error {
	v := query(ref)
	if ref.Name != "" {
		v.Set("name", ref.Name)
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", v, nil, http.Header{"Last-Event-ID": {cursor.String()}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	var id, kind, data string
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		alive()
		switch key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); key {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if data == "" {
				continue
			}
			at := ParseCursor(id)
			u, err := readUpdate(kind, data, at)
			if err != nil {
				return err
			}
			if err := see(u); err != nil {
				return err
			}
			*cursor, id, kind, data = at, "", "", ""
		}
	}
}

func readUpdate(kind, data string, at Cursor) (Update, error) {
	if kind == "gone" {
		var ref Ref
		err := json.Unmarshal([]byte(data), &ref)
		return Update{Ref: ref, Seq: at.Seq}, err
	}
	var v RolloutView
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return Update{}, fmt.Errorf("reading an update: %w", err)
	}
	return Update{Ref: Ref{v.Namespace, v.Name}, View: &v, Seq: at.Seq}, nil
}

// StatusError is an answer that is not a success.
type StatusError struct {
	Status   int
	Sentence string
	Problems []string
}

func (e *StatusError) Error() string {
	if len(e.Problems) == 0 {
		return e.Sentence
	}
	return e.Sentence + ":\n  " + strings.Join(e.Problems, "\n  ")
}

func pathOf(ref Ref, rest string) string { return "/v1/rollouts/" + url.PathEscape(ref.Name) + rest }

func query(ref Ref) url.Values {
	v := url.Values{}
	if ref.Namespace != "" {
		v.Set("namespace", ref.Namespace)
	}
	return v
}

func (c *Client) call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	resp, err := c.do(ctx, method, path, q, in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.lost(ctx, "reading the answer", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, in any, header http.Header) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	u := "http://serin" + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		if v[0] != "" {
			req.Header[k] = v
		}
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(ctx, "asking the daemon", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	var e errorBody
	if json.Unmarshal(b, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("whoever listens on %s answered with status %d, and is no daemon of this kind", c.socket, resp.StatusCode)
	}
	return nil, &StatusError{Status: resp.StatusCode, Sentence: e.Error, Problems: e.Problems}
}

// lost tells a daemon that is not there from other trouble.
func (c *Client) lost(ctx context.Context, doing string, err error) error {
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case errors.As(err, &op) && op.Op == "dial":
		return &NotRunning{Socket: c.socket, Cause: err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
