package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
)

const (
	maxBody      = 1 << 20          // bytes of a request's body
	maxID        = 128              // bytes of a command's id
	maxBy        = 253              // bytes of its author's name, as in a RolloutCommand
	writeTimeout = 30 * time.Second // for one write to a reader of a stream
	heartbeat    = 15 * time.Second
)

// Server answers for one host. It is made to listen on a unix socket that only
// its owner can open ([Listen]). That is the whole authentication, so
// whatever a browser could be made to send is refused: other Hosts (DNS
// rebinding), cross-origin requests, bodies that are not JSON.
type Server struct {
	host    Host
	log     *slog.Logger
	streams atomic.Int64 // that are open
}

// NewServer makes a server for a host.
func NewServer(host Host) *Server {
	return &Server{host: host, log: slog.New(slog.DiscardHandler)}
}

// WithLogger sends what no answer can tell to l.
func (s *Server) WithLogger(l *slog.Logger) *Server {
	s.log = l
	return s
}

// Serve answers on l until ctx ends, then ends the streams and waits for the
// other requests for at most 5 seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, s.Handler())
}

func (s *Server) serve(ctx context.Context, l net.Listener, h http.Handler) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	srv := &http.Server{
		Handler:           inTime(h),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serving the API: %w", err)
	case <-ctx.Done():
	}
	stop()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(end)
	if err != nil {
		_ = srv.Close()
	}
	<-done
	return err
}

// inTime wants a body within the time that a write has: a reader that sends
// half of one would stay for ever.
func inTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(writeTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// Handler is the API:
//
//	GET  /v1/info
//	GET  /v1/rollouts
//	GET  /v1/briefs                       Briefs: a line for each rollout
//	GET  /v1/rollouts/{name}?at=          at: an RFC 3339 instant; the view as it was
//	GET  /v1/rollouts/{name}/series?since=
//	GET  /v1/rollouts/{name}/export?at=   one HTML file, which needs nothing else
//	GET  /v1/rollouts/{name}/logs?version=&replica=&tail=&follow=   lines of JSON
//	GET  /v1/rollouts/{name}/record
//	POST /v1/rollouts/{name}/commands     rollout.Command -> Answer
//	POST /v1/rollouts/{name}/versions     Deploy -> Deployed
//	GET  /v1/events?name=                 event stream: "rollout" (a RolloutView), "gone" (a Ref)
//	GET  /v1/events?briefs=true           event stream: "brief" (a Summary), "gone" (a Ref)
//
// A namespace is given as ?namespace=. Every error is {"error": "a sentence"},
// with "problems" where there are several.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.reading(mux)
	mux.HandleFunc("GET /v1/info", s.info)
	mux.HandleFunc("GET /v1/rollouts/{name}/logs", s.logs)
	mux.HandleFunc("GET /v1/rollouts/{name}/record", s.record)
	mux.HandleFunc("POST /v1/rollouts/{name}/commands", s.command)
	mux.HandleFunc("POST /v1/rollouts/{name}/versions", s.deploy)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("nothing answers to %s %s; the API begins at /v1/rollouts", r.Method, r.URL.Path), nil)
	})
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusForbidden, "a page of another origin may not send commands", nil)
	}))
	return s.recovering(hostCheck(cross.Handler(jsonOnly(mux))))
}

// reading is what asks for no more than to look.
func (s *Server) reading(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/rollouts", s.list)
	mux.HandleFunc("GET /v1/briefs", s.briefs)
	mux.HandleFunc("GET /v1/rollouts/{name}", s.get)
	mux.HandleFunc("GET /v1/rollouts/{name}/series", s.series)
	mux.HandleFunc("GET /v1/rollouts/{name}/export", s.export)
	mux.HandleFunc("GET /v1/events", s.events)
}

// hostCheck refuses names that a page could have been made to resolve to us.
func hostCheck(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		switch strings.Trim(name, "[]") {
		case "serin", "localhost", "127.0.0.1", "::1":
			next.ServeHTTP(w, r)
		default:
			writeError(w, http.StatusForbidden, fmt.Sprintf("host %q is not served here: want serin or localhost", name), nil)
		}
	})
}

