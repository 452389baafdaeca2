package httpapi

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/serin-dev/serin/internal/rollout"
	"github.com/serin-dev/serin/ui"
)

// The dashboard has an address of its own below the page's, so that its cookie
// goes to nothing else that this machine serves: cookies do not tell ports apart.
const apiRoot = "/_serin"

const (
	sessionLife = 12 * time.Hour
	streamLife  = 5 * time.Minute // then its reader comes back, and is looked at anew
	maxCookie   = 3800            // bytes; browsers keep 4096
)

// WebOptions of a server for browsers. Authorizer is needed.
type WebOptions struct {
	Authorizer Authorizer
	// Hosts are the names that it answers to, besides those of loopback.
	Hosts []string
	// Key seals the cookie; a random one, good until the process ends, if empty.
	Key []byte
	// Port tells the cookies of several dashboards on one machine apart.
	Port string
	// Secure: browsers reach it by TLS.
	Secure bool
	// Link: a token in the page's address signs in, which is for a server with
	// one owner. Where people have names, a link could sign one in as another.
	Link bool
}

// web is the dashboard: pages that hold nothing, and the data behind a cookie.
type web struct {
	s     *Server
	o     WebOptions
	seal  cipher.AEAD
	files map[string]file
	tries chan struct{} // sign-ins at one time
}

type file struct {
	kind, tag string
	body      []byte
}

// Web is the handler for browsers:
//
//	GET  /                       the page; ?token= is exchanged for a cookie, where that is allowed
//	GET  /_serin/v1/...          what [Server.Handler] has to read
//	GET  /_serin/v1/viewer?name= Who
//	POST /_serin/v1/rollouts/{name}/commands
//	POST /_serin/v1/session      {"token"}: sign in;  DELETE: sign out
//
// Who asks is told by a bearer token or by the cookie, which is SameSite=Strict
// and out of scripts' reach. Pages of other origins can neither read nor send.
// Nothing here runs a program, reads a log or names a file: that is the
// socket's.
func (s *Server) Web(o WebOptions) (http.Handler, error) {
	if len(o.Key) == 0 {
		o.Key = make([]byte, 32)
		_, _ = rand.Read(o.Key) // never fails
	}
	key := sha256.Sum256(o.Key)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	w := &web{s: s, o: o, tries: make(chan struct{}, 8)}
	if w.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	if w.files, err = readFiles(ui.Files()); err != nil {
		return nil, fmt.Errorf("reading the dashboard's files: %w", err)
	}

	data := http.NewServeMux()
	s.reading(data)
	data.HandleFunc("GET /v1/viewer", w.viewer)
	data.HandleFunc("POST /v1/rollouts/{name}/commands", w.command)
	api := http.NewServeMux()
	api.HandleFunc("POST /v1/session", w.signIn)
	api.HandleFunc("DELETE /v1/session", w.signOut)
	api.Handle("/", w.known(data))

	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusForbidden, "a page of another origin may not send commands", nil)
	}))
	mux := http.NewServeMux()
	mux.Handle(apiRoot+"/", http.StripPrefix(apiRoot, sameOrigin(jsonOnly(api))))
	mux.HandleFunc("/", w.page)
	return s.recovering(secured(w.hosts(cross.Handler(mux)))), nil
}

// ServeWeb answers browsers on l until ctx ends, as Serve does.
func (s *Server) ServeWeb(ctx context.Context, l net.Listener, o WebOptions) error {
	h, err := s.Web(o)
	if err != nil {
		return err
	}
	return s.serve(ctx, l, h)
}

// secured says what a browser may do with what it is given: run and show what
// comes from here, and nothing else, in no frame.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		next.ServeHTTP(w, r)
	})
}

// hosts refuses names that a page could have been made to resolve to us.
func (w *web) hosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		name = strings.ToLower(strings.Trim(name, "[]"))
		if name == "localhost" || name == "127.0.0.1" || name == "::1" || slices.Contains(w.o.Hosts, name) {
			next.ServeHTTP(rw, r)
			return
		}
		writeError(rw, http.StatusForbidden, fmt.Sprintf("host %q is not served here", name), nil)
	})
}

// sameOrigin refuses to be read by pages of other origins, those of another
// port of this machine too.
func sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
			next.ServeHTTP(w, r)
		default:
			writeError(w, http.StatusForbidden, "a page of another origin may not read this", nil)
		}
	})
}

