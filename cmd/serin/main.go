// Command serin releases new versions to a few users first. This file is the
// composition root: the only place that knows which parts there are.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/serin-dev/serin/internal/cli"
	"github.com/serin-dev/serin/internal/daemon"
	"github.com/serin-dev/serin/internal/demo"
	"github.com/serin-dev/serin/internal/workload/process"
)

// version is set by the linker; otherwise it is what Go knows of the module.
var version string

func main() {
	process.RunShimIfAsked() // does not return where it is
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	plugin, args := cli.Invoked(os.Args[0], os.Args[1:])
	code := cli.Main(ctx, cli.Program{
		Version:   versionOf(),
		Plugin:    plugin,
		Cluster:   cluster,
		Up:        up,
		Demo:      runDemo,
		CheckDemo: demo.Check,
		More:      []func() *cobra.Command{demo.App, controllerVerb},
	}, args)
	stop()
	os.Exit(code)
}

func versionOf() string {
	if version != "" {
		return version
	}
	if i, ok := debug.ReadBuildInfo(); ok && i.Main.Version != "" {
		return i.Main.Version
	}
	return "devel"
}

// up runs the daemon of one machine until ctx ends. A second signal makes it
// wait for nobody.
func up(ctx context.Context, o cli.UpOptions) error {
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	d, err := daemon.New(daemon.Options{
		Dir: o.Dir, StateDir: o.StateDir, Socket: o.Socket, Listen: o.Listen, MetricsListen: o.Metrics,
		Dashboard: dashboardOf(o), Run: o.Run, Version: versionOf(),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "serin: users' requests at http://%s (from the moment that a stable version can answer)\n", d.Addr())
	fmt.Fprintf(os.Stderr, "serin: metrics at http://%s/metrics, state in %s\n", d.MetricsAddr(), o.StateDir)
	if url := d.Dashboard(); url != "" {
		fmt.Fprintf(os.Stderr, "serin: dashboard at %s\n", url)
	}
	fmt.Fprintf(os.Stderr, "serin: ask with `serin status`; the socket is %s\n", d.Socket())
	done := make(chan struct{})
	defer close(done)
	go func() {
		<-ctx.Done()
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(again)
		select {
		case <-again:
			d.StopNow()
		case <-done:
		}
	}()
	return d.Run(ctx)
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

func runDemo(ctx context.Context, o cli.DemoOptions) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, whose copies are the demo's back ends: %w", err)
	}
	r, err := demo.Run(ctx, demo.Options{
		Out: o.Out, Rate: o.Rate, Program: exe, Version: versionOf(), Print: os.Stdout,
	})
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("the demo was stopped before its end; everything that it started was ended")
	case err != nil:
		return err
	}
	return r.Err()
}