// jsonOnly bounds bodies and takes no other kind than JSON, which no plain form
// of a page can send.
func jsonOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodDelete {
			if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
				writeError(w, http.StatusUnsupportedMediaType, "want Content-Type: application/json", nil)
				return
			}
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.log.Error("a request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				writeError(w, http.StatusInternalServerError, "this request met a mistake in Serin itself; the log has it", nil)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

type errorBody struct {
	Error    string   `json:"error"`
	Problems []string `json:"problems,omitempty"`
}

func writeError(w http.ResponseWriter, status int, sentence string, problems []string) {
	writeJSON(w, status, errorBody{Error: sentence, Problems: problems})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a reader that went away is no one's error
}

// fail maps a host's error to a status, in this one place.
func fail(w http.ResponseWriter, err error) {
	var refusal *Refusal
	var invalid *Invalid
	switch {
	case errors.Is(err, ErrNotFound):
		writeError(w, http.StatusNotFound, err.Error(), nil)
	case errors.As(err, &refusal):
		writeError(w, http.StatusConflict, refusal.Why, nil)
	case errors.As(err, &invalid):
		writeError(w, http.StatusUnprocessableEntity, "the request is not right", invalid.Problems)
	default:
		writeError(w, http.StatusInternalServerError, err.Error(), nil)
	}
}

func refOf(r *http.Request) Ref {
	return Ref{Namespace: r.URL.Query().Get("namespace"), Name: r.PathValue("name")}
}

func (s *Server) info(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.host.Info())
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	views, err := s.host.List(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	sees := seesOf(r)
	views = slices.DeleteFunc(views, func(v RolloutView) bool { return !sees(v.Namespace) })
	writeJSON(w, http.StatusOK, views)
}

// Briefs are the lines of a list, and the event id from which the stream goes
// on with what is newer.
type Briefs struct {
	Cursor   string            `json:"cursor"`
	Rollouts []json.RawMessage `json:"rollouts"` // Summary each
}

func (s *Server) briefs(w http.ResponseWriter, r *http.Request) {
	lines, cursor, err := s.host.Briefs(r.Context(), Cursor{})
	if err != nil {
		fail(w, err)
		return
	}
	sees := seesOf(r)
	out := Briefs{Cursor: cursor.String(), Rollouts: []json.RawMessage{}}
	for _, l := range lines {
		if sees(l.Ref.Namespace) {
			out.Rollouts = append(out.Rollouts, l.Text)
		}
	}
	writeJSON(w, http.StatusOK, out)
}

// viewOf gives the view that a request asks for, now or as it was.
func (s *Server) viewOf(r *http.Request) (RolloutView, error) {
	ref := refOf(r)
	if !seesOf(r)(ref.Namespace) {
		return RolloutView{}, fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	at, err := instantOf(r, "at")
	switch {
	case err != nil:
		return RolloutView{}, err
	case !at.IsZero():
		return s.host.At(r.Context(), ref, at)
	}
	return s.host.Get(r.Context(), ref)
}

// instantOf reads a parameter; the zero time where it is not given.
func instantOf(r *http.Request, name string) (time.Time, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, &Invalid{[]string{fmt.Sprintf("%s: is %q: want an instant like 2026-01-31T12:00:00Z", name, text)}}
	}
	return at, nil
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	v, err := s.viewOf(r)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

func (s *Server) series(w http.ResponseWriter, r *http.Request) {
	since, err := instantOf(r, "since")
	if err == nil && !seesOf(r)(refOf(r).Namespace) {
		err = fmt.Errorf("%w: %s", ErrNotFound, refOf(r))
	}
	var out Series
	if err == nil {
		out, err = s.host.Series(r.Context(), refOf(r), since)
	}
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	v, err := s.viewOf(r)
	var series Series
	if err == nil {
		series, err = s.host.Series(r.Context(), refOf(r), time.Time{})
	}
	var page []byte
	if err == nil {
		page, err = Export(v, series, s.host.Info().Version)
	}
	if err != nil {
		fail(w, err)
		return
	}
	name := FileName(v)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	// It is a file: opened from here it would share this origin's rights.
	w.Header().Set("Content-Security-Policy", "sandbox")
	_, _ = w.Write(page)
}

func (s *Server) record(w http.ResponseWriter, r *http.Request) {
	path, err := s.host.RecordPath(r.Context(), refOf(r))
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, recordBody{Path: path})
}

type recordBody struct {
	Path string `json:"path"`
}

func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	var c rollout.Command
	if !readJSON(w, r, &c) {
		return
	}
	if problems := checkCommand(c); problems != nil {
		fail(w, &Invalid{problems})
		return
	}
	a, err := s.host.Command(r.Context(), refOf(r), c)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, a)
}