// known lets through whose credential is good, for as long as a stream may last.
func (w *web) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		v, err := w.o.Authorizer.Identify(r.Context(), w.credential(r))
		switch {
		case errors.Is(err, ErrNobody):
			writeError(rw, http.StatusUnauthorized, "who asks is not known: open the address that `serin dashboard` prints, or sign in", nil)
			return
		case err != nil:
			w.s.log.Error("finding out who asks", "err", err)
			writeError(rw, http.StatusServiceUnavailable, "who asks could not be found out; try again", nil)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), streamLife)
		defer cancel()
		ctx = context.WithValue(ctx, viewerKey{}, v)
		ctx = context.WithValue(ctx, seesKey{}, w.s.sees(ctx, w.o.Authorizer, v))
		next.ServeHTTP(rw, r.WithContext(ctx))
	})
}

// Who tells a page who looks at it, and what they may do.
type Who struct {
	Name    string         `json:"name"`
	Look    bool           `json:"look"`          // may look, no more
	May     []rollout.Verb `json:"may,omitempty"` // commands to the rollout that was asked about
	Version string         `json:"version"`
	Now     time.Time      `json:"now"`
}

func (w *web) viewer(rw http.ResponseWriter, r *http.Request) {
	v, _ := ViewerOf(r.Context())
	out := Who{Name: v.Name, Look: v.Look, Version: w.s.host.Info().Version, Now: time.Now()}
	ref := Ref{Namespace: r.URL.Query().Get("namespace"), Name: r.URL.Query().Get("name")}
	if ref.Name != "" && seesOf(r)(ref.Namespace) {
		verbs, err := w.verbs(r.Context(), v, ref)
		if err != nil {
			fail(rw, err)
			return
		}
		out.May = verbs
	}
	writeJSON(rw, http.StatusOK, out)
}

// verbs are those that a viewer may send; to approve, a step may name who.
func (w *web) verbs(ctx context.Context, v Viewer, ref Ref) ([]rollout.Verb, error) {
	if v.Look {
		return nil, nil
	}
	verbs, err := w.o.Authorizer.May(ctx, v, ref)
	if err != nil || !may(verbs, rollout.VerbApprove) {
		return verbs, err
	}
	view, err := w.s.host.Get(ctx, ref)
	if err != nil {
		return verbs, nil // it is gone: the command will say so
	}
	for _, s := range view.StepsList {
		if s.Kind == rollout.StepApproval && s.State == "current" && !mayApprove(s.By, v) {
			verbs = slices.DeleteFunc(slices.Clone(verbs), func(x rollout.Verb) bool { return x == rollout.VerbApprove })
		}
	}
	return verbs, nil
}

// mayApprove is the policy's rule. Where nobody said which groups a viewer is
// in, the policy has the word.
func mayApprove(by []string, v Viewer) bool {
	return len(by) == 0 || slices.ContainsFunc(by, func(who string) bool {
		group, ok := strings.CutPrefix(who, "group:")
		return !ok && who == v.Name || ok && (v.Groups == nil || slices.Contains(v.Groups, group))
	})
}

// command is sent in the viewer's name, whatever name the page gives.
func (w *web) command(rw http.ResponseWriter, r *http.Request) {
	v, _ := ViewerOf(r.Context())
	ref := refOf(r)
	if !seesOf(r)(ref.Namespace) {
		fail(rw, fmt.Errorf("%w: %s", ErrNotFound, ref))
		return
	}
	var c rollout.Command
	if !readJSON(rw, r, &c) {
		return
	}
	c.By = v.Name
	if problems := checkCommand(c); problems != nil {
		fail(rw, &Invalid{problems})
		return
	}
	verbs, err := w.verbs(r.Context(), v, ref)
	if err != nil {
		fail(rw, err)
		return
	}
	if !may(verbs, c.Verb) {
		writeError(rw, http.StatusForbidden, fmt.Sprintf("%s may not %s %s", v.Name, c.Verb, ref), nil)
		return
	}
	a, err := w.s.host.Command(r.Context(), ref, c)
	if err != nil {
		fail(rw, err)
		return
	}
	w.s.log.Info("a command from the dashboard", "rollout", ref.String(), "verb", string(c.Verb), "by", v.Name, "refused", a.Refused)
	writeJSON(rw, http.StatusOK, a)
}

// ---- who asks ----

// pass is what the cookie holds, sealed.
type pass struct {
	Credential string    `json:"c"`
	Until      time.Time `json:"u"`
}

func (w *web) cookieName() string {
	if w.o.Port == "" {
		return "serin"
	}
	return "serin-" + w.o.Port
}

