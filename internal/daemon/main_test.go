package daemon

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/goleak"

	"github.com/serin-dev/serin/internal/gateway"
	"github.com/serin-dev/serin/internal/workload/process"
)

// The test binary is four programs: the tests, the shim, and, by this variable,
// the application that the tests release ("backend") and a daemon that the
// tests may kill ("daemon").
const playing = "SERIN_DAEMON_TEST_PLAYS"

func TestMain(m *testing.M) {
	process.RunShimIfAsked()
	switch os.Getenv(playing) {
	case "backend":
		backend(os.Args[1:])
		return
	case "grpc":
		greet(os.Args[1:])
		return
	case "daemon":
		runDaemon(os.Args[1:])
		return
	}
	// A program under the race detector sleeps for a second when it exits, and
	// these tests start and end hundreds.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// echo is what the backend saw of a request.
type echo struct {
	Version              string
	PID                  int
	Method, Target, Host string
	Header               http.Header
}

// backend is an application: it says its version, and fails as often as it is
// told to.
func backend(args []string) {
	f := flag.NewFlagSet("backend", flag.ExitOnError)
	version := f.String("version", "", "what it answers with")
	failEvery := f.Int64("fail-every", 0, "every how many-th request fails; 0 = none")
	exit := f.Int("exit", -1, "exit at once with this code")
	exitIf := f.String("exit-if", "", "exit at once with code 1 if this file exists")
	wait := f.String("wait-for", "", "listen only once this file exists")
	ids := f.String("ids", "", "folder for the ids of requests")
	_ = f.Parse(args)
	seen, err := openJournal(*ids)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if *exit >= 0 {
		fmt.Fprintln(os.Stderr, "cannot reach the database")
		os.Exit(*exit)
	}
	if _, err := os.Stat(*exitIf); *exitIf != "" && err == nil {
		fmt.Fprintln(os.Stderr, "cannot reach the database")
		os.Exit(1)
	}
	for *wait != "" {
		if _, err := os.Stat(*wait); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	var n, second atomic.Int64
	srv := &http.Server{Addr: net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Version", *version)
		if r.Method == http.MethodPost {
			seen.note(r.Header.Get("X-Request-Id"))
		}
		if flag, slow := strings.CutPrefix(r.URL.Path, "/wait-for"); slow {
			for r.Context().Err() == nil {
				if _, err := os.Stat(flag); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/echo"):
			w.Header().Set("X-Secret", "of the application")
			_ = json.NewEncoder(w).Encode(echo{Version: *version, PID: os.Getpid(), Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header})
			return
		case r.URL.Path == "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for n := 0; r.Context().Err() == nil; n++ {
				fmt.Fprintf(w, "data: %d\n\n", n)
				w.(http.Flusher).Flush()
				time.Sleep(time.Millisecond) // news come at a pace
			}
			return
		case r.URL.Path == "/socket":
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(c, rw)
			return
		case r.URL.Path == "/never":
			<-r.Context().Done()
			return
		case r.URL.Path == "/every-second-fails" && second.Add(1)%2 == 1:
			http.Error(w, "not this time", http.StatusInternalServerError)
			return
		}
		if r.URL.Path != "/healthz" && *failEvery > 0 && n.Add(1)%*failEvery == 0 {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, *version)
	})}
	fmt.Println("backend", *version, "pid", os.Getpid())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
	}()
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ended
}

// runDaemon is `serin up` in a process of its own.
func runDaemon(args []string) {
	f := flag.NewFlagSet("daemon", flag.ExitOnError)
	dir := f.String("dir", "", "")
	state := f.String("state", "", "")
	listen := f.String("listen", "127.0.0.1:0", "")
	var pair gateway.KeyPair
	f.StringVar(&pair.CertFile, "tls-cert", "", "")
	f.StringVar(&pair.KeyFile, "tls-key", "", "")
	_ = f.Parse(args)
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	o := testOptions(*dir, *state)
	o.Listen = *listen
	if pair.CertFile != "" {
		o.TLS = TLS{Listen: "127.0.0.1:0", Certs: []gateway.KeyPair{pair}}
	}
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if Asked() {
		fail(Check(o))
		return
	}
	var err error
	o.Inherited, err = TakeOver()
	fail(err)
	if o.Inherited == nil {
		o.Inherited, err = Given(activation.Files(true))
		fail(err)
	}
	o.Program, err = ThisProgram()
	fail(err)
	if os.Getenv("NOTIFY_SOCKET") != "" {
		o.Notify = func(state string) error { _, err := sd.SdNotify(false, state); return err }
		o.Watchdog = WatchdogOf(os.Getenv, os.Getpid())
	}
	d, err := New(o)
	fail(err)
	usr2 := make(chan os.Signal, 1)
	signal.Notify(usr2, syscall.SIGUSR2)
	go func() {
		for range usr2 {
			d.Again()
		}
	}()
	if o.Inherited.Again() {
		o.Logger.Info("goes on", "times", o.Inherited.again.Times, "pid", os.Getpid())
	}
	fmt.Println("addr", d.Addr(), d.SecureAddr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := d.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