func checkCommand(c rollout.Command) (problems []string) {
	bad := func(path, format string, args ...any) {
		problems = append(problems, path+": "+fmt.Sprintf(format, args...))
	}
	switch c.Verb {
	case rollout.VerbAbort, rollout.VerbUndo, rollout.VerbPause, rollout.VerbApprove, rollout.VerbResume, rollout.VerbPromote, rollout.VerbRetry:
	case rollout.VerbAdopt:
		if c.Revision == "" {
			bad("revision", "is empty: adopt wants the version that is to be stable")
		}
	default:
		bad("verb", "is %q: want abort, undo, pause, approve, resume, promote, retry or adopt", c.Verb)
	}
	if c.ID == "" || len(c.ID) > maxID {
		bad("id", "has %d bytes: want 1 to %d, the same each time the same command is sent", len(c.ID), maxID)
	}
	if strings.TrimSpace(c.By) == "" || len(c.By) > maxBy {
		bad("by", "has %d bytes: want its author's name, at most %d", len(c.By), maxBy)
	}
	if len(c.Reason) > 1024 {
		bad("reason", "has %d bytes: want at most 1024", len(c.Reason))
	}
	if c.N < 0 {
		bad("n", "is %d: want the number of the last decision that its author saw, or 0", c.N)
	}
	if (c.Full || c.Override) && c.Verb != rollout.VerbPromote {
		bad("full, override", "go with promote only")
	}
	return problems
}

func (s *Server) deploy(w http.ResponseWriter, r *http.Request) {
	var d Deploy
	if !readJSON(w, r, &d) {
		return
	}
	var problems []string
	if d.Version == "" {
		problems = append(problems, "version: is empty: want a label like v2")
	}
	if len(d.Command) == 0 || d.Command[0] == "" {
		problems = append(problems, "command: is empty: want the program and its arguments")
	}
	if d.Replicas != nil && *d.Replicas < 1 {
		problems = append(problems, fmt.Sprintf("replicas: is %d: want 1 or more", *d.Replicas))
	}
	if strings.TrimSpace(d.By) == "" {
		problems = append(problems, "by: is empty: want its author's name")
	}
	if problems != nil {
		fail(w, &Invalid{problems})
		return
	}
	out, err := s.host.Deploy(r.Context(), refOf(r), d)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// readJSON reads one document, all of it, with no field that is not understood.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return true
		}
		err = errors.New("something follows the document")
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		writeError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", large.Limit), nil)
	case errors.Is(err, io.EOF):
		writeError(w, http.StatusBadRequest, "the body is empty: want a JSON document", nil)
	default:
		writeError(w, http.StatusBadRequest, "the body is not the document that is wanted: "+strings.TrimPrefix(err.Error(), "json: "), nil)
	}
	return false
}

// events is the stream. Its ids are cursors, so that a reader that comes back
// with Last-Event-ID gets what it missed, and all of it after a restart.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		writeError(w, http.StatusServiceUnavailable, fmt.Sprintf("%d streams are open, which is as many as there may be", maxStreams), nil)
		return
	}
	defer s.streams.Add(-1)
	cursor := ParseCursor(r.Header.Get("Last-Event-ID"))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	out := stream{w: w, rc: http.NewResponseController(w)}
	if out.send([]byte(": serin\n\n")) != nil {
		return
	}
	more := s.fullEvents(r)
	pace := time.Duration(0)
	if r.URL.Query().Get("briefs") == "true" {
		more, pace = s.briefEvents(r), listPace
	}
	for {
		wait, cancel := context.WithTimeout(r.Context(), heartbeat)
		text, next, err := more(wait, cursor)
		cancel()
		switch {
		case r.Context().Err() != nil:
			return
		case err != nil && wait.Err() != nil:
			if out.send([]byte(": still here\n\n")) != nil {
				return
			}
			continue
		case err != nil:
			s.log.Error("reading updates", "error", err)
			return // the reader comes back and is told then
		}
		if len(text) > 0 && out.send(text) != nil {
			return
		}
		cursor = next
		if pace > 0 && len(text) > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(pace): // what happens meanwhile comes together
			}
		}
	}
}