// credential is the bearer token, else what the cookie holds.
func (w *web) credential(r *http.Request) string {
	if kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(kind, "Bearer") {
		return strings.TrimSpace(token)
	}
	c, err := r.Cookie(w.cookieName())
	if err != nil {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(b) < w.seal.NonceSize() {
		return ""
	}
	n := w.seal.NonceSize()
	plain, err := w.seal.Open(nil, b[:n], b[n:], []byte(w.cookieName()))
	var p pass
	if err != nil || json.Unmarshal(plain, &p) != nil || time.Now().After(p.Until) {
		return ""
	}
	return p.Credential
}

// letIn gives the cookie. False: the credential does not fit into one.
func (w *web) letIn(rw http.ResponseWriter, credential string) bool {
	plain, err := json.Marshal(pass{credential, time.Now().Add(sessionLife)})
	if err != nil {
		return false
	}
	nonce := make([]byte, w.seal.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	value := base64.RawURLEncoding.EncodeToString(w.seal.Seal(nonce, nonce, plain, []byte(w.cookieName())))
	if len(value) > maxCookie {
		return false
	}
	http.SetCookie(rw, w.cookie(value, int(sessionLife.Seconds())))
	return true
}

func (w *web) cookie(value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: w.cookieName(), Value: value, Path: apiRoot + "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: w.o.Secure,
	}
}

// try asks who has a credential, for not too many at a time.
func (w *web) try(r *http.Request, credential string) (Viewer, int, error) {
	select {
	case w.tries <- struct{}{}:
		defer func() { <-w.tries }()
	default:
		return Viewer{}, http.StatusTooManyRequests, errors.New("too many sign in at the same time; try again")
	}
	v, err := w.o.Authorizer.Identify(r.Context(), credential)
	switch {
	case errors.Is(err, ErrNobody):
		return v, http.StatusUnauthorized, err
	case err != nil:
		w.s.log.Error("finding out who signs in", "err", err)
		return v, http.StatusServiceUnavailable, errors.New("who asks could not be found out; try again")
	}
	return v, http.StatusOK, nil
}

func (w *web) signIn(rw http.ResponseWriter, r *http.Request) {
	var in struct {
		Token string `json:"token"`
	}
	if !readJSON(rw, r, &in) {
		return
	}
	v, status, err := w.try(r, strings.TrimSpace(in.Token))
	if err != nil {
		writeError(rw, status, err.Error(), nil)
		return
	}
	if !w.letIn(rw, strings.TrimSpace(in.Token)) {
		writeError(rw, http.StatusRequestEntityTooLarge, "this token is too long for a cookie: send it as a bearer token from a proxy that signs people in", nil)
		return
	}
	writeJSON(rw, http.StatusOK, Who{Name: v.Name, Look: v.Look, Version: w.s.host.Info().Version, Now: time.Now()})
}

func (w *web) signOut(rw http.ResponseWriter, _ *http.Request) {
	http.SetCookie(rw, w.cookie("", -1))
	writeJSON(rw, http.StatusOK, struct{}{})
}

// ---- pages ----

// page gives a built file. The one with a token in its address is a way in: the
// token goes into the cookie and out of the address.
func (w *web) page(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		rw.Header().Set("Allow", "GET, HEAD")
		writeError(rw, http.StatusMethodNotAllowed, "here are pages only", nil)
		return
	}
	if token := r.URL.Query().Get("token"); token != "" && r.URL.Path == "/" {
		if w.o.Link {
			if _, _, err := w.try(r, token); err == nil {
				w.letIn(rw, token)
			}
		}
		rest := r.URL.Query()
		rest.Del("token")
		to := url.URL{Path: "./", RawQuery: rest.Encode()}
		rw.Header().Set("Cache-Control", "no-store")
		rw.Header().Set("Location", to.String())
		rw.WriteHeader(http.StatusSeeOther)
		return
	}
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	f, ok := w.files[name]
	if !ok || name == frozenPage {
		writeError(rw, http.StatusNotFound, "there is no such page", nil)
		return
	}
	rw.Header().Set("Content-Type", f.kind)
	rw.Header().Set("Cache-Control", "no-cache") // kept, and asked about each time
	rw.Header().Set("ETag", f.tag)
	http.ServeContent(rw, r, name, time.Time{}, bytes.NewReader(f.body))
}

// readFiles keeps the built files, which are few and small.
func readFiles(from fs.FS) (map[string]file, error) {
	out := map[string]file{}
	err := fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		kind := mime.TypeByExtension(path.Ext(name))
		switch path.Ext(name) { // not left to what a machine has registered
		case ".js":
			kind = "text/javascript; charset=utf-8"
		case ".css":
			kind = "text/css; charset=utf-8"
		case ".html":
			kind = "text/html; charset=utf-8"
		case ".svg":
			kind = "image/svg+xml"
		case ".woff2":
			kind = "font/woff2"
		}
		out[name] = file{kind: kind, tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, body: b}
		return nil
	})
	return out, err
}
