package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/serin-dev/serin/internal/cli"
	"github.com/serin-dev/serin/internal/daemon"
	"github.com/serin-dev/serin/internal/gateway"
)

// gcPercent lets the heap grow further than Go would: what the gateway allocates
// for each request is garbage at once, and collecting it less often costs a few
// megabytes (docs/PERFORMANCE.md). $GOGC wins.
const gcPercent = 400

// up runs the daemon of one machine until ctx ends. A second signal, a second
// or more after the first, makes it wait for nobody; SIGUSR2 makes it execute its program again.
func up(ctx context.Context, o cli.UpOptions) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGUSR2) // before anything else: unheard, it ends the process
	defer signal.Stop(again)
	ends := make(chan os.Signal, 1) // likewise: the second one must find somebody who hears it
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(ends)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	opts := daemonOptions(o)
	if daemon.Asked() {
		return daemon.Check(opts)
	}
	var err error
	if opts.Inherited, opts.Program, err = inherited(); err != nil {
		return err
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		opts.Watchdog = daemon.WatchdogOf(os.Getenv, os.Getpid())
		opts.Notify = func(state string) error {
			_, err := systemd.SdNotify(false, state)
			return err
		}
	}
	d, err := daemon.New(opts)
	if err != nil {
		return err
	}
	greet(d, o)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-again:
				d.Again()
			case <-done:
				return
			}
		}
	}()
	go hurry(ctx, ends, done, d.StopNow)
	return d.Run(ctx)
}

// sameSignal is how long the first signal may take to come in all its copies:
// timeout(1) sends one to the program and one to its group, and who presses
// Ctrl-C in a terminal often has a script above that passes it on.
const sameSignal = time.Second

// hurry calls stop when somebody ends the program a second time.
func hurry(ctx context.Context, ends <-chan os.Signal, done <-chan struct{}, stop func()) {
	select {
	case <-ctx.Done():
	case <-done:
		return
	}
	first := time.Now()
	for {
		select {
		case <-ends:
			if time.Since(first) >= sameSignal {
				stop()
				return
			}
		case <-done:
			return
		}
	}
}

func daemonOptions(o cli.UpOptions) daemon.Options {
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	opts := daemon.Options{
		Dir: o.Dir, StateDir: o.StateDir, Socket: o.Socket, Listen: o.Listen, MetricsListen: o.Metrics,
		Dashboard: dashboardOf(o), Run: o.Run, Version: versionOf(), Shield: o.Shield,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		TLS: daemon.TLS{Listen: o.TLSListen, ACME: daemon.ACME{
			Domains: o.ACMEDomains, Email: o.ACMEEmail, Directory: o.ACMEDirectory, RootFile: o.ACMERoot,
		}},
	}
	for i := range max(len(o.TLSCerts), len(o.TLSKeys)) {
		var pair gateway.KeyPair // a half is refused by name
		if i < len(o.TLSCerts) {
			pair.CertFile = o.TLSCerts[i]
		}
		if i < len(o.TLSKeys) {
			pair.KeyFile = o.TLSKeys[i]
		}
		opts.TLS.Certs = append(opts.TLS.Certs, pair)
	}
	return opts
}

// inherited is what was here before in this process, or what a service manager
// gives, and the program to execute again, with neither in its environment.
func inherited() (*daemon.Inherited, daemon.Program, error) {
	in, err := daemon.TakeOver()
	if err == nil && in == nil {
		in, err = daemon.Given(activation.Files(true))
	}
	if err != nil {
		return nil, daemon.Program{}, err
	}
	p, err := daemon.ThisProgram()
	return in, p, err
}

func greet(d *daemon.Daemon, o cli.UpOptions) {
	fmt.Fprintf(os.Stderr, "serin: users' requests at http://%s (from the moment that a stable version can answer)\n", d.Addr())
	if at := d.SecureAddr(); at != "" {
		fmt.Fprintf(os.Stderr, "serin: and at https://%s\n", at)
	}
	fmt.Fprintf(os.Stderr, "serin: metrics at http://%s/metrics, state in %s\n", d.MetricsAddr(), o.StateDir)
	if url := d.Dashboard(); url != "" {
		fmt.Fprintf(os.Stderr, "serin: dashboard at %s\n", url)
	}
	fmt.Fprintf(os.Stderr, "serin: ask with `serin status`; the socket is %s\n", d.Socket())
}

// dashboardOf is the address that was asked for, or where any port will do and
// that one is taken, one of the kernel's choice.
func dashboardOf(o cli.UpOptions) string {
	if !o.AnyPort {
		return o.Dashboard
	}
	l, err := net.Listen("tcp", o.Dashboard)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return o.Dashboard
}