const (
	maxStreams = 2000
	listPace   = 200 * time.Millisecond // a list is not written to more often
)

// events to come after a cursor, as text, which is good until the next call.
type events func(context.Context, Cursor) ([]byte, Cursor, error)

func (s *Server) fullEvents(r *http.Request) events {
	only, sees := Ref{Namespace: r.URL.Query().Get("namespace"), Name: r.URL.Query().Get("name")}, seesOf(r)
	return func(ctx context.Context, after Cursor) (text []byte, next Cursor, err error) {
		var updates []Update
		if only.Name != "" {
			updates, next, err = s.host.NextOf(ctx, after, only)
		} else {
			updates, next, err = s.host.Next(ctx, after)
		}
		for _, u := range updates {
			if !sees(u.Ref.Namespace) {
				continue
			}
			text = append(text, eventText(Cursor{next.Epoch, u.Seq}, u)...)
		}
		return text, next, err
	}
}

func (s *Server) briefEvents(r *http.Request) events {
	sees := seesOf(r)
	var buf []byte // a hundred readers leave nothing behind
	return func(ctx context.Context, after Cursor) (text []byte, next Cursor, err error) {
		lines, next, err := s.host.Briefs(ctx, after)
		text = buf[:0]
		defer func() {
			if buf = text; cap(buf) > 64<<10 { // the first time holds everything
				buf = nil
			}
		}()
		if after.Epoch != next.Epoch && err == nil { // what its reader has is another run's
			text = appendEvent(text, next, "fresh", []byte("{}"))
		}
		for _, l := range lines {
			if !sees(l.Ref.Namespace) {
				continue
			}
			at := Cursor{next.Epoch, l.Seq}
			if l.Text == nil {
				b, err := json.Marshal(l.Ref)
				if err != nil {
					return text, next, err
				}
				text = appendEvent(text, at, "gone", b)
				continue
			}
			text = appendEvent(text, at, "brief", l.Text)
		}
		return text, next, err
	}
}

func eventText(at Cursor, u Update) []byte {
	kind := "rollout"
	if u.View == nil {
		kind = "gone"
	}
	b, err := u.JSON()
	if err != nil { // NaN in a figure: the reader is told of nothing rather than of half
		return fmt.Appendf(nil, ": %s could not be written: %v\n\n", u.Ref, err)
	}
	return appendEvent(make([]byte, 0, len(b)+64), at, kind, b)
}

func appendEvent(to []byte, at Cursor, kind string, data []byte) []byte {
	to = append(append(append(to, "id: "...), at.String()...), "\nevent: "...)
	to = append(append(append(to, kind...), "\ndata: "...), data...)
	return append(to, "\n\n"...)
}

// stream writes to one reader and gives up on one that does not read.
type stream struct {
	w  io.Writer
	rc *http.ResponseController
}

func (s stream) send(text []byte) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not there in tests without a connection
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.rc.Flush()
}

// logItem is one line of a stream of logs; Error ends it.
type logItem struct {
	Line  *LogLine `json:"line,omitempty"`
	Error string   `json:"error,omitempty"`
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q := LogQuery{Version: r.URL.Query().Get("version"), Replica: r.URL.Query().Get("replica"), Follow: r.URL.Query().Get("follow") == "true"}
	if t := r.URL.Query().Get("tail"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 {
			fail(w, &Invalid{[]string{fmt.Sprintf("tail: is %q: want a number of lines", t)}})
			return
		}
		q.Tail = n
	}
	if _, err := s.host.Get(r.Context(), refOf(r)); err != nil {
		fail(w, err)
		return
	}
	out := stream{w: w, rc: http.NewResponseController(w)}
	begun := false
	send := func(i logItem) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
		}
		b, err := json.Marshal(i)
		if err != nil {
			return err
		}
		return out.send(append(b, '\n'))
	}
	err := s.host.Logs(r.Context(), refOf(r), q, func(l LogLine) error { return send(logItem{Line: &l}) })
	switch {
	case r.Context().Err() != nil:
	case err != nil && !begun:
		fail(w, err)
	case err != nil:
		_ = send(logItem{Error: err.Error()})
	case !begun:
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
	}
}
