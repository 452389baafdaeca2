package demo

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// idHeader carries a request's id.
const idHeader = "X-Request-Id"

// appLine is what a replica writes about one request, before it answers.
type appLine struct {
	ID      string    `json:"id"`
	Version string    `json:"version"`
	Replica string    `json:"replica"`
	Status  int       `json:"status"` // that it meant to answer with
	At      time.Time `json:"at"`
}

// appAnswer is the body that it answers with.
type appAnswer struct {
	Version string `json:"version"`
	Replica string `json:"replica"`
}

// App is the verb that runs one replica of the demo's application.
func App() *cobra.Command {
	return &cobra.Command{
		Use:                "demo-app",
		Short:              "One replica of the demo's application",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var o appOptions
			fs := flag.NewFlagSet("demo-app", flag.ContinueOnError)
			fs.SetOutput(cmd.ErrOrStderr())
			fs.StringVar(&o.version, "version", "v1", "label")
			fs.Float64Var(&o.errors, "errors", 0, "share of requests that fail, 0 to 1")
			fs.StringVar(&o.logs, "log", "", "folder for the request log; empty = none")
			fs.StringVar(&o.addr, "listen", net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), "address")
			if err := fs.Parse(args); err != nil {
				return err
			}
			if o.errors < 0 || o.errors > 1 {
				return fmt.Errorf("-errors is %v: want a share from 0 to 1", o.errors)
			}
			return runApp(cmd.Context(), o)
		},
	}
}

type appOptions struct {
	version string
	errors  float64
	logs    string
	addr    string
}

func runApp(ctx context.Context, o appOptions) error {
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	replica := fmt.Sprintf("%s-%d", o.version, os.Getpid())
	var log io.Writer = io.Discard
	if o.logs != "" {
		f, err := os.OpenFile(filepath.Join(o.logs, replica+".jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		log = f
	}
	srv := &http.Server{Handler: &appHandler{o: o, replica: replica, log: log}, ReadHeaderTimeout: 10 * time.Second}
	fmt.Printf("%s listens on %s\n", replica, l.Addr())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // SIGTERM: what is in flight is answered
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = srv.Shutdown(end)
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

type appHandler struct {
	o       appOptions
	replica string
	mu      sync.Mutex // one line at a time
	log     io.Writer
}

func (h *appHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the request did not come whole: nobody waits for an answer
	}
	id := r.Header.Get(idHeader)
	status := http.StatusOK
	if id != "" && unlucky(h.o.version, id, h.o.errors) {
		status = http.StatusInternalServerError
	}
	time.Sleep(serviceTime(id)) // this is the application's work
	if id != "" {
		b, err := json.Marshal(appLine{ID: id, Version: h.o.version, Replica: h.replica, Status: status, At: time.Now()})
		if err == nil {
			h.mu.Lock()
			_, err = h.log.Write(append(b, '\n'))
			h.mu.Unlock()
		}
		if err != nil { // an answer that is not written down cannot be accounted for
			http.Error(w, err.Error(), http.StatusInsufficientStorage)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(appAnswer{Version: h.o.version, Replica: h.replica})
}

// unlucky says whether a version fails this request: by the request's id, so
// that who looks at the logs can say it again.
func unlucky(version, id string, share float64) bool {
	return share > 0 && fraction(version+"/"+id) < share
}

// serviceTime is 1 to 4 ms.
func serviceTime(id string) time.Duration {
	return time.Millisecond + time.Duration(fraction("time/"+id)*float64(3*time.Millisecond))
}

// fraction maps a text to [0, 1).
func fraction(s string) float64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, s)
	x := h.Sum64()
	x ^= x >> 33 // the last bytes of a text reach only the low bits otherwise
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}
